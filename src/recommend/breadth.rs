//! How broadly a search walks, by how many items it may find; and what is kept of a search so that it can be repeated exactly.

use kindred_index::{AllowSet, EF_SEARCH_MAX, Hit, Scratch, SearchError, SearchParams};

use super::RecommendError;
use crate::manifest::Manifest;
use crate::model::Model;
use crate::nearest::is_true;

/// How broad a search is to be, as asked for: by its breadth, or by what share of the true nearest it is to find; and how broad it is if neither is
/// asked for. Second, whether every item is compared, because no breadth was measured to find as much.
pub(crate) fn breadth_asked_for(
    manifest: &Manifest,
    ef_search: Option<usize>,
    recall_target: Option<f64>,
    usual: usize,
) -> Result<(usize, bool), RecommendError> {
    match (ef_search, recall_target) {
        (Some(_), Some(_)) => Err(RecommendError::TwoBreadths),
        (_, Some(found)) if !(found > 0.0 && found <= 1.0) => Err(RecommendError::RecallTarget { found }),
        (None, Some(target)) => match manifest.breadth_for(target) {
            Some(enough) => Ok((enough.clamp(1, EF_SEARCH_MAX), false)),
            None => Ok((usual, true)),
        },
        (Some(found), None) if !(1..=EF_SEARCH_MAX).contains(&found) => Err(RecommendError::EfSearch { found }),
        (asked, None) => Ok((asked.unwrap_or(usual), false)),
    }
}

/// How many of the nearest recall is told of: as many as a build measures it by.
pub(crate) const NEAREST: usize = 10;

/// How many of the items a search may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterShape {
    /// All of them.
    Plain,
    /// A tenth and more.
    Wide,
    /// A hundredth and more.
    Medium,
    /// Fewer.
    Narrow,
}

impl FilterShape {
    /// Every shape, in their order.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Wide, Self::Medium, Self::Narrow];

    /// The shape of a set; none is every item.
    #[must_use]
    pub fn of(allowed: Option<&AllowSet>) -> Self {
        let Some(set) = allowed else { return Self::Plain };
        let (passing, all) = (u64::from(set.cardinality()), u64::from(set.n()));
        match () {
            () if passing * 10 >= all => Self::Wide,
            () if passing * 100 >= all => Self::Medium,
            () => Self::Narrow,
        }
    }

    /// Its label in `/metrics`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Wide => "filtered_10_percent_and_more",
            Self::Medium => "filtered_1_to_10_percent",
            Self::Narrow => "filtered_below_1_percent",
        }
    }
}

/// How much broader than usual the searches of each shape walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breadth(pub [u8; FilterShape::ALL.len()]);

impl Breadth {
    /// The level at which nothing is walked any more: every item that may be found is compared. Each level below doubles the breadth.
    pub const EXACT: u8 = 4;

    /// The level of a shape.
    #[must_use]
    pub fn level(self, shape: FilterShape) -> u8 {
        self.0.get(shape as usize).copied().unwrap_or(0)
    }

    /// Makes a search as broad as that of its shape is to be.
    pub(super) fn widen(self, allowed: Option<&AllowSet>, params: &mut SearchParams) {
        let level = self.level(FilterShape::of(allowed));
        params.exact |= level >= Self::EXACT;
        params.ef_search = (params.ef_search << level.min(Self::EXACT)).min(EF_SEARCH_MAX);
    }
}

/// A search that was made, as far as it takes to repeat it exactly; and how far it has been repeated.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    query: Vec<f32>,
    allowed: Option<AllowSet>,
    /// What is in no list all the same: a search may begin with it, so that it would be found however little else is.
    left_out: Vec<u32>,
    level: u8,
    /// The similarities of the nearest that were found, `k` of them.
    similarities: Vec<f32>,
    k: usize,
    /// Items before this one have been compared with.
    compared: u32,
    /// The similarities of the nearest of those.
    nearest: Vec<f32>,
}

impl Probe {
    pub(super) fn keep(
        &mut self,
        query: &[f32],
        left_out: Vec<u32>,
        allowed: Option<&AllowSet>,
        breadth: Breadth,
        hits: &[Hit],
    ) {
        let listed = hits.iter().filter(|hit| !left_out.contains(&hit.ordinal));
        let similarities: Vec<f32> = listed.take(NEAREST).map(|hit| hit.similarity).collect();
        let (level, k) = (breadth.level(FilterShape::of(allowed)), similarities.len());
        let (query, allowed) = (query.to_vec(), allowed.cloned());
        *self = Self { query, allowed, left_out, level, similarities, k, ..Self::default() };
    }

    pub(super) fn is_kept(&self) -> bool {
        self.k > 0
    }

    /// How many items it could find.
    #[must_use]
    pub fn shape(&self) -> FilterShape {
        FilterShape::of(self.allowed.as_ref())
    }

    /// How broad it was.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Compares with the next so many items, as far as the search could find them; says whether those were the last.
    ///
    /// # Errors
    /// A model of other vectors.
    pub fn repeat<D: AsRef<[u8]>>(
        &mut self,
        model: &Model<D>,
        items: u32,
        scratch: &mut Scratch,
    ) -> Result<bool, SearchError> {
        let end = self.compared.saturating_add(items).min(model.len());
        let mut part = AllowSet::new_empty(model.len());
        for ordinal in self.compared..end {
            part.insert(ordinal);
        }
        if let Some(allowed) = &self.allowed {
            part.and(allowed);
        }
        self.left_out.iter().for_each(|ordinal| {
            part.remove(*ordinal);
        });
        let params = SearchParams { k: self.k, ef_search: self.k, exact: true };
        model.index().search(&self.query, &params, Some(&part), scratch)?;
        self.nearest.extend(scratch.hits().iter().map(|hit| hit.similarity));
        self.nearest.sort_unstable_by(|a, b| b.total_cmp(a));
        self.nearest.truncate(self.k);
        self.compared = end;
        Ok(end == model.len())
    }

    /// The share of the true nearest that it found, once it was repeated with all items; none where there was nothing to find.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        let worst = *self.nearest.last()?;
        let found = self.similarities.iter().filter(|similarity| is_true(**similarity, worst)).count();
        Some(found as f64 / self.nearest.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use kindred_index::{FilterExpr, Metric};

    use super::super::{RecommendRequest, RecommendScratch, recommend};
    use super::*;
    use crate::interaction::Interaction;
    use crate::scenario::Scenario;
    use crate::testing::Fixture;
    use crate::user_vector::Weighting;

    #[test]
    fn what_was_measured_to_find_just_as_much_meets_the_target_of_a_scenario() {
        let mut fixture = Fixture::random(7, 100, 12, Metric::Cosine);
        (fixture.recall, fixture.recall_by_breadth) = (0.98, vec![(40, 0.99)]);
        let model = fixture.model();
        let scenario: Scenario = serde_json::from_str(r#"{"recall_target": 0.99}"#).unwrap();
        let history = [Interaction::new(Fixture::key(1), "view", 1)];
        let request = RecommendRequest::new(&history, 1);
        let scratch = &mut RecommendScratch::default();
        let list = recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap();
        assert!(list.search.is_some(), "else every item is scored");
    }

    #[test]
    fn a_search_is_repeated_in_parts_as_in_one() {
        let model = Fixture::random(7, 100, 12, Metric::Cosine).model();
        let toys = FilterExpr::Match { field: "category".to_owned(), value: Fixture::category(0) };
        let query = model.index().row(1).unwrap().to_vec();
        for allowed in [None, Some(model.index().attributes().evaluate(&toys, model.len()).unwrap())] {
            let may = |ordinal: &u32| allowed.as_ref().is_none_or(|set| set.contains(*ordinal));
            let similarity = |ordinal: u32| model.view().row(ordinal).unwrap().dot(&query);
            let mut all: Vec<f32> = (0..model.len()).filter(may).map(similarity).collect();
            all.sort_unstable_by(|a, b| b.total_cmp(a));
            // What a search found that missed every other of the nearest.
            let hits = all.iter().step_by(2).map(|similarity| Hit { ordinal: 0, similarity: *similarity });
            let hits: Vec<Hit> = hits.collect();
            let worst = all.get(NEAREST - 1).copied().unwrap();
            let expected = hits.iter().filter(|hit| is_true(hit.similarity, worst)).count() as f64 / NEAREST as f64;
            assert!((0.5..0.8).contains(&expected), "{expected}");
            for (items, parts) in [(100, 1), (u32::MAX, 1), (9, 12), (1, 100)] {
                let (mut probe, mut scratch) = (Probe::default(), Scratch::default());
                probe.keep(&query, Vec::new(), allowed.as_ref(), Breadth::default(), &hits);
                let repeated = (1..).find(|_| probe.repeat(&model, items, &mut scratch).unwrap());
                assert_eq!((repeated, probe.recall()), (Some(parts), Some(expected)), "{items} at once");
            }
        }
        let mut nothing = Probe::default();
        nothing.keep(&query, Vec::new(), Some(&AllowSet::new_empty(model.len())), Breadth::default(), &[]);
        assert!(!nothing.is_kept());
        assert_eq!((nothing.repeat(&model, 100, &mut Scratch::default()), nothing.recall()), (Ok(true), None));
    }

    #[test]
    fn what_is_in_no_list_says_nothing_of_what_a_search_finds() {
        let model = Fixture::random(7, 100, 12, Metric::Cosine).model();
        let query = model.index().row(1).unwrap().to_vec();
        let hit = |ordinal: u32| Hit { ordinal, similarity: model.view().row(ordinal).unwrap().dot(&query) };
        let mut all: Vec<Hit> = (0..model.len()).map(hit).collect();
        all.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity));
        // The nearest six are what was seen, with which the search began; beside them it found only what is far.
        let seen: Vec<u32> = all.iter().take(6).map(|hit| hit.ordinal).collect();
        let hits = [&all[..6], &all[60..]].concat();
        for (left_out, expected) in [(Vec::new(), 0.6), (seen, 0.0)] {
            let mut probe = Probe::default();
            probe.keep(&query, left_out, None, Breadth::default(), &hits);
            assert_eq!(probe.repeat(&model, 100, &mut Scratch::default()), Ok(true));
            assert_eq!(probe.recall(), Some(expected));
        }
        let mut seen_only = Probe::default();
        seen_only.keep(&query, vec![hits[0].ordinal], None, Breadth::default(), &hits[..1]);
        assert!(!seen_only.is_kept(), "there is nothing to tell of");
    }

    #[test]
    fn a_search_is_as_broad_as_the_list_and_what_is_left_out_of_it() {
        let model = Fixture::random(7, 400, 12, Metric::Cosine).model();
        let views = (0..40).map(|item| Interaction::new(Fixture::key(4 * item), "view", item as i64));
        let history: Vec<Interaction> = views.collect();
        let scenario = Scenario { candidates: 10, require_available: false, ..Scenario::home() };
        let search = |ef_search: usize| {
            let ef_search = Some(ef_search);
            let request = RecommendRequest { limit: Some(10), ef_search, ..RecommendRequest::new(&history, 40) };
            let scratch = &mut RecommendScratch::default();
            recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap().search.unwrap()
        };
        // Forty that were seen lie about the vector: a list of ten is beyond them.
        assert_eq!(search(1), search(50));
        assert!(search(50).hops < search(100).hops, "a broader one is broader");
        let mut scratch = RecommendScratch::default();
        scratch.keep_probe();
        let request = RecommendRequest::new(&history, 40);
        recommend(&model, &scenario, &Weighting::default(), &request, &mut scratch, &mut |_| ()).unwrap();
        assert_eq!(scratch.take_probe().unwrap().left_out.len(), 40, "recall is told of what a list may hold");
    }
}

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

/// A search that was made, as far as it takes to repeat it exactly.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    query: Vec<f32>,
    allowed: Option<AllowSet>,
    level: u8,
    similarities: Vec<f32>,
    k: usize,
}

impl Probe {
    pub(super) fn keep(&mut self, query: &[f32], k: usize, allowed: Option<&AllowSet>, breadth: Breadth, hits: &[Hit]) {
        let k = k.min(NEAREST);
        let similarities = hits.iter().take(k).map(|hit| hit.similarity).collect();
        let level = breadth.level(FilterShape::of(allowed));
        *self = Self { query: query.to_vec(), allowed: allowed.cloned(), level, similarities, k };
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

    /// The share of the true nearest that it found; none where there was nothing to find. Compares with every item that it could find.
    ///
    /// # Errors
    /// A model of other vectors, or of another number of items.
    pub fn recall<D: AsRef<[u8]>>(&self, model: &Model<D>, scratch: &mut Scratch) -> Result<Option<f64>, SearchError> {
        let params = SearchParams { k: self.k, ef_search: self.k, exact: true };
        model.index().search(&self.query, &params, self.allowed.as_ref(), scratch)?;
        let hits = scratch.hits();
        let Some(worst) = hits.last().map(|hit| hit.similarity) else { return Ok(None) };
        let found = self.similarities.iter().filter(|similarity| is_true(**similarity, worst)).count();
        Ok(Some(found as f64 / hits.len() as f64))
    }
}

//! Scoring candidates and cutting the list.

use std::cmp::Ordering;

use kindred_index::{EF_SEARCH_MAX, K_MAX, Metric, Scratch, SearchParams, SearchStats, dot};

use super::candidates::{Candidate, CandidateTable};
use super::explain::Reasons;
use super::filter::Eligible;
use super::taste::Taste;
use super::{Fallback, RecommendError, Recommendation, Recommendations, Source, Stage};
use crate::limits;
use crate::model::{Model, ModelView, SessionsView};
use crate::scenario::{FallbackList, Scenario, SourceWeights};

/// Candidates carried from the single-precision cut into the double-precision one beyond the limit, so that rounding
/// cannot push an item out of the list.
const MARGIN: usize = 16;

/// The numbers of a request, all checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    limit: usize,
    candidates: usize,
    ef_search: usize,
    weights: SourceWeights,
    fallback: FallbackList,
    pub(super) exact: bool,
    pub(super) explain: bool,
}

/// A candidate with its score in single precision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    score: f32,
    ordinal: u32,
}

/// The parts of a score, weighted.
#[derive(Clone, Copy, Debug)]
struct Parts {
    vector: f64,
    neighbours: f64,
    sessions: f64,
    popularity: f64,
}

/// What scoring reads.
#[derive(Clone, Copy)]
struct Scorer<'a> {
    view: ModelView<'a>,
    sessions: SessionsView<'a>,
    taste: &'a Taste,
    weights: &'a SourceWeights,
}

impl Plan {
    pub(super) fn new(
        scenario: &Scenario,
        limit: Option<usize>,
        ef_search: Option<usize>,
        n_exclude: usize,
    ) -> Result<Self, RecommendError> {
        let limit = limit.unwrap_or(scenario.limit);
        if !(1..=limits::ANSWER_ITEMS_MAX).contains(&limit) {
            return Err(RecommendError::Limit { found: limit });
        }
        let ef_search = ef_search.unwrap_or(scenario.ef_search);
        if !(1..=EF_SEARCH_MAX).contains(&ef_search) {
            return Err(RecommendError::EfSearch { found: ef_search });
        }
        if n_exclude > limits::EXCLUDE_MAX {
            return Err(RecommendError::TooManyExcluded { found: n_exclude });
        }
        Ok(Self {
            limit,
            candidates: scenario.candidates.clamp(limit, limits::CANDIDATES_MAX),
            ef_search,
            weights: scenario.weights,
            fallback: scenario.fallback,
            exact: false,
            explain: false,
        })
    }
}

impl Plan {
    /// How many neighbours of recent items become candidates. Each costs a row that the search has not read already, and where
    /// both sources speak for an item the search mostly proposes it too; a quarter of the candidates is what the rest is worth.
    fn near(&self) -> usize {
        (self.candidates / 4).max(self.limit)
    }
}

/// From a taste to a list. The table holds what is excluded and nothing else.
#[allow(clippy::too_many_arguments)] // One private seam between two callers; a struct would only rename its arguments.
pub(super) fn answer<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    plan: &Plan,
    taste: &Taste,
    fallback: Option<Fallback>,
    eligible: &Eligible<'_>,
    table: &mut CandidateTable,
    order: &mut Vec<Ranked>,
    search: &mut Scratch,
    observe: &mut dyn FnMut(Stage),
) -> Result<Recommendations, RecommendError> {
    let scorer = Scorer { view: *view, sessions: model.sessions(), taste, weights: &plan.weights };
    let nobody = matches!(fallback, Some(Fallback::Newcomer | Fallback::UnknownItems));
    if fallback.is_some() && plan.fallback == FallbackList::Nothing {
        return Ok(Recommendations { fallback, ..Recommendations::default() });
    }
    if !nobody && plan.weights.neighbours > 0.0 {
        table.add_neighbours(view, taste);
    }
    if !nobody && plan.weights.sessions > 0.0 {
        table.add_sessions(&scorer.sessions, taste.similar_sessions());
    }
    let mut stats = None;
    let mut label = fallback;
    if fallback.is_some() {
        let most = if nobody { plan.limit } else { plan.candidates };
        table.propose_popular(view, most, eligible, |a, b| by_key(view, a, b));
        observe(Stage::Neighbours);
    } else if plan.exact {
        observe(Stage::Neighbours);
    } else {
        if plan.weights.neighbours > 0.0 {
            table.propose_near(plan.near(), eligible);
        }
        if plan.weights.sessions > 0.0 {
            table.propose_of_sessions(plan.candidates, eligible);
        }
        observe(Stage::Neighbours);
        if plan.weights.vector > 0.0 {
            stats = Some(find(model, view, plan, taste, eligible, table, order, search)?);
        }
        let proposed = table.n_proposed();
        if proposed < plan.limit {
            label = Some(Fallback::TooFewCandidates);
            if plan.fallback == FallbackList::Popular {
                table.propose_popular(view, plan.limit - proposed, eligible, |a, b| by_key(view, a, b));
            }
        }
        observe(Stage::Search);
    }
    let keep = plan.limit + MARGIN;
    let candidates = if plan.exact && fallback.is_none() {
        let candidates = scan(model, &scorer, eligible, table, order, keep);
        if candidates < plan.limit as u32 {
            label = Some(Fallback::TooFewCandidates);
        }
        observe(Stage::Search);
        candidates
    } else {
        quick(model, &scorer, table, nobody, order);
        order.len() as u32
    };
    cut(view, order, keep);
    let items = render(plan, &scorer, nobody, table, order);
    observe(Stage::Rank);
    Ok(Recommendations { items, fallback: label, search: stats, candidates })
}

/// Scores of given items, in their order.
pub(super) fn scores(
    (view, sessions): (&ModelView<'_>, SessionsView<'_>),
    taste: &Taste,
    fallback: Option<Fallback>,
    weights: &SourceWeights,
    ordinals: impl Iterator<Item = Option<u32>>,
    table: &mut CandidateTable,
) -> Vec<Option<f64>> {
    let scorer = Scorer { view: *view, sessions, taste, weights };
    let nobody = matches!(fallback, Some(Fallback::Newcomer | Fallback::UnknownItems));
    if !nobody && weights.neighbours > 0.0 {
        table.add_neighbours(view, taste);
    }
    if !nobody && weights.sessions > 0.0 {
        table.add_sessions(&sessions, taste.similar_sessions());
    }
    let one = |ordinal: u32| scorer.parts(ordinal, table, nobody).total();
    ordinals.map(|ordinal| ordinal.map(one)).collect()
}

/// The graph search: proposes what it finds.
#[allow(clippy::too_many_arguments)] // As `answer`, of which it is a step.
fn find<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    plan: &Plan,
    taste: &Taste,
    eligible: &Eligible<'_>,
    table: &mut CandidateTable,
    order: &mut Vec<Ranked>,
    search: &mut Scratch,
) -> Result<SearchStats, RecommendError> {
    // Items that were seen take up places, so enough are asked for that the list can be filled without them.
    let k = plan.candidates.max(plan.limit + eligible.ask_for_more()).min(K_MAX);
    let params = SearchParams { k, ef_search: plan.ef_search.max(k).min(EF_SEARCH_MAX), exact: false };
    let stats = model.index().search(taste.vector(), &params, eligible.set(), search)?;
    // A cosine search sees the query at unit length; the score wants the dot product with the vector as it is.
    let scale = match model.index().metric() {
        Metric::Cosine => taste.vector_length(),
        Metric::InnerProduct => 1.0,
    };
    for hit in search.hits() {
        table.propose_found(hit.ordinal, hit.similarity * scale);
    }
    if !eligible.added().is_empty() {
        // Items beside the model are in no graph: all are compared, and as many of the nearest go on as the search brings.
        order.clear();
        let score = |ordinal: u32| dot(taste.vector(), view.row(ordinal).unwrap_or_default());
        order.extend(eligible.added().iter().map(|&ordinal| Ranked { score: score(ordinal), ordinal }));
        cut(view, order, k);
        order.iter().for_each(|one| table.propose_found(one.ordinal, one.score));
    }
    Ok(stats)
}

/// Scores every candidate in single precision.
fn quick<D: AsRef<[u8]>>(
    model: &Model<D>,
    scorer: &Scorer<'_>,
    table: &CandidateTable,
    nobody: bool,
    order: &mut Vec<Ranked>,
) {
    order.clear();
    let rows_are_unit = model.index().metric() == Metric::Cosine;
    for one in table.list().iter().filter(|one| one.is_proposed()) {
        let score = if nobody { scorer.view.popularity(one.ordinal) } else { scorer.quick(one, rows_are_unit) };
        order.push(Ranked { score, ordinal: one.ordinal });
    }
}

/// Scores every item of the model that may be in the answer, keeping the best; says how many there were.
fn scan<D: AsRef<[u8]>>(
    model: &Model<D>,
    scorer: &Scorer<'_>,
    eligible: &Eligible<'_>,
    table: &CandidateTable,
    order: &mut Vec<Ranked>,
    keep: usize,
) -> u32 {
    order.clear();
    let rows_are_unit = model.index().metric() == Metric::Cosine;
    let mut scored = 0;
    for ordinal in 0..scorer.view.len() {
        let unknown = Candidate::new(ordinal);
        let known = table.get(ordinal).unwrap_or(&unknown);
        if !eligible.allows(ordinal) || known.is_excluded() {
            continue;
        }
        let score = scorer.quick(known, rows_are_unit);
        order.push(Ranked { score, ordinal });
        scored += 1;
        // Cutting at every doubling keeps the list short at a constant cost per item.
        if order.len() >= 4 * keep {
            cut(&scorer.view, order, keep);
        }
    }
    scored
}

/// Keeps the best `keep`, in no particular order; ties by key.
fn cut(view: &ModelView<'_>, order: &mut Vec<Ranked>, keep: usize) {
    if order.len() > keep {
        let by_score =
            |a: &Ranked, b: &Ranked| b.score.total_cmp(&a.score).then_with(|| by_key(view, a.ordinal, b.ordinal));
        order.select_nth_unstable_by(keep, by_score);
        order.truncate(keep);
    }
}

/// Scores the survivors in double precision, sorts them and cuts to the limit.
fn render(
    plan: &Plan,
    scorer: &Scorer<'_>,
    nobody: bool,
    table: &CandidateTable,
    order: &[Ranked],
) -> Vec<Recommendation> {
    let mut items: Vec<Recommendation> = Vec::with_capacity(order.len());
    for one in order {
        let parts = scorer.parts(one.ordinal, table, nobody);
        let is_fill = nobody || table.get(one.ordinal).is_some_and(|known| known.is_fill());
        let source = if is_fill { Source::Popular } else { parts.source() };
        items.push(Recommendation { ordinal: one.ordinal, score: parts.total(), source, reasons: None });
    }
    let view = &scorer.view;
    items.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| by_key(view, a.ordinal, b.ordinal)));
    items.truncate(plan.limit);
    if plan.explain {
        for item in &mut items {
            item.reasons = Some(match nobody {
                true => Reasons::popular(item.score),
                false => Reasons::new(&scorer.view, &scorer.sessions, scorer.taste, scorer.weights, item.ordinal),
            });
        }
    }
    items
}

fn by_key(view: &ModelView<'_>, a: u32, b: u32) -> Ordering {
    view.key(a).cmp(&view.key(b)).then(a.cmp(&b))
}

impl Scorer<'_> {
    /// The score in single precision, with the similarity that the search has measured if it has.
    fn quick(&self, one: &Candidate, rows_are_unit: bool) -> f32 {
        let ordinal = one.ordinal;
        let mut score = 0.0;
        if self.weights.vector > 0.0 {
            let row = || self.view.row(ordinal).unwrap_or_default();
            let mut similarity = one.similarity.unwrap_or_else(|| dot(self.taste.vector(), row()));
            if self.taste.is_cosine() && !rows_are_unit {
                let row = row();
                let length = dot(row, row).sqrt();
                similarity = if length > 0.0 { similarity / length } else { 0.0 };
            }
            score += self.weights.vector * similarity;
        }
        score += self.weights.neighbours * one.neighbours as f32 + self.weights.sessions * one.sessions as f32;
        if self.weights.popularity > 0.0 {
            score += self.weights.popularity * self.view.popularity(ordinal);
        }
        score
    }

    /// The score in double precision, by parts. For a visitor of whom nothing is known it is the popularity itself,
    /// whatever that weighs otherwise.
    fn parts(&self, ordinal: u32, table: &CandidateTable, nobody: bool) -> Parts {
        let popularity = f64::from(self.view.popularity(ordinal));
        if nobody {
            return Parts { vector: 0.0, neighbours: 0.0, sessions: 0.0, popularity };
        }
        let row = self.view.row(ordinal).unwrap_or_default();
        let (neighbours, sessions) = table.get(ordinal).map_or((0.0, 0.0), |one| (one.neighbours, one.sessions));
        Parts {
            vector: f64::from(self.weights.vector) * self.taste.vector_part(row),
            neighbours: f64::from(self.weights.neighbours) * neighbours,
            sessions: f64::from(self.weights.sessions) * sessions,
            popularity: f64::from(self.weights.popularity) * popularity,
        }
    }
}

impl Parts {
    fn total(&self) -> f64 {
        self.vector + self.neighbours + self.sessions + self.popularity
    }

    fn source(&self) -> Source {
        let others = self.neighbours.max(self.sessions);
        if self.popularity > self.vector && self.popularity > others {
            Source::Popular
        } else if others <= self.vector {
            Source::Vector
        } else if self.sessions > self.neighbours {
            Source::Sessions
        } else {
            Source::Neighbours
        }
    }
}

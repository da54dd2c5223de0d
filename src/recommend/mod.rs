//! Candidates to recommendations: the one function that a request, an evaluation and a benchmark all call.
//!
//! Every item is scored by the same formula, whichever source proposed it:
//!
//! `score(j) = w_vector · u·Q[j] + w_neighbours · Σ_t share_t · sim(item_t, j) + w_sessions · k(j) + w_popularity · popularity(j)`
//!
//! where u is the [user vector](crate::user_vector), `share_t = w_t / Σ|w|` sim is the item-to-item table and k the share of similar
//! sessions that had j (`recommend/sessions.rs`).
//! Scores of returned items are computed in double precision, so that the parts of an explanation add up to them.
//! Ties go by item key: the same input gives the same answer. Nothing here reads a clock, a file or a random number.
//!
//! Cost besides the graph search: one look-up per interaction, `k_neighbours` additions per interaction and one dot product
//! per candidate that the search has not measured. Nothing but the answer is allocated once the scratch is warm, unless a
//! filter is given.

mod candidates;
mod explain;
mod filter;
mod rank;
mod sessions;
mod taste;

use std::borrow::Borrow;

use kindred_index::{FilterError, FilterExpr, SearchError, SearchStats};
use thiserror::Error;

use self::candidates::CandidateTable;
pub use self::explain::{Because, Reasons};
use self::filter::Eligible;
use self::rank::{Plan, Ranked, answer};
use self::taste::Taste;
use crate::interaction::Interaction;
use crate::limits;
use crate::live_items::LiveItems;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::user_vector::{WeighScratch, Weighted, Weighting, weigh_into};

/// What a visitor asks for.
#[derive(Debug)]
pub struct RecommendRequest<'a, H = Interaction> {
    /// What the visitor has done, in any order; interactions or references to them.
    pub history: &'a [H],
    /// The present, milliseconds since 1970-01-01T00:00:00Z; ages are counted from it.
    pub now_ms: i64,
    /// Items wanted; the scenario's number if none.
    pub limit: Option<usize>,
    /// Keys of items that must not be in the answer. Unknown ones are ignored.
    pub exclude: &'a [String],
    /// What items must fulfil.
    pub filter: Option<&'a FilterExpr>,
    /// What changed in the catalogue since the model was made.
    pub live: Option<&'a LiveItems>,
    /// Whether to say why each item is there.
    pub explain: bool,
    /// Whether to score every item rather than candidates: the oracle that approximate answers are judged by.
    pub exact: bool,
    /// Breadth of the graph search; the scenario's if none.
    pub ef_search: Option<usize>,
}

/// What resembles one or more items.
#[derive(Clone, Copy, Debug)]
pub struct SimilarRequest<'a> {
    /// The items; they are never in the answer.
    pub seeds: &'a [u32],
    /// Items wanted; the scenario's number if none.
    pub limit: Option<usize>,
    /// Keys of items that must not be in the answer. Unknown ones are ignored.
    pub exclude: &'a [String],
    /// What items must fulfil.
    pub filter: Option<&'a FilterExpr>,
    /// What changed in the catalogue since the model was made.
    pub live: Option<&'a LiveItems>,
    /// Whether to say why each item is there.
    pub explain: bool,
    /// Whether to score every item rather than candidates.
    pub exact: bool,
    /// Breadth of the graph search; the scenario's if none.
    pub ef_search: Option<usize>,
}

/// A list, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recommendations {
    /// The items, best first.
    pub items: Vec<Recommendation>,
    /// Why this is not the list one would have wished, if it is not.
    pub fallback: Option<Fallback>,
    /// What the graph search did, if there was one.
    pub search: Option<SearchStats>,
    /// Items that were scored.
    pub candidates: u32,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// The item's ordinal in the model's index.
    pub ordinal: u32,
    /// Its score; larger is better. Comparable within one answer.
    pub score: f64,
    /// The part of the score that weighs most.
    pub source: Source,
    /// The parts of the score, if asked for.
    pub reasons: Option<Reasons>,
}

/// The part of a score that weighs most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The similarity of user vector and item.
    Vector,
    /// The similarity to single items of the history.
    Neighbours,
    /// The sessions that resemble the visitor's.
    Sessions,
    /// How popular the item is.
    Popular,
}

/// Why a list is not made from what is known about the visitor, or not from that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// There is no interaction.
    Newcomer,
    /// There are interactions, but none with an item that the model knows, of a kind that weighs something.
    UnknownItems,
    /// The visitor has only turned things down, or likes and dislikes cancel: popular items, ranked by the same formula.
    NoPreference,
    /// Fewer candidates than wanted passed the filter; the rest are popular items, if any were left.
    TooFewCandidates,
}

/// Scores of given items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// One score per item asked for, none for items that the model does not know.
    pub scores: Vec<Option<f64>>,
    /// Why the scores are not made from what is known about the visitor, if they are not.
    pub fallback: Option<Fallback>,
}

/// A step of the way; reported when it ends, so that a caller with a clock can time it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Interactions weighed, user vector made.
    UserVector,
    /// Seen and excluded items looked up, filter evaluated.
    Filter,
    /// Neighbours of recent items gathered.
    Neighbours,
    /// The graph, or every item, searched.
    Search,
    /// Candidates scored, sorted, cut and explained.
    Rank,
}

/// Why there is no answer. Each is the caller's mistake.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecommendError {
    /// More or fewer items wanted than allowed.
    #[error("limit is {found}, expected 1 to {most}", most = limits::ANSWER_ITEMS_MAX)]
    Limit {
        /// The number wanted.
        found: usize,
    },
    /// The breadth of the search is out of range.
    #[error("ef_search is {found}, expected 1 to {most}", most = kindred_index::EF_SEARCH_MAX)]
    EfSearch {
        /// The number found.
        found: usize,
    },
    /// More items excluded than allowed.
    #[error("exclude has {found} items, at most {most} are allowed: use a filter", most = limits::EXCLUDE_MAX)]
    TooManyExcluded {
        /// The number found.
        found: usize,
    },
    /// More items to score than allowed.
    #[error("{found} items to score, at most {most} are allowed: send several requests", most = limits::SCORE_ITEMS_MAX)]
    TooManyToScore {
        /// The number found.
        found: usize,
    },
    /// The number of seeds is out of range.
    #[error("{found} seed items, expected 1 to {most}", most = limits::SIMILAR_SEEDS_MAX)]
    Seeds {
        /// The number found.
        found: usize,
    },
    /// A seed is not an item of the model.
    #[error("seed {ordinal} is not an item: the model has {n_items}")]
    UnknownSeed {
        /// The seed.
        ordinal: u32,
        /// Items of the model.
        n_items: u32,
    },
    /// The filter names a field that the index does not have, or is too large.
    #[error("filter")]
    Filter(#[from] FilterError),
    /// The search refused its query.
    #[error("search")]
    Search(#[from] SearchError),
}

/// Buffers of a request; keep one per thread of use. Nothing is allocated in it once it has seen the largest request.
#[derive(Debug, Default)]
pub struct RecommendScratch {
    weigh: WeighScratch,
    weighted: Vec<Weighted>,
    taste: Taste,
    table: CandidateTable,
    order: Vec<Ranked>,
    search: kindred_index::Scratch,
}

impl<'a, H> RecommendRequest<'a, H> {
    /// A request with nothing but a history.
    pub fn new(history: &'a [H], now_ms: i64) -> Self {
        Self {
            history,
            now_ms,
            limit: None,
            exclude: &[],
            filter: None,
            live: None,
            explain: false,
            exact: false,
            ef_search: None,
        }
    }
}

impl<'a> SimilarRequest<'a> {
    /// A request with nothing but its seeds.
    pub fn new(seeds: &'a [u32]) -> Self {
        Self {
            seeds,
            limit: None,
            exclude: &[],
            filter: None,
            live: None,
            explain: false,
            exact: false,
            ef_search: None,
        }
    }
}

/// What a visitor should see now, best first.
///
/// `observe` is told when each stage ends; pass `&mut |_| ()` where nobody times them.
///
/// # Errors
/// A bound broken by the request, or a filter on a field that the index does not have. Unknown items are no error.
pub fn recommend<D: AsRef<[u8]>, H: Borrow<Interaction>>(
    model: &Model<D>,
    scenario: &Scenario,
    weighting: &Weighting,
    request: &RecommendRequest<'_, H>,
    scratch: &mut RecommendScratch,
    observe: &mut dyn FnMut(Stage),
) -> Result<Recommendations, RecommendError> {
    let view = model.view_with(request.live);
    let RecommendScratch { weigh, weighted, taste, table, order, search } = scratch;
    let mut plan = Plan::new(scenario, request.limit, request.ef_search, request.exclude.len())?;
    (plan.exact, plan.explain) = (request.exact, request.explain);
    let keys = model.index().keys();
    keys.touch(request.history.iter().map(|interaction| interaction.borrow().item_id.as_str()));
    let resolve = |key: &str| view.ordinal(key);
    weigh_into(request.history, weighting, request.now_ms, resolve, weigh, weighted);
    view.touch(weighted.iter().map(|one| one.ordinal), scenario.weights.neighbours > 0.0);
    taste.set_history(&view, weighted);
    taste.find_sessions(&model.sessions(), scenario.weights.sessions);
    let fallback = taste.fallback(request.history.is_empty());
    observe(Stage::UserVector);
    table.clear();
    if scenario.exclude_seen {
        table.exclude(&weigh.seen);
    }
    let eligible = Eligible::new(model, &view, scenario, request.exclude, request.filter, table)?;
    observe(Stage::Filter);
    answer(model, &view, &plan, taste, fallback, &eligible, table, order, search, observe)
}

/// What resembles the given items, best first.
///
/// The vector part is the mean cosine between the seeds' target rows and the item's; the neighbours part is the mean
/// similarity in the item-to-item table. The seeds themselves are left out.
///
/// # Errors
/// As [`recommend`], and seeds that are not items.
pub fn similar<D: AsRef<[u8]>>(
    model: &Model<D>,
    scenario: &Scenario,
    request: &SimilarRequest<'_>,
    scratch: &mut RecommendScratch,
    observe: &mut dyn FnMut(Stage),
) -> Result<Recommendations, RecommendError> {
    let view = model.view_with(request.live);
    let RecommendScratch { taste, table, order, search, .. } = scratch;
    let mut plan = Plan::new(scenario, request.limit, request.ef_search, request.exclude.len())?;
    (plan.exact, plan.explain) = (request.exact, request.explain);
    if request.seeds.is_empty() || request.seeds.len() > limits::SIMILAR_SEEDS_MAX {
        return Err(RecommendError::Seeds { found: request.seeds.len() });
    }
    if let Some(&ordinal) = request.seeds.iter().find(|seed| **seed >= view.len()) {
        return Err(RecommendError::UnknownSeed { ordinal, n_items: view.len() });
    }
    taste.set_seeds(&view, request.seeds);
    taste.find_sessions(&model.sessions(), scenario.weights.sessions);
    let fallback = taste.fallback(false);
    observe(Stage::UserVector);
    table.clear();
    table.exclude(request.seeds);
    let eligible = Eligible::new(model, &view, scenario, request.exclude, request.filter, table)?;
    observe(Stage::Filter);
    answer(model, &view, &plan, taste, fallback, &eligible, table, order, search, observe)
}

/// The predicted affinity of a visitor to given items: the score that [`recommend`] would give them, whether or not they
/// would pass its filters.
///
/// # Errors
/// More items than allowed.
#[allow(clippy::too_many_arguments, reason = "what a score depends on; a struct would only rename them")]
pub fn score<D: AsRef<[u8]>, H: Borrow<Interaction>, K: AsRef<str>>(
    model: &Model<D>,
    live: Option<&LiveItems>,
    scenario: &Scenario,
    weighting: &Weighting,
    history: &[H],
    now_ms: i64,
    items: &[K],
    scratch: &mut RecommendScratch,
) -> Result<Scores, RecommendError> {
    if items.len() > limits::SCORE_ITEMS_MAX {
        return Err(RecommendError::TooManyToScore { found: items.len() });
    }
    let view = model.view_with(live);
    let RecommendScratch { weigh, weighted, taste, table, .. } = scratch;
    let resolve = |key: &str| view.ordinal(key);
    weigh_into(history, weighting, now_ms, resolve, weigh, weighted);
    taste.set_history(&view, weighted);
    taste.find_sessions(&model.sessions(), scenario.weights.sessions);
    let fallback = taste.fallback(history.is_empty());
    table.clear();
    let ordinals = items.iter().map(|key| resolve(key.as_ref()));
    let scores = rank::scores((&view, model.sessions()), taste, fallback, &scenario.weights, ordinals, table);
    Ok(Scores { scores, fallback })
}

#[cfg(test)]
mod tests;

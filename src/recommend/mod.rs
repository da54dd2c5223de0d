//! Candidates to recommendations: the one function that a request, an evaluation and a benchmark all call.
//!
//! Every item is scored by the same formula, whichever source proposed it:
//!
//! ```text
//! score(j) = w_vector · u·Q[j] + w_neighbours · Σ_t share_t · sim(item_t, j) + w_sessions · k(j)
//!          + w_popularity · popularity(j) + w_trending · trend(j) + w_context · trend_context(j)
//!          + w_history · Σ_t 0.5^(age_t / half-life) [item_t = j] + w_followed · f(j) + Σ boosts(j)
//! ```
//!
//! where u is the [user vector](crate::user_vector), its w_t those of the model, the current session's and earlier ones each times a weight
//! of the scenario, `share_t = w_t / Σ|w|`, sim is the item-to-item table, f the mean, over
//! those whom the visitor follows, of how lately each took j, and k the
//! share of similar sessions that had j (`recommend/sessions.rs`). Where a scenario tells several tastes apart, u is for each item the one that
//! it is most like (`recommend/aspects.rs`). For a list that is made
//! for items instead of a visitor, u is the mean of their rows. Rules may then shape the list: see `slate.rs`.
//! Scores of returned items are computed in double precision, so that the parts of an explanation add up to them.
//! Ties go by item key, but what only fills a list up comes last, the most popular first: the same input gives the same answer. Nothing here
//! reads a clock, a file or a random number.
//!
//! Cost besides the graph search: one look-up per interaction, `k_neighbours` additions per interaction and one dot product
//! per candidate that the search has not measured. Nothing but the answer is allocated once the scratch is warm, unless a
//! filter is given.

mod aspects;
mod breadth;
mod candidates;
mod chance;
mod context;
mod explain;
mod facts;
mod filter;
mod propose;
mod rank;
mod sessions;
mod signals;
mod slate;
mod taste;
mod visitor;

use std::borrow::Borrow;

use kindred_index::{FilterError, FilterExpr, SearchError, SearchStats, prefetch};
use thiserror::Error;

pub use self::breadth::{Breadth, FilterShape, Probe};
pub(crate) use self::breadth::{NEAREST, breadth_asked_for};
use self::candidates::CandidateTable;
pub use self::context::RequestContext;
pub(crate) use self::context::clock_value;
use self::explain::Recall;
pub use self::explain::{Because, Reasons};
use self::filter::Eligible;
pub use self::filter::{passing_rule, unheld};
use self::rank::{Plan, Question, Ranked, Scorer, answer};
pub use self::signals::{Signals, Trend};
use self::taste::Taste;
pub use self::visitor::keeps_out;
use self::visitor::{exclude, followed_into, label, recall_into, weigh_interests};
use crate::interaction::Interaction;
use crate::limits;
use crate::live_items::LiveItems;
use crate::model::Model;
use crate::scenario::{Basis, Scenario};
use crate::user_vector::{WeighScratch, Weighted, Weighting, weigh_into};

/// What a visitor asks for.
#[derive(Debug)]
pub struct RecommendRequest<'a, H = Interaction> {
    /// What the visitor has done, in any order; interactions or references to them.
    pub history: &'a [H],
    /// Whether history and items only say what is left out, and the list is as for a newcomer: what costs least.
    pub impersonal: bool,
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
    /// The share of the true nearest that the search is to find, instead of its breadth.
    pub recall_target: Option<f64>,
    /// How much broader than that searches are, by how many items they may find.
    pub breadth: Breadth,
    /// Keys of the items that the list is for, or that it ranks, where the scenario is based on items.
    pub item_ids: &'a [String],
    /// The circumstances, for rules that ask for them.
    pub context: Option<&'a RequestContext>,
    /// What those have done lately whom the visitor follows, a list for each of them. Nobody is named in an answer.
    pub followed: &'a [Vec<&'a Interaction>],
    /// What is taken just now, if that is counted.
    pub signals: Option<&'a Signals<'a>>,
    /// Decides what chance decides: the same seed, the same list.
    pub seed: u64,
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
    /// Items that were scored, those of the list among them: where there are more, a shorter list than asked for can be gone on with.
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
    /// The rule that put it where it is, if one did.
    pub placement: Option<Placement>,
    /// Where new items are explored, how likely this was. Epsilon-greedy: that this item stands here, given those above. Thompson sampling:
    /// that it is in the list, given what was drawn for all others.
    pub propensity: Option<f64>,
    /// The parts of the score, if asked for. Elsewhere, so that a list that is sorted is short.
    pub reasons: Option<Box<Reasons>>,
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
    /// How much it is taken just now.
    Trending,
    /// How much it is taken just now by visitors of the same context.
    Context,
    /// The visitor's own interactions with it.
    History,
    /// Those have taken it whom the visitor follows.
    Followed,
}

/// A rule that put an item where it is, whatever its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// It has a fixed place.
    Pinned,
    /// The place belongs to the promoted share.
    Promoted,
    /// Chance alone has put it there: it is new, and without what was drawn for it another would stand in its place.
    Explored,
    /// It comes after all others.
    Buried,
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
    /// One score per item asked for, none for items that are not in the catalogue, or no longer.
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
    /// A share of the true nearest that is none.
    #[error("recall_target is {found}, expected a share above 0, at most 1")]
    RecallTarget {
        /// The number found.
        found: f64,
    },
    /// Both ways to say how broadly to search.
    #[error("both ef_search and recall_target are given: send one of the two")]
    TwoBreadths,
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
    /// The number of items that the list is for, or that it ranks, is out of range.
    #[error("item_ids has {found} items, this scenario expects 1 to {most}")]
    Items {
        /// The number found.
        found: usize,
        /// The most allowed.
        most: usize,
    },
    /// More items to rank than an answer can hold, and all of them wanted.
    #[error(
        "item_ids has {found} items, and an answer at most {most}: send a limit to have the best of them",
        most = limits::ANSWER_ITEMS_MAX
    )]
    TooManyToRank {
        /// The number found.
        found: usize,
    },
    /// Items were named to a scenario that is not based on items.
    #[error("item_ids is of no use to this scenario: leave it out, or name a scenario that is based on items")]
    ItemsUnused,
    /// The request's filter names a field that the index does not have, or a filter is too large.
    #[error("filter")]
    Filter(#[from] FilterError),
    /// The search refused its query.
    #[error("search")]
    Search(#[from] SearchError),
}

/// Buffers of a request; keep one per thread of use. Nothing is allocated in it once it has seen the largest request.
#[derive(Debug, Default)]
pub struct RecommendScratch {
    ordinals: Vec<Option<u32>>,
    weigh: WeighScratch,
    weighted: Vec<Weighted>,
    taste: Taste,
    table: CandidateTable,
    order: Vec<Ranked>,
    /// The items that the request named, as far as they are known: place and ordinal.
    named: Vec<(u32, u32)>,
    recalls: Vec<Recall>,
    followed: Vec<(u32, f64)>,
    search: kindred_index::Scratch,
    probe: Option<Probe>,
}

impl RecommendScratch {
    /// Keeps the search of the next list, so that it can be repeated.
    pub fn keep_probe(&mut self) {
        self.probe = Some(Probe::default());
    }

    /// The search that was kept, if one was to be and the list needed one.
    pub fn take_probe(&mut self) -> Option<Probe> {
        self.probe.take().filter(Probe::is_kept)
    }
}

impl<'a, H> RecommendRequest<'a, H> {
    /// A request with nothing but a history.
    pub fn new(history: &'a [H], now_ms: i64) -> Self {
        Self {
            history,
            impersonal: false,
            now_ms,
            limit: None,
            exclude: &[],
            filter: None,
            live: None,
            explain: false,
            exact: false,
            ef_search: None,
            recall_target: None,
            breadth: Breadth::default(),
            item_ids: &[],
            context: None,
            followed: &[],
            signals: None,
            seed: 0,
        }
    }
}

/// The keys of a history's items; asks the memory for the kinds, which are read next.
fn items_of<H: Borrow<Interaction>>(history: &[H]) -> impl Iterator<Item = &str> + Clone {
    history.iter().map(Borrow::borrow).map(|one| {
        prefetch(one.kind.as_bytes());
        one.item_id.as_str()
    })
}

/// What a visitor should see now, or what goes with items, best first.
///
/// `observe` is told when each stage ends; pass `&mut |_| ()` where nobody times them.
///
/// # Errors
/// A bound broken by the request, or a filter of the request on a field that the index does not have. Unknown items are no error.
pub fn recommend<D: AsRef<[u8]>, H: Borrow<Interaction>>(
    model: &Model<D>,
    scenario: &Scenario,
    weighting: &Weighting,
    request: &RecommendRequest<'_, H>,
    scratch: &mut RecommendScratch,
    observe: &mut dyn FnMut(Stage),
) -> Result<Recommendations, RecommendError> {
    let view = model.view_with(request.live);
    let RecommendScratch { ordinals, weigh, weighted, taste, table, order, named, recalls, followed, search, probe } =
        scratch;
    let plan = Plan::new(model.manifest(), scenario, request)?;
    let weights = scenario.weights_with(model.manifest());
    let resolve = |key: &str| view.ordinal(key);
    view.ordinals(items_of(request.history), ordinals);
    weigh_into(request.history, ordinals, weighting, request.now_ms, weigh, weighted);
    weigh_interests(&scenario.interests, request, weighted);
    if request.impersonal {
        weighted.clear();
    }
    named.clear();
    let known = |(place, key): (u32, &String)| resolve(key).map(|ordinal| (place, ordinal));
    named.extend((0_u32..).zip(request.item_ids).filter_map(known));
    recall_into(scenario, request, weighting, ordinals, recalls);
    followed_into(scenario, request, weighting, resolve, followed);
    match scenario.based_on {
        _ if request.impersonal => taste.set_nobody(),
        Basis::Visitor | Basis::List => {
            taste.set_history(&view, weighted);
            taste.tell_apart(&view, scenario.interests.tastes);
        }
        Basis::SimilarItems => taste.set_seeds(&view, named),
        Basis::ItemsTogether => taste.set_together(&view, named),
        Basis::Nobody => taste.set_nobody(),
    }
    taste.find_sessions(&model.sessions(), weights.sessions);
    let no_history = request.impersonal || (request.history.is_empty() && !scenario.based_on.has_seeds());
    let fallback = label(scenario.based_on, &weights, taste, recalls, no_history);
    observe(Stage::UserVector);
    table.clear();
    exclude(scenario, request, weighting, &weigh.seen, named, ordinals, table);
    let eligible = Eligible::new(model, &view, scenario, request.exclude, request.filter, table)?;
    observe(Stage::Filter);
    let scorer = Scorer::new(model, view, scenario, fallback, taste, request, recalls, followed);
    let question = Question { scenario, plan, fallback, eligible, scorer, named, now_ms: request.now_ms };
    answer(&question, table, order, search, probe.as_mut(), observe)
}

/// The predicted affinity of a visitor to the request's items: the score that [`recommend`] would give them, whether or not they would pass
/// its filters. Rules that shape a list take no part.
///
/// # Errors
/// More items than allowed.
pub fn score<D: AsRef<[u8]>, H: Borrow<Interaction>>(
    model: &Model<D>,
    scenario: &Scenario,
    weighting: &Weighting,
    request: &RecommendRequest<'_, H>,
    scratch: &mut RecommendScratch,
) -> Result<Scores, RecommendError> {
    if request.item_ids.len() > limits::SCORE_ITEMS_MAX {
        return Err(RecommendError::TooManyToScore { found: request.item_ids.len() });
    }
    let view = model.view_with(request.live);
    let RecommendScratch { ordinals, weigh, weighted, taste, table, recalls, followed, .. } = scratch;
    let resolve = |key: &str| view.ordinal(key);
    view.ordinals(items_of(request.history), ordinals);
    weigh_into(request.history, ordinals, weighting, request.now_ms, weigh, weighted);
    weigh_interests(&scenario.interests, request, weighted);
    recall_into(scenario, request, weighting, ordinals, recalls);
    followed_into(scenario, request, weighting, resolve, followed);
    taste.set_history(&view, weighted);
    taste.tell_apart(&view, scenario.interests.tastes);
    let weights = scenario.weights_with(model.manifest());
    taste.find_sessions(&model.sessions(), weights.sessions);
    let fallback = label(Basis::Visitor, &weights, taste, recalls, request.history.is_empty());
    table.clear();
    recalls.iter().for_each(|recall| table.add_history(recall.ordinal, recall.value, false));
    followed.iter().for_each(|(ordinal, value)| table.add_followed(*ordinal, *value, false));
    let scorer = Scorer::new(model, view, scenario, fallback, taste, request, recalls, followed);
    // An item that was taken out is as unknown as one that was never there.
    let is_there =
        |ordinal: &u32| view.live().and_then(|live| live.entry(*ordinal)).is_none_or(|entry| entry.item().is_some());
    let asked = request.item_ids.iter().map(|key| resolve(key).filter(is_there));
    let scores = rank::scores(&scorer, fallback, asked, table);
    Ok(Scores { scores, fallback })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_chance;
#[cfg(test)]
mod tests_of_rules;

//! How good an artifact is on interactions that it was not trained on: by calling [`recommend`] exactly as a request does.
//!
//! Who is asked what is the [`Protocol`]'s business (`evaluate/cases.rs`): once for all that a user did in the test part, or for each
//! step of a test session from the steps before it. Each case is asked twice, through the index and by scoring every item, so
//! that what the approximation costs stands beside what the model is worth; and the most popular items that the user has not
//! seen are measured too, as the floor that any model has to beat.

mod cases;
mod judge;
mod lists;
mod round;
mod trends;

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use kindred::interaction::Interaction;
use kindred::limits;
use kindred::live_items::{LiveEntry, LiveItems};
use kindred::model::Model;
use kindred::recommend::{RecommendError, RecommendRequest, RecommendScratch, keeps_out, passing_rule, recommend};
use kindred::scenario::{Basis, ItemFilter, Scenario};
use kindred::trending::TrendingSettings;
use kindred::user_vector::Weighting;
use kindred_index::AllowSet;
use serde::Serialize;
use thiserror::Error;

use crate::dataset::Interactions;
use crate::train::sparse::mixed;

pub(crate) use cases::Case;
pub use judge::{AtK, Overlap, Segment, System};
use judge::{Judge, overlap};
pub(crate) use round::{Question, Round};

/// Most items a list is judged by.
pub const K_MAX: usize = limits::ANSWER_ITEMS_MAX;

/// What is evaluated on, read from a dataset.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// The training part, sorted by user and time: the histories.
    pub train: Interactions,
    /// The test part, sorted by user and time: what really came next.
    pub test: Interactions,
    /// Kinds of interaction, in the order of the kind columns.
    pub kinds: Vec<String>,
    /// Item keys, by the number in the item columns.
    pub keys: Vec<String>,
    /// The most recent interactions of a user that are looked at, at most: as many as a server keeps.
    pub history_max: usize,
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// Lengths of list to judge, ascending.
    pub ks: Vec<usize>,
    /// Whether to leave the approximate search out.
    pub exact_only: bool,
    /// What is asked.
    pub protocol: Protocol,
    /// Users to ask, at most; none for all. A seeded sample.
    pub users: Option<usize>,
    /// Seed of the sample, and of what a scenario leaves to chance.
    pub seed: u64,
    /// Whether only items that nobody had touched may be listed and are looked for: how well new items are placed.
    pub only_new: bool,
    /// How it is counted what is taken just now, for scenarios that weigh it. Counted where each event is predicted, since only there time goes
    /// on as it did; none: not counted.
    pub trending: Option<TrendingSettings>,
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Once a user, when the test part begins for them: from the training interactions until then, everything that the user did in the test part.
    #[default]
    HeldOut,
    /// Each test interaction, from the user's training and test interactions before it. The first of a user of whom nothing
    /// is known is not asked for.
    NextEvent,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// What was asked.
    pub protocol: Protocol,
    /// Users asked.
    pub n_users: u64,
    /// Lists asked for; one a user unless each event is predicted.
    pub n_lists: u64,
    /// Test items looked for, over all users.
    pub n_relevant: u64,
    /// What was left out, and why.
    pub skipped: Skipped,
    /// The systems, in the order of the report: through the index, exactly, most popular.
    pub systems: Vec<System>,
    /// Mean share of the exact list that the list through the index has, for each k; empty with `exact_only`.
    pub list_overlap: Vec<Overlap>,
    /// How long the lists through the index took; none with `exact_only`.
    pub latency: Option<Latency>,
}

/// How long one list took to make, from the history to the last item, with all threads at it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the lists took less, in microseconds.
    pub p50_us: f64,
    /// All but one in a hundred took less, in microseconds.
    pub p99_us: f64,
    /// Threads that made lists at once.
    pub threads: usize,
}

/// Test users and interactions that took no part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Test interactions of users without any interaction before: nothing to recommend from.
    pub without_history: u64,
    /// Test interactions with items that the artifact does not have.
    pub unknown_items: u64,
    /// Test interactions with items that what the user did before keeps out of the list.
    pub seen_before: u64,
    /// Test interactions whose weight is not positive: nobody wants to be recommended what they dislike.
    pub not_liked: u64,
    /// Test interactions with an item that the same user's test part has already.
    pub repeated: u64,
    /// Test interactions with items that are not available, or that the scenario's filter leaves out.
    pub unavailable: u64,
    /// Test interactions with items that others had touched, where only new ones are looked for.
    pub not_new: u64,
    /// Users left without anything to look for.
    pub users_without_any: u64,
    /// Users left out by sampling.
    pub users_not_sampled: u64,
}

/// Why nothing could be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A list length is out of range.
    #[error("k is {found}, expected 1 to {K_MAX}")]
    K {
        /// The length found.
        found: usize,
    },
    /// The scenario's lists are made for items that a request names.
    #[error(
        "lists of this scenario are made for items that a request names, and nobody knows which a user would have named: \
         name a scenario with based_on = \"visitor\" or \"nobody\""
    )]
    NeedsItems,
    /// Nobody is left to ask.
    #[error(
        "no user of the test part can be evaluated ({skipped:?}): is this the dataset that the artifact was trained on, \
         and was it prepared with a --split? Users and sessions that are held out whole are for --protocol next-event"
    )]
    NoUsers {
        /// Why they were left out.
        skipped: Skipped,
    },
    /// The lists could not be written.
    #[error("the lists cannot be written")]
    Lists(#[from] std::io::Error),
    /// The request was refused.
    #[error("the request of a user was refused")]
    Recommend(#[from] RecommendError),
}

/// What one user was given.
struct Answer {
    index: Vec<u32>,
    index_us: f64,
    exact: Vec<u32>,
    popular: Vec<u32>,
}

/// Measures a model on the test part of a dataset, over all threads. Each list goes into `lists` too, a line of JSON, if there is such a place.
///
/// # Errors
/// A list length out of range, a scenario that needs items, nobody to ask, or lists that cannot be written.
pub fn evaluate<D: AsRef<[u8]> + Sync>(
    model: &Model<D>,
    held_out: &HeldOut,
    scenario: &Scenario,
    weighting: &Weighting,
    options: &EvaluateOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
    lists: Option<&mut dyn Write>,
) -> Result<Evaluation, EvaluateError> {
    if let Some(found) = options.ks.iter().copied().find(|k| !(1..=K_MAX).contains(k)) {
        return Err(EvaluateError::K { found });
    }
    let longest = options.ks.iter().copied().max().ok_or(EvaluateError::K { found: 0 })?;
    if !matches!(scenario.based_on, Basis::Visitor | Basis::Nobody) {
        return Err(EvaluateError::NeedsItems);
    }
    let round = Round { model, held_out, scenario, weighting, options };
    let (cases, skipped) = round.cases()?;
    if cases.is_empty() {
        return Err(EvaluateError::NoUsers { skipped });
    }
    let live = options.only_new.then(|| only_new(model, held_out));
    let listable = listable(model, scenario, live.as_ref())?;
    let EvaluateOptions { exact_only, seed, .. } = *options;
    let asker = Asker { model, scenario, weighting, longest, exact_only, seed, live, listable };
    let ask = |question: &Question<'_>, scratch: &mut RecommendScratch| asker.ask(question, scratch);
    let answers = round.ask(&cases, progress, &ask)?;
    if let Some(into) = lists {
        lists::write(model, &cases, &answers, into)?;
    }
    let judge = Judge::new(model, held_out, &cases, options.seed);
    let system = |name, list: fn(&Answer) -> &[u32]| {
        let lists: Vec<&[u32]> = answers.iter().map(list).collect();
        judge.system(name, &lists, &options.ks)
    };
    let mut systems = vec![system("exact", |answer| &answer.exact), system("popular", |answer| &answer.popular)];
    let (mut list_overlap, mut latency) = (Vec::new(), None);
    if !options.exact_only {
        systems.insert(0, system("index", |answer| &answer.index));
        let lists = || answers.iter().map(|answer| (&*answer.index, &*answer.exact));
        list_overlap.extend(options.ks.iter().map(|k| overlap(*k, lists())));
        latency = Some(Latency::of(answers.iter().map(|answer| answer.index_us).collect()));
    }
    let total = cases.len() as u64;
    let n_relevant = cases.iter().map(|case| case.relevant.len() as u64).sum();
    let n_users = cases.chunk_by(|a, b| a.user == b.user).count() as u64;
    let protocol = options.protocol;
    Ok(Evaluation { protocol, n_users, n_lists: total, n_relevant, skipped, systems, list_overlap, latency })
}

impl Latency {
    fn of(mut micros: Vec<f64>) -> Self {
        micros.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (micros.len() as f64 * share) as usize;
            micros.get(place.min(micros.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { p50_us: at(0.5), p99_us: at(0.99), threads: rayon::current_num_threads() }
    }
}

/// All that a user is asked with.
struct Asker<'a, D> {
    model: &'a Model<D>,
    scenario: &'a Scenario,
    weighting: &'a Weighting,
    longest: usize,
    exact_only: bool,
    seed: u64,
    /// What leaves only new items in the catalogue, where only those may be listed.
    live: Option<LiveItems>,
    /// The items that may be listed; none for all.
    listable: Option<AllowSet>,
}

impl<D: AsRef<[u8]>> Asker<'_, D> {
    fn ask(&self, question: &Question<'_>, scratch: &mut RecommendScratch) -> Result<Answer, RecommendError> {
        let Question { case, history, signals } = question;
        // Each list has draws of its own, as each request has.
        let seed = mixed(self.seed ^ u64::from(case.user).rotate_left(32) ^ case.prefix.end as u64);
        let mut list = |exact: bool| -> Result<Vec<u32>, RecommendError> {
            let limit = Some(self.longest);
            let (signals, live) = (signals.as_ref(), self.live.as_ref());
            let request =
                RecommendRequest { limit, exact, signals, live, seed, ..RecommendRequest::new(history, case.now_ms) };
            let list = recommend(self.model, self.scenario, self.weighting, &request, scratch, &mut |_| ())?;
            Ok(list.items.iter().map(|item| item.ordinal).collect())
        };
        let started = Instant::now();
        let index = if self.exact_only { Vec::new() } else { list(false)? };
        let index_us = started.elapsed().as_secs_f64() * 1e6;
        let exact = list(true)?;
        let is_seen =
            |one: &&Interaction| keeps_out(self.scenario, self.weighting, &one.kind, one.occurred_at_ms, case.now_ms);
        let seen: HashSet<&str> = history.iter().filter(is_seen).map(|one| one.item_id.as_str()).collect();
        let unseen = |ordinal: &&u32| !self.model.index().key(**ordinal).is_some_and(|key| seen.contains(key));
        let shown = |ordinal: &&u32| self.listable.as_ref().is_none_or(|set| set.contains(**ordinal));
        let popular = self.model.popular().iter().filter(unseen).filter(shown).take(self.longest).copied().collect();
        Ok(Answer { index, index_us, exact, popular })
    }
}

impl HeldOut {
    /// The items that no training interaction is with, by number.
    fn new_items(&self) -> HashSet<u32> {
        let touched: HashSet<u32> = self.train.item.iter().copied().collect();
        (0..self.keys.len() as u32).filter(|item| !touched.contains(item)).collect()
    }
}

/// Takes the items that a training interaction is with out of the catalogue, by changes laid over the model: a filter cannot name as many items.
fn only_new<D: AsRef<[u8]>>(model: &Model<D>, held_out: &HeldOut) -> LiveItems {
    let new = held_out.new_items();
    let keys = (0_u32..).zip(&held_out.keys).filter(|(item, _)| new.contains(item));
    let kept: HashSet<u32> = keys.filter_map(|(_, key)| model.index().ordinal(key)).collect();
    // At that time nothing has expired: cases are of the past.
    let mut live = LiveItems::new(model, i64::MIN);
    let others = (0..model.len()).filter(|ordinal| !kept.contains(ordinal));
    for key in others.filter_map(|ordinal| model.index().key(ordinal)) {
        live.apply(model, Arc::new(LiveEntry::deleted(key, i64::MIN)), None);
    }
    live
}

/// The items that a list of this scenario may contain, as [`recommend`] sees them; none for all.
fn listable<D: AsRef<[u8]>>(
    model: &Model<D>,
    scenario: &Scenario,
    live: Option<&LiveItems>,
) -> Result<Option<AllowSet>, RecommendError> {
    let allowed = match live {
        Some(live) => Some(live.allowed(scenario.require_available)),
        None if scenario.require_available => model.available(),
        None => None,
    };
    let Some(filter) = scenario.filter.as_ref().map(ItemFilter::expression) else { return Ok(allowed.cloned()) };
    let mut set = Arc::unwrap_or_clone(passing_rule(model, live, filter)?);
    if let Some(allowed) = allowed {
        set.and(allowed);
    }
    Ok(Some(set))
}

#[cfg(test)]
mod tests;

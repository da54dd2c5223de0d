//! How good an artifact is on interactions that it was not trained on: by calling [`recommend`] exactly as a request does.
//!
//! For each user of the test part the history is the user's training interactions, the present is the time of the first test
//! interaction, and what counts as right is every item of the test part that a list could contain. Each user is asked twice,
//! through the index and by scoring every item, so that what the approximation costs stands beside what the model is worth;
//! and the most popular items that the user has not seen are measured too, as the floor that any model has to beat.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use kindred::interaction::Interaction;
use kindred::limits;
use kindred::model::Model;
use kindred::recommend::{RecommendError, RecommendRequest, RecommendScratch, recommend};
use kindred::scenario::Scenario;
use kindred::user_vector::Weighting;
use kindred_index::AllowSet;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use crate::dataset::Interactions;
use crate::metrics;
use crate::train::by_user;

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
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// Lengths of list to judge, ascending.
    pub ks: Vec<usize>,
    /// Whether to leave the approximate search out.
    pub exact_only: bool,
    /// Users to ask, at most; none for all. A seeded sample.
    pub users: Option<usize>,
    /// Seed of the sample.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Users asked.
    pub n_users: u64,
    /// Test items looked for, over all users.
    pub n_relevant: u64,
    /// What was left out, and why.
    pub skipped: Skipped,
    /// The systems, in the order of the report: through the index, exactly, most popular.
    pub systems: Vec<System>,
    /// Mean share of the exact list that the list through the index has, for each k; empty with `exact_only`.
    pub list_overlap: Vec<Overlap>,
}

/// Test users and interactions that took no part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Test interactions of users without any training interaction: nothing to recommend from.
    pub without_history: u64,
    /// Test interactions with items that the artifact does not have.
    pub unknown_items: u64,
    /// Test interactions with items that the user had seen: a list never contains them.
    pub seen_before: u64,
    /// Test interactions whose weight is not positive: nobody wants to be recommended what they dislike.
    pub not_liked: u64,
    /// Test interactions with an item that the same user's test part has already.
    pub repeated: u64,
    /// Test interactions with items that are not available.
    pub unavailable: u64,
    /// Users left without anything to look for.
    pub users_without_any: u64,
    /// Users left out by sampling.
    pub users_not_sampled: u64,
}

/// One way to make lists.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct System {
    /// `index`, `exact` or `popular`.
    pub name: &'static str,
    /// What it was worth, for each length of list.
    pub at: Vec<AtK>,
}

/// Metrics at one length of list, means over users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtK {
    /// Length of the list.
    pub k: usize,
    /// Share of users with a hit.
    pub hit_rate: f64,
    /// Share of what came next that was in the list.
    pub recall: f64,
    /// Normalised discounted cumulative gain.
    pub ndcg: f64,
    /// Mean reciprocal rank of the first hit.
    pub mrr: f64,
    /// Mean average precision.
    pub map: f64,
    /// Share of the items that stood in any list.
    pub coverage: f64,
    /// Mean share of items less popular than a recommended one: 0.5 is no bias.
    pub popularity_percentile: f64,
    /// How unevenly recommendations are spread over items: 0 evenly, near 1 all on a few.
    pub gini: f64,
}

/// How alike two lists are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// Length of the lists.
    pub k: usize,
    /// Mean share of the items of the exact list that are in the other.
    pub share: f64,
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
    /// Nobody is left to ask.
    #[error(
        "no user of the test part can be evaluated ({skipped:?}): is this the dataset that the artifact was trained on, \
         and was it prepared with a --split?"
    )]
    NoUsers {
        /// Why they were left out.
        skipped: Skipped,
    },
    /// The request was refused.
    #[error("the request of a user was refused")]
    Recommend(#[from] RecommendError),
}

/// One user to ask.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    /// Training rows.
    history: Range<usize>,
    /// Ordinals to look for, sorted.
    relevant: Vec<u32>,
    /// The present.
    now_ms: i64,
}

/// What one user was given.
struct Answer {
    index: Vec<u32>,
    exact: Vec<u32>,
    popular: Vec<u32>,
}

/// Measures a model on the test part of a dataset, over all threads.
///
/// # Errors
/// A list length out of range, or nobody to ask.
pub fn evaluate<D: AsRef<[u8]> + Sync>(
    model: &Model<D>,
    held_out: &HeldOut,
    scenario: &Scenario,
    weighting: &Weighting,
    options: &EvaluateOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Evaluation, EvaluateError> {
    if let Some(found) = options.ks.iter().copied().find(|k| !(1..=K_MAX).contains(k)) {
        return Err(EvaluateError::K { found });
    }
    let longest = options.ks.iter().copied().max().ok_or(EvaluateError::K { found: 0 })?;
    let (cases, skipped) = cases(model, held_out, scenario, options);
    if cases.is_empty() {
        return Err(EvaluateError::NoUsers { skipped });
    }
    let asker = Asker { model, held_out, scenario, weighting, longest, exact_only: options.exact_only };
    let total = cases.len() as u64;
    let mut answers = Vec::with_capacity(cases.len());
    // In blocks, so that progress moves and the lists stay in the order of the users.
    for block in cases.chunks(1_024) {
        let answered: Result<Vec<Answer>, _> =
            block.par_iter().map_init(RecommendScratch::default, |scratch, case| asker.ask(case, scratch)).collect();
        answers.extend(answered?);
        progress(answers.len() as u64, total);
    }
    let popularity: Vec<f32> = (0..model.len()).map(|ordinal| model.popularity(ordinal)).collect();
    let percentiles = metrics::percentiles(&popularity);
    let system = |name: &'static str, list: &dyn Fn(&Answer) -> &[u32]| {
        let at = |k: &usize| at_k(*k, &cases, &answers, list, &percentiles);
        System { name, at: options.ks.iter().map(at).collect() }
    };
    let mut systems = vec![system("exact", &|answer| &answer.exact), system("popular", &|answer| &answer.popular)];
    let mut list_overlap = Vec::new();
    if !options.exact_only {
        systems.insert(0, system("index", &|answer| &answer.index));
        list_overlap.extend(options.ks.iter().map(|k| overlap(*k, &answers)));
    }
    let n_relevant = cases.iter().map(|case| case.relevant.len() as u64).sum();
    Ok(Evaluation { n_users: total, n_relevant, skipped, systems, list_overlap })
}

/// All that a user is asked with.
struct Asker<'a, D> {
    model: &'a Model<D>,
    held_out: &'a HeldOut,
    scenario: &'a Scenario,
    weighting: &'a Weighting,
    longest: usize,
    exact_only: bool,
}

impl<D: AsRef<[u8]>> Asker<'_, D> {
    fn ask(&self, case: &Case, scratch: &mut RecommendScratch) -> Result<Answer, RecommendError> {
        let history = self.history(case.history.clone());
        let mut list = |exact: bool| -> Result<Vec<u32>, RecommendError> {
            let limit = Some(self.longest);
            let request = RecommendRequest { limit, exact, ..RecommendRequest::new(&history, case.now_ms) };
            let list = recommend(self.model, self.scenario, self.weighting, &request, scratch, &mut |_| ())?;
            Ok(list.items.iter().map(|item| item.ordinal).collect())
        };
        let index = if self.exact_only { Vec::new() } else { list(false)? };
        let exact = list(true)?;
        let seen: HashSet<&str> = history.iter().map(|interaction| interaction.item_id.as_str()).collect();
        let unseen = |ordinal: &&u32| !self.model.index().key(**ordinal).is_some_and(|key| seen.contains(key));
        let allowed = available(self.model, self.scenario);
        let shown = |ordinal: &&u32| allowed.is_none_or(|set| set.contains(**ordinal));
        let popular = self.model.popular().iter().filter(unseen).filter(shown).take(self.longest).copied().collect();
        Ok(Answer { index, exact, popular })
    }

    /// The most recent training interactions, as many as the service would look at.
    fn history(&self, rows: Range<usize>) -> Vec<Interaction> {
        let HeldOut { train, kinds, keys, .. } = self.held_out;
        let from = rows.end.saturating_sub(limits::HISTORY_MAX).max(rows.start);
        let interaction = |at: usize| {
            let key = keys.get(train.item[at] as usize).cloned().unwrap_or_default();
            let kind = kinds.get(usize::from(train.kind[at])).cloned().unwrap_or_default();
            Interaction::new(key, kind, train.time_ms[at])
        };
        (from..rows.end).map(interaction).collect()
    }
}

/// The users to ask and what to look for, and what was left out.
fn cases<D: AsRef<[u8]>>(
    model: &Model<D>,
    held_out: &HeldOut,
    scenario: &Scenario,
    options: &EvaluateOptions,
) -> (Vec<Case>, Skipped) {
    let HeldOut { train, test, keys, .. } = held_out;
    let skipped = Cell::new(Skipped::default());
    let skip = |count: &dyn Fn(&mut Skipped) -> &mut u64, n: usize| {
        let mut now = skipped.get();
        *count(&mut now) += n as u64;
        skipped.set(now);
    };
    let ordinals: Vec<Option<u32>> = keys.iter().map(|key| model.index().ordinal(key)).collect();
    let available = available(model, scenario);
    let histories: Vec<(u32, Range<usize>)> = by_user(&train.user).collect();
    let mut cases = Vec::new();
    for (user, rows) in by_user(&test.user) {
        let Ok(at) = histories.binary_search_by_key(&user, |(user, _)| *user) else {
            skip(&|s| &mut s.without_history, rows.len());
            skip(&|s| &mut s.users_without_any, 1);
            continue;
        };
        let history = histories[at].1.clone();
        let seen: HashSet<u32> = train.item[history.clone()].iter().copied().collect();
        let mut relevant: Vec<u32> = Vec::new();
        for row in rows.clone() {
            let item = test.item[row];
            match ordinals.get(item as usize).copied().flatten() {
                _ if test.weight[row] <= 0.0 => skip(&|s| &mut s.not_liked, 1),
                None => skip(&|s| &mut s.unknown_items, 1),
                Some(_) if scenario.exclude_seen && seen.contains(&item) => skip(&|s| &mut s.seen_before, 1),
                Some(ordinal) if available.is_some_and(|set| !set.contains(ordinal)) => {
                    skip(&|s| &mut s.unavailable, 1)
                }
                Some(ordinal) if relevant.contains(&ordinal) => skip(&|s| &mut s.repeated, 1),
                Some(ordinal) => relevant.push(ordinal),
            }
        }
        if relevant.is_empty() {
            skip(&|s| &mut s.users_without_any, 1);
            continue;
        }
        relevant.sort_unstable();
        cases.push(Case { history, relevant, now_ms: test.time_ms[rows.start] });
    }
    if let Some(most) = options.users.filter(|most| *most < cases.len()) {
        skip(&|s| &mut s.users_not_sampled, cases.len() - most);
        cases.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
        cases.truncate(most);
        cases.sort_by_key(|case| case.history.start);
    }
    (cases, skipped.get())
}

/// The items that a list of this scenario may contain; none for all.
fn available<'a, D: AsRef<[u8]>>(model: &'a Model<D>, scenario: &Scenario) -> Option<&'a AllowSet> {
    if scenario.require_available { model.available() } else { None }
}

fn at_k(k: usize, cases: &[Case], answers: &[Answer], list: &dyn Fn(&Answer) -> &[u32], percentiles: &[f64]) -> AtK {
    let n = cases.len() as f64;
    let mean = |metric: fn(&[u32], &[u32], usize) -> f64| {
        let values = cases.iter().zip(answers).map(|(case, answer)| metric(list(answer), &case.relevant, k));
        values.sum::<f64>() / n
    };
    let mut times = vec![0_u64; percentiles.len()];
    let (mut sum, mut shown) = (0.0, 0_u64);
    for item in answers.iter().flat_map(|answer| list(answer).iter().take(k)) {
        if let Some((times, percentile)) = times.get_mut(*item as usize).zip(percentiles.get(*item as usize)) {
            *times += 1;
            sum += percentile;
            shown += 1;
        }
    }
    AtK {
        k,
        hit_rate: mean(metrics::hit_rate),
        recall: mean(metrics::recall),
        ndcg: mean(metrics::ndcg),
        mrr: mean(metrics::reciprocal_rank),
        map: mean(metrics::average_precision),
        coverage: metrics::coverage(&times),
        popularity_percentile: sum / (shown.max(1) as f64),
        gini: metrics::gini(&times),
    }
}

fn overlap(k: usize, answers: &[Answer]) -> Overlap {
    let share = |answer: &Answer| {
        let exact: Vec<u32> = answer.exact.iter().take(k).copied().collect();
        let found = exact.iter().filter(|item| answer.index.iter().take(k).any(|other| other == *item)).count();
        if exact.is_empty() { 1.0 } else { found as f64 / exact.len() as f64 }
    };
    Overlap { k, share: answers.iter().map(share).sum::<f64>() / answers.len().max(1) as f64 }
}

#[cfg(test)]
mod tests;

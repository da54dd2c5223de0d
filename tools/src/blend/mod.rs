//! What each source weighs in a score, learned.
//!
//! The users who were there last are held out whole and a model is trained on all others. Every next interaction of those users is asked for as
//! a request would ask, and the weights are fitted under which what they took next stands highest among what the sources proposed ([`fit`]).
//! The last users, because what is trending and what is new decide differently in the middle of a log than at its end, where serving begins;
//! the model that is published is trained on them too. Where times are only places in a list nobody knows who was last, and the last interaction of
//! some users is held out instead. Whether weights are better than those that are set is judged on lists that they were not fitted to: each half of
//! the lists is ranked by weights of the other half. Boosts that a scenario marks as learned, such as one for young items, count as one source more.
//! The test part of a dataset takes no part in it.

pub mod fit;

use std::collections::HashSet;

use anyhow::{Context as _, bail, ensure};
use kindred::limits;
use kindred::recommend::{Reasons, RecommendError, RecommendRequest, RecommendScratch, recommend};
use kindred::scenario::{Basis, LearnedWeights, Scenario, SourceWeights};
use kindred::snapshot::Snapshot;
use kindred::timestamp::LEAST_PLAUSIBLE_MS;
use kindred::trending::TrendingSettings;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::build::{self, BuildOptions};
use crate::dataset::Interactions;
use crate::evaluate::{Case, EvaluateOptions, HeldOut, Protocol, Question, Round};
use crate::model_dir::{Learned, Worth};
use crate::progress::Progress;
use crate::train::assemble::{self, Material, ModelOptions};
use crate::train::{Trainer, by_user, decay};
use fit::{Candidates, SOURCES};

/// The share of the users who are held out; fewer where theirs are more interactions than so many.
const HELD_OUT_USERS: f64 = 0.1;
const HELD_OUT_ROWS: usize = 60_000;
/// Lists that weights are learned on, at most, and the fewest that teach anything.
const LISTS_MAX: usize = 6_000;
const LISTS_MIN: usize = 100;
/// Candidates of a list.
const CANDIDATES: usize = 300;
/// Learned weights that gain less than this over those that were set are not worth a surprise.
const GAIN_MIN: f64 = 0.0005;

/// Learns what sources weigh in the lists of a scenario, made of the last `history_max` interactions of a user at most. Trains and builds a model of nine tenths of the users for it.
///
/// # Errors
/// As [`assemble::model`] and [`build::publish`]; a scenario that is not for visitors; too few lists to learn from.
pub fn learn(
    material: &Material,
    trainer: &dyn Trainer,
    options: &ModelOptions,
    scenario: &Scenario,
    trending: &TrendingSettings,
    history_max: usize,
    progress: &Progress,
) -> anyhow::Result<Learned> {
    if scenario.based_on != Basis::Visitor {
        bail!("weights are learned for lists of a visitor: name a scenario with based_on = \"visitor\"");
    }
    let (rest, held_out) = hold_out(material, trainer.seed());
    // There are no more lists than interactions, and no model without any: told before one is trained in vain.
    are_enough(if rest.interactions.is_empty() { 0 } else { held_out.test.len() })?;
    let held_out = HeldOut { history_max, ..held_out };
    let model = assemble::model(rest, trainer, options, progress).context("training without what is held out")?;
    let root = tempfile::tempdir().context("making a temporary directory")?;
    let whatever_its_recall = BuildOptions { recall_floor: 0.0, ..BuildOptions::default() };
    build::publish(&model.parts(), root.path(), &whatever_its_recall, progress)?;
    let snapshot = Snapshot::open_current(root.path())?;
    let proposing = proposing(scenario);
    let options = EvaluateOptions {
        ks: vec![CANDIDATES],
        exact_only: false,
        protocol: Protocol::NextEvent,
        users: None,
        only_new: false,
        seed: trainer.seed(),
        trending: Some(trending.clone()),
    };
    let (model, weighting) = (snapshot.model(), &snapshot.manifest().weighting);
    let round = Round { model, held_out: &held_out, scenario: &proposing, weighting, options: &options };
    let (mut cases, _) = round.cases()?;
    // Of what was taken at one moment, as a basket is, nothing is known when a list for it is made.
    let is_first = |case: &Case| {
        let before = match (case.prefix.is_empty(), case.history.is_empty()) {
            (false, _) => held_out.test.time_ms.get(case.prefix.end - 1),
            (true, false) => held_out.train.time_ms.get(case.history.end - 1),
            (true, true) => None,
        };
        before.is_some_and(|before| *before < case.now_ms)
    };
    if cases.iter().filter(|case| is_first(case)).count() >= LISTS_MIN {
        cases.retain(is_first);
    }
    are_enough(cases.len())?;
    // Cases stand in the order of the users, so every so manieth is a fair sample.
    let every = cases.len().div_ceil(LISTS_MAX);
    let mut at = 0;
    cases.retain(|_| {
        at += 1;
        at % every == 0
    });
    let step = |done, total| progress.step("asking for lists", done, total);
    let ask = |question: &Question<'_>, scratch: &mut RecommendScratch| candidates(&round, question, scratch);
    let asked = round.ask(&cases, &step, &ask)?;
    Ok(learned(&asked, &scenario.weights))
}

fn are_enough(lists: usize) -> anyhow::Result<()> {
    ensure!(
        lists >= LISTS_MIN,
        "{lists} lists to learn weights on, of items that the scenario may list, at least {LISTS_MIN} are needed: \
         train without --learn-weights"
    );
    Ok(())
}

/// A scenario that proposes by every source whose weight can be learned.
fn proposing(scenario: &Scenario) -> Scenario {
    let every =
        LearnedWeights { vector: 1.0, neighbours: 1.0, sessions: 1.0, popularity: 1.0, trending: 1.0, boosts: None };
    Scenario {
        weights: SourceWeights::none().with(&every),
        limit: CANDIDATES,
        candidates: CANDIDATES,
        exclude_seen: scenario.exclude_seen,
        exclude_kinds: scenario.exclude_kinds.clone(),
        exclude_within_hours: scenario.exclude_within_hours,
        hide_kinds: scenario.hide_kinds.clone(),
        interests: scenario.interests,
        require_available: scenario.require_available,
        filter: scenario.filter.clone(),
        boosts: scenario.boosts.iter().filter(|boost| boost.learned).cloned().collect(),
        ..Scenario::default()
    }
}

/// The material without the users who were there last, and what those did; where nobody knows who that was, without the last interaction of some.
fn hold_out(material: &Material, seed: u64) -> (Material, HeldOut) {
    let from = &material.interactions;
    // Where times are places in a list, the last users would be those of the longest lists.
    if from.time_ms.iter().max().is_some_and(|last_ms| *last_ms < LEAST_PLAUSIBLE_MS) {
        return hold_last_out(material, seed);
    }
    let last = |(user, rows): (u32, std::ops::Range<usize>)| (from.time_ms[rows.end - 1], user, rows.len());
    let mut users: Vec<(i64, u32, usize)> = by_user(&from.user).map(last).collect();
    users.sort_unstable_by(|a, b| b.cmp(a));
    users.truncate((users.len() as f64 * HELD_OUT_USERS).ceil() as usize);
    let (mut held, mut rows) = (HashSet::new(), 0);
    for (_, user, n) in users {
        if rows >= HELD_OUT_ROWS {
            break;
        }
        held.insert(user);
        rows += n;
    }
    divided(material, |at| held.contains(&from.user[at]))
}

/// The material without the last interaction of some users, drawn from those with two and more.
fn hold_last_out(material: &Material, seed: u64) -> (Material, HeldOut) {
    let mut last: Vec<usize> =
        by_user(&material.interactions.user).filter(|(_, rows)| rows.len() > 1).map(|(_, rows)| rows.end - 1).collect();
    last.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xb1e2d));
    last.truncate(LISTS_MAX);
    let held: HashSet<usize> = last.into_iter().collect();
    divided(material, |at| held.contains(&at))
}

fn divided(material: &Material, is_held: impl Fn(usize) -> bool) -> (Material, HeldOut) {
    let from = &material.interactions;
    let (mut train, mut test) = (Interactions::default(), Interactions::default());
    for (at, user) in from.user.iter().enumerate() {
        let part = if is_held(at) { &mut test } else { &mut train };
        part.push(*user, from.item[at], from.kind[at], from.weight[at], from.time_ms[at]);
    }
    let keys = material.items.iter().map(|item| item.id.clone()).collect();
    let rest = Material { interactions: train.clone(), ..material.clone() };
    (rest, HeldOut { train, test, kinds: material.kinds.clone(), keys, history_max: limits::HISTORY_MAX })
}

/// What the sources say about each candidate of a list.
fn candidates<D: AsRef<[u8]>>(
    round: &Round<'_, D>,
    question: &Question<'_>,
    scratch: &mut RecommendScratch,
) -> Result<Candidates, RecommendError> {
    let Question { case, history, signals } = question;
    let request = RecommendRequest {
        explain: true,
        signals: signals.as_ref(),
        ..RecommendRequest::new(history.as_slice(), case.now_ms)
    };
    let list = recommend(round.model, round.scenario, round.weighting, &request, scratch, &mut |_| ())?;
    let taken = list.items.iter().position(|item| case.relevant.contains(&item.ordinal));
    let parts = list.items.iter().filter_map(|item| item.reasons.as_deref()).map(parts).collect();
    Ok(Candidates { parts, taken })
}

/// The parts of a score whose weights can be learned, in the order of [`in_order`].
fn parts(reasons: &Reasons) -> [f32; SOURCES] {
    // Those that propose have no boosts but the learned ones.
    let boosts: f64 = reasons.boosts.iter().map(|(_, amount)| amount).sum();
    let mut parts = [0.0, 0.0, 0.0, reasons.popularity, reasons.trending, boosts];
    for because in &reasons.because {
        let own = [because.vector, because.neighbours, because.sessions];
        parts.iter_mut().zip(own).for_each(|(part, own)| *part += own);
    }
    parts.map(|part| part as f32)
}

fn in_order(weights: &LearnedWeights) -> [f64; SOURCES] {
    let LearnedWeights { vector, neighbours, sessions, popularity, trending, boosts } = *weights;
    [vector, neighbours, sessions, popularity, trending, boosts.unwrap_or(1.0)].map(f64::from)
}

fn learned(asked: &[Candidates], set: &SourceWeights) -> Learned {
    let SourceWeights { vector, neighbours, sessions, popularity, trending, .. } = *set;
    let set = LearnedWeights { vector, neighbours, sessions, popularity, trending, boosts: None };
    let boosted = asked.iter().flat_map(|list| &list.parts).any(|parts| parts[SOURCES - 1] != 0.0);
    let found = fit::weights(asked);
    let greatest = found.iter().take(SOURCES - 1).copied().fold(f64::MIN_POSITIVE, f64::max);
    let [vector, neighbours, sessions, popularity, trending, boosts] = found.map(|weight| (weight / greatest) as f32);
    let boosts = boosted.then_some(boosts);
    let weights = LearnedWeights { vector, neighbours, sessions, popularity, trending, boosts };
    let as_set = worth(&ranks(asked, &in_order(&set)));
    // Any weights suit the lists that they were fitted to.
    let (one, other) = asked.split_at(asked.len() / 2);
    let as_learned = worth(&[ranks(one, &fit::weights(other)), ranks(other, &fit::weights(one))].concat());
    let gains = as_learned.ndcg_at_10 > as_set.ndcg_at_10 + GAIN_MIN;
    let proposed = asked.iter().filter(|list| list.taken.is_some()).count() as f64 / asked.len() as f64;
    let weights = Some(weights).filter(|weights| gains && weights.are_valid());
    Learned { weights, n_lists: asked.len(), proposed, as_set, as_learned }
}

/// Where what was taken stands in each list; none where it is not among the candidates.
fn ranks(asked: &[Candidates], weights: &[f64; SOURCES]) -> Vec<Option<usize>> {
    asked.iter().map(|list| list.rank(weights)).collect()
}

fn worth(ranks: &[Option<usize>]) -> Worth {
    let n = ranks.len() as f64;
    let found = || ranks.iter().flatten().copied();
    let hits = found().filter(|rank| *rank < 10).count() as f64;
    Worth { hit_rate_at_10: hits / n, ndcg_at_10: found().map(decay::gain).sum::<f64>() / n }
}

#[cfg(test)]
mod tests;

//! Choosing what the settings leave open, on interactions held back from training.
//!
//! Of a share of the users the last interaction is held back and the rest trained on. Each recipe gets two epochs; the one whose
//! averaged parameters rank the held-back items best goes on for as long as an epoch still improves it, and the
//! whole run then does as many. The held-back item is ranked by the user vector that a request would make, among all
//! items but those seen. The test part of the dataset takes no part in it.

use kindred::interaction::Interaction;
use kindred::user_vector::Weighting;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::decay::{self, HeldBack, Ranks};
use super::super::kernels::vectorised;
use super::super::sparse::Fading;
use super::super::{TrainError, TrainProgress, TrainingData, append, by_user, kind_weights};
use super::examples::Examples;
use super::learner::Learner;
use super::parameters::Parameters;
use super::{Choice, Softmax};
use crate::dataset::Interactions;

/// Examples a trial learns from, about: it takes a share of the users of a larger training part.
const EXAMPLES: usize = 250_000;
/// Held-back interactions that are ranked, at most.
const CASES_MAX: usize = 4_000;
/// Fewer than these say too little to choose by.
const CASES_MIN: usize = 50;
/// Items the held-back one is ranked among, at most.
const RANKED_ITEMS_MAX: usize = 20_000;
/// Epochs every recipe gets.
const FIRST_EPOCHS: usize = 2;
/// Epochs the best one gets, at most.
const LAST_EPOCH: usize = 8;
/// Epochs in a row that may bring nothing before the best recipe is stopped.
const PATIENCE: usize = 1;
/// What is tried, the usual one first: dense data likes the first, sparse data the last.
const RECIPES: [Choice; 4] = [
    Choice { symmetric: false, temperature: 0.05, dropout: 0.1 },
    Choice { symmetric: false, temperature: 0.07, dropout: 0.25 },
    Choice { symmetric: true, temperature: 0.05, dropout: 0.1 },
    Choice { symmetric: true, temperature: 0.07, dropout: 0.25 },
];
/// Epochs where there is nothing to choose by.
const USUAL_EPOCHS: usize = 4;

/// How to train.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) choice: Choice,
    pub(super) epochs: usize,
    /// What was tried; none if there was nothing to choose, or nothing to choose by.
    pub(super) trials: Option<Trials>,
}

/// What was tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trials {
    /// Users whose last interaction was held back and ranked.
    users: usize,
    /// Examples that were learned from.
    examples: usize,
    tried: Vec<Tried>,
}

/// A recipe after some epochs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Tried {
    #[serde(flatten)]
    choice: Choice,
    epochs: usize,
    /// None if it diverged.
    ndcg_at_10: Option<f64>,
}

/// Decides what the settings leave open.
///
/// # Errors
/// The caller no longer wants the result, or every recipe diverged.
pub(super) fn plan(
    settings: &Softmax,
    data: &TrainingData<'_>,
    progress: &dyn TrainProgress,
) -> Result<Plan, TrainError> {
    let recipes = recipes(settings);
    let usual = recipes.first().copied().unwrap_or(RECIPES[0]);
    let usual = Plan { choice: usual, epochs: settings.epochs.unwrap_or(USUAL_EPOCHS), trials: None };
    if recipes.len() == 1 && settings.epochs.is_some() {
        return Ok(usual);
    }
    let fading = Fading { half_life_days: settings.half_life_days };
    let share = share(data, settings.seed);
    let some = TrainingData { interactions: &share, ..*data };
    let held_back = HeldBack::of(&some, settings.seed);
    let cases = Cases::of(&held_back, settings, data.n_items);
    let rest = TrainingData { interactions: &held_back.rest, ..*data };
    let examples = Examples::of(&rest, &kind_weights(&held_back.rest), settings.history, fading);
    if cases.cases.len() < CASES_MIN || examples.targets.is_empty() {
        return Ok(usual);
    }
    let mut tried = Vec::new();
    let most = recipes.len() * FIRST_EPOCHS + LAST_EPOCH - FIRST_EPOCHS;
    let mut epoch = |learner: &mut Learner<'_>, choice: Choice, epochs: usize| {
        let before = tried.len();
        let learned = learner.epoch(epochs, |done, of| {
            progress.step("trial runs", (before * of + done) as u64, (most * of) as u64);
            if progress.cancelled() { Err(TrainError::Cancelled) } else { Ok(()) }
        });
        let ndcg_at_10 = match learned {
            Ok(_) => Some(cases.gain(&learner.parameters.clone().averaged())),
            Err(TrainError::Diverged { .. }) => None,
            Err(error) => return Err(error),
        };
        tried.push(Tried { choice, epochs, ndcg_at_10 });
        Ok(ndcg_at_10)
    };
    let mut best: Option<(f64, usize, Choice, Learner<'_>)> = None;
    'recipes: for choice in recipes {
        let mut learner = Learner::new(settings, choice, &examples, data.n_items, None);
        let mut own = (f64::MIN, 1);
        for epochs in 1..=FIRST_EPOCHS {
            let Some(gain) = epoch(&mut learner, choice, epochs)? else { continue 'recipes };
            own = if gain > own.0 { (gain, epochs) } else { own };
        }
        if best.as_ref().is_none_or(|best| own.0 > best.0) {
            best = Some((own.0, own.1, choice, learner));
        }
    }
    let Some((mut gain, mut epochs, choice, mut learner)) = best else {
        return Err(TrainError::Diverged { iteration: tried.last().map_or(1, |last| last.epochs) });
    };
    if settings.epochs.is_none() {
        for next in FIRST_EPOCHS + 1..=LAST_EPOCH {
            if next > epochs + PATIENCE {
                break;
            }
            let Some(now) = epoch(&mut learner, choice, next)? else { break };
            (gain, epochs) = if now > gain { (now, next) } else { (gain, epochs) };
        }
    }
    let trials = Trials { users: cases.cases.len(), examples: examples.targets.len(), tried };
    Ok(Plan { choice, epochs: settings.epochs.unwrap_or(epochs), trials: Some(trials) })
}

/// The recipes with what the settings prescribe.
fn recipes(settings: &Softmax) -> Vec<Choice> {
    let mut recipes = Vec::new();
    for recipe in RECIPES {
        let recipe = Choice {
            symmetric: settings.symmetric.unwrap_or(recipe.symmetric),
            temperature: settings.temperature.unwrap_or(recipe.temperature),
            dropout: settings.dropout.unwrap_or(recipe.dropout),
        };
        if !recipes.contains(&recipe) {
            recipes.push(recipe);
        }
    }
    recipes
}

/// The interactions of some users, drawn at random, that make about [`EXAMPLES`] examples; all if there are no more.
fn share(data: &TrainingData<'_>, seed: u64) -> Interactions {
    let from = data.interactions;
    let mut users: Vec<(u32, usize)> = by_user(&from.user).map(|(user, rows)| (user, rows.len())).collect();
    users.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x7e1a));
    let mut left = EXAMPLES;
    let mut drawn = vec![false; data.n_users];
    for (user, rows) in users {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(rows.saturating_sub(1));
        if let Some(drawn) = drawn.get_mut(user as usize) {
            *drawn = true;
        }
    }
    let mut share = Interactions::default();
    for (_, rows) in by_user(&from.user).filter(|(user, _)| drawn.get(*user as usize) == Some(&true)) {
        append(&mut share, from, rows);
    }
    share
}

/// What is ranked: histories, the item held back from each, and what was seen.
struct Cases<'a> {
    cases: Vec<(Vec<Interaction>, u32, &'a [u32], i64)>,
    weighting: Weighting,
    among: Vec<u32>,
}

impl<'a> Cases<'a> {
    fn of(held_back: &'a HeldBack, settings: &Softmax, n_items: usize) -> Self {
        let kinds: Vec<String> = (0..=u8::MAX).map(|kind| kind.to_string()).collect();
        let cases = held_back.cases.iter().take(CASES_MAX).map(|case| {
            let recent = case.history.start.max(case.history.end.saturating_sub(settings.history))..case.history.end;
            let seen = held_back.rest.item.get(case.history.clone()).unwrap_or_default();
            (decay::history(&held_back.rest, recent, &kinds), case.item, seen, case.now_ms)
        });
        let weights = kind_weights(&held_back.rest);
        let weighting = Weighting {
            kinds: kinds.iter().cloned().zip(weights).collect(),
            max_interactions: settings.history,
            ..Weighting::default()
        };
        let among = decay::sample(n_items, RANKED_ITEMS_MAX, settings.seed);
        Self { cases: cases.collect(), weighting, among }
    }

    /// NDCG@10 of parameters.
    fn gain(&self, parameters: &Parameters) -> f64 {
        let weighting = Weighting { position_weights: Some(parameters.position_weights()), ..self.weighting.clone() };
        let gain = |(history, item, seen, now_ms): &(Vec<Interaction>, u32, &[u32], i64)| {
            let vectors = [decay::vector(history, &weighting, *now_ms, &parameters.contexts)];
            let (targets, among) = (&parameters.targets, self.among.as_slice());
            let ranks = vectorised(Ranks { vectors: &vectors, item: *item, seen, targets, among });
            ranks.map_or(0.0, |[rank]| decay::gain(rank))
        };
        let gains: Vec<f64> = self.cases.par_iter().map(gain).collect();
        gains.iter().sum::<f64>() / self.cases.len().max(1) as f64
    }
}

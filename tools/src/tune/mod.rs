//! Searching the settings of a trainer: what `kindred tune` does.
//!
//! | file | question |
//! |---|---|
//! | [`space`] | which settings are there, and what may they be? |
//! | [`tpe`] | where to look next? |
//! | [`journal`] | what was tried? |
//!
//! Each user's last training interaction is held back, and settings are judged by how well the user vector that a request would
//! make ranks it. The test part of the dataset takes no part in it. A trial is trained whole, so it costs what training costs.

pub mod journal;
pub mod space;
pub mod tpe;

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::svg::{Axis, Chart, Mark, Series};
use crate::train::assemble::{self, Material};
use crate::train::decay::{self, HeldBack};
use crate::train::{TrainError, TrainProgress, TrainingData};
use journal::{Journal, JournalError, Trial};
use space::Tuned;

/// Fewer held-back interactions than these cannot tell settings apart.
pub const CASES_MIN: usize = 50;

/// How the next settings are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// By the tree-structured Parzen estimator, after a few trials at random.
    Tpe,
    /// At random.
    Random,
}

/// What is searched, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct TuneOptions {
    /// The trainer.
    pub tuned: Tuned,
    /// Length of a row.
    pub factors: usize,
    /// How the next settings are found.
    pub method: Method,
    /// When to stop; a trial that is not done by then is given up.
    pub until: Option<Instant>,
    /// Trials, at most, with those that the journal has.
    pub trials: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// Why a search ended without a result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TuneError {
    /// Too few users have a history.
    #[error(
        "{found} users of the training part have three interactions or more, the last with an item new to them; \
         at least {CASES_MIN} are needed to tell settings apart"
    )]
    TooFew {
        /// The number found.
        found: usize,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The settings.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Whoever watches, until the time is over.
struct Timed<'a> {
    progress: &'a dyn TrainProgress,
    until: Option<Instant>,
    label: String,
}

impl TrainProgress for Timed<'_> {
    fn step(&self, _stage: &str, done: u64, total: u64) {
        self.progress.step(&self.label, done, total);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled() || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Tries settings until the time is over or the number of trials is reached; gives all trials, those of before among them.
///
/// The same seed and the same journal give the same next trial, so a resumed search tries what an uninterrupted one would have.
///
/// # Errors
/// Too little data to judge by, settings out of range, or a journal that cannot be written. A trial that fails is a result, and the search goes on.
pub fn tune(
    material: &Material,
    options: &TuneOptions,
    journal: &mut Journal,
    mut trials: Vec<Trial>,
    progress: &dyn TrainProgress,
) -> Result<Vec<Trial>, TuneError> {
    let data =
        TrainingData { interactions: &material.interactions, n_users: material.n_users, n_items: material.items.len() };
    data.check()?;
    let held_back = HeldBack::of(&data, options.seed);
    if held_back.cases.len() < CASES_MIN {
        return Err(TuneError::TooFew { found: held_back.cases.len() });
    }
    let rest = TrainingData { interactions: &held_back.rest, ..data };
    let weighting = assemble::weighting(&held_back.rest, &material.kinds, &material.kind_weights);
    let settings = options.tuned.settings();
    while trials.len() < options.trials {
        let label = format!("trial {}", trials.len() + 1);
        let timed = Timed { progress, until: options.until, label };
        if timed.cancelled() {
            break;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ (trials.len() as u64 + 1).wrapping_mul(0x9e37_79b9));
        let point = match options.method {
            Method::Random => tpe::random(settings, &mut rng),
            Method::Tpe => {
                let tried: Vec<_> = trials.iter().map(|trial| (trial.point.clone(), trial.ndcg_at_10)).collect();
                tpe::next(settings, &tried, &mut rng)
            }
        };
        let point: Vec<f64> = point.into_iter().map(six_digits).collect();
        let (trainer, settings) = options.tuned.at(&point, options.factors, options.seed)?;
        // Every place is in range; what was given beside it need not be, and would fail in all trials.
        trainer.check()?;
        let started = Instant::now();
        let outcome = trainer.train(&rest, &timed);
        let seconds = started.elapsed().as_secs_f64();
        let (worth, failure) = match outcome {
            Ok(factors) => (Some(decay::worth(&factors, &held_back, &material.kinds, &weighting, options.seed)), None),
            Err(TrainError::Cancelled) => break,
            Err(error) => (None, Some(error.to_string())),
        };
        let trial = Trial {
            point,
            settings,
            hit_rate_at_10: worth.as_ref().map_or(0.0, |worth| six_digits(worth.hit_rate_at_10)),
            ndcg_at_10: worth.as_ref().map_or(0.0, |worth| six_digits(worth.ndcg_at_10)),
            seconds,
            failure,
        };
        journal.add(&trial)?;
        trials.push(trial);
    }
    Ok(trials)
}

/// A number as the journal gives it back to the last bit, so that a search that was stopped goes on as it would have.
fn six_digits(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The trials as a picture: each one's NDCG@10, and the best so far.
pub fn picture(trainer: &str, trials: &[Trial]) -> String {
    let each = trials.iter().enumerate().filter(|(_, trial)| trial.failure.is_none());
    let each: Vec<(f64, f64)> = each.map(|(at, trial)| (at as f64 + 1.0, trial.ndcg_at_10)).collect();
    let mut best = f64::MIN;
    let so_far = each.iter().map(|(at, ndcg)| {
        best = best.max(*ndcg);
        (*at, best)
    });
    let so_far = so_far.collect();
    Chart {
        title: format!("kindred tune, trainer {trainer}: {} trials", trials.len()),
        x: Axis::linear("trial"),
        y: Axis::linear("NDCG@10 on held-back interactions"),
        series: vec![
            Series { name: "best so far".to_owned(), points: so_far, mark: Mark::Steps },
            Series { name: "trial".to_owned(), points: each, mark: Mark::Dots },
        ],
    }
    .svg()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use kindred::catalog::CatalogItem;

    use super::*;
    use crate::dataset::Interactions;

    fn material(n_users: u32) -> Material {
        let mut interactions = Interactions::default();
        for user in 0..n_users {
            for step in 0..4_u32 {
                interactions.push(user, user % 4 * 5 + (user / 4 + step) % 5, 0, 1.0, i64::from(step));
            }
        }
        Material {
            interactions,
            n_users: n_users as usize,
            items: (0..20).map(|i| CatalogItem::new(format!("item-{i}"))).collect(),
            kinds: vec!["view".to_owned()],
            kind_weights: Default::default(),
            fingerprint: None,
        }
    }

    fn options(trials: usize) -> TuneOptions {
        TuneOptions { tuned: Tuned::Als, factors: 4, method: Method::Tpe, until: None, trials, seed: 5 }
    }

    fn search() -> journal::Search {
        journal::Search {
            trainer: "als".to_owned(),
            settings: Tuned::Als.settings().iter().map(|setting| setting.name.to_owned()).collect(),
            factors: 4,
            dataset: "f00d".to_owned(),
            seed: 5,
        }
    }

    #[test]
    fn a_search_that_was_stopped_goes_on_as_if_it_had_not_been() {
        let root = tempfile::tempdir().unwrap();
        let run = |name: &str, steps: &[usize]| {
            let mut all = Vec::new();
            for most in steps {
                let (mut journal, before) = Journal::open(&root.path().join(name), &search()).unwrap();
                all = tune(&material(80), &options(*most), &mut journal, before, &()).unwrap();
            }
            all.into_iter().map(|trial| (trial.settings, trial.ndcg_at_10)).collect::<Vec<_>>()
        };
        let whole = run("whole", &[11]);
        assert_eq!(whole.len(), 11);
        assert!(whole.iter().any(|(_, ndcg)| *ndcg > 0.2), "groups of five items are easy: {whole:?}");
        assert_eq!(run("resumed", &[3, 9, 11]), whole);
    }

    #[test]
    fn no_time_and_too_few_users() {
        let root = tempfile::tempdir().unwrap();
        let (mut journal, before) = Journal::open(&root.path().join("j"), &search()).unwrap();
        let late = TuneOptions { until: Some(Instant::now()), ..options(5) };
        assert!(tune(&material(80), &late, &mut journal, before, &()).unwrap().is_empty());
        let wrong = TuneOptions { factors: 5_000, ..options(5) };
        let error = tune(&material(80), &wrong, &mut journal, Vec::new(), &()).unwrap_err();
        assert!(matches!(error, TuneError::Train(TrainError::Setting { setting: "factors", .. })), "{error}");
        let few = tune(&material(20), &options(5), &mut journal, Vec::new(), &());
        assert!(matches!(few, Err(TuneError::TooFew { found: 20 })), "{few:?}");
    }
}

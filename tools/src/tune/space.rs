//! What may be tuned: the settings of each trainer, each with the range that is worth searching.
//!
//! A point of the space is one number of 0 to 1 a setting, whatever the setting is; a search method knows nothing else.

use serde_json::{Value, json};

use crate::train::als::Als;
use crate::train::bpr::Bpr;
use crate::train::slist::Slist;
use crate::train::softmax::Softmax;
use crate::train::{TrainError, Trainer};

/// The values that a setting may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Domain {
    /// A number, evenly drawn.
    Real(f64, f64),
    /// A number above 0, its logarithm evenly drawn: for what is felt by factors.
    LogReal(f64, f64),
    /// A whole number, its logarithm evenly drawn.
    LogWhole(u32, u32),
    /// One of some words.
    Words(&'static [&'static str]),
    /// Yes or no.
    Flag,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Its name in `model.json`.
    pub name: &'static str,
    /// Its flag on the command line of `kindred train`.
    pub flag: &'static str,
    /// What it may be.
    pub domain: Domain,
}

/// Settings by name, as `model.json` keeps them.
pub type Settings = serde_json::Map<String, Value>;

/// A trainer whose settings can be tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tuned {
    /// Softmax over cosines.
    Softmax,
    /// Implicit-feedback alternating least squares.
    Als,
    /// Bayesian personalised ranking.
    Bpr,
    /// A linear model of sessions.
    Slist,
}

const SOFTMAX: [Setting; 9] = [
    Setting { name: "symmetric", flag: "--symmetry", domain: Domain::Flag },
    Setting { name: "temperature", flag: "--temperature", domain: Domain::LogReal(0.02, 0.2) },
    Setting { name: "dropout", flag: "--dropout", domain: Domain::Real(0.0, 0.5) },
    Setting { name: "epochs", flag: "--epochs", domain: Domain::LogWhole(1, 12) },
    Setting { name: "learning_rate", flag: "--learning-rate", domain: Domain::LogReal(5e-4, 1e-2) },
    Setting { name: "batch", flag: "--batch", domain: Domain::LogWhole(128, 2048) },
    Setting { name: "history", flag: "--history", domain: Domain::LogWhole(5, 100) },
    Setting { name: "shift_decay", flag: "--shift-decay", domain: Domain::LogReal(1e-3, 10.0) },
    Setting { name: "half_life_days", flag: "--train-half-life-days", domain: Domain::LogReal(0.5, 3_000.0) },
];

const ALS: [Setting; 5] = [
    Setting { name: "regularization", flag: "--regularization", domain: Domain::LogReal(0.05, 50.0) },
    Setting { name: "alpha", flag: "--alpha", domain: Domain::LogReal(0.5, 50.0) },
    Setting { name: "iterations", flag: "--iterations", domain: Domain::LogWhole(5, 40) },
    Setting { name: "half_life_days", flag: "--train-half-life-days", domain: Domain::LogReal(1.0, 3_000.0) },
    Setting { name: "context", flag: "--context-factors", domain: Domain::Words(&["unit_length", "same"]) },
];

const BPR: [Setting; 4] = [
    Setting { name: "epochs", flag: "--bpr-epochs", domain: Domain::LogWhole(5, 200) },
    Setting { name: "learning_rate", flag: "--bpr-learning-rate", domain: Domain::LogReal(0.005, 0.5) },
    Setting { name: "regularization", flag: "--bpr-regularization", domain: Domain::LogReal(1e-5, 0.1) },
    Setting { name: "half_life_days", flag: "--train-half-life-days", domain: Domain::LogReal(0.5, 3_000.0) },
];

const SLIST: [Setting; 4] = [
    Setting { name: "together", flag: "--together", domain: Domain::Real(0.0, 1.0) },
    Setting { name: "regularization", flag: "--slist-regularization", domain: Domain::LogReal(1.0, 1_000.0) },
    Setting { name: "reach", flag: "--reach", domain: Domain::LogReal(0.5, 20.0) },
    Setting { name: "half_life_days", flag: "--train-half-life-days", domain: Domain::LogReal(0.5, 3_000.0) },
];

impl Domain {
    /// How many values there are, where order means nothing between them.
    pub fn n_words(&self) -> Option<usize> {
        match self {
            Self::Words(words) => Some(words.len()),
            Self::Flag => Some(2),
            _ => None,
        }
    }

    /// The value at a place of 0 to 1.
    pub fn value(&self, place: f64) -> Value {
        let place = place.clamp(0.0, 1.0);
        let log = |least: f64, most: f64| (least.ln() + place * (most.ln() - least.ln())).exp();
        match *self {
            Self::Real(least, most) => json!(rounded(least + place * (most - least))),
            Self::LogReal(least, most) => json!(rounded(log(least, most))),
            Self::LogWhole(least, most) => json!((log(least.into(), most.into()).round() as u32).clamp(least, most)),
            Self::Words(words) => json!(words[word(place, words.len())]),
            Self::Flag => json!(word(place, 2) == 1),
        }
    }
}

/// The number of the word at a place.
pub(super) fn word(place: f64, n: usize) -> usize {
    ((place * n as f64) as usize).min(n.saturating_sub(1))
}

/// Four significant digits: what is printed is what was tried.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

impl Setting {
    /// How the value is said to `kindred train`.
    pub fn argument(&self, value: &Value) -> String {
        let value = match (self.name, value) {
            ("symmetric", Value::Bool(true)) => "symmetric".to_owned(),
            ("symmetric", _) => "asymmetric".to_owned(),
            ("context", Value::String(word)) if word == "unit_length" => "unit".to_owned(),
            (_, Value::String(word)) => word.clone(),
            (_, other) => other.to_string(),
        };
        format!("{} {value}", self.flag)
    }
}

impl Tuned {
    /// Its name, as `kindred train --trainer` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Als => "als",
            Self::Bpr => "bpr",
            Self::Slist => "slist",
        }
    }

    /// Its settings.
    pub fn settings(self) -> &'static [Setting] {
        match self {
            Self::Softmax => &SOFTMAX,
            Self::Als => &ALS,
            Self::Bpr => &BPR,
            Self::Slist => &SLIST,
        }
    }

    /// The trainer with the settings of a point, and the settings.
    ///
    /// # Errors
    /// The point is not one of this space.
    pub fn at(self, point: &[f64], factors: usize, seed: u64) -> Result<(Box<dyn Trainer>, Settings), TrainError> {
        let tried: Settings = self
            .settings()
            .iter()
            .zip(point)
            .map(|(setting, place)| (setting.name.to_owned(), setting.domain.value(*place)))
            .collect();
        let given = |mut usual: Value| {
            if let Some(usual) = usual.as_object_mut() {
                usual.extend(tried.clone());
                usual.insert("factors".to_owned(), json!(factors));
                usual.insert("seed".to_owned(), json!(seed));
            }
            usual
        };
        let wrong = |error: serde_json::Error| TrainError::Setting {
            setting: "point",
            found: error.to_string(),
            expected: "a place of 0 to 1 for each setting",
        };
        let trainer: Box<dyn Trainer> = match self {
            Self::Softmax => {
                Box::new(serde_json::from_value::<Softmax>(given(Softmax::default().parameters())).map_err(wrong)?)
            }
            Self::Als => Box::new(serde_json::from_value::<Als>(given(Als::default().parameters())).map_err(wrong)?),
            Self::Bpr => Box::new(serde_json::from_value::<Bpr>(given(Bpr::default().parameters())).map_err(wrong)?),
            Self::Slist => {
                Box::new(serde_json::from_value::<Slist>(given(Slist::default().parameters())).map_err(wrong)?)
            }
        };
        Ok((trainer, tried))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends_and_middle_of_each_domain() {
        assert_eq!(Domain::Real(0.0, 0.5).value(0.5), 0.25);
        assert_eq!(Domain::LogReal(0.01, 1.0).value(0.5), 0.1);
        assert_eq!(Domain::LogWhole(1, 16).value(1.0), 16);
        assert_eq!(Domain::LogWhole(1, 16).value(0.5), 4);
        assert_eq!(Domain::Words(&["a", "b", "c"]).value(1.0), "c");
        assert_eq!([0.0, 0.49, 0.5].map(|place| Domain::Flag.value(place)), [false, false, true].map(Value::from));
    }

    #[test]
    fn a_setting_is_said_as_the_command_line_takes_it() {
        assert_eq!(SOFTMAX[0].argument(&json!(true)), "--symmetry symmetric");
        assert_eq!(SOFTMAX[1].argument(&json!(0.05)), "--temperature 0.05");
        assert_eq!(ALS[4].argument(&json!("unit_length")), "--context-factors unit");
    }

    proptest! {
        #[test]
        fn every_point_is_a_trainer_that_trains(point in prop::collection::vec(0.0..=1.0_f64, 9)) {
            let mut interactions = crate::dataset::Interactions::default();
            for user in 0..12_u32 {
                for step in 0..4_u32 {
                    interactions.push(user, (user + step) % 6, 0, 1.0, i64::from(step));
                }
            }
            let data = crate::train::TrainingData { interactions: &interactions, n_users: 12, n_items: 6 };
            for tuned in [Tuned::Softmax, Tuned::Als, Tuned::Bpr, Tuned::Slist] {
                let (trainer, tried) = tuned.at(&point, 4, 3).unwrap();
                prop_assert_eq!(tried.len(), tuned.settings().len());
                let parameters = trainer.parameters();
                for (name, value) in &tried {
                    prop_assert_eq!(&parameters[name.as_str()], value);
                }
                prop_assert!(trainer.train(&data, &()).is_ok());
            }
        }
    }
}

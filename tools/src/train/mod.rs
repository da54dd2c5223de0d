//! From a dataset to a model: the trainers, one a file, and what every model has beside its factors.
//!
//! | file | makes |
//! |---|---|
//! | [`als`] | factors, by implicit-feedback alternating least squares |
//! | [`bpr`] | factors, by Bayesian personalised ranking |
//! | [`slist`] | factors, by a linear model of sessions |
//! | [`softmax`] | factors and weights by position, by softmax over cosines |
//! | [`neighbours`], [`following`], [`linear_neighbours`], [`factor_neighbours`] | the item-to-item table |
//! | [`neighbour_choice`] | the choice among those, on held-back interactions |
//! | [`ratings`] | predictions of explicit ratings: biases, SVD, item-kNN, user-kNN |
//! | [`sessions`] | the sessions that session-kNN looks among |
//! | [`decay`] | the decay by position of the user vector, chosen on held-back interactions |
//! | [`encoder`] | rows of words and attributes, for new items and text queries |
//! | [`cold`] | rows for items that no interaction said anything about |
//! | [`checkpoint`] | nothing: it keeps what a run has reached |
//! | [`assemble`] | a whole model from a dataset and a trainer |
//! | [`import`] | a whole model from factors trained elsewhere |
//!
//! A further trainer is a further file with a [`Trainer`] in it and a name in `cmd/train.rs`.

pub mod als;
pub mod assemble;
pub mod bpr;
mod cg;
pub mod checkpoint;
mod cholesky;
pub mod cold;
pub mod decay;
pub mod encoder;
mod equations;
pub mod factor_neighbours;
pub mod following;
mod gram;
pub mod import;
mod kernels;
pub mod linear_neighbours;
pub mod neighbour_choice;
pub mod neighbours;
pub mod ratings;
mod ridge;
pub mod sessions;
pub mod slist;
pub mod softmax;
pub(crate) mod sparse;

use std::fmt::Display;
use std::ops::Range;

use thiserror::Error;

use crate::dataset::Interactions;
use crate::matrix::Matrix;
use crate::model_dir::ModelMetric;

/// What a trainer learns from.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// Interactions, sorted by user and time.
    pub interactions: &'a Interactions,
    /// Users; the numbers in the user column are below this.
    pub n_users: usize,
    /// Items; the numbers in the item column are below this.
    pub n_items: usize,
}

/// What a trainer makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Target factors Q, n × d. A row of zeros is an item that the trainer learned nothing about.
    pub items: Matrix,
    /// Context factors P, n × d; none when they are the target factors.
    pub context: Option<Matrix>,
    /// How the rows are compared.
    pub metric: ModelMetric,
    /// Loss after each iteration.
    pub loss: Vec<f64>,
    /// Weights of the user vector by position, the most recent first, if they were learned with the factors.
    pub position_weights: Option<Vec<f32>>,
    /// The trainer's settings as it chose them itself; none if they are those it was given.
    pub parameters: Option<serde_json::Value>,
}

/// Something that makes factors.
pub trait Trainer: Sync {
    /// Its name on the command line and in `model.json`.
    fn name(&self) -> &'static str;

    /// Its settings, as `model.json` keeps them.
    fn parameters(&self) -> serde_json::Value;

    /// The seed of everything random in it.
    fn seed(&self) -> u64;

    /// Checks its settings.
    ///
    /// # Errors
    /// The first that is out of range.
    fn check(&self) -> Result<(), TrainError>;

    /// The same trainer at a share of its effort, for the trial run on which settings are chosen.
    fn shortened(&self) -> Box<dyn Trainer>;

    /// Learns factors. The same data and settings give the same factors, whatever the number of threads, unless the trainer's
    /// documentation says otherwise.
    ///
    /// # Errors
    /// Settings out of range, data that cannot be learned from, or a caller who no longer wants the result.
    fn train(&self, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Result<Factors, TrainError>;
}

/// Whoever watches a training run.
pub trait TrainProgress: Sync {
    /// Part `done` of `total` of a stage has been done.
    fn step(&self, stage: &str, done: u64, total: u64);

    /// Where runs keep what they have reached; none where they do not.
    fn checkpoints(&self) -> Option<&checkpoint::Checkpoints> {
        None
    }

    /// Whether to stop as soon as possible.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl TrainProgress for () {
    fn step(&self, _stage: &str, _done: u64, _total: u64) {}
}

/// Why a model could not be trained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is outside its range.
    #[error("{setting} is {found}, expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There is nothing to learn from.
    #[error(
        "the training part has no interaction of positive weight: check the kind weights given to `kindred prepare`"
    )]
    NoInteractions,
    /// Nobody did one thing after another.
    #[error(
        "no user of the training part has two interactions with different items, so there is no order to learn from: use another --trainer"
    )]
    NoSequences,
    /// A number in the data is out of range.
    #[error("interaction {at}: {column} {found} is out of range (there are {n}); prepare the dataset again")]
    OutOfRange {
        /// Row in the training part.
        at: usize,
        /// The column.
        column: &'static str,
        /// The number found.
        found: u32,
        /// What it must be below.
        n: usize,
    },
    /// A weight that is infinite or not a number.
    #[error("interaction {at}: weight {found} is not finite; prepare the dataset again")]
    Weight {
        /// Row in the training part.
        at: usize,
        /// The weight found.
        found: f32,
    },
    /// The factors grew beyond what single precision holds.
    #[error(
        "the factors are no longer finite after iteration {iteration}: use more regularization or, with als, less --alpha, \
         with softmax and bpr shorter steps (--learning-rate, --bpr-learning-rate)"
    )]
    Diverged {
        /// The iteration, counted from 1.
        iteration: usize,
    },
    /// The linear model of neighbours has no solution.
    #[error(
        "the linear model of what follows what cannot be solved in single precision: give --neighbours-by following"
    )]
    Unsolved,
    /// What a run has reached could not be kept, or not be read again.
    #[error("{path}: {what}; remove it, or leave out --checkpoint")]
    Checkpoint {
        /// The directory.
        path: std::path::PathBuf,
        /// What happened.
        what: String,
    },
    /// The caller no longer wants the result.
    #[error("cancelled")]
    Cancelled,
}

impl TrainingData<'_> {
    /// Checks every number once, so that no trainer has to.
    ///
    /// # Errors
    /// The first user, item or weight out of range, or data without any interaction of positive weight.
    pub fn check(&self) -> Result<(), TrainError> {
        let Interactions { user, item, weight, .. } = self.interactions;
        let below = |column, values: &[u32], n: usize| match values.iter().position(|value| *value as usize >= n) {
            Some(at) => Err(TrainError::OutOfRange { at, column, found: values[at], n }),
            None => Ok(()),
        };
        below("user", user, self.n_users)?;
        below("item", item, self.n_items)?;
        if let Some(at) = weight.iter().position(|weight| !weight.is_finite()) {
            return Err(TrainError::Weight { at, found: weight[at] });
        }
        if weight.iter().any(|weight| *weight > 0.0) { Ok(()) } else { Err(TrainError::NoInteractions) }
    }
}

/// Most factors that are trained: a row of the normal equations' matrix still fits a core's cache.
const FACTORS_MAX: usize = 1_024;

/// Refuses a setting that is out of its range.
pub(crate) fn check_setting(
    is_fine: bool,
    setting: &'static str,
    found: impl Display,
    expected: &'static str,
) -> Result<(), TrainError> {
    if is_fine { Ok(()) } else { Err(TrainError::Setting { setting, found: found.to_string(), expected }) }
}

/// Checks the settings that every trainer has.
pub(crate) fn check_common(factors: usize, half_life_days: Option<f64>) -> Result<(), TrainError> {
    check_setting((1..=FACTORS_MAX).contains(&factors), "factors", factors, "1 to 1024")?;
    let days = half_life_days.unwrap_or(1.0);
    check_setting(is_positive(days), "train-half-life-days", days, "a number of days above 0")
}

/// Whether a setting is a number above 0.
pub(crate) fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// What each kind weighs in a user vector: what it weighed, on average, in the training data. Kinds that are not there weigh 0.
pub(crate) fn kind_weights(interactions: &Interactions) -> Vec<f32> {
    let mut sums = vec![(0.0_f64, 0_u64); usize::from(u8::MAX) + 1];
    for (kind, weight) in interactions.kind.iter().zip(&interactions.weight) {
        if let Some((sum, n)) = sums.get_mut(usize::from(*kind)) {
            (*sum, *n) = (*sum + f64::from(*weight), *n + 1);
        }
    }
    sums.into_iter().map(|(sum, n)| if n == 0 { 0.0 } else { (sum / n as f64) as f32 }).collect()
}

/// Adds some rows of another table to one.
pub(crate) fn append(into: &mut Interactions, from: &Interactions, rows: Range<usize>) {
    into.user.extend_from_slice(&from.user[rows.clone()]);
    into.item.extend_from_slice(&from.item[rows.clone()]);
    into.kind.extend_from_slice(&from.kind[rows.clone()]);
    into.weight.extend_from_slice(&from.weight[rows.clone()]);
    into.time_ms.extend_from_slice(&from.time_ms[rows]);
}

/// The users of a table sorted by user, each with the rows of theirs.
pub(crate) fn by_user(users: &[u32]) -> impl Iterator<Item = (u32, Range<usize>)> {
    let mut from = 0;
    users.chunk_by(|a, b| a == b).map(move |rows| {
        let range = from..from + rows.len();
        from = range.end;
        (rows.first().copied().unwrap_or_default(), range)
    })
}

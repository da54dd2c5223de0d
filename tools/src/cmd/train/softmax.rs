//! The settings of the `softmax` trainer on the command line.

use clap::ValueEnum;

use crate::train::softmax::Softmax;

/// Whether an item says the same as context as it is recommended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Symmetry {
    /// Chosen on held-back interactions.
    Auto,
    /// The same: better for sparse data.
    Symmetric,
    /// With context factors of its own: better where order matters and data is plenty.
    Asymmetric,
}

#[derive(Debug, clap::Args)]
pub(super) struct SoftmaxArgs {
    /// What cosines are divided by; without it chosen on held-back interactions.
    #[arg(long, value_name = "X")]
    temperature: Option<f64>,
    /// Whether an item says the same as context as it is recommended by.
    #[arg(long, value_enum, default_value = "auto")]
    symmetry: Symmetry,
    /// Share of the dimensions that a step leaves out; without it chosen on held-back interactions.
    #[arg(long, value_name = "X")]
    dropout: Option<f64>,
    /// Passes over all interactions; without it chosen on held-back interactions.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Length of a step.
    #[arg(long, value_name = "X", default_value_t = Softmax::default().learning_rate)]
    learning_rate: f64,
    /// Examples per step.
    #[arg(long, value_name = "N", default_value_t = Softmax::default().batch)]
    batch: usize,
    /// Most recent interactions of a user that predict the next one.
    #[arg(long, value_name = "N", default_value_t = Softmax::default().history)]
    history: usize,
    /// How strongly context factors are drawn to the target factors.
    #[arg(long, value_name = "X", default_value_t = Softmax::default().shift_decay)]
    shift_decay: f64,
}

impl SoftmaxArgs {
    /// The trainer with these settings.
    pub(super) fn trainer(&self, factors: usize, half_life_days: Option<f64>, seed: u64) -> Softmax {
        Softmax {
            factors,
            temperature: self.temperature,
            symmetric: match self.symmetry {
                Symmetry::Auto => None,
                Symmetry::Symmetric => Some(true),
                Symmetry::Asymmetric => Some(false),
            },
            dropout: self.dropout,
            epochs: self.epochs,
            learning_rate: self.learning_rate,
            batch: self.batch,
            history: self.history,
            shift_decay: self.shift_decay,
            half_life_days,
            seed,
        }
    }
}

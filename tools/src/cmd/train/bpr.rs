//! Settings of the `bpr` trainer, as the command line takes them.

use crate::train::bpr::Bpr;

#[derive(Debug, clap::Args)]
pub(super) struct BprArgs {
    /// Passes over all interactions.
    #[arg(long, value_name = "N", default_value_t = Bpr::default().epochs)]
    bpr_epochs: usize,
    /// Length of the first steps.
    #[arg(long, value_name = "X", default_value_t = Bpr::default().learning_rate)]
    bpr_learning_rate: f64,
    /// How strongly rows are held small.
    #[arg(long, value_name = "X", default_value_t = Bpr::default().regularization)]
    bpr_regularization: f64,
}

impl BprArgs {
    pub(super) fn trainer(&self, factors: usize, half_life_days: Option<f64>, seed: u64) -> Bpr {
        let Self { bpr_epochs: epochs, bpr_learning_rate: learning_rate, bpr_regularization: regularization } = *self;
        Bpr { factors, epochs, learning_rate, regularization, half_life_days, seed }
    }
}

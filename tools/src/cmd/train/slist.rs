//! Settings of the `slist` trainer, as the command line takes them.

use crate::train::slist::Slist;

#[derive(Debug, clap::Args)]
pub(super) struct SlistArgs {
    /// How much counts what goes together in a session, against what follows what: 0 to 1.
    #[arg(long, value_name = "X", default_value_t = Slist::default().together)]
    together: f64,
    /// What holds the item-to-item matrix small.
    #[arg(long, value_name = "X", default_value_t = Slist::default().regularization)]
    slist_regularization: f64,
    /// Interactions after which what follows counts 1/e.
    #[arg(long, value_name = "N", default_value_t = Slist::default().reach)]
    reach: f64,
    /// Times that the matrix is applied to make the directions exact.
    #[arg(long, value_name = "N", default_value_t = Slist::default().passes)]
    passes: usize,
}

impl SlistArgs {
    pub(super) fn trainer(&self, factors: usize, half_life_days: Option<f64>, seed: u64) -> Slist {
        let Self { together, slist_regularization: regularization, reach, passes } = *self;
        Slist { factors, together, regularization, reach, half_life_days, passes, seed }
    }
}

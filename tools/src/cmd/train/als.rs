//! Settings of the `als` trainer, as the command line takes them.

use clap::ValueEnum;

use crate::train::als::{Als, Context, Solver};

/// How rows are solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SolverName {
    /// A few steps of conjugate gradients: the faster one.
    Cg,
    /// Exactly.
    Cholesky,
}

/// How context factors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ContextName {
    /// The direction of an item's factors: every item of a history counts alike.
    Unit,
    /// The item's factors as they are.
    Same,
}

#[derive(Debug, clap::Args)]
pub(super) struct AlsArgs {
    /// How strongly factors are held small.
    #[arg(long, value_name = "X", default_value_t = Als::default().regularization)]
    regularization: f64,
    /// How much surer one interaction of weight 1 makes us that an item is liked.
    #[arg(long, value_name = "X", default_value_t = Als::default().alpha)]
    alpha: f64,
    /// Passes over all users and items, at most.
    #[arg(long, value_name = "N", default_value_t = Als::default().iterations)]
    iterations: usize,
    /// Stop when a pass lowers the loss by less than this share; 0 never stops early.
    #[arg(long, value_name = "X", default_value_t = Als::default().tolerance)]
    tolerance: f64,
    /// How each user and item is solved for.
    #[arg(long, value_enum, default_value = "cg")]
    solver: SolverName,
    /// Steps of conjugate gradients per row and pass.
    #[arg(long, value_name = "N", default_value_t = Als::default().cg_steps)]
    cg_steps: usize,
    /// What an item says about the visitor who touched it.
    #[arg(long, value_enum, default_value = "unit")]
    context_factors: ContextName,
}

impl AlsArgs {
    pub(super) fn trainer(&self, factors: usize, half_life_days: Option<f64>, seed: u64) -> Als {
        Als {
            factors,
            regularization: self.regularization,
            alpha: self.alpha,
            iterations: self.iterations,
            tolerance: self.tolerance,
            solver: match self.solver {
                SolverName::Cg => Solver::ConjugateGradient,
                SolverName::Cholesky => Solver::Cholesky,
            },
            cg_steps: self.cg_steps,
            half_life_days,
            context: match self.context_factors {
                ContextName::Unit => Context::UnitLength,
                ContextName::Same => Context::Same,
            },
            seed,
        }
    }
}

//! Implicit-feedback alternating least squares (Hu, Koren, Volinsky 2008: Collaborative Filtering for Implicit Feedback Datasets).
//!
//! Minimises `Σ_ui c_ui (p_ui − x_u·y_i)² + λ (Σ‖x_u‖² + Σ‖y_i‖²)` over **all** pairs of user and item, with preference
//! `p = 1` and confidence `c = 1 + α·w` where the weights of a pair's interactions sum to `w > 0`; `p = 0, c = 1 + α·|w|` where
//! they sum to less (a dislike is a confident zero); and `p = 0, c = 1` everywhere else. With the other side fixed, each row has its
//! own least-squares problem with the matrix `YᵀY + λI + Σ (c−1) y yᵀ`, whose first part is common to all rows.
//!
//! Every row is solved on its own, so the result is the same to the bit for any number of threads.
//! Memory: the interactions twice (8 bytes a pair each) and the two tables of factors. An iteration costs
//! `(n_users + n_items) · d² + 4 · n_pairs · d` multiplications per step of conjugate gradients.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Reached};
use super::equations::Equations;
use super::gram::Gram;
use super::kernels::{Kernel, Simd, dot, vectorised};
use super::sparse::{Fading, SparseRows};
use super::{
    Factors, TrainError, TrainProgress, Trainer, TrainingData, cg, check_common, check_setting, cholesky, is_positive,
};
use crate::matrix::Matrix;
use crate::model_dir::ModelMetric;

/// Most iterations.
const ITERATIONS_MAX: usize = 1_000;

/// Settings of the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Als {
    /// Length of a row.
    pub factors: usize,
    /// λ: how strongly factors are held small. The same for every row, however many interactions it has.
    pub regularization: f64,
    /// α: how much surer one interaction of weight 1 makes us.
    pub alpha: f64,
    /// Passes over users and items, at most.
    pub iterations: usize,
    /// Training ends when an iteration lowers the loss by less than this share of it; 0 never ends early.
    pub tolerance: f64,
    /// How rows are solved.
    pub solver: Solver,
    /// Steps of conjugate gradients a row and pass.
    pub cg_steps: usize,
    /// Days after which the weight of an interaction has halved; none if age does not matter.
    pub half_life_days: Option<f64>,
    /// How context factors are made of the item factors.
    pub context: Context,
    /// Seed of the first item factors.
    pub seed: u64,
}

/// How a row's normal equations are solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// A few steps of conjugate gradients from the last solution: the faster one, at the same quality.
    ConjugateGradient,
    /// Exactly, by Cholesky factorisation.
    Cholesky,
}

/// What an item says about the visitor who touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// The direction of its factors: all items of a history count alike, popular or not.
    UnitLength,
    /// Its factors as they are: symmetric, and the table is stored once.
    Same,
}

impl Default for Als {
    /// What does well on films and small catalogues alike. On MovieLens-1M with the last training interaction of each user
    /// held back, 128 factors and a position decay of 3, HR@10 / NDCG@10 are .231/.125, .232/.125, .232/.125, .234/.126 for
    /// regularization 0.5, 1, 2, 4; .235/.127, .232/.125, .228/.123 for alpha 2, 5, 10; .231/.125, .232/.125, .232/.125, .236/.126
    /// for 10, 15, 20, 30 iterations; and .224/.120 for 64 factors. On MovieLens-latest-small regularization above 1 loses
    /// (.125/.067 at 1, .118/.064 at 2): hence the middle of the plateau.
    fn default() -> Self {
        Self {
            factors: 128,
            regularization: 1.0,
            alpha: 5.0,
            iterations: 20,
            tolerance: 1e-4,
            solver: Solver::ConjugateGradient,
            cg_steps: 3,
            half_life_days: None,
            context: Context::UnitLength,
            seed: 1,
        }
    }
}

impl Trainer for Als {
    fn name(&self) -> &'static str {
        "als"
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn check(&self) -> Result<(), TrainError> {
        let Self { regularization, alpha, iterations, tolerance, cg_steps, .. } = *self;
        check_common(self.factors, self.half_life_days)?;
        check_setting(is_positive(regularization), "regularization", regularization, "a number above 0")?;
        check_setting(is_positive(alpha), "alpha", alpha, "a number above 0")?;
        check_setting((1..=ITERATIONS_MAX).contains(&iterations), "iterations", iterations, "1 to 1000")?;
        check_setting((0.0..1.0).contains(&tolerance), "tolerance", tolerance, "0 or above, below 1")?;
        check_setting((1..=100).contains(&cg_steps), "cg-steps", cg_steps, "1 to 100")
    }

    fn shortened(&self) -> Box<dyn Trainer> {
        Box::new(Self { iterations: self.iterations.div_ceil(2).max(self.iterations.min(5)), ..self.clone() })
    }

    fn train(&self, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Result<Factors, TrainError> {
        self.check()?;
        data.check()?;
        let pairs = SparseRows::users_by_items(data, Fading { half_life_days: self.half_life_days });
        let checkpoint = Checkpoint::of(self, data, progress);
        let (_, items, loss) = self.fit(pairs, data.n_items, &checkpoint, progress)?;
        let context = match self.context {
            Context::UnitLength => Some(items.to_unit_length()),
            Context::Same => None,
        };
        let metric = ModelMetric::InnerProduct;
        Ok(Factors { items, context, metric, loss, position_weights: None, parameters: None })
    }
}

impl Als {
    /// User factors, item factors and the loss after each iteration.
    fn fit(
        &self,
        pairs: SparseRows,
        n_items: usize,
        checkpoint: &Checkpoint,
        progress: &dyn TrainProgress,
    ) -> Result<(Matrix, Matrix, Vec<f64>), TrainError> {
        let alpha = self.alpha as f32;
        let by_user = pairs.mapped(|weight| alpha * weight);
        let by_item = by_user.transposed(n_items);
        let mut users = Matrix::zeros(by_user.rows(), self.factors);
        let mut items = initial(n_items, self.factors, self.seed);
        // Zero is the solution of a row that nobody likes. Conjugate gradients stay there, and would else leave some rounding of the start, which
        // points anywhere.
        let is_liked = |item: &usize| by_item.row(*item).1.iter().any(|value| *value > 0.0);
        (0..n_items).filter(|item| !is_liked(item)).for_each(|item| items.row_mut(item).fill(0.0));
        let mut losses: Vec<f64> = Vec::new();
        if let Some(mut reached) = checkpoint.learned(&[(users.rows, users.cols), (items.rows, items.cols)])? {
            losses = reached.losses;
            items = reached.tables.swap_remove(1);
            users = reached.tables.swap_remove(0);
        }
        let mut gram_of_items = Gram::of(&items);
        for iteration in losses.len() + 1..=self.iterations {
            if self.has_settled(&losses) {
                break;
            }
            self.pass(&by_user, &items, &gram_of_items, &mut users, progress)?;
            let gram_of_users = Gram::of(&users);
            self.pass(&by_item, &users, &gram_of_users, &mut items, progress)?;
            gram_of_items = Gram::of(&items);
            let loss = loss(&by_user, &users, &items, &gram_of_users, &gram_of_items, self.regularization);
            if !loss.is_finite() {
                return Err(TrainError::Diverged { iteration });
            }
            progress.step("als", iteration as u64, self.iterations as u64);
            losses.push(loss);
            checkpoint.keep(|| Reached {
                iterations: iteration,
                losses: losses.clone(),
                tables: vec![users.clone(), items.clone()],
                ..Reached::default()
            })?;
        }
        Ok((users, items, losses))
    }

    /// Whether the last iteration brought so little that there is no need for another. Conjugate gradients begin far from the solution, so
    /// the first ones say nothing about the end.
    fn has_settled(&self, losses: &[f64]) -> bool {
        let [.., before, loss] = losses else { return false };
        self.tolerance > 0.0 && losses.len() >= 3 && (before - loss) < self.tolerance * before.abs()
    }

    /// Solves every row of one side with the other side fixed.
    fn pass(
        &self,
        pairs: &SparseRows,
        fixed: &Matrix,
        gram: &Gram,
        solved: &mut Matrix,
        progress: &dyn TrainProgress,
    ) -> Result<(), TrainError> {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        let d = self.factors;
        let gram = gram.regularized(self.regularization);
        let scratch = || (cg::Scratch::new(d), self.matrix());
        let rows = solved.data.par_chunks_exact_mut(d).enumerate().with_min_len(4);
        rows.for_each_init(scratch, |(cg, matrix), (at, x)| {
            let (columns, values) = pairs.row(at);
            if columns.is_empty() {
                return x.fill(0.0);
            }
            let equations = Equations { gram: &gram, fixed: &fixed.data, columns, values, d };
            match self.solver {
                Solver::ConjugateGradient => cg::improve(&equations, self.cg_steps, cg, x),
                Solver::Cholesky => {
                    if !cholesky::solve(&equations, matrix, x) {
                        // Too badly conditioned for single precision: conjugate gradients still find a good answer.
                        x.fill(0.0);
                        cg::improve(&equations, d, cg, x);
                    }
                }
            }
        });
        Ok(())
    }

    /// The buffer a Cholesky solve needs, if that is what is wanted.
    fn matrix(&self) -> Vec<f32> {
        match self.solver {
            Solver::ConjugateGradient => Vec::new(),
            Solver::Cholesky => vec![0.0; self.factors * self.factors],
        }
    }
}

/// The first item factors: independent and uniform, of mean zero and a norm of about 0.3.
fn initial(n_items: usize, d: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scale = 1.0 / (d as f32).sqrt();
    let data = (0..n_items * d).map(|_| (rng.random::<f32>() - 0.5) * scale).collect();
    Matrix { rows: n_items, cols: d, data }
}

/// The loss over all pairs, divided by the sum of all confidences. Pairs that were not observed are counted by their Gram
/// matrices, so that the cost is one dot product an observed pair.
fn loss(
    by_user: &SparseRows,
    users: &Matrix,
    items: &Matrix,
    gram_of_users: &Gram,
    gram_of_items: &Gram,
    regularization: f64,
) -> f64 {
    let of_user = |user: usize| -> f64 {
        let (columns, values) = by_user.row(user);
        vectorised(ObservedLoss { x: users.row(user), items: &items.data, columns, values })
    };
    // Summed in order of users, so that the last digit does not depend on the threads.
    let observed: Vec<f64> = (0..by_user.rows()).into_par_iter().with_min_len(16).map(of_user).collect();
    let everywhere = gram_of_users.sum_of_squared_products(gram_of_items);
    let size = gram_of_users.sum_of_squares() + gram_of_items.sum_of_squares();
    let confidence: f64 = by_user.values().iter().map(|value| f64::from(value.abs())).sum();
    let cells = by_user.rows() as f64 * items.rows as f64;
    (observed.iter().sum::<f64>() + everywhere + regularization * size) / (cells + confidence)
}

/// What the observed pairs of one user add to the loss over what they would as unobserved ones.
struct ObservedLoss<'a> {
    x: &'a [f32],
    items: &'a [f32],
    columns: &'a [u32],
    values: &'a [f32],
}

impl Kernel for ObservedLoss<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let d = self.x.len();
        let mut sum = 0.0_f64;
        for (column, value) in self.columns.iter().zip(self.values) {
            let from = *column as usize * d;
            let score = f64::from(dot(simd, self.x, &self.items[from..from + d]));
            let preference = if *value > 0.0 { 1.0 } else { 0.0 };
            let confidence = 1.0 + f64::from(value.abs());
            sum += confidence * (preference - score) * (preference - score) - score * score;
        }
        sum
    }
}

#[cfg(test)]
mod tests;

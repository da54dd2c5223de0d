//! A linear model of sessions, squeezed into factors: which items follow which, and which go together (SLIST: Choi et al., WWW 2021).
//!
//! Its item-to-item matrix is `B = G⁻¹·A` with `G = α·XᵀX + (1 − α)·SᵀS + λ·1` and `A = α·XᵀX + (1 − α)·SᵀT`. X has a row a session, with the items
//! of it; S and T have a row for each place where a session can be cut in two, with the items before the cut and behind it, those near it more. B is as
//! large as the square of the catalogue, so neither it nor G⁻¹ is ever made: its greatest singular vectors are found by applying it and its
//! transpose to a block of vectors (Halko, Martinsson, Tropp 2011), each time by solving `G·Y = A·Ω` with conjugate gradients
//! (`ridge`). What an item says of its visitor is its row of `U·√Σ`, what is recommended its row of `V·√Σ`.
//!
//! The same data and settings give the same factors to the bit, for any number of threads. Memory: the entries of X, S and T
//! (8 bytes each, at most 42 an interaction; up to twice as much while they are made), and up to thirty tables of n × d floats.

use faer::{Mat, MatRef, Side};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Reached};
use super::ridge::{Ridge, both_ways};
use super::sparse::SparseRows;
use super::{
    Factors, TrainError, TrainProgress, Trainer, TrainingData, by_user, check_common, check_setting, is_positive,
};
use crate::matrix::Matrix;
use crate::model_dir::ModelMetric;

/// Directions beyond those wanted, which make those wanted exact.
const MORE: usize = 16;
/// Interactions before and behind a cut that take part.
const WINDOW: usize = 20;
/// What weighs less than this at a cut is left out.
const WEIGHT_MIN: f32 = 0.01;

/// Settings of the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slist {
    /// Length of a row.
    pub factors: usize,
    /// How much counts what goes together, against what follows: 0 to 1.
    pub together: f64,
    /// What holds the matrix small.
    pub regularization: f64,
    /// Interactions from a cut after which one counts 1/e.
    pub reach: f64,
    /// Days after which a session counts half; none if age does not matter.
    pub half_life_days: Option<f64>,
    /// Times that the matrix and its transpose are applied to make the directions exact.
    pub passes: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Slist {
    fn default() -> Self {
        Self { factors: 128, together: 0.2, regularization: 10.0, reach: 5.0, half_life_days: None, passes: 2, seed: 1 }
    }
}

impl Trainer for Slist {
    fn name(&self) -> &'static str {
        "slist"
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn check(&self) -> Result<(), TrainError> {
        let Self { together, regularization, reach, passes, .. } = *self;
        check_common(self.factors, self.half_life_days)?;
        check_setting((0.0..=1.0).contains(&together), "together", together, "a share, 0 to 1")?;
        check_setting(is_positive(regularization), "regularization", regularization, "a number above 0")?;
        check_setting(is_positive(reach), "reach", reach, "a number of interactions above 0")?;
        check_setting(passes <= 20, "passes", passes, "0 to 20")
    }

    fn shortened(&self) -> Box<dyn Trainer> {
        Box::new(Self { passes: self.passes.min(1), ..self.clone() })
    }

    fn train(&self, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Result<Factors, TrainError> {
        self.check()?;
        data.check()?;
        let (d, n) = (self.factors, data.n_items);
        let model = Model::of(self, data)?;
        let width = (d + MORE).min(n);
        let ridge = Ridge::new(&model.all, n, self.regularization as f32, width);
        let (passes, mut done) = (self.passes as u64, 0);
        let mut step = || {
            progress.step("directions", done, 2 * passes + 2);
            done += 1;
            if progress.cancelled() { Err(TrainError::Cancelled) } else { Ok(()) }
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x5115);
        let checkpoint = Checkpoint::of(self, data, progress);
        let (mut left, first) = match checkpoint.learned(&[(n, width)])? {
            Some(mut reached) => (reached.tables.swap_remove(0).data, reached.iterations - 1),
            None => {
                let random: Vec<f32> = (0..n * width).map(|_| rng.random::<f32>() - 0.5).collect();
                step()?;
                (orthonormal(&ridge.solve_for(model.follows(&random, width)), width), 0)
            }
        };
        let reached = |pass: usize, left: &[f32]| {
            let tables = vec![Matrix { rows: n, cols: width, data: left.to_vec() }];
            Reached { iterations: pass + 1, tables, ..Reached::default() }
        };
        for pass in first..self.passes {
            checkpoint.keep(|| reached(pass, &left))?;
            step()?;
            let right = orthonormal(&model.precedes(&ridge.solve_for(left), width), width);
            step()?;
            left = orthonormal(&ridge.solve_for(model.follows(&right, width)), width);
        }
        checkpoint.keep(|| reached(self.passes, &left))?;
        step()?;
        let projected = model.precedes(&ridge.solve_for(left.clone()), width);
        let (context, items) = factors(&left, &projected, width, d);
        if items.first_fault().is_some_and(|(_, fault)| fault != crate::matrix::RowFault::Zero) {
            return Err(TrainError::Diverged { iteration: 1 });
        }
        Ok(Factors {
            items,
            context: Some(context),
            metric: ModelMetric::InnerProduct,
            loss: Vec::new(),
            position_weights: None,
            parameters: None,
        })
    }
}

/// The rows of `√α·X` and `√(1 − α)·S`, session by session, and beside them those of `√α·X` and `√(1 − α)·T`.
pub(super) struct Model {
    /// X and S: the product of its transpose with it is `G − λ·1`.
    pub(super) all: SparseRows,
    /// X and T: `A = allᵀ · behind`.
    pub(super) behind: SparseRows,
    n_items: usize,
}

impl Model {
    pub(super) fn of(settings: &Slist, data: &TrainingData<'_>) -> Result<Self, TrainError> {
        let from = data.interactions;
        let newest_ms = from.time_ms.iter().copied().max().unwrap_or_default();
        let (together, follows) = (settings.together.sqrt() as f32, (1.0 - settings.together).sqrt() as f32);
        let decay: Vec<f32> = (0..WINDOW).map(|at| (-(at as f64) / settings.reach).exp() as f32).collect();
        let (mut all, mut behind, mut n_cuts) = (SparseRows::new(), SparseRows::new(), 0_usize);
        for (_, rows) in by_user(&from.user) {
            let liked: Vec<usize> = rows.filter(|row| from.weight[*row] > 0.0).collect();
            let Some(last) = liked.last() else { continue };
            let days = newest_ms.saturating_sub(from.time_ms[*last]) as f64 / 86_400_000.0;
            let young = settings.half_life_days.map_or(1.0, |half| (-days / half).exp2()).sqrt() as f32;
            let items: Vec<u32> = liked.iter().map(|row| from.item[*row]).collect();
            let entry = |(item, weight): (&u32, f32)| (*item, young * weight);
            if together > 0.0 {
                let whole = merged(items.iter().map(|item| entry((item, together))));
                all.push(whole.iter().copied());
                behind.push(whole);
            }
            for cut in 1..items.len() {
                let near = |at: &f32| *at > WEIGHT_MIN;
                let weights = || decay.iter().copied().filter(near).map(|weight| follows * weight);
                all.push(merged(items[..cut].iter().rev().zip(weights()).map(entry)));
                behind.push(merged(items[cut..].iter().zip(weights()).map(entry)));
                n_cuts += 1;
            }
        }
        if n_cuts == 0 {
            return Err(TrainError::NoSequences);
        }
        Ok(Self { all, behind, n_items: data.n_items })
    }

    /// `A·vectors`.
    fn follows(&self, vectors: &[f32], width: usize) -> Vec<f32> {
        both_ways(&self.behind, &self.all, vectors, self.n_items, width)
    }

    /// `Aᵀ·vectors`.
    fn precedes(&self, vectors: &[f32], width: usize) -> Vec<f32> {
        both_ways(&self.all, &self.behind, vectors, self.n_items, width)
    }
}

/// Entries by item; of one that is there several times the greatest counts.
fn merged(entries: impl Iterator<Item = (u32, f32)>) -> Vec<(u32, f32)> {
    let mut entries: Vec<(u32, f32)> = entries.collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    entries.dedup_by_key(|(item, _)| *item);
    entries
}

/// Columns of length 1 at right angles to each other, that span what these do.
fn orthonormal(vectors: &[f32], width: usize) -> Vec<f32> {
    let matrix = MatRef::from_row_major_slice(vectors, vectors.len() / width, width);
    row_major(&matrix.qr().compute_thin_Q())
}

fn row_major(matrix: &Mat<f32>) -> Vec<f32> {
    let mut out = Vec::with_capacity(matrix.nrows() * matrix.ncols());
    for row in 0..matrix.nrows() {
        out.extend((0..matrix.ncols()).map(|column| matrix[(row, column)]));
    }
    out
}

/// From `Q` and `Bᵀ·Q` the factors `U·√Σ` and `V·√Σ`, the greatest `d` of them. Directions that there are not are left at 0.
fn factors(left: &[f32], projected: &[f32], width: usize, d: usize) -> (Matrix, Matrix) {
    let n = left.len() / width;
    let projected = MatRef::from_row_major_slice(projected, n, width);
    let gram = Mat::<f64>::from_fn(width, width, |i, j| {
        (0..n).map(|row| f64::from(projected[(row, i)]) * f64::from(projected[(row, j)])).sum()
    });
    let (mut context, mut items) = (Matrix::zeros(n, d), Matrix::zeros(n, d));
    let Ok(eigen) = gram.self_adjoint_eigen(Side::Lower) else { return (context, items) };
    let (values, vectors) = (eigen.S(), eigen.U());
    for direction in 0..d.min(width) {
        // Eigenvalues ascend.
        let at = width - 1 - direction;
        let value = values[at];
        if value <= values[width - 1] * 1e-10 {
            break;
        }
        let singular = value.sqrt();
        for row in 0..n {
            let along =
                |table: &dyn Fn(usize) -> f32| (0..width).map(|i| f64::from(table(i)) * vectors[(i, at)]).sum::<f64>();
            context.row_mut(row)[direction] = (along(&|i| left[row * width + i]) * singular.sqrt()) as f32;
            items.row_mut(row)[direction] = (along(&|i| projected[(row, i)]) / singular.sqrt()) as f32;
        }
    }
    (context, items)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use faer::linalg::solvers::Solve;

    use super::*;
    use crate::dataset::Interactions;

    fn sessions(seed: u64, n: u32, items: u32) -> Interactions {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut out = Interactions::default();
        for user in 0..n {
            let mut item = rng.random_range(0..items);
            for step in 0..rng.random_range(1..9) {
                out.push(user, item, 0, if step == 3 { -1.0 } else { 1.0 }, i64::from(user) * 3_600_000 + step);
                item = if rng.random::<f32>() < 0.7 { (item + 1) % items } else { rng.random_range(0..items) };
            }
        }
        out
    }

    /// B by its definition: dense tables, and the inverse by faer.
    fn dense(settings: &Slist, data: &TrainingData<'_>) -> Mat<f64> {
        let n = data.n_items;
        let from = data.interactions;
        let newest = from.time_ms.iter().max().unwrap();
        let (mut g, mut a) = (Mat::<f64>::zeros(n, n), Mat::<f64>::zeros(n, n));
        let mut add = |source: &[f64], target: &[f64], weight: f64| {
            for i in 0..n {
                for j in 0..n {
                    g[(i, j)] += weight * source[i] * source[j];
                    a[(i, j)] += weight * source[i] * target[j];
                }
            }
        };
        for (_, rows) in by_user(&from.user) {
            let liked: Vec<usize> = rows.filter(|row| from.weight[*row] > 0.0).collect();
            let age = (newest - from.time_ms[*liked.last().unwrap()]) as f64 / 86_400_000.0;
            let young = settings.half_life_days.map_or(1.0, |half| (-age / half).exp2());
            let row = |rows: &[usize], weight: &dyn Fn(usize) -> f64| {
                let mut out = vec![0.0_f64; n];
                for (at, row) in rows.iter().enumerate() {
                    let weight = weight(at);
                    if weight > f64::from(WEIGHT_MIN) {
                        let out = &mut out[from.item[*row] as usize];
                        *out = out.max(weight);
                    }
                }
                out
            };
            let all = row(&liked, &|_| 1.0);
            add(&all, &all, young * settings.together);
            let decay = |at: usize| (-(at as f64) / settings.reach).exp();
            for cut in 1..liked.len() {
                let before: Vec<usize> = liked[..cut].iter().rev().copied().collect();
                add(&row(&before, &decay), &row(&liked[cut..], &decay), young * (1.0 - settings.together));
            }
        }
        for i in 0..n {
            g[(i, i)] += settings.regularization;
        }
        g.llt(Side::Lower).unwrap().solve(&a)
    }

    #[test]
    fn factors_of_full_rank_are_the_matrix() {
        let interactions = sessions(3, 200, 24);
        let data = TrainingData { interactions: &interactions, n_users: 200, n_items: 24 };
        for half_life_days in [None, Some(2.0)] {
            let settings = Slist { factors: 24, half_life_days, reach: 1.5, ..Slist::default() };
            let made = settings.train(&data, &()).unwrap();
            let (context, wanted) = (made.context.unwrap(), dense(&settings, &data));
            for i in 0..24 {
                for j in 0..24 {
                    let found: f32 = context.row(i).iter().zip(made.items.row(j)).map(|(a, b)| a * b).sum();
                    assert!(
                        (f64::from(found) - wanted[(i, j)]).abs() < 2e-3,
                        "{i} {j}: {found} for {}",
                        wanted[(i, j)]
                    );
                }
            }
        }
    }

    #[test]
    fn few_factors_know_what_follows_what() {
        let interactions = sessions(4, 400, 30);
        let data = TrainingData { interactions: &interactions, n_users: 400, n_items: 30 };
        let settings = Slist { factors: 12, reach: 1.0, together: 0.0, ..Slist::default() };
        let made = settings.train(&data, &()).unwrap();
        let context = made.context.clone().unwrap();
        let score = |i: usize, j: usize| context.row(i).iter().zip(made.items.row(j)).map(|(a, b)| a * b).sum::<f32>();
        let higher = (0..30).filter(|i| score(*i, (i + 1) % 30) > score(*i, (i + 29) % 30)).count();
        assert!(higher >= 27, "of 30 items {higher} have the next one above the one before");
        assert!(settings.train(&data, &()).unwrap() == made);
    }

    #[test]
    fn settings_out_of_range_and_data_without_order_are_refused() {
        let interactions = sessions(5, 20, 10);
        let data = TrainingData { interactions: &interactions, n_users: 20, n_items: 10 };
        for wrong in [
            Slist { factors: 0, ..Slist::default() },
            Slist { together: 1.5, ..Slist::default() },
            Slist { regularization: 0.0, ..Slist::default() },
            Slist { reach: f64::NAN, ..Slist::default() },
            Slist { half_life_days: Some(-1.0), ..Slist::default() },
            Slist { passes: 21, ..Slist::default() },
        ] {
            assert!(matches!(wrong.train(&data, &()), Err(TrainError::Setting { .. })), "{wrong:?}");
        }
        let mut single = Interactions::default();
        single.push(0, 1, 0, 1.0, 0);
        let single = TrainingData { interactions: &single, n_users: 1, n_items: 10 };
        assert!(matches!(Slist::default().train(&single, &()), Err(TrainError::NoSequences)));
    }
}

//! Factors by which what was taken scores higher than what was not: Bayesian personalised ranking (Rendle, Freudenthaler, Gantner,
//! Schmidt-Thieme, UAI 2009), by stochastic gradient descent with the step lengths of AdaGrad (Duchi, Hazan, Singer 2011).
//!
//! For an interaction of user u with item i, and an item j that u never took, drawn evenly, the step lowers `−ln σ(x_u·y_i − x_u·y_j)` and the
//! squares of the three rows. Users are only needed to learn items: a request makes its user vector of what the visitor touched, so an item says of
//! its visitor the direction of its own row.
//!
//! One thread, and the same data and settings give the same factors to the bit. Memory: two rows a user and an item. An epoch costs some ten
//! operations an interaction and factor.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Reached};
use super::sparse::{Fading, SparseRows, takes_part};
use super::{Factors, TrainError, TrainProgress, Trainer, TrainingData, check_common, check_setting, is_positive};
use crate::matrix::Matrix;
use crate::model_dir::ModelMetric;

/// Most epochs.
const EPOCHS_MAX: usize = 1_000;
/// Draws of an item that the user never took, before an interaction is passed over: of users who took nearly everything.
const DRAWS: usize = 16;
/// Keeps the first step of a row finite.
const START: f32 = 1e-6;

/// Settings of the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bpr {
    /// Length of a row.
    pub factors: usize,
    /// Passes over all interactions.
    pub epochs: usize,
    /// Length of the first steps.
    pub learning_rate: f64,
    /// How strongly rows are held small.
    pub regularization: f64,
    /// Days after which an interaction is half as often an example; none if age does not matter.
    pub half_life_days: Option<f64>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Bpr {
    fn default() -> Self {
        Self { factors: 128, epochs: 30, learning_rate: 0.05, regularization: 0.002, half_life_days: None, seed: 1 }
    }
}

/// Rows with the squares of their gradients so far.
struct Table {
    rows: Matrix,
    squares: Vec<f32>,
}

impl Trainer for Bpr {
    fn name(&self) -> &'static str {
        "bpr"
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn check(&self) -> Result<(), TrainError> {
        let Self { epochs, learning_rate: rate, regularization: hold, .. } = *self;
        check_common(self.factors, self.half_life_days)?;
        check_setting((1..=EPOCHS_MAX).contains(&epochs), "epochs", epochs, "1 to 1000")?;
        check_setting(is_positive(rate), "learning-rate", rate, "a number above 0")?;
        check_setting(hold.is_finite() && hold >= 0.0, "regularization", hold, "a number, 0 or above")
    }

    fn shortened(&self) -> Box<dyn Trainer> {
        Box::new(Self { epochs: self.epochs.div_ceil(2), ..self.clone() })
    }

    fn train(&self, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Result<Factors, TrainError> {
        self.check()?;
        data.check()?;
        let taken = SparseRows::users_by_items(data, Fading { half_life_days: None });
        let fading = Fading { half_life_days: self.half_life_days };
        let faded = self.half_life_days.map(|_| SparseRows::users_by_items(data, fading));
        // User, item, and the chance to be an example of an epoch.
        let mut pairs: Vec<(u32, u32, f32)> = Vec::new();
        for user in 0..taken.rows() {
            let (items, weights) = taken.row(user);
            let liked = items.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
            let chance = |item: &u32, weight: &f32| {
                let Some((items, left)) = faded.as_ref().map(|faded| faded.row(user)) else { return 1.0 };
                // What has faded to nothing has no entry any more.
                items.binary_search(item).map_or(0.0, |at| (left[at] / weight).clamp(0.0, 1.0))
            };
            pairs.extend(liked.map(|(item, weight)| (user as u32, *item, chance(item, weight))));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0xb9);
        let mut users = Table::new(data.n_users, self.factors, &mut rng);
        let mut items = Table::new(data.n_items, self.factors, &mut rng);
        let (rate, hold) = (self.learning_rate as f32, self.regularization as f32);
        let mut losses = Vec::with_capacity(self.epochs);
        // Each epoch has a chance of its own, so that one that goes on from a checkpoint draws what it would have drawn.
        let chance = |epoch: usize| ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(epoch as u64) ^ 0xb9e);
        let checkpoint = Checkpoint::of(self, data, progress);
        let shapes = [(data.n_users, self.factors), (data.n_items, self.factors)];
        if let Some(reached) = checkpoint.learned(&[shapes[0], shapes[0], shapes[1], shapes[1]])? {
            losses = reached.losses;
            (0..losses.len()).for_each(|epoch| pairs.shuffle(&mut chance(epoch)));
            let mut tables = reached.tables.into_iter();
            for (table, squares) in [(&mut users.rows, &mut users.squares), (&mut items.rows, &mut items.squares)] {
                *table = tables.next().unwrap_or_default();
                *squares = tables.next().unwrap_or_default().data;
            }
        }
        for epoch in losses.len()..self.epochs {
            progress.step("epochs", epoch as u64, self.epochs as u64);
            if progress.cancelled() {
                return Err(TrainError::Cancelled);
            }
            let mut rng = chance(epoch);
            pairs.shuffle(&mut rng);
            let (mut loss, mut n) = (0.0, 0_u64);
            for (at, (user, liked, chance)) in (0..).zip(&pairs) {
                if !takes_part(epoch as u64, at, *chance) {
                    continue;
                }
                let all = taken.row(*user as usize).0;
                let draws = (0..DRAWS).map(|_| rng.random_range(0..data.n_items as u32));
                let Some(other) = draws.into_iter().find(|other| all.binary_search(other).is_err()) else { continue };
                loss += step(&mut users, &mut items, [*user, *liked, other], rate, hold);
                n += 1;
            }
            let loss = loss / n.max(1) as f64;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { iteration: epoch + 1 });
            }
            losses.push(loss);
            checkpoint.keep(|| {
                let squares = |table: &Table| Matrix { data: table.squares.clone(), ..table.rows };
                let tables = [&users, &items].map(|table| [table.rows.clone(), squares(table)]).concat();
                Reached { iterations: epoch + 1, losses: losses.clone(), tables, ..Reached::default() }
            })?;
        }
        let mut items = items.rows;
        // Rows of items that nobody took, or so long ago that most likely no epoch had an example of it, are what they were drawn as, and say nothing.
        let mut missed = vec![1.0_f64; data.n_items];
        pairs.iter().for_each(|(_, item, chance)| missed[*item as usize] *= 1.0 - f64::from(*chance));
        let is_taught = |item: &usize| missed[*item].powi(self.epochs as i32) <= 0.5;
        (0..data.n_items).filter(|item| !is_taught(item)).for_each(|item| items.row_mut(item).fill(0.0));
        let context = Some(items.to_unit_length());
        let metric = ModelMetric::InnerProduct;
        Ok(Factors { items, context, metric, loss: losses, position_weights: None, parameters: None })
    }
}

impl Table {
    fn new(n: usize, d: usize, rng: &mut ChaCha8Rng) -> Self {
        let scale = 1.0 / (d as f32).sqrt();
        let data = (0..n * d).map(|_| scale * (rng.random::<f32>() - 0.5)).collect();
        Self { rows: Matrix { rows: n, cols: d, data }, squares: vec![START; n * d] }
    }
}

/// One step for user u, item i taken and item j not; gives the loss before it.
fn step(users: &mut Table, items: &mut Table, [user, liked, other]: [u32; 3], rate: f32, hold: f32) -> f64 {
    let d = users.rows.cols;
    let [user, liked, other] = [user, liked, other].map(|row| row as usize * d);
    let mut margin = 0.0;
    for at in 0..d {
        margin += users.rows.data[user + at] * (items.rows.data[liked + at] - items.rows.data[other + at]);
    }
    // −d/dm ln σ(m) = 1 − σ(m), and ln(1 + e^−m) without overflow.
    let push = 1.0 / (1.0 + margin.exp());
    for at in 0..d {
        let (x, y, z) = (users.rows.data[user + at], items.rows.data[liked + at], items.rows.data[other + at]);
        descend(users, user + at, hold * x - push * (y - z), rate);
        descend(items, liked + at, hold * y - push * x, rate);
        descend(items, other + at, hold * z + push * x, rate);
    }
    f64::from((-margin).max(0.0) + (-margin.abs()).exp().ln_1p())
}

#[inline(always)]
fn descend(table: &mut Table, at: usize, gradient: f32, rate: f32) {
    table.squares[at] += gradient * gradient;
    table.rows.data[at] -= rate * gradient / table.squares[at].sqrt();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::dataset::Interactions;

    /// Two groups of users, each of which takes half of the items of its own group.
    fn groups() -> Interactions {
        let mut out = Interactions::default();
        for user in 0..60_u32 {
            for step in 0..10_u32 {
                out.push(user, user % 2 * 20 + (user * 7 + step * 3) % 20, 0, 1.0, i64::from(step));
            }
        }
        out
    }

    /// The loss of a triple by its formula, in double precision.
    fn loss(x: &[f64], y: &[f64], z: &[f64], hold: f64) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let squares = dot(x, x) + dot(y, y) + dot(z, z);
        (1.0 + (dot(x, z) - dot(x, y)).exp()).ln() + 0.5 * hold * squares
    }

    #[test]
    fn a_step_goes_down_the_slope_of_the_loss() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (mut users, mut items) = (Table::new(1, 5, &mut rng), Table::new(2, 5, &mut rng));
        let wide = |row: &[f32]| row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let (x, y, z) = (wide(users.rows.row(0)), wide(items.rows.row(0)), wide(items.rows.row(1)));
        let hold = 0.1;
        let slope = |part: usize, at: usize| {
            let moved = |change: f64| {
                let mut rows = [x.clone(), y.clone(), z.clone()];
                rows[part][at] += change;
                loss(&rows[0], &rows[1], &rows[2], hold)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        let before = step(&mut users, &mut items, [0, 0, 1], 0.01, hold as f32);
        assert!((before - loss(&x, &y, &z, 0.0)).abs() < 1e-6);
        for (at, old) in x.iter().enumerate() {
            for (part, squares) in [(0, users.squares[at]), (1, items.squares[at]), (2, items.squares[5 + at])] {
                let gradient = slope(part, at);
                assert!((f64::from(squares - START) - gradient * gradient).abs() < 1e-5, "part {part}, place {at}");
            }
            let moved = f64::from(users.rows.row(0)[at]) - old;
            assert!(moved * slope(0, at) <= 0.0, "against the slope");
        }
    }

    #[test]
    fn what_a_group_takes_scores_higher() {
        let interactions = groups();
        let data = TrainingData { interactions: &interactions, n_users: 60, n_items: 41 };
        let settings = Bpr { factors: 8, ..Bpr::default() };
        let made = settings.train(&data, &()).unwrap();
        assert!(made.loss.last() < made.loss.first());
        let context = made.context.clone().unwrap();
        let score =
            |from: usize, to: usize| context.row(from).iter().zip(made.items.row(to)).map(|(a, b)| a * b).sum::<f32>();
        let pairs: Vec<bool> =
            (0..20).flat_map(|i| (0..20).map(move |j| (i, j))).map(|(i, j)| score(i, j) > score(i, 20 + j)).collect();
        let right = pairs.iter().filter(|right| **right).count();
        assert!(right > 380, "{right} of 400");
        assert_eq!(made.items.row(40), [0.0; 8], "nobody took it");
        assert!(settings.train(&data, &()).unwrap() == made);
    }

    #[test]
    fn what_was_taken_too_long_ago_is_left_for_others_to_fill() {
        let mut interactions = groups();
        interactions.time_ms.iter_mut().for_each(|time_ms| *time_ms += 1_000 * 86_400_000);
        interactions.push(60, 40, 0, 1.0, 0);
        interactions.push(60, 3, 0, 1.0, 1);
        let data = TrainingData { interactions: &interactions, n_users: 61, n_items: 41 };
        let made = |half_life_days| Bpr { factors: 8, half_life_days, ..Bpr::default() }.train(&data, &()).unwrap();
        assert_eq!(made(Some(10.0)).items.row(40), [0.0; 8], "a thousand days are a hundred half-lives");
        assert_ne!(made(Some(10.0)).items.row(3), [0.0; 8], "others took it since");
        assert_ne!(made(None).items.row(40), [0.0; 8]);
    }

    #[test]
    fn what_was_taken_once_and_lately_is_learned_in_one_epoch() {
        let mut interactions = groups();
        interactions.time_ms.iter_mut().for_each(|time_ms| *time_ms += 86_400_000);
        interactions.push(60, 40, 0, 1.0, 0);
        let data = TrainingData { interactions: &interactions, n_users: 61, n_items: 41 };
        let settings = Bpr { factors: 8, epochs: 1, half_life_days: Some(10.0), ..Bpr::default() };
        let made = settings.train(&data, &()).unwrap();
        assert_ne!(made.items.row(40), [0.0; 8], "a day is a tenth of a half-life");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let interactions = groups();
        let data = TrainingData { interactions: &interactions, n_users: 60, n_items: 41 };
        for wrong in [
            Bpr { factors: 0, ..Bpr::default() },
            Bpr { epochs: 0, ..Bpr::default() },
            Bpr { learning_rate: 0.0, ..Bpr::default() },
            Bpr { regularization: f64::NAN, ..Bpr::default() },
        ] {
            assert!(matches!(wrong.train(&data, &()), Err(TrainError::Setting { .. })), "{wrong:?}");
        }
    }
}

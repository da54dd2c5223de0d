//! Biases and factors by stochastic gradient descent: `r_ui = mean + b_u + b_i + p_u · q_i`.
//!
//! Funk (2006); Koren, Bell, Volinsky, Matrix factorization techniques for recommender systems (IEEE Computer 2009). Each step moves both biases and
//! both rows against the gradient of one rating's squared error and of the regularization, in a new random order each epoch. Costs
//! `10 · ratings · factors` operations an epoch, on one thread, and one row a user and item.

use kindred_index::dot;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{RatingModel, RatingTrainer, Ratings};
use crate::factors::normal;
use crate::matrix::Matrix;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Svd {
    /// Length of a row.
    pub factors: usize,
    /// Passes over all ratings.
    pub epochs: usize,
    /// Length of a step.
    pub learning_rate: f32,
    /// How strongly biases and rows are held small.
    pub regularization: f32,
    /// Standard deviation that rows begin with.
    pub deviation: f32,
    /// Seed of everything random.
    pub seed: u64,
}

/// What was learned.
#[derive(Clone, Debug, PartialEq)]
struct Learned {
    mean: f32,
    user_bias: Vec<f32>,
    item_bias: Vec<f32>,
    users: Matrix,
    items: Matrix,
    range: (f32, f32),
}

impl Default for Svd {
    fn default() -> Self {
        Self { factors: 100, epochs: 20, learning_rate: 0.005, regularization: 0.02, deviation: 0.1, seed: 1 }
    }
}

impl Svd {
    fn learn(&self, ratings: &Ratings) -> Learned {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut rows = |n: usize| {
            let data = (0..n * self.factors).map(|_| self.deviation * normal(&mut random)).collect();
            Matrix { rows: n, cols: self.factors, data }
        };
        let (users, items) = (rows(ratings.n_users), rows(ratings.n_items));
        let mut learned = Learned {
            mean: ratings.mean() as f32,
            user_bias: vec![0.0; ratings.n_users],
            item_bias: vec![0.0; ratings.n_items],
            users,
            items,
            range: ratings.range(),
        };
        let mut order: Vec<usize> = (0..ratings.len()).collect();
        for _ in 0..self.epochs {
            order.shuffle(&mut random);
            for at in &order {
                self.step(&mut learned, ratings.user[*at] as usize, ratings.item[*at] as usize, ratings.value[*at]);
            }
        }
        learned
    }

    fn step(&self, learned: &mut Learned, user: usize, item: usize, value: f32) {
        let (rate, hold) = (self.learning_rate, self.regularization);
        let (p, q) = (learned.users.row_mut(user), learned.items.row_mut(item));
        let (of_user, of_item) = (&mut learned.user_bias[user], &mut learned.item_bias[item]);
        let off = value - (learned.mean + *of_user + *of_item + dot(p, q));
        *of_user += rate * (off - hold * *of_user);
        *of_item += rate * (off - hold * *of_item);
        for (p, q) in p.iter_mut().zip(q.iter_mut()) {
            let before = *p;
            *p += rate * (off * *q - hold * before);
            *q += rate * (off * before - hold * *q);
        }
    }
}

impl RatingTrainer for Svd {
    fn name(&self) -> &'static str {
        "svd"
    }

    fn fit(&self, ratings: &Ratings) -> Box<dyn RatingModel> {
        Box::new(self.learn(ratings))
    }
}

impl RatingModel for Learned {
    fn predict(&self, user: Option<u32>, item: Option<u32>) -> f32 {
        let bias = |biases: &[f32], at: Option<u32>| at.and_then(|at| biases.get(at as usize)).copied().unwrap_or(0.0);
        let rows = user
            .and_then(|user| self.users.get(user as usize))
            .zip(item.and_then(|item| self.items.get(item as usize)));
        let estimate = self.mean
            + bias(&self.user_bias, user)
            + bias(&self.item_bias, item)
            + rows.map_or(0.0, |(p, q)| dot(p, q));
        estimate.clamp(self.range.0, self.range.1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::ratings;
    use super::*;

    /// The objective's part of one rating, in double precision.
    fn objective(svd: &Svd, learned: &Learned, user: usize, item: usize, value: f32) -> f64 {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let (p, q) = (wide(learned.users.row(user)), wide(learned.items.row(item)));
        let (bu, bi) = (f64::from(learned.user_bias[user]), f64::from(learned.item_bias[item]));
        let product: f64 = p.iter().zip(&q).map(|(p, q)| p * q).sum();
        let off = f64::from(value) - f64::from(learned.mean) - bu - bi - product;
        let squares: f64 = p.iter().chain(&q).map(|value| value * value).sum::<f64>() + bu * bu + bi * bi;
        (off * off + f64::from(svd.regularization) * squares) / 2.0
    }

    proptest! {
        #[test]
        fn a_step_goes_down_the_gradient(ratings in ratings(), seed in 0..100_u64) {
            let svd = Svd { factors: 3, epochs: 2, learning_rate: 1e-3, deviation: 0.5, seed, ..Svd::default() };
            let before = svd.learn(&ratings);
            let (user, item, value) = ratings.iter().next().unwrap_or_default();
            let (user, item) = (user as usize, item as usize);
            let mut after = before.clone();
            svd.step(&mut after, user, item, value);
            for place in 0..3 {
                let with = |by: f32| {
                    let mut moved = before.clone();
                    moved.users.row_mut(user)[place] += by;
                    objective(&svd, &moved, user, item, value)
                };
                let slope = (with(1e-2) - with(-1e-2)) / 2e-2;
                let step = f64::from(after.users.row(user)[place] - before.users.row(user)[place]);
                prop_assert!((step + 1e-3 * slope).abs() < 1e-5, "{} against {}", step, -1e-3 * slope);
            }
        }

        #[test]
        fn the_same_seed_learns_the_same(ratings in ratings()) {
            let svd = Svd { factors: 4, epochs: 3, ..Svd::default() };
            prop_assert_eq!(svd.learn(&ratings), svd.learn(&ratings));
        }
    }
}

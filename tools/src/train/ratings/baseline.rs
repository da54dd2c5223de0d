//! The mean, and how far each user and item lies above or below it.
//!
//! `b_ui = mean + b_u + b_i`, found by alternating least squares as in Koren, Factor in the neighbors (2010), section 2.1: item biases first,
//! each the shrunk mean of what is left over. Costs one pass over the ratings for each side and round.

use super::{Grouped, RatingModel, RatingTrainer, Ratings};

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// Rounds.
    pub rounds: usize,
    /// How many ratings of nothing a user's are averaged with.
    pub user_shrinkage: f64,
    /// How many ratings of nothing an item's are averaged with.
    pub item_shrinkage: f64,
}

/// Biases that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct Biases {
    /// The mean of all ratings.
    pub mean: f64,
    /// By user.
    pub users: Vec<f64>,
    /// By item.
    pub items: Vec<f64>,
    range: (f32, f32),
}

impl Default for Baseline {
    fn default() -> Self {
        Self { rounds: 10, user_shrinkage: 15.0, item_shrinkage: 10.0 }
    }
}

impl Baseline {
    /// Finds the biases.
    pub fn biases(&self, ratings: &Ratings) -> Biases {
        let (by_user, by_item) = (ratings.grouped(false), ratings.grouped(true));
        let mut biases = Biases {
            mean: ratings.mean(),
            users: vec![0.0; ratings.n_users],
            items: vec![0.0; ratings.n_items],
            range: ratings.range(),
        };
        for _ in 0..self.rounds {
            biases.items = side(&by_item, biases.mean, &biases.users, self.item_shrinkage);
            biases.users = side(&by_user, biases.mean, &biases.items, self.user_shrinkage);
        }
        biases
    }
}

/// The bias of each, given those of the others.
fn side(ratings: &Grouped, mean: f64, others: &[f64], shrinkage: f64) -> Vec<f64> {
    let one = |at: usize| {
        let of = ratings.of(at);
        let left_over: f64 = of.iter().map(|(other, value)| f64::from(*value) - mean - others[*other as usize]).sum();
        let n = shrinkage + of.len() as f64;
        if n > 0.0 { left_over / n } else { 0.0 }
    };
    (0..ratings.len()).map(one).collect()
}

impl Biases {
    /// The unbounded estimate.
    pub fn estimate(&self, user: Option<u32>, item: Option<u32>) -> f64 {
        let of = |biases: &[f64], at: Option<u32>| at.and_then(|at| biases.get(at as usize)).copied().unwrap_or(0.0);
        self.mean + of(&self.users, user) + of(&self.items, item)
    }

    /// An estimate as a rating: within the range that was seen.
    pub fn bounded(&self, estimate: f64) -> f32 {
        (estimate as f32).clamp(self.range.0, self.range.1)
    }
}

impl RatingTrainer for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn fit(&self, ratings: &Ratings) -> Box<dyn RatingModel> {
        Box::new(self.biases(ratings))
    }
}

impl RatingModel for Biases {
    fn predict(&self, user: Option<u32>, item: Option<u32>) -> f32 {
        self.bounded(self.estimate(user, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::ratings;
    use super::*;

    proptest! {
        #[test]
        fn many_rounds_end_where_no_bias_can_be_bettered(ratings in ratings()) {
            // The objective's gradient is zero: Σ (r - mean - b_u - b_i) = shrinkage · b, for each user and item.
            let baseline = Baseline { rounds: 500, ..Baseline::default() };
            let biases = baseline.biases(&ratings);
            for user in 0..ratings.n_users as u32 {
                let own = ratings.iter().filter(|(one, ..)| *one == user);
                let left: f64 = own.map(|(u, i, value)| f64::from(value) - biases.estimate(Some(u), Some(i))).sum();
                prop_assert!((left - baseline.user_shrinkage * biases.users[user as usize]).abs() < 1e-6);
            }
            for item in 0..ratings.n_items as u32 {
                let own = ratings.iter().filter(|(_, one, _)| *one == item);
                let left: f64 = own.map(|(u, i, value)| f64::from(value) - biases.estimate(Some(u), Some(i))).sum();
                prop_assert!((left - baseline.item_shrinkage * biases.items[item as usize]).abs() < 1e-6);
            }
        }
    }
}

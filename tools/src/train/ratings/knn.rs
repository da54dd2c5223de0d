//! Ratings by neighbours: what similar items were given by the user, or similar users gave the item.
//!
//! `r_ui = b_ui + Σ_j s_ij (r_uj - b_uj) / Σ_j s_ij` over the k most similar items j that the user has rated, with [`baseline`](super::baseline) b; users
//! likewise. Similarity is taken over the users who rated both: the cosine (Sarwar et al. 2001), or Pearson's correlation about the baselines,
//! shrunk by `(n - 1) / (n - 1 + shrinkage)` for n common ones (Koren 2010, section 2.2). Costs the sum of the squared numbers of ratings of the
//! other side; 4 bytes a pair of items, or of users.

use rayon::prelude::*;

use super::baseline::{Baseline, Biases};
use super::{Grouped, RatingModel, RatingTrainer, Ratings};

/// What is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Items.
    Items,
    /// Users.
    Users,
}

/// How alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    /// The cosine of the ratings that both have.
    Cosine,
    /// Pearson's correlation of what is above or below the baselines, shrunk.
    Pearson,
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatingKnn {
    /// What is alike.
    pub side: Side,
    /// How alike.
    pub similarity: Similarity,
    /// Neighbours that a prediction is made from, at most.
    pub k: usize,
    /// Common ratings at which half of a correlation counts, about.
    pub shrinkage: f64,
    /// The baselines.
    pub baseline: Baseline,
}

/// What was learned.
struct Learned {
    side: Side,
    k: usize,
    biases: Biases,
    /// By the side that is not alike: who rated what, to find neighbours among.
    rated: Grouped,
    similarities: Vec<Vec<f32>>,
}

impl RatingKnn {
    /// The usual settings.
    pub fn new(side: Side, similarity: Similarity) -> Self {
        Self { side, similarity, k: 40, shrinkage: 100.0, baseline: Baseline::default() }
    }

    /// How similar each is to the one that is asked for; 0 where there is nothing in common.
    pub(crate) fn similar_to(&self, ratings: &Ratings, biases: &Biases) -> impl Fn(usize) -> Vec<f32> + Send + Sync {
        let by_item = self.side == Side::Items;
        let (own, others) = (ratings.grouped(by_item), ratings.grouped(!by_item));
        let centred = move |one: u32, other: u32, value: f32| match (self.similarity, self.side) {
            (Similarity::Cosine, _) => f64::from(value),
            (Similarity::Pearson, Side::Items) => f64::from(value) - biases.estimate(Some(other), Some(one)),
            (Similarity::Pearson, Side::Users) => f64::from(value) - biases.estimate(Some(one), Some(other)),
        };
        move |one: usize| {
            let mut sums = vec![(0.0_f64, 0.0_f64, 0.0_f64, 0_u32); own.len()];
            for (between, value) in own.of(one) {
                let mine = centred(one as u32, *between, *value);
                for (other, value) in others.of(*between as usize) {
                    let theirs = centred(*other, *between, *value);
                    let (product, a, b, n) = &mut sums[*other as usize];
                    (*product, *a, *b) = (*product + mine * theirs, *a + mine * mine, *b + theirs * theirs);
                    *n += 1;
                }
            }
            let similarity = |(product, a, b, n): (f64, f64, f64, u32)| {
                let norm = (a * b).sqrt();
                let plain = if norm > 0.0 { product / norm } else { 0.0 };
                let common = f64::from(n) - 1.0;
                match self.similarity {
                    Similarity::Cosine => plain as f32,
                    Similarity::Pearson if common > 0.0 => (plain * common / (common + self.shrinkage)) as f32,
                    Similarity::Pearson => 0.0,
                }
            };
            sums.into_iter().map(similarity).collect()
        }
    }
}

impl RatingTrainer for RatingKnn {
    fn name(&self) -> &'static str {
        match (self.side, self.similarity) {
            (Side::Items, Similarity::Pearson) => "item-knn",
            (Side::Users, Similarity::Pearson) => "user-knn",
            (Side::Items, Similarity::Cosine) => "item-knn-cosine",
            (Side::Users, Similarity::Cosine) => "user-knn-cosine",
        }
    }

    fn fit(&self, ratings: &Ratings) -> Box<dyn RatingModel> {
        let biases = self.baseline.biases(ratings);
        let n = if self.side == Side::Items { ratings.n_items } else { ratings.n_users };
        let similarities = (0..n).into_par_iter().map(self.similar_to(ratings, &biases)).collect();
        let rated = ratings.grouped(self.side == Side::Users);
        Box::new(Learned { side: self.side, k: self.k, biases, rated, similarities })
    }
}

impl RatingModel for Learned {
    fn predict(&self, user: Option<u32>, item: Option<u32>) -> f32 {
        let baseline = self.biases.estimate(user, item);
        let (Some(user), Some(item)) = (user, item) else { return self.biases.bounded(baseline) };
        let (own, between) = if self.side == Side::Items { (item, user) } else { (user, item) };
        let row = &self.similarities[own as usize];
        let rated = self.rated.of(between as usize);
        let mut near: Vec<(f32, u32, f32)> =
            rated.iter().map(|(other, value)| (row[*other as usize], *other, *value)).collect();
        let order = |a: &(f32, u32, f32), b: &(f32, u32, f32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        near.sort_unstable_by(order);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (similarity, other, value) in near.into_iter().take(self.k).filter(|(similarity, ..)| *similarity > 0.0) {
            let theirs = match self.side {
                Side::Items => self.biases.estimate(Some(user), Some(other)),
                Side::Users => self.biases.estimate(Some(other), Some(item)),
            };
            sum += f64::from(similarity) * (f64::from(value) - theirs);
            weights += f64::from(similarity);
        }
        self.biases.bounded(if weights > 0.0 { baseline + sum / weights } else { baseline })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::ratings;
    use super::*;

    /// The formula of the module documentation for two items, over all users.
    fn naive(knn: &RatingKnn, ratings: &Ratings, biases: &Biases, one: u32, other: u32) -> f64 {
        let of =
            |user: u32, item: u32| ratings.iter().find(|(u, i, _)| (*u, *i) == (user, item)).map(|(.., value)| value);
        let centre = |user: u32, item: u32| match knn.similarity {
            Similarity::Cosine => 0.0,
            Similarity::Pearson => biases.estimate(Some(user), Some(item)),
        };
        let both: Vec<(f64, f64)> = (0..ratings.n_users as u32)
            .filter_map(|user| of(user, one).zip(of(user, other)).map(|(a, b)| (user, a, b)))
            .map(|(user, a, b)| (f64::from(a) - centre(user, one), f64::from(b) - centre(user, other)))
            .collect();
        let sum = |f: &dyn Fn(&(f64, f64)) -> f64| both.iter().map(f).sum::<f64>();
        let norm = (sum(&|(a, _)| a * a) * sum(&|(_, b)| b * b)).sqrt();
        let plain = if norm > 0.0 { sum(&|(a, b)| a * b) / norm } else { 0.0 };
        let n = both.len() as f64;
        match knn.similarity {
            Similarity::Cosine => plain,
            Similarity::Pearson if n > 1.0 => plain * (n - 1.0) / (n - 1.0 + knn.shrinkage),
            Similarity::Pearson => 0.0,
        }
    }

    proptest! {
        #[test]
        fn similarities_follow_the_formula(ratings in ratings(), pearson: bool) {
            let similarity = if pearson { Similarity::Pearson } else { Similarity::Cosine };
            let knn = RatingKnn { shrinkage: 3.0, ..RatingKnn::new(Side::Items, similarity) };
            let biases = knn.baseline.biases(&ratings);
            let similar_to = knn.similar_to(&ratings, &biases);
            for one in 0..ratings.n_items as u32 {
                for (other, found) in (0_u32..).zip(similar_to(one as usize)) {
                    let (found, wanted) = (f64::from(found), naive(&knn, &ratings, &biases, one, other));
                    prop_assert!((found - wanted).abs() < 1e-5, "{} and {}: {} against {}", one, other, found, wanted);
                }
            }
        }

        #[test]
        fn users_of_a_matrix_are_items_of_its_transpose(ratings in ratings()) {
            let turned = Ratings {
                user: ratings.item.clone(),
                item: ratings.user.clone(),
                value: ratings.value.clone(),
                n_users: ratings.n_items,
                n_items: ratings.n_users,
            };
            // Baselines shrink users and items alike here; which side is found first no longer matters after many rounds.
            let baseline = Baseline { rounds: 300, user_shrinkage: 12.0, item_shrinkage: 12.0 };
            let users = RatingKnn { baseline, ..RatingKnn::new(Side::Users, Similarity::Pearson) }.fit(&ratings);
            let items = RatingKnn { baseline, ..RatingKnn::new(Side::Items, Similarity::Pearson) }.fit(&turned);
            for (user, item, _) in ratings.iter() {
                let (a, b) = (users.predict(Some(user), Some(item)), items.predict(Some(item), Some(user)));
                prop_assert!((a - b).abs() < 1e-3, "{} against {}", a, b);
            }
        }
    }
}

//! Explicit ratings: how many stars a user would give an item. Beside the trainers of lists, for data that says it and for comparison.
//!
//! | file | predicts by |
//! |---|---|
//! | [`baseline`] | mean, user and item biases (Koren 2010) |
//! | [`svd`] | biases and factors, by stochastic gradient descent (Funk 2006; Koren, Bell, Volinsky 2009) |
//! | [`knn`] | what similar items, or users, were given (Koren 2010) |
//! | [`read`] | nothing: it reads ratings |

pub mod baseline;
pub mod knn;
pub mod read;
pub mod svd;

use std::ops::Range;

/// Ratings in columns; users and items are numbers below `n_users` and `n_items`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ratings {
    /// Who.
    pub user: Vec<u32>,
    /// What.
    pub item: Vec<u32>,
    /// How many stars.
    pub value: Vec<f32>,
    /// Users.
    pub n_users: usize,
    /// Items.
    pub n_items: usize,
}

/// Something that learns to predict ratings. The same ratings and settings give the same predictions.
pub trait RatingTrainer {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Learns. Takes and costs what its own documentation says.
    fn fit(&self, ratings: &Ratings) -> Box<dyn RatingModel>;
}

/// Something that predicts ratings.
pub trait RatingModel: Sync {
    /// The rating of a pair, within the range that was seen. A user or item that is none is unknown.
    fn predict(&self, user: Option<u32>, item: Option<u32>) -> f32;
}

/// How far predictions are off.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RatingError {
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
}

impl Ratings {
    /// Number of ratings.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.value.iter().map(|value| f64::from(*value)).sum::<f64>() / self.len().max(1) as f64
    }

    /// The least and the greatest.
    pub fn range(&self) -> (f32, f32) {
        self.value.iter().fold((f32::MAX, f32::MIN), |(least, most), value| (least.min(*value), most.max(*value)))
    }

    /// Each rating as user, item, value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, f32)> + '_ {
        self.user.iter().zip(&self.item).zip(&self.value).map(|((user, item), value)| (*user, *item, *value))
    }

    /// The ratings of each user, or of each item: rows of (the other, value), in the order of the log.
    pub(crate) fn grouped(&self, by_item: bool) -> Grouped {
        let n = if by_item { self.n_items } else { self.n_users };
        let pair =
            |(user, item, value): (u32, u32, f32)| if by_item { (item, user, value) } else { (user, item, value) };
        let mut offsets = vec![0_usize; n + 1];
        self.iter().map(pair).for_each(|(one, ..)| offsets[one as usize + 1] += 1);
        (0..n).for_each(|at| offsets[at + 1] += offsets[at]);
        let mut next = offsets.clone();
        let mut rows = vec![(0, 0.0); self.len()];
        for (one, other, value) in self.iter().map(pair) {
            rows[next[one as usize]] = (other, value);
            next[one as usize] += 1;
        }
        Grouped { offsets, rows }
    }
}

/// Ratings by user or by item.
pub(crate) struct Grouped {
    offsets: Vec<usize>,
    rows: Vec<(u32, f32)>,
}

impl Grouped {
    /// The ratings of one.
    pub(crate) fn of(&self, one: usize) -> &[(u32, f32)] {
        let range: Range<usize> = self.offsets[one]..self.offsets[one + 1];
        &self.rows[range]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }
}

/// The errors of predictions of held-out ratings.
pub fn errors(model: &dyn RatingModel, test: &[(Option<u32>, Option<u32>, f32)]) -> RatingError {
    let off = test.iter().map(|(user, item, value)| f64::from(model.predict(*user, *item)) - f64::from(*value));
    let (squares, sums) = off.fold((0.0, 0.0), |(squares, sums), off| (squares + off * off, sums + off.abs()));
    let n = test.len().max(1) as f64;
    RatingError { rmse: (squares / n).sqrt(), mae: sums / n }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ratings of 7 users and 6 items, no pair twice.
    pub(crate) fn ratings() -> impl Strategy<Value = Ratings> {
        prop::collection::btree_map((0..7_u32, 0..6_u32), 1..6_u8, 4..36).prop_map(|pairs| Ratings {
            user: pairs.keys().map(|(user, _)| *user).collect(),
            item: pairs.keys().map(|(_, item)| *item).collect(),
            value: pairs.values().map(|value| f32::from(*value)).collect(),
            n_users: 7,
            n_items: 6,
        })
    }

    struct Three;

    impl RatingModel for Three {
        fn predict(&self, _: Option<u32>, _: Option<u32>) -> f32 {
            3.0
        }
    }

    #[test]
    fn errors_by_hand() {
        let found = errors(&Three, &[(None, None, 1.0), (None, None, 4.0)]);
        assert_eq!(found, RatingError { rmse: 2.5_f64.sqrt(), mae: 1.5 });
    }
}

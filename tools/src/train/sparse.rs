//! Users × items, observed pairs only: what training walks over.

use super::TrainingData;
use crate::dataset::Interactions;

/// A sparse matrix by rows: the entries of row r are at `offsets[r]..offsets[r + 1]`, by ascending column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SparseRows {
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// How fast what is learned from an interaction fades.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fading {
    /// Days after which a weight has halved.
    pub(crate) half_life_days: Option<f64>,
}

impl Fading {
    /// The share of its weight that an interaction has kept.
    pub(crate) fn kept(self, interactions: &Interactions) -> impl Fn(usize) -> f32 + '_ {
        let newest_ms = interactions.time_ms.iter().copied().max().unwrap_or_default();
        move |at| match self.half_life_days {
            Some(days) => {
                let age = (newest_ms.saturating_sub(interactions.time_ms[at])) as f64 / DAY_MS;
                (-age / days).exp2() as f32
            }
            None => 1.0,
        }
    }

    /// What an interaction weighs by its age: the newest of all has age 0.
    pub(crate) fn of(self, interactions: &Interactions) -> impl Fn(usize) -> f32 + '_ {
        let kept = self.kept(interactions);
        move |at| interactions.weight[at] * kept(at)
    }
}

/// Whether number `at` takes part in a round, for trainers that go over examples one by one: with this chance, and the same every time.
pub(crate) fn takes_part(round: u64, at: u64, chance: f32) -> bool {
    chance >= 1.0 || (mixed(round.rotate_left(40) ^ at) >> 40) as f32 / (1 << 24) as f32 <= chance
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of the argument.
#[inline(always)]
pub(crate) fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const DAY_MS: f64 = 86_400_000.0;

impl SparseRows {
    /// No row yet.
    pub(crate) fn new() -> Self {
        Self { offsets: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Adds a row, its entries by ascending column.
    pub(crate) fn push(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        for (column, value) in entries {
            self.columns.push(column);
            self.values.push(value);
        }
        self.offsets.push(self.columns.len());
    }

    /// Users × items: the sum of the weights of all interactions of a pair. Pairs whose sum is zero are left out.
    /// Takes 8 bytes a pair, and one pass over the interactions.
    pub(crate) fn users_by_items(data: &TrainingData<'_>, fading: Fading) -> Self {
        let interactions = data.interactions;
        let weight = fading.of(interactions);
        let mut rows = Self::new();
        let mut pairs: Vec<(u32, f32)> = Vec::new();
        for (user, range) in super::by_user(&interactions.user) {
            rows.offsets.resize(user as usize + 1, rows.columns.len());
            pairs.clear();
            pairs.extend(range.map(|at| (interactions.item[at], weight(at))));
            // Stable, so that the weights of a pair are summed in order of time.
            pairs.sort_by_key(|(item, _)| *item);
            for same in pairs.chunk_by(|a, b| a.0 == b.0) {
                let sum: f32 = same.iter().map(|(_, weight)| weight).sum();
                if sum != 0.0 {
                    rows.columns.push(same[0].0);
                    rows.values.push(sum);
                }
            }
        }
        rows.offsets.resize(data.n_users + 1, rows.columns.len());
        rows
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Columns and values of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// The same pairs by column. Counting sort: two passes.
    pub(crate) fn transposed(&self, n_columns: usize) -> Self {
        let mut offsets = vec![0_usize; n_columns + 1];
        for column in &self.columns {
            offsets[*column as usize + 1] += 1;
        }
        for column in 0..n_columns {
            offsets[column + 1] += offsets[column];
        }
        let mut next = offsets.clone();
        let mut columns = vec![0_u32; self.columns.len()];
        let mut values = vec![0.0_f32; self.values.len()];
        for row in 0..self.rows() {
            let (of_row, values_of_row) = self.row(row);
            for (column, value) in of_row.iter().zip(values_of_row) {
                let place = &mut next[*column as usize];
                columns[*place] = row as u32;
                values[*place] = *value;
                *place += 1;
            }
        }
        Self { offsets, columns, values }
    }

    /// The same pairs with other values.
    pub(crate) fn mapped(mut self, map: impl Fn(f32) -> f32) -> Self {
        self.values.iter_mut().for_each(|value| *value = map(*value));
        self
    }

    /// All values.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::dataset::Interactions;

    fn interactions() -> Interactions {
        Interactions {
            user: vec![0, 0, 0, 2, 2],
            item: vec![1, 0, 1, 3, 0],
            kind: vec![0; 5],
            weight: vec![1.0, 2.0, 3.0, -1.0, 0.0],
            time_ms: vec![0, 1, 2, 86_400_000, 86_400_000],
        }
    }

    #[test]
    fn pairs_are_summed_and_sorted_and_users_without_any_have_empty_rows() {
        let interactions = interactions();
        let data = TrainingData { interactions: &interactions, n_users: 4, n_items: 5 };
        let rows = SparseRows::users_by_items(&data, Fading { half_life_days: None });
        assert_eq!(rows.rows(), 4);
        assert_eq!(rows.row(0), (&[0, 1][..], &[2.0, 4.0][..]));
        assert_eq!(rows.row(1), (&[][..], &[][..]));
        assert_eq!(rows.row(2), (&[3][..], &[-1.0][..]));
        assert_eq!(rows.row(3), (&[][..], &[][..]));
        let columns = rows.transposed(5);
        assert_eq!(columns.rows(), 5);
        assert_eq!(columns.row(0), (&[0][..], &[2.0][..]));
        assert_eq!(columns.row(3), (&[2][..], &[-1.0][..]));
        assert_eq!(columns.transposed(4), rows);
    }

    #[test]
    fn old_interactions_fade() {
        let interactions = interactions();
        let data = TrainingData { interactions: &interactions, n_users: 3, n_items: 5 };
        let rows = SparseRows::users_by_items(&data, Fading { half_life_days: Some(1.0) });
        let (_, values) = rows.row(0);
        assert!((values[0] - 1.0).abs() < 1e-6 && (values[1] - 2.0).abs() < 1e-6, "{values:?}");
        assert_eq!(rows.row(2).1, [-1.0]);
    }

    #[test]
    fn half_as_old_takes_part_twice_as_often() {
        let mut interactions = Interactions::default();
        (0..2).for_each(|day| interactions.push(0, 0, 0, 2.0, day * 10 * 86_400_000));
        let fading = Fading { half_life_days: Some(10.0) };
        assert_eq!([0, 1].map(fading.kept(&interactions)), [0.5, 1.0]);
        assert_eq!([0, 1].map(fading.of(&interactions)), [1.0, 2.0]);
        let drawn = |chance: f32| (0..40_000).filter(|at| takes_part(3, *at, chance)).count();
        assert_eq!((drawn(1.0), drawn(0.0) <= 1), (40_000, true));
        assert!(drawn(0.5).abs_diff(20_000) < 600 && drawn(0.25).abs_diff(10_000) < 600);
        let twice = (0..40_000).filter(|at| takes_part(3, *at, 0.5) && takes_part(4, *at, 0.5)).count();
        assert!(twice.abs_diff(10_000) < 600, "rounds are independent: {twice}");
    }
}

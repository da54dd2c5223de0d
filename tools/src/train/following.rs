//! The item-to-item table by order: for each item what users take soon after it.
//!
//! From sequences, after the sequential rules of Kamehkhosh, Jannach and Ludewig (2017): every pair of interactions of a user, `i` first, says
//! `F(i, j) += w_i · w_j · exp(−(gap − 1) / reach)` and `F(j, i)` a share of that, `backwards`, where the gap is how many moments lie between them.
//! What is taken at one moment, as a basket is, follows each other with a gap of 1, both ways. The similarity is
//! `sim(i, j) = F(i, j) / √(f_i · t_j) · (t_j / max t)^0.2 · F(i, j) / (F(i, j) + shrinkage)` with `f_i = Σ_l F(i, l)` and `t_j = Σ_l F(l, j)`: what
//! everybody takes next stands not first, but is worth something, and chance is worth little. It is 0 to 1, and not symmetric.

use std::ops::Range;

use rayon::prelude::*;

use super::neighbours::{NeighbourOptions, NeighbourTable, table};
use super::sparse::Fading;
use super::{TrainError, TrainProgress, TrainingData, by_user};

/// Moments beyond which a pair says nothing, in units of the reach: there it counts a fiftieth.
const HORIZON: f64 = 4.0;
/// What it is worth that many take an item.
const POPULARITY: f64 = 0.2;
/// The furthest reach: a table of what each gap weighs is made.
pub(super) const REACH_MAX: f64 = 1_000.0;
/// Interactions of one moment, or within the horizon, that one interaction is paired with at most: bounds the work that a huge basket makes.
const PAIRS_MAX: usize = 200;

/// Neighbours by what follows what. Interactions of weight 0 or less take no part.
///
/// Costs the interactions times those within the horizon, over all threads. Memory: 20 bytes an interaction, 12 bytes an item for each thread, and the
/// table.
///
/// # Errors
/// A caller who no longer wants the result.
pub fn by_order(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    backwards: f64,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    let log = Log::new(data, options);
    let places = log.places(data.n_items);
    // Pairs of an item with itself are none.
    let sums = |forwards: bool| -> Vec<f64> {
        let of_item = |item: usize| places.of(item).iter().map(|at| log.sum(*at as usize, forwards)).sum();
        (0..data.n_items).into_par_iter().map(of_item).collect()
    };
    let (behind, before) = (sums(true), sums(false));
    let both = |one: &[f64], other: &[f64]| -> Vec<f64> {
        one.iter().zip(other).map(|(one, other)| one + backwards * other).collect()
    };
    let (from, to) = (both(&behind, &before), both(&before, &behind));
    let greatest = to.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let of_item = |scratch: &mut Sums, item: usize| {
        for at in places.of(item) {
            log.pairs(*at as usize, true, |other, value| scratch.add(log.items[other], value));
            if backwards > 0.0 {
                log.pairs(*at as usize, false, |other, value| scratch.add(log.items[other], backwards * value));
            }
        }
        scratch.drain(|other, value| {
            let many = to[other as usize];
            let lengths = (from[item] * many).sqrt();
            let sure = value / (value + f64::from(options.shrinkage));
            let worth = (many / greatest).powf(POPULARITY);
            let similarity = if lengths > 0.0 { value / lengths * sure * worth } else { 0.0 };
            (similarity > 0.0).then_some((other, similarity as f32))
        })
    };
    table(data.n_items, options.k, || Sums::new(data.n_items), of_item, progress)
}

/// The interactions that count, by user and time, with what pairs of them need.
struct Log {
    items: Vec<u32>,
    weights: Vec<f32>,
    /// The number of the moment of each interaction among those of its user.
    moments: Vec<u32>,
    /// The user of each interaction, by their place in `users`.
    user: Vec<u32>,
    /// The rows of each user.
    users: Vec<Range<usize>>,
    /// What a pair weighs by its gap, from 1 on.
    by_gap: Vec<f64>,
}

impl Log {
    fn new(data: &TrainingData<'_>, options: &NeighbourOptions) -> Self {
        let from = data.interactions;
        let fading = Fading { half_life_days: options.half_life_days };
        let weight = fading.of(from);
        let most = (options.reach * HORIZON).ceil().max(1.0) as usize;
        let by_gap = (0..most).map(|further| (-(further as f64) / options.reach).exp()).collect();
        let mut log = Self { items: vec![], weights: vec![], moments: vec![], user: vec![], users: vec![], by_gap };
        for (_, rows) in by_user(&from.user) {
            let start = log.items.len();
            let (mut moment, mut last_ms) = (0, None);
            for at in rows.filter(|at| from.weight[*at] > 0.0) {
                moment += u32::from(last_ms.is_some_and(|last| last != from.time_ms[at]));
                last_ms = Some(from.time_ms[at]);
                log.items.push(from.item[at]);
                log.weights.push(weight(at));
                log.moments.push(moment);
                log.user.push(log.users.len() as u32);
            }
            log.users.push(start..log.items.len());
        }
        log
    }

    /// Calls back for every interaction that the one at `at` makes a pair with: those behind it, or those before it.
    fn pairs(&self, at: usize, forwards: bool, mut pair: impl FnMut(usize, f64)) {
        let (moment, rows) = (self.moments[at], &self.users[self.user[at] as usize]);
        let mut with = |other: usize| -> bool {
            if self.items[other] == self.items[at] {
                return true;
            }
            let gap = self.moments[other].abs_diff(moment);
            let Some(by_gap) = self.by_gap.get(gap.saturating_sub(1) as usize) else { return false };
            pair(other, f64::from(self.weights[at]) * f64::from(self.weights[other]) * by_gap);
            true
        };
        let same = |other: &usize| self.moments[*other] == moment;
        let _all = if forwards {
            (rows.start..at).rev().take_while(same).take(PAIRS_MAX).all(&mut with)
                && (at + 1..rows.end).take(PAIRS_MAX).all(&mut with)
        } else {
            (at + 1..rows.end).take_while(same).take(PAIRS_MAX).all(&mut with)
                && (rows.start..at).rev().take(PAIRS_MAX).all(&mut with)
        };
    }

    fn sum(&self, at: usize, forwards: bool) -> f64 {
        let mut sum = 0.0;
        self.pairs(at, forwards, |_, value| sum += value);
        sum
    }

    /// Where each item stands in the log.
    fn places(&self, n_items: usize) -> Places {
        let mut offsets = vec![0_u32; n_items + 1];
        self.items.iter().for_each(|item| offsets[*item as usize + 1] += 1);
        (0..n_items).for_each(|item| offsets[item + 1] += offsets[item]);
        let mut next = offsets.clone();
        let mut rows = vec![0_u32; self.items.len()];
        for (at, item) in (0_u32..).zip(&self.items) {
            let place = &mut next[*item as usize];
            rows[*place as usize] = at;
            *place += 1;
        }
        Places { offsets, rows }
    }
}

struct Places {
    offsets: Vec<u32>,
    rows: Vec<u32>,
}

impl Places {
    fn of(&self, item: usize) -> &[u32] {
        &self.rows[self.offsets[item] as usize..self.offsets[item + 1] as usize]
    }
}

/// Sums by item; cleared by walking what was touched.
struct Sums {
    values: Vec<f64>,
    touched: Vec<u32>,
}

impl Sums {
    fn new(n: usize) -> Self {
        Self { values: vec![0.0; n], touched: Vec::new() }
    }

    fn add(&mut self, item: u32, value: f64) {
        let sum = &mut self.values[item as usize];
        if *sum == 0.0 {
            self.touched.push(item);
        }
        *sum += value;
    }

    fn drain(&mut self, of: impl Fn(u32, f64) -> Option<(u32, f32)>) -> Vec<(u32, f32)> {
        let values = &mut self.values;
        self.touched.drain(..).filter_map(|item| of(item, std::mem::take(&mut values[item as usize]))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Interactions;
    use crate::model_dir::NO_NEIGHBOUR;
    use crate::train::neighbours::{self, Order};

    const USERS: usize = 6;
    const ITEMS: usize = 8;

    fn logs() -> impl Strategy<Value = Interactions> {
        let event = (0..USERS as u32, 0..ITEMS as u32, 0..12_i64, prop::sample::select(vec![1.0_f32, 2.0, -1.0]));
        prop::collection::vec(event, 0..60).prop_map(|mut events| {
            events.sort_by_key(|(user, _, time, _)| (*user, *time));
            let mut log = Interactions::default();
            events.iter().for_each(|(user, item, time, weight)| log.push(*user, *item, 0, *weight, *time));
            log
        })
    }

    /// The formula of the module documentation, pair by pair.
    fn naive(log: &Interactions, options: &NeighbourOptions) -> Vec<Vec<f64>> {
        let mut f = vec![vec![0.0_f64; ITEMS]; ITEMS];
        let backwards = options.backwards.unwrap();
        let counts = |at: &usize| log.weight[*at] > 0.0;
        for a in (0..log.user.len()).filter(counts) {
            for b in (0..log.user.len()).filter(counts) {
                let (from, to) = (log.time_ms[a], log.time_ms[b]);
                if log.item[a] == log.item[b] || log.user[a] != log.user[b] || from > to {
                    continue;
                }
                let between = (0..log.user.len()).filter(counts).filter(|c| log.user[*c] == log.user[a]);
                let between = between.map(|c| log.time_ms[c]).filter(|time| *time > from && *time <= to);
                let gap = between.collect::<std::collections::BTreeSet<_>>().len().max(1) as f64;
                if gap <= (options.reach * HORIZON).ceil() {
                    let weight = f64::from(log.weight[a]) * f64::from(log.weight[b]);
                    let value = weight * (-(gap - 1.0) / options.reach).exp();
                    f[log.item[a] as usize][log.item[b] as usize] += value;
                    f[log.item[b] as usize][log.item[a] as usize] += backwards * value;
                }
            }
        }
        let (out, into) = (|i: usize| f[i].iter().sum::<f64>(), |j: usize| f.iter().map(|row| row[j]).sum::<f64>());
        let greatest = (0..ITEMS).map(into).fold(0.0, f64::max);
        let similarity = |i: usize, j: usize| match f[i][j] {
            0.0 => 0.0,
            value => {
                let sure = value / (value + f64::from(options.shrinkage));
                value / (out(i) * into(j)).sqrt() * (into(j) / greatest).powf(0.2) * sure
            }
        };
        (0..ITEMS).map(|i| (0..ITEMS).map(|j| similarity(i, j)).collect()).collect()
    }

    fn options(reach: f64, shrinkage: f32, backwards: f64) -> NeighbourOptions {
        let backwards = Some(backwards);
        NeighbourOptions { k: ITEMS, reach, shrinkage, backwards, by: Order::Following, ..NeighbourOptions::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_the_formula(log in logs(), reach in 0.3_f64..4.0, shrinkage in 0.0_f32..4.0, back in 0..3_u8) {
            let data = TrainingData { interactions: &log, n_users: USERS, n_items: ITEMS };
            let options = options(reach, shrinkage, f64::from(back) / 2.0);
            let found = neighbours::find(&data, &options, &()).unwrap();
            for (item, wanted) in naive(&log, &options).iter().enumerate() {
                let row = item * ITEMS..(item + 1) * ITEMS;
                let items = found.items[row.clone()].iter().zip(&found.similarities[row]);
                let items: Vec<_> = items.take_while(|(other, _)| **other != NO_NEIGHBOUR).collect();
                prop_assert_eq!(items.len(), wanted.iter().filter(|one| **one > 0.0).count());
                prop_assert!(items.windows(2).all(|pair| pair[0].1 >= pair[1].1));
                for (other, similarity) in items {
                    prop_assert!((0.0..=1.000_001).contains(similarity));
                    prop_assert!((f64::from(*similarity) - wanted[*other as usize]).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn order_counts_and_a_basket_has_none() {
        let mut log = Interactions::default();
        for (user, item, time) in [(0, 0, 1), (0, 1, 2), (1, 2, 5), (1, 3, 5)] {
            log.push(user, item, 0, 1.0, time);
        }
        let data = TrainingData { interactions: &log, n_users: 2, n_items: 4 };
        let found = neighbours::find(&data, &options(5.0, 0.0, 0.0), &()).unwrap();
        let first: Vec<u32> = found.items.chunks(ITEMS).map(|row| row[0]).collect();
        assert_eq!(first, [1, NO_NEIGHBOUR, 3, 2]);
        assert_eq!(found.similarities[0], 1.0);
    }

    #[test]
    fn settings_out_of_range_are_told() {
        let log = Interactions::default();
        let data = TrainingData { interactions: &log, n_users: 0, n_items: 0 };
        let wrong = [
            (0.0, 0.0, "neighbour_reach is 0"),
            (1e12, 0.0, "neighbour_reach is 1000000000000"),
            (f64::NAN, 0.0, "neighbour_reach is NaN"),
            (1.0, 1.5, "neighbour_backwards is 1.5"),
        ];
        for (reach, backwards, told) in wrong {
            let error = neighbours::find(&data, &options(reach, 0.0, backwards), &()).unwrap_err();
            assert!(error.to_string().starts_with(told), "{error}");
        }
    }
}

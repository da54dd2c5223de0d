//! The item-to-item table: for each item the items most like it.
//!
//! From interactions: the cosine of two items' columns of the user-item matrix (Sarwar et al. 2001), shrunk towards zero when few
//! users touched both: `sim(i, j) = Σ_u w_ui w_uj / (‖w_i‖ ‖w_j‖) · n_ij / (n_ij + shrinkage)`.
//! For models trained elsewhere, which come without interactions, see [`factor_neighbours`](super::factor_neighbours).

use std::ops::Range;

use kindred::limits;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::following::REACH_MAX;
use super::linear_neighbours::ITEMS_MAX;
use super::ratings::Ratings;
use super::ratings::knn::{RatingKnn, Side, Similarity};
use super::sparse::{Fading, SparseRows};
use super::{TrainError, TrainProgress, TrainingData, append, by_user, check_setting};
use crate::dataset::Interactions;
use crate::model_dir::NO_NEIGHBOUR;

/// What makes items alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Whichever of the others finds more of what users took next, on held-back interactions.
    Auto,
    /// That the same users take them, in any order: the cosine.
    Together,
    /// That users take one soon after the other (sequential rules).
    Following,
    /// That users take one soon after the other, each follower explained once (SLIST): for catalogues of at most 8,192 items. Takes 500 bytes an
    /// interaction, so it is tried by itself for up to 5 million.
    Linear,
    /// That the same users give both more, or both less, than is usual for user and item (Pearson's correlation about baselines): for interactions that
    /// weigh as much as was given, and catalogues of at most 8,192 items.
    Pearson,
}

/// How the table is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighbourOptions {
    /// What makes items alike.
    pub by: Order,
    /// Neighbours kept per item.
    pub k: usize,
    /// Users who must have touched both items, or times that one must follow the other, before half of their similarity counts.
    pub shrinkage: f32,
    /// Most recent interactions of a user that take part where the same users make items alike: bounds the work that one very busy user makes.
    pub history: usize,
    /// Days after which the weight of an interaction has halved; none if age does not matter.
    pub half_life_days: Option<f64>,
    /// Moments further apart after which one interaction following another counts 1/e.
    pub reach: f64,
    /// How much it counts that one follows the other, for the one before: 0 where order is all, 1 where it is nothing; none to choose it on
    /// held-back interactions.
    pub backwards: Option<f64>,
}

/// The k nearest items of each item.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourTable {
    /// Neighbours per item.
    pub k: usize,
    /// n × k item numbers, nearest first, [`NO_NEIGHBOUR`] where there are fewer.
    pub items: Vec<u32>,
    /// n × k similarities, 0 where there is no neighbour.
    pub similarities: Vec<f32>,
}

impl Default for NeighbourOptions {
    fn default() -> Self {
        Self { by: Order::Auto, k: 50, shrinkage: 2.0, history: 500, half_life_days: None, reach: 5.0, backwards: None }
    }
}

impl NeighbourOptions {
    /// Checks every number, so that none is told after hours of training.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        let Self { k, shrinkage, reach, .. } = *self;
        let backwards = self.backwards.unwrap_or(USUAL_BACKWARDS);
        check_setting(k <= limits::NEIGHBOURS_PER_ITEM_MAX, "neighbours", k, "0 to 1000")?;
        let is_shrinkage = shrinkage.is_finite() && shrinkage >= 0.0;
        check_setting(is_shrinkage, "neighbour_shrinkage", shrinkage, "a number, 0 or above")?;
        check_setting(reach > 0.0 && reach <= REACH_MAX, "neighbour_reach", reach, "above 0, at most 1000")?;
        check_setting((0.0..=1.0).contains(&backwards), "neighbour_backwards", backwards, "a share, 0 to 1")
    }

    /// Whether so many items are few enough for what makes them alike.
    ///
    /// # Errors
    /// They are too many for a table of n × n.
    pub fn fits(&self, n_items: usize) -> Result<(), TrainError> {
        let found = match self.by {
            Order::Linear => "linear",
            Order::Pearson => "pearson",
            Order::Auto | Order::Together | Order::Following => return Ok(()),
        };
        check_setting(n_items <= ITEMS_MAX, "neighbours-by", found, "together or following for more than 8192 items")
    }
}

/// What backwards is where there is nothing to choose it by.
pub(super) const USUAL_BACKWARDS: f64 = 0.5;

/// The table as the options want it, where they leave nothing open ([`neighbour_choice`](super::neighbour_choice)).
///
/// # Errors
/// As [`by_interactions`]; a number out of range, or more items than a way is for.
pub fn find(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    options.check()?;
    match (options.by, options.backwards) {
        (Order::Together, _) => by_interactions(data, options, progress),
        (Order::Pearson, _) => by_ratings(data, options, progress),
        (Order::Linear, _) => super::linear_neighbours::by_linear_model(data, options, progress),
        (Order::Following, Some(backwards)) => super::following::by_order(data, options, backwards, progress),
        // Nobody has chosen: the middle of what is tried.
        (Order::Following | Order::Auto, _) => super::following::by_order(data, options, USUAL_BACKWARDS, progress),
    }
}

/// Neighbours by what users gave both, where the weight of an interaction is what was given; several of a pair are added up.
fn by_ratings(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    options.fits(data.n_items)?;
    let pairs = SparseRows::users_by_items(data, Fading { half_life_days: options.half_life_days });
    let mut ratings = Ratings { n_users: data.n_users, n_items: data.n_items, ..Ratings::default() };
    for user in 0..pairs.rows() {
        let (items, values) = pairs.row(user);
        ratings.user.extend(items.iter().map(|_| user as u32));
        ratings.item.extend(items);
        ratings.value.extend(values);
    }
    let knn = RatingKnn::new(Side::Items, Similarity::Pearson);
    let biases = knn.baseline.biases(&ratings);
    let similar_to = knn.similar_to(&ratings, &biases);
    let of_item = |(): &mut (), item: usize| positive(item, (0..).zip(similar_to(item)));
    table(data.n_items, options.k, || (), of_item, progress)
}

/// Neighbours by the interactions that items share. Interactions whose weights sum to nothing or less take no part.
///
/// Costs the sum over users of the squared number of their items, over all threads. Memory: the pairs of user and item
/// twice, 8 bytes an item for each thread, and the table.
///
/// # Errors
/// A caller who no longer wants the result.
pub fn by_interactions(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    let recent = most_recent(data.interactions, options.history);
    let data = TrainingData { interactions: &recent, ..*data };
    let by_user = SparseRows::users_by_items(&data, Fading { half_life_days: options.half_life_days });
    let by_user = by_user.mapped(|weight| weight.max(0.0));
    let by_item = by_user.transposed(data.n_items);
    let norms: Vec<f32> = (0..data.n_items).map(|item| crate::matrix::norm(by_item.row(item).1)).collect();
    let of_item = |scratch: &mut Shared, item: usize| {
        scratch.gather(&by_item, &by_user, item);
        let similarity = |other: u32, product: f32, users: u32| {
            let lengths = norms[item] * norms[other as usize];
            let sure = users as f32 / (users as f32 + options.shrinkage);
            if lengths > 0.0 { product / lengths * sure } else { 0.0 }
        };
        scratch.candidates(item as u32, similarity)
    };
    table(data.n_items, options.k, || Shared::new(data.n_items), of_item, progress)
}

/// Runs `of_item` for every item over all threads, a block of items at a time, and keeps the k best of each.
pub(crate) fn table<S>(
    n: usize,
    k: usize,
    scratch: impl Fn() -> S + Sync,
    of_item: impl Fn(&mut S, usize) -> Vec<(u32, f32)> + Sync,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    table_of_groups(n, k, 1, scratch, |scratch, items| items.map(|item| of_item(scratch, item)).collect(), progress)
}

/// As [`table`], of so many items at a time, which stand beside each other: what they are compared with is read once for all of them.
pub(super) fn table_of_groups<S>(
    n: usize,
    k: usize,
    group: usize,
    scratch: impl Fn() -> S + Sync,
    of_items: impl Fn(&mut S, Range<usize>) -> Vec<Vec<(u32, f32)>> + Sync,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    const BLOCK: usize = 4_096;
    let mut out = NeighbourTable { k, items: vec![NO_NEIGHBOUR; n * k], similarities: vec![0.0; n * k] };
    if k == 0 {
        return Ok(out);
    }
    let blocks = out.items.chunks_mut(BLOCK * k).zip(out.similarities.chunks_mut(BLOCK * k)).enumerate();
    for (block, (items, similarities)) in blocks {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        let groups = items.par_chunks_mut(group * k).zip(similarities.par_chunks_mut(group * k)).enumerate();
        groups.for_each_init(&scratch, |scratch, (at, (items, similarities))| {
            let first = block * BLOCK + at * group;
            let rows = items.chunks_mut(k).zip(similarities.chunks_mut(k));
            let found = of_items(scratch, first..first + rows.len());
            for (found, (items, similarities)) in found.into_iter().zip(rows) {
                let best = k_best(found, k);
                for ((item, similarity), (into_items, into_similarities)) in
                    best.iter().zip(items.iter_mut().zip(similarities))
                {
                    (*into_items, *into_similarities) = (*item, *similarity);
                }
            }
        });
        progress.step("neighbours", ((block + 1) * BLOCK).min(n) as u64, n as u64);
    }
    Ok(out)
}

/// The other items that are more like this one than unlike it.
pub(super) fn positive(item: usize, similarities: impl Iterator<Item = (u32, f32)>) -> Vec<(u32, f32)> {
    similarities.filter(|(other, similarity)| *other as usize != item && *similarity > 0.0).collect()
}

/// The k most similar, the most similar first, ties by item number.
pub(super) fn k_best(mut candidates: Vec<(u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if candidates.len() > k {
        candidates.select_nth_unstable_by(k, order);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(order);
    candidates
}

/// The last `most` interactions of each user.
fn most_recent(interactions: &Interactions, most: usize) -> Interactions {
    let mut recent = Interactions::default();
    for (_, rows) in by_user(&interactions.user) {
        append(&mut recent, interactions, rows.end.saturating_sub(most).max(rows.start)..rows.end);
    }
    recent
}

/// What one item shares with every other; one place an item, cleared by walking what was touched.
struct Shared {
    products: Vec<f32>,
    users: Vec<u32>,
    touched: Vec<u32>,
}

impl Shared {
    fn new(n: usize) -> Self {
        Self { products: vec![0.0; n], users: vec![0; n], touched: Vec::new() }
    }

    fn gather(&mut self, by_item: &SparseRows, by_user: &SparseRows, item: usize) {
        let (users, weights) = by_item.row(item);
        for (user, weight) in users.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
            let (others, other_weights) = by_user.row(*user as usize);
            for (other, other_weight) in others.iter().zip(other_weights).filter(|(_, weight)| **weight > 0.0) {
                let at = *other as usize;
                if self.users[at] == 0 {
                    self.touched.push(*other);
                }
                self.users[at] += 1;
                self.products[at] += weight * other_weight;
            }
        }
    }

    /// The other items with their similarity, and this is empty again.
    fn candidates(&mut self, item: u32, similarity: impl Fn(u32, f32, u32) -> f32) -> Vec<(u32, f32)> {
        let mut out = Vec::with_capacity(self.touched.len());
        for other in self.touched.drain(..) {
            let at = other as usize;
            let (product, users) = (self.products[at], self.users[at]);
            (self.products[at], self.users[at]) = (0.0, 0);
            let similarity = similarity(other, product, users);
            if other != item && similarity > 0.0 {
                out.push((other, similarity));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The formula of the module documentation, over a dense matrix in double precision.
    fn naive(interactions: &Interactions, n_users: usize, n_items: usize, shrinkage: f64) -> Vec<Vec<f64>> {
        let mut weights: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for at in 0..interactions.user.len() {
            let pair = (interactions.user[at] as usize, interactions.item[at] as usize);
            *weights.entry(pair).or_default() += f64::from(interactions.weight[at]);
        }
        let w = |u: usize, i: usize| weights.get(&(u, i)).copied().unwrap_or_default().max(0.0);
        let norm = |i: usize| (0..n_users).map(|u| w(u, i) * w(u, i)).sum::<f64>().sqrt();
        let similarity = |i: usize, j: usize| {
            let product: f64 = (0..n_users).map(|u| w(u, i) * w(u, j)).sum();
            let users = (0..n_users).filter(|u| w(*u, i) > 0.0 && w(*u, j) > 0.0).count() as f64;
            if i == j || users == 0.0 { 0.0 } else { product / (norm(i) * norm(j)) * users / (users + shrinkage) }
        };
        (0..n_items).map(|i| (0..n_items).map(|j| similarity(i, j)).collect()).collect()
    }

    const USERS: usize = 8;
    const ITEMS: usize = 9;

    fn logs() -> impl Strategy<Value = Interactions> {
        let event = (0..USERS as u32, 0..ITEMS as u32, prop::sample::select(vec![1.0_f32, 2.0, 5.0, -1.0]));
        prop::collection::vec(event, 0..60).prop_map(|mut events| {
            events.sort_by_key(|(user, ..)| *user);
            Interactions {
                user: events.iter().map(|e| e.0).collect(),
                item: events.iter().map(|e| e.1).collect(),
                kind: vec![0; events.len()],
                weight: events.iter().map(|e| e.2).collect(),
                time_ms: (0..events.len() as i64).collect(),
            }
        })
    }

    /// Each row holds the k largest similarities of `wanted`, in order.
    fn check(table: &NeighbourTable, wanted: &[Vec<f64>]) {
        for (item, wanted) in wanted.iter().enumerate() {
            let mut best: Vec<f64> = wanted.iter().copied().filter(|s| *s > 1e-6).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            best.truncate(table.k);
            let row = item * table.k..(item + 1) * table.k;
            let found: Vec<(u32, f32)> =
                table.items[row.clone()].iter().copied().zip(table.similarities[row].iter().copied()).collect();
            let found: Vec<_> = found.into_iter().take_while(|(other, _)| *other != NO_NEIGHBOUR).collect();
            assert_eq!(found.len(), best.len(), "item {item}");
            for ((other, similarity), best) in found.iter().zip(best) {
                assert!((f64::from(*similarity) - best).abs() < 1e-5, "item {item}");
                assert!((f64::from(*similarity) - wanted[*other as usize]).abs() < 1e-5, "item {item}, {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula(interactions in logs(), k in 1..7_usize, shrinkage in 0.0_f32..4.0) {
            let data = TrainingData { interactions: &interactions, n_users: USERS, n_items: ITEMS };
            let options = NeighbourOptions { k, shrinkage, ..NeighbourOptions::default() };
            let table = by_interactions(&data, &options, &()).unwrap();
            check(&table, &naive(&interactions, USERS, ITEMS, f64::from(shrinkage)));
        }
    }

    #[test]
    fn what_is_given_alike_is_alike_by_ratings_though_as_many_saw_the_other() {
        // All users gave all four items something: 0 and 1 the same, 2 and 3 the opposite of it.
        let mut log = Interactions::default();
        for user in 0..20_u32 {
            let (high, low) = if user % 2 == 0 { (5.0, 1.0) } else { (1.0, 5.0) };
            [high, high, low, low].iter().zip(0..).for_each(|(given, item)| log.push(user, item, 0, *given, 0));
        }
        let data = TrainingData { interactions: &log, n_users: 20, n_items: 4 };
        let options = NeighbourOptions { by: Order::Pearson, k: 2, ..NeighbourOptions::default() };
        let table = find(&data, &options, &()).unwrap();
        assert_eq!(table.items, [1, NO_NEIGHBOUR, 0, NO_NEIGHBOUR, 3, NO_NEIGHBOUR, 2, NO_NEIGHBOUR]);
        let large = TrainingData { n_items: ITEMS_MAX + 1, ..data };
        assert!(find(&large, &options, &()).unwrap_err().to_string().contains("neighbours-by is pearson"));
    }

    #[test]
    fn only_the_last_interactions_of_a_busy_user_count() {
        let interactions = Interactions {
            user: vec![0, 0, 0, 1, 1],
            item: vec![0, 1, 2, 0, 1],
            kind: vec![0; 5],
            weight: vec![1.0; 5],
            time_ms: vec![0, 1, 2, 0, 1],
        };
        let recent = most_recent(&interactions, 2);
        assert_eq!((recent.user, recent.item), (vec![0, 0, 1, 1], vec![1, 2, 0, 1]));
    }
}

//! Choosing what makes items alike, on interactions held back from training.
//!
//! Films that one user saw on the same evening say most by their order, what a shop's visitor looked at hardly anything. So the last interaction of
//! some users is held back, a table is made of the rest in each way, and the one that ranks the held-back items best, by NDCG@10, is taken: each item
//! by the similarities of the user's others to it, weighed by [`decay::USUAL`], among those that the user has not seen. The test part of the dataset
//! takes no part in it.

use std::collections::HashMap;

use rayon::prelude::*;

use super::decay::{self, Case, HeldBack};
use super::linear_neighbours;
use super::neighbours::{self, NeighbourOptions, NeighbourTable, Order};
use super::{TrainError, TrainProgress, TrainingData};
use crate::model_dir::NO_NEIGHBOUR;

/// Fewer held-back interactions say too little to choose by.
const CASES_MIN: usize = 50;
/// Held-back interactions that are looked at, at most.
const CASES_MAX: usize = 10_000;
/// The most recent interactions of a user that take part.
const RECENT: usize = 50;
/// What is tried: 0 and 1 are the ends, and between them one is as good as another.
const BACKWARDS: [f64; 3] = [0.0, 0.5, 1.0];

/// The options with what they leave open filled in. Costs a table for each way that is tried.
///
/// # Errors
/// As [`neighbours::find`]; what is wrong with the options is told before any work.
pub fn choose(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    seed: u64,
    progress: &dyn TrainProgress,
) -> Result<NeighbourOptions, TrainError> {
    options.check()?;
    options.fits(data.n_items)?;
    let ways = ways(options, data.n_items, data.interactions.len());
    let usual = NeighbourOptions { by: Order::Following, backwards: Some(neighbours::USUAL_BACKWARDS), ..*options };
    let [first, _, ..] = ways[..] else { return Ok(ways.into_iter().next().unwrap_or(usual)) };
    let held_back = HeldBack::of(data, seed);
    if options.k == 0 || held_back.cases.len() < CASES_MIN {
        return Ok(if options.by == Order::Together { first } else { usual });
    }
    let rest = TrainingData { interactions: &held_back.rest, ..*data };
    let best = best_of(ways, &held_back, |way| neighbours::find(&rest, way, progress))?;
    Ok(best.unwrap_or(first))
}

/// The way whose table ranks best what was held back; none if no way has a table.
fn best_of(
    ways: Vec<NeighbourOptions>,
    held_back: &HeldBack,
    find: impl Fn(&NeighbourOptions) -> Result<NeighbourTable, TrainError>,
) -> Result<Option<NeighbourOptions>, TrainError> {
    let mut best: Option<(f64, NeighbourOptions)> = None;
    for way in ways {
        let table = match find(&way) {
            // Nobody did one thing after another, or the linear model is nothing for these interactions.
            Err(TrainError::NoSequences | TrainError::Unsolved) => continue,
            table => table?,
        };
        let gain = gain(&table, held_back);
        if best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, way));
        }
    }
    Ok(best.map(|(_, way)| way))
}

fn ways(options: &NeighbourOptions, n_items: usize, n_interactions: usize) -> Vec<NeighbourOptions> {
    let backwards = options.backwards.map_or_else(|| BACKWARDS.to_vec(), |given| vec![given]);
    let following = backwards.into_iter().map(|backwards| {
        let backwards = Some(backwards);
        NeighbourOptions { by: Order::Following, backwards, ..*options }
    });
    match options.by {
        Order::Auto => {
            let linear = NeighbourOptions { by: Order::Linear, ..*options };
            let together = NeighbourOptions { by: Order::Together, ..*options };
            let fits = n_items <= linear_neighbours::ITEMS_MAX && n_interactions <= linear_neighbours::INTERACTIONS_MAX;
            following.chain([together]).chain(fits.then_some(linear)).collect()
        }
        Order::Following => following.collect(),
        Order::Together => vec![*options],
        Order::Linear | Order::Pearson => vec![*options],
    }
}

/// NDCG@10 of the held-back items.
fn gain(table: &NeighbourTable, held_back: &HeldBack) -> f64 {
    let cases = &held_back.cases[..held_back.cases.len().min(CASES_MAX)];
    let gains: Vec<f64> = cases.par_iter().map(|case| rank(table, held_back, case).map_or(0.0, decay::gain)).collect();
    gains.iter().sum::<f64>() / gains.len().max(1) as f64
}

/// How many items that the user has not seen score higher than the one held back, and half of those that score the same; none where nothing
/// speaks for it.
fn rank(table: &NeighbourTable, held_back: &HeldBack, case: &Case) -> Option<usize> {
    let (items, weights) = (&held_back.rest.item, &held_back.rest.weight);
    let seen = items.get(case.history.clone())?;
    let mut scores: HashMap<u32, f32> = HashMap::new();
    let liked = case.history.clone().rev().filter(|at| weights[*at] > 0.0).take(RECENT);
    for (position, at) in liked.enumerate() {
        let weight = weights[at] * (-(position as f32) / decay::USUAL).exp();
        let row = items[at] as usize * table.k..(items[at] as usize + 1) * table.k;
        for (other, similarity) in table.items[row.clone()].iter().zip(&table.similarities[row]) {
            if *other == NO_NEIGHBOUR {
                break;
            }
            *scores.entry(*other).or_default() += weight * similarity;
        }
    }
    let wanted = *scores.get(&case.item)?;
    let (mut above, mut same) = (0, 0_usize);
    for (_, score) in scores.iter().filter(|(item, score)| **score >= wanted && !seen.contains(item)) {
        above += usize::from(*score > wanted);
        same += usize::from(*score == wanted);
    }
    Some(above + same.saturating_sub(1) / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::dataset::Interactions;

    /// Users who walk round a ring of items, all in the same direction, or to and fro.
    fn walks(to_and_fro: bool) -> Interactions {
        let mut log = Interactions::default();
        for user in 0..400_u32 {
            for step in 0..4_i32 {
                let forwards = !to_and_fro || user % 2 == 0;
                let place = user as i32 + if forwards { step } else { -step };
                log.push(user, place.rem_euclid(40) as u32, 0, 1.0, i64::from(step));
            }
        }
        log
    }

    fn chosen(log: &Interactions, options: &NeighbourOptions) -> NeighbourOptions {
        choose(&TrainingData { interactions: log, n_users: 400, n_items: 40 }, options, 1, &()).unwrap()
    }

    #[test]
    fn order_counts_where_it_says_something() {
        let one_way = chosen(&walks(false), &NeighbourOptions::default());
        assert!(one_way.by == Order::Linear || one_way.backwards == Some(0.0), "{one_way:?}");
        let log = walks(true);
        let to_and_fro = chosen(&log, &NeighbourOptions::default());
        assert!(to_and_fro.by != Order::Following || to_and_fro.backwards > Some(0.0), "{to_and_fro:?}");
        let given = NeighbourOptions { by: Order::Together, ..NeighbourOptions::default() };
        assert_eq!(chosen(&log, &given), given);
        let given = NeighbourOptions { by: Order::Following, backwards: Some(0.25), ..NeighbourOptions::default() };
        assert_eq!(chosen(&log, &given), given);
    }

    #[test]
    fn a_way_that_leads_nowhere_leaves_the_others() {
        let log = walks(false);
        let data = TrainingData { interactions: &log, n_users: 400, n_items: 40 };
        let held_back = HeldBack::of(&data, 1);
        let rest = TrainingData { interactions: &held_back.rest, ..data };
        let by = |find: &dyn Fn(&NeighbourOptions) -> Result<NeighbourTable, TrainError>| {
            best_of(ways(&NeighbourOptions::default(), 40, log.len()), &held_back, find)
        };
        let but_linear = by(&|way| match way.by {
            Order::Linear => Err(TrainError::Unsolved),
            _ => neighbours::find(&rest, way, &()),
        });
        assert_eq!(but_linear.unwrap().map(|way| (way.by, way.backwards)), Some((Order::Following, Some(0.0))));
        assert_eq!(by(&|_| Err(TrainError::NoSequences)).unwrap(), None);
        assert!(matches!(by(&|_| Err(TrainError::Cancelled)), Err(TrainError::Cancelled)));
    }

    #[test]
    fn of_those_that_score_the_same_half_stand_before() {
        // Item 0 is followed by 1 to 5, all alike; 1 has been seen.
        let table = NeighbourTable { k: 5, items: vec![1, 2, 3, 4, 5], similarities: vec![0.5; 5] };
        let mut rest = Interactions::default();
        rest.push(0, 1, 0, -1.0, 0);
        rest.push(0, 0, 0, 1.0, 1);
        let held_back = HeldBack { rest, cases: Vec::new() };
        let case = |item: u32| Case { history: 0..2, item, now_ms: 2 };
        assert_eq!(rank(&table, &held_back, &case(4)), Some(1), "half of the three others");
        assert_eq!(rank(&table, &held_back, &case(9)), None);
    }

    #[test]
    fn the_linear_model_is_tried_where_it_fits_into_memory() {
        let tried = |n_items, n_interactions| {
            let ways = ways(&NeighbourOptions::default(), n_items, n_interactions);
            ways.iter().any(|way| way.by == Order::Linear)
        };
        let (items, interactions) = (linear_neighbours::ITEMS_MAX, linear_neighbours::INTERACTIONS_MAX);
        assert!(tried(items, interactions) && !tried(items + 1, 1) && !tried(40, interactions + 1));
    }

    #[test]
    fn what_cannot_be_made_is_told_before_anything_is() {
        let log = walks(false);
        let refused = |n_items: usize, options: &NeighbourOptions| {
            let data = TrainingData { interactions: &log, n_users: 400, n_items };
            choose(&data, options, 1, &()).unwrap_err().to_string()
        };
        // Ways that leave nothing open, so that no table is made to choose by.
        let linear = NeighbourOptions { by: Order::Linear, ..NeighbourOptions::default() };
        let many = refused(linear_neighbours::ITEMS_MAX + 1, &linear);
        assert!(many.contains("neighbours-by is linear"), "{many}");
        let together = NeighbourOptions { by: Order::Together, ..linear };
        for (options, told) in [
            (NeighbourOptions { k: 1_001, ..together }, "neighbours is 1001"),
            (NeighbourOptions { shrinkage: -2.0, ..together }, "neighbour_shrinkage is -2"),
            (NeighbourOptions { by: Order::Following, backwards: Some(1.5), ..together }, "neighbour_backwards is 1.5"),
        ] {
            let error = refused(40, &options);
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn too_little_to_choose_by_is_answered_with_the_usual() {
        let mut few = Interactions::default();
        few.push(0, 1, 0, 1.0, 0);
        let found = chosen(&few, &NeighbourOptions::default());
        assert_eq!((found.by, found.backwards), (Order::Following, Some(neighbours::USUAL_BACKWARDS)));
    }
}

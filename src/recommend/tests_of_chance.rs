//! How likely an item is shown, as it is told, against how often it is.

use std::collections::{BTreeMap, BTreeSet};

use kindred_index::{ItemAttributes, Metric};

use super::propose::newness;
use super::tests_of_rules::{N, NOW_MS, run};
use super::*;
use crate::scenario::Exploration;
use crate::testing::Fixture;

fn exploring(method: &str, limit: usize) -> Scenario {
    let filter = r#"{"key": "category", "match": {"value": "garden"}}"#;
    let text = format!(r#"{{"method": "{method}", "filter": {filter}, "epsilon": 0.4, "sigma": 2.0}}"#);
    Scenario { limit, explore: Some(serde_json::from_str(&text).unwrap()), ..Scenario::home() }
}

/// Answers to one question under many seeds.
fn draws(scenario: &Scenario, times: u64) -> impl Iterator<Item = Vec<Recommendation>> + '_ {
    let model = Fixture::random(5, N, 12, Metric::Cosine).model();
    let history = [Interaction::new(Fixture::key(3), "view", NOW_MS)];
    (0..times).map(move |seed| {
        run(&model, scenario, &RecommendRequest { seed, ..RecommendRequest::new(&history, NOW_MS) }).unwrap().items
    })
}

#[test]
fn told_propensities_are_the_frequencies_of_many_draws() {
    const TIMES: u64 = 20_000;
    let scenario = exploring("epsilon_greedy", 1);
    let (mut shown, mut told) = (BTreeMap::new(), BTreeMap::new());
    for items in draws(&scenario, TIMES) {
        *shown.entry(items[0].ordinal).or_insert(0.0) += 1.0 / TIMES as f64;
        told.insert(items[0].ordinal, items[0].propensity.unwrap());
    }
    assert!((told.values().sum::<f64>() - 1.0).abs() < 1e-9, "one of them stands there: {told:?}");
    // Of the 20 in the category two are not available, and one more has its place by its score or is one of them.
    assert!(shown.len() >= 18, "every new item has its chance: {shown:?}");
    for (item, share) in shown {
        let told: f64 = told[&item];
        let error = (told * (1.0 - told) / TIMES as f64).sqrt();
        assert!((share - told).abs() <= 4.0 * error, "{item}: {share} against {told} within 4 times {error}");
    }
}

#[test]
fn in_any_place_a_new_item_stands_as_often_as_is_told() {
    const TIMES: u64 = 20_000;
    // Where an item is still free, it comes to a place with the chance that is told. So drawn places, each weighed by 1 / propensity, are as
    // many as there are places with a free new item, one for each.
    let scenario = exploring("epsilon_greedy", 3);
    let mut weighed: BTreeMap<(usize, u32), (f64, f64)> = BTreeMap::new();
    let mut free: BTreeMap<(usize, u32), f64> = BTreeMap::new();
    let mut new: BTreeSet<u32> = BTreeSet::new();
    let lists: Vec<Vec<Recommendation>> = draws(&scenario, TIMES).collect();
    lists.iter().flatten().filter(|one| one.placement == Some(Placement::Explored)).for_each(|one| {
        new.insert(one.ordinal);
    });
    for list in &lists {
        for (place, item) in list.iter().enumerate() {
            let above: Vec<u32> = list[..place].iter().map(|one| one.ordinal).collect();
            new.iter()
                .filter(|one| !above.contains(one))
                .for_each(|one| *free.entry((place, *one)).or_default() += 1.0);
            let (sum, squares) = weighed.entry((place, item.ordinal)).or_default();
            let weight = 1.0 / item.propensity.unwrap();
            (*sum, *squares) = (*sum + weight, *squares + weight * weight);
        }
    }
    let mut compared = 0;
    for ((place, item), (sum, squares)) in weighed.into_iter().filter(|((_, item), _)| new.contains(item)) {
        // A sum of independent terms: its variance is at most the sum of their squares.
        let (expected, error) = (free[&(place, item)], squares.sqrt());
        assert!((sum - expected).abs() <= 4.0 * error, "{item} in place {place}: {sum} against {expected}, {error}");
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn a_drawn_score_brings_an_item_into_the_list_as_often_as_is_told() {
    const TIMES: u64 = 20_000;
    // What is told is a chance given the other draws, so it differs from draw to draw; weighed by it, every item is shown once a draw.
    let scenario = exploring("thompson", 5);
    let mut sums: BTreeMap<u32, (f64, f64, u64)> = BTreeMap::new();
    for item in draws(&scenario, TIMES).flatten().filter(|one| one.propensity < Some(1.0)) {
        let weight = 1.0 / item.propensity.unwrap();
        let (sum, squares, times) = sums.entry(item.ordinal).or_default();
        (*sum, *squares, *times) = (*sum + weight, *squares + weight * weight, *times + 1);
    }
    let often: Vec<_> = sums.iter().filter(|(_, (.., times))| *times >= 1_000).collect();
    assert!(often.len() > 5, "new items come into the list: {sums:?}");
    for (item, (sum, squares, times)) in often {
        let error = (squares - sum * sum / TIMES as f64).sqrt();
        assert!((sum - TIMES as f64).abs() <= 4.0 * error, "{item}, {times} times: {sum} against {TIMES}, {error}");
    }
}

#[test]
fn only_the_best_new_items_are_drawn_and_none_that_comes_last() {
    let explored = |scenario: &Scenario| -> BTreeSet<u32> {
        let items = draws(scenario, 400).flatten();
        items.filter(|one| one.placement == Some(Placement::Explored)).map(|one| one.ordinal).collect()
    };
    let mut scenario = exploring("epsilon_greedy", 5);
    assert!(explored(&scenario).len() > 10);
    scenario.explore.as_mut().unwrap().pool = 2;
    assert_eq!(explored(&scenario).len(), 2);
    // What is new is buried: nothing is left to chance.
    scenario.bury = scenario.explore.as_ref().unwrap().filter.clone();
    assert!(explored(&scenario).is_empty());
    assert!(draws(&scenario, 20).flatten().all(|one| one.propensity == Some(1.0)));
}

#[test]
fn what_is_new_is_asked_for_in_the_same_words_for_a_minute() {
    let explore: Exploration = serde_json::from_str(r#"{"method": "thompson", "new_within_hours": 2}"#).unwrap();
    let began = NOW_MS - NOW_MS.rem_euclid(60_000);
    assert_eq!(newness(&explore, began), newness(&explore, began + 59_999));
    assert_ne!(newness(&explore, began), newness(&explore, began + 60_000));
    let is_new = |age_ms: i64| {
        let numbers = vec![("published_at".to_owned(), (NOW_MS - age_ms) as f64)];
        newness(&explore, NOW_MS).matches("", &ItemAttributes { numbers, ..ItemAttributes::default() })
    };
    let two_hours = 2 * 3_600_000;
    assert!(is_new(0) && is_new(two_hours) && !is_new(two_hours + 60_000) && !is_new(-60_000));
}

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kindred::catalog::CatalogItem;
use kindred::scenario::Boost;
use kindred::trending::TrendingSettings;

use super::*;
use crate::train::als::Als;

/// Forty users an hour, each taking what everyone takes in that hour, and one item of their own taste between.
fn news() -> Material {
    let mut interactions = Interactions::default();
    for user in 0..400_u32 {
        let hour = user / 40;
        for step in 0..4_u32 {
            let of_the_hour = 20 + (hour * 3 + step / 2 + user % 2) % 40;
            let item = if step % 2 == 0 { of_the_hour } else { (user * 7 + step) % 20 };
            let time_ms = 1_700_000_000_000
                + i64::from(hour) * 3_600_000
                + i64::from(user % 40) * 60_000
                + i64::from(step) * 1_000;
            interactions.push(user, item, 0, 1.0, time_ms);
        }
    }
    Material {
        interactions,
        n_users: 400,
        items: (0..60).map(|i| CatalogItem::new(format!("item-{i}"))).collect(),
        kinds: vec!["view".to_owned()],
        kind_weights: Default::default(),
        fingerprint: None,
    }
}

/// [`super::learn`] with all that a user did.
fn learn(material: &Material, als: &Als, scenario: &Scenario) -> anyhow::Result<Learned> {
    let (options, progress) = (ModelOptions::default(), Progress::hidden());
    super::learn(material, als, &options, scenario, &trending(), limits::HISTORY_MAX, &progress)
}

fn trending() -> TrendingSettings {
    TrendingSettings { window_hours: 2.0, half_life_hours: 0.5, refresh_ms: 1_000, minimum_count: 2, by: Vec::new() }
}

#[test]
fn the_last_users_are_held_out_whole() {
    let (rest, held_out) = hold_out(&news(), 1);
    assert_eq!((rest.interactions.user.len(), held_out.test.user.len()), (1_440, 160));
    assert!(held_out.test.user.iter().all(|user| *user >= 360), "the last hour's");
    assert!(rest.interactions.user.iter().all(|user| *user < 360));
    assert_eq!((rest.items.len(), held_out.keys.len()), (60, 60));
}

#[test]
fn where_times_are_places_the_last_of_each_user_is_held_out() {
    let mut places = news();
    (0_i64..).zip(&mut places.interactions.time_ms).for_each(|(row, time_ms)| *time_ms = row % 4 * 1_000);
    let (rest, held_out) = hold_out(&places, 1);
    assert_eq!((rest.interactions.user.len(), held_out.test.user.len()), (1_200, 400));
    assert!(held_out.test.time_ms.iter().all(|time_ms| *time_ms == 3_000));
}

#[test]
fn what_is_taken_by_the_hour_gets_a_weight() {
    let als = Als { factors: 8, iterations: 4, ..Als::default() };
    let learned = learn(&news(), &als, &Scenario::home()).unwrap();
    assert_eq!(learned.n_lists, 120);
    let weights = learned.weights.expect("better than weights that know no trend");
    assert!(weights.trending > 0.5 * weights.vector, "{learned:?}");
    assert!(learned.as_learned.ndcg_at_10 > learned.as_set.ndcg_at_10, "{learned:?}");
    assert!(learned.as_learned.hit_rate_at_10 <= learned.proposed, "{learned:?}");
}

#[test]
fn what_holds_in_half_of_the_lists_only_is_not_learned() {
    // The vector puts five before what was taken. In one half neighbours know it and sessions name all others, in the other half the reverse.
    let list = |half: usize| {
        let row = |at: usize| {
            let [vector, knows, misleads] = match at {
                0 => [0.5, 1.0, 0.0],
                1..=5 => [1.0, 0.0, 1.0],
                _ => [0.0, 0.0, 1.0],
            };
            let (neighbours, sessions) = if half == 0 { (knows, misleads) } else { (misleads, knows) };
            [vector, neighbours, sessions, 0.0, 0.0, 0.0]
        };
        Candidates { parts: (0..20).map(row).collect(), taken: Some(0) }
    };
    let asked: Vec<Candidates> = (0..200).map(|at| list(at / 100)).collect();
    let fitted = worth(&ranks(&asked, &fit::weights(&asked)));
    let learned = learned(&asked, &SourceWeights { vector: 1.0, ..SourceWeights::none() });
    assert!(fitted.ndcg_at_10 > learned.as_set.ndcg_at_10 + 0.1, "{fitted:?} on their own lists, {learned:?}");
    assert!(learned.as_learned.ndcg_at_10 < learned.as_set.ndcg_at_10, "{learned:?}");
    assert_eq!(learned.weights, None);
}

#[test]
fn how_much_the_age_of_an_item_counts_is_learned_where_a_scenario_asks_for_it() {
    // Everyone takes what was published within the hour, three new items an hour.
    let mut material = news();
    for (number, item) in (0_i64..).zip(&mut material.items) {
        let hour = if number < 20 { 0 } else { (number - 20) / 3 };
        let published = 1_700_000_000_000 + hour * 3_600_000;
        item.attributes.insert("published_at".to_owned(), serde_json::json!(published));
    }
    let boost = |learned: bool| Boost {
        name: "fresh".to_owned(),
        weight: 0.1,
        decay: serde_json::from_value(serde_json::json!({
            "function": "exp", "key": "published_at", "target": "now", "scale": 3_600
        }))
        .unwrap(),
        learned,
        ..Boost::default()
    };
    let als = Als { factors: 8, iterations: 4, ..Als::default() };
    let weights = |learned: bool| {
        let scenario = Scenario { boosts: vec![boost(learned)], ..Scenario::home() };
        learn(&material, &als, &scenario).unwrap().weights.unwrap()
    };
    assert!(weights(true).boosts.is_some_and(|boosts| boosts > 0.0), "{:?}", weights(true));
    assert_eq!(weights(false).boosts, None);
}

#[test]
fn lists_for_nobody_and_too_few_lists_are_refused() {
    let als = Als { factors: 4, iterations: 1, ..Als::default() };
    let learn = |material: &Material, scenario: &Scenario| learn(material, &als, scenario).unwrap_err().to_string();
    assert!(learn(&news(), &Scenario::popular()).contains("based_on"));
    let mut few = news();
    let keep: Vec<bool> = few.interactions.user.iter().map(|user| *user < 100).collect();
    few.interactions.retain(&keep);
    assert!(learn(&few, &Scenario::home()).contains("--learn-weights"));
    // Of the three lists that each of the last forty users is asked for, one is of what is taken by the hour.
    let hourly: Vec<String> = (20..60).map(|i| format!("item-{i}")).collect();
    let filter = Some(serde_json::from_value(serde_json::json!({ "has_id": hourly })).unwrap());
    let told = learn(&news(), &Scenario { filter, ..Scenario::home() });
    assert!(told.starts_with("40 lists to learn weights on"), "{told}");
}

#[test]
fn too_few_lists_are_told_before_a_model_is_trained() {
    // With these settings none can be.
    let als = Als { factors: 0, ..Als::default() };
    for users in [1, 100] {
        let mut few = news();
        let keep: Vec<bool> = few.interactions.user.iter().map(|user| *user < users).collect();
        few.interactions.retain(&keep);
        let told = learn(&few, &als, &Scenario::home()).unwrap_err().to_string();
        assert!(told.contains("lists to learn weights on"), "{told}");
    }
}

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kindred::testing::Fixture;
use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
use kindred_index::{FILTER_PARTS_MAX, IndexInput, Metric};

use super::*;

/// Rows of (user, item, weight, time) as a table.
fn table(rows: &[(u32, u32, f32, i64)]) -> Interactions {
    Interactions {
        user: rows.iter().map(|row| row.0).collect(),
        item: rows.iter().map(|row| row.1).collect(),
        kind: vec![0; rows.len()],
        weight: rows.iter().map(|row| row.2).collect(),
        time_ms: rows.iter().map(|row| row.3).collect(),
    }
}

fn options(ks: &[usize]) -> EvaluateOptions {
    EvaluateOptions {
        ks: ks.to_vec(),
        exact_only: false,
        protocol: Protocol::HeldOut,
        users: None,
        only_new: false,
        seed: 1,
        trending: None,
    }
}

fn held_out(fixture: &Fixture, train: &[(u32, u32, f32, i64)], test: &[(u32, u32, f32, i64)]) -> HeldOut {
    let mut keys = fixture.keys();
    keys.push("not-in-the-artifact".to_owned());
    let (kinds, history_max) = (vec!["view".to_owned()], limits::HISTORY_MAX);
    HeldOut { train: table(train), test: table(test), kinds, keys, history_max }
}

fn list<D: AsRef<[u8]>>(model: &Model<D>, history: &[Interaction], limit: usize) -> Vec<u32> {
    let request = RecommendRequest { limit: Some(limit), exact: true, ..RecommendRequest::new(history, 100) };
    let mut scratch = RecommendScratch::default();
    let answer = recommend(model, &Scenario::home(), &Weighting::default(), &request, &mut scratch, &mut |_| ());
    answer.unwrap().items.iter().map(|item| item.ordinal).collect()
}

#[test]
fn asks_exactly_what_a_request_asks() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let history = |items: &[u32]| -> Vec<Interaction> {
        items.iter().zip(0..).map(|(i, t)| Interaction::new(Fixture::key(*i as usize), "view", t)).collect()
    };
    let (first, second) = (list(&model, &history(&[0, 4]), 10), list(&model, &history(&[1, 5]), 10));
    // User 3 goes on to the best of the list, user 8 to the third; user 9 to something that is not in it.
    let missed = (0..60).find(|item| !second.contains(item) && item % 10 != 9 && ![1, 5].contains(item)).unwrap();
    let train = [(3, 0, 1.0, 0), (3, 4, 1.0, 1), (8, 1, 1.0, 0), (8, 5, 1.0, 1), (9, 1, 1.0, 0), (9, 5, 1.0, 1)];
    let test = [(3, first[0], 1.0, 100), (8, second[2], 1.0, 100), (9, missed, 1.0, 100)];
    let held_out = held_out(&fixture, &train, &test);
    let found =
        evaluate(&model, &held_out, &Scenario::home(), &Weighting::default(), &options(&[1, 10]), &|_, _| (), None)
            .unwrap();
    assert_eq!((found.n_users, found.n_relevant, found.skipped), (3, 3, Skipped::default()));
    let mut lines = Vec::new();
    let again = evaluate(
        &model,
        &held_out,
        &Scenario::home(),
        &Weighting::default(),
        &options(&[1, 10]),
        &|_, _| (),
        Some(&mut lines),
    );
    assert_eq!(again.unwrap().systems, found.systems);
    let lines: Vec<serde_json::Value> =
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let keys = |list: &[u32]| list.iter().map(|ordinal| Fixture::key(*ordinal as usize)).collect::<Vec<_>>();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["exact"], serde_json::json!(keys(&first)));
    assert_eq!(lines[1]["index"], serde_json::json!(keys(&second)));
    assert_eq!((&lines[2]["user"], &lines[2]["relevant"][0]), (&9.into(), &Fixture::key(missed as usize).into()));
    let names: Vec<&str> = found.systems.iter().map(|system| system.name).collect();
    assert_eq!(names, ["index", "exact", "popular"]);
    for system in &found.systems[..2] {
        let [one, ten] = system.at[..] else { panic!("two lengths") };
        assert!((one.hit_rate - 1.0 / 3.0).abs() < 1e-9, "{system:?}");
        assert!((ten.hit_rate - 2.0 / 3.0).abs() < 1e-9, "{system:?}");
        assert!((ten.mrr - (1.0 + 1.0 / 3.0) / 3.0).abs() < 1e-9, "{system:?}");
        assert!((ten.ndcg - (1.0 + 0.5) / 3.0).abs() < 1e-9, "{system:?}");
        assert!((ten.recall - ten.hit_rate).abs() < 1e-9 && (ten.map - ten.mrr).abs() < 1e-9);
        assert!(ten.coverage >= 10.0 / 60.0 && ten.coverage <= 20.0 / 60.0);
    }
    assert!(found.list_overlap.iter().all(|overlap| overlap.share > 0.9), "{:?}", found.list_overlap);
}

#[test]
fn what_is_left_out_is_counted() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let train = [(0, 0, 1.0, 0), (1, 1, 1.0, 0), (3, 2, 1.0, 0)];
    let test = [
        (0, 0, 1.0, 9),
        (0, 4, -1.0, 9),
        (0, 60, 1.0, 9),
        (0, 9, 1.0, 9),
        (1, 5, 1.0, 9),
        (1, 5, 1.0, 9),
        (2, 7, 1.0, 9),
        (3, 6, 1.0, 9),
    ];
    let held_out = held_out(&fixture, &train, &test);
    let asked = |options: &EvaluateOptions| {
        evaluate(&model, &held_out, &Scenario::home(), &Weighting::default(), options, &|_, _| (), None).unwrap()
    };
    let wanted = Skipped {
        without_history: 1,
        unknown_items: 1,
        seen_before: 1,
        not_liked: 1,
        repeated: 1,
        not_new: 0,
        unavailable: 1,
        users_without_any: 2,
        users_not_sampled: 0,
    };
    let found = asked(&options(&[10]));
    assert_eq!((found.n_users, found.n_relevant, found.skipped), (2, 2, wanted));
    let found = asked(&EvaluateOptions { users: Some(1), exact_only: true, ..options(&[10]) });
    assert_eq!((found.n_users, found.skipped.users_not_sampled), (1, 1));
    assert_eq!(found.systems[0].name, "exact");
    assert!(found.list_overlap.is_empty());
}

#[test]
fn nobody_to_ask_and_lists_of_no_length_are_refused() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let held_out = held_out(&fixture, &[(0, 0, 1.0, 0)], &[(1, 1, 1.0, 9)]);
    let asked = |options: &EvaluateOptions| {
        let error = evaluate(&model, &held_out, &Scenario::home(), &Weighting::default(), options, &|_, _| (), None);
        error.unwrap_err()
    };
    assert!(matches!(asked(&options(&[10])), EvaluateError::NoUsers { skipped } if skipped.without_history == 1));
    assert!(matches!(asked(&options(&[0])), EvaluateError::K { found: 0 }));
    assert!(matches!(asked(&options(&[])), EvaluateError::K { found: 0 }));
    assert!(matches!(asked(&options(&[1_001])), EvaluateError::K { found: 1_001 }));
}

#[test]
fn a_list_for_items_that_nobody_has_named_is_not_judged() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let held_out = held_out(&fixture, &[(0, 0, 1.0, 0)], &[(0, 1, 1.0, 9)]);
    for based_on in [Basis::SimilarItems, Basis::ItemsTogether, Basis::List] {
        let scenario = Scenario { based_on, ..Scenario::home() };
        let (weighting, options) = (Weighting::default(), options(&[10]));
        let error = evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), None).unwrap_err();
        assert!(matches!(error, EvaluateError::NeedsItems), "{based_on:?}: {error}");
    }
    let scenario = Scenario::popular();
    let (weighting, options) = (Weighting::default(), options(&[10]));
    assert!(evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), None).is_ok());
}

#[test]
fn each_event_is_predicted_from_those_before_it() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let history = |items: &[u32]| -> Vec<Interaction> {
        items.iter().zip(0..).map(|(i, t)| Interaction::new(Fixture::key(*i as usize), "view", t)).collect()
    };
    // User 1 is known and goes on to the best item twice; user 2 is not, so that the first of three steps says nothing.
    let first = list(&model, &history(&[0]), 1)[0];
    let second = list(&model, &history(&[0, first]), 1)[0];
    let train = [(1, 0, 1.0, 0)];
    let test = [(1, first, 1.0, 1), (1, second, 1.0, 2), (2, 4, 1.0, 1), (2, 5, 1.0, 2), (2, 4, 1.0, 3)];
    let held_out = held_out(&fixture, &train, &test);
    let asked = |scenario: &Scenario| {
        let options = EvaluateOptions { protocol: Protocol::NextEvent, ..options(&[1]) };
        evaluate(&model, &held_out, scenario, &Weighting::default(), &options, &|_, _| (), None).unwrap()
    };
    let found = asked(&Scenario::home());
    assert_eq!((found.n_users, found.n_lists, found.n_relevant), (2, 3, 3));
    assert_eq!((found.skipped.without_history, found.skipped.seen_before), (1, 1));
    assert!(found.systems[1].at[0].hit_rate >= 2.0 / 3.0 - 1e-9, "{:?}", found.systems[1]);
    let found = asked(&Scenario { exclude_seen: false, ..Scenario::home() });
    assert_eq!((found.n_lists, found.skipped.seen_before), (4, 0));
}

#[test]
fn what_a_user_did_later_is_not_history() {
    let fixture = Fixture::shop();
    // As where items are held out: training interactions before, with and after those of the test part. What has the same time may be later.
    let train = [(1, 0, 1.0, 0), (1, 4, 1.0, 10), (1, 8, 1.0, 50), (2, 4, 1.0, 50)];
    let held_out = held_out(&fixture, &train, &[(1, 8, 1.0, 10), (1, 12, 1.0, 60), (2, 8, 1.0, 40)]);
    let (model, scenario, weighting) = (fixture.model(), Scenario::home(), Weighting::default());
    let asked = |protocol: Protocol| {
        let options = EvaluateOptions { protocol, ..options(&[1]) };
        let round =
            Round { model: &model, held_out: &held_out, scenario: &scenario, weighting: &weighting, options: &options };
        let (cases, skipped) = round.cases().unwrap();
        assert_eq!(skipped, Skipped { without_history: 1, users_without_any: 1, ..Skipped::default() });
        cases.into_iter().map(|case| (case.user, case.history, case.prefix, case.relevant)).collect::<Vec<_>>()
    };
    assert_eq!(asked(Protocol::NextEvent), [(1, 0..1, 0..0, vec![8]), (1, 0..3, 0..1, vec![12])]);
    assert_eq!(asked(Protocol::HeldOut), [(1, 0..1, 0..0, vec![8, 12])]);
}

#[test]
fn the_last_of_the_past_are_the_last_by_time_in_whichever_part_they_are() {
    let fixture = Fixture::shop();
    let (model, scenario, weighting) = (fixture.model(), Scenario::home(), Weighting::default());
    let options = EvaluateOptions { protocol: Protocol::NextEvent, ..options(&[1]) };
    let known = |train: &[(u32, u32, f32, i64)], test: &[(u32, u32, f32, i64)]| {
        let held_out = HeldOut { history_max: 2, ..held_out(&fixture, train, test) };
        let round =
            Round { model: &model, held_out: &held_out, scenario: &scenario, weighting: &weighting, options: &options };
        let (cases, _) = round.cases().unwrap();
        let before = |case: &Case| case.before(&held_out).map(|(part, row)| part.item[row]).collect::<Vec<u32>>();
        cases.iter().map(before).collect::<Vec<_>>()
    };
    let train = [(1, 0, 1.0, 0), (1, 4, 1.0, 30)];
    let found = known(&train, &[(1, 8, 1.0, 10), (1, 5, 1.0, 20), (1, 12, 1.0, 40)]);
    assert_eq!(found, [vec![0], vec![8, 0], vec![5, 4]]);
    // Of one moment what is asked for comes first, where the parts are mixed, and else last: as a replay sends them.
    let found = known(&[(1, 0, 1.0, 0), (1, 4, 1.0, 10), (1, 5, 1.0, 30)], &[(1, 8, 1.0, 10), (1, 12, 1.0, 40)]);
    assert_eq!(found, [vec![0], vec![4, 5]]);
    let found = known(&[(1, 0, 1.0, 0), (1, 4, 1.0, 10)], &[(1, 8, 1.0, 10), (1, 12, 1.0, 40)]);
    assert_eq!(found, [vec![0, 4], vec![4, 8]]);
}

#[test]
fn what_may_be_listed_again_is_looked_for() {
    const HOUR_MS: i64 = 3_600_000;
    let fixture = Fixture::shop();
    let model = fixture.model();
    // Item 0 was taken five hours before it is taken again, item 4 one hour before.
    let train = [(1, 0, 1.0, 0), (1, 4, 1.0, 4 * HOUR_MS)];
    let held_out = held_out(&fixture, &train, &[(1, 0, 1.0, 5 * HOUR_MS), (1, 4, 1.0, 5 * HOUR_MS)]);
    let asked = |scenario: &Scenario| {
        evaluate(&model, &held_out, scenario, &Weighting::default(), &options(&[60]), &|_, _| (), None)
    };
    let found = asked(&Scenario { exclude_within_hours: 4.0, ..Scenario::home() }).unwrap();
    assert_eq!((found.n_relevant, found.skipped.seen_before), (1, 1));
    assert!(found.systems.iter().all(|system| system.at[0].hit_rate == 1.0), "{:?}", found.systems);
    let found = asked(&Scenario { exclude_kinds: vec!["purchase".to_owned()], ..Scenario::home() }).unwrap();
    assert_eq!((found.n_relevant, found.skipped.seen_before), (2, 0));
    let hidden = Scenario { exclude_seen: false, hide_kinds: vec!["view".to_owned()], ..Scenario::home() };
    let error = asked(&hidden).unwrap_err();
    assert!(matches!(error, EvaluateError::NoUsers { skipped } if skipped.seen_before == 2), "{error}");
}

#[test]
fn the_popular_are_those_that_the_scenario_may_list() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let toys = serde_json::json!({ "key": "category", "match": { "value": "toys" } });
    // What no item can be asked for is no error, as it is none for a server.
    let or_wintry = serde_json::json!({ "should": [toys, { "key": "season", "match": { "value": "winter" } }] });
    let toy = |ordinal: &&u32| ordinal.is_multiple_of(4) && **ordinal % 10 != 9;
    let wanted: Vec<u32> = model.popular().iter().filter(toy).take(3).copied().collect();
    // The user has seen the most popular toy, and goes on to the next one and to a book.
    let held_out = held_out(&fixture, &[(1, wanted[0], 1.0, 0)], &[(1, wanted[1], 1.0, 9), (1, 5, 1.0, 10)]);
    let popular = |exclude_seen: bool, filter: &serde_json::Value| {
        let filter = Some(serde_json::from_value(filter.clone()).unwrap());
        let scenario = Scenario { exclude_seen, filter, ..Scenario::home() };
        let (weighting, options, mut lines) = (Weighting::default(), options(&[2]), Vec::new());
        let found = evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), Some(&mut lines)).unwrap();
        assert_eq!((found.n_relevant, found.skipped.unavailable), (1, 1));
        serde_json::from_slice::<serde_json::Value>(&lines).unwrap()["popular"].clone()
    };
    let keys = |ordinals: &[u32]| ordinals.iter().map(|ordinal| Fixture::key(*ordinal as usize)).collect::<Vec<_>>();
    for filter in [&toys, &or_wintry] {
        assert_eq!(popular(true, filter), serde_json::json!(keys(&wanted[1..3])));
        assert_eq!(popular(false, filter), serde_json::json!(keys(&wanted[..2])));
    }
}

#[test]
fn no_more_of_the_past_is_known_than_a_server_keeps() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    let all = held_out(&fixture, &[(1, 0, 1.0, 0), (1, 4, 1.0, 1)], &[(1, 0, 1.0, 9), (1, 4, 1.0, 10)]);
    let asked = |history_max: usize| {
        let held_out = HeldOut { history_max, ..all.clone() };
        let (scenario, weighting, options) = (Scenario::home(), Weighting::default(), options(&[60]));
        evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), None)
    };
    let error = asked(2).unwrap_err();
    assert!(matches!(error, EvaluateError::NoUsers { skipped } if skipped.seen_before == 2), "{error}");
    let forgotten = asked(1).unwrap();
    assert_eq!((forgotten.n_relevant, forgotten.skipped.seen_before), (1, 1));
    assert!(forgotten.systems.iter().all(|system| system.at[0].hit_rate == 1.0), "item 0 is listed again");
}

#[test]
fn chance_is_drawn_anew_for_each_list() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    // Forty users who did the same, and a scenario that leaves half of the places to chance.
    let train: Vec<(u32, u32, f32, i64)> = (0..40).flat_map(|user| [(user, 0, 1.0, 0), (user, 4, 1.0, 1)]).collect();
    let test: Vec<(u32, u32, f32, i64)> = (0..40).map(|user| (user, 8, 1.0, 100)).collect();
    let held_out = held_out(&fixture, &train, &test);
    let explore = serde_json::json!({
        "method": "epsilon_greedy", "epsilon": 0.5, "filter": { "key": "category", "match": { "value": "books" } }
    });
    let scenario = Scenario { explore: Some(serde_json::from_value(explore).unwrap()), ..Scenario::home() };
    let drawn = |seed: u64| {
        let (weighting, options) = (Weighting::default(), EvaluateOptions { seed, ..options(&[5]) });
        let mut lines: Vec<u8> = Vec::new();
        evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), Some(&mut lines)).unwrap();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let list = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap()["exact"].to_string();
        lines.map(list).collect::<Vec<String>>()
    };
    let lists = drawn(1);
    let different: HashSet<&String> = lists.iter().collect();
    assert!(lists.len() == 40 && different.len() > 5, "{different:?}");
    assert_eq!(drawn(1), lists, "the same seed draws the same");
    assert_ne!(drawn(2), lists);
}

#[test]
fn new_items_are_placed_among_each_other() {
    let fixture = Fixture::shop();
    let model = fixture.model();
    // Everything but items 20 to 27 was touched by others; user 1 goes on to a new toy, user 2 to a book that is not new.
    let mut train: Vec<(u32, u32, f32, i64)> =
        (0..60).filter(|item| !(20..28).contains(item)).map(|item| (0, item, 1.0, 0)).collect();
    train.extend([(1, 0, 1.0, 1), (1, 4, 1.0, 2), (2, 1, 1.0, 1)]);
    let held_out = held_out(&fixture, &train, &[(1, 24, 1.0, 100), (2, 5, 1.0, 100)]);
    let options = EvaluateOptions { only_new: true, ..options(&[2]) };
    let (scenario, weighting) = (Scenario::home(), Weighting::default());
    let found = evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), None).unwrap();
    assert_eq!((found.n_lists, found.skipped.not_new), (1, 1));
    for system in &found.systems[..2] {
        assert_eq!(system.at[0].hit_rate, 1.0, "two of the eight are toys: {}", system.name);
    }
}

#[test]
fn more_items_are_new_than_a_filter_can_name() {
    let fixture = Fixture::clustered(1, FILTER_PARTS_MAX + 100, 2, Metric::Cosine, 4);
    let tables = fixture.tables();
    let input = IndexInput { tables: &tables, rows: &fixture.rows, dims: 2, metric: Metric::Cosine };
    // A fixture's own graph takes long at this size.
    let graph = GraphOptions { m: 4, ef_construction: 16, ..GraphOptions::default() };
    let index = build_index(&input, &graph, &HnswBuilder, &()).unwrap().to_bytes().unwrap();
    let held_out = held_out(&fixture, &[(1, 0, 1.0, 0), (2, 4, 1.0, 0)], &[(1, 8, 1.0, 100)]);
    let options = EvaluateOptions { only_new: true, ..options(&[10]) };
    let (model, scenario, weighting) = (fixture.model_over(index), Scenario::home(), Weighting::default());
    let found = evaluate(&model, &held_out, &scenario, &weighting, &options, &|_, _| (), None).unwrap();
    assert_eq!((found.n_lists, found.skipped.not_new), (1, 0));
}

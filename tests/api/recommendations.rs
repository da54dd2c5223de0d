//! `POST /v1/recommendations`: who is known by what, what narrows a list, and that its reasons add up.

use kindred::testing::Fixture;
use kindred_index::Metric;
use serde_json::{Value, json};

use crate::support::{Server, category, ids};

fn ask(server: &Server, body: Value) -> Value {
    server.post("/v1/recommendations", body).ok()
}

#[test]
fn a_newcomer_gets_what_is_popular() {
    let server = Server::with_shop();
    for body in [json!({}), json!({"user_id": "never seen"}), json!({"session_id": "never seen", "interactions": []})] {
        let answer = ask(&server, body);
        assert_eq!(answer["fallback"], "newcomer");
        assert_eq!(answer["degraded"], Value::Null);
        assert_eq!(answer["events_used"], 0);
        assert_eq!(answer["scenario"], "home");
        assert_eq!(answer["generation"], "g1");
        assert_eq!(ids(&answer).len(), 20);
        assert!(answer["items"].as_array().unwrap().iter().all(|item| item["source"] == "popular"), "{answer}");
    }
    assert_eq!(server.metric("kindred_fallback_total{reason=\"newcomer\"}"), 3.0);
}

#[test]
fn a_visitor_is_known_by_user_by_session_and_by_what_the_request_brings() {
    let server = Server::with_shop();
    server.view("u", "item-4");
    let event = json!({"session_id": "s", "item_id": "item-4", "kind": "view"});
    server.post("/v1/interactions", event).ok();
    let sent = json!({"interactions": [{"item_id": "item-4"}]});
    for body in [json!({"user_id": "u"}), json!({"session_id": "s"}), sent] {
        let answer = ask(&server, body);
        assert_eq!(answer["fallback"], Value::Null);
        assert_eq!(answer["events_used"], 1);
        let found = ids(&answer);
        assert!(found.iter().take(5).all(|id| category(id) == "toys"), "who looks at toys gets toys: {found:?}");
        assert!(!found.contains(&"item-4"), "what was seen is left out");
    }
    let all = json!({"user_id": "u", "session_id": "s", "interactions": [{"item_id": "item-8"}]});
    assert_eq!(ask(&server, all)["events_used"], 3);
}

#[test]
fn the_last_thing_that_was_done_turns_the_list() {
    let server = Server::with_shop();
    server.view("u", "item-4");
    let toys = ask(&server, json!({"user_id": "u"}));
    server.view("u", "item-5");
    let books = ask(&server, json!({"user_id": "u"}));
    assert_eq!(category(ids(&toys)[0]), "toys");
    assert_eq!(category(ids(&books)[0]), "books");
}

#[test]
fn what_a_request_brings_is_not_kept_and_not_counted_twice() {
    let server = Server::with_shop();
    let id = json!({"interaction_id": "e1", "user_id": "u", "item_id": "item-4", "kind": "view"});
    server.post("/v1/interactions", id).ok();
    let repeated = json!({"user_id": "u", "interactions": [{"interaction_id": "e1", "item_id": "item-4"}]});
    assert_eq!(ask(&server, repeated)["events_used"], 1);
    ask(&server, json!({"user_id": "u", "interactions": [{"item_id": "item-8"}]}));
    assert_eq!(ask(&server, json!({"user_id": "u"}))["events_used"], 1);
}

#[test]
fn events_with_unknown_items_fall_back_and_say_so() {
    let server = Server::with_shop();
    let answer = ask(&server, json!({"interactions": [{"item_id": "no such"}]}));
    assert_eq!(answer["fallback"], "unknown_items");
    assert_eq!(ids(&answer).len(), 20);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let server = Server::with_shop();
    let body = json!({"interactions": [{"item_id": "item-4", "occurred_at": "2026-11-24T14:25:01Z"}], "limit": 30});
    let (one, other) = (ask(&server, body.clone()), ask(&server, body));
    assert_eq!(one["items"], other["items"]);
    assert_ne!(one["recommendation_id"], other["recommendation_id"]);
}

#[test]
fn limit_and_exclude_are_kept() {
    let server = Server::with_shop();
    let first = ask(&server, json!({"limit": 3}));
    let first = ids(&first);
    assert_eq!(first.len(), 3);
    let rest = ask(&server, json!({"limit": 1000, "exclude": first}));
    let rest = ids(&rest);
    assert!(rest.len() == 51 && first.iter().all(|id| !rest.contains(id)), "60 less 6 that are not available, less 3");
    let unknown = ask(&server, json!({"limit": 1, "exclude": ["no such"]}));
    assert_eq!(ids(&unknown), first[..1]);
    for (limit, says) in [(0, "limit is 0"), (1001, "limit is 1001")] {
        let problem = server.post("/v1/recommendations", json!({"limit": limit})).problem(400, "invalid_request");
        assert!(problem.detail.contains(says), "{problem:?}");
    }
    // A caller's mistake is no recommendation that failed.
    assert_eq!(server.metric("kindred_scenario_errors_total{scenario=\"home\"}"), 0.0);
    server.post("/v1/recommendations", json!({"limit": -1})).problem(400, "invalid_json");
    let many: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    server.post("/v1/recommendations", json!({"exclude": many})).problem(400, "limit_exceeded");
}

#[test]
fn a_scenario_is_named_and_its_settings_hold() {
    let server = Server::with(&Fixture::shop(), |settings| {
        let mut cart = settings.scenarios["home"].clone();
        (cart.limit, cart.exclude_seen) = (2, false);
        settings.scenarios.insert("basket".to_owned(), cart);
    });
    let body = json!({"scenario": "basket", "interactions": [{"item_id": "item-4"}]});
    let answer = ask(&server, body);
    assert_eq!(answer["scenario"], "basket");
    let found = ids(&answer);
    assert!(found.len() == 2 && found.contains(&"item-4"), "{found:?}");
    let problem = server.post("/v1/recommendations", json!({"scenario": "attic"})).problem(400, "unknown_scenario");
    assert!(problem.remedy.contains("basket, buy_again, cart, home, next_page"), "{problem:?}");
}

#[test]
fn a_filter_holds_for_every_item() {
    let server = Server::with_shop();
    let of =
        |filter: Value| ask(&server, json!({"limit": 1000, "interactions": [{"item_id": "item-4"}], "filter": filter}));
    let books = of(json!({"key": "category", "match": {"value": "books"}}));
    assert!(!ids(&books).is_empty() && ids(&books).iter().all(|id| category(id) == "books"));
    let two = of(json!({"must": [{"key": "category", "match": {"any": ["books", "toys"]}}]}));
    assert!(ids(&two).iter().all(|id| category(id) != "garden" && category(id) != "kitchen"));
    let price = |id: &str| 1 + id.strip_prefix("item-").unwrap().parse::<u32>().unwrap();
    let cheap = of(json!({"must": [{"key": "price", "range": {"gte": 5, "lt": 20}}],
        "must_not": [{"key": "category", "match": {"value": "toys"}}]}));
    assert!(!ids(&cheap).is_empty());
    assert!(ids(&cheap).iter().all(|id| (5..20).contains(&price(id)) && category(id) != "toys"), "{:?}", ids(&cheap));
    let either = of(json!({"should": [{"key": "price", "range": {"lte": 2}}, {"key": "price", "range": {"gt": 58}}]}));
    assert!(ids(&either).iter().all(|id| price(id) <= 2 || price(id) > 58), "{:?}", ids(&either));
    // The scenario wants what is available, so the others cannot be had.
    assert!(ids(&of(json!({"key": "available", "match": {"value": false}}))).is_empty());
    let none = of(json!({"key": "category", "match": {"value": "no such"}}));
    assert!(ids(&none).is_empty());
    assert_eq!(none["fallback"], "too_few_candidates");
}

#[test]
fn unavailable_items_need_a_scenario_that_shows_them() {
    let server = Server::with(&Fixture::shop(), |settings| {
        settings.scenarios.get_mut("home").unwrap().require_available = false;
    });
    let answer = ask(&server, json!({"limit": 1000, "filter": {"key": "available", "match": {"value": false}}}));
    let mut found = ids(&answer);
    found.sort_unstable();
    assert_eq!(found, ["item-19", "item-29", "item-39", "item-49", "item-59", "item-9"]);
}

#[test]
fn a_filter_that_cannot_be_used_is_refused_with_its_place() {
    let server = Server::with_shop();
    for (filter, says) in [
        (json!({"must": [{"key": "colour", "match": {"value": "red"}}]}), "colour"),
        (json!({"must": [{"match": {"value": "red"}}]}), "filter.must[0]"),
        (json!({"key": "price", "range": {}}), "without bounds"),
        (json!({"key": "price", "match": {"value": "a"}, "exists": true}), "exactly one"),
        (json!({"key": "category", "range": {"lt": 5}}), "category"),
    ] {
        let problem = server.post("/v1/recommendations", json!({"filter": filter})).problem(400, "invalid_filter");
        assert!(problem.detail.contains(says), "{filter}: {problem:?}");
    }
    let unknown = json!({"filter": {"key": "price", "rang": {"lt": 5}}});
    server.post("/v1/recommendations", unknown).problem(400, "invalid_json");
}

#[test]
fn reasons_add_up_to_the_score() {
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        let server = Server::with(&Fixture::random(7, 80, 16, metric), |_| ());
        let history = json!([{"item_id": "item-1"}, {"item_id": "item-2", "kind": "cart"}, {"item_id": "item-4"},
            {"item_id": "no such"}, {"item_id": "item-13", "kind": "dislike"}]);
        let answer = ask(&server, json!({"interactions": history, "explain": true, "limit": 50}));
        let items = answer["items"].as_array().unwrap();
        assert!(!items.is_empty());
        for item in items {
            let because = item["reasons"]["because"].as_array().unwrap();
            let shares: f64 = because.iter().map(|one| one["share"].as_f64().unwrap()).sum();
            let sum = shares + item["reasons"]["popularity"].as_f64().unwrap();
            assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-6, "{metric:?}: {sum} {item}");
            let kind_of = |id: &Value| {
                let events = history.as_array().unwrap();
                let event = events.iter().find(|event| event["item_id"] == *id).unwrap();
                event.get("kind").cloned().unwrap_or(json!("view"))
            };
            assert!(because.iter().all(|one| one["kind"] == kind_of(&one["item_id"])), "{item}");
        }
        let stages = answer["stages_us"].as_object().unwrap();
        assert!(stages.contains_key("gather") && stages["search"].as_f64().unwrap() >= 0.0);
        assert!(ask(&server, json!({})).get("stages_us").is_none());
    }
}

#[test]
fn with_items_puts_the_catalogue_beside_each() {
    let server = Server::with_shop();
    let answer = ask(&server, json!({"with_items": true, "limit": 5}));
    for item in answer["items"].as_array().unwrap() {
        let id = item["item_id"].as_str().unwrap();
        assert_eq!(item["item"]["id"], id);
        assert_eq!(item["item"], server.get(&format!("/v1/items/{id}")).ok());
    }
    assert!(ask(&server, json!({"limit": 1}))["items"][0].get("item").is_none());
}

#[test]
fn exact_and_a_wide_search_agree() {
    let server = Server::with_shop();
    let history = json!([{"item_id": "item-4"}, {"item_id": "item-5"}]);
    let exact = ask(&server, json!({"interactions": history, "exact": true}));
    let graph = ask(&server, json!({"interactions": history, "ef_search": 200}));
    assert_eq!(ids(&exact), ids(&graph));
    server.post("/v1/recommendations", json!({"ef_search": 0})).problem(400, "invalid_request");
    server.post("/v1/recommendations", json!({"ef_search": 1_000_000})).problem(400, "invalid_request");
}

#[test]
fn bad_events_in_the_request_are_named_by_their_place() {
    let server = Server::with_shop();
    for (event, code) in [
        (json!({"item_id": "a", "kind": "stare"}), "unknown_kind"),
        (json!({"item_id": ""}), "invalid_request"),
        (json!({"item_id": "a", "occurred_at": "2999-01-01T00:00:00Z"}), "invalid_request"),
    ] {
        let body = json!({"interactions": [{"item_id": "a"}, event]});
        let problem = server.post("/v1/recommendations", body).problem(400, code);
        assert!(problem.detail.starts_with("interactions[1]: "), "{problem:?}");
    }
    let many = json!({"interactions": vec![json!({"item_id": "a"}); 1001]});
    server.post("/v1/recommendations", many).problem(400, "limit_exceeded");
    for id in ["", &"x".repeat(257)] {
        assert_eq!(server.post("/v1/recommendations", json!({"user_id": id})).status, 400);
        assert_eq!(server.post("/v1/recommendations", json!({"session_id": id})).status, 400);
    }
    server.post("/v1/recommendations", json!({"user": "u"})).problem(400, "invalid_json");
}

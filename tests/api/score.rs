//! `POST /v1/score`: the same numbers as a list, for items that the caller names.

use serde_json::{Value, json};

use crate::support::Server;

#[test]
fn scores_are_those_of_the_list_in_the_order_asked_for() {
    let server = Server::with_shop();
    server.view("u", "item-4");
    let list = server.post("/v1/recommendations", json!({"user_id": "u", "limit": 10})).ok();
    let mut items: Vec<Value> = list["items"].as_array().unwrap().clone();
    items.reverse();
    let mut wanted: Vec<Value> = items.iter().map(|item| item["item_id"].clone()).collect();
    wanted.insert(3, json!("no such"));
    let answer = server.post("/v1/score", json!({"user_id": "u", "item_ids": wanted})).ok();
    assert_eq!((answer["events_used"].as_u64(), answer["generation"].as_str()), (Some(1), Some("g1")));
    assert!(answer["fallback"].is_null() && answer["degraded"].is_null());
    let scores = answer["scores"].as_array().unwrap();
    let found: Vec<Value> = scores.iter().map(|score| score["item_id"].clone()).collect();
    assert_eq!(found, wanted);
    assert!(scores[3]["score"].is_null());
    let known = scores.iter().filter(|score| !score["score"].is_null());
    for (score, item) in known.zip(&items) {
        let (score, listed) = (score["score"].as_f64().unwrap(), item["score"].as_f64().unwrap());
        assert!((score - listed).abs() < 1e-6, "{score} {listed}");
    }
}

#[test]
fn what_a_request_brings_and_newcomers_are_scored_too() {
    let server = Server::with_shop();
    let near = json!({"session_id": "s", "interactions": [{"item_id": "item-4"}], "item_ids": ["item-8", "item-5"]});
    let answer = server.post("/v1/score", near).ok();
    let score = |at: usize| answer["scores"][at]["score"].as_f64().unwrap();
    assert!(score(0) > score(1), "a toy is nearer to a toy than a book: {answer}");
    let newcomer = server.post("/v1/score", json!({"item_ids": ["item-8"]})).ok();
    assert_eq!(newcomer["fallback"], "newcomer");
    assert!(newcomer["scores"][0]["score"].is_number());
}

#[test]
fn an_item_that_was_taken_out_has_no_score() {
    let server = Server::with_shop();
    let has_score = || {
        let body = json!({"interactions": [{"item_id": "item-4"}], "item_ids": ["item-8", "item-12", "new"]});
        let answer = server.post("/v1/score", body).ok();
        [0_usize, 1, 2].map(|at| answer["scores"][at]["score"].is_number())
    };
    assert_eq!(has_score(), [true, true, false]);
    let json = [("content-type", "application/json")];
    server.send("PUT", "/v1/items/new", &json, br#"{"categories": ["toys"], "price": 0.5}"#).ok();
    server.send("DELETE", "/v1/items/item-8", &[], &[]).ok();
    assert_eq!(has_score(), [false, true, true]);
    server.send("DELETE", "/v1/items/new", &[], &[]).ok();
    assert_eq!(has_score(), [false, true, false]);
}

#[test]
fn a_request_that_cannot_be_used_is_refused() {
    let server = Server::with_shop();
    let many: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    for (body, code) in [
        (json!({}), "invalid_json"),
        (json!({"item_ids": []}), "invalid_request"),
        (json!({"item_ids": [""]}), "invalid_request"),
        (json!({"item_ids": ["x".repeat(257)]}), "limit_exceeded"),
        (json!({"item_ids": many}), "limit_exceeded"),
        (json!({"item_ids": ["a"], "scenario": "attic"}), "unknown_scenario"),
        (json!({"item_ids": ["a"], "user_id": ""}), "invalid_request"),
        (json!({"item_ids": ["a"], "interactions": [{"item_id": "a", "kind": "stare"}]}), "unknown_kind"),
        (json!({"item_ids": ["a"], "limit": 1}), "invalid_json"),
    ] {
        server.post("/v1/score", body).problem(400, code);
    }
    Server::empty().post("/v1/score", json!({"item_ids": ["a"]})).problem(503, "not_ready");
}

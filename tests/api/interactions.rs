//! `POST /v1/interactions`: what is kept, what is refused, and that a refused batch leaves nothing behind.

use serde_json::{Value, json};

use crate::support::{Client, Server};

fn events_of(client: &Client, user: &str) -> u64 {
    client.post("/v1/recommendations", json!({"user_id": user})).ok()["events_used"].as_u64().unwrap()
}

fn view(user: &str) -> Value {
    json!({"user_id": user, "item_id": "item-1", "kind": "view"})
}

/// How many were kept and how many had been before.
fn kept(answer: &Value) -> (u64, u64) {
    let count = |field: &str| answer[field].as_u64().unwrap();
    (count("accepted"), count("duplicates"))
}

fn with(mut base: Value, field: &str, value: Value) -> Value {
    base[field] = value;
    base
}

#[test]
fn one_several_and_a_bare_list_are_kept() {
    let server = Server::with_shop();
    let one = server.post("/v1/interactions", view("u")).ok();
    assert_eq!(kept(&one), (1, 0));
    let several = server.post("/v1/interactions", json!({"interactions": [view("u"), view("u")]})).ok();
    assert_eq!(kept(&several), (2, 0));
    assert_eq!(server.post("/v1/interactions", json!([view("u")])).ok()["accepted"], 1);
    assert_eq!(kept(&server.post("/v1/interactions", json!([])).ok()), (0, 0));
    assert_eq!(events_of(&server, "u"), 4);
    assert_eq!(server.metric("kindred_interactions_total{result=\"accepted\"}"), 4.0);
}

#[test]
fn everything_an_interaction_may_carry_is_taken() {
    let server = Server::with_shop();
    let full = json!({
        "interaction_id": "e1", "user_id": "u", "session_id": "s", "item_id": "not in the catalogue yet", "kind": "purchase",
        "value": 19.9, "occurred_at": "2026-11-24T14:25:01+01:00", "context": {"page": "home", "empty": ""},
    });
    assert_eq!(server.post("/v1/interactions", full).ok()["accepted"], 1);
    let session = server.post("/v1/recommendations", json!({"session_id": "s"})).ok();
    assert_eq!(session["events_used"], 1);
    let both = server.post("/v1/recommendations", json!({"user_id": "u", "session_id": "s"})).ok();
    assert_eq!(both["events_used"], 1, "one event of a user in a session is one event");
    assert_eq!(events_of(&server, "s"), 0, "a user and a session of one name are two visitors");
}

#[test]
fn the_same_interaction_id_is_the_same_event() {
    let server = Server::with_shop();
    let event = with(view("u"), "interaction_id", json!("e1"));
    assert_eq!(kept(&server.post("/v1/interactions", event.clone()).ok()), (1, 0));
    assert_eq!(kept(&server.post("/v1/interactions", event.clone()).ok()), (0, 1));
    let other = with(view("u"), "interaction_id", json!("e2"));
    let batch = server.post("/v1/interactions", json!([event, other, other])).ok();
    assert_eq!(kept(&batch), (1, 2));
    assert_eq!(events_of(&server, "u"), 2);
    assert_eq!(server.metric("kindred_interactions_total{result=\"duplicate\"}"), 3.0);
}

#[test]
fn an_acknowledged_event_is_in_the_next_answer() {
    let server = Server::with_shop();
    std::thread::scope(|scope| {
        for visitor in 0..4 {
            let client = server.client.clone();
            scope.spawn(move || {
                let user = format!("u{visitor}");
                for event in 1..=20 {
                    client.view(&user, &format!("item-{event}"));
                    assert_eq!(events_of(&client, &user), event);
                }
            });
        }
    });
}

#[test]
fn a_bad_field_is_named_and_nothing_is_kept() {
    let server = Server::with_shop();
    let far = "2999-01-01T00:00:00Z";
    let long = "x".repeat(257);
    let crowd: serde_json::Map<String, Value> = (0..33).map(|n| (format!("k{n}"), json!(""))).collect();
    let nobody = json!({"item_id": "item-1", "kind": "view"});
    for (bad, code, says) in [
        (with(view("u"), "kind", json!("stare")), "unknown_kind", "\"stare\""),
        (with(view("u"), "kind", json!("")), "invalid_request", "kind is empty"),
        (with(view("u"), "occurred_at", json!(far)), "invalid_request", "in the future"),
        (with(view("u"), "occurred_at", json!(1_795_530_301)), "invalid_json", "looks like seconds"),
        (with(view("u"), "occurred_at", json!(u64::MAX)), "invalid_json", "out of range"),
        (with(view("u"), "occurred_at", json!(i64::MAX)), "invalid_json", "years 0 to 9999"),
        (with(view("u"), "occurred_at", json!(1.5)), "invalid_json", "RFC 3339"),
        (with(view("u"), "occurred_at", json!("yesterday")), "invalid_json", "yesterday"),
        (nobody, "invalid_request", "neither user_id nor session_id"),
        (with(view("u"), "user_id", json!("")), "invalid_request", "user_id is empty"),
        (with(view("u"), "user_id", json!(long)), "limit_exceeded", "257 bytes"),
        (with(view("u"), "session_id", json!(long)), "limit_exceeded", "session_id has 257 bytes"),
        (with(view("u"), "item_id", json!(long)), "limit_exceeded", "item_id has 257 bytes"),
        (with(view("u"), "interaction_id", json!(long)), "limit_exceeded", "interaction_id has 257 bytes"),
        (with(view("u"), "item_id", json!("")), "invalid_request", "item_id is empty"),
        (with(view("u"), "value", json!("much")), "invalid_json", "much"),
        (with(view("u"), "value", json!(1e300)), "invalid_request", "finite"),
        (with(view("u"), "context", json!(crowd)), "limit_exceeded", "33 entries"),
        (with(view("u"), "itemid", json!("a")), "invalid_json", "unknown field `itemid`"),
        (json!({"user_id": "u", "kind": "view"}), "invalid_json", "missing field `item_id`"),
        (json!("view"), "invalid_json", "expected"),
    ] {
        let alone = server.post("/v1/interactions", bad.clone()).problem(400, code);
        assert!(alone.detail.contains(says), "{bad}: {alone:?}");
        let batch = server.post("/v1/interactions", json!({"interactions": [view("u"), bad]})).problem(400, code);
        assert!(batch.detail.contains(says), "{bad}: {batch:?}");
        if code != "invalid_json" {
            assert!(batch.detail.starts_with("interactions[1]: "), "{batch:?}");
            assert!(!batch.remedy.contains("interactions[1]"), "{batch:?}");
        }
    }
    assert_eq!(events_of(&server, "u"), 0);
}

#[test]
fn an_unknown_kind_names_the_known_ones() {
    let server = Server::with_shop();
    let problem = server.post("/v1/interactions", with(view("u"), "kind", json!("stare"))).problem(400, "unknown_kind");
    assert!(problem.remedy.contains("view") && problem.remedy.contains("purchase"), "{problem:?}");
}

#[test]
fn a_time_of_long_ago_is_kept_and_does_no_harm() {
    let server = Server::with_shop();
    for ancient in [json!(0), json!(-62_167_219_200_000_i64), json!("0000-01-01T00:00:00Z")] {
        let event = with(view("u"), "occurred_at", ancient);
        assert_eq!(server.post("/v1/interactions", event).ok()["accepted"], 1);
    }
    assert_eq!(events_of(&server, "u"), 3);
}

#[test]
fn a_batch_has_a_bound() {
    let server = Server::with_shop();
    let most = json!({"interactions": vec![view("u"); 1000]});
    assert_eq!(server.post("/v1/interactions", most).ok()["accepted"], 1000);
    let more = json!({"interactions": vec![view("u"); 1001]});
    let problem = server.post("/v1/interactions", more).problem(400, "limit_exceeded");
    assert!(problem.detail.contains("1001") && problem.remedy.contains("1000"), "{problem:?}");
    assert_eq!(events_of(&server, "u"), 100, "the newest history.keep_per_actor");
}

#[test]
fn events_are_taken_before_anything_is_published() {
    let server = Server::empty();
    server.view("u", "item-1");
    server.post("/v1/recommendations", json!({"user_id": "u"})).problem(503, "not_ready");
}

#[test]
fn a_kind_that_the_model_may_know_is_not_refused_for_good_before_one_is_loaded() {
    let server = Server::empty();
    let other = with(view("u"), "kind", json!("stare"));
    for body in [other.clone(), json!([view("u"), other.clone()])] {
        let answer = server.post("/v1/interactions", body);
        let problem = answer.problem(503, "not_ready");
        assert!(problem.detail.contains("kind \"stare\" is not known"), "{problem:?}");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
    }
    kindred::testing::Fixture::shop().publish(&server.artifacts(), "first");
    server.post_bytes("/admin/reload", b"").ok();
    server.post("/v1/interactions", other).problem(400, "unknown_kind");
    assert_eq!(events_of(&server, "u"), 0, "nothing of a batch that is refused is kept");
}

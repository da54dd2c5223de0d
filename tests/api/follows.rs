//! Who follows whom, what a profile says of the circumstances, and new items that are explored: what lists make of it.

use std::time::{Duration, Instant};

use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::{Value, json};

use crate::support::{Answer, Client, PATIENCE, Server, ids};

fn put(client: &Client, user: &str, profile: Value) -> Answer {
    let path = format!("/v1/users/{user}");
    client.send("PUT", &path, &[("content-type", "application/json")], profile.to_string().as_bytes())
}

fn follows(client: &Client, user: &str) -> Value {
    client.get(&format!("/v1/users/{user}")).ok()["follows"].clone()
}

/// The items of a list that are there because of whom the visitor follows.
fn followed(client: &Client, body: Value) -> Vec<String> {
    let mut body = body;
    body["explain"] = json!(true);
    let answer = client.post("/v1/recommendations", body).ok();
    for name in ["friend", "other", "old"] {
        assert!(!answer.to_string().contains(name), "who is not said: {answer}");
    }
    let items = answer["items"].as_array().unwrap().iter();
    let of = items.filter(|item| item["reasons"]["followed"].as_f64().unwrap() > 0.0);
    of.map(|item| {
        assert_eq!(item["source"], "followed");
        item["item_id"].as_str().unwrap().to_owned()
    })
    .collect()
}

fn social(settings: &mut Settings) {
    settings.scenarios.get_mut("home").unwrap().weights.followed = 10.0;
}

#[test]
fn what_those_took_whom_a_user_follows_is_listed_as_far_as_all_agree() {
    let server = Server::with(&Fixture::shop(), social);
    server.view("friend", "item-3");
    server.view("old", "item-7");
    server.view("other", "item-11");
    assert!(followed(&server, json!({"user_id": "u"})).is_empty());
    let set = put(&server, "u", json!({"follows": ["friend", "other", "friend", "u"]})).ok();
    assert_eq!(set["follows"], json!(["friend", "other", "u"]), "each once");
    let sorted = |body: Value| {
        let mut found = followed(&server, body);
        found.sort_unstable();
        found
    };
    assert_eq!(sorted(json!({"user_id": "u"})), ["item-11", "item-3"]);
    assert_eq!(sorted(json!({"user_id": "u", "interactions": [{"item_id": "item-4"}]})), ["item-11", "item-3"]);
    assert!(sorted(json!({"user_id": "u", "consent": "session"})).is_empty());
    assert!(sorted(json!({"user_id": "u", "consent": "none"})).is_empty());
    assert!(sorted(json!({"session_id": "u"})).is_empty(), "a session follows nobody");
    let scores = server.post("/v1/score", json!({"user_id": "u", "item_ids": ["item-3", "item-1"]})).ok();
    let score = |at: usize| scores["scores"][at]["score"].as_f64().unwrap();
    assert!(score(0) > 4.0 && score(1) < 4.0, "{scores}");

    // The names that are merged into who is followed are the same person, and what one of them refuses binds.
    server.post("/v1/users/friend/merge", json!({"user_id": "old"})).ok();
    assert_eq!(sorted(json!({"user_id": "u"})), ["item-11", "item-3", "item-7"]);
    for consent in ["none", "session"] {
        put(&server, "friend", json!({"consent": consent})).ok();
        assert_eq!(sorted(json!({"user_id": "u"})), ["item-11"], "{consent}");
    }
    put(&server, "friend", json!({"consent": "full"})).ok();
    let fleeting = json!({"user_id": "other", "item_id": "item-15", "kind": "view", "consent": "session"});
    server.post("/v1/interactions", fleeting).ok();
    assert_eq!(sorted(json!({"user_id": "u"})), ["item-11", "item-3", "item-7"]);
    let server = server.restarted(social);
    assert_eq!(followed(&server, json!({"user_id": "u"})).len(), 3);
    put(&server, "u", json!({"follows": vec!["x"; 101]})).problem(400, "limit_exceeded");
    put(&server, "u", json!({"follows": [""]})).problem(400, "invalid_request");
    put(&server, "u", json!({"follows": "friend"})).problem(400, "invalid_json");
}

#[test]
fn an_erasure_ends_following_in_both_directions() {
    let server = Server::with(&Fixture::shop(), social);
    server.view("friend", "item-3");
    put(&server, "u", json!({"follows": ["friend", "other"]})).ok();
    put(&server, "other", json!({"follows": ["friend"]})).ok();
    put(&server, "friend", json!({"follows": ["u"]})).ok();
    assert_eq!(followed(&server, json!({"user_id": "u"})), ["item-3"]);
    let erase = |user: &str| server.send("DELETE", &format!("/v1/users/{user}/data"), &[], &[]).ok();
    assert_eq!(erase("friend")["removed"]["follows"], 3, "it followed one, two followed it");
    assert_eq!((follows(&server, "u"), follows(&server, "other")), (json!(["other"]), json!([])));
    server.view("friend", "item-3");
    assert!(followed(&server, json!({"user_id": "u"})).is_empty(), "who comes back is followed by nobody");
    assert_eq!(erase("u")["removed"]["follows"], 1);
    assert_eq!(erase("u")["removed"]["follows"], 0);
    let server = server.restarted(social);
    assert_eq!(follows(&server, "other"), json!([]));
}

#[test]
fn without_a_weight_following_changes_nothing() {
    let server = Server::with_shop();
    server.view("friend", "item-3");
    let list = || ids(&server.post("/v1/recommendations", json!({"user_id": "u"})).ok()).join(" ");
    let before = list();
    put(&server, "u", json!({"follows": ["friend"]})).ok();
    assert_eq!(list(), before);
}

#[test]
fn a_profile_stands_in_for_circumstances_that_a_request_does_not_name() {
    let server = Server::with(&Fixture::shop(), |settings| {
        settings.trending.refresh_ms = 20;
        settings.trending.minimum_count = 2;
        let home = settings.scenarios.get_mut("home").unwrap();
        home.boosts = serde_json::from_value(json!([
            {"name": "pocket", "weight": 9.0, "when": {"device": ["mobile"]}, "filter": {"has_id": ["item-13"]}}
        ]))
        .unwrap();
    });
    for (item, country) in [("item-3", "de"), ("item-7", "fr")] {
        for session in 0..4 {
            let event = json!({"session_id": format!("{country}{session}"), "item_id": item, "kind": "view", "context": {"country": country}});
            server.post("/v1/interactions", event).ok();
        }
    }
    put(&server, "u", json!({"country": "fr", "device": "mobile"})).ok();
    let first = |body: Value| {
        let answer = server.post("/v1/recommendations", body).ok();
        ids(&answer)[0].to_owned()
    };
    let began = Instant::now();
    while first(json!({"scenario": "trending", "user_id": "u"})) != "item-7" {
        assert!(began.elapsed() < PATIENCE, "the profile's country is not used");
        std::thread::sleep(Duration::from_millis(20));
    }
    let german = json!({"scenario": "trending", "user_id": "u", "context": {"country": "de"}});
    assert_eq!(first(german), "item-3", "what the request says goes first");
    assert_eq!(first(json!({"scenario": "trending"})), "item-3", "of equals the first");
    assert_eq!(first(json!({"scenario": "trending", "user_id": "u", "consent": "session"})), "item-3");
    assert_eq!(first(json!({"user_id": "u", "limit": 60})), "item-13");
    assert_ne!(first(json!({"user_id": "u", "limit": 60, "context": {"device": "desktop"}})), "item-13");
    assert_ne!(first(json!({"user_id": "u", "limit": 60, "consent": "none"})), "item-13");
}

#[test]
fn new_items_that_came_in_just_now_are_explored() {
    for method in ["epsilon_greedy", "thompson"] {
        let explore = json!({"method": method, "epsilon": 0.3, "sigma": 1.0, "new_within_hours": 48});
        let server = Server::with(&Fixture::shop(), |settings| {
            settings.scenarios.get_mut("home").unwrap().explore = serde_json::from_value(explore).unwrap();
        });
        let ask = |seed: u64| {
            let body = json!({"interactions": [{"item_id": "item-4"}], "seed": seed, "limit": 5});
            server.post("/v1/recommendations", body).ok()
        };
        assert!(ask(1)["items"][0]["propensity"].as_f64().is_some());
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        for (id, at) in [("fresh", now - 60_000), ("stale", now - 90 * 3_600_000)] {
            let item = json!({"categories": ["kitchen"], "attributes": {"published_at": at}}).to_string();
            let path = format!("/v1/items/{id}");
            server.send("PUT", &path, &[("content-type", "application/json")], item.as_bytes()).ok();
        }
        let shown = |id: &str| (0..100).filter(|seed| ids(&ask(*seed)).contains(&id)).count();
        let (fresh, stale) = (shown("fresh"), shown("stale"));
        assert!(fresh >= 20 && stale == 0, "{method}: {fresh} and {stale} of 100");
    }
}

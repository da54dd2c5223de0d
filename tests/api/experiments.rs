//! Experiments and the recommendation log: who gets which list, what was shown, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kindred::app::Stores;
use kindred::experiment::{Experiment, Variant};
use kindred::history::memory::MemoryHistory;
use kindred::settings::Settings;
use kindred::store::StoreError;
use kindred::testing::{Fixture, HeldUpDocuments};
use serde_json::{Value, json};

use crate::support::{Server, ids};

fn halves(settings: &mut Settings) {
    let mut popular = settings.scenarios["home"].clone();
    popular.limit = 7;
    settings.scenarios.insert("short".to_owned(), popular);
    let control = Variant { share: 50, scenario: None };
    let short = Variant { share: 50, scenario: Some("short".to_owned()) };
    let variants = BTreeMap::from([("control".to_owned(), control), ("short".to_owned(), short)]);
    let experiment = Experiment { scenario: "home".to_owned(), enabled: true, variants };
    settings.experiments.insert("length".to_owned(), experiment);
    settings.recommendation_log.sample = 1.0;
    settings.recommendation_log.history = true;
}

#[test]
fn visitors_are_divided_and_stay_where_they_are() {
    let server = Server::with(&Fixture::shop(), halves);
    let ask = |user: &str| server.post("/v1/recommendations", json!({"user_id": user})).ok();
    let mut count = BTreeMap::new();
    for visitor in 0..40 {
        let user = format!("user-{visitor}");
        let answer = ask(&user);
        let variant = answer["variant"].as_str().unwrap().to_owned();
        assert_eq!((&answer["experiment"], &answer["scenario"]), (&json!("length"), &json!("home")));
        assert_eq!(ids(&answer).len(), if variant == "short" { 7 } else { 20 });
        assert_eq!(ask(&user)["variant"], json!(variant));
        *count.entry(variant).or_insert(0) += 1;
    }
    assert_eq!(count.len(), 2, "{count:?}");
    let metric =
        |variant: &str| server.metric(&format!("kindred_variant_total{{experiment=\"length\",variant=\"{variant}\"}}"));
    assert_eq!(metric("short"), f64::from(2 * count["short"]));
    // Without an id nobody is in it, and neither is another scenario.
    assert!(server.post("/v1/recommendations", json!({})).ok().get("variant").is_none());
    let other = server.post("/v1/recommendations", json!({"user_id": "user-1", "scenario": "short"})).ok();
    assert!(other.get("variant").is_none());
}

#[test]
fn what_was_not_to_be_kept_is_in_no_log() {
    let server = Server::with(&Fixture::shop(), halves);
    server.view("u", "item-4");
    let fleeting = json!({"user_id": "u", "item_id": "item-8", "kind": "view", "consent": "session"});
    server.post("/v1/interactions", fleeting).ok();
    server.post("/v1/recommendations", json!({"user_id": "u", "interactions": [{"item_id": "item-12"}]})).ok();
    let page = server.get("/v1/recommendations").ok();
    let history = page["recommendations"][0]["history"].as_array().unwrap();
    assert_eq!(history.iter().map(|one| one["item_id"].as_str().unwrap()).collect::<Vec<_>>(), ["item-4"]);
}

#[test]
fn what_the_store_does_not_take_of_the_log_is_counted() {
    let documents = HeldUpDocuments::new(Box::new(|_| Box::pin(std::future::ready(Err(StoreError::Closed)))));
    let history = Arc::new(MemoryHistory::new(1, 100, Duration::from_secs(60)));
    let server = Server::with_stores(Stores { history, documents }, halves);
    let lost = || server.metric("kindred_recommendations_unlogged");
    assert_eq!(lost(), 0.0);
    server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(lost(), 1.0);
}

#[test]
fn what_was_shown_is_shown_again_while_its_generation_is_kept() {
    let server = Server::with(&Fixture::shop(), halves);
    server.view("u", "item-4");
    let list = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    let path = format!("/v1/recommendations/{}/replay", list["recommendation_id"].as_str().unwrap());
    let again = || server.send("POST", &path, &[], &[]);
    server.view("u", "item-5");
    let same = again().ok();
    assert_eq!(ids(&same), ids(&list));
    let scores = |answer: &Value| {
        answer["items"].as_array().unwrap().iter().map(|item| item["score"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(scores(&same), scores(&list));
    assert_eq!((&same["generation"], &same["generation_state"]), (&json!("g1"), &json!("live")));
    Fixture::shop().publish(&server.artifacts(), "g2");
    server.post("/admin/reload", json!({})).ok();
    assert_eq!(again().ok()["generation_state"], "kept");
    let old = server.artifacts().join("g1");
    let writable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&old, writable).unwrap();
    std::fs::remove_dir_all(old).unwrap();
    again().problem(410, "generation_gone");
    for unknown in ["nonsense", "00000000000000000000000000000000"] {
        let path = format!("/v1/recommendations/{unknown}/replay");
        server.send("POST", &path, &[], &[]).problem(404, "recommendation_not_found");
    }
}

#[test]
fn the_log_ties_outcomes_to_lists_and_leaves_out_who_does_not_agree() {
    let server = Server::with(&Fixture::shop(), halves);
    server.view("u", "item-4");
    server.post("/v1/recommendations", json!({"user_id": "u", "consent": "session"})).ok();
    let mut names = Vec::new();
    for at in 0..5 {
        let list = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
        let id = list["recommendation_id"].as_str().unwrap().to_owned();
        if at % 2 == 0 {
            let click = json!({"user_id": "u", "item_id": ids(&list)[at], "kind": "view", "recommendation_id": id});
            server.post("/v1/interactions", click).ok();
        }
        names.push(id);
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/recommendations?limit=2{cursor}")).ok();
        found.extend(page["recommendations"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let logged: Vec<&str> = found.iter().map(|one| one["recommendation_id"].as_str().unwrap()).collect();
    assert_eq!(logged, names);
    for (at, one) in found.iter().enumerate() {
        let outcomes = one["outcomes"].as_array().unwrap();
        assert_eq!(outcomes.len(), usize::from(at % 2 == 0), "{one}");
        if let Some(outcome) = outcomes.first() {
            assert_eq!(outcome["item_id"], one["items"][at]["item_id"]);
        }
        assert_eq!(one["history"].as_array().unwrap().last().unwrap()["item_id"], "item-4");
        assert!(!one.to_string().contains("\"u\""), "the log names no visitor");
    }
    server.get("/v1/recommendations?limit=1001").problem(400, "limit_exceeded");
    server.get("/v1/recommendations?cursor=x").problem(400, "invalid_request");
}

#[test]
fn outcomes_are_those_of_interactions_that_are_kept_and_each_is_one() {
    let server = Server::with(&Fixture::shop(), halves);
    let list = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    let id = list["recommendation_id"].as_str().unwrap();
    let outcomes = || {
        let page = server.get("/v1/recommendations").ok();
        page["recommendations"][0]["outcomes"].as_array().unwrap().len()
    };
    let click = |user: &str, name: &str| {
        let click = json!({"interaction_id": name, "user_id": user, "item_id": "item-1", "kind": "view", "recommendation_id": id});
        server.post("/v1/interactions", click).ok()
    };
    let refuse = json!({"consent": "none"}).to_string();
    server.send("PUT", "/v1/users/shy", &[("content-type", "application/json")], refuse.as_bytes()).ok();
    assert_eq!(click("shy", "one")["not_kept"], 1);
    assert_eq!(outcomes(), 0, "a standing refusal holds for the log too");
    assert_eq!(click("u", "two")["accepted"], 1);
    assert_eq!(click("u", "two")["duplicates"], 1);
    assert_eq!(outcomes(), 1, "sent again it changes nothing");
    // Many outcomes of one list, and more than one commit takes, go with their person.
    for batch in 0..9 {
        let name =
            |at: usize| if batch == 0 { id.to_owned() } else { format!("{:012x}{:020x}", 1, batch * 1_000 + at) };
        let one =
            |at: usize| json!({"user_id": "u", "item_id": "item-2", "kind": "view", "recommendation_id": name(at)});
        server.post("/v1/interactions", Value::Array((0..1_000).map(one).collect())).ok();
    }
    assert_eq!(outcomes(), 1_001);
    let receipt = server.send("DELETE", "/v1/users/u/data", &[], &[]).ok();
    assert_eq!(
        (&receipt["removed"]["interactions"], &receipt["removed"]["recommendations"]),
        (&json!(9_001), &json!(1))
    );
    assert_eq!(server.get("/v1/recommendations").ok()["recommendations"], json!([]));
}

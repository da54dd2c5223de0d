//! What operators and machines ask: alive, ready, what is served, how it is doing.

use std::collections::BTreeMap;

use kindred::settings::StoreKind;
use kindred::testing::Fixture;
use serde_json::json;

use crate::support::Server;

#[test]
fn alive_at_once_and_ready_with_the_first_artifact() {
    let server = Server::empty();
    let health = server.get("/healthz");
    assert_eq!((health.status, health.text()), (200, "ok\n"));
    let answer = server.get("/readyz");
    let problem = answer.problem(503, "not_ready");
    assert!(problem.remedy.contains("kindred build"), "{problem:?}");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
    server.get("/v1/model").problem(503, "not_ready");
    assert_eq!(server.metric("kindred_ready"), 0.0);
    let reload = server.send("POST", "/admin/reload", &[], &[]).ok();
    assert_eq!(reload, json!({"result": "nothing_published", "generation": null}));

    Fixture::shop().publish(&server.artifacts(), "first");
    let reload = server.send("POST", "/admin/reload", &[], &[]).ok();
    assert_eq!(reload, json!({"result": "swapped", "generation": "first"}));
    assert_eq!(server.get("/readyz").ok(), json!({"status": "ready", "generation": "first", "history": "ok"}));
    assert_eq!(server.metric("kindred_ready"), 1.0);
}

#[test]
fn a_store_in_memory_has_no_backup_and_names_no_time_for_one() {
    let server = Server::with(&Fixture::shop(), |settings| settings.history.store = StoreKind::Memory);
    let answer = server.send("POST", "/admin/backup", &[], &[]);
    let problem = answer.problem(503, "history_failed");
    assert!(problem.remedy.contains("history.store") && !problem.remedy.contains("send it again"), "{problem:?}");
    assert_eq!(answer.header("retry-after"), "");
}

#[test]
fn a_published_artifact_is_found_by_polling() {
    let server = Server::with(&Fixture::shop(), |settings| settings.artifacts.poll_ms = 10);
    Fixture::random(1, 30, 16, kindred_index::Metric::Cosine).publish(&server.artifacts(), "g2");
    let began = std::time::Instant::now();
    while server.get("/v1/model").ok()["generation"] != "g2" {
        assert!(began.elapsed() < crate::support::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_model_says_what_it_is() {
    let server = Server::with_shop();
    let model = server.get("/v1/model").ok();
    assert_eq!(model["generation"], "g1");
    assert_eq!((model["items"].as_u64(), model["dimensions"].as_u64()), (Some(60), Some(16)));
    assert_eq!(model["metric"], "cosine");
    assert_eq!(
        model["scenarios"],
        json!([
            "also_bought",
            "buy_again",
            "cart",
            "home",
            "next_page",
            "popular",
            "recently_viewed",
            "rerank",
            "similar",
            "trending"
        ])
    );
    assert_eq!(model["kinds"]["view"], 1.0);
    assert_eq!(model["manifest"]["trainer"], "fixture");
    assert_eq!(model["manifest"]["ann_recall"]["recall"], 1.0);
}

#[test]
fn every_answer_has_a_request_id_and_a_senders_is_kept() {
    let server = Server::with_shop();
    let (one, other) = (server.get("/healthz"), server.get("/healthz"));
    assert_eq!(one.header("x-request-id").len(), 32);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let kept = server.send("GET", "/nowhere", &[("x-request-id", "mine-1")], &[]);
    assert_eq!(kept.header("x-request-id"), "mine-1");
    let long = "x".repeat(65);
    assert_eq!(server.send("GET", "/healthz", &[("x-request-id", &long)], &[]).header("x-request-id").len(), 32);
}

/// Every sample of a Prometheus text, by its name with labels; fails on a line that is not one.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut typed = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.split(' ').collect();
            assert!(["HELP", "TYPE"].contains(&words[0]), "{line}");
            if words[0] == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&words[2]), "{line}");
                assert!(typed.insert(words[1].to_owned(), words[2].to_owned()).is_none(), "typed twice: {line}");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
        let family = name.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end)).unwrap_or(family);
        assert!(
            typed.contains_key(family) || typed.get(base).is_some_and(|kind| kind == "histogram"),
            "no type: {line}"
        );
        let labels = &name[family.len()..];
        assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        assert!(found.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    found
}

#[test]
fn metrics_parse_and_count_what_was_done() {
    let server = Server::with_shop();
    server.view("u", "item-4");
    for _ in 0..3 {
        server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    }
    server.get("/v1/items/no such".replace(' ', "%20").as_str());
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let found = samples(answer.text());
    for stage in ["parse", "gather", "user_vector", "filter", "neighbours", "search", "rank", "render"] {
        assert_eq!(found[&format!("kindred_stage_seconds_count{{stage=\"{stage}\"}}")], 3.0, "{stage}");
        assert_eq!(found[&format!("kindred_stage_seconds_bucket{{stage=\"{stage}\",le=\"+Inf\"}}")], 3.0);
    }
    assert_eq!(found["kindred_requests_total{route=\"recommendations\",status=\"2xx\"}"], 3.0);
    assert_eq!(found["kindred_requests_total{route=\"item\",status=\"4xx\"}"], 1.0);
    assert_eq!(found["kindred_request_seconds_count{route=\"recommendations\"}"], 3.0);
    assert_eq!(found["kindred_interactions_total{result=\"accepted\"}"], 1.0);
    assert_eq!(found["kindred_history_committed"], 1.0);
    assert_eq!(found["kindred_items"], 60.0);
    assert!(found.contains_key("kindred_artifact_age_seconds"));
    let before = found.len();
    server.get("/wp-login.php");
    assert_eq!(samples(server.get("/metrics").text()).len(), before, "a scanner cannot grow the registry");
}

#[test]
fn every_metric_that_an_alert_names_is_there() {
    let server = Server::with_shop();
    server.view("u", "item-4");
    server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    server.get("/v1/items/item-4/similar").ok();
    let text = server.get("/metrics");
    let found = samples(text.text());
    let rules = include_str!("../../config/alerts.yml");
    let mut named = 0;
    for word in rules.lines().filter(|line| line.trim_start().starts_with("expr:")).flat_map(|line| {
        line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("kindred_"))
    }) {
        named += 1;
        assert!(found.keys().any(|name| name.split('{').next() == Some(word)), "no metric {word}");
    }
    assert!(named > 12, "{named}");
    assert_eq!(found["kindred_artifact_info{generation=\"g1\"}"], 1.0);
    for scenario in ["home", "similar"] {
        assert_eq!(found[&format!("kindred_scenario_seconds_count{{scenario=\"{scenario}\"}}")], 1.0, "{scenario}");
    }
    assert_eq!(found["kindred_stage_seconds_count{stage=\"rank\"}"], 2.0);
    assert_eq!(found["kindred_event_lag_seconds_count"], 1.0);
    if cfg!(target_os = "linux") {
        assert!(found["kindred_mapped_bytes"] >= found["kindred_mapped_resident_bytes"]);
        assert!(found["kindred_mapped_resident_bytes"] > 0.0 && found["kindred_resident_bytes"] > 0.0);
    }
}

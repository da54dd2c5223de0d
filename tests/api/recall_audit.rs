//! Live searches that find too little are noticed, and get broader until they find enough.

use std::time::{Duration, Instant};

use kindred::testing::Fixture;
use kindred_index::Metric;
use serde_json::json;

use crate::support::Server;

/// Seconds that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn metric(name: &str, shape: &str) -> String {
    format!("kindred_ann_recall{name}{{scenario=\"home\",shape=\"{shape}\"}}")
}

/// The value of a metric, 0 while it is not there.
fn value(server: &Server, line: &str) -> f64 {
    let text = server.get("/metrics");
    let found = text.text().lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn a_search_that_is_too_narrow_gets_broader_until_it_finds_enough() {
    let fixture = Fixture::clustered(5, 1_500, 16, Metric::Cosine, 8);
    let server = Server::with(&fixture, |settings| {
        settings.recall_audit.sample = 1.0;
        settings.recall_audit.floor = 0.97;
        settings.recall_audit.window = 40;
        let home = settings.scenarios.get_mut("home").unwrap();
        home.require_available = false;
        // A walk that looks at one item at a time, for a list of one.
        (home.ef_search, home.candidates, home.limit) = (1, 1, 1);
    });
    let mut number = 0;
    let mut ask = |filter: serde_json::Value| {
        number += 1;
        let item = |step: usize| json!({"item_id": Fixture::key(number * step % 1_500)});
        let body = json!({"interactions": [item(7), item(31)], "filter": filter});
        assert_eq!(server.post("/v1/recommendations", body).ok()["items"].as_array().unwrap().len(), 1);
    };
    let began = Instant::now();
    let (mut most, mut least) = (0.0_f64, 1.0_f64);
    // At first too little is found; then it gets broader, until what is found is enough for as long as it takes to be sure.
    loop {
        for _ in 0..10 {
            ask(json!({}));
        }
        let (level, recall) = (value(&server, &metric("_level", "plain")), value(&server, &metric("", "plain")));
        let samples = value(&server, &metric("_samples_total", "plain"));
        (most, least) = (most.max(level), if samples > 0.0 { least.min(recall) } else { least });
        if level > 0.0 && recall >= 0.97 && least < 0.97 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "level {level}, recall {recall}, least {least}, {samples} samples");
    }
    assert!(most > 0.0);
    // What few items pass is compared with one by one anyway, and has a gauge of its own.
    let few = json!({"key": "price", "range": {"lte": 12}});
    while value(&server, &metric("_samples_total", "filtered_below_1_percent")) < 5.0 {
        ask(few.clone());
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(value(&server, &metric("", "filtered_below_1_percent")), 1.0);
    assert_eq!(value(&server, &metric("_level", "filtered_below_1_percent")), 0.0);
    // Another artifact is another graph, of which nothing is known yet, whether or not anybody asks.
    fixture.publish(&server.artifacts(), "g2");
    server.post("/admin/reload", json!({})).ok();
    let is_told = || server.get("/metrics").text().contains("kindred_ann_recall{");
    while value(&server, &metric("_level", "plain")) > 0.0 || is_told() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = value(&server, &metric("_samples_total", "plain"));
    while value(&server, &metric("_samples_total", "plain")) == before {
        ask(json!({}));
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(value(&server, &metric("_level", "plain")) <= 1.0);
}

#[test]
fn without_a_sample_nothing_is_measured() {
    let server = Server::with(&Fixture::shop(), |settings| settings.recall_audit.sample = 0.0);
    for _ in 0..5 {
        server.post("/v1/recommendations", json!({"interactions": [{"item_id": "item-4"}]})).ok();
    }
    assert!(!server.get("/metrics").text().contains("kindred_ann_recall{"));
}

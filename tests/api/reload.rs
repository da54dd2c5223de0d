//! Artifacts that come while requests are served: a swap loses nothing, a bad one changes nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kindred::testing::Fixture;
use kindred_index::Metric;
use serde_json::json;

use crate::support::{Client, Server};

fn reload(client: &Client) -> crate::support::Answer {
    client.send("POST", "/admin/reload", &[], &[])
}

/// A shop whose every title names its generation.
fn marked(generation: u64) -> Fixture {
    let mut fixture = Fixture::random(generation, 60, 16, Metric::Cosine);
    fixture.items.iter_mut().for_each(|item| item.title = format!("g{generation} {}", item.id));
    fixture
}

/// Changes one byte in the middle of a file of a published artifact.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    // Published files are read-only, so the file is replaced.
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_swap_under_load_loses_no_request_and_mixes_no_generations() {
    const GENERATIONS: u64 = 8;
    let server = Server::with(&marked(1), |_| ());
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for visitor in 0..4 {
            let (client, done, answered) = (server.client.clone(), &done, &answered);
            scope.spawn(move || {
                let mut last = 1;
                while !done.load(Ordering::Relaxed) {
                    let body = json!({"interactions": [{"item_id": format!("item-{visitor}")}], "with_items": true});
                    let answer = client.post("/v1/recommendations", body).ok();
                    let generation: u64 = answer["generation"].as_str().unwrap()[1..].parse().unwrap();
                    assert!(generation >= last, "g{generation} after g{last}");
                    last = generation;
                    for item in answer["items"].as_array().unwrap() {
                        let title = item["item"]["title"].as_str().unwrap();
                        assert!(title.starts_with(&format!("g{generation} ")), "{title} in an answer of g{generation}");
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for generation in 2..=GENERATIONS {
            let before = answered.load(Ordering::Relaxed);
            marked(generation).publish_keeping(&server.artifacts(), &format!("g{generation}"), Some(2));
            assert_eq!(reload(&server).ok()["generation"], format!("g{generation}"));
            let began = std::time::Instant::now();
            while answered.load(Ordering::Relaxed) < before + 20 && began.elapsed() < crate::support::PATIENCE {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.metric("kindred_reloads_total{result=\"swapped\"}"), GENERATIONS as f64);
    assert_eq!(server.metric("kindred_requests_total{route=\"recommendations\",status=\"5xx\"}"), 0.0);
    assert_eq!(reload(&server).ok(), json!({"result": "unchanged", "generation": "g8"}));
}

#[test]
fn a_damaged_artifact_is_refused_and_counted_and_the_old_one_stays() {
    let server = Server::with_shop();
    for (at, file) in ["index.kin", "model.kin", "manifest.json"].into_iter().enumerate() {
        let directory = marked(9).publish(&server.artifacts(), &format!("bad{at}"));
        damage(&directory.join(file));
        let problem = reload(&server).problem(422, "artifact_refused");
        assert!(problem.detail.contains(&format!("bad{at}")), "{problem:?}");
        assert!(problem.remedy.contains("stays live") && problem.remedy.contains("kindred verify"), "{problem:?}");
        assert_eq!(server.metric("kindred_reloads_total{result=\"refused\"}"), (at + 1) as f64);
        assert_eq!(server.get("/readyz").ok()["generation"], "g1");
        assert_eq!(server.post("/v1/recommendations", json!({})).ok()["generation"], "g1");
    }
    marked(9).publish(&server.artifacts(), "good");
    assert_eq!(reload(&server).ok()["result"], "swapped");
}

#[test]
fn half_an_artifact_is_refused() {
    let server = Server::with_shop();
    let directory = marked(9).publish(&server.artifacts(), "half");
    let index = directory.join("index.kin");
    let bytes = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    reload(&server).problem(422, "artifact_refused");
    std::fs::remove_file(&index).unwrap();
    reload(&server).problem(422, "artifact_refused");
    std::fs::write(server.artifacts().join("CURRENT"), "../../etc\n").unwrap();
    reload(&server).problem(422, "artifact_refused");
    assert_eq!(server.get("/readyz").ok()["generation"], "g1");
}

#[test]
fn an_artifact_that_stays_is_named_where_nothing_is_published_any_more() {
    let server = Server::with_shop();
    std::fs::remove_file(server.artifacts().join("CURRENT")).unwrap();
    assert_eq!(reload(&server).ok(), json!({"result": "nothing_published", "generation": "g1"}));
    assert_eq!(server.get("/readyz").ok()["generation"], "g1");
}

#[test]
fn a_reload_is_for_this_machine_alone() {
    let server = Server::with_shop();
    for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip", "origin"] {
        let answer = server.send("POST", "/admin/reload", &[(header, "10.0.0.7")], &[]);
        let problem = answer.problem(403, "forbidden");
        assert!(problem.remedy.contains("SIGHUP"), "{problem:?}");
    }
}

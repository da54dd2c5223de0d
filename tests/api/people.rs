//! `/v1/users/{id}…` and `/v1/sessions/{id}…`: profiles, merges, listings, exports and erasures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kindred::app::Stores;
use kindred::history::memory::MemoryHistory;
use kindred::testing::{Fixture, HeldUpDocuments, Noise};
use serde_json::{Value, json};

use crate::support::{Client, Process, Server, ids};

fn send_json(client: &Client, method: &str, path: &str, body: Value) -> crate::support::Answer {
    client.send(method, path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

fn view_in(client: &Client, session: &str, item: &str) {
    let body = json!({"session_id": session, "item_id": item, "kind": "view"});
    assert_eq!(client.post("/v1/interactions", body).ok()["accepted"], 1);
}

fn events_used(client: &Client, who: Value) -> u64 {
    client.post("/v1/recommendations", who).ok()["events_used"].as_u64().unwrap()
}

fn listed(client: &Client, path: &str) -> Vec<String> {
    let page = client.get(path).ok();
    let item = |one: &Value| one["item_id"].as_str().unwrap().to_owned();
    page["interactions"].as_array().unwrap().iter().map(item).collect()
}

#[test]
fn a_list_without_what_the_profile_would_say_says_so() {
    let documents = HeldUpDocuments::new(Box::new(|_| Box::pin(std::future::ready(Ok(())))));
    let history = Arc::new(MemoryHistory::new(1, 100, Duration::from_secs(60)));
    let server = Server::with_stores(Stores { history, documents: documents.clone() }, |settings| {
        let mut circle = settings.scenarios["home"].clone();
        circle.weights.followed = 1.0;
        settings.scenarios.insert("circle".to_owned(), circle);
        settings.scenarios.get_mut("home").unwrap().weights.context = 1.0;
    });
    send_json(&server, "PUT", "/v1/users/u", json!({"country": "DE", "follows": ["w"]})).ok();
    let degraded = |path, scenario, user| {
        let asked = json!({"user_id": user, "scenario": scenario});
        let mut asked = asked.as_object().unwrap().clone();
        asked.extend((path == "/v1/score").then(|| ("item_ids".to_owned(), json!(["item-4"]))));
        server.post(path, json!(asked)).ok()["degraded"].clone()
    };
    documents.reads_fail.store(true, Ordering::Relaxed);
    for path in ["/v1/recommendations", "/v1/score"] {
        for scenario in ["home", "circle"] {
            assert_eq!(degraded(path, scenario, "u"), Value::Null, "it is in memory: {path} {scenario}");
            assert_eq!(degraded(path, scenario, "v"), "history_unavailable", "{path} {scenario}");
        }
    }
    documents.reads_fail.store(false, Ordering::Relaxed);
    assert_eq!(degraded("/v1/recommendations", "home", "v"), Value::Null);
}

#[test]
fn a_profile_is_set_changed_shown_and_removed() {
    let server = Server::with_shop();
    server.get("/v1/users/u").problem(404, "user_not_found");
    let set = send_json(&server, "PUT", "/v1/users/u", json!({"country": "DE", "labels": ["garden"]})).ok();
    let expected = json!({"user_id": "u", "country": "DE", "device": null, "labels": ["garden"], "follows": [], "consent": "full",
        "merged": [], "merged_into": null});
    assert_eq!(set, expected);
    assert_eq!(server.get("/v1/users/u").ok(), expected);
    let changed = send_json(&server, "PATCH", "/v1/users/u", json!({"country": null, "device": "mobile"})).ok();
    assert_eq!(
        (&changed["country"], &changed["device"], &changed["labels"]),
        (&Value::Null, &json!("mobile"), &json!(["garden"]))
    );
    let created = send_json(&server, "PATCH", "/v1/users/new", json!({"country": "AT"})).ok();
    assert_eq!(created["country"], "AT");
    assert_eq!(server.send("DELETE", "/v1/users/u", &[], &[]).ok(), json!({"removed": true}));
    assert_eq!(server.send("DELETE", "/v1/users/u", &[], &[]).ok(), json!({"removed": false}));
    server.get("/v1/users/u").problem(404, "user_not_found");
    for bad in [json!({"country": ""}), json!({"labels": vec!["x"; 65]}), json!({"device": "x".repeat(300)})] {
        send_json(&server, "PUT", "/v1/users/u", bad).problem(400, "invalid_request");
    }
    for bad in [json!({"county": "DE"}), json!({"consent": "maybe"}), json!([])] {
        send_json(&server, "PATCH", "/v1/users/u", bad).problem(400, "invalid_json");
    }
    server.post("/v1/users/u", json!({})).problem(405, "method_not_allowed");
    send_json(&server, "PUT", &format!("/v1/users/{}", "x".repeat(257)), json!({})).problem(400, "limit_exceeded");
}

#[test]
fn who_is_called_by_a_dot_or_two_is_shown_and_erased_where_the_dots_are_sent_encoded() {
    let server = Server::with_shop();
    for (id, encoded) in [(".", "%2E"), ("..", "%2e%2e")] {
        server.view(id, "item-4");
        view_in(&server, id, "item-8");
        for (kind, item) in [("users", "item-4"), ("sessions", "item-8")] {
            assert_eq!(listed(&server, &format!("/v1/{kind}/{encoded}/interactions")), [item]);
            let erased = server.send("DELETE", &format!("/v1/{kind}/{encoded}/data"), &[], &[]).ok();
            assert_eq!(erased["removed"]["interactions"], 1, "{kind}");
        }
        assert_eq!(events_used(&server, json!({"user_id": id, "session_id": id})), 0);
    }
}

#[test]
fn a_session_is_merged_into_a_user_and_taken_out_again() {
    let server = Server::with_shop();
    server.view("u", "item-1");
    view_in(&server, "s", "item-4");
    let login = json!({"session_id": "s"});
    let merged = server.post("/v1/users/u/merge", login.clone()).ok();
    assert_eq!(merged["names"], 2);
    assert_eq!(
        server.post("/v1/users/u/merge", login.clone()).ok()["merged_at"],
        merged["merged_at"],
        "again is the same"
    );
    view_in(&server, "s", "item-8");
    assert_eq!(events_used(&server, json!({"user_id": "u"})), 3, "before and after the merge");
    assert_eq!(events_used(&server, json!({"user_id": "u", "session_id": "s"})), 3, "each once");
    assert_eq!(events_used(&server, json!({"session_id": "s"})), 2, "who holds a session need not be the user");
    let list = server.post("/v1/recommendations", json!({"user_id": "u", "limit": 1000})).ok();
    assert!(
        ["item-1", "item-4", "item-8"].iter().all(|seen| !ids(&list).contains(seen)),
        "what either has seen is left out"
    );
    assert_eq!(listed(&server, "/v1/users/u/interactions"), ["item-8", "item-4", "item-1"]);
    server.post("/v1/users/other/merge", login.clone()).problem(409, "merge_conflict");
    assert_eq!(server.post("/v1/users/u/unmerge", login.clone()).ok()["names"], 1);
    assert_eq!(events_used(&server, json!({"user_id": "u"})), 1);
    assert_eq!(listed(&server, "/v1/sessions/s/interactions"), ["item-8", "item-4"]);
    server.post("/v1/users/u/unmerge", login).problem(409, "merge_conflict");
    for bad in [json!({}), json!({"session_id": "a", "user_id": "b"})] {
        server.post("/v1/users/u/merge", bad).problem(400, "invalid_request");
    }
    server.post("/v1/users/u/merge", json!({"user_id": "u"})).problem(409, "merge_conflict");
}

#[test]
fn who_is_merged_is_shown_whether_or_not_anything_was_set() {
    let server = Server::with_shop();
    send_json(&server, "PUT", "/v1/users/old", json!({"consent": "none"})).ok();
    for source in [json!({"session_id": "s"}), json!({"user_id": "old"})] {
        server.post("/v1/users/u/merge", source).ok();
    }
    let shown = server.get("/v1/users/u").ok();
    assert_eq!((&shown["merged"], &shown["consent"]), (&json!(["s:s", "u:old"]), &json!("none")), "{shown}");
    assert_eq!(server.get("/v1/users/old").ok()["merged_into"], "u");
    for source in [json!({"session_id": "s"}), json!({"user_id": "old"})] {
        server.post("/v1/users/u/unmerge", source).ok();
    }
    server.get("/v1/users/u").problem(404, "user_not_found");
}

#[test]
fn who_logs_in_from_a_new_session_each_day_is_one_person_and_erased_as_one() {
    // The smallest queue of the store that there may be.
    let server = Server::with(&Fixture::shop(), |settings| settings.history.queue = 1_000);
    for day in 0..400 {
        let session = format!("day-{day}");
        if day % 10 == 5 {
            view_in(&server, &session, "item-1");
        }
        let merged = server.post("/v1/users/u/merge", json!({"session_id": session})).ok();
        assert_eq!(merged["names"], day + 2);
    }
    assert_eq!(events_used(&server, json!({"user_id": "u"})), 5, "of the newest 49 sessions");
    assert_eq!(events_used(&server, json!({"user_id": "u", "session_id": "day-5"})), 6, "and of the one it is in");
    assert_eq!(listed(&server, "/v1/users/u/interactions?limit=1000").len(), 40);
    let removed = server.send("DELETE", "/v1/users/u/data", &[], &[]).ok()["removed"].clone();
    assert_eq!((&removed["interactions"], &removed["merges"]), (&json!(40), &json!(400)));
    assert!(listed(&server, "/v1/sessions/day-5/interactions").is_empty());
    assert_eq!(server.get("/v1/users/u/data").ok()["names"], json!(["u:u"]));
}

#[test]
fn a_merge_is_final_after_its_days() {
    let server = Server::with(&Fixture::shop(), |settings| settings.people.unmerge_days = 0);
    server.post("/v1/users/u/merge", json!({"session_id": "s"})).ok();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let problem = server.post("/v1/users/u/unmerge", json!({"session_id": "s"})).problem(409, "merge_conflict");
    assert!(problem.detail.contains("unmerge_days"), "{problem:?}");
}

/// Users, sessions, merges and erasures at random, against a plain reference: a list of events by name and a list of pairs.
#[test]
fn what_a_person_has_done_is_that_of_a_plain_reference() {
    let server = Server::with_shop();
    let mut noise = Noise(11);
    let names = ["u:a", "u:b", "u:c", "s:x", "s:y"];
    let mut events: Vec<(&str, String)> = Vec::new();
    let mut pairs: BTreeMap<&str, &str> = BTreeMap::new();
    let body_of = |name: &str| {
        let field = if name.starts_with("u:") { "user_id" } else { "session_id" };
        json!({ field: name[2..] })
    };
    for step in 0..150 {
        let (one, other) = (names[noise.below(3)], names[noise.below(names.len())]);
        match noise.below(8) {
            0..=3 => {
                let item = format!("item-{}", noise.below(60));
                let mut body = body_of(other);
                (body["item_id"], body["kind"]) = (json!(item), json!("view"));
                // A millisecond apart, so that the order of the list is known.
                body["occurred_at"] = json!(1_700_000_000_000_i64 + step);
                server.post("/v1/interactions", body).ok();
                events.push((other, item));
            }
            4 | 5 => {
                let answer = server.post(&format!("/v1/users/{}/merge", &one[2..]), body_of(other));
                let same = connected(&pairs, one).contains(other);
                let expected = pairs.get(other) == Some(&one) || (!pairs.contains_key(other) && !same);
                assert_eq!(answer.status == 200, expected, "{one} {other} {pairs:?}");
                if expected {
                    pairs.insert(other, one);
                }
            }
            6 => {
                let answer = server.post(&format!("/v1/users/{}/unmerge", &one[2..]), body_of(other));
                let expected = pairs.get(other) == Some(&one);
                assert_eq!(answer.status == 200, expected, "{one} {other} {pairs:?}");
                if expected {
                    pairs.remove(other);
                }
            }
            _ if step % 3 == 0 => {
                let person = connected(&pairs, one);
                let receipt = server.send("DELETE", &format!("/v1/users/{}/data", &one[2..]), &[], &[]).ok();
                let gone = events.iter().filter(|(name, _)| person.contains(name)).count();
                assert_eq!(receipt["removed"]["interactions"], gone);
                let merges = pairs.keys().filter(|name| person.contains(*name)).count();
                assert_eq!(receipt["removed"]["merges"], merges);
                events.retain(|(name, _)| !person.contains(name));
                pairs.retain(|name, _| !person.contains(name));
            }
            _ => {}
        }
        for user in &names[..3] {
            let person = connected(&pairs, user);
            let expected: Vec<&String> =
                events.iter().rev().filter(|(name, _)| person.contains(name)).map(|(_, item)| item).collect();
            let found = listed(&server, &format!("/v1/users/{}/interactions?limit=1000", &user[2..]));
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "step {step}, {user}, {pairs:?}");
            let answer = server.post("/v1/recommendations", json!({"user_id": user[2..], "limit": 1000})).ok();
            assert_eq!(answer["events_used"], expected.len());
            let list: BTreeSet<&str> = ids(&answer).into_iter().collect();
            assert!(expected.iter().all(|seen| !list.contains(seen.as_str())), "what was seen is left out");
        }
    }
    assert!(events.len() > 5, "the erasures left something to compare");
}

fn connected<'a>(pairs: &BTreeMap<&'a str, &'a str>, start: &'a str) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::from([start]);
    loop {
        let both = pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let new: Vec<&str> = both.filter(|(a, b)| all.contains(a) && !all.contains(b)).map(|(_, b)| b).collect();
        if new.is_empty() {
            return all;
        }
        all.extend(new);
    }
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let server = Server::with_shop();
    // More than the answers look at: a listing is of everything that is kept.
    let batch: Vec<Value> = (0..250)
        .map(|at| json!({"user_id": "u", "item_id": format!("item-{at}"), "kind": "view", "occurred_at": 1_700_000_000_000_i64 + at / 3}))
        .collect();
    server.post("/v1/interactions", json!(batch)).ok();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let at = cursor.map_or(String::new(), |cursor: String| format!("&cursor={cursor}"));
        let page = server.get(&format!("/v1/users/u/interactions?limit=40{at}")).ok();
        found.extend(
            page["interactions"].as_array().unwrap().iter().map(|one| one["item_id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let expected: Vec<String> = (0..250).rev().map(|at| format!("item-{at}")).collect();
    assert_eq!(found, expected);
    server.get("/v1/users/u/interactions?limit=0").problem(400, "limit_exceeded");
    server.get("/v1/users/u/interactions?cursor=x").problem(400, "invalid_request");
    server.get("/v1/users/u/interactions?page=2").problem(400, "invalid_request");
}

#[test]
fn what_was_refused_while_merged_stays_refused_apart() {
    let server = Server::with_shop();
    send_json(&server, "PUT", "/v1/users/b", json!({"country": "FR"})).ok();
    server.post("/v1/users/a/merge", json!({"user_id": "b"})).ok();
    send_json(&server, "PUT", "/v1/users/a", json!({"country": "DE"})).ok();
    let profiles = server.get("/v1/users/a/data").ok()["profiles"].clone();
    assert_eq!((&profiles["u:a"]["country"], &profiles["u:b"]["country"]), (&json!("DE"), &json!("FR")));
    send_json(&server, "PUT", "/v1/users/b", json!({"consent": "none"})).ok();
    server.post("/v1/users/a/unmerge", json!({"user_id": "b"})).ok();
    let accepted = |user: &str| {
        let event = json!({"user_id": user, "item_id": "item-1", "kind": "view"});
        server.post("/v1/interactions", event).ok()["accepted"].clone()
    };
    assert_eq!((accepted("b"), accepted("a")), (json!(0), json!(0)), "both were one person when it was said");
    assert_eq!(server.get("/v1/users/b").ok()["country"], "FR");
}

#[test]
fn a_person_is_exported_and_erased_with_a_receipt() {
    let server = Server::with(&Fixture::shop(), |settings| settings.recommendation_log.sample = 1.0);
    server.view("u", "item-1");
    let list = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    let id = list["recommendation_id"].as_str().unwrap().to_owned();
    let click = json!({"user_id": "u", "item_id": "item-5", "kind": "view", "recommendation_id": id});
    server.post("/v1/interactions", click).ok();
    view_in(&server, "s", "item-4");
    server.post("/v1/users/u/merge", json!({"session_id": "s"})).ok();
    send_json(&server, "PUT", "/v1/users/u", json!({"country": "DE"})).ok();
    server
        .post("/v1/interactions", json!({"user_id": "u", "item_id": "item-9", "kind": "view", "consent": "session"}))
        .ok();

    let data = server.get("/v1/users/u/data").ok();
    assert_eq!(data["names"], json!(["u:u", "s:s"]));
    assert_eq!(data["profiles"]["u:u"]["country"], "DE");
    assert_eq!(data["interactions"].as_array().unwrap().len(), 3);
    assert_eq!(data["interactions"][1]["recommendation_id"], json!(id));
    assert_eq!(data["in_memory"][0]["item_id"], "item-9");

    let receipt = server.send("DELETE", "/v1/users/u/data", &[], &[]).ok();
    let removed =
        json!({"interactions": 3, "in_memory": 1, "profiles": 1, "merges": 1, "follows": 0, "recommendations": 1});
    assert_eq!(receipt["removed"], removed);
    assert_eq!(receipt["kept"], json!([]));
    assert_eq!(receipt["generations"][0]["generation"], "g1");
    assert_eq!(receipt["generations"][0]["trace"], "possible", "the fixture does not say when it was trained");

    let after = server.get("/v1/users/u/data").ok();
    assert_eq!((&after["interactions"], &after["in_memory"], &after["profiles"]), (&json!([]), &json!([]), &json!({})));
    assert_eq!(after["names"], json!(["u:u"]));
    assert_eq!(server.get("/v1/sessions/s/data").ok()["interactions"], json!([]));
    assert_eq!(
        server.post("/v1/recommendations", json!({"user_id": "u", "session_id": "s"})).ok()["fallback"],
        "newcomer"
    );
    server.send("POST", &format!("/v1/recommendations/{id}/replay"), &[], &[]).problem(404, "recommendation_not_found");
}

/// Gives the artifact that is published a time that it was trained on.
fn train_on(server: &Server, first_ms: i64, last_ms: i64) {
    let directory = server.artifacts().join("g1");
    // What is published is read-only; the test stands in for a build that knew its window.
    let writable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&directory, writable).unwrap();
    let path = directory.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    manifest["training_window"] = json!({"first_ms": first_ms, "last_ms": last_ms});
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn no_trace_is_known_where_the_person_came_later_than_all_that_was_trained_on_and_that_is_still_kept() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ago = |days: i64| i64::try_from(now.as_millis()).unwrap() - days * 86_400_000;
    let erase =
        |server: &Server| server.send("DELETE", "/v1/users/u/data", &[], &[]).ok()["generations"][0]["trace"].clone();
    let trace = |server: &Server, days: i64| {
        let body = json!({"user_id": "u", "item_id": "item-1", "kind": "view", "occurred_at": ago(days)});
        server.post("/v1/interactions", body).ok();
        erase(server)
    };
    let server = Server::with_shop();
    train_on(&server, ago(30), ago(10));
    assert_eq!(trace(&server, 20), "possible");
    assert_eq!(trace(&server, 1), "none_known");
    assert_eq!(erase(&server), "possible", "of whom nothing is kept, nothing is known");
    let server = server.restarted(|settings| {
        settings.history.retention_days_by_kind.insert("view".to_owned(), 20);
    });
    assert_eq!(trace(&server, 1), "possible", "views of the first ten days are gone");
    let server = server.restarted(|settings| settings.history.max_mb = 1);
    assert_eq!(trace(&server, 1), "possible", "nobody knows how many are gone");
    let server = server.restarted(|_| ());
    train_on(&server, ago(100), ago(10));
    assert_eq!(trace(&server, 1), "possible", "ninety days are kept");
    let server = server.restarted(|settings| settings.history.retention_days = 0);
    assert_eq!(trace(&server, 1), "none_known");
}

#[test]
fn who_is_who_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let server = Process::start(directory.path(), &[]);
    let client = server.client();
    client.view("u", "item-1");
    view_in(&client, "s", "item-4");
    client.post("/v1/users/u/merge", json!({"session_id": "s"})).ok();
    client.view("gone", "item-2");
    client.send("DELETE", "/v1/users/gone/data", &[], &[]).ok();
    send_json(&client, "PUT", "/v1/users/refuser", json!({"consent": "none"})).ok();
    server.kill();
    let server = Process::start(directory.path(), &[]);
    let client = server.client();
    assert_eq!(events_used(&client, json!({"user_id": "u"})), 2);
    assert_eq!(events_used(&client, json!({"user_id": "gone"})), 0);
    let dropped =
        client.post("/v1/interactions", json!({"user_id": "refuser", "item_id": "item-1", "kind": "view"})).ok();
    assert_eq!((&dropped["accepted"], &dropped["not_kept"]), (&json!(0), &json!(1)));
}

//! What is kept and used at each degree of consent, keyed names, and that no id of a person is in the log or the metrics.

use kindred::testing::Fixture;
use serde_json::{Value, json};

use crate::support::{Client, Process, Server};

fn event(user: &str, item: &str, consent: &str) -> Value {
    json!({"user_id": user, "session_id": format!("{user}-session"), "item_id": item, "kind": "view", "consent": consent})
}

fn events_used(client: &Client, user: &str, consent: &str) -> u64 {
    let body = json!({"user_id": user, "consent": consent});
    client.post("/v1/recommendations", body).ok()["events_used"].as_u64().unwrap()
}

#[test]
fn each_degree_keeps_and_uses_what_it_says() {
    let server = Server::with_shop();
    let kept = |consent: &str, item: &str| server.post("/v1/interactions", event("u", item, consent)).ok();
    assert_eq!(kept("none", "item-1")["not_kept"], 1);
    assert_eq!(events_used(&server, "u", "full"), 0);
    assert_eq!(kept("session", "item-2")["accepted"], 1);
    assert_eq!(server.get("/v1/users/u/interactions").ok()["interactions"], json!([]), "not on disk");
    assert_eq!(kept("full", "item-3")["accepted"], 1);
    assert_eq!(
        [events_used(&server, "u", "full"), events_used(&server, "u", "session"), events_used(&server, "u", "none")],
        [2, 1, 0]
    );
    let body = json!({"user_id": "u", "consent": "none", "interactions": [{"item_id": "item-4"}]});
    assert_eq!(server.post("/v1/recommendations", body).ok()["events_used"], 1, "what the request brings is used");
    let score = json!({"user_id": "u", "consent": "none", "item_ids": ["item-4"]});
    assert_eq!(server.post("/v1/score", score).ok()["events_used"], 0);
    assert_eq!(server.metric("kindred_interactions_total{result=\"not_kept\"}"), 1.0);
    server.post("/v1/interactions", event("u", "item-1", "some")).problem(400, "invalid_json");
}

#[test]
fn an_opt_out_holds_whatever_a_request_says_and_outlives_an_erasure() {
    let server = Server::with_shop();
    server.view("u", "item-1");
    let put = |consent: &str| {
        let body = json!({"consent": consent}).to_string();
        server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], body.as_bytes()).ok()
    };
    put("none");
    assert_eq!(events_used(&server, "u", "full"), 0);
    assert_eq!(server.post("/v1/interactions", event("u", "item-2", "full")).ok()["not_kept"], 1);
    let receipt = server.send("DELETE", "/v1/users/u/data", &[], &[]).ok();
    assert_eq!((&receipt["removed"]["interactions"], &receipt["kept"]), (&json!(1), &json!(["refusal"])));
    assert_eq!(server.post("/v1/interactions", event("u", "item-2", "full")).ok()["not_kept"], 1);
    put("full");
    assert_eq!(server.post("/v1/interactions", event("u", "item-2", "full")).ok()["accepted"], 1);
    assert_eq!(events_used(&server, "u", "full"), 1);
}

#[test]
fn who_says_nothing_of_consent_takes_no_opt_out_back() {
    let server = Server::with_shop();
    let put = |body: Value| {
        let body = body.to_string();
        server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], body.as_bytes()).ok()
    };
    put(json!({"consent": "none", "device": "mobile"}));
    let set = put(json!({"country": "DE"}));
    assert_eq!((&set["consent"], &set["country"], &set["device"]), (&json!("none"), &json!("DE"), &Value::Null));
    assert_eq!(server.post("/v1/interactions", event("u", "item-1", "full")).ok()["not_kept"], 1);
    // Nor does who removes all else that was set.
    assert_eq!(server.send("DELETE", "/v1/users/u", &[], &[]).ok(), json!({"removed": true}));
    assert_eq!(server.send("DELETE", "/v1/users/u", &[], &[]).ok(), json!({"removed": false}));
    let left = server.get("/v1/users/u").ok();
    assert_eq!((&left["consent"], &left["country"]), (&json!("none"), &Value::Null));
    assert_eq!(server.post("/v1/interactions", event("u", "item-1", "full")).ok()["not_kept"], 1);
    put(json!({"consent": "full"}));
    assert_eq!(server.post("/v1/interactions", event("u", "item-1", "full")).ok()["accepted"], 1);
    assert_eq!(server.send("DELETE", "/v1/users/u", &[], &[]).ok(), json!({"removed": true}));
    server.get("/v1/users/u").problem(404, "user_not_found");
}

#[test]
fn an_opt_out_binds_the_names_that_are_merged_into_the_user() {
    let server = Server::with_shop();
    server.post("/v1/users/u/merge", json!({"user_id": "old"})).ok();
    let body = json!({"consent": "none"}).to_string();
    server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], body.as_bytes()).ok();
    assert_eq!(server.post("/v1/interactions", event("old", "item-2", "full")).ok()["not_kept"], 1);
}

#[test]
fn an_opt_out_under_any_name_binds_the_person_and_stays_under_all_of_them() {
    let server = Server::with_shop();
    let put = |user: &str, consent: &str| {
        let body = json!({"consent": consent}).to_string();
        let path = format!("/v1/users/{user}");
        server.send("PUT", &path, &[("content-type", "application/json")], body.as_bytes()).ok()
    };
    let kept = |event: Value| server.post("/v1/interactions", event).ok()["accepted"].as_u64().unwrap();
    server.view("new", "item-1");
    put("old", "none");
    server.post("/v1/users/new/merge", json!({"user_id": "old"})).ok();
    server.post("/v1/users/new/merge", json!({"session_id": "s"})).ok();
    assert_eq!(kept(event("new", "item-2", "full")), 0, "refused before the merge");
    assert_eq!(events_used(&server, "new", "full"), 0);
    let country = json!({"country": "AT"}).to_string();
    for method in ["PATCH", "PUT"] {
        server.send(method, "/v1/users/new", &[("content-type", "application/json")], country.as_bytes()).ok();
        assert_eq!(kept(event("new", "item-2", "full")), 0, "{method}: nothing was said of consent");
    }
    put("old", "full");
    assert_eq!(kept(event("new", "item-2", "full")), 1, "what one name says is said by the person");
    put("old", "none");
    assert_eq!(server.get("/v1/users/new").ok()["consent"], "none");
    assert_eq!(kept(event("new", "item-3", "full")), 0);
    assert_eq!(kept(json!({"session_id": "s", "item_id": "item-3", "kind": "view"})), 0, "a session of the person");
    assert_eq!(server.send("DELETE", "/v1/users/new/data", &[], &[]).ok()["kept"], json!(["refusal"]));
    for name in ["new", "old"] {
        assert_eq!(kept(event(name, "item-4", "full")), 0, "{name}: the refusal outlives the merge");
    }
}

#[test]
fn a_refusal_outlives_an_erasure_under_the_sessions_of_the_person() {
    fn put(server: &Server, consent: &str) {
        let body = json!({"consent": consent}).to_string();
        server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], body.as_bytes()).ok();
    }
    fn kept(server: &Server, session: &str) -> Value {
        let event = json!({"session_id": session, "item_id": "item-2", "kind": "view"});
        server.post("/v1/interactions", event).ok()["accepted"].clone()
    }
    let server = Server::with_shop();
    for session in ["phone", "laptop"] {
        server.post("/v1/users/u/merge", json!({"session_id": session})).ok();
    }
    put(&server, "none");
    // A session by itself, and one with its user.
    for (path, session) in [("/v1/sessions/phone/data", "phone"), ("/v1/users/u/data", "laptop")] {
        assert_eq!(server.send("DELETE", path, &[], &[]).ok()["kept"], json!(["refusal"]), "{path}");
        assert_eq!(kept(&server, session), 0, "{session}");
    }
    let server = server.restarted(|_| ());
    assert_eq!((kept(&server, "phone"), kept(&server, "laptop")), (json!(0), json!(0)));
    assert_eq!(server.send("DELETE", "/v1/sessions/laptop/data", &[], &[]).ok()["kept"], json!(["refusal"]));
    // What the person says who has the session lifts it.
    server.post("/v1/users/u/merge", json!({"session_id": "laptop"})).ok();
    assert_eq!(kept(&server, "laptop"), 0);
    put(&server, "full");
    assert_eq!((kept(&server, "laptop"), kept(&server, "phone")), (json!(1), json!(0)));
}

#[test]
fn a_choice_that_nothing_be_on_disk_outlives_an_erasure_too() {
    let server = Server::with_shop();
    server.view("u", "item-1");
    let body = json!({"consent": "session"}).to_string();
    server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], body.as_bytes()).ok();
    let receipt = server.send("DELETE", "/v1/users/u/data", &[], &[]).ok();
    assert_eq!((&receipt["removed"]["interactions"], &receipt["kept"]), (&json!(1), &json!(["refusal"])));
    let kept_on_disk = |server: &Server| {
        assert_eq!(server.post("/v1/interactions", event("u", "item-2", "full")).ok()["accepted"], 1);
        server.get("/v1/users/u/interactions").ok()["interactions"].clone()
    };
    assert_eq!(kept_on_disk(&server), json!([]));
    let server = server.restarted(|_| ());
    assert_eq!((kept_on_disk(&server), &server.get("/v1/users/u").ok()["consent"]), (json!([]), &json!("session")));
}

#[test]
fn with_a_key_no_id_reaches_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let key = [("PEOPLE__PSEUDONYM_KEY", "a secret of the shop")];
    let server = Process::start(directory.path(), &key);
    let client = server.client();
    client.view("marker-of-a-user", "item-1");
    let in_session = json!({"session_id": "marker-of-a-session", "item_id": "item-2", "kind": "view"});
    client.post("/v1/interactions", in_session).ok();
    client.post("/v1/users/marker-of-a-user/merge", json!({"session_id": "marker-of-a-session"})).ok();
    let body = json!({"country": "DE"}).to_string();
    client.send("PUT", "/v1/users/marker-of-a-user", &[("content-type", "application/json")], body.as_bytes()).ok();
    assert_eq!(events_used(&client, "marker-of-a-user", "full"), 2);
    assert_eq!(client.get("/v1/users/marker-of-a-user").ok()["country"], "DE");
    server.kill();
    let files = files(&directory.path().join("history"));
    assert!(files.iter().any(|file| holds(file, b"item-1")), "what was done is in a file");
    assert!(!files.iter().any(|file| holds(file, b"marker")), "an id is in a file");
    // The same key finds the same person again.
    let server = Process::start(directory.path(), &key);
    assert_eq!(events_used(&server.client(), "marker-of-a-user", "full"), 2);
}

#[test]
fn what_was_erased_is_in_no_file_of_a_backup_that_begins_afterwards() {
    let server = Server::with_shop();
    server.view("u", "marker-erased");
    server.view("v", "marker-kept");
    server.send("DELETE", "/v1/users/u/data", &[], &[]).ok();
    let copied = server.send("POST", "/admin/backup", &[], &[]).ok();
    let files = files(std::path::Path::new(copied["file"].as_str().unwrap()));
    assert!(files.iter().any(|file| holds(file, b"marker-kept")), "what is kept is in a file");
    assert!(!files.iter().any(|file| holds(file, b"marker-erased")), "what was erased is in a file");
}

#[test]
fn no_id_of_a_person_is_in_the_log_or_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    // Every request is logged, and each is slow enough for a warning as well.
    let loud = [("LOG__LEVEL", "info,kindred=debug"), ("HTTP__SLOW_REQUEST_MS", "0")];
    let server = Process::start(directory.path(), &loud);
    let client = server.client();
    client.view("marker-u", "item-1");
    client.post("/v1/interactions", json!({"user_id": "marker-u", "item_id": "item-1", "kind": "marker-kind"}));
    client.post("/v1/interactions", json!({"user_id": {"marker": 1}, "item_id": "item-1", "kind": "view"}));
    client.post("/v1/recommendations", json!({"user_id": "marker-u", "session_id": "marker-s"})).ok();
    client.post("/v1/recommendations", json!({"marker-field": "marker-u"}));
    client.post("/v1/users/marker-u/merge", json!({"session_id": "marker-s"})).ok();
    client.post("/v1/users/marker-v/merge", json!({"session_id": "marker-s"})).problem(409, "merge_conflict");
    client.get("/v1/users/marker-u");
    client.get("/v1/users/marker-u/interactions?cursor=marker");
    client.get("/v1/users/marker-u/data").ok();
    client.send("DELETE", "/v1/users/marker-u/data", &[], &[]).ok();
    client.get("/v1/nowhere/marker-u");
    let metrics = client.get("/metrics");
    assert!(!metrics.text().contains("marker"), "an id is in the metrics");
    client.get("/healthz?the-end");
    let mut lines = Vec::new();
    server.signal("TERM");
    loop {
        let line = server.line("");
        let ended = line.contains("\"stopped\"");
        lines.push(line);
        if ended {
            break;
        }
    }
    assert!(lines.iter().any(|line| line.contains("/v1/users/{id}/data")), "requests are logged by their pattern");
    let with_marker: Vec<&String> = lines.iter().filter(|line| line.contains("marker")).collect();
    assert!(with_marker.is_empty(), "{with_marker:?}");
}

#[test]
fn a_read_waits_for_a_watermark_or_says_that_it_did_not_reach_it() {
    let server = Server::with_shop();
    let watermark = server.post("/v1/interactions", event("u", "item-1", "full")).ok()["watermark"].as_u64().unwrap();
    let ask = |server: &Server, wanted: u64| {
        server.post("/v1/recommendations", json!({"user_id": "u", "min_watermark": wanted})).ok()
    };
    let answer = ask(&server, watermark);
    assert_eq!((&answer["degraded"], &answer["events_used"]), (&Value::Null, &json!(1)));
    assert!(answer["watermark"].as_u64().unwrap() >= watermark);
    // Someone else's event brings it there while the read waits.
    let client = server.client.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        client.view("v", "item-2");
    });
    assert_eq!(ask(&server, watermark + 1)["degraded"], Value::Null);
    later.join().unwrap();
    // Nobody brings it there.
    let server = server.restarted(|settings| settings.history.read_timeout_ms = 1_000);
    let counted = || server.metric("kindred_degraded_total{reason=\"watermark_not_reached\"}");
    assert_eq!(counted(), 0.0);
    assert_eq!(ask(&server, watermark + 2)["degraded"], "watermark_not_reached");
    assert_eq!(counted(), 1.0);
}

/// What is in the files of a directory and of those in it.
fn files(directory: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![std::fs::read(path).unwrap()] }).collect()
}

fn holds(file: &[u8], text: &[u8]) -> bool {
    file.windows(text.len()).any(|window| window == text)
}

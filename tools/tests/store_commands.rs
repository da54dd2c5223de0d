//! `kindred backup`, `fsck`, `export` and `restore` from outside: what a server was told comes back, from a copy made while it served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{demo, json, kindred, serve};

const ADMIN: &str = "KINDRED_API_KEY";

fn tell(url: &str, key: Option<&str>, numbers: std::ops::Range<u32>) {
    let events: Vec<Value> = numbers
        .map(|n| json!({"user_id": format!("u{}", n % 3), "item_id": "1", "kind": "view", "interaction_id": format!("e{n}")}))
        .collect();
    let mut request = ureq::post(format!("{url}/v1/interactions"));
    if let Some(key) = key {
        request = request.header("api-key", key);
    }
    assert_eq!(request.send_json(json!({"interactions": events})).unwrap().status(), 200);
}

fn fsck(store: &Path) -> Value {
    json(kindred().args(["fsck", "--json"]).arg(store))
}

/// Changes one byte of each file of a store in which `text` stands, right there.
fn damage(store: &Path, text: &str) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path, text);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn what_a_server_was_told_comes_back_from_a_copy_made_while_it_served() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    demo(dir, 60, 60);
    let store = dir.join("store/kindred");
    let copy = {
        let (_server, url) = serve(dir, &[]);
        tell(&url, None, 0..10);
        let address = url.strip_prefix("http://").unwrap();
        let copy = json(kindred().args(["backup", "--server", address, "--json"]));
        assert_eq!(copy["interactions"], 10);
        tell(&url, None, 8..12);
        let with = |arguments: &[&str]| kindred().args(arguments).arg(&store).output().unwrap();
        let (from, to) = (copy["file"].as_str().unwrap(), dir.join("to").display().to_string());
        for in_use in [
            with(&["fsck"]),
            with(&["evaluate", "--from-log"]),
            with(&["export", "--to", &to, "--store"]),
            with(&["backup", "--to", &to, "--store"]),
            with(&["restore", from, "--force", "--store"]),
        ] {
            assert_eq!(in_use.status.code(), Some(2), "a store in use is not read: {in_use:?}");
            let said = String::from_utf8_lossy(&in_use.stderr);
            assert!(said.contains("`kindred backup --server HOST:PORT`"), "{said}");
        }
        PathBuf::from(copy["file"].as_str().unwrap())
    };
    let counts = |found: &Value| (found["ok"].clone(), found["interactions"].clone(), found["watermark"].clone());
    assert_eq!(counts(&fsck(&copy)), (json!(true), json!(10), json!(10)));
    assert_eq!(
        counts(&fsck(&store)),
        (json!(true), json!(12), json!(12)),
        "the server was killed, and nothing is lost"
    );

    let log = dir.join("log.jsonl");
    let export = |store: &Path, after: &str| {
        let mut command = kindred();
        command
            .arg("export")
            .arg("--store")
            .arg(store)
            .arg("--to")
            .arg(&log)
            .args(["--after", after, "--force", "--json"]);
        json(command)
    };
    assert_eq!(export(&store, "10")["interactions"], 2);
    assert_eq!(export(&copy, "0")["last_sequence"], 10);
    let mut beyond = kindred();
    beyond.args(["export", "--after", "11", "--force", "--store"]).arg(&copy).arg("--to").arg(&log);
    let beyond = beyond.output().unwrap();
    assert_eq!(beyond.status.code(), Some(2), "nothing after it would be taken for nothing new: {beyond:?}");
    assert!(String::from_utf8_lossy(&beyond.stderr).contains("an older copy"), "{beyond:?}");
    let lines = fs::read_to_string(&log).unwrap();
    let ids: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["interaction_id"].clone()).collect();
    assert_eq!(ids, (0..10).map(|n| json!(format!("e{n}"))).collect::<Vec<_>>());

    let restore = |more: &[&str]| {
        kindred().arg("restore").arg(&copy).arg("--store").arg(&store).args(more).arg("--json").output().unwrap()
    };
    assert_eq!(restore(&[]).status.code(), Some(2), "nothing is replaced unasked");
    assert_eq!(fsck(&store)["interactions"], 12);
    assert!(restore(&["--force"]).status.success());
    assert_eq!(counts(&fsck(&store)), (json!(true), json!(10), json!(10)));
    let (_server, url) = serve(dir, &[]);
    tell(&url, None, 9..11);
}

#[test]
fn what_people_did_who_opted_out_is_in_no_export() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    demo(dir, 60, 60);
    {
        let (_server, url) = serve(dir, &[]);
        tell(&url, None, 0..9);
        ureq::put(format!("{url}/v1/users/u1")).send_json(json!({"consent": "none"})).unwrap();
        ureq::post(format!("{url}/v1/users/u0/merge")).send_json(json!({"user_id": "u1"})).unwrap();
    }
    let (store, log) = (dir.join("store/kindred"), dir.join("log.jsonl"));
    let report = json(kindred().arg("export").arg("--store").arg(&store).arg("--to").arg(&log).arg("--json"));
    let counts = [&report["interactions"], &report["refused"], &report["last_sequence"]];
    assert_eq!(counts, [&json!(3), &json!(6), &json!(9)], "{report}");
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.lines().all(|line| line.contains("\"user_id\":\"u2\"")), "{lines}");
}

#[test]
fn a_damaged_copy_is_told_and_never_put_in_the_place_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    demo(dir, 60, 60);
    let (store, copy) = (dir.join("store/kindred"), dir.join("copy"));
    {
        let (_server, url) = serve(dir, &[]);
        tell(&url, None, 0..50);
    }
    json(kindred().arg("backup").arg("--store").arg(&store).arg("--to").arg(&copy).arg("--json"));
    let again = kindred().arg("backup").arg("--store").arg(&store).arg("--to").arg(&copy).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "nothing is replaced unasked");
    assert!(damage(&copy, "e49") > 0, "the last interaction is in the copy");
    let told = kindred().arg("fsck").arg(&copy).output().unwrap();
    assert!(matches!(told.status.code(), Some(1 | 2)), "{told:?}");
    let refused = kindred().arg("restore").arg(&copy).arg("--store").arg(&store).arg("--force").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(fsck(&store)["interactions"], 50, "the store is the one it was");
}

#[test]
fn a_server_with_keys_is_asked_with_the_key_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    demo(dir, 60, 60);
    let made = json(kindred().args(["key", "new", "--role", "admin", "--json"]));
    let key = made["key"].as_str().unwrap();
    fs::write(dir.join("keys"), made["line"].as_str().unwrap()).unwrap();
    let config = dir.join("kindred.toml");
    fs::write(&config, format!("[security]\nkeys = {:?}\n", dir.join("keys"))).unwrap();
    let (_server, url) = serve(dir, &["--config", config.to_str().unwrap()]);
    tell(&url, Some(key), 0..3);
    let address = url.strip_prefix("http://").unwrap();
    let without = kindred().args(["backup", "--server", address]).output().unwrap();
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains(ADMIN), "the remedy is named");
    // As a line of a file that holds it.
    let copy = json(kindred().args(["backup", "--server", address, "--json"]).env(ADMIN, format!("{key}\r\n")));
    assert_eq!(copy["interactions"], 3);
    let mut replay = kindred();
    replay.args(["bench", "replay", "--users", "3", "--url", &url, "--artifacts"]).arg(dir.join("artifacts"));
    let replayed = replay.arg("--dataset").arg(dir.join("dataset")).env(ADMIN, key).output().unwrap();
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(!said.contains("answered 401"), "{said}");
}

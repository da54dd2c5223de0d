//! The program itself: settings by the environment, signals, kills, and what is still there afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kindred::keys::{NewKey, Role};
use kindred::testing::Fixture;
use serde_json::json;

use crate::support::{PATIENCE, Process, raw};

fn directory_with_shop() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    directory
}

fn start(directory: &Path) -> Process {
    Process::start(directory, &[])
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = directory_with_shop();
    let server = start(directory.path());
    let client = server.client();
    // The kill comes while others are still sending: what was acknowledged until then is what must be there.
    let answered = AtomicUsize::new(0);
    let acknowledged: Vec<usize> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (client, answered) = (client.clone(), &answered);
                scope.spawn(move || {
                    let event = |at: usize| {
                        let id = format!("{sender}-{at}");
                        let event = json!({"interaction_id": id, "user_id": format!("u{sender}"), "item_id": "item-4", "kind": "view"});
                        client.try_send("POST", "/v1/interactions", &[("content-type", "application/json")], event.to_string().as_bytes())
                    };
                    let is_kept = |at: &usize| event(*at).is_ok_and(|answer| answer.status == 200);
                    let count = |_: &usize| {
                        answered.fetch_add(1, Ordering::Relaxed);
                    };
                    (0..90).take_while(is_kept).inspect(count).count()
                })
            })
            .collect();
        // Counted in answers and not in time, so that it comes in the midst of them on a slow machine and on a fast one.
        let began = Instant::now();
        while answered.load(Ordering::Relaxed) < 60 && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.kill();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(acknowledged.iter().sum::<usize>() > 0, "nothing was acknowledged before the kill");

    let server = start(directory.path());
    let client = server.client();
    for (sender, count) in acknowledged.into_iter().enumerate() {
        let answer = client.post("/v1/recommendations", json!({"user_id": format!("u{sender}")})).ok();
        let found = answer["events_used"].as_u64().unwrap() as usize;
        assert!(found == count || found == count + 1, "sender {sender}: {count} acknowledged, {found} found");
        for at in 0..count {
            let again =
                json!({"interaction_id": format!("{sender}-{at}"), "user_id": "other", "item_id": "a", "kind": "view"});
            assert_eq!(client.post("/v1/interactions", again).ok()["duplicates"], 1, "{sender}-{at}");
        }
    }
}

/// A request that the server has begun with: it waits for a body of so many bytes.
fn begun(port: u16, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /v1/interactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn a_stop_finishes_what_is_in_progress() {
    let directory = directory_with_shop();
    let mut server = start(directory.path());
    let client = server.client();
    // An idle connection that is kept alive must not hold up the stop.
    assert_eq!(client.get("/healthz").status, 200);
    let body = json!({"user_id": "u", "item_id": "item-4", "kind": "view"}).to_string();
    let mut stream = begun(client.port, body.len());
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    let began = Instant::now();
    server.signal("TERM");
    server.line("stopping");
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"accepted\":1"), "{answer}");
    assert!(server.ended().success());
    assert!(began.elapsed() < Duration::from_secs(20), "an idle connection held up the stop: {:?}", began.elapsed());
    assert!(TcpStream::connect(("127.0.0.1", client.port)).is_err(), "nobody listens any more");

    let server = start(directory.path());
    let answer = server.client().post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(answer["events_used"], 1, "what was acknowledged while stopping is kept");
}

#[test]
fn a_second_signal_ends_a_stop_at_once() {
    let directory = directory_with_shop();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Process::start(directory.path(), &[("HTTP__CLIENT_BODY_TIMEOUT_MS", "60000")]);
        let client = server.client();
        client.view(signal, "item-4");
        let _unfinished = begun(client.port, 100);
        server.signal("TERM");
        server.line("stopping");
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(code));
    }
    let server = start(directory.path());
    let client = server.client();
    for user in ["TERM", "INT"] {
        let answer = client.post("/v1/recommendations", json!({"user_id": user})).ok();
        assert_eq!(answer["events_used"], 1, "what was acknowledged is kept");
    }
}

#[test]
fn a_second_server_on_one_store_is_refused() {
    let directory = directory_with_shop();
    let first = start(directory.path());
    let client = first.client();
    let mut second = start(directory.path());
    let line = second.line("Error: ");
    assert!(line.contains("history") && line.contains("in use by another process"), "{line}");
    assert!(line.contains("history.path") && line.contains("kindred backup --server"), "{line}");
    assert_eq!(second.ended().code(), Some(2));
    assert_eq!(client.get("/readyz").status, 200, "the first one is not disturbed");
}

#[test]
fn a_start_in_the_wrong_place_can_be_read_off_the_log() {
    let directory = directory_with_shop();
    let here = std::env::current_dir().unwrap();
    let server = Process::start(directory.path(), &[("ARTIFACTS__DIR", "no-such-artifacts")]);
    let log = server.lines_until("\"listening\"");
    let says = |parts: &[&str]| log.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    let (store, artifacts) = (directory.path().join("history"), here.join("no-such-artifacts"));
    let (store, artifacts) = (store.to_str().unwrap(), artifacts.to_str().unwrap());
    assert!(says(&["an empty one was made", store]) && says(&["the store is open", store]), "{log:?}");
    assert!(says(&["no artifact is published", artifacts]) && says(&["\"listening\"", artifacts]), "{log:?}");
    server.kill();

    let generation = directory.path().join("artifacts").join("g1");
    let server = Process::start(directory.path(), &[("ARTIFACTS__DIR", generation.to_str().unwrap())]);
    let log = server.lines_until("\"listening\"");
    assert!(log.iter().any(|line| line.contains("where CURRENT is")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("an empty one was made")), "the store was there: {log:?}");
}

#[test]
fn a_taken_port_and_a_bad_setting_are_said() {
    let directory = directory_with_shop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (key, value, says) in [
        ("HTTP__PORT", port.as_str(), "choose another http.port"),
        // An address for documentation (RFC 5737), which no machine has.
        ("HTTP__HOST", "192.0.2.1", "http.host"),
        ("HTTP__PROT", "1", "config/kindred.toml"),
        ("HISTORY__QUEUE", "1", "history.queue = 1"),
        ("HISTORY__STORE", "paper", "paper"),
        ("LOG__LEVEL", "kindred=loud", "log.level"),
    ] {
        let mut server = Process::start(directory.path(), &[(key, value)]);
        let line = server.line("Error: ");
        assert!(line.contains(says), "{key}: {line}");
        assert_eq!(server.ended().code(), Some(2), "{key}");
    }
    let admin = [("ADMIN__SEPARATE", "true"), ("ADMIN__PORT", port.as_str())];
    let line = Process::start(directory.path(), &admin).line("Error: ");
    assert!(line.contains("choose another admin.port"), "{line}");
}

#[test]
fn settings_come_from_the_environment() {
    let directory = directory_with_shop();
    let more = [("SCENARIOS__HOME__LIMIT", "3"), ("HISTORY__STORE", "memory"), ("HTTP__WORKERS", "1")];
    let server = Process::start(directory.path(), &more);
    let client = server.client();
    let answer = client.post("/v1/recommendations", json!({})).ok();
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    client.view("u", "item-4");
    assert!(!directory.path().join("history").exists(), "nothing on disk with the memory store");
}

#[test]
fn sighup_takes_a_new_artifact_and_a_damaged_one_is_logged() {
    let directory = directory_with_shop();
    let mut server = start(directory.path());
    let client = server.client();
    let root = directory.path().join("artifacts");
    Fixture::shop().publish(&root, "g2");
    server.signal("HUP");
    let line = server.line("artifact is live");
    assert!(line.contains("\"g2\""), "{line}");
    let damaged = Fixture::shop().publish(&root, "g3");
    let index = std::fs::read(damaged.join("index.kin")).unwrap();
    std::fs::remove_file(damaged.join("index.kin")).unwrap();
    std::fs::write(damaged.join("index.kin"), &index[..index.len() - 1]).unwrap();
    server.signal("HUP");
    let line = server.line("artifact refused");
    assert!(line.contains("\"ERROR\"") && line.contains("\"stays\":\"g2\"") && line.contains("index.kin"), "{line}");
    assert_eq!(client.get("/readyz").ok()["generation"], "g2");
    server.signal("INT");
    assert!(server.ended().success());
}

#[test]
fn a_scenario_that_asks_for_what_no_item_has_answers_and_is_told_once_an_artifact() {
    let directory = directory_with_shop();
    let more = [("SCENARIOS__HOME__FILTER__KEY", "audlt"), ("SCENARIOS__HOME__FILTER__EXISTS", "false")];
    let server = Process::start(directory.path(), &more);
    let client = server.client();
    let line = server.line("a rule asks for an attribute");
    let says = |line: &str, generation: &str| {
        ["\"WARN\"", generation, "\"home\"", "\"filter\"", "\"audlt\""].iter().all(|part| line.contains(part))
    };
    assert!(says(&line, "\"g1\""), "{line}");
    for body in [json!({}), json!({"interactions": [{"item_id": "item-4"}]})] {
        let answer = client.post("/v1/recommendations", body).ok();
        assert!(!answer["items"].as_array().unwrap().is_empty(), "{answer}");
    }
    assert_eq!(client.get("/").status, 200);
    let asked = json!({"filter": {"key": "audlt", "exists": true}});
    client.post("/v1/recommendations", asked).problem(400, "invalid_filter");
    Fixture::shop().publish(&directory.path().join("artifacts"), "g2");
    server.signal("HUP");
    let line = server.line("a rule asks for an attribute");
    assert!(says(&line, "\"g2\""), "once an artifact: {line}");
}

#[test]
fn sighup_before_all_is_open_is_heeded_and_ends_nothing() {
    let directory = directory_with_shop();
    let keys = directory.path().join("keys");
    // A file whose reader waits for its writer: the start takes as long as it is wanted to.
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    let more = [("SECURITY__KEYS", keys.to_str().unwrap()), ("SECURITY__RELOAD_MS", "0")];
    let server = Process::start(directory.path(), &more);
    server.line("the store is open");
    server.signal("HUP");
    let line = NewKey::new("boss", Role::Admin).unwrap().line;
    std::thread::spawn(move || std::fs::write(keys, line));
    server.line("\"listening\"");
    server.line("SIGHUP");
}

#[test]
fn a_file_that_is_waited_for_holds_up_no_stop() {
    let directory = directory_with_shop();
    let [keys, pipe] = ["keys", "pipe"].map(|name| directory.path().join(name));
    std::fs::write(&keys, NewKey::new("boss", Role::Admin).unwrap().line).unwrap();
    let more = [("SECURITY__KEYS", keys.to_str().unwrap()), ("SECURITY__RELOAD_MS", "5")];
    let mut server = Process::start(directory.path(), &more);
    server.line("\"listening\"");
    // Nobody ever writes into it: to read it takes as long as on a disk that stalls.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &keys).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    server.signal("HUP");
    server.signal("TERM");
    assert!(server.ended().success());
}

#[test]
fn what_strangers_send_is_no_error_in_the_log() {
    let directory = directory_with_shop();
    let server = start(directory.path());
    let port = server.client().port;
    for nonsense in ["nonsense\r\n\r\n", "GET /healthz HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let answer = raw(port, nonsense.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    server.signal("TERM");
    let log = server.lines_until("\"stopped\"");
    let unwanted = ["\"ERROR\"", "lsm_tree", "fjall"];
    assert!(!log.iter().any(|line| unwanted.iter().any(|it| line.contains(it))), "{log:?}");
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let directory = directory_with_shop();
    let audit = directory.path().join("audit.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kindred-server"))
        .env("KINDRED__HTTP__PORT", "0")
        .env("KINDRED__ARTIFACTS__DIR", directory.path().join("artifacts"))
        .env("KINDRED__HISTORY__STORE", "memory")
        .env("KINDRED__ADMIN__AUDIT_LOG", &audit)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    assert!(log.lines().map_while(Result::ok).any(|line| line.contains("listening")));
    // The pipe is closed now: what is written to it fails, as on a full disk.
    let id = child.id();
    let signal = |name: &str| Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
    assert!(signal("HUP").success());
    let began = Instant::now();
    let is_written_down = || std::fs::read_to_string(&audit).is_ok_and(|text| text.contains("SIGHUP"));
    while !is_written_down() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(signal("TERM").success());
    while child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Where it has not ended by itself this ends it.
    let _ = child.kill();
    assert!(child.wait().unwrap().success());
}

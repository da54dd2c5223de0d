//! The audit log where callers do not wait for their answers, and where keys may not do what they ask for.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kindred::history::memory::MemoryHistory;
use kindred::keys::{NewKey, Role};
use kindred::settings::Settings;
use kindred::store::{BoxFuture, StoreError};
use kindred::testing::{Fixture, HeldUpHistory};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{PATIENCE, Server};

/// Who did what and what came of it, line by line.
fn deeds(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let deed = |line: &str| {
        let deed: Value = serde_json::from_str(line).unwrap();
        json!([deed["who"], deed["action"], deed["outcome"]])
    };
    text.lines().map(deed).collect()
}

fn until(is_so: &dyn Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it does not come to this");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server in the midst of a deletion whose caller has gone away, and the gate that it waits at.
fn left_alone(file: &Path, change: impl FnOnce(&mut Settings)) -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waits_at = Arc::clone(&gate);
    let before_erasure = move || -> BoxFuture<'static, Result<(), StoreError>> {
        let gate = Arc::clone(&waits_at);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        })
    };
    let history = HeldUpHistory::new(MemoryHistory::new(8, 100, PATIENCE), Box::new(before_erasure));
    let server = Server::with_history(history, |settings| {
        file.clone_into(&mut settings.admin.audit_log);
        change(settings);
    });
    let mut caller = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    caller.write_all(b"DELETE /v1/users/u/data HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    until(&|| server.metric("kindred_in_flight") >= 1.0);
    // No lingering: the connection is reset.
    socket2::SockRef::from(&caller).set_linger(Some(Duration::ZERO)).unwrap();
    drop(caller);
    std::thread::sleep(Duration::from_millis(50));
    assert!(deeds(file).is_empty(), "not done yet");
    (server, gate)
}

#[test]
fn a_deletion_is_written_down_where_its_caller_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let (_server, gate) = left_alone(&file, |_| ());
    gate.add_permits(1);
    until(&|| deeds(&file) == [json!(["local", "DELETE /v1/users/{id}/data", "200"])]);
}

#[test]
fn a_stop_waits_for_a_deletion_whose_caller_has_gone_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let (server, gate) = left_alone(&file, |_| ());
    let stop = std::thread::spawn(move || drop(server));
    // Workers look once a second whether all connections are closed.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!stop.is_finished() && deeds(&file).is_empty());
    gate.add_permits(1);
    stop.join().unwrap();
    assert_eq!(deeds(&file), [json!(["local", "DELETE /v1/users/{id}/data", "200"])]);
}

#[test]
fn a_stop_waits_no_longer_for_several_than_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let (server, _gate) = left_alone(&file, |settings| settings.http.shutdown_timeout_seconds = 5);
    // Beside the one whose caller has gone away another, whose caller waits for its answer.
    let mut caller = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    caller.write_all(b"DELETE /v1/users/v/data HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    until(&|| server.metric("kindred_in_flight") >= 2.0);
    let began = Instant::now();
    drop(server);
    let took = began.elapsed();
    // Waited for one after the other they would take ten seconds.
    assert!((5_000..9_500).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn what_a_key_may_not_do_is_written_down_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let [file, keys] = ["audit.jsonl", "keys"].map(|name| directory.path().join(name));
    let (read, write) = (NewKey::new("front", Role::Read).unwrap(), NewKey::new("shop", Role::Write).unwrap());
    std::fs::write(&keys, format!("{}\n{} rate=1 burst=1\n", read.line, write.line)).unwrap();
    let server = Server::with(&Fixture::shop(), |settings| {
        settings.security.keys.clone_from(&keys);
        settings.admin.audit_log.clone_from(&file);
    });
    let delete = |key: &str| server.send("DELETE", "/v1/users/u/data", &[("api-key", key)], &[]);
    delete("kin_guess").problem(401, "unauthorized");
    delete(&read.secret).problem(403, "forbidden");
    assert_eq!(delete(&write.secret).status, 200);
    while delete(&write.secret).status != 429 {}
    let deeds = deeds(&file);
    let told = |who: &str, outcome: &str| json!([who, "DELETE /v1/users/{id}/data", outcome]);
    assert_eq!(deeds[..2], [told("front", "403"), told("shop", "200")]);
    assert_eq!(deeds.last(), Some(&told("shop", "429")));
}

#[test]
fn a_batch_is_written_down_where_it_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let server = Server::with(&Fixture::shop(), |settings| settings.admin.audit_log.clone_from(&file));
    let batch = |op: &str| server.post("/v1/items/batch", json!([{"op": op, "id": "item-4"}]));
    batch("patch").ok();
    assert!(!file.exists() || deeds(&file).is_empty());
    batch("delete").ok();
    batch("delete").problem(404, "item_not_found");
    let told = |outcome: &str| json!(["local", "POST /v1/items/batch", outcome]);
    assert_eq!(deeds(&file), [told("200"), told("404")], "also where it fails");
}

#[test]
fn what_is_refused_without_keys_does_not_fill_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let server = Server::with(&Fixture::shop(), |settings| settings.admin.audit_log.clone_from(&file));
    for _ in 0..20 {
        let sent_on = server.send("POST", "/admin/reload", &[("x-forwarded-for", "192.0.2.7")], &[]);
        sent_on.problem(403, "forbidden");
    }
    let deeds = deeds(&file);
    assert_eq!(deeds[0], json!(["local", "POST /admin/reload", "403"]));
    assert!(deeds.len() < 20, "a line for each of {}", deeds.len());
}

//! What the world sees of a disk that fills up: a real one, a small tmpfs, where this process may mount one.

use std::path::Path;
use std::process::Command;

use kindred::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention};
use kindred::testing::Fixture;
use serde_json::json;

use crate::support::{PATIENCE, Process};

/// A file system of a few MiB; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn fill(file: &Path) {
    // It ends with an error when nothing is left, which is what it is for.
    let _ = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(file).unwrap());
}

#[test]
fn a_disk_that_fills_up_is_said_with_the_remedy_reads_go_on_and_room_mends_it_without_a_restart() {
    let Some(disk) = SmallDisk::mount(16) else {
        return eprintln!(
            "SKIPPED: this process may not mount a tmpfs; the same is tested over a disk that is told to be full"
        );
    };
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let store = disk.0.path().join("store");
    let server = Process::start(directory.path(), &[("HISTORY__PATH", store.to_str().unwrap())]);
    let client = server.client();
    client.view("u", "item-4");
    let ballast = disk.0.path().join("ballast");
    fill(&ballast);
    let event = |at: usize| json!({"user_id": "v", "item_id": "item-4", "kind": "view", "context": {"pad": "x".repeat(250)}, "interaction_id": format!("{at}")});
    // The file has room of its own left; it ends.
    let mut kept = 0;
    let refused = loop {
        let answer = client.post("/v1/interactions", event(kept));
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert!(kept < 200_000, "the disk does not fill up");
    };
    let problem = refused.problem(507, "store_full");
    assert!(problem.detail.contains("store") && problem.detail.contains("make room"), "{problem:?}");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    let answer = client.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(answer["events_used"], 1, "what is stored is still read: {answer}");
    let ready = client.get("/readyz").ok();
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert_eq!(ready["history"], "store_full: the store's disk is full");

    std::fs::remove_file(&ballast).unwrap();
    let began = std::time::Instant::now();
    while client.post("/v1/interactions", event(kept)).status != 200 {
        assert!(began.elapsed() < PATIENCE, "room on the disk does not mend the store");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(client.get("/readyz").ok()["status"], "ready");
    for at in [0, kept / 2, kept] {
        let again = client.post("/v1/interactions", event(at)).ok();
        assert_eq!(again["duplicates"], 1, "what was acknowledged on the way and after it is there: {at} of {kept}");
    }
}

#[test]
fn a_store_that_cannot_have_the_name_of_a_mounted_disk_is_told_where_to_lie() {
    let Some(disk) = SmallDisk::mount(16) else {
        return eprintln!("SKIPPED: this process may not mount a tmpfs");
    };
    let (path, retention) = (disk.0.path(), Retention::default());
    let options = EmbeddedOptions { keep: 1, cache_mb: 1, page_cache_mb: 1, queue: 100, retention };
    let error = EmbeddedStore::open(path, options, || 0).map(drop).unwrap_err().to_string();
    assert!(error.contains("mounted") && error.contains("name one in that"), "{error}");
    assert!(!path.with_extension("partial").exists(), "nothing is left of it");
}

#[test]
fn a_backup_through_the_server_is_whole_and_serves() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let server = Process::start(directory.path(), &[]);
    let client = server.client();
    client.view("u", "item-4");
    let copied = client.send("POST", "/admin/backup", &[], b"").ok();
    assert_eq!(copied["interactions"], 1, "{copied}");
    client.view("u", "item-8");
    let sent_on = client.send("POST", "/admin/backup", &[("x-forwarded-for", "203.0.113.7")], b"");
    sent_on.problem(403, "forbidden");
    server.kill();
    let copy = copied["file"].as_str().unwrap();
    let server = Process::start(directory.path(), &[("HISTORY__PATH", copy)]);
    let answer = server.client().post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(answer["events_used"], 1, "as it was when the backup began");
}

#[test]
fn a_server_that_starts_where_nothing_usable_is_published_keeps_events_and_waits() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("artifacts");
    let index = Fixture::shop().publish(&root, "g1").join("index.kin");
    let bytes = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    let start = |content: &str| {
        std::fs::remove_file(root.join("CURRENT")).unwrap();
        std::fs::write(root.join("CURRENT"), content).unwrap();
        let server = Process::start(directory.path(), &[]);
        let client = server.client();
        client.get("/readyz").problem(503, "not_ready");
        assert_eq!(client.get("/healthz").status, 200, "{content:?}");
        client.view("u", "item-4");
        (server, client)
    };
    start("g1\n").0.kill();
    start("nothing\n").0.kill();
    let (server, client) = start("");
    Fixture::shop().publish(&root, "g2");
    server.signal("HUP");
    server.line("artifact is live");
    let answer = client.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!((&answer["generation"], &answer["events_used"]), (&json!("g2"), &json!(3)));
}

#[test]
fn a_pointer_that_is_missing_empty_or_names_nothing_is_no_reason_to_stop_serving() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("artifacts");
    Fixture::shop().publish(&root, "g1");
    let mut server = Process::start(directory.path(), &[]);
    let client = server.client();
    for content in [None, Some(""), Some("nothing\n"), Some("../g1\n"), Some("g1\u{0}\n")] {
        let _ = std::fs::remove_file(root.join("CURRENT"));
        if let Some(content) = content {
            std::fs::write(root.join("CURRENT"), content).unwrap();
        }
        let answer = client.send("POST", "/admin/reload", &[], b"");
        match content {
            None => assert_eq!(answer.ok()["result"], "nothing_published"),
            Some(_) => assert!(!answer.problem(422, "artifact_refused").remedy.is_empty()),
        }
        assert_eq!(client.get("/readyz").ok()["generation"], "g1", "{content:?}: what was live stays");
    }
    server.signal("TERM");
    assert!(server.ended().success());
}

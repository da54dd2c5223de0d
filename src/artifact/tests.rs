//! The publishing protocol: whole or not at all, whatever dies when.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kindred_index::Metric;

use super::*;
use crate::snapshot::Snapshot;
use crate::testing::Fixture;
use crate::user_vector::Weighting;

fn root() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn fixture() -> Fixture {
    Fixture::random(1, 40, 8, Metric::InnerProduct)
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_published_is_current_whole_and_read_only() {
    let root = root();
    let directory = fixture().publish(root.path(), "g1");
    let current = current(root.path()).unwrap();
    assert_eq!(current, Current { generation: "g1".to_owned(), directory: directory.clone() });
    assert_eq!(fs::read_to_string(root.path().join(CURRENT_FILE)).unwrap(), "g1\n");
    assert_eq!(names(root.path()), ["CURRENT", "g1", "publish.lock"]);
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    snapshot.verify().unwrap();
    assert!(snapshot.warm() > 0);
    assert_eq!((snapshot.generation(), snapshot.model().len()), ("g1", 40));
    for name in [INDEX_FILE, MODEL_FILE, MANIFEST_FILE] {
        assert!(fs::metadata(directory.join(name)).unwrap().permissions().readonly(), "{name}");
    }
}

#[test]
fn a_generation_is_never_overwritten() {
    let root = root();
    fixture().publish(root.path(), "g1");
    let error = Publication::begin(root.path(), "g1").unwrap_err();
    assert!(matches!(error, ArtifactError::AlreadyPublished { .. }), "{error}");
}

#[test]
fn two_publishers_do_not_race() {
    let root = root();
    let first = Publication::begin(root.path(), "g1").unwrap();
    let error = Publication::begin(root.path(), "g2").unwrap_err();
    assert!(matches!(error, ArtifactError::Locked { .. }), "{error}");
    drop(first);
    assert_eq!(names(root.path()), ["publish.lock"], "an abandoned publication leaves nothing");
    Publication::begin(root.path(), "g2").unwrap();
}

#[test]
fn leftovers_are_removed_by_the_next_publisher_and_are_no_generations() {
    let root = root();
    fixture().publish(root.path(), "g1");
    let leftover = root.path().join("g0.partial");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join(INDEX_FILE), b"half an ind").unwrap();
    fs::write(root.path().join("CURRENT.partial"), b"g").unwrap();
    assert_eq!(current(root.path()).unwrap().generation, "g1");
    assert_eq!(generations(root.path()).unwrap(), ["g1"]);
    fixture().publish(root.path(), "g2");
    assert_eq!(names(root.path()), ["CURRENT", "g1", "g2", "publish.lock"]);
    assert_eq!(current(root.path()).unwrap().generation, "g2");
}

#[test]
fn a_complete_generation_that_nobody_names_does_no_harm() {
    let root = root();
    fixture().publish(root.path(), "g1");
    // Killed between the renaming of the directory and that of CURRENT: both are there, the old one is current.
    fixture().publish(root.path(), "g2");
    fs::write(root.path().join(CURRENT_FILE), "g1\n").unwrap();
    assert_eq!(current(root.path()).unwrap().generation, "g1");
    fixture().publish(root.path(), "g3");
    assert_eq!(generations(root.path()).unwrap(), ["g1", "g2", "g3"]);
}

#[test]
fn an_older_generation_can_be_made_current_again() {
    let root = root();
    fixture().publish(root.path(), "g1");
    fixture().publish(root.path(), "g2");
    activate(root.path(), "g1").unwrap();
    assert_eq!(current(root.path()).unwrap().generation, "g1");
    assert!(matches!(activate(root.path(), "g9"), Err(ArtifactError::Read { .. })));
    assert!(matches!(activate(root.path(), "../g2"), Err(ArtifactError::GenerationName { .. })));
    let publisher = Publication::begin(root.path(), "g3").unwrap();
    assert!(matches!(activate(root.path(), "g2"), Err(ArtifactError::Locked { .. })));
    drop(publisher);
    assert_eq!(current(root.path()).unwrap().generation, "g1");
}

#[test]
fn old_generations_go_when_asked_but_never_the_live_one() {
    let root = root();
    for name in ["g1", "g2", "g3"] {
        fixture().publish(root.path(), name);
    }
    let keep = |name: &str, keep_last| fixture().publish_keeping(root.path(), name, Some(keep_last));
    keep("g4", 2);
    assert_eq!(generations(root.path()).unwrap(), ["g3", "g4"]);
    // By name and time this one is the oldest, but it is the one just published.
    keep("a0", 1);
    assert_eq!(generations(root.path()).unwrap(), ["a0"]);
    assert_eq!(current(root.path()).unwrap().generation, "a0");
}

#[test]
fn a_removed_generation_stays_readable_for_who_has_it_open() {
    let root = root();
    fixture().publish(root.path(), "g1");
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    fixture().publish_keeping(root.path(), "g2", Some(1));
    assert!(!root.path().join("g1").exists());
    assert!(snapshot.warm() > 0);
    snapshot.model().verify().unwrap();
}

#[test]
fn nothing_is_published_without_all_files_or_with_a_lying_manifest() {
    let root = root();
    fixture().publish(root.path(), "g1");
    let empty = Publication::begin(root.path(), "g2").unwrap();
    let error = empty.commit(Manifest::default(), None).unwrap_err();
    assert!(matches!(error, ArtifactError::NotListed { .. }), "{error}");
    let mut publication = Publication::begin(root.path(), "g2").unwrap();
    let fixture = fixture();
    fixture.write(&mut publication);
    let error = publication.commit(Manifest { n_items: 41, ..fixture.manifest() }, None).unwrap_err();
    assert!(matches!(error, ArtifactError::Model { .. }), "{error}");
    assert_eq!(names(root.path()), ["CURRENT", "g1", "publish.lock"]);
    assert_eq!(current(root.path()).unwrap().generation, "g1");
    let mut publication = Publication::begin(root.path(), "g2").unwrap();
    let error = publication.write(INDEX_FILE, |_| Err("no factors".into())).unwrap_err();
    assert!(matches!(error, ArtifactError::Content { .. }), "{error}");
    let error = publication.write("../g1/index.kin", |_| Ok(())).unwrap_err();
    assert!(matches!(error, ArtifactError::NotListed { .. }), "{error}");
}

#[test]
fn nothing_is_published_that_a_server_would_refuse() {
    let root = root();
    let fixture = fixture();
    fixture.publish(root.path(), "g1");
    for damaged in [INDEX_FILE, MODEL_FILE] {
        let mut publication = Publication::begin(root.path(), "g2").unwrap();
        let index = fixture.index_bytes();
        let model = fixture.model_bytes(index.as_ref());
        for (name, mut bytes) in [(INDEX_FILE, index), (MODEL_FILE, model)] {
            if name == damaged {
                // It still opens.
                *bytes.as_mut().last_mut().unwrap() ^= 1;
            }
            publication.write(name, |into| Ok(into.write_all(bytes.as_ref())?)).unwrap();
        }
        let error = publication.commit(fixture.manifest(), None).unwrap_err();
        assert!(matches!(error, ArtifactError::Model { .. }), "{damaged}: {error}");
        assert_eq!(names(root.path()), ["CURRENT", "g1", "publish.lock"]);
        assert_eq!(current(root.path()).unwrap().generation, "g1");
    }
    let mut publication = Publication::begin(root.path(), "g2").unwrap();
    fixture.write(&mut publication);
    let weighting = Weighting { position_decay: 0.0, ..Weighting::default() };
    let error = publication.commit(Manifest { weighting, ..fixture.manifest() }, None).unwrap_err();
    assert!(matches!(error, ArtifactError::Weighting { .. }), "{error}");
    assert_eq!(current(root.path()).unwrap().generation, "g1");
}

#[test]
fn what_cannot_be_removed_does_not_undo_what_was_published() {
    let root = root();
    let fixture = fixture();
    fixture.publish(root.path(), "g1");
    let mut publication = Publication::begin(root.path(), "g2").unwrap();
    fixture.write(&mut publication);
    // Somebody has the name that a generation gets before it is removed.
    let taken = root.path().join("g1.partial");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("notes"), "mine").unwrap();
    let error = publication.commit(fixture.manifest(), Some(1)).unwrap_err();
    assert!(matches!(error, ArtifactError::NotRemoved { .. }), "{error}");
    assert_eq!(current(root.path()).unwrap().generation, "g2");
}

#[test]
fn current_is_never_trusted() {
    let root = root();
    assert!(matches!(current(root.path()), Err(ArtifactError::NothingPublished { .. })));
    fixture().publish(root.path(), "g1");
    let say = |text: &[u8]| {
        fs::write(root.path().join(CURRENT_FILE), text).unwrap();
        current(root.path())
    };
    let long = [b'x'; 300];
    let malformed: [&[u8]; 11] = [
        b"",
        b"\n",
        b"../g1\n",
        b"/etc\n",
        b"g1/../g1\n",
        b".\n",
        b"..\n",
        b"g1\ng1\n",
        b"g1.partial\n",
        b"g\xff1\n",
        &long,
    ];
    for text in malformed {
        let found = say(text);
        assert!(
            matches!(found, Err(ArtifactError::CurrentMalformed { .. })),
            "{:?}: {found:?}",
            String::from_utf8_lossy(text)
        );
    }
    assert!(matches!(say(b"g9\n"), Err(ArtifactError::CurrentDangling { .. })));
    assert_eq!(say(b"g1").unwrap().generation, "g1");
}

#[test]
fn a_newer_format_is_refused_with_the_remedy() {
    let root = root();
    let directory = fixture().publish(root.path(), "g1");
    let path = directory.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let rewrite = |text: &str| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, text).unwrap();
        open(&directory).unwrap_err()
    };
    let newer = rewrite(r#"{"format_version": 2, "shape": "unknown"}"#);
    assert!(matches!(newer, ArtifactError::FormatVersion { expected: 1, found: 2, .. }), "{newer}");
    assert!(newer.to_string().contains("newer program"), "{newer}");
    let older = rewrite(r#"{"format_version": 0}"#);
    assert!(older.to_string().contains("kindred build"), "{older}");
    assert!(matches!(rewrite("{"), ArtifactError::Manifest { .. }));
    let lying = text.replace("\"n_items\": 40", "\"n_items\": 39");
    assert!(matches!(rewrite(&lying), ArtifactError::Model { .. }));
    let blind = text.replace("\"max_interactions\": 50", "\"max_interactions\": 0");
    assert!(matches!(rewrite(&blind), ArtifactError::Weighting { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(&directory), Err(ArtifactError::Read { .. })));
}

#[test]
fn a_changed_file_is_found_out() {
    let root = root();
    let directory = fixture().publish(root.path(), "g1");
    let manifest = read_manifest(&directory).unwrap();
    check_files(&directory, &manifest).unwrap();
    for name in [INDEX_FILE, MODEL_FILE] {
        let path = directory.join(name);
        let whole = fs::read(&path).unwrap();
        let replace = |bytes: &[u8]| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        };
        replace(&whole[..whole.len() - 1]);
        assert!(matches!(open(&directory), Err(ArtifactError::FileLength { .. })), "{name}");
        // One bit, anywhere: the checksums of the manifest see it, whatever the sections say.
        for at in [0, 30, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            replace(&damaged);
            assert!(
                matches!(check_files(&directory, &manifest), Err(ArtifactError::FileChanged { .. })),
                "{name} {at}"
            );
            let verified = open(&directory).and_then(|_| Snapshot::open(&directory)?.verify());
            assert!(verified.is_err(), "{name} {at}");
        }
        replace(&whole);
    }
    Snapshot::open(&directory).unwrap().verify().unwrap();
}

#[test]
fn files_of_two_builds_do_not_open_together() {
    let root = root();
    let first = fixture().publish(root.path(), "g1");
    let second = Fixture::random(2, 40, 8, Metric::InnerProduct).publish(root.path(), "g2");
    fs::remove_file(second.join(MODEL_FILE)).unwrap();
    fs::copy(first.join(MODEL_FILE), second.join(MODEL_FILE)).unwrap();
    let error = open(&second).unwrap_err();
    assert!(matches!(&error, ArtifactError::Model { .. } | ArtifactError::FileLength { .. }), "{error}");
}

#[test]
fn generation_names_cannot_leave_the_root() {
    for good in ["20261124T142501Z-0a1b2c3d", "a", "v1.2_3"] {
        assert!(is_generation_name(good), "{good}");
    }
    let long = "x".repeat(129);
    for bad in
        ["", ".", "..", "a/b", "../a", "-a", ".a", "a b", "a\n", "ä", "a.partial", "CURRENT", "publish.lock", &long]
    {
        assert!(!is_generation_name(bad), "{bad}");
        assert!(Publication::begin(Path::new("/nonexistent"), bad).is_err());
    }
}

/// Where the killed publisher of the next test publishes; unset when the test binary runs as usual.
const CHILD_ROOT: &str = "KINDRED_TEST_PUBLISH_ROOT";

/// The process that the next test kills: publishes one generation after the other until it dies.
#[test]
fn child_publishes_until_killed() {
    let Ok(root) = std::env::var(CHILD_ROOT) else { return };
    for round in 0.. {
        fixture().publish_keeping(Path::new(&root), &format!("g{}-{round:06}", std::process::id()), Some(3));
    }
}

#[test]
fn killed_at_any_moment_current_stays_valid() {
    let root = root();
    fixture().publish(root.path(), "g0");
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "artifact::tests::child_publishes_until_killed"])
            .env(CHILD_ROOT, root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once it has published, which takes a slow machine long, and then in the midst of what it publishes next.
        let its_own = format!("g{}-", child.id());
        let has_published = || current(root.path()).is_ok_and(|live| live.generation.starts_with(&its_own));
        let began = Instant::now();
        while !has_published() && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        Snapshot::open_current(root.path()).unwrap().verify().unwrap();
        assert!(has_published(), "the child never published: the test shows nothing");
    }
    fixture().publish(root.path(), "last");
    assert!(names(root.path()).iter().all(|name| !name.ends_with(PARTIAL_SUFFIX)));
}

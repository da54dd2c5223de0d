//! What is done about a disk that fails, fills up, waits or lies, and about a clock that jumps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::tests::{incoming, items, options, runtime};
use super::*;
use crate::store::{Documents, Table};

/// A disk that does what it is told.
#[derive(Debug, Default)]
struct Told {
    /// Of the operations from now on, how many still succeed; `u64::MAX` = all.
    good: AtomicU64,
    /// The error of those that do not.
    error: AtomicU64,
    /// Whether a sync waits.
    holds: AtomicBool,
}

const ALL: u64 = u64::MAX;

impl Told {
    fn healthy() -> Arc<Self> {
        Arc::new(Self { good: AtomicU64::new(ALL), ..Self::default() })
    }

    fn fail_after(&self, good: u64, error: io::ErrorKind) {
        self.error.store(u64::from(error == io::ErrorKind::StorageFull), Ordering::SeqCst);
        self.good.store(good, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.good.store(ALL, Ordering::SeqCst);
    }
}

impl Faults for Told {
    fn before(&self, operation: DiskOperation) -> io::Result<()> {
        while operation == DiskOperation::Sync && self.holds.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Reads are not what a full or write-protected disk refuses.
        let reads = matches!(operation, DiskOperation::Read);
        let good = self.good.load(Ordering::SeqCst);
        if reads || good == ALL {
            return Ok(());
        }
        if good > 0 {
            self.good.fetch_sub(1, Ordering::SeqCst);
            return Ok(());
        }
        let full = self.error.load(Ordering::SeqCst) == 1;
        Err(if full { io::ErrorKind::StorageFull.into() } else { io::Error::other("input/output error") })
    }
}

fn open_on(path: &Path, disk: &Arc<Told>) -> EmbeddedStore {
    EmbeddedStore::open_on(path, options(), || 1_000, Some(Arc::clone(disk) as Arc<dyn Faults>)).unwrap()
}

/// Sends until it is taken; the writer tries again by itself after a while.
async fn append_until_taken(store: &EmbeddedStore, one: Incoming) -> Ack {
    loop {
        match store.append(vec![one.clone()]).await {
            Ok(ack) => return ack,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What an actor has, once the disk can be read: within a moment after it works again the file is opened anew.
async fn readable(store: &EmbeddedStore, actor: Actor) -> Vec<String> {
    while store.page(&actor, None, 1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    items(store, actor).await
}

#[test]
fn on_a_full_disk_writers_are_told_reads_go_on_and_room_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Told::healthy();
    let store = open_on(&directory.path().join("h"), &disk);
    runtime().block_on(async {
        store.append(vec![incoming("a", "before", 1, Some("1"))]).await.unwrap();
        store.write(vec![Write::put(Table::Items, "i", vec![1])]).await.unwrap();
        // Wherever in a commit the disk fills up.
        for good in 0..4 {
            disk.fail_after(good, io::ErrorKind::StorageFull);
            let error = loop {
                // A commit that needs fewer operations than are good succeeds; then the next one fails.
                if let Err(error) = store.append(vec![incoming("b", "x", 2, None)]).await {
                    break error;
                }
            };
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            assert!(error.to_string().contains("make room"), "{error}");
            assert!(store.check().is_err(), "the operator sees it");
            disk.fail_after(0, io::ErrorKind::StorageFull);
            let refused = store.write(vec![Write::put(Table::Items, "j", vec![2])]).await.unwrap_err();
            assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
            // The disk reads: what is in no cache is found.
            disk.heal();
            store.shared.cache.clear();
            assert_eq!(readable(&store, Actor::user("a")).await, ["before"]);
            assert_eq!(store.get(Table::Items, "i").await.unwrap(), Some(vec![1]));
            assert_eq!(store.get(Table::Items, "j").await.unwrap(), None, "refused is not done");
            append_until_taken(&store, incoming("c", "after", 3, None)).await;
            assert!(store.check().is_ok(), "mended without a restart");
        }
        let again = store.append(vec![incoming("a", "before", 1, Some("1"))]).await.unwrap();
        assert_eq!(again.duplicates, 1);
    });
    drop(store);
    assert_eq!(check(&directory.path().join("h")).unwrap().problems, Vec::<String>::new());
}

#[test]
fn after_a_failed_sync_nothing_acknowledged_is_missing_and_nothing_half_applied() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Told::healthy();
    let path = directory.path().join("h");
    let store = open_on(&path, &disk);
    runtime().block_on(async {
        let mut acknowledged = 0;
        for round in 0..40_u64 {
            // Before it is written, before it is synced, or not at all.
            disk.fail_after(round % 4, io::ErrorKind::Other);
            let pair = vec![
                incoming("a", "x", 1, Some(&format!("{round}-1"))),
                incoming("b", "x", 1, Some(&format!("{round}-2"))),
            ];
            let first = store.append(pair.clone()).await;
            if let Err(error) = &first {
                assert!(matches!(error, StoreError::Storage { .. }) && !error.is_overload(), "{error}");
            }
            disk.heal();
            readable(&store, Actor::user("a")).await;
            if first.is_ok() {
                acknowledged += 1;
                assert_eq!(store.append(pair).await.map_or(2, |ack| ack.duplicates), 2, "{round}");
            } else {
                // Nobody knows whether it is there: sent again, the two are new together or duplicates together.
                let ack = append_until_taken(&store, pair[0].clone()).await;
                let other = append_until_taken(&store, pair[1].clone()).await;
                assert_eq!(ack.duplicates, other.duplicates, "{round}: half applied");
            }
        }
        assert!(acknowledged > 0 && acknowledged < 40, "some failed and some did not: {acknowledged}");
    });
    drop(store);
    let checked = check(&path).unwrap();
    assert_eq!((checked.interactions, checked.problems), (80, Vec::new()));
}

#[test]
fn a_failed_erasure_leaves_nothing_in_the_cache_that_may_be_gone() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Told::healthy();
    let store = open_on(&directory.path().join("h"), &disk);
    runtime().block_on(async {
        for good in 0..4 {
            let both = Incoming { session_id: Some("s".to_owned()), ..incoming("a", "x", 1, None) };
            append_until_taken(&store, both).await;
            assert_eq!(items(&store, Actor::session("s")).await, ["x"]);
            disk.fail_after(good, io::ErrorKind::Other);
            let outcome = store.erase(vec![Actor::user("a")], Vec::new()).await;
            disk.heal();
            let user = readable(&store, Actor::user("a")).await.len();
            assert_eq!(items(&store, Actor::session("s")).await.len(), user, "both or neither");
            assert!(outcome.is_err() || user == 0);
            while store.erase(vec![Actor::user("a")], Vec::new()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(items(&store, Actor::session("s")).await.is_empty());
        }
    });
}

#[test]
fn a_slow_disk_holds_up_writers_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Told::healthy();
    let store = open_on(&directory.path().join("h"), &disk);
    runtime().block_on(async {
        store.append(vec![incoming("a", "x", 1, None)]).await.unwrap();
        disk.holds.store(true, Ordering::SeqCst);
        let slow = store.append(vec![incoming("b", "y", 1, None)]);
        tokio::pin!(slow);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut slow).await;
        store.shared.cache.clear();
        let read = tokio::time::timeout(Duration::from_secs(60), items(&store, Actor::user("a"))).await;
        disk.holds.store(false, Ordering::SeqCst);
        assert!(early.is_err(), "not before it is synced");
        assert_eq!(read.unwrap(), ["x"], "read from the file while the commit waits");
        assert_eq!(slow.await.unwrap().accepted, 1);
    });
}

#[test]
fn a_poisoned_record_is_left_out_counted_and_found_by_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    runtime().block_on(async {
        let store = EmbeddedStore::open(&path, options(), || 1_000).unwrap();
        for (at, item) in ["x", "poison", "z"].into_iter().enumerate() {
            store.append(vec![incoming("a", item, i64::try_from(at).unwrap(), None)]).await.unwrap();
        }
        let poison = |bytes: &[u8]| {
            store.shared.file.write("poisoning", |transaction| {
                let log = &transaction.spaces().log;
                transaction.insert(log, &super::keys::sequence(2), bytes);
                Ok(())
            })
        };
        poison(&[1, 255, 255, 7]).unwrap();
        store.shared.cache.clear();
        assert_eq!(items(&store, Actor::user("a")).await, ["z", "x"]);
        assert_eq!(store.stats().damaged, 1);
        let (logged, last) = store.blocking_log(0, 10).unwrap().unwrap();
        assert_eq!((logged.len(), last), (2, 3));
        drop(store);
        let checked = check(&path).unwrap();
        assert!(checked.problems[0].contains("interaction 2 does not decode"), "{:?}", checked.problems);
        // It goes with the rest when its time has come, and holds up nobody.
        let file = File::open(&path, 4, None).unwrap();
        let retention = Retention { all_ms: Some(1), ..Retention::default() };
        assert_eq!(file.prune(&retention, Some(500), 10).unwrap().removed, 0);
        assert_eq!(file.skipped(), 0, "who only looks whether it is old tells it to nobody, again and again");
        assert_eq!(file.prune(&retention, Some(5_000), 10).unwrap().removed, 3);
    });
}

#[test]
fn one_bad_record_does_not_keep_the_others_from_being_restored() {
    let directory = tempfile::tempdir().unwrap();
    let [path, first, second] = ["h", "first", "second"].map(|name| directory.path().join(name));
    let file = File::open(&path, 4, None).unwrap();
    for number in ["1", "2", "3"] {
        file.commit(&[Change::Append(vec![incoming("a", "x", 1, Some(number))])], 1_000).unwrap();
    }
    file.write("poisoning", |transaction| {
        let log = &transaction.spaces().log;
        transaction.insert(log, &super::keys::sequence(1), &[1, 255, 255, 7]);
        Ok(())
    })
    .unwrap();
    drop(file);
    let (copied, checked) = restore(&path, &first, false).unwrap();
    assert_eq!((copied.interactions, &checked.unreadable), (3, &None));
    assert!(checked.problems[0].contains("interaction 1 does not decode"), "{checked:?}");
    // Once it has gone nobody knows what pointed to it.
    let file = File::open(&path, 4, None).unwrap();
    let retention = Retention { kinds_ms: [("view".to_owned(), 1)].into(), ..Retention::default() };
    assert_eq!(file.prune(&retention, Some(1_500), 10).unwrap().removed, 2);
    let oldest = Retention { max_bytes: Some(1), ..Retention::default() };
    assert_eq!(file.prune(&oldest, None, 10).unwrap().removed, 1);
    drop(file);
    let (copied, checked) = restore(&path, &second, false).unwrap();
    assert!(copied.interactions == 0 && checked.problem_count > 0, "{checked:?}");
    runtime().block_on(async {
        let store = EmbeddedStore::open(&first, options(), || 1_000).unwrap();
        assert_eq!(items(&store, Actor::user("a")).await, ["x", "x"]);
    });
}

#[test]
fn a_backup_gives_way_to_a_store_that_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&directory.path().join("h"), 4, None).unwrap();
    file.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], 1_000).unwrap();
    let backups = directory.path().join("backups");
    // What a killed backup left, and what is none of ours.
    for name in ["h-000000000001-1.partial", "other-000000000001.partial"] {
        std::fs::create_dir_all(backups.join(name)).unwrap();
    }
    // As if the writer waited for the lock.
    file.reopening.store(true, Ordering::SeqCst);
    let error = file.back_up().unwrap_err();
    assert!(error.to_string().contains("opened anew"), "{error}");
    let left = || std::fs::read_dir(&backups).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left(), ["other-000000000001.partial"]);
    file.reopen().unwrap();
    assert_eq!(file.back_up().unwrap().interactions, 1);
    assert_eq!(left().len(), 2);
}

#[test]
fn a_store_that_cannot_be_opened_anew_yet_is_tried_again_and_not_to_be_moved_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let file = File::open(&path, 4, None).unwrap();
    file.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], 1_000).unwrap();
    // Something that the engine does not take, for a while.
    let marker = path.join("version");
    let version = std::fs::read(&marker).unwrap();
    std::fs::write(&marker, b"torn").unwrap();
    let error = file.reopen().unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error}");
    let unread = file.recent(Actor::user("a").as_str(), None, 5).unwrap_err();
    assert!(unread.to_string().contains("not open"), "said without a try of the disk: {unread}");
    std::fs::write(&marker, version).unwrap();
    file.reopen().unwrap();
    assert_eq!(file.recent(Actor::user("a").as_str(), None, 5).unwrap().len(), 1);
}

#[test]
fn a_store_that_has_no_room_or_may_not_be_opened_is_not_to_be_moved_away() {
    let failed = |kind: io::ErrorKind| super::file::opening(Path::new("h"), fjall::Error::Io(kind.into()));
    let full = failed(io::ErrorKind::StorageFull);
    assert!(matches!(full, StoreError::Full { .. }) && !full.to_string().contains("move it away"), "{full}");
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
        let denied = failed(kind);
        assert!(matches!(denied, StoreError::Denied { .. }), "{denied}");
        assert!(!denied.to_string().contains("move it away"), "{denied}");
    }
    let other = failed(io::ErrorKind::InvalidData);
    assert!(matches!(other, StoreError::Open { .. }), "{other}");
}

#[test]
fn a_backup_for_which_there_is_no_room_says_that_the_disk_is_full() {
    let failed = |kind: io::ErrorKind| StoreError::Copy {
        operation: "write the copy:",
        path: "backups/h-1".into(),
        source: Arc::new(fjall::Error::Io(kind.into())),
    };
    let full = super::copy::for_want_of_room(failed(io::ErrorKind::StorageFull));
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    let other = super::copy::for_want_of_room(failed(io::ErrorKind::PermissionDenied));
    assert!(matches!(other, StoreError::Copy { .. }), "{other}");
}

#[test]
fn a_backup_is_made_after_one_that_panicked() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&directory.path().join("h"), 4, None).unwrap();
    std::thread::scope(|scope| {
        let panics = || {
            let _alone = file.copying.lock().unwrap();
            assert!(!file.path().is_absolute(), "in the middle of a backup");
        };
        assert!(scope.spawn(panics).join().is_err());
    });
    assert_eq!(file.back_up().unwrap().interactions, 0);
}

#[test]
fn a_clock_that_goes_back_or_jumps_loses_and_reorders_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let clock = Arc::new(AtomicI64::new(0));
    let time = Arc::clone(&clock);
    let store = EmbeddedStore::open(&path, options(), move || time.load(Ordering::SeqCst)).unwrap();
    let times = [1_000_000, 5, -70, i64::MAX, 0, i64::MIN, 2_000_000];
    runtime().block_on(async {
        for (at, now) in times.into_iter().enumerate() {
            clock.store(now, Ordering::SeqCst);
            let at = i64::try_from(at).unwrap();
            let ack = store.append(vec![incoming("a", &format!("i{at}"), at, Some(&format!("{at}")))]).await.unwrap();
            assert_eq!((ack.accepted, ack.watermark), (1, u64::try_from(at).unwrap() + 1), "order is that of arrival");
        }
        assert_eq!(items(&store, Actor::user("a")).await, ["i6", "i5", "i4", "i3", "i2"]);
        // An event of the past is put in its place in time; a duplicate changes nothing.
        store.append(vec![incoming("a", "late", 4, None)]).await.unwrap();
        assert_eq!(items(&store, Actor::user("a")).await, ["i6", "i5", "late", "i4", "i3"]);
        assert_eq!(store.append(vec![incoming("a", "other", 9, Some("3"))]).await.unwrap().duplicates, 1);
    });
    // By age nothing is removed before what arrived before it. What a clock that was ahead has stamped goes with what came after it: too late
    // rather than too soon.
    let retention = Retention { all_ms: Some(100), ..Retention::default() };
    let prune = |now| store.shared.file.prune(&retention, Some(now), 100).unwrap().removed;
    assert_eq!(prune(2_000_000), 6);
    assert_eq!(prune(i64::MAX), 2);
    drop(store);
    assert_eq!(check(&path).unwrap().problems, Vec::<String>::new());
}

#[test]
fn retention_by_kind_and_by_size_takes_the_oldest_and_leaves_the_store_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let file = File::open(&path, 4, None).unwrap();
    let keep = |number: u64, kind: &str, now: i64| {
        let mut one = incoming(&format!("u{}", number % 7), "x", now, Some(&format!("{number}")));
        kind.clone_into(&mut one.interaction.kind);
        file.commit(&[Change::Append(vec![one])], now).unwrap();
    };
    for number in 0..100 {
        keep(number, if number % 2 == 0 { "view" } else { "purchase" }, 1_000 + i64::try_from(number).unwrap());
    }
    let retention = Retention { kinds_ms: [("view".to_owned(), 50)].into(), ..Retention::default() };
    let mut removed = 0;
    loop {
        let pruned = file.prune(&retention, Some(1_100), 10).unwrap();
        removed += pruned.removed;
        if !pruned.more {
            break;
        }
    }
    assert_eq!(removed, 25, "views of 1000 to 1049, no purchase");
    let kinds = file.log(0, 1_000).unwrap();
    assert_eq!(kinds.iter().filter(|(_, record)| record.as_ref().unwrap().kind == "purchase").count(), 50);
    let bytes = file.interaction_bytes().unwrap();
    let retention = Retention { max_bytes: Some(bytes / 2), ..Retention::default() };
    while file.prune(&retention, None, 8).unwrap().removed > 0 {}
    let left = file.log(0, 1_000).unwrap();
    assert!(file.interaction_bytes().unwrap() <= bytes / 2 && (30..=38).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().unwrap().0, 100, "the newest stay");
    assert_eq!(
        left.first().unwrap().0,
        101 - u64::try_from(left.len()).unwrap() - skipped_views(&left),
        "the oldest went"
    );
    drop(file);
    assert_eq!(check(&path).unwrap().problems, Vec::<String>::new());
}

/// Numbers missing between the first and the last, which retention by kind took.
fn skipped_views(left: &[super::lookup::Entry]) -> u64 {
    let (first, last) = (left.first().unwrap().0, left.last().unwrap().0);
    last - first + 1 - u64::try_from(left.len()).unwrap()
}

#[test]
fn a_backup_made_while_the_server_writes_is_consistent_and_can_be_restored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let store = Arc::new(EmbeddedStore::open(&path, options(), || 1_000).unwrap());
    let copied = runtime().block_on(async {
        // Each change keeps one interaction and one document; the backup must have as many of one as of the other. Erasure does both at once.
        let writer = Arc::clone(&store);
        let writing = tokio::spawn(async move {
            for number in 0..200 {
                let name = format!("{number}");
                writer.append(vec![incoming(&name, "x", 1, Some(&name))]).await.unwrap();
                let note = Write::put(Table::People, name.clone(), vec![1]);
                writer.erase(vec![Actor::user(&name)], vec![note]).await.unwrap();
            }
        });
        while store.stats().committed < 20 && !writing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let copied = store.backup().await.unwrap();
        writing.await.unwrap();
        copied
    });
    let alone = store.shared.file.copying.lock().unwrap();
    let second = store.shared.file.back_up().unwrap_err();
    assert!(matches!(second, StoreError::Copying { .. }) && second.is_overload(), "{second}");
    drop(alone);
    let checked = check(&copied.path).unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert_eq!((checked.interactions, checked.documents), (copied.interactions, copied.documents));
    assert_eq!(checked.watermark, checked.documents + checked.interactions, "of one moment");
    let in_use = restore(&copied.path, &path, true).unwrap_err();
    assert!(matches!(in_use, StoreError::InUse { .. }), "{in_use}");
    drop(store);
    let there = restore(&copied.path, &path, false).unwrap_err();
    assert!(there.to_string().contains("remove it"), "{there}");
    restore(&copied.path, &path, true).unwrap();
    assert_eq!(check(&path).unwrap(), checked);
    damage(&copied.path);
    assert!(restore(&copied.path, &path, true).is_err(), "a damaged copy replaces nothing");
    assert_eq!(check(&path).unwrap(), checked);
}

#[test]
fn a_store_of_another_layout_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let file = File::open(&path, 4, None).unwrap();
    file.write("ageing", |transaction| {
        transaction.set_number("layout", 99);
        Ok(())
    })
    .unwrap();
    drop(file);
    for error in [EmbeddedStore::open(&path, options(), || 0).map(drop).unwrap_err(), check(&path).unwrap_err()] {
        assert!(matches!(error, StoreError::Version { found: 99, .. }), "{error}");
    }
}

/// Turns a byte round in the middle of every segment.
fn damage(store: &Path) {
    for space in std::fs::read_dir(store.join("keyspaces")).unwrap() {
        let Ok(segments) = std::fs::read_dir(space.unwrap().path().join("tables")) else { continue };
        for segment in segments {
            let segment = segment.unwrap().path();
            let mut bytes = std::fs::read(&segment).unwrap();
            bytes[16] ^= 0xff;
            std::fs::write(&segment, bytes).unwrap();
        }
    }
}

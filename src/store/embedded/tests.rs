//! The store from the inside: what is acknowledged is there, once, in order, and after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::history::Lookup;
use crate::interaction::{Interaction, RECOMMENDATION_ID};
use crate::store::{Documents, Table};

pub(super) fn options() -> EmbeddedOptions {
    EmbeddedOptions { keep: 5, cache_mb: 4, page_cache_mb: 4, queue: 10_000, retention: Retention::default() }
}

pub(super) fn incoming(user: &str, item: &str, at: i64, id: Option<&str>) -> Incoming {
    let interaction = Interaction { interaction_id: id.map(str::to_owned), ..Interaction::new(item, "view", at) };
    Incoming { user_id: Some(user.to_owned()), session_id: None, interaction }
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, options(), || 1_000).unwrap()
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(super) async fn items(store: &EmbeddedStore, actor: Actor) -> Vec<String> {
    let recent = match store.recent(&actor) {
        Lookup::Ready(recent) => recent,
        Lookup::Pending(pending) => pending.await.unwrap(),
        Lookup::Failed(error) => panic!("{error}"),
    };
    recent.iter().map(|kept| kept.interaction.item_id.clone()).collect()
}

/// Turns a byte round of something in the segments of a store that hold it.
pub(super) fn damage(store: &Path, what: &[u8]) {
    for space in std::fs::read_dir(store.join("keyspaces")).unwrap() {
        let Ok(segments) = std::fs::read_dir(space.unwrap().path().join("tables")) else { continue };
        for segment in segments {
            let segment = segment.unwrap().path();
            let mut bytes = std::fs::read(&segment).unwrap();
            if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
                bytes[at] ^= 0xff;
                std::fs::write(&segment, bytes).unwrap();
            }
        }
    }
}

#[test]
fn what_is_acknowledged_is_in_the_next_look_up_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("new/dir/h"));
    runtime().block_on(async {
        assert!(items(&store, Actor::user("a")).await.is_empty());
        for at in 0..8 {
            let ack = store.append(vec![incoming("a", &format!("i{at}"), at, None)]).await.unwrap();
            assert_eq!(ack, Ack { accepted: 1, duplicates: 0, watermark: u64::try_from(at).unwrap() + 1 });
        }
        assert_eq!(items(&store, Actor::user("a")).await, ["i7", "i6", "i5", "i4", "i3"]);
        // One that happened long ago arrives late: it is not newer than the five that are kept.
        store.append(vec![incoming("a", "late", -1, None)]).await.unwrap();
        assert_eq!(items(&store, Actor::user("a")).await, ["i7", "i6", "i5", "i4", "i3"]);
        assert!(items(&store, Actor::session("a")).await.is_empty());
    });
}

#[test]
fn an_id_is_kept_once_within_a_batch_across_batches_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    runtime().block_on(async {
        let store = open(&path);
        let batch =
            vec![incoming("a", "x", 1, Some("1")), incoming("b", "y", 2, Some("1")), incoming("a", "z", 3, Some("2"))];
        assert_eq!(store.append(batch).await.unwrap(), Ack { accepted: 2, duplicates: 1, watermark: 2 });
        assert_eq!(store.append(vec![incoming("a", "x", 1, Some("1"))]).await.unwrap().duplicates, 1);
        store.close();
        assert!(matches!(store.append(vec![incoming("a", "x", 1, None)]).await, Err(StoreError::Closed)));
        drop(store);
        let store = open(&path);
        assert_eq!(items(&store, Actor::user("a")).await, ["z", "x"]);
        assert_eq!(store.append(vec![incoming("a", "x", 1, Some("2"))]).await.unwrap().duplicates, 1);
        assert!(items(&store, Actor::user("b")).await.is_empty());
    });
}

#[test]
fn a_user_and_a_session_share_one_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("h"));
    runtime().block_on(async {
        let both = Incoming { session_id: Some("s".to_owned()), ..incoming("u", "x", 1, None) };
        store.append(vec![both]).await.unwrap();
        for actor in [Actor::user("u"), Actor::session("s")] {
            let sequences: Vec<u64> =
                store.page(&actor, None, 5).await.unwrap().iter().map(|kept| kept.sequence).collect();
            assert_eq!(sequences, [1]);
        }
    });
}

#[test]
fn a_second_opener_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let _first = open(&path);
    let error = EmbeddedStore::open(&path, options(), || 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop the other kindred-server"), "{error}");
}

#[test]
fn a_file_that_is_no_store_is_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    std::fs::write(&path, vec![7u8; 100_000]).unwrap();
    let error = EmbeddedStore::open(&path, options(), || 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 100_000], "the file is left as it was");
}

#[test]
fn what_another_version_or_somebody_else_has_put_there_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    let refused = |path: &Path| EmbeddedStore::open(path, options(), || 0).map(|_| ()).unwrap_err();
    // The file of a former layout, under the name and, where the name was left alone, beside it.
    for former in [path.clone(), path.with_extension("redb")] {
        std::fs::write(&former, b"redb\x1a\x0a\xa9\x0d\x0a and more").unwrap();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Version { found: 2, expected: 3, .. }), "{error}");
        std::fs::remove_file(&former).unwrap();
    }
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("holiday.jpg"), b"").unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Open { .. }) && error.to_string().contains("no store"), "{error}");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    assert!(check(&directory.path().join("nothing")).is_err() && !directory.path().join("nothing").exists());
}

#[test]
fn a_store_that_cannot_be_made_is_none_that_cannot_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("h.partial"), b"").unwrap();
    let error = EmbeddedStore::open(&directory.path().join("h"), options(), || 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
}

#[test]
fn a_restore_that_a_power_cut_interrupts_leaves_the_old_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    runtime().block_on(async { open(&path).append(vec![incoming("a", "x", 1, None)]).await }).unwrap();
    let replaced = directory.path().join("h.replaced");
    // Also where somebody makes the directory that is missing.
    for is_made in [false, true] {
        std::fs::rename(&path, &replaced).unwrap();
        if is_made {
            std::fs::create_dir(&path).unwrap();
        }
        runtime().block_on(async { assert_eq!(items(&open(&path), Actor::user("a")).await, ["x"]) });
        assert!(!replaced.exists());
    }
}

#[test]
fn what_a_restore_has_left_does_not_stay_or_come_back_where_the_store_is_moved_away() {
    let directory = tempfile::tempdir().unwrap();
    let [path, replaced, partial] = ["h", "h.replaced", "h.partial"].map(|name| directory.path().join(name));
    runtime().block_on(async { open(&path).append(vec![incoming("a", "of the past", 1, None)]).await }).unwrap();
    // A power cut after the new store got its name.
    std::fs::rename(&path, &replaced).unwrap();
    drop(open(&directory.path().join("new")));
    std::fs::rename(directory.path().join("new"), &path).unwrap();
    std::fs::create_dir(&partial).unwrap();
    drop(EmbeddedStore::open_existing(&path).unwrap());
    assert!(replaced.exists() && partial.exists(), "who only looks removes nothing");
    drop(open(&path));
    assert!(!replaced.exists() && !partial.exists());
    std::fs::remove_dir_all(&path).unwrap();
    runtime().block_on(async { assert!(items(&open(&path), Actor::user("a")).await.is_empty()) });
}

#[test]
fn a_queue_that_is_full_says_so_and_takes_more_later() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { queue: 3, ..options() };
    let store = EmbeddedStore::open(&directory.path().join("h"), options, || 0).unwrap();
    runtime().block_on(async {
        let four: Vec<Incoming> = (0..4).map(|at| incoming("a", "x", at, None)).collect();
        let error = store.append(four).await.unwrap_err();
        assert!(matches!(error, StoreError::Busy { limit: 3, .. }) && error.is_overload(), "{error}");
        assert_eq!(store.append(vec![incoming("a", "x", 1, None)]).await.unwrap().accepted, 1);
    });
}

#[test]
fn old_interactions_go_with_their_ids_and_lists() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&directory.path().join("h"), 4, None).unwrap();
    let keep = |user: &str, id: &str, now| {
        let change = Change::Append(vec![incoming(user, "x", 1, Some(id))]);
        match file.commit(&[change], now).unwrap().outcomes[..] {
            [Ok(Outcome::Appended(ack))] => ack.accepted,
            _ => panic!("an append is answered as one"),
        }
    };
    let stored = |user: &str| file.recent(Actor::user(user).as_str(), None, 5).unwrap().len();
    let limits = Retention { all_ms: Some(300), ..Retention::default() };
    let prune = |most| file.prune(&limits, Some(500), most).unwrap().removed;
    assert_eq!(keep("gone", "1", 100) + keep("stays", "2", 150) + keep("stays", "3", 200), 3);
    assert_eq!(prune(1), 1, "at most what was asked for");
    assert_eq!(prune(10), 1);
    assert_eq!(prune(10), 0);
    assert_eq!((stored("gone"), stored("stays")), (0, 1));
    assert_eq!(keep("new", "1", 300), 1, "the id may be used again");
    assert_eq!(keep("new", "3", 300), 0);
}

#[test]
fn what_a_clock_that_was_ahead_has_stamped_goes_with_what_came_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&directory.path().join("h"), 4, None).unwrap();
    // More of them than a step looks at.
    for now in [100, 90_000, 90_000, 90_000, 200, 250] {
        file.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], now).unwrap();
    }
    let limits = Retention { all_ms: Some(300), ..Retention::default() };
    let prune = |now| file.prune(&limits, Some(now), 2).unwrap().removed;
    assert_eq!([prune(450), prune(450)], [1, 0], "what came after it is kept");
    assert_eq!([prune(540), prune(540), prune(540)], [2, 2, 0]);
}

#[test]
fn what_a_clock_that_was_behind_has_stamped_is_not_where_counting_again_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&directory.path().join("h"), 4, None).unwrap();
    for (item, now) in [("long ago", 100), ("before", 1_000), ("behind", 0), ("after", 1_000)] {
        file.commit(&[Change::Append(vec![incoming("a", item, 1, None)])], now).unwrap();
    }
    let mut found = Vec::new();
    file.replay(500, 10, &mut |_, one| found.push(one.item_id.clone())).unwrap();
    assert_eq!(found, ["after", "before"]);
}

#[test]
fn what_is_erased_is_gone_with_its_ids_and_comes_back_only_as_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h");
    runtime().block_on(async {
        let store = open(&path);
        let both = Incoming { session_id: Some("s".to_owned()), ..incoming("a", "x", 1, Some("1")) };
        let alone = Incoming { user_id: None, session_id: Some("s".to_owned()), ..incoming("", "y", 2, Some("2")) };
        store.append(vec![both.clone(), alone, incoming("b", "z", 3, Some("3"))]).await.unwrap();
        for at in 4..14 {
            store.append(vec![incoming("a", "more", at, None)]).await.unwrap();
        }
        assert_eq!(items(&store, Actor::session("s")).await, ["y", "x"]);
        // An append that waits in front of the erasure is part of what is erased, whatever group they are committed in.
        let mut late = incoming("a", "late", 14, Some("4"));
        late.interaction.context.insert(RECOMMENDATION_ID.to_owned(), "r7".to_owned());
        let before = store.append(vec![late]);
        let note = Write::put(Table::People, "a", b"done".to_vec());
        let erasure = store.erase(vec![Actor::user("a")], vec![note]);
        assert_eq!(before.await.unwrap().accepted, 1);
        let erased = erasure.await.unwrap();
        assert_eq!((erased.interactions, erased.watermark), (12, 14), "also those beyond the recent ones");
        assert_eq!(erased.recommendations, ["r7"], "whose lists were told apart before this one came");
        for _ in 0..2 {
            assert!(items(&store, Actor::user("a")).await.is_empty());
            assert_eq!(items(&store, Actor::session("s")).await, ["y"], "what was shared is gone for both");
        }
        assert_eq!(store.get(Table::People, "a").await.unwrap().unwrap(), b"done");
        drop(store);
        let store = open(&path);
        assert!(items(&store, Actor::user("a")).await.is_empty());
        assert_eq!(items(&store, Actor::user("b")).await, ["z"]);
        let again = store.append(vec![both, incoming("b", "z", 3, Some("3"))]).await.unwrap();
        assert_eq!(again, Ack { accepted: 1, duplicates: 1, watermark: 15 }, "its id is free, its sequence is not");
    });
}

#[test]
fn more_than_goes_at_once_is_erased_part_by_part_and_documents_change_with_the_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("h"));
    runtime().block_on(async {
        let many: Vec<Incoming> =
            (0..=limits::ERASED_AT_ONCE).map(|at| incoming("a", &at.to_string(), at as i64, None)).collect();
        for batch in many.chunks(limits::BATCH_INTERACTIONS_MAX) {
            store.append(batch.to_vec()).await.unwrap();
        }
        let note = || vec![Write::put(Table::People, "a", b"done".to_vec())];
        let part = store.erase(vec![Actor::user("a")], note()).await.unwrap();
        assert_eq!((part.interactions, part.more), (limits::ERASED_AT_ONCE as u64, true));
        assert_eq!(items(&store, Actor::user("a")).await, ["0"], "the oldest is left");
        assert_eq!(store.get(Table::People, "a").await.unwrap(), None);
        let last = store.erase(vec![Actor::user("a")], note()).await.unwrap();
        assert_eq!((last.interactions, last.more), (1, false));
        assert!(items(&store, Actor::user("a")).await.is_empty());
        assert_eq!(store.get(Table::People, "a").await.unwrap().unwrap(), b"done");
    });
}

#[test]
fn an_actor_can_be_read_to_the_end_page_by_page() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("h"));
    runtime().block_on(async {
        let times = [5, 3, 5, 9, 1, 5, 7];
        store.append(times.iter().map(|at| incoming("a", "x", *at, None)).collect()).await.unwrap();
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = store.page(&Actor::user("a"), before, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some((last.interaction.occurred_at_ms, last.sequence));
            found.extend(page.iter().map(|kept| (kept.interaction.occurred_at_ms, kept.sequence)));
        }
        assert_eq!(found, [(9, 4), (7, 7), (5, 6), (5, 3), (5, 1), (3, 2), (1, 5)]);
    });
}

#[test]
fn a_document_too_large_is_refused_and_nothing_of_the_call_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("h"));
    runtime().block_on(async {
        let large = vec![0; limits::DOCUMENT_BYTES_MAX + 1];
        let writes = vec![Write::put(Table::Items, "small", vec![1]), Write::put(Table::Items, "large", large)];
        let error = store.write(writes).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { table: "documents/items", what: "document", .. }), "{error}");
        let long = "k".repeat(limits::DOCUMENT_KEY_BYTES_MAX + 1);
        let error = store.write(vec![Write::delete(Table::People, long)]).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { what: "key", .. }), "{error}");
        assert!(store.scan(Table::Items, None, 10).await.unwrap().is_empty());
    });
}

const TABLES: [Table; 3] = [Table::Items, Table::People, Table::Merges];

/// One call of a random sequence.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, u8, Option<u8>)>),
    Scan(usize, Option<u8>, usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let table = || 0..TABLES.len();
    let write = proptest::collection::vec((table(), 0..12u8, proptest::option::of(any::<u8>())), 1..6);
    let step = prop_oneof![
        4 => write.prop_map(Step::Write),
        3 => (table(), proptest::option::of(0..12u8), 0..8usize).prop_map(|(t, a, l)| Step::Scan(t, a, l)),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The slow twin of the tables is the map of the memory store.
    #[test]
    fn documents_are_those_of_the_memory_store(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("h");
        let memory = crate::store::memory::MemoryDocuments::default();
        let runtime = runtime();
        let mut store = Some(open(&path));
        for step in steps {
            match step {
                Step::Write(changes) => {
                    let writes: Vec<Write> = changes.into_iter().map(|(table, key, value)| match value {
                        Some(value) => Write::put(TABLES[table], format!("k{key:02}"), vec![value]),
                        None => Write::delete(TABLES[table], format!("k{key:02}")),
                    }).collect();
                    memory.write_now(writes.clone()).unwrap();
                    runtime.block_on(store.as_ref().unwrap().write(writes)).unwrap();
                }
                Step::Scan(table, after, limit) => {
                    let (table, after) = (TABLES[table], after.map(|key| format!("k{key:02}")));
                    let found = store.as_ref().unwrap().blocking_scan(table, after.as_deref(), limit).unwrap();
                    prop_assert_eq!(found, memory.blocking_scan(table, after.as_deref(), limit).unwrap());
                    let key = after.unwrap_or_default();
                    let one = store.as_ref().unwrap().blocking_get(table, &key).unwrap();
                    prop_assert_eq!(one, memory.blocking_get(table, &key).unwrap());
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(&path));
                }
            }
        }
    }
}

/// The slow twin: every list, kept in a plain map. Many writers and readers at once, a cache too small for all, and what each
/// writer was acknowledged is in its next look-up.
#[test]
fn concurrent_writers_read_what_they_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { cache_mb: 1, keep: 3, ..options() };
    let clock = Arc::new(AtomicI64::new(0));
    let time = Arc::clone(&clock);
    let path = directory.path().join("h");
    let store = Arc::new(EmbeddedStore::open(&path, options, move || time.fetch_add(1, Ordering::Relaxed)).unwrap());
    runtime().block_on(async {
        let writer = |name: u32| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for at in 0..60i64 {
                    let user = format!("u{}", name * 100 + u32::try_from(at % 7).unwrap());
                    let item = format!("i{at}");
                    store.append(vec![incoming(&user, &item, at, None)]).await.unwrap();
                    let found = items(&store, Actor::user(&user)).await;
                    assert_eq!(found.first(), Some(&item), "{user}");
                    let expected = usize::try_from(at / 7 + 1).unwrap().min(3);
                    assert_eq!(found.len(), expected, "{user} {found:?}");
                    if at % 11 == 0 {
                        // What is in memory is dropped in the middle of it, as by an eviction.
                        store.shared.cache.forget(Actor::user(&user).as_str().to_owned());
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        };
        let writers: Vec<_> = (0..16).map(writer).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

//! The store from the inside: what is acknowledged is there, once, in order, and after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use super::*;
use crate::interaction::Interaction;

const OPTIONS: EmbeddedOptions =
    EmbeddedOptions { keep: 5, cache_mb: 4, page_cache_mb: 4, queue: 10_000, retention_ms: None };

fn incoming(user: &str, item: &str, at: i64, id: Option<&str>) -> Incoming {
    let interaction = Interaction { interaction_id: id.map(str::to_owned), ..Interaction::new(item, "view", at) };
    Incoming { user_id: Some(user.to_owned()), session_id: None, interaction }
}

fn open(path: &Path) -> EmbeddedHistory {
    EmbeddedHistory::open(path, OPTIONS, || 1_000).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn items(store: &EmbeddedHistory, actor: Actor) -> Vec<String> {
    let recent = match store.recent(&actor) {
        Lookup::Ready(recent) => recent,
        Lookup::Pending(pending) => pending.await.unwrap(),
        Lookup::Failed(error) => panic!("{error}"),
    };
    recent.iter().map(|kept| kept.interaction.item_id.clone()).collect()
}

#[test]
fn what_is_acknowledged_is_in_the_next_look_up_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("new/dir/h.redb"));
    runtime().block_on(async {
        assert!(items(&store, Actor::user("a")).await.is_empty());
        for at in 0..8 {
            let ack = store.append(vec![incoming("a", &format!("i{at}"), at, None)]).await.unwrap();
            assert_eq!(ack, Ack { accepted: 1, duplicates: 0 });
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
    let path = directory.path().join("h.redb");
    runtime().block_on(async {
        let store = open(&path);
        let batch =
            vec![incoming("a", "x", 1, Some("1")), incoming("b", "y", 2, Some("1")), incoming("a", "z", 3, Some("2"))];
        assert_eq!(store.append(batch).await.unwrap(), Ack { accepted: 2, duplicates: 1 });
        assert_eq!(store.append(vec![incoming("a", "x", 1, Some("1"))]).await.unwrap().duplicates, 1);
        store.close();
        assert!(matches!(store.append(vec![incoming("a", "x", 1, None)]).await, Err(HistoryError::Closed)));
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
    let store = open(&directory.path().join("h.redb"));
    runtime().block_on(async {
        let both = Incoming { session_id: Some("s".to_owned()), ..incoming("u", "x", 1, None) };
        store.append(vec![both]).await.unwrap();
        let sequence = |lookup| match lookup {
            Lookup::Ready(recent) => recent.first().map(|kept: &Kept| kept.sequence),
            _ => None,
        };
        assert_eq!(sequence(store.recent(&Actor::user("u"))), Some(1));
        assert_eq!(sequence(store.recent(&Actor::session("s"))), Some(1));
    });
}

#[test]
fn a_second_opener_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h.redb");
    let _first = open(&path);
    let error = EmbeddedHistory::open(&path, OPTIONS, || 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, HistoryError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop the other kindred-server"), "{error}");
}

#[test]
fn a_file_that_is_no_store_is_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h.redb");
    std::fs::write(&path, vec![7u8; 100_000]).unwrap();
    let error = EmbeddedHistory::open(&path, OPTIONS, || 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, HistoryError::Open { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 100_000], "the file is left as it was");
}

#[test]
fn a_queue_that_is_full_says_so_and_takes_more_later() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { queue: 3, ..OPTIONS };
    let store = EmbeddedHistory::open(&directory.path().join("h.redb"), options, || 0).unwrap();
    runtime().block_on(async {
        let four: Vec<Incoming> = (0..4).map(|at| incoming("a", "x", at, None)).collect();
        let error = store.append(four).await.unwrap_err();
        assert!(matches!(error, HistoryError::Busy { limit: 3, .. }) && error.is_overload(), "{error}");
        assert_eq!(store.append(vec![incoming("a", "x", 1, None)]).await.unwrap().accepted, 1);
    });
}

#[test]
fn old_interactions_go_with_their_ids_and_lists() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("h.redb"), 4, 5).unwrap();
    let batch = |user: &str, id: &str| vec![incoming(user, "x", 1, Some(id))];
    store.commit(&batch("gone", "1"), 100).unwrap();
    store.commit(&batch("stays", "2"), 150).unwrap();
    store.commit(&batch("stays", "3"), 200).unwrap();
    assert_eq!(store.prune(200, 1).unwrap(), 1, "at most what was asked for");
    assert_eq!(store.prune(200, 10).unwrap(), 1);
    assert_eq!(store.prune(200, 10).unwrap(), 0);
    assert!(store.recent("u:gone").unwrap().is_empty());
    assert_eq!(store.recent("u:stays").unwrap().len(), 1);
    assert_eq!(store.commit(&batch("new", "1"), 300).unwrap().accepted, [true], "the id may be used again");
    assert_eq!(store.commit(&batch("new", "3"), 300).unwrap().accepted, [false]);
}

/// The slow twin: every list, kept in a plain map. Many writers and readers at once, a cache too small for all, and what each
/// writer was acknowledged is in its next look-up.
#[test]
fn concurrent_writers_read_what_they_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { cache_mb: 1, keep: 3, ..OPTIONS };
    let clock = Arc::new(AtomicI64::new(0));
    let time = Arc::clone(&clock);
    let path = directory.path().join("h.redb");
    let store = Arc::new(EmbeddedHistory::open(&path, options, move || time.fetch_add(1, Ordering::Relaxed)).unwrap());
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
                        store.shared.cache.invalidate(Actor::user(&user).as_str());
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

//! What is kept of changes, how much of it, and what an artifact that takes its place is laid under.

use std::sync::atomic::{AtomicBool, Ordering};

use kindred_index::Memory;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::*;
use crate::catalog::CatalogItem;
use crate::reload::Reloader;
use crate::store::memory::MemoryDocuments;
use crate::telemetry::Metrics;
use crate::testing::{Fixture, HeldUpDocuments};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn of_what_an_artifact_contains_the_oldest_goes_where_there_is_too_much_or_a_clock_can_be_believed() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::shop();
    fixture.publish(root.path(), "g1");
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    let refuses = Arc::new(AtomicBool::new(false));
    let refuse = Arc::clone(&refuses);
    // They take no changes for a while.
    let documents = HeldUpDocuments::new(Box::new(move |_| {
        let taken = if refuse.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { Ok(()) };
        Box::pin(std::future::ready(taken))
    }));
    let runtime = runtime();
    // Items that are gone, and that the artifact does not have, are contained; a new one is not.
    let mut entries: Vec<LiveEntry> = (1..=4).map(|at| LiveEntry::deleted(format!("gone-{at}"), at)).collect();
    entries.push(LiveEntry::put(CatalogItem::new("new"), None, 0).unwrap());
    let write = |entry: &LiveEntry| Write::put(Table::Items, entry.id(), entry.to_record().unwrap());
    documents.inner.write_now(entries.iter().map(write).collect()).unwrap();
    let catalog = LiveCatalog::load(documents.clone()).unwrap();
    let tidy = |believed_ms, most| runtime.block_on(catalog.tidy_to(snapshot.model(), None, believed_ms, most));
    let left = || ["gone-1", "gone-2", "gone-3", "gone-4", "new"].map(|id| catalog.last(id).is_some());
    let stored = || documents.blocking_scan(Table::Items, None, 10).unwrap().len();
    refuses.store(true, Ordering::Relaxed);
    assert!(tidy(None, 3).is_err());
    assert_eq!((left(), stored()), ([true; 5], 5), "what the store keeps is there to be tried again");
    refuses.store(false, Ordering::Relaxed);
    tidy(None, 3).unwrap();
    assert_eq!((left(), stored()), ([false, false, true, true, true], 3));
    tidy(None, 5).unwrap();
    assert_eq!(left(), [false, false, true, true, true], "nothing is old by a clock that is not believed");
    tidy(Some(5 + limits::CONTAINED_KEPT_MS), 5).unwrap();
    assert_eq!((left(), stored()), ([false, false, false, false, true], 1));
}

#[test]
fn what_the_artifact_before_does_not_contain_is_kept_however_old_unless_there_is_too_much() {
    let root = tempfile::tempdir().unwrap();
    let (first, mut second) = (Fixture::shop(), Fixture::shop());
    first.publish(root.path(), "g1");
    let before = Snapshot::open_current(root.path()).unwrap();
    second.items[3].title = "changed, and built in long after".to_owned();
    second.publish(root.path(), "g2");
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    let catalog = LiveCatalog::load(Arc::new(MemoryDocuments::default())).unwrap();
    let changed = LiveEntry::put(second.items[3].clone(), None, 1).unwrap();
    let unchanged = LiveEntry::put(second.items[4].clone(), None, 2).unwrap();
    let ids = [changed.id().to_owned(), unchanged.id().to_owned()];
    [changed, unchanged].into_iter().for_each(|entry| catalog.kept().put(Arc::new(entry)));
    let left = || [0, 1].map(|place| catalog.last(&ids[place]).is_some());
    let (before, long_after) = (Some(before.model()), Some(3 + limits::CONTAINED_KEPT_MS));
    runtime().block_on(catalog.tidy(snapshot.model(), before, long_after)).unwrap();
    assert_eq!(left(), [true, false], "who goes back to the artifact before needs the one, and not the other");
    runtime().block_on(catalog.tidy_to(snapshot.model(), before, long_after, 0)).unwrap();
    assert_eq!(left(), [false, false]);
}

#[test]
fn changes_take_no_more_memory_than_they_may() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::shop();
    fixture.publish(root.path(), "g1");
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    let documents = Arc::new(MemoryDocuments::default());
    let load = || LiveCatalog::load(documents.clone()).unwrap();
    let catalog = LiveCatalog { most_bytes: 100_000, ..load() };
    let runtime = runtime();
    let change = |entry: LiveEntry| {
        runtime.block_on(async {
            let turns = catalog.turns(std::iter::once(entry.id())).await;
            catalog.change(&turns, vec![entry], || None).await
        })
    };
    let large = |id: &str, at_ms: i64| {
        let item = CatalogItem { description: "x".repeat(20_000), ..CatalogItem::new(id) };
        LiveEntry::put(item, None, at_ms).unwrap()
    };
    change(large("a", 1)).unwrap();
    change(large("b", 2)).unwrap();
    let error = change(large("c", 3)).unwrap_err();
    assert!(matches!(error, ChangeError::TooLarge { .. }), "{error}");
    assert!(catalog.last("c").is_none());
    change(large("b", 4)).unwrap();
    change(LiveEntry::deleted("a", 5)).unwrap();
    change(large("c", 6)).unwrap();
    assert_eq!(load().kept().bytes, catalog.kept().bytes, "as much after a restart");
    // What the artifact contains makes room.
    let catalog = LiveCatalog { most_bytes: 50_000, ..load() };
    let contained = LiveEntry::put(fixture.items[3].clone(), None, 7).unwrap();
    catalog.kept().put(Arc::new(contained));
    runtime.block_on(catalog.tidy(snapshot.model(), None, None)).unwrap();
    let left = ["a", "b", "c", fixture.items[3].id.as_str()].map(|id| catalog.last(id).is_some());
    assert_eq!(left, [false, true, true, false]);
}

#[test]
fn of_two_at_once_that_add_a_field_one_gets_the_last_place() {
    let root = tempfile::tempdir().unwrap();
    Fixture::shop().publish(root.path(), "g1");
    let gate = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&gate);
    let documents = HeldUpDocuments::new(Box::new(move |_| {
        let gate = Arc::clone(&held);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        })
    }));
    let catalog = Arc::new(LiveCatalog::load(documents).unwrap());
    let (metrics, kept) = (Arc::new(Metrics::new().unwrap()), Arc::clone(&catalog));
    let reloader = Reloader::start(root.path(), Memory::default(), None, metrics, || 0, kept).unwrap();
    let live = reloader.live().as_ref().map(Arc::clone).unwrap();
    let with = |id: &str, fields: Vec<String>| {
        let mut item = CatalogItem::new(id);
        item.attributes.extend(fields.into_iter().map(|name| (name, true.into())));
        LiveEntry::put(item, None, 1).unwrap()
    };
    let change = |entry: LiveEntry| {
        let (catalog, live) = (Arc::clone(&catalog), Arc::clone(&live));
        async move {
            let turns = catalog.turns(std::iter::once(entry.id())).await;
            catalog.change(&turns, vec![entry], || Some(Arc::clone(&live))).await
        }
    };
    let n_fields = |entries: &[LiveEntry]| n_fields(&live.overlay.as_it_is(), live.snapshot.model(), entries).1;
    runtime().block_on(async {
        let without = n_fields(&[with("many", Vec::new())]);
        let but_one = (without..FIELDS_MAX as usize - 1).map(|n| format!("field-{n}")).collect();
        change(with("many", but_one)).await.unwrap();
        let both = ["one", "other"].map(|name| tokio::spawn(change(with(name, vec![name.to_owned()]))));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        let mut refused = Vec::new();
        for changing in both {
            refused.extend(changing.await.unwrap().err());
        }
        assert!(matches!(refused[..], [ChangeError::TooManyFields { found: 257 }]), "{refused:?}");
    });
    assert_eq!(n_fields(&[]), FIELDS_MAX as usize);
}

#[test]
fn a_new_item_gets_no_ordinal_by_which_the_trend_of_another_is_kept() {
    let root = tempfile::tempdir().unwrap();
    Fixture::shop().publish(root.path(), "g1");
    let catalog = LiveCatalog::load(Arc::new(MemoryDocuments::default())).unwrap().with_trends_every(600_000);
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    let (snapshot, mut items) = catalog.put_into_service(snapshot, 0, |snapshot, items| (snapshot, items));
    let mut apply = |entry: LiveEntry| {
        let id = entry.id().to_owned();
        items.apply(snapshot.model(), Arc::new(entry), None);
        items.ordinal(&id)
    };
    let item = |id: &str, at_ms: i64| LiveEntry::put(CatalogItem::new(id), None, at_ms).unwrap();
    let first = apply(item("first", 0));
    assert_eq!(apply(LiveEntry::deleted("first", 1)), None);
    assert_ne!(apply(item("second", 600_000)), first, "what was added up before the first went is in use");
    assert_eq!(apply(item("third", 700_000)), first);
}

#[test]
fn what_goes_or_is_changed_back_while_an_artifact_is_put_into_service_does_not_stay_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::shop();
    fixture.publish(root.path(), "g1");
    let snapshot = Snapshot::open_current(root.path()).unwrap();
    let model = snapshot.model();
    let put = |item: CatalogItem, at_ms: i64| LiveEntry::put(item, None, at_ms).unwrap();
    let (built, mut items) = (&fixture.items[3], LiveItems::new(model, 10));
    for entry in [put(CatalogItem { price: Some(99.0), ..built.clone() }, 1), put(CatalogItem::new("new"), 2)] {
        let rows = rows(model, &entry);
        items.apply(model, Arc::new(entry), rows);
    }
    let mut kept = Kept::default();
    for entry in [put(built.clone(), 3), LiveEntry::deleted("new", 4)] {
        assert!(LiveItems::is_contained(model, &entry), "the artifact says the same");
        kept.put(Arc::new(entry));
    }
    follow(&mut items, model, &kept, 0);
    assert_eq!(items.ordinal("new"), None);
    assert_eq!(items.entry(3).and_then(LiveEntry::item).unwrap().price, built.price);
}

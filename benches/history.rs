//! What it costs to keep an interaction and to look up recent ones: the embedded store against the one in memory.
//!
//! `cargo bench -p kindred --bench history`. `keep/*` is acknowledged interactions a second with so many senders at once, one
//! interaction a request; with the embedded store each is synced to the disk that holds the temporary directory (TMPDIR) before it is
//! acknowledged, and senders who wait together share a sync. `recent/*` is one look-up of twenty interactions.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kindred::Interaction;
use kindred::history::memory::MemoryHistory;
use kindred::history::{Actor, Incoming, Lookup, Recent, RecentInteractions};
use kindred::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention};
use kindred::testing::Noise;
use tokio::runtime::Runtime;

const ACTORS: usize = 2_000;
const INTERACTIONS: usize = 20;
const SENDERS: [u64; 3] = [1, 16, 256];

type Store = Arc<dyn RecentInteractions>;

fn embedded(directory: &tempfile::TempDir, name: &str, cache_mb: u64) -> Store {
    let options =
        EmbeddedOptions { keep: 100, cache_mb, page_cache_mb: 64, queue: 65_536, retention: Retention::default() };
    Arc::new(EmbeddedStore::open(&directory.path().join(name), options, || 0).unwrap())
}

fn memory() -> Store {
    Arc::new(MemoryHistory::new(128, 100, Duration::from_secs(3600)))
}

fn incoming(actor: usize, at: u64) -> Incoming {
    let interaction = Interaction {
        interaction_id: Some(format!("event-{at}")),
        ..Interaction::new(format!("item-{at}"), "view", at as i64)
    };
    Incoming { user_id: Some(format!("user-{actor}")), session_id: None, interaction }
}

fn actor(number: usize) -> Actor {
    Actor::user(&format!("user-{number}"))
}

/// Every actor with its interactions, in batches as large as a request may be.
fn fill(runtime: &Runtime, store: &Store) {
    let all: Vec<Incoming> = (0..ACTORS * INTERACTIONS).map(|event| incoming(event % ACTORS, event as u64)).collect();
    runtime.block_on(async {
        for batch in all.chunks(kindred::limits::BATCH_INTERACTIONS_MAX) {
            store.append(batch.to_vec()).await.unwrap();
        }
    });
}

/// The time of so many interactions, sent one by one by so many at once.
fn keep(runtime: &Runtime, store: &Store, senders: u64, rounds: u64, next: &Arc<AtomicU64>) -> Duration {
    let began = Instant::now();
    runtime.block_on(async {
        let send = |sender: u64| {
            let (store, next) = (Arc::clone(store), Arc::clone(next));
            let own = rounds / senders + u64::from(sender < rounds % senders);
            tokio::spawn(async move {
                for _ in 0..own {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    store.append(vec![incoming(at as usize % ACTORS, at)]).await.unwrap();
                }
            })
        };
        let sent: Vec<_> = (0..senders).map(send).collect();
        for task in sent {
            task.await.unwrap();
        }
    });
    began.elapsed()
}

fn read(runtime: &Runtime, store: &Store, actor: &Actor) -> Recent {
    match store.recent(actor) {
        Lookup::Ready(recent) => recent,
        Lookup::Pending(pending) => runtime.block_on(pending).unwrap(),
        Lookup::Failed(error) => panic!("{error}"),
    }
}

fn benches(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stores = [("embedded", embedded(&directory, "keep", 128)), ("memory", memory())];
    let mut group = c.benchmark_group("keep");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for (name, store) in &stores {
        let next = Arc::new(AtomicU64::new(0));
        for senders in SENDERS {
            group.bench_function(BenchmarkId::new(*name, senders), |b| {
                b.iter_custom(|rounds| keep(&runtime, store, senders, rounds, &next));
            });
        }
    }
    group.finish();
    // Nothing of it is merged in the background while look-ups are timed.
    drop(stores);

    // A cache of 1 MiB holds one actor in ten or so: most look-ups go to the file, through the blocking pool.
    let stores = [
        ("embedded_cached", embedded(&directory, "warm", 128)),
        ("embedded_from_file", embedded(&directory, "cold", 1)),
        ("memory", memory()),
    ];
    let mut group = c.benchmark_group("recent");
    for (name, store) in &stores {
        fill(&runtime, store);
        // Reads start inside the runtime, as in the server.
        let _inside = runtime.enter();
        let mut noise = Noise(3);
        group.bench_function(*name, |b| {
            b.iter_batched(
                || actor(noise.below(ACTORS)),
                |actor| {
                    let recent = read(&runtime, store, &actor);
                    assert_eq!(recent.len(), INTERACTIONS);
                    black_box(recent)
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);

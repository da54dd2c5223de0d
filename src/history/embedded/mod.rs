//! Recent interactions in one file (redb): durable, crash safe, with a cache in front.
//!
//! One thread writes. It takes everything that is waiting, commits it in one transaction and only then answers, so the cost of a
//! `fsync` is shared by all who wait (group commit) and an acknowledged interaction survives a kill at any moment. Reads are answered
//! from a bounded cache in about a microsecond; a miss is read on the blocking pool, never on an event loop.
//!
//! **Why the cache is never stale.** Writer and readers change an entry only through the cache's per-key entry lock. The writer, after
//! a commit, first advances the key's stripe of `versions`, then merges into the entry if there is one. A reader that missed notes
//! the stripe before it opens its read transaction, and under the entry lock inserts what it read only if the stripe has not
//! moved. So an old list either is not inserted or is inserted before the writer's merge, which then completes it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::sync::{Semaphore, oneshot};

use super::{Ack, Actor, BoxFuture, HistoryError, HistoryStats, Incoming, Kept, Lookup, Recent, RecentInteractions};
use crate::limits;

mod store;
mod writer;

use store::Store;

/// Where the file is unless a setting says otherwise.
pub const DEFAULT_PATH: &str = "store/kindred.redb";

/// Counters that tell whether a key was written while it was read. More stripes, fewer needless second reads.
const VERSION_STRIPES: usize = 4096;

/// How the embedded store is kept.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedOptions {
    /// Newest interactions kept for one actor.
    pub keep: usize,
    /// MiB of recent interactions held in memory.
    pub cache_mb: u64,
    /// MiB of the file's pages held in memory.
    pub page_cache_mb: usize,
    /// Interactions that may wait to be committed.
    pub queue: usize,
    /// Milliseconds that interactions and their ids are kept; `None` = for ever.
    pub retention_ms: Option<i64>,
}

/// The durable store. Open one per file; a second one fails with [`HistoryError::InUse`].
pub struct EmbeddedHistory {
    shared: Arc<Shared>,
    queue_limit: u64,
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reads: Arc<Semaphore>,
}

/// One caller's batch and where its answer goes.
struct Job {
    batch: Vec<Incoming>,
    answer: oneshot::Sender<Result<Ack, HistoryError>>,
}

/// What the writer, the readers and the front share.
struct Shared {
    store: Store,
    cache: Cache<String, Recent>,
    keep: usize,
    versions: Vec<AtomicU64>,
    hasher: RandomState,
    queued: AtomicU64,
    commits: AtomicU64,
    committed: AtomicU64,
    commit_nanos: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    pruned: AtomicU64,
    failure: Mutex<Option<HistoryError>>,
}

impl EmbeddedHistory {
    /// Opens or creates the file at `path` and starts the writer. `now_ms` is asked once a commit, for the time of arrival.
    /// A file left by a killed process opens at once (its allocator state is saved with each commit).
    ///
    /// # Errors
    /// [`HistoryError`] naming the file: in use, damaged, of another version, or its directory cannot be made.
    pub fn open(
        path: &Path,
        options: EmbeddedOptions,
        now_ms: impl Fn() -> i64 + Send + 'static,
    ) -> Result<Self, HistoryError> {
        let store = Store::open(path, options.page_cache_mb, options.keep)?;
        let cache = Cache::builder()
            .max_capacity(options.cache_mb << 20)
            .weigher(|actor: &String, list: &Recent| super::cached_size(actor, list))
            .build();
        let shared = Arc::new(Shared {
            store,
            cache,
            keep: options.keep,
            versions: (0..VERSION_STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            queued: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            commit_nanos: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
            failure: Mutex::new(None),
        });
        // Every job holds at least one interaction, so a queue of `queue` jobs never fills before the count does.
        let (sender, receiver) = sync_channel(options.queue);
        let writer = writer::Writer::new(Arc::clone(&shared), receiver, options.retention_ms, Box::new(now_ms));
        let thread = std::thread::Builder::new()
            .name("kindred-history".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| HistoryError::Directory { path: path.to_path_buf(), source: Arc::new(source) })?;
        Ok(Self {
            shared,
            queue_limit: options.queue as u64,
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            reads: Arc::new(Semaphore::new(limits::HISTORY_READS_MAX)),
        })
    }

    /// Puts a job into the queue, or says why not.
    fn enqueue(&self, batch: Vec<Incoming>) -> Result<oneshot::Receiver<Result<Ack, HistoryError>>, HistoryError> {
        let count = batch.len() as u64;
        let queued = self.shared.queued.fetch_add(count, Ordering::AcqRel);
        let refused = |error| {
            self.shared.queued.fetch_sub(count, Ordering::AcqRel);
            Err(error)
        };
        if queued + count > self.queue_limit {
            return refused(HistoryError::Busy { queued, limit: self.queue_limit });
        }
        let (answer, receiver) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        match jobs.as_ref().map(|jobs| jobs.try_send(Job { batch, answer })) {
            Some(Ok(())) => Ok(receiver),
            Some(Err(std::sync::mpsc::TrySendError::Full(_))) => {
                refused(HistoryError::Busy { queued, limit: self.queue_limit })
            }
            Some(Err(std::sync::mpsc::TrySendError::Disconnected(_))) | None => refused(HistoryError::Closed),
        }
    }
}

impl RecentInteractions for EmbeddedHistory {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, HistoryError>> {
        if batch.is_empty() {
            return Box::pin(std::future::ready(Ok(Ack::default())));
        }
        match self.enqueue(batch) {
            Ok(receiver) => Box::pin(async move { receiver.await.unwrap_or(Err(HistoryError::Closed)) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        if let Some(recent) = self.shared.cache.get(actor.as_str()) {
            self.shared.hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Ready(recent);
        }
        self.shared.misses.fetch_add(1, Ordering::Relaxed);
        // A bounded number of look-ups may wait for the disk; beyond that an answer without them is better than a queue.
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else {
            return Lookup::Failed(HistoryError::ReadsBusy { limit: limits::HISTORY_READS_MAX as u64 });
        };
        let (shared, actor) = (Arc::clone(&self.shared), actor.clone());
        let read = tokio::task::spawn_blocking(move || {
            let answer = shared.read_and_cache(&actor);
            drop(permit);
            answer
        });
        Lookup::Pending(Box::pin(async move { read.await.unwrap_or(Err(HistoryError::Closed)) }))
    }

    fn stats(&self) -> HistoryStats {
        let shared = &self.shared;
        HistoryStats {
            cached_actors: shared.cache.entry_count(),
            cached_bytes: shared.cache.weighted_size(),
            queued: shared.queued.load(Ordering::Relaxed),
            commits: shared.commits.load(Ordering::Relaxed),
            committed: shared.committed.load(Ordering::Relaxed),
            commit_seconds: shared.commit_nanos.load(Ordering::Relaxed) as f64 * 1e-9,
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            pruned: shared.pruned.load(Ordering::Relaxed),
        }
    }

    fn check(&self) -> Result<(), HistoryError> {
        let alive =
            self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|t| !t.is_finished());
        if !alive {
            return Err(HistoryError::Closed);
        }
        match &*self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the history writer ended by a panic; interactions that were not acknowledged are lost");
        }
    }
}

impl Drop for EmbeddedHistory {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A cached list made from the store, unless the key is written meanwhile. See the module's note on staleness.
    fn read_and_cache(&self, actor: &Actor) -> Result<Recent, HistoryError> {
        let version = self.version(actor.as_str());
        let before = version.load(Ordering::Acquire);
        let recent: Recent = self.store.recent(actor.as_str())?.into();
        let result = self.cache.entry(actor.as_str().to_owned()).and_compute_with(|entry| match entry {
            None if version.load(Ordering::Acquire) == before => Op::Put(Arc::clone(&recent)),
            _ => Op::Nop,
        });
        // Someone else's entry is at least as new as what was read.
        Ok(result.into_entry().map_or(recent, moka::Entry::into_value))
    }

    /// Brings the cache up to a commit: `new` interactions of an actor, whose list in the store was empty before if `fresh`.
    fn cache_committed(&self, actor: String, new: Vec<Kept>, fresh: bool) {
        self.version(&actor).fetch_add(1, Ordering::AcqRel);
        self.cache.entry(actor).and_compute_with(|entry| match entry {
            Some(old) => Op::Put(super::merge(&old.into_value(), new, self.keep)),
            None if fresh => Op::Put(super::merge(&[], new, self.keep)),
            None => Op::Nop,
        });
    }

    fn version(&self, actor: &str) -> &AtomicU64 {
        let stripe = self.hasher.hash_one(actor) as usize % VERSION_STRIPES;
        &self.versions[stripe]
    }

    fn set_failure(&self, failure: Option<HistoryError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// New interactions of one commit, by actor; whether the actor's list was empty before.
type Changed = HashMap<String, (Vec<Kept>, bool)>;

#[cfg(test)]
mod tests;

//! One file (redb): the interaction log and the tables of documents, durable and crash safe, with a cache in front of recent interactions.
//!
//! One thread writes. It takes everything that is waiting, interactions and documents alike, commits it in one transaction and only then
//! answers, so the cost of a sync is shared by all who wait (group commit) and what was acknowledged survives a kill at any moment. Recent
//! interactions are answered from a bounded cache in about a microsecond; what is not there is read on the blocking pool, never on an event loop.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use super::{BoxFuture, Documents, Page, StoreError, Table, Write};
use crate::history::{
    Ack, Actor, Erased, HistoryStats, Incoming, Kept, Lookup, RecentInteractions, text_bytes as interaction_bytes,
};
use crate::limits;

mod apply;
mod cache;
mod file;
mod lookup;
mod record;
mod writer;

use cache::RecentCache;
use file::File;

/// Where the file is unless a setting says otherwise.
pub const DEFAULT_PATH: &str = "store/kindred.redb";

/// How the embedded store is kept.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedOptions {
    /// Newest interactions kept at hand for one actor.
    pub keep: usize,
    /// MiB of recent interactions held in memory.
    pub cache_mb: u64,
    /// MiB of the file's pages held in memory.
    pub page_cache_mb: usize,
    /// Interactions and document changes that may wait to be committed.
    pub queue: usize,
    /// Milliseconds that interactions and their ids are kept; `None` = for ever.
    pub retention_ms: Option<i64>,
}

/// The durable store. Open one per file; a second one fails with [`StoreError::InUse`].
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue_limit: u64,
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reads: Arc<Semaphore>,
}

/// What one caller wants done, all of it or nothing.
enum Change {
    /// Interactions are kept.
    Append(Vec<Incoming>),
    /// Documents change.
    Write(Vec<Write>),
    /// Everything of these actors goes, and documents change.
    Erase(Vec<Actor>, Vec<Write>),
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Appended(Ack),
    Written,
    Erased(Erased),
}

/// A change and where its answer goes.
struct Job {
    change: Change,
    size: Size,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// What a change takes of the queue.
#[derive(Clone, Copy)]
struct Size {
    count: u64,
    bytes: u64,
}

/// What the writer, the readers and the front share.
struct Shared {
    file: File,
    cache: RecentCache,
    keep: usize,
    queued: AtomicU64,
    queued_bytes: AtomicU64,
    commits: AtomicU64,
    committed: AtomicU64,
    commit_nanos: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    pruned: AtomicU64,
    watermark: AtomicU64,
    failure: Mutex<Option<StoreError>>,
}

impl EmbeddedStore {
    /// Opens or creates the file at `path` and starts the writer. `now_ms` is asked once a commit, for the time of arrival.
    /// A file left by a killed process opens at once, whatever its size.
    ///
    /// # Errors
    /// [`StoreError`] naming the file: in use, damaged, of another version, or its directory cannot be made.
    pub fn open(
        path: &Path,
        options: EmbeddedOptions,
        now_ms: impl Fn() -> i64 + Send + 'static,
    ) -> Result<Self, StoreError> {
        let file = File::open(path, options.page_cache_mb)?;
        let watermark = AtomicU64::new(file.last_sequence()?);
        let shared = Arc::new(Shared {
            file,
            watermark,
            cache: RecentCache::new(options.cache_mb, options.keep),
            keep: options.keep,
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            commit_nanos: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
            failure: Mutex::new(None),
        });
        // Every job counts for at least one, so a queue of `queue` jobs never fills before the count does.
        let (sender, receiver) = sync_channel(options.queue);
        let writer = writer::Writer::new(Arc::clone(&shared), receiver, options.retention_ms, Box::new(now_ms));
        let thread = std::thread::Builder::new()
            .name("kindred-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Directory { path: path.to_path_buf(), source: Arc::new(source) })?;
        Ok(Self {
            shared,
            queue_limit: options.queue as u64,
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            reads: Arc::new(Semaphore::new(limits::STORE_READS_MAX)),
        })
    }

    /// Puts a change into the queue at once, and returns what waits for its outcome.
    fn submit(&self, change: Change) -> BoxFuture<'static, Result<Outcome, StoreError>> {
        match self.enqueue(change) {
            Ok(receiver) => Box::pin(async move { receiver.await.unwrap_or(Err(StoreError::Closed)) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// Puts a change into the queue, or says why not.
    fn enqueue(&self, change: Change) -> Result<oneshot::Receiver<Result<Outcome, StoreError>>, StoreError> {
        let size = change.size();
        let queued = self.shared.queued.fetch_add(size.count, Ordering::AcqRel);
        let queued_bytes = self.shared.queued_bytes.fetch_add(size.bytes, Ordering::AcqRel);
        let busy = StoreError::Busy { queued, limit: self.queue_limit };
        let full = queued + size.count > self.queue_limit
            || (queued_bytes > 0 && queued_bytes + size.bytes > limits::STORE_QUEUE_BYTES_MAX);
        if full {
            self.shared.leave(size);
            return Err(busy);
        }
        let (answer, receiver) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match jobs.as_ref().map(|jobs| jobs.try_send(Job { change, size, answer })) {
            Some(Ok(())) => return Ok(receiver),
            Some(Err(TrySendError::Full(_))) => busy,
            Some(Err(TrySendError::Disconnected(_))) | None => StoreError::Closed,
        };
        self.shared.leave(size);
        Err(error)
    }

    /// Runs a read on the blocking pool. A bounded number may wait for the disk; beyond that an answer without them is better than a queue.
    fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<BoxFuture<'static, Result<T, StoreError>>, StoreError> {
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else {
            return Err(StoreError::ReadsBusy { limit: limits::STORE_READS_MAX as u64 });
        };
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let answer = read(&shared);
            drop(permit);
            answer
        });
        Ok(Box::pin(async move { read.await.unwrap_or(Err(StoreError::Closed)) }))
    }

    fn read_later<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.reading(read).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }
}

impl RecentInteractions for EmbeddedStore {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>> {
        if batch.is_empty() {
            return Box::pin(std::future::ready(Ok(Ack::default())));
        }
        let outcome = self.submit(Change::Append(batch));
        Box::pin(async move {
            match outcome.await? {
                Outcome::Appended(ack) => Ok(ack),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        if let Some(recent) = self.shared.cache.get(actor.as_str()) {
            self.shared.hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Ready(recent);
        }
        self.shared.misses.fetch_add(1, Ordering::Relaxed);
        let actor = actor.clone();
        let read = move |shared: &Shared| {
            shared.cache.fill(actor.as_str(), || shared.file.recent(actor.as_str(), None, shared.keep))
        };
        match self.reading(read) {
            Ok(pending) => Lookup::Pending(pending),
            Err(error) => Lookup::Failed(error),
        }
    }

    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
        let actor = actor.clone();
        self.read_later(move |shared| shared.file.recent(actor.as_str(), before, limit))
    }

    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
        if let Err(error) = super::check(&documents) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let outcome = self.submit(Change::Erase(actors, documents));
        Box::pin(async move {
            match outcome.await? {
                Outcome::Erased(erased) => Ok(erased),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn watermark(&self) -> u64 {
        self.shared.watermark.load(Ordering::Acquire)
    }

    fn stats(&self) -> HistoryStats {
        let shared = &self.shared;
        let (cached_actors, cached_bytes) = shared.cache.size();
        HistoryStats {
            cached_actors,
            cached_bytes,
            queued: shared.queued.load(Ordering::Relaxed),
            commits: shared.commits.load(Ordering::Relaxed),
            committed: shared.committed.load(Ordering::Relaxed),
            commit_seconds: shared.commit_nanos.load(Ordering::Relaxed) as f64 * 1e-9,
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            pruned: shared.pruned.load(Ordering::Relaxed),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let alive =
            self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|t| !t.is_finished());
        if !alive {
            return Err(StoreError::Closed);
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
            tracing::error!("the store's writer ended by a panic; what was not acknowledged is lost");
        }
    }
}

impl Documents for EmbeddedStore {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        if let Err(error) = super::check(&writes) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if writes.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let outcome = self.submit(Change::Write(writes));
        Box::pin(async move { outcome.await.map(|_| ()) })
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.file.document(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.shared.file.scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        let key = key.to_owned();
        self.read_later(move |shared| shared.file.document(table, &key))
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        let after = after.map(str::to_owned);
        self.read_later(move |shared| shared.file.scan(table, after.as_deref(), limit))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// A change has left the queue.
    fn leave(&self, size: Size) {
        self.queued.fetch_sub(size.count, Ordering::AcqRel);
        self.queued_bytes.fetch_sub(size.bytes, Ordering::AcqRel);
    }

    fn set_failure(&self, failure: Option<StoreError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

impl Change {
    fn size(&self) -> Size {
        let documents = |writes: &[Write]| writes.iter().map(Write::bytes).sum::<usize>();
        let (count, bytes) = match self {
            Self::Append(batch) => (batch.len(), batch.iter().map(|one| interaction_bytes(&one.interaction)).sum()),
            Self::Write(writes) => (writes.len(), documents(writes)),
            Self::Erase(actors, writes) => (actors.len() + writes.len(), documents(writes)),
        };
        Size { count: (count as u64).max(1), bytes: bytes as u64 }
    }
}

#[cfg(test)]
mod tests;

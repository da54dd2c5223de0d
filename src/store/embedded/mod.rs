//! One directory (fjall): the interaction log and the tables of documents, durable and crash safe, with a cache in front of recent interactions.
//!
//! One thread writes. It takes everything that is waiting, interactions and documents alike, commits it in one transaction and only then
//! answers, so the cost of a sync is shared by all who wait (group commit) and what was acknowledged survives a kill at any moment. Recent
//! interactions are answered from a bounded cache in about a microsecond; what is not there is read on the blocking pool, never on an event loop.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::{BoxFuture, StoreError, Write};
use crate::history::{Ack, Actor, Erased, Incoming, RecentInteractions, text_bytes as interaction_bytes};
use crate::limits;

mod apply;
mod cache;
mod check;
mod copy;
mod disk;
mod engine;
mod file;
mod front;
mod keys;
mod log;
mod lookup;
mod place;
mod record;
mod retention;
mod writer;

use cache::RecentCache;
pub use check::{Checked, check};
pub use copy::{copy, restore};
pub use disk::{DiskOperation, Faults};
use file::File;
pub use log::Logged;
pub use retention::Retention;

/// The directory of the store unless a setting says otherwise.
pub const DEFAULT_PATH: &str = "store/kindred";

/// How the embedded store is kept.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Newest interactions kept at hand for one actor.
    pub keep: usize,
    /// MiB of recent interactions held in memory.
    pub cache_mb: u64,
    /// MiB of the store's blocks held in memory.
    pub page_cache_mb: usize,
    /// Interactions and document changes that may wait to be committed.
    pub queue: usize,
    /// How long interactions are kept, and how many.
    pub retention: Retention,
}

/// The durable store. Open one per directory; a second one fails with [`StoreError::InUse`].
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
#[derive(Debug, Clone)]
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
    committed: AtomicU64,
    on_commit: OnceLock<Box<dyn Fn(Duration) + Send + Sync>>,
    hits: AtomicU64,
    misses: AtomicU64,
    pruned: AtomicU64,
    watermark: AtomicU64,
    failure: Mutex<Option<StoreError>>,
}

impl Shared {
    fn new(file: File, cache_mb: u64, keep: usize) -> Result<Self, StoreError> {
        Ok(Self {
            watermark: AtomicU64::new(file.last_sequence()?),
            file,
            cache: RecentCache::new(cache_mb, keep),
            keep,
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            on_commit: OnceLock::new(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
            failure: Mutex::new(None),
        })
    }
}

impl EmbeddedStore {
    /// Opens or creates the store in the directory `path` and starts the writer. `now_ms` is asked once a commit, for the time of arrival.
    /// What a killed process left opens within a second, whatever its size.
    ///
    /// # Errors
    /// [`StoreError`] naming the directory: in use, damaged, of another version, or its directory cannot be made.
    pub fn open(
        path: &Path,
        options: EmbeddedOptions,
        now_ms: impl Fn() -> i64 + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_on(path, options, now_ms, None)
    }

    /// [`EmbeddedStore::open`] on a disk with faults, if any are given.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_on(
        path: &Path,
        options: EmbeddedOptions,
        now_ms: impl Fn() -> i64 + Send + 'static,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Self, StoreError> {
        Self::over(File::open(path, options.page_cache_mb, faults)?, options, now_ms)
    }

    /// Starts the writer of a store.
    fn over(
        file: File,
        options: EmbeddedOptions,
        now_ms: impl Fn() -> i64 + Send + 'static,
    ) -> Result<Self, StoreError> {
        let path = file.path().to_path_buf();
        let shared = Arc::new(Shared::new(file, options.cache_mb, options.keep)?);
        // Every job counts for at least one, so a queue of `queue` jobs never fills before the count does.
        let (sender, receiver) = sync_channel(options.queue);
        let writer = writer::Writer::new(Arc::clone(&shared), receiver, options.retention, Box::new(now_ms));
        let thread = std::thread::Builder::new()
            .name("kindred-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Directory { path, source: Arc::new(source) })?;
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
mod fault_tests;
#[cfg(test)]
mod tests;

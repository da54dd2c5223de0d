//! The store on the disk: opening, its layout, its transactions. Synchronous; the caller decides on which thread.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `interactions` | sequence, in order of arrival | a record (see [`super::record`]), written once |
//! | `actors` | actor, occurred_at_ms, sequence | nothing: an index into `interactions` |
//! | `ids` | 128 bits of SHA-256 of the `interaction_id` | sequence |
//! | `documents` | name of the table, the document's key | the document |
//! | `meta` | name | `layout`, `next_sequence`, `interaction_bytes`, `pruned`, `swept/<kind>` |
//!
//! The log is the truth and the next training set; `actors` and `ids` point into it and are pruned with it. An actor is `u:<id>` or `s:<id>`.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::super::StoreError;
use super::disk::{Disk, DiskOperation, Faults};
use super::engine::{self, Engine, Transaction, View};
use super::place;

/// The version of the keyspaces above. 2 and below were one file of another engine.
pub(super) const LAYOUT: u64 = 3;

/// An open store. After an error of a write the engine takes no more until it is opened anew, though it still reads; the engine is an option: none
/// while it cannot be opened.
pub(super) struct File {
    path: PathBuf,
    page_cache_mb: usize,
    disk: Disk,
    engine: RwLock<Option<Engine>>,
    /// Records that did not decode, since start.
    damaged: AtomicU64,
    /// Held while a backup is made.
    pub(super) copying: Mutex<()>,
    /// Set while somebody waits to open the store anew: a backup, which holds the engine for minutes, gives way then.
    pub(super) reopening: AtomicBool,
}

impl File {
    /// Opens or creates it. One left by a killed process opens after its journals, of bounded size, are replayed.
    pub(super) fn open(path: &Path, page_cache_mb: usize, faults: Option<Arc<dyn Faults>>) -> Result<Self, StoreError> {
        if !place::is_store(path)? {
            place::create(path)?;
            tracing::info!(path = %path.display(), "there was no store: an empty one was made");
        }
        let file = Self::existing(path, page_cache_mb, faults)?;
        place::forget_left(path);
        Ok(file)
    }

    /// Opens one that must be there.
    pub(super) fn existing(
        path: &Path,
        page_cache_mb: usize,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Self, StoreError> {
        place::require(path)?;
        let engine = Engine::open(path, page_cache_mb).map_err(|error| opening(path, error))?;
        let (path, engine) = (path.to_path_buf(), RwLock::new(Some(engine)));
        let file = Self {
            path,
            page_cache_mb,
            disk: Disk(faults),
            engine,
            damaged: AtomicU64::new(0),
            copying: Mutex::default(),
            reopening: AtomicBool::new(false),
        };
        match file.meta("layout")? {
            LAYOUT => Ok(file),
            found => Err(StoreError::Version { path: file.path, found, expected: LAYOUT }),
        }
    }

    /// Opens it anew in the state of the last commit on the disk, if the disk works again. Waits for reads in progress, and ends a backup. What was
    /// cached of it may be of the past then.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        self.disk.try_out(&self.path).map_err(|error| self.failed("trying the disk again", error.into()))?;
        self.reopening.store(true, Ordering::Release);
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        self.reopening.store(false, Ordering::Release);
        // The lock on the directory is given back before it is asked for again, and the engine's threads let go of the journal.
        drop(engine.take());
        std::thread::sleep(Duration::from_millis(10));
        let opened = Engine::open(&self.path, self.page_cache_mb).map_err(|error| match error {
            fjall::Error::Locked => opening(&self.path, error),
            // It is tried again by itself: nobody should move the store away meanwhile.
            _ => self.failed("opening the store anew", error),
        });
        *engine = Some(opened?);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        place::bytes(&self.path)
    }

    /// Runs `body` on the state of the last commit.
    pub(super) fn read<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&View<'_>) -> engine::Result<T>,
    ) -> Result<T, StoreError> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        // Not for each look-up is the disk tried: the writer does it, four times a second.
        let run = || {
            let engine = guard.as_ref().ok_or_else(closed)?;
            self.disk.before(DiskOperation::Read)?;
            body(&engine.view())
        };
        run().map_err(|error| self.failed(operation, error))
    }

    /// Runs `body` in a transaction of its own: when it returns, what was written survives a kill and a power cut.
    pub(super) fn write<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&mut Transaction<'_>) -> engine::Result<T>,
    ) -> Result<T, StoreError> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            let engine = guard.as_ref().ok_or_else(closed)?;
            engine.wait_for_room()?;
            let mut transaction = engine.begin();
            let value = body(&mut transaction)?;
            self.disk.before(DiskOperation::Write(transaction.bytes))?;
            if let Err(error) = self.disk.before(DiskOperation::Sync) {
                // As on a real disk: written, and nobody knows for how long.
                transaction.commit(false)?;
                return Err(error.into());
            }
            transaction.commit(true)?;
            engine.committed()?;
            Ok(value)
        };
        run().map_err(|error| self.failed(operation, error))
    }

    /// A number of the keyspace `meta`; 0 where there is none.
    pub(super) fn meta(&self, name: &str) -> Result<u64, StoreError> {
        self.read("reading the store's numbers", |view| Ok(view.number(name)?.unwrap_or(0)))
    }

    /// Counts and logs a record that does not decode; whoever met it goes on without it.
    pub(super) fn skip(&self, sequence: u64, error: &dyn std::fmt::Display) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::error!(path = %self.path.display(), sequence, %error, "a record does not decode and is left out; run `kindred fsck`");
    }

    pub(super) fn skipped(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// What an error of the engine means.
    pub(super) fn failed(&self, operation: &'static str, mut error: fjall::Error) -> StoreError {
        // The engine gave up earlier, when it wrote or merged segments, and says of what only in the log.
        if matches!(error, fjall::Error::Poisoned) {
            match self.disk.try_out(&self.path) {
                Ok(()) => return StoreError::GaveUp { path: self.path.clone(), operation },
                Err(cause) => error = cause.into(),
            }
        }
        let (path, full) = (self.path.clone(), is_full(&error));
        let source = Arc::new(error);
        if full {
            StoreError::Full { path, operation, source }
        } else {
            StoreError::Storage { path, operation, source }
        }
    }
}

/// What is said while there is no engine.
fn closed() -> io::Error {
    io::Error::other("the store is not open, and is opened anew once the disk works")
}

/// What an error of opening means to an operator.
pub(super) fn opening(path: &Path, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::InUse { path: path.to_path_buf() },
        // It is whole, and not to be moved away.
        full if is_full(&full) => {
            StoreError::Full { path: path.to_path_buf(), operation: "opening it", source: Arc::new(full) }
        }
        denied if is_denied(&denied) => StoreError::Denied { path: path.to_path_buf(), source: Arc::new(denied) },
        other => StoreError::Open { path: path.to_path_buf(), source: Arc::new(other) },
    }
}

/// Whether the disk, or the share of it that this process may use, is full.
pub(super) fn is_full(error: &(dyn Error + 'static)) -> bool {
    is_of(error, &[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded])
}

/// Whether this process may not do it.
pub(super) fn is_denied(error: &(dyn Error + 'static)) -> bool {
    is_of(error, &[io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem])
}

/// Whether an error or one of its causes is the system's, of one of these kinds.
fn is_of(error: &(dyn Error + 'static), kinds: &[io::ErrorKind]) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<io::Error>().is_some_and(|error| kinds.contains(&error.kind())) {
            return true;
        }
        cause = current.source();
    }
    false
}

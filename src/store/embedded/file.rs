//! The file: opening, its layout, its transactions. Synchronous; the caller decides on which thread.
//!
//! | table | key | value |
//! |---|---|---|
//! | `interactions` | sequence `u64`, in order of arrival | a record (see [`super::record`]), written once |
//! | `actors` | (actor, occurred_at_ms `i64`, sequence `u64`) | nothing: an index into `interactions` |
//! | `ids` | `interaction_id` | sequence `u64` |
//! | `documents/<name>` | the document's key | the document |
//! | `meta` | name | `u64`: `layout`, `next_sequence` |
//!
//! The log is the truth and the next training set; `actors` and `ids` point into it and are pruned with it. An actor is `u:<id>` or `s:<id>`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::super::{StoreError, Table};
use super::disk::{self, Faults};

pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("interactions");
pub(super) const ACTORS: TableDefinition<(&str, i64, u64), ()> = TableDefinition::new("actors");
pub(super) const IDS: TableDefinition<&str, u64> = TableDefinition::new("ids");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The version of the tables above.
pub(super) const LAYOUT: u64 = 2;

/// The table of the documents of one kind.
pub(super) fn documents(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

/// An open file. After an error of the disk the engine answers nothing more until the file is opened anew, so the database is an option: none
/// while it cannot be opened.
pub(super) struct File {
    path: PathBuf,
    page_cache_mb: usize,
    faults: Option<Arc<dyn Faults>>,
    database: RwLock<Option<Database>>,
    /// Records that did not decode, since start.
    damaged: AtomicU64,
}

impl File {
    /// Opens or creates it. A file left by a killed process opens at once: the allocator's state is saved with each commit.
    pub(super) fn open(path: &Path, page_cache_mb: usize, faults: Option<Arc<dyn Faults>>) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source: Arc::new(source) })?;
        }
        let path = path.to_path_buf();
        let file = Self { path, page_cache_mb, faults, database: RwLock::new(None), damaged: AtomicU64::new(0) };
        file.reopen()?;
        file.prepare()?;
        Ok(file)
    }

    /// Lets go of the file, whatever state the engine is in, and opens it in the state of the last commit on the disk. Waits for reads in
    /// progress.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The lock on the file is given back before it is asked for again.
        drop(database.take());
        let opened = disk::open(&self.path, self.page_cache_mb, self.faults.as_ref());
        *database = Some(opened.map_err(|error| opening(&self.path, error))?);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Checks the layout of an old file and creates the tables that are missing.
    fn prepare(&self) -> Result<(), StoreError> {
        let found = self.read("reading the layout", |transaction| match transaction.open_table(META) {
            Ok(meta) => Ok(meta.get("layout")?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        if let Some(found) = found.filter(|found| *found != LAYOUT) {
            return Err(StoreError::Version { path: self.path.clone(), found, expected: LAYOUT });
        }
        let missing = self.read("reading the tables", |transaction| {
            let present: Vec<String> =
                transaction.list_tables()?.map(|table| redb::TableHandle::name(&table).to_owned()).collect();
            Ok(Table::ALL.iter().any(|table| !present.iter().any(|name| name == table.name())))
        })?;
        // A file that is whole is opened without a write, so that it opens on a disk that is full.
        if found.is_some() && !missing {
            return Ok(());
        }
        self.write("creating the tables", |transaction| {
            if found.is_none() {
                let mut meta = transaction.open_table(META)?;
                meta.insert("layout", LAYOUT)?;
                meta.insert("next_sequence", 1)?;
            }
            transaction.open_table(LOG)?;
            transaction.open_table(ACTORS)?;
            transaction.open_table(IDS)?;
            for table in Table::ALL {
                transaction.open_table(documents(table))?;
            }
            Ok(())
        })
    }

    /// Runs `body` on the state of the last commit.
    pub(super) fn read<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| self.failed(operation, redb::Error::PreviousIo))?;
        let run = || body(&database.begin_read()?);
        run().map_err(|error| self.failed(operation, error))
    }

    /// Runs `body` in a transaction of its own: when it returns, what was written survives a kill and a power cut.
    pub(super) fn write<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen()?;
        }
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| self.failed(operation, redb::Error::PreviousIo))?;
        let run = || {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| self.failed(operation, error))
    }

    /// Counts and logs a record that does not decode; whoever met it goes on without it.
    pub(super) fn skip(&self, sequence: u64, error: &dyn std::fmt::Display) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::error!(path = %self.path.display(), sequence, %error, "a record does not decode and is left out; run `kindred fsck`");
    }

    pub(super) fn skipped(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    fn failed(&self, operation: &'static str, error: redb::Error) -> StoreError {
        let (path, full) = (self.path.clone(), is_full(&error));
        let source = Arc::new(error);
        if full {
            StoreError::Full { path, operation, source }
        } else {
            StoreError::Storage { path, operation, source }
        }
    }
}

/// What an error of opening means to an operator.
pub(super) fn opening(path: &Path, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path: path.to_path_buf() }
        }
        other => StoreError::Open { path: path.to_path_buf(), source: Arc::new(other) },
    }
}

/// Whether the disk, or the share of it that this process may use, is full.
fn is_full(error: &redb::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let kind = current.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if let Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) = kind {
            return true;
        }
        cause = current.source();
    }
    matches!(error, redb::Error::Io(io) if matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::super::{StoreError, Table};

pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("interactions");
pub(super) const ACTORS: TableDefinition<(&str, i64, u64), ()> = TableDefinition::new("actors");
pub(super) const IDS: TableDefinition<&str, u64> = TableDefinition::new("ids");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The version of the tables above.
const LAYOUT: u64 = 2;

/// The table of the documents of one kind.
pub(super) fn documents(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

/// An open file.
pub(super) struct File {
    path: PathBuf,
    database: Database,
}

impl File {
    /// Opens or creates it. A file left by a killed process opens at once: the allocator's state is saved with each commit.
    pub(super) fn open(path: &Path, page_cache_mb: usize) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|source| StoreError::Directory { path: directory.to_path_buf(), source: Arc::new(source) })?;
        }
        let database =
            Database::builder().set_cache_size(page_cache_mb << 20).create(path).map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
                    StoreError::InUse { path: path.to_path_buf() }
                }
                other => StoreError::Open { path: path.to_path_buf(), source: Arc::new(other) },
            })?;
        let file = Self { path: path.to_path_buf(), database };
        file.prepare()?;
        Ok(file)
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
        let run = || body(&self.database.begin_read()?);
        run().map_err(|error| self.failed(operation, error))
    }

    /// Runs `body` in a transaction of its own: when it returns, what was written survives a kill and a power cut.
    pub(super) fn write<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_quick_repair(true);
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| self.failed(operation, error))
    }

    pub(super) fn damaged(&self, sequence: u64, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), sequence, reason: error.to_string() }
    }

    fn failed(&self, operation: &'static str, error: redb::Error) -> StoreError {
        StoreError::Storage { path: self.path.clone(), operation, source: Arc::new(error) }
    }
}

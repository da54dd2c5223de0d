//! Copies: a consistent one of a store while it is written to, and one put in the place of a store.
//!
//! A copy is made under one read transaction, row by row, into a new file beside the target, which is synced and renamed when it is whole. So a
//! copy is either not there or complete, holds exactly what was committed when it began, and is as small as its content.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, Key, ReadTransaction, ReadableTableMetadata, TableDefinition, Value};

use super::super::{Copied, StoreError, Table};
use super::file::{ACTORS, File, IDS, LOG, META, documents, opening};

/// Rows between two commits of the copy; only the last one is synced.
const ROWS_PER_COMMIT: usize = 20_000;
/// MiB of page cache that a copy, a check or an export takes.
pub(super) const TOOL_CACHE_MB: usize = 64;

impl File {
    /// A copy in the directory `backups` beside the file, named by the sequence of the last interaction in it.
    pub(super) fn back_up(&self) -> Result<Copied, StoreError> {
        let directory = self.path().parent().unwrap_or(Path::new("")).join("backups");
        std::fs::create_dir_all(&directory)
            .map_err(|source| failed("create the directory of backups", &directory, source))?;
        let at = self.meta("next_sequence")?.saturating_sub(1);
        let stem = self.path().file_stem().map_or_else(|| "store".into(), |stem| stem.to_string_lossy().into_owned());
        let mut path = directory.join(format!("{stem}-{at:012}.redb"));
        // Documents may have changed since a backup of the same sequence.
        let mut again = 1;
        while path.exists() {
            path = directory.join(format!("{stem}-{at:012}-{again}.redb"));
            again += 1;
        }
        self.copy_to(&path)
    }

    fn copy_to(&self, to: &Path) -> Result<Copied, StoreError> {
        let partial = partial(to);
        let outcome = self.read("reading everything for a copy", |from| Ok(fill(from, &partial)));
        let (interactions, documents) = match outcome {
            Ok(Ok(counts)) => counts,
            Ok(Err(error)) => {
                let _ = std::fs::remove_file(&partial);
                return Err(failed("write the copy; make room for it, or choose another place:", to, error));
            }
            Err(error) => return Err(error),
        };
        publish(&partial, to)?;
        let bytes = std::fs::metadata(to).map_or(0, |metadata| metadata.len());
        Ok(Copied { path: to.to_path_buf(), bytes, interactions, documents })
    }
}

/// Copies a store that no process has open.
///
/// # Errors
/// [`StoreError`]: it is in use, not a store, or the copy cannot be written. A file that is there already is never replaced.
pub fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    refuse_existing(to)?;
    require(from)?;
    File::open(from, TOOL_CACHE_MB, None)?.copy_to(to)
}

/// Puts a copy in the place of a store, whole or not at all: the copy is checked, copied, and renamed into place. With `replace` a store that is
/// there is replaced, unless a process has it open.
///
/// # Errors
/// [`StoreError`]: the copy is damaged, the store is in use, or there is one and it may not be replaced.
pub fn restore(from: &Path, to: &Path, replace: bool) -> Result<Copied, StoreError> {
    let checked = super::check(from)?;
    if let Some(problem) = checked.problems.into_iter().next() {
        return Err(failed(
            "restore, because the copy is damaged (see `kindred fsck`):",
            from,
            std::io::Error::other(problem),
        ));
    }
    if !replace {
        refuse_existing(to)?;
    } else if to.exists() {
        // Opened and let go again: who has it open would go on writing to a file that has no name any more. One that is no store may go.
        if let Err(error @ StoreError::InUse { .. }) =
            Database::builder().open(to).map(drop).map_err(|error| opening(to, error))
        {
            return Err(error);
        }
    }
    File::open(from, TOOL_CACHE_MB, None)?.copy_to(to)
}

/// The rows of every table, into a new file; how many interactions and documents there were.
fn fill(from: &ReadTransaction, to: &Path) -> Result<(u64, u64), redb::Error> {
    let _ = std::fs::remove_file(to);
    let database = Database::builder().set_cache_size(TOOL_CACHE_MB << 20).create(to)?;
    let interactions = rows(from, &database, LOG)?;
    rows(from, &database, ACTORS)?;
    rows(from, &database, IDS)?;
    rows(from, &database, META)?;
    let mut total = 0;
    for table in Table::ALL {
        total += rows(from, &database, documents(table))?;
    }
    // A commit that is synced makes those before it durable too.
    let mut last = database.begin_write()?;
    last.set_quick_repair(true);
    last.commit()?;
    Ok((interactions, total))
}

fn rows<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &Database,
    table: TableDefinition<'static, K, V>,
) -> Result<u64, redb::Error> {
    let source = from.open_table(table)?;
    let mut left = source.range::<K::SelfType<'_>>(..)?;
    loop {
        let mut transaction = to.begin_write()?;
        transaction.set_durability(Durability::None).map_err(|_| redb::Error::PreviousIo)?;
        let mut copied = 0;
        {
            let mut target = transaction.open_table(table)?;
            for entry in left.by_ref().take(ROWS_PER_COMMIT) {
                let (key, value) = entry?;
                target.insert(key.value(), value.value())?;
                copied += 1;
            }
        }
        transaction.commit()?;
        if copied < ROWS_PER_COMMIT {
            return Ok(source.len()?);
        }
    }
}

pub(super) fn require(path: &Path) -> Result<(), StoreError> {
    std::fs::metadata(path).map(drop).map_err(|source| failed("open", path, source))
}

fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(failed("replace a file that is there; remove it, or name another place:", path, exists));
    }
    Ok(())
}

/// Gives a whole file its name, so that it is there after a power cut too.
fn publish(partial: &Path, to: &Path) -> Result<(), StoreError> {
    let rename = || {
        std::fs::File::open(partial)?.sync_all()?;
        std::fs::rename(partial, to)?;
        let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(directory)?.sync_all()
    };
    rename().map_err(|source| failed("give the copy its name", to, source))
}

fn partial(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn failed(operation: &'static str, path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Copy { operation, path: path.to_path_buf(), source: Arc::new(source) }
}

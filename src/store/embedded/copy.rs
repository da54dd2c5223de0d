//! Copies: a consistent one of a store while it is written to, and one put in the place of a store.
//!
//! A copy is made of one snapshot, key by key, into a new directory beside the target, which is synced and renamed when it is whole. So a
//! copy is either not there or complete, holds exactly what was committed when it began, and is as small as its content.

use std::io;
use std::path::Path;
use std::sync::TryLockError;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::{Keyspace, Readable};

use super::super::{Copied, StoreError};
use super::Checked;
use super::engine::{self, Engine, View};
use super::file::{File, is_full, opening};
use super::place::{self, beside, failed, require};

/// MiB of block cache that a copy, a check or an export takes.
pub(super) const TOOL_CACHE_MB: usize = 64;

impl File {
    /// A copy in the directory `backups` beside the store, named by the sequence of the last interaction in it.
    pub(super) fn back_up(&self) -> Result<Copied, StoreError> {
        // Two at once would have the same name, and write into the same directory.
        let _alone = match self.copying.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(panicked)) => panicked.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Copying { path: self.path().to_path_buf() }),
        };
        self.back_up_alone().map_err(for_want_of_room)
    }

    fn back_up_alone(&self) -> Result<Copied, StoreError> {
        let directory = self.path().parent().unwrap_or(Path::new("")).join("backups");
        std::fs::create_dir_all(&directory)
            .map_err(|source| failed("create the directory of backups", &directory, source))?;
        let at = self.last_sequence()?;
        let name = self.path().file_name().map_or_else(|| "store".into(), |name| name.to_string_lossy().into_owned());
        forget_partial(&directory, &name);
        let mut path = directory.join(format!("{name}-{at:012}"));
        // Documents may have changed since a backup of the same sequence.
        let mut again = 1;
        while path.exists() {
            path = directory.join(format!("{name}-{at:012}-{again}"));
            again += 1;
        }
        self.copy_to(&path)
    }

    fn copy_to(&self, to: &Path) -> Result<Copied, StoreError> {
        let partial = beside(to, "partial");
        let copied = self.copy_by(&partial, to);
        if copied.is_err() {
            let _ = std::fs::remove_dir_all(&partial);
        }
        copied
    }

    fn copy_by(&self, partial: &Path, to: &Path) -> Result<Copied, StoreError> {
        // Where the store is to be opened anew the error is the store's, not that of the place of the copy.
        let filled = self.read("reading everything for a copy", |from| match fill(from, partial, &self.reopening) {
            Err(error) if self.reopening.load(Ordering::Acquire) => Err(error),
            filled => Ok(filled),
        })?;
        let (interactions, documents) =
            filled.map_err(|error| failed("write the copy; make room for it, or choose another place:", to, error))?;
        place::publish(partial, to)?;
        Ok(Copied { path: to.to_path_buf(), bytes: place::bytes(to), interactions, documents })
    }
}

/// An error of a backup; where the disk is full, as for every other change.
pub(super) fn for_want_of_room(error: StoreError) -> StoreError {
    match error {
        StoreError::Copy { path, source, .. } if is_full(&*source) => {
            StoreError::Full { path, operation: "writing a backup", source }
        }
        other => other,
    }
}

/// Removes what killed backups of a store left: it takes room, and holds what was erased since.
fn forget_partial(backups: &Path, name: &str) {
    let is_left = |file: &str| {
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let number = rest.and_then(|rest| rest.strip_suffix(".partial"));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
    };
    for entry in std::fs::read_dir(backups).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_left) {
            // What cannot be removed is no reason not to make a backup.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies a store that no process has open.
///
/// # Errors
/// [`StoreError`]: it is in use, not a store, or the copy cannot be written. What is there already is never replaced.
pub fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    refuse_existing(to)?;
    require(from)?;
    File::existing(from, TOOL_CACHE_MB, None)?.copy_to(to)
}

/// Puts a copy in the place of a store, whole or not at all: the copy is checked, copied, and renamed into place. With `replace` a store that is
/// there is replaced, unless a process has it open. What the check found comes with it: a record that does not decode, or what points to one that
/// is gone, is in every backup of its store, and a restore of all else is better than none.
///
/// # Errors
/// [`StoreError`]: the copy cannot be read to its end, the store is in use, or there is one and it may not be replaced.
pub fn restore(from: &Path, to: &Path, replace: bool) -> Result<(Copied, Checked), StoreError> {
    let checked = super::check(from)?;
    if let Some(problem) = &checked.unreadable {
        let problem = io::Error::other(problem.clone());
        return Err(failed("restore, because the copy is damaged (see `kindred fsck`):", from, problem));
    }
    if !replace {
        refuse_existing(to)?;
    } else if place::is_store(to).unwrap_or(false) {
        // Opened and let go again: who has it open would go on writing to files that have no name any more. One that is damaged may go.
        if let Err(error @ StoreError::InUse { .. }) = Engine::open(to, 1).map(drop).map_err(|error| opening(to, error))
        {
            return Err(error);
        }
    }
    let copied = File::existing(from, TOOL_CACHE_MB, None)?.copy_to(to)?;
    Ok((copied, checked))
}

/// Everything, into a new database, unless it is to give way; how many interactions and documents there were.
fn fill(from: &View<'_>, to: &Path, gives_way: &AtomicBool) -> engine::Result<(u64, u64)> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let copy = Engine::open(to, TOOL_CACHE_MB)?;
    let counts: Vec<u64> = from
        .spaces
        .all()
        .into_iter()
        .zip(copy.spaces.all())
        .map(|(source, target)| entries(from, source, target, gives_way))
        .collect::<engine::Result<_>>()?;
    copy.sync()?;
    let [interactions, _, _, documents, _] = counts[..] else { return Ok((0, 0)) };
    Ok((interactions, documents))
}

/// They come in order, so that they are written as the segments that merging would make of them.
fn entries(from: &View<'_>, source: &Keyspace, target: &Keyspace, gives_way: &AtomicBool) -> engine::Result<u64> {
    let mut count = 0;
    let mut segments = target.start_ingestion()?;
    for entry in from.snapshot.iter(source) {
        if gives_way.load(Ordering::Relaxed) {
            return Err(io::Error::other("the store is opened anew, and its backup gave way; ask for it again").into());
        }
        let (key, value) = entry.into_inner()?;
        segments.write(key, value)?;
        count += 1;
    }
    segments.finish()?;
    Ok(count)
}

fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(failed("replace what is there; remove it, or name another place:", path, exists));
    }
    Ok(())
}

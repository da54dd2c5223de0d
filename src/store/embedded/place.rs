//! The directory of a store: whether there is one, making an empty one, and putting a whole one in its place.
//!
//! A directory gets its name when all in it is written and synced, so that under a name there is a whole store or none.

use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Cause, StoreError};
use super::engine::Engine;
use super::file::{LAYOUT, is_denied, opening};

/// What the engine writes last into a directory of its own.
const MARKER: &str = "version";
/// What the engine holds locked in a directory that a process has open.
const LOCK: &str = "lock";
/// How a file of the layouts before this one begins.
const FORMER: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// The last layout that was one file.
const FORMER_LAYOUT: u64 = 2;
/// What is not done, with the remedy.
const BEING_WRITTEN: &str =
    "write where another process is just writing a copy (a restore, say); wait until that is done, or stop it:";
/// The same, where the name cannot be had.
const NAME_OF_A_DISK: &str = "give a store the name of a directory where a disk is mounted; name one in that:";

/// Whether there is a store; an error if there is something else in its place.
pub(super) fn is_store(path: &Path) -> Result<bool, StoreError> {
    let wrong = |source: io::Error| {
        let (path, may_not) = (path.to_path_buf(), is_denied(&source));
        let source: Cause = Arc::new(source);
        if may_not { StoreError::Denied { path, source } } else { StoreError::Open { path, source } }
    };
    let former = |path: PathBuf| StoreError::Version { path, found: FORMER_LAYOUT, expected: LAYOUT };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Where the setting was left alone, the file of a former version is beside the directory that is about to be made.
            let beside = path.with_extension("redb");
            return if begins_as_former(&beside) { Err(former(beside)) } else { restored_halfway(path) };
        }
        Err(error) => return Err(wrong(error)),
    };
    if !metadata.is_dir() {
        let expected = "a store is a directory, this is a file";
        return Err(if begins_as_former(path) {
            former(path.to_path_buf())
        } else {
            wrong(io::Error::new(io::ErrorKind::NotADirectory, expected))
        });
    }
    if path.join(MARKER).try_exists().map_err(wrong)? {
        return Ok(true);
    }
    if std::fs::read_dir(path).map_err(wrong)?.next().is_some() {
        return Err(wrong(io::Error::other("the directory holds something that is no store")));
    }
    // Somebody may have made the directory that was missing.
    restored_halfway(path)
}

pub(super) fn require(path: &Path) -> Result<(), StoreError> {
    if is_store(path)? {
        return Ok(());
    }
    Err(failed("open", path, io::Error::new(io::ErrorKind::NotFound, "there is no store")))
}

/// Makes an empty store.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let partial = beside(path, "partial");
    require_unwritten(&partial)?;
    let _ = std::fs::remove_dir_all(&partial);
    // There is no store yet, so it is none that may not be opened.
    let unmade = |source: io::Error| StoreError::Directory { path: partial.clone(), source: Arc::new(source) };
    make_private(&partial).map_err(unmade)?;
    let make = || {
        let engine = Engine::open(&partial, 1)?;
        let mut transaction = engine.begin();
        transaction.set_number("layout", LAYOUT);
        transaction.set_number("next_sequence", 1);
        transaction.commit(true)
    };
    let made = make().map_err(|error| opening(&partial, error)).and_then(|()| publish(&partial, path));
    // What another process began at the same moment is its own.
    if made.is_err() && !is_open(&partial) {
        let _ = std::fs::remove_dir_all(&partial);
    }
    made
}

/// Makes the directory of a store. What people did will be in it, so only its owner may look into it.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a process has the store in a directory open.
pub(super) fn is_open(path: &Path) -> bool {
    let lock = std::fs::File::open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Refuses to write where another process is writing: what both write would be mixed, or be gone before it has its name.
pub(super) fn require_unwritten(partial: &Path) -> Result<(), StoreError> {
    if is_open(partial) {
        return Err(failed(BEING_WRITTEN, partial, io::Error::from(io::ErrorKind::ResourceBusy)));
    }
    Ok(())
}

/// Refuses a store that a process has open: with another in its place it would go on writing to files that have no name any more. One that is damaged
/// may go.
pub(super) fn require_idle(path: &Path) -> Result<(), StoreError> {
    match Engine::open(path, 1).map(drop).map_err(|error| opening(path, error)) {
        Err(error @ (StoreError::InUse { .. } | StoreError::Denied { .. })) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a whole directory its name, in the place of a store that is there, so that it is there after a power cut too.
pub(super) fn publish(partial: &Path, to: &Path) -> Result<(), StoreError> {
    let replaced = beside(to, "replaced");
    let unnamed = |source: io::Error| {
        let is_mounted = matches!(source.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices);
        failed(if is_mounted { NAME_OF_A_DISK } else { "give the copy its name" }, to, source)
    };
    // The engine that wrote it has let go of it, and until it has its name nobody is to take it for something left.
    let held = std::fs::File::open(partial.join(LOCK)).ok().filter(|lock| lock.try_lock().is_ok());
    sync(partial).map_err(unnamed)?;
    let replaces = to.join(MARKER).exists();
    if replaces {
        // Also now: a server may have been started while the copy was made.
        require_idle(to)?;
    }
    let rename = || -> io::Result<()> {
        if replaces {
            let _ = std::fs::remove_dir_all(&replaced);
            std::fs::rename(to, &replaced)?;
        } else if to.is_file() {
            std::fs::remove_file(to)?;
        }
        std::fs::rename(partial, to)?;
        sync_name(to)
    };
    let renamed = rename();
    drop(held);
    if renamed.is_ok() && replaces {
        let _ = std::fs::remove_dir_all(&replaced);
    }
    renamed.map_err(unnamed)
}

/// A power cut between the two renames of [`publish`] left no store under the name: the former one gets it back.
fn restored_halfway(path: &Path) -> Result<bool, StoreError> {
    let Some(replaced) = put_aside(path) else { return Ok(false) };
    std::fs::rename(&replaced, path)
        .map_err(|source| failed("finish a restore that was cut off, by renaming back", &replaced, source))?;
    tracing::warn!(path = %path.display(), "a restore was cut off: what it was to replace is back; restore again");
    Ok(true)
}

/// The store that a restore put aside for another one of this name, if it is still there.
pub(super) fn put_aside(path: &Path) -> Option<PathBuf> {
    Some(beside(path, "replaced")).filter(|replaced| replaced.join(MARKER).exists())
}

/// Removes what a restore has left: what [`publish`] replaced and was kept from removing, which else would come back where the store is moved away
/// one day, and a copy that was cut off. Both take room, and hold what is erased from now on.
pub(super) fn forget_left(path: &Path) {
    for left in ["replaced", "partial"].map(|suffix| beside(path, suffix)) {
        // A copy that is being written is nothing left.
        if !left.exists() || is_open(&left) {
            continue;
        }
        // Not before the store in its place has its name for good.
        let removed = sync_name(path).and_then(|()| std::fs::remove_dir_all(&left));
        let path = left.display();
        match removed {
            Ok(()) => tracing::info!(%path, "what a restore had left was removed"),
            Err(error) => tracing::warn!(%path, %error, "what a restore has left is still there; remove it by hand"),
        }
    }
}

/// Makes the name of a file or directory survive a power cut.
fn sync_name(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

/// The path with a suffix on its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    // `kindred/` and `kindred` are the same directory, but only the second can take a suffix.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Bytes that a directory takes of the disk; a journal is as long as it may become, and takes what is in it.
pub(super) fn bytes(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    std::fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| bytes(&entry.path())).sum())
}

fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    std::fs::File::open(path)?.sync_all()
}

fn begins_as_former(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FORMER.len() as u64).read_to_end(&mut begin));
    read.is_ok() && begin == FORMER
}

pub(super) fn failed(
    operation: &'static str,
    path: &Path,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Copy { operation, path: path.to_path_buf(), source: Arc::new(source) }
}

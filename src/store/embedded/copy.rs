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
use super::engine::{Engine, View};
use super::file::{File, is_full};
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
        place::require_unwritten(&partial)?;
        let copied = self.copy_by(&partial, to);
        // What another process began at the same moment is its own.
        if copied.is_err() && !place::is_open(&partial) {
            let _ = std::fs::remove_dir_all(&partial);
        }
        copied
    }

    fn copy_by(&self, partial: &Path, to: &Path) -> Result<Copied, StoreError> {
        let filled = self.read("reading everything for a copy", |from| match fill(from, partial, &self.reopening) {
            Ok(counts) => Ok(Ok(counts)),
            Err(Failed::Reading(error)) => Err(error),
            // Where the store is to be opened anew the error is the store's, not that of the place of the copy.
            Err(Failed::Writing(error)) if self.reopening.load(Ordering::Acquire) => Err(error),
            Err(Failed::Writing(error)) => Ok(Err(error)),
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
        if entry.file_name().to_str().is_some_and(is_left) && !place::is_open(&entry.path()) {
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
    } else {
        match place::is_store(to) {
            Ok(true) => place::require_idle(to)?,
            // Of a directory the copy could not get the name, and a file would be lost.
            Err(StoreError::Open { source, .. }) => {
                return Err(StoreError::Copy { operation: REPLACE, path: to.to_path_buf(), source });
            }
            Err(error @ StoreError::Denied { .. }) => return Err(error),
            _ => {}
        }
    }
    let copied = File::existing(from, TOOL_CACHE_MB, None)?.copy_to(to)?;
    Ok((copied, checked))
}

/// Why a copy was not made.
enum Failed {
    /// What is to be copied cannot be read.
    Reading(fjall::Error),
    /// The copy cannot be written.
    Writing(fjall::Error),
}

impl From<fjall::Error> for Failed {
    fn from(error: fjall::Error) -> Self {
        Self::Writing(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Writing(error.into())
    }
}

/// Everything, into a new database, unless it is to give way; how many interactions and documents there were.
fn fill(from: &View<'_>, to: &Path, gives_way: &AtomicBool) -> Result<(u64, u64), Failed> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    place::make_private(to)?;
    let copy = Engine::open(to, TOOL_CACHE_MB)?;
    let counts: Vec<u64> = from
        .spaces
        .all()
        .into_iter()
        .zip(copy.spaces.all())
        .map(|(source, target)| entries(from, source, target, gives_way))
        .collect::<Result<_, Failed>>()?;
    copy.sync()?;
    let [interactions, _, _, documents, _] = counts[..] else { return Ok((0, 0)) };
    Ok((interactions, documents))
}

/// They come in order, so that they are written as the segments that merging would make of them.
fn entries(from: &View<'_>, source: &Keyspace, target: &Keyspace, gives_way: &AtomicBool) -> Result<u64, Failed> {
    let mut count = 0;
    let mut segments = target.start_ingestion()?;
    for entry in from.snapshot.iter(source) {
        if gives_way.load(Ordering::Relaxed) {
            let gave_way = io::Error::other("the store is opened anew, and its backup gave way; ask for it again");
            return Err(Failed::Reading(gave_way.into()));
        }
        let (key, value) = entry.into_inner().map_err(Failed::Reading)?;
        segments.write(key, value)?;
        count += 1;
    }
    segments.finish()?;
    Ok(count)
}

/// What is not done, with the remedy.
const REPLACE: &str = "replace what is there; remove it, or name another place:";

/// The same, where the name is free only because a restore was cut off.
const REPLACE_ASIDE: &str = "take a name whose store a restore that was cut off has put aside (a server that is started takes it back, \
                             `kindred restore --force` replaces it):";

fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    let there = io::Error::from(io::ErrorKind::AlreadyExists);
    if path.exists() {
        return Err(failed(REPLACE, path, there));
    }
    match place::put_aside(path) {
        Some(aside) => Err(failed(REPLACE_ASIDE, &aside, there)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Change;
    use super::super::tests::{damage, incoming};
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_blamed_on_the_place_of_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let file = File::open(&place("h"), 4, None).unwrap();
        file.commit(&[Change::Append(vec![incoming("a", "damaged-item", 1, None)])], 1_000).unwrap();
        // A copy lies in segments, and nothing of it in memory.
        file.copy_to(&place("copy")).unwrap();
        let copy = File::existing(&place("copy"), 4, None).unwrap();
        damage(&place("copy"), b"damaged-item");
        let unread = copy.copy_to(&place("second")).unwrap_err();
        assert!(matches!(unread, StoreError::Storage { .. }), "{unread}");
        std::fs::write(place("taken"), "").unwrap();
        let unwritten = file.copy_to(&place("taken/copy")).unwrap_err();
        assert!(matches!(unwritten, StoreError::Copy { .. }), "{unwritten}");
    }

    #[test]
    fn a_directory_of_something_else_is_refused_before_anything_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let [store, photos] = ["h", "photos"].map(|name| directory.path().join(name));
        drop(File::open(&store, 4, None).unwrap());
        std::fs::create_dir(&photos).unwrap();
        std::fs::write(photos.join("holiday.jpg"), "").unwrap();
        let error = restore(&store, &photos, true).unwrap_err();
        assert!(error.to_string().contains("remove it") && error.to_string().contains("no store"), "{error}");
        assert_eq!(std::fs::read_dir(&photos).unwrap().count(), 1);
        std::fs::remove_file(photos.join("holiday.jpg")).unwrap();
        restore(&store, &photos, true).unwrap();
    }

    #[test]
    fn what_a_restore_that_was_cut_off_has_put_aside_is_removed_only_where_it_may_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [store, aside, other] = ["h", "h.replaced", "other"].map(|name| directory.path().join(name));
        let file = File::open(&store, 4, None).unwrap();
        file.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], 1_000).unwrap();
        drop(file);
        drop(File::open(&other, 4, None).unwrap());
        std::fs::rename(&store, &aside).unwrap();
        for error in [restore(&other, &store, false).unwrap_err(), copy(&other, &store).unwrap_err()] {
            assert!(error.to_string().contains("--force") && error.to_string().contains("h.replaced"), "{error}");
        }
        assert_eq!(super::super::check(&aside).unwrap().interactions, 1, "it is as it was");
        restore(&other, &store, true).unwrap();
        assert_eq!(super::super::check(&store).unwrap().interactions, 0);
        assert!(!aside.exists());
    }

    #[test]
    fn a_copy_that_is_being_written_is_left_to_who_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let [store, new] = ["h", "new"].map(|name| directory.path().join(name));
        drop(File::open(&store, 4, None).unwrap());
        // As if another process restored to both names.
        let partial = [&store, &new].map(|path| beside(path, "partial"));
        let _written = partial.each_ref().map(|partial| Engine::open(partial, 4).unwrap());
        let restored = restore(&store, &new, false).unwrap_err();
        let made = File::open(&new, 4, None).map(drop).unwrap_err();
        for error in [restored, made] {
            assert!(error.to_string().contains("wait until that is done"), "{error}");
        }
        drop(File::open(&store, 4, None).unwrap());
        assert!(partial.iter().all(|partial| partial.exists()));
    }

    #[test]
    fn a_file_of_something_else_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let [store, letter] = ["h", "letter.txt"].map(|name| directory.path().join(name));
        drop(File::open(&store, 4, None).unwrap());
        std::fs::write(&letter, "dear").unwrap();
        let error = restore(&store, &letter, true).unwrap_err();
        assert!(error.to_string().contains("remove it"), "{error}");
        assert_eq!(std::fs::read(&letter).unwrap(), b"dear");
    }

    #[test]
    fn a_store_that_a_server_has_opened_while_the_copy_was_made_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [store, copied, partial] = ["h", "copy", "h.partial"].map(|name| directory.path().join(name));
        let served = File::open(&store, 4, None).unwrap();
        drop(File::open(&copied, 4, None).unwrap());
        std::fs::rename(&copied, &partial).unwrap();
        let error = place::publish(&partial, &store).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        served.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], 1_000).unwrap();
        drop(served);
        assert_eq!(super::super::check(&store).unwrap().interactions, 1);
        place::publish(&partial, &store).unwrap();
        assert_eq!(super::super::check(&store).unwrap().interactions, 0);
    }

    #[test]
    fn only_its_owner_may_look_into_a_store_and_its_copies() {
        let directory = tempfile::tempdir().unwrap();
        let [store, copied, restored] = ["new/h", "new/copy", "h"].map(|name| directory.path().join(name));
        let file = File::open(&store, 4, None).unwrap();
        let backup = file.back_up().unwrap().path;
        drop(file);
        copy(&store, &copied).unwrap();
        restore(&copied, &restored, false).unwrap();
        for path in [store, backup, copied, restored] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn a_path_may_end_in_a_slash() {
        let directory = tempfile::tempdir().unwrap();
        let [store, restored] = ["h/", "restored/"].map(|name| directory.path().join(name));
        drop(File::open(&store, 4, None).unwrap());
        restore(&store, &restored, false).unwrap();
        restore(&store, &restored, true).unwrap();
        let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["h", "restored"]);
    }
}

//! A directory that is written whole or not at all: into `<dir>.partial` first, renamed when all of it is on disk.
//!
//! Models and datasets are such directories. Each has one file that marks it as what it is, and `--force` replaces only a
//! directory with that file in it, never anybody's thesis. What a link leads to is replaced, and not the link.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// What a directory or file is called while it is written, and the one before it while it is replaced: names that nobody gives to what they keep.
pub(crate) const PARTIAL: &str = ".partial";
const OLD: &str = ".replaced";

/// What a directory is, for those who write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What messages call it: `model`.
    pub name: &'static str,
    /// The file that marks it: `model.json`.
    pub mark: &'static str,
}

/// A directory that is read, file by file, while another process may put another in its place.
#[derive(Clone, Debug)]
pub struct Opened {
    path: PathBuf,
    /// Held, so that no other gets its number; none where it cannot be opened.
    held: Option<Arc<File>>,
}

/// Why a directory may not be read, or may not be or could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WholeDirError {
    /// There is something already.
    #[error("{path} exists: give another --output, or --force to replace it")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is something already, and it is of another kind.
    #[error(
        "{path} exists and is not a {name} (it has no {mark}): --force replaces a {name} only; remove it by hand",
        name = kind.name, mark = kind.mark
    )]
    Another {
        /// The directory.
        path: PathBuf,
        /// What was to be written there.
        kind: Kind,
    },
    /// Another process is writing it.
    #[error("{path} is being written by another process: wait for it, or name another place")]
    Busy {
        /// The directory or file.
        path: PathBuf,
    },
    /// Another process has put another in its place while it was read.
    #[error("{path} was replaced while it was read: run this again")]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// A name such as `.`, which nothing else can take.
    #[error("{path} is no name that a finished {name} can be given: give the directory's own name", name = kind.name)]
    Unnamed {
        /// The directory.
        path: PathBuf,
        /// What was to be written there.
        kind: Kind,
    },
    /// Something would go with what is replaced.
    #[error("{file} lies in {path}, and would be removed with what is replaced: move it, or give another --output")]
    Within {
        /// What would go.
        file: PathBuf,
        /// The directory.
        path: PathBuf,
    },
    /// The place could not be looked at.
    #[error("{path}: cannot be read")]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("{path}: cannot be written")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Opened {
    /// The directory that has this name now, if one has.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), held: File::open(path).ok().map(Arc::new) }
    }

    /// Reads something of it. Of two directories the files would mostly fit each other, and say something else together.
    ///
    /// # Errors
    /// Another has its name by now; else whatever `read` says.
    pub fn read<T, E: From<WholeDirError>>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let read = read();
        let number = |found: fs::Metadata| (found.dev(), found.ino());
        let held = self.held.as_ref().and_then(|held| held.metadata().ok()).map(number);
        if held.is_some() && held != fs::metadata(&self.path).ok().map(number) {
            return Err(WholeDirError::Replaced { path: self.path.clone() }.into());
        }
        read
    }
}

/// Whether a directory of this kind may be written to `dir`: asked before the work that makes its content.
///
/// # Errors
/// Something is there and `force` is not given, or is there and is of another kind, or nothing can be written there.
pub fn writable(dir: &Path, kind: Kind, force: bool) -> Result<(), WholeDirError> {
    let dir = &followed(dir);
    recover(dir, kind)?;
    let path = dir.to_owned();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(WholeDirError::Another { path, kind });
        }
        Err(source) => return Err(WholeDirError::Read { path, source }),
        Ok(mut entries) => match entries.next() {
            None => {}
            Some(_) if !dir.join(kind.mark).is_file() => return Err(WholeDirError::Another { path, kind }),
            Some(_) if !force => return Err(WholeDirError::Exists { path }),
            Some(_) => {}
        },
    }
    if dir.file_name().is_none() {
        return Err(WholeDirError::Unnamed { path, kind });
    }
    can_be_made(parent(dir))
}

/// Whether none of these lies in the directory, be they there yet or not: all that is in it is removed when it is replaced.
///
/// # Errors
/// One does.
pub fn is_apart<'a>(dir: &Path, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), WholeDirError> {
    let place = real(dir);
    match files.into_iter().find(|file| real(file).starts_with(&place)) {
        Some(file) => Err(WholeDirError::Within { file: file.clone(), path: dir.to_owned() }),
        None => Ok(()),
    }
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = first_there(&path);
    let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
    fs::canonicalize(there).unwrap_or_else(|_| there.to_owned()).join(rest)
}

/// Whether a directory can be made and written into, or is there and can be written into. Makes nothing.
///
/// # Errors
/// It cannot.
pub fn can_be_made(dir: &Path) -> Result<(), WholeDirError> {
    let place = first_there(dir);
    // A file without a name.
    tempfile::tempfile_in(place).map(drop).map_err(cannot_write(place))
}

/// A directory, or where the first that is missing above it will be: on the same disk.
pub(crate) fn first_there(dir: &Path) -> &Path {
    dir.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."))
}

/// Gives a directory of this kind its name back, where a kill has left it without one: in the middle of being replaced.
///
/// # Errors
/// It cannot be renamed, or another process is just replacing it.
pub fn recover(dir: &Path, kind: Kind) -> Result<(), WholeDirError> {
    let dir = &followed(dir);
    let old = beside(dir, OLD);
    if dir.exists() || !old.join(kind.mark).is_file() {
        return Ok(());
    }
    drop(alone(&beside(dir, PARTIAL), dir)?);
    fs::rename(&old, dir).map_err(cannot_write(dir))?;
    sync_directory(parent(dir))
}

/// Writes a directory: `fill` is given an empty one to write its files into, which then takes the place of `dir`.
///
/// # Errors
/// As [`writable`], or another process is writing it, and whatever `fill` says; then nothing is left of what it wrote.
pub fn write<E: From<WholeDirError>>(
    dir: &Path,
    kind: Kind,
    force: bool,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let dir = &followed(dir);
    writable(dir, kind, force)?;
    let partial = beside(dir, PARTIAL);
    // What a kill has left is nobody's; what somebody writes just now is theirs.
    drop(alone(&partial, dir)?);
    remove_one(&partial)?;
    fs::create_dir_all(&partial).map_err(cannot_write(&partial))?;
    let _until_published = alone(&partial, dir)?;
    if let Err(error) = fill(&partial) {
        // Mostly the disk is full, and would stay so.
        let _ = remove_one(&partial);
        return Err(error);
    }
    Ok(publish(&partial, dir)?)
}

/// Holds what is being written of `path` for this process, until it is dropped; none where there is nothing yet, or the disk knows no locks.
pub(crate) fn alone(partial: &Path, path: &Path) -> Result<Option<File>, WholeDirError> {
    let Ok(opened) = File::open(partial) else { return Ok(None) };
    match opened.try_lock() {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::WouldBlock) => Err(WholeDirError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes a directory and what writing it has left beside it, as far as they are there.
///
/// # Errors
/// One of them cannot be removed.
pub fn remove(dir: &Path) -> Result<(), WholeDirError> {
    let dir = &followed(dir);
    [PARTIAL, OLD].iter().try_for_each(|suffix| remove_one(&beside(dir, suffix)))?;
    discard(dir, &beside(dir, PARTIAL))
}

/// Writes one file and waits until it is on disk.
///
/// # Errors
/// It cannot be written.
pub fn write_file(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), WholeDirError> {
    let mut writer = BufWriter::new(File::create(path).map_err(cannot_write(path))?);
    content(&mut writer).map_err(cannot_write(path))?;
    let file = writer.into_inner().map_err(|error| cannot_write(path)(error.into_error()))?;
    file.sync_all().map_err(cannot_write(path))
}

fn publish(partial: &Path, dir: &Path) -> Result<(), WholeDirError> {
    // The names in it too must be on disk before it takes the place of another.
    sync_directory(partial)?;
    if dir.exists() {
        // The old one is moved aside first, so that a crash at any point leaves one whole directory under some name.
        let old = beside(dir, OLD);
        remove_one(&old)?;
        fs::rename(dir, &old).map_err(cannot_write(dir))?;
        fs::rename(partial, dir).map_err(cannot_write(dir))?;
        discard(&old, partial)?;
    } else {
        fs::rename(partial, dir).map_err(cannot_write(dir))?;
    }
    sync_directory(parent(dir))
}

/// Removes one that is whole: under the name of an unfinished one, so that a kill leaves nothing that has lost a part and is taken for whole.
fn discard(whole: &Path, partial: &Path) -> Result<(), WholeDirError> {
    match fs::rename(whole, partial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(cannot_write(whole)(source)),
        Ok(()) => remove_one(partial),
    }
}

/// The directory that something is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(dir: &Path) -> Result<(), WholeDirError> {
    File::open(dir).and_then(|opened| opened.sync_all()).map_err(cannot_write(dir))
}

fn remove_one(dir: &Path) -> Result<(), WholeDirError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_write(dir)(error)),
        _ => Ok(()),
    }
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> WholeDirError {
    move |source| WholeDirError::Write { path: path.to_owned(), source }
}

/// Where a directory is or will be: what a link leads to.
fn followed(dir: &Path) -> PathBuf {
    // `model/` is what the link `model` leads to, and only the second is seen to be a link.
    let dir = dir.components().as_path();
    let Ok(to) = fs::read_link(dir) else { return dir.to_owned() };
    // One that leads to nothing yet.
    fs::canonicalize(dir).unwrap_or_else(|_| parent(dir).join(to))
}

/// The path with a suffix on its last component.
pub(crate) fn beside(dir: &Path, suffix: &str) -> PathBuf {
    // `model/` and `model` are the same directory, but only the second can take a suffix.
    let mut name = dir.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const THING: Kind = Kind { name: "thing", mark: "thing.json" };

    fn put(dir: &Path, text: &str, force: bool) -> Result<(), WholeDirError> {
        write(dir, THING, force, |dir| write_file(&dir.join(THING.mark), |w| w.write_all(text.as_bytes())))
    }

    #[test]
    fn only_its_own_kind_is_replaced_and_only_by_force() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("deep/thing/");
        put(&dir, "1", false).unwrap();
        assert!(matches!(put(&dir, "2", false), Err(WholeDirError::Exists { .. })));
        put(&dir, "2", true).unwrap();
        assert_eq!(fs::read_to_string(dir.join(THING.mark)).unwrap(), "2");
        assert_eq!(fs::read_dir(place.path().join("deep")).unwrap().count(), 1, "something was left behind");
        let other = place.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("thesis.tex"), "two years of work").unwrap();
        let error = put(&other, "3", true).unwrap_err().to_string();
        assert!(error.contains("not a thing (it has no thing.json)"), "{error}");
    }

    #[test]
    fn where_nothing_can_be_written_is_told_before_the_work() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("thing");
        put(&dir, "1", false).unwrap();
        fs::create_dir(dir.join("inside")).unwrap();
        let unnamed = writable(&dir.join("inside/.."), THING, true).unwrap_err();
        assert!(matches!(unnamed, WholeDirError::Unnamed { .. }), "{unnamed}");
        let in_a_file = dir.join(THING.mark).join("deep/thing");
        for nowhere in [Path::new("/proc/no/thing"), in_a_file.as_path()] {
            let error = can_be_made(nowhere).unwrap_err();
            assert!(matches!(error, WholeDirError::Write { .. }), "{error}");
        }
        can_be_made(&place.path().join("deep/thing")).unwrap();
        let nowhere = writable(Path::new("/proc/no/thing"), THING, false).unwrap_err();
        assert!(matches!(nowhere, WholeDirError::Write { .. }), "{nowhere}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn a_kill_between_two_names_costs_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("thing");
        put(&dir, "1", false).unwrap();
        fs::rename(&dir, beside(&dir, OLD)).unwrap();
        fs::create_dir(beside(&dir, PARTIAL)).unwrap();
        assert!(matches!(writable(&dir, THING, false), Err(WholeDirError::Exists { .. })));
        assert_eq!(fs::read_to_string(dir.join(THING.mark)).unwrap(), "1");
        put(&dir, "2", true).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
        remove(&dir).unwrap();
        remove(&dir).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_somebody_else_has_put_aside_stays() {
        let place = tempfile::tempdir().unwrap();
        let (dir, aside) = (place.path().join("thing"), place.path().join("thing.old"));
        put(&dir, "1", false).unwrap();
        fs::rename(&dir, &aside).unwrap();
        put(&dir, "2", false).unwrap();
        put(&dir, "3", true).unwrap();
        assert_eq!(fs::read_to_string(aside.join(THING.mark)).unwrap(), "1");
    }

    #[test]
    fn what_failed_leaves_the_old_one_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("thing");
        put(&dir, "1", false).unwrap();
        let failed = write(&dir, THING, true, |dir| {
            write_file(&dir.join(THING.mark), |_| Err(io::Error::from(io::ErrorKind::StorageFull)))
        });
        assert!(matches!(failed, Err(WholeDirError::Write { .. })));
        assert_eq!(fs::read_to_string(dir.join(THING.mark)).unwrap(), "1");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "a full disk would stay full");
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_not_the_link() {
        let place = tempfile::tempdir().unwrap();
        let (disk, dir) = (place.path().join("disk/thing"), place.path().join("thing"));
        std::os::unix::fs::symlink("disk/thing", &dir).unwrap();
        for (text, named) in [("1", dir.clone()), ("2", dir.join("")), ("3", dir.clone())] {
            put(&named, text, true).unwrap();
            assert_eq!(fs::read_to_string(disk.join(THING.mark)).unwrap(), text);
            assert!(dir.is_symlink());
        }
        fs::rename(&disk, beside(&disk, OLD)).unwrap();
        recover(&dir, THING).unwrap();
        assert_eq!(fs::read_to_string(dir.join(THING.mark)).unwrap(), "3");
        remove(&dir).unwrap();
        assert_eq!(fs::read_dir(place.path().join("disk")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_replaced_while_it_is_read_is_told() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("thing");
        let text = || fs::read_to_string(dir.join(THING.mark)).map_err(cannot_write(&dir));
        let nowhere = Opened::new(&dir).read(text).unwrap_err();
        assert!(matches!(nowhere, WholeDirError::Write { .. }), "{nowhere}");
        put(&dir, "1", false).unwrap();
        let opened = Opened::new(&dir);
        assert_eq!(opened.read(text).unwrap(), "1");
        put(&dir, "2", true).unwrap();
        let replaced = opened.read(text).unwrap_err();
        assert!(matches!(replaced, WholeDirError::Replaced { .. }), "{replaced}");
        assert_eq!(Opened::new(&dir).read(text).unwrap(), "2");
        // In the middle of it nothing has the name.
        let opened = Opened::new(&dir);
        fs::rename(&dir, beside(&dir, OLD)).unwrap();
        let replaced = opened.read(text).unwrap_err();
        assert!(matches!(replaced, WholeDirError::Replaced { .. }), "{replaced}");
    }

    #[test]
    fn what_another_process_is_writing_is_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("thing");
        let begun = beside(&dir, PARTIAL).join("half");
        fs::create_dir_all(&begun).unwrap();
        let theirs = File::open(beside(&dir, PARTIAL)).unwrap();
        theirs.lock().unwrap();
        assert!(matches!(put(&dir, "1", true), Err(WholeDirError::Busy { .. })));
        assert!(begun.is_dir());
        drop(theirs);
        put(&dir, "1", true).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
        // In the middle of being replaced, by somebody who will go on.
        fs::rename(&dir, beside(&dir, OLD)).unwrap();
        fs::create_dir_all(&begun).unwrap();
        let theirs = File::open(beside(&dir, PARTIAL)).unwrap();
        theirs.lock().unwrap();
        assert!(matches!(recover(&dir, THING), Err(WholeDirError::Busy { .. })));
        assert!(!dir.exists(), "its place was taken");
        drop(theirs);
        recover(&dir, THING).unwrap();
        assert_eq!(fs::read_to_string(dir.join(THING.mark)).unwrap(), "1");
    }
}

//! Mapping a file. The one place of this crate that trusts the outside world, and the one module that names the map crate.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::error::MapError;

/// A file mapped read-only, with the file kept open and a shared lock held for as long.
///
/// Its bytes start at a page, so they are aligned for [`crate::Container::open`]. Pages are read when they are touched and belong
/// to the page cache: resident memory is what was touched, shared by all processes that map the file.
pub struct MappedFile {
    map: Mmap,
    path: PathBuf,
    /// Keeps the shared lock, which a writer that locks exclusively can see.
    _file: File,
}

/// How the pages of a map will be used. A hint to the operating system, never needed for correctness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advice {
    /// Nothing in particular.
    #[default]
    Normal,
    /// Here and there: do not read ahead. Right for a graph that is larger than memory.
    Random,
    /// All of it soon: start reading now, in the background. Right before a verification.
    WillNeed,
}

/// How to map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapOptions {
    /// Read the whole file before returning, where the system can. Otherwise pages are read when first touched.
    pub populate: bool,
    /// The first advice given.
    pub advice: Advice,
}

impl MappedFile {
    /// Maps a whole file with the default options. See [`MappedFile::map_with`].
    ///
    /// # Errors
    /// As [`MappedFile::map_with`].
    ///
    /// # Safety
    /// As [`MappedFile::map_with`].
    #[allow(unsafe_code)]
    pub unsafe fn map(path: &Path) -> Result<Self, MapError> {
        // SAFETY: the caller promises what `map_with` asks for.
        unsafe { Self::map_with(path, MapOptions::default()) }
    }

    /// Maps a whole file, read-only.
    ///
    /// Costs a few system calls, whatever the length, unless `populate` is set.
    ///
    /// # Errors
    /// A path that cannot be opened or mapped, is not a regular file, is empty, or is locked by a writer.
    ///
    /// # Safety
    /// While the map lives, nobody may change or shorten the file: no process may write to it, truncate it or map it for writing.
    /// Removing or renaming it, and renaming another file over it, are fine: the mapped file lives on without a name.
    ///
    /// If the file is changed, bytes that were borrowed as immutable change under the borrower, which is undefined behaviour.
    /// If it is shortened, touching what is gone ends the process with SIGBUS. The type system cannot rule either out, and the
    /// lock taken here is advisory: only writers that ask for it see it. So the caller must know how the file came to be, such
    /// as by [`crate::write_file_atomically`], which writes under another name and makes the file read-only before it has this one.
    #[allow(unsafe_code)]
    pub unsafe fn map_with(path: &Path, options: MapOptions) -> Result<Self, MapError> {
        let fail = |action| move |source| MapError::Io { path: path.to_owned(), action, source };
        let file = File::open(path).map_err(fail("opened"))?;
        let metadata = file.metadata().map_err(fail("looked at"))?;
        if !metadata.is_file() {
            return Err(MapError::NotAFile { path: path.to_owned() });
        }
        if metadata.len() == 0 {
            return Err(MapError::Empty { path: path.to_owned() });
        }
        lock_shared(&file, path)?;
        let mut how = MmapOptions::new();
        if options.populate {
            how.populate();
        }
        // SAFETY: the file is regular and not empty, and it stays open in the value returned; that nobody changes or shortens it
        // while that value lives is what the caller promises.
        let map = unsafe { how.map(&file) }.map_err(fail("mapped"))?;
        let mapped = Self { map, path: path.to_owned(), _file: file };
        // Advice is a hint; a system that does not take it serves the same bytes.
        let _ = mapped.advise(options.advice);
        Ok(mapped)
    }

    /// Tells the operating system how the pages will be used from now on.
    ///
    /// # Errors
    /// What the operating system returns; ignoring it costs speed at most.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        #[cfg(unix)]
        return self.map.advise(match advice {
            Advice::Normal => memmap2::Advice::Normal,
            Advice::Random => memmap2::Advice::Random,
            Advice::WillNeed => memmap2::Advice::WillNeed,
        });
        #[cfg(not(unix))]
        {
            let _ = advice;
            Ok(())
        }
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A shared lock, so that a writer that asks can see that the file is in use.
fn lock_shared(file: &File, path: &Path) -> Result<(), MapError> {
    match file.try_lock_shared() {
        // File systems without locks are no reason not to serve: the lock is an extra, the contract is on the caller.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(MapError::Locked { path: path.to_owned() }),
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile").field("path", &self.path).field("len", &self.map.len()).finish_non_exhaustive()
    }
}

/// Memory of one's own that starts at a page, in large pages where the system gives them: a walk goes everywhere, and with pages of 2 MiB
/// the processor needs not look up where each of them lies.
pub struct Pages {
    map: Option<MmapMut>,
}

impl Pages {
    /// So many zero bytes.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        let map = MmapMut::map_anon(len)?;
        // A hint; with small pages everything works, a little slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map: Some(map) })
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or_default()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("len", &self.as_ref().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::fs;

    use super::*;

    #[allow(unsafe_code)]
    fn map(path: &Path, options: MapOptions) -> Result<MappedFile, MapError> {
        // SAFETY: each test has a directory of its own, and none changes or shortens a file while it is mapped.
        unsafe { MappedFile::map_with(path, options) }
    }

    #[test]
    fn the_bytes_of_the_file_aligned_whatever_the_options() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, [7; 10_000]).unwrap();
        for populate in [false, true] {
            for advice in [Advice::Normal, Advice::Random, Advice::WillNeed] {
                let mapped = map(&path, MapOptions { populate, advice }).unwrap();
                assert_eq!(mapped.as_ref(), [7; 10_000]);
                assert_eq!(mapped.as_ref().as_ptr().addr() % crate::format::ALIGNMENT, 0);
                mapped.advise(Advice::Normal).unwrap();
            }
        }
    }

    #[test]
    fn the_map_outlives_the_name_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"before").unwrap();
        let mapped = map(&path, MapOptions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"after!").unwrap();
        assert_eq!(mapped.as_ref(), b"before");
    }

    #[test]
    fn what_is_not_a_file_with_bytes_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let fails = |path: &Path| map(path, MapOptions::default()).unwrap_err();
        assert!(matches!(fails(directory.path()), MapError::NotAFile { .. } | MapError::Io { .. }));
        let path = directory.path().join("file");
        assert!(matches!(fails(&path), MapError::Io { action: "opened", .. }));
        fs::write(&path, b"").unwrap();
        assert!(matches!(fails(&path), MapError::Empty { .. }));
    }

    #[test]
    fn a_file_that_a_writer_has_locked_is_refused_until_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"bytes").unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        writer.lock().unwrap();
        assert!(matches!(map(&path, MapOptions::default()), Err(MapError::Locked { .. })));
        drop(writer);
        let _first = map(&path, MapOptions::default()).unwrap();
        let _second = map(&path, MapOptions::default()).unwrap();
    }
}

//! Mapping a file. The one place of this crate that trusts the outside world, and the one module that names the map crate.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, io};

#[cfg(unix)]
use memmap2::Advice;
use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::error::MapError;

/// The bytes of a file, read-only, with the file kept open and a shared lock held for as long.
///
/// They start at a page, so they are aligned for [`crate::Container::open`]. Where they lie, [`Memory`] says.
pub struct MappedFile {
    bytes: Bytes,
    memory: Memory,
    is_locked: bool,
    path: PathBuf,
    /// Keeps the shared lock, which a writer that locks exclusively can see.
    _file: File,
}

enum Bytes {
    Map(Mmap),
    Own(Pages),
}

/// Where the bytes of a file lie while they are used. The answers are the same; what differs is when the disk is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Mapped; once searches begin each page is read when it is first touched, and nothing beside it. For an index that is larger than memory.
    Cold,
    /// Mapped, and read ahead in the background as soon as it is. Resident memory is what was touched, belongs to the page cache, and is shared by
    /// all processes that map the file.
    #[default]
    Cached,
    /// Copied into memory of one's own, in large pages where the system gives them, and locked there if it allows that: no search waits for the
    /// disk, whatever else the machine does. Costs that memory for each process, and the time to read the file.
    Pinned,
}

impl MappedFile {
    /// Maps a whole file, read-only, or reads it.
    ///
    /// Costs a few system calls, whatever the length, unless the memory is to be pinned.
    ///
    /// # Errors
    /// A path that cannot be opened, mapped or read, is not a regular file, is empty, or is locked by a writer.
    ///
    /// # Safety
    /// While the map lives, nobody may change or shorten the file: no process may write to it, truncate it or map it for writing.
    /// Removing or renaming it, and renaming another file over it, are fine: the mapped file lives on without a name.
    ///
    /// If the file is changed, bytes that were borrowed as immutable change under the borrower, which is undefined behaviour.
    /// If it is shortened, touching what is gone ends the process with SIGBUS. The type system cannot rule either out, and the
    /// lock taken here is advisory: only writers that ask for it see it. So the caller must know how the file came to be: written
    /// under another name, say, and made read-only before it got this one.
    #[allow(unsafe_code)]
    pub unsafe fn map(path: &Path, memory: Memory) -> Result<Self, MapError> {
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
        let (bytes, is_locked) = if memory == Memory::Pinned {
            let pages = read(&file, metadata.len()).map_err(fail("read"))?;
            let is_locked = pages.lock().is_ok();
            (Bytes::Own(pages), is_locked)
        } else {
            // SAFETY: the file is regular and not empty, and it stays open in the value returned; that nobody changes or shortens it
            // while that value lives is what the caller promises.
            let map = unsafe { MmapOptions::new().map(&file) }.map_err(fail("mapped"))?;
            // Advice is a hint; a system that does not take it serves the same bytes.
            #[cfg(unix)]
            if memory == Memory::Cached {
                let _ = map.advise(Advice::WillNeed);
            }
            (Bytes::Map(map), false)
        };
        Ok(Self { bytes, memory, is_locked, path: path.to_owned(), _file: file })
    }

    /// Says that whatever reads the file from start to end, a verification, is over: of a cold file only what is touched is read from now on.
    pub fn begin_searches(&self) {
        #[cfg(unix)]
        if let (Bytes::Map(map), Memory::Cold) = (&self.bytes, self.memory) {
            let _ = map.advise(Advice::Random);
        }
    }

    /// Whether the bytes are sure to stay in memory: [`Memory::Pinned`] was asked for, and the system allowed it.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A whole file, of this length, in pages of one's own.
fn read(mut file: &File, length: u64) -> io::Result<Pages> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut pages = Pages::zeroed(length)?;
    file.read_exact(pages.as_mut())?;
    Ok(pages)
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
        match &self.bytes {
            Bytes::Map(map) => map,
            Bytes::Own(pages) => pages.as_ref(),
        }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile")
            .field("path", &self.path)
            .field("len", &self.as_ref().len())
            .finish_non_exhaustive()
    }
}

/// Memory of one's own that starts at a page, in large pages where the system gives them: a walk goes everywhere, and with pages of 2 MiB
/// the processor needs not look up where each of them lies.
#[derive(Default)]
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
        let _ = map.advise(Advice::HugePage);
        Ok(Self { map: Some(map) })
    }

    /// Asks the system never to put them elsewhere than into memory.
    fn lock(&self) -> io::Result<()> {
        #[cfg(unix)]
        return self.map.as_ref().map_or(Ok(()), MmapMut::lock);
        #[cfg(not(unix))]
        Err(io::ErrorKind::Unsupported.into())
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
    fn map(path: &Path, memory: Memory) -> Result<MappedFile, MapError> {
        // SAFETY: each test has a directory of its own, and none changes or shortens a file while it is mapped.
        unsafe { MappedFile::map(path, memory) }
    }

    #[test]
    fn the_bytes_of_the_file_aligned_wherever_they_lie() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, [7; 10_000]).unwrap();
        for memory in [Memory::Cold, Memory::Cached, Memory::Pinned] {
            let mapped = map(&path, memory).unwrap();
            assert_eq!(mapped.as_ref(), [7; 10_000]);
            assert_eq!(mapped.as_ref().as_ptr().addr() % crate::format::ALIGNMENT, 0);
            assert!(!mapped.is_locked() || memory == Memory::Pinned);
            mapped.begin_searches();
            assert_eq!(mapped.as_ref(), [7; 10_000]);
        }
    }

    #[test]
    fn the_map_outlives_the_name_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"before").unwrap();
        let mapped = map(&path, Memory::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"after!").unwrap();
        assert_eq!(mapped.as_ref(), b"before");
    }

    #[test]
    fn what_is_not_a_file_with_bytes_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let fails = |path: &Path| map(path, Memory::default()).unwrap_err();
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
        assert!(matches!(map(&path, Memory::default()), Err(MapError::Locked { .. })));
        drop(writer);
        let _first = map(&path, Memory::default()).unwrap();
        let _second = map(&path, Memory::default()).unwrap();
    }
}

//! The seam under the file: a disk that waits, fails or fills up when it is told to, for tests of what is done about it.

use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// What is about to be asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOperation {
    /// So many bytes are read.
    Read(u64),
    /// So many bytes are written.
    Write(u64),
    /// The file gets this length.
    Length(u64),
    /// What was written is synced.
    Sync,
}

/// Asked before each operation; an error is the operation's. May wait, to be a slow disk.
pub trait Faults: Debug + Send + Sync + 'static {
    /// What becomes of the operation.
    ///
    /// # Errors
    /// The error that the disk answers with.
    fn before(&self, operation: DiskOperation) -> io::Result<()>;
}

/// Opens or creates a file, with faults if any are given.
pub(super) fn open(
    path: &Path,
    page_cache_mb: usize,
    faults: Option<&Arc<dyn Faults>>,
) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(page_cache_mb << 20);
    let Some(faults) = faults else { return builder.create(path) };
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    builder.create_with_backend(FaultyDisk { file: FileBackend::new(file)?, faults: Arc::clone(faults) })
}

#[derive(Debug)]
struct FaultyDisk {
    file: FileBackend,
    faults: Arc<dyn Faults>,
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.before(DiskOperation::Read(out.len() as u64))?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.before(DiskOperation::Length(len))?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.before(DiskOperation::Sync)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.before(DiskOperation::Write(data.len() as u64))?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

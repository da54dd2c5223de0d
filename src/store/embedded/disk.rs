//! The seam under the store: a disk that waits, fails or fills up when it is told to, for tests of what is done about it.
//!
//! The engine opens its files itself, so the seam lies where the store asks the engine for something that needs the disk. What the engine does
//! on its own threads (writing sorted segments, merging them) is tested on a real disk that is full.

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

/// What is about to be asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOperation {
    /// Something is read.
    Read,
    /// So many bytes are written.
    Write(u64),
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

/// The disk as far as the store sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(pub(super) Option<Arc<dyn Faults>>);

impl Disk {
    pub(super) fn before(&self, operation: DiskOperation) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |faults| faults.before(operation))
    }

    /// Whether the disk takes a little: the engine says that it gave up, not why, and opening it again is dear while nothing has changed.
    pub(super) fn try_out(&self, directory: &Path) -> io::Result<()> {
        /// As much as a few commits.
        const PROBE_BYTES: usize = 2 << 20;
        let path = directory.join("probe");
        let write = || {
            self.before(DiskOperation::Write(PROBE_BYTES as u64))?;
            let mut file = std::fs::File::create(&path)?;
            file.write_all(&vec![0; PROBE_BYTES])?;
            self.before(DiskOperation::Sync)?;
            file.sync_data()
        };
        let outcome = write();
        // One that was not made is not removed.
        let _ = std::fs::remove_file(&path);
        outcome
    }
}

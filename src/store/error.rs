//! What can go wrong with a store, with the remedy in each message.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the engine said, shared because one failed commit answers many callers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a store. Cheap to clone, because one failed commit answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory of the store cannot be made.
    #[error("cannot create directory {path} for the store: {source}; check permissions or set history.path")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// Another process has the store open.
    #[error(
        "store {path} is in use by another process; stop the other kindred-server or set history.path to another directory; `kindred backup --server` copies the store of a server that runs"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a store that this version can open.
    #[error("cannot open store {path}: {source}; restore it from a backup, or move it away to start with an empty one")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        source: Cause,
    },
    /// This process may not read or write the store. It is whole, and not to be moved away.
    #[error(
        "store {path} may not be opened by this process: {source}; run it as the owner of the store, or give all in it back to that user (chown -R) where a restore or a check as another one has left files of its own; a disk that is mounted read-only is to be mounted for writing"
    )]
    Denied {
        /// The directory.
        path: PathBuf,
        /// What the system or the engine said.
        source: Cause,
    },
    /// The file was written by a version with another layout.
    #[error(
        "store {path} has layout version {found}, this server reads {expected}; use the server version that wrote it, or move it away to start with an empty one"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version this server reads.
        expected: u64,
    },
    /// The disk is full.
    #[error(
        "store {path}: {operation} failed because the disk is full: {source}; make room on the disk or lower history.max_mb, the server goes on by itself"
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        source: Cause,
    },
    /// An operation on the open store failed.
    #[error(
        "store {path}: {operation} failed: {source}; check that the disk is healthy, a server that runs goes on by itself once it is; where a block is damaged, `kindred fsck` names it, and a backup is to be restored"
    )]
    Storage {
        /// The file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        source: Cause,
    },
    /// The engine takes nothing more: what it wrote or merged by itself failed.
    #[error(
        "store {path}: {operation} failed: the engine gave up writing or merging its files, and the lines of fjall in the log of the server say of what; it is opened anew by itself. If it gives up again and again, make room on the disk; where a block cannot be read, stop the server, let `kindred fsck` name it and put a backup in its place with `kindred restore`"
    )]
    GaveUp {
        /// The file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
    },
    /// A record does not decode.
    #[error(
        "store {path}: record {sequence} is damaged: {reason}; restore the store from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The record's place in the order of arrival.
        sequence: u64,
        /// Why it does not decode.
        reason: String,
    },
    /// A copy, or the place it is to have.
    #[error("cannot {operation} {path}: {source}")]
    Copy {
        /// What was being done, with the remedy.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system or the engine said.
        source: Cause,
    },
    /// A copy is being made.
    #[error(
        "a backup of {path} is being made; ask again when it is done, which takes minutes for millions of interactions"
    )]
    Copying {
        /// The store.
        path: PathBuf,
    },
    /// This store keeps nothing that could be copied.
    #[error("the store is in memory, there is nothing to back up; set history.store to \"embedded\"")]
    NotKept,
    /// Something to be written is larger than the store takes.
    #[error("{table}: the {what} is {found}, at most {limit} is taken; send less at once")]
    TooLarge {
        /// The table.
        table: &'static str,
        /// What is too large.
        what: &'static str,
        /// How large, in bytes or in number.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// More is waiting to be written than the queue holds.
    #[error(
        "{queued} changes are waiting to be stored, the queue holds {limit}; send again later, or raise history.queue"
    )]
    Busy {
        /// Interactions and document changes waiting.
        queued: u64,
        /// What the queue holds.
        limit: u64,
    },
    /// Too many look-ups are waiting for the disk.
    #[error("{limit} look-ups are already waiting for the store's disk; send again later")]
    ReadsBusy {
        /// How many may wait.
        limit: u64,
    },
    /// The answer did not come in time.
    #[error("the store did not answer within {waited_ms} ms; send again later")]
    TimedOut {
        /// How long was waited.
        waited_ms: u64,
    },
    /// The store has been closed, or its thread has ended.
    #[error("the store is closed; restart the server if it is not stopping")]
    Closed,
}

impl StoreError {
    /// The answer did not come within this time.
    #[must_use]
    pub fn timed_out(waited: Duration) -> Self {
        Self::TimedOut { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Whether sending again later may succeed without anyone mending anything.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::ReadsBusy { .. } | Self::Copying { .. } | Self::TimedOut { .. })
    }
}

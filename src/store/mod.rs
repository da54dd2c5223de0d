//! What must outlive a restart, in one place: the interaction log and named tables of documents.
//!
//! A document is bytes under a key in a [`Table`]; what the bytes mean belongs to whoever writes them (a [`crate::codec`] record or JSON, with
//! a version in front). [`Documents::write`] takes several changes over several tables, applies all or none, and answers when they are as
//! safe as the store makes them. Two stores: [`embedded`] (one directory, synced before it answers) and [`memory`] (lost at a restart). The
//! embedded one keeps the interactions of [`crate::history`] too, and commits them and documents together. A store knows no items, no people
//! and no HTTP.

use std::future::Future;
use std::pin::Pin;

pub mod embedded;
mod error;
pub mod memory;

pub use error::{Cause, StoreError};

use crate::limits;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The tables of documents. Adding one is adding a variant and its line in [`Table::name`]; a store of an older version has nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "name() says what each is called; its owner documents the records")]
pub enum Table {
    Items,
    People,
    Merges,
    Recommendations,
}

impl Table {
    /// What it is called in the file. Never changed once published.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Items => "documents/items",
            Self::People => "documents/people",
            Self::Merges => "documents/merges",
            Self::Recommendations => "documents/recommendations",
        }
    }
}

/// One change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The document under the key is this from now on.
    Put {
        /// Where.
        table: Table,
        /// Under which key, at most [`limits::DOCUMENT_KEY_BYTES_MAX`] bytes.
        key: String,
        /// At most [`limits::DOCUMENT_BYTES_MAX`] bytes.
        value: Vec<u8>,
    },
    /// There is no document under the key from now on.
    Delete {
        /// Where.
        table: Table,
        /// Under which key.
        key: String,
    },
}

impl Write {
    /// A [`Write::Put`].
    pub fn put(table: Table, key: impl Into<String>, value: Vec<u8>) -> Self {
        Self::Put { table, key: key.into(), value }
    }

    /// A [`Write::Delete`].
    pub fn delete(table: Table, key: impl Into<String>) -> Self {
        Self::Delete { table, key: key.into() }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }

    /// Checks the bounds of one change.
    fn check(&self) -> Result<(), StoreError> {
        let (table, key, bytes) = match self {
            Self::Put { table, key, value } => (table, key, value.len()),
            Self::Delete { table, key } => (table, key, 0),
        };
        let bound = |what, found: usize, limit: usize| {
            if found <= limit {
                return Ok(());
            }
            let table = table.name();
            Err(StoreError::TooLarge { table, what, found: found as u64, limit: limit as u64 })
        };
        bound("key", key.len(), limits::DOCUMENT_KEY_BYTES_MAX)?;
        bound("document", bytes, limits::DOCUMENT_BYTES_MAX)
    }
}

/// A copy of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The directory.
    pub path: std::path::PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Interactions in it.
    pub interactions: u64,
    /// Documents in it, of all tables.
    pub documents: u64,
}

/// A page of documents: keys with what is under them, in the order of the keys' bytes.
pub type Page = Vec<(String, Vec<u8>)>;

/// Named tables of documents.
///
/// Writes are applied in the order of the calls to [`Documents::write`] (and of the appends and erasures of a store that keeps interactions as
/// well), not in the order in which the futures are awaited. A write that was answered is in every later read.
pub trait Documents: Send + Sync + 'static {
    /// Applies all changes or none, in their order, and answers when they are as safe as the store makes them. The work is done whether or not
    /// the future is awaited to its end. At most [`limits::DOCUMENT_WRITES_MAX`] changes.
    ///
    /// # Errors (of the future)
    /// [`StoreError::TooLarge`], [`StoreError::Busy`], or the failure of the disk; then nothing of it was applied.
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The document under a key. May wait for the disk: for start, tools and threads of one's own, not for an event loop.
    ///
    /// # Errors
    /// The failure of the disk.
    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` documents whose keys come after `after`, or the first ones. May wait for the disk, like [`Documents::blocking_get`].
    ///
    /// # Errors
    /// The failure of the disk.
    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError>;

    /// [`Documents::blocking_get`] for an event loop. Needs a tokio runtime; dropping the future gives up waiting, not the read.
    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>>;

    /// [`Documents::blocking_scan`] for an event loop.
    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>>;
}

/// Checks the bounds of a set of changes before any of it is taken.
fn check(writes: &[Write]) -> Result<(), StoreError> {
    if writes.len() > limits::DOCUMENT_WRITES_MAX {
        let (found, limit) = (writes.len() as u64, limits::DOCUMENT_WRITES_MAX as u64);
        return Err(StoreError::TooLarge { table: "documents", what: "number of changes", found, limit });
    }
    writes.iter().try_for_each(Write::check)
}

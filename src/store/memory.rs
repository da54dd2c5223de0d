//! Documents in memory: for tests, for demos, and for a server whose documents live elsewhere. Lost at a restart.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BoxFuture, Documents, Page, StoreError, Table, Write};

/// Documents in a map. Not bounded: whoever writes bounds what is written.
#[derive(Default)]
pub struct MemoryDocuments {
    tables: Mutex<BTreeMap<Table, BTreeMap<String, Vec<u8>>>>,
}

impl MemoryDocuments {
    fn tables(&self) -> MutexGuard<'_, BTreeMap<Table, BTreeMap<String, Vec<u8>>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Documents::write`], done when it returns.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn write_now(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        super::check(&writes)?;
        let mut tables = self.tables();
        for write in writes {
            match write {
                Write::Put { table, key, value } => drop(tables.entry(table).or_default().insert(key, value)),
                Write::Delete { table, key } => drop(tables.entry(table).or_default().remove(&key)),
            }
        }
        Ok(())
    }
}

impl Documents for MemoryDocuments {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(std::future::ready(self.write_now(writes)))
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables().get(&table).and_then(|documents| documents.get(key).cloned()))
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let Some(documents) = tables.get(&table) else { return Ok(Page::new()) };
        let page = documents.range::<str, _>((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(std::future::ready(self.blocking_get(table, key)))
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        Box::pin(std::future::ready(self.blocking_scan(table, after, limit)))
    }
}

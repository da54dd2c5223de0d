//! Documents in memory: for tests, for demos, and for a server whose documents live elsewhere. Lost at a restart.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BoxFuture, Documents, Page, StoreError, Table, Write};
use crate::limits;

/// Documents in a map. Whoever writes bounds what is written, but for the recommendation log, which is bounded by its age alone: of that what came
/// first goes beyond [`limits::LOG_IN_MEMORY_BYTES_MAX`].
#[derive(Default)]
pub struct MemoryDocuments {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    documents: BTreeMap<Table, BTreeMap<String, Vec<u8>>>,
    /// Keys of the recommendation log in the order in which they came; some may be gone.
    logged: VecDeque<String>,
    /// Bytes of its keys and values.
    logged_bytes: usize,
}

impl Tables {
    fn put(&mut self, table: Table, key: String, value: Vec<u8>) {
        let replaces = self.remove(table, &key);
        if table == Table::Recommendations {
            self.logged_bytes += key.len() + value.len();
            if !replaces {
                self.logged.push_back(key.clone());
            }
        }
        self.documents.entry(table).or_default().insert(key, value);
        self.bound_log();
    }

    /// Removes a document. Returns whether it was there.
    fn remove(&mut self, table: Table, key: &str) -> bool {
        let Some(value) = self.documents.get_mut(&table).and_then(|documents| documents.remove(key)) else {
            return false;
        };
        if table == Table::Recommendations {
            self.logged_bytes -= key.len() + value.len();
        }
        true
    }

    fn bound_log(&mut self) {
        while let Some(first) = self.logged.pop_front() {
            let is_there = self.documents.get(&Table::Recommendations).is_some_and(|log| log.contains_key(&first));
            if is_there && self.logged_bytes <= limits::LOG_IN_MEMORY_BYTES_MAX {
                self.logged.push_front(first);
                break;
            }
            self.remove(Table::Recommendations, &first);
        }
    }
}

impl MemoryDocuments {
    fn tables(&self) -> MutexGuard<'_, Tables> {
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
                Write::Put { table, key, value } => tables.put(table, key, value),
                Write::Delete { table, key } => {
                    tables.remove(table, &key);
                }
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
        Ok(self.tables().documents.get(&table).and_then(|documents| documents.get(key).cloned()))
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let Some(documents) = tables.documents.get(&table) else { return Ok(Page::new()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_recommendation_log_that_takes_too_much_what_came_first_goes() {
        let documents = MemoryDocuments::default();
        let key = |n: usize| format!("{n:04}");
        let put = |n: usize| {
            let value = vec![0; limits::DOCUMENT_BYTES_MAX];
            documents.write_now(vec![Write::put(Table::Recommendations, key(n), value)]).unwrap();
        };
        let has = |n: usize| documents.blocking_get(Table::Recommendations, &key(n)).unwrap().is_some();
        // As many as there is room for, but for the bytes of their keys.
        let most = limits::LOG_IN_MEMORY_BYTES_MAX / limits::DOCUMENT_BYTES_MAX - 1;
        (0..most + 10).for_each(put);
        assert_eq!([has(9), has(10), has(most + 9)], [false, true, true]);
        let gone = (10..20).map(|n| Write::delete(Table::Recommendations, key(n)));
        documents.write_now(gone.collect()).unwrap();
        (most + 10..most + 20).for_each(put);
        assert!(has(20), "what was removed made room");
        put(most + 20);
        assert_eq!([has(20), has(21), has(most + 20)], [false, true, true]);
    }
}

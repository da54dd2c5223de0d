//! What several do with one person at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::consent::Consent;
use super::profile::Profile;
use super::settings::PeopleSettings;
use super::{People, records};
use crate::history::Actor;
use crate::history::memory::MemoryHistory;
use crate::store::memory::MemoryDocuments;
use crate::store::{BoxFuture, Documents, Page, StoreError, Table, Write};

/// Documents that are read at once and handed out when the gate opens, while it is shut.
struct Gated {
    inner: MemoryDocuments,
    gate: Arc<Semaphore>,
    is_shut: AtomicBool,
}

impl Documents for Gated {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.inner.write(writes)
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blocking_get(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.inner.blocking_scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        let (found, gate) = (self.inner.blocking_get(table, key), Arc::clone(&self.gate));
        let is_shut = self.is_shut.load(Ordering::Relaxed);
        Box::pin(async move {
            if is_shut {
                gate.acquire().await.unwrap().forget();
            }
            found
        })
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.inner.scan(table, after, limit)
    }
}

#[test]
fn what_was_read_before_a_change_does_not_come_back_after_it() {
    let user = Actor::user("u");
    let documents = Arc::new(Gated {
        inner: MemoryDocuments::default(),
        gate: Arc::new(Semaphore::new(0)),
        is_shut: AtomicBool::new(false),
    });
    documents.inner.write_now(vec![records::profile(&user, Some(&Profile::default()))]).unwrap();
    let history = Arc::new(MemoryHistory::new(1, 100, Duration::from_secs(60)));
    let people = Arc::new(People::open(&PeopleSettings::default(), history, documents.clone()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        documents.is_shut.store(true, Ordering::Relaxed);
        let (reader, name) = (Arc::clone(&people), user.clone());
        let reading = tokio::spawn(async move { reader.profile(&name).await });
        tokio::task::yield_now().await;
        documents.is_shut.store(false, Ordering::Relaxed);
        let refusal = Profile { consent: Consent::None, ..Profile::default() };
        people.set_profile(&user, Some(&refusal), true).await.unwrap();
        documents.gate.add_permits(1);
        assert_eq!(reading.await.unwrap().unwrap().unwrap().consent, Consent::Full, "what it read");
        assert_eq!(people.profile(&user).await.unwrap().unwrap().consent, Consent::None);
    });
}

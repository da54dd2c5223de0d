//! What the store is to its callers: recent interactions, documents, a copy of itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{BoxFuture, Copied, Documents, Page, StoreError, Table, Write};
use super::{Change, EmbeddedStore, Outcome, Shared, interaction_bytes};
use crate::history::{Ack, Actor, Erased, HistoryStats, Incoming, Kept, Lookup, RecentInteractions};
use crate::interaction::Interaction;
use crate::limits;

impl RecentInteractions for EmbeddedStore {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>> {
        if batch.is_empty() {
            return Box::pin(std::future::ready(Ok(Ack::default())));
        }
        // One that is too large is refused before it is in a group, which would fail with it.
        let large = |one: &Incoming| interaction_bytes(&one.interaction) as u64 * 2 > limits::RECORD_BYTES_MAX;
        if let Some(large) = batch.iter().find(|one| large(one)) {
            let found = interaction_bytes(&large.interaction) as u64;
            let (what, limit) = ("size of an interaction", limits::RECORD_BYTES_MAX / 2);
            let error = StoreError::TooLarge { table: "interactions", what, found, limit };
            return Box::pin(std::future::ready(Err(error)));
        }
        let outcome = self.submit(Change::Append(batch));
        Box::pin(async move {
            match outcome.await? {
                Outcome::Appended(ack) => Ok(ack),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        if let Some(recent) = self.shared.cache.get(actor.as_str()) {
            self.shared.hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Ready(recent);
        }
        self.shared.misses.fetch_add(1, Ordering::Relaxed);
        let actor = actor.clone();
        let read = move |shared: &Shared| {
            shared.cache.fill(actor.as_str(), || shared.file.recent(actor.as_str(), None, shared.keep))
        };
        match self.reading(read) {
            Ok(pending) => Lookup::Pending(pending),
            Err(error) => Lookup::Failed(error),
        }
    }

    fn replay(
        &self,
        since_ms: i64,
        most: usize,
        with: &mut dyn FnMut(&[Actor], &Interaction),
    ) -> Result<(), StoreError> {
        self.shared.file.replay(since_ms, most, with)
    }

    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
        let actor = actor.clone();
        self.read_later(move |shared| shared.file.recent(actor.as_str(), before, limit))
    }

    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
        if let Err(error) = super::super::check(&documents) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let outcome = self.submit(Change::Erase(actors, documents));
        Box::pin(async move {
            match outcome.await? {
                Outcome::Erased(erased) => Ok(erased),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn watch_commits(&self, told: Box<dyn Fn(Duration) + Send + Sync>) {
        let _ = self.shared.on_commit.set(told);
    }

    fn watermark(&self) -> u64 {
        self.shared.watermark.load(Ordering::Acquire)
    }

    fn backup(&self) -> BoxFuture<'static, Result<Copied, StoreError>> {
        self.read_later(|shared| shared.file.back_up())
    }

    fn stats(&self) -> HistoryStats {
        let shared = &self.shared;
        let (cached_actors, cached_bytes) = shared.cache.size();
        HistoryStats {
            cached_actors,
            cached_bytes,
            queued: shared.queued.load(Ordering::Relaxed),
            committed: shared.committed.load(Ordering::Relaxed),
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            pruned: shared.pruned.load(Ordering::Relaxed),
            file_bytes: shared.file.bytes(),
            damaged: shared.file.skipped(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let alive =
            self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|t| !t.is_finished());
        if !alive {
            return Err(StoreError::Closed);
        }
        match &*self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer ended by a panic; what was not acknowledged is lost");
        }
    }
}

impl Documents for EmbeddedStore {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        if let Err(error) = super::super::check(&writes) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if writes.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let outcome = self.submit(Change::Write(writes));
        Box::pin(async move { outcome.await.map(|_| ()) })
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.file.document(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.shared.file.scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        let key = key.to_owned();
        self.read_later(move |shared| shared.file.document(table, &key))
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        let after = after.map(str::to_owned);
        self.read_later(move |shared| shared.file.scan(table, after.as_deref(), limit))
    }
}

//! Recent interactions in memory: bounded by bytes and by idle time, lost at a restart.
//!
//! For tests, for demos, and for a server whose history lives elsewhere. An append is done when the call returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use super::{Ack, Actor, BoxFuture, HistoryError, HistoryStats, Incoming, Kept, Lookup, Recent, RecentInteractions};
use crate::limits;

/// A bounded store in memory.
pub struct MemoryHistory {
    lists: Cache<String, Recent>,
    ids: Cache<String, ()>,
    keep: usize,
    next_sequence: AtomicU64,
    hits: AtomicU64,
    committed: AtomicU64,
}

impl MemoryHistory {
    /// A store of at most `cache_mb` MiB that keeps `keep` interactions an actor and forgets an actor after `idle` without a new one.
    #[must_use]
    pub fn new(cache_mb: u64, keep: usize, idle: Duration) -> Self {
        let lists = Cache::builder()
            .max_capacity(cache_mb << 20)
            .weigher(|actor: &String, list: &Recent| super::cached_size(actor, list))
            .time_to_live(idle)
            .build();
        let ids = Cache::builder().max_capacity(limits::IDS_IN_MEMORY_MAX).time_to_live(idle).build();
        Self {
            lists,
            ids,
            keep,
            next_sequence: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
        }
    }

    fn append_now(&self, batch: Vec<Incoming>) -> Ack {
        let mut ack = Ack::default();
        for incoming in batch {
            let id = incoming.interaction.interaction_id.as_ref();
            if id.is_some_and(|id| !self.ids.entry_by_ref(id).or_insert(()).is_fresh()) {
                ack.duplicates += 1;
                continue;
            }
            ack.accepted += 1;
            let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
            let actors: Vec<Actor> = incoming.actors().collect();
            let kept = Kept { sequence, interaction: Arc::new(incoming.interaction) };
            for actor in actors {
                self.lists.entry(actor.0).and_upsert_with(|entry| {
                    let old = entry.map(moka::Entry::into_value);
                    super::merge(old.as_deref().unwrap_or_default(), [kept.clone()], self.keep)
                });
            }
        }
        self.committed.fetch_add(u64::from(ack.accepted), Ordering::Relaxed);
        ack
    }
}

impl RecentInteractions for MemoryHistory {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, HistoryError>> {
        let ack = self.append_now(batch);
        Box::pin(std::future::ready(Ok(ack)))
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        self.hits.fetch_add(1, Ordering::Relaxed);
        Lookup::Ready(self.lists.get(actor.as_str()).unwrap_or_else(|| Arc::from([])))
    }

    fn stats(&self) -> HistoryStats {
        HistoryStats {
            cached_actors: self.lists.entry_count(),
            cached_bytes: self.lists.weighted_size(),
            committed: self.committed.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            ..HistoryStats::default()
        }
    }
}

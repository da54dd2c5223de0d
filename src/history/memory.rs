//! Recent interactions in memory: bounded by bytes and by idle time, lost at a restart.
//!
//! For tests, for demos, and for a server whose history lives elsewhere. An append is done when the call returns.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Ack, Actor, Erased, HistoryStats, Incoming, Kept, Lookup, Recent, RecentInteractions};
use crate::interaction::RECOMMENDATION_ID;
use crate::store::memory::MemoryDocuments;
use crate::store::{BoxFuture, Documents, Page, StoreError, Table, Write};

/// Bytes that an id takes beside its text: the cache's own entry with its places in the order of use and of age, and allocator rounding.
const ID_OVERHEAD: usize = 280;

/// A bounded store in memory; its documents are in memory as well.
pub struct MemoryHistory {
    documents: MemoryDocuments,
    lists: Cache<String, Recent>,
    ids: Cache<String, ()>,
    keep: usize,
    next_sequence: AtomicU64,
    hits: AtomicU64,
    committed: AtomicU64,
}

impl MemoryHistory {
    /// A store of at most `cache_mb` MiB, a quarter of them for the ids that tell duplicates, that keeps `keep` interactions an actor and forgets an actor
    /// after `idle` without a new one.
    #[must_use]
    pub fn new(cache_mb: u64, keep: usize, idle: Duration) -> Self {
        let for_ids = (cache_mb << 20) / 4;
        let lists = Cache::builder()
            .max_capacity(3 * for_ids)
            .weigher(|actor: &String, list: &Recent| super::cached_size(actor, list))
            .time_to_live(idle)
            // What was just acknowledged is kept; a policy that counts would rather turn newcomers away.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let ids = Cache::builder()
            .max_capacity(for_ids)
            .weigher(|id: &String, (): &()| u32::try_from(ID_OVERHEAD + id.len()).unwrap_or(u32::MAX))
            .time_to_live(idle)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            documents: MemoryDocuments::default(),
            lists,
            ids,
            keep,
            next_sequence: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
        }
    }

    /// The same store, numbering interactions from here on: where its lists are put together with those of another.
    #[must_use]
    pub fn starting_at(self, sequence: u64) -> Self {
        Self { next_sequence: AtomicU64::new(sequence), ..self }
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
        ack.watermark = self.last_sequence();
        ack
    }

    fn last_sequence(&self) -> u64 {
        self.next_sequence.load(Ordering::Relaxed) - 1
    }

    /// Forgets the interactions that are held for these actors, here and in the lists of whoever shares them. Of those that are no longer held the
    /// ids stay known until they age.
    fn erase_now(&self, actors: &[Actor], documents: Vec<Write>) -> Result<Erased, StoreError> {
        self.documents.write_now(documents)?;
        let mut gone: HashMap<u64, Option<String>> = HashMap::new();
        let mut recommendations = Vec::new();
        for actor in actors {
            let list = self.lists.remove(actor.as_str()).unwrap_or_else(|| Arc::from([]));
            let came_from = |kept: &Kept| kept.interaction.context.get(RECOMMENDATION_ID).cloned();
            recommendations.extend(list.iter().filter_map(came_from));
            gone.extend(list.iter().map(|kept| (kept.sequence, kept.interaction.interaction_id.clone())));
        }
        gone.values().flatten().for_each(|id| self.ids.invalidate(id));
        let shared: Vec<Arc<String>> = self
            .lists
            .iter()
            .filter(|(_, list)| list.iter().any(|kept| gone.contains_key(&kept.sequence)))
            .map(|(actor, _)| actor)
            .collect();
        for actor in shared {
            self.lists.entry(actor.to_string()).and_compute_with(|entry| match entry {
                None => Op::Nop,
                Some(old) => {
                    let old = old.into_value();
                    Op::Put(old.iter().filter(|kept| !gone.contains_key(&kept.sequence)).cloned().collect())
                }
            });
        }
        let (interactions, watermark) = (gone.len() as u64, self.last_sequence());
        Ok(Erased { interactions, recommendations, watermark, more: false })
    }
}

impl RecentInteractions for MemoryHistory {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>> {
        let ack = self.append_now(batch);
        Box::pin(std::future::ready(Ok(ack)))
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        self.hits.fetch_add(1, Ordering::Relaxed);
        Lookup::Ready(self.lists.get(actor.as_str()).unwrap_or_else(|| Arc::from([])))
    }

    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
        let list = self.lists.get(actor.as_str()).unwrap_or_else(|| Arc::from([]));
        let older = |kept: &&Kept| before.is_none_or(|at| (kept.interaction.occurred_at_ms, kept.sequence) < at);
        Box::pin(std::future::ready(Ok(list.iter().filter(older).take(limit).cloned().collect())))
    }

    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
        Box::pin(std::future::ready(self.erase_now(&actors, documents)))
    }

    fn watermark(&self) -> u64 {
        self.last_sequence()
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

impl Documents for MemoryHistory {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.documents.write(writes)
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.documents.blocking_get(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.documents.blocking_scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        self.documents.get(table, key)
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.documents.scan(table, after, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Interaction;

    #[test]
    fn lists_and_ids_together_take_no_more_than_they_may() {
        let store = MemoryHistory::new(1, 5, Duration::from_secs(60));
        for n in 0..20_000 {
            let interaction_id = Some(format!("{n:032}"));
            let interaction = Interaction { interaction_id, ..Interaction::new("x", "view", 1) };
            store.append_now(vec![Incoming { user_id: Some(n.to_string()), session_id: None, interaction }]);
        }
        // A part of what is too much goes with each.
        for _ in 0..100 {
            store.lists.run_pending_tasks();
            store.ids.run_pending_tasks();
        }
        let bytes = store.lists.weighted_size() + store.ids.weighted_size();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(store.ids.contains_key(&format!("{:032}", 19_999)), "the newest are known");
    }

    #[test]
    fn what_is_erased_is_gone_for_everyone_and_its_ids_are_free() {
        let store = MemoryHistory::new(8, 5, Duration::from_secs(60));
        let of = |user: Option<&str>, session: Option<&str>, id: &str| Incoming {
            user_id: user.map(str::to_owned),
            session_id: session.map(str::to_owned),
            interaction: Interaction { interaction_id: Some(id.to_owned()), ..Interaction::new(id, "view", 1) },
        };
        let ack = store.append_now(vec![of(Some("u"), Some("s"), "both"), of(None, Some("s"), "alone")]);
        assert_eq!(ack, Ack { accepted: 2, duplicates: 0, watermark: 2 });
        let note = Write::put(Table::People, "u", vec![1]);
        let erased = store.erase_now(&[Actor::user("u")], vec![note]).unwrap();
        assert_eq!(erased, Erased { interactions: 1, watermark: 2, ..Erased::default() });
        let items = |actor: Actor| match store.recent(&actor) {
            Lookup::Ready(recent) => recent.iter().map(|kept| kept.interaction.item_id.clone()).collect(),
            _ => Vec::new(),
        };
        assert!(items(Actor::user("u")).is_empty());
        assert_eq!(items(Actor::session("s")), ["alone"]);
        assert_eq!(store.blocking_get(Table::People, "u").unwrap(), Some(vec![1]));
        assert_eq!(store.append_now(vec![of(Some("u"), None, "both")]).accepted, 1);
        assert_eq!(store.append_now(vec![of(Some("u"), None, "alone")]).duplicates, 1);
    }
}

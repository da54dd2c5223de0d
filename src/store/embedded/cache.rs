//! Recent interactions in memory, in front of the file, never stale.
//!
//! Writer and readers change an entry only through the cache's per-key entry lock. The writer, after a commit, first advances the key's
//! stripe of `versions`, then merges into the entry if there is one, or removes it when interactions are gone. A reader that missed notes the
//! stripe before it opens its read transaction, and under the entry lock inserts what it read only if the stripe has not moved. So an old list
//! either is not inserted or is inserted before the writer's change, which then completes or removes it. Where everyone is forgotten, which takes no
//! entry lock, readers that are inserting are waited for instead.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use moka::ops::compute::Op;
use moka::sync::Cache;

use super::super::StoreError;
use crate::history::{Kept, Recent, cached_size, merge};

/// Counters that tell whether a key was written while it was read. More stripes, fewer needless second reads.
const VERSION_STRIPES: usize = 4096;

pub(super) struct RecentCache {
    lists: Cache<String, Recent>,
    keep: usize,
    versions: Vec<AtomicU64>,
    /// Held by readers while they insert.
    filling: RwLock<()>,
    hasher: RandomState,
}

impl RecentCache {
    pub(super) fn new(cache_mb: u64, keep: usize) -> Self {
        let lists = Cache::builder()
            .max_capacity(cache_mb << 20)
            .weigher(|actor: &String, list: &Recent| cached_size(actor, list))
            .build();
        let versions = (0..VERSION_STRIPES).map(|_| AtomicU64::new(0)).collect();
        Self { lists, keep, versions, filling: RwLock::default(), hasher: RandomState::new() }
    }

    pub(super) fn get(&self, actor: &str) -> Option<Recent> {
        self.lists.get(actor)
    }

    /// Actors and bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.lists.entry_count(), self.lists.weighted_size())
    }

    /// What `read` finds in the file, cached unless the actor is written meanwhile.
    pub(super) fn fill(
        &self,
        actor: &str,
        read: impl FnOnce() -> Result<Vec<Kept>, StoreError>,
    ) -> Result<Recent, StoreError> {
        let version = self.version(actor);
        let before = version.load(Ordering::Acquire);
        let recent: Recent = read()?.into();
        let filling = self.filling.read().unwrap_or_else(PoisonError::into_inner);
        let result = self.lists.entry(actor.to_owned()).and_compute_with(|entry| match entry {
            None if version.load(Ordering::Acquire) == before => Op::Put(Arc::clone(&recent)),
            _ => Op::Nop,
        });
        drop(filling);
        // Someone else's entry is at least as new as what was read.
        Ok(result.into_entry().map_or(recent, moka::Entry::into_value))
    }

    /// Brings an actor up to a commit, if its list is here. One that is not is read when it is asked for.
    pub(super) fn committed(&self, actor: String, new: Vec<Kept>) {
        self.version(&actor).fetch_add(1, Ordering::AcqRel);
        self.lists.entry(actor).and_compute_with(|entry| match entry {
            Some(old) => Op::Put(merge(&old.into_value(), new, self.keep)),
            None => Op::Nop,
        });
    }

    /// Forgets an actor some of whose interactions are gone from the file.
    pub(super) fn forget(&self, actor: String) {
        self.version(&actor).fetch_add(1, Ordering::AcqRel);
        self.lists.entry(actor).and_compute_with(|_| Op::Remove);
    }

    /// Forgets everyone.
    pub(super) fn clear(&self) {
        for version in &self.versions {
            version.fetch_add(1, Ordering::AcqRel);
        }
        // Whoever still inserts what is old began before this, and is done with it now.
        drop(self.filling.write().unwrap_or_else(PoisonError::into_inner));
        self.lists.invalidate_all();
    }

    fn version(&self, actor: &str) -> &AtomicU64 {
        let stripe = self.hasher.hash_one(actor) as usize % VERSION_STRIPES;
        &self.versions[stripe]
    }
}

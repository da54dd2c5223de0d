//! Changes of the catalogue shared between requests, which read them, and whoever makes them.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::live_items::LiveItems;

/// What changed since one artifact was built, shared between requests and whoever changes it.
///
/// Requests read it under a lock that is held for one computation; where nothing has changed they do not even take the lock.
#[derive(Debug)]
pub struct Overlay {
    idle: AtomicBool,
    /// The time at which the next item expires, in milliseconds since 1970.
    next_expiry_ms: AtomicI64,
    items: RwLock<LiveItems>,
}

impl Overlay {
    /// Shares changes.
    pub fn new(items: LiveItems) -> Self {
        let overlay =
            Self { idle: AtomicBool::new(true), next_expiry_ms: AtomicI64::new(i64::MAX), items: RwLock::new(items) };
        overlay.write(|_| ());
        overlay
    }

    /// The changes, with what has expired by now taken out; none where there is nothing to know.
    pub fn read(&self, now_ms: i64) -> Option<RwLockReadGuard<'_, LiveItems>> {
        if self.idle.load(Ordering::Acquire) {
            return None;
        }
        if self.next_expiry_ms.load(Ordering::Acquire) <= now_ms {
            self.write(|items| items.expire(now_ms));
        }
        Some(self.items.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the changes. No request computes meanwhile.
    pub fn write<T>(&self, change: impl FnOnce(&mut LiveItems) -> T) -> T {
        let mut items = self.items.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut items);
        self.next_expiry_ms.store(items.next_expiry_ms().unwrap_or(i64::MAX), Ordering::Release);
        self.idle.store(items.is_idle(), Ordering::Release);
        outcome
    }
}

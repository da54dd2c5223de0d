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
    /// When the last item expired, and when the next one does, in milliseconds since 1970.
    last_expiry_ms: AtomicI64,
    next_expiry_ms: AtomicI64,
    items: RwLock<LiveItems>,
}

impl Overlay {
    /// Shares changes.
    pub fn new(items: LiveItems) -> Self {
        let overlay = Self {
            idle: AtomicBool::new(true),
            last_expiry_ms: AtomicI64::new(i64::MIN),
            next_expiry_ms: AtomicI64::new(i64::MAX),
            items: RwLock::new(items),
        };
        overlay.write(|_| ());
        overlay
    }

    /// The changes, with what has expired by now taken out; none where there is nothing to know.
    pub fn read(&self, now_ms: i64) -> Option<RwLockReadGuard<'_, LiveItems>> {
        if self.idle.load(Ordering::Acquire) {
            return None;
        }
        let unchanged = self.last_expiry_ms.load(Ordering::Acquire)..self.next_expiry_ms.load(Ordering::Acquire);
        if !unchanged.contains(&now_ms) {
            self.write(|items| items.expire(now_ms));
        }
        Some(self.as_it_is())
    }

    /// The changes, whatever has expired by now.
    pub fn as_it_is(&self) -> RwLockReadGuard<'_, LiveItems> {
        self.items.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the changes. No request computes meanwhile.
    pub fn write<T>(&self, change: impl FnOnce(&mut LiveItems) -> T) -> T {
        let mut items = self.items.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut items);
        let unchanged = items.unchanged_ms();
        self.last_expiry_ms.store(unchanged.start, Ordering::Release);
        self.next_expiry_ms.store(unchanged.end, Ordering::Release);
        self.idle.store(items.is_idle(), Ordering::Release);
        outcome
    }
}

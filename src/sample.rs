//! A share of what goes by, evenly spread: a share of one half is every other one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Takes a share of what goes by. Shared by threads.
#[derive(Debug)]
pub(crate) struct Sample {
    share: f64,
    asked: AtomicU64,
}

impl Sample {
    /// A share from 0, nothing, to 1, everything.
    pub(crate) fn new(share: f64) -> Self {
        Self { share, asked: AtomicU64::new(0) }
    }

    /// Whether anything is taken.
    pub(crate) fn is_on(&self) -> bool {
        self.share > 0.0
    }

    /// Whether the next one is taken.
    pub(crate) fn takes_next(&self) -> bool {
        if !self.is_on() {
            return false;
        }
        let before = self.asked.fetch_add(1, Ordering::Relaxed) as f64;
        (before * self.share).floor() < ((before + 1.0) * self.share).floor()
    }
}

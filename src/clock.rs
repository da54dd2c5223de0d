//! What time it is: as the system says it, or as the requests do, for replaying what was.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::settings::ClockKind;

/// A clock; its copies tell the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The present as the requests say it, if they are to; 0 until one has.
    requested_ms: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// A clock of this kind.
    pub(crate) fn new(kind: ClockKind) -> Self {
        Self { requested_ms: (kind == ClockKind::Request).then(Arc::default) }
    }

    /// Whether requests are asked for the time.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested_ms.is_some()
    }

    /// Takes the time from a request, if requests are asked.
    pub(crate) fn set(&self, now_ms: i64) {
        if let Some(requested) = &self.requested_ms {
            requested.store(now_ms, Ordering::Relaxed);
        }
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        match self.requested_ms.as_ref().map(|now| now.load(Ordering::Relaxed)) {
            None | Some(0) => system_now_ms(),
            Some(now) => now,
        }
    }
}

/// The system's time, in milliseconds since 1970; 0 before it.
pub(crate) fn system_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

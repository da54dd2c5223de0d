//! What time it is: as the system says it, or as the requests do, for replaying what was.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Whether a clock can be believed when it says that something is old enough to be removed: it has to have gone evenly for a while. One that was set
/// wrong, at the start of a machine say, is mostly set right within minutes.
#[derive(Debug)]
pub(crate) struct EvenClock {
    wait: Duration,
    even_since: Instant,
    last: Option<(Instant, i64)>,
}

impl EvenClock {
    /// How far a clock may go from what was measured between two looks at it, in milliseconds.
    const STEP_MS: u64 = 60_000;

    /// One that is believed once it has gone evenly for so long.
    pub(crate) fn new(wait: Duration) -> Self {
        Self { wait, even_since: Instant::now(), last: None }
    }

    /// The time that the clock says, if it can be believed. To be asked every few minutes at least.
    pub(crate) fn believed(&mut self, now_ms: i64) -> Option<i64> {
        self.believed_at(Instant::now(), now_ms)
    }

    fn believed_at(&mut self, at: Instant, now_ms: i64) -> Option<i64> {
        let expected = self.last.map_or(now_ms, |(looked, then)| {
            then.saturating_add(i64::try_from(at.duration_since(looked).as_millis()).unwrap_or(i64::MAX))
        });
        if now_ms.abs_diff(expected) > Self::STEP_MS {
            let (from, to) = (crate::timestamp::rfc3339(expected), crate::timestamp::rfc3339(now_ms));
            tracing::warn!(
                from,
                to,
                wait_seconds = self.wait.as_secs(),
                "the clock was set: nothing is removed for its age for a while"
            );
            self.even_since = at;
        }
        self.last = Some((at, now_ms));
        (at.duration_since(self.even_since) >= self.wait).then_some(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_once_it_has_gone_evenly() {
        let started = Instant::now();
        let mut clock = EvenClock { wait: Duration::from_secs(60), even_since: started, last: None };
        let mut look = |seconds: u64, ahead_ms: i64| {
            let now_ms = 1_000_000 + seconds as i64 * 1_000 + ahead_ms;
            clock.believed_at(started + Duration::from_secs(seconds), now_ms).is_some()
        };
        assert_eq!([look(0, 0), look(59, 0), look(60, 0)], [false, false, true]);
        assert!(look(70, 59_000), "a little is no step");
        const DAYS: i64 = 100 * 86_400_000;
        assert_eq!([look(80, DAYS), look(139, DAYS), look(140, 0)], [false; 3], "ahead, and set right again");
        assert_eq!([look(199, 0), look(200, 0)], [false, true]);
    }
}

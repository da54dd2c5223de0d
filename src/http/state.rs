//! What every handler shares, and the bound on requests in progress.
//!
//! A worker computes an answer without yielding, so requests in progress are those that wait for the history store. The kernel holds
//! what has not been read; connections are bounded per worker. So there is no queue without a bound.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::error::{Code, Problem, shown};
use crate::history::RecentInteractions;
use crate::recommend::RecommendScratch;
use crate::reload::{Live, Reloader};
use crate::scenario::Scenario;
use crate::store::Documents;
use crate::telemetry::Metrics;
use crate::user_vector::Weighting;

/// Shared by all workers.
pub(crate) struct State {
    /// The live artifact.
    pub(crate) reloader: Arc<Reloader>,
    /// Recent interactions.
    pub(crate) history: Arc<dyn RecentInteractions>,
    /// What else is kept durably: named tables of documents.
    #[allow(dead_code, reason = "the endpoints that keep documents read it")]
    pub(crate) documents: Arc<dyn Documents>,
    /// Every metric.
    pub(crate) metrics: Arc<Metrics>,
    /// The placements a request may name.
    pub(crate) scenarios: BTreeMap<String, Scenario>,
    /// How long a request waits for stored interactions.
    pub(crate) read_timeout: Duration,
    /// Above this a request is logged.
    pub(crate) slow_request: Duration,
    /// Seconds named in Retry-After.
    pub(crate) retry_after_seconds: u32,
    /// The most requests in progress.
    pub(crate) max_in_flight: usize,
    /// Set when the server has been told to stop.
    pub(crate) draining: AtomicBool,
    /// Requests in progress.
    pub(crate) in_flight: AtomicUsize,
    /// Milliseconds since 1970.
    pub(crate) clock: fn() -> i64,
    /// Kinds of interaction known while no artifact is loaded.
    pub(crate) default_weighting: Weighting,
    /// Names for requests and recommendations.
    pub(crate) names: Names,
}

/// One per worker thread: the buffers that make an answer without allocating.
#[derive(Default)]
pub(crate) struct Worker {
    /// Buffers of the recommender, for one computation at a time.
    pub(crate) scratch: RefCell<RecommendScratch>,
    /// Buffers of a bare index search.
    pub(crate) search: RefCell<kindred_index::Scratch>,
}

/// The right to be in progress; given back when dropped.
pub(crate) struct Permit<'a>(&'a AtomicUsize);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// A permit, or 503 with Retry-After.
    pub(crate) fn admit(&self) -> Result<Permit<'_>, Problem> {
        let permit = Permit(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.max_in_flight {
            self.metrics.shed.inc();
            return Err(Problem::overloaded(self.max_in_flight, self.retry_after_seconds));
        }
        Ok(permit)
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Runs `f` on the kinds of the loaded model, or on the usual ones while none is loaded.
    pub(crate) fn with_kinds<T>(&self, f: impl FnOnce(&BTreeMap<String, f32>) -> T) -> T {
        match self.reloader.live().as_deref() {
            Some(live) => f(&live.snapshot.manifest().weighting.kinds),
            None => f(&self.default_weighting.kinds),
        }
    }

    /// Runs `f` on the live artifact, or says that there is none.
    pub(crate) fn with_live<T>(&self, f: impl FnOnce(&Live) -> Result<T, Problem>) -> Result<T, Problem> {
        match self.reloader.live().as_deref() {
            Some(live) => f(live),
            None => Err(Problem::not_ready()),
        }
    }

    /// A scenario by name.
    pub(crate) fn scenario(&self, name: &str) -> Result<(&str, &Scenario), Problem> {
        self.scenarios.get_key_value(name).map(|(name, scenario)| (name.as_str(), scenario)).ok_or_else(|| {
            let known: Vec<&str> = self.scenarios.keys().map(String::as_str).collect();
            Problem::new(
                Code::UnknownScenario,
                format!("scenario {:?} is not known", shown(name)),
                format!("use one of: {}; or add [scenarios.<name>] to the settings", known.join(", ")),
            )
        })
    }
}

/// Makes names that no other process makes: 64 random bits drawn at start, and a count.
pub(crate) struct Names {
    prefix: u64,
    next: AtomicU64,
}

impl Default for Names {
    fn default() -> Self {
        // RandomState is seeded by the operating system.
        Self { prefix: RandomState::new().hash_one("kindred"), next: AtomicU64::new(1) }
    }
}

impl Names {
    /// 32 hexadecimal digits, unique.
    pub(crate) fn next(&self) -> String {
        format!("{:016x}{:016x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

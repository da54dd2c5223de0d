//! What every handler shares, and the bound on requests in progress.
//!
//! A worker computes an answer without yielding, so requests in progress are those that wait for the history store or stand in the worker's line.
//! Connections are bounded per worker. So there is no queue without a bound.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::error::{Code, Problem, shown};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::experiment::{Assignment, Experiment, assign};
use crate::history::RecentInteractions;
use crate::keys::KeyRing;
use crate::live_catalog::LiveCatalog;
use crate::overload::{Line, Placement, Sort, Step};
use crate::people::shown::ShownLog;
use crate::people::{People, Visitor};
use crate::recall_audit::RecallAudit;
use crate::recommend::{RecommendScratch, RequestContext, Signals};
use crate::reload::{Live, Reloader};
use crate::scenario::Scenario;
use crate::telemetry::{Metrics, Traces};
use crate::trending::{Refresher, Trending};
use crate::user_vector::Weighting;

/// Shared by all workers.
pub(crate) struct State {
    /// The live artifact.
    pub(crate) reloader: Arc<Reloader>,
    /// What changed in the catalogue since the artifact was built.
    pub(crate) catalog: Arc<LiveCatalog>,
    /// Recent interactions.
    pub(crate) history: Arc<dyn RecentInteractions>,
    /// Who visitors are, what they agreed to, and what is kept about them.
    pub(crate) people: People,
    /// What was shown.
    pub(crate) shown: ShownLog,
    /// Whether searches find what there is to find.
    pub(crate) recall: RecallAudit,
    /// Who gets which scenario.
    pub(crate) experiments: BTreeMap<String, Experiment>,
    /// Every metric.
    pub(crate) metrics: Arc<Metrics>,
    /// Where traces go.
    pub(crate) traces: Traces,
    /// What is taken just now.
    pub(crate) trending: Arc<Trending>,
    /// The thread that adds it up.
    pub(crate) refresher: Refresher,
    /// The placements a request may name.
    pub(crate) scenarios: BTreeMap<String, Placement>,
    /// The keys of those who may call; none = everybody.
    pub(crate) keys: Option<Arc<KeyRing>>,
    /// Origins whose pages may call.
    pub(crate) cors_origins: Vec<String>,
    /// Names by which this server may be asked without keys.
    pub(crate) hosts: Vec<String>,
    /// Whether the operator's routes have an address of their own, and are not beside the others.
    pub(crate) admin_apart: bool,
    /// Where the operator's deeds are written.
    pub(crate) audit: Audit,
    /// The wait that is aimed at under load; none if nothing gives way.
    pub(crate) wait_target: Option<Duration>,
    /// How long a request waits for stored interactions.
    pub(crate) read_timeout: Duration,
    /// Milliseconds that every interaction that is stored is kept at least.
    pub(crate) kept_for_ms: i64,
    /// Above this a request is logged.
    pub(crate) slow_request: Duration,
    /// Seconds named in Retry-After.
    pub(crate) retry_after_seconds: u32,
    /// The most requests in progress that ask, and as many that keep something.
    pub(crate) max_in_flight: usize,
    /// Set when the server has been told to stop.
    pub(crate) draining: AtomicBool,
    /// Requests in progress that ask.
    pub(crate) in_flight: AtomicUsize,
    /// Those that keep something: apart, so that a disk that stalls, which they wait for, refuses nobody a list.
    pub(crate) keeping: AtomicUsize,
    /// Changes in progress whose callers have gone away.
    pub(crate) left_alone: AtomicUsize,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Kinds of interaction known while no artifact is loaded.
    pub(crate) default_weighting: Weighting,
    /// Names for requests and recommendations.
    pub(crate) names: Names,
}

/// One per worker thread: the buffers that make an answer without allocating.
pub(crate) struct Worker {
    /// Buffers of the recommender, for one computation at a time.
    pub(crate) scratch: RefCell<RecommendScratch>,
    /// Buffers of a bare index search.
    pub(crate) search: RefCell<kindred_index::Scratch>,
    /// Where its requests wait for their turn; none where nothing gives way.
    line: Option<Rc<Line>>,
}

impl Worker {
    /// The buffers of this thread, and the line of its requests, whose usher works as long as the thread's runtime lives.
    pub(crate) fn start(state: &State) -> Self {
        let line = state.wait_target.map(|target| Rc::new(Line::new(target)));
        if let Some(line) = line.clone() {
            actix_web::rt::spawn(async move { line.usher().await });
        }
        Self { scratch: RefCell::default(), search: RefCell::default(), line }
    }
}

/// The right to be in progress; given back when dropped.
pub(crate) struct Permit<'a> {
    in_flight: &'a AtomicUsize,
    /// How much of an answer is given.
    pub(crate) step: Step,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// A permit to compute a list, which may have to be a lesser one, or 503 with Retry-After.
    pub(crate) async fn admit(&self, worker: &Worker) -> Result<Permit<'_>, Problem> {
        let permit = self.permit(&self.in_flight, worker, Sort::Asks).await?;
        if permit.step != Step::Full {
            self.metrics.stepped(permit.step);
        }
        Ok(permit)
    }

    /// A permit to answer what has no lesser form, or 503 with Retry-After.
    pub(crate) async fn admit_whole(&self, worker: &Worker) -> Result<Permit<'_>, Problem> {
        self.permit(&self.in_flight, worker, Sort::Asks).await
    }

    /// A permit to keep something, a refusal to be tracked or an erasure among it, or 503 with Retry-After.
    pub(crate) async fn admit_write(&self, worker: &Worker) -> Result<Permit<'_>, Problem> {
        self.permit(&self.keeping, worker, Sort::Keeps).await
    }

    /// A permit, once it is the request's turn.
    async fn permit<'a>(&self, in_flight: &'a AtomicUsize, worker: &Worker, sort: Sort) -> Result<Permit<'a>, Problem> {
        let mut permit = Permit { in_flight, step: Step::Full };
        if in_flight.fetch_add(1, Ordering::Relaxed) >= self.max_in_flight {
            self.metrics.shed.inc();
            return Err(Problem::overloaded(self.max_in_flight, self.retry_after_seconds));
        }
        let Some(line) = &worker.line else { return Ok(permit) };
        let given = line.turn(sort).await;
        self.metrics.queue(given.waited);
        match given.step {
            Some(step) => permit.step = step,
            None => {
                self.metrics.shed.inc();
                return Err(Problem::too_many(self.retry_after_seconds));
            }
        }
        Ok(permit)
    }

    /// Length of a vector of the loaded model, if one is loaded.
    pub(crate) fn dimensions(&self) -> Option<usize> {
        self.reloader.live().as_deref().map(|live| live.snapshot.model().dimensions())
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// As [`State::scenario_of`], for a list that is made: it is counted for the variant.
    pub(crate) fn scenario_for<'a>(
        &'a self,
        asked: &str,
        visitor: &Visitor,
    ) -> Result<(&'a str, &'a Placement, Option<Assignment<'a>>), Problem> {
        let found = self.scenario_of(asked, visitor)?;
        if let (_, _, Some(assignment)) = &found {
            self.metrics.variant(assignment.experiment, assignment.variant);
        }
        Ok(found)
    }

    /// The scenario of a visitor: the one that was asked for, or that of the variant that the visitor is in.
    pub(crate) fn scenario_of<'a>(
        &'a self,
        asked: &str,
        visitor: &Visitor,
    ) -> Result<(&'a str, &'a Placement, Option<Assignment<'a>>), Problem> {
        let (name, scenario) = self.scenario(asked)?;
        // A visitor without any id would be in another variant with each request.
        let Some(who) = visitor.user.as_ref().or(visitor.session.as_ref()).filter(|_| !self.experiments.is_empty())
        else {
            return Ok((name, scenario, None));
        };
        let Some(assignment) = assign(&self.experiments, name, who.id()) else { return Ok((name, scenario, None)) };
        let (_, scenario) = self.scenario(assignment.scenario)?;
        Ok((name, scenario, Some(assignment)))
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

    /// Runs `f` on what is taken just now, where a scenario counts it.
    pub(crate) fn with_signals<T>(
        &self,
        scenario: &Scenario,
        generation: &str,
        context: Option<&RequestContext>,
        f: impl FnOnce(Option<&Signals<'_>>) -> T,
    ) -> T {
        if !scenario.counts_trends() {
            return f(None);
        }
        let tables = self.trending.tables();
        f(Some(&self.trending.signals(&tables, generation, context, self.now_ms())))
    }

    /// A scenario by name.
    pub(crate) fn scenario(&self, name: &str) -> Result<(&str, &Placement), Problem> {
        self.scenarios.get_key_value(name).map(|(name, placement)| (name.as_str(), placement)).ok_or_else(|| {
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
    /// 32 hexadecimal digits, unique, that begin with a time and so are in its order as text.
    pub(crate) fn timed(&self, now_ms: i64) -> String {
        let (at, process) = (now_ms.max(0) & 0xffff_ffff_ffff, self.prefix >> 32);
        format!("{at:012x}{process:08x}{:012x}", self.next.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff_ffff)
    }

    /// 32 hexadecimal digits, unique.
    pub(crate) fn next(&self) -> String {
        format!("{:016x}{:016x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

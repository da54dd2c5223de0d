//! Whether searches find what there is to find, measured on live requests, and what is done when they do not.
//!
//! A share of the searches that requests make is repeated exactly by a thread of its own, from a short queue: what does not fit in is not measured,
//! and no request waits. A search of a large catalogue takes long to repeat, so it is repeated part by part, and the thread rests after each.
//! Recall is the mean of the last so many, by scenario and by how many items the filter lets pass, since that is what
//! decides how a search is made. Where it falls below the floor, searches of that scenario and shape get broader, twofold a level, and at last
//! exact; when it has been good for a while a lower level is tried, and after each attempt that fails it takes twice as long until the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kindred_index::Scratch;
use serde::Deserialize;

use crate::limits;
use crate::recommend::{Breadth, FilterShape, Probe, RecommendScratch};
use crate::reload::Reloader;
use crate::sample::Sample;
use crate::telemetry::Metrics;

/// How live searches are checked.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallAuditSettings {
    /// The share of searches that is repeated exactly, 0 to 1.
    pub sample: f64,
    /// The recall below which searches get broader.
    pub floor: f64,
    /// Searches that a recall is the mean of.
    pub window: u32,
}

impl Default for RecallAuditSettings {
    fn default() -> Self {
        Self { sample: 0.001, floor: 0.95, window: 200 }
    }
}

/// One level a shape, read by requests and written by the thread.
type Levels = [AtomicU8; FilterShape::ALL.len()];

/// The audit, and the thread that does it.
pub struct RecallAudit {
    sample: Sample,
    levels: Arc<BTreeMap<String, Levels>>,
    metrics: Arc<Metrics>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A search to repeat.
struct Job {
    scenario: String,
    generation: String,
    probe: Probe,
}

impl RecallAudit {
    /// Starts the thread, unless nothing is sampled.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start<'a>(
        settings: RecallAuditSettings,
        scenarios: impl Iterator<Item = &'a String>,
        reloader: Arc<Reloader>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (audit, jobs) = Self::with_queue(settings, scenarios, metrics);
        if settings.sample > 0.0 {
            let (levels, metrics) = (Arc::clone(&audit.levels), Arc::clone(&audit.metrics));
            let stopping = Arc::clone(&audit.stopping);
            let (generation, windows) = (String::new(), HashMap::new());
            let mut auditor = Auditor { settings, levels, metrics, generation, windows };
            auditor.restart();
            let thread = std::thread::Builder::new()
                .name("kindred-recall".to_owned())
                .spawn(move || auditor.run(&jobs, &reloader, &stopping))?;
            audit.thread.lock().unwrap_or_else(PoisonError::into_inner).replace(thread);
        }
        Ok(audit)
    }

    fn with_queue<'a>(
        settings: RecallAuditSettings,
        scenarios: impl Iterator<Item = &'a String>,
        metrics: Arc<Metrics>,
    ) -> (Self, Receiver<Job>) {
        let (sender, jobs) = sync_channel(limits::RECALL_AUDITS_WAITING_MAX);
        let audit = Self {
            sample: Sample::new(settings.sample),
            levels: Arc::new(scenarios.map(|name| (name.clone(), Levels::default())).collect()),
            metrics,
            jobs: Mutex::new(Some(sender)),
            stopping: Arc::default(),
            thread: Mutex::default(),
        };
        (audit, jobs)
    }

    /// Before a list is made as the scenario says: how broad its searches are; and the scratch is told whether to keep one.
    pub fn begin(&self, scenario: &str, scratch: &mut RecommendScratch) -> Breadth {
        if self.sample.takes_next() {
            scratch.keep_probe();
        }
        let Some(levels) = self.levels.get(scenario) else { return Breadth::default() };
        Breadth(levels.each_ref().map(|level| level.load(Ordering::Relaxed)))
    }

    /// After a list was made: a search that was kept is put into the queue, if there is room. Waits for nothing.
    pub fn end(&self, scenario: &str, generation: &str, scratch: &mut RecommendScratch) {
        let Some(probe) = scratch.take_probe() else { return };
        let job = Job { scenario: scenario.to_owned(), generation: generation.to_owned(), probe };
        // Nobody holds the lock for longer than this.
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.as_ref().is_some_and(|jobs| matches!(jobs.try_send(job), Err(TrySendError::Full(_)))) {
            self.metrics.recall.dropped();
        }
    }

    /// Ends the thread; what waits is not measured any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(
                "the thread that measures recall ended by a panic; the breadth of searches stayed as it was"
            );
        }
    }
}

/// How much longer the thread rests than it has worked: it takes a fiftieth of a core at most.
const REST: u32 = 49;
/// Values of rows that are compared with before it rests: a fraction of a millisecond, because the core may be the one that requests wait for.
const VALUES_AT_ONCE: u32 = 1 << 20;
/// After how long, as it rests, it looks whether it is to be stopped, and for another artifact.
const REST_PART_MAX: Duration = Duration::from_secs(1);
/// How often it looks for another artifact where there is nothing to repeat.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread's own state.
struct Auditor {
    settings: RecallAuditSettings,
    levels: Arc<BTreeMap<String, Levels>>,
    metrics: Arc<Metrics>,
    generation: String,
    windows: HashMap<(String, FilterShape), Window>,
}

impl Auditor {
    fn run(mut self, jobs: &Receiver<Job>, reloader: &Reloader, stopping: &AtomicBool) {
        let mut scratch = Scratch::default();
        // What is repeated in part.
        let mut begun: Option<Job> = None;
        loop {
            let job = match begun.take().map_or_else(|| jobs.recv_timeout(LOOK_EVERY), Ok) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            let guard = reloader.live();
            let Some(live) = guard.as_deref() else { continue };
            self.begin(live.snapshot.generation());
            let Some(mut job) = job.filter(|job| job.generation == live.snapshot.generation()) else { continue };
            let began = Instant::now();
            let model = live.snapshot.model();
            let items = (VALUES_AT_ONCE / model.manifest().dimensions.max(1)).max(1);
            let repeated = job.probe.repeat(model, items, &mut scratch);
            // An artifact that another replaces meanwhile is not held.
            drop(guard);
            match repeated {
                Ok(false) => begun = Some(job),
                Ok(true) => self.note(job.scenario, &job.probe),
                Err(_) => {}
            }
            // A large catalogue takes long to compare with; the requests' cores are not for that.
            for part in rests(began.elapsed()) {
                std::thread::sleep(part);
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(live) = reloader.live().as_deref() {
                    self.begin(live.snapshot.generation());
                }
            }
        }
    }

    /// Another artifact is another graph: everything begins anew.
    fn begin(&mut self, generation: &str) {
        if self.generation != generation {
            generation.clone_into(&mut self.generation);
            self.restart();
        }
    }

    /// Every breadth as the scenarios say, and nothing known of what that finds.
    fn restart(&mut self) {
        self.windows.clear();
        self.metrics.recall.forgotten();
        for (scenario, levels) in self.levels.iter() {
            for (shape, level) in FilterShape::ALL.into_iter().zip(levels) {
                level.store(0, Ordering::Relaxed);
                self.metrics.recall.level(scenario, shape, 0);
            }
        }
    }

    /// A search was repeated.
    fn note(&mut self, scenario: String, probe: &Probe) {
        let Some(recall) = probe.recall() else { return };
        let shape = probe.shape();
        let Some(level) = self.levels.get(&scenario).and_then(|levels| levels.get(shape as usize)) else { return };
        let window = self.windows.entry((scenario.clone(), shape)).or_default();
        // A search that was made before the level changed says nothing of it.
        if probe.level() != window.level {
            return;
        }
        let before = window.level;
        let mean = window.note(recall, &self.settings);
        if window.level != before {
            level.store(window.level, Ordering::Relaxed);
            tracing::warn!(
                scenario,
                shape = shape.name(),
                recall = mean,
                from = before,
                to = window.level,
                "searches change their breadth"
            );
        }
        self.metrics.recall.measured(&scenario, shape, mean);
        self.metrics.recall.level(&scenario, shape, window.level);
    }
}

/// The rest after so much work, in parts.
fn rests(worked: Duration) -> impl Iterator<Item = Duration> {
    let mut left = worked.saturating_mul(REST);
    std::iter::from_fn(move || {
        let part = left.min(REST_PART_MAX);
        left = left.saturating_sub(part);
        (!part.is_zero()).then_some(part)
    })
}

/// The last recalls of one scenario and shape, and what they have led to.
#[derive(Debug, Default)]
struct Window {
    recalls: VecDeque<f64>,
    level: u8,
    /// Measured since the level last changed.
    calm: u32,
    /// Attempts to come down that have failed, one after the other.
    failed: u32,
    /// Whether the level was come down to.
    is_attempt: bool,
}

/// A level is not tried less often than after so many windows.
const PATIENCE_MAX: u32 = 6;

impl Window {
    /// Notes a recall, chooses the level, and says the mean that it was chosen by.
    fn note(&mut self, recall: f64, settings: &RecallAuditSettings) -> f64 {
        let (window, floor) = (settings.window as usize, settings.floor);
        if self.recalls.len() >= window {
            self.recalls.pop_front();
        }
        self.recalls.push_back(recall);
        self.calm = self.calm.saturating_add(1);
        let mean = self.recalls.iter().sum::<f64>() / self.recalls.len() as f64;
        // A quarter of a window is enough to see what is bad; what is good has to be so for all of it.
        if self.recalls.len() * 4 >= window && mean < floor && self.level < Breadth::EXACT {
            self.failed = if self.is_attempt { (self.failed + 1).min(PATIENCE_MAX) } else { self.failed };
            self.go_to(self.level + 1, false);
        } else if self.calm >= settings.window << self.failed && mean >= floor {
            if self.level > 0 {
                self.go_to(self.level - 1, true);
            } else {
                self.failed = 0;
            }
        }
        mean
    }

    fn go_to(&mut self, level: u8, is_attempt: bool) {
        self.level = level;
        self.is_attempt = is_attempt;
        self.calm = 0;
        self.recalls.clear();
    }
}

#[cfg(test)]
mod tests {
    use kindred_index::Metric;

    use super::*;
    use crate::interaction::Interaction;
    use crate::recommend::{RecommendRequest, recommend};
    use crate::scenario::Scenario;
    use crate::testing::Fixture;
    use crate::user_vector::Weighting;

    const SETTINGS: RecallAuditSettings = RecallAuditSettings { sample: 1.0, floor: 0.9, window: 20 };

    #[test]
    fn it_gets_broader_while_recall_is_low_and_comes_down_when_it_is_good() {
        let mut window = Window::default();
        // What each level would find: two levels up it is enough.
        let of_level = |level: u8| [0.5, 0.8, 0.95, 1.0, 1.0][usize::from(level)];
        let mut levels = Vec::new();
        for _ in 0..200 {
            let before = window.level;
            window.note(of_level(before), &SETTINGS);
            if window.level != before {
                levels.push(window.level);
            }
        }
        assert_eq!(&levels[..4], [1, 2, 1, 2], "up, up, an attempt to come down, up again");
        // After each attempt that failed it takes twice as long until the next.
        assert_eq!(levels, [1, 2, 1, 2, 1, 2, 1, 2]);
        // Good everywhere: it comes down to the breadth that the scenario asks for, and stays there.
        for _ in 0..2_000 {
            window.note(1.0, &SETTINGS);
        }
        assert_eq!((window.level, window.failed), (0, 0));
        // Bad everywhere: it ends at exact, and goes no further.
        for _ in 0..19 {
            window.note(0.0, &SETTINGS);
        }
        assert!(window.level > 0);
        for _ in 0..200 {
            window.note(0.0, &SETTINGS);
        }
        assert_eq!(window.level, Breadth::EXACT);
    }

    #[test]
    fn it_rests_as_long_as_it_should_also_after_much_work_and_can_be_stopped() {
        for worked in [0, 1, 30, 700].map(Duration::from_millis) {
            let parts: Vec<Duration> = rests(worked).collect();
            assert_eq!(parts.iter().sum::<Duration>(), worked * REST);
            assert!(parts.iter().all(|part| *part <= REST_PART_MAX), "{parts:?}");
        }
    }

    #[test]
    fn a_full_queue_loses_measurements_and_holds_nobody_up() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let names = ["home".to_owned()];
        let (audit, jobs) = RecallAudit::with_queue(SETTINGS, names.iter(), metrics);
        let model = Fixture::random(1, 60, 8, Metric::Cosine).model();
        let history = [Interaction::new("item-4", "view", 1)];
        let mut scratch = RecommendScratch::default();
        let ask = |scratch: &mut RecommendScratch| {
            let breadth = audit.begin("home", scratch);
            let request = RecommendRequest { breadth, ..RecommendRequest::new(&history, 1) };
            recommend(&model, &Scenario::home(), &Weighting::default(), &request, scratch, &mut |_| ()).unwrap();
            audit.end("home", "g", scratch);
        };
        for _ in 0..limits::RECALL_AUDITS_WAITING_MAX + 5 {
            ask(&mut scratch);
        }
        let mut waiting: Vec<Job> = jobs.try_iter().collect();
        assert_eq!(waiting.len(), limits::RECALL_AUDITS_WAITING_MAX);
        // All of sixty items were within reach, so nothing was missed.
        let probe = &mut waiting[0].probe;
        assert_eq!(probe.repeat(&model, model.len(), &mut Scratch::default()), Ok(true));
        assert_eq!(probe.recall(), Some(1.0));
    }
}

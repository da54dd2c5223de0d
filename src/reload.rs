//! The live artifact, and how a newly published one takes its place without a request noticing.
//!
//! One thread looks at CURRENT at a fixed pace and whenever it is told to (SIGHUP, `POST /admin/reload`). It opens, verifies and warms
//! the new artifact while the old one serves, then swaps a pointer. Requests in progress finish on the artifact they started with; the old
//! one is unmapped here, by the same thread, after its last request. A refused artifact is logged and counted, and the old one
//! stays; it is tried again when it was copied anew or, where the system did not let it be read, after a minute. Starting with nothing published is
//! allowed: the service is not ready, and becomes so when something is.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use kindred_index::Memory;
use tokio::sync::oneshot;

use crate::artifact::{self, ArtifactError, Current, INDEX_FILE, MANIFEST_FILE, MODEL_FILE};
use crate::clock::EvenClock;
use crate::limits;
use crate::live_catalog::{LiveCatalog, Overlay};
use crate::live_items::LiveItems;
use crate::manifest::TrainingWindow;
use crate::snapshot::Snapshot;
use crate::telemetry::{Metrics, chain, from_root};

/// How often retired artifacts are looked at, also where CURRENT is watched less often or not at all.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// After how long an artifact that could not be read is tried again: what was in the way (no memory, too many open files, a lock) passes without a
/// trace on its files.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// How often changes of the catalogue that the artifact contains are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the store is waited for then.
const TIDY_PATIENCE: Duration = Duration::from_secs(5);

/// An artifact in service.
pub struct Live {
    /// The opened artifact.
    pub snapshot: Snapshot,
    /// What changed in the catalogue since it was built.
    pub overlay: Overlay,
    /// When it went into service.
    pub since: Instant,
    sorted: OnceLock<Vec<u32>>,
}

impl Live {
    /// The ordinals of the artifact in the order of their keys. Sorted at the first call, about a second for a million items, and kept.
    pub fn sorted(&self) -> &[u32] {
        let keys = self.snapshot.model().index().keys();
        self.sorted.get_or_init(|| {
            let mut all: Vec<u32> = (0..keys.len()).collect();
            all.sort_unstable_by(|a, b| keys.key(*a).cmp(&keys.key(*b)));
            all
        })
    }

    /// Whether they have been sorted.
    pub fn is_sorted(&self) -> bool {
        self.sorted.get().is_some()
    }

    /// What changed in the catalogue, seen to until now; none where nothing did, which costs a read of two numbers. Hold it for the length of one
    /// computation.
    pub fn changes(&self, now_ms: i64) -> Option<RwLockReadGuard<'_, LiveItems>> {
        self.overlay.read(now_ms)
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// This generation is now live.
    Swapped(String),
    /// CURRENT names the generation that is already live.
    Unchanged(String),
    /// Nothing has been published yet.
    NothingPublished,
}

/// Why an artifact was not taken. The old one, if any, stays live.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// CURRENT, or the artifact that it names, is not usable.
    #[error("artifact in {} refused: {}", dir.display(), chain(source.as_ref()))]
    Refused {
        /// The artifacts directory.
        dir: PathBuf,
        /// What is wrong. Shown with its causes by the message itself.
        #[source]
        source: Arc<ArtifactError>,
    },
    /// Too many reloads are waiting.
    #[error("a reload is in progress and {limit} more are waiting; try again later")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl ReloadError {
    /// Whether the system did not let an artifact be read, which says nothing about the artifact.
    fn is_of_reading(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        matches!(**source, ArtifactError::Read { .. } | ArtifactError::Map { .. })
    }
}

type Answer = Result<Reloaded, ReloadError>;

/// The live artifact and the thread that replaces it.
pub struct Reloader {
    dir: PathBuf,
    live: Arc<ArcSwapOption<Live>>,
    metrics: Arc<Metrics>,
    orders: Mutex<Option<SyncSender<oneshot::Sender<Answer>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reloader {
    /// Opens what is published, if anything, and starts watching. Blocks while the first artifact is opened and verified.
    ///
    /// # Errors
    /// The system's error if no thread can be started. A bad or missing artifact is not an error: it is logged, and the service
    /// starts without one.
    pub fn start(
        dir: &Path,
        memory: Memory,
        poll: Option<Duration>,
        metrics: Arc<Metrics>,
        clock: fn() -> i64,
        catalog: Arc<LiveCatalog>,
    ) -> std::io::Result<Self> {
        let live = Arc::new(ArcSwapOption::empty());
        let mut watcher = Watcher {
            dir: dir.to_path_buf(),
            memory,
            live: Arc::clone(&live),
            metrics: Arc::clone(&metrics),
            clock,
            even: EvenClock::new(limits::CLOCK_EVEN_FOR),
            catalog,
            next_tidy: Instant::now(),
            refused: None,
            retired: Vec::new(),
        };
        watcher.first();
        let (sender, receiver) = sync_channel(limits::RELOADS_WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("kindred-reload".to_owned())
            .spawn(move || watcher.run(&receiver, poll))?;
        let (orders, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Self { dir: dir.to_path_buf(), live, metrics, orders, thread })
    }

    /// The live artifact, if any. A few nanoseconds; hold it for the length of one computation, not across an await.
    pub fn live(&self) -> Guard<Option<Arc<Live>>> {
        self.live.load()
    }

    /// The generations that are on the disk, with the time that each was trained on, as far as their manifests can be read. Waits for the disk.
    pub fn published(&self) -> Vec<(String, Option<TrainingWindow>)> {
        let names = artifact::generations(&self.dir).unwrap_or_default();
        let window = |name: &String| artifact::read_manifest(&self.dir.join(name)).ok()?.training_window;
        names.into_iter().map(|name| (name.clone(), window(&name))).collect()
    }

    /// Looks at CURRENT now and says what came of it, also when the same generation was refused before.
    ///
    /// # Errors
    /// [`ReloadError`]: refused, busy or stopping.
    pub async fn reload(&self) -> Answer {
        let receiver = self.order()?;
        receiver.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Asks for a look at CURRENT without waiting for it (SIGHUP).
    pub fn nudge(&self) {
        // Nobody waits for the answer; the thread logs what it did, and a full queue means that a look is due anyway.
        let _ = self.order();
    }

    fn order(&self) -> Result<oneshot::Receiver<Answer>, ReloadError> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = orders.as_ref().ok_or(ReloadError::Stopping)?;
        let (answer, receiver) = oneshot::channel();
        match sender.try_send(answer) {
            Ok(()) => {
                self.metrics.reloads_waiting.inc();
                Ok(receiver)
            }
            Err(TrySendError::Full(_)) => Err(ReloadError::Busy { limit: limits::RELOADS_WAITING_MAX }),
            Err(TrySendError::Disconnected(_)) => Err(ReloadError::Stopping),
        }
    }

    /// Ends the thread, after a reload in progress. The live artifact stays for whoever holds it.
    pub fn stop(&self) {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the reload thread ended by a panic; the artifact that was live stayed live");
        }
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's own state.
struct Watcher {
    dir: PathBuf,
    memory: Memory,
    live: Arc<ArcSwapOption<Live>>,
    metrics: Arc<Metrics>,
    /// Milliseconds since 1970.
    clock: fn() -> i64,
    /// Whether that is the time, where it costs something to be wrong.
    even: EvenClock,
    /// What changed in the catalogue, to be laid over each artifact.
    catalog: Arc<LiveCatalog>,
    next_tidy: Instant,
    /// What was refused last.
    refused: Option<Refused>,
    /// Artifacts out of service that requests may still hold.
    retired: Vec<Arc<Live>>,
}

/// Length and time of change of each file of an artifact, as far as they are there: others once somebody has copied it anew.
type Stamp = [Option<(u64, i64, i64)>; 3];

/// A generation that was refused.
struct Refused {
    /// Its name; none where CURRENT itself is not usable.
    generation: String,
    /// Its files when it was tried.
    tried: Stamp,
    /// Its files when they were looked at last.
    seen: Stamp,
    /// When it is tried again in any case, where it was not its content that was refused.
    again_at: Option<Instant>,
}

fn stamp(directory: &Path) -> Stamp {
    [INDEX_FILE, MODEL_FILE, MANIFEST_FILE].map(|name| {
        let file = fs::metadata(directory.join(name)).ok()?;
        Some((file.len(), file.ctime(), file.ctime_nsec()))
    })
}

impl Watcher {
    fn first(&mut self) {
        if let Ok(Reloaded::NothingPublished) = self.look(true) {
            let dir = from_root(&self.dir);
            if self.dir.join(MANIFEST_FILE).is_file() {
                tracing::warn!(
                    dir,
                    "this is one artifact: /readyz answers 503 until artifacts.dir names the directory above it, where CURRENT is"
                );
            } else {
                tracing::warn!(
                    dir,
                    "no artifact is published: /readyz answers 503 until `kindred build` has published one here"
                );
            }
        }
    }

    fn run(mut self, orders: &Receiver<oneshot::Sender<Answer>>, poll: Option<Duration>) {
        loop {
            // What is out of service takes memory until the last request has let go of it.
            let most = if self.retired.is_empty() { Duration::MAX } else { IDLE_TICK };
            match orders.recv_timeout(poll.unwrap_or(IDLE_TICK).min(most)) {
                Ok(answer) => {
                    let outcome = self.look(true);
                    self.metrics.reloads_waiting.dec();
                    // The one who asked may have gone away.
                    let _ = answer.send(outcome);
                }
                Err(RecvTimeoutError::Timeout) if poll.is_some() => {
                    // What went wrong has been logged and counted by the look itself.
                    let _ = self.look(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Unmapping a large file takes milliseconds, so the last reference is dropped here and not by a request.
            self.retired.retain(|old| Arc::strong_count(old) > 1);
            self.tidy();
        }
    }

    /// Reads CURRENT and, if it names another generation than the live one, opens, verifies, warms and swaps it in.
    fn look(&mut self, insist: bool) -> Answer {
        let dir = self.dir.clone();
        let refuse = |source| ReloadError::Refused { dir, source: Arc::new(source) };
        let current = match artifact::current(&self.dir) {
            Ok(current) => current,
            Err(ArtifactError::NothingPublished { .. }) => return Ok(Reloaded::NothingPublished),
            Err(error) => return self.note_refusal(String::new(), Stamp::default(), insist, refuse(error)),
        };
        if let Some(generation) = self.live_by(&current) {
            self.refused = None;
            return Ok(Reloaded::Unchanged(generation));
        }
        if !insist && !self.is_to_be_tried(&current) {
            return Ok(Reloaded::Unchanged(current.generation));
        }
        let (started, tried) = (Instant::now(), stamp(&current.directory));
        let opened = Snapshot::open_in(&current.directory, self.memory);
        match opened.and_then(|snapshot| snapshot.verify().map(|()| snapshot)) {
            Ok(snapshot) => {
                let generation = snapshot.generation().to_owned();
                if self.memory == Memory::Pinned && !snapshot.is_locked() {
                    tracing::warn!(
                        generation,
                        "artifacts.memory is pinned, but the system does not allow as much memory to be locked, so it may be swapped \
                         out: raise the limit (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of Docker)"
                    );
                }
                snapshot.warm();
                if let Some(live) = self.live.load().as_ref() {
                    snapshot.model().make_columns_of(live.snapshot.model());
                }
                self.swap_in(snapshot, &generation, started);
                Ok(Reloaded::Swapped(generation))
            }
            Err(error) => self.note_refusal(current.generation, tried, insist, refuse(error)),
        }
    }

    /// The live generation, if it is the one that CURRENT names: by the name of its directory or, since somebody may have copied it to one of another
    /// name, by its manifest.
    fn live_by(&self, current: &Current) -> Option<String> {
        let live = self.live.load();
        let generation = live.as_ref()?.snapshot.generation();
        let is_live = generation == current.generation
            || artifact::read_manifest(&current.directory).is_ok_and(|manifest| manifest.generation == generation);
        is_live.then(|| generation.to_owned())
    }

    /// Whether a look by the clock tries a generation. One that was refused only after its files were copied anew, and not while they still change;
    /// or after a while, if it could not be read.
    fn is_to_be_tried(&mut self, current: &Current) -> bool {
        let refused = self.refused.as_mut().filter(|refused| refused.generation == current.generation);
        let Some(refused) = refused else { return true };
        if refused.again_at.is_some_and(|at| Instant::now() >= at) {
            return true;
        }
        let now = stamp(&current.directory);
        let before = std::mem::replace(&mut refused.seen, now);
        now != refused.tried && now == before
    }

    fn swap_in(&mut self, snapshot: Snapshot, generation: &str, started: Instant) {
        let items = snapshot.model().len();
        let now_ms = (self.clock)();
        let into_service = |snapshot: Snapshot, changes: LiveItems| {
            let live = Arc::new(Live {
                snapshot,
                overlay: Overlay::new(changes),
                since: Instant::now(),
                sorted: OnceLock::new(),
            });
            self.live.swap(Some(live))
        };
        let old = self.catalog.put_into_service(snapshot, now_ms, into_service);
        self.retired.extend(old);
        self.refused = None;
        self.metrics.reloads_done.inc();
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(generation, items, took_ms, "artifact is live");
        self.next_tidy = Instant::now();
    }

    /// Lets go of changes of the catalogue that the artifact contains: once it is live, and now and then. Waits for the store.
    fn tidy(&mut self) {
        let believed_ms = self.even.believed((self.clock)());
        let Some(live) = self.live.load_full().filter(|_| Instant::now() >= self.next_tidy) else { return };
        self.next_tidy = Instant::now() + TIDY_EVERY;
        // Where it is not known what the one before contains, nothing is removed for its age.
        let (before, believed_ms) = match self.before(&live) {
            Ok(before) => (before, believed_ms),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the artifact before cannot be read, so no change is removed for its age"
                );
                (None, None)
            }
        };
        let done = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(async {
                // A disk that stalls holds up no artifact.
                let before = before.as_ref().map(Snapshot::model);
                let tidying = self.catalog.tidy(live.snapshot.model(), before, believed_ms);
                match tokio::time::timeout(TIDY_PATIENCE, tidying).await {
                    Ok(tidied) => tidied.map_err(|error| chain(&error)),
                    Err(_) => Err("the store does not answer".to_owned()),
                }
            }),
            Err(error) => Err(chain(&error)),
        };
        if let Err(error) = done {
            tracing::error!(error, "changes that the artifact contains were not removed; it is tried again in an hour");
        }
    }

    /// The artifact that was published before one, if there is one: who goes back, goes back to it.
    fn before(&self, live: &Live) -> Result<Option<Snapshot>, ArtifactError> {
        let directories = artifact::generations(&self.dir)?.into_iter().map(|name| self.dir.join(name));
        let is_older = |directory: &PathBuf| directory != live.snapshot.directory();
        let Some(before) = directories.take_while(is_older).last() else { return Ok(None) };
        Snapshot::open_in(&before, Memory::Cold).map(Some)
    }

    fn note_refusal(&mut self, generation: String, tried: Stamp, insist: bool, error: ReloadError) -> Answer {
        let is_of_reading = error.is_of_reading();
        let is_same = |refused: &Refused| {
            let is_like_it = refused.again_at.is_some() == is_of_reading;
            refused.generation == generation && refused.tried == tried && is_like_it
        };
        let again = self.refused.as_ref().is_some_and(is_same);
        if insist || !again {
            self.metrics.reloads_refused.inc();
            let live = self.live.load().as_ref().map(|live| live.snapshot.generation().to_owned());
            tracing::error!(%error, generation, stays = live.as_deref().unwrap_or("none"), "artifact refused");
        }
        let again_at = is_of_reading.then(|| Instant::now() + READ_AGAIN);
        self.refused = Some(Refused { generation, tried, seen: tried, again_at });
        Err(error)
    }
}

#[cfg(test)]
mod tests;

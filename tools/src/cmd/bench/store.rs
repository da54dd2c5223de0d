//! `kindred bench store`: what the embedded store keeps a second, how long a commit takes, and how soon a full one is ready again.
//!
//! Three phases in one directory. Fill: interactions as fast as they are taken, in requests of a hundred. Serve: arrivals at a constant rate, each
//! request timed from when it should have been sent (so a stall counts for all who waited), while a reader looks up visitors that are in no cache
//! and ones that are. Restart: the store is closed, opened again, and asked for one visitor; what a killed process leaves opens by the same path.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kindred::Interaction;
use kindred::history::{Actor, Incoming, Lookup, Recent, RecentInteractions};
use kindred::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention};
use serde::Serialize;

use super::super::{Exit, Global};
use super::latency::{Latency, Quantiles};
use crate::machine::{Machine, file_system};
use crate::progress::Progress;
use crate::report::{Report, Table, bytes, count, emit, seconds};

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred bench store --interactions 10000000 --dir /var/lib/kindred")]
pub struct Args {
    /// Interactions stored before anything is timed
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub interactions: u64,
    /// Interactions a second that arrive while it is timed
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: u64,
    /// Interactions in one request
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub batch: u64,
    /// Seconds that arrivals last
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Visitors that they come from
    #[arg(long, default_value_t = 500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub visitors: u64,
    /// Directory for the store, on the disk that is to be measured; a temporary one, removed at the end, if left out
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct StoreReport {
    /// On what.
    pub machine: Machine,
    /// Interactions in the store before the timed part.
    pub stored: u64,
    /// Interactions a second while it was filled.
    pub fill_per_second: f64,
    /// Bytes of the store on the disk after it was filled.
    pub file_bytes: u64,
    /// The sort of file system that it lay on; none where the system does not say.
    pub file_system: Option<String>,
    /// Interactions a second that were offered.
    pub offered_per_second: f64,
    /// Interactions a second that were acknowledged, to the last one's acknowledgement.
    pub kept_per_second: f64,
    /// Requests that were refused because too much was waiting.
    pub refused: u64,
    /// Acknowledgement, from when the request should have been sent, milliseconds.
    pub acknowledged_ms: Quantiles,
    /// A commit, milliseconds.
    pub commit_ms: Quantiles,
    /// Interactions of a commit, mean.
    pub commit_size: f64,
    /// Look-ups a second meanwhile.
    pub reads_per_second: f64,
    /// One look-up of a visitor, half of them in memory, milliseconds.
    pub read_ms: Quantiles,
    /// Seconds until the store is open again.
    pub restart_seconds: f64,
    /// Seconds until the first visitor's interactions are there, opening included.
    pub first_read_seconds: f64,
}

/// The defaults of the settings, for ever.
fn options() -> EmbeddedOptions {
    EmbeddedOptions { keep: 100, cache_mb: 128, page_cache_mb: 512, queue: 65_536, retention: Retention::default() }
}

/// Requests of the fill in progress at once, and their size.
const FILL_WINDOW: usize = 64;
const FILL_BATCH: u64 = 250;

/// Measures and reports.
///
/// # Errors
/// Less than one request arrives, the directory cannot be written, or the store fails.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let arriving = args.rate * args.seconds;
    ensure!(
        args.batch <= arriving,
        "--batch is {}, and {arriving} interactions arrive in all: give a smaller one, or more --seconds",
        args.batch
    );
    let temporary = tempfile::tempdir().context("making a temporary directory")?;
    let directory = args.dir.as_deref().unwrap_or(temporary.path());
    let path = directory.join("bench-store");
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    // Not only looked for: of two that begin at once, one would remove the other's.
    std::fs::create_dir(&path)
        .with_context(|| format!("{} cannot be made: remove it, or name another --dir", path.display()))?;
    let report = measure(args, &path);
    // The store was ours alone, whatever became of the measurement.
    let _ = std::fs::remove_dir_all(&path);
    emit(&report?, global.json)?;
    Ok(Exit::Done)
}

fn measure(args: &Args, path: &Path) -> anyhow::Result<StoreReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = Arc::new(EmbeddedStore::open(path, options(), || 1_700_000_000_000)?);
    let filling = Instant::now();
    runtime.block_on(fill(&store, args))?;
    let fill_per_second = args.interactions as f64 / filling.elapsed().as_secs_f64();
    let before = store.stats();
    let commits = Arc::new(Mutex::new(Latency::new()?));
    let committing = Arc::clone(&commits);
    store.watch_commits(Box::new(move |took| {
        committing.lock().unwrap_or_else(PoisonError::into_inner).record(took);
    }));
    let reads = Arc::new(Reads::default());
    let reader = runtime.spawn(read(Arc::clone(&store), Arc::clone(&reads), args.clone()));
    let served = runtime.block_on(serve(&store, args));
    reads.stop.store(true, Ordering::Relaxed);
    let looked_up = runtime.block_on(reader)??;
    let served = served?;
    let after = store.stats();
    drop(store);
    let commits = commits.lock().unwrap_or_else(PoisonError::into_inner);
    let (restart_seconds, first_read_seconds) = restart(path, &runtime, args)?;
    Ok(StoreReport {
        machine: Machine::here(),
        stored: args.interactions,
        fill_per_second,
        file_bytes: before.file_bytes,
        file_system: file_system(path),
        offered_per_second: args.rate as f64,
        kept_per_second: served.kept as f64 / served.seconds,
        refused: served.refused,
        acknowledged_ms: served.latency.quantiles(),
        commit_ms: commits.quantiles(),
        commit_size: (after.committed - before.committed) as f64 / commits.count().max(1) as f64,
        reads_per_second: looked_up.count() as f64 / served.seconds,
        read_ms: looked_up.quantiles(),
        restart_seconds,
        first_read_seconds,
    })
}

/// The nth interaction: visitors and ids in no order, as in life.
fn incoming(number: u64, visitors: u64) -> Incoming {
    let mixed = mix(number);
    let interaction = Interaction {
        interaction_id: Some(format!("{mixed:016x}-{number}")),
        ..Interaction::new(format!("item-{}", mixed % 100_000), "view", 1_700_000_000_000 + number as i64)
    };
    Incoming { user_id: Some(format!("user-{}", mixed % visitors)), session_id: None, interaction }
}

/// A number that looks like chance (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn fill(store: &Arc<EmbeddedStore>, args: &Args) -> anyhow::Result<()> {
    let progress = Progress::bar("filling", args.interactions);
    let mut waiting = VecDeque::new();
    let mut next = 0;
    while next < args.interactions {
        let until = (next + FILL_BATCH).min(args.interactions);
        let batch = (next..until).map(|number| incoming(number, args.visitors)).collect();
        let store = Arc::clone(store);
        waiting.push_back(tokio::spawn(async move { store.append(batch).await }));
        if waiting.len() >= FILL_WINDOW
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await??;
        }
        progress.inc(until - next);
        next = until;
    }
    for rest in waiting {
        rest.await??;
    }
    progress.finish();
    Ok(())
}

struct Served {
    kept: u64,
    refused: u64,
    seconds: f64,
    latency: Latency,
}

/// Arrivals on a timetable that does not wait for answers.
async fn serve(store: &Arc<EmbeddedStore>, args: &Args) -> anyhow::Result<Served> {
    let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let began = Instant::now();
    let requests = args.rate * args.seconds / args.batch;
    let every = Duration::from_secs_f64(args.batch as f64 / args.rate as f64);
    let (store, visitors, batch, first) = (Arc::clone(store), args.visitors, args.batch, args.interactions);
    let sending = tokio::spawn(async move {
        for request in 0..requests {
            let due = began + every.mul_f64(request as f64);
            tokio::time::sleep_until(due.into()).await;
            let from = first + request * batch;
            let interactions = (from..from + batch).map(|number| incoming(number, visitors)).collect();
            let (store, sender) = (Arc::clone(&store), sender.clone());
            tokio::spawn(async move {
                let outcome = store.append(interactions).await;
                // The receiver waits for all of them.
                let _ = sender.send((outcome.map(|ack| ack.accepted), due.elapsed()));
            });
        }
    });
    let mut served = Served { kept: 0, refused: 0, seconds: 0.0, latency: Latency::new()? };
    while let Some((outcome, took)) = answers.recv().await {
        match outcome {
            Ok(accepted) => {
                served.kept += u64::from(accepted);
                served.latency.record(took);
            }
            Err(error) if error.is_overload() => served.refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    served.seconds = began.elapsed().as_secs_f64();
    sending.await?;
    Ok(served)
}

#[derive(Default)]
struct Reads {
    stop: AtomicBool,
    next: AtomicU64,
}

/// One look-up after another, with a pause, as if a few hundred a second were asked for.
async fn read(store: Arc<EmbeddedStore>, reads: Arc<Reads>, args: Args) -> anyhow::Result<Latency> {
    let mut latency = Latency::new()?;
    while !reads.stop.load(Ordering::Relaxed) {
        let at = reads.next.fetch_add(1, Ordering::Relaxed);
        let visitor = if at.is_multiple_of(2) { mix(at) % args.visitors } else { mix(at / 64 % 100) % args.visitors };
        let began = Instant::now();
        look_up(&store, visitor).await?;
        latency.record(began.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(latency)
}

/// What is kept of a visitor, from memory or from the disk.
async fn look_up(store: &EmbeddedStore, visitor: u64) -> anyhow::Result<Recent> {
    Ok(match store.recent(&Actor::user(&format!("user-{visitor}"))) {
        Lookup::Ready(recent) => recent,
        Lookup::Pending(pending) => pending.await?,
        Lookup::Failed(error) => return Err(error.into()),
    })
}

/// Opens the store and asks for the visitor of the first interaction: one who is not there would not be looked for on the disk.
fn restart(path: &Path, runtime: &tokio::runtime::Runtime, args: &Args) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    let store = EmbeddedStore::open(path, options(), || 1_700_000_000_000)?;
    let opened = began.elapsed().as_secs_f64();
    let visitor = mix(0) % args.visitors;
    let found = runtime.block_on(look_up(&store, visitor))?;
    let read = began.elapsed().as_secs_f64();
    ensure!(
        args.interactions == 0 || !found.is_empty(),
        "user-{visitor} has nothing in the store that was opened again"
    );
    Ok((opened, read))
}

impl Report for StoreReport {
    fn text(&self) -> String {
        let mut text = String::new();
        let on = self.file_system.as_deref().unwrap_or("an unknown file system");
        let _ = writeln!(text, "{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "{} interactions stored at {}/s, {} on {on}",
            count(self.stored),
            count(self.fill_per_second as u64),
            bytes(self.file_bytes)
        );
        if on == "tmpfs" {
            text.push_str("tmpfs is memory: what is synced there is on no disk; name a directory on one with --dir\n");
        }
        text.push('\n');
        let mut table = Table::new(["", "a second", "p50 ms", "p99 ms", "max ms"]);
        let mut row = |name: &str, rate: f64, q: &Quantiles| {
            table.row([
                name.to_owned(),
                count(rate as u64),
                format!("{:.2}", q.p50),
                format!("{:.2}", q.p99),
                format!("{:.2}", q.max),
            ]);
        };
        row("interactions kept", self.kept_per_second, &self.acknowledged_ms);
        row("commits", self.kept_per_second / self.commit_size, &self.commit_ms);
        row("visitors read", self.reads_per_second, &self.read_ms);
        text.push_str(&table.text());
        let _ = writeln!(
            text,
            "\noffered {}/s, {} requests refused; a commit holds {:.0} interactions in the mean",
            count(self.offered_per_second as u64),
            count(self.refused),
            self.commit_size
        );
        let _ = writeln!(
            text,
            "restart: open after {}, first visitor after {}",
            seconds(self.restart_seconds),
            seconds(self.first_read_seconds)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_for_after_a_restart_is_there() {
        let place = tempfile::tempdir().unwrap();
        let args = Args { interactions: 200, rate: 200, batch: 10, seconds: 1, visitors: 20, dir: None };
        let report = measure(&args, &place.path().join("bench-store")).unwrap();
        assert_eq!((report.stored, report.refused), (200, 0));
        assert_eq!(report.file_system, file_system(place.path()));
        let told = |on: &str| StoreReport { file_system: Some(on.to_owned()), ..report.clone() }.text();
        assert!(told("tmpfs").contains("on tmpfs\ntmpfs is memory"), "{}", told("tmpfs"));
        assert!(told("ext4").contains("on ext4\n\n"), "{}", told("ext4"));
    }

    #[test]
    fn what_is_there_or_cannot_be_measured_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = Some(place.path().to_owned());
        let args = Args { interactions: 0, rate: 10, batch: 10, seconds: 1, visitors: 20, dir };
        let refused = |args: &Args| format!("{:#}", run(args, &Global::default()).unwrap_err());
        let other = place.path().join("bench-store");
        std::fs::create_dir(&other).unwrap();
        assert!(refused(&args).contains("name another --dir"));
        assert!(other.is_dir(), "what is another's is not removed");
        assert!(refused(&Args { batch: 11, ..args.clone() }).contains("--batch is 11, and 10 interactions arrive"));
    }
}

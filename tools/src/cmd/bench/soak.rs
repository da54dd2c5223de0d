//! `kindred bench soak`: reads, events, catalogue changes and swaps together, for as long as it takes to see what leaks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::Value;

use super::super::{Exit, Global};
use super::asked::{self, Histories};
use super::http::{self, Target};
use crate::load::ask;
use crate::load::plan::{Plan, PlanOptions};
use crate::load::run::{Measured, Pace, RunOptions, run as run_load};
use crate::load::swap::{Swapper, Swaps};
use crate::machine::{Machine, file_system, resident_bytes};
use crate::progress::Progress;
use crate::report::{Bar, Report, Table, bytes, count, emit, leftovers, percent};

/// Of all requests, those that bring an event and those that change an item.
const WRITES: f64 = 0.15;
const CHANGES: f64 = 0.05;
/// How much memory may differ over the last third.
const FLAT: f64 = 0.02;
/// How many times the p99 of reads alone the p99 of reads may be.
const TAIL: f64 = 1.5;
/// How often memory is looked at: a minute is told by the median, because changes of the store are gathered in memory before they are written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bounds: MiB of the caches of the store, interactions kept of a visitor, the time that trends are of. Such, so that what is bounded is full long before the last third,
/// and what still grows then has no bound; at this pace the defaults take hours.
const BOUNDS: [(&str, &str); 4] = [
    ("KINDRED__HISTORY__CACHE_MB", "4"),
    ("KINDRED__HISTORY__PAGE_CACHE_MB", "4"),
    ("KINDRED__HISTORY__KEEP_PER_ACTOR", "10"),
    // Trends are counted in 48 buckets of this time, each with the items that were taken in it: one for the whole run, which soon has all items.
    ("KINDRED__TRENDING__WINDOW_HOURS", "2400"),
];
/// The rate, if none is asked for.
const DEFAULT_RATE: f64 = 2_000.0;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred bench soak --spawn --items 20000 --minutes 30 --rate 1000")]
// Without a group of its own, whose name would be that of the flattened one.
#[group(skip)]
pub struct Args {
    /// The server and what is sent, as for `kindred bench http`.
    #[command(flatten)]
    pub http: http::Args,
    /// Minutes of the mix
    #[arg(long, default_value_t = 30, value_parser = RangedU64ValueParser::<u32>::new().range(1..=10_000))]
    pub minutes: u32,
    /// Seconds of a minute; less to try it out
    #[arg(long, default_value_t = 60.0, value_parser = http::positive)]
    pub minute_seconds: f64,
}

/// One minute.
#[derive(Clone, Debug, Serialize)]
struct Minute {
    answered: u64,
    /// Whether the rate was held: a server that falls behind is as late alone as in the mix.
    held: bool,
    /// Requests that were not answered with success, by what went wrong.
    failures: BTreeMap<String, u64>,
    p50_ms: f64,
    p99_ms: f64,
    events_p99_ms: f64,
    changes_p99_ms: f64,
    swaps: u32,
    swap_problem: Option<String>,
    resident_bytes: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
struct SoakReport {
    machine: Machine,
    rate: f64,
    has_changes: bool,
    /// The sort of file system that interactions were kept on; none where the system does not say.
    file_system: Option<String>,
    /// What of earlier builds could not be removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_removed: Vec<String>,
    /// The first, in which visitors got a history.
    history: Minute,
    reads_alone: Minute,
    minutes: Vec<Minute>,
    /// What they are to hold.
    bars: Vec<Bar>,
}

/// Measures and reports.
///
/// # Errors
/// No server to measure, or one that cannot be started.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    ensure!(args.http.spawn, "a soak needs --spawn: it watches the memory of a server of its own");
    let progress = Progress::bar("preparing", 0);
    let machine = Machine::here();
    let store = tempfile::tempdir().context("making a temporary directory")?;
    let mut target = http::target(&args.http, Some((&store.path().join("soak"), &BOUNDS)), &progress)?;
    let artifacts = target.artifacts.clone().context("a server of our own has artifacts")?;
    let (rate, has_changes) = (args.http.rate.first().copied().unwrap_or(DEFAULT_RATE), takes_changes(&target)?);
    let kind = ask::kind(&ask::model(target.address)?).to_owned();
    let items = asked::items(&target, Histories::Random)?;
    let plan = |writes: f64, changes: f64| {
        Plan::new(&PlanOptions {
            host: target.address.to_string(),
            items: items.clone(),
            interactions: 0,
            limit: args.http.limit,
            kind: kind.clone(),
            write_share: writes,
            change_share: changes,
            by_user: true,
            body: serde_json::Map::new(),
            seed: args.http.seed,
        })
    };
    let seconds = Duration::from_secs_f64(args.minute_seconds);
    let all = || -> anyhow::Result<(Minute, Minute, Vec<Minute>)> {
        // Visitors get a history first, or the first minute would read of people about whom nothing is known.
        progress.start("giving visitors a history", 0);
        let history = minute(args, &target, &plan(1.0, 0.0), rate, seconds / 4, None)?;
        progress.start("reads alone", 0);
        let reads_alone = minute(args, &target, &plan(0.0, 0.0), rate, seconds, None)?;
        let mix = if has_changes { plan(WRITES, CHANGES) } else { plan(WRITES + CHANGES, 0.0) };
        Ok((history, reads_alone, mixed(args, &target, &mix, rate, &artifacts, &progress)?))
    };
    let measured = all();
    let (history, reads_alone, minutes) = measured.map_err(|error| target.explained(error))?;
    progress.finish();
    let (not_removed, file_system) = (target.not_removed, file_system(store.path()));
    let report = SoakReport {
        machine,
        rate,
        has_changes,
        file_system,
        not_removed,
        history,
        reads_alone,
        minutes,
        bars: Vec::new(),
    };
    let report = SoakReport { bars: report.judged().to_vec(), ..report };
    emit(&report, global.json)?;
    Ok(if report.bars.iter().all(|bar| bar.held) { Exit::Done } else { Exit::No })
}

/// The minutes of the mix, with a swap in each.
fn mixed(
    args: &Args,
    target: &Target,
    plan: &Plan,
    rate: f64,
    artifacts: &Path,
    progress: &Progress,
) -> anyhow::Result<Vec<Minute>> {
    let swapper = Swapper::new(artifacts)?;
    let seconds = Duration::from_secs_f64(args.minute_seconds);
    let one = |number: u32| {
        progress.start(&format!("minute {number} of {}", args.minutes), 0);
        minute(args, target, plan, rate, seconds, Some((&swapper, number)))
    };
    (1..=args.minutes).map(one).collect()
}

/// One minute, with a swap in its middle.
fn minute(
    args: &Args,
    target: &Target,
    plan: &Plan,
    rate: f64,
    duration: Duration,
    swap: Option<(&Swapper, u32)>,
) -> anyhow::Result<Minute> {
    let options = RunOptions {
        address: target.address,
        connections: args.http.connections,
        pace: Pace::Open { rate },
        warm_up: Duration::ZERO,
        duration,
    };
    let stop = AtomicBool::new(false);
    let (measured, swaps, resident_bytes) = std::thread::scope(|scope| -> anyhow::Result<(Measured, Swaps, u64)> {
        let looking = scope.spawn(|| median_memory(target, &stop));
        let swapping = swap.map(|(swapper, number)| {
            let stop = &stop;
            scope.spawn(move || swapper.once(target.address, number, duration / 2, stop))
        });
        let measured = run_load(plan, &options);
        stop.store(true, Ordering::Relaxed);
        let swaps = swapping.map(|swapping| swapping.join().unwrap_or_default()).unwrap_or_default();
        Ok((measured?, swaps, looking.join().unwrap_or(0)))
    })?;
    let at = |sort: usize, quantile: f64| {
        measured.latency.get(sort).map_or(0.0, |latency| latency.value_at_quantile(quantile) as f64 / 1e6)
    };
    Ok(Minute {
        answered: measured.answered(),
        held: measured.held(options.pace) == Some(true),
        failures: measured.failures(),
        p50_ms: at(0, 0.5),
        p99_ms: at(0, 0.99),
        events_p99_ms: at(1, 0.99),
        changes_p99_ms: at(2, 0.99),
        swaps: swaps.done,
        swap_problem: swaps.problem,
        resident_bytes,
    })
}

/// The median of the server's memory until it is told to stop.
fn median_memory(target: &Target, stop: &AtomicBool) -> u64 {
    let mut looks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        looks.extend(target.server.as_ref().and_then(|server| resident_bytes(server.id())));
        std::thread::park_timeout(LOOK_EVERY);
    }
    looks.sort_unstable();
    looks.get(looks.len() / 2).copied().unwrap_or(0)
}

/// Whether items can be changed while the server runs.
fn takes_changes(target: &Target) -> anyhow::Result<bool> {
    let description = ask::json(target.address, "GET", "/openapi.json", &Value::Null)?;
    Ok(description.pointer("/paths/~1v1~1items~1{id}/patch").is_some())
}

impl Minute {
    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl SoakReport {
    /// All that was measured, in its order, by name.
    fn named(&self) -> Vec<(String, &Minute)> {
        let first = [("history".to_owned(), &self.history), ("reads alone".to_owned(), &self.reads_alone)];
        first.into_iter().chain((1..).map(|number: u32| number.to_string()).zip(&self.minutes)).collect()
    }

    fn judged(&self) -> [Bar; 6] {
        let named = self.named();
        let failed: u64 = named.iter().map(|(_, minute)| minute.failed()).sum();
        let behind = named.iter().filter(|(_, minute)| !minute.held).count();
        let third = self.minutes.len().div_ceil(3);
        let (before, last) = self.minutes.split_at(self.minutes.len() - third);
        let before = before.get(before.len().saturating_sub(third)..).unwrap_or_default();
        let resident = |minutes: &[Minute]| {
            let each = || minutes.iter().map(|minute| minute.resident_bytes as f64);
            (each().fold(f64::MAX, f64::min), each().fold(0.0, f64::max))
        };
        let ((least, most), (_, most_before)) = (resident(last), resident(before));
        let spread = if most > 0.0 { (most - least) / most } else { 1.0 };
        // Memory goes up and down with what the store gathers before it writes; what leaks raises the peaks.
        let rise = if most_before > 0.0 { (most / most_before - 1.0).max(0.0) } else { 0.0 };
        // The median of the minutes: one that another process of the machine has disturbed says nothing of the server.
        let mut tails: Vec<f64> = self.minutes.iter().map(|minute| minute.p99_ms).collect();
        tails.sort_by(f64::total_cmp);
        let tail = tails.get(tails.len() / 2).copied().unwrap_or(0.0);
        let ratio = tail / self.reads_alone.p99_ms.max(f64::MIN_POSITIVE);
        let unmade = self.minutes.iter().filter(|minute| minute.swaps == 0).count();
        [
            Bar::new(format!("{} requests failed, none", count(failed)), failed == 0),
            Bar::new(
                format!("memory within {} over the last third, at most {}", percent(spread), percent(FLAT)),
                spread <= FLAT,
            ),
            Bar::new(
                format!("memory's peak {} above that of the third before, at most {}", percent(rise), percent(FLAT)),
                rise <= FLAT,
            ),
            Bar::new(
                format!("p99 of reads {ratio:.2} times that of reads alone (median of minutes), at most {TAIL}"),
                ratio <= TAIL,
            ),
            Bar::new(format!("{unmade} minutes without their swap, none"), unmade == 0),
            Bar::new(format!("{behind} minutes did not hold the rate, none"), behind == 0),
        ]
    }
}

impl Report for SoakReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n{:.0} requests/s: 80 % reads of stored visitors, ", self.machine.line(), self.rate);
        text.push_str(match self.has_changes {
            true => "15 % events, 5 % catalogue changes\n",
            false => "20 % events (the server takes no catalogue changes)\n",
        });
        if let Some(file_system) = &self.file_system {
            text.push_str(&format!("interactions are kept on {file_system} (TMPDIR names another directory)\n"));
        }
        let heads =
            ["minute", "answered", "failed", "p50 ms", "p99 ms", "events p99 ms", "changes p99 ms", "swaps", "memory"];
        let mut table = Table::new(heads);
        let ms = |ms: f64| format!("{ms:.3}");
        for (name, minute) in self.named() {
            table.row([
                name,
                count(minute.answered),
                count(minute.failed()),
                ms(minute.p50_ms),
                ms(minute.p99_ms),
                ms(minute.events_p99_ms),
                ms(minute.changes_p99_ms),
                minute.swaps.to_string(),
                bytes(minute.resident_bytes),
            ]);
        }
        text.push_str(&table.text());
        for (name, minute) in self.named() {
            for (reason, n) in &minute.failures {
                text.push_str(&format!("{} requests FAILED ({name}): {reason}\n", count(*n)));
            }
        }
        for problem in self.minutes.iter().filter_map(|minute| minute.swap_problem.as_deref()).take(1) {
            text.push_str(&format!("a swap failed: {problem}\n"));
        }
        text.extend(self.bars.iter().map(Bar::line));
        text.push_str(&leftovers(&self.not_removed));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(resident_bytes: u64, p99_ms: f64, failed: u64) -> Minute {
        Minute {
            answered: 1,
            held: true,
            failures: BTreeMap::from([("status 503".to_owned(), failed)]),
            p50_ms: 0.1,
            p99_ms,
            events_p99_ms: 0.0,
            changes_p99_ms: 0.0,
            swaps: 1,
            swap_problem: None,
            resident_bytes,
        }
    }

    #[test]
    fn each_bar_can_be_missed() {
        let after = |[history, reads_alone]: [Minute; 2], minutes: Vec<Minute>| {
            let (machine, rate, has_changes) = (Machine::here(), 1.0, false);
            let (file_system, not_removed, bars) = (None, Vec::new(), Vec::new());
            SoakReport { machine, rate, has_changes, file_system, not_removed, history, reads_alone, minutes, bars }
                .judged()
                .map(|bar| bar.held)
        };
        let (good, bad) = (minute(100, 1.0, 0), minute(100, 1.0, 3));
        let held = |minutes: Vec<Minute>| after([good.clone(), good.clone()], minutes);
        let flat = |n| vec![minute(1000, 1.0, 0); n];
        assert_eq!(held(flat(6)), [true; 6]);
        let grown = [flat(4), vec![minute(1000, 1.0, 0), minute(1100, 1.0, 0)]].concat();
        assert_eq!(held(grown), [true, false, false, true, true, true]);
        let wave = [minute(1000, 1.0, 0), minute(1100, 1.0, 0)];
        assert_eq!(held([wave.clone(), wave.clone(), wave].concat()), [true, false, true, true, true, true]);
        let early = [vec![minute(10, 1.0, 0)], flat(5)].concat();
        assert_eq!(held(early), [true; 6], "what grows at first is no leak");
        assert_eq!(held(vec![minute(1000, 1.6, 0); 6]), [true, true, true, false, true, true]);
        assert_eq!(held([flat(5), vec![minute(1000, 1.0, 3)]].concat()), [false, true, true, true, true, true]);
        let behind = Minute { held: false, ..minute(1000, 1.0, 0) };
        assert_eq!(held([flat(5), vec![behind]].concat()), [true, true, true, true, true, false]);
        assert_eq!(after([good.clone(), bad.clone()], flat(6)), [false, true, true, true, true, true]);
        assert_eq!(after([bad, good.clone()], flat(6)), [false, true, true, true, true, true]);
    }
}

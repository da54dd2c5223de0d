//! `kindred bench http`: what the server can do, and how late its answers are at a constant rate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use kindred::artifact;
use serde_json::Value;

use super::super::{Exit, Global};
use super::address;
use super::asked::{self, Histories};
use super::http_report::{HttpReport, Phase};
use super::overload::{self, Overload};
use crate::build::{self, BuildOptions, EdgeChoice};
use crate::factors::FactorsOptions;
use crate::generated;
use crate::load::ask;
use crate::load::plan::{Plan, PlanOptions};
use crate::load::process::{self, ServerProcess, can_pin, pin_self};
use crate::load::run::{Measured, Pace, RunOptions, run as run_load};
use crate::load::scrape::Metrics;
use crate::load::swap::{Swapper, Swaps};
use crate::machine::{Machine, resident_bytes};
use crate::model_dir::ModelMetric;
use crate::progress::Progress;
use crate::report::{emit, note};

/// The core of a server that we start.
const SERVER_CORE: usize = 0;
/// The core of the generator, so that the two do not take each other's time.
const OWN_CORE: usize = 1;
/// The rate of the open loop, if none is asked for: the one that Kindred promises to hold.
const DEFAULT_RATE: f64 = 5_000.0;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kindred bench http --spawn\n  kindred bench http --spawn --overload 2\n  kindred bench http --url http://127.0.0.1:8080 --rate 2000 --mix reads=95,writes=5\n  kindred bench http --spawn --dir bench-data --rate 5000 --duration 30 --swaps 20\n  kindred bench http --spawn --closed --filtered 0.08\n  kindred bench http --spawn --closed --body '{\"filter\": {\"key\": \"price\", \"range\": {\"lt\": 50}}}'"
)]
pub struct Args {
    /// The server to measure
    #[arg(long, required_unless_present = "spawn", conflicts_with = "spawn", value_name = "URL")]
    pub url: Option<String>,
    /// Start a server for the measurement, in a process of its own
    #[arg(long)]
    pub spawn: bool,
    /// Artifacts: those to serve with --spawn, those that the server at --url serves (for item ids and --swaps)
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Settings file of the server that --spawn starts, without its sections tls and admin: it is asked over plain HTTP, on one address
    #[arg(long, value_name = "FILE", requires = "spawn")]
    pub config: Option<PathBuf>,
    /// Where the generated artifact is kept for the next time; a temporary directory if not given
    #[arg(long, value_name = "DIR", requires = "spawn", conflicts_with = "artifacts")]
    pub dir: Option<PathBuf>,
    /// Items to generate
    #[arg(long, default_value_t = 200_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=50_000_000))]
    pub items: usize,
    /// Length of the generated vectors
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(2..=4096))]
    pub dims: usize,
    /// How generated items are compared
    #[arg(long, value_enum, default_value_t = ModelMetric::Cosine)]
    pub metric: ModelMetric,
    /// Seed of everything random
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Measure the most the server can do
    #[arg(long)]
    pub closed: bool,
    /// Measure latency at this many requests per second; may be given several times
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Vec<f64>,
    // At most 31 of 32 of the places that a worker has unless it is told otherwise.
    /// Connections at once; with --overload at most 8 for the most that the server can do, and 640 for more
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=3968))]
    pub connections: usize,
    /// Share of reads and writes; a server of our own takes writes into memory, so that none waits for a disk
    #[arg(long, default_value = "reads=100,writes=0", value_parser = write_share, value_name = "reads=R,writes=W")]
    pub mix: f64,
    /// Interactions in the body of each read
    #[arg(long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(0..=1000))]
    pub interactions: usize,
    /// What the interactions of a read have to do with each other
    #[arg(long, value_enum, default_value_t = Histories::Related)]
    pub histories: Histories,
    /// Items asked for
    #[arg(long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub limit: usize,
    /// Further fields of each read's body, as a JSON object: a scenario, a filter, "explain"
    #[arg(long, default_value = "{}", value_parser = fields, value_name = "JSON")]
    pub body: serde_json::Map<String, Value>,
    /// Measure with a filter on availability and category too, that lets about this share of the items pass, in turns with measurements
    /// without one, and compare; 0.08 is what 4 of the 50 generated categories hold
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["overload", "swaps"])]
    pub filtered: Option<f64>,
    /// Seconds that are counted, of each measurement
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub duration: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub warm_up: f64,
    /// Artifacts swapped under each measurement, evenly spread over it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub swaps: u32,
    /// Send this many times as much as the most that the server can do, and see what it does
    #[arg(long, value_name = "FACTOR", value_parser = rate, conflicts_with_all = ["rate", "swaps"])]
    pub overload: Option<f64>,
}

impl Args {
    /// One measurement.
    pub(super) fn load(&self, target: &Target, connections: usize, pace: Pace) -> RunOptions {
        RunOptions {
            address: target.address,
            connections,
            pace,
            warm_up: Duration::from_secs_f64(self.warm_up),
            duration: Duration::from_secs_f64(self.duration),
        }
    }
}

/// What is measured.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) server: Option<ServerProcess>,
    pub(super) artifacts: Option<PathBuf>,
    /// What of earlier builds could not be removed.
    pub(super) not_removed: Vec<String>,
    /// The generated artifact, removed at the end.
    _temporary: Option<tempfile::TempDir>,
    own_core: Option<usize>,
}

impl Target {
    /// Why a measurement failed, led by the end of a server of ours where it has ended.
    pub(super) fn explained(&mut self, error: anyhow::Error) -> anyhow::Error {
        match &mut self.server {
            Some(server) => server.explained(error),
            None => error,
        }
    }
}

/// Connections at most by which the most that a server can do is found, before it gets more.
const CLOSED_CONNECTIONS: usize = 8;
/// Times that measurements with and without a filter take turns.
const ROUNDS: usize = 3;

/// Measures and reports.
///
/// # Errors
/// No server to measure, or one that cannot be started.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    ensure!(
        args.swaps == 0 || args.spawn || args.artifacts.is_some(),
        "--swaps needs --artifacts, the directory that the server serves"
    );
    let progress = Progress::bar("preparing", 0);
    // Asked before this process is pinned to one of its cores.
    let machine = Machine::here();
    let mut target = target(args, None, &progress)?;
    let model = ask::model(target.address)?;
    let items = asked::items(&target, args.histories)?;
    let histories = Histories::of(&items);
    let mut options = PlanOptions {
        host: target.address.to_string(),
        items,
        interactions: args.interactions,
        limit: args.limit,
        kind: ask::kind(&model).to_owned(),
        write_share: args.mix,
        change_share: 0.0,
        by_user: false,
        body: args.body.clone(),
        seed: args.seed,
    };
    let plan = Plan::new(&options);
    let (filtered, filtered_share) = match args.filtered {
        Some(share) => {
            let (filter, passing) = asked::filter(&target, share)?;
            options.body.insert("filter".to_owned(), filter);
            (Some(Plan::new(&options)), Some(passing))
        }
        None => (None, None),
    };
    let swapper = match (&target.artifacts, args.swaps) {
        (Some(artifacts), 1..) => Some(Swapper::new(artifacts)?),
        _ => None,
    };
    let measured = phases(args, &target, &plan, filtered.as_ref(), swapper.as_ref(), &progress);
    let (phases, overload) = measured.map_err(|error| target.explained(error))?;
    progress.finish();
    if args.swaps == 0
        && let Ok(now) = ask::model(target.address)
    {
        stayed(&text(&model, "generation"), &text(&now, "generation"))?;
    }
    let report = HttpReport {
        machine,
        target: target.address.to_string(),
        generation: text(&model, "generation"),
        items: model["items"].as_u64().unwrap_or(0),
        dimensions: model["dimensions"].as_u64().unwrap_or(0),
        connections: connections(args),
        interactions: args.interactions,
        histories,
        limit: args.limit,
        write_share: args.mix,
        in_memory: args.spawn,
        filtered_share,
        server_core: target.server.as_ref().and_then(|server| server.core),
        generator_core: target.own_core,
        server_resident_bytes: target.server.as_ref().and_then(|server| resident_bytes(server.id())),
        not_removed: target.not_removed,
        phases,
        overload,
    };
    emit(&report, global.json)?;
    let is_measured = report.overload.is_some() == args.overload.is_some();
    Ok(if is_measured && report.is_good() { Exit::Done } else { Exit::No })
}

/// All measurements, in their order.
fn phases(
    args: &Args,
    target: &Target,
    plan: &Plan,
    filtered: Option<&Plan>,
    swapper: Option<&Swapper>,
    progress: &Progress,
) -> anyhow::Result<(Vec<Phase>, Option<Overload>)> {
    let mut phases = Vec::new();
    for pace in paces(args) {
        let label = match pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open { rate } => format!("open loop, {rate}/s"),
        };
        for round in 0..if filtered.is_some() { ROUNDS } else { 1 } {
            progress.start(&format!("{label}, round {}", round + 1), 0);
            phases.push(measure(args, target, plan, pace, swapper)?);
            if let Some(filtered) = filtered {
                let phase = measure(args, target, filtered, pace, None)?;
                phases.push(Phase { filtered: true, ..phase });
            }
        }
    }
    let overload = match args.overload {
        Some(factor) => {
            progress.start("more than it can do", 0);
            overload::measure(args, target, plan, factor, &phases)?
        }
        None => None,
    };
    Ok((phases, overload))
}

/// An artifact that somebody else publishes meanwhile is taken by the server, and every number would be of two.
fn stayed(before: &str, after: &str) -> anyhow::Result<()> {
    ensure!(
        before == after,
        "the server went from generation {before} to {after} while it was measured, so the numbers are of neither: measure again while nobody \
         publishes, and with a --dir that no other bench has"
    );
    Ok(())
}

/// Connections of a measurement. What is more than the server can do is to be told by the rate alone: a queue of many connections would already be a
/// sign of it.
fn connections(args: &Args) -> usize {
    args.connections.min(if args.overload.is_some() { CLOSED_CONNECTIONS } else { usize::MAX })
}

fn text(model: &Value, key: &str) -> String {
    model.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn paces(args: &Args) -> Vec<Pace> {
    let both = !args.closed && args.rate.is_empty() && args.overload.is_none();
    let closed = (both || args.closed || args.overload.is_some()).then_some(Pace::Closed);
    let rates = if both { vec![DEFAULT_RATE] } else { args.rate.clone() };
    closed.into_iter().chain(rates.into_iter().map(|rate| Pace::Open { rate })).collect()
}

/// One measurement, with what the server says of it and the swaps made meanwhile.
fn measure(args: &Args, target: &Target, plan: &Plan, pace: Pace, swapper: Option<&Swapper>) -> anyhow::Result<Phase> {
    let options = args.load(target, connections(args), pace);
    let server_cpu = || target.server.as_ref().and_then(|server| process::cpu_ns(server.id()));
    let stop = AtomicBool::new(false);
    let before = (Metrics::of(target.address)?, server_cpu());
    let (measured, swaps) = std::thread::scope(|scope| -> anyhow::Result<(Measured, Option<Swaps>)> {
        let swapping = swapper.map(|swapper| {
            let whole = options.warm_up + options.duration;
            let stop = &stop;
            scope.spawn(move || swapper.run(target.address, args.swaps, whole, stop))
        });
        let measured = run_load(plan, &options);
        stop.store(true, Ordering::Relaxed);
        let swaps = swapping.map(|swapping| swapping.join().unwrap_or_default());
        Ok((measured?, swaps))
    })?;
    let after = (Metrics::of(target.address)?, server_cpu());
    // Verifying an artifact takes CPU time that no request has caused.
    let cpu_us = match (before.1, after.1) {
        (Some(cpu_before), Some(cpu_after)) if swaps.is_none() && args.mix == 0.0 => {
            let requests = recommendations(&after.0) - recommendations(&before.0);
            Some(cpu_after.saturating_sub(cpu_before) as f64 / 1e3 / requests.max(1.0))
        }
        _ => None,
    };
    let p99 = after.0.stage_p99(&before.0);
    Ok(Phase { stages_p99_us: p99, ..Phase::new(pace, &measured, cpu_us, after.0.shares(&before.0, cpu_us), swaps) })
}

/// Recommendations answered since the server started.
fn recommendations(metrics: &Metrics) -> f64 {
    metrics.get("kindred_request_seconds_count{route=\"recommendations\"}")
}

/// Where a server of ours keeps interactions, and further settings by their environment variables.
pub(super) type Store<'a> = (&'a Path, &'a [(&'a str, &'a str)]);

/// The server to measure: one that we start, with interactions in the store named or in memory, or one that runs.
pub(super) fn target(args: &Args, store: Option<Store<'_>>, progress: &Progress) -> anyhow::Result<Target> {
    if args.spawn { spawn(args, store, progress) } else { existing(args) }
}

/// Starts a server on the artifacts given, or on generated ones.
fn spawn(args: &Args, store: Option<Store<'_>>, progress: &Progress) -> anyhow::Result<Target> {
    let (artifacts, temporary) = match (&args.artifacts, &args.dir) {
        (Some(artifacts), _) => (artifacts.clone(), None),
        (None, Some(dir)) => (dir.clone(), None),
        (None, None) => {
            let temporary = tempfile::tempdir().context("making a temporary directory")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let not_removed = if args.artifacts.is_none() { generate(args, &artifacts, progress)? } else { Vec::new() };
    progress.start("starting the server", 0);
    let two_cores = can_pin(SERVER_CORE) && can_pin(OWN_CORE);
    if !two_cores {
        note(
            "note: server and generator share cores (no `taskset`, or one core only), so the numbers are lower than the server's own",
        );
    }
    // A closed loop keeps a queue standing, which is what giving way is for; unless that is what is measured, answers are to be whole.
    let enabled = if args.overload.is_some() { "true" } else { "false" };
    let (store, further) = store.unzip();
    let settings =
        [("KINDRED__OVERLOAD__ENABLED", enabled)].into_iter().chain(further.unwrap_or_default().iter().copied());
    let settings: Vec<(&str, String)> = settings.map(|(name, value)| (name, value.to_owned())).collect();
    let core = two_cores.then_some(SERVER_CORE);
    let server = ServerProcess::start(&artifacts, args.config.as_deref(), core, &settings, store)?;
    let own_core = (two_cores && pin_self(OWN_CORE)).then_some(OWN_CORE);
    Ok(Target {
        address: server.address,
        server: Some(server),
        artifacts: Some(artifacts),
        not_removed,
        _temporary: temporary,
        own_core,
    })
}

/// Publishes a generated artifact, unless the directory holds the same one from before, built by the same version in the same way. What of earlier builds
/// could not be removed.
fn generate(args: &Args, root: &Path, progress: &Progress) -> anyhow::Result<Vec<String>> {
    let options = FactorsOptions { n_items: args.items, dims: args.dims, n_queries: 1_000, seed: args.seed };
    let metric = args.metric;
    let parameters = serde_json::json!({"items": args.items, "dims": args.dims, "metric": metric, "seed": args.seed});
    // The floor is not what is measured here; the recall is in the manifest.
    let settings =
        BuildOptions { edges: EdgeChoice::Auto, recall_floor: 0.0, keep: Some(1), ..BuildOptions::default() };
    if let Ok(current) = artifact::current(root) {
        let manifest = artifact::read_manifest(&current.directory)?;
        let built_so =
            manifest.tool_version == env!("CARGO_PKG_VERSION") && manifest.builder == settings.builder.name();
        if manifest.trainer == generated::TRAINER && manifest.hyper_parameters == parameters && built_so {
            return Ok(Vec::new());
        }
        ensure!(
            manifest.trainer == generated::TRAINER,
            "{} holds artifacts that were not generated here: give another --dir, or serve them with --artifacts",
            root.display()
        );
    }
    progress.start("generating items", 0);
    let mut model = generated::model(&options, metric);
    model.info.parameters = parameters;
    let built = build::publish(&model.parts(), root, &settings, progress).context("building the generated artifact")?;
    Ok(built.not_removed)
}

fn existing(args: &Args) -> anyhow::Result<Target> {
    let address = address(args.url.as_deref().unwrap_or_default())?;
    let artifacts = args.artifacts.clone();
    Ok(Target { address, server: None, artifacts, not_removed: Vec::new(), _temporary: None, own_core: None })
}

/// `reads=95,writes=5` as the share of writes.
fn write_share(text: &str) -> Result<f64, String> {
    let (mut reads, mut writes) = (0.0, 0.0);
    for part in text.split(',') {
        let (name, number) = part.split_once('=').ok_or_else(|| format!("{part:?}: expected reads=95,writes=5"))?;
        let number: f64 = number.trim().parse().map_err(|_| format!("{number:?} is not a number"))?;
        if !(number.is_finite() && number >= 0.0) {
            return Err(format!("{number} is not a share: it is 0 or more"));
        }
        match name.trim() {
            "reads" => reads = number,
            "writes" => writes = number,
            other => return Err(format!("{other:?} is neither reads nor writes")),
        }
    }
    if reads + writes > 0.0 { Ok(writes / (reads + writes)) } else { Err("reads and writes are both 0".to_owned()) }
}

/// A JSON object.
fn fields(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}; give a JSON object, as {{\"scenario\": \"trending\"}}"))
}

fn share(text: &str) -> Result<f64, String> {
    positive(text)
        .and_then(|share| if share <= 1.0 { Ok(share) } else { Err("expected a share above 0, at most 1".to_owned()) })
}

/// Requests per second, or times the most that a server can do: not so few that the next is never due.
fn rate(text: &str) -> Result<f64, String> {
    positive(text).and_then(|rate| {
        if (0.1..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("expected 0.1 to 10000000".to_owned()) }
    })
}

/// A number of seconds or of times, above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if number > 0.0 && number <= 86_400_000.0 { Ok(number) } else { Err(format!("{number} is not above 0")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_another_version_built_is_built_anew() {
        let root = tempfile::tempdir().unwrap();
        let line = "http --spawn --items 100 --dims 8".split(' ').collect::<Vec<_>>();
        let args = Line::try_parse_from(line).map(|line| line.args).unwrap();
        let generated = || {
            generate(&args, root.path(), &Progress::hidden()).unwrap();
            artifact::current(root.path()).unwrap()
        };
        let first = generated();
        assert_eq!(generated().generation, first.generation);
        let manifest = first.directory.join(artifact::MANIFEST_FILE);
        let text = std::fs::read_to_string(&manifest).unwrap();
        let older = text.replace(concat!('"', env!("CARGO_PKG_VERSION"), '"'), "\"0.0.1\"");
        assert_ne!(older, text);
        // A published file is read-only.
        std::fs::remove_file(&manifest).unwrap();
        std::fs::write(&manifest, older).unwrap();
        assert_ne!(generated().generation, first.generation);
    }

    #[test]
    fn what_is_reported_is_what_was_measured() {
        let told = |line: &str| connections(&Line::try_parse_from(line.split(' ')).unwrap().args);
        assert_eq!((told("http --spawn"), told("http --spawn --overload 2")), (16, CLOSED_CONNECTIONS));
        assert!(stayed("g1", "g1").is_ok());
        let error = stayed("g1", "g2").unwrap_err().to_string();
        assert!(error.contains("from generation g1 to g2") && error.contains("--dir"), "{error}");
    }

    #[test]
    fn a_mix_is_a_share_of_writes() {
        assert_eq!(write_share("reads=95,writes=5"), Ok(0.05));
        assert_eq!(write_share("writes=1"), Ok(1.0));
        for wrong in ["", "reads", "reads=x", "reads=-1,writes=2", "reads=0,writes=0", "deletes=1"] {
            assert!(write_share(wrong).is_err(), "{wrong}");
        }
    }
}

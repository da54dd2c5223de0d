//! `kindred demo`: the whole way in one command, from a log of interactions to answers that change with what a visitor does.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use kindred::settings::Settings;
use kindred::store::StoreError;
use kindred::store::embedded::EmbeddedStore;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::demo_report::{DemoReport, Step};
use super::demo_show;
use super::verify;
use super::{Exit, Global};
use crate::build::{self, BuildOptions};
use crate::dataset::{self, Dataset, PrepareOptions};
use crate::model_dir::ModelDir;
use crate::progress::Progress;
use crate::report::{count, emit, note, seconds};
use crate::shop::visitors::PERSON_EVENTS_MAX;
use crate::shop::{self, ShopOptions};
use crate::train::assemble::{self, ModelOptions};
use crate::train::sessions::Cut;
use crate::train::softmax::Softmax;

/// What tells a directory that a demo made from one that it did not.
const MARK: &str = ".kindred-demo";
/// Generations kept in the demo's artifacts.
const KEEP: usize = 2;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kindred demo\n  kindred demo --data ml-1m/ratings.dat --item-table ml-1m/movies.dat --port 9000"
)]
pub struct Args {
    /// Items of the generated shop
    #[arg(long, default_value_t = 2_000, conflicts_with = "data", value_parser = RangedU64ValueParser::<usize>::new().range(20..=10_000_000))]
    pub items: usize,
    /// Visitors of the generated shop
    #[arg(long, default_value_t = 4_000, conflicts_with = "data", value_parser = RangedU64ValueParser::<usize>::new().range(20..=100_000_000))]
    pub visitors: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A real log instead: what `kindred prepare` reads, its format told by its name and first lines
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Titles, categories and prices of the items in --data
    #[arg(long, value_name = "FILE", requires = "data")]
    pub item_table: Option<PathBuf>,
    /// Port to serve on, on 127.0.0.1; 0 lets the system choose
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Where everything is written
    #[arg(long, default_value = "demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// Stop when the artifact is verified
    #[arg(long)]
    pub no_serve: bool,
}

/// What the demo goes by.
struct Log {
    interactions: PathBuf,
    items: Option<PathBuf>,
    /// Most interactions of a person, where that is known; else the bound that `kindred prepare` has.
    busiest: Option<usize>,
}

/// Goes the whole way; with `--no-serve` to the verified artifact, else until a signal stops the server.
///
/// # Errors
/// The port is taken, the directory is somebody else's, an earlier demo is still served from it, or a step fails.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    // Now, and not after minutes of work; the same goes for the files.
    let settings = (!args.no_serve).then(|| Settings::load(None)).transpose();
    let settings = settings.context("reading the settings from the environment")?;
    if settings.is_some() {
        drop(port_is_free(args.port)?);
    }
    for given in args.data.iter().chain(&args.item_table) {
        let file = fs::metadata(given).with_context(|| format!("looking at {}", given.display()))?;
        ensure!(file.is_file(), "{} is not a file: give the file of the log, or of its items", given.display());
    }
    own_directory(&args.dir)?;
    let progress = Progress::bar("", 0);
    let mut report = DemoReport::new(&args.dir);
    forget(&report.store)?;
    let published = go(args, &progress, &mut report)?;
    progress.finish();
    if !published {
        emit(&report, global.json)?;
        return Ok(Exit::No);
    }
    match settings {
        Some(settings) => serve(args, report, settings, global)?,
        None => emit(&report, global.json)?,
    }
    Ok(Exit::Done)
}

/// All steps up to the verified artifact. Whether there is one.
fn go(args: &Args, progress: &Progress, report: &mut DemoReport) -> anyhow::Result<bool> {
    let log = match &args.data {
        Some(data) => Log { interactions: data.clone(), items: args.item_table.clone(), busiest: None },
        None => step(report, progress, "generate", || generate(args, progress))?,
    };
    step(report, progress, "prepare", || prepare(&log, &args.dir, progress))?;
    let model = step(report, progress, "train", || train(args, progress))?;
    let options = BuildOptions { seed: args.seed, keep: Some(KEEP), ..BuildOptions::default() };
    let built = step(report, progress, "build", || {
        let built = build::publish(&model.parts(), &args.dir.join("artifacts"), &options, progress)
            .context("building the artifact")?;
        let said = format!(
            "{} items, {} edges, ann_recall@10 {:.4}",
            count(built.n_items as u64),
            built.edges,
            built.ann_recall_at_10
        );
        Ok((built, said))
    })?;
    report.not_removed.clone_from(&built.not_removed);
    if built.published.is_none() {
        report.problem =
            Some(format!("ann_recall@10 {:.4} is below the floor of {}", built.ann_recall_at_10, built.recall_floor));
        return Ok(false);
    }
    let verified = step(report, progress, "verify", || {
        let verified = verify::verify(&args.dir.join("artifacts"))?;
        let said = if verified.ok { "every byte is as published".to_owned() } else { "damaged".to_owned() };
        Ok((verified, said))
    })?;
    report.generation = verified.generation.unwrap_or_default();
    report.problem = verified.problem;
    Ok(verified.ok)
}

/// Runs one step, and says what it did and how long it took.
fn step<T>(
    report: &mut DemoReport,
    progress: &Progress,
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<(T, String)>,
) -> anyhow::Result<T> {
    progress.start(name, 0);
    let started = Instant::now();
    let (result, said) = work()?;
    let taken = started.elapsed().as_secs_f64();
    progress.suspend(|| note(&format!("{name:9} {:>9}  {said}", seconds(taken))));
    report.steps.push(Step { step: name, seconds: taken, said });
    Ok(result)
}

fn generate(args: &Args, progress: &Progress) -> anyhow::Result<(Log, String)> {
    let dir = args.dir.join("shop");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let options = ShopOptions { n_items: args.items, n_visitors: args.visitors, seed: args.seed };
    let shop = shop::generate(&options, &dir, progress).context("generating the shop")?;
    let said = format!(
        "{} items, {} interactions of {} visitors and a robot",
        count(args.items as u64),
        count(shop.counts.rows),
        count(args.visitors as u64)
    );
    Ok((Log { interactions: shop.interactions, items: Some(shop.items), busiest: Some(PERSON_EVENTS_MAX) }, said))
}

fn prepare(log: &Log, dir: &Path, progress: &Progress) -> anyhow::Result<((), String)> {
    let mut options =
        PrepareOptions { items: log.items.clone(), ..PrepareOptions::new(vec![log.interactions.clone()]) };
    if let Some(busiest) = log.busiest {
        options.clean.max_user_interactions = u32::try_from(busiest).unwrap_or(u32::MAX);
    }
    let parts = dataset::prepare(&options, progress)
        .context("preparing the log (`kindred prepare` has options for logs of any form)")?;
    parts.write(&dir.join("dataset"), true).context("writing the dataset")?;
    let report = &parts.report;
    let kept = report.n_train + report.n_test;
    let said = format!(
        "{} interactions of {} users kept, {} rows dropped, {} held out to test on",
        count(kept),
        count(report.n_users),
        count(report.read.rows.saturating_sub(kept)),
        count(report.n_test)
    );
    Ok(((), said))
}

fn train(args: &Args, progress: &Progress) -> anyhow::Result<(ModelDir, String)> {
    let dataset = Dataset::open(&args.dir.join("dataset")).context("opening the dataset")?;
    let material = super::train::material(&dataset)?;
    let trainer = Softmax { seed: args.seed, ..Softmax::default() };
    let options = ModelOptions { sessions: Some(Cut::AtPauses), ..ModelOptions::default() };
    let by_hand = || format!("training (`kindred train --dataset {}/dataset` has options for it)", args.dir.display());
    let model = assemble::model(material, &trainer, &options, progress).with_context(by_hand)?;
    model.write(&args.dir.join("model"), true).context("writing the model")?;
    let (items, factors) = (count(model.items.len() as u64), model.info.factors);
    let said = format!("{items} items × {factors} factors, {}", model.info.weighting.recency());
    Ok((model, said))
}

/// Serves, shows what it can do, and waits for Ctrl-C.
fn serve(args: &Args, mut report: DemoReport, mut settings: Settings, global: &Global) -> anyhow::Result<()> {
    settings.http.port = args.port;
    settings.http.host = "127.0.0.1".to_owned();
    // It is asked, and shown, over plain HTTP.
    settings.tls = Settings::default().tls;
    settings.artifacts.dir = args.dir.join("artifacts");
    settings.history.path.clone_from(&report.store);
    // The screen belongs to the demonstration; requests that fail are still logged.
    settings.log.level = "warn".to_owned();
    kindred::telemetry::init(&settings.log).context("starting the log")?;
    let signals = Signals::watch()?;
    let server = kindred::app::spawn(settings).context("starting the server")?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    report.shown = Some(demo_show::show(address)?);
    emit(&report, global.json)?;
    signals.wait();
    server.stop().context("stopping the server")?;
    Ok(())
}

/// SIGTERM and Ctrl-C, watched from the moment this is made: one that comes before anyone waits for it is not lost.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("watching for signals")?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("watching for Ctrl-C")?;
        drop(entered);
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Waits for the first of them.
    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        });
    }
}

fn port_is_free(port: u16) -> anyhow::Result<TcpListener> {
    let remedy =
        || format!("port {port} of 127.0.0.1 cannot be had: give another with --port, or stop the program that has it");
    TcpListener::bind(("127.0.0.1", port)).with_context(remedy)
}

/// Removes what an earlier demo's visitors did: the items may be others now, with the same ids.
fn forget(store: &Path) -> anyhow::Result<()> {
    // Opened and let go again: who has it open would go on acknowledging into files that have no name any more. One that is damaged may go.
    if let Err(error @ StoreError::InUse { .. }) = EmbeddedStore::open_existing(store).map(drop) {
        return Err(error).context("an earlier demo is still served: stop it, or give another directory with --dir");
    }
    match fs::remove_dir_all(store) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", store.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the directory, or takes one that an earlier demo made.
fn own_directory(dir: &Path) -> anyhow::Result<()> {
    let mark = dir.join(MARK);
    let failed = |what: &str, path: &Path| format!("{what} {}; give another directory with --dir", path.display());
    let is_empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| failed("looking into", dir)),
    };
    ensure!(
        is_empty || mark.is_file(),
        "{} is not empty and not from an earlier demo: nothing in it is touched; give another directory with --dir",
        dir.display()
    );
    fs::create_dir_all(dir).with_context(|| failed("making", dir))?;
    fs::write(&mark, "Written by `kindred demo`, which replaces what it finds beside this file.\n")
        .with_context(|| failed("writing", &mark))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;
    use kindred::store::embedded::{EmbeddedOptions, Retention};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_log_without_order_is_told_with_the_command_that_can_take_it() {
        let place = tempfile::tempdir().unwrap();
        let (log, dir) = (place.path().join("log.csv"), place.path().join("demo"));
        let row = |user: u32| format!("u{user},i{},view,{}\n", user % 7, 1_700_000_000 + user);
        let rows: String = (0..40).map(row).collect();
        fs::write(&log, format!("user_id,item_id,event,timestamp\n{rows}")).unwrap();
        let mut args = Line::parse_from(["demo", "--no-serve"]).args;
        (args.data, args.dir) = (Some(log), dir.clone());
        let refused = format!("{:#}", run(&args, &Global::default()).unwrap_err());
        let command = format!("`kindred train --dataset {}/dataset`", dir.display());
        assert!(refused.contains("use another --trainer") && refused.contains(&command), "{refused}");
    }

    #[test]
    fn a_directory_that_cannot_be_had_is_told_with_the_option() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = own_directory(&file.join("demo")).unwrap_err().to_string();
        assert!(refused.contains("give another directory with --dir"), "{refused}");
    }

    #[test]
    fn what_a_running_server_has_acknowledged_is_not_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store/kindred");
        let options =
            EmbeddedOptions { keep: 1, cache_mb: 1, page_cache_mb: 1, queue: 100, retention: Retention::default() };
        let store = EmbeddedStore::open(&path, options, || 0).unwrap();
        let refused = format!("{:#}", forget(&path).unwrap_err());
        assert!(refused.contains("--dir") && refused.contains("in use"), "{refused}");
        assert!(path.is_dir());
        drop(store);
        forget(&path).unwrap();
        assert!(!path.exists());
        forget(&path).unwrap();
        // What is no store any more is nobody's.
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("half"), "of one").unwrap();
        forget(&path).unwrap();
        assert!(!path.exists());
    }
}

//! The sub-commands, one file each: `Args` is the command line, `run` does it.

pub mod activate;
pub mod backup;
pub mod bench;
pub mod build;
pub mod demo;
pub mod demo_report;
pub mod demo_show;
pub mod evaluate;
mod evaluate_log;
mod evaluate_report;
pub mod export;
pub mod fsck;
pub mod inspect;
pub mod inspect_report;
pub mod key;
pub mod prepare;
pub mod serve;
pub mod train;
pub mod tune;
pub mod verify;

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kindred::scenario::Scenario;
use kindred::store::StoreError;

use crate::progress;

/// From a log of interactions to recommendations over HTTP.
#[derive(Debug, Parser)]
#[command(
    name = "kindred",
    version,
    propagate_version = true,
    after_help = "Example: kindred demo\n\nA way from data to answers: prepare, train, build, verify, serve. Each has its own --help."
)]
pub struct Cli {
    /// What holds for every sub-command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every sub-command.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Global {
    /// Print the result as one line of JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress, only the result.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// How a sub-command ended, when it did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done,
    /// It is done and the answer is no: the artifact is damaged, the recall is below its floor.
    No,
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
        }
    }
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole way on a generated shop, and serve it
    ///
    /// Generates a catalogue and a log of what visitors did (or takes a real log with --data), prepares it, trains a model, builds and verifies
    /// an artifact, serves it, and shows how an event changes the next answer. Everything lies in --dir afterwards, each part as its own command
    /// would have written it; run again, the demo replaces them.
    Demo(demo::Args),
    /// Make a dataset of a log of interactions
    ///
    /// Reads CSV, TSV, JSON Lines or Parquet, packed by gzip or not; the form is told by the content. Cleans it, weighs it, holds
    /// a part out by time, and writes a dataset with a report of what was dropped and why.
    ///
    /// Columns are found by usual names (user_id, item_id, timestamp, event...; letter case and punctuation do not matter) or
    /// named below. Of JSON Lines the first 64 KiB, or all of a longer first row, are looked at for usual names: a field that no row
    /// there has is to be named. Users and items are texts of 1 to 256 bytes of UTF-8; spaces about them are a part of them in JSON
    /// Lines and Parquet only. A field that is empty, \N, null, None, NaN, NaT, NA, `<NA>` or N/A is missing, in every column; but a
    /// user or an item of JSON Lines or Parquet, which know null, may be called NA. Times are seconds, milliseconds, microseconds or
    /// nanoseconds since 1970 or dates like 20171010 and 20171010102345, told by their size in each file, or dates like
    /// 2017-10-10T10:23:45Z, 2017-10-10 10:23 or 2017-10-10 10:23:45 +0200, in UTC where they name no offset.
    ///
    /// The log is read once and never held as text. It takes 22 bytes of memory an interaction while it is read, at most 70 while
    /// it is sorted and divided, and about 60 bytes and twice the identifier's length for each distinct user and item.
    Prepare(prepare::Args),
    /// Train a model on a dataset, or import factors trained elsewhere
    ///
    /// A model is a directory of item factors, item-to-item neighbours, popularity, weights by kind and position, words of new items, and with
    /// --learn-weights what each source of a list weighs, which takes about twice as long. What is left out is chosen on held-back interactions.
    Train(Box<train::Args>),
    /// Search the settings of a trainer on held-back training interactions
    Tune(tune::Args),
    /// Build the index of a model and publish it as an artifact
    ///
    /// Builds the graph, measures how well its search agrees with an exact scan on the model's own user vectors, and publishes the result
    /// below --output in one step: CURRENT names either the artifact before or the new one, also if this command is killed. A server that
    /// runs on that directory picks the new artifact up by itself. Below --recall-floor nothing is published, and the exit code is 1.
    Build(build::Args),
    /// Go back to an artifact that was published before, or list those there are
    ///
    /// Every byte of it is checked first; then CURRENT names it, and a server takes it when it looks next (`artifacts.poll_ms`, SIGHUP or
    /// `POST /admin/reload`). What changed in the catalogue since is laid over it, as far back as changes are kept (seven days). Exit code 0:
    /// done; 1: the artifact is damaged, and CURRENT names what it named; 2: there is none of this name, or it cannot be read.
    Activate(activate::Args),
    /// Check every byte of an artifact
    ///
    /// Compares both files with the checksums of the manifest, then checks what no checksum can: that links lead to items, levels agree, rows
    /// are finite and of the right length, keys are found, filters are in order, neighbours and catalogue entries are whole. Exit code 0: it may
    /// serve; 1: it is damaged or lacks a file, and the report says where; 2: there is nothing that could be read.
    Verify(verify::Args),
    /// Show what is in an artifact
    ///
    /// The manifest, the sizes of all sections, the graph's degrees and levels, the fields that can be filtered on and the most popular
    /// items; with --item, one item with its catalogue entry, its stored neighbours and what is nearest to its vector.
    Inspect(inspect::Args),
    /// Measure the served list on held-out interactions
    ///
    /// Through the index, exactly, and beside the most popular items: the same function makes the lists that answers a request. Or, with --from-log,
    /// what visitors did with the lists that a server has logged; its store must not be open elsewhere, so name a backup of a server that runs.
    Evaluate(evaluate::Args),
    /// Serve recommendations over HTTP
    ///
    /// Settings come from --config, then from the environment (KINDRED__HTTP__PORT=9000), then from the flags here; every setting with its
    /// default is in config/kindred.toml and printed by `kindred-server --print-defaults`. SIGTERM and Ctrl-C finish the requests in progress
    /// and stop; SIGHUP looks for a new artifact, new keys and a new certificate at once. With --json the log is JSON, an object a line; with
    /// --quiet it has warnings and errors only, if neither --log nor the settings say another level than the usual one.
    Serve(serve::Args),
    /// Make an API key
    Key(key::Args),
    /// Copy a store, while its server goes on or while nobody has it open
    ///
    /// With --server the server makes the copy, beside its store in the directory `backups`: exactly what was committed when it began. Without, the directory
    /// of --store is copied to --to; that needs a store that no process has open. A server with keys takes one of the role admin from the environment variable
    /// KINDRED_API_KEY.
    Backup(backup::Args),
    /// Put a backup in the place of a store
    ///
    /// The backup is checked first, copied beside the target and renamed: the store is the old one or the new one, never half of one. A backup that cannot
    /// be read to its end is refused; what else is wrong with it is told, and restored as it is. Stop the server before; a store that is in use is
    /// not replaced.
    Restore(backup::RestoreArgs),
    /// Write the interaction log of a store as JSON Lines, which `kindred prepare` reads
    ///
    /// One interaction a line, in order of arrival, with the names of the API, but that the user of a line is its session where nobody was signed
    /// in, and that its value is called amount, because it is no weight. What people did whose standing consent is less than `full` is left out.
    /// Only its owner may read the file; what a run that was killed has left of it (FILE.partial) is replaced by the next. The store must not be open
    /// elsewhere: export a backup of a server that runs (`kindred backup --server`).
    Export(export::Args),
    /// Check a store: its blocks, its records and documents, and that its tables agree
    ///
    /// Reads all of it, while no server has it open; check a backup while one has. Exit code 0: it is whole; 1: it is damaged, and the report says how;
    /// 2: it cannot be read at all.
    Fsck(fsck::Args),
    /// Measure speed, with the quality that it was measured at beside it
    Bench(bench::Args),
}

/// Runs one sub-command.
///
/// # Errors
/// Whatever kept it from its work; the text names what was expected, what was found and the remedy.
pub fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    if global.quiet {
        progress::silence();
    }
    match &cli.command {
        Command::Demo(args) => demo::run(args, global),
        Command::Prepare(args) => prepare::run(args, global),
        Command::Train(args) => train::run(args, global),
        Command::Tune(args) => tune::run(args, global),
        Command::Build(args) => build::run(args, global),
        Command::Activate(args) => activate::run(args, global),
        Command::Verify(args) => verify::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Evaluate(args) => evaluate::run(args, global),
        Command::Serve(args) => serve::run(args, global),
        Command::Key(args) => key::run(args, global),
        Command::Backup(args) => backup::run(args, global),
        Command::Restore(args) => backup::run_restore(args, global),
        Command::Export(args) => export::run(args, global),
        Command::Fsck(args) => fsck::run(args, global),
        Command::Bench(args) => bench::run(args, global),
    }
}

/// What to read in the place of a store that its server has open.
pub(crate) const NAME_A_COPY: &str =
    "a server has the store open: make a copy with `kindred backup --server HOST:PORT` and name that";

/// The store's error, led by what can be done where it is in use: the store itself knows nothing of these commands.
pub(crate) fn where_in_use(remedy: &'static str) -> impl FnOnce(StoreError) -> anyhow::Error {
    move |error| match error {
        error @ StoreError::InUse { .. } => anyhow::Error::new(error).context(remedy),
        error => error.into(),
    }
}

/// The scenario of that name, or an error that names those there are.
pub(crate) fn scenario<'s>(scenarios: &'s BTreeMap<String, Scenario>, name: &str) -> anyhow::Result<&'s Scenario> {
    scenarios.get(name).with_context(|| {
        let known: Vec<&str> = scenarios.keys().map(String::as_str).collect();
        format!("there is no scenario {name:?}; there are: {}", known.join(", "))
    })
}

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
    Demo(demo::Args),
    /// Make a dataset of a log of interactions
    Prepare(prepare::Args),
    /// Train a model on a dataset, or import factors trained elsewhere
    Train(Box<train::Args>),
    /// Search the settings of a trainer on held-back training interactions
    Tune(tune::Args),
    /// Build the index of a model and publish it as an artifact
    Build(build::Args),
    /// Go back to an artifact that was published before, or list those there are
    Activate(activate::Args),
    /// Check every byte of an artifact
    Verify(verify::Args),
    /// Show what is in an artifact
    Inspect(inspect::Args),
    /// Measure the served list on held-out interactions
    Evaluate(evaluate::Args),
    /// Serve recommendations over HTTP
    Serve(serve::Args),
    /// Make an API key
    Key(key::Args),
    /// Copy a store, while its server goes on or while nobody has it open
    Backup(backup::Args),
    /// Put a backup in the place of a store
    Restore(backup::RestoreArgs),
    /// Write the interaction log of a store as JSON Lines, which `kindred prepare` reads
    Export(export::Args),
    /// Check a store: its blocks, its records and documents, and that its tables agree
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

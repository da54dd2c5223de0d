//! `kindred fsck`: is a store whole?

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use kindred::store::embedded::{DEFAULT_PATH, check};
use serde::Serialize;

use super::{Exit, Global};
use crate::progress::Progress;
use crate::report::{Report, count, emit, seconds};

/// Check a store: its blocks, its records, and that its tables agree
///
/// Reads all of it, while no server has it open; check a backup while one has. Exit code 0: it is whole; 1: it is damaged, and the report says how;
/// 2: it cannot be read at all.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred fsck store/kindred")]
pub struct Args {
    /// The directory of the store
    #[arg(default_value = DEFAULT_PATH, value_name = "DIR")]
    pub store: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct FsckReport {
    /// Whether it is whole.
    pub ok: bool,
    /// The directory.
    pub store: PathBuf,
    /// Interactions in it.
    pub interactions: u64,
    /// Documents in it.
    pub documents: u64,
    /// Sequence of the last interaction that was ever kept.
    pub watermark: u64,
    /// What is wrong, the first ones.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
    /// Seconds the check took.
    pub seconds: f64,
}

/// Checks and reports.
///
/// # Errors
/// There is no such store, it is in use, or it is of another version.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let progress = Progress::bar("checking", 0);
    let checked = check(&args.store)?;
    progress.finish();
    let report = FsckReport {
        ok: checked.problem_count == 0,
        store: args.store.clone(),
        interactions: checked.interactions,
        documents: checked.documents,
        watermark: checked.watermark,
        problems: checked.problems,
        problem_count: checked.problem_count,
        seconds: started.elapsed().as_secs_f64(),
    };
    emit(&report, global.json)?;
    Ok(if report.ok { Exit::Done } else { Exit::No })
}

impl Report for FsckReport {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} interactions, {} documents, last sequence {}, read in {}\n",
            self.store.display(),
            count(self.interactions),
            count(self.documents),
            self.watermark,
            seconds(self.seconds)
        );
        for problem in &self.problems {
            let _ = writeln!(text, "  {problem}");
        }
        let _ = match self.problem_count {
            0 => writeln!(text, "whole"),
            problems => writeln!(text, "damaged: {problems} problem(s); restore a backup with `kindred restore`"),
        };
        text
    }
}

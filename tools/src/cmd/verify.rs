//! `kindred verify`: is every byte of an artifact as it was published?

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use kindred::artifact::{self, ArtifactError, MANIFEST_FILE};
use kindred::snapshot::Snapshot;
use kindred::telemetry::chain;
use serde::Serialize;

use super::{Exit, Global};
use crate::progress::Progress;
use crate::report::{Report, bytes, count, emit, seconds};

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred verify artifacts")]
pub struct Args {
    /// A directory of artifacts, whose CURRENT one is meant, or the directory of one generation
    #[arg(default_value = "artifacts", value_name = "DIR")]
    pub artifact: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Whether it may serve.
    pub ok: bool,
    /// Where it is.
    pub directory: PathBuf,
    /// Its generation; none if the manifest could not be read.
    pub generation: Option<String>,
    /// Items; none if it could not be opened.
    pub n_items: Option<u32>,
    /// Bytes that were checked.
    pub bytes: u64,
    /// What is wrong, if anything, and how to mend it.
    pub problem: Option<String>,
    /// Seconds the checks took.
    pub seconds: f64,
}

/// Verifies and reports.
///
/// # Errors
/// There is no artifact, or it cannot be read.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::bar("verifying", 0);
    let report = verify(&args.artifact)?;
    progress.finish();
    emit(&report, global.json)?;
    Ok(if report.ok { Exit::Done } else { Exit::No })
}

/// Checks the artifact in a directory, or the current one below it.
///
/// # Errors
/// There is no artifact, or it cannot be read. Damage is no error but the report's content.
pub fn verify(path: &Path) -> anyhow::Result<VerifyReport> {
    let started = Instant::now();
    let directory = directory(path)?;
    let mut report = VerifyReport {
        ok: false,
        directory: directory.clone(),
        generation: None,
        n_items: None,
        bytes: 0,
        problem: None,
        seconds: 0.0,
    };
    let outcome = check(&directory, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    // As a copy that was broken off is. One that is gone altogether, or that may not be read, may be whole all the same.
    let lacks_a_file = |error: &ArtifactError| {
        let is_missing = matches!(error, ArtifactError::Read { source, .. } if source.kind() == ErrorKind::NotFound);
        is_missing && directory.join(MANIFEST_FILE).is_file()
    };
    match outcome {
        Ok(()) => report.ok = true,
        Err(error @ ArtifactError::Read { .. }) if !lacks_a_file(&error) => {
            return Err(error).with_context(|| format!("verifying {}", directory.display()));
        }
        Err(error) => report.problem = Some(chain(&error)),
    }
    Ok(report)
}

fn check(directory: &Path, report: &mut VerifyReport) -> Result<(), ArtifactError> {
    let manifest = artifact::read_manifest(directory)?;
    report.generation = Some(manifest.generation.clone());
    report.bytes = manifest.files.values().map(|file| file.length).sum();
    let verified = Snapshot::open(directory).and_then(|snapshot| {
        report.n_items = Some(snapshot.model().len());
        snapshot.verify()
    });
    // What is not the published file should be told as that, and not by where it first makes no sense.
    verified.or_else(|error| artifact::check_files(directory, &manifest).and(Err(error)))
}

/// The directory of the artifact that a path means: itself if it holds a manifest, else the generation its CURRENT names.
///
/// # Errors
/// There is no such directory, or nothing is published in it.
pub fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    if path.join(MANIFEST_FILE).is_file() {
        return Ok(path.to_owned());
    }
    let named = || format!("{} is neither an artifact nor a directory of artifacts", path.display());
    Ok(artifact::current(path).with_context(named)?.directory)
}

impl Report for VerifyReport {
    fn text(&self) -> String {
        let mut text = String::new();
        let directory = self.directory.display();
        let _ = match &self.problem {
            None => writeln!(
                text,
                "{directory} is whole: {} items, {} checked in {}, {:.2} GB/s",
                count(self.n_items.unwrap_or(0).into()),
                bytes(self.bytes),
                seconds(self.seconds),
                self.bytes as f64 / 1e9 / self.seconds.max(f64::MIN_POSITIVE)
            ),
            Some(problem) => writeln!(text, "{directory} is damaged: {problem}"),
        };
        text
    }
}

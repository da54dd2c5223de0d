//! `kindred export`: the interaction log of a store as the next training set.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use kindred::store::embedded::{DEFAULT_PATH, EmbeddedStore, Logged};
use serde::Serialize;

use super::{Exit, Global};
use crate::calendar::Moment;
use crate::progress::Progress;
use crate::report::{Report, count, emit};
use crate::whole_file::WholeFile;

/// Interactions read at once.
const PAGE: usize = 10_000;

/// Write the interaction log of a store as JSON Lines, which `kindred prepare` reads
///
/// One interaction a line, in order of arrival, with the names of the API, but that the user of a line is its session where nobody was signed
/// in, and that its value is called amount, because it is no weight. The store must not be open elsewhere: export a backup of a server that runs (`kindred backup --server`).
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred export --store store/backups/kindred-000000001234 --to log.jsonl")]
pub struct Args {
    /// The directory of the store, or of a backup
    #[arg(long, default_value = DEFAULT_PATH, value_name = "DIR")]
    pub store: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Only interactions after this sequence: what an earlier export named as its last
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub after: u64,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// The file.
    pub file: PathBuf,
    /// Interactions in it.
    pub interactions: u64,
    /// Sequence of the last one; an export after this one goes on from here.
    pub last_sequence: u64,
    /// Records that did not decode and were left out.
    pub damaged: u64,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    item_id: &'a str,
    kind: &'a str,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<f32>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    context: &'a std::collections::BTreeMap<String, String>,
}

/// Exports and reports.
///
/// # Errors
/// The store cannot be read, or the file cannot be written or is there already.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    ensure!(
        args.force || !args.to.exists(),
        "{} is there already: name another file, or say --force",
        args.to.display()
    );
    let store = EmbeddedStore::open_existing(&args.store)?;
    let report = export(&store, args)?;
    emit(&report, global.json)?;
    Ok(Exit::Done)
}

fn export(store: &EmbeddedStore, args: &Args) -> anyhow::Result<ExportReport> {
    let writing = || format!("writing {}", args.to.display());
    let mut out = WholeFile::begin(&args.to).with_context(writing)?;
    let progress = Progress::bar("exporting", 0);
    let (mut interactions, mut last_sequence) = (0, args.after);
    while let Some((page, last)) =
        kindred::history::RecentInteractions::check(store).and_then(|()| store.blocking_log(last_sequence, PAGE))?
    {
        for logged in &page {
            serde_json::to_writer(&mut out, &line(logged)).with_context(writing)?;
            out.write_all(b"\n").with_context(writing)?;
        }
        interactions += page.len() as u64;
        last_sequence = last;
        progress.set(interactions);
    }
    progress.finish();
    out.publish().with_context(writing)?;
    let damaged = kindred::history::RecentInteractions::stats(store).damaged;
    Ok(ExportReport { file: args.to.clone(), interactions, last_sequence, damaged })
}

fn line(logged: &Logged) -> Line<'_> {
    let interaction = &logged.interaction;
    let (user_id, session_id) = (logged.user_id.as_deref(), logged.session_id.as_deref());
    Line {
        user_id: user_id.or(session_id).unwrap_or_default(),
        session_id: session_id.filter(|_| user_id.is_some()),
        item_id: &interaction.item_id,
        kind: &interaction.kind,
        timestamp: interaction.occurred_at_ms,
        interaction_id: interaction.interaction_id.as_deref(),
        amount: interaction.value,
        context: &interaction.context,
    }
}

impl Report for ExportReport {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} interactions, up to sequence {} ({})\n",
            self.file.display(),
            count(self.interactions),
            self.last_sequence,
            Moment::now().rfc3339()
        );
        if self.damaged > 0 {
            text.push_str(&format!("{} records do not decode and were left out: run `kindred fsck`\n", self.damaged));
        }
        text
    }
}

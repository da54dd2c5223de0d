//! `kindred export`: the interaction log of a store as the next training set.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use kindred::history::{Actor, RecentInteractions};
use kindred::people::People;
use kindred::people::consent::Consent;
use kindred::people::settings::PeopleSettings;
use kindred::store::embedded::{DEFAULT_PATH, EmbeddedStore, Logged};
use serde::Serialize;

use super::{Exit, Global, NAME_A_COPY, where_in_use};
use crate::calendar::Moment;
use crate::progress::Progress;
use crate::report::{Report, count, emit};
use crate::whole_file::WholeFile;

/// Interactions read at once.
const PAGE: usize = 10_000;

/// The command line.
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
    /// Sequence of the last one that was looked at; an export after this one goes on from here.
    pub last_sequence: u64,
    /// Interactions of people who do not agree to be remembered, which were left out.
    pub refused: u64,
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
    let store = Arc::new(EmbeddedStore::open_existing(&args.store).map_err(where_in_use(NAME_A_COPY))?);
    let last = RecentInteractions::watermark(&*store);
    ensure!(
        args.after <= last,
        "--after is {}, and the last sequence of {} is {last}: it is another store than the one that was exported before, or an older copy of it; \
         leave --after out to export all of it",
        args.after,
        args.store.display()
    );
    // On the disk are the names that are kept, so no key is asked for.
    let people = People::open(&PeopleSettings::default(), store.clone(), store.clone())?;
    let report = export(&store, &people, args)?;
    emit(&report, global.json)?;
    Ok(Exit::Done)
}

fn export(store: &EmbeddedStore, people: &People, args: &Args) -> anyhow::Result<ExportReport> {
    let writing = || format!("writing {}", args.to.display());
    let mut out = WholeFile::begin_private(&args.to).with_context(writing)?;
    let progress = Progress::bar("exporting", 0);
    let (mut interactions, mut refused, mut last_sequence) = (0, 0, args.after);
    while let Some((page, last)) =
        RecentInteractions::check(store).and_then(|()| store.blocking_log(last_sequence, PAGE))?
    {
        for logged in &page {
            if !agrees(people, logged) {
                refused += 1;
                continue;
            }
            serde_json::to_writer(&mut out, &line(logged)).with_context(writing)?;
            out.write_all(b"\n").with_context(writing)?;
            interactions += 1;
        }
        last_sequence = last;
        progress.set(interactions);
    }
    progress.finish();
    out.publish().with_context(writing)?;
    let damaged = RecentInteractions::stats(store).damaged;
    Ok(ExportReport { file: args.to.clone(), interactions, last_sequence, refused, damaged })
}

/// Whether whoever did something agrees now that it is used: the user, the session, and who they are merged into.
fn agrees(people: &People, logged: &Logged) -> bool {
    let user = logged.user_id.as_deref().map(Actor::user);
    let mut actors = user.into_iter().chain(logged.session_id.as_deref().map(Actor::session));
    actors.all(|actor| people.standing(&actor) == Consent::Full)
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
        if self.refused > 0 {
            text.push_str(&format!("{} are of people who do not agree and were left out\n", count(self.refused)));
        }
        if self.damaged > 0 {
            text.push_str(&format!("{} records do not decode and were left out: run `kindred fsck`\n", self.damaged));
        }
        text
    }
}

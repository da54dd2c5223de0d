//! `kindred fsck`: is a store whole?

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kindred::live_items::LiveEntry;
use kindred::people::profile::Profile;
use kindred::people::records::read_link;
use kindred::people::shown::{Outcome, Shown};
use kindred::store::embedded::{Checked, DEFAULT_PATH, EmbeddedStore, check};
use kindred::store::{Documents, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exit, Global, NAME_A_COPY, where_in_use};
use crate::progress::Progress;
use crate::report::{Report, count, emit, seconds};

/// Documents read at once.
const PAGE: usize = 1_000;
/// Most problems that are named, as the store's own check does; the rest are counted.
const PROBLEMS_NAMED_MAX: usize = 20;

/// Whether bytes under a key are a document of a table.
type Decodes = fn(&str, &[u8]) -> bool;

/// The tables that have documents, and what one is called.
const TABLES: [(Table, &str, Decodes); 4] = [
    (Table::Items, "the change of item", |_, bytes| LiveEntry::from_record(bytes).is_ok()),
    (Table::People, "the profile of", |_, bytes| is_json_of::<Profile>(bytes)),
    (Table::Merges, "the merge of", |key, bytes| read_link(key, bytes).is_some()),
    (Table::Recommendations, "the entry of the recommendation log", |_, bytes| {
        is_json_of::<Shown>(bytes) || is_json_of::<Outcome>(bytes)
    }),
];

/// The command line.
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
    let checked = examine(&args.store)?;
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

/// The store's own check, and whether its documents decode: to the store they are bytes, and it only counts them.
fn examine(path: &Path) -> anyhow::Result<Checked> {
    let mut checked = check(path).map_err(where_in_use(NAME_A_COPY))?;
    if checked.unreadable.is_some() {
        return Ok(checked);
    }
    let store = EmbeddedStore::open_existing(path).map_err(where_in_use(NAME_A_COPY))?;
    for (table, what, decodes) in TABLES {
        let mut after: Option<String> = None;
        loop {
            let page = store.blocking_scan(table, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, _) in page.iter().filter(|(key, bytes)| !decodes(key, bytes)) {
                checked.problem_count += 1;
                if checked.problems.len() < PROBLEMS_NAMED_MAX {
                    checked.problems.push(format!("{what} {key} does not decode"));
                }
            }
        }
    }
    Ok(checked)
}

fn is_json_of<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    serde_json::from_slice::<T>(bytes).is_ok()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use kindred::store::Write;
    use kindred::store::embedded::{EmbeddedOptions, Retention};
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_that_do_not_decode_are_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store");
        let options =
            EmbeddedOptions { keep: 1, cache_mb: 1, page_cache_mb: 1, queue: 100, retention: Retention::default() };
        let store = EmbeddedStore::open(&path, options, || 0).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let write = |writes: Vec<Write>| runtime.block_on(store.write(writes)).unwrap();
        let json = |table, key: &str, value: serde_json::Value| Write::put(table, key, value.to_string().into_bytes());
        write(vec![
            Write::put(Table::Items, "bear", LiveEntry::deleted("bear", 1).to_record().unwrap()),
            json(Table::People, "u:anna", json!({"consent": "session"})),
            json(Table::Merges, "s:1", json!({"target": "u:anna", "at_ms": 1})),
            json(Table::Recommendations, "o/1/2", json!({"item_id": "bear", "kind": "view", "at_ms": 1})),
        ]);
        let in_use = format!("{:#}", examine(&path).unwrap_err());
        assert!(in_use.contains("kindred backup --server"), "{in_use}");
        write(vec![
            Write::put(Table::Items, "lion", b"{\"id\":".to_vec()),
            json(Table::People, "u:ben", json!({"consent": "perhaps"})),
            json(Table::Merges, "s:2", json!({"at_ms": 1})),
            json(Table::Merges, "s:3", json!({"target": "anna", "at_ms": 1})),
            json(Table::Recommendations, "r/1", json!({"recommendation_id": "1"})),
        ]);
        drop(store);
        let checked = examine(&path).unwrap();
        assert_eq!((checked.documents, checked.problem_count), (9, 5), "{checked:?}");
        let named = ["item lion", "profile of u:ben", "merge of s:2", "merge of s:3", "log r/1"];
        for (problem, named) in checked.problems.iter().zip(named) {
            assert!(problem.contains(named), "{problem}");
        }
    }
}

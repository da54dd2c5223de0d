//! A log, and a table of items if there is one, to a dataset in memory.
//!
//! The log is read once and never held as text. Memory: 22 bytes an interaction while it is read, at most 70 while it is
//! sorted and divided; and about 60 bytes, twice the identifier's length included, for each distinct user and item.

use std::path::PathBuf;

use kindred::user_vector::Weighting;

use super::clean::{self, Clean, CleanOptions, Cleaned};
use super::columns::ColumnNames;
use super::error::PrepareError;
use super::item_table::{self, Table};
use super::log::{BadRow, Log, ReadCounts, RowRules};
use super::read::{self, ReadOptions};
use super::report::{self, DatasetReport};
use super::split::{self, Split};
use super::{FORMAT_VERSION, Parts, fingerprint};
use crate::calendar::Moment;
use crate::progress::Progress;
use crate::report::count;

/// All that `kindred prepare` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareOptions {
    /// Files of the log; in this order where rows have no time.
    pub logs: Vec<PathBuf>,
    /// The table of items.
    pub items: Option<PathBuf>,
    /// How the log is read.
    pub read: ReadOptions,
    /// What is dropped.
    pub clean: CleanOptions,
    /// What is held out.
    pub split: Split,
}

impl PrepareOptions {
    /// Everything as usual: the form told by name and content, usual column names and weights, the last interaction of each user
    /// held out.
    pub fn new(logs: Vec<PathBuf>) -> Self {
        let rules = RowRules { kind_weights: Weighting::default().kinds, default_kind: None, min_rating: None };
        let columns = ColumnNames::default();
        let read = ReadOptions { format: None, preset: None, columns, no_header: false, time_unit: None, rules };
        Self { logs, items: None, read, clean: CleanOptions::default(), split: Split::LeaveLastOut }
    }
}

/// Reads, cleans, divides.
///
/// # Errors
/// A file that cannot be read, columns that are not known, or nothing left.
pub fn prepare(options: &PrepareOptions, progress: &Progress) -> Result<Parts, PrepareError> {
    // First, since it is small, and an error in it would else come after the work.
    let table = options.items.as_deref().map(item_table::read).transpose()?;
    if let Some(Table { report, .. }) = &table
        && report.rows == report.bad
    {
        let (path, rows) = (report.path.clone(), report.rows);
        return Err(PrepareError::NoItems { path, rows, examples: shown(&report.bad_examples) });
    }
    let mut log = Log::default();
    let mut sources = Vec::new();
    for path in &options.logs {
        sources.push(read::read(path, &options.read, &mut log, progress)?);
    }
    progress.start("cleaning", 0);
    for (source, unit) in sources.iter_mut().zip(log.settle_times(options.read.time_unit)) {
        source.time_unit = unit;
    }
    let mut units = sources.iter().filter_map(|source| source.time_unit);
    let time_unit = units.next().filter(|first| units.all(|unit| unit == *first));
    let counts = std::mem::take(&mut log.counts);
    let Clean { interactions, users, items, kinds, cleaned } = clean::clean(log, &options.clean);
    if interactions.is_empty() {
        return Err(nothing(&counts, &cleaned, &options.clean));
    }
    let n_known = items.len();
    let all_with_point = items.iter().all(|id| item_table::whole_with_point(id).is_some());
    let mut interactions = interactions;
    let (items, item_table) = match table {
        Some(table) => {
            let (items, numbers, report) = Table::join(table, items);
            interactions.item.iter_mut().for_each(|item| *item = numbers[*item as usize]);
            (items, Some(report))
        }
        None => (items.into_iter().map(kindred::catalog::CatalogItem::new).collect(), None),
    };
    // The table may have said how they are meant.
    let is_mended = item_table.as_ref().is_some_and(|table| table.with_point > 0);
    let items_with_point = if all_with_point && !is_mended { n_known as u64 } else { 0 };
    let mut kind_counts = vec![0_u64; kinds.len()];
    interactions.kind.iter().for_each(|kind| kind_counts[usize::from(*kind)] += 1);
    let times = || interactions.time_ms.iter().copied();
    let (first_ms, last_ms) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    // A day for clocks that differ, and for times of another zone.
    let tomorrow_ms = (Moment::now().0 as i64 + 86_400) * 1_000;
    let in_future = times().filter(|time_ms| *time_ms > tomorrow_ms).count() as u64;
    progress.start("dividing", 0);
    let (train, test) = split::split(interactions, options.split);
    if train.is_empty() {
        return Err(PrepareError::NothingToTrain { test: test.len() as u64 });
    }
    let report = DatasetReport {
        format_version: FORMAT_VERSION,
        n_users: users.len() as u64,
        n_items: items.len() as u64,
        n_items_without_interactions: (items.len() - n_known) as u64,
        items_with_point,
        n_train: train.len() as u64,
        n_test: test.len() as u64,
        kind_counts: kinds.iter().cloned().zip(kind_counts).collect(),
        kind_weights: options.read.rules.kind_weights.clone(),
        first_ms,
        last_ms,
        in_future,
        time_unit,
        split: options.split,
        sources,
        read: counts,
        clean: options.clean,
        cleaned,
        item_table,
        fingerprint: fingerprint::of(&train, &test, &users, &items, &kinds),
        kinds,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Parts { train, test, users, items, report })
}

/// Why nothing is left, with the rows that show it.
fn nothing(counts: &ReadCounts, cleaned: &Cleaned, options: &CleanOptions) -> PrepareError {
    let mut reasons = report::reasons(counts);
    reasons.push((cleaned.busy_user_interactions, "of users too busy: raise --max-user-interactions".to_owned()));
    let CleanOptions { min_user, min_item, .. } = options;
    let core = format!("below --min-user {min_user} or --min-item {min_item}: lower them");
    reasons.push((cleaned.rare_interactions, core));
    reasons.retain(|(n, _)| *n > 0);
    let reasons: Vec<String> = reasons.into_iter().map(|(n, reason)| format!("{} {reason}", count(n))).collect();
    let reasons = if reasons.is_empty() { "there is a header only".to_owned() } else { reasons.join("; ") };
    PrepareError::Nothing { rows: counts.rows, reasons, examples: shown(&counts.bad_examples) }
}

/// Bad rows for a message.
fn shown(examples: &[BadRow]) -> String {
    let one = |bad: &BadRow| format!("; {}, line {}: {}: {:?}", bad.file, bad.line, bad.reason, bad.found);
    examples.iter().map(one).collect()
}

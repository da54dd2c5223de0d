//! A file of interactions into the log: which form it has, what its columns are, and who reads it.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::columns::{ColumnNames, ColumnsTaken, Mapping, is_header};
use super::error::PrepareError;
use super::log::{Log, RowRules};
use super::source::{Format, Source};
use super::time::TimeUnit;
use super::{delimited, json_lines, parquet_log};
use crate::progress::Progress;

/// Rows between two movements of the progress bar.
pub const ROWS_A_STEP: u64 = 1 << 16;

/// A well-known form of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// MovieLens: `u.data`, `ratings.dat` or `ratings.csv`; every rating is one interaction of kind `rating` and weight 1.
    Movielens,
    /// Lines of session, item and time, separated by tabs, with or without a header.
    Sessions,
    /// Lines of a user and their items, oldest first, separated by spaces; the place in all lines of the user is the time, in seconds.
    Sequences,
}

/// How a log is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// The form of the files, where their first bytes do not tell.
    pub format: Option<Format>,
    /// A well-known form.
    pub preset: Option<Preset>,
    /// Names of columns.
    pub columns: ColumnNames,
    /// Whether the first line is a row; columns are then named 1, 2, 3...
    pub no_header: bool,
    /// What numbers of the time column count; told by their size, for each file, without it.
    pub time_unit: Option<TimeUnit>,
    /// What rows are worth.
    pub rules: RowRules,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The file.
    pub path: PathBuf,
    /// Its form.
    pub format: Format,
    /// The columns that were taken; none for sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<ColumnsTaken>,
    /// What the numbers of its time column were taken to count; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_unit: Option<TimeUnit>,
    /// Rows read, good or bad.
    pub rows: u64,
}

/// What every reader is given.
pub struct Reading<'a> {
    /// Where the rows go.
    pub log: &'a mut Log,
    /// What they are worth.
    pub rules: &'a RowRules,
    /// Who watches.
    pub progress: &'a Progress,
}

/// Reads one file into the log, in one pass.
///
/// # Errors
/// It cannot be read, its columns are not known, or there is more than a log can hold.
pub fn read(
    path: &Path,
    options: &ReadOptions,
    log: &mut Log,
    progress: &Progress,
) -> Result<SourceReport, PrepareError> {
    let source = Source::open(path)?;
    let (path, before) = (path.to_owned(), log.counts.rows);
    let form = form(&source, options);
    let columns = |header: &[String]| {
        let found = options.columns.find(header);
        found.map_err(|source| PrepareError::Columns { path: path.clone(), source })
    };
    progress.start(&format!("reading {}", source.name()), source.size);
    let name = source.name();
    let taken = match form {
        Format::Sequences => {
            log.begin(name, Mapping::default());
            delimited::sequences(source, Reading { log, rules: &options.rules, progress })?;
            None
        }
        Format::JsonLines => {
            let mut keys = json_lines::keys(&source);
            // Not every row has every field: one that was named may come later.
            let late: Vec<String> = options.columns.given().filter(|name| !keys.contains(*name)).cloned().collect();
            let found = columns(&[keys.as_slice(), &late].concat());
            // Where there is no column at all, none can be named.
            let no_lines = || PrepareError::NotJsonLines { path: path.clone() };
            let (mapping, taken) = found.map_err(|error| if keys.is_empty() { no_lines() } else { error })?;
            log.begin(name, mapping);
            let came = json_lines::read(source, &taken, &keys, Reading { log, rules: &options.rules, progress })?;
            keys.extend(late.into_iter().filter(|name| came.wanted.contains(name)));
            // One that never came is missing.
            columns(&keys)?;
            keys.extend(came.late);
            let (_, meant) = columns(&keys)?;
            if let Some((role, name)) = meant.first_other_than(&taken) {
                let name = name.to_owned();
                return Err(PrepareError::LateColumn { path, role, name });
            }
            Some(taken)
        }
        Format::Parquet => {
            let (mapping, taken) = columns(&parquet_log::columns(&source.path)?)?;
            log.begin(name, mapping);
            parquet_log::read(&source.path, &taken, Reading { log, rules: &options.rules, progress })?;
            Some(taken)
        }
        Format::Csv | Format::Tsv | Format::Semicolons | Format::Bars | Format::DoubleColons => {
            let first = delimited::first_cells(&source, form);
            let names = names(&source, form, options, &first);
            let (mapping, taken) = columns(names.as_ref().unwrap_or(&first))?;
            log.begin(name, mapping);
            let reading = Reading { log, rules: &options.rules, progress };
            delimited::read(source, form, names.is_none(), &mapping, reading)?;
            Some(taken)
        }
    };
    Ok(SourceReport { path, format: form, columns: taken, time_unit: None, rows: log.counts.rows - before })
}

fn form(source: &Source, options: &ReadOptions) -> Format {
    match (options.preset, options.format) {
        // Their bytes tell these, and as plain text they would be rows of nonsense.
        (_, None) if matches!(source.format, Format::Parquet | Format::JsonLines) => source.format,
        (Some(Preset::Sequences), _) => Format::Sequences,
        (Some(Preset::Sessions), None) if source.format != Format::Csv => Format::Tsv,
        (_, given) => given.unwrap_or(source.format),
    }
}

/// What the columns of a delimited file are called; none where its first line says so.
fn names(source: &Source, form: Format, options: &ReadOptions, first: &[String]) -> Option<Vec<String>> {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    match options.preset {
        _ if options.no_header => Some((1..=first.len()).map(|at| at.to_string()).collect()),
        Some(Preset::Sessions) if !is_header(first) => names(&["session", "item", "time"]),
        Some(Preset::Movielens) if !is_header(first) => names(MOVIELENS),
        None if is_movielens(&source.name(), form) && !is_header(first) => names(MOVIELENS),
        _ => None,
    }
}

const MOVIELENS: &[&str] = &["userId", "movieId", "rating", "timestamp"];

/// Whether a file without a header is a MovieLens log by its name: `u.data`, its published splits `u1.base`..., `ratings.dat`.
fn is_movielens(name: &str, form: Format) -> bool {
    let is_split = || name.starts_with('u') && (name.ends_with(".base") || name.ends_with(".test"));
    match form {
        Format::Tsv => name == "u.data" || is_split(),
        Format::DoubleColons => name == "ratings.dat",
        _ => false,
    }
}

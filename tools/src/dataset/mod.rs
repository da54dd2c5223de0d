//! From a log of interactions to a dataset: what `kindred prepare` writes, and `kindred train` and `evaluate` read.
//!
//! ```text
//! dataset/
//!   train.parquet   user, item: u32 · kind: u8 · weight: f32 · time_ms: i64; sorted by user, then time
//!   test.parquet    the same, of what is held out for `kindred evaluate`
//!   users.parquet   user_id, in the order of the numbers in the user columns
//!   items.jsonl     one catalogue entry a line, in the order of the numbers in the item columns
//!   report.json     what was read, dropped, filled and kept, and why
//! ```
//!
//! | file | question |
//! |---|---|
//! | [`source`] | what form does a file have? |
//! | [`columns`] | which column says what? |
//! | [`read`], `delimited`, `json_lines`, `parquet_log` | what are its rows? |
//! | [`log`], [`interner`] | which rows can be used, and how are they held? |
//! | [`time`] | when was it? |
//! | [`clean`] | which interactions say something? |
//! | [`split`] | what is held out? |
//! | [`item_table`] | what is known about the items? |
//! | [`mod@prepare`] | all of it |

pub mod clean;
pub mod columns;
mod delimited;
pub mod error;
pub(crate) mod fingerprint;
pub mod interner;
pub mod item_table;
mod json_lines;
pub mod log;
mod parquet_log;
pub mod prepare;
pub mod read;
pub mod report;
pub mod source;
pub mod split;
pub mod time;
mod write;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kindred::catalog::CatalogItem;
use serde::Deserialize;

pub use error::{DatasetError, PrepareError};
pub use prepare::{PrepareOptions, prepare};
pub use report::DatasetReport;

use crate::model_dir;
use crate::whole_dir::{self, Kind, Opened, WholeDirError};

/// The version of the directory's layout that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const TRAIN: &str = "train.parquet";
const TEST: &str = "test.parquet";
const USERS: &str = "users.parquet";
const ITEMS: &str = "items.jsonl";
const REPORT: &str = "report.json";
const DATASET: Kind = Kind { name: "dataset", mark: REPORT };

/// Interactions in columns, sorted by user, then time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interactions {
    /// Users, by number.
    pub user: Vec<u32>,
    /// Items, by number.
    pub item: Vec<u32>,
    /// Kinds, by their place in the list of kinds.
    pub kind: Vec<u8>,
    /// Weights; negative ones are dislikes.
    pub weight: Vec<f32>,
    /// Times, in milliseconds since 1970.
    pub time_ms: Vec<i64>,
}

/// A dataset on disk; its tables are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Dataset {
    dir: PathBuf,
    opened: Opened,
    /// What it is and how it was made.
    pub report: DatasetReport,
}

/// All parts of a dataset in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// The training part.
    pub train: Interactions,
    /// The test part.
    pub test: Interactions,
    /// Identifiers of users, by number.
    pub users: Vec<Box<str>>,
    /// Catalogue entries, by number.
    pub items: Vec<CatalogItem>,
    /// What it is and how it was made.
    pub report: DatasetReport,
}

impl Interactions {
    /// Number of interactions.
    pub fn len(&self) -> usize {
        self.user.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Appends one.
    pub fn push(&mut self, user: u32, item: u32, kind: u8, weight: f32, time_ms: i64) {
        self.user.push(user);
        self.item.push(item);
        self.kind.push(kind);
        self.weight.push(weight);
        self.time_ms.push(time_ms);
    }

    /// Keeps the rows for which `keep`, as long as the columns, says true.
    pub fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.user, keep);
        retain(&mut self.item, keep);
        retain(&mut self.kind, keep);
        retain(&mut self.weight, keep);
        retain(&mut self.time_ms, keep);
    }
}

impl Dataset {
    /// Opens a dataset: reads its report.
    ///
    /// # Errors
    /// The directory is not one that this version of `kindred prepare` wrote.
    pub fn open(dir: &Path) -> Result<Self, DatasetError> {
        /// Read first and alone, since another version may have another shape.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let opened = Opened::new(dir);
        let path = dir.join(REPORT);
        let bytes = fs::read(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let fail = |source| DatasetError::Report { path: path.clone(), source };
        let Version { format_version: found } = serde_json::from_slice(&bytes).map_err(fail)?;
        if found != FORMAT_VERSION {
            return Err(DatasetError::Version { path, found, expected: FORMAT_VERSION });
        }
        let report = serde_json::from_slice(&bytes).map_err(fail)?;
        Ok(Self { dir: dir.to_owned(), opened, report })
    }

    /// The training part. 21 bytes an interaction.
    ///
    /// # Errors
    /// The file cannot be read, is another one than was written, or the dataset was replaced since it was opened.
    pub fn train(&self) -> Result<Interactions, DatasetError> {
        self.interactions(TRAIN, self.report.n_train)
    }

    /// The test part; empty without a split.
    ///
    /// # Errors
    /// The file cannot be read, is another one than was written, or the dataset was replaced since it was opened.
    pub fn test(&self) -> Result<Interactions, DatasetError> {
        self.interactions(TEST, self.report.n_test)
    }

    /// The identifiers of users, by number.
    ///
    /// # Errors
    /// The file cannot be read, is another one than was written, or the dataset was replaced since it was opened.
    pub fn users(&self) -> Result<Vec<String>, DatasetError> {
        let path = self.dir.join(USERS);
        let users = self.opened.read(|| write::read_users(&path))?;
        counted(&path, users.len(), self.report.n_users)?;
        Ok(users)
    }

    /// The catalogue: entries by number.
    ///
    /// # Errors
    /// The file cannot be read, is another one than was written, or the dataset was replaced since it was opened.
    pub fn items(&self) -> Result<Vec<CatalogItem>, DatasetError> {
        let path = self.dir.join(ITEMS);
        let items = self.opened.read(|| model_dir::read_items(&path))?;
        counted(&path, items.len(), self.report.n_items)?;
        Ok(items)
    }

    fn interactions(&self, name: &str, expected: u64) -> Result<Interactions, DatasetError> {
        let path = self.dir.join(name);
        let rows = self.opened.read(|| write::read_interactions(&path))?;
        counted(&path, rows.len(), expected)?;
        let out_of_range = |column: &[u32], n: u64| column.iter().any(|number| u64::from(*number) >= n);
        let report = &self.report;
        let strange_kind = rows.kind.iter().any(|kind| usize::from(*kind) >= report.kinds.len());
        if strange_kind || out_of_range(&rows.user, report.n_users) || out_of_range(&rows.item, report.n_items) {
            let what = format!("a user, item or kind number is above what {REPORT} counts");
            return Err(DatasetError::Table { path, what });
        }
        Ok(rows)
    }
}

impl Parts {
    /// Writes the dataset to `dir`, whole or not at all. With `force` a dataset that is there is replaced; nothing else ever is.
    ///
    /// # Errors
    /// Something is there, or a file cannot be written.
    pub fn write(&self, dir: &Path, force: bool) -> Result<(), DatasetError> {
        whole_dir::write(dir, DATASET, force, |dir| {
            write::interactions(&dir.join(TRAIN), &self.train)?;
            write::interactions(&dir.join(TEST), &self.test)?;
            write::users(&dir.join(USERS), &self.users)?;
            model_dir::write_items(&dir.join(ITEMS), &self.items)?;
            whole_dir::write_file(&dir.join(REPORT), |w| {
                serde_json::to_writer_pretty(&mut *w, &self.report)?;
                w.write_all(b"\n")
            })?;
            Ok(())
        })
    }
}

/// Whether a dataset may be written to `dir`: asked before the work of preparing one.
///
/// # Errors
/// Something is there and `force` is not given, or is there and is not a dataset.
pub fn writable(dir: &Path, force: bool) -> Result<(), WholeDirError> {
    whole_dir::writable(dir, DATASET, force)
}

/// Keeps the values of a column for which `keep`, as long as the column, says true.
fn retain<T>(column: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    column.retain(|_| keep.next().copied().unwrap_or(true));
}

fn counted(path: &Path, found: usize, expected: u64) -> Result<(), DatasetError> {
    if found as u64 == expected {
        return Ok(());
    }
    let what = format!("{found} rows, expected {expected} by {REPORT}");
    Err(DatasetError::Table { path: path.to_owned(), what })
}

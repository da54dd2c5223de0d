//! Why a dataset could not be prepared, written or read.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::columns::MappingError;
use super::log::TooMany;
use crate::whole_dir::WholeDirError;

/// Why a log could not be made a dataset.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A file could not be read.
    #[error("{path}: cannot be read; is the path right, and a packed file whole?")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has nothing in it.
    #[error("{path} is empty, expected rows of interactions or items")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is not text.
    #[error(
        "{path} is neither text nor Parquet (it has zero bytes in it), expected CSV, TSV, JSON Lines or Parquet; \
         text in UTF-16 has to be turned into UTF-8 first"
    )]
    Binary {
        /// The file.
        path: PathBuf,
    },
    /// All rows in one array of JSON.
    #[error(
        "{path} is one JSON array, expected JSON Lines, an object a line: `jq -c '.[]'` makes them of it, and pandas writes them by \
         to_json(orient=\"records\", lines=True)"
    )]
    JsonArray {
        /// The file.
        path: PathBuf,
    },
    /// Text that begins as JSON, and no line of which is an object.
    #[error(
        "{path}: none of its first lines is a JSON object with fields in it, expected JSON Lines, an object a line: `jq -c .` makes them of objects \
         that stand on several lines"
    )]
    NotJsonLines {
        /// The file.
        path: PathBuf,
    },
    /// A field that says something came too late to be looked for in the rows before.
    #[error(
        "{path}: the field {name:?}, by its name the {role}, first comes long after the beginning, by which fields are chosen:          take it with --{role}-column {name:?}, or leave it out by naming another or none (\"\")"
    )]
    LateColumn {
        /// The file.
        path: PathBuf,
        /// What it would say.
        role: &'static str,
        /// Its name.
        name: String,
    },
    /// A line that does not end.
    #[error("{path}: a line is longer than {most} bytes; is it a log, one row a line?")]
    Line {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        most: u64,
    },
    /// The rules of CSV are broken.
    #[error("{path}: not CSV")]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: csv::Error,
    },
    /// A row that does not end, mostly for a quoted field that does not.
    #[error(
        "{path}, line {line}: a row goes on for more than {most}: is a closing quote missing, or is it not one row a line?"
    )]
    Quote {
        /// The file.
        path: PathBuf,
        /// Where it begins.
        line: u64,
        /// The bound, in bytes or lines.
        most: String,
    },
    /// The columns are not known.
    #[error("{path}")]
    Columns {
        /// The file.
        path: PathBuf,
        /// Which.
        #[source]
        source: MappingError,
    },
    /// Parquet that cannot be read.
    #[error("{path}: not Parquet that can be read")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: parquet::errors::ParquetError,
    },
    /// A column of a type that says nothing.
    #[error("{path}: column {column:?} is of type {found}, expected text, numbers or times")]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// A log that does not fit.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Nothing was left.
    #[error("no interaction is left of {rows} rows: {reasons}{examples}")]
    Nothing {
        /// Rows read.
        rows: u64,
        /// Why they were dropped, each with a remedy.
        reasons: String,
        /// The first bad rows.
        examples: String,
    },
    /// Nothing could be trained on.
    #[error(
        "no interaction is left to train on: --split holds out all {test}; give one that holds out less, such as a later time"
    )]
    NothingToTrain {
        /// Interactions in the test part.
        test: u64,
    },
    /// An item table without an item.
    #[error("{path}: none of its {rows} rows is an item: give another table, or none{examples}")]
    NoItems {
        /// The file.
        path: PathBuf,
        /// Rows read.
        rows: u64,
        /// The first bad rows.
        examples: String,
    },
    /// An item table without a column of identifiers.
    #[error(
        "{path}: no column has a usual name for the item's identifier (id, item_id, ...): rename the one that holds it to item_id; there are: {there}"
    )]
    ItemColumn {
        /// The file.
        path: PathBuf,
        /// The columns there are.
        there: String,
    },
}

/// Why a dataset could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The directory may not be or could not be written.
    #[error(transparent)]
    Dir(#[from] WholeDirError),
    /// A file could not be read.
    #[error("{path}: cannot be read; is it a directory that `kindred prepare` wrote?")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The report is not one.
    #[error("{path}: not what this program writes; prepare the dataset again")]
    Report {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A layout of another version.
    #[error("{path}: format version {found}, expected {expected}; prepare the dataset again with this program")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this program knows.
        expected: u32,
    },
    /// A table that cannot be read or written.
    #[error("{path}: Parquet")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: parquet::errors::ParquetError,
    },
    /// A table that is not as this program writes it.
    #[error("{path}: {what}; prepare the dataset again")]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The catalogue cannot be read.
    #[error(transparent)]
    Items(#[from] crate::model_dir::ModelDirError),
}

//! A whole model from factors trained elsewhere.
//!
//! Factors come as `.npy` (`f32` or `f64`), their keys as text, one a line. What an import cannot know is filled in with what
//! factors can tell: neighbours are the items of the nearest directions, and the popularity of an item is the length of
//! its row, which factorizations make longer for items that are liked more; rows of length 1 say nothing about it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use kindred::catalog::CatalogItem;
use kindred::limits;
use kindred::user_vector::Weighting;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::{Factors, TrainError, TrainProgress, encoder, factor_neighbours};
use crate::matrix::{Matrix, RowFault};
use crate::model_dir::{self, ModelDir, ModelDirError, ModelInfo, ModelMetric};
use crate::npy::{self, NpyError};

/// Longest row that an index holds.
const DIMENSIONS_MAX: usize = 4_096;

/// What to import.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// Target factors: what is recommended.
    pub factors: PathBuf,
    /// Keys of the rows, one a line.
    pub ids: PathBuf,
    /// Context factors; none if the target factors serve as such.
    pub context: Option<PathBuf>,
    /// Catalogue entries as JSON, one a line, in any order; items without one are known by their key alone.
    pub items: Option<PathBuf>,
    /// How rows are compared; none to tell by their lengths.
    pub metric: Option<ModelMetric>,
    /// What interactions weigh.
    pub weighting: Weighting,
    /// Neighbours kept per item.
    pub k_neighbours: usize,
    /// Whether the model learns words, where its catalogue has texts.
    pub encoder: bool,
    /// Seed of the sample of queries.
    pub seed: u64,
}

/// Why factors could not be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// An array could not be read.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A catalogue could not be read.
    #[error(transparent)]
    Items(#[from] ModelDirError),
    /// The keys could not be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There are entries, and of other items.
    #[error(
        "{path}: no entry is of an item that has factors; ids are compared letter by letter: the first of them is {entry:?}, the first key {key:?}"
    )]
    Strangers {
        /// The catalogue.
        path: PathBuf,
        /// The id of its first entry.
        entry: String,
        /// The first key.
        key: String,
    },
    /// There is nothing to import.
    #[error("{path}: no factors ({rows} rows of {cols}); expected at least one row of 1 to {most} numbers", most = DIMENSIONS_MAX)]
    Empty {
        /// The file.
        path: PathBuf,
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
    },
    /// There are more or fewer keys than rows.
    #[error("{path}: {found} keys for {expected} rows of factors: one key a line, in the order of the rows")]
    Count {
        /// The file of keys.
        path: PathBuf,
        /// Keys found.
        found: usize,
        /// Rows of factors.
        expected: usize,
    },
    /// A key is empty or too long.
    #[error("{path}, line {line}: a key of {found} bytes, expected 1 to {most}", most = limits::KEY_BYTES_MAX)]
    Key {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// Its length.
        found: usize,
    },
    /// A key stands twice.
    #[error("{path}, line {line}: the key {key:?} stands in line {first} already")]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The line it stood in first.
        first: usize,
        /// The key.
        key: String,
    },
    /// A row that no search could use.
    #[error("{path}: row {row} (item {key:?}) {fault}: leave the item out or give it factors")]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// Its key.
        key: String,
        /// What is wrong with it.
        fault: RowFault,
    },
    /// Rows of different lengths cannot be compared by cosine with the lengths meaning nothing.
    #[error(
        "{path}: row {row} has length {found}: rows of a cosine model are of length 1; normalise them, or leave --metric out"
    )]
    NotUnitLength {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// Its length.
        found: f32,
    },
    /// The neighbours could not be found.
    #[error("neighbours")]
    Neighbours(#[from] TrainError),
}

/// Reads factors and everything beside them into a model.
///
/// # Errors
/// A file that cannot be read, shapes that do not fit each other, a key or row that cannot be used.
pub fn import(import: &Import, progress: &dyn TrainProgress) -> Result<ModelDir, ImportError> {
    let item_factors = npy::read_matrix(&import.factors)?;
    let Matrix { rows, cols, .. } = item_factors;
    if rows == 0 || cols == 0 || cols > DIMENSIONS_MAX {
        return Err(ImportError::Empty { path: import.factors.clone(), rows, cols });
    }
    let ids = ids(&import.ids, rows)?;
    usable(&import.factors, &item_factors, &ids)?;
    let context_factors = match &import.context {
        Some(path) => Some(context(path, rows, cols, &ids)?),
        None => None,
    };
    let unit = item_factors.is_unit_length();
    let metric = import.metric.unwrap_or(if unit { ModelMetric::Cosine } else { ModelMetric::InnerProduct });
    let norms = item_factors.norms();
    if metric == ModelMetric::Cosine && !unit {
        let row = norms.iter().position(|norm| (norm - 1.0).abs() > 1e-3).unwrap_or_default();
        return Err(ImportError::NotUnitLength { path: import.factors.clone(), row, found: norms[row] });
    }
    let items = catalog(import.items.as_deref(), ids)?;
    let made = Factors {
        items: item_factors,
        context: context_factors,
        metric,
        loss: Vec::new(),
        position_weights: None,
        parameters: None,
    };
    let known = if import.encoder { encoder::fit(&made, &items, &[], import.seed, progress)? } else { None };
    let (table_of_words, worth_of_words) = known.unzip();
    let Factors { items: item_factors, context: context_factors, .. } = made;
    let table = factor_neighbours::nearest(&item_factors, import.k_neighbours, progress)?;
    let info = ModelInfo {
        format_version: model_dir::FORMAT_VERSION,
        trainer: "import".to_owned(),
        parameters: serde_json::json!({ "factors": name(&import.factors), "context": import.context.as_deref().map(name) }),
        seed: import.seed,
        factors: cols,
        metric,
        symmetric: context_factors.is_none(),
        weighting: import.weighting.clone(),
        kinds: Vec::new(),
        training_window: None,
        n_users: 0,
        n_items: rows as u64,
        n_interactions: 0,
        n_cold_items: 0,
        k_neighbours: table.k,
        neighbours: None,
        session_likeness: Default::default(),
        loss: Vec::new(),
        validation: None,
        learned: None,
        encoder: worth_of_words,
        dataset_fingerprint: None,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let popularity = if metric == ModelMetric::Cosine { vec![0.0; rows] } else { norms };
    let queries = queries(context_factors.as_ref().unwrap_or(&item_factors), import.seed);
    let (neighbours, neighbour_similarities) = (table.items, table.similarities);
    Ok(ModelDir {
        info,
        item_factors,
        context_factors,
        items,
        neighbours,
        neighbour_similarities,
        popularity,
        sessions: None,
        encoder: table_of_words,
        queries,
    })
}

/// The last component of a path: what a model remembers of where it came from.
fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The keys, one a line; a line break may end in a carriage return, the last may be missing, an empty last line is none. A byte order
/// mark is no part of the first.
fn ids(path: &Path, rows: usize) -> Result<Vec<String>, ImportError> {
    let text = std::fs::read_to_string(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let ids: Vec<String> = text.lines().map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()).collect();
    if ids.len() != rows {
        return Err(ImportError::Count { path: path.to_owned(), found: ids.len(), expected: rows });
    }
    let mut lines: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        let line = at + 1;
        if id.is_empty() || id.len() > limits::KEY_BYTES_MAX {
            return Err(ImportError::Key { path: path.to_owned(), line, found: id.len() });
        }
        if let Some(first) = lines.insert(id, line) {
            return Err(ImportError::Duplicate { path: path.to_owned(), line, first, key: id.clone() });
        }
    }
    Ok(ids)
}

fn usable(path: &Path, factors: &Matrix, ids: &[String]) -> Result<(), ImportError> {
    match factors.first_fault() {
        Some((row, fault)) => {
            let key = ids.get(row).cloned().unwrap_or_default();
            Err(ImportError::Row { path: path.to_owned(), row, key, fault })
        }
        None => Ok(()),
    }
}

fn context(path: &Path, rows: usize, cols: usize, ids: &[String]) -> Result<Matrix, ImportError> {
    let context = npy::read_matrix(path)?;
    if (context.rows, context.cols) != (rows, cols) {
        return Err(ImportError::Npy(NpyError::Shape {
            path: path.to_owned(),
            found_rows: context.rows,
            found_cols: context.cols,
            expected: format!("{rows} × {cols}, as the target factors"),
        }));
    }
    usable(path, &context, ids)?;
    Ok(context)
}

/// Catalogue entries in the order of the keys. Entries for keys that have no factors are passed over.
fn catalog(path: Option<&Path>, ids: Vec<String>) -> Result<Vec<CatalogItem>, ImportError> {
    let mut known = BTreeMap::new();
    if let Some(path) = path {
        let items = model_dir::read_items(path)?;
        let first = items.first().map(|item| item.id.clone());
        known.extend(items.into_iter().map(|item| (item.id.clone(), item)));
        if let (Some(entry), false) = (first, ids.iter().any(|id| known.contains_key(id))) {
            let (path, key) = (path.to_owned(), ids.first().cloned().unwrap_or_default());
            return Err(ImportError::Strangers { path, entry, key });
        }
    }
    Ok(ids.into_iter().map(|id| known.remove(&id).unwrap_or_else(|| CatalogItem::new(id))).collect())
}

/// Single items and means of two: what a visitor with a short history asks.
fn queries(context: &Matrix, seed: u64) -> Matrix {
    let mut rows: Vec<usize> = (0..context.rows).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x9e7));
    let mut queries = Matrix { rows: 0, cols: context.cols, data: Vec::new() };
    for (at, row) in rows.iter().take(model_dir::QUERIES_MAX).enumerate() {
        let other = if at % 2 == 0 { *row } else { rows[at - 1] };
        let mean: Vec<f32> = context.row(*row).iter().zip(context.row(other)).map(|(a, b)| (a + b) / 2.0).collect();
        if crate::matrix::fault(&mean).is_none() {
            queries.data.extend(mean);
            queries.rows += 1;
        }
    }
    queries
}

#[cfg(test)]
mod tests;

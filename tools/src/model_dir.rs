//! A model on disk: what `kindred train` writes and `kindred build` reads; also the form of factors trained elsewhere.
//!
//! ```text
//! model/
//!   item_factors.npy             n × d f32: target factors Q
//!   context_factors.npy          n × d f32: context factors P; absent when they are the target factors
//!   items.jsonl                  one catalogue entry a line, in the order of the rows
//!   neighbours.npy               n × k u32 item numbers, nearest first, 4294967295 where there are fewer
//!   neighbour_similarities.npy   n × k f32
//!   popularity.npy               n f32: weighted interactions an item
//!   sessions.npy, session_offsets.npy   u32 item numbers, session by session, and where each begins; absent where none are kept
//!   feature_keys.npy             F × 2 u32, the halves of a hash, the high one first; with the next three what makes rows of texts; absent without texts
//!   feature_weights.npy          F f32
//!   feature_rows.npy, feature_context_rows.npy   F × d f32; the second absent when context factors are
//!   queries.npy                  at most 1,000 × d f32: user vectors, to measure an index with
//!   model.json                   what it is and how it was made
//! ```
//!
//! A model is written under another name and renamed when it is complete, so a directory that is there is whole.

mod check;
mod files;
mod parts;
mod tables;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kindred::catalog::CatalogItem;
use kindred::manifest::{SessionLikeness, TrainingWindow};
use kindred::scenario::LearnedWeights;
use kindred::user_vector::{Weighting, WeightingError};
use kindred_index::Metric;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::matrix::{Matrix, RowFault};
use crate::npy::{self, NpyError};
use crate::train::neighbours::NeighbourOptions;
use crate::whole_dir::{self, Kind, WholeDirError};

pub use files::{ModelFiles, read_items};
pub use parts::{FactorsPart, ModelParts};
pub use tables::{EncoderTable, SessionTable};

/// The version of the directory's layout that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Most user vectors kept to measure an index with.
pub const QUERIES_MAX: usize = 1_000;
/// In the neighbour table: no neighbour here.
pub const NO_NEIGHBOUR: u32 = u32::MAX;

const ITEM_FACTORS: &str = "item_factors.npy";
const CONTEXT_FACTORS: &str = "context_factors.npy";
const ITEMS: &str = "items.jsonl";
const NEIGHBOURS: &str = "neighbours.npy";
const SIMILARITIES: &str = "neighbour_similarities.npy";
const POPULARITY: &str = "popularity.npy";
const QUERIES: &str = "queries.npy";
const INFO: &str = "model.json";
const MODEL: Kind = Kind { name: "model", mark: INFO };

/// How the rows of a model are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ModelMetric {
    /// Target rows are of length 1, and only directions count.
    Cosine,
    /// Target rows are as the trainer left them; longer ones score higher.
    InnerProduct,
}

impl From<ModelMetric> for Metric {
    fn from(metric: ModelMetric) -> Self {
        match metric {
            ModelMetric::Cosine => Self::Cosine,
            ModelMetric::InnerProduct => Self::InnerProduct,
        }
    }
}

/// What a model is and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Version of the directory's layout.
    pub format_version: u32,
    /// What made the factors: `als`, `import`.
    pub trainer: String,
    /// The trainer's settings, by name.
    pub parameters: serde_json::Value,
    /// Seed of everything random.
    pub seed: u64,
    /// Length of a row.
    pub factors: usize,
    /// How rows are compared.
    pub metric: ModelMetric,
    /// Whether context and target factors are the same.
    pub symmetric: bool,
    /// What interactions weigh in the user vector.
    pub weighting: Weighting,
    /// Kinds of interaction in the training data, in the order of its kind column.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// First and last interaction trained on; none for imported factors, and where nobody knows when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_window: Option<TrainingWindow>,
    /// Users trained on.
    pub n_users: u64,
    /// Items: rows of every table.
    pub n_items: u64,
    /// Interactions trained on.
    pub n_interactions: u64,
    /// Items that no interaction said anything about; their rows were made from those of their categories.
    #[serde(default)]
    pub n_cold_items: u64,
    /// Neighbours kept per item.
    pub k_neighbours: usize,
    /// How they were found, with what was chosen; none for imported factors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NeighbourOptions>,
    /// How the sessions that are kept are compared with a visitor's.
    #[serde(default)]
    pub session_likeness: SessionLikeness,
    /// Loss after each iteration.
    #[serde(default)]
    pub loss: Vec<f64>,
    /// What was chosen on held-back interactions of the training part, and how good it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// What each source weighs in a score, if that was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
    /// How well texts and attributes say what an item's factors are; none without an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderInfo>,
    /// Fingerprint of the dataset trained on; none for imported factors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_fingerprint: Option<String>,
    /// Version of the program that wrote it.
    pub tool_version: String,
}

/// How the decay by position was chosen: each user's last training interaction held back, the rest trained on, the held-back
/// one ranked for every decay tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Users whose last interaction was held back and ranked.
    pub n_users: u64,
    /// Items it was ranked among: all, or a sample of a large catalogue.
    pub n_items: u64,
    /// The decay that was taken: the best, or one as good within chance and nearer to the usual.
    pub chosen: f32,
    /// What was tried, best first.
    pub tried: Vec<Tried>,
}

/// One decay that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Interactions after which the weight has fallen to 1/e.
    pub position_decay: f32,
    /// Share of users whose held-back interaction was among the first 10.
    pub hit_rate_at_10: f64,
    /// Mean discounted gain of it among the first 10.
    pub ndcg_at_10: f64,
}

/// How an encoder was fitted, and what it is worth: one item in ten held back, its row made of its texts and compared with the one it has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderInfo {
    /// Features it knows.
    pub n_features: usize,
    /// Items it was fitted to.
    pub n_items: usize,
    /// What holds its rows small, as chosen.
    pub ridge: f32,
    /// Mean cosine of the made rows and the learned ones, over items held back.
    pub cosine: f64,
    /// The same for the mean of the items of the same categories.
    pub cosine_of_categories: f64,
}

/// What sources weigh, as it was learned, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The weights, the greatest of them 1; none if those that were set are as good.
    pub weights: Option<LearnedWeights>,
    /// Lists they were learned on.
    pub n_lists: usize,
    /// The share of them that had what was taken next among their candidates: no weights can do better.
    pub proposed: f64,
    /// How good these lists are with the weights that were set.
    pub as_set: Worth,
    /// How good they are with learned ones: each half of them with those that were learned on the other half.
    pub as_learned: Worth,
}

/// How high what was taken next stood.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// Share of the lists that had it among the first 10.
    pub hit_rate_at_10: f64,
    /// Mean discounted gain of it among the first 10.
    pub ndcg_at_10: f64,
}

/// A model in memory. Every table has one row an item, in one order.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDir {
    /// What it is.
    pub info: ModelInfo,
    /// Target factors Q, n × d: what is recommended.
    pub item_factors: Matrix,
    /// Context factors P, n × d: what an item says about its visitor. None when they are the target factors.
    pub context_factors: Option<Matrix>,
    /// Catalogue entries.
    pub items: Vec<CatalogItem>,
    /// n × `info.k_neighbours` item numbers, nearest first, [`NO_NEIGHBOUR`] where there are fewer.
    pub neighbours: Vec<u32>,
    /// Their similarities.
    pub neighbour_similarities: Vec<f32>,
    /// Weighted interactions an item.
    pub popularity: Vec<f32>,
    /// Sessions of the training part, the oldest first; none where none are kept.
    pub sessions: Option<SessionTable>,
    /// What makes rows of texts and attributes; none where the catalogue has none.
    pub encoder: Option<EncoderTable>,
    /// User vectors of sampled training users, d wide.
    pub queries: Matrix,
}

/// Why a model could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelDirError {
    /// The directory may not be or could not be written.
    #[error(transparent)]
    Dir(#[from] WholeDirError),
    /// An array could not be read or written.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A file could not be read.
    #[error("{path}: cannot be read; is it a directory that `kindred train` wrote?")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A JSON file is not what it should be.
    #[error("{path}, line {line}: not what this program writes")]
    Json {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A layout of another version.
    #[error("{path}: format version {found}, expected {FORMAT_VERSION}; train again with this program")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// A table has another size than the factors call for.
    #[error("{path}: {table} is {found}, expected {expected}")]
    Table {
        /// The directory.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// Its size.
        found: String,
        /// What the size should be.
        expected: String,
    },
    /// A row that no search could use.
    #[error("{path}: row {row} {fault}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        fault: RowFault,
    },
    /// The learned weights are none.
    #[error("{path}: learned weights are finite, not negative, and at least one is above 0; train again")]
    LearnedWeights {
        /// The file.
        path: PathBuf,
    },
    /// The shrinkage of session likenesses is out of its range.
    #[error("{path}: session_likeness.shrinkage is a finite number of at least 0; train again")]
    SessionLikeness {
        /// The file.
        path: PathBuf,
    },
    /// The weighting is out of its bounds.
    #[error("{path}: weighting")]
    Weighting {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: WeightingError,
    },
}

impl ModelDirError {
    /// What reading a file row by row or line by line told.
    pub(crate) fn of(error: io::Error, path: &Path) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(told) => return told,
            Err(error) => error,
        };
        match error.downcast::<NpyError>() {
            Ok(told) => Self::Npy(told),
            Err(source) => Self::Read { path: path.to_owned(), source },
        }
    }
}

impl ModelInfo {
    /// What each source weighs in a score, if that was learned and is better than what was set.
    pub fn learned_weights(&self) -> Option<LearnedWeights> {
        self.learned.and_then(|learned| learned.weights)
    }
}

impl ModelDir {
    /// The factors that user vectors are made of: the context factors, or the target factors of a symmetric model.
    pub fn context(&self) -> &Matrix {
        self.context_factors.as_ref().unwrap_or(&self.item_factors)
    }

    /// Writes a model to `dir`, complete or not at all: into `<dir>.partial` first, renamed when all is on disk.
    ///
    /// With `force` a model that is there is replaced; anything else that is there never is.
    ///
    /// # Errors
    /// Something is there, the tables do not belong together, or a file cannot be written.
    pub fn write(&self, dir: &Path, force: bool) -> Result<(), ModelDirError> {
        self.parts().check(dir)?;
        whole_dir::write(dir, MODEL, force, |dir| self.write_files(dir))
    }

    fn write_files(&self, dir: &Path) -> Result<(), ModelDirError> {
        let (n, k) = (self.items.len(), self.info.k_neighbours);
        npy::write_matrix(&dir.join(ITEM_FACTORS), &self.item_factors)?;
        if let Some(context) = &self.context_factors {
            npy::write_matrix(&dir.join(CONTEXT_FACTORS), context)?;
        }
        npy::write(&dir.join(NEIGHBOURS), &[n, k], &self.neighbours)?;
        npy::write(&dir.join(SIMILARITIES), &[n, k], &self.neighbour_similarities)?;
        npy::write(&dir.join(POPULARITY), &[n], &self.popularity)?;
        self.sessions.as_ref().map_or(Ok(()), |sessions| sessions.write(dir))?;
        self.encoder.as_ref().map_or(Ok(()), |encoder| encoder.write(dir))?;
        npy::write_matrix(&dir.join(QUERIES), &self.queries)?;
        write_items(&dir.join(ITEMS), &self.items)?;
        whole_dir::write_file(&dir.join(INFO), |w| {
            serde_json::to_writer_pretty(&mut *w, &self.info)?;
            w.write_all(b"\n")
        })?;
        Ok(())
    }

    /// Its parts.
    pub fn parts(&self) -> ModelParts<'_> {
        let shape = |matrix: &Matrix| [matrix.rows, matrix.cols];
        ModelParts {
            info: &self.info,
            n_items: self.items.len(),
            item_factors: (shape(&self.item_factors), &self.item_factors.data),
            context_factors: self.context_factors.as_ref().map(|context| (shape(context), &context.data as _)),
            items: &self.items,
            neighbours: &self.neighbours,
            neighbour_similarities: &self.neighbour_similarities,
            popularity: &self.popularity,
            sessions: self.sessions.as_ref(),
            encoder: self.encoder.as_ref(),
            queries: &self.queries,
        }
    }
}

/// Whether a model may be written to `dir`: asked before the work of training one.
///
/// # Errors
/// Something is there and `force` is not given, or is there and is not a model.
pub fn writable(dir: &Path, force: bool) -> Result<(), WholeDirError> {
    whole_dir::writable(dir, MODEL, force)
}

/// Writes catalogue entries, one a line.
///
/// # Errors
/// The file cannot be written.
pub fn write_items(path: &Path, items: &[CatalogItem]) -> Result<(), WholeDirError> {
    whole_dir::write_file(path, |w| {
        for item in items {
            serde_json::to_writer(&mut *w, item)?;
            w.write_all(b"\n")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;

//! The manifest: what an artifact says about itself.
//!
//! It is JSON for people and tools to read. Unknown keys are tolerated, so that an older program can read the manifest of
//! a newer one as long as `format_version` has not changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::LearnedWeights;
use crate::user_vector::Weighting;

/// The version of the manifest and of the files it lists that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// What an artifact says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the artifact's layout.
    pub format_version: u32,
    /// Name of the generation; also the name of its directory.
    pub generation: String,
    /// When it was built, RFC 3339 in UTC, so that text order is time order.
    pub created_at: String,
    /// Version of the program that built it.
    pub tool_version: String,
    /// Length and checksum of each file beside the manifest, by name. Filled in by the publisher.
    #[serde(default)]
    pub files: BTreeMap<String, FileEntry>,
    /// Items in the index.
    pub n_items: u32,
    /// Length of a vector, in floats.
    pub dimensions: u32,
    /// Similarity the index is searched by: `cosine` or `inner_product`.
    pub metric: String,
    /// Edges the graph holds: `cosine`, `inner_product` or `united`.
    pub edges: String,
    /// What built the graph: `hnsw` (our own) or `hnsw_rs`.
    #[serde(default)]
    pub builder: String,
    /// How the index keeps vectors: `f32`, or `fine` for two bytes a value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rows: String,
    /// The share of the nearest by vectors as they were trained that are also the nearest as they are kept, where that is not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_recall: Option<f64>,
    /// Links per item on the upper levels.
    pub m: u32,
    /// Breadth of the search while building.
    pub ef_construction: u32,
    /// Breadth of the search that `ann_recall` was measured with. The scenarios' own default is the builder's, so that the recall
    /// of an artifact is that of its requests unless a setting or a request says otherwise.
    pub ef_search: u32,
    /// Seed of the build.
    pub seed: u64,
    /// Whether the same input gives the same bytes.
    pub deterministic: bool,
    /// What made the factors: `als`, `import`...
    pub trainer: String,
    /// The trainer's settings, as it wrote them.
    #[serde(default)]
    pub hyper_parameters: serde_json::Value,
    /// What interactions weigh in the user vector.
    pub weighting: Weighting,
    /// How the sessions it keeps are compared with a visitor's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session_likeness: SessionLikeness,
    /// What each source weighs in a score, if it was learned; scenarios say whether they want it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_weights: Option<LearnedWeights>,
    /// First and last interaction trained on, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_window: Option<TrainingWindow>,
    /// Measured agreement of the graph search with the exact one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ann_recall: Option<AnnRecall>,
    /// What searches of other breadths found of the same queries' true nearest, the narrowest first; a request's `recall_target` is looked up here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recall_by_breadth: Vec<BreadthRecall>,
    /// Measured quality on held-out interactions, by metric name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, f64>,
    /// Fingerprint of the dataset trained on, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_fingerprint: Option<String>,
    /// Kinds of interaction in the training data, in the order of its kind column.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// How the sessions of a model are compared with what a visitor did. The formulas stand in `recommend/sessions.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionLikeness {
    /// By what.
    pub by: SessionsBy,
    /// Items that a session must share with the visitor before half of its likeness counts; 0 or more. Without effect by recency.
    pub shrinkage: f32,
}

/// By what sessions are like a visitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionsBy {
    /// By the visitor's last items that they have, the newest counting most: session-kNN.
    #[default]
    Recency,
    /// By the cosine of the visitor's weighted items and the session's: user-kNN, where a session is all of a user.
    Cosine,
    /// By Pearson's correlation of the two.
    Pearson,
}

impl SessionLikeness {
    /// Whether its numbers are in their range.
    pub fn is_valid(&self) -> bool {
        self.shrinkage.is_finite() && self.shrinkage >= 0.0
    }
}

fn is_default(likeness: &SessionLikeness) -> bool {
    *likeness == SessionLikeness::default()
}

/// Length and checksum of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Length in bytes.
    pub length: u64,
    /// CRC-32 (ISO-HDLC) of the whole file.
    pub crc32: u32,
}

/// First and last interaction trained on, milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingWindow {
    /// The first.
    pub first_ms: i64,
    /// The last.
    pub last_ms: i64,
}

/// Measured agreement of the graph search with the exact one: the mean share of the true k nearest that it found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnRecall {
    /// Share found, 0 to 1.
    pub recall: f64,
    /// Nearest items asked for.
    pub k: u32,
    /// Breadth of the search.
    pub ef_search: u32,
    /// Queries it is the mean of.
    pub n_queries: u32,
}

/// What a search of one breadth finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreadthRecall {
    /// Breadth of the search.
    pub ef_search: u32,
    /// Mean share of the true nearest that it found, 0 to 1.
    pub recall: f64,
}

impl Manifest {
    /// The least breadth that was measured to find at least this share of the true nearest; none if none did.
    #[must_use]
    pub fn breadth_for(&self, recall: f64) -> Option<usize> {
        let measured = self.recall_by_breadth.iter().map(|one| (one.ef_search, one.recall));
        let usual = self.ann_recall.iter().map(|usual| (usual.ef_search, usual.recall));
        let enough = measured.chain(usual).filter(|(_, found)| *found >= recall);
        enough.map(|(ef_search, _)| ef_search as usize).min()
    }
}

impl Default for Manifest {
    /// A manifest of nothing: what a builder starts from, so that a field added later does not break it.
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            generation: String::new(),
            created_at: String::new(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            files: BTreeMap::new(),
            n_items: 0,
            dimensions: 0,
            metric: String::new(),
            edges: String::new(),
            rows: String::new(),
            rows_recall: None,
            builder: String::new(),
            m: 0,
            ef_construction: 0,
            ef_search: 0,
            seed: 0,
            deterministic: false,
            trainer: String::new(),
            hyper_parameters: serde_json::Value::Null,
            weighting: Weighting::default(),
            session_likeness: SessionLikeness::default(),
            learned_weights: None,
            training_window: None,
            ann_recall: None,
            recall_by_breadth: Vec::new(),
            held_out: BTreeMap::new(),
            dataset_fingerprint: None,
            kinds: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_the_least_breadth_that_met_it() {
        let measured = [(10, 0.8), (20, 0.91), (40, 0.96)];
        let manifest = Manifest {
            ann_recall: Some(AnnRecall { recall: 0.99, k: 10, ef_search: 100, n_queries: 1_000 }),
            recall_by_breadth: measured.map(|(ef_search, recall)| BreadthRecall { ef_search, recall }).into(),
            ..Manifest::default()
        };
        let breadths = [0.5, 0.8, 0.81, 0.95, 0.97, 0.99, 0.991].map(|target| manifest.breadth_for(target));
        assert_eq!(breadths, [Some(10), Some(10), Some(20), Some(40), Some(100), Some(100), None]);
        assert_eq!(Manifest::default().breadth_for(0.1), None);
    }

    #[test]
    fn survives_json_and_tolerates_keys_of_the_future() {
        let manifest = Manifest {
            generation: "20261124T142501Z-0a1b2c3d".to_owned(),
            ann_recall: Some(AnnRecall { recall: 0.993, k: 10, ef_search: 100, n_queries: 1_000 }),
            held_out: BTreeMap::from([("hr@10".to_owned(), 0.22)]),
            ..Manifest::default()
        };
        let mut json = serde_json::to_value(&manifest).unwrap();
        json["encoders"] = serde_json::json!({"of": "the future"});
        assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), manifest);
    }
}

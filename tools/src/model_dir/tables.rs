//! The tables of a model that not every one has.

use std::path::Path;

use crate::npy::{self, NpyError};

const SESSIONS: &str = "sessions.npy";
const SESSION_OFFSETS: &str = "session_offsets.npy";
const FEATURE_KEYS: &str = "feature_keys.npy";
const FEATURE_WEIGHTS: &str = "feature_weights.npy";
const FEATURE_ROWS: &str = "feature_rows.npy";
const FEATURE_CONTEXT_ROWS: &str = "feature_context_rows.npy";

/// Sessions, end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTable {
    /// Where each begins among the items, and where the last one ends.
    pub offsets: Vec<u32>,
    /// Item numbers; no session has one twice.
    pub items: Vec<u32>,
}

/// What `kindred::encoder` needs: features, each with a weight and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncoderTable {
    /// Hashes of the features, ascending.
    pub keys: Vec<u64>,
    /// The weight of each.
    pub weights: Vec<f32>,
    /// A row of the model's length for each.
    pub rows: Vec<f32>,
    /// The same for context rows; empty in a symmetric model.
    pub context_rows: Vec<f32>,
}

impl SessionTable {
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, NpyError> {
        let (offsets, items) = (dir.join(SESSION_OFFSETS), dir.join(SESSIONS));
        if !offsets.exists() {
            return Ok(None);
        }
        Ok(Some(Self { offsets: npy::read::<u32>(&offsets)?.data, items: npy::read::<u32>(&items)?.data }))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), NpyError> {
        npy::write(&dir.join(SESSION_OFFSETS), &[self.offsets.len()], &self.offsets)?;
        npy::write(&dir.join(SESSIONS), &[self.items.len()], &self.items)
    }
}

impl EncoderTable {
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, NpyError> {
        let keys = dir.join(FEATURE_KEYS);
        if !keys.exists() {
            return Ok(None);
        }
        let halves = npy::read::<u32>(&keys)?.data;
        let whole = |[high, low]: &[u32; 2]| u64::from(*high) << 32 | u64::from(*low);
        let context = dir.join(FEATURE_CONTEXT_ROWS);
        Ok(Some(Self {
            keys: halves.as_chunks::<2>().0.iter().map(whole).collect(),
            weights: npy::read::<f32>(&dir.join(FEATURE_WEIGHTS))?.data,
            rows: npy::read::<f32>(&dir.join(FEATURE_ROWS))?.data,
            context_rows: if context.exists() { npy::read::<f32>(&context)?.data } else { Vec::new() },
        }))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), NpyError> {
        let n = self.keys.len();
        let width = self.rows.len() / n.max(1);
        let halves: Vec<u32> = self.keys.iter().flat_map(|key| [(key >> 32) as u32, *key as u32]).collect();
        npy::write(&dir.join(FEATURE_KEYS), &[n, 2], &halves)?;
        npy::write(&dir.join(FEATURE_WEIGHTS), &[n], &self.weights)?;
        npy::write(&dir.join(FEATURE_ROWS), &[n, width], &self.rows)?;
        if !self.context_rows.is_empty() {
            npy::write(&dir.join(FEATURE_CONTEXT_ROWS), &[n, width], &self.context_rows)?;
        }
        Ok(())
    }
}

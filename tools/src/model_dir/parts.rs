//! The parts of a model, wherever they lie: in memory or on disk. What an artifact is built of.

use kindred::catalog::ItemSource;
use kindred::model::{EncoderData, ModelData, SessionsData};
use kindred_index::RowSource;

use super::{EncoderTable, ModelInfo, SessionTable};
use crate::matrix::Matrix;

/// Factors, and how many rows and columns they have.
pub type FactorsPart<'a> = ([usize; 2], &'a dyn RowSource);

/// The parts of a model. Every table has one row an item, in one order.
#[derive(Clone, Copy, Debug)]
pub struct ModelParts<'a> {
    /// What it is.
    pub info: &'a ModelInfo,
    /// Number of items.
    pub n_items: usize,
    /// Target factors.
    pub item_factors: FactorsPart<'a>,
    /// Context factors; none when they are the target factors.
    pub context_factors: Option<FactorsPart<'a>>,
    /// Catalogue entries.
    pub items: &'a dyn ItemSource,
    /// `info.k_neighbours` item numbers an item, nearest first.
    pub neighbours: &'a dyn RowSource<u32>,
    /// Their similarities.
    pub neighbour_similarities: &'a dyn RowSource,
    /// Weighted interactions an item.
    pub popularity: &'a [f32],
    /// Sessions of the training part.
    pub sessions: Option<&'a SessionTable>,
    /// What makes rows of texts and attributes.
    pub encoder: Option<&'a EncoderTable>,
    /// User vectors of sampled training users.
    pub queries: &'a Matrix,
}

impl<'a> ModelParts<'a> {
    /// What goes into the model file.
    pub fn data(&self) -> ModelData<'a> {
        let sessions = |table: &'a SessionTable| SessionsData { offsets: &table.offsets, items: &table.items };
        let encoder = |table: &'a EncoderTable| {
            let EncoderTable { keys, weights, rows, context_rows } = table;
            EncoderData { keys, weights, rows, context_rows }
        };
        ModelData {
            items: self.items,
            context: self.context_factors.map(|(_, context)| context),
            k_neighbours: self.info.k_neighbours,
            neighbours: self.neighbours,
            neighbour_similarities: self.neighbour_similarities,
            popularity: self.popularity,
            sessions: self.sessions.map(sessions),
            encoder: self.encoder.map(encoder),
        }
    }
}

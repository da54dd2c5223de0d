//! Whether the parts of a model belong together: what both reading and writing insist on, wherever they lie.

use std::path::Path;

use kindred_index::RowSource;

use super::{
    CONTEXT_FACTORS, INFO, ITEM_FACTORS, ModelDirError, ModelParts, NEIGHBOURS, NO_NEIGHBOUR, POPULARITY, QUERIES,
    SIMILARITIES,
};
use crate::matrix::{RowFault, first_fault};

impl ModelParts<'_> {
    /// Sizes, rows, weighting. Reads factors and neighbours once.
    ///
    /// # Errors
    /// The first of these that does not hold, or a table that cannot be read.
    pub(super) fn check(&self, dir: &Path) -> Result<(), ModelDirError> {
        let (n, d, k) = (self.n_items, self.info.factors, self.info.k_neighbours);
        let table = |table, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(ModelDirError::Table { path: dir.to_owned(), table, found, expected })
        };
        let shape = |[rows, cols]: [usize; 2]| format!("{rows} × {cols}");
        table("item count of model.json", self.info.n_items.to_string(), n.to_string())?;
        table(ITEM_FACTORS, shape(self.item_factors.0), format!("{n} × {d}"))?;
        if let Some(context) = self.context_factors {
            table(CONTEXT_FACTORS, shape(context.0), format!("{n} × {d}"))?;
        }
        table("\"symmetric\"", self.info.symmetric.to_string(), self.context_factors.is_none().to_string())?;
        // Whatever number model.json names.
        let places = n.saturating_mul(k).to_string();
        table(NEIGHBOURS, self.neighbours.n_values().to_string(), places.clone())?;
        table(SIMILARITIES, self.neighbour_similarities.n_values().to_string(), places)?;
        table(POPULARITY, self.popularity.len().to_string(), n.to_string())?;
        if self.queries.rows > 0 {
            table("width of queries.npy", self.queries.cols.to_string(), d.to_string())?;
        }
        if let Some(item) = self.strange_neighbour(dir)? {
            table("largest neighbour", item.to_string(), format!("less than {n}"))?;
        }
        rows(dir, ITEM_FACTORS, d, self.item_factors.1)?;
        self.context_factors.map_or(Ok(()), |(_, context)| rows(dir, CONTEXT_FACTORS, d, context))?;
        rows(dir, QUERIES, self.queries.cols, &self.queries.data)?;
        if let Some(row) = self.popularity.iter().position(|popularity| !popularity.is_finite()) {
            return Err(ModelDirError::Row { path: dir.join(POPULARITY), row, fault: RowFault::NotFinite });
        }
        if !self.info.session_likeness.is_valid() {
            return Err(ModelDirError::SessionLikeness { path: dir.join(INFO) });
        }
        if self.info.learned_weights().is_some_and(|weights| !weights.are_valid()) {
            return Err(ModelDirError::LearnedWeights { path: dir.join(INFO) });
        }
        let weighting = self.info.weighting.validate();
        weighting.map_err(|source| ModelDirError::Weighting { path: dir.join(INFO), source })
    }

    /// The first neighbour that is no item.
    fn strange_neighbour(&self, dir: &Path) -> Result<Option<u32>, ModelDirError> {
        let is_strange = |item: &&u32| **item != NO_NEIGHBOUR && **item as usize >= self.n_items;
        let strange = self.neighbours.find(self.info.k_neighbours, |_, items| items.iter().find(is_strange).copied());
        strange.map_err(|source| ModelDirError::of(source, &dir.join(NEIGHBOURS)))
    }
}

/// Whether each row can serve as a vector.
fn rows(dir: &Path, name: &str, width: usize, rows: &dyn RowSource) -> Result<(), ModelDirError> {
    let path = dir.join(name);
    match first_fault(rows, width).map_err(|source| ModelDirError::of(source, &path))? {
        Some((row, fault)) => Err(ModelDirError::Row { path, row, fault }),
        None => Ok(()),
    }
}

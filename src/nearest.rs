//! The items nearest to a vector: what the index finds, and beside it the items that the index does not know yet.

use std::sync::Arc;

use kindred_index::{
    AllowSet, FilterError, FilterExpr, Hit, Metric, Scratch, SearchError, SearchParams, SearchStats, normalise,
};
use thiserror::Error;

use crate::model::{Model, ModelView};

/// Why nothing was searched.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum NearestError {
    /// The filter cannot be used.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The vector or the parameters cannot be used.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// The nearest items, best first, ties by ordinal, at most `params.k`. Items that are hidden, expired or taken out are not among them, nor are
/// those of `leave_out`; whether an item is available is for the filter to ask.
///
/// Costs the search, and a dot product for each item beside the model.
///
/// # Errors
/// A filter, vector or parameter that cannot be used.
pub fn nearest<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    query: &[f32],
    params: &SearchParams,
    filter: Option<&FilterExpr>,
    leave_out: &[u32],
    scratch: &mut Scratch,
) -> Result<(Vec<Hit>, SearchStats), NearestError> {
    let index = model.index();
    let allow = allowed(model, view, filter, leave_out)?;
    let stats = index.search(query, params, allow.as_deref(), scratch)?;
    let mut hits = scratch.hits().to_vec();
    if let Some(live) = view.live() {
        let mut unit = query.to_vec();
        if index.metric() == Metric::Cosine {
            normalise(&mut unit);
        }
        let mut added = live.added(false, filter);
        added.retain(|ordinal| !leave_out.contains(ordinal));
        let similarity = |ordinal: u32| view.row(ordinal).unwrap_or_default().dot(&unit);
        hits.extend(added.iter().map(|&ordinal| Hit { ordinal, similarity: similarity(ordinal) }));
        let best_first = |a: &Hit, b: &Hit| b.similarity.total_cmp(&a.similarity).then(a.ordinal.cmp(&b.ordinal));
        if hits.len() > params.k {
            hits.select_nth_unstable_by(params.k, best_first);
            hits.truncate(params.k);
        }
        hits.sort_unstable_by(best_first);
    }
    Ok((hits, stats))
}

/// The items of the model that may be found; none for all.
fn allowed<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    filter: Option<&FilterExpr>,
    leave_out: &[u32],
) -> Result<Option<Arc<AllowSet>>, FilterError> {
    let shown = view.live().map(|live| live.allowed(false)).filter(|set| set.cardinality() < model.len());
    let mut allow = match filter {
        Some(filter) => model.passing(view.live(), filter)?,
        None if shown.is_none() && leave_out.is_empty() => return Ok(None),
        None => Arc::new(AllowSet::full(model.len())),
    };
    if let Some(shown) = shown {
        Arc::make_mut(&mut allow).and(shown);
    }
    if !leave_out.is_empty() {
        let left = Arc::make_mut(&mut allow);
        leave_out.iter().for_each(|ordinal| {
            left.remove(*ordinal);
        });
    }
    Ok(Some(allow))
}

/// Two similarities closer than this, as a share of the greater, are the same: single precision sums in different orders.
const SAME: f32 = 1e-5;

/// Whether an item of this similarity is among the true k nearest, whose least similarity is given.
pub fn is_true(similarity: f32, worst: f32) -> bool {
    similarity >= worst - SAME * worst.abs()
}

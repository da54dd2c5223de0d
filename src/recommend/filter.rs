//! Which items may be in the answer at all.

use kindred_index::{AllowSet, FilterExpr};

use super::RecommendError;
use super::candidates::CandidateTable;
use crate::model::Model;
use crate::scenario::Scenario;

/// Up to this many seen and excluded items the search is simply asked for that many more; beyond, they are taken out of the
/// set that it may return. Asking for more widens the search, a set costs a bit per item of the model.
const ASK_FOR_MORE_MAX: usize = 64;

/// The items that pass filter and availability. Excluded items are in the candidate table; the set may leave them out too.
#[derive(Debug)]
pub(super) struct Eligible<'a> {
    allow: Allow<'a>,
    ask_for_more: usize,
}

#[derive(Debug)]
enum Allow<'a> {
    Everything,
    Kept(&'a AllowSet),
    Made(AllowSet),
}

impl<'a> Eligible<'a> {
    /// Looks up excluded keys, evaluates the filter, and takes what is not available into account.
    pub(super) fn new<D: AsRef<[u8]>>(
        model: &'a Model<D>,
        scenario: &Scenario,
        exclude: &[String],
        filter: Option<&FilterExpr>,
        table: &mut CandidateTable,
    ) -> Result<Self, RecommendError> {
        for ordinal in exclude.iter().filter_map(|key| model.index().ordinal(key)) {
            table.exclude(&[ordinal]);
        }
        let available = if scenario.require_available { model.available() } else { None };
        let mut allow = match (filter, available) {
            (None, None) => Allow::Everything,
            (None, Some(available)) => Allow::Kept(available),
            (Some(filter), available) => {
                let mut set = model.index().attributes().evaluate(filter, model.len())?;
                if let Some(available) = available {
                    set.and(available);
                }
                Allow::Made(set)
            }
        };
        if table.n_excluded() > ASK_FOR_MORE_MAX {
            allow = match allow {
                Allow::Everything => Allow::Made(AllowSet::full(model.len())),
                Allow::Kept(set) => Allow::Made(set.clone()),
                Allow::Made(set) => Allow::Made(set),
            };
        }
        let mut ask_for_more = table.n_excluded();
        if let Allow::Made(set) = &mut allow {
            table.excluded().for_each(|ordinal| {
                set.remove(ordinal);
            });
            ask_for_more = 0;
        }
        Ok(Self { allow, ask_for_more })
    }

    /// The set that the search may return from; none where that is every item.
    pub(super) fn set(&self) -> Option<&AllowSet> {
        match &self.allow {
            Allow::Everything => None,
            Allow::Kept(set) => Some(set),
            Allow::Made(set) => Some(set),
        }
    }

    /// Whether an item passes.
    pub(super) fn allows(&self, ordinal: u32) -> bool {
        self.set().is_none_or(|set| set.contains(ordinal))
    }

    /// The items that pass, where they are at most `most`.
    pub(super) fn few(&self, most: u32) -> Option<impl Iterator<Item = u32> + '_> {
        self.set().filter(|set| set.cardinality() <= most).map(AllowSet::iter)
    }

    /// How many excluded items the search may return, so that as many more must be asked for.
    pub(super) fn ask_for_more(&self) -> usize {
        self.ask_for_more
    }
}

//! Which items may be in the answer at all.

use std::sync::Arc;

use kindred_index::{AllowSet, FilterExpr};

use super::RecommendError;
use super::candidates::{Candidate, CandidateTable};
use super::facts::passes;
use crate::model::{Model, ModelView};
use crate::scenario::{ItemFilter, Scenario};

/// Up to this many seen and excluded items the search is simply asked for that many more; beyond, they are taken out of the
/// set that it may return. Asking for more widens the search, a set costs a bit per item of the model.
const ASK_FOR_MORE_MAX: usize = 64;

/// The items that pass filter and availability. Excluded items are in the candidate table; the set may leave them out too.
#[derive(Debug)]
pub(super) struct Eligible<'a> {
    n: u32,
    allow: Allow<'a>,
    /// Items beside the model that pass, in order.
    added: Vec<u32>,
    ask_for_more: usize,
}

#[derive(Debug)]
enum Allow<'a> {
    Everything,
    Kept(&'a AllowSet),
    Passing(Arc<AllowSet>),
}

impl<'a> Eligible<'a> {
    /// Looks up excluded keys, evaluates the filter, and takes what is not available into account.
    pub(super) fn new<D: AsRef<[u8]>>(
        model: &'a Model<D>,
        view: &ModelView<'a>,
        scenario: &Scenario,
        exclude: &[String],
        filter: Option<&FilterExpr>,
        table: &mut CandidateTable,
    ) -> Result<Self, RecommendError> {
        for ordinal in exclude.iter().filter_map(|key| view.ordinal(key)) {
            table.exclude(&[ordinal]);
        }
        let allowed = match view.live() {
            Some(live) => Some(live.allowed(scenario.require_available)).filter(|set| set.cardinality() < model.len()),
            None if scenario.require_available => model.available(),
            None => None,
        };
        let fixed = scenario.filter.as_ref().map(ItemFilter::expression);
        let evaluate = |filter: &FilterExpr| model.passing(view.live(), filter);
        let mut allow = match (filter.or(fixed), allowed) {
            (None, None) => Allow::Everything,
            (None, Some(allowed)) => Allow::Kept(allowed),
            (Some(one), allowed) => {
                let mut set = evaluate(one)?;
                if let (Some(_), Some(fixed)) = (filter, fixed) {
                    Arc::make_mut(&mut set).and(&*evaluate(fixed)?);
                }
                if let Some(allowed) = allowed {
                    Arc::make_mut(&mut set).and(allowed);
                }
                Allow::Passing(set)
            }
        };
        let added = view.live().map_or_else(Vec::new, |live| {
            let mut added = live.added(scenario.require_available, filter);
            added.retain(|ordinal| fixed.is_none_or(|fixed| passes(model, view, fixed, *ordinal)));
            added.retain(|ordinal| !table.get(*ordinal).is_some_and(Candidate::is_excluded));
            added
        });
        let mut ask_for_more = table.n_excluded();
        if table.n_excluded() > ASK_FOR_MORE_MAX {
            let mut set = match allow {
                Allow::Everything => Arc::new(AllowSet::full(model.len())),
                Allow::Kept(set) => Arc::new(set.clone()),
                Allow::Passing(set) => set,
            };
            let left = Arc::make_mut(&mut set);
            table.excluded().for_each(|ordinal| {
                left.remove(ordinal);
            });
            allow = Allow::Passing(set);
            ask_for_more = 0;
        }
        Ok(Self { n: model.len(), allow, added, ask_for_more })
    }

    /// The set that the search may return from; none where that is every item.
    pub(super) fn set(&self) -> Option<&AllowSet> {
        match &self.allow {
            Allow::Everything => None,
            Allow::Kept(set) => Some(set),
            Allow::Passing(set) => Some(set),
        }
    }

    /// Those of the items that another filter lets pass too and that are not excluded, as a set of their own.
    pub(super) fn those_of<D: AsRef<[u8]>>(
        &self,
        model: &Model<D>,
        view: &ModelView<'_>,
        filter: &FilterExpr,
        table: &CandidateTable,
    ) -> Result<AllowSet, RecommendError> {
        let mut set = Arc::unwrap_or_clone(model.passing(view.live(), filter)?);
        if let Some(allowed) = self.set() {
            set.and(allowed);
        }
        table.excluded().for_each(|ordinal| {
            set.remove(ordinal);
        });
        Ok(set)
    }

    /// Whether an item passes.
    pub(super) fn allows(&self, ordinal: u32) -> bool {
        match self.set() {
            _ if ordinal >= self.n => self.added.binary_search(&ordinal).is_ok(),
            Some(set) => set.contains(ordinal),
            None => true,
        }
    }

    /// The items beside the model that pass.
    pub(super) fn added(&self) -> &[u32] {
        &self.added
    }

    /// The items of the model that pass, where they are at most `most`.
    pub(super) fn few(&self, most: u32) -> Option<impl Iterator<Item = u32> + '_> {
        self.set().filter(|set| set.cardinality() <= most).map(AllowSet::iter)
    }

    /// How many excluded items the search may return, so that as many more must be asked for.
    pub(super) fn ask_for_more(&self) -> usize {
        self.ask_for_more
    }
}

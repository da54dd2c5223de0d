//! Which items may be in the answer at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use kindred_index::{AllowSet, AttributeView, FilterError, FilterExpr};

use super::RecommendError;
use super::candidates::{Candidate, CandidateTable};
use super::facts::passes;
use crate::filter::{unheld_key, without};
use crate::live_items::LiveItems;
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
        let asked = filter.map(|filter| model.passing(view.live(), filter)).transpose()?;
        let own = fixed.map(|fixed| passing_rule(model, view.live(), fixed)).transpose()?;
        let passing = match (asked, own) {
            (Some(mut set), Some(own)) => {
                Arc::make_mut(&mut set).and(&own);
                Some(set)
            }
            (asked, own) => asked.or(own),
        };
        let mut allow = match (passing, allowed) {
            (None, None) => Allow::Everything,
            (None, Some(allowed)) => Allow::Kept(allowed),
            (Some(mut set), allowed) => {
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

    /// Those of the items that the filter of a rule lets pass too and that are not excluded, as a set of their own.
    pub(super) fn those_of<D: AsRef<[u8]>>(
        &self,
        model: &Model<D>,
        view: &ModelView<'_>,
        filter: &FilterExpr,
        table: &CandidateTable,
    ) -> Result<AllowSet, RecommendError> {
        let mut set = Arc::unwrap_or_clone(passing_rule(model, view.live(), filter)?);
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

    /// How many excluded items the search may return, so that as many more must be asked for.
    pub(super) fn ask_for_more(&self) -> usize {
        self.ask_for_more
    }
}

/// The items of the model that pass a filter of a scenario, as the changes laid over it say. Whoever asks for a list has not written it, and what it
/// asks for may be gone with the last build: a condition that no item can fulfil is no error, and holds for none.
///
/// # Errors
/// A filter beyond the limits.
pub fn passing_rule<D: AsRef<[u8]>>(
    model: &Model<D>,
    live: Option<&LiveItems>,
    filter: &FilterExpr,
) -> Result<Arc<AllowSet>, FilterError> {
    let attributes = model.index().attributes();
    let is_unheld = |condition: &FilterExpr| unheld_key(&attributes, condition).is_some();
    let mut set = if unheld(model, filter).is_empty() {
        model.passing(None, filter)?
    } else {
        model.passing(None, &without(filter, &is_unheld))?
    };
    if let Some(live) = live.filter(|live| live.n_changed() > 0) {
        live.amend(filter, Arc::make_mut(&mut set));
    }
    Ok(set)
}

/// The attributes that conditions of a filter ask for and that no item of the model has, or none as what they are asked for: text, numbers or a
/// point.
pub fn unheld<'f, D: AsRef<[u8]>>(model: &Model<D>, filter: &'f FilterExpr) -> BTreeSet<&'f str> {
    fn gather<'f>(attributes: &AttributeView<'_>, filter: &'f FilterExpr, into: &mut BTreeSet<&'f str>) {
        match filter {
            FilterExpr::And(parts) | FilterExpr::Or(parts) => {
                parts.iter().for_each(|part| gather(attributes, part, into));
            }
            FilterExpr::Not(part) => gather(attributes, part, into),
            condition => {
                if let Some(key) = unheld_key(attributes, condition) {
                    into.insert(key);
                }
            }
        }
    }
    let mut keys = BTreeSet::new();
    gather(&model.index().attributes(), filter, &mut keys);
    keys
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::super::{Placement, RecommendRequest, RecommendScratch, Recommendations, recommend};
    use super::*;
    use crate::interaction::Interaction;
    use crate::live_items::LiveEntry;
    use crate::scenario::Promotion;
    use crate::testing::Fixture;
    use crate::user_vector::Weighting;

    fn rule(filter: Value) -> ItemFilter {
        serde_json::from_value(filter).unwrap()
    }

    #[test]
    fn a_condition_of_a_rule_on_what_nothing_has_holds_for_no_item() {
        let fixture = Fixture::shop();
        let model = fixture.model();
        let adult = json!({"key": "adult", "match": {"value": true}});
        let toys = json!({"key": "category", "match": {"value": "toys"}});
        let colour = json!({"key": "colour", "exists": true});
        let circle = json!({"center": {"lat": 47.0, "lon": 8.0}, "radius": 9.0});
        let mut changed = fixture.items[4].clone();
        changed.attributes = serde_json::from_value(json!({"adult": true})).unwrap();
        let mut live = LiveItems::new(&model, 0);
        live.apply(&model, Arc::new(LiveEntry::put(changed, None, 7).unwrap()), None);
        for (filter, unknown, count) in [
            (json!({"must_not": [adult]}), &["adult"][..], 60),
            (json!({"must": [adult]}), &["adult"], 0),
            (json!({"must": [toys], "must_not": [adult]}), &["adult"], 15),
            (json!({"should": [toys, adult]}), &["adult"], 15),
            (json!({"must_not": [{"should": [toys, colour]}, adult]}), &["adult", "colour"], 45),
            (json!({"must": [{"key": "colour", "exists": false}]}), &["colour"], 60),
            (json!({"key": "colour", "match": {"except": ["red"]}}), &["colour"], 0),
            (json!({"key": "colour", "match": {"any": ["red", 1]}}), &["colour"], 0),
            (json!({"key": "shop", "geo_radius": circle}), &["shop"], 0),
            // Asked for as what it is not.
            (json!({"key": "price", "match": {"value": "cheap"}}), &["price"], 0),
            (json!({"must_not": [{"key": "category", "range": {"lt": 3}}]}), &["category"], 60),
            (toys.clone(), &[], 15),
        ] {
            let rule = rule(filter.clone());
            let keys = unheld(&model, rule.expression());
            assert_eq!(keys.into_iter().collect::<Vec<_>>(), unknown, "{filter}");
            let set = passing_rule(&model, None, rule.expression()).unwrap();
            assert_eq!(set.cardinality(), count, "{filter}");
            for live in [None, Some(&live)] {
                let (view, set) = (model.view_with(live), passing_rule(&model, live, rule.expression()).unwrap());
                for ordinal in 0..model.len() {
                    let passes = passes(&model, &view, rule.expression(), ordinal);
                    assert_eq!(set.contains(ordinal), passes, "{filter}: {ordinal}, {}", live.is_some());
                }
            }
        }
        // Of the item that came to have it since, the condition holds.
        assert!(passing_rule(&model, Some(&live), rule(adult).expression()).unwrap().iter().eq([4]));
    }

    #[test]
    fn a_scenario_on_what_nothing_has_answers_and_a_request_on_it_is_told() {
        let model = Fixture::shop().model();
        let history = [Interaction::new(Fixture::key(0), "view", 1)];
        let list = |scenario: &Scenario, filter: Option<&FilterExpr>| -> Result<Recommendations, RecommendError> {
            let request = RecommendRequest { filter, ..RecommendRequest::new(&history, 1) };
            recommend(&model, scenario, &Weighting::default(), &request, &mut RecommendScratch::default(), &mut |_| ())
        };
        let adult = json!({"key": "adult", "match": {"value": true}});
        let of = |filter: Value| Scenario { filter: Some(rule(filter)), ..Scenario::home() };
        let usual = list(&Scenario::home(), None).unwrap();
        assert_eq!(list(&of(json!({"must_not": [adult]})), None).unwrap().items, usual.items);
        assert!(list(&of(adult.clone()), None).unwrap().items.is_empty());
        let adult = rule(adult);
        let toys = rule(json!({"key": "category", "match": {"value": "toys"}}));
        for scenario in [Scenario::home(), of(json!({"must_not": [{"key": "adult", "exists": true}]}))] {
            let error = list(&scenario, Some(adult.expression())).unwrap_err();
            assert!(matches!(error, RecommendError::Filter(FilterError::UnknownField { .. })), "{error}");
            let found = list(&scenario, Some(toys.expression())).unwrap();
            assert!(!found.items.is_empty() && found.items.iter().all(|item| item.ordinal % 4 == 0), "{found:?}");
        }
        // A share that is kept for books is filled with books, though no item is what these may not be.
        let books = json!({"key": "category", "match": {"value": "books"}});
        let filter = rule(json!({"must": [books], "must_not": [{"key": "adult", "exists": true}]}));
        let promote = Some(Promotion { filter, share: 0.5 });
        let found = list(&Scenario { limit: 4, candidates: 4, promote, ..Scenario::home() }, None).unwrap();
        let promoted = found.items.iter().filter(|item| item.placement == Some(Placement::Promoted));
        assert!(promoted.clone().count() == 2 && promoted.clone().all(|item| item.ordinal % 4 == 1), "{found:?}");
    }
}

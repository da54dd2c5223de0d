//! Whether one item passes a filter, and the boosts that hold for a request. Asked of candidates, not of all items.

use std::collections::BTreeSet;
use std::sync::Arc;

use kindred_index::{Field, FilterExpr, ItemAttributes};

use super::context::RequestContext;
use crate::live_items::LiveEntry;
use crate::model::{Column, Model, ModelView};
use crate::scenario::{Boost, Decay, GeoPoint, RequestTarget, Target};

/// Whether an item passes a filter; the same as a bit of the set that the index evaluates, but that a field no item has lets nothing pass.
pub(super) fn passes<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    filter: &FilterExpr,
    ordinal: u32,
) -> bool {
    match view.live().and_then(|live| live.entry(ordinal)) {
        Some(entry) => filter.matches(entry.id(), entry.attributes()),
        None => of_model(model, filter, ordinal),
    }
}

/// As [`passes`], of an item as the model knows it.
fn of_model<D: AsRef<[u8]>>(model: &Model<D>, filter: &FilterExpr, ordinal: u32) -> bool {
    let field = |name: &str| model.index().attributes().field(name);
    let any_number = |name: &str, fits: &dyn Fn(&f64) -> bool| {
        model.numbers(name).is_some_and(|numbers| numbers.of(ordinal).iter().any(fits))
    };
    match filter {
        FilterExpr::Match { field: name, value } => field(name).is_some_and(|field| field.has_term(value, ordinal)),
        FilterExpr::Any { field: name, values } => {
            field(name).is_some_and(|field| values.iter().any(|value| field.has_term(value, ordinal)))
        }
        FilterExpr::Except { field: name, values, numbers } => {
            let named = |field: Field<'_>| {
                let distinct: BTreeSet<&String> = values.iter().collect();
                distinct.into_iter().filter(|value| field.has_term(value, ordinal)).count()
            };
            let all = model.terms(name).map_or(0, |terms| terms.of(ordinal).len());
            all > field(name).map_or(0, named) || any_number(name, &|number| !numbers.contains(number))
        }
        FilterExpr::Range { field: name, gt, gte, lt, lte } => any_number(name, &|number| {
            gt.is_none_or(|bound| *number > bound)
                && gte.is_none_or(|bound| *number >= bound)
                && lt.is_none_or(|bound| *number < bound)
                && lte.is_none_or(|bound| *number <= bound)
        }),
        FilterExpr::GeoRadius { field: name, .. } => {
            let axes = [format!("{name}.lat"), format!("{name}.lon")];
            let numbers = axes.into_iter().flat_map(|axis| {
                let found = model.numbers(&axis).map_or_else(Vec::new, |column| column.of(ordinal).to_vec());
                found.into_iter().map(move |number| (axis.clone(), number))
            });
            filter.matches("", &ItemAttributes { numbers: numbers.collect(), ..ItemAttributes::default() })
        }
        FilterExpr::Exists { field: name } => {
            let has = |name: &str| field(name).is_some_and(|field| field.has_any(ordinal));
            has(name) || (has(&format!("{name}.lat")) && has(&format!("{name}.lon")))
        }
        FilterExpr::HasId { ids } => model.index().key(ordinal).is_some_and(|key| ids.iter().any(|id| id == key)),
        FilterExpr::And(parts) => parts.iter().all(|part| of_model(model, part, ordinal)),
        FilterExpr::Or(parts) => parts.iter().any(|part| of_model(model, part, ordinal)),
        FilterExpr::Not(part) => !of_model(model, part, ordinal),
    }
}

/// The boosts of a scenario that hold for a request.
#[derive(Debug, Default)]
pub(super) struct Boosts<'a>(Vec<Active<'a>>);

#[derive(Debug)]
struct Active<'a> {
    boost: &'a Boost,
    /// Its weight, times what was learned where it is a learned one.
    weight: f64,
    falls: Option<Falls<'a>>,
}

/// A decay with its target known and its attribute looked up.
#[derive(Debug)]
struct Falls<'a> {
    decay: &'a Decay,
    from: From,
}

#[derive(Debug)]
enum From {
    /// A distance in the unit of the attribute times the factor.
    Number {
        target: f64,
        factor: f64,
        numbers: Option<Arc<Column<f64>>>,
    },
    Place {
        target: GeoPoint,
        lat: Option<Arc<Column<f64>>>,
        lon: Option<Arc<Column<f64>>>,
    },
}

impl<'a> Boosts<'a> {
    /// Those that hold. Costs nothing without boosts.
    pub(super) fn new<D: AsRef<[u8]>>(
        model: &Model<D>,
        boosts: &'a [Boost],
        learned: f32,
        context: Option<&RequestContext>,
        now_ms: i64,
    ) -> Self {
        if boosts.is_empty() {
            return Self::default();
        }
        let nothing = RequestContext::default();
        let context = context.unwrap_or(&nothing);
        let active = |boost: &'a Boost| {
            if boost.weight == 0.0 || !context.holds(&boost.when, now_ms) {
                return None;
            }
            let falls = match &boost.decay {
                None => None,
                // A target that the request does not name: the boost does not hold.
                Some(decay) => Some(Falls { decay, from: From::new(model, decay, context, now_ms)? }),
            };
            let weight = f64::from(boost.weight) * if boost.learned { f64::from(learned) } else { 1.0 };
            Some(Active { boost, weight, falls })
        };
        Self(boosts.iter().filter_map(active).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all of them add to an item's score.
    pub(super) fn total<D: AsRef<[u8]>>(&self, model: &Model<D>, view: &ModelView<'_>, ordinal: u32) -> f64 {
        self.0.iter().map(|active| active.amount(model, view, ordinal)).sum()
    }

    /// What each adds, those that add nothing left out.
    pub(super) fn parts<D: AsRef<[u8]>>(
        &self,
        model: &Model<D>,
        view: &ModelView<'_>,
        ordinal: u32,
    ) -> Vec<(String, f64)> {
        let part = |active: &Active<'_>| (active.boost.name.clone(), active.amount(model, view, ordinal));
        self.0.iter().map(part).filter(|(_, amount)| *amount != 0.0).collect()
    }
}

impl Active<'_> {
    fn amount<D: AsRef<[u8]>>(&self, model: &Model<D>, view: &ModelView<'_>, ordinal: u32) -> f64 {
        if self.boost.filter.as_ref().is_some_and(|filter| !passes(model, view, filter.expression(), ordinal)) {
            return 0.0;
        }
        self.weight * self.falls.as_ref().map_or(1.0, |falls| falls.value(view, ordinal))
    }
}

impl From {
    fn new<D: AsRef<[u8]>>(model: &Model<D>, decay: &Decay, context: &RequestContext, now_ms: i64) -> Option<Self> {
        let number = |target, factor| Self::Number { target, factor, numbers: model.numbers(&decay.key) };
        let place = |target| {
            let column = |axis| model.numbers(&format!("{}.{axis}", decay.key));
            Self::Place { target, lat: column("lat"), lon: column("lon") }
        };
        match decay.target {
            Target::Number(target) => Some(number(target, 1.0)),
            // Milliseconds in the attribute, seconds in the settings.
            Target::OfRequest(RequestTarget::Now) => Some(number(now_ms as f64, 1e-3)),
            Target::Place(target) => Some(place(target)),
            Target::OfRequest(RequestTarget::Visitor) => context.place.map(place),
        }
    }
}

impl Falls<'_> {
    /// The value at the nearest of the item's numbers or places.
    fn value(&self, view: &ModelView<'_>, ordinal: u32) -> f64 {
        let changed = view.live().and_then(|live| live.entry(ordinal)).map(LiveEntry::attributes);
        let key = &self.decay.key;
        let of = |column: &Option<Arc<Column<f64>>>, axis: &str| match (changed, column) {
            (Some(attributes), _) => attributes.numbers_of(&format!("{key}{axis}")).collect(),
            (None, Some(column)) => column.of(ordinal).to_vec(),
            (None, None) => Vec::new(),
        };
        let nearest = match &self.from {
            From::Number { target, factor, numbers } => {
                of(numbers, "").into_iter().map(|number| (number - target).abs() * factor).min_by(f64::total_cmp)
            }
            From::Place { target, lat, lon } => {
                let places = of(lat, ".lat").into_iter().zip(of(lon, ".lon")).map(|(lat, lon)| GeoPoint { lat, lon });
                places.map(|place| target.metres_to(place)).min_by(f64::total_cmp)
            }
        };
        nearest.map_or(self.decay.missing, |distance| self.decay.at(distance))
    }
}

//! Filters: which items have these attributes. An expression is evaluated to a bitmap once, then the search looks bits up.

use std::cell::Cell;

use crate::allow::AllowSet;
use crate::attributes::{AttributeView, Field};
use crate::error::FilterError;
use crate::geo::{Circle, latitude_field, longitude_field};

/// Deepest nesting of groups. Evaluation recurses, so this bounds its stack.
pub const FILTER_DEPTH_MAX: usize = 32;

/// Most conditions, groups and values of one filter together. Bounds the work of one evaluation.
pub const FILTER_PARTS_MAX: usize = 4_096;

/// Most items and values that the conditions of one filter may go over one by one, for each item of the index, and how many beside. Sorting those of a
/// circle counts as eight.
const STEPS_PER_ITEM_MAX: u64 = 32;
const STEPS_MAX: u64 = 1 << 20;
const STEPS_OF_A_CIRCLE: usize = 8;

/// A condition on attributes. An item may have several values in one field; a condition holds if any of them fits.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterExpr {
    /// The field has this value.
    Match {
        /// The field.
        field: String,
        /// The value, compared byte by byte.
        value: String,
    },
    /// The field has any of these values.
    Any {
        /// The field.
        field: String,
        /// The values.
        values: Vec<String>,
    },
    /// The field has a number within all of these bounds. Without bounds: it has a number.
    Range {
        /// The field.
        field: String,
        /// Greater than.
        gt: Option<f64>,
        /// Greater than or equal.
        gte: Option<f64>,
        /// Less than.
        lt: Option<f64>,
        /// Less than or equal.
        lte: Option<f64>,
    },
    /// The field has a value or number that is none of these.
    Except {
        /// The field.
        field: String,
        /// The values.
        values: Vec<String>,
        /// The numbers.
        numbers: Vec<f64>,
    },
    /// The point of this name is at most so far from another on the sphere. A point is the two numbers `NAME.lat`, -90 to 90, and `NAME.lon`,
    /// -180 to 180, in degrees.
    GeoRadius {
        /// The name of the point.
        field: String,
        /// Latitude of the middle, in degrees north.
        lat: f64,
        /// Longitude of the middle, in degrees east.
        lon: f64,
        /// Greatest distance, in metres.
        radius_m: f64,
    },
    /// The item's key is any of these.
    HasId {
        /// The keys.
        ids: Vec<String>,
    },
    /// The field has any value or number, or is a point.
    Exists {
        /// The field.
        field: String,
    },
    /// All of these hold. Without parts: every item.
    And(Vec<FilterExpr>),
    /// Any of these holds. Without parts: no item.
    Or(Vec<FilterExpr>),
    /// This does not hold.
    Not(Box<FilterExpr>),
}

impl FilterExpr {
    /// Conditions, groups and values together.
    pub fn n_parts(&self) -> usize {
        let inner: usize = match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::n_parts).sum(),
            Self::Not(part) => part.n_parts(),
            _ => 0,
        };
        self.n_own_parts() + inner
    }

    /// The same without what is in a group.
    fn n_own_parts(&self) -> usize {
        1 + match self {
            Self::Any { values, .. } => values.len(),
            Self::Except { values, numbers, .. } => values.len() + numbers.len(),
            Self::HasId { ids } => ids.len(),
            _ => 0,
        }
    }
}

impl AttributeView<'_> {
    /// The items among the first `n` that a filter lets pass; `n` is the index's own number of items.
    ///
    /// A value that no item has gives the empty set: values come and go with the catalogue. A field that no item has is an error,
    /// since it is a slip of the pen. Costs a pass over the bitmap (n / 8 bytes) per group, a binary search per value, and a step
    /// per item that a condition lets pass; allocates a bitmap per level of nested groups.
    ///
    /// # Errors
    /// An unknown field, a field of the other type, a bound that is not a number, or a filter beyond the limits.
    pub fn evaluate(&self, filter: &FilterExpr, n: u32) -> Result<AllowSet, FilterError> {
        let mut parts = 0;
        check_size(filter, 0, &mut parts)?;
        let limit = STEPS_MAX + STEPS_PER_ITEM_MAX * u64::from(n);
        Evaluation { view: *self, steps: Cell::new(0), limit }.set_of(filter, n)
    }
}

/// One evaluation: the attributes, and what it has cost.
struct Evaluation<'a> {
    view: AttributeView<'a>,
    steps: Cell<u64>,
    limit: u64,
}

impl Evaluation<'_> {
    /// Counts steps before they are taken; an error where they are more than a filter may cost.
    fn charge(&self, steps: usize) -> Result<(), FilterError> {
        let steps = self.steps.get().saturating_add(steps as u64);
        self.steps.set(steps);
        if steps > self.limit { Err(FilterError::TooCostly { steps, limit: self.limit }) } else { Ok(()) }
    }

    fn set_of(&self, filter: &FilterExpr, n: u32) -> Result<AllowSet, FilterError> {
        match filter {
            FilterExpr::And(parts) => self.all_of(parts, n),
            FilterExpr::Not(part) => {
                let mut set = AllowSet::full(n);
                set.and_not(&self.set_of(part, n)?);
                Ok(set)
            }
            _ => {
                let mut set = AllowSet::new_empty(n);
                self.add(filter, &mut set)?;
                Ok(set)
            }
        }
    }

    fn all_of(&self, parts: &[FilterExpr], n: u32) -> Result<AllowSet, FilterError> {
        let Some((first, rest)) = parts.split_first() else { return Ok(AllowSet::full(n)) };
        let mut set = self.set_of(first, n)?;
        for part in rest {
            // Parts are evaluated even where nothing is left, so that a misspelt field is an error whatever the data.
            match part {
                FilterExpr::Not(part) => set.and_not(&self.set_of(part, n)?),
                part => set.and(&self.set_of(part, n)?),
            }
        }
        Ok(set)
    }

    /// Adds the items that a filter lets pass. Unions need no bitmap of their own this way.
    fn add(&self, filter: &FilterExpr, into: &mut AllowSet) -> Result<(), FilterError> {
        match filter {
            FilterExpr::Match { field, value } => {
                self.text_field(field)?.add_term(value, into);
            }
            FilterExpr::Any { field, values } => {
                // None of no values is of the wrong type.
                let field = if values.is_empty() { self.known_field(field)? } else { self.text_field(field)? };
                values.iter().for_each(|value| field.add_term(value, into));
            }
            FilterExpr::Except { field, values, numbers } => {
                if numbers.iter().any(|number| number.is_nan()) {
                    return Err(FilterError::BoundNotANumber { field: field.clone() });
                }
                let field = self.known_field(field)?;
                self.charge(field.except_steps(values.len(), numbers.len()))?;
                field.add_except(values, numbers, into);
            }
            FilterExpr::Range { field, gt, gte, lt, lte } => {
                let bounds = Bounds { gt: *gt, gte: *gte, lt: *lt, lte: *lte };
                if bounds.any_is_nan() {
                    return Err(FilterError::BoundNotANumber { field: field.clone() });
                }
                let field = self.number_field(field)?;
                self.charge(field.within(&bounds).len())?;
                field.add_numbers(&bounds, into);
            }
            FilterExpr::GeoRadius { field, lat, lon, radius_m } => {
                let circle = Circle { lat: *lat, lon: *lon, radius_m: *radius_m };
                self.add_circle(field, &circle, into)?;
            }
            FilterExpr::Exists { field } => self.add_present(field, into)?,
            FilterExpr::HasId { ids } => {
                for ordinal in ids.iter().filter_map(|id| self.view.keys.ordinal(id)) {
                    into.insert(ordinal);
                }
            }
            FilterExpr::Or(parts) => parts.iter().try_for_each(|part| self.add(part, into))?,
            FilterExpr::And(_) | FilterExpr::Not(_) => into.or(&self.set_of(filter, into.n())?),
        }
        Ok(())
    }

    /// The items whose point lies in a circle: those in its band of latitudes, looked up among those in its longitudes.
    fn add_circle(&self, name: &str, circle: &Circle, into: &mut AllowSet) -> Result<(), FilterError> {
        if !circle.is_sound() {
            return Err(FilterError::NoCircle { field: name.to_owned() });
        }
        let Some((latitude, longitude)) = self.point(name) else {
            self.known_field(name)?;
            return Err(FilterError::WrongType {
                field: name.to_owned(),
                holds: "text or numbers",
                asked: "a point with lat and lon",
            });
        };
        let (south, north) = circle.latitudes();
        let in_band = latitude.within(&Bounds::between(south, north));
        let across: Vec<_> = circle
            .longitudes()
            .into_iter()
            .map(|(west, east)| longitude.within(&Bounds::between(west, east)))
            .collect();
        let n_across: usize = across.iter().map(ExactSizeIterator::len).sum();
        self.charge((in_band.len() + n_across).saturating_mul(STEPS_OF_A_CIRCLE))?;
        let mut band: Vec<(u32, f64)> = in_band.collect();
        band.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        for within in across {
            for (ordinal, lon) in within {
                let first = band.partition_point(|(other, _)| *other < ordinal);
                let same = band.get(first..).unwrap_or_default().iter().take_while(|(other, _)| *other == ordinal);
                let mut compared = 0_usize;
                if same.inspect(|_| compared += 1).any(|(_, lat)| circle.contains(*lat, lon)) {
                    into.insert(ordinal);
                }
                // One was counted above. An item may have very many, each to be compared with each.
                self.charge(compared.saturating_sub(1))?;
            }
        }
        Ok(())
    }

    fn add_present(&self, name: &str, into: &mut AllowSet) -> Result<(), FilterError> {
        let Some((latitude, longitude)) = self.point(name) else {
            self.known_field(name)?.add_present(into);
            return Ok(());
        };
        if let Some(field) = self.view.field(name) {
            field.add_present(into);
        }
        self.charge(latitude.within(&Bounds::NONE).len() + longitude.within(&Bounds::NONE).len())?;
        let (mut points, mut across) = (AllowSet::new_empty(into.n()), AllowSet::new_empty(into.n()));
        latitude.add_numbers(&Bounds::NONE, &mut points);
        longitude.add_numbers(&Bounds::NONE, &mut across);
        points.and(&across);
        into.or(&points);
        Ok(())
    }

    /// The two fields of a point, where there is one of this name.
    fn point(&self, name: &str) -> Option<(Field<'_>, Field<'_>)> {
        Some((self.view.field(&latitude_field(name))?, self.view.field(&longitude_field(name))?))
    }

    /// The field of a name.
    fn known_field(&self, name: &str) -> Result<Field<'_>, FilterError> {
        self.view.field(name).ok_or_else(|| FilterError::UnknownField {
            field: name.to_owned(),
            known: self.view.fields().map(|field| field.name().to_owned()).collect(),
        })
    }

    fn text_field(&self, name: &str) -> Result<Field<'_>, FilterError> {
        let field = self.known_field(name)?;
        if field.n_terms() == 0 && field.n_numbers() > 0 {
            return Err(FilterError::WrongType { field: name.to_owned(), holds: "numbers", asked: "text" });
        }
        Ok(field)
    }

    fn number_field(&self, name: &str) -> Result<Field<'_>, FilterError> {
        let field = self.known_field(name)?;
        if field.n_numbers() == 0 && field.n_terms() > 0 {
            return Err(FilterError::WrongType { field: name.to_owned(), holds: "text", asked: "numbers" });
        }
        Ok(field)
    }
}

/// The bounds of a range; those that are absent bind nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) gt: Option<f64>,
    pub(crate) gte: Option<f64>,
    pub(crate) lt: Option<f64>,
    pub(crate) lte: Option<f64>,
}

impl Bounds {
    /// Every number.
    pub(crate) const NONE: Self = Self { gt: None, gte: None, lt: None, lte: None };

    /// The numbers from one to another, both included.
    pub(crate) fn between(least: f64, most: f64) -> Self {
        Self { gte: Some(least), lte: Some(most), ..Self::NONE }
    }

    fn any_is_nan(&self) -> bool {
        [self.gt, self.gte, self.lt, self.lte].into_iter().flatten().any(f64::is_nan)
    }

    /// Whether a number lies below the range.
    pub(crate) fn below(&self, number: f64) -> bool {
        self.gt.is_some_and(|bound| number <= bound) || self.gte.is_some_and(|bound| number < bound)
    }

    /// Whether a number lies above the range.
    pub(crate) fn above(&self, number: f64) -> bool {
        self.lt.is_some_and(|bound| number >= bound) || self.lte.is_some_and(|bound| number > bound)
    }
}

/// Refuses what is too deep or too large before anything is evaluated.
fn check_size(filter: &FilterExpr, depth: usize, parts: &mut usize) -> Result<(), FilterError> {
    if depth > FILTER_DEPTH_MAX {
        return Err(FilterError::TooDeep);
    }
    *parts += filter.n_own_parts();
    if *parts > FILTER_PARTS_MAX {
        return Err(FilterError::TooLarge);
    }
    match filter {
        FilterExpr::And(inner) | FilterExpr::Or(inner) => {
            inner.iter().try_for_each(|part| check_size(part, depth + 1, parts))
        }
        FilterExpr::Not(part) => check_size(part, depth + 1, parts),
        _ => Ok(()),
    }
}

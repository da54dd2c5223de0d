//! Filters over one item at a time: the plain reading of an expression.
//!
//! It is what bitmaps are checked against, and what is asked where there are no tables: about an item that came in after the index was made.

use crate::attribute_tables::ItemAttributes;
use crate::filter::{Bounds, FilterExpr};
use crate::geo::{Circle, latitude_field, longitude_field};

impl FilterExpr {
    /// Whether an item with this key and these attributes passes. A field that it does not have is no error here: nothing matches it.
    ///
    /// Costs a comparison per attribute and condition.
    pub fn matches(&self, key: &str, item: &ItemAttributes) -> bool {
        match self {
            Self::Match { field, value } => item.terms_of(field).any(|term| term == value.as_str()),
            Self::Any { field, values } => item.terms_of(field).any(|term| values.iter().any(|value| value == term)),
            Self::Except { field, values, numbers: except } => {
                item.terms_of(field).any(|term| !values.iter().any(|value| value == term))
                    || item.numbers_of(field).any(|number| !except.contains(&number))
            }
            Self::Range { field, gt, gte, lt, lte } => {
                let bounds = Bounds { gt: *gt, gte: *gte, lt: *lt, lte: *lte };
                item.numbers_of(field).any(|number| !bounds.below(number) && !bounds.above(number))
            }
            Self::GeoRadius { field, lat, lon, radius_m } => {
                let circle = Circle { lat: *lat, lon: *lon, radius_m: *radius_m };
                let (latitude, longitude) = (latitude_field(field), longitude_field(field));
                item.numbers_of(&latitude).any(|lat| item.numbers_of(&longitude).any(|lon| circle.contains(lat, lon)))
            }
            Self::Exists { field } => {
                item.terms_of(field).next().is_some()
                    || item.numbers_of(field).next().is_some()
                    || (item.numbers_of(&latitude_field(field)).next().is_some()
                        && item.numbers_of(&longitude_field(field)).next().is_some())
            }
            Self::HasId { ids } => ids.iter().any(|id| id == key),
            Self::And(parts) => parts.iter().all(|part| part.matches(key, item)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(key, item)),
            Self::Not(part) => !part.matches(key, item),
        }
    }
}

impl ItemAttributes {
    /// The text values of one field.
    pub fn terms_of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.terms.iter().filter(move |(name, _)| name == field).map(|(_, value)| value.as_str())
    }

    /// The numbers of one field.
    pub fn numbers_of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = f64> + 'a {
        self.numbers.iter().filter(move |(name, _)| name == field).map(|(_, number)| *number)
    }

    /// The names of all its fields, points by the name of the point too; with repetitions.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let terms = self.terms.iter().map(|(name, _)| name.as_str());
        let numbers = self.numbers.iter().map(|(name, _)| name.as_str());
        let points = self.numbers.iter().filter_map(|(name, _)| name.strip_suffix(".lat"));
        terms.chain(numbers).chain(points)
    }
}

//! Filters: which items have these attributes. An expression is evaluated to a bitmap once, then the search looks bits up.

use crate::allow::AllowSet;
use crate::attributes::{AttributeView, Field};
use crate::error::FilterError;

/// Deepest nesting of groups. Evaluation recurses, so this bounds its stack.
pub const FILTER_DEPTH_MAX: usize = 32;

/// Most conditions, groups and values of one filter together. Bounds the work of one evaluation.
pub const FILTER_PARTS_MAX: usize = 4_096;

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
    /// The field has any value or number.
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
        self.set_of(filter, n)
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
            FilterExpr::Match { field, value } => self.text_field(field)?.add_term(value, into),
            FilterExpr::Any { field, values } => {
                let field = self.text_field(field)?;
                values.iter().for_each(|value| field.add_term(value, into));
            }
            FilterExpr::Range { field, gt, gte, lt, lte } => {
                let bounds = Bounds { gt: *gt, gte: *gte, lt: *lt, lte: *lte };
                if bounds.any_is_nan() {
                    return Err(FilterError::BoundNotANumber { field: field.clone() });
                }
                let field = self.number_field(field)?;
                field.add_numbers(&bounds, into);
            }
            FilterExpr::Exists { field } => self.known_field(field)?.add_present(into),
            FilterExpr::Or(parts) => parts.iter().try_for_each(|part| self.add(part, into))?,
            FilterExpr::And(_) | FilterExpr::Not(_) => into.or(&self.set_of(filter, into.n())?),
        }
        Ok(())
    }

    fn known_field(&self, name: &str) -> Result<Field<'_>, FilterError> {
        self.field(name).ok_or_else(|| FilterError::UnknownField {
            field: name.to_owned(),
            known: self.fields().map(|field| field.name().to_owned()).collect(),
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
    gt: Option<f64>,
    gte: Option<f64>,
    lt: Option<f64>,
    lte: Option<f64>,
}

impl Bounds {
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
    *parts += match filter {
        FilterExpr::Any { values, .. } => 1 + values.len(),
        _ => 1,
    };
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

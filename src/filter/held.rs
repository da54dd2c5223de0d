//! Which conditions of a filter no item of an index can fulfil, and the filter without them.

use kindred_index::{AttributeView, FilterExpr};

/// The attribute of a condition that no item of an index can fulfil, whatever its values are: none has it, or none as what it is asked for.
pub(crate) fn unheld_key<'f>(attributes: &AttributeView<'_>, condition: &'f FilterExpr) -> Option<&'f str> {
    let field = |name: &str| attributes.field(name);
    let is_point = |name: &str| ["lat", "lon"].iter().all(|axis| field(&format!("{name}.{axis}")).is_some());
    let (name, is_held) = match condition {
        FilterExpr::Match { field: name, .. } | FilterExpr::Any { field: name, .. } => {
            (name, field(name).is_some_and(|field| field.n_terms() > 0))
        }
        FilterExpr::Range { field: name, .. } => (name, field(name).is_some_and(|field| field.n_numbers() > 0)),
        FilterExpr::Except { field: name, .. } => (name, field(name).is_some()),
        FilterExpr::GeoRadius { field: name, .. } => (name, is_point(name)),
        FilterExpr::Exists { field: name } => (name, field(name).is_some() || is_point(name)),
        FilterExpr::HasId { .. } | FilterExpr::And(_) | FilterExpr::Or(_) | FilterExpr::Not(_) => return None,
    };
    (!is_held).then_some(name.as_str())
}

/// A filter with conditions that hold for no item in the place of some.
pub(crate) fn without(filter: &FilterExpr, is_out: &dyn Fn(&FilterExpr) -> bool) -> FilterExpr {
    let all = |parts: &[FilterExpr]| parts.iter().map(|part| without(part, is_out)).collect();
    match filter {
        FilterExpr::And(parts) => FilterExpr::And(all(parts)),
        FilterExpr::Or(parts) => FilterExpr::Or(all(parts)),
        FilterExpr::Not(part) => FilterExpr::Not(Box::new(without(part, is_out))),
        condition if is_out(condition) => FilterExpr::Or(Vec::new()),
        condition => condition.clone(),
    }
}

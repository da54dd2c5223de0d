//! Filters as they are written, on the wire and in the settings, in the words people know from vector databases: `must`, `should`, `must_not` over conditions on a key.
//!
//! ```json
//! {"must": [{"key": "category", "match": {"any": ["toys", "games"]}}, {"key": "price", "range": {"lt": 20}}],
//!  "must_not": [{"key": "brand", "match": {"value": "acme"}}]}
//! ```

use kindred_index::FilterExpr;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::limits;

/// A condition on one key, or a group of conditions. An item passes a group if it passes all of `must`, at least one of `should` (when
/// there are any) and none of `must_not`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// All of these.
    #[serde(default)]
    #[schema(no_recursion)]
    pub must: Option<Vec<Filter>>,
    /// At least one of these.
    #[serde(default)]
    #[schema(no_recursion)]
    pub should: Option<Vec<Filter>>,
    /// None of these.
    #[serde(default)]
    #[schema(no_recursion)]
    pub must_not: Option<Vec<Filter>>,
    /// The attribute a condition is about: `category`, `price`, `available` or an attribute of the catalogue.
    #[serde(default)]
    #[schema(example = "category")]
    pub key: Option<String>,
    /// The attribute has this value, or any of these.
    #[serde(default, rename = "match")]
    pub matches: Option<Match>,
    /// The attribute is a number within these bounds.
    #[serde(default)]
    pub range: Option<Range>,
    /// The attribute is there (true) or is not (false).
    #[serde(default)]
    pub exists: Option<bool>,
}

/// Values to match: one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// This value.
    #[serde(default)]
    #[schema(example = "toys")]
    pub value: Option<Value>,
    /// Any of these values.
    #[serde(default)]
    pub any: Option<Vec<Value>>,
}

/// A value of an attribute: text, true or false, or a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, true, false or a number")]
pub enum Value {
    /// Text.
    Text(String),
    /// True or false, kept as the text `true` or `false`.
    Flag(bool),
    /// A number: matches an attribute that equals it.
    Number(f64),
}

/// Bounds of a number; at least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Greater than.
    #[serde(default)]
    pub gt: Option<f64>,
    /// Greater than or equal.
    #[serde(default)]
    pub gte: Option<f64>,
    /// Less than.
    #[serde(default)]
    pub lt: Option<f64>,
    /// Less than or equal.
    #[serde(default)]
    pub lte: Option<f64>,
}

/// What is wrong with a filter, with the path to it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FilterSyntaxError {
    /// A condition or group says too much or too little.
    #[error("{path} {what}: {remedy}")]
    Shape {
        /// Where it stands, as `filter.must[1]`.
        path: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// More conditions and values than allowed.
    #[error("the filter has {found} conditions, at most {most} are allowed", most = limits::FILTER_CONDITIONS_MAX)]
    TooMany {
        /// The number found, at least.
        found: usize,
    },
}

impl Filter {
    /// The expression that the index evaluates; `None` for a filter that lets everything pass.
    ///
    /// # Errors
    /// [`FilterSyntaxError`] with the path to the condition that cannot be used.
    pub fn expression(self) -> Result<Option<FilterExpr>, FilterSyntaxError> {
        let mut left = limits::FILTER_CONDITIONS_MAX;
        let parts = self.convert("filter", 0, &mut left)?;
        Ok(if matches!(&parts, FilterExpr::And(all) if all.is_empty()) { None } else { Some(parts) })
    }

    fn convert(self, path: &str, depth: usize, left: &mut usize) -> Result<FilterExpr, FilterSyntaxError> {
        if depth > limits::FILTER_DEPTH_MAX {
            let most = limits::FILTER_DEPTH_MAX;
            return Err(refuse(
                path,
                &format!("is nested deeper than {most}"),
                "write the filter with fewer groups in groups",
            ));
        }
        *left = left.checked_sub(1).ok_or(FilterSyntaxError::TooMany { found: limits::FILTER_CONDITIONS_MAX + 1 })?;
        let grouped = self.must.is_some() || self.should.is_some() || self.must_not.is_some();
        if self.key.is_some() || self.matches.is_some() || self.range.is_some() || self.exists.is_some() {
            if grouped {
                return Err(refuse(
                    path,
                    "has a condition beside must, should or must_not",
                    "put the condition into the must list",
                ));
            }
            return self.condition(path, left);
        }
        let mut list = |name: &str, group: Option<Vec<Self>>| {
            let group = group.unwrap_or_default().into_iter().enumerate();
            group
                .map(|(at, part)| part.convert(&format!("{path}.{name}[{at}]"), depth + 1, left))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut all = list("must", self.must)?;
        let any = list("should", self.should)?;
        let none = list("must_not", self.must_not)?;
        if !any.is_empty() {
            all.push(FilterExpr::Or(any));
        }
        all.extend(none.into_iter().map(|part| FilterExpr::Not(Box::new(part))));
        Ok(FilterExpr::And(all))
    }

    fn condition(self, path: &str, left: &mut usize) -> Result<FilterExpr, FilterSyntaxError> {
        let field = self.key.ok_or_else(|| {
            refuse(path, "has no key", "say which attribute it is about, for example \"key\": \"category\"")
        })?;
        match (self.matches, self.range, self.exists) {
            (Some(Match { value: Some(value), any: None }), None, None) => Ok(equals(field, value)),
            (Some(Match { value: None, any: Some(values) }), None, None) => {
                *left = left.checked_sub(values.len()).ok_or(FilterSyntaxError::TooMany { found: values.len() })?;
                Ok(any_of(field, values))
            }
            (Some(_), None, None) => {
                Err(refuse(path, "has a match without one of value and any", "give match either value or any"))
            }
            (None, Some(range), None) => range.convert(path, field),
            (None, None, Some(true)) => Ok(FilterExpr::Exists { field }),
            (None, None, Some(false)) => Ok(FilterExpr::Not(Box::new(FilterExpr::Exists { field }))),
            _ => Err(refuse(
                path,
                "needs exactly one of match, range and exists",
                "split it into two conditions, or say what the key must be",
            )),
        }
    }
}

impl Range {
    fn convert(self, path: &str, field: String) -> Result<FilterExpr, FilterSyntaxError> {
        if self.gt.is_none() && self.gte.is_none() && self.lt.is_none() && self.lte.is_none() {
            return Err(refuse(path, "has a range without bounds", "give at least one of gt, gte, lt and lte"));
        }
        Ok(FilterExpr::Range { field, gt: self.gt, gte: self.gte, lt: self.lt, lte: self.lte })
    }
}

fn equals(field: String, value: Value) -> FilterExpr {
    match value {
        Value::Text(value) => FilterExpr::Match { field, value },
        Value::Flag(flag) => FilterExpr::Match { field, value: flag.to_string() },
        Value::Number(n) => FilterExpr::Range { field, gt: None, gte: Some(n), lt: None, lte: Some(n) },
    }
}

/// One look-up for all texts together, one range for each number.
fn any_of(field: String, values: Vec<Value>) -> FilterExpr {
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for value in values {
        match value {
            Value::Text(text) => texts.push(text),
            Value::Flag(flag) => texts.push(flag.to_string()),
            number @ Value::Number(_) => parts.push(equals(field.clone(), number)),
        }
    }
    if parts.is_empty() {
        return FilterExpr::Any { field, values: texts };
    }
    if !texts.is_empty() {
        parts.push(FilterExpr::Any { field, values: texts });
    }
    FilterExpr::Or(parts)
}

fn refuse(path: &str, what: &str, remedy: &'static str) -> FilterSyntaxError {
    FilterSyntaxError::Shape { path: path.to_owned(), what: what.to_owned(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<FilterExpr>, FilterSyntaxError> {
        serde_json::from_str::<Filter>(text).unwrap().expression()
    }

    #[test]
    fn groups_become_and_or_not() {
        let found = parse(
            r#"{"must": [{"key": "category", "match": {"value": "toys"}}],
                "should": [{"key": "price", "range": {"lt": 5}}, {"key": "sale", "match": {"value": true}}],
                "must_not": [{"key": "brand", "exists": true}]}"#,
        );
        let field = str::to_owned;
        let expected = FilterExpr::And(vec![
            FilterExpr::Match { field: field("category"), value: field("toys") },
            FilterExpr::Or(vec![
                FilterExpr::Range { field: field("price"), gt: None, gte: None, lt: Some(5.0), lte: None },
                FilterExpr::Match { field: field("sale"), value: field("true") },
            ]),
            FilterExpr::Not(Box::new(FilterExpr::Exists { field: field("brand") })),
        ]);
        assert_eq!(found.unwrap(), Some(expected));
    }

    #[test]
    fn an_empty_filter_lets_everything_pass() {
        assert_eq!(parse("{}").unwrap(), None);
        assert_eq!(parse(r#"{"must": []}"#).unwrap(), None);
    }

    #[test]
    fn a_bad_condition_is_named_by_its_path() {
        for (text, path) in [
            (r#"{"must": [{"key": "a", "match": {"value": "x"}}, {"key": "b"}]}"#, "filter.must[1]"),
            (r#"{"should": [{"match": {"value": "x"}}]}"#, "filter.should[0]"),
            (r#"{"key": "a", "match": {}}"#, "filter"),
            (r#"{"key": "a", "range": {}}"#, "filter"),
            (r#"{"key": "a", "exists": true, "must": []}"#, "filter"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("{path} ")), "{text}: {problem}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let deep = (0..40).fold("{}".to_owned(), |inner, _| format!(r#"{{"must": [{inner}]}}"#));
        assert!(parse(&deep).unwrap_err().to_string().contains("nested deeper"));
        let many = vec![r#"{"key": "a", "exists": true}"#; limits::FILTER_CONDITIONS_MAX + 1].join(",");
        assert!(parse(&format!(r#"{{"must": [{many}]}}"#)).unwrap_err().to_string().contains("at most"));
    }
}

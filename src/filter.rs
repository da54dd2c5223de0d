//! Filters as they are written, on the wire and in the settings, in the words people know from vector databases: `must`, `should`, `must_not` over conditions on a key.
//!
//! ```json
//! {"must": [{"key": "category", "match": {"any": ["toys", "games"]}}, {"key": "price", "range": {"lt": 20}}],
//!  "must_not": [{"key": "brand", "match": {"value": "acme"}}]}
//! ```

use kindred_index::FilterExpr;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

pub(crate) use self::held::{unheld_key, without};
pub(crate) use self::read::Object;
use crate::limits;
use crate::timestamp::parse_rfc3339;

mod held;
mod read;

// The serde attributes are for the description and for writing, here and at `GeoPoint`; `read` reads.
/// A condition on one key, or a group of conditions. An item passes a group if it passes all of `must`, at least one of `should` (when
/// there are any) and none of `must_not`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// All of these.
    #[schema(no_recursion)]
    pub must: Option<Vec<Filter>>,
    /// At least one of these.
    #[schema(no_recursion)]
    pub should: Option<Vec<Filter>>,
    /// None of these.
    #[schema(no_recursion)]
    pub must_not: Option<Vec<Filter>>,
    /// The attribute a condition is about: `category`, `price`, `available` or an attribute of the catalogue.
    #[schema(example = "category")]
    pub key: Option<String>,
    /// The attribute has this value, or any of these.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// The attribute is a number or a time within these bounds.
    pub range: Option<Range>,
    /// The attribute is a point within this circle.
    pub geo_radius: Option<GeoRadius>,
    /// The item is one of these. A condition without a key.
    pub has_id: Option<Vec<String>>,
    /// The attribute is there (true) or is not (false).
    pub exists: Option<bool>,
}

/// Values to match: one of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// This value.
    #[serde(default)]
    #[schema(example = "toys")]
    pub value: Option<MatchValue>,
    /// Any of these values.
    #[serde(default)]
    pub any: Option<Vec<MatchValue>>,
    /// A value that is none of these.
    #[serde(default)]
    pub except: Option<Vec<MatchValue>>,
}

/// A circle on the Earth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoRadius {
    /// Its middle.
    pub center: GeoPoint,
    /// Its radius, in metres.
    #[schema(example = 5000.0)]
    pub radius: f64,
}

/// A point on the Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoPoint {
    /// Degrees north, -90 to 90.
    #[schema(example = 47.37)]
    pub lat: f64,
    /// Degrees east, -180 to 180.
    #[schema(example = 8.54)]
    pub lon: f64,
}

/// A bound of a range: a number, or a time in RFC 3339, which counts as its milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Bound(pub f64);

/// A number, or a time in RFC 3339.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes a bound in /openapi.json; Bound parses it, for better errors")]
enum BoundDto {
    /// A number.
    Number(f64),
    /// A time in RFC 3339.
    Time(String),
}

/// How a bound may be written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a time in RFC 3339 such as \"2026-11-24T14:25:01Z\"")]
enum BoundText {
    Number(f64),
    Time(String),
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BoundText::deserialize(deserializer)? {
            BoundText::Number(number) => Ok(Self(number)),
            BoundText::Time(text) => parse_rfc3339(&text).map(|ms| Self(ms as f64)).ok_or_else(|| {
                D::Error::custom("a bound is a number, or a time in RFC 3339 such as \"2026-11-24T14:25:01Z\"")
            }),
        }
    }
}

/// A value of an attribute: text, true or false, or a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, true, false or a number")]
pub enum MatchValue {
    /// Text.
    Text(String),
    /// True or false, kept as the text `true` or `false`.
    Flag(bool),
    /// A number: matches an attribute that equals it.
    Number(f64),
}

/// Bounds of a number or a time; at least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Greater than.
    #[serde(default)]
    #[schema(value_type = Option<BoundDto>)]
    pub gt: Option<Bound>,
    /// Greater than or equal.
    #[serde(default)]
    #[schema(value_type = Option<BoundDto>)]
    pub gte: Option<Bound>,
    /// Less than.
    #[serde(default)]
    #[schema(value_type = Option<BoundDto>)]
    pub lt: Option<Bound>,
    /// Less than or equal.
    #[serde(default)]
    #[schema(value_type = Option<BoundDto>)]
    pub lte: Option<Bound>,
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
        let conditions = self.conditions();
        if self.key.is_some() || conditions > 0 {
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

    /// How many kinds of condition are written here.
    fn conditions(&self) -> usize {
        let written = [
            self.matches.is_some(),
            self.range.is_some(),
            self.geo_radius.is_some(),
            self.exists.is_some(),
            self.has_id.is_some(),
        ];
        written.into_iter().filter(|one| *one).count()
    }

    fn condition(self, path: &str, left: &mut usize) -> Result<FilterExpr, FilterSyntaxError> {
        if self.conditions() != 1 {
            return Err(refuse(
                path,
                "needs exactly one of match, range, geo_radius, exists and has_id",
                "split it into two conditions, or say what the key must be",
            ));
        }
        if let Some(ids) = self.has_id {
            if self.key.is_some() {
                return Err(refuse(path, "has a key beside has_id", "leave the key out: has_id asks for items"));
            }
            take(left, ids.len())?;
            return Ok(FilterExpr::HasId { ids });
        }
        let field = self.key.ok_or_else(|| {
            refuse(path, "has no key", "say which attribute it is about, for example \"key\": \"category\"")
        })?;
        match (self.matches, self.range, self.geo_radius, self.exists) {
            (Some(matches), ..) => matches.convert(path, field, left),
            (_, Some(range), ..) => range.convert(path, field),
            (_, _, Some(circle), _) => circle.convert(path, field),
            (_, _, _, Some(false)) => Ok(FilterExpr::Not(Box::new(FilterExpr::Exists { field }))),
            _ => Ok(FilterExpr::Exists { field }),
        }
    }
}

impl Match {
    fn convert(self, path: &str, field: String, left: &mut usize) -> Result<FilterExpr, FilterSyntaxError> {
        let mut values = self.value.iter().chain(self.any.iter().flatten()).chain(self.except.iter().flatten());
        if values.any(|value| matches!(value, MatchValue::Number(number) if number.is_nan())) {
            return Err(not_a_number(path));
        }
        match (self.value, self.any, self.except) {
            (Some(value), None, None) => Ok(equals(field, value)),
            (None, Some(values), None) => {
                take(left, values.len())?;
                Ok(any_of(field, values))
            }
            (None, None, Some(values)) => {
                take(left, values.len())?;
                let (values, mut numbers) = texts_and_numbers(values);
                // An item has a time as text and as a number, which would be a value that is none of these.
                numbers.extend(values.iter().filter_map(|value| parse_rfc3339(value)).map(|ms| ms as f64));
                Ok(FilterExpr::Except { field, values, numbers })
            }
            _ => Err(refuse(
                path,
                "has a match without exactly one of value, any and except",
                "give match one of value, any and except",
            )),
        }
    }
}

impl GeoRadius {
    fn convert(self, path: &str, field: String) -> Result<FilterExpr, FilterSyntaxError> {
        let GeoPoint { lat, lon } = self.center;
        if !self.center.is_on_earth() || !self.radius.is_finite() || self.radius < 0.0 {
            return Err(refuse(
                path,
                "has a circle outside the Earth",
                "give a lat of -90 to 90, a lon of -180 to 180 and a radius in metres of at least 0",
            ));
        }
        Ok(FilterExpr::GeoRadius { field, lat, lon, radius_m: self.radius })
    }
}

impl Range {
    fn convert(self, path: &str, field: String) -> Result<FilterExpr, FilterSyntaxError> {
        let bounds = [self.gt, self.gte, self.lt, self.lte].map(|bound| bound.map(|Bound(number)| number));
        if bounds.iter().all(Option::is_none) {
            return Err(refuse(path, "has a range without bounds", "give at least one of gt, gte, lt and lte"));
        }
        if bounds.into_iter().flatten().any(f64::is_nan) {
            return Err(not_a_number(path));
        }
        let [gt, gte, lt, lte] = bounds;
        Ok(FilterExpr::Range { field, gt, gte, lt, lte })
    }
}

fn equals(field: String, value: MatchValue) -> FilterExpr {
    match value {
        MatchValue::Text(value) => FilterExpr::Match { field, value },
        MatchValue::Flag(flag) => FilterExpr::Match { field, value: flag.to_string() },
        MatchValue::Number(n) => FilterExpr::Range { field, gt: None, gte: Some(n), lt: None, lte: Some(n) },
    }
}

/// One look-up for all texts together, one range for each number.
fn any_of(field: String, values: Vec<MatchValue>) -> FilterExpr {
    let (values, numbers) = texts_and_numbers(values);
    let is = |number| equals(field.clone(), MatchValue::Number(number));
    let mut parts: Vec<_> = numbers.into_iter().map(is).collect();
    if parts.is_empty() {
        return FilterExpr::Any { field, values };
    }
    if !values.is_empty() {
        parts.push(FilterExpr::Any { field, values });
    }
    FilterExpr::Or(parts)
}

fn texts_and_numbers(values: Vec<MatchValue>) -> (Vec<String>, Vec<f64>) {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            MatchValue::Text(text) => texts.push(text),
            MatchValue::Flag(flag) => texts.push(flag.to_string()),
            MatchValue::Number(number) => numbers.push(number),
        }
    }
    (texts, numbers)
}

/// Counts the values of a condition against the bound.
fn take(left: &mut usize, values: usize) -> Result<(), FilterSyntaxError> {
    let found = limits::FILTER_CONDITIONS_MAX - *left + values;
    *left = left.checked_sub(values).ok_or(FilterSyntaxError::TooMany { found })?;
    Ok(())
}

/// Settings can have such a value; no item is compared with it, so a scenario with it would refuse every request.
fn not_a_number(path: &str) -> FilterSyntaxError {
    refuse(path, "compares with what is not a number", "give a number in the place of nan")
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
    fn each_kind_of_condition_is_read() {
        let a = || "a".to_owned();
        for (text, expected) in [
            (
                r#"{"must": [{"key": "a", "match": {"except": ["x", 2, true]}}]}"#,
                FilterExpr::Except { field: a(), values: vec!["x".to_owned(), "true".to_owned()], numbers: vec![2.0] },
            ),
            (
                r#"{"must": [{"key": "a", "range": {"gte": "2000-02-29T12:00:00Z", "lt": 951825600001}}]}"#,
                FilterExpr::Range {
                    field: a(),
                    gt: None,
                    gte: Some(951_825_600_000.0),
                    lt: Some(951_825_600_001.0),
                    lte: None,
                },
            ),
            (
                r#"{"must": [{"key": "a", "geo_radius": {"center": {"lat": 47.5, "lon": 8.5}, "radius": 1000}}]}"#,
                FilterExpr::GeoRadius { field: a(), lat: 47.5, lon: 8.5, radius_m: 1_000.0 },
            ),
            (r#"{"must": [{"has_id": ["x"]}]}"#, FilterExpr::HasId { ids: vec!["x".to_owned()] }),
        ] {
            assert_eq!(parse(text).unwrap(), Some(FilterExpr::And(vec![expected])), "{text}");
        }
        let bad = serde_json::from_str::<Filter>(r#"{"key": "a", "range": {"lt": "tomorrow"}}"#).unwrap_err();
        assert!(bad.to_string().contains("RFC 3339"), "{bad}");
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
            (r#"{"key": "a", "has_id": ["x"]}"#, "filter"),
            (r#"{"key": "a", "match": {"value": 1, "except": [2]}}"#, "filter"),
            (r#"{"must_not": [{"geo_radius": {"center": {"lat": 1, "lon": 1}, "radius": 1}}]}"#, "filter.must_not[0]"),
            (r#"{"key": "a", "geo_radius": {"center": {"lat": 91, "lon": 1}, "radius": 1}}"#, "filter"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("{path} ")), "{text}: {problem}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        // Settings can have it; a scenario with it would refuse every request.
        for (lat, lon) in [(f64::NAN, 8.5), (47.4, f64::NAN)] {
            let circle = GeoRadius { center: GeoPoint { lat, lon }, radius: 1.0 };
            assert!(circle.convert("filter", "shop".to_owned()).is_err());
        }
        let (nan, none) = (Some(Bound(f64::NAN)), None);
        for range in [
            Range { gt: nan, gte: none, lt: none, lte: none },
            Range { gt: none, gte: nan, lt: none, lte: none },
            Range { gt: Some(Bound(1.0)), gte: none, lt: nan, lte: none },
            Range { gt: none, gte: none, lt: none, lte: nan },
        ] {
            assert_eq!(range.convert("filter", "price".to_owned()), Err(not_a_number("filter")));
        }
        let value = || MatchValue::Number(f64::NAN);
        for matches in [
            Match { value: Some(value()), any: None, except: None },
            Match { value: None, any: Some(vec![MatchValue::Number(1.0), value()]), except: None },
            Match { value: None, any: None, except: Some(vec![value()]) },
        ] {
            assert_eq!(matches.convert("filter", "price".to_owned(), &mut 9), Err(not_a_number("filter")));
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let deep = (0..40).fold("{}".to_owned(), |inner, _| format!(r#"{{"must": [{inner}]}}"#));
        assert!(parse(&deep).unwrap_err().to_string().contains("nested deeper"));
        let many = vec![r#"{"key": "a", "exists": true}"#; limits::FILTER_CONDITIONS_MAX + 1].join(",");
        assert!(parse(&format!(r#"{{"must": [{many}]}}"#)).unwrap_err().to_string().contains("at most"));
        // The list, two conditions and their values are told together.
        let ids = vec![r#""x""#; 200].join(",");
        let twice = parse(&format!(r#"{{"must": [{{"has_id": [{ids}]}}, {{"has_id": [{ids}]}}]}}"#));
        assert_eq!(twice, Err(FilterSyntaxError::TooMany { found: 403 }));
    }
}

//! Text to a filter: how much of one is held while it is read, and what is not taken for an object.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Filter, GeoPoint};
use crate::limits;

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // One more than may be, which `expression` refuses.
        Clause(&Cell::new(limits::FILTER_CONDITIONS_MAX + 1)).deserialize(deserializer)
    }
}

/// Reads a condition or group, and counts how many more are kept. What comes after those is read over and forgotten: the filter is refused all the
/// same, and a body that is full of `{}` would take a hundred times its bytes.
struct Clause<'a>(&'a Cell<usize>);

/// Reads a list of them, or null.
struct Group<'a>(&'a Cell<usize>);

/// What such a list holds.
type Clauses = Option<Vec<Filter>>;

/// The names in a condition or group.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Must,
    Should,
    MustNot,
    Key,
    Match,
    Range,
    GeoRadius,
    HasId,
    Exists,
}

impl<'de> DeserializeSeed<'de> for Clause<'_> {
    type Value = Filter;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Filter, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Clause<'_> {
    type Value = Filter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a condition or a group of conditions, as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filter, A::Error> {
        let Self(left) = self;
        left.set(left.get().saturating_sub(1));
        let mut filter = Filter::default();
        while let Some(field) = map.next_key::<Field>()? {
            let filled: Result<(), A::Error> = match field {
                Field::Must => fill("must", &mut filter.must, map.next_value_seed(Group(left))?),
                Field::Should => fill("should", &mut filter.should, map.next_value_seed(Group(left))?),
                Field::MustNot => fill("must_not", &mut filter.must_not, map.next_value_seed(Group(left))?),
                Field::Key => fill("key", &mut filter.key, map.next_value()?),
                Field::Match => fill("match", &mut filter.matches, next_object(&mut map)?),
                Field::Range => fill("range", &mut filter.range, next_object(&mut map)?),
                Field::GeoRadius => fill("geo_radius", &mut filter.geo_radius, next_object(&mut map)?),
                Field::HasId => fill("has_id", &mut filter.has_id, map.next_value()?),
                Field::Exists => fill("exists", &mut filter.exists, map.next_value()?),
            };
            filled?;
        }
        Ok(filter)
    }
}

impl<'de> DeserializeSeed<'de> for Group<'_> {
    type Value = Clauses;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Clauses, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Group<'_> {
    type Value = Clauses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of conditions and groups")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Clauses, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Clauses, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Clauses, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Clauses, A::Error> {
        let Self(left) = self;
        let mut clauses = Vec::new();
        while left.get() > 0 {
            let Some(clause) = list.next_element_seed(Clause(left))? else { return Ok(Some(clauses)) };
            clauses.push(clause);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(clauses))
    }
}

/// Fills a field that may be there once.
fn fill<T, E: serde::de::Error>(name: &'static str, field: &mut Option<T>, found: Option<T>) -> Result<(), E> {
    if field.is_some() {
        return Err(E::duplicate_field(name));
    }
    *field = found;
    Ok(())
}

/// What is written as an object. A derived parser takes an array too, for the values of the fields in their order: the range `[5, 10]` would be above
/// 5 and from 10 on, and a point as GeoJSON writes it would be another.
pub(crate) struct Object<T>(pub(crate) T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// How a point is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Degrees {
    lat: f64,
    lon: f64,
}

impl<'de> Deserialize<'de> for GeoPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(Degrees { lat, lon }) = Object::deserialize(deserializer)?;
        Ok(Self { lat, lon })
    }
}

fn next_object<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A) -> Result<Option<T>, A::Error> {
    Ok(map.next_value::<Option<Object<T>>>()?.map(|Object(value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FilterSyntaxError;

    fn read(text: &str) -> Result<Filter, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// How many conditions and groups are held.
    fn held(filter: &Filter) -> usize {
        let groups = [&filter.must, &filter.should, &filter.must_not];
        1 + groups.into_iter().flatten().flatten().map(held).sum::<usize>()
    }

    fn group(clause: &str, times: usize) -> String {
        format!(r#"{{"must": [{}]}}"#, vec![clause; times].join(","))
    }

    #[test]
    fn of_what_is_refused_for_its_number_no_more_is_held() {
        let most = limits::FILTER_CONDITIONS_MAX;
        let wide = group("{}", 350_000);
        let deep = group(&group(&group("{}", 20), 20), 20);
        let several = format!(r#"{{"should": [{deep}], "must_not": [{deep}, {wide}]}}"#);
        for text in [wide, deep, several] {
            let filter = read(&text).unwrap();
            assert_eq!(held(&filter), most + 1);
            assert_eq!(filter.expression(), Err(FilterSyntaxError::TooMany { found: most + 1 }));
        }
        // Nothing is lost of one that is not, however many lists it has.
        for text in [group("{}", most - 1), group(&group("{}", 1), (most - 1) / 2)] {
            let filter = read(&text).unwrap();
            assert_eq!(held(&filter), text.matches("{}").count() + text.matches("must").count());
            assert!(filter.expression().is_ok());
        }
    }

    #[test]
    fn an_array_is_no_object() {
        for text in [
            "[]",
            r#"{"must": [[]]}"#,
            r#"{"key": "a", "match": ["x"]}"#,
            r#"{"key": "a", "range": [5, 10]}"#,
            r#"{"key": "a", "geo_radius": [{"lat": 1, "lon": 2}, 3]}"#,
            r#"{"key": "a", "geo_radius": {"center": [8.54, 47.37], "radius": 1}}"#,
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("invalid type: sequence") && error.contains("object"), "{text}: {error}");
        }
    }

    #[test]
    fn null_is_as_if_left_out_and_a_field_is_there_once() {
        assert_eq!(read(r#"{"must": null, "key": null, "match": null, "has_id": null}"#), Ok(Filter::default()));
        for (text, says) in [
            (r#"{"key": "a", "key": "b"}"#, "duplicate field `key`"),
            (r#"{"must": [], "must": []}"#, "duplicate field `must`"),
            (r#"{"matches": {}}"#, "unknown field `matches`, expected one of `must`, `should`"),
            (r#"{"must": {}}"#, "invalid type: map, expected a list"),
            (r#"{"geo_radius": {"center": {"lat": 1}, "radius": 1}}"#, "missing field `lon`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says) && error.contains("line 1"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"{"must": [{"key": "shop", "geo_radius": {"center": {"lat": 47.37, "lon": 8.54}, "radius": 5.0}}],
            "should": [{"key": "price", "range": {"lt": 20}}, {"key": "brand", "match": {"any": ["a", 1, true]}}],
            "must_not": [{"has_id": ["x"]}, {"key": "sale", "exists": false}]}"#;
        let filter = read(text).unwrap();
        assert_eq!(held(&filter), 6);
        assert_eq!(read(&serde_json::to_string(&filter).unwrap()), Ok(filter));
    }
}

//! From catalogue entries to what a filter can ask: text values and numbers by field.
//!
//! `kindred build` lays these out as tables, and the service asks them of items that changed after the build; both call this.

use kindred_index::ItemAttributes;
use kindred_index::format::{FIELD_NAME_BYTES_MAX, TERM_BYTES_MAX};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::CatalogItem;
use crate::limits;
use crate::timestamp::parse_rfc3339;

/// The field of an item's categories.
pub const CATEGORY: &str = "category";
/// The field that says whether an item may be recommended.
pub const AVAILABLE: &str = "available";
/// The field of an item's price.
pub const PRICE: &str = "price";
/// The field of items that are kept out of every list; it has the value `true` or none.
pub const HIDDEN: &str = "hidden";
/// The field of the time from when on an item is kept out of every list, in milliseconds since 1970.
pub const EXPIRES_AT: &str = "expires_at";

/// Names that attributes may not have, because an item has them of its own.
pub const RESERVED: [&str; 5] = [CATEGORY, AVAILABLE, PRICE, HIDDEN, EXPIRES_AT];

/// What was left out of the filterable attributes. It stays in the catalogue entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Values too long, nested or null.
    pub values: u64,
    /// Attributes whose name is empty, too long, or one of the fields that mean something to Kindred.
    pub names: u64,
}

/// The filterable attributes of an item.
///
/// `category` for each category, `available` true or false, `hidden` true, `price`, `expires_at`, and under its own name every attribute that
/// is text, a number, a truth value or a list of these. Text that is a time in RFC 3339 is also a number, its milliseconds since 1970. A point,
/// `{"lat": 47.4, "lon": 8.5}`, is the numbers `NAME.lat` and `NAME.lon`. What cannot be asked for is counted, not refused: a catalogue
/// may carry more than its filters need.
pub fn of_item(item: &CatalogItem, left_out: &mut LeftOut) -> ItemAttributes {
    let mut attributes = ItemAttributes::default();
    for category in &item.categories {
        term(&mut attributes, CATEGORY, category, left_out);
    }
    attributes.terms.push((AVAILABLE.to_owned(), item.available.to_string()));
    if let Some(price) = item.price.filter(|price| price.is_finite()) {
        attributes.numbers.push((PRICE.to_owned(), price));
    }
    if item.hidden {
        attributes.terms.push((HIDDEN.to_owned(), true.to_string()));
    }
    if let Some(time) = item.expires_at {
        attributes.numbers.push((EXPIRES_AT.to_owned(), time.0 as f64));
    }
    for (name, value) in &item.attributes {
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || RESERVED.contains(&name.as_str()) {
            left_out.names += 1;
            continue;
        }
        match value {
            Value::Array(values) => values.iter().for_each(|value| single(&mut attributes, name, value, left_out)),
            Value::Object(object) => match point(object).filter(|_| name.len() <= POINT_NAME_BYTES_MAX) {
                Some((lat, lon)) => {
                    attributes.numbers.push((format!("{name}.lat"), lat));
                    attributes.numbers.push((format!("{name}.lon"), lon));
                }
                None => left_out.values += 1,
            },
            value => single(&mut attributes, name, value, left_out),
        }
    }
    attributes
}

/// What is wrong with an attribute of an item that is put.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// A name that is empty, too long or means something else.
    #[error(
        "attribute {name:?} cannot have this name: use 1 to {POINT_NAME_BYTES_MAX} bytes, and none of {}",
        RESERVED.join(", ")
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A value of no kind that can be kept and asked for.
    #[error(
        "attribute {name:?} is not text of 1 to {TERM_BYTES_MAX} bytes, a number, true or false, a point {{lat, lon}}, or a list of text, \
         numbers, true and false"
    )]
    Value {
        /// The attribute.
        name: String,
    },
    /// Too many attributes, or values of one.
    #[error("{what} has {found} entries, at most {most} are allowed")]
    TooMany {
        /// What has too many.
        what: String,
        /// How many.
        found: usize,
        /// The bound.
        most: usize,
    },
}

/// Checks that all of an item's attributes and categories can be asked for.
///
/// # Errors
/// The first that cannot.
pub fn check_attributes(item: &CatalogItem) -> Result<(), AttributeError> {
    let bound = |what: &str, found, most| match found {
        found if found > most => Err(AttributeError::TooMany { what: what.to_owned(), found, most }),
        _ => Ok(()),
    };
    bound("attributes", item.attributes.len(), limits::ITEM_ATTRIBUTES_MAX)?;
    for (name, value) in &item.attributes {
        if name.is_empty() || name.len() > POINT_NAME_BYTES_MAX || RESERVED.contains(&name.as_str()) {
            return Err(AttributeError::Name { name: name.clone() });
        }
        if let Value::Array(values) = value {
            bound(&format!("attribute {name:?}"), values.len(), limits::ATTRIBUTE_VALUES_MAX)?;
        }
    }
    let mut left_out = LeftOut::default();
    let wrong = |name: &str| Err(AttributeError::Value { name: name.to_owned() });
    for category in &item.categories {
        term(&mut ItemAttributes::default(), CATEGORY, category, &mut left_out);
        if left_out.values > 0 {
            return wrong(CATEGORY);
        }
    }
    for (name, value) in &item.attributes {
        let alone = CatalogItem { attributes: [(name.clone(), value.clone())].into(), ..CatalogItem::new("") };
        of_item(&alone, &mut left_out);
        if left_out.values > 0 {
            return wrong(name);
        }
    }
    Ok(())
}

/// The longest name that a point may have: its two fields are longer by this much.
const POINT_NAME_BYTES_MAX: usize = FIELD_NAME_BYTES_MAX - ".lat".len();

/// A point, if the object is one: latitude and longitude in degrees, and nothing else.
pub fn point(object: &Map<String, Value>) -> Option<(f64, f64)> {
    let degrees = |name: &str, most: f64| object.get(name)?.as_f64().filter(|degrees| degrees.abs() <= most);
    let (lat, lon) = (degrees("lat", 90.0)?, degrees("lon", 180.0)?);
    (object.len() == 2).then_some((lat, lon))
}

fn single(attributes: &mut ItemAttributes, name: &str, value: &Value, left_out: &mut LeftOut) {
    match value {
        Value::String(text) => {
            if let Some(ms) = parse_rfc3339(text) {
                attributes.numbers.push((name.to_owned(), ms as f64));
            }
            term(attributes, name, text, left_out);
        }
        Value::Bool(truth) => term(attributes, name, &truth.to_string(), left_out),
        Value::Number(number) => match number.as_f64().filter(|number| number.is_finite()) {
            Some(number) => attributes.numbers.push((name.to_owned(), number)),
            None => left_out.values += 1,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => left_out.values += 1,
    }
}

fn term(attributes: &mut ItemAttributes, field: &str, value: &str, left_out: &mut LeftOut) {
    if value.is_empty() || value.len() > TERM_BYTES_MAX {
        left_out.values += 1;
    } else {
        attributes.terms.push((field.to_owned(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_value_becomes_what_a_filter_can_ask() {
        let item = CatalogItem {
            categories: vec!["toys".to_owned(), "bears".to_owned()],
            price: Some(9.5),
            available: false,
            attributes: [
                ("colour", json!(["brown", "black"])),
                ("weight", json!(1.25)),
                ("washable", json!(true)),
                ("maker", json!("Steiff")),
                ("nested", json!({"a": 1})),
                ("price", json!("cheap")),
                ("shop", json!({"lat": 47.4, "lon": 8.5})),
                ("since", json!("2000-02-29T12:00:00Z")),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            ..CatalogItem::new("bear")
        };
        let mut left_out = LeftOut::default();
        let attributes = of_item(&item, &mut left_out);
        let terms: Vec<String> = attributes.terms.iter().map(|(f, v)| format!("{f}={v}")).collect();
        let expected = "category=toys category=bears available=false colour=brown colour=black maker=Steiff since=2000-02-29T12:00:00Z washable=true";
        assert_eq!(terms.join(" "), expected);
        let expected =
            [("price", 9.5), ("shop.lat", 47.4), ("shop.lon", 8.5), ("since", 951_825_600_000.0), ("weight", 1.25)];
        assert_eq!(attributes.numbers, expected.map(|(name, number)| (name.to_owned(), number)));
        assert_eq!(left_out, LeftOut { values: 1, names: 1 });
    }

    #[test]
    fn a_name_is_refused_from_the_length_on_that_the_error_says() {
        let put = |bytes: usize| {
            let attributes = [("x".repeat(bytes), json!(1))].into();
            check_attributes(&CatalogItem { attributes, ..CatalogItem::new("bear") })
        };
        assert_eq!(put(252), Ok(()));
        let error = put(253).unwrap_err().to_string();
        assert!(error.contains("use 1 to 252 bytes"), "{error}");
    }
}

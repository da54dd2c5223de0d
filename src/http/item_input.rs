//! An item as it comes in: whole, or as a patch. What is wrong with it is said here, before anything is kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::{check_count, check_id, shown_error};
use super::error::{Code, Problem, shown};
use super::time::{Timestamp, TimestampDto};
use crate::catalog::attributes::check_attributes;
use crate::catalog::{CatalogError, CatalogItem};
use crate::limits;
use crate::live_items::LiveEntry;

/// An item of the catalogue, all of it: what is left out is not there from now on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemInput {
    /// The item's id. In a batch it must be given; elsewhere it is that of the address.
    #[serde(default)]
    #[schema(example = "item-42")]
    pub(crate) id: Option<String>,
    /// Its title.
    #[serde(default)]
    pub(crate) title: String,
    /// Its description.
    #[serde(default)]
    pub(crate) description: String,
    /// Its categories.
    #[serde(default)]
    pub(crate) categories: Vec<String>,
    /// Its price.
    #[serde(default)]
    pub(crate) price: Option<f64>,
    /// The address of an image.
    #[serde(default)]
    pub(crate) image: Option<String>,
    /// Whether it can be had; true if left out.
    #[serde(default)]
    pub(crate) available: Option<bool>,
    /// Whether it is kept out of every list.
    #[serde(default)]
    pub(crate) hidden: bool,
    /// From when on it is kept out of every list.
    #[serde(default)]
    #[schema(value_type = Option<TimestampDto>)]
    pub(crate) expires_at: Option<Timestamp>,
    /// Not looked at: an item has changed when the server takes the change. It may be sent, so that what `GET` shows can be sent back.
    #[serde(default)]
    #[schema(value_type = Option<TimestampDto>)]
    #[allow(dead_code, reason = "taken, and not looked at")]
    pub(crate) updated_at: Option<Timestamp>,
    /// Everything else: text, numbers, true and false, times in RFC 3339, points `{"lat": 47.4, "lon": 8.5}`, and lists of text, numbers, true and
    /// false.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) attributes: BTreeMap<String, Value>,
    /// Its vector, as long as the model's. Used while the artifact does not know the item; without one it is estimated.
    #[serde(default)]
    pub(crate) vector: Option<Vec<f32>>,
}

// Read to refuse what no item has: a merge alone would take any name with null.
/// Some fields of an item, each with its new value; null removes one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "names the fields and their types; the merge works on the JSON itself")]
pub(crate) struct ItemPatch {
    /// The item's id. In a batch it must be given; elsewhere it is that of the address.
    #[schema(example = "item-42")]
    id: Option<String>,
    /// Its title.
    title: Option<String>,
    /// Its description.
    description: Option<String>,
    /// Its categories, all of them.
    categories: Option<Vec<String>>,
    /// Its price.
    price: Option<f64>,
    /// The address of an image.
    image: Option<String>,
    /// Whether it can be had; null makes it true.
    available: Option<bool>,
    /// Whether it is kept out of every list; null makes it false.
    hidden: Option<bool>,
    /// From when on it is kept out of every list.
    #[schema(value_type = Option<TimestampDto>)]
    expires_at: Option<Timestamp>,
    /// Not looked at: an item has changed when the server takes the change.
    #[schema(value_type = Option<TimestampDto>)]
    updated_at: Option<Timestamp>,
    /// The attributes to change, the others stay; null for one removes it, null for all of them removes all.
    #[schema(value_type = Option<Object>)]
    attributes: Option<BTreeMap<String, Value>>,
    /// Its vector, as long as the model's.
    vector: Option<Vec<f32>>,
}

impl ItemInput {
    /// The change that puts the item as it is here. `place` begins the detail of what is wrong. What the item had `before` is taken as it is: a
    /// catalogue may carry more than can be asked for.
    pub(super) fn into_entry(
        self,
        id: &str,
        place: &str,
        before: Option<&CatalogItem>,
        dimensions: Option<usize>,
        now_ms: i64,
    ) -> Result<LiveEntry, Problem> {
        check_id(&format_args!("{place}id"), id)?;
        if let Some(other) = self.id.as_deref().filter(|other| *other != id) {
            return Err(Problem::invalid(
                format!("{place}id is {:?}, the item is {:?}", shown(other), shown(id)),
                "leave the id out, or send the one that the item has",
            ));
        }
        check_vector(self.vector.as_deref(), place, dimensions)?;
        check_expiry(self.expires_at, before.and_then(|before| before.expires_at), place)?;
        let item = CatalogItem {
            title: self.title,
            description: self.description,
            categories: self.categories,
            price: self.price,
            image: self.image,
            available: self.available.unwrap_or(true),
            hidden: self.hidden,
            expires_at: self.expires_at,
            attributes: self.attributes,
            ..CatalogItem::new(id)
        };
        let new = what_is_new(&item, before);
        check_count(&format!("{place}categories"), new.categories.len(), limits::ITEM_ATTRIBUTES_MAX)?;
        if !new.attributes.is_empty() {
            check_count(&format!("{place}attributes"), item.attributes.len(), limits::ITEM_ATTRIBUTES_MAX)?;
        }
        check_attributes(&new).map_err(|error| {
            Problem::invalid(format!("{place}{error}"), "see /openapi.json for what an attribute may be")
        })?;
        LiveEntry::put(item, self.vector, now_ms).map_err(|error| {
            let code =
                if matches!(error, CatalogError::TooLarge { .. }) { Code::LimitExceeded } else { Code::InvalidRequest };
            Problem::new(
                code,
                format!("{place}{error}"),
                "see /openapi.json for the fields of an item and their bounds",
            )
        })
    }
}

/// The categories and attributes that an item did not have before.
fn what_is_new(item: &CatalogItem, before: Option<&CatalogItem>) -> CatalogItem {
    let is_new = |name: &str, value: &Value| before.is_none_or(|before| before.attributes.get(name) != Some(value));
    let attributes = item.attributes.iter().filter(|(name, value)| is_new(name, value));
    let attributes = attributes.map(|(name, value)| (name.clone(), value.clone())).collect();
    let is_same = before.is_some_and(|before| before.categories == item.categories);
    let categories = if is_same { Vec::new() } else { item.categories.clone() };
    CatalogItem { attributes, categories, ..CatalogItem::new("") }
}

/// Many write 0 or -1 for never, and `kindred prepare` reads it so: the item would be in no list until the next build, and then come back.
fn check_expiry(at: Option<Timestamp>, before: Option<Timestamp>, place: &str) -> Result<(), Problem> {
    match at.filter(|at| at.0 <= 0 && Some(*at) != before) {
        None => Ok(()),
        Some(at) => Err(Problem::invalid(
            format!("{place}expires_at is {at}, expected a time after the beginning of 1970"),
            "leave expires_at out, or send null, for an item that never expires; hidden keeps one out of every list",
        )),
    }
}

fn check_vector(vector: Option<&[f32]>, place: &str, dimensions: Option<usize>) -> Result<(), Problem> {
    let Some(vector) = vector else { return Ok(()) };
    let tells = "send a vector made by the same model; GET /v1/model tells its dimensions";
    if dimensions.is_some_and(|expected| vector.len() != expected) || vector.is_empty() {
        let expected = dimensions.map_or_else(String::new, |expected| format!(", the model has {expected} dimensions"));
        return Err(Problem::invalid(format!("{place}vector has {} numbers{expected}", vector.len()), tells));
    }
    if vector.len() > limits::VECTOR_FLOATS_MAX {
        return Err(Problem::limit(&format!("{place}vector"), vector.len(), limits::VECTOR_FLOATS_MAX));
    }
    // A length that overflows has no direction.
    let length = vector.iter().map(|value| value * value).sum::<f32>();
    if !length.is_finite() || length == 0.0 {
        return Err(Problem::invalid(
            format!("{place}vector has no direction"),
            "send finite numbers, not all of them 0",
        ));
    }
    Ok(())
}

/// What a patch leaves of an item: its fields replace those of the item, null removes one, an object is patched likewise (RFC 7396). `place` begins
/// the detail of what is wrong.
pub(super) fn patched(
    current: &CatalogItem,
    vector: Option<&[f32]>,
    patch: Map<String, Value>,
    place: &str,
) -> Result<Value, Problem> {
    let patch = Value::Object(patch);
    ItemPatch::deserialize(&patch).map_err(|error| not_an_item(&error, place))?;
    let mut value = serde_json::to_value(current).map_err(|error| {
        Problem::new(Code::Internal, error.to_string(), "report this with the request that caused it")
    })?;
    if let (Value::Object(fields), Some(vector)) = (&mut value, vector) {
        fields.insert("vector".to_owned(), Value::from(vector.to_vec()));
    }
    merge(&mut value, patch);
    Ok(value)
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(fields) = into else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// An item from a value; `place` begins the detail of what is wrong.
pub(super) fn input(value: Value, place: &str) -> Result<ItemInput, Problem> {
    serde_json::from_value(value).map_err(|error| not_an_item(&error, place))
}

fn not_an_item(error: &serde_json::Error, place: &str) -> Problem {
    Problem::new(
        Code::InvalidJson,
        format!("{place}{}", shown_error(error)),
        "see /openapi.json for the fields of an item and their types",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_replaces_adds_and_removes() {
        let item = CatalogItem {
            title: "Bear".to_owned(),
            price: Some(9.5),
            attributes: [("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))].into(),
            ..CatalogItem::new("bear")
        };
        let patch = json!({"price": null, "title": "Old bear", "attributes": {"a": null, "c": [true]}});
        let Value::Object(patch) = patch else { panic!() };
        let value = patched(&item, Some(&[0.5]), patch, "").unwrap();
        let expected = json!({"id": "bear", "title": "Old bear", "available": true, "attributes": {"b": 2, "c": [true]}, "vector": [0.5]});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_time_that_means_never_is_no_expiry() {
        let put = |at_ms: i64, before: Option<&CatalogItem>| {
            let sent = input(json!({"expires_at": at_ms}), "").unwrap();
            sent.into_entry("bear", "items[3]: ", before, None, 7).map(|entry| entry.expires_at_ms())
        };
        for at_ms in [0, -1] {
            let told = put(at_ms, None).unwrap_err().to_string();
            assert!(told.contains("items[3]: expires_at is") && told.contains("never"), "{told}");
            // What it was built with does not stand in the way of another change.
            let built = CatalogItem { expires_at: Some(Timestamp(at_ms)), ..CatalogItem::new("bear") };
            assert_eq!(put(at_ms, Some(&built)).unwrap(), Some(at_ms));
        }
        assert_eq!(put(1_600_000_000_000, None).unwrap(), Some(1_600_000_000_000), "one that has passed");
    }

    #[test]
    fn a_patch_of_a_field_that_no_item_has_is_refused_even_to_remove_it() {
        let refused = |patch: Value| {
            let Value::Object(patch) = patch else { panic!() };
            patched(&CatalogItem::new("bear"), None, patch, "items[3]: ").is_err()
        };
        assert!(refused(json!({"": null})));
        assert!(refused(json!({"colour": null, "price": 3})));
        assert!(refused(json!({"price": "3"})));
        assert!(!refused(json!({"title": null, "attributes": null, "hidden": null})));
        let told = input(json!({"colour": "red"}), "items[3]: ").unwrap_err().to_string();
        assert!(told.contains("items[3]: unknown field `colour`") && told.contains("`vector`"), "{told}");
    }
}

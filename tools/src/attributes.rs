//! From catalogue entries to what a filter can ask: text values and numbers by field.

use kindred::catalog::CatalogItem;
use kindred_index::ItemAttributes;
use kindred_index::format::{FIELD_NAME_BYTES_MAX, TERM_BYTES_MAX};
use serde::Serialize;
use serde_json::Value;

/// The field of an item's categories.
pub const CATEGORY: &str = "category";
/// The field that says whether an item may be recommended.
pub const AVAILABLE: &str = kindred::model::AVAILABLE.0;
/// The field of an item's price.
pub const PRICE: &str = "price";

/// What was left out of the filterable attributes. It stays in the catalogue entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Values too long, nested or null.
    pub values: u64,
    /// Attributes whose name is empty, too long, or one of the fields that mean something to Kindred.
    pub names: u64,
}

/// The filterable attributes of every item, in order.
///
/// `category` for each category, `available` true or false, `price`, and every attribute that is text, a number, a truth
/// value or a list of these under its own name. What cannot be asked for is counted, not refused: a catalogue may carry more
/// than its filters need.
pub fn of_items(items: &[CatalogItem]) -> (Vec<ItemAttributes>, LeftOut) {
    let mut left_out = LeftOut::default();
    let all = items.iter().map(|item| of_item(item, &mut left_out)).collect();
    (all, left_out)
}

fn of_item(item: &CatalogItem, left_out: &mut LeftOut) -> ItemAttributes {
    let mut attributes = ItemAttributes::default();
    for category in &item.categories {
        term(&mut attributes, CATEGORY, category, left_out);
    }
    attributes.terms.push((AVAILABLE.to_owned(), item.available.to_string()));
    if let Some(price) = item.price.filter(|price| price.is_finite()) {
        attributes.numbers.push((PRICE.to_owned(), price));
    }
    for (name, value) in &item.attributes {
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || [CATEGORY, AVAILABLE, PRICE].contains(&name.as_str())
        {
            left_out.names += 1;
            continue;
        }
        match value {
            Value::Array(values) => values.iter().for_each(|value| single(&mut attributes, name, value, left_out)),
            value => single(&mut attributes, name, value, left_out),
        }
    }
    attributes
}

fn single(attributes: &mut ItemAttributes, name: &str, value: &Value, left_out: &mut LeftOut) {
    match value {
        Value::String(text) => term(attributes, name, text, left_out),
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
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            ..CatalogItem::new("bear")
        };
        let (all, left_out) = of_items(&[item]);
        let terms: Vec<String> = all.iter().flat_map(|a| &a.terms).map(|(f, v)| format!("{f}={v}")).collect();
        let expected =
            "category=toys category=bears available=false colour=brown colour=black maker=Steiff washable=true";
        assert_eq!(terms.join(" "), expected);
        let numbers: Vec<_> = all.iter().flat_map(|a| a.numbers.clone()).collect();
        assert_eq!(numbers, [("price".to_owned(), 9.5), ("weight".to_owned(), 1.25)]);
        assert_eq!(left_out, LeftOut { values: 1, names: 1 });
    }
}

//! What one asks a server before sending it anything: its model, a kind of interaction that counts, items.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use super::client::Client;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a kind of interaction is called where the model does not say.
const DEFAULT_KIND: &str = "view";

/// Sends a request and takes the answer, which must be a success and JSON.
///
/// # Errors
/// The server cannot be reached, or refuses; its words are in the message.
pub fn json(address: SocketAddr, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    Client::new(address, PATIENCE).json(method, path, "", body)
}

/// What the server says of its model.
///
/// # Errors
/// As [`json`].
pub fn model(address: SocketAddr) -> anyhow::Result<Value> {
    json(address, "GET", "/v1/model", &Value::Null)
}

/// A kind of interaction that weighs something in this model: `view`, or the first by name.
pub fn kind(model: &Value) -> &str {
    let kinds = model.get("kinds").and_then(Value::as_object);
    let weighs = |kind: &str| kinds.and_then(|kinds| kinds.get(kind)?.as_f64()).is_some_and(|weight| weight > 0.0);
    let first = || kinds.and_then(|kinds| kinds.keys().find(|kind| weighs(kind)));
    if weighs(DEFAULT_KIND) { DEFAULT_KIND } else { first().map_or(DEFAULT_KIND, String::as_str) }
}

/// The items that the server names to a newcomer: the most popular ones, as many as an answer may have.
///
/// # Errors
/// As [`json`], and a server that names none.
pub fn popular_items(address: SocketAddr) -> anyhow::Result<Vec<String>> {
    let model = model(address)?;
    let most = kindred::limits::ANSWER_ITEMS_MAX as u64;
    let limit = model.get("items").and_then(Value::as_u64).unwrap_or(most).clamp(1, most);
    let answer = json(address, "POST", "/v1/recommendations", &serde_json::json!({"limit": limit}))?;
    let items = item_ids(&answer);
    ensure!(!items.is_empty(), "{address} names no items: give --artifacts, the directory that it serves");
    Ok(items)
}

/// The items of an answer, in its order.
pub fn item_ids(answer: &Value) -> Vec<String> {
    let id = |item: &Value| item.get("item_id").and_then(Value::as_str).map(str::to_owned);
    answer.get("items").and_then(Value::as_array).into_iter().flatten().filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_that_weighs_something_is_taken() {
        assert_eq!(kind(&json!({"kinds": {"buy": 2.0, "view": 1.0}})), "view");
        assert_eq!(kind(&json!({"kinds": {"dislike": -1.0, "rating": 1.0}})), "rating");
        assert_eq!(kind(&Value::Null), "view");
    }

    #[test]
    fn items_are_taken_in_order_and_what_is_none_is_passed_over() {
        let answer = json!({"items": [{"item_id": "b"}, {"title": "x"}, {"item_id": "a"}]});
        assert_eq!(item_ids(&answer), ["b", "a"]);
        assert!(item_ids(&json!({"error": 1})).is_empty());
    }
}

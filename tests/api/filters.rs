//! Every kind of condition, over items of the artifact and over items that came in since; and every refusal.

use kindred::testing::Fixture;
use serde_json::{Value, json};

use crate::support::Server;

/// The shop, where item 1 and the new item `live` have one attribute of each kind, with other values.
fn server() -> Server {
    let mut fixture = Fixture::shop();
    let attributes = |colour: &str, since: &str, lat: f64| json!({"colour": [colour, "any"], "size": 3, "sale": colour == "red", "since": since, "shop": {"lat": lat, "lon": 8.54}});
    fixture.items[1].attributes = serde_json::from_value(attributes("red", "2026-01-01T00:00:00Z", 47.37)).unwrap();
    let server = Server::with(&fixture, |_| ());
    let live =
        json!({"categories": ["lamps"], "price": 0.5, "attributes": attributes("blue", "2026-06-01T00:00:00Z", 46.95)});
    server.send("PUT", "/v1/items/live", &[("content-type", "application/json")], live.to_string().as_bytes()).ok();
    server
}

fn passing(server: &Server, filter: &Value) -> Vec<String> {
    let body = json!({"vector": vec![0.25; 16], "k": 100, "filter": filter});
    let found = server.post("/v1/search", body).ok();
    let mut ids: Vec<String> =
        found["hits"].as_array().unwrap().iter().map(|hit| hit["item_id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    // A list for a visitor is made of the same items.
    let body = json!({"interactions": [{"item_id": "item-50"}], "limit": 100, "filter": filter});
    for item in server.post("/v1/recommendations", body).ok()["items"].as_array().unwrap() {
        assert!(ids.contains(&item["item_id"].as_str().unwrap().to_owned()), "{item} {filter}");
    }
    ids
}

#[test]
fn each_condition_lets_the_right_items_pass() {
    let server = server();
    let circle = |lat: f64, radius: u32| json!({"key": "shop", "geo_radius": {"center": {"lat": lat, "lon": 8.54}, "radius": radius}});
    for (filter, expected) in [
        (json!({"key": "colour", "match": {"value": "red"}}), &["item-1"][..]),
        (json!({"key": "colour", "match": {"value": "blue"}}), &["live"]),
        (json!({"key": "colour", "match": {"any": ["red", "blue", "green"]}}), &["item-1", "live"]),
        (json!({"key": "colour", "match": {"except": ["red", "any"]}}), &["live"]),
        (json!({"key": "size", "match": {"value": 3}}), &["item-1", "live"]),
        (json!({"key": "size", "match": {"except": [3]}}), &[]),
        (json!({"key": "sale", "match": {"value": true}}), &["item-1"]),
        (json!({"key": "price", "range": {"lte": 2}}), &["item-0", "item-1", "live"]),
        (json!({"key": "since", "range": {"gte": "2026-01-01T00:00:00Z", "lt": "2026-06-01T00:00:00Z"}}), &["item-1"]),
        (json!({"key": "since", "range": {"gt": "2026-01-01T00:00:00Z"}}), &["live"]),
        (json!({"key": "since", "match": {"except": ["2026-01-01T00:00:00Z"]}}), &["live"]),
        (json!({"key": "since", "match": {"except": ["2026-06-01T00:00:00Z", 3]}}), &["item-1"]),
        (circle(47.37, 1_000), &["item-1"]),
        (circle(47.0, 10_000), &["live"]),
        (circle(47.0, 100_000), &["item-1", "live"]),
        (json!({"key": "shop", "exists": true}), &["item-1", "live"]),
        (json!({"has_id": ["live", "item-7", "nothing"]}), &["item-7", "live"]),
        (json!({"must": [{"key": "colour", "exists": true}], "must_not": [{"has_id": ["live"]}]}), &["item-1"]),
        (
            json!({"should": [{"key": "category", "match": {"value": "lamps"}}, {"must": [{"has_id": ["item-2", "item-3"]}, {"must_not": [{"has_id": ["item-3"]}]}]}]}),
            &["item-2", "live"],
        ),
    ] {
        assert_eq!(passing(&server, &filter), expected, "{filter}");
    }
}

#[test]
fn each_refusal_says_where_and_what() {
    let server = server();
    for (filter, code, what) in [
        (json!({"key": "color", "exists": true}), "invalid_filter", "the fields are available, category, colour"),
        (json!({"key": "category", "range": {"lt": 3}}), "invalid_filter", "holds text"),
        (json!({"key": "price", "match": {"value": "cheap"}}), "invalid_filter", "holds numbers"),
        (json!({"key": "price", "match": {"any": [null]}}), "invalid_json", "a string, true, false or a number"),
        (json!({"must": [{"key": "size"}]}), "invalid_filter", "filter.must[0] needs exactly one"),
        (json!({"key": "size", "match": {}}), "invalid_filter", "exactly one of value, any and except"),
        (json!({"key": "size", "range": {}}), "invalid_filter", "a range without bounds"),
        (json!({"key": "size", "has_id": ["a"]}), "invalid_filter", "a key beside has_id"),
        (json!({"range": {"lt": 1}}), "invalid_filter", "has no key"),
        (json!({"key": "price", "range": {"lt": "soon"}}), "invalid_json", "RFC 3339"),
        (
            json!({"key": "shop", "geo_radius": {"center": {"lat": 99, "lon": 0}, "radius": 1}}),
            "invalid_filter",
            "the Earth",
        ),
        (
            json!({"key": "colour", "geo_radius": {"center": {"lat": 0, "lon": 0}, "radius": 1}}),
            "invalid_filter",
            "a point",
        ),
        (json!({"key": "shop", "geo_radius": {"center": {"lat": 0}, "radius": 1}}), "invalid_json", "lon"),
        (json!({"must": {"key": "size"}}), "invalid_json", "invalid type"),
        (json!([]), "invalid_json", "as an object"),
        (json!({"key": "price", "range": [5, 10]}), "invalid_json", "an object"),
        (json!({"key": "shop", "geo_radius": {"center": [8.54, 47.37], "radius": 1}}), "invalid_json", "an object"),
        (json!({"key": "size", "matches": {"value": 1}}), "invalid_json", "unknown field"),
        (json!({"has_id": vec!["x"; 300]}), "limit_exceeded", "256"),
    ] {
        for path in ["/v1/search", "/v1/recommendations"] {
            let mut body = json!({"filter": filter});
            if path == "/v1/search" {
                body["vector"] = json!(vec![0.25; 16]);
            }
            let problem = server.post(path, body).problem(400, code);
            assert!(problem.detail.contains(what), "{filter}: {problem:?}");
            let is_of_names = problem.detail.contains("there is no field");
            assert_eq!(problem.remedy.contains("use attributes that"), is_of_names, "{filter}: {problem:?}");
        }
    }
}

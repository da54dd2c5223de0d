//! `GET /v1/items/{id}` and `GET /v1/items/{id}/similar`: any id that a catalogue may hold, and lists around one item.

use kindred::testing::Fixture;
use kindred_index::Metric;

use crate::support::{Server, category, ids};

/// Percent-encodes everything that is not a letter or a digit.
fn percent(id: &str) -> String {
    id.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[test]
fn an_item_is_shown_as_the_catalogue_has_it() {
    let server = Server::with_shop();
    let item = server.get("/v1/items/item-4").ok();
    assert_eq!(item["id"], "item-4");
    assert_eq!(item["title"], "Item 4");
    assert_eq!(item["categories"], serde_json::json!(["toys"]));
    assert_eq!(item["price"], 5.0);
}

#[test]
fn an_unknown_item_is_not_found() {
    let server = Server::with_shop();
    for path in ["/v1/items/nothing", "/v1/items/nothing/similar", "/v1/items/item-4%20", "/v1/items/a%2Fb"] {
        let problem = server.get(path).problem(404, "item_not_found");
        assert!(problem.remedy.contains("kindred build"), "{problem:?}");
    }
}

#[test]
fn ids_of_any_characters_can_be_asked_for() {
    let mut fixture = Fixture::random(3, 40, 8, Metric::Cosine);
    let longest = "x".repeat(256);
    let odd = [
        "a/b",
        "a/b/similar",
        "100%",
        "%41",
        "q?x=1",
        "a#b",
        "ä ö",
        "日本",
        "..",
        ".",
        "a+b",
        "\"<>'&",
        "\u{1}\n",
        &longest,
    ];
    for (item, id) in fixture.items.iter_mut().zip(odd) {
        item.id = id.to_owned();
    }
    let server = Server::with(&fixture, |_| ());
    for id in odd {
        let item = server.get(&format!("/v1/items/{}", percent(id))).ok();
        assert_eq!(item["id"], id);
        let similar = server.get(&format!("/v1/items/{}/similar", percent(id))).ok();
        assert_eq!(similar["item_id"], id);
        assert_eq!(server.get(&format!("/items/{}", percent(id))).status, 200, "{id:?}");
    }
}

#[test]
fn similar_items_are_of_the_same_kind_and_never_the_item_itself() {
    let server = Server::with_shop();
    let answer = server.get("/v1/items/item-4/similar?limit=5").ok();
    assert_eq!(answer["item_id"], "item-4");
    assert_eq!(answer["scenario"], "similar");
    assert_eq!(answer["generation"], "g1");
    assert!(answer["fallback"].is_null());
    let found = ids(&answer);
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|id| category(id) == "toys" && *id != "item-4"), "{found:?}");
}

#[test]
fn similar_takes_what_recommendations_take() {
    let server = Server::with_shop();
    let answer = server.get("/v1/items/item-4/similar?explain=true&with_items=true&limit=3&ef_search=200").ok();
    for item in answer["items"].as_array().unwrap() {
        assert_eq!(item["item"]["id"], item["item_id"]);
        let because = item["reasons"]["because"].as_array().unwrap();
        let shares: f64 = because.iter().map(|one| one["share"].as_f64().unwrap()).sum();
        let sum = shares + item["reasons"]["popularity"].as_f64().unwrap();
        assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-6, "{item}");
        assert!(because.iter().all(|one| one["item_id"] == "item-4" && one["kind"].is_null()), "{item}");
    }
    assert!(answer["stages_us"]["search"].is_number());
    let exact = server.get("/v1/items/item-4/similar?exact=true&limit=3").ok();
    assert_eq!(ids(&exact), ids(&answer));
    let together = server.get("/v1/items/item-4/similar?scenario=also_bought").ok();
    assert_eq!(together["scenario"], "also_bought");
}

#[test]
fn a_query_that_cannot_be_used_is_refused() {
    let server = Server::with_shop();
    for (query, code) in [
        ("limit=0", "invalid_request"),
        ("limit=1001", "invalid_request"),
        ("limit=many", "invalid_request"),
        ("lmit=3", "invalid_request"),
        ("limit=1&limit=2", "invalid_request"),
        ("explain=yes", "invalid_request"),
        ("ef_search=0", "invalid_request"),
        ("ef_search=99999999", "invalid_request"),
        ("scenario=attic", "unknown_scenario"),
        ("scenario=home", "invalid_request"),
        ("scenario=rerank", "invalid_request"),
    ] {
        server.get(&format!("/v1/items/item-4/similar?{query}")).problem(400, code);
    }
}

#[test]
fn ids_that_cannot_be_are_refused() {
    let server = Server::with_shop();
    let long = "x".repeat(257);
    for path in [format!("/v1/items/{long}"), format!("/v1/items/{long}/similar"), format!("/items/{long}")] {
        let problem = server.get(&path).problem(400, "limit_exceeded");
        assert!(problem.detail.contains("257 bytes"), "{problem:?}");
    }
    for path in ["/v1/items/%FF", "/v1/items/a%C3/similar", "/items/%80", "/v1/users/Ren%E9/data"] {
        // With replacement characters one id would stand for many.
        let problem = server.get(path).problem(400, "invalid_request");
        assert!(problem.remedy.contains("UTF-8"), "{path}: {problem:?}");
    }
    let erasure = server.send("DELETE", "/v1/sessions/Ren%E8/data", &[], &[]);
    erasure.problem(400, "invalid_request");
    server.get("/v1/items/").problem(404, "not_found");
    server.get("/v1/items//similar").problem(404, "not_found");
}

#[test]
fn nothing_is_shown_before_something_is_published() {
    let server = Server::empty();
    server.get("/v1/items/item-4").problem(503, "not_ready");
    server.get("/v1/items/item-4/similar").problem(503, "not_ready");
}

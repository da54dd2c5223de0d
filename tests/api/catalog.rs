//! The live catalogue: a change is in the very next answer, from every source, and after a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kindred::app::Stores;
use kindred::history::memory::MemoryHistory;
use kindred::live_items::LiveEntry;
use kindred::store::memory::MemoryDocuments;
use kindred::store::{Documents, Table, Write};
use kindred::testing::Fixture;
use kindred::timestamp::Timestamp;
use kindred_index::Metric;
use serde_json::{Value, json};

use crate::support::{Client, PATIENCE, Process, Server, ids};

impl Client {
    fn change(&self, method: &str, path: &str, body: &Value) -> crate::support::Answer {
        self.send(method, path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    fn lists(&self) -> Vec<(&'static str, Value)> {
        let seen = json!([{"item_id": "item-4"}, {"item_id": "item-12"}]);
        let all = |scenario: &str, more: Value| {
            let mut body = json!({"scenario": scenario, "limit": 50});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            self.post("/v1/recommendations", body).ok()
        };
        vec![
            ("for a visitor", all("home", json!({"interactions": seen}))),
            ("by scan", all("home", json!({"interactions": seen, "exact": true}))),
            ("popular", all("home", json!({}))),
            ("similar", self.get("/v1/items/item-4/similar?limit=50").ok()),
        ]
    }

    fn searched(&self) -> Vec<String> {
        let found = self.post("/v1/search", json!({"positive": ["item-4"], "k": 60})).ok();
        found["hits"].as_array().unwrap().iter().map(|hit| hit["item_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Publishes an artifact and has the server take it.
fn publish(server: &Server, fixture: &Fixture, generation: &str) {
    fixture.publish(&server.artifacts(), generation);
    server.post_bytes("/admin/reload", b"").ok();
}

#[track_caller]
fn assert_nowhere(server: &Client, id: &str) {
    for (name, list) in server.lists() {
        assert!(!ids(&list).contains(&id), "{name}: {list}");
    }
    assert!(!server.searched().contains(&id.to_owned()));
}

#[test]
fn hidden_deleted_and_expired_items_are_in_no_list_and_lists_stay_full() {
    let server = Server::with_shop();
    let long = |client: &Client| client.lists().into_iter().map(|(_, list)| ids(&list).len()).collect::<Vec<_>>();
    let before = long(&server);
    assert!(server.searched().contains(&"item-16".to_owned()));
    server.change("PATCH", "/v1/items/item-16", &json!({"hidden": true})).ok();
    assert_nowhere(&server, "item-16");
    assert_eq!(server.get("/v1/items/item-16").ok()["hidden"], true);
    assert_eq!(server.change("DELETE", "/v1/items/item-20", &Value::Null).ok()["deleted"], true);
    assert_nowhere(&server, "item-20");
    server.get("/v1/items/item-20").problem(404, "item_not_found");
    server.get("/v1/items/item-20/similar").problem(404, "item_not_found");
    server.change("PATCH", "/v1/items/item-24", &json!({"expires_at": "2020-01-01T00:00:00Z"})).ok();
    assert_nowhere(&server, "item-24");
    assert_eq!(server.post("/v1/recommendations", json!({"limit": 20})).ok()["items"].as_array().unwrap().len(), 20);
    for (now, before) in long(&server).into_iter().zip(before) {
        assert!(now + 3 >= before, "{now} of {before}");
    }
    server.change("PATCH", "/v1/items/item-16", &json!({"hidden": null})).ok();
    assert!(server.searched().contains(&"item-16".to_owned()));
    server.change("PUT", "/v1/items/item-20", &json!({"title": "Back"})).ok();
    assert!(server.searched().contains(&"item-20".to_owned()));
}

/// Everything speaks for them: they are popular, trending, pinned, looked at, bought, and named in the list that is to be ranked.
#[test]
fn what_is_gone_is_in_the_list_of_no_scenario_whatever_speaks_for_it() {
    let gone = ["item-16", "item-20", "item-24"];
    let server = Server::with(&Fixture::shop(), |settings| {
        settings.trending.refresh_ms = 20;
        settings.trending.minimum_count = 2;
        let pins = json!([{"item_id": "item-16", "position": 1}]);
        settings.scenarios.get_mut("home").unwrap().pins = serde_json::from_value(pins).unwrap();
    });
    for user in ["v", "w"] {
        gone.iter().for_each(|id| server.view(user, id));
    }
    let trending = || {
        let answer = server.post("/v1/recommendations", json!({"scenario": "trending", "explain": true})).ok();
        answer["items"].as_array().unwrap().iter().filter(|item| item["source"] == "trending").count()
    };
    let began = Instant::now();
    while trending() < gone.len() {
        assert!(began.elapsed() < PATIENCE, "what was looked at is not counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let month_ago = now - 30 * 86_400_000;
    let viewed: Value = gone.iter().map(|id| json!({"item_id": id, "kind": "view"})).collect();
    let bought: Value =
        gone.iter().map(|id| json!({"item_id": id, "kind": "purchase", "occurred_at": month_ago})).collect();
    let histories = [json!([{"item_id": "item-4"}]), viewed, bought];
    let listed = |scenario: &str| {
        let named = match scenario {
            "similar" | "also_bought" | "cart" => json!(["item-4"]),
            "rerank" => json!(["item-4", "item-16", "item-20", "item-24"]),
            _ => json!([]),
        };
        let mut found = BTreeSet::new();
        for history in &histories {
            let body = json!({"scenario": scenario, "interactions": history, "item_ids": named, "limit": 60});
            let answer = server.post("/v1/recommendations", body).ok();
            found.extend(ids(&answer).into_iter().filter(|id| gone.contains(id)).map(str::to_owned));
        }
        found
    };
    let model = server.get("/v1/model").ok();
    let scenarios: Vec<&str> = model["scenarios"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for scenario in &scenarios {
        assert_eq!(listed(scenario).len(), gone.len(), "{scenario} lists them while they are there");
    }
    server.change("PATCH", "/v1/items/item-16", &json!({"hidden": true})).ok();
    server.change("DELETE", "/v1/items/item-20", &Value::Null).ok();
    server.change("PATCH", "/v1/items/item-24", &json!({"expires_at": "2020-01-01T00:00:00Z"})).ok();
    for scenario in &scenarios {
        assert_eq!(listed(scenario), BTreeSet::new(), "{scenario}");
    }
}

#[test]
fn a_price_and_a_stock_are_those_of_the_last_change() {
    let server = Server::with_shop();
    let cheap = || {
        let filter = json!({"key": "price", "range": {"lt": 0.5}});
        let list = server.post("/v1/recommendations", json!({"filter": filter, "with_items": true})).ok();
        ids(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(cheap().is_empty());
    let patched = server.change("PATCH", "/v1/items/item-4", &json!({"price": 0.25})).ok();
    assert_eq!((&patched["price"], &patched["title"]), (&json!(0.25), &json!("Item 4")));
    assert_eq!(cheap(), ["item-4"]);
    let body = json!({"filter": {"has_id": ["item-4"]}, "with_items": true});
    assert_eq!(server.post("/v1/recommendations", body).ok()["items"][0]["item"]["price"], 0.25);
    server.change("PATCH", "/v1/items/item-4", &json!({"available": false})).ok();
    assert!(cheap().is_empty());
}

#[test]
fn a_new_item_is_recommended_at_once() {
    let server = Server::with_shop();
    let vector = server.post("/v1/search", json!({"positive": ["item-8"], "k": 60, "with_vector": true})).ok();
    let vector = vector["hits"][0]["vector"].clone();
    let item = json!({"title": "New", "categories": ["toys"], "vector": vector, "attributes": {"colour": "red"}});
    server.change("PUT", "/v1/items/new", &item).ok();
    let seen = json!({"interactions": [{"item_id": "item-4"}, {"item_id": "item-8"}]});
    assert!(ids(&server.post("/v1/recommendations", seen).ok()).contains(&"new"));
    assert_eq!(server.searched().len(), 60, "59 of the artifact and the new one");
    assert!(!ids(&server.get("/v1/items/new/similar").ok()).is_empty());
    // Without a vector it is where the items of its categories are.
    server.change("PUT", "/v1/items/estimated", &json!({"categories": ["toys"]})).ok();
    let found = server.post("/v1/search", json!({"positive": ["estimated"], "k": 5, "with_items": true})).ok();
    for hit in found["hits"].as_array().unwrap() {
        assert_eq!(hit["item"]["categories"][0], "toys", "{found}");
    }
    // What was done with it turns the list.
    let list = server.post("/v1/recommendations", json!({"interactions": [{"item_id": "new"}], "explain": true})).ok();
    assert_eq!(list["fallback"], Value::Null);
    assert_eq!(list["items"][0]["reasons"]["because"][0]["item_id"], "new");
    assert!(!ids(&list).contains(&"new"), "it was seen");
    server.change("DELETE", "/v1/items/new", &Value::Null).ok();
    assert_nowhere(&server, "new");
    server.change("DELETE", "/v1/items/new", &Value::Null).problem(404, "item_not_found");
}

#[test]
fn a_batch_is_all_or_nothing_as_a_list_or_as_lines() {
    let server = Server::with_shop();
    let batch = json!([
        {"op": null, "id": "a", "title": "A"}, {"op": "patch", "id": "a", "price": 3}, {"op": "delete", "id": "item-1"}
    ]);
    let done = server.post("/v1/items/batch", batch).ok();
    assert_eq!(done, json!({"put": 1, "patched": 1, "deleted": 1}));
    let kept = server.get("/v1/items/a").ok();
    assert_eq!((&kept["title"], &kept["price"]), (&json!("A"), &json!(3.0)));
    let lines = "{\"id\": \"b\"}\n\n{\"op\": \"patch\", \"id\": \"a\", \"title\": \"AA\"}\n";
    let sent = |lines: &str| {
        server.send("POST", "/v1/items/batch", &[("content-type", "application/x-ndjson")], lines.as_bytes())
    };
    assert_eq!(sent(lines).ok(), json!({"put": 1, "patched": 1, "deleted": 0}));
    let half = "{\"id\": \"c\"}\n{\"op\": \"patch\", \"id\": \"nothing\"}\n";
    sent(half).problem(404, "item_not_found");
    let wrong = sent("{\"id\": \"c\"}\n\n{\"id\": }\n").problem(400, "invalid_json");
    assert!(wrong.detail.starts_with("line 3: "), "{wrong:?}");
    server.get("/v1/items/c").problem(404, "item_not_found");
    for (batch, code, what) in [
        (json!([{"title": "x"}]), "invalid_request", "items[0]: id"),
        (json!([{"id": "x"}, {"id": "y", "op": "upsert"}]), "invalid_request", "items[1]: op"),
        (json!([{"id": "x", "op": "delete", "price": 1}]), "invalid_request", "items[0]: delete"),
        (json!([{"id": "x", "color": "red"}]), "invalid_json", "items[0]: unknown field"),
        (json!({"id": "x"}), "invalid_json", "expected a sequence"),
        (json!(vec![json!({"id": "x"}); 1_001]), "limit_exceeded", "items"),
    ] {
        let problem = server.post("/v1/items/batch", batch).problem(400, code);
        assert!(problem.detail.contains(what), "{problem:?}");
    }
    server.change("PUT", "/v1/items/batch", &json!({"title": "an item of this name"})).ok();
    assert_eq!(server.get("/v1/items/batch").ok()["title"], "an item of this name");
    let allowed = |path: &str| server.send("OPTIONS", path, &[], &[]).header("allow").to_owned();
    assert_eq!(allowed("/v1/items/batch"), "GET, HEAD, POST, PUT, PATCH, DELETE");
    assert_eq!(allowed("/v1/items/a"), "GET, HEAD, PUT, PATCH, DELETE");
}

#[test]
fn what_is_wrong_with_an_item_is_said() {
    let server = Server::with_shop();
    for (item, code, what) in [
        (json!({"id": "other"}), "invalid_request", "id is"),
        (json!({"titel": "x"}), "invalid_json", "unknown field `titel`"),
        (json!({"price": "cheap"}), "invalid_json", "expected a number at line"),
        (json!({"attributes": {"price": 3}}), "invalid_request", "\"price\""),
        (json!({"attributes": {"x": {"lat": 91, "lon": 0}}}), "invalid_request", "a point"),
        (json!({"attributes": {"x": [[1]]}}), "invalid_request", "\"x\""),
        (json!({"attributes": {"x": null}}), "invalid_request", "\"x\""),
        (json!({"categories": [""]}), "invalid_request", "category"),
        (json!({"vector": [1.0, 2.0]}), "invalid_request", "16 dimensions"),
        (json!({"vector": vec![0.0; 16]}), "invalid_request", "no direction"),
        (json!({"expires_at": "soon"}), "invalid_json", "RFC 3339"),
        (json!({"updated_at": "soon"}), "invalid_json", "RFC 3339"),
        (json!({"expires_at": 0}), "invalid_request", "expires_at is 1970-01-01T00:00:00Z"),
        (json!({"description": "x".repeat(70_000)}), "limit_exceeded", "bytes of JSON"),
    ] {
        let problem = server.change("PUT", "/v1/items/x", &item).problem(400, code);
        assert!(problem.detail.contains(what), "{item}: {problem:?}");
    }
    server.change("PATCH", "/v1/items/nothing", &json!({"price": 1})).problem(404, "item_not_found");
    server.send("PUT", "/v1/items/x", &[("content-type", "text/csv")], b"{}").problem(415, "unsupported_media_type");
    server
        .send("POST", "/v1/items/x", &[("content-type", "application/json")], b"{}")
        .problem(405, "method_not_allowed");
    server.get("/v1/items/x").problem(404, "item_not_found");
}

#[test]
fn more_fields_than_a_build_takes_are_refused_when_they_come() {
    let server = Server::with_shop();
    let with = |names: std::ops::Range<usize>| {
        let attributes: serde_json::Map<String, Value> = names.map(|at| (format!("a{at}"), json!(at))).collect();
        json!({"attributes": attributes})
    };
    // The shop has available, category and price.
    let problem = server.change("PUT", "/v1/items/x", &with(0..254)).problem(400, "limit_exceeded");
    assert!(problem.detail.contains("257 fields") && problem.detail.contains("at most 256"), "{problem:?}");
    server.get("/v1/items/x").problem(404, "item_not_found");
    server.change("PUT", "/v1/items/x", &with(0..250)).ok();
    // A point is two.
    let shop = json!({"attributes": {"shop": {"lat": 47.4, "lon": 8.5}, "last": true}});
    server.change("PATCH", "/v1/items/item-4", &shop).ok();
    let one_more = json!([{"id": "y", "attributes": {"a7": 1}}, {"id": "z", "attributes": {"new": "x"}}]);
    server.post("/v1/items/batch", one_more).problem(400, "limit_exceeded");
    server.change("PUT", "/v1/items/y", &with(100..200)).ok();
    server.change("DELETE", "/v1/items/x", &Value::Null).ok();
    server.change("PUT", "/v1/items/z", &json!({"attributes": {"new": "x"}})).ok();
}

#[test]
fn a_patch_is_not_refused_for_what_the_item_was_built_with() {
    let mut fixture = Fixture::shop();
    fixture.items[3].categories.push(String::new());
    fixture.items[3].attributes.insert("dims".to_owned(), json!({"width": 3}));
    let id = fixture.items[3].id.clone();
    let server = Server::with(&fixture, |_| ());
    let path = format!("/v1/items/{id}");
    assert_eq!(server.change("PATCH", &path, &json!({"available": false})).ok()["attributes"]["dims"]["width"], 3);
    let again = json!({"attributes": {"size": {"height": 4}}});
    let problem = server.change("PATCH", &path, &again).problem(400, "invalid_request");
    assert!(problem.detail.contains("\"size\""), "{problem:?}");
}

#[test]
fn what_is_shown_of_an_item_can_be_sent_back_and_is_a_change_of_now() {
    let mut fixture = Fixture::shop();
    fixture.items[3].attributes.insert("dims".to_owned(), json!({"width": 3}));
    fixture.items[3].updated_at = Some(Timestamp(4_000_000_000_000));
    let path = format!("/v1/items/{}", fixture.items[3].id);
    let server = Server::with(&fixture, |_| ());
    let shown = server.get(&path).ok();
    let but_its_time = |item: &Value| {
        let mut item = item.clone();
        item.as_object_mut().unwrap().remove("updated_at").unwrap();
        item
    };
    for method in ["PUT", "PATCH"] {
        let changed = server.change(method, &path, &shown).ok();
        assert_eq!(but_its_time(&changed), but_its_time(&shown), "{method}");
        assert_ne!(changed["updated_at"], shown["updated_at"], "{method}");
    }
    let lines = server.send("GET", "/v1/items", &[("accept", "application/x-ndjson")], b"");
    let sent = [("content-type", "application/x-ndjson")];
    let done = server.send("POST", "/v1/items/batch", &sent, lines.text().as_bytes()).ok();
    assert_eq!(done, json!({"put": 60, "patched": 0, "deleted": 0}));
    // A time that came with a change lets no artifact win over it.
    let mut cheaper = shown;
    (cheaper["price"], cheaper["updated_at"]) = (json!(0.5), json!("2001-01-01T00:00:00Z"));
    server.change("PUT", &path, &cheaper).ok();
    publish(&server, &fixture, "second");
    assert_eq!(server.get(&path).ok()["price"], 0.5);
}

#[test]
fn a_vector_for_a_model_of_another_length_is_no_reason_to_refuse_a_patch() {
    let server = Server::with_shop();
    let mut vector = vec![0.0; 16];
    vector[0] = 1.0;
    server.change("PUT", "/v1/items/new", &json!({"title": "New", "vector": vector})).ok();
    publish(&server, &Fixture::random(42, 60, 8, Metric::Cosine), "second");
    let patched = server.change("PATCH", "/v1/items/new", &json!({"available": false})).ok();
    assert_eq!((&patched["title"], &patched["available"]), (&json!("New"), &json!(false)));
    server.post("/v1/items/batch", json!([{"op": "patch", "id": "new", "price": 3}])).ok();
    let problem = server.change("PATCH", "/v1/items/new", &json!({"vector": vector})).problem(400, "invalid_request");
    assert!(problem.detail.contains("8 dimensions"), "{problem:?}");
}

#[test]
fn nobody_is_told_that_an_item_is_not_there_before_it_can_be_known() {
    let server = Server::empty();
    server.change("PATCH", "/v1/items/item-4", &json!({"price": 3})).problem(503, "not_ready");
    server.change("DELETE", "/v1/items/item-4", &Value::Null).problem(503, "not_ready");
    server.post("/v1/items/batch", json!([{"op": "patch", "id": "item-4"}])).problem(503, "not_ready");
    // What came in since is known all the same.
    server.change("PUT", "/v1/items/new", &json!({"title": "New"})).ok();
    assert_eq!(server.change("PATCH", "/v1/items/new", &json!({"price": 3})).ok()["title"], "New");
    server.change("DELETE", "/v1/items/new", &Value::Null).ok();
    server.change("DELETE", "/v1/items/new", &Value::Null).problem(404, "item_not_found");
    publish(&server, &Fixture::shop(), "first");
    server.change("PATCH", "/v1/items/item-4", &json!({"price": 3})).ok();
}

#[test]
fn the_catalogue_is_listed_page_by_page_and_line_by_line() {
    let server = Server::with_shop();
    server.change("PUT", "/v1/items/item-10a", &json!({"title": "between"})).ok();
    server.change("DELETE", "/v1/items/item-11", &Value::Null).ok();
    server.change("PATCH", "/v1/items/item-12", &json!({"price": 99})).ok();
    let (mut listed, mut path) = (Vec::new(), "/v1/items?limit=7".to_owned());
    loop {
        let page = server.get(&path).ok();
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/items?limit=7&cursor={cursor}");
    }
    let keys: Vec<&str> = listed.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 60);
    assert!(keys.is_sorted() && keys.contains(&"item-10a") && !keys.contains(&"item-11"), "{keys:?}");
    assert!(listed.iter().any(|item| item["id"] == "item-12" && item["price"] == 99.0));
    let lines = |method: &str, path: &str| server.send(method, path, &[("accept", "application/x-ndjson")], b"");
    let whole = lines("GET", "/v1/items");
    assert_eq!(whole.header("content-type"), "application/x-ndjson");
    let items: Vec<Value> = whole.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items, listed);
    assert_eq!(lines("GET", "/v1/items?limit=0").text(), whole.text(), "all of it, whatever the limit");
    let head = lines("HEAD", "/v1/items");
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, "application/x-ndjson", 0));
    for limit in [0, 1_001] {
        let problem = server.get(&format!("/v1/items?limit={limit}")).problem(400, "limit_exceeded");
        assert!(problem.detail.contains("expected 1 to 1000"), "{problem:?}");
    }
    server.get("/v1/items?cursor=zz").problem(400, "invalid_request");
    server.get("/v1/items?page=2").problem(400, "invalid_request");
    Server::empty().get("/v1/items").problem(503, "not_ready");
}

#[test]
fn changes_outlive_artifacts_until_one_contains_them() {
    let server = Server::with_shop();
    server.change("PATCH", "/v1/items/item-4", &json!({"price": 77})).ok();
    let new = server.change("PUT", "/v1/items/new", &json!({"title": "New", "categories": ["toys"]})).ok();
    publish(&server, &Fixture::shop(), "second");
    assert_eq!(server.get("/v1/items/item-4").ok()["price"], 77.0);
    assert_eq!(server.get("/v1/items/new").ok(), new);
    // The next build was given the export, and says something later about one of them.
    let mut fixture = Fixture::random(42, 61, 16, Metric::Cosine);
    fixture.items[60] = serde_json::from_value(new).unwrap();
    fixture.items[4].price = Some(78.0);
    fixture.items[4].updated_at = Some(Timestamp(4_000_000_000_000));
    fixture.items[5].updated_at = Some(Timestamp(4_000_000_000_000));
    publish(&server, &fixture, "third");
    assert_eq!(server.get("/v1/items/item-4").ok()["price"], 78.0);
    // A change is later than the one before, whatever the clock says.
    server.change("PATCH", "/v1/items/item-4", &json!({"price": 79})).ok();
    publish(&server, &fixture, "fourth");
    assert_eq!(server.get("/v1/items/item-4").ok()["price"], 79.0);
    server.change("DELETE", "/v1/items/item-4", &Value::Null).ok();
    publish(&server, &fixture, "fifth");
    server.get("/v1/items/item-4").problem(404, "item_not_found");
    server.change("PUT", "/v1/items/item-4", &json!({"price": 80})).ok();
    // One that goes and comes back at once is later than what the artifact has, too.
    let again = json!([{"op": "delete", "id": "item-5"}, {"op": "put", "id": "item-5", "price": 81}]);
    server.post("/v1/items/batch", again).ok();
    publish(&server, &fixture, "sixth");
    assert_eq!(server.get("/v1/items/item-5").ok()["price"], 81.0);
    assert_eq!(server.get("/v1/items?limit=1000").ok()["items"].as_array().unwrap().len(), 61);
}

#[test]
fn a_start_goes_on_without_what_does_not_decode_and_lets_go_of_nothing_by_a_clock_that_it_does_not_know_yet() {
    let documents = Arc::new(MemoryDocuments::default());
    let gone = LiveEntry::deleted("gone", 1_000_000_000_000).to_record().unwrap();
    let writes = vec![Write::put(Table::Items, "gone", gone), Write::put(Table::Items, "item-4", b"{".to_vec())];
    documents.write_now(writes).unwrap();
    documents.write_now(vec![Write::put(Table::People, "u:somebody", b"{".to_vec())]).unwrap();
    let history = Arc::new(MemoryHistory::new(1, 100, Duration::from_secs(60)));
    let server = Server::with_stores(Stores { history, documents: documents.clone() }, |_| ());
    assert!(!server.get("/v1/recommendations").headers.is_empty(), "it serves");
    assert_eq!(server.metric("kindred_store_damaged_records"), 2.0, "an item and a profile");
    assert!(documents.blocking_get(Table::Items, "gone").unwrap().is_some());
    assert_eq!(server.get("/v1/items/item-4").status, 200, "as the artifact says");
    server.change("PATCH", "/v1/items/item-4", &json!({"price": 5})).ok();
    assert!(documents.blocking_get(Table::Items, "item-4").unwrap().unwrap().len() > 1, "mended by sending it again");
}

#[test]
fn changes_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let server = Process::start(directory.path(), &[]);
    let client = server.client();
    client.change("PUT", "/v1/items/new", &json!({"title": "New", "price": 0.1, "categories": ["toys"]})).ok();
    client.change("PATCH", "/v1/items/item-16", &json!({"available": false})).ok();
    client.change("PATCH", "/v1/items/item-8", &json!({"price": 0.2})).ok();
    client.change("DELETE", "/v1/items/item-20", &Value::Null).ok();
    server.kill();
    let server = Process::start(directory.path(), &[]);
    let client = server.client();
    let cheap = json!({"filter": {"key": "price", "range": {"lt": 0.5}}, "interactions": [{"item_id": "item-4"}]});
    let list = client.post("/v1/recommendations", cheap).ok();
    let mut found = ids(&list);
    found.sort_unstable();
    assert_eq!(found, ["item-8", "new"], "the first answer obeys");
    for (name, list) in client.lists() {
        assert!(!ids(&list).contains(&"item-16") && !ids(&list).contains(&"item-20"), "{name}: {list}");
    }
    client.get("/v1/items/item-20").problem(404, "item_not_found");
    client.change("DELETE", "/v1/items/new", &Value::Null).ok();
    server.kill();
    Process::start(directory.path(), &[]).client().get("/v1/items/new").problem(404, "item_not_found");
}

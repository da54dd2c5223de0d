//! From lists that a server shows and what visitors do with them to `kindred evaluate --from-log`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use kindred::app::spawn;
use kindred::experiment::{Experiment, Variant};
use kindred::scenario::Scenario;
use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::{Value, json};

use support::{json as report, kindred};

#[test]
fn what_is_shown_and_clicked_is_what_the_log_says() {
    let place = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&place.path().join("artifacts"), "g1");
    let mut settings = Settings::default();
    settings.http.port = 0;
    settings.http.workers = 1;
    settings.overload.enabled = false;
    settings.artifacts.dir = place.path().join("artifacts");
    settings.history.path = place.path().join("store/kindred");
    settings.recommendation_log.sample = 1.0;
    let explore = serde_json::from_value(json!({
        "method": "epsilon_greedy", "epsilon": 0.5, "filter": {"key": "category", "match": {"value": "books"}}
    }));
    let exploring = Scenario { explore: Some(explore.unwrap()), ..settings.scenarios["home"].clone() };
    settings.scenarios.insert("exploring".to_owned(), exploring);
    let half = |scenario: Option<&str>| Variant { share: 50, scenario: scenario.map(str::to_owned) };
    let variants = BTreeMap::from([("control".to_owned(), half(None)), ("new".to_owned(), half(Some("exploring")))]);
    let experiment = Experiment { scenario: "home".to_owned(), enabled: true, variants };
    settings.experiments.insert("chance".to_owned(), experiment);
    settings.scenarios.values_mut().for_each(|scenario| scenario.deadline_ms = 60_000);
    let server = spawn(settings).unwrap();
    let url = format!("http://127.0.0.1:{}", server.port());
    let post = |path: &str, body: Value| -> Value {
        ureq::post(format!("{url}{path}")).send_json(body).unwrap().body_mut().read_json().unwrap()
    };

    // Everybody clicks on the first item of every list, every third buys the second.
    let (mut of_variant, mut explored) = (BTreeMap::<String, u64>::new(), 0);
    for visitor in 0..30 {
        let user = format!("user-{visitor}");
        post("/v1/interactions", json!({"user_id": user, "item_id": "item-4", "kind": "view"}));
        let list = post("/v1/recommendations", json!({"user_id": user, "limit": 10}));
        *of_variant.entry(list["variant"].as_str().unwrap().to_owned()).or_default() += 1;
        explored += list["items"].as_array().unwrap().iter().filter(|item| item["placement"] == "explored").count();
        let act = |place: usize, kind: &str| {
            let (item, id) = (&list["items"][place]["item_id"], &list["recommendation_id"]);
            post("/v1/interactions", json!({"user_id": user, "item_id": item, "kind": kind, "recommendation_id": id}));
        };
        act(0, "view");
        if visitor % 3 == 0 {
            act(1, "purchase");
        }
    }
    // What was done elsewhere is in no list.
    post("/v1/interactions", json!({"user_id": "user-1", "item_id": "item-5", "kind": "view"}));
    server.stop().unwrap();

    // The directory of the store, and a copy of it.
    let store = place.path().join("store");
    let copy = place.path().join("copy");
    kindred().arg("backup").arg("--store").arg(store.join("kindred")).arg("--to").arg(&copy).assert().success();
    let evaluate = |path: &std::path::Path| report(kindred().args(["evaluate", "--json", "--from-log"]).arg(path));
    let found = evaluate(&store);
    assert_eq!(found["groups"], evaluate(&copy)["groups"]);
    assert_eq!(found["lists"], 30);
    let groups = found["groups"].as_array().unwrap();
    let all = &groups[0];
    assert_eq!((&all["scenario"], &all["lists"], &all["items"]), (&json!("home"), &json!(30), &json!(300)));
    assert_eq!(all["click_through"], json!({"value": 1.0, "interval": [1.0, 1.0]}));
    assert!((all["item_click_through"]["value"].as_f64().unwrap() - 40.0 / 300.0).abs() < 1e-12, "{all}");
    assert!((all["conversion"]["purchase"]["value"].as_f64().unwrap() - 10.0 / 30.0).abs() < 1e-12, "{all}");
    assert_eq!(all["without_exploration"]["explored"], explored);
    assert!(explored > 0);
    for group in &groups[1..] {
        assert_eq!(group["lists"], of_variant[group["variant"].as_str().unwrap()], "{group}");
        let off = &group["without_exploration"];
        // Where nothing is left to chance the estimates are the rate itself.
        if group["variant"] == "control" {
            for estimate in ["ips", "snips"] {
                assert_eq!(off[estimate], group["item_click_through"]);
            }
        } else {
            assert!(off["effective_items"].as_f64().unwrap() < group["items"].as_f64().unwrap(), "{group}");
        }
    }
    let text = kindred().args(["evaluate", "--from-log"]).arg(&store).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("chance: new") && text.contains("SNIPS") && text.contains("purchase"), "{text}");
    let none = kindred().args(["evaluate", "--from-log"]).arg(place.path().join("artifacts")).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}

//! Every scenario that comes built in, what each refuses, and the rules of scenarios, from outside.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, category, ids};

fn ask(server: &Server, body: Value) -> Value {
    server.post("/v1/recommendations", body).ok()
}

/// Every list's parts add up to its scores.
#[track_caller]
fn adds_up(answer: &Value) {
    for item in answer["items"].as_array().unwrap() {
        let reasons = &item["reasons"];
        let shares = |list: &str| {
            let parts = reasons[list].as_array().unwrap().iter();
            parts.map(|part| part["share"].as_f64().unwrap()).sum::<f64>()
        };
        let alone = ["popularity", "trending", "followed", "exploration", "diversity"]
            .map(|part| reasons[part].as_f64().unwrap());
        let sum = shares("because") + shares("context") + shares("boosts") + alone.iter().sum::<f64>();
        assert!((sum - item["score"].as_f64().unwrap()).abs() < 1e-6, "{sum}: {item}");
    }
}

fn with_home(change: impl FnOnce(&mut kindred::Scenario)) -> Server {
    Server::with(&Fixture::shop(), |settings| change_home(settings, change))
}

/// One that is replaced as a whole has the usual time for an answer, which a busy machine may need longer than.
fn change_home(settings: &mut Settings, change: impl FnOnce(&mut kindred::Scenario)) {
    let home = settings.scenarios.get_mut("home").unwrap();
    change(home);
    home.deadline_ms = 60_000;
}

#[test]
fn lists_for_items_hold_what_goes_with_them() {
    let server = Server::with_shop();
    for scenario in ["similar", "also_bought", "cart"] {
        let seen = json!([{"item_id": "item-1", "kind": "cart"}, {"item_id": "item-2", "kind": "cart"}]);
        let body = json!({"scenario": scenario, "item_ids": ["no such", "item-4", "item-8"], "interactions": seen,
            "explain": true, "limit": 5});
        let answer = ask(&server, body);
        assert_eq!(answer["fallback"], Value::Null, "{answer}");
        let found = ids(&answer);
        assert_eq!(found.len(), 5);
        assert!(
            found.iter().all(|id| category(id) == "toys" && *id != "item-4" && *id != "item-8"),
            "{scenario}: {found:?}"
        );
        adds_up(&answer);
        for because in answer["items"].as_array().unwrap().iter().map(|item| &item["reasons"]["because"]) {
            let is_seed =
                |one: &Value| one["kind"].is_null() && (one["item_id"] == "item-4" || one["item_id"] == "item-8");
            assert!(because.as_array().unwrap().iter().all(is_seed), "items that were named, nothing done: {because}");
        }
        let unknown = ask(&server, json!({"scenario": scenario, "item_ids": ["no such"]}));
        assert_eq!(unknown["fallback"], "unknown_items");
        let problem = server.post("/v1/recommendations", json!({"scenario": scenario})).problem(400, "invalid_request");
        assert!(problem.detail.contains("item_ids has 0 items"), "{problem:?}");
        let many: Vec<String> = (0..101).map(|n| format!("item-{n}")).collect();
        server
            .post("/v1/recommendations", json!({"scenario": scenario, "item_ids": many}))
            .problem(400, "invalid_request");
    }
    let problem = server.post("/v1/recommendations", json!({"item_ids": ["item-4"]})).problem(400, "invalid_request");
    assert!(problem.detail.contains("of no use"), "{problem:?}");
    server.get("/v1/items/item-4/similar?scenario=home").problem(400, "invalid_request");
}

#[test]
fn a_given_list_is_ranked_and_nothing_added() {
    let server = Server::with_shop();
    let given = ["item-1", "item-12", "item-2", "item-9", "no such", "item-16"];
    let body =
        json!({"scenario": "rerank", "item_ids": given, "interactions": [{"item_id": "item-4"}], "explain": true});
    let answer = ask(&server, body);
    let found = ids(&answer);
    assert_eq!(found.len(), 5, "what is not available is ranked too: {found:?}");
    assert!(found[..2].iter().all(|id| category(id) == "toys"), "{found:?}");
    assert!(found.iter().all(|id| given.contains(id)));
    adds_up(&answer);
    let newcomer = ask(&server, json!({"scenario": "rerank", "item_ids": given, "limit": 2}));
    assert_eq!((newcomer["fallback"].as_str(), ids(&newcomer).len()), (Some("newcomer"), 2));
    // More than an answer can hold is not cut unasked.
    let many: Vec<String> = (0..1_001).map(|n| format!("item-{n}")).collect();
    let all = server.post("/v1/recommendations", json!({"scenario": "rerank", "item_ids": many}));
    let problem = all.problem(400, "invalid_request");
    assert!(problem.detail.contains("1001 items") && problem.detail.contains("at most 1000"), "{problem:?}");
    let best = ask(&server, json!({"scenario": "rerank", "item_ids": many, "limit": 2}));
    assert_eq!(ids(&best).len(), 2);
}

#[test]
fn scrolling_on_shows_everything_once() {
    let server = Server::with_shop();
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = Value::Null;
    for page in 0.. {
        let body =
            json!({"scenario": "next_page", "interactions": [{"item_id": "item-4"}], "limit": 10, "cursor": cursor});
        let answer = ask(&server, body);
        seen.extend(ids(&answer).into_iter().map(str::to_owned));
        cursor = answer["next_cursor"].clone();
        assert!(answer.as_object().unwrap().contains_key("next_cursor"));
        if cursor.is_null() {
            assert_eq!(page, 5);
            break;
        }
    }
    let distinct: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (53, 53), "60 less 6 that are not available, less the one that was seen");
    for cursor in ["", "00", "zz", "01ff", &"01".repeat(40)] {
        let body = json!({"scenario": "next_page", "cursor": cursor});
        server.post("/v1/recommendations", body).problem(400, "invalid_request");
    }
    let problem = server.post("/v1/recommendations", json!({"cursor": "01"})).problem(400, "invalid_request");
    assert!(problem.remedy.contains("next_page"), "{problem:?}");
    assert!(ask(&server, json!({})).get("next_cursor").is_none());
}

#[test]
fn scrolling_ends_before_the_same_request_with_its_cursor_would_be_refused() {
    let server = Server::with_shop();
    // At most 10,000 items are left out, what was shown among them.
    let exclude: Vec<String> = (0..9_985).map(|i| format!("x{i}")).collect();
    let page = |cursor: &Value| {
        let body = json!({"scenario": "next_page", "exclude": exclude, "limit": 10, "cursor": cursor});
        ask(&server, body)
    };
    let first = page(&Value::Null);
    assert!(first["next_cursor"].is_string(), "9,995 may be left out");
    let second = page(&first["next_cursor"]);
    assert_eq!((ids(&second).len(), &second["next_cursor"]), (10, &Value::Null), "10,005 may not");
}

#[test]
fn scrolling_goes_on_past_pages_that_caps_make_short() {
    let server = Server::with(&Fixture::shop(), |settings| {
        let caps = json!([{"key": "category", "at_most": 1}]);
        settings.scenarios.get_mut("next_page").unwrap().caps = serde_json::from_value(caps).unwrap();
    });
    for (interactions, all) in [(json!([]), 54), (json!([{"item_id": "item-4"}]), 53)] {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut cursor = Value::Null;
        loop {
            let body = json!({"scenario": "next_page", "interactions": interactions, "limit": 10, "cursor": cursor});
            let answer = ask(&server, body);
            let page = ids(&answer);
            assert!(!page.is_empty() && page.iter().all(|id| seen.insert((*id).to_owned())), "{page:?}");
            cursor = answer["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(seen.len(), all);
    }
}

#[test]
fn own_interactions_come_back_as_a_list() {
    let server = Server::with_shop();
    let day = 86_400_000_i64;
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let event =
        |item: &str, kind: &str, days: i64| json!({"item_id": item, "kind": kind, "occurred_at": now - days * day});
    let history = json!([
        event("item-3", "purchase", 30),
        event("item-3", "purchase", 60),
        event("item-7", "purchase", 20),
        event("item-11", "purchase", 2),
        event("item-5", "view", 1),
        event("item-9", "view", 3)
    ]);
    let viewed = ask(&server, json!({"scenario": "recently_viewed", "interactions": history, "explain": true}));
    assert_eq!(ids(&viewed), ["item-5", "item-9"], "the last first, and what is not available too");
    assert_eq!(viewed["items"][0]["source"], "history");
    assert_eq!(viewed["items"][0]["reasons"]["because"][0]["kind"], "view");
    adds_up(&viewed);
    let again = ask(&server, json!({"scenario": "buy_again", "interactions": history, "explain": true}));
    assert_eq!(ids(&again), ["item-3", "item-7"], "twice before once, and not what was bought two days ago");
    adds_up(&again);
    for scenario in ["recently_viewed", "buy_again"] {
        let nobody = ask(&server, json!({"scenario": scenario}));
        assert_eq!((nobody["fallback"].as_str(), ids(&nobody).len()), (Some("newcomer"), 0));
    }
}

#[test]
fn what_is_not_wanted_is_never_shown_again() {
    let server = with_home(|home| home.exclude_seen = false);
    let all = |server: &Server| ask(server, json!({"user_id": "u", "limit": 1000}));
    server.view("u", "item-4");
    assert!(ids(&all(&server)).contains(&"item-8"));
    let event = json!({"user_id": "u", "item_id": "item-8", "kind": "not_interested"});
    server.post("/v1/interactions", event).ok();
    assert!(!ids(&all(&server)).contains(&"item-8"));
    assert!(ids(&all(&server)).contains(&"item-4"));
}

/// Asks until the counts have been added up.
#[track_caller]
fn until(server: &Server, body: &Value, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let answer = ask(server, body.clone());
        if holds(&answer) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_taken_just_now_leads_the_trending_list_and_survives_a_restart() {
    let fast = |settings: &mut Settings| {
        settings.trending.refresh_ms = 20;
        settings.trending.minimum_count = 2;
    };
    let server = Server::with(&Fixture::shop(), fast);
    let send = |item: &str, country: &str, times: usize| {
        for n in 0..times {
            let event = json!({"session_id": format!("s{n}"), "item_id": item, "kind": "view", "context": {"country": country}});
            assert_eq!(server.post("/v1/interactions", event).ok()["accepted"], 1);
        }
    };
    send("item-3", "de", 9);
    send("item-7", "fr", 4);
    (0..5).for_each(|_| send("item-2", "de", 1));
    let body = json!({"scenario": "trending", "limit": 3, "explain": true});
    let two = |answer: &Value| ids(answer)[..2] == ["item-3", "item-7"];
    let answer = until(&server, &body, two);
    assert_eq!(
        (answer["items"][0]["source"].as_str(), answer["items"][2]["source"].as_str()),
        (Some("trending"), Some("popular"))
    );
    assert_ne!(ids(&answer)[2], "item-2", "one visitor is fewer than the minimum, however often");
    adds_up(&answer);
    // Who says where they are gets what is taken there.
    let french = json!({"scenario": "trending", "limit": 3, "context": {"country": "fr"}, "explain": true});
    let french = until(&server, &french, |answer| ids(answer)[0] == "item-7");
    assert_eq!(french["items"][0]["reasons"]["context"][0]["name"], "country");
    adds_up(&french);
    // Scored one by one, items have the scores of the list.
    let scored = json!({"scenario": "trending", "context": {"country": "fr"}, "item_ids": ids(&french)});
    let scored = server.post("/v1/score", scored).ok();
    for (one, item) in scored["scores"].as_array().unwrap().iter().zip(french["items"].as_array().unwrap()) {
        let (score, listed) = (one["score"].as_f64().unwrap(), item["score"].as_f64().unwrap());
        assert!(item["source"] != "trending" || (listed > 0.0 && (score - listed).abs() < 1e-3), "{one} {item}");
    }
    let kitchen = json!({"scenario": "trending", "filter": {"key": "category", "match": {"value": "garden"}}});
    assert!(ids(&ask(&server, kitchen)).iter().all(|id| category(id) == "garden"));

    let server = server.restarted(fast);
    until(&server, &body, two);
}

#[test]
fn who_has_refused_since_is_not_counted_again_at_a_start() {
    let fast = |settings: &mut Settings| {
        settings.trending.refresh_ms = 20;
        settings.trending.minimum_count = 2;
    };
    let server = Server::with(&Fixture::shop(), fast);
    for (user, item) in [("u", "item-3"), ("v", "item-3"), ("v", "item-7"), ("w", "item-7")] {
        server.view(user, item);
    }
    let body = json!({"scenario": "trending", "limit": 3, "explain": true});
    let trending = |answer: &Value| {
        let items = answer["items"].as_array().unwrap().iter().filter(|item| item["source"] == "trending");
        items.map(|item| item["item_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until(&server, &body, |answer| trending(answer).len() == 2);
    let refusal = json!({"consent": "none"}).to_string();
    server.send("PUT", "/v1/users/u", &[("content-type", "application/json")], refusal.as_bytes()).ok();
    let server = server.restarted(fast);
    let answer = until(&server, &body, |answer| !trending(answer).is_empty());
    assert_eq!(trending(&answer), ["item-7"], "of item-3 one visitor is left, who is fewer than the minimum");
}

#[test]
fn popular_items_are_in_the_order_of_the_model() {
    let server = Server::with_shop();
    let answer = ask(&server, json!({"scenario": "popular", "explain": true}));
    assert_eq!((answer["fallback"].clone(), ids(&answer)), (Value::Null, ids(&ask(&server, json!({})))));
    adds_up(&answer);
}

#[test]
fn rules_shape_the_list_and_are_named() {
    let rules = json!({
        "filter": {"key": "price", "range": {"lt": 50}},
        "diversity": 0.2,
        "caps": [{"key": "category", "at_most": 4}],
        "pins": [{"item_id": "item-13", "position": 2}, {"item_id": "item-59", "position": 1}],
        "bury": {"key": "category", "match": {"value": "kitchen"}},
        "promote": {"filter": {"key": "category", "match": {"value": "garden"}}, "share": 0.25},
        "boosts": [
            {"name": "cheap", "weight": 0.5, "decay": {"function": "gauss", "key": "price", "target": 0, "scale": 20}},
            {"name": "evening", "weight": 0.3, "when": {"device": ["mobile"]}, "filter": {"key": "category", "match": {"value": "books"}}}
        ]
    });
    let server = with_home(|home| *home = serde_json::from_value(rules).unwrap());
    let body = |device: &str| json!({"interactions": [{"item_id": "item-4"}], "limit": 12, "explain": true, "context": {"device": device}});
    let answer = ask(&server, body("mobile"));
    let found = ids(&answer);
    assert_eq!(found.len(), 12, "{found:?}");
    assert_eq!((found[1], answer["items"][1]["placement"].as_str()), ("item-13", Some("pinned")));
    assert!(!found.contains(&"item-59"), "pins are filtered like anything else");
    for kind in 0..4 {
        let of_kind = found.iter().filter(|id| category(id) == Fixture::category(kind)).count();
        assert!(of_kind <= 4, "{found:?}");
    }
    for place in [3, 7, 11] {
        assert_eq!(
            (category(found[place]), answer["items"][place]["placement"].as_str()),
            ("garden".to_owned(), Some("promoted"))
        );
    }
    let kitchen = found.iter().position(|id| category(id) == "kitchen").unwrap_or(found.len());
    assert!(
        found[kitchen..].iter().enumerate().all(|(at, id)| category(id) == "kitchen" || (kitchen + at) % 4 == 3),
        "{found:?}"
    );
    adds_up(&answer);
    let names = |answer: &Value| answer["items"].to_string().matches("evening").count();
    assert!(names(&answer) > 0 && names(&ask(&server, body("desktop"))) == 0);
    let diversity: f64 =
        answer["items"].as_array().unwrap().iter().map(|item| item["reasons"]["diversity"].as_f64().unwrap()).sum();
    assert!(diversity < 0.0);
}

#[test]
fn boosts_by_distance_need_the_visitors_place() {
    let mut fixture = Fixture::shop();
    for (i, item) in fixture.items.iter_mut().enumerate() {
        item.attributes.insert("shop.lat".to_owned(), json!(48.0 + i as f64 * 0.01));
        item.attributes.insert("shop.lon".to_owned(), json!(11.0));
    }
    let boost = json!({"boosts": [{"name": "near", "weight": 5.0,
        "decay": {"function": "exp", "key": "shop", "target": "visitor", "scale": 1000}}]});
    let server = Server::with(&fixture, |settings| {
        change_home(settings, |home| *home = serde_json::from_value(boost).unwrap());
    });
    let body = |location: Value| json!({"interactions": [{"item_id": "item-4"}], "location": location, "explain": true, "limit": 50});
    let share = |answer: &Value, id: &str| {
        let item = answer["items"].as_array().unwrap().iter().find(|item| item["item_id"] == id).unwrap().clone();
        item["reasons"]["boosts"][0]["share"].as_f64()
    };
    let here = ask(&server, body(json!({"lat": 48.2, "lon": 11.0})));
    adds_up(&here);
    assert!((share(&here, "item-20").unwrap() - 5.0).abs() < 1e-9, "{here}");
    // 0.01 degrees of latitude are 1,112 metres.
    assert!((share(&here, "item-21").unwrap() - 5.0 * 0.5_f64.powf(1.112)).abs() < 0.01);
    assert_eq!(share(&ask(&server, body(Value::Null)), "item-20"), None);
    server.post("/v1/recommendations", body(json!({"lat": 95, "lon": 0}))).problem(400, "invalid_request");
    server.post("/v1/recommendations", body(json!({"lat": 95}))).problem(400, "invalid_json");
    // As GeoJSON writes it the longitude comes first, so it would be read as another place.
    let pair = json!([11.0, 48.2]);
    let score = json!({"item_ids": ["item-20"], "location": pair});
    for (path, body) in [("/v1/recommendations", body(pair)), ("/v1/score", score)] {
        let problem = server.post(path, body).problem(400, "invalid_json");
        assert!(problem.detail.contains("expected an object"), "{path}: {problem:?}");
    }
}

#[test]
fn exploring_is_repeatable_and_tells_how_likely_it_was() {
    let rules = json!({"explore": {"method": "epsilon_greedy", "epsilon": 0.5, "filter": {"key": "category", "match": {"value": "garden"}}}});
    let server = with_home(|home| *home = serde_json::from_value(rules).unwrap());
    let body =
        |seed: Value| json!({"user_id": "u", "interactions": [{"item_id": "item-4"}], "seed": seed, "explain": true});
    let one = ask(&server, body(json!(7)));
    assert_eq!((one["seed"].as_u64(), ask(&server, body(json!(7)))["items"].clone()), (Some(7), one["items"].clone()));
    let explored = one["items"].as_array().unwrap().iter().filter(|item| item["placement"] == "explored").count();
    assert!((3..17).contains(&explored), "{one}");
    assert!(
        one["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["propensity"].as_f64().is_some_and(|p| p > 0.0 && p <= 1.0))
    );
    adds_up(&one);
    let drawn = ask(&server, body(Value::Null))["seed"].as_u64().unwrap();
    assert!(drawn < 1 << 53);
    let plain = Server::with_shop();
    let lossy = plain.post("/v1/recommendations", json!({"seed": 1_u64 << 53})).problem(400, "invalid_json");
    assert!(lossy.detail.contains("9007199254740991"), "{}", lossy.detail);
    let answer = ask(&plain, json!({"seed": 7}));
    assert!(answer.get("seed").is_none() && answer["items"][0].get("propensity").is_none());
}

#[test]
fn the_same_request_has_the_same_luck_until_something_is_done() {
    let explore = json!({"method": "epsilon_greedy", "filter": {"key": "category", "match": {"value": "garden"}}});
    let server = with_home(|home| home.explore = serde_json::from_value(explore).unwrap());
    let drawn = |interaction: Value| {
        let body = json!({"session_id": "s", "interactions": [interaction]});
        ask(&server, body)["seed"].as_u64().unwrap()
    };
    let at = |second: u32| json!({"item_id": "item-4", "occurred_at": format!("2024-02-29T12:00:0{second}Z")});
    let cart = json!({"item_id": "item-4", "kind": "cart"});
    let several = [json!({"item_id": "item-4"}), cart, json!({"item_id": "item-8"}), at(1), at(2)];
    let seeds = || several.clone().map(&drawn);
    let before = seeds();
    assert_eq!(BTreeSet::from(before).len(), before.len(), "{before:?}");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(seeds(), before, "time alone is nothing done");
    let event = json!({"session_id": "s", "item_id": "item-12", "kind": "view"});
    assert_eq!(server.post("/v1/interactions", event).ok()["accepted"], 1);
    assert!(seeds().iter().all(|seed| !before.contains(seed)));
}

#[test]
fn each_page_and_each_stranger_has_luck_of_their_own() {
    let explore = json!({"method": "epsilon_greedy", "epsilon": 0.5, "filter": {"key": "category", "match": {"value": "garden"}}});
    let server = Server::with(&Fixture::shop(), |settings| {
        for name in ["home", "similar", "next_page"] {
            let scenario = settings.scenarios.get_mut(name).unwrap();
            scenario.explore = serde_json::from_value(explore.clone()).unwrap();
        }
    });
    let stranger = || ask(&server, json!({}))["seed"].as_u64().unwrap();
    assert_ne!(stranger(), stranger());
    let similar = |_| ids(&server.get("/v1/items/item-4/similar").ok()).join(" ");
    let lists: BTreeSet<String> = (0..10).map(similar).collect();
    assert!(lists.len() > 1, "{lists:?}");
    let page = |cursor: &Value| {
        let body = json!({"scenario": "next_page", "interactions": [{"item_id": "item-4"}], "seed": 8, "limit": 10, "cursor": cursor});
        ask(&server, body)
    };
    let first = page(&Value::Null);
    let second = page(&first["next_cursor"]);
    assert_eq!((second["seed"].as_u64(), &page(&first["next_cursor"])["items"]), (Some(8), &second["items"]));
    let explored = |answer: &Value| -> Vec<bool> {
        answer["items"].as_array().unwrap().iter().map(|item| item["placement"] == "explored").collect()
    };
    assert_ne!(explored(&first), explored(&second), "the second page draws anew");
}

#[test]
fn circumstances_have_bounds() {
    let server = Server::with_shop();
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (n.to_string(), json!("x"))).collect();
    server.post("/v1/recommendations", json!({"context": many})).problem(400, "limit_exceeded");
    server.post("/v1/recommendations", json!({"context": {"a": "x".repeat(300)}})).problem(400, "limit_exceeded");
    server.post("/v1/recommendations", json!({"context": {"a": 1}})).problem(400, "invalid_json");
    for minutes in [1081, -1081, i32::MIN] {
        server.post("/v1/recommendations", json!({"utc_offset_minutes": minutes})).problem(400, "invalid_request");
    }
}

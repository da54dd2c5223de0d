//! `POST /v1/search`: the index itself, by vector and by example.

use kindred::testing::Fixture;
use kindred_index::Metric;
use serde_json::{Value, json};

use crate::support::{Server, category, ids};

fn ask(server: &Server, body: Value) -> Value {
    server.post("/v1/search", body).ok()
}

fn row(fixture: &Fixture, item: usize) -> &[f32] {
    &fixture.rows[item * fixture.dimensions..(item + 1) * fixture.dimensions]
}

#[test]
fn a_vector_finds_its_own_item_first() {
    let fixture = Fixture::shop();
    let server = Server::with(&fixture, |_| ());
    let answer = ask(&server, json!({"vector": row(&fixture, 13), "k": 5}));
    let found = ids(&answer);
    assert_eq!((found.len(), found[0]), (5, "item-13"));
    assert!((answer["hits"][0]["similarity"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    let similarities: Vec<f64> =
        answer["hits"].as_array().unwrap().iter().map(|hit| hit["similarity"].as_f64().unwrap()).collect();
    assert!(similarities.is_sorted_by(|a, b| a >= b), "{similarities:?}");
    assert_eq!((answer["metric"].as_str(), answer["generation"].as_str()), (Some("cosine"), Some("g1")));
    assert!(answer["distances"].as_u64().unwrap() > 0);
}

#[test]
fn the_graph_and_every_item_agree() {
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        let fixture = Fixture::random(5, 200, 16, metric);
        let server = Server::with(&fixture, |_| ());
        for item in [0, 7, 100] {
            let exact = ask(&server, json!({"vector": row(&fixture, item), "exact": true}));
            assert_eq!(exact["plan"], "exact");
            assert_eq!(exact["distances"], 200);
            let graph = ask(&server, json!({"vector": row(&fixture, item), "ef_search": 200}));
            assert_eq!(ids(&exact), ids(&graph));
        }
    }
}

#[test]
fn a_share_of_the_true_nearest_is_a_breadth_that_was_measured_or_every_item() {
    let mut fixture = Fixture::random(5, 200, 16, Metric::Cosine);
    fixture.recall_by_breadth = vec![(10, 0.7), (30, 0.9)];
    fixture.recall = 0.95;
    let server = Server::with(&fixture, |_| ());
    let ask = |more: Value| {
        let mut body = json!({"vector": row(&fixture, 7)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = ask(&server, body);
        (answer["plan"].as_str().unwrap().to_owned(), answer["distances"].as_u64().unwrap())
    };
    let of_breadth = |ef_search: u32| ask(json!({"ef_search": ef_search}));
    for (target, ef_search) in [(0.5, 10), (0.7, 10), (0.71, 30), (0.95, 64)] {
        assert_eq!(ask(json!({"recall_target": target})), of_breadth(ef_search), "{target}");
    }
    assert_ne!(of_breadth(10), of_breadth(30));
    assert_eq!(ask(json!({"recall_target": 0.96})), ("exact".to_owned(), 200));
}

#[test]
fn examples_are_summed_with_their_weights_and_left_out() {
    let server = Server::with_shop();
    let toys = ask(&server, json!({"positive": ["item-4"]}));
    assert!(ids(&toys).iter().take(5).all(|id| category(id) == "toys") && !ids(&toys).contains(&"item-4"));
    let heavier = |toy: f64, book: f64| {
        let positive = json!([{"item_id": "item-4", "weight": toy}, {"item_id": "item-5", "weight": book}]);
        category(ids(&ask(&server, json!({"positive": positive})))[0])
    };
    assert_eq!(heavier(10.0, 0.1), "toys");
    assert_eq!(heavier(0.1, 10.0), "books");
    let away = ask(&server, json!({"positive": ["item-4"], "negative": [{"item_id": "item-5", "weight": 5}], "k": 60}));
    assert_eq!(category(ids(&away)[ids(&away).len() - 1]), "books", "what is far comes last");
    assert!(!ids(&away).contains(&"item-5"));
    let far = ask(&server, json!({"negative": ["item-4"], "k": 5}));
    assert!(ids(&far).iter().all(|id| category(id) != "toys"));
}

#[test]
fn the_query_of_examples_is_the_sum_that_the_documentation_says() {
    let fixture = Fixture::random(5, 60, 16, Metric::InnerProduct);
    let server = Server::with(&fixture, |_| ());
    let unit = |item: usize| {
        let norm = row(&fixture, item).iter().map(|x| x * x).sum::<f32>().sqrt();
        row(&fixture, item).iter().map(|x| x / norm).collect::<Vec<_>>()
    };
    let sum: Vec<f32> = unit(4).iter().zip(unit(5)).zip(unit(6)).map(|((a, b), c)| 2.0 * a + b - 0.5 * c).collect();
    let examples = json!({"positive": [{"item_id": "item-4", "weight": 2}, "item-5"],
        "negative": [{"item_id": "item-6", "weight": 0.5}], "exact": true, "k": 20});
    let by_example = ask(&server, examples);
    let by_vector = ask(&server, json!({"vector": sum, "exact": true, "k": 23}));
    let without: Vec<&str> =
        ids(&by_vector).into_iter().filter(|id| !["item-4", "item-5", "item-6"].contains(id)).take(20).collect();
    assert_eq!(ids(&by_example)[..without.len()], without);
}

#[test]
fn vectors_and_entries_come_along_when_asked_for() {
    let fixture = Fixture::shop();
    let server = Server::with(&fixture, |_| ());
    let answer = ask(&server, json!({"vector": row(&fixture, 13), "k": 1, "with_vector": true, "with_items": true}));
    let vector: Vec<f32> = serde_json::from_value(answer["hits"][0]["vector"].clone()).unwrap();
    assert_eq!(vector, row(&fixture, 13), "a vector comes back as it went in");
    assert_eq!(answer["hits"][0]["item"]["title"], "Item 13");
    let plain = ask(&server, json!({"positive": ["item-4"], "k": 1}));
    assert!(plain["hits"][0].get("vector").is_none() && plain["hits"][0].get("item").is_none());
}

#[test]
fn a_filter_holds_and_says_how_it_was_found() {
    let server = Server::with_shop();
    let filter = json!({"key": "category", "match": {"value": "garden"}});
    let answer = ask(&server, json!({"positive": ["item-4"], "filter": filter, "k": 60}));
    assert_eq!(ids(&answer).len(), 15);
    assert!(ids(&answer).iter().all(|id| category(id) == "garden"));
    assert!(["exact", "filtered_graph", "two_hops"].contains(&answer["plan"].as_str().unwrap()));
    let filter = json!({"key": "colour", "match": {"value": "red"}});
    server.post("/v1/search", json!({"positive": ["item-4"], "filter": filter})).problem(400, "invalid_filter");
}

#[test]
fn a_query_that_means_nothing_is_refused() {
    let server = Server::with_shop();
    for (body, code, says) in [
        (json!({}), "invalid_request", "neither a vector nor words nor examples"),
        (json!({"vector": [1.0, 2.0]}), "invalid_request", "2 numbers, the model has 16 dimensions"),
        (json!({"vector": []}), "invalid_request", "0 numbers"),
        (json!({"vector": vec![0.0; 16]}), "invalid_request", "zero"),
        (json!({"vector": vec![1e300; 16]}), "invalid_request", "finite"),
        (json!({"vector": vec![json!("NaN"); 16]}), "invalid_json", "NaN"),
        (json!({"vector": vec![json!(null); 16]}), "invalid_json", "null"),
        (json!({"vector": vec![1.0; 16], "positive": ["item-4"]}), "invalid_request", "a vector and words or examples"),
        (json!({"positive": [{"item_id": "item-4", "weight": 0}]}), "invalid_request", "weight"),
        (json!({"positive": [{"item_id": "item-4", "weight": -1}]}), "invalid_request", "weight"),
        (json!({"positive": [{"item_id": "item-4", "weight": 1e300}]}), "invalid_request", "weight"),
        (json!({"positive": ["item-4"], "negative": ["item-4"]}), "invalid_request", "zero"),
        (json!({"positive": [{"item_id": "item-4", "wait": 1}]}), "invalid_json", "item id"),
        (json!({"positive": ["item-4"], "k": 0}), "invalid_request", "k is 0"),
        (json!({"positive": ["item-4"], "k": 1001}), "invalid_request", "k is 1001"),
        (json!({"positive": ["item-4"], "ef_search": 0}), "invalid_request", "ef_search is 0"),
        (json!({"positive": ["item-4"], "recall_target": 0.0}), "invalid_request", "recall_target is 0"),
        (json!({"positive": ["item-4"], "recall_target": 1.01}), "invalid_request", "recall_target is 1.01"),
        (
            json!({"positive": ["item-4"], "recall_target": 0.9, "ef_search": 9}),
            "invalid_request",
            "send one of the two",
        ),
        (json!({"positive": ["item-4"], "ef_search": 1_000_000}), "invalid_request", "ef_search is 1000000"),
        (json!({"positive": vec!["item-4"; 101]}), "limit_exceeded", "101"),
        (json!({"positive": [""]}), "invalid_request", "empty"),
        (json!({"vectors": []}), "invalid_json", "unknown field `vectors`"),
    ] {
        let problem = server.post("/v1/search", body.clone()).problem(400, code);
        assert!(problem.detail.contains(says), "{body}: {problem:?}");
    }
    server.post("/v1/search", json!({"positive": ["no such"]})).problem(404, "item_not_found");
    server.post_bytes("/v1/search", b"{\"vector\": [NaN, NaN]}").problem(400, "invalid_json");
}

#[test]
fn a_vector_too_long_to_compare_with_is_refused_and_its_direction_is_enough_for_a_cosine() {
    let long = json!({"vector": vec![3e38; 16]});
    Server::with_shop().post("/v1/search", long).ok();
    let fixture = Fixture::random(5, 60, 16, Metric::InnerProduct);
    let along: Vec<f32> = row(&fixture, 4).iter().map(|x| x.signum() * 3e38).collect();
    let server = Server::with(&fixture, |_| ());
    let problem = server.post("/v1/search", json!({"vector": along})).problem(400, "invalid_request");
    assert!(problem.detail.contains("infinite"), "{problem:?}");
}

#[test]
fn nothing_is_searched_before_something_is_published() {
    Server::empty().post("/v1/search", json!({"positive": ["item-4"]})).problem(503, "not_ready");
}

#[test]
fn words_are_looked_for_by_what_they_stand_for() {
    let mut fixture = Fixture::shop();
    fixture.learn_words();
    let server = Server::with(&fixture, |_| ());
    assert!(server.get("/v1/model").ok()["features"].as_u64().unwrap() > 4);
    let answer = ask(&server, json!({"q": "Something for the GARDEN", "k": 8, "with_items": true}));
    for hit in answer["hits"].as_array().unwrap() {
        assert_eq!(hit["item"]["categories"][0], "garden", "{hit}");
    }
    assert_eq!(answer["unknown_words"], json!(["something", "for", "the"]));
    let known = ask(&server, json!({"q": "garden"}));
    assert!(known.get("unknown_words").is_none());
    // Item 13 is a book.
    let both = ask(&server, json!({"q": "garden", "positive": ["item-13"], "k": 40}));
    let categories: Vec<String> = ids(&both).iter().map(|id| category(id)).collect();
    assert!(["garden", "books"].iter().all(|wanted| categories.iter().any(|found| found == wanted)), "{categories:?}");
    assert!(!ids(&both).contains(&"item-13"));
    let filtered = ask(&server, json!({"q": "garden", "filter": {"key": "category", "match": {"value": "books"}}}));
    assert!(ids(&filtered).iter().all(|id| category(id) == "books"));
    let nothing = ask(&server, json!({"q": "zeppelin"}));
    assert_eq!((ids(&nothing).len(), nothing["plan"].as_str()), (0, Some("none")));
}

#[test]
fn words_that_cannot_be_looked_for_are_refused() {
    let mut fixture = Fixture::shop();
    let untaught = Server::with(&fixture, |_| ());
    untaught.post("/v1/search", json!({"q": "garden"})).problem(400, "invalid_request");
    fixture.learn_words();
    let server = Server::with(&fixture, |_| ());
    server.post("/v1/search", json!({"q": " "})).problem(400, "invalid_request");
    for letter in ["w", "\u{fc}", "\u{65e5}"] {
        assert_eq!(server.post("/v1/search", json!({"q": letter.repeat(1_000)})).status, 200, "{letter}");
        let problem = server.post("/v1/search", json!({"q": letter.repeat(1_001)})).problem(400, "limit_exceeded");
        assert!(problem.detail.contains("characters of q: 1001, at most 1000"), "{problem:?}");
    }
    server.post("/v1/search", json!({"q": "garden", "vector": [1.0]})).problem(400, "invalid_request");
    server.post("/v1/search", json!({})).problem(400, "invalid_request");
}

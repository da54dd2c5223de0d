//! What is wrong with a request before any endpoint looks at it: a problem with a stable code and the mend, and never a 5xx.

use serde_json::json;

use crate::support::{Server, raw};

const TAKE_JSON: [&str; 4] = ["/v1/interactions", "/v1/recommendations", "/v1/search", "/v1/score"];

#[test]
fn a_body_that_is_not_json_is_refused_with_its_place() {
    let server = Server::with_shop();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{{\"interactions\": {deep}}}");
    for path in TAKE_JSON {
        let empty = server.post_bytes(path, b"").problem(400, "invalid_json");
        assert!(empty.detail.contains("empty"), "{path}: {empty:?}");
        server.post_bytes(path, b" \n\t").problem(400, "invalid_json");
        let place = server.post_bytes(path, b"{\n oops}").problem(400, "invalid_json");
        assert!(place.detail.contains("line 2"), "{path}: {place:?}");
        let bodies = ["{", "nul", "{} {}", "\"\\ud800\"", "{\"a\": 1e999}", deep.as_str(), nested.as_str()];
        for body in bodies {
            server.post_bytes(path, body.as_bytes()).problem(400, "invalid_json");
        }
        server.post_bytes(path, b"{\"user_id\": \"\xff\"}").problem(400, "invalid_json");
        server.post(path, json!(null)).problem(400, "invalid_json");
        server.post(path, json!(7)).problem(400, "invalid_json");
    }
}

#[test]
fn a_filter_nested_too_deep_is_refused() {
    let server = Server::with_shop();
    let nest = |depth: usize| {
        let inner = json!({"key": "category", "match": {"value": "toys"}});
        (0..depth).fold(inner, |inner, _| json!({"must": [inner]}))
    };
    server.post("/v1/recommendations", json!({"filter": nest(8)})).ok();
    server.post("/v1/recommendations", json!({"filter": nest(9)})).problem(400, "invalid_filter");
    server.post("/v1/recommendations", json!({"filter": nest(60)})).problem(400, "invalid_filter");
    let deepest = nest(500).to_string();
    let body = format!("{{\"filter\": {deepest}}}");
    server.post_bytes("/v1/recommendations", body.as_bytes()).problem(400, "invalid_json");
    let many = vec![json!({"key": "category", "exists": true}); 257];
    server
        .post("/v1/search", json!({"positive": ["item-4"], "filter": {"should": many}}))
        .problem(400, "limit_exceeded");
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let server = Server::with_shop();
    let fits = format!("{{\"user_id\": \"u\"{}}}", " ".repeat((1 << 20) - 16));
    assert_eq!(fits.len(), 1 << 20);
    assert_eq!(server.post_bytes("/v1/recommendations", fits.as_bytes()).status, 200);
    for path in TAKE_JSON {
        let problem = server.post_bytes(path, &vec![b' '; (1 << 20) + 1]).problem(413, "body_too_large");
        assert!(problem.detail.contains("1048576"), "{problem:?}");
    }
    // Without a length, the bytes that arrive are counted.
    let mut chunked =
        b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..17 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    let answer = raw(server.port, &chunked);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{}", &answer[..answer.len().min(300)]);
}

#[test]
fn only_json_is_taken_and_a_missing_content_type_counts_as_it() {
    let server = Server::with_shop();
    for path in TAKE_JSON {
        for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"]
        {
            let problem =
                server.send("POST", path, &[("content-type", other)], b"{}").problem(415, "unsupported_media_type");
            assert!(problem.remedy.contains("application/json"), "{problem:?}");
        }
    }
    for taken in
        ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"]
    {
        assert_eq!(
            server.send("POST", "/v1/recommendations", &[("content-type", taken)], b"{}").status,
            200,
            "{taken}"
        );
    }
    assert_eq!(server.send("POST", "/v1/recommendations", &[], b"{}").status, 200);
}

#[test]
fn a_body_that_is_packed_is_refused_for_that() {
    let server = Server::with_shop();
    let sent = |path: &str, kind: &str, encoding: &str| {
        server.send("POST", path, &[("content-type", kind), ("content-encoding", encoding)], b"\x1f\x8b\x08")
    };
    for path in TAKE_JSON {
        let problem = sent(path, "application/json", "gzip").problem(415, "unsupported_media_type");
        assert!(problem.detail.contains("gzip") && problem.remedy.contains("content-encoding"), "{problem:?}");
        sent(path, "application/json", "identity").problem(400, "invalid_json");
    }
    sent("/v1/items/batch", "application/x-ndjson", "br").problem(415, "unsupported_media_type");
}

#[test]
fn a_mark_of_the_encoding_before_the_body_is_no_part_of_it() {
    let server = Server::with_shop();
    server.post_bytes("/v1/recommendations", b"\xef\xbb\xbf{\"limit\": 3}").ok();
    let lines = [("content-type", "application/x-ndjson")];
    server.send("POST", "/v1/items/batch", &lines, b"\xef\xbb\xbf{\"id\": \"a\"}\n{\"id\": \"b\"}\n").ok();
    let marks = server.post_bytes("/v1/recommendations", b"\xef\xbb\xbf").problem(400, "invalid_json");
    assert!(marks.detail.contains("empty"), "{marks:?}");
}

#[test]
fn a_wrong_method_says_which_are_taken() {
    let server = Server::with_shop();
    let get =
        ["/v1/items", "/v1/items/item-4/similar", "/v1/model", "/healthz", "/readyz", "/metrics", "/openapi.json", "/"];
    for path in get {
        let answer = server.send("DELETE", path, &[], &[]);
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{path}");
        assert_eq!(server.post_bytes(path, b"{}").status, 405, "{path}");
        let head = server.send("HEAD", path, &[], &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
    }
    let answer = server.post_bytes("/v1/items/item-4", b"{}");
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, HEAD, PUT, PATCH, DELETE");
    // The list of what was shown is read at the address that makes it.
    let only_posted = TAKE_JSON.into_iter().filter(|path| *path != "/v1/recommendations");
    for path in only_posted.chain(["/admin/reload"]) {
        let answer = server.get(path);
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST", "{path}");
    }
    let several = server.send("DELETE", "/v1/recommendations", &[], &[]);
    several.problem(405, "method_not_allowed");
    assert_eq!(several.header("allow"), "GET, HEAD, POST");
}

#[test]
fn an_unknown_address_is_not_found() {
    let server = Server::with_shop();
    let long = format!("/{}", "x".repeat(5000));
    for path in [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v1/recommendations/",
        "/v2/search",
        "/v1/items/a/b",
        "/assets/../Cargo.toml",
        &long,
    ] {
        let problem = server.get(path).problem(404, "not_found");
        assert!(problem.remedy.contains("/openapi.json") && problem.detail.len() < 200, "{problem:?}");
    }
    server.send("DELETE", "/nowhere", &[], &[]).problem(404, "not_found");
}

#[test]
fn what_is_not_http_does_not_hurt() {
    let server = Server::with_shop();
    for request in [
        "nonsense\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost a\r\n\r\n",
        "POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /v1/search HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = raw(server.port, request.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn an_array_in_a_list_is_no_object() {
    let server = Server::with_shop();
    let fields = json!([null, "u", null, "item-1", "view"]);
    for (path, body) in [
        ("/v1/recommendations", json!({"interactions": [["item-42", "view"]]})),
        ("/v1/score", json!({"item_ids": ["item-1"], "interactions": [["item-42", "view"]]})),
        ("/v1/interactions", json!({"interactions": [fields]})),
        ("/v1/interactions", json!([fields])),
        ("/v1/items/batch", json!([["item-1"]])),
    ] {
        let problem = server.post(path, body).problem(400, "invalid_json");
        assert!(problem.detail.contains("invalid type: sequence"), "{path}: {problem:?}");
    }
}

#[test]
fn a_callers_text_comes_back_short() {
    let server = Server::with_shop();
    let long = "y".repeat(100_000);
    for body in
        [json!({"scenario": long}), json!({"interactions": [{"item_id": "a", "kind": long}]}), json!({long.clone(): 1})]
    {
        let answer = server.post("/v1/recommendations", body);
        assert_eq!(answer.status, 400);
        assert!(answer.body.len() < 2000, "{}", answer.body.len());
    }
}

#[test]
fn what_is_expected_is_said_in_words() {
    let server = Server::with_shop();
    for (body, expected) in [
        (json!({"limit": -1}), "invalid value: integer `-1`, expected a whole number of at least 0 at line 1"),
        (json!({"location": {"lat": "north", "lon": 1}}), "expected a number at line 1"),
    ] {
        let problem = server.post("/v1/recommendations", body).problem(400, "invalid_json");
        assert!(problem.detail.contains(expected), "{problem:?}");
    }
}

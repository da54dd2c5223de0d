//! `/openapi.json`: committed, made from the source, complete.

use kindred::testing::Fixture;
use serde_json::Value;

use crate::support::Server;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/openapi.json");

#[test]
fn the_committed_description_is_that_of_the_source() {
    let made = kindred::http::openapi::text().unwrap();
    if std::env::var_os("KINDRED_BLESS").is_some() {
        std::fs::write(COMMITTED, &made).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    let first = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "config/openapi.json is not what the source describes, from line {} on; write it anew with\n  \
         KINDRED_BLESS=1 cargo test -p kindred --test api openapi\nand read the difference before committing it",
        first.unwrap_or_else(|| made.lines().count().min(committed.lines().count())) + 1
    );
}

/// What the source describes, which is what is committed and served.
fn description() -> Value {
    serde_json::from_str(&kindred::http::openapi::text().unwrap()).unwrap()
}

#[test]
fn it_is_served_as_it_is_committed() {
    if std::env::var_os("KINDRED_BLESS").is_some() {
        // What is served was compiled in, so it is the new one only after the next build.
        return;
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    assert_eq!(Server::empty().get("/openapi.json").text(), committed);
}

#[test]
fn every_address_is_described_and_every_described_one_answers() {
    let description = description();
    let paths = description["paths"].as_object().unwrap();
    let described: Vec<&str> = paths.keys().map(String::as_str).collect();
    let mut expected = [
        "/admin/backup",
        "/admin/reload",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/interactions",
        "/v1/items",
        "/v1/items/batch",
        "/v1/items/{id}",
        "/v1/items/{id}/similar",
        "/v1/model",
        "/v1/recommendations",
        "/v1/recommendations/{id}/replay",
        "/v1/score",
        "/v1/search",
        "/v1/sessions/{id}/data",
        "/v1/sessions/{id}/interactions",
        "/v1/users/{id}",
        "/v1/users/{id}/data",
        "/v1/users/{id}/interactions",
        "/v1/users/{id}/merge",
        "/v1/users/{id}/unmerge",
    ];
    expected.sort_unstable();
    assert_eq!(described, expected);
    let server = Server::with_shop();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", if method == "delete" { "item-5" } else { "item-4" });
            let answer = server.send(&method.to_uppercase(), &path, &[("content-type", "application/json")], b"{}");
            // A user or recommendation that is not there has a code of its own.
            let no_such_address = answer.text().contains("\"code\":\"not_found\"");
            assert!(!no_such_address && answer.status != 405, "{method} {path}: {}", answer.status);
        }
    }
}

/// An answer's example has every field that its schema requires, and no other than it knows.
#[track_caller]
fn is_of(description: &Value, answer: &Value, name: &str) {
    let example = &answer["example"];
    assert!(!example.is_null(), "{name}: the answer has no example");
    let mut schemas = vec![&answer["schema"]];
    let (mut known, mut required) = (Vec::new(), Vec::new());
    while let Some(schema) = schemas.pop() {
        if let Some(reference) = schema["$ref"].as_str() {
            schemas.push(description.pointer(reference.strip_prefix('#').unwrap()).unwrap());
        }
        schemas.extend(schema["allOf"].as_array().into_iter().flatten());
        known.extend(schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field.as_str()));
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    assert!(required.iter().all(|field| example.get(field).is_some()), "{name}: {example} lacks some of {required:?}");
    let fields = example.as_object().into_iter().flatten();
    fields.for_each(|(field, _)| assert!(known.contains(&field.as_str()), "{name}: {field} is not in the schema"));
}

/// What an operation promises must be there: words, an example or a schema for the body, problems as problems.
#[test]
fn every_operation_is_described_to_the_end() {
    let description = description();
    let mut names = std::collections::BTreeSet::new();
    let schemas = description["components"]["schemas"].as_object().unwrap();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name} has no summary");
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{name} has another's operationId");
            assert!(operation["tags"][0].is_string(), "{name} has no tag");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200"), "{name}");
            for (status, response) in responses {
                let content = response["content"].as_object().unwrap_or_else(|| panic!("{name} {status}: no content"));
                let kind = content.keys().next().unwrap();
                let is_problem = kind == "application/problem+json";
                assert_eq!(is_problem, status != "200", "{name} {status}: {kind}");
            }
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            for parameter in parameters.filter(|parameter| parameter["in"] == "path") {
                assert!(parameter["example"].is_string(), "{name}: {} has no example", parameter["name"]);
            }
            if operation["requestBody"].is_null() && path != "/openapi.json" {
                let answers = responses["200"]["content"].as_object().unwrap();
                answers.values().for_each(|answer| is_of(&description, answer, &name));
            }
            if ["post", "put", "patch"].contains(&method.as_str())
                && path.starts_with("/v1/")
                && !path.ends_with("/replay")
            {
                let body = &operation["requestBody"]["content"]["application/json"];
                assert!(body["schema"].is_object(), "{name} has no body");
                assert!(!body["example"].is_null() || body["examples"].is_object(), "{name} has no example");
                for status in ["400", "413", "415", "503"] {
                    assert!(responses.contains_key(status), "{name} may answer {status}");
                }
            }
        }
    }
    for (name, schema) in schemas {
        let described = |schema: &Value| {
            let mut named = schema["oneOf"].as_array().into_iter().flatten();
            schema["description"].is_string() || schema["$ref"].is_string() || named.any(|one| one["$ref"].is_string())
        };
        assert!(described(schema), "schema {name} has no description");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(described(schema), "{name}.{field} has no description");
        }
    }
}

#[test]
fn what_is_taken_and_sent_line_by_line_is_described() {
    let description = description();
    let (list, batch) = (&description["paths"]["/v1/items"]["get"], &description["paths"]["/v1/items/batch"]["post"]);
    for content in [&list["responses"]["200"]["content"], &batch["requestBody"]["content"]] {
        let kinds: Vec<&str> = content.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(kinds, ["application/json", "application/x-ndjson"]);
    }
}

#[test]
fn every_example_in_the_description_is_answered() {
    let description = description();
    let mut fixture = Fixture::shop();
    fixture.learn_words();
    let server = Server::with(&fixture, |_| ());
    let mut asked = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                let one = content.get("example").cloned();
                let several = content["examples"].as_object().into_iter().flat_map(|all| all.values());
                for example in one.into_iter().chain(several.map(|example| example["value"].clone())) {
                    let id = if path.starts_with("/v1/items") { "item-4" } else { "user-17" };
                    let path = path.replace("{id}", id);
                    let headers = [("content-type", kind.as_str())];
                    let answer = server.send(&method.to_uppercase(), &path, &headers, example.to_string().as_bytes());
                    assert_eq!(answer.status, 200, "{path} {kind} {example}: {}", answer.text());
                    asked += 1;
                }
            }
        }
    }
    assert!(asked >= 4, "{asked} examples");
}

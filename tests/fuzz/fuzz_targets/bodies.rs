//! Any bytes as the body of any request that has one, sent over HTTP to a server in this process: the answer comes, it is whole, it is no 5xx,
//! and where it is a refusal it says so in the form that is promised.
//!
//! Run on a stable compiler: `cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none bodies`.
//!
//! The first byte chooses the request among those of `config/openapi.json`, the second what stands in the path.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{fs, io};

use kindred::app::{RunningApplication, Stores, spawn_with_stores};
use kindred::history::memory::MemoryHistory;
use kindred::settings::Settings;
use kindred::store::memory::MemoryDocuments;
use kindred::testing::Fixture;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

/// What stands in the path: an item, one that is new, text that has to be escaped.
const IDS: [&str; 4] = ["item-4", "new", "%C3%A9", "a%2Fb"];

struct Target {
    _artifacts: tempfile::TempDir,
    running: RunningApplication,
    agent: Agent,
    requests: Vec<(String, String)>,
}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let artifacts = tempfile::tempdir().expect("a temporary directory");
    Fixture::shop().publish(artifacts.path(), "g1");
    let mut settings = Settings::default();
    settings.http.port = 0;
    settings.http.workers = 1;
    settings.artifacts.dir = artifacts.path().to_owned();
    settings.overload.enabled = false;
    settings.log.level = "off".to_owned();
    let stores = Stores {
        history: Arc::new(MemoryHistory::new(16, 100, Duration::from_secs(600))),
        documents: Arc::new(MemoryDocuments::default()),
    };
    let running = spawn_with_stores(settings, stores).expect("the server starts");
    let config = Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent = config.timeout_global(Some(Duration::from_secs(10))).build().into();
    Target { _artifacts: artifacts, running, agent, requests: requests() }
});

fuzz_target!(init: plant().unwrap_or_else(|error| eprintln!("no seeds: {error}")), |input: &[u8]| {
    let [request, id, body @ ..] = input else { return };
    let Target { running, agent, requests, .. } = &*TARGET;
    let (method, path) = &requests[usize::from(*request) % requests.len()];
    let path = path.replace("{id}", IDS[usize::from(*id) % IDS.len()]);
    let uri = format!("http://127.0.0.1:{}{path}", running.port());
    let built = Request::builder().method(method.as_str()).uri(uri).header("content-type", "application/json");
    let mut answer = agent.run(built.body(body).expect("a request")).expect("an answer, in time");
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    let text = answer.body_mut().read_to_vec().expect("the whole answer");
    assert!(status < 500, "{method} {path}: {status}: {}", String::from_utf8_lossy(&text));
    let said: Option<Value> = serde_json::from_slice(&text).ok();
    if status >= 400 {
        assert_eq!(kind, "application/problem+json", "{method} {path}");
        let said = said.expect("a problem is JSON");
        assert!(["code", "title", "detail", "remedy"].iter().all(|field| said[field].is_string()), "{said}");
    } else {
        assert!(said.is_some() || text.is_empty(), "{method} {path}: {}", String::from_utf8_lossy(&text));
    }
});

/// Every request that has a body, as (method, path).
fn requests() -> Vec<(String, String)> {
    described().map(|(method, path, _)| (method, path)).collect()
}

/// The same, with how the body is described.
fn described() -> impl Iterator<Item = (String, String, Value)> {
    let description: Value = serde_json::from_str(include_str!("../../../config/openapi.json")).expect("it is JSON");
    let paths = description["paths"].as_object().expect("it has paths").clone();
    paths.into_iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("a path has methods").clone();
        methods.into_iter().filter_map(move |(method, operation)| {
            let body = operation["requestBody"]["content"]["application/json"].clone();
            (!body.is_null()).then(|| (method.to_uppercase(), path.clone(), body))
        })
    })
}

/// Writes the seeds: the examples of the description.
fn plant() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/bodies");
    fs::create_dir_all(&corpus)?;
    for (number, (_, _, body)) in (0u8..).zip(described()) {
        let several = body["examples"].as_object().into_iter().flat_map(|examples| examples.values());
        let examples = several.map(|example| &example["value"]).chain([&body["example"]]);
        for (at, example) in examples.filter(|example| !example.is_null()).enumerate() {
            let text = serde_json::to_vec(example)?;
            fs::write(corpus.join(format!("seed-{number}-{at}")), [&[number, 0], text.as_slice()].concat())?;
        }
    }
    Ok(())
}

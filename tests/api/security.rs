//! Who may do what: keys and roles, their rotation, rates, pages of other sites, the operator's own address.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kindred::keys::{NewKey, Role};
use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::{Value, json};

use crate::support::{Answer, Client, PATIENCE, Process, Server};

/// A keys file with a key of each role.
struct KeysFile {
    directory: tempfile::TempDir,
    read: NewKey,
    write: NewKey,
    admin: NewKey,
}

impl KeysFile {
    fn new() -> Self {
        let key = |name, role| NewKey::new(name, role).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (read, write, admin) = (key("front", Role::Read), key("shop", Role::Write), key("boss", Role::Admin));
        let keys = Self { directory, read, write, admin };
        keys.put(&[&keys.read.line, &keys.write.line, &keys.admin.line]);
        keys
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keys")
    }

    fn put(&self, lines: &[&str]) {
        std::fs::write(self.path(), lines.join("\n")).unwrap();
    }

    fn server(&self, change: impl FnOnce(&mut Settings)) -> Server {
        Server::with(&Fixture::shop(), |settings| {
            settings.security.keys = self.path();
            settings.security.reload_ms = 5;
            change(settings);
        })
    }
}

fn with_key(client: &Client, method: &str, path: &str, key: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    client.send(method, path, &headers, body.to_string().as_bytes())
}

fn event() -> Value {
    json!({"user_id": "u", "item_id": "item-4", "kind": "view"})
}

/// Asks until an answer is as wanted: what is looked at by a clock takes its time.
fn until(ask: impl Fn() -> Answer, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        let answer = ask();
        if answer.status == status {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{}", answer.text());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn each_role_may_what_it_may() {
    let keys = KeysFile::new();
    let server = keys.server(|_| ());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).status, 200, "a load balancer has no key");
    }
    for path in ["/", "/v1/model", "/metrics", "/openapi.json", "/v1/items/item-4", "/nowhere"] {
        let answer = server.get(path);
        let problem = answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(problem.remedy.contains("authorization: Bearer"), "{problem:?}");
        assert_eq!(problem.remedy.contains("a browser cannot send it"), path == "/", "{path}: {problem:?}");
    }
    let ask = |key: &NewKey, method, path, body| with_key(&server, method, path, &key.secret, body).status;
    for (key, list, write, reload) in
        [(&keys.read, 200, 403, 403), (&keys.write, 200, 200, 403), (&keys.admin, 200, 200, 200)]
    {
        assert_eq!(ask(key, "POST", "/v1/recommendations", json!({})), list);
        assert_eq!(ask(key, "POST", "/v1/interactions", event()), write);
        assert_eq!(ask(key, "GET", "/v1/recommendations", Value::Null), write, "what others were shown");
        assert_eq!(ask(key, "POST", "/admin/reload", json!({})), reload);
    }
    let answer = with_key(&server, "POST", "/v1/interactions", &keys.read.secret, event());
    let problem = answer.problem(403, "forbidden");
    assert!(problem.detail.contains("front") && problem.remedy.contains("write"), "{problem:?}");
    let answer = server.send("GET", "/v1/model", &[("api-key", &keys.read.secret)], &[]);
    assert_eq!(answer.status, 200, "the other header");
    for wrong in ["kin_0", "", &keys.read.line] {
        with_key(&server, "POST", "/v1/recommendations", wrong, json!({})).problem(401, "unauthorized");
    }
    let metrics = with_key(&server, "GET", "/metrics", &keys.read.secret, Value::Null);
    assert!(metrics.text().contains("kindred_refused_callers_total{code=\"forbidden\"} 5"), "{}", metrics.text());
}

#[test]
fn the_router_and_the_gate_see_the_same_address() {
    let keys = KeysFile::new();
    let server = keys.server(|_| ());
    for path in ["/%61dmin/reload", "/admin/%72eload", "/admin/reload?x=1", "/admin/reload/", "//admin/reload"] {
        let status = with_key(&server, "POST", path, &keys.write.secret, json!({})).status;
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
    assert_eq!(with_key(&server, "POST", "/%61dmin/reload", &keys.admin.secret, json!({})).status, 200);
}

#[test]
fn keys_are_rotated_without_a_restart() {
    let keys = KeysFile::new();
    let server = keys.server(|_| ());
    let ask = |key: &NewKey| with_key(&server, "GET", "/v1/model", &key.secret, Value::Null);
    let new = NewKey::new("new", Role::Read).unwrap();
    keys.put(&[&keys.read.line, &new.line]);
    until(|| ask(&new), 200);
    assert_eq!(ask(&keys.read).status, 200, "old and new at once");
    keys.put(&[&new.line]);
    until(|| ask(&keys.read), 401);
    keys.put(&["rubbish"]);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_eq!(ask(&new).status, 200, "a file that is no good changes nothing");
}

#[test]
fn a_key_may_call_as_often_as_its_rate() {
    let keys = KeysFile::new();
    keys.put(&[&format!("{} rate=1 burst=3", keys.read.line), &keys.admin.line]);
    let server = keys.server(|_| ());
    let ask = |key: &NewKey| with_key(&server, "GET", "/v1/model", &key.secret, Value::Null);
    let answers: Vec<Answer> = (0..20).map(|_| ask(&keys.read)).collect();
    assert!(answers[..3].iter().all(|answer| answer.status == 200));
    let answer = answers.iter().find(|answer| answer.status != 200).unwrap();
    answer.problem(429, "rate_limited");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert_eq!(ask(&keys.admin).status, 200, "each key has a rate of its own");
}

#[test]
fn an_address_of_the_network_needs_keys() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let mut server = Process::start(directory.path(), &[("HTTP__HOST", "0.0.0.0")]);
    let line = server.line("Error: ");
    assert!(line.contains("kindred key new") && line.contains("security.allow_without_keys"), "{line}");
    assert_eq!(server.ended().code(), Some(2));
    let server =
        Process::start(directory.path(), &[("HTTP__HOST", "0.0.0.0"), ("SECURITY__ALLOW_WITHOUT_KEYS", "true")]);
    assert_eq!(server.client().get("/readyz").status, 200);
    drop(server);
    let keys = KeysFile::new();
    let mut server = Process::start(directory.path(), &[("SECURITY__KEYS", "no/such/file")]);
    assert!(server.line("Error: ").contains("no/such/file"));
    server.ended();
    keys.put(&["shop root sha256:0"]);
    let mut server = Process::start(directory.path(), &[("SECURITY__KEYS", keys.path().to_str().unwrap())]);
    assert!(server.line("Error: ").contains("line 1"));
    server.ended();
}

#[test]
fn the_operator_has_an_address_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit.jsonl");
    let keys = KeysFile::new();
    let server = keys.server(|settings| {
        settings.admin.separate = true;
        settings.admin.port = 0;
        settings.admin.audit_log.clone_from(&audit);
    });
    let admin = server.admin.clone().unwrap();
    for path in ["/admin/reload", "/metrics"] {
        with_key(&server, "GET", path, &keys.admin.secret, Value::Null).problem(404, "not_found");
        admin.get(path).problem(401, "unauthorized");
    }
    let page = with_key(&server, "GET", "/", &keys.read.secret, Value::Null);
    assert!(page.status == 200 && !page.text().contains("/metrics"), "{}", page.text());
    assert_eq!(admin.get("/readyz").status, 200);
    assert_eq!(with_key(&admin, "GET", "/metrics", &keys.read.secret, Value::Null).status, 200);
    with_key(&admin, "POST", "/v1/recommendations", &keys.admin.secret, json!({})).problem(404, "not_found");
    assert_eq!(with_key(&admin, "POST", "/admin/reload", &keys.write.secret, json!({})).status, 403);
    assert_eq!(with_key(&admin, "POST", "/admin/reload", &keys.admin.secret, json!({})).status, 200);
    with_key(&admin, "POST", "/admin/reload", "kin_guess", json!({})).problem(401, "unauthorized");
    assert_eq!(with_key(&server, "DELETE", "/v1/%75sers/alice/data", &keys.admin.secret, Value::Null).status, 200);
    keys.put(&[&keys.admin.line]);
    until(|| with_key(&server, "GET", "/v1/model", &keys.read.secret, Value::Null), 401);
    let text = std::fs::read_to_string(&audit).unwrap();
    let deeds: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = deeds.iter().map(|deed| (&deed["who"], &deed["action"], &deed["outcome"])).collect();
    assert_eq!(
        json!(told),
        json!([
            ["boss", "GET /admin/reload", "404"],
            ["shop", "POST /admin/reload", "403"],
            ["boss", "POST /admin/reload", "200"],
            ["boss", "DELETE /v1/users/{id}/data", "200"],
            ["file", "keys replaced", "1 keys"]
        ]),
        "a key that may not is named, a guess is counted"
    );
    assert_eq!(deeds[1]["peer"], "127.0.0.1");
}

#[test]
fn no_secret_reaches_a_log() {
    let directory = tempfile::tempdir().unwrap();
    Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
    let keys = KeysFile::new();
    let path = keys.path();
    let server = Process::start(
        directory.path(),
        &[("SECURITY__KEYS", path.to_str().unwrap()), ("LOG__LEVEL", "trace"), ("SECURITY__RELOAD_MS", "5")],
    );
    let client = server.client();
    with_key(&client, "POST", "/admin/reload", &keys.admin.secret, json!({})).ok();
    with_key(&client, "POST", "/v1/interactions", &keys.read.secret, event()).problem(403, "forbidden");
    client.send("GET", "/v1/model", &[("api-key", &keys.write.secret)], &[]).ok();
    keys.put(&[&keys.admin.line]);
    let log = server.lines_until("keys replaced");
    assert!(log.iter().any(|line| line.contains("request answered")), "requests are logged");
    let hash = |key: &NewKey| key.line.split("sha256:").nth(1).unwrap().to_owned();
    for key in [&keys.admin, &keys.read, &keys.write] {
        for secret in [&key.secret["kin_".len()..], &hash(key)] {
            assert!(!log.iter().any(|line| line.contains(secret)), "a secret in the log");
        }
    }
}

#[test]
fn pages_of_other_sites_may_call_only_where_they_are_named() {
    let plain = Server::with_shop();
    let from = |origin: &'static str| [("origin", origin), ("content-type", "application/json")];
    let evil = plain.send("POST", "/v1/interactions", &from("https://evil.example"), event().to_string().as_bytes());
    let problem = evil.problem(403, "forbidden");
    assert!(problem.remedy.contains("security.cors_origins"), "{problem:?}");
    assert_eq!(evil.header("access-control-allow-origin"), "");
    let own = format!("http://127.0.0.1:{}", plain.port);
    let headers = [("origin", own.as_str()), ("content-type", "application/json")];
    plain.send("POST", "/v1/interactions", &headers, event().to_string().as_bytes()).ok();

    let keys = KeysFile::new();
    let server = keys.server(|settings| settings.security.cors_origins = vec!["https://Shop.example".to_owned()]);
    let ask = |origin| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        server.send("OPTIONS", "/v1/recommendations", &headers, &[])
    };
    let yes = ask("https://shop.example");
    assert_eq!((yes.status, yes.header("access-control-allow-origin")), (204, "https://shop.example"));
    let headers = yes.header("access-control-allow-headers");
    assert!(["authorization", "traceparent"].iter().all(|header| headers.contains(header)), "{headers}");
    assert!(yes.header("access-control-allow-methods").contains("POST"));
    let no = ask("https://shop.example.evil.example");
    assert_eq!((no.status, no.header("access-control-allow-origin")), (401, ""));
    let bearer = format!("Bearer {}", keys.read.secret);
    let headers =
        [("origin", "https://shop.example"), ("authorization", &bearer), ("content-type", "application/json")];
    let answer = server.send("POST", "/v1/recommendations", &headers, b"{}");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://shop.example"));
    assert_eq!(answer.header("vary"), "origin");
}

#[test]
fn without_keys_a_name_of_another_site_is_not_answered() {
    let server = Server::with(&Fixture::shop(), |settings| settings.security.hosts = vec!["Shop.example".to_owned()]);
    for path in ["/", "/v1/model", "/v1/users/u/data"] {
        // Whatever a page may add.
        let evil = [("host", "evil.example:8080"), ("x-forwarded-for", "192.0.2.7")];
        let problem = server.send("GET", path, &evil, &[]).problem(403, "forbidden");
        assert!(problem.remedy.contains("security.hosts"), "{problem:?}");
        let at = |host: &str| server.send("GET", path, &[("host", host)], &[]).status;
        assert_eq!((at("localhost:8080"), at("[::1]:8080")), (200, 200), "{path}");
        assert_eq!(at("shop.example:80"), 200, "{path}");
    }
    assert_eq!(server.send("GET", "/healthz", &[("host", "lb.example")], &[]).status, 200);
}

#[test]
fn every_answer_forbids_guessing_its_type_and_pages_forbid_the_rest() {
    let server = Server::with_shop();
    for path in ["/", "/v1/model", "/metrics", "/nowhere", "/assets/shop.js", "/openapi.json"] {
        let answer = server.get(path);
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let kept = if path.starts_with("/assets/") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
    }
    let page = server.get("/");
    let policy = page.header("content-security-policy");
    for rule in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("-inline") && !policy.contains("-eval"), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
}

#[test]
fn no_file_is_named_by_a_request() {
    let server = Server::with_shop();
    let current = server.artifacts().join("CURRENT");
    assert!(Path::new(&current).exists());
    for path in [
        "/../artifacts/CURRENT",
        "/assets/../../artifacts/CURRENT",
        "/assets/%2e%2e/%2e%2e/artifacts/CURRENT",
        "/assets/..%2f..%2fartifacts%2fCURRENT",
        "/items/..%2f..%2fartifacts%2fCURRENT",
        "/v1/items/..%2f..%2fartifacts%2fCURRENT",
        "/v1/items/%2fetc%2fpasswd",
    ] {
        let answer =
            crate::support::raw(server.port, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

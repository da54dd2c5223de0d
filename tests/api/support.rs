//! Servers, in this process or in one of their own, and a client that checks the shape of every error.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kindred::app::{RunningApplication, Stores, spawn, spawn_with_stores};
use kindred::history::RecentInteractions;
use kindred::settings::Settings;
use kindred::store::memory::MemoryDocuments;
use kindred::testing::Fixture;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

/// How long anything may take before a test gives up. Far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The JSON of a 200.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A problem of RFC 9457, with everything that the service promises about one.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["type"], format!("urn:kindred:problem:{code}"), "{body}");
        let text = |field: &str| body[field].as_str().filter(|text| !text.is_empty()).unwrap().to_owned();
        text("title");
        Problem { detail: text("detail"), remedy: text("remedy") }
    }
}

/// What a problem says about this one time.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) detail: String,
    pub(crate) remedy: String,
}

/// Speaks to one server.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) port: u16,
    agent: Agent,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None);
        Self { port, agent: config.build().into() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Answer {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    pub(crate) fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://127.0.0.1:{}{path}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match method {
            "POST" | "PUT" | "PATCH" => self.agent.run(request.body(body).unwrap())?,
            _ => self.agent.run(request.body(()).unwrap())?,
        };
        let body = response.body_mut().read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Keeps one view and answers when it is kept.
    #[track_caller]
    pub(crate) fn view(&self, user: &str, item: &str) {
        let body = serde_json::json!({"user_id": user, "item_id": item, "kind": "view"});
        assert_eq!(self.post("/v1/interactions", body).ok()["accepted"], 1);
    }

    /// The value of one line of `/metrics`.
    #[track_caller]
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics");
        let found = text.text().lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no metric {line}")).parse().unwrap()
    }
}

/// Sends bytes as they are and reads the head of what comes back; nothing if the server closes without an answer.
pub(crate) fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).unwrap() {
            0 => break,
            read => answer.extend(&part[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server in this process, with a directory of its own.
pub(crate) struct Server {
    pub(crate) client: Client,
    /// The operator's port, where it is another one.
    pub(crate) admin: Option<Client>,
    pub(crate) directory: tempfile::TempDir,
    running: Option<RunningApplication>,
}

/// Settings for tests: any free port, no polling, and limits of time that a busy machine does not reach.
pub(crate) fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.http.port = 0;
    settings.http.workers = 2;
    settings.http.slow_request_ms = 60_000;
    settings.overload.enabled = false;
    settings.artifacts.dir = directory.join("artifacts");
    settings.artifacts.poll_ms = 0;
    settings.history.path = directory.join("history");
    settings.history.read_timeout_ms = 30_000;
    settings.scenarios.values_mut().for_each(|scenario| scenario.deadline_ms = 60_000);
    settings
}

impl Server {
    /// A server with the shop of [`Fixture::shop`] as generation `g1`.
    pub(crate) fn with_shop() -> Self {
        Self::with(&Fixture::shop(), |_| ())
    }

    /// A server with this artifact as generation `g1`, and other settings.
    pub(crate) fn with(fixture: &Fixture, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fixture.publish(&directory.path().join("artifacts"), "g1");
        let mut settings = settings(directory.path());
        change(&mut settings);
        Self::started(directory, spawn(settings).unwrap())
    }

    /// A server with nothing published.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        Self::started(directory, spawn(settings).unwrap())
    }

    /// A server with the shop and a history store of the caller's.
    pub(crate) fn with_history(history: Arc<dyn RecentInteractions>, change: impl FnOnce(&mut Settings)) -> Self {
        let documents = Arc::new(MemoryDocuments::default());
        Self::with_stores(Stores { history, documents }, change)
    }

    /// A server with the shop and stores of the caller's.
    pub(crate) fn with_stores(stores: Stores, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Fixture::shop().publish(&directory.path().join("artifacts"), "g1");
        let mut settings = settings(directory.path());
        change(&mut settings);
        Self::started(directory, spawn_with_stores(settings, stores).unwrap())
    }

    fn started(directory: tempfile::TempDir, running: RunningApplication) -> Self {
        let admin = running.admin_port().map(Client::new);
        Self { client: Client::new(running.port()), admin, directory, running: Some(running) }
    }

    /// The same server again, over the same directory.
    pub(crate) fn restarted(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.running.take().unwrap().stop().unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        let mut settings = settings(directory.path());
        change(&mut settings);
        Self::started(directory, spawn(settings).unwrap())
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.directory.path().join("artifacts")
    }
}

impl std::ops::Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that has failed already says so better than a server that does not stop.
        if let Some(running) = self.running.take().filter(|_| !std::thread::panicking()) {
            running.stop().unwrap();
        }
    }
}

/// A `kindred-server` process: settings by environment variables, its log line by line.
pub(crate) struct Process {
    child: Child,
    log: Receiver<String>,
}

impl Process {
    /// Starts one over a directory; more settings as (`HTTP__PORT`, `9000`).
    pub(crate) fn start(directory: &Path, more: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred-server"));
        command
            .env("KINDRED__HTTP__PORT", "0")
            .env("KINDRED__HTTP__WORKERS", "2")
            .env("KINDRED__ARTIFACTS__DIR", directory.join("artifacts"))
            .env("KINDRED__ARTIFACTS__POLL_MS", "0")
            .env("KINDRED__HISTORY__PATH", directory.join("history"))
            .env("KINDRED__HISTORY__READ_TIMEOUT_MS", "30000")
            .env("KINDRED__SCENARIOS__HOME__DEADLINE_MS", "60000")
            .env("KINDRED__OVERLOAD__ENABLED", "false")
            .env("KINDRED__LOG__JSON", "true")
            .envs(more.iter().map(|(key, value)| (format!("KINDRED__{key}"), *value)))
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        // The thread ends with the process's stderr.
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, log }
    }

    /// The next line of the log that contains a text.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> String {
        let mut before = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            before.push(line);
        }
        panic!("no line with {text:?} in the log:\n{}", before.join("\n"));
    }

    /// The log up to the next line that contains a text, and that line.
    #[track_caller]
    pub(crate) fn lines_until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            lines.push(line);
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
        panic!("no line with {text:?} in the log:\n{}", lines.join("\n"));
    }

    /// A client, once it listens.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        let line: Value = serde_json::from_str(&self.line("\"listening\"")).unwrap();
        Client::new(u16::try_from(line["port"].as_u64().unwrap()).unwrap())
    }

    /// Kills it as a power cut would: nothing of its own runs any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let order = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &order]).status().unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the process does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of the items of an answer.
pub(crate) fn ids(answer: &Value) -> Vec<&str> {
    let list = answer.get("items").or_else(|| answer.get("hits")).unwrap();
    list.as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap()).collect()
}

/// The category of a shop item, by its id: item i is in category i mod 4.
pub(crate) fn category(id: &str) -> String {
    Fixture::category(id.strip_prefix("item-").unwrap().parse().unwrap())
}

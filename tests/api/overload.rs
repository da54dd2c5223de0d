//! Too much to do, and stores that are slow, full or broken: a defined answer each time.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use kindred::app::Stores;
use kindred::history::memory::MemoryHistory;
use kindred::history::{Ack, Actor, Erased, HistoryStats, Incoming, Kept, Lookup, Recent, RecentInteractions};
use kindred::store::{BoxFuture, StoreError, Table, Write};
use kindred::testing::HeldUpDocuments;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{PATIENCE, Server};

/// What the store does instead of working.
#[derive(Clone, Copy)]
enum Fault {
    /// Waits until the gate is opened.
    Slow,
    /// Fails at once.
    Broken,
    /// Has a full queue.
    Full,
}

/// A store with a fault, over one in memory.
struct Faulty {
    fault: Fault,
    gate: Arc<Semaphore>,
    inner: Arc<MemoryHistory>,
}

impl Faulty {
    fn new(fault: Fault) -> (Arc<Self>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let inner = Arc::new(MemoryHistory::new(8, 100, PATIENCE));
        (Arc::new(Self { fault, gate: Arc::clone(&gate), inner }), gate)
    }

    fn error(&self) -> Option<StoreError> {
        match self.fault {
            Fault::Slow => None,
            Fault::Broken => Some(broken()),
            Fault::Full => Some(StoreError::Busy { queued: 7, limit: 7 }),
        }
    }
}

impl RecentInteractions for Faulty {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>> {
        Box::pin(async move {
            if let Some(error) = self.error() {
                return Err(error);
            }
            self.gate.acquire().await.unwrap().forget();
            self.inner.append(batch).await
        })
    }

    fn recent(&self, _: &Actor) -> Lookup {
        if let Some(error) = self.error() {
            return Lookup::Failed(error);
        }
        let gate = Arc::clone(&self.gate);
        Lookup::Pending(Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(Recent::from([]))
        }))
    }

    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
        self.inner.page(actor, before, limit)
    }

    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
        self.inner.erase(actors, documents)
    }

    fn stats(&self) -> HistoryStats {
        HistoryStats::default()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.error().map_or(Ok(()), Err)
    }
}

fn broken() -> StoreError {
    StoreError::Storage {
        path: "history".into(),
        operation: "committing",
        source: Arc::new(std::io::Error::other("no space left on device")),
    }
}

/// Documents in memory, where changes of items wait until the gate is opened, and fail once it is closed for good.
fn gated(gate: &Arc<Semaphore>) -> Arc<HeldUpDocuments> {
    let gate = Arc::clone(gate);
    HeldUpDocuments::new(Box::new(move |writes| {
        let waits = writes.iter().any(|write| matches!(write, Write::Put { table: Table::Items, .. }));
        let gate = waits.then(|| Arc::clone(&gate));
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.acquire().await.map_err(|_| broken())?.forget();
            }
            Ok(())
        })
    }))
}

/// A server that has room for one request of each sort, and a store that does not answer until it is told.
fn with_room_for_one() -> (Server, Arc<Semaphore>) {
    let (history, gate) = Faulty::new(Fault::Slow);
    let server = Server::with_history(history, |settings| {
        (settings.http.max_in_flight, settings.http.retry_after_seconds) = (1, 7);
        settings.history.read_timeout_ms = 10_000;
        settings.scenarios.get_mut("home").unwrap().deadline_ms = 10_000;
    });
    (server, gate)
}

/// Sends a request that waits for the store, does something meanwhile, and lets the store answer.
fn while_waiting(
    server: &Server,
    gate: &Semaphore,
    path: &'static str,
    body: Value,
    meanwhile: impl FnOnce(),
) -> Value {
    std::thread::scope(|scope| {
        let client = server.client.clone();
        let held = scope.spawn(move || client.post(path, body));
        let began = std::time::Instant::now();
        while server.metric("kindred_in_flight") < 1.0 && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        meanwhile();
        gate.add_permits(1);
        held.join().unwrap().ok()
    })
}

#[test]
fn one_request_too_many_is_sent_away_at_once() {
    let (server, gate) = with_room_for_one();
    let list = while_waiting(&server, &gate, "/v1/recommendations", json!({"user_id": "u"}), || {
        for path in ["/v1/recommendations", "/v1/search", "/v1/score"] {
            let answer = server.post(path, json!({}));
            let problem = answer.problem(503, "overloaded");
            assert_eq!(answer.header("retry-after"), "7");
            assert!(problem.remedy.contains("7 s") && problem.remedy.contains("http.max_in_flight"), "{problem:?}");
        }
        server.get("/v1/items/item-4/similar").problem(503, "overloaded");
        assert_eq!((server.get("/").status, server.get("/items/item-4").status), (503, 503));
        assert_eq!(server.metric("kindred_shed_total"), 6.0);
        assert_eq!(server.get("/healthz").status, 200, "an operator still sees it");
        assert_eq!(server.get("/readyz").status, 200);
    });
    assert!(list["degraded"].is_null(), "{list}");
    assert_eq!(server.post("/v1/recommendations", json!({})).status, 200, "the place is free again");
}

#[test]
fn a_disk_that_stalls_refuses_writers_and_nobody_else() {
    let (server, gate) = with_room_for_one();
    let event = json!({"user_id": "u", "item_id": "a", "kind": "view"});
    let kept = while_waiting(&server, &gate, "/v1/interactions", event.clone(), || {
        server.post("/v1/interactions", event.clone()).problem(503, "overloaded");
        assert_eq!(server.post("/v1/recommendations", json!({})).status, 200);
        assert_eq!(server.get("/v1/items/item-4/similar").status, 200);
    });
    assert_eq!(kept["accepted"], 1);
}

#[test]
fn a_change_goes_on_where_its_caller_goes_away() {
    let (history, gate) = Faulty::new(Fault::Slow);
    let server = Server::with_history(history, |_| ());
    let event = "{\"user_id\":\"u\",\"item_id\":\"a\",\"kind\":\"view\"}";
    let head = "POST /v1/interactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    let mut caller = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    caller.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{event}", event.len()).as_bytes()).unwrap();
    let until = |line: &str, least: f64| {
        let began = std::time::Instant::now();
        while server.metric(line) < least {
            assert!(began.elapsed() < PATIENCE, "{line}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    until("kindred_in_flight", 1.0);
    // No lingering: the connection is reset.
    socket2::SockRef::from(&caller).set_linger(Some(Duration::ZERO)).unwrap();
    drop(caller);
    std::thread::sleep(Duration::from_millis(50));
    gate.add_permits(1);
    until("kindred_interactions_total{result=\"accepted\"}", 1.0);
}

#[test]
fn a_store_that_does_not_answer_degrades_the_answer() {
    let (history, _gate) = Faulty::new(Fault::Slow);
    let server = Server::with_history(history, |settings| settings.history.read_timeout_ms = 5);
    let body = json!({"user_id": "u", "session_id": "s", "interactions": [{"item_id": "item-4"}]});
    let answer = server.post("/v1/recommendations", body).ok();
    assert_eq!(answer["degraded"], "history_unavailable");
    assert_eq!((answer["events_used"].as_u64(), answer["fallback"].as_str()), (Some(1), None), "the body is used");
    let newcomer = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(
        (newcomer["degraded"].as_str(), newcomer["fallback"].as_str()),
        (Some("history_unavailable"), Some("newcomer"))
    );
    let score = server.post("/v1/score", json!({"user_id": "u", "item_ids": ["item-4"]})).ok();
    assert_eq!(score["degraded"], "history_unavailable");
    assert_eq!(server.metric("kindred_degraded_total{reason=\"history_unavailable\"}"), 3.0);
    let nobody = server.post("/v1/recommendations", json!({})).ok();
    assert!(nobody["degraded"].is_null(), "nothing was asked of the store");
}

#[test]
fn a_passed_deadline_is_the_fallback_and_says_so() {
    let (history, _gate) = Faulty::new(Fault::Slow);
    let server = Server::with_history(history, |settings| {
        settings.scenarios.values_mut().for_each(|scenario| scenario.deadline_ms = 1);
    });
    let body = json!({"user_id": "u", "interactions": [{"item_id": "item-4"}], "limit": 5});
    let answer = server.post("/v1/recommendations", body).ok();
    assert_eq!((answer["degraded"].as_str(), answer["fallback"].as_str()), (Some("deadline"), Some("deadline")));
    assert_eq!(answer["items"].as_array().unwrap().len(), 5);
    assert_eq!(server.metric("kindred_degraded_total{reason=\"deadline\"}"), 1.0);
    // What it does not know is said all the same to whoever has asked for that.
    let body = json!({"user_id": "u", "interactions": [{"item_id": "item-4"}], "min_watermark": 7});
    let answer = server.post("/v1/recommendations", body).ok();
    let said = (answer["degraded"].as_str(), answer["fallback"].as_str());
    assert_eq!(said, (Some("watermark_not_reached"), Some("deadline")));
}

#[test]
fn a_list_that_is_late_draws_by_what_was_done_too() {
    let (history, _gate) = Faulty::new(Fault::Slow);
    let explore = json!({"method": "epsilon_greedy", "filter": {"key": "category", "match": {"value": "garden"}}});
    let server = Server::with_history(history, |settings| {
        let home = settings.scenarios.get_mut("home").unwrap();
        (home.deadline_ms, home.explore) = (1, serde_json::from_value(explore).unwrap());
    });
    let seed = |item: &str| {
        let body = json!({"user_id": "u", "interactions": [{"item_id": item}]});
        let answer = server.post("/v1/recommendations", body).ok();
        assert_eq!(answer["degraded"], "deadline", "{answer}");
        answer["seed"].as_u64().unwrap()
    };
    assert_ne!(seed("item-4"), seed("item-8"));
    assert_eq!(seed("item-4"), seed("item-4"));
}

#[test]
fn a_broken_store_is_said_and_answers_go_on() {
    let (history, _gate) = Faulty::new(Fault::Broken);
    let server = Server::with_history(history, |_| ());
    let event = json!({"user_id": "u", "item_id": "a", "kind": "view"});
    let problem = server.post("/v1/interactions", event).problem(503, "history_failed");
    assert!(problem.detail.contains("no space left"), "{problem:?}");
    let ready = server.get("/readyz").ok();
    assert_eq!(ready["status"], "degraded");
    // Where the store lies is not for everybody who may ask.
    assert_eq!(ready["history"], "history_failed: the store cannot do what was asked");
    let answer = server.post("/v1/recommendations", json!({"user_id": "u"})).ok();
    assert_eq!(answer["degraded"], "history_unavailable");
}

#[test]
fn a_change_of_an_item_is_in_force_once_it_is_kept_and_not_where_the_disk_fails() {
    let gate = Arc::new(Semaphore::new(0));
    let documents = gated(&gate);
    let history = Arc::new(MemoryHistory::new(8, 100, PATIENCE));
    let server = Server::with_stores(Stores { history, documents }, |_| ());
    let price = || server.get("/v1/items/item-4").ok()["price"].clone();
    let change = |price: u32| json!([{"op": "patch", "id": "item-4", "price": price}]);
    let before = price();
    let meanwhile = || assert_eq!(price(), before, "it is not kept yet");
    let done = while_waiting(&server, &gate, "/v1/items/batch", change(77), meanwhile);
    assert_eq!((&done["patched"], price()), (&json!(1), json!(77.0)));
    gate.close();
    server.post("/v1/items/batch", change(78)).problem(503, "history_failed");
    server.send("DELETE", "/v1/items/item-4", &[], &[]).problem(503, "history_failed");
    assert_eq!(price(), json!(77.0));
    let body = json!({"filter": {"has_id": ["item-4"]}, "with_items": true});
    assert_eq!(server.post("/v1/recommendations", body).ok()["items"][0]["item"]["price"], 77.0);
}

#[test]
fn a_full_store_asks_to_come_back() {
    let (history, _gate) = Faulty::new(Fault::Full);
    let server = Server::with_history(history, |settings| settings.http.retry_after_seconds = 3);
    let answer = server.post("/v1/interactions", json!({"user_id": "u", "item_id": "a", "kind": "view"}));
    answer.problem(503, "history_busy");
    assert_eq!(answer.header("retry-after"), "3");
}

//! `kindred bench replay`: are the lists of a running server as good as the offline evaluator says?

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use kindred::limits;
use kindred::settings::Settings;
use kindred::snapshot::Snapshot;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{Exit, Global};
use super::latency::{Latency, Quantiles};
use crate::cmd::evaluate::held_out;
use crate::dataset::{Dataset, Interactions};
use crate::evaluate::{self, EvaluateOptions, HeldOut, Protocol};
use crate::load::ask::item_ids;
use crate::load::client::Client;
use crate::load::process::ServerProcess;
use crate::progress::Progress;
use crate::replay::{Hits, Script, script};
use crate::report::{self, Report, Table, emit};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How far the live lists may be from the offline evaluator's.
const TOLERANCE: f64 = 0.01;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example: kindred bench replay --artifacts artifacts --dataset dataset --scenario home --users 20000"
)]
pub struct Args {
    /// The artifacts to serve, or that the server at --url serves
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    artifacts: PathBuf,
    /// The dataset with the held-out part
    #[arg(long, value_name = "DIR", default_value = "dataset")]
    dataset: PathBuf,
    /// A server that runs already
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Settings file of the server, and of the offline evaluator
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The scenario that is asked for
    #[arg(long, value_name = "NAME", default_value = "home")]
    scenario: String,
    /// Length of the lists
    #[arg(long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    k: usize,
    /// Replay this many users, drawn at random, instead of all
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    users: Option<usize>,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Replayed {
    generation: String,
    scenario: String,
    k: usize,
    users: u64,
    events_before: u64,
    events: u64,
    asked: u64,
    /// Answers that were less than they could be: there must be none for the comparison to hold.
    degraded: u64,
    live: Quality,
    offline: Quality,
    /// Whether the two agree, and no answer was degraded.
    within_tolerance: bool,
    /// Of requests one after the other.
    ask_ms: Quantiles,
    send_ms: Quantiles,
    seconds: f64,
}

/// How good lists were.
#[derive(Clone, Copy, Debug, Serialize)]
struct Quality {
    questions: u64,
    hit_rate: f64,
    mrr: f64,
}

/// What a replay over HTTP gave.
struct Live {
    hits: Hits,
    degraded: u64,
    ask: Latency,
    send: Latency,
}

/// Replays and reports.
///
/// # Errors
/// Artifacts or a dataset that cannot be read, a server that cannot be reached or refuses.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let snapshot = Snapshot::open_current(&args.artifacts)?;
    let Settings { scenarios, trending, history, .. } = Settings::load(args.config.as_deref())?;
    let scenario = crate::cmd::scenario(&scenarios, &args.scenario)?;
    let dataset = Dataset::open(&args.dataset)?;
    let users = dataset.users()?;
    let weighting = &snapshot.manifest().weighting;
    let held_out = HeldOut { history_max: history.keep_per_actor, ..held_out(&dataset)? };
    let script = script(&held_out, snapshot.model(), scenario, weighting, args.users, args.seed)?;
    ensure!(!script.questions.test.is_empty(), "there is nothing to ask: was the dataset prepared with a --split?");

    let started = Instant::now();
    let (live, _server) = replay(args, &script, &users, snapshot.generation())?;
    let seconds = started.elapsed().as_secs_f64();

    let progress = Progress::bar("evaluating offline", 0);
    let step = |done, total| progress.step("evaluating offline", done, total);
    let options = EvaluateOptions {
        ks: vec![args.k],
        exact_only: false,
        protocol: Protocol::NextEvent,
        users: None,
        only_new: false,
        seed: args.seed,
        trending: Some(trending),
    };
    let evaluation =
        evaluate::evaluate(snapshot.model(), &script.questions, scenario, weighting, &options, &step, None)?;
    progress.finish();
    let system = evaluation.systems.iter().find(|system| system.name == "index").context("no system by the index")?;
    let at = system.at.first().context("no list was judged")?;
    let offline = Quality { questions: evaluation.n_lists, hit_rate: at.hit_rate, mrr: at.mrr };
    let found = Quality { questions: live.hits.asked, hit_rate: live.hits.hit_rate(), mrr: live.hits.mrr() };
    let within = agree(found, offline, live.degraded);
    let replayed = Replayed {
        generation: snapshot.generation().to_owned(),
        scenario: args.scenario.clone(),
        k: args.k,
        users: script.users,
        events_before: script.before.len() as u64,
        events: script.events.len() as u64,
        asked: live.hits.asked,
        degraded: live.degraded,
        live: found,
        offline,
        within_tolerance: within,
        ask_ms: live.ask.quantiles(),
        send_ms: live.send.quantiles(),
        seconds,
    };
    emit(&replayed, global.json)?;
    Ok(if within { Exit::Done } else { Exit::No })
}

/// Sends the past, then asks and sends in the order of time.
fn replay(
    args: &Args,
    script: &Script,
    users: &[String],
    generation: &str,
) -> anyhow::Result<(Live, Option<ServerProcess>)> {
    let (address, server) = match &args.url {
        Some(url) => (super::address(url)?, None),
        None => {
            let server = ServerProcess::start(&args.artifacts, args.config.as_deref(), None, &settings(), None)?;
            (server.address, Some(server))
        }
    };
    let mut client = Client::new(address, PATIENCE);
    let model = client.json("GET", "/v1/model", "", &Value::Null)?;
    let served = model.get("generation").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        served == generation,
        "{address} serves generation {served:?} and not {generation:?}: give --artifacts, the directory that it serves"
    );
    let known = model.get("kinds").and_then(Value::as_object).context("GET /v1/model names no kinds")?;
    let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    let kind = |number: u8| {
        let name = script.questions.kinds.get(usize::from(number)).map(String::as_str);
        name.filter(|name| known.contains(name))
    };
    let item = |number: u32| script.questions.keys.get(number as usize).map_or("", String::as_str);
    let user = |number: u32| users.get(number as usize).map_or("", String::as_str);
    let event = |who: u32, what: u32, number: u8, time_ms: i64| {
        let kind = kind(number)?;
        Some(json!({"user_id": user(who), "item_id": item(what), "kind": kind, "occurred_at": time_ms}))
    };
    send_before(&mut client, &script.before, &event)?;
    let mut live = Live { hits: Hits::default(), degraded: 0, ask: Latency::new()?, send: Latency::new()? };
    let progress = Progress::bar("replaying", script.events.len() as u64);
    for (done, one) in script.events.iter().enumerate() {
        let clock = format!("x-kindred-now: {}\r\n", one.time_ms);
        if one.asked {
            let question = json!({"user_id": user(one.user), "scenario": args.scenario, "limit": args.k});
            let began = Instant::now();
            let answer = client.json("POST", "/v1/recommendations", &clock, &question)?;
            live.ask.record(began.elapsed());
            live.degraded += u64::from(!answer.get("degraded").is_none_or(Value::is_null));
            live.hits.note(&item_ids(&answer), item(one.item));
        }
        if let Some(event) = event(one.user, one.item, one.kind, one.time_ms) {
            let began = Instant::now();
            client.json("POST", "/v1/interactions", &clock, &event)?;
            live.send.record(began.elapsed());
        }
        progress.step("replaying", done as u64 + 1, script.events.len() as u64);
    }
    progress.finish();
    Ok((live, server))
}

/// What users did before, in batches, at the time of the last of each.
fn send_before(
    client: &mut Client,
    before: &Interactions,
    event: &dyn Fn(u32, u32, u8, i64) -> Option<Value>,
) -> anyhow::Result<()> {
    let mut order: Vec<usize> = (0..before.len()).collect();
    order.sort_by_key(|row| before.time_ms[*row]);
    let progress = Progress::bar("sending the past", before.len() as u64);
    let mut sent = 0;
    for rows in order.chunks(limits::BATCH_INTERACTIONS_MAX) {
        let last = rows.last().map_or(0, |row| before.time_ms[*row]);
        let of = |row: &usize| event(before.user[*row], before.item[*row], before.kind[*row], before.time_ms[*row]);
        let batch: Vec<Value> = rows.iter().filter_map(of).collect();
        client.json("POST", "/v1/interactions", &format!("x-kindred-now: {last}\r\n"), &json!(batch))?;
        sent += rows.len() as u64;
        progress.step("sending the past", sent, before.len() as u64);
    }
    progress.finish();
    Ok(())
}

/// The server takes the time from the requests, and gives nothing less for being busy. What is trending is added up again as often as it can be, since
/// hours go by in seconds.
fn settings() -> [(&'static str, String); 6] {
    [
        ("KINDRED__HTTP__CLOCK", "request".to_owned()),
        ("KINDRED__OVERLOAD__ENABLED", "false".to_owned()),
        ("KINDRED__TRENDING__REFRESH_MS", "10".to_owned()),
        ("KINDRED__HISTORY__CACHE_MB", "4096".to_owned()),
        ("KINDRED__HISTORY__READ_TIMEOUT_MS", "10000".to_owned()),
        ("KINDRED__HISTORY__IDLE_SECONDS", "86400".to_owned()),
    ]
}

/// Whether the live lists are as good as the evaluator's, who gives no degraded ones.
fn agree(live: Quality, offline: Quality, degraded: u64) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE;
    let as_many = degraded == 0 && live.questions == offline.questions;
    as_many && near(live.hit_rate, offline.hit_rate) && near(live.mrr, offline.mrr)
}

impl Report for Replayed {
    fn text(&self) -> String {
        let Self { live, offline, k, .. } = self;
        let mut text = format!(
            "generation {}, scenario {}: {} users, {} interactions before, {} replayed in {}, {} lists asked for\n",
            self.generation,
            self.scenario,
            report::count(self.users),
            report::count(self.events_before),
            report::count(self.events),
            report::seconds(self.seconds),
            report::count(self.asked),
        );
        let mut table = Table::new(["".to_owned(), "questions".to_owned(), format!("HR@{k}"), format!("MRR@{k}")]);
        for (name, one) in [("live, over HTTP", live), ("offline evaluator", offline)] {
            let number = |value: f64| format!("{value:.4}");
            table.row([name.to_owned(), report::count(one.questions), number(one.hit_rate), number(one.mrr)]);
        }
        text.push_str(&table.text());
        for (name, one) in [("ask", self.ask_ms), ("send", self.send_ms)] {
            text.push_str(&format!("  {name}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms\n", one.p50, one.p99, one.max));
        }
        if self.degraded > 0 {
            text.push_str(&format!("  {} answers were degraded\n", report::count(self.degraded)));
        }
        text.push_str(match (self.within_tolerance, self.degraded) {
            (true, _) => "within 0.01\n",
            (false, 0) => "NOT within 0.01 of the offline evaluator\n",
            (false, _) => "NOT to be compared with the offline evaluator: answers were degraded\n",
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_replay_of_nobody_is_refused() {
        let users = |n: &str| Line::try_parse_from(["replay", "--users", n]).map(|line| line.args.users);
        assert_eq!(users("3").unwrap(), Some(3));
        assert!(users("0").is_err());
    }

    #[test]
    fn a_server_of_other_artifacts_is_not_replayed_against() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let model = r#"{"generation": "g2", "kinds": {}}"#;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{model}", model.len()).unwrap();
        });
        let Line { args } = Line::try_parse_from(["replay", "--url", &url]).unwrap();
        let (train, test) = (Interactions::default(), Interactions::default());
        let questions = HeldOut { train, test, kinds: Vec::new(), keys: Vec::new(), history_max: 1 };
        let script = Script { before: Interactions::default(), events: Vec::new(), questions, users: 0 };
        let error = replay(&args, &script, &[], "g1").err().unwrap().to_string();
        server.join().unwrap();
        assert!(error.contains("serves generation \"g2\" and not \"g1\""), "{error}");
    }

    #[test]
    fn degraded_answers_are_not_compared() {
        let quality = |questions, hit_rate| Quality { questions, hit_rate, mrr: 0.1 };
        let (live, near) = (quality(10, 0.3), quality(10, 0.305));
        assert!(agree(live, near, 0));
        assert!(!agree(live, near, 1));
        assert!(!agree(live, quality(10, 0.32), 0) && !agree(live, quality(9, 0.3), 0));
    }
}

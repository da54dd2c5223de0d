//! `kindred bench recall`: what a filter costs in recall, as a caller sees it.
//!
//! A server is asked `/v1/search` over HTTP twice for each query, once as it searches and once with `exact: true`, under filters that let pass from
//! all items down to one in 10,000. Each item has two numbers to filter by: its place in a random order, and its place in the order of likeness to
//! one item. By those a filter is random; about one item, as a category is, whatever the query; with the query, for queries that are near that
//! item; or against it, when the items farthest from it are let pass.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use kindred_index::dot;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{Exit, Global};
use super::filters::SHARES;
use super::latency::Latency;
use crate::build::{self, BuildOptions, EdgeChoice};
use crate::factors::FactorsOptions;
use crate::generated;
use crate::load::client::Client;
use crate::load::process::ServerProcess;
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::model_dir::{ModelDir, ModelMetric};
use crate::progress::Progress;
use crate::recall::is_true;
use crate::report::{Report, Table, count, emit};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of an item in a random order.
const RANDOM: &str = "random_place";
/// Its number in the order of likeness to one item.
const LIKE: &str = "like_place";
/// Generated queries; those near the one item are taken from as many more.
const GENERATED: usize = 4;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred bench recall --items 200000 --dims 64")]
pub struct Args {
    /// Items to generate
    #[arg(long, default_value_t = 200_000, value_parser = RangedU64ValueParser::<usize>::new().range(100..=50_000_000))]
    items: usize,
    /// Length of the generated vectors
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(2..=4096))]
    dims: usize,
    /// How generated items are compared
    #[arg(long, value_enum, default_value_t = ModelMetric::Cosine)]
    metric: ModelMetric,
    /// Queries under each filter
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    queries: usize,
    /// Nearest items asked for
    #[arg(short, default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    k: usize,
    /// Breadth of the search; what the server takes by itself if left out
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    ef_search: Option<usize>,
    /// The recall that each filter must reach
    #[arg(long, default_value_t = 0.98)]
    floor: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct RecallReport {
    machine: Machine,
    n_items: usize,
    dimensions: usize,
    metric: ModelMetric,
    n_queries: usize,
    k: usize,
    ef_search: Option<usize>,
    floor: f64,
    filters: Vec<Filtered>,
    least_recall: f64,
    /// Whether the floor is reached everywhere.
    reached: bool,
}

/// Searches under one filter.
#[derive(Debug, Serialize)]
struct Filtered {
    kind: &'static str,
    share: f64,
    items: usize,
    /// Mean share of the true k nearest allowed items that were found.
    ann_recall: f64,
    /// Milliseconds, as the caller sees them.
    p50_ms: f64,
    p99_ms: f64,
    exact_p50_ms: f64,
    /// The plan that most queries were answered by.
    plan: String,
}

/// Which items pass, and who asks.
#[derive(Clone, Copy)]
enum Kind {
    Random,
    AboutOneItem,
    WithTheQuery,
    AgainstTheQuery,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Random, Self::AboutOneItem, Self::WithTheQuery, Self::AgainstTheQuery];

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::AboutOneItem => "about one item",
            Self::WithTheQuery => "with the query",
            Self::AgainstTheQuery => "against the query",
        }
    }

    /// The filter that lets so many of all items pass.
    fn filter(self, passing: usize, all: usize) -> Value {
        match self {
            Self::Random => json!({"key": RANDOM, "range": {"lt": passing}}),
            Self::AboutOneItem | Self::WithTheQuery => json!({"key": LIKE, "range": {"lt": passing}}),
            Self::AgainstTheQuery => json!({"key": LIKE, "range": {"gte": all - passing}}),
        }
    }
}

/// Measures and reports.
///
/// # Errors
/// The artifact cannot be built, or the server not be started or asked.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let progress = Progress::bar("generating items", 0);
    let n_queries = args.queries * GENERATED;
    let options = FactorsOptions { n_items: args.items, dims: args.dims, n_queries, seed: args.seed };
    let mut model = generated::model(&options, args.metric);
    let anywhere: Vec<Vec<f32>> = (0..args.queries).map(|query| model.queries.row(query).to_vec()).collect();
    let near = number_items(&mut model, args.seed);
    let near = nearest(&model.queries, &near, args.queries);
    let place = tempfile::tempdir().context("making a temporary directory")?;
    // The floor is not what is measured here; the recall without a filter is in the table.
    let build = BuildOptions { edges: EdgeChoice::Auto, recall_floor: 0.0, ..BuildOptions::default() };
    build::publish(&model.parts(), place.path(), &build, &progress).context("building the generated artifact")?;
    drop(model);
    progress.start("starting the server", 0);
    let settings = [("KINDRED__OVERLOAD__ENABLED", "false".to_owned())];
    let server = ServerProcess::start(place.path(), None, None, &settings, None)?;
    let mut client = Client::new(server.address, PATIENCE);
    progress.start("measuring", (Kind::ALL.len() * SHARES.len()) as u64);
    let mut filters = Vec::new();
    for kind in Kind::ALL {
        let queries = match kind {
            Kind::Random | Kind::AboutOneItem => &anywhere,
            Kind::WithTheQuery | Kind::AgainstTheQuery => &near,
        };
        for share in SHARES {
            filters.push(measure(&mut client, args, kind, share, queries)?);
            progress.inc(1);
        }
    }
    progress.finish();
    let least_recall = filters.iter().map(|filter| filter.ann_recall).fold(f64::INFINITY, f64::min);
    let report = RecallReport {
        machine: Machine::here(),
        n_items: args.items,
        dimensions: args.dims,
        metric: args.metric,
        n_queries: args.queries,
        k: args.k,
        ef_search: args.ef_search,
        floor: args.floor,
        filters,
        least_recall,
        reached: least_recall >= args.floor,
    };
    emit(&report, global.json)?;
    Ok(if report.reached { Exit::Done } else { Exit::No })
}

/// Gives each item its two numbers; returns the row of the item that they are like.
fn number_items(model: &mut ModelDir, seed: u64) -> Vec<f32> {
    let n = model.items.len();
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xf117);
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut random);
    let one = model.item_factors.row(order.first().copied().unwrap_or(0)).to_vec();
    let mut like: Vec<(f32, usize)> = (0..n).map(|item| (dot(&one, model.item_factors.row(item)), item)).collect();
    like.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let like = like.into_iter().map(|(_, item)| item).enumerate().map(|(at, item)| (LIKE, at, item));
    let places = order.into_iter().enumerate().map(|(at, item)| (RANDOM, at, item)).chain(like);
    for (name, at, item) in places {
        if let Some(item) = model.items.get_mut(item) {
            item.attributes.insert(name.to_owned(), json!(at));
        }
    }
    one
}

/// The queries nearest to a row.
fn nearest(queries: &Matrix, row: &[f32], most: usize) -> Vec<Vec<f32>> {
    let cosine = |query: &[f32]| dot(query, row) / dot(query, query).sqrt().max(f32::MIN_POSITIVE);
    let mut ranked: Vec<(f32, usize)> = (0..queries.rows).map(|query| (cosine(queries.row(query)), query)).collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    ranked.iter().take(most).map(|(_, query)| queries.row(*query).to_vec()).collect()
}

/// Asks every query under one filter, as the server searches and exactly.
fn measure(client: &mut Client, args: &Args, kind: Kind, share: f64, queries: &[Vec<f32>]) -> anyhow::Result<Filtered> {
    let passing = ((args.items as f64 * share).round() as usize).max(1);
    let filter = kind.filter(passing, args.items);
    let (mut asked, mut exactly) = (Latency::new()?, Latency::new()?);
    let (mut found, mut possible) = (0, 0);
    let mut plans = std::collections::BTreeMap::<String, usize>::new();
    for vector in queries {
        let mut question = json!({"vector": vector, "k": args.k, "filter": filter});
        let exact = {
            let mut question = question.clone();
            question["exact"] = json!(true);
            ask(client, &question, &mut exactly)?.0
        };
        if let Some(ef_search) = args.ef_search {
            question["ef_search"] = json!(ef_search);
        }
        let (similarities, plan) = ask(client, &question, &mut asked)?;
        ensure!(exact.len() == args.k.min(passing), "the exact answer has {} items of {passing} allowed", exact.len());
        let worst = exact.last().copied().unwrap_or(f32::NEG_INFINITY);
        found += similarities.iter().filter(|similarity| is_true(**similarity, worst)).count();
        possible += exact.len();
        *plans.entry(plan).or_default() += 1;
    }
    let asked = asked.quantiles();
    Ok(Filtered {
        kind: kind.name(),
        share,
        items: passing,
        ann_recall: found as f64 / possible.max(1) as f64,
        p50_ms: asked.p50,
        p99_ms: asked.p99,
        exact_p50_ms: exactly.quantiles().p50,
        plan: plans.into_iter().max_by_key(|(_, times)| *times).map(|(plan, _)| plan).unwrap_or_default(),
    })
}

/// The similarities of an answer, best first, and how they were found.
fn ask(client: &mut Client, question: &Value, latency: &mut Latency) -> anyhow::Result<(Vec<f32>, String)> {
    let began = Instant::now();
    let answer = client.json("POST", "/v1/search", "", question)?;
    latency.record(began.elapsed());
    let similarity = |hit: &Value| hit.get("similarity").and_then(Value::as_f64).map(|value| value as f32);
    let hits = answer.get("hits").and_then(Value::as_array).context("/v1/search answered no hits")?;
    let plan = answer.get("plan").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((hits.iter().filter_map(similarity).collect(), plan))
}

impl Report for RecallReport {
    fn text(&self) -> String {
        let recall = format!("ann_recall@{}", self.k);
        let breadth = self.ef_search.map_or_else(|| "the server's own".to_owned(), |ef| ef.to_string());
        let mut text = format!(
            "{}\n{} generated items × {}, over HTTP; {} queries under each filter, ef_search {breadth}\n",
            self.machine.line(),
            count(self.n_items as u64),
            self.dimensions,
            count(self.n_queries as u64),
        );
        let mut table =
            Table::new(["allowed", "share %", "items", &recall, "p50 ms", "p99 ms", "exact p50 ms", "mostly by"])
                .left(7);
        for filter in &self.filters {
            table.row([
                filter.kind.to_owned(),
                format!("{}", filter.share * 100.0),
                count(filter.items as u64),
                format!("{:.4}", filter.ann_recall),
                format!("{:.2}", filter.p50_ms),
                format!("{:.2}", filter.p99_ms),
                format!("{:.2}", filter.exact_p50_ms),
                filter.plan.clone(),
            ]);
        }
        text.push_str(&table.text());
        let verdict = if self.reached { "reaches" } else { "does NOT reach" };
        text.push_str(&format!("  least {recall} {:.4}: {verdict} {}\n", self.least_recall, self.floor));
        text
    }
}

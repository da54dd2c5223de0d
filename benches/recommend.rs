//! What a recommendation costs, stage by stage: 64 dimensions, 20 recent interactions, a graph built by the offline builder. And what the user vector
//! of 50 interactions at 128 dimensions costs.
//!
//! `cargo bench -p kindred --bench recommend`; `KINDRED_BENCH_ITEMS=200000` for the size that the README speaks of. Everything is seeded; the history
//! changes with every iteration, so that no row is in the cache only because the last request left it there.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kindred::recommend::{RecommendRequest, RecommendScratch, Stage, recommend};
use kindred::testing::{Fixture, Noise};
use kindred::{Interaction, Model, Scenario, Weighting};
use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
use kindred_index::{AlignedBytes, EdgeSet, IndexInput, Metric};

const DIMENSIONS: usize = 64;
const INTERACTIONS: usize = 20;
const HISTORIES: usize = 512;
/// No multiple of ten: every tenth item is not available, and no cluster shall be that as a whole.
const CLUSTERS: usize = 97;

fn n_items() -> usize {
    std::env::var("KINDRED_BENCH_ITEMS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// The model, with a graph of both edge sets as `kindred build` makes it for inner-product factors.
fn model(n: usize, dims: usize) -> Model<AlignedBytes> {
    let fixture = Fixture::clustered(1, n, dims, Metric::InnerProduct, CLUSTERS);
    let tables = fixture.tables();
    let input = IndexInput { tables: &tables, rows: &fixture.rows, dims, metric: Metric::InnerProduct };
    let options = GraphOptions { edges: EdgeSet::United, ..GraphOptions::default() };
    let built = build_index(&input, &options, &HnswBuilder, &()).unwrap();
    let model = fixture.model_over(built.to_bytes().unwrap());
    model.available();
    model
}

/// Visitors who stay near one taste: items of one cluster, as sessions are.
fn histories(n: usize, interactions: usize) -> Vec<Vec<Interaction>> {
    let mut noise = Noise(7);
    let one = |noise: &mut Noise| {
        let cluster = noise.below(CLUSTERS);
        let item = |noise: &mut Noise| noise.below(n / CLUSTERS) * CLUSTERS + cluster;
        (0..interactions).map(|t| Interaction::new(Fixture::key(item(noise)), "view", t as i64 * 60_000)).collect()
    };
    (0..HISTORIES).map(|_| one(&mut noise)).collect()
}

struct Bench {
    model: Model<AlignedBytes>,
    histories: Vec<Vec<Interaction>>,
    scenario: Scenario,
    weighting: Weighting,
    scratch: RecommendScratch,
    next: usize,
}

impl Bench {
    fn new(n: usize, dims: usize, interactions: usize) -> Self {
        Self {
            model: model(n, dims),
            histories: histories(n, interactions),
            scenario: Scenario::home(),
            weighting: Weighting::default(),
            scratch: RecommendScratch::default(),
            next: 0,
        }
    }

    /// One request; the time from its begin, or from the end of the stage before, to the end of `stage`.
    fn once(&mut self, stage: Option<Stage>, exact: bool, explain: bool) -> Duration {
        self.next = (self.next + 1) % self.histories.len();
        let Some(history) = self.histories.get(self.next) else { return Duration::ZERO };
        let request = RecommendRequest { exact, explain, ..RecommendRequest::new(history, 3_600_000) };
        let began = Instant::now();
        let mut last = began;
        let mut spent = Duration::ZERO;
        let mut observe = |ended: Stage| {
            let now = Instant::now();
            if Some(ended) == stage {
                spent = now - last;
            }
            last = now;
        };
        let answer =
            recommend(&self.model, &self.scenario, &self.weighting, &request, &mut self.scratch, &mut observe).unwrap();
        let all = began.elapsed();
        black_box(answer);
        if stage.is_some() { spent } else { all }
    }
}

fn benches(c: &mut Criterion) {
    let n = n_items();
    let mut long = Bench::new(n, 128, 50);
    c.bench_function(&format!("user_vector/{n}/50_of_128"), |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| long.once(Some(Stage::UserVector), false, false)).sum())
    });
    drop(long);
    let mut bench = Bench::new(n, DIMENSIONS, INTERACTIONS);
    let mut group = c.benchmark_group(format!("recommend/{n}"));
    group.throughput(Throughput::Elements(1));
    let stages = [
        ("all", None),
        ("user_vector", Some(Stage::UserVector)),
        ("filter", Some(Stage::Filter)),
        ("neighbours", Some(Stage::Neighbours)),
        ("search", Some(Stage::Search)),
        ("rank", Some(Stage::Rank)),
    ];
    for (name, stage) in stages {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| bench.once(stage, false, false)).sum())
        });
    }
    group.bench_function("explained", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| bench.once(None, false, true)).sum())
    });
    group.sample_size(10);
    group.bench_function("exact", |b| b.iter_custom(|rounds| (0..rounds).map(|_| bench.once(None, true, false)).sum()));
    let scenario = Scenario::similar();
    let mut seed = 0;
    group.bench_function("similar", |b| {
        b.iter(|| {
            seed = (seed + 7_919) % n as u32;
            let item_ids = [bench.model.index().key(seed).unwrap().to_owned()];
            let nobody: [Interaction; 0] = [];
            let request =
                RecommendRequest { limit: Some(10), item_ids: &item_ids, ..RecommendRequest::new(&nobody, 0) };
            let Bench { model, weighting, scratch, .. } = &mut bench;
            black_box(recommend(model, &scenario, weighting, &request, scratch, &mut |_| ()).unwrap());
        });
    });
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);

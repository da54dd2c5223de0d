//! What the index costs: a walk through the graph against the comparison with every row, with the share of the true nearest it finds.
//!
//! `cargo bench -p kindred --bench index_search`; `KINDRED_BENCH_ITEMS=200000` for a size at which the difference matters. 64 dimensions, seeded
//! clusters, queries that are no rows; recall is printed beside the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kindred::testing::{Fixture, Noise};
use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
use kindred_index::{AlignedBytes, FilterExpr, Index, IndexInput, Metric, Scratch, SearchParams};

const DIMENSIONS: usize = 64;
const QUERIES: usize = 256;
/// No divisor of the number of categories, so that a category is spread over all clusters.
const CLUSTERS: usize = 97;
const K: usize = 10;
const EF_SEARCH: [usize; 3] = [32, 64, 128];

fn n_items() -> usize {
    std::env::var("KINDRED_BENCH_ITEMS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn index(n: usize) -> Index<AlignedBytes> {
    let fixture = Fixture::clustered(1, n, DIMENSIONS, Metric::Cosine, CLUSTERS);
    let tables = fixture.tables();
    let input = IndexInput { tables: &tables, rows: &fixture.rows, dims: DIMENSIONS, metric: Metric::Cosine };
    let built = build_index(&input, &GraphOptions::default(), &HnswBuilder, &()).unwrap();
    Index::open(built.to_bytes().unwrap()).unwrap()
}

/// Rows with noise: near something, equal to nothing.
fn queries(index: &Index<AlignedBytes>) -> Vec<Vec<f32>> {
    let mut noise = Noise(11);
    let near = |noise: &mut Noise| {
        let ordinal = noise.below(index.len() as usize) as u32;
        index.row(ordinal).unwrap().iter().map(|value| value + 0.05 * noise.unit()).collect()
    };
    (0..QUERIES).map(|_| near(&mut noise)).collect()
}

fn found(index: &Index<AlignedBytes>, query: &[f32], params: &SearchParams, scratch: &mut Scratch) -> Vec<u32> {
    index.search(query, params, None, scratch).unwrap();
    scratch.hits().iter().map(|hit| hit.ordinal).collect()
}

/// The share of the true nearest that the graph finds, over all queries.
fn recall(index: &Index<AlignedBytes>, queries: &[Vec<f32>], ef_search: usize) -> f64 {
    let mut scratch = Scratch::default();
    let one = |query: &Vec<f32>| {
        let truth = found(index, query, &SearchParams { k: K, ef_search, exact: true }, &mut scratch);
        let graph = found(index, query, &SearchParams { k: K, ef_search, exact: false }, &mut scratch);
        graph.iter().filter(|ordinal| truth.contains(ordinal)).count()
    };
    queries.iter().map(one).sum::<usize>() as f64 / (queries.len() * K) as f64
}

fn benches(c: &mut Criterion) {
    let n = n_items();
    let index = index(n);
    let queries = queries(&index);
    let mut scratch = Scratch::default();
    let mut group = c.benchmark_group(format!("index_search/{n}"));
    group.throughput(Throughput::Elements(1));
    let toys = FilterExpr::Match { field: "category".to_owned(), value: Fixture::category(0) };
    let toys = index.attributes().evaluate(&toys, index.len()).unwrap();
    for (name, allow) in [("all", None), ("a_quarter_allowed", Some(&toys))] {
        let breadths = EF_SEARCH.map(|ef_search| (format!("graph_ef_{ef_search}"), ef_search, false));
        for (how, ef_search, exact) in breadths.into_iter().chain([("exact".to_owned(), K, true)]) {
            let params = SearchParams { k: K, ef_search, exact };
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, how), |b| {
                b.iter(|| {
                    next = (next + 1) % queries.len();
                    black_box(index.search(&queries[next], &params, allow, &mut scratch).unwrap())
                });
            });
        }
    }
    group.finish();
    for ef_search in EF_SEARCH {
        eprintln!("ann_recall@{K} at ef_search {ef_search}: {:.4}", recall(&index, &queries, ef_search));
    }
}

criterion_group!(group, benches);
criterion_main!(group);

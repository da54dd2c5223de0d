//! Seeded rows that gather in clusters, as factors do, and what the tests of search and builders do with them.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kindred_index::build::HnswRsBuilder;
use kindred_index::build::{BuiltIndex, GraphBuilder, GraphOptions, HnswBuilder, build_index};
use kindred_index::{AlignedBytes, EdgeSet, Index, IndexInput, ItemTables, Metric, Scratch, SearchParams};

use crate::support::Noise;

/// Every builder there is.
pub const BUILDERS: [&dyn GraphBuilder; 2] = [&HnswBuilder, &HnswRsBuilder];

/// Rows, and what is said of their items.
pub struct Factors {
    pub rows: Vec<f32>,
    pub tables: ItemTables,
    pub dims: usize,
}

/// n rows in clusters of about fifty, whose lengths differ by a factor of up to `stretch`.
pub fn clustered(seed: u64, n: usize, dims: usize, stretch: f32) -> Factors {
    let mut noise = Noise(seed);
    let clusters = n.div_ceil(50).max(1);
    let centres: Vec<f32> = (0..clusters * dims).map(|_| noise.unit()).collect();
    let mut rows = Vec::with_capacity(n * dims);
    for _ in 0..n {
        let cluster = noise.word() as usize % clusters;
        let length = stretch.powf(noise.unit().abs());
        let centre = &centres[cluster * dims..][..dims];
        rows.extend(centre.iter().map(|value| length * (value + 0.4 * noise.unit())));
    }
    Factors::new(rows, dims)
}

impl Factors {
    pub fn new(rows: Vec<f32>, dims: usize) -> Self {
        let keys: Vec<String> = (0..rows.len() / dims).map(|i| format!("item-{i}")).collect();
        Self { rows, tables: ItemTables::new(&keys, &[]).unwrap(), dims }
    }

    pub fn n(&self) -> usize {
        self.tables.len() as usize
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.rows[i * self.dims..][..self.dims]
    }

    pub fn input(&self, metric: Metric) -> IndexInput<'_> {
        IndexInput { tables: &self.tables, rows: &self.rows, dims: self.dims, metric }
    }

    pub fn build(&self, metric: Metric, options: &GraphOptions) -> BuiltIndex<'_> {
        self.build_by(&HnswBuilder, metric, options)
    }

    pub fn build_by(&self, builder: &dyn GraphBuilder, metric: Metric, options: &GraphOptions) -> BuiltIndex<'_> {
        build_index(&self.input(metric), options, builder, &()).unwrap()
    }

    /// Built, written, opened and verified.
    pub fn index(&self, metric: Metric, edges: EdgeSet) -> Index<AlignedBytes> {
        let options = GraphOptions { edges, ..GraphOptions::default() };
        let index = Index::open(self.build(metric, &options).to_bytes().unwrap()).unwrap();
        index.verify().unwrap();
        index
    }

    /// Queries near the rows: a row and some noise.
    pub fn queries(&self, seed: u64, count: usize) -> Vec<Vec<f32>> {
        let mut noise = Noise(seed);
        let one = |noise: &mut Noise| {
            let row = self.row(noise.word() as usize % self.n());
            row.iter().map(|value| value + 0.2 * noise.unit()).collect()
        };
        (0..count).map(|_| one(&mut noise)).collect()
    }
}

pub fn ordinals(scratch: &Scratch) -> Vec<u32> {
    scratch.hits().iter().map(|hit| hit.ordinal).collect()
}

pub fn exactly(k: usize) -> SearchParams {
    SearchParams { k, ef_search: k, exact: true }
}

pub fn broadly(k: usize, ef_search: usize) -> SearchParams {
    SearchParams { k, ef_search, exact: false }
}

/// The share of `truth` that was found.
pub fn share(truth: &[u32], found: &[u32]) -> f64 {
    truth.iter().filter(|ordinal| found.contains(ordinal)).count() as f64 / truth.len().max(1) as f64
}

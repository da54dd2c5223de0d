//! The same rows and options give the same bytes where that is asked for; a parallel build gives a graph as good, and another one.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/factors.rs"]
mod factors;
mod support;

use factors::{BUILDERS, clustered};
use kindred_index::build::{GraphBuilder, GraphOptions, HnswBuilder, RowForm};
use kindred_index::{AlignedBytes, EdgeSet, Index, Metric};

fn bytes(builder: &dyn GraphBuilder, seed: u64, metric: Metric, edges: EdgeSet) -> AlignedBytes {
    let factors = clustered(20, 2_500, 12, 3.0);
    let options = GraphOptions { deterministic: true, m: 6, ef_construction: 60, seed, edges, rows: RowForm::Fine };
    factors.build_by(builder, metric, &options).to_bytes().unwrap()
}

#[test]
fn a_deterministic_build_gives_the_same_bytes() {
    for (metric, edges) in [(Metric::Cosine, EdgeSet::Cosine), (Metric::InnerProduct, EdgeSet::United)] {
        for builder in BUILDERS {
            assert!(bytes(builder, 1, metric, edges) == bytes(builder, 1, metric, edges), "{edges:?}");
        }
    }
}

#[test]
fn our_builder_gives_the_same_bytes_for_any_number_of_threads() {
    let factors = clustered(22, 4_000, 12, 3.0);
    let built = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = GraphOptions { m: 6, ef_construction: 60, edges: EdgeSet::United, ..GraphOptions::default() };
        pool.install(|| factors.build(Metric::InnerProduct, &options).to_bytes().unwrap())
    };
    let alone = built(1);
    assert!([2, 3, 7].into_iter().all(|threads| built(threads) == alone));
}

#[test]
fn the_seed_decides_the_order_of_insertion() {
    let [first, second] = [1, 2].map(|seed| bytes(&HnswBuilder, seed, Metric::Cosine, EdgeSet::Cosine));
    assert!(first != second);
    let [first, second] = [first, second].map(|bytes| Index::open(bytes).unwrap());
    // Ordinals stay the caller's: only the graph differs.
    for ordinal in 0..first.len() {
        assert_eq!((first.key(ordinal), first.row(ordinal)), (second.key(ordinal), second.row(ordinal)));
    }
}

#[test]
fn the_same_index_written_twice_is_the_same() {
    let factors = clustered(21, 500, 12, 3.0);
    let built = factors.build(Metric::Cosine, &GraphOptions::default());
    let mut written = AlignedBytes::new();
    let length = built.write(&mut written).unwrap();
    assert_eq!(length, written.len() as u64);
    assert!(written == built.to_bytes().unwrap());
}

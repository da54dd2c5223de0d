//! The graph search against the exact one: what it finds, what it must never find, and what it does with links made to harm it.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/factors.rs"]
mod factors;
mod support;

use std::collections::BTreeSet;

use factors::{broadly, clustered, exactly, ordinals, share};
use kindred_index::{
    AlignedBytes, AllowSet, EdgeSet, FlatGraph, Index, Metric, Plan, Scratch, SearchError, SearchParams,
    assemble_index, dot_scalar,
};
use proptest::prelude::*;
use support::Noise;

fn recall(index: &Index<AlignedBytes>, queries: &[Vec<f32>], ef_search: usize, allow: Option<&AllowSet>) -> f64 {
    let mut scratch = Scratch::default();
    let mut sum = 0.0;
    for query in queries {
        index.search(query, &exactly(10), allow, &mut scratch).unwrap();
        let truth = ordinals(&scratch);
        index.search(query, &broadly(10, ef_search), allow, &mut scratch).unwrap();
        assert!(scratch.hits().is_sorted_by(|a, b| (b.similarity, a.ordinal) < (a.similarity, b.ordinal)));
        sum += share(&truth, &ordinals(&scratch));
    }
    sum / queries.len() as f64
}

#[test]
fn the_graph_finds_what_an_exact_search_finds() {
    let factors = clustered(1, 5_000, 24, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let queries = factors.queries(2, 200);
    let (narrow, broad) = (recall(&index, &queries, 20, None), recall(&index, &queries, 100, None));
    assert!(broad >= 0.95 && broad >= narrow, "recall {narrow} at ef 20, {broad} at ef 100");
}

#[test]
fn a_walk_narrower_than_what_it_is_to_find_finds_as_many_and_costs_less() {
    let factors = clustered(31, 5_000, 24, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let queries = factors.queries(32, 100);
    let mut scratch = Scratch::default();
    let mut cost = |k: usize, ef_search: usize| -> u32 {
        let search = |query: &Vec<f32>| {
            let stats = index.search(query, &broadly(k, ef_search), None, &mut scratch).unwrap();
            assert_eq!((scratch.hits().len(), stats.plan), (k, Plan::Graph));
            stats.distances
        };
        queries.iter().map(search).sum()
    };
    assert!(cost(10, 5) * 10 < cost(10, 10) * 9);
    assert!(cost(64, 20) * 10 < cost(64, 64) * 7);
    assert_eq!(cost(64, 1), cost(64, 16), "no narrower than a quarter");
    let recalls = [3, 5, 10, 40].map(|ef_search| recall(&index, &queries, ef_search, None));
    assert!(recalls.is_sorted() && recalls[0] > 0.5, "{recalls:?}");
}

/// Queries that lie between two items, which is known of them.
#[test]
fn a_walk_that_begins_at_known_items_costs_less_and_finds_more() {
    let factors = clustered(41, 20_000, 24, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let mut noise = Noise(42);
    let pairs: Vec<[u32; 2]> = (0..200).map(|_| [0, 1].map(|_| noise.word() as u32 % index.len())).collect();
    let mut scratch = Scratch::default();
    let mut search = |known: bool, allow: Option<&AllowSet>| {
        let (mut distances, mut found) = (0, 0.0);
        for [a, b] in pairs.iter().copied() {
            let rows = factors.row(a as usize).iter().zip(factors.row(b as usize));
            let query: Vec<f32> = rows.map(|(a, b)| a + b).collect();
            index.search(&query, &exactly(10), allow, &mut scratch).unwrap();
            let truth = ordinals(&scratch);
            // There may be others that the index does not have, and the same ones again.
            let entries = [u32::MAX, index.len(), b, a, a];
            let entries = if known { &entries[..] } else { &entries[..2] };
            let stats = index.search_from(&query, &broadly(10, 20), allow, entries, &mut scratch).unwrap();
            assert!(
                scratch.hits().len() == 10
                    && ordinals(&scratch).iter().all(|one| allow.is_none_or(|set| set.contains(*one)))
            );
            assert_eq!(ordinals(&scratch).iter().collect::<BTreeSet<_>>().len(), 10, "none twice");
            distances += stats.distances;
            found += share(&truth, &ordinals(&scratch));
        }
        (distances, found / pairs.len() as f64)
    };
    let ((far, less), (near, more)) = (search(false, None), search(true, None));
    assert!(near * 10 < far * 9 && more > less + 0.02, "{near} and {far} comparisons, recall {more} and {less}");
    let half: AllowSet = (0..index.len()).step_by(2).fold(AllowSet::new_empty(index.len()), |mut set, ordinal| {
        set.insert(ordinal);
        set
    });
    let ((_, less), (_, more)) = (search(false, Some(&half)), search(true, Some(&half)));
    assert!(more >= less, "recall {more} and {less} of half of them");
}

#[test]
fn united_edges_find_the_largest_inner_products() {
    let factors = clustered(3, 4_000, 24, 8.0);
    let index = factors.index(Metric::InnerProduct, EdgeSet::United);
    let found = recall(&index, &factors.queries(4, 200), 100, None);
    assert!(found >= 0.95, "recall {found}");
}

#[test]
fn a_filter_finds_as_much_as_without_and_nothing_else() {
    let factors = clustered(5, 5_000, 16, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let queries = factors.queries(6, 60);
    let mut scratch = Scratch::default();
    for percent in [0, 1, 3, 10, 30, 60, 100] {
        let mut allow = AllowSet::new_empty(index.len());
        let mut noise = Noise(7);
        (0..index.len()).filter(|_| noise.word() % 100 < percent).for_each(|ordinal| {
            allow.insert(ordinal);
        });
        let found = recall(&index, &queries, 100, Some(&allow));
        assert!(found >= 0.95 || allow.is_empty(), "recall {found} with {percent} % allowed");
        for query in &queries {
            let stats = index.search(query, &broadly(10, 20), Some(&allow), &mut scratch).unwrap();
            assert!(scratch.hits().iter().all(|hit| allow.contains(hit.ordinal)));
            assert_eq!(scratch.hits().len(), 10.min(allow.cardinality() as usize));
            assert!(percent != 100 || stats.plan == Plan::FilteredGraph, "{stats:?}");
            assert!(percent > 1 || stats.plan == Plan::Exact, "{stats:?}");
        }
    }
}

/// Half of all items are allowed, and all of them are far from the query: the walk must not come back with too little.
#[test]
fn a_filter_against_the_query_still_finds_the_nearest_allowed() {
    let factors = clustered(8, 4_000, 16, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let mut scratch = Scratch::default();
    for query in factors.queries(9, 20) {
        index.search(&query, &exactly(4_000), None, &mut scratch).unwrap();
        let mut allow = AllowSet::new_empty(index.len());
        scratch.hits()[2_000..].iter().for_each(|hit| {
            allow.insert(hit.ordinal);
        });
        index.search(&query, &exactly(10), Some(&allow), &mut scratch).unwrap();
        let truth = ordinals(&scratch);
        let stats = index.search(&query, &broadly(10, 64), Some(&allow), &mut scratch).unwrap();
        assert!(share(&truth, &ordinals(&scratch)) >= 0.9, "{stats:?}");
        assert!(stats.distances <= 2 * allow.cardinality() + 100, "{stats:?}");
    }
}

#[test]
fn equal_similarities_come_in_the_order_of_ordinals_on_every_path() {
    let mut factors = clustered(10, 1_000, 8, 1.0);
    let same = factors.row(500).to_vec();
    for item in [17, 3, 999, 250, 251, 252, 600] {
        factors.rows[item * 8..][..8].copy_from_slice(&same);
    }
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let mut scratch = Scratch::default();
    let allow = AllowSet::full(1_000);
    for (params, allow) in [(exactly(8), None), (broadly(8, 100), None), (broadly(8, 100), Some(&allow))] {
        index.search(&same, &params, allow, &mut scratch).unwrap();
        assert_eq!(ordinals(&scratch), [3, 17, 250, 251, 252, 500, 600, 999], "{params:?}");
    }
}

#[test]
fn what_cannot_be_searched_is_an_error_and_leaves_no_hits() {
    let factors = clustered(11, 100, 8, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let mut scratch = Scratch::default();
    let mut search = |query: &[f32], params: &SearchParams, allow: Option<&AllowSet>| {
        index.search(factors.row(0), &broadly(3, 10), None, &mut scratch).unwrap();
        let error = index.search(query, params, allow, &mut scratch).unwrap_err();
        assert!(scratch.hits().is_empty() && !error.to_string().is_empty());
        error
    };
    let good = broadly(3, 10);
    assert_eq!(search(&[1.0; 7], &good, None), SearchError::Dimensions { expected: 8, found: 7 });
    assert_eq!(search(&[0.0; 8], &good, None), SearchError::ZeroQuery);
    let mut query = [1.0; 8];
    query[5] = f32::INFINITY;
    assert_eq!(search(&query, &good, None), SearchError::NotFinite { place: 5, found: f32::INFINITY });
    assert_eq!(search(&[1.0; 8], &broadly(10_001, 10), None), SearchError::K { found: 10_001 });
    assert_eq!(search(&[1.0; 8], &broadly(1, 20_001), None), SearchError::EfSearch { found: 20_001 });
    let other = AllowSet::full(99);
    assert_eq!(search(&[1.0; 8], &good, Some(&other)), SearchError::AllowSet { expected: 100, found: 99 });
}

#[test]
fn small_indexes_and_small_questions() {
    let mut scratch = Scratch::default();
    for n in [0, 1, 2, 3] {
        let factors = clustered(12, n, 5, 1.0);
        for (metric, edges) in [(Metric::Cosine, EdgeSet::Cosine), (Metric::InnerProduct, EdgeSet::United)] {
            let index = factors.index(metric, edges);
            for params in [exactly(10), broadly(10, 10), broadly(10, 0), broadly(10_000, 20_000)] {
                index.search(&[1.0; 5], &params, None, &mut scratch).unwrap();
                let mut found = ordinals(&scratch);
                found.sort_unstable();
                assert_eq!(found, (0..n as u32).collect::<Vec<_>>());
            }
            let stats = index.search(&[1.0; 5], &broadly(0, 10), None, &mut scratch).unwrap();
            assert!(scratch.hits().is_empty() && stats.distances == 0);
            let stats = index.search(&[1.0; 5], &exactly(10_000), None, &mut scratch).unwrap();
            assert_eq!((stats.distances as usize, scratch.hits().len()), (n, n));
        }
    }
}

#[test]
fn one_scratch_serves_indexes_of_any_size_in_turn() {
    let indexes = [3, 700, 40, 1_500].map(|n| clustered(13, n, 12, 1.0).index(Metric::Cosine, EdgeSet::Cosine));
    let query = [0.3; 12];
    let mut shared = Scratch::default();
    for round in 0..600 {
        let index = &indexes[round % indexes.len()];
        index.search(&query, &broadly(5, 50), None, &mut shared).unwrap();
        let mut fresh = Scratch::default();
        index.search(&query, &broadly(5, 50), None, &mut fresh).unwrap();
        assert_eq!(shared.hits(), fresh.hits(), "round {round}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The exact search against the plainest there is.
    #[test]
    fn an_exact_search_agrees_with_sorting(seed in any::<u64>(), n in 1_usize..200, dims in 1_usize..40, k in 0_usize..60) {
        let factors = clustered(seed, n, dims, 4.0);
        let index = factors.index(Metric::InnerProduct, EdgeSet::InnerProduct);
        let query: Vec<f32> = factors.queries(seed ^ 1, 1).remove(0);
        let mut scratch = Scratch::default();
        let stats = index.search(&query, &exactly(k), None, &mut scratch).unwrap();
        prop_assert_eq!(stats.distances as usize, if k == 0 { 0 } else { n });
        let mut sorted: Vec<f32> = (0..n).map(|i| dot_scalar(&query, factors.row(i))).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        prop_assert_eq!(scratch.hits().len(), k.min(n));
        for (hit, similarity) in scratch.hits().iter().zip(sorted) {
            prop_assert!((hit.similarity - similarity).abs() <= 1e-3 * (1.0 + similarity.abs()));
            let own = dot_scalar(&query, factors.row(hit.ordinal as usize));
            prop_assert!((hit.similarity - own).abs() <= 1e-3 * (1.0 + own.abs()));
        }
    }

    /// Links, levels and slots at random: no panic, no hit that does not exist or is not allowed, and no fewer hits than there are.
    #[test]
    fn hostile_graphs_do_no_harm(
        seed in any::<u64>(),
        n in 1_u32..80,
        wild in 0_u32..3,
        k in 0_usize..30,
        ef_search in 0_usize..60,
        filter in any::<bool>(),
    ) {
        let mut noise = Noise(seed);
        let mut below = |bound: u32| (noise.word() % u64::from(bound.max(1))) as u32;
        // The wilder, the more values there are that lead nowhere.
        let mut value = || match wild { 0 => below(n), 1 => below(2 * n), _ => below(u32::MAX) };
        let mut levels: Vec<u8> = (0..n).map(|i| (value() % (2 + i % 3)) as u8).collect();
        let entry_point = levels.iter().position(|level| Some(level) == levels.iter().max()).unwrap() as u32;
        let slots: u32 = levels.iter().map(|level| u32::from(*level)).sum();
        let graph = FlatGraph {
            n,
            m: 3,
            m0_stride: 16,
            links0: (0..n * 16).map(|_| value()).collect::<Vec<u32>>().into(),
            upper_index: (0..n).map(|_| value()).collect(),
            upper_links: (0..slots * 3).map(|_| value()).collect(),
            levels: std::mem::take(&mut levels),
            entry_point,
        };
        let factors = clustered(seed, n as usize, 6, 2.0);
        let input = factors.input(Metric::Cosine);
        let index = Index::open(assemble_index(&input, &graph, EdgeSet::Cosine).unwrap()).unwrap();
        let mut allow = AllowSet::full(n);
        (0..n).filter(|_| filter && value() % 3 == 0).for_each(|ordinal| { allow.remove(ordinal); });
        let mut scratch = Scratch::default();
        let allow = filter.then_some(&allow);
        index.search(&[0.5; 6], &broadly(k, ef_search), allow, &mut scratch).unwrap();
        let possible = allow.map_or(n, AllowSet::cardinality) as usize;
        prop_assert_eq!(scratch.hits().len(), k.min(possible));
        prop_assert!(scratch.hits().iter().all(|hit| hit.ordinal < n && allow.is_none_or(|allow| allow.contains(hit.ordinal))));
        let mut found = ordinals(&scratch);
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found.len(), scratch.hits().len(), "an item twice");
        index.graph().stats();
        for ordinal in 0..n + 2 {
            for level in 0..4 {
                index.graph().links(ordinal, level);
            }
        }
    }
}

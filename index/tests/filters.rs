//! Filters against the exact search of what they allow: whatever share is allowed, and wherever it lies.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/factors.rs"]
mod factors;
mod support;

use std::sync::OnceLock;

use factors::{broadly, clustered, exactly, ordinals, share};
use kindred_index::build::GraphOptions;
use kindred_index::{AlignedBytes, AllowSet, EdgeSet, Index, Metric, Plan, Scratch, dot};
use proptest::prelude::*;
use support::Noise;

const N: usize = 6_000;
const DIMS: usize = 16;

fn index() -> &'static Index<AlignedBytes> {
    static INDEX: OnceLock<Index<AlignedBytes>> = OnceLock::new();
    INDEX.get_or_init(|| clustered(21, N, DIMS, 1.0).index(Metric::Cosine, EdgeSet::Cosine))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Random,
    Near,
    Far,
}

/// So many items: any, the nearest to a query or the farthest from it.
fn allowed(kind: Kind, count: usize, query: &[f32], noise: &mut Noise) -> AllowSet {
    let mut set = AllowSet::new_empty(N as u32);
    let mut ranked: Vec<(f32, u32)> = (0..N as u32).map(|i| (dot(query, &index().row(i).unwrap()), i)).collect();
    match kind {
        Kind::Random => ranked.iter_mut().for_each(|(key, _)| *key = noise.unit()),
        Kind::Near => ranked.iter_mut().for_each(|(key, _)| *key = -*key),
        Kind::Far => {}
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.iter().take(count).for_each(|(_, ordinal)| assert!(set.insert(*ordinal)));
    set
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_of_any_share_finds_what_an_exact_search_finds(
        seed in any::<u64>(),
        kind in prop::sample::select(vec![Kind::Random, Kind::Near, Kind::Far]),
        rarity in 0.0_f64..3.5,
        k in prop::sample::select(vec![1_usize, 10, 40]),
        // Narrow, so that walks are worth it even among so few items.
        ef_search in prop::sample::select(vec![40_usize, 80]),
    ) {
        let count = ((N as f64 * 10_f64.powf(-rarity)) as usize).max(1);
        let (mut noise, mut scratch, mut sum) = (Noise(seed), Scratch::default(), 0.0);
        let queries = clustered(21, N, DIMS, 1.0).queries(seed, 12);
        for query in &queries {
            let set = allowed(kind, count, query, &mut noise);
            index().search(query, &exactly(k), Some(&set), &mut scratch).unwrap();
            let truth = ordinals(&scratch);
            let stats = index().search(query, &broadly(k, ef_search), Some(&set), &mut scratch).unwrap();
            let found = ordinals(&scratch);
            prop_assert_eq!(found.len(), k.min(count), "{:?}", stats);
            prop_assert!(found.iter().all(|ordinal| set.contains(*ordinal)));
            prop_assert!(scratch.hits().is_sorted_by(|a, b| (b.similarity, a.ordinal) < (a.similarity, b.ordinal)));
            let recall = share(&truth, &found);
            // Codes may hide an item that was barely among the nearest, and no more.
            prop_assert!(stats.plan != Plan::Exact || recall >= 1.0 - 1.0 / k as f64, "{} by {:?}", recall, stats);
            sum += recall;
        }
        let recall = sum / queries.len() as f64;
        // Two of all that are looked for may be missed by chance: with k 1 they are only twelve.
        let chance = 2.0 / (k * queries.len()) as f64;
        prop_assert!(recall >= 0.9 - chance, "{} of {} items, {:?}, k {}, ef {}", recall, count, kind, k, ef_search);
    }
}

#[test]
fn codes_side_by_side_find_the_same_and_are_forgotten_when_the_set_grows() {
    let (mut noise, mut scratch) = (Noise(5), Scratch::default());
    for query in &clustered(21, N, DIMS, 1.0).queries(6, 20) {
        let mut set = allowed(Kind::Random, 1_000, query, &mut noise);
        let mut gathered = set.clone();
        index().gather(&mut gathered);
        let mut hits = |set: &AllowSet| {
            let stats = index().search(query, &broadly(10, 400), Some(set), &mut scratch).unwrap();
            assert_eq!(stats.plan, Plan::Exact);
            scratch.hits().to_vec()
        };
        for _ in 0..4 {
            assert_eq!(hits(&gathered), hits(&set));
            for ordinal in hits(&set).iter().map(|hit| hit.ordinal).chain(set.iter().take(200).collect::<Vec<_>>()) {
                assert_eq!(set.remove(ordinal), gathered.remove(ordinal));
            }
        }
        for ordinal in 0..N as u32 / 2 {
            assert_eq!(set.insert(ordinal), gathered.insert(ordinal));
        }
        assert_eq!(hits(&gathered), hits(&set));
    }
}

/// As it may be when an index is dropped and another is read.
#[test]
fn codes_of_another_index_that_lay_at_the_same_place_are_not_used() {
    let factors = |seed: u64| clustered(seed, 3_000, DIMS, 1.0);
    let bytes = |seed: u64| factors(seed).build(Metric::Cosine, &GraphOptions::default()).to_bytes().unwrap();
    let (mut place, other, mut scratch) = (bytes(27), bytes(28), Scratch::default());
    let mut set = AllowSet::new_empty(3_000);
    (0..1_000).for_each(|ordinal| assert!(set.insert(ordinal)));
    let mut gathered = set.clone();
    Index::open(place.as_ref()).unwrap().gather(&mut gathered);
    place.as_mut().copy_from_slice(other.as_ref());
    let index = Index::open(place.as_ref()).unwrap();
    for query in &factors(28).queries(29, 20) {
        let mut hits = |set: &AllowSet| {
            index.search(query, &broadly(10, 10), Some(set), &mut scratch).unwrap();
            scratch.hits().to_vec()
        };
        assert_eq!(hits(&gathered), hits(&set));
    }
}

/// What codes put behind others is kept for as long as it may be nearer, with a filter as without one.
#[test]
fn a_filter_that_passes_everything_finds_nothing_farther_than_none_does() {
    let (everything, mut scratch) = (AllowSet::full(N as u32), Scratch::default());
    for query in &clustered(21, N, DIMS, 1.0).queries(25, 200) {
        index().search(query, &broadly(10, 10), None, &mut scratch).unwrap();
        let plain = scratch.hits().to_vec();
        let stats = index().search(query, &broadly(10, 10), Some(&everything), &mut scratch).unwrap();
        assert_eq!((stats.plan, scratch.hits().len()), (Plan::FilteredGraph, plain.len()));
        let mut pairs = scratch.hits().iter().zip(&plain);
        assert!(pairs.all(|(filtered, plain)| filtered.similarity >= plain.similarity), "{plain:?}");
    }
}

/// It is so short that codes are all alike to it.
#[test]
fn a_query_that_codes_say_nothing_of_is_compared_with_each_allowed_item_once() {
    let index = clustered(26, 2_000, 24, 1.0).index(Metric::InnerProduct, EdgeSet::InnerProduct);
    assert!(index.is_coded());
    let (mut allow, mut scratch) = (AllowSet::new_empty(index.len()), Scratch::default());
    (0..500).for_each(|ordinal| assert!(allow.insert(ordinal)));
    let stats = index.search(&[1e-40; 24], &broadly(10, 10), Some(&allow), &mut scratch).unwrap();
    assert_eq!((stats.plan, stats.distances, scratch.hits().len()), (Plan::Exact, 500, 10));
}

/// Where neither a broader walk nor comparing with all is cheap: no worse than a search of the same breadth without a filter.
#[test]
fn two_hops_find_as_much_as_a_search_without_a_filter() {
    let factors = clustered(22, 12_000, 8, 1.0);
    let index = factors.index(Metric::Cosine, EdgeSet::Cosine);
    let (mut noise, mut scratch) = (Noise(23), Scratch::default());
    let mut set = AllowSet::new_empty(index.len());
    while set.cardinality() < 2_400 {
        set.insert(noise.word() as u32 % index.len());
    }
    let (mut filtered, mut plain, mut by_two_hops) = (0.0, 0.0, 0);
    let queries = factors.queries(24, 100);
    for query in &queries {
        for (allow, sum) in [(None, &mut plain), (Some(&set), &mut filtered)] {
            index.search(query, &exactly(2), allow, &mut scratch).unwrap();
            let truth = ordinals(&scratch);
            let stats = index.search(query, &broadly(2, 2), allow, &mut scratch).unwrap();
            *sum += share(&truth, &ordinals(&scratch));
            by_two_hops += usize::from(stats.plan == Plan::TwoHops);
            assert!(scratch.hits().iter().all(|hit| allow.is_none_or(|allow| allow.contains(hit.ordinal))));
        }
    }
    assert!(by_two_hops > queries.len() / 2, "{by_two_hops}");
    assert!(filtered >= plain - 5.0, "{filtered} with a filter, {plain} without, of {}", queries.len());
}

//! The longest items side by side: found by them is what the exact search finds, filters are kept, and what does not fit is noticed.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/damage.rs"]
mod damage;
#[path = "support/factors.rs"]
mod factors;
mod support;

use damage::{open_error, read, verify_error};
use factors::{Factors, broadly, clustered, exactly, ordinals, share};
use kindred_index::build::{GraphOptions, RowForm};
use kindred_index::format::section;
use kindred_index::{AlignedBytes, AllowSet, EdgeSet, Index, LongestProblem, Metric, OpenError, Plan, VerifyError};
use kindred_index::{Scratch, SearchError, SearchStats};
use support::Parts;

const N: u32 = 4_000;

/// Few items are many times as long as most.
fn skewed() -> Factors {
    let mut factors = clustered(50, N as usize, 24, 1.5);
    for (item, row) in factors.rows.chunks_mut(24).enumerate() {
        let rank = (item * 1_237 % N as usize) as f32 / N as f32;
        row.iter_mut().for_each(|value| *value *= 1.0 + 15.0 * rank.powi(8));
    }
    factors
}

fn bytes() -> AlignedBytes {
    let options = GraphOptions { edges: EdgeSet::InnerProduct, ..GraphOptions::default() };
    skewed().build(Metric::InnerProduct, &options).to_bytes().unwrap()
}

/// The mean share of the true ten nearest that is found at a breadth, and how many searches ended among the longest.
fn found(ef_search: usize, allow: Option<&AllowSet>) -> (f64, usize) {
    let index = Index::open(bytes()).unwrap();
    let mut scratch = Scratch::default();
    let queries = skewed().queries(3, 100);
    let (mut recall, mut among_longest) = (0.0, 0);
    for query in &queries {
        index.search(query, &exactly(10), allow, &mut scratch).unwrap();
        let truth = ordinals(&scratch);
        let stats = index.search(query, &broadly(10, ef_search), allow, &mut scratch).unwrap();
        among_longest += usize::from(stats.plan == Plan::Longest);
        assert!(stats.plan != Plan::Longest || stats.hops == 0 && stats.distances as usize <= index.n_longest() + 64);
        let hits = ordinals(&scratch);
        assert!(hits.iter().all(|hit| allow.is_none_or(|allow| allow.contains(*hit))));
        recall += share(&truth, &hits) / queries.len() as f64;
    }
    (recall, among_longest)
}

#[test]
fn most_queries_end_among_the_longest_and_find_what_is_nearest() {
    let (narrow, usual, broad) = (found(10, None), found(64, None), found(2_000, None));
    assert!(narrow.0 < usual.0 && usual.0 <= broad.0, "{narrow:?} {usual:?} {broad:?}");
    assert!(usual.0 > 0.97 && broad.0 > 0.999, "{usual:?} {broad:?}");
    assert!(usual.1 > 60, "{usual:?}");
}

#[test]
fn a_filter_that_allows_most_is_kept_and_one_that_allows_few_is_searched_otherwise() {
    let mut allow = AllowSet::new_empty(N);
    (0..N).filter(|ordinal| ordinal % 3 != 0).for_each(|ordinal| assert!(allow.insert(ordinal)));
    let (recall, among_longest) = found(64, Some(&allow));
    assert!(recall > 0.95 && among_longest > 40, "{recall} {among_longest}");
    let mut few = AllowSet::new_empty(N);
    (0..N).filter(|ordinal| ordinal % 5 == 0).for_each(|ordinal| assert!(few.insert(ordinal)));
    let (recall, among_longest) = found(64, Some(&few));
    assert!(recall > 0.97 && among_longest == 0, "{recall} {among_longest}");
}

#[test]
fn only_an_inner_product_index_with_codes_has_them() {
    let factors = skewed();
    let n_longest = |metric, rows| {
        let options = GraphOptions { rows, ..GraphOptions::default() };
        let index = Index::open(factors.build(metric, &options).to_bytes().unwrap()).unwrap();
        index.verify().unwrap();
        index.n_longest()
    };
    for coded in [RowForm::Coded, RowForm::Fine] {
        assert!((100..=1_000).contains(&n_longest(Metric::InnerProduct, coded)));
        assert_eq!(n_longest(Metric::Cosine, coded), 0);
    }
    assert_eq!(n_longest(Metric::InnerProduct, RowForm::Whole), 0);
}

/// More hits than the longest can give are looked for elsewhere, and a query that cannot be compared is refused as ever.
#[test]
fn many_hits_and_odd_queries() {
    let index = Index::open(bytes()).unwrap();
    let mut scratch = Scratch::default();
    let mut search = |query: &[f32], k| -> Result<(SearchStats, usize), SearchError> {
        let stats = index.search(query, &broadly(k, 64), None, &mut scratch)?;
        Ok((stats, scratch.hits().len()))
    };
    let (stats, hits) = search(&[1.0; 24], 1_000).unwrap();
    assert_eq!((stats.plan, hits), (Plan::Graph, 1_000));
    assert_eq!(search(&[0.0; 24], 10).unwrap().1, 10);
    assert_eq!(search(&[1e30; 24], 10).unwrap().1, 10);
    assert_eq!(search(&[1.0; 24], 0).unwrap().1, 0);
    // Nothing is left of it in steps of codes, so no rest can be told to be too short.
    assert_eq!(search(&[1e-42; 24], 10).unwrap().0.plan, Plan::Graph);
    assert!(search(&[f32::NAN; 24], 10).is_err());
}

/// No row is too short for a query of zeros, so all of the longest are compared with before the walk.
#[test]
fn what_is_compared_for_nothing_counts_too() {
    let with = Parts::of(&bytes());
    let mut without = with.clone();
    without.sections.retain(|kind, _| !(section::LONGEST_ORDINALS..=section::LONGEST_CODES).contains(kind));
    let search = |parts: &Parts| {
        let index = Index::open(parts.write()).unwrap();
        let stats = index.search(&[0.0; 24], &broadly(10, 64), None, &mut Scratch::default()).unwrap();
        assert_eq!(stats.plan, Plan::Graph);
        (stats.distances, index.n_longest() as u32)
    };
    let ((all, n_longest), (of_the_walk, none)) = (search(&with), search(&without));
    assert!(n_longest > 0 && none == 0);
    assert_eq!(all, n_longest + of_the_walk);
}

/// All products are as many times as large, so nothing else changes: not what is compared, nor where a search ends.
#[test]
fn the_length_of_a_query_changes_nothing_but_similarities() {
    let index = Index::open(bytes()).unwrap();
    let mut scratch = Scratch::default();
    let mut found = |query: &[f32], times: f32, allow: Option<&AllowSet>| {
        let scaled: Vec<f32> = query.iter().map(|value| value * times).collect();
        let stats = index.search(&scaled, &broadly(10, 64), allow, &mut scratch).unwrap();
        (stats, ordinals(&scratch))
    };
    let mut half = AllowSet::new_empty(N);
    (0..N).step_by(2).for_each(|ordinal| assert!(half.insert(ordinal)));
    for query in skewed().queries(3, 50) {
        for allow in [None, Some(&half)] {
            // Powers of two, so that no bit of a value changes; single precision does not hold their squares.
            let [usual, long, short] = [1.0, 2_f32.powi(80), 2_f32.powi(-80)].map(|times| found(&query, times, allow));
            assert_eq!((&long, &short), (&usual, &usual));
        }
    }
}

#[test]
fn what_the_rows_do_not_say_is_found() {
    let good = Parts::of(&bytes());
    let count = good.sections[&section::LONGEST_ORDINALS].len() / 4;
    let problem = |damage: &dyn Fn(&mut Parts)| {
        let mut parts = good.clone();
        damage(&mut parts);
        match verify_error(parts.write()) {
            VerifyError::Longest { place, problem } => (place, problem),
            other => panic!("{other}"),
        }
    };
    let ordinal = |place: usize| good.get_u32(section::LONGEST_ORDINALS, place);
    let set = |place, to| move |parts: &mut Parts| parts.set_u32(section::LONGEST_ORDINALS, place, to);
    assert_eq!(problem(&set(3, N)), (3, LongestProblem::OutOfRange));
    assert_eq!(problem(&set(3, u32::MAX)), (3, LongestProblem::OutOfRange));
    assert_eq!(problem(&set(3, ordinal(2))), (3, LongestProblem::Twice));
    let length = |place, to| move |parts: &mut Parts| parts.set_f32(section::LONGEST_LENGTHS, place, to);
    for wrong in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        assert_eq!(problem(&length(5, wrong)), (5, LongestProblem::Length), "{wrong}");
    }
    let swapped = |parts: &mut Parts| {
        for kind in [section::LONGEST_ORDINALS, section::LONGEST_LENGTHS] {
            let (one, other) = (parts.get_u32(kind, 1), parts.get_u32(kind, 40));
            parts.set_u32(kind, 1, other);
            parts.set_u32(kind, 40, one);
        }
    };
    assert!(matches!(problem(&swapped), (_, LongestProblem::Order)));
    assert_eq!(problem(&|parts| parts.section(section::LONGEST_CODES)[1024 + 5] ^= 1), (16, LongestProblem::Codes));
    // The last one left out is shorter than those that are there, the first one is not.
    let without = |place: usize| {
        move |parts: &mut Parts| {
            for kind in [section::LONGEST_ORDINALS, section::LONGEST_LENGTHS] {
                parts.section(kind).drain(place * 4..place * 4 + 4);
            }
            // The codes of the last sixteen are no longer needed if it was the only one in them.
            parts.section(section::LONGEST_CODES).truncate((count - 1).next_multiple_of(16) * 64);
        }
    };
    assert!(matches!(problem(&without(0)), (_, LongestProblem::Codes | LongestProblem::LeftOut)));
}

#[test]
fn all_three_sections_or_none_and_of_as_many_items() {
    let good = Parts::of(&bytes());
    let kinds = [section::LONGEST_ORDINALS, section::LONGEST_LENGTHS, section::LONGEST_CODES];
    for kind in kinds {
        let mut parts = good.clone();
        parts.sections.remove(&kind);
        let error = open_error(parts.write());
        assert!(matches!(error, OpenError::SectionMissing { section } if section == kind), "{error}");
        let mut parts = good.clone();
        parts.section(kind).truncate(64);
        assert!(matches!(open_error(parts.write()), OpenError::SectionLength { .. }));
    }
    let mut parts = good.clone();
    for kind in kinds {
        parts.sections.remove(&kind);
    }
    read(parts.write()).unwrap();
    // Empty ones are as good as none.
    let mut parts = Parts::of(&support::small());
    parts.sections.extend(kinds.map(|kind| (kind, Vec::new())));
    read(parts.write()).unwrap();
    // In an index by cosine they cannot be anything else.
    let mut parts = good;
    let mut header = parts.header();
    header.metric = Metric::Cosine as u32;
    parts.set_header(&header);
    let error = open_error(parts.write());
    assert!(matches!(error, OpenError::SectionLength { section: section::LONGEST_ORDINALS, .. }), "{error}");
}

//! Building: every item can be found afterwards, whatever the rows; what cannot be built is refused before the builder sees it.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/factors.rs"]
mod factors;
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use factors::{BUILDERS, Factors, broadly, clustered, exactly, ordinals, share};
use kindred_index::build::{
    BuildError, GraphBuilder, GraphOptions, HnswBuilder, HnswRsBuilder, Progress, RowForm, Rows, build_index,
};
use kindred_index::format::NONE;
use kindred_index::{AssembleError, EdgeSet, FlatGraph, Index, Metric, Scratch, assemble_index};

/// Every item is among the ten nearest to its own row, or ten are at least as near; the index verifies.
fn all_found(factors: &Factors, metric: Metric, options: &GraphOptions) {
    for builder in BUILDERS {
        for rows in [RowForm::Whole, RowForm::Coded, RowForm::Fine] {
            all_found_by(builder, factors, metric, &GraphOptions { rows, ..*options });
        }
    }
}

fn all_found_by(builder: &dyn GraphBuilder, factors: &Factors, metric: Metric, options: &GraphOptions) {
    let built = factors.build_by(builder, metric, options);
    let index = Index::open(built.to_bytes().unwrap()).unwrap();
    index.verify().unwrap();
    assert_eq!(u64::from(index.len()), built.report.stats.items_by_level.iter().sum::<u64>());
    let mut scratch = Scratch::default();
    for ordinal in 0..index.len() {
        let row = &index.row(ordinal).unwrap();
        index.search(row, &exactly(10), None, &mut scratch).unwrap();
        let tenth = scratch.hits().last().unwrap().similarity;
        let expected = ordinals(&scratch).contains(&ordinal);
        index.search(row, &broadly(10, 512), None, &mut scratch).unwrap();
        let found = ordinals(&scratch).contains(&ordinal) || scratch.hits().last().unwrap().similarity >= tenth;
        assert!(found || !expected, "item {ordinal} of {} is lost", index.len());
    }
}

#[test]
fn every_item_is_found_by_its_own_row() {
    let options = GraphOptions::default();
    all_found(&clustered(30, 3_000, 16, 1.0), Metric::Cosine, &options);
    // Few links and a narrow construction, so that the builder loses some.
    let poor = GraphOptions { m: 2, ef_construction: 5, ..options };
    all_found(&clustered(31, 3_000, 16, 1.0), Metric::Cosine, &poor);
}

#[test]
fn every_item_is_found_whatever_the_lengths_of_rows() {
    let factors = clustered(32, 2_000, 16, 50.0);
    for edges in [EdgeSet::Cosine, EdgeSet::InnerProduct, EdgeSet::United] {
        all_found(&factors, Metric::InnerProduct, &GraphOptions { edges, ..GraphOptions::default() });
    }
}

#[test]
fn copies_of_one_row_are_all_reached() {
    let mut factors = clustered(33, 1_500, 8, 1.0);
    let same = factors.row(0).to_vec();
    for item in 0..600 {
        factors.rows[item * 8..][..8].copy_from_slice(&same);
    }
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        all_found(&factors, metric, &GraphOptions { m: 4, ef_construction: 40, ..GraphOptions::default() });
        for builder in BUILDERS {
            let options = GraphOptions { m: 4, ef_construction: 40, ..GraphOptions::default() };
            assert_eq!(reached(factors.build_by(builder, metric, &options).graph().view()), 1_500);
        }
    }
    // Nothing but copies.
    let copies = Factors::new(same.repeat(700), 8);
    for builder in BUILDERS {
        let built = copies.build_by(builder, Metric::Cosine, &GraphOptions::default());
        assert_eq!(reached(built.graph().view()), 700);
    }
}

/// So many that the tree needs every link of those nearest to one that is not reached, while lists of others are half empty.
#[test]
fn many_copies_of_one_row_verify() {
    let copies = Factors::new([0.6, 0.8].repeat(5_000), 2);
    for builder in BUILDERS {
        let built = copies.build_by(builder, Metric::Cosine, &GraphOptions::default());
        assert_eq!(reached(built.graph().view()), 5_000);
        Index::open(built.to_bytes().unwrap()).unwrap().verify().unwrap();
    }
}

/// How many items the links on level 0 lead to from the entry point.
fn reached(graph: kindred_index::GraphView<'_>) -> usize {
    let entry = graph.entry_point().unwrap();
    let (mut seen, mut frontier) = (std::collections::BTreeSet::from([entry]), vec![entry]);
    while let Some(ordinal) = frontier.pop() {
        frontier.extend(graph.links(ordinal, 0).iter().filter(|link| seen.insert(**link)));
    }
    seen.len()
}

#[test]
fn any_number_of_items_from_none() {
    for n in [0, 1, 2, 3, 20] {
        let factors = clustered(34, n, 3, 2.0);
        for edges in [EdgeSet::Cosine, EdgeSet::InnerProduct, EdgeSet::United] {
            for deterministic in [false, true] {
                let options = GraphOptions { deterministic, edges, ..GraphOptions::default() };
                all_found(&factors, Metric::InnerProduct, &options);
            }
        }
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let factors = clustered(35, 10, 3, 1.0);
    let input = factors.input(Metric::Cosine);
    let refused = |options: &GraphOptions| {
        let [first, second] = BUILDERS.map(|builder| match build_index(&input, options, builder, &()) {
            Err(BuildError::Option { option, found, .. }) => (option, found),
            other => panic!("expected an error, found {other:?}"),
        });
        assert_eq!(first, second);
        first
    };
    let options = GraphOptions::default();
    for m in [0, 1, 65, 257, usize::MAX] {
        assert_eq!(refused(&GraphOptions { m, ..options }), ("m", m));
    }
    for ef_construction in [0, 32, 10_001, usize::MAX] {
        assert_eq!(refused(&GraphOptions { ef_construction, ..options }), ("ef_construction", ef_construction));
    }
    let keeping = HnswRsBuilder.build_keeping(&input, &GraphOptions { edges: EdgeSet::United, ..options }, &());
    assert!(matches!(keeping, Err(BuildError::Option { option: "edges", .. })));
}

#[test]
fn rows_that_no_search_could_find_are_refused_by_key() {
    let refused = |change: &dyn Fn(&mut Factors)| {
        let mut factors = clustered(36, 40, 4, 1.0);
        change(&mut factors);
        match build_index(&factors.input(Metric::InnerProduct), &GraphOptions::default(), &HnswRsBuilder, &()) {
            Err(BuildError::Assemble(error)) => error,
            other => panic!("expected an error, found {other:?}"),
        }
    };
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let error = refused(&|factors| factors.rows[7 * 4 + 2] = wrong);
        assert!(matches!(&error, AssembleError::RowNotFinite { ordinal: 7, key } if key == "item-7"), "{error}");
    }
    let error = refused(&|factors| factors.rows[4 * 39..].fill(0.0));
    assert!(matches!(error, AssembleError::RowZero { ordinal: 39, .. }), "{error}");
    let error = refused(&|factors| factors.rows.truncate(100));
    assert!(matches!(error, AssembleError::RowCount { expected: 160, found: 100 }), "{error}");
    let error = refused(&|factors| factors.dims = 0);
    assert!(matches!(error, AssembleError::Dimensions { found: 0 }), "{error}");
}

#[test]
fn a_graph_of_other_items_is_refused() {
    let factors = clustered(37, 50, 4, 1.0);
    let (graph, _) =
        HnswRsBuilder.build_keeping(&factors.input(Metric::Cosine), &GraphOptions::default(), &()).unwrap();
    let other = clustered(37, 49, 4, 1.0);
    let error = assemble_index(&other.input(Metric::Cosine), &graph, EdgeSet::Cosine).unwrap_err();
    assert!(matches!(error, AssembleError::Graph { field: "items", expected: 49, found: 50 }), "{error}");
    let mut short = graph.clone();
    short.links0 = short.links0[1..].to_vec().into();
    assert!(assemble_index(&factors.input(Metric::Cosine), &short, EdgeSet::Cosine).is_err());
    let mut astray = graph;
    astray.entry_point = 50;
    assert!(assemble_index(&factors.input(Metric::Cosine), &astray, EdgeSet::Cosine).is_err());
}

/// Says stop at the so many-th question.
struct Impatient {
    asked: AtomicU64,
    patience: u64,
}

impl Progress for Impatient {
    fn step(&self, stage: &str, done: u64, total: u64) {
        assert!(!stage.is_empty() && done <= total);
    }

    fn cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.patience
    }
}

#[test]
fn a_build_ends_when_it_is_cancelled() {
    let factors = clustered(38, 1_200, 4, 1.0);
    for builder in BUILDERS {
        let built = |patience| {
            let progress = Impatient { asked: AtomicU64::new(0), patience };
            let options = GraphOptions { edges: EdgeSet::United, m: 4, ef_construction: 20, ..GraphOptions::default() };
            build_index(&factors.input(Metric::InnerProduct), &options, builder, &progress).map(|_| ())
        };
        for patience in [0, 1, 2, 3, 4] {
            let outcome = built(patience);
            assert!(matches!(outcome, Err(BuildError::Cancelled)), "{}, {patience}: {outcome:?}", builder.name());
        }
        assert!(built(u64::MAX).is_ok());
    }
}

/// Notes what it is told, and says stop once a stage has begun.
#[derive(Default)]
struct Watcher {
    told: Mutex<Vec<(String, u64, u64)>>,
    stop_at: &'static str,
}

impl Progress for Watcher {
    fn step(&self, stage: &str, done: u64, total: u64) {
        self.told.lock().unwrap().push((stage.to_owned(), done, total));
    }

    fn cancelled(&self) -> bool {
        self.told.lock().unwrap().iter().any(|(stage, ..)| stage == self.stop_at)
    }
}

#[test]
fn what_is_linked_of_all_items_never_goes_back() {
    let factors = clustered(40, 1_200, 4, 1.0);
    let options = GraphOptions { edges: EdgeSet::United, m: 4, ef_construction: 20, ..GraphOptions::default() };
    for builder in BUILDERS {
        let watcher = Watcher::default();
        build_index(&factors.input(Metric::InnerProduct), &options, builder, &watcher).unwrap();
        let told = watcher.told.into_inner().unwrap();
        for stage in ["linking by inner product", "linking by cosine"] {
            let of_stage: Vec<_> = told.iter().filter(|(name, ..)| name == stage).collect();
            assert!(of_stage.iter().all(|(.., total)| *total == 1_200), "{}: {of_stage:?}", builder.name());
            assert!(of_stage.is_sorted_by_key(|(_, done, _)| *done), "{}: {of_stage:?}", builder.name());
            assert_eq!(of_stage.last().unwrap().1, 1_200, "{}: {of_stage:?}", builder.name());
        }
    }
}

/// Of many copies of one row hardly any is reached, and each takes a broad search.
#[test]
fn a_build_of_copies_ends_when_it_is_cancelled_while_they_are_linked() {
    let copies = Factors::new([0.6, 0.8].repeat(700), 2);
    let watcher = Watcher { stop_at: "linking what is not reached", ..Watcher::default() };
    let options = GraphOptions::default();
    let outcome = build_index(&copies.input(Metric::Cosine), &options, &HnswBuilder, &watcher).map(|_| ());
    assert!(matches!(outcome, Err(BuildError::Cancelled)), "{outcome:?}");
}

/// Links each item to the one after it and to nothing else: all are reached, and a walk ends where one of them is far from its query.
struct Chain;

impl GraphBuilder for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn build(
        &self,
        rows: &Rows<'_>,
        _metric: Metric,
        _options: &GraphOptions,
        _progress: &dyn Progress,
    ) -> Result<FlatGraph, BuildError> {
        const PLACES: usize = 16;
        let n = rows.len() as usize;
        let mut links0 = vec![NONE; n * PLACES];
        links0.iter_mut().step_by(PLACES).zip(1..rows.len()).for_each(|(place, after)| *place = after);
        let (levels, upper_index) = (vec![0; n], vec![NONE; n]);
        Ok(FlatGraph {
            n: n as u32,
            m: 2,
            m0_stride: 16,
            levels,
            links0: links0.into(),
            upper_index,
            ..FlatGraph::default()
        })
    }
}

#[test]
fn a_build_ends_when_it_is_cancelled_while_what_is_not_found_is_linked() {
    let factors = clustered(41, 1_000, 16, 1.0);
    let watcher = Watcher { stop_at: "linking what is not found", ..Watcher::default() };
    let built = build_index(&factors.input(Metric::Cosine), &GraphOptions::default(), &Chain, &watcher).map(|_| ());
    assert!(matches!(built, Err(BuildError::Cancelled)), "{built:?}");
    let told = watcher.told.into_inner().unwrap();
    assert!(told.iter().all(|(stage, ..)| stage != "linking what is not reached"), "{told:?}");
}

/// The flat search must find as much on the same graph as the search of the crate that built it.
#[test]
fn the_exported_graph_is_as_good_as_the_original() {
    let factors = clustered(39, 4_000, 16, 3.0);
    for (metric, edges) in [(Metric::Cosine, EdgeSet::Cosine), (Metric::InnerProduct, EdgeSet::InnerProduct)] {
        let options = GraphOptions { edges, ..GraphOptions::default() };
        let (graph, peer) = HnswRsBuilder.build_keeping(&factors.input(metric), &options, &()).unwrap();
        let index = Index::open(assemble_index(&factors.input(metric), &graph, edges).unwrap()).unwrap();
        index.verify().unwrap();
        let mut scratch = Scratch::default();
        let (mut ours, mut theirs) = (0.0, 0.0);
        for query in factors.queries(40, 200) {
            index.search(&query, &exactly(10), None, &mut scratch).unwrap();
            let truth = ordinals(&scratch);
            index.search(&query, &broadly(10, 40), None, &mut scratch).unwrap();
            ours += share(&truth, &ordinals(&scratch)) / 200.0;
            theirs += share(&truth, &peer.search(&query, 10, 40)) / 200.0;
        }
        assert!(ours >= theirs - 0.01 && ours > 0.9, "{metric:?}: {ours} on the flat graph, {theirs} on the original");
        assert!(peer.search(&[0.0; 16], 10, 40).is_empty());
    }
}

/// By its own row, item 79 is the tenth of 80, and by codes the eleventh: no link changes that.
#[test]
fn what_only_codes_put_behind_others_is_no_reason_to_fail() {
    let factors = clustered(14_494_799_880_074_961_240, 80, 28, 4.0);
    let index = factors.index(Metric::InnerProduct, EdgeSet::InnerProduct);
    assert_eq!(index.len(), 80);
}

#[test]
fn by_cosine_the_more_items_the_broader_they_are_linked() {
    let usual = |items: usize| GraphOptions::usual_ef_construction(items, EdgeSet::Cosine);
    assert_eq!([0, 200_000, 450_000, 800_000, 100_000_000].map(usual), [200, 200, 300, 400, 400]);
    for edges in [EdgeSet::InnerProduct, EdgeSet::United] {
        assert_eq!(GraphOptions::usual_ef_construction(100_000_000, edges), 200);
    }
}

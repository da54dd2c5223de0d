//! `kindred bench index --filters`: what a filter costs, and whether it makes a search find less.
//!
//! Filters let pass from all items down to one in 10,000, four kinds of them: at random; the nearest to each query, which agree with it; the
//! farthest from it, which are against it; and those about one item, as a category is, whatever the query. One thread searches; each query
//! is asked once per filter, in turns with no other, and the truth is an exact scan of the allowed items.

use std::fmt::Write;
use std::time::Instant;

use anyhow::Context;
use hdrhistogram::Histogram;
use kindred_index::{AllowSet, Index, Plan, Scratch, SearchParams};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::data::fits;
use super::index::{Args, SWEEP, Subject};
use super::passes::LATENCY_NS_MAX;
use crate::build::metric_name;
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::recall::{self, is_true};
use crate::report::{Report, Table, count};

/// Shares of all items that filters let pass.
pub(super) const SHARES: [f64; 11] = [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001];
/// The recall without a filter that the breadth is chosen for, unless one is asked for: a little more than the 0.98 that each filter is to keep,
/// since a few hundred queries tell recall to within half of one percent.
const RECALL: f64 = 0.985;
/// Most queries: each filter that goes by the query is a ranking of all items.
const QUERIES_MAX: usize = 1_000;

/// Filters, measured.
#[derive(Clone, Debug, Serialize)]
pub struct FiltersReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Where the rows are from.
    pub source: String,
    /// Rows.
    pub n_items: u32,
    /// Length of a row.
    pub dimensions: usize,
    /// How rows are compared.
    pub metric: &'static str,
    /// Breadth of the search.
    pub ef_search: usize,
    /// Its recall without a filter.
    pub recall_without: f64,
    /// Queries.
    pub n_queries: usize,
    /// Nearest items asked for.
    pub k: usize,
    /// Each filter.
    pub filters: Vec<Filtered>,
}

/// Searches with one kind of filter at one share.
#[derive(Clone, Debug, Serialize)]
pub struct Filtered {
    /// Which items pass.
    pub kind: &'static str,
    /// The share of all items that pass.
    pub share: f64,
    /// Items that pass.
    pub allowed: u32,
    /// Mean share of the true k nearest allowed items that were found.
    pub recall: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// Latency that one query in a hundred exceeds, microseconds.
    pub p99_us: f64,
    /// Mean vectors compared per query.
    pub distances: f64,
    /// How the hits were found, of all queries: by comparing with every allowed item.
    pub exact: usize,
    /// By a broader walk.
    pub graph: usize,
    /// By a walk of two hops.
    pub two_hops: usize,
    /// By comparing with the longest items.
    pub longest: usize,
}

/// Which items pass.
#[derive(Clone, Copy)]
enum Kind {
    Random,
    Near,
    Far,
    Gathered,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Random, Self::Near, Self::Far, Self::Gathered];

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Near => "near the query",
            Self::Far => "far from the query",
            Self::Gathered => "about one item",
        }
    }
}

/// Measures.
///
/// # Errors
/// Queries that do not fit the rows.
pub(super) fn measure<D: AsRef<[u8]> + Sync>(
    args: &Args,
    index: &Index<D>,
    subject: &Subject,
    progress: &Progress,
) -> anyhow::Result<FiltersReport> {
    let mut queries = subject.queries.clone();
    queries.rows = queries.rows.min(QUERIES_MAX);
    queries.data.truncate(queries.rows * queries.cols);
    fits(&queries, index.dimensions())?;
    let (ef_search, recall_without) = breadth(args, index, &queries, progress)?;
    let bench = Bench { index, queries: &queries, k: args.k, ef_search, seed: args.seed };
    progress.start("measuring", (Kind::ALL.len() * SHARES.len()) as u64);
    let mut filters = Vec::new();
    for kind in Kind::ALL {
        for share in SHARES {
            filters.push(bench.one(kind, share)?);
            progress.inc(1);
        }
    }
    Ok(FiltersReport {
        machine: Machine::here(),
        source: subject.source.clone(),
        n_items: index.len(),
        dimensions: index.dimensions(),
        metric: metric_name(index.metric()),
        ef_search,
        recall_without,
        n_queries: queries.rows,
        k: args.k,
        filters,
    })
}

/// The breadth that was asked for, or the least of the sweep that finds enough without a filter; and what it finds.
fn breadth<D: AsRef<[u8]> + Sync>(
    args: &Args,
    index: &Index<D>,
    queries: &Matrix,
    progress: &Progress,
) -> anyhow::Result<(usize, f64)> {
    progress.start("finding a breadth", 0);
    let truth = recall::truth(index, queries, args.k)?;
    let asked = args.ef_search.first().copied();
    let mut found = (asked.unwrap_or(args.k), 0.0);
    for ef in asked.into_iter().chain(SWEEP.iter().copied().filter(|ef| asked.is_none() && *ef >= args.k)) {
        found = (ef, recall::agreement(index, queries, &truth, ef)?.recall);
        if found.1 >= RECALL {
            break;
        }
    }
    Ok(found)
}

struct Bench<'a, D> {
    index: &'a Index<D>,
    queries: &'a Matrix,
    k: usize,
    ef_search: usize,
    seed: u64,
}

impl<D: AsRef<[u8]> + Sync> Bench<'_, D> {
    fn one(&self, kind: Kind, share: f64) -> anyhow::Result<Filtered> {
        let allowed = ((f64::from(self.index.len()) * share).round() as u32).clamp(1, self.index.len().max(1));
        let sets = self.sets(kind, allowed);
        let truth = self.truth(&sets)?;
        let params = SearchParams { k: self.k, ef_search: self.ef_search, exact: false };
        let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3).context("making a histogram")?;
        let mut scratch = Scratch::default();
        let (mut found, mut possible, mut distances, mut plans) = (0, 0, 0, [0; 4]);
        // One pass to warm up; it also takes the scratch to its size.
        for counted in [false, true] {
            for (query, (set, worst)) in sets.iter().cycle().zip(&truth).enumerate() {
                let row = self.queries.row(query);
                let begun = Instant::now();
                let stats = self.index.search(row, &params, Some(set), &mut scratch).context("searching")?;
                let taken = begun.elapsed();
                if !counted {
                    continue;
                }
                latency.saturating_record(taken.as_nanos() as u64);
                found += scratch.hits().iter().filter(|hit| is_true(hit.similarity, *worst)).count();
                possible += self.k.min(set.cardinality() as usize);
                distances += u64::from(stats.distances);
                let plan = match stats.plan {
                    Plan::Exact => 0,
                    Plan::Graph | Plan::FilteredGraph => 1,
                    Plan::TwoHops => 2,
                    Plan::Longest => 3,
                };
                if let Some(plan) = plans.get_mut(plan) {
                    *plan += 1;
                }
            }
        }
        let [exact, graph, two_hops, longest] = plans;
        Ok(Filtered {
            kind: kind.name(),
            share,
            allowed,
            recall: found as f64 / possible.max(1) as f64,
            p50_us: latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: latency.value_at_quantile(0.99) as f64 / 1e3,
            distances: distances as f64 / self.queries.rows.max(1) as f64,
            exact,
            graph,
            two_hops,
            longest,
        })
    }

    /// A set for each query, or one for all.
    fn sets(&self, kind: Kind, allowed: u32) -> Vec<AllowSet> {
        let n = self.index.len();
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ u64::from(allowed));
        let by_query = |last: bool| {
            let rows = (0..self.queries.rows).into_par_iter().map(|query| self.queries.row(query));
            rows.map(|row| self.nearest(row, allowed, last)).collect()
        };
        match kind {
            Kind::Random => {
                let mut set = AllowSet::new_empty(n);
                while set.cardinality() < allowed.min(n) {
                    set.insert(random.random_range(0..n));
                }
                vec![set]
            }
            Kind::Near => by_query(false),
            Kind::Far => by_query(true),
            Kind::Gathered => {
                let about = self.index.row(random.random_range(0..n.max(1))).unwrap_or_default();
                vec![self.nearest(&about, allowed, false)]
            }
        }
    }

    /// The items nearest to a row, or those farthest from it.
    fn nearest(&self, row: &[f32], allowed: u32, farthest: bool) -> AllowSet {
        let n = self.index.len();
        let rows = self.index.rows();
        let similarity = |ordinal: u32| rows.row(ordinal).map_or(0.0, |other| other.dot(row));
        let sign = if farthest { -1.0 } else { 1.0 };
        let mut ranked: Vec<(f32, u32)> = (0..n).map(|ordinal| (sign * similarity(ordinal), ordinal)).collect();
        let wanted = (allowed as usize).min(ranked.len());
        if wanted < ranked.len() {
            ranked.select_nth_unstable_by(wanted, |a, b| b.0.total_cmp(&a.0));
        }
        let mut set = AllowSet::new_empty(n);
        for (_, ordinal) in ranked.iter().take(wanted) {
            set.insert(*ordinal);
        }
        set
    }

    /// The similarity of the k-th nearest allowed item of each query.
    fn truth(&self, sets: &[AllowSet]) -> anyhow::Result<Vec<f32>> {
        let params = SearchParams { k: self.k, ef_search: self.k, exact: true };
        let one = |scratch: &mut Scratch, query: usize| -> anyhow::Result<f32> {
            let set = sets.get(query % sets.len().max(1));
            self.index.search(self.queries.row(query), &params, set, scratch).context("exact search")?;
            Ok(scratch.hits().last().map_or(f32::NEG_INFINITY, |hit| hit.similarity))
        };
        (0..self.queries.rows).into_par_iter().map_init(Scratch::default, one).collect()
    }
}

impl Report for FiltersReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "{}: {} rows × {}, {}; {} queries, one thread, ef_search {} (recall@{} without a filter {:.4})",
            self.source,
            count(self.n_items.into()),
            self.dimensions,
            self.metric,
            count(self.n_queries as u64),
            self.ef_search,
            self.k,
            self.recall_without
        );
        let recall = format!("recall@{}", self.k);
        let mut table = Table::new([
            "allowed",
            "share %",
            "items",
            &recall,
            "p50 µs",
            "p99 µs",
            "distances",
            "compared all",
            "broader walk",
            "two hops",
            "the longest",
        ]);
        for filter in &self.filters {
            table.row([
                filter.kind.to_owned(),
                format!("{}", filter.share * 100.0),
                filter.allowed.to_string(),
                format!("{:.4}", filter.recall),
                format!("{:.1}", filter.p50_us),
                format!("{:.1}", filter.p99_us),
                format!("{:.0}", filter.distances),
                filter.exact.to_string(),
                filter.graph.to_string(),
                filter.two_hops.to_string(),
                filter.longest.to_string(),
            ]);
        }
        text.push_str(&table.text());
        let least = self.filters.iter().map(|filter| filter.recall).fold(f64::INFINITY, f64::min);
        let most = self.filters.iter().map(|filter| filter.p99_us).fold(0.0, f64::max);
        let _ = writeln!(text, "least recall {least:.4}, greatest p99 {most:.0} µs");
        text
    }
}

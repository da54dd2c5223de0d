//! `kindred bench index --scale`: what a query and an insertion cost as the catalogue grows, and what that says about sizes that nobody waits for.

use std::fmt::Write as _;

use anyhow::Context;
use kindred_index::{Index, Scratch, SearchParams};
use serde::Serialize;

use super::curve::{Point, or_not_reached, value_at};
use super::data::generated;
use super::index::{Args, SWEEP, built_by};
use super::passes::{Pass, times};
use crate::build::{beside, metric_name};
use crate::machine::{Machine, peak_memory_bytes};
use crate::npy;
use crate::progress::Progress;
use crate::recall;
use crate::report::{Report, Table, bytes, count, seconds};
use crate::svg::{Axis, Chart, Mark, Series};

/// The recall at which sizes are compared.
const RECALL: f64 = 0.95;
/// Sizes that are estimated.
const ESTIMATED: [u64; 3] = [10_000_000, 100_000_000, 1_000_000_000];

/// Sizes, measured.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Length of a row.
    pub dimensions: usize,
    /// How rows are compared.
    pub metric: &'static str,
    /// Queries.
    pub n_queries: usize,
    /// Nearest items asked for.
    pub k: usize,
    /// Threads that build.
    pub threads: usize,
    /// The breadth that they build with, the same for all sizes.
    pub ef_construction: usize,
    /// The recall at which searches are compared.
    pub recall: f64,
    /// Each size, the smallest first.
    pub sizes: Vec<Size>,
    /// What larger ones would cost, by what was measured.
    pub estimates: Vec<Estimate>,
}

/// One size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Rows.
    pub n_items: u32,
    /// Seconds it took to build.
    pub build_seconds: f64,
    /// Microseconds of one thread for each item.
    pub insertion_us: f64,
    /// Bytes of the file for each item.
    pub bytes_per_item: f64,
    /// Queries per second of one thread at the recall; none where it was not reached.
    pub qps: Option<f64>,
    /// Vectors compared per query there.
    pub distances: Option<f64>,
    /// Nanoseconds of a query for each of them.
    pub distance_ns: Option<f64>,
    /// The most memory the process had by the end of the build, whose rows are in a file; also that of smaller sizes before.
    pub peak_memory_bytes: Option<u64>,
}

/// A size that was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Rows.
    pub n_items: u64,
    /// Vectors compared per query.
    pub distances: f64,
    /// Microseconds of a query.
    pub query_us: f64,
    /// Hours of all threads to build.
    pub build_hours: f64,
    /// Bytes of the file.
    pub bytes: f64,
}

/// Measures sizes, one after the other.
///
/// # Errors
/// A graph that cannot be built.
pub(super) fn measure(args: &Args, progress: &Progress) -> anyhow::Result<ScaleReport> {
    let mut items = args.scale.clone();
    items.sort_unstable();
    items.dedup();
    let threads = rayon::current_num_threads();
    // All as the largest is: what grows with the size is told by sizes that differ in nothing else.
    let ef_construction = args.ef_construction_for(items.last().copied().unwrap_or(0));
    let args = &Args { ef_construction: Some(ef_construction), ..args.clone() };
    let sizes: anyhow::Result<Vec<Size>> = items.iter().map(|items| one(args, *items, threads, progress)).collect();
    let sizes = sizes?;
    Ok(ScaleReport {
        machine: Machine::here(),
        dimensions: args.dims,
        metric: metric_name(args.metric.into()),
        n_queries: args.queries,
        k: args.k,
        threads,
        ef_construction,
        recall: RECALL,
        estimates: estimates(&sizes, threads),
        sizes,
    })
}

fn one(args: &Args, items: usize, threads: usize, progress: &Progress) -> anyhow::Result<Size> {
    // Rows in a file, as `kindred build` has them, and the index in one, which is read back once everything that built it is gone.
    let directory = tempfile::tempdir().context("making a directory for the index")?;
    let (rows, queries) = (directory.path().join("rows.npy"), directory.path().join("queries.npy"));
    progress.start("generating rows", 0);
    let factors = generated(args, items);
    npy::write_matrix(&rows, &factors.items).context("writing the rows to build of")?;
    npy::write_matrix(&queries, &factors.queries).context("writing the queries")?;
    drop(factors);
    let query_npy = args.query_npy.clone().or(Some(queries));
    let args = &Args { npy: Some(rows), query_npy, ..args.clone() };
    let (file, subject) = built_by(args, progress, |ours, _, _| {
        progress.start("writing the index", 0);
        beside::written(ours, directory.path())
    })?;
    let peak_memory_bytes = peak_memory_bytes();
    let index = Index::open(beside::read_back(file).context("reading the index")?)
        .context("opening the index that was just built")?;
    progress.start(&format!("searching {} items", count(items as u64)), 0);
    let truth = recall::truth(&index, &subject.queries, args.k)?;
    let mut points: Vec<Point> = Vec::new();
    let mut scratch = Scratch::default();
    for ef in SWEEP.iter().copied() {
        let mut timed = times(1)?;
        let params = SearchParams { k: truth.k, ef_search: ef, exact: false };
        for round in 0..=args.rounds {
            let pass = Pass::new(&subject.queries, &truth, usize::MAX, round > 0);
            pass.ours(&index, &params, &mut scratch, timed.first_mut())?;
        }
        points.extend(timed.first().map(|times| times.point(ef, truth.k)));
        if points.last().is_some_and(|point| point.recall >= RECALL) {
            break;
        }
    }
    let build_seconds = subject.build_seconds.context("nothing was built")?;
    let qps = value_at(&points, RECALL, |point| point.qps);
    let distances = value_at(&points, RECALL, |point| point.distances.unwrap_or(0.0));
    let n = items as f64;
    Ok(Size {
        n_items: index.len(),
        build_seconds,
        insertion_us: build_seconds * threads as f64 * 1e6 / n,
        bytes_per_item: index.container().file_len() as f64 / n,
        qps,
        distances,
        distance_ns: qps.zip(distances).map(|(qps, distances)| 1e9 / qps / distances.max(1.0)),
        peak_memory_bytes,
    })
}

/// Comparisons and insertions grow by powers of the number of items, as straight lines through the logarithms of what was measured; a comparison costs
/// what it does at the largest size, where most of them already wait for memory. (Straight lines over the logarithm of the size alone told 1,831
/// comparisons of ten million generated items, where 5,019 were measured.)
fn estimates(sizes: &[Size], threads: usize) -> Vec<Estimate> {
    let logs = |value: &dyn Fn(&Size) -> Option<f64>| -> Vec<(f64, f64)> {
        sizes.iter().filter_map(|size| Some((f64::from(size.n_items).ln(), value(size)?.ln()))).collect()
    };
    let distances = line(&logs(&|size| size.distances));
    let insertion = line(&logs(&|size| Some(size.insertion_us)));
    let (Some(distances), Some(insertion), Some(last)) = (distances, insertion, sizes.last()) else {
        return Vec::new();
    };
    let Some(ns) = last.distance_ns else { return Vec::new() };
    let at = |(base, slope): (f64, f64), n: f64| (base + slope * n.ln()).exp();
    let larger = ESTIMATED.into_iter().filter(|n| *n > u64::from(last.n_items));
    let estimate = |n_items: u64| {
        let n = n_items as f64;
        let distances = at(distances, n);
        Estimate {
            n_items,
            distances,
            query_us: distances * ns / 1e3,
            build_hours: at(insertion, n) * n / 1e6 / threads as f64 / 3600.0,
            bytes: last.bytes_per_item * n,
        }
    };
    larger.map(estimate).collect()
}

/// The straight line through points by least squares: its value at zero, and its slope. None for fewer than two different places.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    Some((y - slope * x, slope))
}

impl ScaleReport {
    /// Cost against size.
    pub fn chart(&self) -> Chart {
        let series = |name: &str, value: &dyn Fn(&Size) -> Option<f64>| Series {
            name: name.to_owned(),
            points: self.sizes.iter().filter_map(|size| Some((f64::from(size.n_items), value(size)?))).collect(),
            mark: Mark::Line,
        };
        Chart {
            title: format!("{} dimensions, {}, recall@{} {}", self.dimensions, self.metric, self.k, self.recall),
            x: Axis::log("items"),
            y: Axis::log("µs of one thread"),
            series: vec![
                series("insertion", &|size| Some(size.insertion_us)),
                series("query", &|size| size.qps.map(|qps| 1e6 / qps)),
            ],
        }
    }
}

impl Report for ScaleReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "generated factors × {}, {}; built by {} threads with ef_construction {}, {} queries by one, at recall@{} {}",
            self.dimensions,
            self.metric,
            self.threads,
            self.ef_construction,
            count(self.n_queries as u64),
            self.k,
            self.recall
        );
        let heads = [
            "items",
            "built in",
            "µs an insertion",
            "in memory",
            "bytes an item",
            "queries/s",
            "distances",
            "ns a distance",
        ];
        let mut table = Table::new(heads);
        for size in &self.sizes {
            table.row([
                count(size.n_items.into()),
                seconds(size.build_seconds),
                format!("{:.0}", size.insertion_us),
                size.peak_memory_bytes.map_or_else(String::new, bytes),
                format!("{:.0}", size.bytes_per_item),
                or_not_reached(size.qps, 0),
                or_not_reached(size.distances, 0),
                or_not_reached(size.distance_ns, 1),
            ]);
        }
        text.push_str(&table.text());
        if self.estimates.is_empty() {
            return text;
        }
        text.push_str("Estimated, not measured: powers of the size, through what was measured\n");
        let mut table = Table::new(["items", "distances", "µs a query", "hours to build", "file"]);
        for estimate in &self.estimates {
            table.row([
                count(estimate.n_items),
                format!("{:.0}", estimate.distances),
                format!("{:.0}", estimate.query_us),
                format!("{:.1}", estimate.build_hours),
                bytes(estimate.bytes as u64),
            ]);
        }
        text.push_str(&table.text());
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn size(n_items: u32, distances: f64, insertion_us: f64) -> Size {
        Size {
            n_items,
            build_seconds: insertion_us * f64::from(n_items) / 2e6,
            insertion_us,
            bytes_per_item: 480.0,
            qps: Some(1e9 / (distances * 40.0)),
            distances: Some(distances),
            distance_ns: Some(40.0),
            peak_memory_bytes: None,
        }
    }

    #[test]
    fn estimates_lie_on_the_line_through_what_was_measured() {
        let sizes = [size(10_000, 250.0, 125.0), size(100_000, 500.0, 150.0), size(1_000_000, 1000.0, 180.0)];
        let found = estimates(&sizes, 2);
        assert_eq!(found.iter().map(|one| one.n_items).collect::<Vec<_>>(), ESTIMATED);
        let first = found[0];
        assert!((first.distances - 2_000.0).abs() < 1e-6 && (first.query_us - 80.0).abs() < 1e-6, "{first:?}");
        assert!((first.build_hours - 216.0 * 1e7 / 1e6 / 2.0 / 3600.0).abs() < 1e-6, "{first:?}");
        assert!((first.bytes - 4.8e9).abs() < 1.0);
        assert!(estimates(&sizes[..1], 2).is_empty(), "one size says nothing of growth");
    }
}

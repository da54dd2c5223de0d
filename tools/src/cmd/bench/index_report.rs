//! What `kindred bench index` found, as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::curve::{Point, or_not_reached, qps_at};
use super::threads::Together;
use crate::machine::Machine;
use crate::report::{Report, Table, bytes, count, seconds};

/// An index, measured.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
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
    /// Which edges the graph has.
    pub edges: &'static str,
    /// Links per item on the upper levels.
    pub m: u32,
    /// Breadth of the search while building; none for a published graph.
    pub ef_construction: Option<usize>,
    /// Seconds it took to build; none for a published graph.
    pub build_seconds: Option<f64>,
    /// Seconds hnsw_rs took to build its graph.
    pub hnsw_rs_build_seconds: Option<f64>,
    /// Items laid out by length, which searches compare with before they walk.
    pub n_longest: usize,
    /// Bytes of the index file.
    pub bytes: u64,
    /// Queries.
    pub n_queries: usize,
    /// Nearest items asked for.
    pub k: usize,
    /// Rounds of which the median counts.
    pub rounds: usize,
    /// Our search of our graph.
    pub ours: Vec<Point>,
    /// Our search of the graph that hnsw_rs built, by rows; empty where hnsw_rs was left out.
    pub ours_on_hnsw_rs_graph: Vec<Point>,
    /// hnsw_rs's own search of that graph.
    pub hnsw_rs: Vec<Point>,
    /// The exact scan.
    pub exact: Point,
    /// What all cores search together.
    pub together: Together,
    /// Speeds at equal recall.
    pub at: Vec<Speed>,
}

/// Speeds at one recall, read off the curves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// The recall.
    pub recall: f64,
    /// Our queries per second; none if this recall was not reached.
    pub ours: Option<f64>,
    /// Ours on the graph of hnsw_rs.
    pub ours_on_hnsw_rs_graph: Option<f64>,
    /// hnsw_rs's queries per second.
    pub hnsw_rs: Option<f64>,
    /// How many times ours is faster.
    pub ratio: Option<f64>,
    /// How many times ours is faster on the same graph.
    pub ratio_on_same_graph: Option<f64>,
}

impl Speed {
    /// All speeds at a recall.
    pub fn at(recall: f64, ours: &[Point], on_theirs: &[Point], hnsw_rs: &[Point]) -> Self {
        let [ours, on_theirs, hnsw_rs] = [ours, on_theirs, hnsw_rs].map(|points| qps_at(points, recall));
        let ratio = |ours: Option<f64>| ours.zip(hnsw_rs).map(|(ours, theirs)| ours / theirs);
        Self {
            recall,
            ours,
            ours_on_hnsw_rs_graph: on_theirs,
            hnsw_rs,
            ratio: ratio(ours),
            ratio_on_same_graph: ratio(on_theirs),
        }
    }
}

impl Report for IndexReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let built = self.build_seconds.map_or_else(String::new, |s| {
            format!(", ef_construction {}, built in {}", self.ef_construction.unwrap_or(0), seconds(s))
        });
        let _ = writeln!(
            text,
            "{}: {} rows × {}, {}, {} edges, m {}{built}, index {} ({:.0} bytes a row)",
            self.source,
            count(self.n_items.into()),
            self.dimensions,
            self.metric,
            self.edges,
            self.m,
            bytes(self.bytes),
            self.bytes as f64 / f64::from(self.n_items.max(1))
        );
        if self.n_longest > 0 {
            let _ = writeln!(text, "the {} longest side by side", count(self.n_longest as u64));
        }
        if let Some(s) = self.hnsw_rs_build_seconds {
            let _ = writeln!(text, "hnsw_rs built its graph in {}", seconds(s));
        }
        let _ = writeln!(
            text,
            "{} queries, one thread, median of {} rounds in turns",
            count(self.n_queries as u64),
            self.rounds
        );
        let recall = format!("recall@{}", self.k);
        let mut table =
            Table::new(["search", "ef_search", recall.as_str(), "queries/s", "p50 µs", "p99 µs", "distances"]);
        for point in &self.ours {
            table.row(row("kindred", point));
        }
        for point in &self.ours_on_hnsw_rs_graph {
            table.row(row("kindred on its graph", point));
        }
        for point in &self.hnsw_rs {
            table.row(row("hnsw_rs", point));
        }
        table.row(row("exact scan", &self.exact));
        text.push_str(&table.text());
        let Together { ef_search, threads, alone, together } = self.together;
        let _ = writeln!(
            text,
            "{threads} threads at ef_search {ef_search}: {together:.0} queries/s, {:.2} times the {alone:.0} of one thread beside them",
            self.together.ratio()
        );
        if self.hnsw_rs.is_empty() {
            let mut table = Table::new(["queries/s at", "kindred"]);
            for speed in &self.at {
                table.row([format!("{recall} {:.2}", speed.recall), or_not_reached(speed.ours, 0)]);
            }
            text.push_str(&table.text());
            return text;
        }
        let heads =
            ["queries/s at", "kindred", "on the graph of hnsw_rs", "hnsw_rs", "times faster", "on the same graph"];
        let mut table = Table::new(heads);
        for speed in &self.at {
            table.row([
                format!("{recall} {:.2}", speed.recall),
                or_not_reached(speed.ours, 0),
                or_not_reached(speed.ours_on_hnsw_rs_graph, 0),
                or_not_reached(speed.hnsw_rs, 0),
                or_not_reached(speed.ratio, 1),
                or_not_reached(speed.ratio_on_same_graph, 1),
            ]);
        }
        text.push_str(&table.text());
        text
    }
}

fn row(name: &str, point: &Point) -> [String; 7] {
    let distances = point.distances.map_or_else(String::new, |n| format!("{n:.0}"));
    let breadth = if point.ef_search == 0 { String::new() } else { point.ef_search.to_string() };
    let [recall, qps] = [format!("{:.4}", point.recall), format!("{:.0}", point.qps)];
    [name.to_owned(), breadth, recall, qps, format!("{:.1}", point.p50_us), format!("{:.1}", point.p99_us), distances]
}

//! Passes of a search over all queries, timed.

use std::time::Instant;

use anyhow::Context;
use hdrhistogram::Histogram;
use kindred_index::build::PeerSearch;
use kindred_index::{Index, Metric, Scratch, SearchParams};

use super::curve::{Point, median};
use crate::matrix::Matrix;
use crate::recall::{Truth, is_true};

/// Longest latency told apart, nanoseconds.
pub(super) const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// Times of one search at one breadth, over all rounds.
pub(super) struct Times {
    seconds: Vec<f64>,
    latency: Histogram<u64>,
    found: u64,
    distances: u64,
    queries: u64,
}

/// One pass of one search over the queries.
pub(super) struct Pass<'a> {
    queries: &'a Matrix,
    truth: &'a Truth,
    most: usize,
    counted: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn new(queries: &'a Matrix, truth: &'a Truth, most: usize, counted: bool) -> Self {
        Self { queries, truth, most: queries.rows.min(most), counted }
    }

    pub(super) fn ours<D: AsRef<[u8]>>(
        &self,
        index: &Index<D>,
        params: &SearchParams,
        scratch: &mut Scratch,
        times: Option<&mut Times>,
    ) -> anyhow::Result<()> {
        let Some(times) = times else { return Ok(()) };
        let mut seconds = 0.0;
        for query in 0..self.most {
            let begun = Instant::now();
            let stats = index.search(self.queries.row(query), params, None, scratch).context("searching")?;
            let taken = begun.elapsed();
            if self.counted {
                seconds += taken.as_secs_f64();
                let worst = self.worst(query);
                let found = scratch.hits().iter().filter(|hit| is_true(hit.similarity, worst)).count();
                times.one(taken.as_nanos() as u64, found, u64::from(stats.distances));
            }
        }
        times.pass(seconds, self);
        Ok(())
    }

    pub(super) fn theirs<D: AsRef<[u8]>>(
        &self,
        index: &Index<D>,
        peer: &PeerSearch,
        k: usize,
        ef: usize,
        times: Option<&mut Times>,
    ) {
        let Some(times) = times else { return };
        let mut seconds = 0.0;
        let mut unit = Vec::with_capacity(self.queries.cols);
        for query in 0..self.most {
            let row = self.queries.row(query);
            let begun = Instant::now();
            let found = peer.search(row, k, ef);
            let taken = begun.elapsed();
            if self.counted {
                seconds += taken.as_secs_f64();
                // Judged by the same arithmetic as ours, after the clock has stopped.
                let query_row = comparable(row, index.metric(), &mut unit);
                let worst = self.worst(query);
                let similarity = |ordinal: u32| index.rows().row(ordinal).map(|row| row.dot(query_row));
                let hits =
                    found.iter().filter_map(|ordinal| similarity(*ordinal)).filter(|s| is_true(*s, worst)).count();
                times.one(taken.as_nanos() as u64, hits, 0);
            }
        }
        times.pass(seconds, self);
    }

    fn worst(&self, query: usize) -> f32 {
        self.truth.worst.get(query).copied().unwrap_or(f32::NEG_INFINITY)
    }
}

/// A query as `Index::search` compares it: of unit length where the metric is cosine.
fn comparable<'a>(row: &'a [f32], metric: Metric, unit: &'a mut Vec<f32>) -> &'a [f32] {
    if metric == Metric::InnerProduct {
        return row;
    }
    let length = crate::matrix::norm(row).max(f32::MIN_POSITIVE);
    unit.clear();
    unit.extend(row.iter().map(|value| value / length));
    unit
}

pub(super) fn times(n: usize) -> anyhow::Result<Vec<Times>> {
    let one = |_| {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("making a histogram")?;
        Ok(Times { seconds: Vec::new(), latency, found: 0, distances: 0, queries: 0 })
    };
    (0..n).map(one).collect()
}

impl Times {
    fn one(&mut self, ns: u64, found: usize, distances: u64) {
        self.latency.saturating_record(ns);
        self.found += found as u64;
        self.distances += distances;
        self.queries += 1;
    }

    fn pass(&mut self, seconds: f64, pass: &Pass<'_>) {
        if pass.counted {
            self.seconds.push(seconds / pass.most.max(1) as f64);
        }
    }

    pub(super) fn point(&self, ef_search: usize, k: usize) -> Point {
        let us = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let n = self.queries.max(1) as f64;
        Point {
            ef_search,
            recall: self.found as f64 / (n * k.max(1) as f64),
            qps: 1.0 / median(&mut self.seconds.clone()).max(f64::MIN_POSITIVE),
            p50_us: us(0.5),
            p99_us: us(0.99),
            distances: (self.distances > 0).then(|| self.distances as f64 / n),
        }
    }
}

//! The graph builder: the crate hnsw_rs inserts, and its graph is read out into flat arrays. The only file that names that crate.
//!
//! What it needs to be kept from, all seen in its version 0.3.5:
//!
//! - Its own dot distance asserts on rounding errors: it gets [`Nearness`], clamped at zero.
//! - It panics on what is not a number and ends the process on large `m`: rows and options are checked before.
//! - `set_keeping_pruned(true)` ruins the graph (recall 0.71 instead of 0.99 at ef 80): it stays off.
//! - A point may carry links on levels above its own: they are left out.
//! - Inserting in parallel is not reproducible, and the first items would not see each other: the first ones go in serially.

use std::io;

use ::hnsw_rs::prelude::{Distance, Hnsw};

use super::{BuildError, GraphBuilder, GraphOptions, Progress, Rows, check_options};
use crate::assemble::{FlatGraph, IndexInput};
use crate::format::{LEVEL_MAX, NONE, STRIDE_UNIT, row_stride};
use crate::graph::EdgeSet;
use crate::keys::{STEP, mix};
use crate::metric::{GROUP, Kernel, Metric, unit_scale};

/// Builds with hnsw_rs.
#[derive(Clone, Copy, Debug, Default)]
pub struct HnswRsBuilder;

/// hnsw_rs's own search over the graph that was exported, to compare with.
pub struct PeerSearch {
    hnsw: Graph,
    stride: usize,
}

type Graph = Hnsw<'static, f32, Nearness>;

/// Items inserted one by one before the parallel insertion starts.
const SERIAL_FIRST: usize = 1_000;
/// Items between two looks at the progress.
const CHUNK: usize = 8_192;

/// A distance from similarity, as hnsw_rs wants it: never negative. Rows come at lengths up to 1, padded to whole groups.
#[derive(Clone, Copy)]
struct Nearness(Kernel);

impl Distance<f32> for Nearness {
    #[inline]
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        // The maximum is 0 also where the product is not a number, which rows that passed the checks cannot give.
        (1.0 - self.0.pair(a.as_chunks::<GROUP>().0, b.as_chunks::<GROUP>().0)).max(0.0)
    }
}

impl GraphBuilder for HnswRsBuilder {
    fn name(&self) -> &'static str {
        "hnsw_rs"
    }

    fn build(
        &self,
        rows: &Rows<'_>,
        metric: Metric,
        options: &GraphOptions,
        progress: &dyn Progress,
    ) -> Result<FlatGraph, BuildError> {
        let hnsw = insert_all(rows, metric, options, progress)?;
        Ok(export(&hnsw, rows.len(), options.m as u32)?)
    }
}

impl HnswRsBuilder {
    /// Builds a graph of one edge set, not repaired, and keeps hnsw_rs's own form of it for its own search.
    ///
    /// # Errors
    /// As [`super::build_index`]; and edges that are of two graphs.
    pub fn build_keeping(
        &self,
        input: &IndexInput<'_>,
        options: &GraphOptions,
        progress: &dyn Progress,
    ) -> Result<(FlatGraph, PeerSearch), BuildError> {
        let metric = match options.edges {
            EdgeSet::Cosine => Metric::Cosine,
            EdgeSet::InnerProduct => Metric::InnerProduct,
            EdgeSet::United => {
                let expected = "one edge set: hnsw_rs has no graph of two".to_owned();
                return Err(BuildError::Option { option: "edges", expected, found: EdgeSet::United as usize });
            }
        };
        let rows = Rows::new(input)?;
        let hnsw = insert_all(&rows, metric, options, progress)?;
        let graph = export(&hnsw, rows.len(), options.m as u32)?;
        Ok((graph, PeerSearch { hnsw, stride: row_stride(input.dims as u32) as usize }))
    }
}

impl PeerSearch {
    /// The ordinals of the k nearest that hnsw_rs's search finds, nearest first. The query may have any length.
    pub fn search(&self, query: &[f32], k: usize, ef_search: usize) -> Vec<u32> {
        let mut prepared = Vec::with_capacity(self.stride);
        let Some(scale) = unit_scale(query) else { return Vec::new() };
        scaled(query, scale, self.stride, &mut prepared);
        let found = self.hnsw.search(&prepared, k, ef_search);
        found.into_iter().filter_map(|neighbour| u32::try_from(neighbour.d_id).ok()).collect()
    }
}

impl std::fmt::Debug for PeerSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerSearch").field("items", &self.hnsw.get_nb_point()).finish_non_exhaustive()
    }
}

fn insert_all(
    rows: &Rows<'_>,
    metric: Metric,
    options: &GraphOptions,
    progress: &dyn Progress,
) -> Result<Graph, BuildError> {
    check_options(options)?;
    let n = rows.len() as usize;
    let levels = usize::from(LEVEL_MAX) + 1;
    let hnsw = Hnsw::new(options.m, n, levels, options.ef_construction, Nearness(Kernel::get()));
    let scale = scale_of(rows, metric)?;
    let stride = row_stride(rows.dimensions() as u32) as usize;
    let order = shuffled(rows.len(), options.seed);
    let stage = match metric {
        Metric::Cosine => "linking by cosine",
        Metric::InnerProduct => "linking by inner product",
    };
    // All of them: they are inserted in another order than they are read in.
    let mut prepared = Vec::with_capacity(n * stride);
    rows.each(&mut |_, row| {
        scaled(row, scale.unwrap_or_else(|| unit_scale(row).unwrap_or(1.0)), stride, &mut prepared);
    })?;
    let row = |ordinal: u32| prepared.get(ordinal as usize * stride..).and_then(|rest| rest.get(..stride));
    let (mut done, mut rest) = (0, order.as_slice());
    while !rest.is_empty() {
        if progress.cancelled() {
            return Err(BuildError::Cancelled);
        }
        progress.step(stage, done as u64, n as u64);
        let count = if done == 0 { SERIAL_FIRST } else { CHUNK }.min(rest.len());
        let (chunk, after) = rest.split_at(count);
        let batch: Vec<(&[f32], usize)> =
            chunk.iter().filter_map(|ordinal| Some((row(*ordinal)?, *ordinal as usize))).collect();
        if options.deterministic || done == 0 {
            batch.into_iter().for_each(|one| hnsw.insert_slice(one));
        } else {
            hnsw.parallel_insert_slice(&batch);
        }
        (done, rest) = (done + count, after);
    }
    progress.step(stage, n as u64, n as u64);
    Ok(hnsw)
}

/// What all rows are multiplied with, so that the longest has length 1; none where each row gets unit length.
fn scale_of(rows: &Rows<'_>, metric: Metric) -> io::Result<Option<f64>> {
    if metric == Metric::Cosine {
        return Ok(None);
    }
    let mut least = f64::INFINITY;
    rows.each(&mut |_, row| least = unit_scale(row).map_or(least, |scale| least.min(scale)))?;
    Ok(Some(least).filter(|scale| scale.is_finite()))
}

/// Appends a row times `scale`, padded.
fn scaled(row: &[f32], scale: f64, stride: usize, into: &mut Vec<f32>) {
    let end = into.len() + stride;
    into.extend(row.iter().take(stride).map(|value| (f64::from(*value) * scale) as f32));
    into.resize(end, 0.0);
}

/// The ordinals in a random order (Fisher, Yates). Items often come sorted by category or age, and a graph that is grown in such an
/// order has worse links than one that is grown everywhere at once.
fn shuffled(n: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    let mut state = seed;
    for last in (1..order.len()).rev() {
        // The high half of the product is below `last + 1` and uniform enough for an order of insertion.
        let place = (u128::from(mix(state)) * (last as u128 + 1)) >> 64;
        state = state.wrapping_add(STEP);
        order.swap(last, place as usize);
    }
    order
}

/// Reads the graph out into flat arrays.
fn export(hnsw: &Graph, n: u32, m: u32) -> io::Result<FlatGraph> {
    let m0_stride = (2 * m).next_multiple_of(STRIDE_UNIT);
    let mut levels = vec![0; n as usize];
    if n == 0 {
        return FlatGraph::without_links(levels, m, m0_stride, NONE);
    }
    let points = hnsw.get_point_indexation();
    let top = points.get_max_level_observed();
    // The iterator of a level gives the points whose own level it is.
    for level in 0..=top {
        for point in points.get_layer_iterator(usize::from(level)) {
            if let Some(own) = levels.get_mut(point.get_origin_id()) {
                *own = level;
            }
        }
    }
    // Any item of the top level will do; the first one is the same in every build that gives the same levels.
    let highest = levels.iter().copied().max().unwrap_or(0);
    let entry_point = levels.iter().position(|level| *level == highest).unwrap_or(0) as u32;
    let mut graph = FlatGraph::without_links(levels, m, m0_stride, entry_point)?;
    for level in 0..=top {
        for point in points.get_layer_iterator(usize::from(level)) {
            let ordinal = point.get_origin_id() as u32;
            let lists = point.get_neighborhood_id();
            for (on, list) in (0..=level).zip(&lists) {
                graph.set_links(ordinal, on, list.iter().map(|neighbour| neighbour.d_id as u32));
            }
        }
    }
    Ok(graph)
}

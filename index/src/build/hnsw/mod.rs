//! Our own graph builder: levels from the top down, items in batches, links chosen by a heuristic in both directions.
//!
//! The graph is that of Malkov and Yashunin (2020), with two differences in how it grows, and one in what is chosen.
//!
//! - **From the top down.** Items are put into an order by level, highest first, so the items of each level are the first so many of
//!   the order, and each level can be finished before the one below it starts: that begins as a copy of the one above, and every
//!   further item enters where the finished levels lead it.
//! - **In batches** (as Manohar et al., *ParlayANN*, PPoPP 2024): all items of a batch search the graph as it was before the batch, at
//!   the same time; then their links are added, item by item of those that are linked to. No list is locked, and the graph is the same to
//!   the bit for any number of threads. A batch is small beside what is there already, so that missing each other costs its items little.
//! - **Links** are chosen with a slack: see [`select`].
//!
//! Walks compare codes, or rows where codes would say too little of them; what they find is compared by rows before links are chosen.
//! Memory: a copy of the rows in the order of insertion, of two bytes a value where that is close to every row, and
//! 12 · m bytes an item of links. How near a link is, is not kept: it is compared again when a list is cut back, which happens about twice in
//! the growth of a list.

mod layer;
mod select;

use std::io;

use rayon::prelude::*;

use self::layer::{Incoming, Layer};
use self::select::{SelectScratch, Selector};
use super::asked::Asked;
use super::rows::{Pass, StoredRows};
use super::{BuildError, GraphBuilder, GraphOptions, Progress, RowForm, Rows, check_options};
use crate::assemble::FlatGraph;
use crate::format::{LEVEL_MAX, NONE, STRIDE_UNIT};
use crate::keys::mix;
use crate::metric::{Kernel, Metric, normalise};
use crate::pool::Entry;
use crate::search::{SearchStats, Searcher};
use crate::visited::Scratch;

/// Builds graphs. Always deterministic: the same rows and options give the same graph, for any number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct HnswBuilder;

/// So many first items of an order are linked by comparing all of them: a walk needs a graph to walk on.
const COMPARED_MAX: usize = 256;
/// A batch is at most this share of the items that are in already, and of all.
const BATCH_OF_PRESENT: usize = 16;
const BATCH_OF_ALL: usize = 50;

/// Levels by whose items those of a batch are put in order: the walks to near items one after the other read much of the same memory.
const CELLS: usize = 3;

impl GraphBuilder for HnswBuilder {
    fn name(&self) -> &'static str {
        "hnsw"
    }

    fn build(
        &self,
        rows: &Rows<'_>,
        metric: Metric,
        options: &GraphOptions,
        progress: &dyn Progress,
    ) -> Result<FlatGraph, BuildError> {
        check_options(options)?;
        let order = Order::drawn(rows.len(), options.m, options.seed);
        let ordered = Ordered::new(rows, &order, metric)?;
        let mut layers: Vec<Layer> = Vec::new();
        for level in (0..=order.top()).rev() {
            let most = if level == 0 { 2 * options.m } else { options.m };
            let layer = Layer::new(order.count(level), most, layers.last())?;
            let mut growth = Growth { layer, above: &layers, ordered: &ordered, ef: options.ef_construction };
            growth.grow(progress)?;
            layers.push(growth.finish());
        }
        // What only growing takes makes room for the graph.
        drop(ordered);
        layers.reverse();
        Ok(export(&layers, &order, options.m as u32)?)
    }
}

/// The order in which items are inserted: by level, highest first, and at random within a level. Items often come sorted by category or
/// age, and a graph that is grown in such an order has worse links than one that is grown everywhere at once.
struct Order {
    ordinals: Vec<u32>,
    /// By place, descending.
    levels: Vec<u8>,
}

impl Order {
    /// Draws levels, each m times rarer than the one below, and the order. Both are a function of ordinal and seed.
    fn drawn(n: u32, m: usize, seed: u64) -> Self {
        let scale = 1.0 / (m.max(2) as f64).ln();
        let draw = |ordinal: u32| {
            let random = mix(seed ^ mix(u64::from(ordinal)));
            // In (0, 1], so that its logarithm is finite.
            let uniform = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
            let level = (-uniform.ln() * scale).min(f64::from(LEVEL_MAX)) as u8;
            (std::cmp::Reverse(level), mix(random), ordinal)
        };
        let mut drawn: Vec<_> = (0..n).map(draw).collect();
        drawn.par_sort_unstable();
        let levels = drawn.iter().map(|(level, ..)| level.0).collect();
        Self { ordinals: drawn.into_iter().map(|(.., ordinal)| ordinal).collect(), levels }
    }

    fn top(&self) -> u8 {
        self.levels.first().copied().unwrap_or(0)
    }

    /// How many items are on a level.
    fn count(&self, level: u8) -> usize {
        self.levels.partition_point(|own| *own >= level)
    }

    /// The place of each ordinal.
    fn places(&self) -> Vec<u32> {
        let mut places = vec![NONE; self.ordinals.len()];
        for (place, ordinal) in (0..).zip(&self.ordinals) {
            places.iter_mut().skip(*ordinal as usize).take(1).for_each(|own| *own = place);
        }
        places
    }

    fn ordinal(&self, place: u32) -> u32 {
        self.ordinals.get(place as usize).copied().unwrap_or(NONE)
    }
}

/// Rows in the order of insertion, of unit length where links are by cosine.
struct Ordered {
    rows: StoredRows,
    metric: Metric,
}

impl Ordered {
    fn new(rows: &Rows<'_>, order: &Order, metric: Metric) -> io::Result<Self> {
        let places = order.places();
        // Read as they come and put where they belong: a file would have to be read here and there.
        let pass: &Pass<'_> = &|visit| {
            rows.each(&mut |ordinal, row| {
                if metric == Metric::Cosine {
                    normalise(row);
                }
                visit(places.get(ordinal as usize).copied().unwrap_or(NONE), row);
            })
        };
        Ok(Self { rows: StoredRows::new(RowForm::Fine, rows.len(), rows.dimensions(), metric, pass)?, metric })
    }

    fn selector(&self) -> Selector<'_> {
        Selector { rows: self.rows.view(), kernel: Kernel::get(), metric: self.metric }
    }
}

/// A level that grows.
struct Growth<'a> {
    layer: Layer,
    /// The finished levels, highest first.
    above: &'a [Layer],
    ordered: &'a Ordered,
    ef: usize,
}

/// How an item is come to.
struct Way {
    /// Where the way ends on the last levels above, the highest first. Items with the same cells are near each other.
    cells: [u32; CELLS],
    item: u32,
    /// Where it ends at last.
    entry: Entry,
}

/// What a thread works with.
#[derive(Default)]
struct Worker {
    scratch: Scratch,
    asked: Asked,
    select: SelectScratch,
}

impl Growth<'_> {
    /// Inserts the items that are not on the level above.
    fn grow(&mut self, progress: &dyn Progress) -> Result<(), BuildError> {
        let stage = match self.ordered.metric {
            Metric::Cosine => "linking by cosine",
            Metric::InnerProduct => "linking by inner product",
        };
        // Each level goes on where the one above it ended, so what is done of all items never goes back.
        let (n, all) = (self.layer.len(), u64::from(self.ordered.rows.view().len()));
        let mut done = self.above.last().map_or(0, Layer::len);
        while done < n {
            if progress.cancelled() {
                return Err(BuildError::Cancelled);
            }
            progress.step(stage, done as u64, all);
            let batch = if done < COMPARED_MAX { 1 } else { (done / BATCH_OF_PRESENT).min(n / BATCH_OF_ALL).max(1) };
            let end = (done + batch).min(n);
            let items = done as u32..end as u32;
            let mut ways: Vec<Way> =
                items.into_par_iter().map_init(Worker::default, |worker, item| self.way_to(item, worker)).collect();
            ways.par_sort_unstable_by_key(|way| (way.cells, way.item));
            let links_of = |worker: &mut Worker, way: &Way| (way.item, self.links_of(way, done as u32, worker));
            let chosen: Vec<(u32, Vec<u32>)> = ways.par_iter().map_init(Worker::default, links_of).collect();
            self.link(&chosen);
            done = end;
        }
        progress.step(stage, n as u64, all);
        Ok(())
    }

    /// The level, with every list cut back to its length.
    fn finish(mut self) -> Layer {
        self.layer.cut(&self.ordered.selector());
        self.layer
    }

    /// The way to an item over the finished levels. The first item of the order is on every level, so every way begins there.
    fn way_to(&self, item: u32, worker: &mut Worker) -> Way {
        let Worker { scratch, asked, .. } = worker;
        let (near, rows) = asked.of(item, &self.ordered.rows);
        let (mut cells, mut stats) = ([0; CELLS], SearchStats::none());
        let on = |graph| Searcher { graph, near, rows, entries: &[] };
        let mut entry = on(self.layer.view(1)).entry(0, scratch, &mut stats);
        for layer in self.above {
            entry = on(layer.view(layer.len() as u32)).climb(entry, 0, scratch, &mut stats);
            cells.rotate_left(1);
            cells[CELLS - 1] = entry.ordinal();
        }
        Way { cells, item, entry }
    }

    /// The links that an item should have, among the first `present`.
    fn links_of(&self, way: &Way, present: u32, worker: &mut Worker) -> Vec<u32> {
        let Worker { scratch, asked, select } = worker;
        let found: Vec<u32> = if (present as usize) < COMPARED_MAX {
            (0..present).collect()
        } else {
            let (near, rows) = asked.of(way.item, &self.ordered.rows);
            let searcher = Searcher { graph: self.layer.view(present), near, rows, entries: &[] };
            searcher.walk_from(Some(way.entry), self.ef, scratch, &mut SearchStats::none());
            scratch.walk.entries().iter().map(|entry| entry.ordinal()).collect()
        };
        self.ordered.selector().select(way.item, &found, self.layer.most(), select)
    }

    /// Gives items their links, and those that are linked to links back.
    fn link(&mut self, chosen: &[(u32, Vec<u32>)]) {
        let mut incoming = Vec::with_capacity(chosen.iter().map(|(_, list)| list.len()).sum());
        for (item, list) in chosen {
            self.layer.set(*item, list);
            incoming.extend(list.iter().map(|to| Incoming { to: *to, from: *item }));
        }
        incoming.par_sort_unstable();
        self.layer.add(&incoming, &self.ordered.selector());
    }
}

/// Levels, lowest first, as flat arrays over ordinals.
fn export(layers: &[Layer], order: &Order, m: u32) -> io::Result<FlatGraph> {
    let n = order.ordinals.len();
    let m0_stride = (2 * m).next_multiple_of(STRIDE_UNIT);
    let mut levels = vec![0; n];
    for (ordinal, level) in order.ordinals.iter().zip(&order.levels) {
        if let Some(place) = levels.get_mut(*ordinal as usize) {
            *place = *level;
        }
    }
    let mut graph = FlatGraph::without_links(levels, m, m0_stride, order.ordinal(0))?;
    for (level, layer) in (0_u8..).zip(layers) {
        for place in 0..layer.len() as u32 {
            let links = layer.view(layer.len() as u32).links(place, 0).iter();
            graph.set_links(order.ordinal(place), level, links.map(|link| order.ordinal(*link)));
        }
    }
    Ok(graph)
}

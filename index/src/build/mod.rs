//! Building an index, offline: from rows to a graph to a file.
//!
//! [`build_index`] checks the input, has a [`GraphBuilder`] make the graph, unites two graphs where that is asked for, makes sure that
//! every item can be found, and hands back a [`BuiltIndex`] to be written.
//!
//! hnsw_rs, which one of the builders uses, prints a line to standard output when a library user changes its level scale, and nothing
//! in what is used here; still, a program whose standard output is data does well to write that after the build.

use std::borrow::Cow;
use std::io::{self, Seek, Write};

use thiserror::Error;

use crate::aligned::AlignedBytes;
use crate::assemble::{AssembleError, FlatGraph, IndexAssembly, IndexInput, Longest};
use crate::error::WriteError;
use crate::format::{M_MAX, M_MIN};
use crate::graph::{EdgeSet, GraphStats};
use crate::metric::Metric;

mod asked;
mod codes;
mod hnsw;
mod hnsw_rs;
mod longest;
mod repair;
mod rows;
mod united;

pub use self::hnsw::HnswBuilder;
pub use self::hnsw_rs::{HnswRsBuilder, PeerSearch};
pub use self::rows::Rows;
use self::rows::{Pass, StoredRows};
use self::united::Waiting;

/// Widest search while building. Beyond it a build takes days and gains nothing that was measured.
pub const EF_CONSTRUCTION_MAX: usize = 10_000;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphOptions {
    /// Links per item on the upper levels, 2 to 64; twice as many at level 0.
    pub m: usize,
    /// Breadth of the search that finds an item's links; more than 2 m, at most [`EF_CONSTRUCTION_MAX`].
    pub ef_construction: usize,
    /// Has hnsw_rs insert items one after the other, at the speed of one thread: the same rows and options then give the same bytes. Ours always does.
    pub deterministic: bool,
    /// Seed of the order in which items are inserted, and of the levels that ours draws; those of hnsw_rs come from a seed of its own, which is fixed.
    pub seed: u64,
    /// Which graph or graphs.
    pub edges: EdgeSet,
    /// How rows are kept.
    pub rows: RowForm,
}

/// How rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// As floats, and walks compare them.
    Whole,
    /// As floats, and beside them codes of one byte a value, which walks compare. By inner product as [`RowForm::Whole`] where codes would not tell most of
    /// the longest rows apart.
    Coded,
    /// As codes and one byte more a value, where that is close to every row; else as [`RowForm::Coded`]. At 64 dimensions the file is three fifths of that.
    Fine,
}

impl GraphOptions {
    /// The breadth that a graph of so many items is usually built with: 200, and by cosine the more the more items there are, from 200,000 up to 400 at
    /// 800,000. Of a million generated rows a search then finds 0.99 with 3,150 products instead of 4,400, for a build of 93 s instead of 54. Two
    /// graphs by inner product are found well with 200.
    #[must_use]
    pub fn usual_ef_construction(items: usize, edges: EdgeSet) -> usize {
        const FEW_ITEMS: f64 = 200_000.0;
        let times = if edges == EdgeSet::Cosine { (items as f64 / FEW_ITEMS).sqrt().clamp(1.0, 2.0) } else { 1.0 };
        (200.0 * times) as usize
    }
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { m: 16, ef_construction: 200, deterministic: false, seed: 1, edges: EdgeSet::Cosine, rows: RowForm::Fine }
    }
}

/// Who wants to know how far a build is, and may end it.
pub trait Progress: Sync {
    /// So many units of a stage are done.
    fn step(&self, stage: &str, done: u64, total: u64);

    /// Whether to stop; asked every few thousand items, or every fiftieth part of many.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody.
impl Progress for () {
    fn step(&self, _stage: &str, _done: u64, _total: u64) {}
}

/// Makes a graph of one edge set.
pub trait GraphBuilder {
    /// What built it, for manifests.
    fn name(&self) -> &'static str;

    /// Links each row to near ones, near by `metric`, whatever the metric that the index will be searched with.
    ///
    /// # Errors
    /// Options out of range, or a build that was cancelled.
    fn build(
        &self,
        rows: &Rows<'_>,
        metric: Metric,
        options: &GraphOptions,
        progress: &dyn Progress,
    ) -> Result<FlatGraph, BuildError>;
}

/// Why an index was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of its range.
    #[error("{option} is {found}, expected {expected}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its range.
        expected: String,
        /// What it is.
        found: usize,
    },
    /// There is not enough memory.
    #[error("not enough memory to build in: build fewer items, or on a machine with more")]
    Memory(#[source] io::Error),
    /// Rows that could be read before cannot be read any more.
    #[error("the rows cannot be read")]
    Rows(#[source] io::Error),
    /// The rows cannot become an index.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// Whoever wanted the index no longer does.
    #[error("the build was cancelled")]
    Cancelled,
    /// Items that no search finds, and no link could be added to that changes it.
    #[error(
        "{count} items cannot be found by searching, one of them item {ordinal} ({key:?}): build with larger m and ef_construction"
    )]
    Unreachable {
        /// How many.
        count: u64,
        /// One of them.
        ordinal: u32,
        /// Its key.
        key: String,
    },
}

impl From<io::Error> for BuildError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::OutOfMemory => Self::Memory(source),
            _ => Self::Rows(source),
        }
    }
}

/// What a build did.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildReport {
    /// Items that no search found until links to them were added.
    pub unreachable_repaired: u32,
    /// The longest items, which searches by inner product compare with before they walk; 0 where walking is as fast.
    pub n_longest: u32,
    /// Which graph or graphs.
    pub edges: EdgeSet,
    /// The builder.
    pub builder: &'static str,
    /// The shape of the graph.
    pub stats: GraphStats,
}

/// An index in parts, ready to be written.
#[derive(Debug)]
pub struct BuiltIndex<'a> {
    /// What the build did.
    pub report: BuildReport,
    assembly: IndexAssembly<'a>,
}

impl BuiltIndex<'_> {
    /// The graph.
    pub fn graph(&self) -> &FlatGraph {
        self.assembly.graph()
    }

    /// Writes the file; returns its length in bytes.
    ///
    /// # Errors
    /// A file that cannot be written, or that would be longer than the format allows.
    pub fn write<W: Write + Seek>(&self, into: W) -> Result<u64, WriteError> {
        self.assembly.write(into)
    }

    /// The file, in memory.
    ///
    /// # Errors
    /// As [`BuiltIndex::write`].
    pub fn to_bytes(&self) -> Result<AlignedBytes, WriteError> {
        self.assembly.to_bytes()
    }
}

/// Builds an index: checks, graph or graphs, repair. Needs what the builder needs beside the tables of the input, and less than the file once; rows are
/// read a few times and never held whole.
///
/// About 0.2 ms per 64-dimensional item and thread at 200,000 items, a quarter as much again with [`EdgeSet::United`].
///
/// # Errors
/// An input that no index can hold, options out of range, a build that was cancelled, items that cannot be made reachable.
pub fn build_index<'a>(
    input: &IndexInput<'a>,
    options: &GraphOptions,
    builder: &dyn GraphBuilder,
    progress: &dyn Progress,
) -> Result<BuiltIndex<'a>, BuildError> {
    check_options(options)?;
    let rows = Rows::new(input)?;
    let by = |metric, options: &GraphOptions| builder.build(&rows, metric, options, progress);
    let mut graph = match options.edges {
        EdgeSet::Cosine => by(Metric::Cosine, options)?,
        EdgeSet::InnerProduct => by(Metric::InnerProduct, options)?,
        EdgeSet::United => {
            let first = Waiting::of(by(Metric::InnerProduct, options)?);
            united::unite(first, &by(Metric::Cosine, &united::second(options))?)?
        }
    };
    let pass: &Pass<'_> = &|visit| rows.each(&mut |ordinal, row| visit(ordinal, row));
    let stored = StoredRows::new(options.rows, rows.len(), rows.dimensions(), input.metric, pass)?;
    let unreachable_repaired = repair::repair(&mut graph, &stored, input.tables.keys(), progress)?;
    let longest = match input.metric {
        Metric::InnerProduct if stored.codes().is_some() => longest::longest(&stored.view()),
        Metric::InnerProduct | Metric::Cosine => Longest::default(),
    };
    let stats = graph.view().stats();
    let n_longest = longest.ordinals.len() as u32;
    let report = BuildReport { unreachable_repaired, n_longest, edges: options.edges, builder: builder.name(), stats };
    let assembly =
        IndexAssembly::new(input, Cow::Owned(graph), options.edges)?.with_codes(stored.into_codes(), longest);
    Ok(BuiltIndex { report, assembly })
}

/// Checks options before a builder sees them: hnsw_rs ends the process on some.
pub(crate) fn check_options(options: &GraphOptions) -> Result<(), BuildError> {
    let m = M_MIN as usize..=M_MAX as usize;
    if !m.contains(&options.m) {
        let expected = format!("{M_MIN} to {M_MAX}");
        return Err(BuildError::Option { option: "m", expected, found: options.m });
    }
    let least = 2 * options.m + 1;
    if !(least..=EF_CONSTRUCTION_MAX).contains(&options.ef_construction) {
        let expected = format!("{least} (more than 2 m) to {EF_CONSTRUCTION_MAX}");
        return Err(BuildError::Option { option: "ef_construction", expected, found: options.ef_construction });
    }
    Ok(())
}

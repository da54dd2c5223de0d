//! `kindred bench index`: recall against speed, beside hnsw_rs, beside our search of the very graph that hnsw_rs built, and beside an
//! exact scan.
//!
//! The searches take turns within each round, one pass over all queries each, so that whatever else the machine does falls on all of
//! them alike; of the rounds the median counts. One thread searches.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::builder::RangedU64ValueParser;
use kindred::artifact;
use kindred_index::build::{BuiltIndex, GraphOptions, HnswBuilder, HnswRsBuilder, PeerSearch, RowForm, build_index};
use kindred_index::{
    AlignedBytes, EF_SEARCH_MAX, EdgeSet, Index, IndexInput, ItemAttributes, ItemTablesBuilder, MappedFile, Memory,
    Metric, Pages, Scratch, SearchParams, assemble_index,
};

use super::super::verify;
use super::super::{Exit, Global};
use super::curve::Point;
use super::data::{Data, by_whom, data, first_rows, fits};
use super::index_report::{IndexReport, Speed};
use super::passes::{Pass, Times, times};
use super::{filters, opening, peers, scale, threads};
use crate::build::{edges_name, metric_name};
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::model_dir::ModelMetric;
use crate::npy;
use crate::progress::Progress;
use crate::recall;
use crate::report::{Report, emit};
use crate::svg::Chart;

/// The breadths that are tried, unless others are asked for: from 10 on each is about 1.4 times the one before.
pub(super) const SWEEP: &[usize] =
    &[4, 5, 6, 7, 8, 10, 14, 20, 28, 40, 56, 80, 112, 160, 226, 320, 452, 640, 904, 1280];
/// Breadth of the first answer after opening, unless another is asked for.
const OPENING_EF_SEARCH: usize = 40;
/// Queries of the exact scan, which takes thousands of times longer per query.
const EXACT_QUERIES: usize = 50;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kindred bench index --items 200000 --dims 64\n  kindred bench index --filters\n  kindred bench index --peers --python venv/bin/python --svg peers.svg\n  kindred bench index --scale 10000,100000,1000000 --svg scale.svg\n  kindred bench index --npy item_factors.npy --query-npy queries.npy --metric inner-product\n  kindred bench index --artifact artifacts --query-npy model/queries.npy"
)]
pub struct Args {
    /// Rows to generate
    #[arg(long, default_value_t = 200_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=50_000_000))]
    pub items: usize,
    /// Length of a generated row
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(2..=4096))]
    pub dims: usize,
    /// Queries: generated ones, or the first of --query-npy
    #[arg(long, default_value_t = 2_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub queries: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Rows from a file instead of generated ones: n × d, f32 or f64
    #[arg(long, value_name = "FILE", conflicts_with = "artifact")]
    pub npy: Option<PathBuf>,
    /// Queries from a file; without them rows are asked for that are in the index, which are found more easily than what visitors ask
    #[arg(long, value_name = "FILE")]
    pub query_npy: Option<PathBuf>,
    /// Measure the graph of a published artifact: a directory of artifacts, or of one generation
    #[arg(long, value_name = "DIR")]
    pub artifact: Option<PathBuf>,
    /// Where the artifact's bytes lie, as the server's artifacts.memory; what is built here lies as if pinned
    #[arg(long, value_enum, default_value_t = MemoryArg::Cached, requires = "artifact")]
    pub memory: MemoryArg,
    /// How rows are compared
    #[arg(long, value_enum, default_value_t = ModelMetric::Cosine, conflicts_with = "artifact")]
    pub metric: ModelMetric,
    /// Links per item on the upper levels, twice as many at level 0
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(2..=64))]
    pub m: usize,
    /// Breadth of the search while building; if left out as `kindred build` has it, and 200 for the libraries of --peers
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(5..=10_000))]
    pub ef_construction: Option<usize>,
    /// Breadths of the search to try, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = RangedU64ValueParser::<usize>::new().range(1..=EF_SEARCH_MAX as u64))]
    pub ef_search: Vec<usize>,
    /// Nearest items asked for
    #[arg(long, default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    pub k: usize,
    /// Leave hnsw_rs out, which takes most of the time
    #[arg(long)]
    pub without_hnsw_rs: bool,
    /// Measure filters instead: recall and latency from all items allowed down to one in 10,000, at random, near to the query, far from
    /// it and gathered in one place
    #[arg(long)]
    pub filters: bool,
    /// Measure hnswlib, usearch, faiss, SVS and glass beside it, as far as they are installed for --python
    #[arg(long, conflicts_with = "filters")]
    pub peers: bool,
    /// Measure how long opening the artifact and its first answer take, the files being in the page cache
    #[arg(long, requires = "artifact", conflicts_with_all = ["filters", "peers"])]
    pub open: bool,
    /// Measure generated catalogues of these sizes instead, separated by commas: what a query and an insertion cost as they grow
    #[arg(long, value_delimiter = ',', value_name = "ITEMS", conflicts_with_all = ["artifact", "npy", "filters", "peers"])]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1_000..=50_000_000))]
    pub scale: Vec<usize>,
    /// The interpreter that has them [default: python3]
    #[arg(long, value_name = "FILE", requires = "peers")]
    pub python: Option<PathBuf>,
    /// Draw recall against speed, or with --scale cost against size
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Rounds; of each number the median counts
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub rounds: usize,
}

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MemoryArg {
    /// Mapped, read when touched.
    Cold,
    /// Mapped, in the page cache.
    Cached,
    /// In memory of the process, in large pages.
    Pinned,
}

impl From<MemoryArg> for Memory {
    fn from(memory: MemoryArg) -> Self {
        match memory {
            MemoryArg::Cold => Self::Cold,
            MemoryArg::Cached => Self::Cached,
            MemoryArg::Pinned => Self::Pinned,
        }
    }
}

/// What is searched, beside the index.
pub(super) struct Subject {
    peer: Option<Peer>,
    pub(super) queries: Matrix,
    pub(super) source: String,
    pub(super) build_seconds: Option<f64>,
    /// The breadth that it was built with, if it was built here.
    pub(super) ef_construction: Option<usize>,
}

/// The graph of hnsw_rs, for its own search and for ours.
struct Peer {
    search: PeerSearch,
    index: Index<Pages>,
    build_seconds: f64,
}

/// Measures and reports.
///
/// # Errors
/// Rows or queries that cannot be read or used, or a graph that cannot be built.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    ensure!(
        args.svg.is_none() || args.peers || !args.scale.is_empty(),
        "--svg draws what --peers or --scale measure: give one of them"
    );
    let progress = Progress::bar("preparing", 0);
    if !args.scale.is_empty() {
        let report = scale::measure(args, &progress)?;
        return told(args, global, &progress, &report, Some(report.chart()));
    }
    let Some(path) = &args.artifact else {
        let without_hnsw_rs = args.without_hnsw_rs || args.filters || args.peers;
        let (index, subject) = built(&Args { without_hnsw_rs, ..args.clone() }, &progress)?;
        return one(args, global, &index, &subject, &progress);
    };
    let directory = verify::directory(path)?;
    if args.open {
        let ef_search = args.ef_search.first().copied().unwrap_or(OPENING_EF_SEARCH);
        return told(args, global, &progress, &opening::measure(&directory, args.k, ef_search)?, None);
    }
    let model = artifact::open_in(&directory, args.memory.into()).context("opening the artifact")?;
    let subject = published(args, model.index(), directory.display().to_string())?;
    one(args, global, model.index(), &subject, &progress)
}

/// What was asked for of an index, measured.
fn one<D: AsRef<[u8]> + Sync>(
    args: &Args,
    global: &Global,
    index: &Index<D>,
    subject: &Subject,
    progress: &Progress,
) -> anyhow::Result<Exit> {
    if args.filters {
        return told(args, global, progress, &filters::measure(args, index, subject, progress)?, None);
    }
    if args.peers {
        let report = peers::measure(args, index, subject, progress)?;
        return told(args, global, progress, &report, Some(report.chart()));
    }
    told(args, global, progress, &measure(args, index, subject, progress)?, None)
}

/// Reports, then draws: what was measured is told also where the chart cannot be written.
fn told(
    args: &Args,
    global: &Global,
    progress: &Progress,
    report: &impl Report,
    chart: Option<Chart>,
) -> anyhow::Result<Exit> {
    progress.finish();
    emit(report, global.json)?;
    if let (Some(file), Some(chart)) = (&args.svg, chart) {
        std::fs::write(file, chart.svg()).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(Exit::Done)
}

/// The graph of an artifact, with queries from a file or from its own rows.
fn published(args: &Args, index: &Index<MappedFile>, source: String) -> anyhow::Result<Subject> {
    let queries = match &args.query_npy {
        Some(file) => first_rows(npy::read_matrix(file)?, args.queries),
        None => {
            let step = (index.len() as usize).div_ceil(args.queries).max(1);
            let rows = (0..index.len()).step_by(step).filter_map(|ordinal| index.row(ordinal));
            let data: Vec<f32> = rows.flat_map(Cow::into_owned).collect();
            Matrix { rows: data.len() / index.dimensions().max(1), cols: index.dimensions(), data }
        }
    };
    let memory = match args.memory {
        MemoryArg::Cold => "cold",
        MemoryArg::Cached => "cached",
        MemoryArg::Pinned => "pinned",
    };
    let source = by_whom(args, format!("{source}, memory {memory}"));
    Ok(Subject { peer: None, queries, source, build_seconds: None, ef_construction: None })
}

impl Args {
    /// Ours gets what `kindred build` would give it; hnsw_rs has no graph of two.
    fn edges(&self) -> EdgeSet {
        match self.metric {
            ModelMetric::Cosine => EdgeSet::Cosine,
            ModelMetric::InnerProduct => EdgeSet::United,
        }
    }

    /// The breadth that ours is built with.
    pub(super) fn ef_construction_for(&self, items: usize) -> usize {
        self.ef_construction.unwrap_or_else(|| GraphOptions::usual_ef_construction(items, self.edges()))
    }
}

/// Graphs over generated rows or those of a file: ours, and that of hnsw_rs in both forms.
pub(super) fn built(args: &Args, progress: &Progress) -> anyhow::Result<(Index<Pages>, Subject)> {
    let lay_out = |ours: &BuiltIndex<'_>, input: &IndexInput<'_>, options: &GraphOptions| {
        let index = open(&ours.to_bytes().context("laying the index out")?)?;
        let peer = if args.without_hnsw_rs { None } else { Some(peer(input, options, progress)?) };
        Ok((index, peer))
    };
    let ((index, peer), subject) = built_by(args, progress, lay_out)?;
    Ok((index, Subject { peer, ..subject }))
}

/// Builds our graph over generated rows or those of a file, and makes of it what is measured. The rows are gone when it returns.
pub(super) fn built_by<T>(
    args: &Args,
    progress: &Progress,
    lay_out: impl FnOnce(&BuiltIndex<'_>, &IndexInput<'_>, &GraphOptions) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Subject)> {
    let Data { rows, shape: [n_items, dims], queries, source } = data(args, progress)?;
    if let Some(found) = args.ef_construction {
        ensure!(found > 2 * args.m, "--ef-construction is {found}, expected more than twice --m, {}", 2 * args.m);
    }
    let metric = Metric::from(args.metric);
    let mut tables = ItemTablesBuilder::default();
    (0..n_items).try_for_each(|row| tables.push(&row.to_string(), &ItemAttributes::default()))?;
    let tables = tables.finish()?;
    let input = IndexInput { tables: &tables, rows: &*rows, dims, metric };
    let options = GraphOptions {
        m: args.m,
        ef_construction: args.ef_construction_for(n_items),
        deterministic: false,
        seed: args.seed,
        edges: args.edges(),
        rows: RowForm::Fine,
    };
    let started = Instant::now();
    let ours = build_index(&input, &options, &HnswBuilder, progress).context("building the graph")?;
    let build_seconds = Some(started.elapsed().as_secs_f64());
    let laid_out = lay_out(&ours, &input, &options)?;
    let ef_construction = Some(options.ef_construction);
    Ok((laid_out, Subject { peer: None, queries, source, build_seconds, ef_construction }))
}

fn peer(input: &IndexInput<'_>, options: &GraphOptions, progress: &Progress) -> anyhow::Result<Peer> {
    let edges = if input.metric == Metric::Cosine { EdgeSet::Cosine } else { EdgeSet::InnerProduct };
    let started = Instant::now();
    let (graph, search) = HnswRsBuilder
        .build_keeping(input, &GraphOptions { edges, ..*options }, progress)
        .context("building the graph of hnsw_rs")?;
    let build_seconds = started.elapsed().as_secs_f64();
    let bytes = assemble_index(input, &graph, edges).context("laying the graph of hnsw_rs out")?;
    let index = open(&bytes)?;
    Ok(Peer { search, index, build_seconds })
}

/// Opens an index that was just built, in large pages, as a server has it whose memory is pinned.
fn open(bytes: &AlignedBytes) -> anyhow::Result<Index<Pages>> {
    let mut pages = Pages::zeroed(bytes.len()).context("taking memory for the index")?;
    pages.as_mut().copy_from_slice(bytes.as_ref());
    Index::open(pages).context("opening the index that was just built")
}

/// Everything that is timed, in rounds.
fn measure<D: AsRef<[u8]> + Sync>(
    args: &Args,
    index: &Index<D>,
    subject: &Subject,
    progress: &Progress,
) -> anyhow::Result<IndexReport> {
    let Subject { peer, queries, .. } = subject;
    fits(queries, index.dimensions())?;
    progress.start("finding the true nearest", 0);
    let truth = recall::truth(index, queries, args.k)?;
    // The graph of hnsw_rs is searched over floats, by it too, by which here and there another item is the last of the nearest.
    let truth_of_theirs = peer.as_ref().map(|peer| recall::truth(&peer.index, queries, args.k)).transpose()?;
    let breadths: Vec<usize> = if args.ef_search.is_empty() { SWEEP.to_vec() } else { args.ef_search.clone() };
    let mut ours = times(breadths.len())?;
    let mut theirs = times(if peer.is_some() { breadths.len() } else { 0 })?;
    let mut on_theirs = times(theirs.len())?;
    let mut exact = times(1)?;
    let mut scratch = Scratch::default();
    progress.start("measuring", (args.rounds * breadths.len()) as u64 + 1);
    // A round that is not counted brings rows, links and the processor's clock up.
    for round in 0..=args.rounds {
        let counted = round > 0;
        for (place, &ef) in breadths.iter().enumerate() {
            if !counted && place % 4 != 0 {
                continue;
            }
            let params = SearchParams { k: truth.k, ef_search: ef, exact: false };
            let pass = Pass::new(queries, &truth, usize::MAX, counted);
            pass.ours(index, &params, &mut scratch, ours.get_mut(place))?;
            if let (Some(peer), Some(truth)) = (peer, &truth_of_theirs) {
                let pass = Pass::new(queries, truth, usize::MAX, counted);
                pass.ours(&peer.index, &params, &mut scratch, on_theirs.get_mut(place))?;
                pass.theirs(&peer.index, &peer.search, truth.k, ef, theirs.get_mut(place));
            }
            progress.inc(u64::from(counted));
        }
        let params = SearchParams { k: truth.k, ef_search: truth.k, exact: true };
        Pass::new(queries, &truth, EXACT_QUERIES, counted).ours(index, &params, &mut scratch, exact.first_mut())?;
    }
    let points = |times: &[Times]| breadths.iter().zip(times).map(|(ef, times)| times.point(*ef, truth.k)).collect();
    let [ours, on_theirs, theirs]: [Vec<Point>; 3] = [points(&ours), points(&on_theirs), points(&theirs)];
    let exact = exact.first().map(|times| times.point(0, truth.k)).context("no exact scan")?;
    // At the breadth of recall 0.95, or the broadest.
    let usual = ours.iter().find(|point| point.recall >= 0.95).or(ours.last()).map_or(truth.k, |point| point.ef_search);
    let params = SearchParams { k: truth.k, ef_search: usual, exact: false };
    let together = threads::measure(index, queries, &params, args.rounds)?;
    let at = [0.90, 0.95, 0.99].into_iter().map(|recall| Speed::at(recall, &ours, &on_theirs, &theirs)).collect();
    Ok(IndexReport {
        machine: Machine::here(),
        source: subject.source.clone(),
        n_items: index.len(),
        dimensions: index.dimensions(),
        metric: metric_name(index.metric()),
        edges: edges_name(index.edges()),
        m: index.m(),
        ef_construction: subject.ef_construction,
        build_seconds: subject.build_seconds,
        hnsw_rs_build_seconds: peer.as_ref().map(|peer| peer.build_seconds),
        n_longest: index.n_longest(),
        bytes: index.container().file_len(),
        n_queries: queries.rows,
        k: truth.k,
        rounds: args.rounds,
        ours,
        ours_on_hnsw_rs_graph: on_theirs,
        hnsw_rs: theirs,
        exact,
        together,
        at,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn rows_that_stand_in_for_queries_are_told() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("rows.npy");
        npy::write(&file, &[3, 2], &[1.0_f32, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        let file = file.to_str().unwrap();
        let source = |more: &[&str]| {
            let given = [&["index", "--npy", file][..], more].concat();
            data(&Command::parse_from(given).args, &Progress::hidden()).unwrap().source
        };
        assert!(source(&[]).ends_with("rows.npy (its own rows as queries)"));
        assert!(source(&["--query-npy", file]).ends_with("rows.npy"));
    }

    #[test]
    fn queries_of_another_model_are_refused_before_anything_is_built() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("queries.npy");
        npy::write(&file, &[1, 2], &[1.0_f32, 0.0]).unwrap();
        let file = file.to_str().unwrap();
        let args = Command::parse_from(["index", "--items", "30", "--dims", "4", "--query-npy", file]).args;
        let refused = data(&args, &Progress::hidden()).unwrap_err().to_string();
        assert!(refused.contains("queries have 2 numbers, rows have 4"), "{refused}");
    }
}

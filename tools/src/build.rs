//! From a model to a published artifact: graph, measurement, files.
//!
//! Nothing is published that does not pass its recall floor or does not verify, and nothing half: everything is made beside, and the
//! name CURRENT changes last (see `kindred::artifact`). Needs what the builder needs in memory, while edge sets are compared the index
//! that is best so far as well; a model on disk is read when it is needed, row by row, and never held. On the disk of the artifacts each index takes
//! room once: until it is read back, and then as it is published.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use kindred::artifact::{ArtifactError, INDEX_FILE, MODEL_FILE, Publication};
use kindred::catalog::attributes::{self, LeftOut};
use kindred::manifest::{AnnRecall, BreadthRecall, Manifest};
use kindred_index::build::{GraphBuilder, GraphOptions, HnswBuilder, HnswRsBuilder, RowForm, build_index};
use kindred_index::{EdgeSet, Index, IndexInput, ItemTables, ItemTablesBuilder, Metric, Pages, crc32};
use serde::Serialize;

use crate::calendar::Moment;
use crate::matrix::Matrix;
use crate::model_dir::ModelParts;
use crate::progress::Progress;
use crate::recall::{self, Agreement, Truth};
use crate::whole_dir;

pub(crate) mod beside;
mod edges;
mod left;

pub use self::edges::EdgeChoice;
pub(crate) use self::edges::every;
use self::edges::{better, edge_sets, step};

/// Nearest items that recall is measured on.
pub const RECALL_K: usize = 10;
/// Breadths whose recall is measured beside, so that a request can ask for a share of the true nearest: each finds clearly more than the one before.
const BREADTHS: [usize; 17] = [4, 6, 8, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896];
/// A recall beyond which no broader search is worth measuring.
const RECALL_WHOLE: f64 = 0.9995;
/// Item rows that stand in for queries where a model has none.
const ROW_QUERIES: usize = 1_000;
/// Names tried for a generation when one of the same second and content is there already.
const NAMES_TRIED: u32 = 100;
/// How long another publisher is waited for, which writes and verifies what it has built: minutes, if that is large.
const PUBLISHER_PATIENCE: Duration = Duration::from_secs(600);
/// Time between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a model becomes an artifact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildOptions {
    /// Links per item on the upper levels; twice as many at level 0.
    pub m: usize,
    /// Breadth of the search while building; if none, what is usual for so many items.
    pub ef_construction: Option<usize>,
    /// Breadth of the search that recall is measured with and that requests use unless they say otherwise.
    pub ef_search: usize,
    /// What builds the graph.
    pub builder: BuilderChoice,
    /// Has hnsw_rs insert items one by one, so that the same model gives the same bytes; ours always does.
    pub deterministic: bool,
    /// Seed of the build.
    pub seed: u64,
    /// Which edges the graph gets.
    pub edges: EdgeChoice,
    /// Least recall that is published.
    pub recall_floor: f64,
    /// Generations kept; all, if none.
    pub keep: Option<usize>,
}

/// What builds the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BuilderChoice {
    /// Our own: several times faster, and the same graph for the same model.
    Hnsw,
    /// The crate hnsw_rs.
    HnswRs,
}

impl BuilderChoice {
    fn builder(self) -> &'static dyn GraphBuilder {
        match self {
            Self::Hnsw => &HnswBuilder,
            Self::HnswRs => &HnswRsBuilder,
        }
    }

    /// What a manifest calls it.
    pub(crate) fn name(self) -> &'static str {
        self.builder().name()
    }
}

/// What became of a build.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// Where the artifact is; none if its recall was below the floor.
    pub published: Option<PathBuf>,
    /// Its generation.
    pub generation: String,
    /// Items.
    pub n_items: usize,
    /// Length of a vector.
    pub dimensions: usize,
    /// How items are compared.
    pub metric: &'static str,
    /// The edges it got.
    pub edges: &'static str,
    /// Breadth of the search while it was built.
    pub ef_construction: usize,
    /// Every edge set that was built, and what it measured.
    pub tried: Vec<Tried>,
    /// Mean share of the true 10 nearest that the graph search finds.
    pub ann_recall_at_10: f64,
    /// The least that is published.
    pub recall_floor: f64,
    /// Breadth of the search it was measured with.
    pub ef_search: usize,
    /// What searches of other breadths found, the narrowest first.
    pub recall_by_breadth: Vec<BreadthRecall>,
    /// What it was measured with: `user_vectors` of training users, or `item_rows`.
    pub measured_with: &'static str,
    /// Queries it is the mean of.
    pub n_queries: usize,
    /// Items that no search reached until links were added.
    pub unreachable_repaired: u32,
    /// The longest items, laid out to be compared with before the graph is walked; 0 where walking is as fast.
    pub n_longest: usize,
    /// How vectors are kept: `f32`, or `fine` for two bytes a value.
    pub rows: &'static str,
    /// The share of the 10 nearest by vectors as they were that are also the nearest as they are kept.
    pub rows_recall: Option<f64>,
    /// What cannot be filtered on.
    pub left_out: LeftOut,
    /// Bytes of the index file.
    pub index_bytes: u64,
    /// Bytes of the model file; 0 if nothing was published.
    pub model_bytes: u64,
    /// What of earlier builds could not be removed, by its path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_removed: Vec<String>,
    /// Seconds from a loaded model to here.
    pub seconds: f64,
}

/// One edge set that was built.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tried {
    /// Which.
    pub edges: &'static str,
    /// Of how many items; fewer than all where edge sets are compared on some.
    pub n_items: usize,
    /// Its agreement with the exact search.
    #[serde(flatten)]
    pub agreement: Agreement,
    /// Seconds to build it.
    pub seconds: f64,
}

/// One built index.
struct Built {
    edges: EdgeSet,
    ef_construction: usize,
    index: Index<Pages>,
    bytes: u64,
    crc: u32,
    repaired: u32,
    /// The true nearest of the queries.
    truth: Truth,
    tried: Tried,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: None,
            ef_search: kindred::scenario::Scenario::default().ef_search,
            builder: BuilderChoice::Hnsw,
            deterministic: false,
            seed: 1,
            edges: EdgeChoice::Auto,
            recall_floor: 0.95,
            keep: None,
        }
    }
}

/// Builds an artifact of a model and publishes it below `root`, unless its recall is below the floor.
///
/// # Errors
/// A model that no index can be made of, an artifact that does not verify, another build that publishes in `root` for many minutes, or a file that
/// cannot be written. What was published before stays as it was.
pub fn publish(
    model: &ModelParts<'_>,
    root: &Path,
    options: &BuildOptions,
    progress: &Progress,
) -> anyhow::Result<BuildReport> {
    ensure!(
        model.n_items > 0,
        "the model has no item, so there is nothing to recommend: prepare a dataset with items in it"
    );
    // Told now and not after the work, which may take an hour.
    whole_dir::can_be_made(root).with_context(|| format!("nothing can be written in {}", root.display()))?;
    let started = Instant::now();
    let (mut report, built) = build(model, root, options, progress)?;
    if report.ann_recall_at_10 < options.recall_floor {
        report.seconds = started.elapsed().as_secs_f64();
        return Ok(report);
    }
    progress.start("writing the artifact", 0);
    let (mut publication, generation) = begin(root, built.crc)?;
    report.not_removed = left::leftovers(root, publication.directory());
    publication.write(INDEX_FILE, |into| {
        let bytes: &[u8] = built.index.container().get_ref().as_ref();
        Ok(into.write_all(bytes)?)
    })?;
    let data = model.data();
    let written = publication.write(MODEL_FILE, |into| Ok(data.write(&built.index, into)?))?;
    // What is verified next is what lies on the disk.
    drop(built);
    let committed = publication.commit(manifest(model, options, &report), options.keep);
    let directory = left::published(committed, root.join(&generation), &mut report.not_removed)?;
    progress.finish();
    report.published = Some(directory);
    report.generation = generation;
    report.model_bytes = written.length;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Builds the index and measures it; it goes through a file on the disk of `root`.
fn build(
    model: &ModelParts<'_>,
    root: &Path,
    options: &BuildOptions,
    progress: &Progress,
) -> anyhow::Result<(BuildReport, Built)> {
    let (tables, left_out) = tables(model)?;
    let (metric, dims) = (model.info.metric.into(), model.info.factors);
    let rows = model.item_factors.1;
    let input = IndexInput { tables: &tables, rows, dims, metric };
    let (queries, measured_with) = queries(model)?;
    let mut tried = Vec::new();
    let sets = edge_sets(options.edges, metric, rows, dims)?;
    let best = match (sets.len() > 1).then(|| step(options.edges, model.n_items)).flatten() {
        None => best_of(sets, &input, root, options, &queries, progress, &mut tried)?,
        Some(step) => {
            let keys: Vec<&str> = (0..tables.len()).step_by(step).filter_map(|item| tables.keys().key(item)).collect();
            let (their_tables, few) = (ItemTables::new(&keys, &[])?, every(step, rows, dims)?);
            let spread = IndexInput { tables: &their_tables, rows: &few.data, dims, metric };
            let best = best_of(sets, &spread, root, options, &queries, progress, &mut tried)?.edges;
            best_of(&[best], &input, root, options, &queries, progress, &mut tried)?
        }
    };
    let recall_by_breadth = by_breadth(&best, &queries)?;
    let is_fine = best.index.is_fine();
    let rows_recall = if is_fine { Some(recall::kept(&best.index, rows, &queries, RECALL_K)?) } else { None };
    let report = BuildReport {
        published: None,
        generation: String::new(),
        n_items: model.n_items,
        dimensions: dims,
        metric: metric_name(metric),
        edges: edges_name(best.edges),
        ef_construction: best.ef_construction,
        tried,
        ann_recall_at_10: best.tried.agreement.recall,
        recall_floor: options.recall_floor,
        ef_search: options.ef_search,
        recall_by_breadth,
        measured_with,
        n_queries: queries.rows,
        unreachable_repaired: best.repaired,
        n_longest: best.index.n_longest(),
        rows: if is_fine { "fine" } else { "f32" },
        rows_recall,
        left_out,
        index_bytes: best.bytes,
        model_bytes: 0,
        not_removed: Vec::new(),
        seconds: 0.0,
    };
    Ok((report, best))
}

/// Builds each edge set, measures it, and keeps the best.
fn best_of(
    sets: &[EdgeSet],
    input: &IndexInput<'_>,
    root: &Path,
    options: &BuildOptions,
    queries: &Matrix,
    progress: &Progress,
    tried: &mut Vec<Tried>,
) -> anyhow::Result<Built> {
    let mut best: Option<Built> = None;
    for &edges in sets {
        let built = build_one(input, edges, root, options, queries, progress)?;
        tried.push(built.tried);
        if best.as_ref().is_none_or(|best| better(&built.tried.agreement, &best.tried.agreement)) {
            best = Some(built);
        }
    }
    best.context("no edge set to build")
}

fn build_one(
    input: &IndexInput<'_>,
    edges: EdgeSet,
    root: &Path,
    options: &BuildOptions,
    queries: &Matrix,
    progress: &Progress,
) -> anyhow::Result<Built> {
    let started = Instant::now();
    let usual = || GraphOptions::usual_ef_construction(input.tables.len() as usize, edges);
    let ef_construction = options.ef_construction.unwrap_or_else(usual);
    let graph = GraphOptions {
        m: options.m,
        ef_construction,
        deterministic: options.deterministic,
        seed: options.seed,
        edges,
        rows: RowForm::Fine,
    };
    let context = || format!("building the graph ({} edges)", edges_name(edges));
    let built = build_index(input, &graph, options.builder.builder(), progress).with_context(context)?;
    let repaired = built.report.unreachable_repaired;
    let file = beside::written(&built, root)?;
    drop(built);
    let bytes = beside::read_back(file).context("reading the index that was just built")?;
    let crc = crc32(bytes.as_ref());
    let length = bytes.as_ref().len() as u64;
    let index = Index::open(bytes).context("opening the index that was just built")?;
    let seconds = started.elapsed().as_secs_f64();
    progress.start("measuring recall", 0);
    let truth = recall::truth(&index, queries, RECALL_K)?;
    let agreement = recall::agreement(&index, queries, &truth, options.ef_search)?;
    Ok(Built {
        edges,
        ef_construction,
        index,
        bytes: length,
        crc,
        repaired,
        truth,
        tried: Tried { edges: edges_name(edges), n_items: input.tables.len() as usize, agreement, seconds },
    })
}

/// What searches find by their breadth, up to the one that finds nearly everything. A broader one that found less, by chance, is left out.
fn by_breadth(built: &Built, queries: &Matrix) -> anyhow::Result<Vec<BreadthRecall>> {
    let mut measured: Vec<BreadthRecall> = Vec::new();
    for ef_search in BREADTHS {
        let recall = recall::agreement(&built.index, queries, &built.truth, ef_search)?.recall;
        if measured.last().is_none_or(|narrower| recall > narrower.recall) {
            measured.push(BreadthRecall { ef_search: ef_search as u32, recall });
        }
        if recall >= RECALL_WHOLE {
            break;
        }
    }
    Ok(measured)
}

/// What the index says of the items, and what it leaves out. Entries are read one by one and none is kept.
fn tables(model: &ModelParts<'_>) -> anyhow::Result<(ItemTables, LeftOut)> {
    let (mut builder, mut left_out) = (ItemTablesBuilder::default(), LeftOut::default());
    let read = model.items.each(&mut |item| {
        let attributes = attributes::of_item(item, &mut left_out);
        builder.push(&item.id, &attributes).map_err(io::Error::other)
    });
    read.context("reading the items")?;
    Ok((builder.finish().context("laying the items out")?, left_out))
}

/// What recall is measured with: user vectors, as requests have them, or item rows spread over the catalogue.
fn queries(model: &ModelParts<'_>) -> anyhow::Result<(Matrix, &'static str)> {
    if model.queries.rows > 0 {
        return Ok((model.queries.clone(), "user_vectors"));
    }
    let step = model.n_items.div_ceil(ROW_QUERIES).max(1);
    Ok((every(step, model.item_factors.1, model.info.factors)?, "item_rows"))
}

/// Begins a generation whose name is the present and the content's checksum. Waits while another publisher is at work.
fn begin(root: &Path, crc: u32) -> Result<(Publication, String), ArtifactError> {
    let name = format!("{}-{crc:08x}", Moment::now().compact());
    let (mut attempt, began) = (1, Instant::now());
    loop {
        let generation = if attempt == 1 { name.clone() } else { format!("{name}.{attempt}") };
        match Publication::begin(root, &generation) {
            // The same content, twice in a second: a script, or a test.
            Err(ArtifactError::AlreadyPublished { .. }) if attempt < NAMES_TRIED => attempt += 1,
            Err(ArtifactError::Locked { .. }) if began.elapsed() < PUBLISHER_PATIENCE => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(error),
            Ok(publication) => return Ok((publication, generation)),
        }
    }
}

fn manifest(model: &ModelParts<'_>, options: &BuildOptions, report: &BuildReport) -> Manifest {
    let info = model.info;
    Manifest {
        created_at: Moment::now().rfc3339(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        n_items: model.n_items as u32,
        dimensions: report.dimensions as u32,
        metric: report.metric.to_owned(),
        edges: report.edges.to_owned(),
        rows: report.rows.to_owned(),
        rows_recall: report.rows_recall,
        m: options.m as u32,
        ef_construction: report.ef_construction as u32,
        ef_search: options.ef_search as u32,
        seed: options.seed,
        deterministic: options.deterministic || options.builder == BuilderChoice::Hnsw,
        builder: options.builder.name().to_owned(),
        trainer: info.trainer.clone(),
        hyper_parameters: info.parameters.clone(),
        weighting: info.weighting.clone(),
        session_likeness: info.session_likeness,
        learned_weights: info.learned_weights(),
        training_window: info.training_window,
        ann_recall: Some(AnnRecall {
            recall: report.ann_recall_at_10,
            k: RECALL_K as u32,
            ef_search: report.ef_search as u32,
            n_queries: report.n_queries as u32,
        }),
        recall_by_breadth: report.recall_by_breadth.clone(),
        dataset_fingerprint: info.dataset_fingerprint.clone(),
        kinds: info.kinds.clone(),
        ..Manifest::default()
    }
}

/// The name of a metric in manifests.
pub fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::InnerProduct => "inner_product",
    }
}

/// The name of an edge set in manifests.
pub fn edges_name(edges: EdgeSet) -> &'static str {
    match edges {
        EdgeSet::Cosine => "cosine",
        EdgeSet::InnerProduct => "inner_product",
        EdgeSet::United => "united",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::factors::FactorsOptions;
    use crate::generated;
    use crate::model_dir::ModelMetric;

    #[test]
    fn where_nothing_can_be_written_is_told_before_the_work() {
        let options = FactorsOptions { n_items: 50, dims: 4, n_queries: 2, seed: 7 };
        let mut model = generated::model(&options, ModelMetric::Cosine);
        // No index can be made of it, which the work would find out.
        model.items[1].id = model.items[0].id.clone();
        let publish = |root: &Path| publish(&model.parts(), root, &BuildOptions::default(), &Progress::hidden());
        let error = publish(Path::new("/proc/artifacts")).unwrap_err().to_string();
        assert!(error.contains("/proc/artifacts"), "{error}");
        let place = tempfile::tempdir().unwrap();
        let error = publish(&place.path().join("artifacts")).unwrap_err().to_string();
        assert!(error.contains("laying the items out"), "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "something was left behind");
    }

    #[test]
    fn another_publisher_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let other = Publication::begin(root.path(), "other").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(3 * LOOK_EVERY);
                drop(other);
            });
            begin(root.path(), 7).unwrap();
        });
    }
}

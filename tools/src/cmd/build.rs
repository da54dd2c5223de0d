//! `kindred build`: from a model to a published artifact.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::RangedU64ValueParser;

use super::{Exit, Global};
use crate::build::{self, BuildOptions, BuildReport, BuilderChoice, EdgeChoice};
use crate::model_dir::ModelFiles;
use crate::progress::Progress;
use crate::report::{Report, Table, bytes, count, emit, leftovers, seconds};

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred build --model model --output artifacts --keep 3")]
pub struct Args {
    /// The directory that `kindred train` wrote
    #[arg(long, default_value = "model", value_name = "DIR")]
    pub model: PathBuf,
    /// Where artifacts are published, one directory a generation
    #[arg(long, short, default_value = "artifacts", value_name = "DIR")]
    pub output: PathBuf,
    /// How the graph is built
    #[command(flatten)]
    pub graph: GraphArgs,
}

/// How the graph is built; also of `kindred demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct GraphArgs {
    /// Links per item on the upper levels, twice as many at level 0
    #[arg(long, default_value_t = BuildOptions::default().m as u64, value_parser = RangedU64ValueParser::<u64>::new().range(2..=64))]
    pub m: u64,
    /// Breadth of the search while building; more than 2 m, larger is slower to build and finds more. If left out 200, and for cosine edges more above
    /// 200,000 items, 400 from 800,000 on
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(5..=10_000))]
    pub ef_construction: Option<u64>,
    /// Breadth of the search that recall is measured with
    #[arg(long, default_value_t = BuildOptions::default().ef_search as u64, value_parser = RangedU64ValueParser::<u64>::new().range(1..=20_000))]
    pub ef_search: u64,
    /// What builds the graph
    #[arg(long, value_enum, default_value_t = BuilderChoice::Hnsw)]
    pub builder: BuilderChoice,
    /// Have hnsw-rs insert items one by one, so that the same model gives the same index, byte for byte; hnsw always does
    #[arg(long)]
    pub deterministic: bool,
    /// Which edges the graph gets; `measure` builds each and decides on the model's own queries
    #[arg(long, value_enum, default_value_t = EdgeChoice::Auto)]
    pub edges: EdgeChoice,
    /// Least ann_recall@10 that is published, 0 to 1
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    pub recall_floor: f64,
    /// Generations to keep, the newest; older ones are removed after publishing, never the one that CURRENT names
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub keep: Option<u64>,
}

impl GraphArgs {
    /// As the builder takes them.
    ///
    /// # Errors
    /// `--ef-construction` is not above twice `--m`.
    pub fn options(&self) -> anyhow::Result<BuildOptions> {
        if let Some(found) = self.ef_construction {
            anyhow::ensure!(
                found > 2 * self.m,
                "--ef-construction is {found}, expected more than twice --m, {}: with fewer candidates than links there is nothing to choose",
                2 * self.m
            );
        }
        Ok(BuildOptions {
            m: self.m as usize,
            ef_construction: self.ef_construction.map(|breadth| breadth as usize),
            ef_search: self.ef_search as usize,
            builder: self.builder,
            deterministic: self.deterministic,
            edges: self.edges,
            recall_floor: self.recall_floor,
            keep: self.keep.map(|keep| keep as usize),
            ..BuildOptions::default()
        })
    }
}

/// Loads, builds, publishes, reports.
///
/// # Errors
/// A model that cannot be read or built, or an artifact that cannot be written.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let options = args.graph.options()?;
    let progress = Progress::bar("reading the model", 0);
    let model = ModelFiles::open(&args.model).context("reading the model")?;
    let report = build::publish(&model.parts(), &args.output, &options, &progress).context("building the artifact")?;
    progress.finish();
    emit(&report, global.json)?;
    Ok(if report.published.is_some() { Exit::Done } else { Exit::No })
}

impl Report for BuildReport {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut tried = Table::new(["edges built", "items", "ann_recall@10", "distances/query", "build"]);
        for one in &self.tried {
            let recall = format!("{:.4}", one.agreement.recall);
            tried.row([
                one.edges,
                &count(one.n_items as u64),
                &recall,
                &format!("{:.0}", one.agreement.distances),
                &seconds(one.seconds),
            ]);
        }
        text.push_str(&tried.text());
        if self.unreachable_repaired > 0 {
            let _ = writeln!(
                text,
                "{} items could not be reached by any search; links were added.",
                self.unreachable_repaired
            );
        }
        if self.n_longest > 0 {
            let _ = writeln!(
                text,
                "The {} longest items are laid out side by side: searches compare with them first, and mostly with no others.",
                count(self.n_longest as u64)
            );
        }
        if let Some(kept) = self.rows_recall {
            let _ = writeln!(
                text,
                "Vectors are kept as two bytes a value, by which {kept:.4} of the nearest stay the nearest."
            );
        }
        if self.left_out.values + self.left_out.names > 0 {
            let n = self.left_out.values + self.left_out.names;
            let _ = writeln!(
                text,
                "{} attribute values cannot be filtered on (nested, too long, or under a reserved name).",
                count(n)
            );
        }
        let measured = if self.measured_with == "user_vectors" { "user vectors" } else { "item rows" };
        let what = format!(
            "{} items × {} dimensions, {}, {} edges, ann_recall@10 {:.4} at ef_search {} ({} {measured})",
            count(self.n_items as u64),
            self.dimensions,
            self.metric,
            self.edges,
            self.ann_recall_at_10,
            self.ef_search,
            self.n_queries
        );
        let _ = match &self.published {
            Some(directory) => writeln!(
                text,
                "Published {} in {}\n{what}; index {}, model {}",
                directory.display(),
                seconds(self.seconds),
                bytes(self.index_bytes),
                bytes(self.model_bytes)
            ),
            None => writeln!(
                text,
                "Nothing published: {what} is below the floor of {}.\nRaise --ef-construction, --m or --ef-search, try --edges measure, or lower --recall-floor.",
                self.recall_floor
            ),
        };
        text.push_str(&leftovers(&self.not_removed));
        text
    }
}

/// A number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=1.0).contains(&found) { Ok(found) } else { Err(format!("{found} is not between 0 and 1")) }
}

//! `kindred inspect`: what is in an artifact.

use std::path::PathBuf;

use anyhow::Context;
use clap::builder::RangedU64ValueParser;
use kindred::artifact;
use kindred::model::Model;
use kindred_index::{Container, MappedFile, Scratch, SearchParams, SectionInfo};

use super::inspect_report::{FieldReport, Graph, InspectReport, ItemLine, ItemReport, Section};
use super::verify;
use super::{Exit, Global};
use crate::report::{count, emit};

/// Popular items shown.
const POPULAR: usize = 10;
/// Values of a field shown.
const VALUES: usize = 5;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  kindred inspect artifacts\n  kindred inspect artifacts --item item-42")]
pub struct Args {
    /// A directory of artifacts, whose CURRENT one is meant, or the directory of one generation
    #[arg(default_value = "artifacts", value_name = "DIR")]
    pub artifact: PathBuf,
    /// Show this item instead
    #[arg(long, value_name = "ID")]
    pub item: Option<String>,
    /// Neighbours shown of an item
    #[arg(long, default_value_t = 10, requires = "item", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    pub neighbours: usize,
}

/// Opens and reports.
///
/// # Errors
/// There is no such artifact or item.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let directory = verify::directory(&args.artifact)?;
    let model = artifact::open(&directory).context("opening the artifact")?;
    match &args.item {
        Some(id) => emit(&item(&model, id, args.neighbours)?, global.json)?,
        None => emit(&inspect(&model, directory), global.json)?,
    }
    Ok(Exit::Done)
}

fn inspect(model: &Model<MappedFile>, directory: PathBuf) -> InspectReport {
    let mut sections = sections(artifact::INDEX_FILE, model.index().container());
    sections.extend(self::sections(artifact::MODEL_FILE, model.data()));
    let bytes = model.manifest().files.values().map(|file| file.length).sum::<u64>();
    let popular = model.popular().iter().take(POPULAR);
    InspectReport {
        directory,
        manifest: model.manifest().clone(),
        sections,
        bytes,
        bytes_per_item: bytes as f64 / f64::from(model.len().max(1)),
        graph: graph(model),
        fields: model.index().attributes().fields().map(field).collect(),
        k_neighbours: model.k_neighbours(),
        symmetric: model.is_symmetric(),
        popular: popular.map(|ordinal| line(model, *ordinal, model.popularity(*ordinal))).collect(),
    }
}

fn sections<D: AsRef<[u8]>>(file: &'static str, container: &Container<D>) -> Vec<Section> {
    let one = |SectionInfo { kind, len, .. }| Section { file, kind, name: section_name(kind), bytes: len };
    container.sections().map(one).collect()
}

fn graph(model: &Model<MappedFile>) -> Graph {
    let (index, view) = (model.index(), model.index().graph());
    let n = index.len();
    let mut incoming = vec![0_u32; n as usize];
    let mut items_by_level = vec![0; index.max_level() as usize + 1];
    let mut items_by_degree = vec![0; index.m0_stride() as usize / 8 + 1];
    let (mut fewest, mut most, mut sum) = (u32::MAX, 0, 0_u64);
    for ordinal in 0..n {
        let mut degree = 0;
        for link in view.links(ordinal, 0) {
            degree += 1;
            if let Some(incoming) = incoming.get_mut(*link as usize) {
                *incoming += 1;
            }
        }
        (fewest, most, sum) = (fewest.min(degree), most.max(degree), sum + u64::from(degree));
        tally(&mut items_by_degree, degree as usize / 8);
        tally(&mut items_by_level, usize::from(view.level(ordinal)));
    }
    Graph {
        max_level: index.max_level(),
        items_by_level,
        m0_stride: index.m0_stride(),
        degree: [f64::from(if n == 0 { 0 } else { fewest }), sum as f64 / f64::from(n.max(1)), f64::from(most)],
        items_by_degree,
        without_incoming: incoming.iter().filter(|links| **links == 0).count() as u64,
        incoming_most: incoming.iter().copied().max().unwrap_or(0),
    }
}

fn tally(counts: &mut [u64], place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

fn field(field: kindred_index::Field<'_>) -> FieldReport {
    let mut values: Vec<(String, u32)> = field.terms().map(|(value, items)| (value.to_owned(), items)).collect();
    values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    values.truncate(VALUES);
    FieldReport {
        name: field.name().to_owned(),
        items: field.n_items(),
        values: field.n_terms(),
        most_frequent: values,
        range: field.number_range(),
    }
}

fn line(model: &Model<MappedFile>, ordinal: u32, value: f32) -> ItemLine {
    let id = model.index().key(ordinal).unwrap_or_default().to_owned();
    // A damaged entry has no title to show; `kindred verify` is the command that complains.
    let title = model.catalog().item(ordinal).ok().flatten().map(|item| item.title).unwrap_or_default();
    ItemLine { id, title, value }
}

fn item(model: &Model<MappedFile>, id: &str, shown: usize) -> anyhow::Result<ItemReport> {
    let index = model.index();
    let missing = || {
        format!(
            "there is no item {id:?} among {}: ids are taken as they are, also their case",
            count(model.len().into())
        )
    };
    let ordinal = index.ordinal(id).with_context(missing)?;
    let row = index.row(ordinal).context("the item has no row")?;
    let (mut scratch, params) = (Scratch::default(), SearchParams { k: shown + 1, ef_search: shown + 1, exact: true });
    index.search(&row, &params, None, &mut scratch).context("searching by its vector")?;
    let nearest = scratch.hits().iter().filter(|hit| hit.ordinal != ordinal).take(shown);
    let raw = model.catalog().raw(ordinal).unwrap_or("null");
    Ok(ItemReport {
        id: id.to_owned(),
        ordinal,
        entry: serde_json::from_str(raw).context("reading the catalogue entry")?,
        popularity: model.popularity(ordinal),
        popular_place: model.popular().iter().position(|popular| *popular == ordinal).map(|place| place + 1),
        norm: crate::matrix::norm(&row),
        level: index.graph().level(ordinal),
        degree: index.graph().links(ordinal, 0).len(),
        neighbours: model
            .neighbours(ordinal)
            .take(shown)
            .map(|near| line(model, near.ordinal, near.similarity))
            .collect(),
        nearest: nearest.map(|hit| line(model, hit.ordinal, hit.similarity)).collect(),
    })
}

/// The names of sections: those of the model as in `src/model/layout.rs` of the service, those of the index as in its FORMAT.md.
fn section_name(kind: u32) -> &'static str {
    match kind {
        100 => "CONTEXT",
        101 => "NEIGHBOURS",
        102 => "NEIGHBOUR_SIMILARITIES",
        103 => "POPULARITY",
        104 => "POPULAR",
        105 => "CATALOG_OFFSETS",
        106 => "CATALOG_JSON",
        107 => "MODEL_HEADER",
        120 => "SESSION_OFFSETS",
        121 => "SESSION_ITEMS",
        122 => "ITEM_SESSION_OFFSETS",
        123 => "ITEM_SESSIONS",
        130 => "FEATURE_KEYS",
        131 => "FEATURE_WEIGHTS",
        132 => "FEATURE_ROWS",
        133 => "FEATURE_CONTEXT_ROWS",
        kind => kindred_index::format::section::name(kind),
    }
}

//! What `kindred inspect` shows, as text and as JSON.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use kindred::artifact::Manifest;
use serde::Serialize;

use crate::report::{Report, Table, bytes, count, percent};

/// What is in an artifact.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// Where it is.
    pub directory: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest,
    /// The sections of both files.
    pub sections: Vec<Section>,
    /// Bytes of both files.
    pub bytes: u64,
    /// Bytes per item.
    pub bytes_per_item: f64,
    /// Links and levels.
    pub graph: Graph,
    /// What can be filtered on.
    pub fields: Vec<FieldReport>,
    /// Stored neighbours per item, at most.
    pub k_neighbours: usize,
    /// Whether context factors are the index rows.
    pub symmetric: bool,
    /// The most popular items.
    pub popular: Vec<ItemLine>,
}

/// One section of one file.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// `index.kin` or `model.kin`.
    pub file: &'static str,
    /// Its number: of the index as in FORMAT.md, of the model as in `src/model/layout.rs`.
    pub kind: u32,
    /// Its name there.
    pub name: &'static str,
    /// Its length.
    pub bytes: u64,
}

/// Links and levels.
#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    /// Level of the entry point.
    pub max_level: u32,
    /// Items by their level, from 0.
    pub items_by_level: Vec<u64>,
    /// Places for links of an item at level 0.
    pub m0_stride: u32,
    /// Links of an item at level 0: the fewest, the mean, the most.
    pub degree: [f64; 3],
    /// Links of an item at level 0, by their number in steps of 8: items with 0 to 7, 8 to 15...
    pub items_by_degree: Vec<u64>,
    /// Items that no link of level 0 leads to.
    pub without_incoming: u64,
    /// The most links that lead to one item at level 0.
    pub incoming_most: u32,
}

/// One field that can be filtered on.
#[derive(Clone, Debug, Serialize)]
pub struct FieldReport {
    /// Its name.
    pub name: String,
    /// Items that have it.
    pub items: u32,
    /// Different text values.
    pub values: u64,
    /// The most frequent ones, with their items.
    pub most_frequent: Vec<(String, u32)>,
    /// The least and the greatest number.
    pub range: Option<(f64, f64)>,
}

/// An item on one line.
#[derive(Clone, Debug, Serialize)]
pub struct ItemLine {
    /// Its key.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its popularity, or its similarity to the item that was asked for.
    pub value: f32,
}

/// One item.
#[derive(Clone, Debug, Serialize)]
pub struct ItemReport {
    /// Its key.
    pub id: String,
    /// Its number in this artifact.
    pub ordinal: u32,
    /// Its catalogue entry.
    pub entry: serde_json::Value,
    /// Its popularity, 0 to 1.
    pub popularity: f32,
    /// Its place among the popular items, from 1.
    pub popular_place: Option<usize>,
    /// Length of its row.
    pub norm: f32,
    /// Its level in the graph.
    pub level: u8,
    /// Its links at level 0.
    pub degree: usize,
    /// Items that share visitors with it, by the table that training made.
    pub neighbours: Vec<ItemLine>,
    /// Items whose vectors are nearest to its own, by an exact scan.
    pub nearest: Vec<ItemLine>,
}

impl Report for InspectReport {
    fn text(&self) -> String {
        let mut text = String::new();
        manifest_text(&self.manifest, &self.directory, &mut text);
        let _ = writeln!(text, "\n{} in two files, {:.0} bytes an item", bytes(self.bytes), self.bytes_per_item);
        let mut table = Table::new(["section", "file", "bytes", "share"]).left(1);
        for section in &self.sections {
            let share = percent(section.bytes as f64 / self.bytes.max(1) as f64);
            table.row([section.name.to_owned(), section.file.to_owned(), count(section.bytes), share]);
        }
        text.push_str(&table.text());
        graph_text(&self.graph, &mut text);
        if !self.fields.is_empty() {
            text.push_str("\nfields to filter on\n");
        }
        for field in &self.fields {
            let values: Vec<String> =
                field.most_frequent.iter().map(|(value, n)| format!("{value} ({})", count((*n).into()))).collect();
            let more = (field.values > values.len() as u64).then(|| "...".to_owned());
            let range = field.range.map(|(least, most)| format!("{least} to {most}"));
            let parts: Vec<String> = values.into_iter().chain(more).chain(range).collect();
            let _ = writeln!(text, "  {}: {} items; {}", field.name, count(field.items.into()), parts.join(", "));
        }
        text.push_str("\nmost popular\n");
        text.push_str(&lines_text(&self.popular));
        text
    }
}

fn manifest_text(manifest: &Manifest, directory: &Path, text: &mut String) {
    let Manifest { generation, created_at, tool_version, n_items, dimensions, metric, edges, .. } = manifest;
    let _ = writeln!(
        text,
        "{}\ngeneration {generation}, built {created_at} by kindred {tool_version}",
        directory.display()
    );
    let _ = writeln!(
        text,
        "{} items × {dimensions}, {metric}, {edges} edges by {}, m {}, ef_construction {}{}",
        count((*n_items).into()),
        manifest.builder,
        manifest.m,
        manifest.ef_construction,
        if manifest.deterministic { ", deterministic" } else { "" }
    );
    if let Some(measured) = &manifest.ann_recall {
        let _ = writeln!(
            text,
            "ann_recall@{} {:.4} at ef_search {} over {} queries",
            measured.k, measured.recall, measured.ef_search, measured.n_queries
        );
    }
    if let Some(kept) = manifest.rows_recall {
        let _ = writeln!(text, "vectors as two bytes a value, by which {kept:.4} of the nearest stay the nearest");
    }
    if !manifest.recall_by_breadth.is_empty() {
        let measured = manifest.recall_by_breadth.iter().map(|one| format!("{} {:.4}", one.ef_search, one.recall));
        let _ = writeln!(text, "by ef_search: {}", measured.collect::<Vec<_>>().join(", "));
    }
    let kinds: Vec<String> = manifest.weighting.kinds.iter().map(|(kind, weight)| format!("{kind} {weight}")).collect();
    let _ = writeln!(text, "trained by {} {}", manifest.trainer, manifest.hyper_parameters);
    let _ = writeln!(text, "interactions weigh: {}; {}", kinds.join(", "), manifest.weighting.recency());
    for (metric, value) in &manifest.held_out {
        let _ = writeln!(text, "held out: {metric} {value:.4}");
    }
}

fn graph_text(graph: &Graph, text: &mut String) {
    let [fewest, mean, most] = graph.degree;
    let levels: Vec<String> = graph.items_by_level.iter().map(|items| count(*items)).collect();
    let _ = writeln!(
        text,
        "\ngraph: items by level {}; links at level 0: {fewest:.0} to {most:.0} of {}, mean {mean:.1}",
        levels.join(", "),
        graph.m0_stride
    );
    let degrees = graph.items_by_degree.iter().enumerate().filter(|(_, items)| **items > 0);
    let degrees: Vec<String> =
        degrees.map(|(step, items)| format!("{}-{}: {}", step * 8, step * 8 + 7, count(*items))).collect();
    let _ = writeln!(text, "items by links: {}", degrees.join(", "));
    let _ = writeln!(
        text,
        "links to one item: at most {}; items that no link leads to: {}",
        count(graph.incoming_most.into()),
        count(graph.without_incoming)
    );
}

fn lines_text(lines: &[ItemLine]) -> String {
    let mut table = Table::new(["item", "value", "title"]).left(2);
    for line in lines {
        table.row([line.id.clone(), format!("{:.3}", line.value), line.title.clone()]);
    }
    table.text()
}

impl Report for ItemReport {
    fn text(&self) -> String {
        let place = self.popular_place.map_or_else(String::new, |place| format!(" (place {})", count(place as u64)));
        let mut text = format!("{} (ordinal {})\n{}\n", self.id, self.ordinal, self.entry);
        let _ = writeln!(
            text,
            "popularity {:.3}{place}, norm {:.3}, level {}, {} links",
            self.popularity, self.norm, self.level, self.degree
        );
        text.push_str("\nshares visitors with\n");
        text.push_str(&lines_text(&self.neighbours));
        text.push_str("\nnearest by vector\n");
        text.push_str(&lines_text(&self.nearest));
        text
    }
}

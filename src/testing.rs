//! Small models for tests: made from a seed, in memory or published to a directory, without the graph builders.
//!
//! Not part of the interface; hidden from the documentation and used by the tests of this crate and of those on top of it.

// Test support: a failure here must stop the test that called it, with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc, missing_docs)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kindred_index::{
    AlignedBytes, EdgeSet, FlatGraph, Index, IndexInput, ItemAttributes, ItemTables, Metric, assemble_index,
};

use crate::artifact::{INDEX_FILE, MODEL_FILE, Publication};
use crate::catalog::CatalogItem;
use crate::catalog::attributes::{LeftOut, of_item};
use crate::encoder::Features;
use crate::history::memory::MemoryHistory;
use crate::history::{Ack, Actor, Erased, HistoryStats, Incoming, Kept, Lookup, RecentInteractions};
use crate::manifest::{AnnRecall, BreadthRecall, Manifest, SessionLikeness};
use crate::model::{EncoderData, Model, ModelData, SessionsData};
use crate::store::memory::MemoryDocuments;
use crate::store::{BoxFuture, Documents, Page, StoreError, Table, Write};

/// Links per item on level 0 of a fixture's graph.
const LINKS: usize = 16;

/// What an encoder is made of.
#[derive(Clone, Debug)]
pub struct Words {
    pub keys: Vec<u64>,
    pub weights: Vec<f32>,
    pub rows: Vec<f32>,
    pub context_rows: Vec<f32>,
}

/// What becomes of writes before they are done: they wait for it, and fail where it does.
pub type BeforeWrite = Box<dyn Fn(&[Write]) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// Documents in memory whose writes wait or fail as a test wishes, and whose single reads fail while they are to.
pub struct HeldUpDocuments {
    pub inner: Arc<MemoryDocuments>,
    pub before_write: BeforeWrite,
    pub reads_fail: AtomicBool,
}

impl HeldUpDocuments {
    pub fn new(before_write: BeforeWrite) -> Arc<Self> {
        Arc::new(Self { inner: Arc::default(), before_write, reads_fail: AtomicBool::new(false) })
    }
}

impl Documents for HeldUpDocuments {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        let (before, inner) = ((self.before_write)(&writes), Arc::clone(&self.inner));
        Box::pin(async move {
            before.await?;
            inner.write_now(writes)
        })
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blocking_get(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.inner.blocking_scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        match self.reads_fail.load(Ordering::Relaxed) {
            true => Box::pin(std::future::ready(Err(StoreError::Closed))),
            false => self.inner.get(table, key),
        }
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.inner.scan(table, after, limit)
    }
}

/// What becomes of erasures before they are done: they wait for it, and fail where it does.
pub type BeforeErasure = Box<dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// A history in memory whose erasures wait or fail as a test wishes.
pub struct HeldUpHistory {
    inner: Arc<MemoryHistory>,
    before_erasure: BeforeErasure,
}

impl HeldUpHistory {
    pub fn new(inner: MemoryHistory, before_erasure: BeforeErasure) -> Arc<Self> {
        Arc::new(Self { inner: Arc::new(inner), before_erasure })
    }
}

impl RecentInteractions for HeldUpHistory {
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>> {
        self.inner.append(batch)
    }

    fn recent(&self, actor: &Actor) -> Lookup {
        self.inner.recent(actor)
    }

    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
        self.inner.page(actor, before, limit)
    }

    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
        let (before, inner) = ((self.before_erasure)(), Arc::clone(&self.inner));
        Box::pin(async move {
            before.await?;
            inner.erase(actors, documents).await
        })
    }

    fn stats(&self) -> HistoryStats {
        self.inner.stats()
    }
}

/// Everything a small model is made of; change a field before making the model.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub items: Vec<CatalogItem>,
    pub dimensions: usize,
    pub metric: Metric,
    /// n × dimensions; unit length where the metric is cosine.
    pub rows: Vec<f32>,
    pub context: Option<Vec<f32>>,
    pub k_neighbours: usize,
    pub neighbours: Vec<u32>,
    pub similarities: Vec<f32>,
    pub popularity: Vec<f32>,
    /// Where each session begins, and their items, the oldest session first.
    pub sessions: Option<(Vec<u32>, Vec<u32>)>,
    /// How they are compared with a visitor's.
    pub session_likeness: SessionLikeness,
    /// An encoder; see [`Fixture::learn_words`].
    pub words: Option<Words>,
    pub created_at: String,
    /// What the manifest says of the recall: of the usual search, and of others by their breadth.
    pub recall: f64,
    pub recall_by_breadth: Vec<(u32, f64)>,
}

/// SplitMix64: tiny, seeded, good enough for test data.
#[derive(Clone, Debug)]
pub struct Noise(pub u64);

impl Noise {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in -1 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n.max(1) as u64) as usize
    }
}

impl Fixture {
    /// The key of item i: not in ordinal order as text, so that ties by key differ from ties by ordinal.
    pub fn key(i: usize) -> String {
        format!("item-{i}")
    }

    /// The name of one of the categories.
    pub fn category(c: usize) -> String {
        ["toys", "books", "garden", "kitchen"][c % 4].to_owned()
    }

    /// Items in four clusters, one per category (item i is in category i mod 4), each item near the others of its own.
    ///
    /// One item in ten is not available. Cosine models are symmetric; inner-product models have context factors of their own
    /// and rows of different lengths. Two items have equal rows, so that ties occur. The neighbours are the nearest by cosine,
    /// found by comparing all with all: for hundreds of items, not for thousands.
    pub fn random(seed: u64, n: usize, dimensions: usize, metric: Metric) -> Self {
        let mut fixture = Self::clustered(seed, n, dimensions, metric, 4);
        (fixture.neighbours, fixture.similarities) = (Vec::new(), Vec::new());
        fixture.fill_neighbours();
        fixture
    }

    /// As [`Fixture::random`] with any number of clusters (item i is in cluster i mod `clusters`), and with items of the same
    /// cluster taken by lot for neighbours: fast enough for benchmarks.
    pub fn clustered(seed: u64, n: usize, dimensions: usize, metric: Metric, clusters: usize) -> Self {
        let mut noise = Noise(seed);
        let mut centre = |_| (0..dimensions).map(|_| noise.unit()).collect();
        let centres: Vec<Vec<f32>> = (0..clusters).map(&mut centre).collect();
        let mut rows = Vec::with_capacity(n * dimensions);
        let mut context = Vec::with_capacity(n * dimensions);
        for i in 0..n {
            let mut row: Vec<f32> = centres[i % clusters].iter().map(|value| value + 0.6 * noise.unit()).collect();
            if i == 8 {
                row = rows[4 * dimensions..5 * dimensions].to_vec();
            }
            let scale = if metric == Metric::Cosine { 1.0 } else { 0.5 + 0.5 * noise.unit().abs() };
            let length = if i == 8 && metric != Metric::Cosine { 1.0 } else { scale_of(&row) / scale };
            rows.extend(row.iter().map(|value| value / length));
            let length = scale_of(&row);
            context.extend(row.iter().map(|value| value / length + 0.05 * noise.unit()));
        }
        let popularity = (0..n).map(|_| (1.0 + noise.unit()) * 500.0).map(f32::round).collect();
        let items = (0..n).map(|i| CatalogItem {
            title: format!("Item {i}"),
            categories: vec![Self::category(i)],
            price: Some(1.0 + i as f64),
            available: i % 10 != 9,
            ..CatalogItem::new(Self::key(i))
        });
        let mut fixture = Self {
            items: items.collect(),
            dimensions,
            metric,
            rows,
            context: (metric == Metric::InnerProduct).then_some(context),
            k_neighbours: 6,
            neighbours: Vec::new(),
            similarities: Vec::new(),
            popularity,
            sessions: None,
            session_likeness: SessionLikeness::default(),
            words: None,
            created_at: "2026-11-24T14:25:01Z".to_owned(),
            recall: 1.0,
            recall_by_breadth: Vec::new(),
        };
        fixture.draw_neighbours(&mut noise, clusters);
        fixture
    }

    /// A shop for tests from outside: 60 items of 16 dimensions, by cosine. Who looks at toys gets toys.
    pub fn shop() -> Self {
        Self::random(42, 60, 16, Metric::Cosine)
    }

    /// A neighbours table of items of the same cluster, by lot, with falling similarities.
    fn draw_neighbours(&mut self, noise: &mut Noise, clusters: usize) {
        let n = self.items.len();
        for i in 0..n {
            let mut row: Vec<u32> = Vec::new();
            for _ in 0..2 * self.k_neighbours {
                let other = (noise.below(n / clusters) * clusters + i % clusters) as u32;
                if other as usize != i && row.len() < self.k_neighbours && !row.contains(&other) {
                    row.push(other);
                }
            }
            row.resize(self.k_neighbours, u32::MAX);
            self.neighbours.extend(row);
            self.similarities.extend((0..self.k_neighbours).map(|place| 1.0 / (place as f32 + 2.0)));
        }
    }

    /// The neighbours table: the k nearest by cosine.
    fn fill_neighbours(&mut self) {
        let n = self.items.len();
        for i in 0..n {
            let nearest = self.nearest(i, self.k_neighbours);
            for place in 0..self.k_neighbours {
                let (ordinal, similarity) = nearest.get(place).copied().unwrap_or((u32::MAX, 0.0));
                self.neighbours.push(ordinal);
                self.similarities.push(similarity);
            }
        }
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.rows[i * self.dimensions..(i + 1) * self.dimensions]
    }

    fn nearest(&self, i: usize, k: usize) -> Vec<(u32, f32)> {
        let cosine = |j: usize| {
            let dot: f32 = self.row(i).iter().zip(self.row(j)).map(|(a, b)| a * b).sum();
            dot / (scale_of(self.row(i)) * scale_of(self.row(j)))
        };
        let others = (0..self.items.len()).filter(|j| *j != i);
        let mut all: Vec<(u32, f32)> = others.map(|j| (j as u32, cosine(j))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }

    /// A graph of one level: each item is linked with its nearest by cosine, and with a few far ones that keep it connected.
    fn graph(&self) -> FlatGraph {
        let n = self.items.len();
        let mut links0 = vec![u32::MAX; n * LINKS];
        for (i, links) in links0.chunks_exact_mut(LINKS).enumerate() {
            let far = [1, n / 7 + 2, n / 3 + 1, n.saturating_sub(1)].map(|step| ((i + step) % n) as u32);
            let mut wanted = self.nearest(i, LINKS - far.len()).into_iter().map(|(j, _)| j).collect::<Vec<_>>();
            wanted.extend(far.into_iter().filter(|j| *j as usize != i));
            wanted.sort_unstable();
            wanted.dedup();
            links.iter_mut().zip(wanted).for_each(|(place, j)| *place = j);
        }
        FlatGraph {
            n: n as u32,
            m: (LINKS / 2) as u32,
            m0_stride: LINKS as u32,
            levels: vec![0; n],
            links0: links0.into(),
            upper_index: vec![u32::MAX; n],
            upper_links: Vec::new(),
            entry_point: if n == 0 { u32::MAX } else { 0 },
        }
    }

    /// The keys, in ordinal order.
    pub fn keys(&self) -> Vec<String> {
        self.items.iter().map(|item| item.id.clone()).collect()
    }

    /// The attributes, in ordinal order.
    pub fn attributes(&self) -> Vec<ItemAttributes> {
        self.items.iter().map(|item| of_item(item, &mut LeftOut::default())).collect()
    }

    /// Both, as an index has them.
    pub fn tables(&self) -> ItemTables {
        ItemTables::new(&self.keys(), &self.attributes()).unwrap()
    }

    /// The bytes of `index.kin`.
    pub fn index_bytes(&self) -> AlignedBytes {
        let tables = self.tables();
        let input = IndexInput { tables: &tables, rows: &self.rows, dims: self.dimensions, metric: self.metric };
        assemble_index(&input, &self.graph(), EdgeSet::Cosine).unwrap()
    }

    /// What goes into `model.kin`.
    pub fn data(&self) -> ModelData<'_> {
        ModelData {
            items: &self.items,
            context: self.context.as_ref().map(|context| context as _),
            k_neighbours: self.k_neighbours,
            neighbours: &self.neighbours,
            neighbour_similarities: &self.similarities,
            popularity: &self.popularity,
            sessions: self.sessions.as_ref().map(|(offsets, items)| SessionsData { offsets, items }),
            encoder: self.words.as_ref().map(|words| EncoderData {
                keys: &words.keys,
                weights: &words.weights,
                rows: &words.rows,
                context_rows: &words.context_rows,
            }),
        }
    }

    /// Gives the model an encoder: the row of a feature is the mean of those of the items that have it.
    pub fn learn_words(&mut self) {
        let mut items_of: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (i, item) in self.items.iter().enumerate() {
            Features::of_item(item).iter().for_each(|(key, _)| items_of.entry(key).or_default().push(i));
        }
        let mean = |rows: &[f32]| -> Vec<f32> {
            let of = |items: &Vec<usize>| {
                let value =
                    |d: usize| items.iter().map(|i| rows[i * self.dimensions + d]).sum::<f32>() / items.len() as f32;
                (0..self.dimensions).map(value).collect::<Vec<f32>>()
            };
            items_of.values().flat_map(of).collect()
        };
        let (rows, context_rows) = (mean(&self.rows), self.context.as_deref().map(mean).unwrap_or_default());
        let weight = |items: &Vec<usize>| (self.items.len() as f32 / items.len() as f32).ln() + 1.0;
        let weights = items_of.values().map(weight).collect();
        self.words = Some(Words { keys: items_of.into_keys().collect(), weights, rows, context_rows });
    }

    /// Gives the model sessions, the oldest first.
    pub fn set_sessions<'a>(&mut self, sessions: impl IntoIterator<Item = &'a [u32]>) {
        let (mut offsets, mut items) = (vec![0], Vec::new());
        for session in sessions {
            items.extend_from_slice(session);
            offsets.push(items.len() as u32);
        }
        self.sessions = Some((offsets, items));
    }

    /// The bytes of `model.kin` that belongs to an index.
    pub fn model_bytes(&self, index: &[u8]) -> AlignedBytes {
        let index = Index::open(AlignedBytes::from(index)).unwrap();
        let mut bytes = Cursor::new(Vec::new());
        self.data().write(&index, &mut bytes).unwrap();
        AlignedBytes::from(bytes.get_ref().as_slice())
    }

    /// The manifest, without what publishing fills in.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            created_at: self.created_at.clone(),
            n_items: self.items.len() as u32,
            dimensions: self.dimensions as u32,
            metric: if self.metric == Metric::Cosine { "cosine" } else { "inner_product" }.to_owned(),
            edges: "cosine".to_owned(),
            m: (LINKS / 2) as u32,
            ef_construction: 200,
            ef_search: 64,
            deterministic: true,
            trainer: "fixture".to_owned(),
            session_likeness: self.session_likeness,
            ann_recall: Some(AnnRecall { recall: self.recall, k: 10, ef_search: 64, n_queries: 1 }),
            recall_by_breadth: self.recall_by_breadth.iter().map(|one| breadth_recall(*one)).collect(),
            kinds: ["view", "cart", "purchase"].map(str::to_owned).into(),
            ..Manifest::default()
        }
    }

    /// The model, in memory.
    pub fn model(&self) -> Model<AlignedBytes> {
        self.model_over(self.index_bytes())
    }

    /// The model over an index that was built elsewhere from the same items.
    pub fn model_over(&self, index: AlignedBytes) -> Model<AlignedBytes> {
        let data = self.model_bytes(index.as_ref());
        Model::open(index, data, self.manifest()).unwrap()
    }

    /// Writes the files into a publication.
    pub fn write(&self, publication: &mut Publication) {
        let index = self.index_bytes();
        publication.write(INDEX_FILE, |into| Ok(std::io::Write::write_all(into, index.as_ref())?)).unwrap();
        let index = Index::open(index).unwrap();
        publication.write(MODEL_FILE, |into| Ok(self.data().write(&index, into)?)).unwrap();
    }

    /// Publishes the model below a root and returns the directory of the generation.
    pub fn publish(&self, root: &Path, generation: &str) -> PathBuf {
        self.publish_keeping(root, generation, None)
    }

    /// As [`Fixture::publish`], keeping only so many generations.
    pub fn publish_keeping(&self, root: &Path, generation: &str, keep_last: Option<usize>) -> PathBuf {
        let mut publication = Publication::begin(root, generation).unwrap();
        self.write(&mut publication);
        publication.commit(self.manifest(), keep_last).unwrap()
    }
}

fn breadth_recall((ef_search, recall): (u32, f64)) -> BreadthRecall {
    BreadthRecall { ef_search, recall }
}

fn scale_of(row: &[f32]) -> f32 {
    row.iter().map(|value| value * value).sum::<f32>().sqrt()
}

//! An opened model: the index, and beside it what an index does not know: context factors, item-to-item neighbours,
//! popularity and the catalogue.
//!
//! A model is generic over its bytes, as the index is: mapped files in the service, memory in tests.
//! [`Model::open`] checks sizes and that the two files belong together, in time independent of the number of items;
//! [`Model::verify`] checks everything else. No byte pattern makes a method panic, verified or not.

mod columns;
mod encoder;
mod filters;
mod layout;
mod sessions;
mod verify;
mod write;

use std::sync::{Arc, OnceLock};

use kindred_index::{
    AllowSet, Container, FilterError, FilterExpr, Index, KeyView, OpenError, Row, RowsView, VerifyError, prefetch,
};
use thiserror::Error;

pub use self::columns::Column;
use self::columns::Columns;
pub use self::encoder::EncoderData;
use self::filters::Filters;
use self::layout::MODEL_CONTAINER_KIND;
pub use self::layout::index_fingerprint;
use self::layout::{Header, section};
pub use self::sessions::{SessionsData, SessionsView};
pub use self::write::{ModelData, ModelWriteError};
use crate::catalog::CatalogView;
use crate::catalog::attributes::{AVAILABLE, HIDDEN};
use crate::encoder::EncoderView;
use crate::live_items::LiveItems;
use crate::manifest::Manifest;

/// An opened model.
#[derive(Debug)]
pub struct Model<D> {
    index: Index<D>,
    data: Container<D>,
    header: Header,
    manifest: Manifest,
    available: OnceLock<Option<AllowSet>>,
    columns: Columns,
    filters: Filters,
}

/// One stored neighbour of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The neighbour's ordinal.
    pub ordinal: u32,
    /// How alike the two are; larger is nearer.
    pub similarity: f32,
}

/// The arrays of a model, looked up once and borrowed for the length of a request, and what changed in the catalogue since the model was made.
#[derive(Clone, Copy, Debug)]
pub struct ModelView<'a> {
    n: u32,
    keys: KeyView<'a>,
    catalog: CatalogView<'a>,
    live: Option<&'a LiveItems>,
    stride: usize,
    dimensions: usize,
    k_neighbours: usize,
    rows: RowsView<'a>,
    context: Option<&'a [f32]>,
    neighbours: &'a [u32],
    similarities: &'a [f32],
    popularity: &'a [f32],
    popular: &'a [u32],
}

/// Why a model could not be opened or is not whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The index file is not an index.
    #[error("the index file cannot be opened")]
    Index(#[source] OpenError),
    /// The model file is not a container of model data.
    #[error("the model file cannot be opened")]
    Data(#[source] OpenError),
    /// A section that must be there is not.
    #[error("the model file has no section {section} ({name}): build the artifact again")]
    SectionMissing {
        /// Its kind.
        section: u32,
        /// Its name in src/model/layout.rs.
        name: &'static str,
    },
    /// A section has another size than the header calls for.
    #[error("section {section} ({name}) has {found} bytes, expected {expected}: build the artifact again")]
    SectionSize {
        /// Its kind.
        section: u32,
        /// Its name in src/model/layout.rs.
        name: &'static str,
        /// Bytes the header calls for.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A field of the header is outside its range.
    #[error("model header field {field} is {found}, expected {expected}: build the artifact again")]
    Header {
        /// The field at fault.
        field: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The two files are of different builds.
    #[error(
        "the model file belongs to index {expected:016x}, the index file beside it is {found:016x}: \
         copy both files of one build, or build the artifact again"
    )]
    Mismatch {
        /// Fingerprint of the index that the model file was written for.
        expected: u64,
        /// Fingerprint of the index that was opened.
        found: u64,
    },
    /// The manifest says something else than the files.
    #[error("the manifest says {field} = {manifest}, the files say {found}: copy all files of one build")]
    Manifest {
        /// The field at fault.
        field: &'static str,
        /// What the manifest says.
        manifest: String,
        /// What the files say.
        found: String,
    },
    /// The index failed verification.
    #[error("the index file is damaged")]
    IndexDamaged(#[source] VerifyError),
    /// A checksum of the model file is wrong.
    #[error("the model file is damaged")]
    DataDamaged(#[source] VerifyError),
    /// A value inside a section is out of its range.
    #[error("section {section} ({name}), item {ordinal}: {found}; build the artifact again")]
    Value {
        /// Its kind.
        section: u32,
        /// Its name in src/model/layout.rs.
        name: &'static str,
        /// The item at fault.
        ordinal: u32,
        /// What was found.
        found: &'static str,
    },
}

impl<D: AsRef<[u8]>> Model<D> {
    /// Opens a model from the bytes of `index.kin`, of `model.kin` and its manifest. Copies nothing and reads only headers.
    ///
    /// # Errors
    /// A file that is not what it should be, or files that do not belong together.
    pub fn open(index: D, data: D, manifest: Manifest) -> Result<Self, ModelError> {
        let index = Index::open(index).map_err(ModelError::Index)?;
        let data = Container::open(data, MODEL_CONTAINER_KIND).map_err(ModelError::Data)?;
        let header = Header::read(&data)?;
        header.check_sections(&data)?;
        header.check_index(&index)?;
        check_manifest(&manifest, &index)?;
        Ok(Self {
            index,
            data,
            header,
            manifest,
            available: OnceLock::new(),
            columns: Columns::default(),
            filters: Filters::default(),
        })
    }

    /// Checks all that [`Model::open`] did not: checksums, links, ranges. Returns the CRC-32 of the index and of `model.kin`. Reads every byte, which
    /// also brings them into memory.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<[u32; 2], ModelError> {
        let index = self.index.verify().map_err(ModelError::IndexDamaged)?.crc32;
        let data = self.data.verify_checksums().map_err(ModelError::DataDamaged)?;
        verify::values(self)?;
        Ok([index, data])
    }

    /// The index.
    pub fn index(&self) -> &Index<D> {
        &self.index
    }

    /// The container of `model.kin`, for who lists its sections.
    pub fn data(&self) -> &Container<D> {
        &self.data
    }

    /// What the artifact says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Number of items.
    pub fn len(&self) -> u32 {
        self.header.n
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.header.n == 0
    }

    /// Length of a vector, in floats.
    pub fn dimensions(&self) -> usize {
        self.header.dimensions as usize
    }

    /// Whether context and target factors are the same, and stored once.
    pub fn is_symmetric(&self) -> bool {
        !self.header.has_context
    }

    /// Neighbours stored per item, at most.
    pub fn k_neighbours(&self) -> usize {
        self.header.k_neighbours as usize
    }

    /// The bytes of its two files.
    pub fn files(&self) -> [&D; 2] {
        [self.index.container().get_ref(), self.data.get_ref()]
    }

    /// The arrays, looked up once. Take one view per request rather than one per item.
    pub fn view(&self) -> ModelView<'_> {
        self.view_with(None)
    }

    /// As [`Model::view`], with what changed in the catalogue since.
    pub fn view_with<'a>(&'a self, live: Option<&'a LiveItems>) -> ModelView<'a> {
        ModelView {
            n: self.header.n,
            keys: self.index.keys(),
            catalog: self.catalog(),
            live,
            stride: self.header.stride as usize,
            dimensions: self.dimensions(),
            k_neighbours: self.k_neighbours(),
            rows: self.index.rows(),
            context: self.header.has_context.then(|| section::floats(&self.data, section::CONTEXT)),
            neighbours: section::words(&self.data, section::NEIGHBOURS),
            similarities: section::floats(&self.data, section::NEIGHBOUR_SIMILARITIES),
            popularity: section::floats(&self.data, section::POPULARITY),
            popular: section::words(&self.data, section::POPULAR),
        }
    }

    /// The sessions it keeps; none in a model without any.
    pub fn sessions(&self) -> SessionsView<'_> {
        SessionsView::of(&self.data, self.len(), self.manifest.session_likeness)
    }

    /// What makes rows of texts and attributes; empty in a model without one.
    pub fn encoder(&self) -> EncoderView<'_> {
        encoder::view(&self.data, self.dimensions())
    }

    /// What an item says about the visitor who touched it; the index row when the model is symmetric.
    pub fn context_row(&self, ordinal: u32) -> Option<Row<'_>> {
        self.view().context_row(ordinal)
    }

    /// The stored neighbours of an item, nearest first.
    pub fn neighbours(&self, ordinal: u32) -> impl Iterator<Item = Neighbour> + '_ {
        self.view().neighbours(ordinal)
    }

    /// An item's popularity: its log-scaled share of the most popular item's, 0 to 1. Zero for an ordinal out of range.
    pub fn popularity(&self, ordinal: u32) -> f32 {
        self.view().popularity(ordinal)
    }

    /// All ordinals, the most popular first.
    pub fn popular(&self) -> &[u32] {
        self.view().popular
    }

    /// The catalogue entries.
    pub fn catalog(&self) -> CatalogView<'_> {
        let offsets = section::longs(&self.data, section::CATALOG_OFFSETS);
        CatalogView::new(offsets, self.data.section(section::CATALOG_JSON.kind).unwrap_or_default())
    }

    /// The items of the model that pass a filter, as the changes laid over it say, if there are any. What passes filters that come again is kept.
    ///
    /// # Errors
    /// As [`kindred_index::AttributeView::evaluate`].
    pub fn passing(&self, live: Option<&LiveItems>, filter: &FilterExpr) -> Result<Arc<AllowSet>, FilterError> {
        let set = match self.filters.get(filter) {
            Some(set) => set,
            None => match (self.index.attributes().evaluate(filter, self.len()), live) {
                (Ok(set), _) => self.filters.put(filter, set, &self.index),
                // Changed items may have fields that the index does not have, or has as something else.
                (Err(FilterError::UnknownField { .. } | FilterError::WrongType { .. }), Some(live)) => {
                    return live.evaluate(&self.index.attributes(), filter).map(Arc::new);
                }
                (Err(error), _) => return Err(error),
            },
        };
        Ok(match live {
            Some(live) if live.n_changed() > 0 => {
                let mut set = Arc::unwrap_or_clone(set);
                live.amend(filter, &mut set);
                Arc::new(set)
            }
            _ => set,
        })
    }

    /// The items that are available and not hidden, or none where all are: the index has no such attribute, or all items have it.
    ///
    /// Evaluated on the first call, in time linear in the number of items, and kept: warm it before the first request.
    pub fn available(&self) -> Option<&AllowSet> {
        let evaluate = || {
            let having = |field: &str| {
                let filter = FilterExpr::Match { field: field.to_owned(), value: true.to_string() };
                self.index.attributes().evaluate(&filter, self.len()).ok()
            };
            // An index without an attribute does not restrict anything by it.
            let mut set = having(AVAILABLE).unwrap_or_else(|| AllowSet::full(self.len()));
            if let Some(hidden) = having(HIDDEN) {
                set.and_not(&hidden);
            }
            (set.cardinality() < self.len()).then_some(set)
        };
        self.available.get_or_init(evaluate).as_ref()
    }
}

impl<'a> ModelView<'a> {
    /// Number of items that have an ordinal: those of the model, and beyond them those that came in since.
    pub fn len(&self) -> u32 {
        self.live.map_or(self.n, LiveItems::end)
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What changed in the catalogue since the model was made.
    pub fn live(&self) -> Option<&'a LiveItems> {
        self.live
    }

    /// The item of a key.
    pub fn ordinal(&self, key: &str) -> Option<u32> {
        self.keys.ordinal(key).or_else(|| self.live?.ordinal(key))
    }

    /// The items of many keys, in their order, into `out`; quicker than one by one.
    pub fn ordinals<'k>(&self, keys: impl Iterator<Item = &'k str> + Clone, out: &mut Vec<Option<u32>>) {
        self.keys.ordinals(keys.clone(), out);
        if let Some(live) = self.live {
            let unknown = out.iter_mut().zip(keys).filter(|(ordinal, _)| ordinal.is_none());
            unknown.for_each(|(ordinal, key)| *ordinal = live.ordinal(key));
        }
    }

    /// The key of an item.
    pub fn key(&self, ordinal: u32) -> Option<&'a str> {
        self.keys.key(ordinal).or_else(|| Some(self.live?.entry(ordinal)?.id()))
    }

    /// The JSON of an item's entry, as it now is; none if there is no such item, or no longer.
    pub fn entry(&self, ordinal: u32) -> Option<&'a str> {
        match self.live.and_then(|live| live.entry(ordinal)) {
            Some(entry) => entry.json(),
            None => self.catalog.raw(ordinal),
        }
    }

    /// Length of a vector, in floats.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The target row of an item: what is recommended.
    pub fn row(&self, ordinal: u32) -> Option<Row<'a>> {
        self.rows.row(ordinal).or_else(|| Some(self.live?.row(ordinal)?.into()))
    }

    /// The context row of an item: what it says about the visitor who touched it.
    pub fn context_row(&self, ordinal: u32) -> Option<Row<'a>> {
        let Some(context) = self.context else { return self.row(ordinal) };
        let from = (ordinal as usize).checked_mul(self.stride)?;
        let row = context.get(from..from.checked_add(self.dimensions)?);
        Some(row.or_else(|| self.live?.context_row(ordinal))?.into())
    }

    /// The stored neighbours of an item, nearest first.
    pub fn neighbours(&self, ordinal: u32) -> impl Iterator<Item = Neighbour> + use<'a> {
        let (ordinals, similarities) = self.neighbour_slices(ordinal);
        let n = self.n;
        ordinals
            .iter()
            .zip(similarities)
            .map(|(&ordinal, &similarity)| Neighbour { ordinal, similarity })
            .take_while(move |neighbour| neighbour.ordinal < n)
    }

    /// Asks the memory for the stored neighbours of an item, which are going to be read.
    pub(crate) fn prefetch_neighbours(&self, ordinal: u32) {
        let (ordinals, similarities) = self.neighbour_slices(ordinal);
        prefetch(ordinals);
        prefetch(similarities);
    }

    /// Asks the memory for the popularity of an item, which is going to be read.
    pub(crate) fn prefetch_popularity(&self, ordinal: u32) {
        let place = ordinal as usize;
        prefetch(self.popularity.get(place..=place).unwrap_or_default());
    }

    /// Asks the memory for the keys of items, which are going to be read.
    pub(crate) fn prefetch_keys(&self, ordinals: impl Iterator<Item = u32> + Clone) {
        self.keys.prefetch(ordinals);
    }

    fn neighbour_slices(&self, ordinal: u32) -> (&'a [u32], &'a [f32]) {
        let from = (ordinal as usize).saturating_mul(self.k_neighbours);
        let range = from..from.saturating_add(self.k_neighbours);
        let ordinals = self.neighbours.get(range.clone()).unwrap_or_default();
        (ordinals, self.similarities.get(range).unwrap_or_default())
    }

    /// An item's popularity, 0 to 1. Zero for an ordinal out of range.
    pub fn popularity(&self, ordinal: u32) -> f32 {
        self.popularity.get(ordinal as usize).copied().unwrap_or(0.0)
    }

    /// All ordinals, the most popular first.
    pub fn popular(&self) -> &'a [u32] {
        self.popular
    }
}

/// The manifest must not lie about what requests rely on.
fn check_manifest<D: AsRef<[u8]>>(manifest: &Manifest, index: &Index<D>) -> Result<(), ModelError> {
    let numbers = [
        ("n_items", u64::from(manifest.n_items), u64::from(index.len())),
        ("dimensions", u64::from(manifest.dimensions), index.dimensions() as u64),
    ];
    for (field, said, found) in numbers {
        if said != found {
            return Err(ModelError::Manifest { field, manifest: said.to_string(), found: found.to_string() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

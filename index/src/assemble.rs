//! Laying an index out: keys, rows, attributes and a graph become the sections of one file. Needs no graph builder.

use std::borrow::Cow;
use std::io::{self, Seek, Write};

use thiserror::Error;
use zerocopy::IntoBytes;

use crate::aligned::AlignedBytes;
use crate::codes::Codes;
use crate::error::WriteError;
use crate::format::{
    DIMENSIONS_MAX, INDEX_CONTAINER_KIND, IndexHeader, LEVEL_MAX, M_MAX, M_MIN, M0_STRIDE_MAX, NONE, STRIDE_UNIT,
    row_stride, section,
};
use crate::graph::{EdgeSet, GraphView};
use crate::item_tables::ItemTables;
use crate::links::Links;
use crate::metric::{CODE_GROUP, Metric, WOVEN, unit_scale, weave};
use crate::row_source::RowSource;
use crate::write::ContainerWriter;

/// What an index is made of, beside its graph. All in the order of ordinals.
#[derive(Clone, Copy, Debug)]
pub struct IndexInput<'a> {
    /// Keys and attributes.
    pub tables: &'a ItemTables,
    /// Finite, and none all zero. With [`Metric::Cosine`] the file gets them at unit length.
    pub rows: &'a dyn RowSource,
    /// Length of a row.
    pub dims: usize,
    /// How rows are compared.
    pub metric: Metric,
}

/// A graph in flat arrays, as the file has it (FORMAT.md): links filled from the left, the rest of each list `u32::MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlatGraph {
    /// Number of items.
    pub n: u32,
    /// Links per item and level above 0.
    pub m: u32,
    /// Places for links per item on level 0, a multiple of 16.
    pub m0_stride: u32,
    /// The highest level of each item.
    pub levels: Vec<u8>,
    /// n × m0_stride.
    pub links0: Links,
    /// Where in `upper_links`, in units of m, the lists of an item start, level 1 first; `u32::MAX` for items on level 0 only.
    pub upper_index: Vec<u32>,
    /// slots × m.
    pub upper_links: Vec<u32>,
    /// Where a search starts; `u32::MAX` in an empty graph.
    pub entry_point: u32,
}

/// Why no index can be laid out from an input.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// Rows are too short or too long.
    #[error("rows of {found} dimensions, expected 1 to {DIMENSIONS_MAX}")]
    Dimensions {
        /// Length of a row.
        found: usize,
    },
    /// Rows and keys are not of the same items.
    #[error("{found} floats of rows, expected {expected}: one row for each key")]
    RowCount {
        /// Keys times dimensions.
        expected: u64,
        /// Floats there are.
        found: u64,
    },
    /// A row holds a value that is not finite, or is too long for its square to be a number.
    #[error("the row of item {ordinal} ({key:?}) has values that are not finite or too large: train again")]
    RowNotFinite {
        /// The item.
        ordinal: u32,
        /// Its key.
        key: String,
    },
    /// A row has no direction, so no search could find the item.
    #[error(
        "every value in the row of item {ordinal} ({key:?}) is zero, so no search could find it: leave the item out"
    )]
    RowZero {
        /// The item.
        ordinal: u32,
        /// Its key.
        key: String,
    },
    /// The graph's arrays do not fit each other or the items.
    #[error("the graph has {field} {found}, expected {expected}")]
    Graph {
        /// Which number.
        field: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The rows cannot be read.
    #[error("the rows cannot be read")]
    Rows(#[source] io::Error),
}

impl FlatGraph {
    /// It, as searches see it.
    pub fn view(&self) -> GraphView<'_> {
        GraphView {
            n: self.n,
            m: self.m,
            m0_stride: self.m0_stride,
            // As it must be. A look at every item would cost more than a search.
            max_level: self.levels.get(self.entry_point as usize).copied().unwrap_or(0).into(),
            entry_point: self.entry_point,
            links0: &self.links0,
            levels: &self.levels,
            upper_index: &self.upper_index,
            upper_links: &self.upper_links,
        }
    }

    fn max_level(&self) -> u32 {
        self.levels.iter().copied().max().unwrap_or(0).into()
    }

    /// Whether the arrays have the lengths that the numbers call for. What links say is left to `Index::verify`.
    fn check(&self, n: u32) -> Result<(), AssembleError> {
        let check = |field, expected: u64, found: u64| {
            if expected == found { Ok(()) } else { Err(AssembleError::Graph { field, expected, found }) }
        };
        let items = u64::from(n);
        check("items", items, self.n.into())?;
        check("m", self.m.clamp(M_MIN, M_MAX).into(), self.m.into())?;
        let stride = self.m0_stride.clamp(STRIDE_UNIT, M0_STRIDE_MAX) / STRIDE_UNIT * STRIDE_UNIT;
        check("m0_stride", stride.into(), self.m0_stride.into())?;
        check("levels", items, self.levels.len() as u64)?;
        check("level", self.max_level().min(LEVEL_MAX.into()).into(), self.max_level().into())?;
        check("links", items * u64::from(self.m0_stride), self.links0.len() as u64)?;
        check("upper index", items, self.upper_index.len() as u64)?;
        let slots: u64 = self.levels.iter().map(|level| u64::from(*level)).sum();
        check("upper links", slots * u64::from(self.m), self.upper_links.len() as u64)?;
        let entry = if n == 0 { NONE } else { self.entry_point.min(n - 1) };
        check("entry point", entry.into(), self.entry_point.into())?;
        let entry_level = self.levels.get(self.entry_point as usize).copied().unwrap_or(0);
        check("level of the entry point", self.max_level().into(), entry_level.into())
    }
}

impl FlatGraph {
    /// A graph over items of these levels, in which no item has a link yet.
    #[cfg(feature = "build")]
    pub(crate) fn without_links(levels: Vec<u8>, m: u32, m0_stride: u32, entry_point: u32) -> io::Result<Self> {
        let n = levels.len();
        let mut slots = 0_u32;
        let mut first_slot = |level: &u8| {
            let first = if *level == 0 { NONE } else { slots };
            slots += u32::from(*level);
            first
        };
        let upper_index = levels.iter().map(&mut first_slot).collect();
        Ok(Self {
            n: n as u32,
            m,
            m0_stride,
            links0: Links::unused(n * m0_stride as usize)?,
            upper_index,
            upper_links: vec![NONE; slots as usize * m as usize],
            levels,
            entry_point,
        })
    }

    /// Fills the list of an item on a level with what may stand there.
    #[cfg(feature = "build")]
    pub(crate) fn set_links(&mut self, ordinal: u32, level: u8, links: impl Iterator<Item = u32>) {
        let levels = &self.levels;
        let on_level = |link: &u32| *link != ordinal && levels.get(*link as usize).is_some_and(|own| *own >= level);
        let (all, width, list): (&mut [u32], _, _) = if level == 0 {
            (&mut self.links0, self.m0_stride, ordinal)
        } else {
            let first = self.upper_index.get(ordinal as usize).copied().unwrap_or(NONE);
            (&mut self.upper_links, self.m, first.saturating_add(u32::from(level) - 1))
        };
        let from = list as usize * width as usize;
        let places = all.get_mut(from..from + width as usize).unwrap_or_default();
        for (place, link) in places.iter_mut().zip(links.filter(on_level)) {
            *place = link;
        }
    }
}

/// An index that is ready to be written.
#[derive(Debug)]
pub(crate) struct IndexAssembly<'a> {
    input: IndexInput<'a>,
    graph: Cow<'a, FlatGraph>,
    edges: EdgeSet,
    codes: Option<Codes>,
    longest: Longest,
}

/// The longest items, and how long their rows are; none, for an index that has none.
#[derive(Debug, Default)]
pub(crate) struct Longest {
    pub(crate) ordinals: Vec<u32>,
    pub(crate) lengths: Vec<f32>,
}

impl<'a> IndexAssembly<'a> {
    /// Checks that the graph is of these items. The same parts give the same bytes.
    pub(crate) fn new(
        input: &IndexInput<'a>,
        graph: Cow<'a, FlatGraph>,
        edges: EdgeSet,
    ) -> Result<Self, AssembleError> {
        graph.check(input.tables.len())?;
        Ok(Self { input: *input, graph, edges, codes: None, longest: Longest::default() })
    }

    /// The same index with codes, made of the same rows, and with copies of those of the longest.
    #[cfg(feature = "build")]
    pub(crate) fn with_codes(self, codes: Option<Codes>, longest: Longest) -> Self {
        Self { codes, longest, ..self }
    }

    /// The graph that will be in the file.
    pub(crate) fn graph(&self) -> &FlatGraph {
        &self.graph
    }

    fn header(&self) -> IndexHeader {
        let dimensions = self.input.dims as u32;
        let keys = self.input.tables.key_table();
        IndexHeader {
            n: keys.len(),
            dimensions,
            row_stride: row_stride(dimensions),
            m: self.graph.m,
            m0_stride: self.graph.m0_stride,
            max_level: self.graph.max_level(),
            entry_point: self.graph.entry_point,
            metric: self.input.metric as u32,
            edges: self.edges as u32,
            key_table_log2: keys.log2(),
            key_hash_seed: keys.seed(),
            flags: 0,
            zero: [0; 12],
        }
    }

    /// Writes the file; returns its length in bytes. Rows are made and written one by one.
    pub(crate) fn write<W: Write + Seek>(&self, into: W) -> Result<u64, WriteError> {
        let graph = self.graph();
        let codes = self.codes.as_ref();
        let longest = codes.filter(|_| !self.longest.ordinals.is_empty());
        let fine = codes.and_then(|codes| codes.fine.as_ref());
        let n_sections = section::COUNT + 3 * u32::from(longest.is_some()) + u32::from(fine.is_some());
        let mut writer = ContainerWriter::create(into, INDEX_CONTAINER_KIND, n_sections)?;
        writer.section(section::INDEX_HEADER, |w| w.write_all(self.header().as_bytes()))?;
        writer.section(section::VECTORS, |w| {
            if fine.is_some() {
                return Ok(());
            }
            let mut padded = vec![0.0; row_stride(self.input.dims as u32) as usize];
            self.input.rows.each(self.input.dims, &mut |row| {
                stored_row(row, self.input.metric, &mut padded);
                w.write_all(padded.as_bytes())
            })
        })?;
        writer.section(section::LINKS0, |w| w.write_all(graph.links0.as_bytes()))?;
        writer.section(section::LEVELS, |w| w.write_all(&graph.levels))?;
        writer.section(section::UPPER_INDEX, |w| w.write_all(graph.upper_index.as_bytes()))?;
        writer.section(section::UPPER_LINKS, |w| w.write_all(graph.upper_links.as_bytes()))?;
        self.input.tables.write(&mut writer)?;
        let (scales, bytes): (&[f32], &[u8]) =
            codes.map_or((&[], &[]), |codes| (codes.view().scales, codes.as_bytes()));
        writer.section(section::CODE_SCALES, |w| w.write_all(scales.as_bytes()))?;
        writer.section(section::CODES, |w| w.write_all(bytes))?;
        if let Some(codes) = longest {
            let Longest { ordinals, lengths } = &self.longest;
            writer.section(section::LONGEST_ORDINALS, |w| w.write_all(ordinals.as_bytes()))?;
            writer.section(section::LONGEST_LENGTHS, |w| w.write_all(lengths.as_bytes()))?;
            writer.section(section::LONGEST_CODES, |w| {
                let codes = codes.view();
                let mut woven = vec![[0; CODE_GROUP]; codes.width() * WOVEN];
                for sixteen in ordinals.chunks(WOVEN) {
                    weave(sixteen.iter().map(|ordinal| codes.row(*ordinal)), &mut woven);
                    w.write_all(woven.as_flattened())?;
                }
                Ok(())
            })?;
        }
        if let Some(fine) = fine {
            writer.section(section::FINE_CODES, |w| w.write_all(fine.as_ref()))?;
        }
        writer.finish()
    }

    /// The file, in memory.
    pub(crate) fn to_bytes(&self) -> Result<AlignedBytes, WriteError> {
        let mut bytes = AlignedBytes::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}

/// An index over rows and a graph that was made anywhere, in memory.
///
/// # Errors
/// Rows that no index can hold, a graph of other items.
pub fn assemble_index(
    input: &IndexInput<'_>,
    graph: &FlatGraph,
    edges: EdgeSet,
) -> Result<AlignedBytes, AssembleError> {
    check_rows(input)?;
    Ok(IndexAssembly::new(input, Cow::Borrowed(graph), edges)?.to_bytes()?)
}

/// The most that the square of a row's length may be. Products of two rows must be numbers in single precision too, however they are added up, and
/// also those of what two bytes a value say of rows, which may be a little longer.
const SQUARED_MOST: f64 = f32::MAX as f64 / 2.0;

/// Checks every row, and that there is one for each item.
pub(crate) fn check_rows(input: &IndexInput<'_>) -> Result<(), AssembleError> {
    if input.dims == 0 || input.dims > DIMENSIONS_MAX as usize {
        return Err(AssembleError::Dimensions { found: input.dims });
    }
    let keys = input.tables.keys();
    let (expected, found) = (u64::from(keys.len()) * input.dims as u64, input.rows.n_values());
    if expected != found {
        return Err(AssembleError::RowCount { expected, found });
    }
    let wrong = input.rows.find(input.dims, |ordinal, row| {
        let squared: f64 = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let key = || keys.key(ordinal).unwrap_or_default().to_owned();
        if squared.is_nan() || squared > SQUARED_MOST {
            return Some(AssembleError::RowNotFinite { ordinal, key: key() });
        }
        (squared == 0.0).then(|| AssembleError::RowZero { ordinal, key: key() })
    });
    wrong.map_err(AssembleError::Rows)?.map_or(Ok(()), Err)
}

/// Makes of a row what the file has: at unit length where the metric is cosine, and padded with zeros.
pub(crate) fn stored_row(row: &[f32], metric: Metric, into: &mut [f32]) {
    let scale = match metric {
        Metric::InnerProduct => 1.0,
        Metric::Cosine => unit_scale(row).unwrap_or(1.0),
    };
    let scaled = row.iter().map(|value| (f64::from(*value) * scale) as f32);
    for (value, scaled) in into.iter_mut().zip(scaled.chain(std::iter::repeat(0.0))) {
        *value = scaled;
    }
}

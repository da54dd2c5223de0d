//! Opening an index: cheap checks, then views into the bytes. Nothing is copied, and nothing depends on the number of items.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromBytes;

use crate::attributes::AttributeView;
use crate::codes::CodeView;
use crate::container::{Container, SectionInfo, cast, range};
use crate::error::OpenError;
use crate::fine::FineView;
use crate::format::{
    DIMENSIONS_MAX, FIELDS_MAX, FieldEntry, INDEX_CONTAINER_KIND, ITEMS_MAX, IndexHeader, KEY_TABLE_LOG2_MAX,
    LEVEL_MAX, M_MAX, M_MIN, M0_STRIDE_MAX, NONE, STRIDE_UNIT, TermEntry, code_stride, row_stride, section,
};
use crate::graph::{EdgeSet, GraphView};
use crate::keys::KeyView;
use crate::longest::LongestView;
use crate::metric::{Metric, WOVEN};
use crate::row::RowsView;
use crate::vectors::VectorView;

/// An opened index over any bytes: a map, [`crate::AlignedBytes`], an aligned static slice.
///
/// [`Index::open`] makes the checks that cost nothing, [`Index::verify`] all others. No method panics or reads outside the bytes,
/// whatever they hold and whether they were verified or not; without verification answers may be wrong, and that is all.
pub struct Index<D> {
    container: Container<D>,
    header: IndexHeader,
    metric: Metric,
    edges: EdgeSet,
    places: Places,
    /// No other has this number. Where its bytes lie, those of another may lie later.
    opening: u64,
}

/// Openings so far.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// Where each section lies, so that a look-up by kind is not needed per request.
struct Places([Range<usize>; section::MOST as usize]);

impl<D: AsRef<[u8]>> Index<D> {
    /// Opens the bytes of an index file.
    ///
    /// Checks what [`Container::open`] checks, then the ranges of the index header, and that every section is there with exactly
    /// the length that the header calls for. Independent of the number of items: microseconds once the first page is in memory.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn open(data: D) -> Result<Self, OpenError> {
        let container = Container::open(data, INDEX_CONTAINER_KIND)?;
        let header = read_index_header(&container)?;
        let (metric, edges) = check_index_header(&header)?;
        let places = check_sections(&container, &header)?;
        let opening = 1 + OPENINGS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { container, header, metric, edges, places, opening })
    }

    /// Number of items; their ordinals are 0 to `len() - 1`.
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

    /// How similarity is measured.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Which graph or graphs the links come from.
    pub fn edges(&self) -> EdgeSet {
        self.edges
    }

    /// Links per node and upper level.
    pub fn m(&self) -> u32 {
        self.header.m
    }

    /// Places for links per node on level 0.
    pub fn m0_stride(&self) -> u32 {
        self.header.m0_stride
    }

    /// Level of the entry point.
    pub fn max_level(&self) -> u32 {
        self.header.max_level
    }

    /// Where a search starts; `None` in an empty index.
    pub fn entry_point(&self) -> Option<u32> {
        Some(self.header.entry_point).filter(|entry| *entry != NONE)
    }

    /// The key of an item. Costs a check that it is UTF-8, about 10 ns.
    pub fn key(&self, ordinal: u32) -> Option<&str> {
        self.keys().key(ordinal)
    }

    /// The item of a key. Costs one hash and on average one and a half probes.
    pub fn ordinal(&self, key: &str) -> Option<u32> {
        self.keys().ordinal(key)
    }

    /// The vector of an item, `dimensions()` long: of unit length when the metric is cosine, as trained otherwise. Where the file has two
    /// bytes a value it is made, close to what it was; [`Index::rows`] has what compares with it as it lies.
    pub fn row(&self, ordinal: u32) -> Option<Cow<'_, [f32]>> {
        Some(self.rows().row(ordinal)?.values())
    }

    /// The keys. Take one view per request rather than one per key.
    pub fn keys(&self) -> KeyView<'_> {
        KeyView::new(
            self.words64(section::KEY_OFFSETS),
            self.section_bytes(section::KEY_BYTES),
            self.words(section::KEY_TABLE),
            self.header.key_hash_seed,
        )
    }

    /// The graph.
    pub fn graph(&self) -> GraphView<'_> {
        GraphView {
            n: self.header.n,
            m: self.header.m,
            m0_stride: self.header.m0_stride,
            max_level: self.header.max_level,
            entry_point: self.header.entry_point,
            links0: self.words(section::LINKS0),
            levels: self.section_bytes(section::LEVELS),
            upper_index: self.words(section::UPPER_INDEX),
            upper_links: self.words(section::UPPER_LINKS),
        }
    }

    /// The rows. Take one view per request rather than one per row.
    pub fn rows(&self) -> RowsView<'_> {
        let fine = self.section_bytes(section::FINE_CODES).as_chunks().0;
        match self.codes() {
            Some(codes) if self.is_fine() => RowsView::Fine(FineView { codes, fine, n: self.header.n }),
            _ => RowsView::Whole(self.vectors()),
        }
    }

    /// The rows as floats; none where the file has two bytes a value.
    fn vectors(&self) -> VectorView<'_> {
        VectorView {
            rows: cast(self.section_bytes(section::VECTORS)).unwrap_or_default(),
            n: self.header.n,
            stride: self.header.row_stride as usize,
            dimensions: self.dimensions(),
        }
    }

    /// Whether walks compare codes of one byte per dimension rather than rows.
    pub fn is_coded(&self) -> bool {
        !self.section_bytes(section::CODE_SCALES).is_empty()
    }

    /// Whether the file has two bytes a value of each row, and no floats.
    pub fn is_fine(&self) -> bool {
        !self.section_bytes(section::FINE_CODES).is_empty()
    }

    /// The codes, if there are any.
    pub(crate) fn codes(&self) -> Option<CodeView<'_>> {
        let scales = cast(self.section_bytes(section::CODE_SCALES)).filter(|scales: &&[f32]| !scales.is_empty())?;
        Some(CodeView { rows: self.section_bytes(section::CODES).as_chunks().0, scales, opening: self.opening })
    }

    /// How many of the longest items are there to be compared with at once; 0 for an index that has none.
    pub fn n_longest(&self) -> usize {
        self.words(section::LONGEST_ORDINALS).len()
    }

    /// The longest items, if there are any.
    pub(crate) fn longest(&self) -> Option<LongestView<'_>> {
        let ordinals = self.words(section::LONGEST_ORDINALS);
        let lengths = cast(self.section_bytes(section::LONGEST_LENGTHS))?;
        let codes = self.section_bytes(section::LONGEST_CODES).as_chunks().0;
        (!ordinals.is_empty()).then_some(LongestView { ordinals, lengths, codes })
    }

    /// The attributes.
    pub fn attributes(&self) -> AttributeView<'_> {
        AttributeView {
            n: self.header.n,
            fields: cast(self.section_bytes(section::ATTRIBUTE_FIELDS)).unwrap_or_default(),
            terms: cast(self.section_bytes(section::ATTRIBUTE_TERMS)).unwrap_or_default(),
            strings: self.section_bytes(section::ATTRIBUTE_STRINGS),
            postings: self.section_bytes(section::POSTINGS),
            number_values: cast(self.section_bytes(section::NUMBER_VALUES)).unwrap_or_default(),
            number_ordinals: self.words(section::NUMBER_ORDINALS),
            keys: self.keys(),
        }
    }

    /// All sections, in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = SectionInfo> + '_ {
        self.container.sections()
    }

    /// The container that the index lies in.
    pub fn container(&self) -> &Container<D> {
        &self.container
    }

    /// The index header, for inspection.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The bytes of one of the sections of an index.
    pub(crate) fn section_bytes(&self, kind: u32) -> &[u8] {
        self.container.bytes(self.places.of(kind))
    }

    fn words(&self, kind: u32) -> &[u32] {
        cast(self.section_bytes(kind)).unwrap_or_default()
    }

    fn words64(&self, kind: u32) -> &[u64] {
        cast(self.section_bytes(kind)).unwrap_or_default()
    }
}

impl<D> fmt::Debug for Index<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Places {
    fn of(&self, kind: u32) -> Range<usize> {
        self.0.get(kind.wrapping_sub(1) as usize).cloned().unwrap_or_default()
    }

    fn set(&mut self, info: &SectionInfo) {
        if let Some(place) = self.0.get_mut(info.kind.wrapping_sub(1) as usize) {
            *place = range(info);
        }
    }
}

fn read_index_header<D: AsRef<[u8]>>(container: &Container<D>) -> Result<IndexHeader, OpenError> {
    let kind = section::INDEX_HEADER;
    let info = container.info(kind).ok_or(OpenError::SectionMissing { section: kind })?;
    let (offset, expected, found) = (info.offset, size_of::<IndexHeader>() as u64, info.len);
    IndexHeader::read_from_bytes(container.bytes(range(&info))).map_err(|_| OpenError::SectionLength {
        section: kind,
        offset,
        expected,
        found,
    })
}

/// Every field in its range. After this, no product of two of them overflows 64 bits.
fn check_index_header(header: &IndexHeader) -> Result<(Metric, EdgeSet), OpenError> {
    let IndexHeader { n, dimensions, m, m0_stride, max_level, entry_point, key_table_log2: log2, .. } = *header;
    let check = |field, holds, expected, found: u32| {
        if holds { Ok(()) } else { Err(OpenError::IndexHeader { field, expected, found: u64::from(found) }) }
    };
    check("n", n <= ITEMS_MAX, "at most 2^30", n)?;
    check("dimensions", (1..=DIMENSIONS_MAX).contains(&dimensions), "1 to 4096", dimensions)?;
    let stride = row_stride(dimensions);
    check("row_stride", header.row_stride == stride, "the dimensions rounded up to 16", header.row_stride)?;
    check("m", (M_MIN..=M_MAX).contains(&m), "2 to 64", m)?;
    let whole = m0_stride.is_multiple_of(STRIDE_UNIT) && (STRIDE_UNIT..=M0_STRIDE_MAX).contains(&m0_stride);
    check("m0_stride", whole, "a multiple of 16 up to 256", m0_stride)?;
    let level = max_level <= u32::from(LEVEL_MAX) && (n > 0 || max_level == 0);
    check("max_level", level, "at most 15, and 0 in an empty index", max_level)?;
    let entry = if n == 0 { entry_point == NONE } else { entry_point < n };
    check("entry_point", entry, "an ordinal below n, or none in an empty index", entry_point)?;
    let roomy = log2 <= KEY_TABLE_LOG2_MAX && 1_u64 << log2 >= 2 * u64::from(n);
    check("key_table_log2", roomy, "at most 33, and room for twice n", log2)?;
    check("flags", header.flags == 0, "0", header.flags)?;
    let zero = header.zero.iter().find(|byte| **byte != 0).copied().unwrap_or(0);
    check("padding", zero == 0, "0", u32::from(zero))?;
    let metric = match header.metric {
        1 => Metric::Cosine,
        2 => Metric::InnerProduct,
        found => return Err(OpenError::IndexHeader { field: "metric", expected: "1 or 2", found: u64::from(found) }),
    };
    let edges = match header.edges {
        1 => EdgeSet::Cosine,
        2 => EdgeSet::InnerProduct,
        3 => EdgeSet::United,
        found => return Err(OpenError::IndexHeader { field: "edges", expected: "1, 2 or 3", found: u64::from(found) }),
    };
    Ok((metric, edges))
}

/// The length of a section of an index.
enum Length {
    Exactly(u64),
    MultipleOf { unit: u64, most: u64 },
    Any,
}

fn check_sections<D: AsRef<[u8]>>(container: &Container<D>, header: &IndexHeader) -> Result<Places, OpenError> {
    let n = u64::from(header.n);
    let each = |count: u32| Length::Exactly(n * u64::from(count) * 4);
    let entries = |unit: usize, most| Length::MultipleOf { unit: unit as u64, most };
    let slots_max = u64::from(NONE - 1);
    // Rows are whole, or in parts, and then codes are there too.
    let in_parts = container.info(section::FINE_CODES).is_some();
    let lengths = [
        (section::INDEX_HEADER, Length::Exactly(size_of::<IndexHeader>() as u64)),
        (section::VECTORS, if in_parts { Length::Exactly(0) } else { each(header.row_stride) }),
        (section::LINKS0, each(header.m0_stride)),
        (section::LEVELS, Length::Exactly(n)),
        (section::UPPER_INDEX, each(1)),
        (section::UPPER_LINKS, entries(4 * header.m as usize, slots_max)),
        (section::KEY_OFFSETS, Length::Exactly((n + 1) * 8)),
        (section::KEY_BYTES, Length::Any),
        (section::KEY_TABLE, Length::Exactly(4 << header.key_table_log2)),
        (section::ATTRIBUTE_FIELDS, entries(size_of::<FieldEntry>(), FIELDS_MAX)),
        (section::ATTRIBUTE_TERMS, entries(size_of::<TermEntry>(), u64::MAX)),
        (section::ATTRIBUTE_STRINGS, Length::Any),
        (section::POSTINGS, entries(8, u64::MAX)),
        (section::NUMBER_VALUES, entries(8, u64::MAX)),
        (section::NUMBER_ORDINALS, entries(4, u64::MAX)),
        (section::CODE_SCALES, entries(4 * header.dimensions as usize, 1)),
        (section::CODES, Length::Any),
    ];
    let mut places = Places(std::array::from_fn(|_| 0..0));
    for ((kind, length), place) in lengths.into_iter().zip(&mut places.0) {
        let info = container.info(kind).ok_or(OpenError::SectionMissing { section: kind })?;
        let expected = match length {
            Length::Exactly(expected) => expected,
            Length::MultipleOf { unit, most } => (info.len / unit).min(most) * unit,
            Length::Any => info.len,
        };
        if info.len != expected {
            return Err(OpenError::SectionLength { section: kind, offset: info.offset, expected, found: info.len });
        }
        *place = range(&info);
    }
    let [values, ordinals] = [section::NUMBER_VALUES, section::NUMBER_ORDINALS].map(|kind| container.info(kind));
    if let (Some(values), Some(ordinals)) = (values, ordinals)
        && ordinals.len * 2 != values.len
    {
        let (section, offset) = (ordinals.kind, ordinals.offset);
        return Err(OpenError::SectionLength { section, offset, expected: values.len / 2, found: ordinals.len });
    }
    if let [Some(scales), Some(codes)] = [section::CODE_SCALES, section::CODES].map(|kind| container.info(kind)) {
        // All items have codes or none has.
        let all = n * u64::from(code_stride(header.dimensions));
        let expected = if scales.len == 0 && !in_parts { 0 } else { all };
        for info in [Some(codes), container.info(section::FINE_CODES)].into_iter().flatten() {
            if info.len != expected {
                let SectionInfo { kind, offset, len, .. } = info;
                return Err(OpenError::SectionLength { section: kind, offset, expected, found: len });
            }
        }
        if in_parts && scales.len == 0 {
            let SectionInfo { kind, offset, len, .. } = scales;
            let expected = 4 * u64::from(header.dimensions);
            return Err(OpenError::SectionLength { section: kind, offset, expected, found: len });
        }
    }
    if let Some(info) = container.info(section::FINE_CODES) {
        places.set(&info);
    }
    check_longest(container, header, &mut places)?;
    Ok(places)
}

/// The sections that only some indexes have: all three or none, for as many items each; empty where there can be none.
fn check_longest<D: AsRef<[u8]>>(
    container: &Container<D>,
    header: &IndexHeader,
    places: &mut Places,
) -> Result<(), OpenError> {
    let kinds = [section::LONGEST_ORDINALS, section::LONGEST_LENGTHS, section::LONGEST_CODES];
    if kinds.iter().all(|kind| container.info(*kind).is_none()) {
        return Ok(());
    }
    let is_coded = container.info(section::CODES).is_some_and(|codes| codes.len > 0);
    let most = if is_coded && header.metric == Metric::InnerProduct as u32 { u64::from(header.n) } else { 0 };
    let ordinals = container.info(section::LONGEST_ORDINALS);
    let count = (ordinals.map_or(0, |ordinals| ordinals.len) / 4).min(most);
    for (kind, width) in kinds.into_iter().zip([4, 4, u64::from(code_stride(header.dimensions))]) {
        let info = container.info(kind).ok_or(OpenError::SectionMissing { section: kind })?;
        let expected =
            if kind == section::LONGEST_CODES { count.next_multiple_of(WOVEN as u64) } else { count } * width;
        if info.len != expected {
            let offset = info.offset;
            return Err(OpenError::SectionLength { section: kind, offset, expected, found: info.len });
        }
        places.set(&info);
    }
    Ok(())
}

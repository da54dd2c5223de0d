//! The layout of the file: header, section table, index header, section kinds and limits. FORMAT.md is the text to these structs.
//!
//! Every struct here is `repr(C)` without padding, little-endian, and its size is checked when the crate is compiled, so that a
//! change of layout cannot go unnoticed. Opening copies these few hundred bytes; it copies nothing else.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of every file. As in PNG, a byte above 127 and two kinds of line end show damage by text-mode transfers.
pub const MAGIC: [u8; 8] = [0x89, b'K', b'D', b'R', 0x0D, 0x0A, 0x1A, 0x0A];

/// The version that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Container kind of an index.
pub const INDEX_CONTAINER_KIND: u16 = 1;

/// Sections, rows and the bytes handed to open start at multiples of this.
pub const ALIGNMENT: usize = 64;

/// Most sections in one file.
pub const SECTIONS_MAX: u32 = 64;

/// Longest file, in bytes (16 TiB). Bounds every offset, so that sums of two of them cannot overflow.
pub const FILE_BYTES_MAX: u64 = 1 << 44;

/// Most items of one index. Bounds every product of items and widths below 2^63.
pub const ITEMS_MAX: u32 = 1 << 30;

/// Longest vector, in floats.
pub const DIMENSIONS_MAX: u32 = 4_096;

/// Least links per node on the upper levels.
pub const M_MIN: u32 = 2;

/// Most links per node on the upper levels.
pub const M_MAX: u32 = 64;

/// Most links per node on level 0: two edge sets of 2 m each.
pub const M0_STRIDE_MAX: u32 = 4 * M_MAX;

/// Rows and level-0 links are padded to a multiple of this many 4-byte values, which is one cache line.
pub const STRIDE_UNIT: u32 = 16;

/// Highest level of a graph. At m = 2 a node of level 15 is drawn once in 32,000 nodes; larger m makes it rarer still.
pub const LEVEL_MAX: u8 = 15;

/// Longest key, in bytes of UTF-8. The shortest has one byte.
pub const KEY_BYTES_MAX: usize = 256;

/// Slots of the key table looked at for one key, at most. The writer chooses seed and capacity so that this suffices.
pub const KEY_PROBES_MAX: u32 = 128;

/// Largest key table, as a power of two. It is more than twice [`ITEMS_MAX`].
pub const KEY_TABLE_LOG2_MAX: u32 = 33;

/// Most attribute fields.
pub const FIELDS_MAX: u64 = 256;

/// Longest name of an attribute field, in bytes of UTF-8.
pub const FIELD_NAME_BYTES_MAX: usize = 256;

/// Longest value of an attribute term, in bytes of UTF-8.
pub const TERM_BYTES_MAX: usize = 1_024;

/// "No item": an unused link, an empty slot of the key table, the entry point of an empty index, a node without upper levels.
pub const NONE: u32 = u32::MAX;

/// The first 64 bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`FORMAT_VERSION`].
    pub format_version: u16,
    /// What the file holds: 1 is an index; the caller of [`crate::Container::open`] says which it expects.
    pub kind: u16,
    /// Entries of the section table that follows.
    pub n_sections: u32,
    /// Length of the whole file, in bytes.
    pub file_len: u64,
    /// CRC-32 of header and section table, with this field taken as zero.
    pub header_crc: u32,
    /// Zero.
    pub zero: [u8; 36],
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SectionEntry {
    /// What the section holds; unique in the file.
    pub kind: u32,
    /// CRC-32 of its bytes, without the padding behind them.
    pub crc: u32,
    /// Where it starts, in bytes from the start of the file; a multiple of 64.
    pub offset: u64,
    /// Its length in bytes, without the padding behind it.
    pub len: u64,
    /// Zero.
    pub reserved: u64,
}

/// Section [`section::INDEX_HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IndexHeader {
    /// Number of items; ordinals are 0 to n - 1.
    pub n: u32,
    /// Floats of a row that count.
    pub dimensions: u32,
    /// Floats from one row to the next: the dimensions rounded up to a multiple of 16.
    pub row_stride: u32,
    /// Links per node and upper level.
    pub m: u32,
    /// Links per node on level 0; a multiple of 16.
    pub m0_stride: u32,
    /// Level of the entry point.
    pub max_level: u32,
    /// Where a search starts; [`NONE`] in an empty index.
    pub entry_point: u32,
    /// 1 cosine, 2 inner product.
    pub metric: u32,
    /// 1 cosine, 2 inner product, 3 both united.
    pub edges: u32,
    /// The key table has two to the power of this many slots.
    pub key_table_log2: u32,
    /// Seed of the key hash.
    pub key_hash_seed: u64,
    /// Zero in version 1.
    pub flags: u32,
    /// Zero.
    pub zero: [u8; 12],
}

/// One attribute field in section [`section::ATTRIBUTE_FIELDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FieldEntry {
    /// Where the name starts in the strings.
    pub name_start: u64,
    /// Bytes of the name.
    pub name_len: u32,
    /// Zero.
    pub zero: u32,
    /// First of its terms.
    pub terms_first: u64,
    /// Number of its terms.
    pub terms_count: u64,
    /// First of its numbers.
    pub numbers_first: u64,
    /// Number of its numbers.
    pub numbers_count: u64,
    /// The items that have any term or number in this field.
    pub present: Postings,
}

/// One value of one field in section [`section::ATTRIBUTE_TERMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TermEntry {
    /// Where the value starts in the strings.
    pub value_start: u64,
    /// Bytes of the value.
    pub value_len: u32,
    /// Zero.
    pub zero: u32,
    /// The items that have it.
    pub items: Postings,
}

/// A set of items in section [`section::POSTINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Postings {
    /// First 32-bit word; even.
    pub start: u64,
    /// Number of items.
    pub cardinality: u32,
    /// 1: a list of `cardinality` ordinals, ascending. 2: a bitmap of n bits in 64-bit words.
    pub encoding: u32,
}

/// [`Postings::encoding`] of a list.
pub const POSTINGS_LIST: u32 = 1;
/// [`Postings::encoding`] of a bitmap.
pub const POSTINGS_BITMAP: u32 = 2;

const _: () = {
    assert!(size_of::<FileHeader>() == 64);
    assert!(size_of::<SectionEntry>() == 32);
    assert!(size_of::<IndexHeader>() == 64);
    assert!(size_of::<FieldEntry>() == 64);
    assert!(size_of::<TermEntry>() == 32);
    assert!(size_of::<Postings>() == 16);
    assert!(ALIGNMENT == STRIDE_UNIT as usize * size_of::<f32>());
    assert!(1_u64 << KEY_TABLE_LOG2_MAX > 2 * ITEMS_MAX as u64);
    assert!(M0_STRIDE_MAX.is_multiple_of(STRIDE_UNIT));
};

/// Section kinds of an index.
pub mod section {
    /// [`super::IndexHeader`].
    pub const INDEX_HEADER: u32 = 1;
    /// n × row_stride f32, or nothing where there are [`FINE_CODES`].
    pub const VECTORS: u32 = 2;
    /// n × m0_stride u32.
    pub const LINKS0: u32 = 3;
    /// n u8.
    pub const LEVELS: u32 = 4;
    /// n u32.
    pub const UPPER_INDEX: u32 = 5;
    /// slots × m u32.
    pub const UPPER_LINKS: u32 = 6;
    /// (n + 1) u64.
    pub const KEY_OFFSETS: u32 = 7;
    /// The keys, end to end.
    pub const KEY_BYTES: u32 = 8;
    /// 2^key_table_log2 u32.
    pub const KEY_TABLE: u32 = 9;
    /// [`super::FieldEntry`] each.
    pub const ATTRIBUTE_FIELDS: u32 = 10;
    /// [`super::TermEntry`] each.
    pub const ATTRIBUTE_TERMS: u32 = 11;
    /// Names and values, end to end.
    pub const ATTRIBUTE_STRINGS: u32 = 12;
    /// u32 each.
    pub const POSTINGS: u32 = 13;
    /// f64 each.
    pub const NUMBER_VALUES: u32 = 14;
    /// u32 each.
    pub const NUMBER_ORDINALS: u32 = 15;

    /// f32 per dimension, or nothing.
    pub const CODE_SCALES: u32 = 16;
    /// n × code stride u8, or nothing.
    pub const CODES: u32 = 17;

    /// u32 each: the longest items. With the two that follow, in some inner-product indexes.
    pub const LONGEST_ORDINALS: u32 = 18;
    /// f32 each: how long their rows are.
    pub const LONGEST_LENGTHS: u32 = 19;
    /// Copies of their rows of codes.
    pub const LONGEST_CODES: u32 = 20;
    /// n × code stride u8: with CODES in the place of VECTORS, in some indexes.
    pub const FINE_CODES: u32 = 21;

    /// How many kinds every index has, each of them once: the first so many.
    pub const COUNT: u32 = 17;
    /// How many kinds there are.
    pub const MOST: u32 = 21;

    /// The name of a section of an index, for messages; "unknown" for other kinds.
    pub fn name(kind: u32) -> &'static str {
        match kind {
            INDEX_HEADER => "INDEX_HEADER",
            VECTORS => "VECTORS",
            LINKS0 => "LINKS0",
            LEVELS => "LEVELS",
            UPPER_INDEX => "UPPER_INDEX",
            UPPER_LINKS => "UPPER_LINKS",
            KEY_OFFSETS => "KEY_OFFSETS",
            KEY_BYTES => "KEY_BYTES",
            KEY_TABLE => "KEY_TABLE",
            ATTRIBUTE_FIELDS => "ATTRIBUTE_FIELDS",
            ATTRIBUTE_TERMS => "ATTRIBUTE_TERMS",
            ATTRIBUTE_STRINGS => "ATTRIBUTE_STRINGS",
            POSTINGS => "POSTINGS",
            NUMBER_VALUES => "NUMBER_VALUES",
            NUMBER_ORDINALS => "NUMBER_ORDINALS",
            CODE_SCALES => "CODE_SCALES",
            CODES => "CODES",
            LONGEST_ORDINALS => "LONGEST_ORDINALS",
            LONGEST_LENGTHS => "LONGEST_LENGTHS",
            LONGEST_CODES => "LONGEST_CODES",
            FINE_CODES => "FINE_CODES",
            _ => "unknown",
        }
    }
}

/// Floats from one row to the next for vectors of so many dimensions.
pub const fn row_stride(dimensions: u32) -> u32 {
    dimensions.next_multiple_of(STRIDE_UNIT)
}

/// Bytes from one coded row to the next for vectors of so many dimensions.
pub const fn code_stride(dimensions: u32) -> u32 {
    dimensions.next_multiple_of(ALIGNMENT as u32)
}

/// The first multiple of 64 that is not below `position`. Positions stay below 2^45, so this cannot overflow.
pub(crate) const fn aligned(position: u64) -> u64 {
    position.next_multiple_of(ALIGNMENT as u64)
}

/// Where the first section of a file with so many sections starts.
pub(crate) const fn body_start(n_sections: u32) -> u64 {
    aligned((size_of::<FileHeader>() + size_of::<SectionEntry>() * n_sections as usize) as u64)
}

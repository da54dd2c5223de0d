//! What can go wrong, one enum per operation. Each variant says where, what was expected and what was found, and its message ends
//! with the remedy where there is one.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::filter::{FILTER_DEPTH_MAX, FILTER_PARTS_MAX};
use crate::format::{
    FIELD_NAME_BYTES_MAX, FIELDS_MAX, FILE_BYTES_MAX, FORMAT_VERSION, ITEMS_MAX, KEY_BYTES_MAX, KEY_PROBES_MAX,
    SECTIONS_MAX, TERM_BYTES_MAX, section,
};

mod verify;

pub use verify::{LinkProblem, LongestProblem, VerifyError};

/// Why bytes could not be opened as a container or an index.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// There are fewer bytes than the header or the file length in it call for.
    #[error("the file has {found} bytes, expected {expected}: it was cut off; copy or build it again")]
    Truncated {
        /// Bytes called for.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// There are more bytes than the header says.
    #[error(
        "the file has {found} bytes, its header says {expected}: something was added to it; copy or build it again"
    )]
    TooLong {
        /// Bytes the header says.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The first eight bytes are not the magic.
    #[error("the file starts with {found:02x?}, not with the Kindred magic: it is not a Kindred file")]
    Magic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// The format version is not the one this program reads.
    #[error(
        "the file has format version {found}, this program reads version {FORMAT_VERSION}: {}",
        if *found > FORMAT_VERSION { "use a newer program, or build the file again with this one" } else { "build the file again" }
    )]
    Version {
        /// The file's version.
        found: u16,
    },
    /// The container holds something else than the caller expects.
    #[error("the file is of kind {found}, expected kind {expected}: open the other file of the artifact")]
    Kind {
        /// What the caller expects.
        expected: u16,
        /// What the header says.
        found: u16,
    },
    /// The checksum over header and section table is wrong.
    #[error(
        "the header has checksum {found:08x}, expected {expected:08x}: it is damaged; copy or build the file again"
    )]
    HeaderChecksum {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
    /// A field of the file header is outside its range.
    #[error("file header field {field} is {found}, expected {expected}: build the file again")]
    Header {
        /// The field.
        field: &'static str,
        /// Its bound or value.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A field of an entry of the section table is outside its range.
    #[error(
        "section {section} (entry {entry} of the table): {field} is {found}, expected {expected}: build the file again"
    )]
    SectionTable {
        /// Index of the entry.
        entry: u32,
        /// Kind that the entry names.
        section: u32,
        /// The field.
        field: &'static str,
        /// Its bound or value.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Two entries of the section table are of the same kind.
    #[error("section {section} is there twice: build the file again")]
    SectionTwice {
        /// The kind.
        section: u32,
    },
    /// The bytes do not start at a multiple of 64.
    #[error(
        "the bytes start {found} past a multiple of {expected}, so rows and links cannot be borrowed from them: \
         map the file, or copy the bytes into AlignedBytes"
    )]
    Misaligned {
        /// The alignment needed.
        expected: u64,
        /// Remainder of the address.
        found: u64,
    },
    /// A section of an index is missing.
    #[error("section {section} ({}) is missing: build the index again", section::name(*section))]
    SectionMissing {
        /// The kind.
        section: u32,
    },
    /// A section has another length than the index header calls for.
    #[error(
        "section {section} ({}) at offset {offset} has {found} bytes, expected {expected}: build the index again",
        section::name(*section)
    )]
    SectionLength {
        /// The kind.
        section: u32,
        /// Where it starts in the file.
        offset: u64,
        /// Bytes the index header calls for; for tables of entries, the nearest length that would do.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A field of the index header is outside its range.
    #[error("index header field {field} is {found}, expected {expected}: build the index again")]
    IndexHeader {
        /// The field.
        field: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// What it is.
        found: u64,
    },
}

/// Why a file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The operating system said no.
    #[error("the file could not be written")]
    Io(#[from] io::Error),
    /// More sections than a file may have.
    #[error("{found} sections, at most {SECTIONS_MAX} fit into a file")]
    TooManySections {
        /// How many were asked for.
        found: u32,
    },
    /// Another number of sections was written than announced.
    #[error("{found} sections were written, {expected} were announced")]
    SectionCount {
        /// How many were announced.
        expected: u32,
        /// How many were written.
        found: u32,
    },
    /// A section of the same kind was written before.
    #[error("section {section} was written twice")]
    SectionTwice {
        /// The kind.
        section: u32,
    },
    /// The file would be longer than a reader accepts.
    #[error("the file would have {found} bytes, at most {FILE_BYTES_MAX} are allowed: use fewer items or dimensions")]
    TooLong {
        /// Bytes it would have.
        found: u64,
    },
    /// More items than an index may have.
    #[error("{found} items, at most {ITEMS_MAX} fit into an index")]
    TooManyItems {
        /// How many there are.
        found: u64,
    },
    /// A key is empty or too long.
    #[error("the key of item {ordinal} has {found} bytes, expected 1 to {KEY_BYTES_MAX}")]
    KeyLength {
        /// The item.
        ordinal: u32,
        /// Bytes of its key.
        found: usize,
    },
    /// Two items have the same key.
    #[error("items {first} and {second} have the same key {key:?}: give every item a key of its own")]
    KeyTwice {
        /// The first of them.
        first: u32,
        /// The other.
        second: u32,
        /// The key.
        key: String,
    },
    /// No seed spreads the keys well enough.
    #[error("no seed brings every key within {KEY_PROBES_MAX} slots of its place: the keys look made to collide")]
    KeysCollide,
    /// Attributes for another number of items than there are.
    #[error("attributes for {found} items, expected {expected} or none")]
    AttributeCount {
        /// Items there are.
        expected: u64,
        /// Items with attributes.
        found: u64,
    },
    /// More attribute fields than an index may have.
    #[error("{found} attribute fields, at most {FIELDS_MAX} fit into an index: keep those that filters need")]
    TooManyFields {
        /// How many there are.
        found: u64,
    },
    /// The name of an attribute field is empty or too long.
    #[error("item {ordinal} has an attribute whose name has {found} bytes, expected 1 to {FIELD_NAME_BYTES_MAX}")]
    FieldName {
        /// The item.
        ordinal: u32,
        /// Bytes of the name.
        found: usize,
    },
    /// The value of an attribute is too long.
    #[error("item {ordinal}, attribute {field:?}: the value has {found} bytes, expected at most {TERM_BYTES_MAX}")]
    TermLength {
        /// The item.
        ordinal: u32,
        /// The field.
        field: String,
        /// Bytes of the value.
        found: usize,
    },
    /// The number of an attribute is not finite.
    #[error("item {ordinal}, attribute {field:?}: the number is {found}, expected a finite one")]
    Number {
        /// The item.
        ordinal: u32,
        /// The field.
        field: String,
        /// The number.
        found: f64,
    },
}

/// Why a filter cannot be evaluated. The caller wrote it; the index is not at fault.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum FilterError {
    /// No item has such an attribute.
    #[error("there is no field {field:?}; the fields are {}", known_fields(known))]
    UnknownField {
        /// The field asked for.
        field: String,
        /// The fields that there are, in order.
        known: Vec<String>,
    },
    /// The field holds numbers only and was compared with text, or the other way round.
    #[error("field {field:?} holds {holds}, and was asked for {asked}: use the condition for {holds}")]
    WrongType {
        /// The field.
        field: String,
        /// What its values are.
        holds: &'static str,
        /// What the filter takes them for.
        asked: &'static str,
    },
    /// A bound of a range is not a number.
    #[error("a bound for field {field:?} is not a number")]
    BoundNotANumber {
        /// The field.
        field: String,
    },
    /// The middle or radius of a circle is outside its range.
    #[error("the circle around {field:?} needs a lat of -90 to 90, a lon of -180 to 180 and a radius_m of at least 0")]
    NoCircle {
        /// The point asked for.
        field: String,
    },
    /// Conditions stand too deep in one another.
    #[error("the filter is nested more than {FILTER_DEPTH_MAX} deep: write it with fewer groups in groups")]
    TooDeep,
    /// Too many conditions and values.
    #[error("the filter has more than {FILTER_PARTS_MAX} conditions and values: ask for fewer at a time")]
    TooLarge,
    /// The conditions together let too many items pass.
    #[error(
        "the conditions of the filter pass {steps} items and values one by one, {limit} is the most: use fewer conditions, and narrower circles and ranges"
    )]
    TooCostly {
        /// Items and values, estimated.
        steps: u64,
        /// How many may be.
        limit: u64,
    },
}

fn known_fields(known: &[String]) -> String {
    if known.is_empty() { "none: this index has no attributes".to_owned() } else { known.join(", ") }
}

/// Why a file could not be mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MapError {
    /// The operating system said no.
    #[error("{path} could not be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: opened, looked at, mapped.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Only regular files have a length that can be trusted.
    #[error("{path} is not a regular file: map the file itself")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// There is nothing to map.
    #[error("{path} is empty: copy or build it again")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Somebody holds an exclusive lock, so the file is being written.
    #[error("{path} is locked by a writer: wait until it is written, or open a published artifact")]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

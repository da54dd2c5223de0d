//! What can be wrong with a file that opened.

use thiserror::Error;

use crate::format::{KEY_BYTES_MAX, KEY_PROBES_MAX, section};

/// Why an opened file is not whole. The remedy is always the same: copy the file again from where it was whole, or build it again.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum VerifyError {
    /// A section is not what was written.
    #[error(
        "section {section} ({}) at offset {offset} has checksum {found:08x}, expected {expected:08x}: \
         copy or build the file again",
        section::name(*section)
    )]
    Checksum {
        /// The kind.
        section: u32,
        /// Where it starts in the file.
        offset: u64,
        /// The checksum in the section table.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
    /// A byte that lies between sections is not zero.
    #[error("the padding byte at offset {offset} is {found}, expected 0: copy or build the file again")]
    Padding {
        /// Offset in the file.
        offset: u64,
        /// The byte.
        found: u8,
    },
    /// A link leads nowhere.
    #[error("link {place} of item {ordinal} on level {level} is {found}: {problem}; build the index again")]
    Link {
        /// The item it starts from.
        ordinal: u32,
        /// The level.
        level: u32,
        /// Which of its links, from 0.
        place: u32,
        /// The link.
        found: u32,
        /// What is wrong with it.
        problem: LinkProblem,
    },
    /// The levels of the graph contradict each other.
    #[error("{field} of item {ordinal} is {found}, expected {expected}: build the index again")]
    Level {
        /// The item.
        ordinal: u32,
        /// What about it: its level, its first slot, or its being the entry point.
        field: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A float of a row is not finite, or the row's squared length is not.
    #[error("the row of item {ordinal} has a value that is not finite, or too large to be multiplied: train again")]
    RowNotFinite {
        /// The item.
        ordinal: u32,
    },
    /// A row that must be of unit length is not.
    #[error("the row of item {ordinal} has squared length {found}, expected 1: build the index again")]
    RowLength {
        /// The item.
        ordinal: u32,
        /// Its squared length.
        found: f32,
    },
    /// A float behind the end of a row is not zero.
    #[error("the padding behind the row of item {ordinal} is not zero: build the index again")]
    RowPadding {
        /// The item.
        ordinal: u32,
    },
    /// The scale of a dimension's codes is not a positive number.
    #[error(
        "the scale of the codes of dimension {dimension} is {found}, expected a positive number: build the index again"
    )]
    CodeScale {
        /// The dimension.
        dimension: usize,
        /// The scale.
        found: f32,
    },
    /// The codes of a row are not those that its values give.
    #[error("the codes of item {ordinal} are not those of its row: build the index again")]
    Codes {
        /// The item.
        ordinal: u32,
    },
    /// A code is one that no value has.
    #[error("a code of item {ordinal} is 0, expected 1 to 255: build the index again")]
    CodeRange {
        /// The item.
        ordinal: u32,
    },
    /// The longest items are not those that the rows say, or not in their order.
    #[error("place {place} of the longest items: {problem}: build the index again")]
    Longest {
        /// The place, from 0.
        place: usize,
        /// What is wrong there.
        problem: LongestProblem,
    },
    /// The offsets of the keys do not cut the key bytes into pieces of 1 to 256 bytes.
    #[error(
        "the key of item {ordinal} {}, expected 1 to {KEY_BYTES_MAX} bytes: build the index again",
        key_length(*found)
    )]
    KeyLength {
        /// The item.
        ordinal: u32,
        /// Its length; `u64::MAX` where it would end before it starts.
        found: u64,
    },
    /// The offsets of the keys do not start at 0, or do not end at the end of the key bytes.
    #[error("key offset {place} is {found}, expected {expected}: build the index again")]
    KeyOffset {
        /// Which offset.
        place: u64,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A key is not text.
    #[error("the key of item {ordinal} is not UTF-8 from its byte {offset} on: build the index again")]
    KeyUtf8 {
        /// The item.
        ordinal: u32,
        /// Bytes of the key that are.
        offset: u64,
    },
    /// Two items have the same key.
    #[error("items {first} and {second} have the same key: build the index again")]
    KeyTwice {
        /// The item that a look-up finds.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A look-up of an item's key does not find the item.
    #[error("the key table does not lead to item {ordinal} within {KEY_PROBES_MAX} slots: build the index again")]
    KeyNotFound {
        /// The item.
        ordinal: u32,
    },
    /// A slot of the key table is neither empty nor an item, or there are more slots taken than items.
    #[error("slot {slot} of the key table holds {found}, expected {expected}: build the index again")]
    KeySlot {
        /// The slot.
        slot: u64,
        /// What would be right there.
        expected: &'static str,
        /// What it holds.
        found: u32,
    },
    /// An attribute table is wrong.
    #[error("section {section} ({}), entry {entry}: {problem}; build the index again", section::name(*section))]
    Attribute {
        /// The section.
        section: u32,
        /// The entry in it.
        entry: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn key_length(found: u64) -> String {
    if found == u64::MAX { "ends before it starts".to_owned() } else { format!("has {found} bytes") }
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkProblem {
    /// It is not below n.
    #[error("there is no such item")]
    OutOfRange,
    /// It leads back to where it starts.
    #[error("an item must not link to itself")]
    ToItself,
    /// It stands behind an unused place.
    #[error("links must be filled from the left")]
    AfterUnused,
    /// It leads to an item that is not on this level.
    #[error("that item is not on this level")]
    NotOnLevel,
}

/// What is wrong with one of the longest items.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LongestProblem {
    /// Its ordinal is not below n.
    #[error("there is no such item")]
    OutOfRange,
    /// It is among them already.
    #[error("the item stands there twice")]
    Twice,
    /// Its length is not that of its row.
    #[error("the length is not that of the row")]
    Length,
    /// It is longer than the one before it.
    #[error("the item is longer than the one before it")]
    Order,
    /// Its codes, or those of one of the fifteen behind it, are not those that the index has for it.
    #[error("from there on the codes are not copies of those of the items")]
    Codes,
    /// An item that is longer than the last of them is not among them.
    #[error("a longer item was left out")]
    LeftOut,
}

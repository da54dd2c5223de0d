//! The sections of `model.kin` and its header, and the cheap checks made when it is opened.

use kindred_index::format::row_stride;
use kindred_index::{Container, Index};

use super::{ModelError, encoder};
use crate::limits;

/// The container kind of `model.kin`.
pub(super) const MODEL_CONTAINER_KIND: u16 = 2;

/// Bytes of the model header.
pub(super) const HEADER_BYTES: usize = 64;

const FLAG_CONTEXT: u32 = 1;
const FLAG_SESSIONS: u32 = 2;
const FLAG_ENCODER: u32 = 4;

/// The sections and how to look at them.
pub(super) mod section {
    use kindred_index::{Container, cast};

    /// A section: its kind in the file, its name in the documents.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Section {
        pub(crate) kind: u32,
        pub(crate) name: &'static str,
    }

    /// n × stride floats; absent in a symmetric model.
    pub(crate) const CONTEXT: Section = Section { kind: 100, name: "CONTEXT" };
    /// n × k ordinals, nearest first, unused places at the end `u32::MAX`.
    pub(crate) const NEIGHBOURS: Section = Section { kind: 101, name: "NEIGHBOURS" };
    /// n × k floats.
    pub(crate) const NEIGHBOUR_SIMILARITIES: Section = Section { kind: 102, name: "NEIGHBOUR_SIMILARITIES" };
    /// n floats, 0 to 1.
    pub(crate) const POPULARITY: Section = Section { kind: 103, name: "POPULARITY" };
    /// n ordinals, the most popular first.
    pub(crate) const POPULAR: Section = Section { kind: 104, name: "POPULAR" };
    /// n + 1 offsets into the JSON.
    pub(crate) const CATALOG_OFFSETS: Section = Section { kind: 105, name: "CATALOG_OFFSETS" };
    /// The catalogue entries, end to end.
    pub(crate) const CATALOG_JSON: Section = Section { kind: 106, name: "CATALOG_JSON" };
    /// The header.
    pub(crate) const MODEL_HEADER: Section = Section { kind: 107, name: "MODEL_HEADER" };

    /// One offset a session and one more; this section and the next three only where the model keeps sessions.
    pub(crate) const SESSION_OFFSETS: Section = Section { kind: 120, name: "SESSION_OFFSETS" };
    /// Ordinals, session by session, the oldest session first.
    pub(crate) const SESSION_ITEMS: Section = Section { kind: 121, name: "SESSION_ITEMS" };
    /// n + 1 offsets.
    pub(crate) const ITEM_SESSION_OFFSETS: Section = Section { kind: 122, name: "ITEM_SESSION_OFFSETS" };
    /// Sessions, item by item, the newest session first.
    pub(crate) const ITEM_SESSIONS: Section = Section { kind: 123, name: "ITEM_SESSIONS" };

    /// Hashes of features, ascending; this section and the next three only where the model has an encoder.
    pub(crate) const FEATURE_KEYS: Section = Section { kind: 130, name: "FEATURE_KEYS" };
    /// A float a feature.
    pub(crate) const FEATURE_WEIGHTS: Section = Section { kind: 131, name: "FEATURE_WEIGHTS" };
    /// Features × dimensions floats.
    pub(crate) const FEATURE_ROWS: Section = Section { kind: 132, name: "FEATURE_ROWS" };
    /// The same for context rows; absent in a symmetric model.
    pub(crate) const FEATURE_CONTEXT_ROWS: Section = Section { kind: 133, name: "FEATURE_CONTEXT_ROWS" };

    /// A section as floats; empty where it is missing, which opening has ruled out.
    pub(crate) fn floats<D: AsRef<[u8]>>(data: &Container<D>, section: Section) -> &[f32] {
        data.section(section.kind).and_then(cast).unwrap_or_default()
    }

    /// A section as 32-bit words.
    pub(crate) fn words<D: AsRef<[u8]>>(data: &Container<D>, section: Section) -> &[u32] {
        data.section(section.kind).and_then(cast).unwrap_or_default()
    }

    /// A section as 64-bit words.
    pub(crate) fn longs<D: AsRef<[u8]>>(data: &Container<D>, section: Section) -> &[u64] {
        data.section(section.kind).and_then(cast).unwrap_or_default()
    }
}

/// The model header: n, dimensions, stride, k, flags as u32, four zero bytes, the fingerprint of the index as u64, zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) n: u32,
    pub(super) dimensions: u32,
    pub(super) stride: u32,
    pub(super) k_neighbours: u32,
    pub(super) has_context: bool,
    pub(super) has_sessions: bool,
    pub(super) has_encoder: bool,
    pub(super) index_fingerprint: u64,
}

/// What identifies the content of an index: FNV-1a over kind, place, length and checksum of each of its sections.
///
/// `model.kin` carries it, so that files of two builds cannot be opened together. Costs nothing: the checksums are in the
/// section table.
pub fn index_fingerprint<D: AsRef<[u8]>>(index: &Index<D>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for section in index.sections() {
        for word in [u64::from(section.kind), section.offset, section.len, u64::from(section.crc)] {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    hash
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let flag = |has: bool, flag: u32| if has { flag } else { 0 };
        let flags = flag(self.has_context, FLAG_CONTEXT)
            | flag(self.has_sessions, FLAG_SESSIONS)
            | flag(self.has_encoder, FLAG_ENCODER);
        let words = [self.n, self.dimensions, self.stride, self.k_neighbours, flags];
        for (into, word) in bytes.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        for (into, byte) in bytes.iter_mut().skip(24).zip(self.index_fingerprint.to_le_bytes()) {
            *into = byte;
        }
        bytes
    }

    pub(super) fn read<D: AsRef<[u8]>>(data: &Container<D>) -> Result<Self, ModelError> {
        let section::Section { kind, name } = section::MODEL_HEADER;
        let bytes = data.section(kind).ok_or(ModelError::SectionMissing { section: kind, name })?;
        let size = |found: usize| ModelError::SectionSize {
            section: kind,
            name,
            expected: HEADER_BYTES as u64,
            found: found as u64,
        };
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| size(bytes.len()))?;
        let [n, dimensions, stride, k_neighbours, flags, zero] = std::array::from_fn(|word| {
            let [a, b, c, d] = std::array::from_fn(|byte| bytes[4 * word + byte]);
            u32::from_le_bytes([a, b, c, d])
        });
        let index_fingerprint = u64::from_le_bytes(std::array::from_fn(|byte| bytes[24 + byte]));
        let known = FLAG_CONTEXT | FLAG_SESSIONS | FLAG_ENCODER;
        expect("flags", u64::from(known), u64::from(flags), flags & !known == 0)?;
        expect("padding", 0, u64::from(zero), zero == 0 && bytes[32..].iter().all(|byte| *byte == 0))?;
        let most = limits::NEIGHBOURS_PER_ITEM_MAX as u32;
        expect("k_neighbours", u64::from(most), u64::from(k_neighbours), k_neighbours <= most)?;
        let has = |flag: u32| flags & flag != 0;
        let (has_context, has_sessions, has_encoder) = (has(FLAG_CONTEXT), has(FLAG_SESSIONS), has(FLAG_ENCODER));
        Ok(Self { n, dimensions, stride, k_neighbours, has_context, has_sessions, has_encoder, index_fingerprint })
    }

    /// Every section is there with exactly the size that the header calls for.
    pub(super) fn check_sections<D: AsRef<[u8]>>(&self, data: &Container<D>) -> Result<(), ModelError> {
        let n = u64::from(self.n);
        let table = n.saturating_mul(u64::from(self.k_neighbours)).saturating_mul(4);
        let context = n.saturating_mul(u64::from(self.stride)).saturating_mul(4);
        let sizes = [
            (section::NEIGHBOURS, table),
            (section::NEIGHBOUR_SIMILARITIES, table),
            (section::POPULARITY, 4 * n),
            (section::POPULAR, 4 * n),
            (section::CATALOG_OFFSETS, 8 * (n + 1)),
        ];
        for (section, expected) in sizes {
            size(data, section, expected)?;
        }
        if self.has_context {
            size(data, section::CONTEXT, context)?;
        }
        if self.has_sessions {
            size(data, section::ITEM_SESSION_OFFSETS, 4 * (n + 1))?;
            for section::Section { kind, name } in
                [section::SESSION_OFFSETS, section::SESSION_ITEMS, section::ITEM_SESSIONS]
            {
                data.section(kind).ok_or(ModelError::SectionMissing { section: kind, name })?;
            }
        }
        if self.has_encoder {
            let section::Section { kind, name } = section::FEATURE_KEYS;
            let keys = data.section(kind).ok_or(ModelError::SectionMissing { section: kind, name })?.len() as u64;
            size(data, section::FEATURE_KEYS, keys / 8 * 8)?;
            let most = limits::ENCODER_FEATURES_MAX as u64;
            expect("features", most, keys / 8, keys / 8 <= most)?;
            encoder::sizes(keys / 8, self.dimensions, self.has_context)
                .try_for_each(|(section, expected)| size(data, section, expected))?;
        }
        let section::Section { kind, name } = section::CATALOG_JSON;
        data.section(kind).map(|_| ()).ok_or(ModelError::SectionMissing { section: kind, name })
    }

    /// The header speaks of this index and no other.
    pub(super) fn check_index<D: AsRef<[u8]>>(&self, index: &Index<D>) -> Result<(), ModelError> {
        let found = index_fingerprint(index);
        if found != self.index_fingerprint {
            return Err(ModelError::Mismatch { expected: self.index_fingerprint, found });
        }
        let dimensions = index.dimensions() as u64;
        expect("n", u64::from(index.len()), u64::from(self.n), index.len() == self.n)?;
        expect("dimensions", dimensions, u64::from(self.dimensions), dimensions == u64::from(self.dimensions))?;
        let stride = u64::from(row_stride(self.dimensions));
        expect("stride", stride, u64::from(self.stride), stride == u64::from(self.stride))
    }
}

fn size<D: AsRef<[u8]>>(data: &Container<D>, section: section::Section, expected: u64) -> Result<(), ModelError> {
    let section::Section { kind, name } = section;
    let bytes = data.section(kind).ok_or(ModelError::SectionMissing { section: kind, name })?;
    let found = bytes.len() as u64;
    if found != expected {
        return Err(ModelError::SectionSize { section: kind, name, expected, found });
    }
    Ok(())
}

fn expect(field: &'static str, expected: u64, found: u64, holds: bool) -> Result<(), ModelError> {
    if holds { Ok(()) } else { Err(ModelError::Header { field, expected, found }) }
}

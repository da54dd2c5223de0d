//! A small index made by hand, without the graph builders, and the means to damage it: section by section with the checksums made
//! good again, so that what is tested is the check of the content and not the checksum.
//!
//! Also used by the fuzz target, which grows its corpus from it.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use kindred_index::format::{
    self, FileHeader, INDEX_CONTAINER_KIND, IndexHeader, NONE, SectionEntry, row_stride, section,
};
use kindred_index::{AlignedBytes, AttributeTables, ContainerWriter, Index, ItemAttributes, KeyTable, crc32};

/// Items of the small index.
pub const N: u32 = 24;
pub const DIMENSIONS: u32 = 5;
pub const M: u32 = 2;
pub const M0_STRIDE: u32 = 16;
const COLOURS: [&str; 4] = ["blue", "grün", "red", "white"];

/// SplitMix64: the same numbers everywhere, for ever, so that the golden file can be made again.
pub struct Noise(pub u64);

impl Noise {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn unit(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

/// The key of an item of the small index.
pub fn key(ordinal: u32) -> String {
    format!("clé-{}", ordinal * 7919)
}

/// The attributes of an item: a colour (two for every seventh), a price for all but every fifth, `rare` for item 3.
pub fn attributes(ordinal: u32) -> ItemAttributes {
    let colour = |i: u32| ("colour".to_owned(), COLOURS[i as usize % COLOURS.len()].to_owned());
    let mut terms = vec![colour(ordinal)];
    if ordinal.is_multiple_of(7) {
        terms.push(colour(ordinal + 1));
    }
    if ordinal == 3 {
        terms.push(("rare".to_owned(), "yes".to_owned()));
    }
    let priced = !ordinal.is_multiple_of(5);
    let numbers = if priced { vec![("price".to_owned(), f64::from(ordinal % 8) - 2.0)] } else { Vec::new() };
    ItemAttributes { terms, numbers }
}

/// The level of an item: 0 is the entry point, on level 2.
pub fn level(ordinal: u32) -> u8 {
    match ordinal {
        0 => 2,
        ordinal if ordinal.is_multiple_of(6) => 1,
        _ => 0,
    }
}

/// Bytes of the small index: rows of unit length, each item linked to three on either side around a ring.
pub fn small() -> AlignedBytes {
    sized(N, DIMENSIONS)
}

/// As [`small`], with any number of items from 24 on, and any number of dimensions.
pub fn sized(n: u32, dimensions: u32) -> AlignedBytes {
    let keys: Vec<String> = (0..n).map(key).collect();
    let keys = KeyTable::build(&keys).unwrap();
    let attributes: Vec<ItemAttributes> = (0..n).map(attributes).collect();
    let attributes = AttributeTables::build(n, &attributes).unwrap();
    let graph = Ring::new(n);
    let header = IndexHeader {
        n,
        dimensions,
        row_stride: row_stride(dimensions),
        m: M,
        m0_stride: M0_STRIDE,
        max_level: 2,
        entry_point: 0,
        metric: 1,
        edges: 1,
        key_table_log2: keys.log2(),
        key_hash_seed: keys.seed(),
        flags: 0,
        zero: [0; 12],
    };
    let mut bytes = AlignedBytes::new();
    let rows = rows(n, dimensions);
    let (scales, codes) = codes(&rows, dimensions as usize);
    let mut writer = ContainerWriter::create(&mut bytes, INDEX_CONTAINER_KIND, section::COUNT).unwrap();
    let mut add = |kind, bytes: &[u8]| writer.section(kind, |w| w.write_all(bytes)).unwrap();
    add(section::INDEX_HEADER, &header_bytes(&header));
    add(section::VECTORS, &floats(&rows));
    add(section::LINKS0, &words(&graph.links0));
    add(section::LEVELS, &graph.levels);
    add(section::UPPER_INDEX, &words(&graph.upper_index));
    add(section::UPPER_LINKS, &words(&graph.upper_links));
    keys.write(&mut writer).unwrap();
    attributes.write(&mut writer).unwrap();
    let mut add = |kind, bytes: &[u8]| writer.section(kind, |w| w.write_all(bytes)).unwrap();
    add(section::CODE_SCALES, &floats(&scales));
    add(section::CODES, &codes);
    writer.finish().unwrap();
    bytes
}

/// As [`small`], of 40 dimensions, by inner product, with rows of two bytes a value and its six longest items laid out: all by FORMAT.md and not
/// by the crate.
pub fn small_fine() -> AlignedBytes {
    const WIDE: usize = 40;
    const LONGEST: usize = 6;
    let mut parts = Parts::of(&sized(N, WIDE as u32));
    let header = parts.header();
    parts.set_header(&IndexHeader { metric: 2, edges: 2, ..header });
    let rows: Vec<Vec<f32>> = rows(N, WIDE as u32)
        .chunks(header.row_stride as usize)
        .enumerate()
        .map(|(item, row)| row[..WIDE].iter().map(|value| value * (1.0 + (item * 7 % 24) as f32 / 8.0)).collect())
        .collect();
    let scale = |d: usize| rows.iter().map(|row| row[d].abs()).fold(0.0, f32::max) / 127.0;
    let scales: Vec<f32> = (0..WIDE).map(scale).collect();
    let (mut codes, mut fine, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let parts = |d: usize| (row[d] / scales[d] * 256.0).round_ties_even() as i32;
        let step = |d: usize| (parts(d) + 128).div_euclid(256);
        codes.extend((0..WIDE).map(|d| (step(d) + 128) as u8));
        fine.extend((0..WIDE).map(|d| (parts(d) - 256 * step(d) + 128) as u8));
        codes.resize(codes.len().next_multiple_of(64), 128);
        fine.resize(codes.len(), 128);
        let value = |d: usize| f64::from(parts(d) as f32 * (scales[d] / 256.0));
        lengths.push((0..WIDE).map(|d| value(d) * value(d)).sum::<f64>().sqrt() as f32);
    }
    let mut longest: Vec<usize> = (0..N as usize).collect();
    longest.sort_by(|a, b| lengths[*b].total_cmp(&lengths[*a]).then(a.cmp(b)));
    longest.truncate(LONGEST);
    let mut woven = vec![128; 16 * 64];
    for (place, item) in longest.iter().enumerate() {
        for d in 0..64 {
            woven[64 * (d / 4) + 4 * place + d % 4] = codes[64 * item + d];
        }
    }
    let ordinals: Vec<u32> = longest.iter().map(|item| *item as u32).collect();
    let their_lengths: Vec<f32> = longest.iter().map(|item| lengths[*item]).collect();
    parts.section(section::VECTORS).clear();
    *parts.section(section::CODE_SCALES) = floats(&scales);
    *parts.section(section::CODES) = codes;
    let more = [
        (section::LONGEST_ORDINALS, words(&ordinals)),
        (section::LONGEST_LENGTHS, floats(&their_lengths)),
        (section::LONGEST_CODES, woven),
        (section::FINE_CODES, fine),
    ];
    parts.sections.extend(more);
    parts.write()
}

/// Scales and codes of padded rows, as FORMAT.md has them.
fn codes(rows: &[f32], dimensions: usize) -> (Vec<f32>, Vec<u8>) {
    let stride = dimensions.next_multiple_of(format::STRIDE_UNIT as usize);
    let longest = |d: usize| rows.chunks(stride).map(|row| row[d].abs()).fold(0.0, f32::max);
    let scales: Vec<f32> = (0..dimensions).map(|d| longest(d) / 127.0).collect();
    let code = |row: &[f32], d: usize| (row[d] / scales[d]).clamp(-127.0, 127.0).round_ties_even() as i16 + 128;
    let mut codes = Vec::new();
    for row in rows.chunks(stride) {
        codes.extend((0..dimensions).map(|d| code(row, d) as u8));
        codes.resize(codes.len().next_multiple_of(64), 128);
    }
    (scales, codes)
}

/// An index without items.
pub fn empty() -> AlignedBytes {
    let mut parts = Parts::of(&small());
    let keep = parts.header();
    parts.set_header(&IndexHeader { n: 0, max_level: 0, entry_point: NONE, key_table_log2: 0, ..keep });
    parts.sections.iter_mut().filter(|(kind, _)| **kind != section::INDEX_HEADER).for_each(|(_, bytes)| bytes.clear());
    parts.sections.insert(section::KEY_OFFSETS, vec![0; 8]);
    parts.sections.insert(section::KEY_TABLE, vec![0xFF; 4]);
    parts.write()
}

fn rows(n: u32, dimensions: u32) -> Vec<f32> {
    let mut noise = Noise(7);
    let mut rows = Vec::new();
    for _ in 0..n {
        let row: Vec<f32> = (0..dimensions).map(|_| noise.unit()).collect();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        rows.extend(row.iter().map(|value| value / length));
        rows.resize(rows.len().next_multiple_of(format::STRIDE_UNIT as usize), 0.0);
    }
    rows
}

/// A graph in which every item is reached: rings of neighbours, on every level among the items of that level.
struct Ring {
    links0: Vec<u32>,
    levels: Vec<u8>,
    upper_index: Vec<u32>,
    upper_links: Vec<u32>,
}

impl Ring {
    fn new(n: u32) -> Self {
        let levels: Vec<u8> = (0..n).map(level).collect();
        let mut links0 = Vec::new();
        for i in 0..n {
            links0.extend([1, 2, 3, n - 1, n - 2, n - 3].map(|step| (i + step) % n));
            links0.resize(((i + 1) * M0_STRIDE) as usize, NONE);
        }
        let members: Vec<Vec<u32>> = (0..=2).map(|at| (0..n).filter(|i| levels[*i as usize] >= at).collect()).collect();
        let (mut upper_index, mut upper_links) = (Vec::new(), Vec::new());
        for (ordinal, top) in (0..).zip(&levels) {
            upper_index.push(if *top == 0 { NONE } else { upper_links.len() as u32 / M });
            for on_level in &members[1..=*top as usize] {
                let place = on_level.binary_search(&ordinal).unwrap();
                let others =
                    (1..on_level.len().min(1 + M as usize)).map(|step| on_level[(place + step) % on_level.len()]);
                upper_links.extend(others.chain([NONE; M as usize]).take(M as usize));
            }
        }
        Self { links0, levels, upper_index, upper_links }
    }
}

/// The sections of a file, to be changed and written again with good checksums.
#[derive(Clone)]
pub struct Parts {
    pub sections: BTreeMap<u32, Vec<u8>>,
}

impl Parts {
    pub fn of(bytes: &AlignedBytes) -> Self {
        let index = Index::open(bytes.clone()).unwrap();
        let container = index.container();
        let bytes_of = |kind| container.section(kind).unwrap().to_vec();
        Self { sections: index.sections().map(|section| (section.kind, bytes_of(section.kind))).collect() }
    }

    pub fn write(&self) -> AlignedBytes {
        let mut bytes = AlignedBytes::new();
        let mut writer = ContainerWriter::create(&mut bytes, INDEX_CONTAINER_KIND, self.sections.len() as u32).unwrap();
        for (kind, section) in &self.sections {
            writer.section(*kind, |w| w.write_all(section)).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    pub fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        self.sections.get_mut(&kind).unwrap()
    }

    pub fn set_u32(&mut self, kind: u32, place: usize, value: u32) {
        self.section(kind)[place * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn get_u32(&self, kind: u32, place: usize) -> u32 {
        u32::from_le_bytes(self.sections[&kind][place * 4..][..4].try_into().unwrap())
    }

    pub fn set_u64(&mut self, kind: u32, place: usize, value: u64) {
        self.section(kind)[place * 8..][..8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn get_u64(&self, kind: u32, place: usize) -> u64 {
        u64::from_le_bytes(self.sections[&kind][place * 8..][..8].try_into().unwrap())
    }

    pub fn set_f32(&mut self, kind: u32, place: usize, value: f32) {
        self.set_u32(kind, place, value.to_bits());
    }

    pub fn header(&self) -> IndexHeader {
        zerocopy::FromBytes::read_from_bytes(self.sections[&section::INDEX_HEADER].as_slice()).unwrap()
    }

    pub fn set_header(&mut self, header: &IndexHeader) {
        *self.section(section::INDEX_HEADER) = header_bytes(header);
    }
}

fn header_bytes(header: &IndexHeader) -> Vec<u8> {
    zerocopy::IntoBytes::as_bytes(header).to_vec()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Makes magic, version, length and every checksum good again, as far as the table makes sense: what a forger would do.
pub fn mend_checksums(bytes: &mut [u8]) {
    const HEADER: usize = size_of::<FileHeader>();
    const ENTRY: usize = size_of::<SectionEntry>();
    let len = bytes.len();
    if len < HEADER {
        return;
    }
    bytes[..8].copy_from_slice(&format::MAGIC);
    bytes[8..10].copy_from_slice(&format::FORMAT_VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    let n_sections = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let table_end = HEADER + ENTRY * n_sections.min((len - HEADER) / ENTRY);
    for entry in (HEADER..table_end).step_by(ENTRY) {
        let [offset, length] =
            [8, 16].map(|at| u64::from_le_bytes(bytes[entry + at..][..8].try_into().unwrap()) as usize);
        let crc = offset.checked_add(length).and_then(|end| bytes.get(offset..end)).map_or(0, crc32);
        bytes[entry + 4..][..4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes[24..28].fill(0);
    let crc = crc32(&bytes[..table_end]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
}

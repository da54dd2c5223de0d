//! Content that is wrong behind good checksums, as a faulty or hostile writer would make it: the check of the content itself must find it,
//! name it and its place, and nothing may panic. These tests write the damaged sections anew, so that every checksum is right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/damage.rs"]
mod damage;
mod support;

use damage::{forged, forged_header, open_error, read, verify_error};
use kindred_index::format::{self, IndexHeader, NONE, section};
use kindred_index::{Index, LinkProblem, OpenError, VerifyError};
use support::{DIMENSIONS, M, M0_STRIDE, N, Parts};

#[test]
fn fields_of_the_index_header_out_of_range() {
    let field = |error| match error {
        OpenError::IndexHeader { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(forged_header(|h| h.n = u32::MAX)), "n");
    assert_eq!(field(forged_header(|h| h.dimensions = 0)), "dimensions");
    assert_eq!(field(forged_header(|h| h.dimensions = u32::MAX)), "dimensions");
    assert_eq!(field(forged_header(|h| h.row_stride = 0)), "row_stride");
    assert_eq!(field(forged_header(|h| h.m = 0)), "m");
    assert_eq!(field(forged_header(|h| h.m0_stride = 0)), "m0_stride");
    assert_eq!(field(forged_header(|h| h.m0_stride = 17)), "m0_stride");
    assert_eq!(field(forged_header(|h| h.max_level = 16)), "max_level");
    assert_eq!(field(forged_header(|h| h.entry_point = N)), "entry_point");
    assert_eq!(field(forged_header(|h| h.entry_point = NONE)), "entry_point");
    assert_eq!(field(forged_header(|h| h.metric = 3)), "metric");
    assert_eq!(field(forged_header(|h| h.edges = 0)), "edges");
    assert_eq!(field(forged_header(|h| h.key_table_log2 = 5)), "key_table_log2");
    assert_eq!(field(forged_header(|h| h.key_table_log2 = 64)), "key_table_log2");
    assert_eq!(field(forged_header(|h| h.flags = 1)), "flags");
    assert_eq!(field(forged_header(|h| h.zero[11] = 1)), "padding");
    assert!(matches!(forged_header(|h| h.n += 1), OpenError::SectionLength { section: section::VECTORS, .. }));
    let changed = forged_header(|h| h.key_table_log2 += 1);
    assert!(matches!(changed, OpenError::SectionLength { section: section::KEY_TABLE, .. }));
}

#[test]
fn bad_links_on_level_0() {
    let link =
        |place: usize, to: u32| forged(|parts| parts.set_u32(section::LINKS0, M0_STRIDE as usize * 4 + place, to));
    for found in [N, N + 1, u32::MAX - 1, 1 << 31] {
        let problem = LinkProblem::OutOfRange;
        assert_eq!(link(5, found), VerifyError::Link { ordinal: 4, level: 0, place: 5, found, problem });
    }
    let problem = LinkProblem::ToItself;
    assert_eq!(link(0, 4), VerifyError::Link { ordinal: 4, level: 0, place: 0, found: 4, problem });
    let problem = LinkProblem::AfterUnused;
    assert_eq!(link(15, 9), VerifyError::Link { ordinal: 4, level: 0, place: 15, found: 9, problem });
}

#[test]
fn bad_links_on_upper_levels() {
    // Item 0 has slots 0 (level 1) and 1 (level 2), item 6 has slot 2.
    let link = |slot: u32, to: u32| forged(|parts| parts.set_u32(section::UPPER_LINKS, (slot * M) as usize, to));
    let problem = LinkProblem::OutOfRange;
    assert_eq!(link(2, N), VerifyError::Link { ordinal: 6, level: 1, place: 0, found: N, problem });
    let problem = LinkProblem::ToItself;
    assert_eq!(link(2, 6), VerifyError::Link { ordinal: 6, level: 1, place: 0, found: 6, problem });
    let problem = LinkProblem::NotOnLevel;
    assert_eq!(link(2, 7), VerifyError::Link { ordinal: 6, level: 1, place: 0, found: 7, problem });
    assert_eq!(link(1, 6), VerifyError::Link { ordinal: 0, level: 2, place: 0, found: 6, problem });
    let problem = LinkProblem::AfterUnused;
    assert_eq!(link(2, NONE), VerifyError::Link { ordinal: 6, level: 1, place: 1, found: 18, problem });
}

#[test]
fn levels_that_contradict_slots_or_entry_point() {
    let level = |error| match error {
        VerifyError::Level { ordinal, field, .. } => (ordinal, field),
        other => panic!("{other}"),
    };
    assert_eq!(level(forged(|p| p.section(section::LEVELS)[5] = 3)), (5, "the level"));
    assert_eq!(level(forged(|p| p.section(section::LEVELS)[5] = 1)), (5, "the first slot"));
    assert_eq!(level(forged(|p| p.section(section::LEVELS)[6] = 0)), (6, "the first slot"));
    assert_eq!(level(forged(|p| p.set_u32(section::UPPER_INDEX, 6, 0))), (6, "the first slot"));
    assert_eq!(level(forged(|p| p.set_u32(section::UPPER_INDEX, 6, u32::MAX - 1))), (6, "the first slot"));
    let slots = forged(|p| p.section(section::UPPER_LINKS).truncate(4 * M as usize));
    assert_eq!(level(slots), (N - 1, "the number of slots up to that"));
    let mut parts = Parts::of(&support::small());
    let header = parts.header();
    parts.set_header(&IndexHeader { entry_point: 6, ..header });
    assert_eq!(level(verify_error(parts.write())), (6, "the level (it is the entry point)"));
}

#[test]
fn rows_that_cannot_be_searched() {
    let stride = format::row_stride(DIMENSIONS) as usize;
    let value = |place: usize, value: f32| forged(|parts| parts.set_f32(section::VECTORS, 3 * stride + place, value));
    for found in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30] {
        assert_eq!(value(2, found), VerifyError::RowNotFinite { ordinal: 3 });
    }
    assert!(matches!(value(0, 2.0), VerifyError::RowLength { ordinal: 3, .. }));
    for found in [1e-30, -0.0, f32::NAN] {
        assert_eq!(value(stride - 1, found), VerifyError::RowPadding { ordinal: 3 });
    }
}

/// Rows of any length are right when the metric is the inner product; values that cannot be multiplied are not.
#[test]
fn rows_of_an_inner_product_index() {
    let mut parts = Parts::of(&support::small());
    let header = parts.header();
    parts.set_header(&IndexHeader { metric: 2, ..header });
    parts.set_f32(section::VECTORS, 0, 1e6);
    parts.set_f32(section::VECTORS, 16, 0.0);
    // Codes would be those of other rows.
    parts.section(section::CODE_SCALES).clear();
    parts.section(section::CODES).clear();
    read(parts.write()).unwrap();
    parts.set_f32(section::VECTORS, 0, 1e20);
    assert_eq!(verify_error(parts.write()), VerifyError::RowNotFinite { ordinal: 0 });
}

#[test]
fn codes_that_are_not_those_of_the_rows() {
    let small = Parts::of(&support::small());
    // Rounded as if it were a number, the second that is none would be the largest of 16 bits.
    for wrong in [0.0, -0.01, f32::NAN, f32::from_bits(0x7FC0_7FFF), f32::INFINITY, 1e-40] {
        let mut parts = small.clone();
        parts.set_f32(section::CODE_SCALES, 2, wrong);
        assert!(matches!(verify_error(parts.write()), VerifyError::CodeScale { dimension: 2, .. }), "{wrong}");
    }
    for (at, ordinal) in [(0, 0), (64 + 3, 1), (64 * 7 + 63, 7)] {
        let mut parts = small.clone();
        parts.section(section::CODES)[at] ^= 1;
        assert_eq!(verify_error(parts.write()), VerifyError::Codes { ordinal });
    }
    // None at all is fine; scales without codes are not, nor the other way round.
    let mut parts = small.clone();
    parts.section(section::CODES).clear();
    assert!(matches!(open_error(parts.write()), OpenError::SectionLength { section: section::CODES, .. }));
    let mut codes_only = small.clone();
    codes_only.section(section::CODE_SCALES).clear();
    assert!(matches!(open_error(codes_only.write()), OpenError::SectionLength { section: section::CODES, .. }));
    parts.section(section::CODE_SCALES).clear();
    let index = Index::open(parts.write()).unwrap();
    index.verify().unwrap();
    assert!(!index.is_coded());
}

#[test]
fn bad_keys() {
    let start = |parts: &Parts, ordinal: u32| parts.get_u64(section::KEY_OFFSETS, ordinal as usize) as usize;
    let bad_utf8 = forged(|parts| {
        let at = start(parts, 2);
        parts.section(section::KEY_BYTES)[at + 2] = 0xFF;
    });
    assert_eq!(bad_utf8, VerifyError::KeyUtf8 { ordinal: 2, offset: 2 });
    // Items 11 and 12 have keys of equal length; now they have the same.
    let twice = forged(|parts| {
        let (from, to, end) = (start(parts, 11), start(parts, 12), start(parts, 13));
        assert_eq!(to - from, end - to);
        let key = parts.section(section::KEY_BYTES)[from..to].to_vec();
        parts.section(section::KEY_BYTES)[to..end].copy_from_slice(&key);
    });
    assert_eq!(twice, VerifyError::KeyTwice { first: 11, second: 12 });
    let empty = forged(|parts| {
        let before = parts.get_u64(section::KEY_OFFSETS, 4);
        parts.set_u64(section::KEY_OFFSETS, 5, before);
    });
    assert_eq!(empty, VerifyError::KeyLength { ordinal: 4, found: 0 });
    let backwards = forged(|p| p.set_u64(section::KEY_OFFSETS, 5, 0));
    assert!(matches!(backwards, VerifyError::KeyLength { ordinal: 4, found: u64::MAX }));
    assert!(backwards.to_string().starts_with("the key of item 4 ends before it starts, expected 1 to 256 bytes"));
    assert!(matches!(
        forged(|p| p.set_u64(section::KEY_OFFSETS, 5, 1 << 60)),
        VerifyError::KeyLength { ordinal: 4, .. }
    ));
    assert!(matches!(forged(|p| p.set_u64(section::KEY_OFFSETS, 0, 1)), VerifyError::KeyOffset { place: 0, .. }));
    let last = forged(|p| p.set_u64(section::KEY_OFFSETS, N as usize, 3));
    assert!(matches!(last, VerifyError::KeyOffset { place: 24, expected: _, found: 3 }));
    let other = forged(|parts| {
        let at = start(parts, 2);
        parts.section(section::KEY_BYTES)[at..at + 4].copy_from_slice(b"XXXX");
    });
    assert_eq!(other, VerifyError::KeyNotFound { ordinal: 2 });
}

#[test]
fn a_bad_key_table() {
    let parts = Parts::of(&support::small());
    let slots = parts.sections[&section::KEY_TABLE].len() / 4;
    let taken = (0..slots).find(|slot| parts.get_u32(section::KEY_TABLE, *slot) != NONE).unwrap();
    let free = (0..slots).find(|slot| parts.get_u32(section::KEY_TABLE, *slot) == NONE).unwrap();
    let slot = |slot: usize, holds: u32| forged(|parts| parts.set_u32(section::KEY_TABLE, slot, holds));
    assert!(matches!(slot(free, N), VerifyError::KeySlot { found: N, .. }));
    assert!(matches!(slot(free, 3), VerifyError::KeySlot { .. }));
    let ordinal = parts.get_u32(section::KEY_TABLE, taken);
    assert_eq!(slot(taken, NONE), VerifyError::KeyNotFound { ordinal });
    let full = forged(|parts| (0..slots).for_each(|slot| parts.set_u32(section::KEY_TABLE, slot, 0)));
    assert!(matches!(full, VerifyError::KeySlot { slot: 24, .. }), "{full}");
}

/// Entries describe each other, so any change of one is found. Ordinals may change to others that are as good, but not to any that
/// do not exist.
#[test]
fn every_forged_word_of_the_attribute_tables_is_found() {
    const ANY: [u32; 4] = [1, 2, u32::MAX, 1 << 31];
    const FAR: [u32; 3] = [1 << 10, 1 << 20, 1 << 31];
    let sections: [(u32, &[u32]); 4] = [
        (section::ATTRIBUTE_FIELDS, &ANY),
        (section::ATTRIBUTE_TERMS, &ANY),
        (section::POSTINGS, &FAR),
        (section::NUMBER_ORDINALS, &FAR),
    ];
    for (kind, changes) in sections {
        let words = Parts::of(&support::small()).sections[&kind].len() / 4;
        for place in 0..words {
            for add in changes {
                let found = forged(|parts| {
                    let old = parts.get_u32(kind, place);
                    parts.set_u32(kind, place, old.wrapping_add(*add));
                });
                assert!(matches!(found, VerifyError::Attribute { .. }), "section {kind}, word {place}: {found}");
            }
        }
    }
}

#[test]
fn bad_attribute_strings_and_numbers() {
    let problem = |error| match error {
        VerifyError::Attribute { problem, .. } => problem,
        other => panic!("{other}"),
    };
    // The strings start with "colour", then "blue"; "grün" has a two-byte letter.
    assert_eq!(problem(forged(|p| p.section(section::ATTRIBUTE_STRINGS)[6] = b'h')), "the values are not in order");
    assert_eq!(problem(forged(|p| p.section(section::ATTRIBUTE_STRINGS)[0] = b'z')), "the names are not in order");
    assert_eq!(problem(forged(|p| p.section(section::ATTRIBUTE_STRINGS)[12] = b'u')), "its text is not UTF-8");
    for number in [f64::NAN, f64::INFINITY, -0.0] {
        let found = forged(|parts| parts.set_u64(section::NUMBER_VALUES, 3, number.to_bits()));
        assert_eq!(problem(found), "the number is not finite, or is a negative zero");
    }
    let found = forged(|parts| parts.set_u64(section::NUMBER_VALUES, 3, 1e9_f64.to_bits()));
    assert_eq!(problem(found), "the numbers are not in order");
}

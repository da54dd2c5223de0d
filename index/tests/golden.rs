//! One tiny file per format version, committed and never rewritten: what was written once must open for ever, and the writer must
//! write the same bytes again. If this test fails, the change needs a new format version, not a new golden file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use kindred_index::{AlignedBytes, FilterExpr, Index, Metric, Scratch, SearchParams, key_hash};

/// The first row, bit by bit.
const FIRST_ROW_BITS: [u32; 5] = [3_190_753_978, 3_208_638_323, 1_059_008_358, 1_040_433_945, 3_180_797_859];
/// The nearest to item 9, by a reader written from FORMAT.md alone in another language.
const NEAREST_TO_9: [u32; 3] = [9, 13, 2];
/// Hashes of "a" and "item-12345" with seed 0, from the same reader.
const HASH_A: u64 = 0x5E02_5F9A_DE9E_AF3E;
const HASH_B: u64 = 0xE433_047D_EAD5_79D1;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(name: &str, made: fn() -> AlignedBytes) -> AlignedBytes {
    let path = path(name);
    if !path.exists() {
        // Only ever happens once per form of the format, on the machine of whoever adds it.
        fs::write(&path, made()).unwrap();
        panic!("{} was missing and has been written: look at it and commit it", path.display());
    }
    AlignedBytes::from(fs::read(path).unwrap().as_slice())
}

#[test]
fn version_1_opens_verifies_and_answers() {
    let index = Index::open(golden("v1.kin", support::small)).unwrap();
    let report = index.verify().unwrap();
    assert_eq!((report.items, report.links, report.upper_links), (24, 144, 8));
    assert_eq!((report.terms, report.numbers), (5, 19));
    assert_eq!((index.len(), index.dimensions(), index.metric()), (24, 5, Metric::Cosine));
    assert_eq!((index.m(), index.m0_stride(), index.max_level(), index.entry_point()), (2, 16, 2, Some(0)));
    assert_eq!(index.key(3), Some("clé-23757"));
    assert_eq!(index.ordinal("clé-23757"), Some(3));
    assert_eq!(index.ordinal("nobody"), None);
    let first: Vec<u32> = index.row(0).unwrap().iter().map(|value| value.to_bits()).collect();
    assert_eq!(first, FIRST_ROW_BITS);

    let red = FilterExpr::Match { field: "colour".to_owned(), value: "red".to_owned() };
    let red = index.attributes().evaluate(&red, index.len()).unwrap();
    assert_eq!(red.iter().collect::<Vec<_>>(), [2, 6, 10, 14, 18, 21, 22]);
    let price = FilterExpr::Range { field: "price".to_owned(), gt: Some(2.0), gte: None, lt: None, lte: Some(4.0) };
    let price = index.attributes().evaluate(&price, index.len()).unwrap();
    assert_eq!(price.iter().collect::<Vec<_>>(), [6, 13, 14, 21, 22]);

    let mut scratch = Scratch::default();
    for exact in [true, false] {
        let params = SearchParams { k: 3, ef_search: 24, exact };
        index.search(&index.row(9).unwrap(), &params, None, &mut scratch).unwrap();
        let found: Vec<u32> = scratch.hits().iter().map(|hit| hit.ordinal).collect();
        assert_eq!(found, NEAREST_TO_9);
    }
}

#[test]
fn the_writer_still_writes_version_1_byte_by_byte() {
    assert!(
        golden("v1.kin", support::small) == support::small(),
        "the writer writes other bytes than it did when version 1 was made"
    );
}

/// Version 1 with the sections that came later: rows of two bytes a value, and the longest items.
#[test]
fn the_later_sections_open_verify_and_answer() {
    let index = Index::open(golden("v1_fine.kin", support::small_fine)).unwrap();
    index.verify().unwrap();
    assert_eq!((index.len(), index.dimensions(), index.metric()), (24, 40, Metric::InnerProduct));
    assert!(index.is_fine() && index.n_longest() == 6);
    let row = index.row(7).unwrap();
    let mut scratch = Scratch::default();
    for exact in [true, false] {
        let params = SearchParams { k: 3, ef_search: 24, exact };
        index.search(&row, &params, None, &mut scratch).unwrap();
        let found: Vec<u32> = scratch.hits().iter().map(|hit| hit.ordinal).collect();
        assert_eq!((row.len(), found.first()), (40, Some(&7)), "{found:?}");
    }
    assert!(
        golden("v1_fine.kin", support::small_fine) == support::small_fine(),
        "FORMAT.md says other bytes than it did"
    );
}

/// The hash is part of the format: these values are in FORMAT.md.
#[test]
fn the_key_hash_of_the_document() {
    assert_eq!(key_hash(0, b""), 0xE220_A839_7B1D_CDAF);
    assert_eq!(key_hash(0, b"a"), HASH_A);
    assert_eq!(key_hash(0, b"item-12345"), HASH_B);
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMAT.md")).unwrap();
    for hash in [HASH_A, HASH_B] {
        assert!(document.contains(&format!("{hash:016X}")), "FORMAT.md does not have {hash:016X}");
    }
}

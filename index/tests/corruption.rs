//! Accidents of every kind, each answered by a typed error and never by a panic: flipped bits, cut-off files, wrong files, sections
//! that changed places. Opening or the checksums must find them. And whatever passes, with checksums made good or not, no damage
//! may make a look-up or a search panic.
//!
//! Content that is wrong behind good checksums, as a faulty or hostile writer would make it, is the subject of `forgery.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/damage.rs"]
mod damage;
mod support;

use damage::{open_error, read, verify_error};
use kindred_index::format::{IndexHeader, section};
use kindred_index::{AlignedBytes, Container, Index, OpenError, VerifyError};
use support::{DIMENSIONS, Parts};

#[test]
fn the_undamaged_file_is_whole() {
    read(support::small()).unwrap();
    read(support::empty()).unwrap();
    read(support::sized(1_000, 33)).unwrap();
    read(Parts::of(&support::small()).write()).unwrap();
}

#[test]
fn every_flipped_bit_of_header_and_table_is_found_on_opening() {
    let whole = support::small();
    let headers = 64 + 32 * section::COUNT as usize;
    for at in 0..headers {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes.as_mut()[at] ^= 1 << bit;
            open_error(bytes);
        }
    }
}

#[test]
fn every_flipped_bit_of_the_index_header_is_found() {
    let whole = support::small();
    let start = Index::open(whole.clone()).unwrap().sections().next().unwrap().offset as usize;
    for at in start..start + size_of::<IndexHeader>() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes.as_mut()[at] ^= 1 << bit;
            read(bytes).unwrap_err();
        }
    }
}

/// The same with good checksums: only what the header's own checks and those of the content make of it is left. Three fields may
/// take other values without the file becoming wrong: the name of the edge set, the metric, since unit rows suit both, and the
/// dimensions within the same stride, since zeros behind the end of a row may as well be values.
#[test]
fn every_forged_bit_of_the_index_header_is_found() {
    let parts = Parts::of(&support::small());
    for at in 0..size_of::<IndexHeader>() {
        for bit in 0..8 {
            let mut parts = parts.clone();
            parts.section(section::INDEX_HEADER)[at] ^= 1 << bit;
            let header = parts.header();
            let outcome = read(parts.write());
            let suits = [1, 2].contains(&header.metric) && [1, 2, 3].contains(&header.edges);
            let harmless = (28..36).contains(&at) && suits || (DIMENSIONS..=16).contains(&header.dimensions) && at == 4;
            assert!(outcome.is_err() || harmless, "byte {at}, bit {bit}: {header:?}");
        }
    }
}

#[test]
fn every_flipped_byte_of_the_file_is_found() {
    let whole = support::small();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes.as_mut()[at] ^= 0x5A;
        read(bytes).unwrap_err();
    }
}

/// Content that was changed at any byte, with good checksums, opens or not and verifies or not, but never panics in use.
#[test]
fn any_forged_byte_is_survived() {
    let whole = support::small();
    for at in 0..whole.len() {
        for damage in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes.as_mut()[at] ^= damage;
            support::mend_checksums(bytes.as_mut());
            let _ = read(bytes);
        }
    }
}

#[test]
fn every_length_of_a_cut_off_file_is_found() {
    let whole = support::small();
    for len in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes.resize(len);
        let error = open_error(bytes);
        assert!(matches!(error, OpenError::Truncated { found, .. } if found == len as u64), "{len}: {error}");
        // A forger would write the shorter length into the header.
        let mut bytes = AlignedBytes::from(&whole.as_ref()[..len]);
        support::mend_checksums(bytes.as_mut());
        open_error(bytes);
    }
}

#[test]
fn bytes_added_at_the_end_are_found() {
    let mut bytes = support::small();
    let len = bytes.len();
    bytes.resize(len + 64);
    assert_eq!(open_error(bytes), OpenError::TooLong { expected: len as u64, found: len as u64 + 64 });
}

#[test]
fn bytes_that_are_not_aligned_are_refused_with_the_remedy() {
    let whole = support::small();
    let mut shifted = AlignedBytes::zeroed(whole.len() + 8);
    shifted.as_mut()[8..].copy_from_slice(whole.as_ref());
    let error = Index::open(&shifted.as_ref()[8..]).unwrap_err();
    assert_eq!(error, OpenError::Misaligned { expected: 64, found: 8 });
    assert!(error.to_string().contains("AlignedBytes"), "{error}");
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    assert_eq!(open_error(AlignedBytes::new()), OpenError::Truncated { expected: 64, found: 0 });
    let picture = AlignedBytes::from([b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 100]].concat().as_slice());
    assert!(matches!(open_error(picture), OpenError::Magic { .. }));
    let other = Container::open(support::small(), 2).unwrap_err();
    assert_eq!(other, OpenError::Kind { expected: 2, found: 1 });
}

#[test]
fn a_newer_version_is_refused_with_the_remedy() {
    let mut bytes = support::small();
    bytes.as_mut()[8] = 2;
    let error = open_error(bytes);
    assert_eq!(error, OpenError::Version { found: 2 });
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[test]
fn swapped_sections_are_found() {
    let whole = support::small();
    let sections: Vec<_> = Index::open(whole.clone()).unwrap().sections().collect();
    for first in 0..sections.len() {
        for second in first + 1..sections.len() {
            // Two entries of the table change places: out of order.
            let mut bytes = whole.clone();
            let entry = |place| 64 + 32 * place..64 + 32 * (place + 1);
            let (a, b) = (bytes.as_ref()[entry(first)].to_vec(), bytes.as_ref()[entry(second)].to_vec());
            bytes.as_mut()[entry(first)].copy_from_slice(&b);
            bytes.as_mut()[entry(second)].copy_from_slice(&a);
            open_error(bytes.clone());
            support::mend_checksums(bytes.as_mut());
            open_error(bytes);
            // Two sections change their contents: of another length, or not what they should be.
            let mut parts = Parts::of(&whole);
            let (a, b) = (sections[first].kind, sections[second].kind);
            let (from_a, from_b) = (parts.sections[&a].clone(), parts.sections[&b].clone());
            (*parts.section(a), *parts.section(b)) = (from_b, from_a);
            read(parts.write()).unwrap_err();
        }
    }
}

#[test]
fn overlapping_and_wandering_sections_are_found() {
    let whole = support::small();
    let change = |entry: usize, field: usize, change: &dyn Fn(u64) -> u64| {
        let mut bytes = whole.clone();
        let at = 64 + 32 * entry + field;
        let place = &mut bytes.as_mut()[at..at + 8];
        let value = u64::from_le_bytes(place[..8].try_into().unwrap());
        place.copy_from_slice(&change(value).to_le_bytes());
        support::mend_checksums(bytes.as_mut());
        open_error(bytes)
    };
    let (offset, len, reserved) = (8, 16, 24);
    for entry in 0..section::COUNT as usize {
        for wrong in [0, 1, 64, u64::MAX, u64::MAX - 63, 1 << 44] {
            assert!(matches!(change(entry, offset, &|_| wrong), OpenError::SectionTable { field: "offset", .. }));
        }
        assert!(matches!(change(entry, offset, &|old| old + 64), OpenError::SectionTable { field: "offset", .. }));
        for wrong in [u64::MAX, 1 << 44, whole.len() as u64] {
            assert!(matches!(change(entry, len, &|_| wrong), OpenError::SectionTable { field: "length", .. }));
        }
        assert!(matches!(change(entry, reserved, &|_| 1), OpenError::SectionTable { field: "reserved", .. }));
    }
}

#[test]
fn missing_doubled_and_unknown_sections() {
    for kind in 1..=section::COUNT {
        let mut parts = Parts::of(&support::small());
        parts.sections.remove(&kind);
        assert_eq!(open_error(parts.write()), OpenError::SectionMissing { section: kind });
        let mut bytes = support::small();
        let last = 64 + 32 * (section::COUNT as usize - 1);
        bytes.as_mut()[last..last + 4].copy_from_slice(&kind.to_le_bytes());
        support::mend_checksums(bytes.as_mut());
        if kind != section::COUNT {
            assert_eq!(open_error(bytes), OpenError::SectionTwice { section: kind });
        }
    }
    let mut parts = Parts::of(&support::small());
    parts.sections.insert(999, b"of a later version".to_vec());
    read(parts.write()).unwrap();
}

#[test]
fn every_wrong_length_of_a_section_is_found() {
    for kind in 1..=section::COUNT {
        for by in [-8_isize, -4, -1, 1, 4, 8, 64] {
            let mut parts = Parts::of(&support::small());
            let bytes = parts.section(kind);
            let len = bytes.len().saturating_add_signed(by);
            bytes.resize(len, 0);
            read(parts.write()).unwrap_err();
        }
    }
}

#[test]
fn a_byte_of_padding_that_is_not_zero_is_found() {
    let mut bytes = support::small();
    let levels = Index::open(bytes.clone()).unwrap().container().info(section::LEVELS).unwrap();
    let at = levels.offset + levels.len;
    assert!(!at.is_multiple_of(64), "the levels of the small index leave some padding");
    bytes.as_mut()[at as usize] = 9;
    assert_eq!(verify_error(bytes), VerifyError::Padding { offset: at, found: 9 });
}

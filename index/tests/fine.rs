//! Rows of two bytes a value: half the file, the same items found, similarities to four digits, and what is damaged is noticed.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/damage.rs"]
mod damage;
#[path = "support/factors.rs"]
mod factors;
mod support;

use damage::{open_error, read, verify_error};
use factors::{Factors, broadly, clustered, exactly, ordinals, share};
use kindred_index::build::{GraphOptions, HnswBuilder, RowForm, build_index};
use kindred_index::format::{IndexHeader, section};
use kindred_index::{AlignedBytes, Index, Metric, OpenError, Scratch, VerifyError, dot_scalar, normalise};
use support::Parts;

fn bytes(factors: &Factors, metric: Metric, rows: RowForm) -> AlignedBytes {
    factors.build(metric, &GraphOptions { rows, ..GraphOptions::default() }).to_bytes().unwrap()
}

#[test]
fn they_find_what_floats_find_in_half_the_bytes() {
    for (metric, stretch, dims) in
        [(Metric::Cosine, 1.0, 64), (Metric::InnerProduct, 3.0, 40), (Metric::Cosine, 2.0, 100)]
    {
        let factors = clustered(70, 3_000, dims, stretch);
        let whole = Index::open(bytes(&factors, metric, RowForm::Coded)).unwrap();
        let fine = Index::open(bytes(&factors, metric, RowForm::Fine)).unwrap();
        fine.verify().unwrap();
        assert!(fine.is_fine() && !whole.is_fine());
        let stride = dims.next_multiple_of(16) * 4;
        let saved = 3_000 * (stride - dims.next_multiple_of(64)) as u64;
        let difference = whole.container().file_len() - fine.container().file_len();
        assert!(difference.abs_diff(saved) < 20_000, "{difference} {saved}");
        let (mut scratch, mut same, mut found) = (Scratch::default(), 0.0, 0.0);
        let queries = factors.queries(71, 50);
        for query in &queries {
            whole.search(query, &exactly(10), None, &mut scratch).unwrap();
            let truth = ordinals(&scratch);
            fine.search(query, &exactly(10), None, &mut scratch).unwrap();
            same += share(&truth, &ordinals(&scratch)) / queries.len() as f64;
            fine.search(query, &broadly(10, 100), None, &mut scratch).unwrap();
            found += share(&truth, &ordinals(&scratch)) / queries.len() as f64;
            for hit in scratch.hits() {
                let row = whole.row(hit.ordinal).unwrap();
                let mut unit = query.clone();
                if metric == Metric::Cosine {
                    normalise(&mut unit);
                }
                let expected = dot_scalar(&unit, &row);
                let longest = dot_scalar(&unit, &unit).sqrt() * dot_scalar(&row, &row).sqrt();
                assert!((hit.similarity - expected).abs() <= 2e-4 * longest, "{} {expected}", hit.similarity);
            }
        }
        assert!(same > 0.99 && found > 0.95, "{metric:?} {dims}: {same} {found}");
    }
}

#[test]
fn rows_that_they_are_not_close_to_stay_as_they_are() {
    // One row is a million times as long as another, which two bytes could not tell from zero.
    let mut factors = clustered(72, 500, 64, 1.0);
    factors.rows[..64].iter_mut().for_each(|value| *value *= 1e6);
    let index = Index::open(bytes(&factors, Metric::InnerProduct, RowForm::Fine)).unwrap();
    index.verify().unwrap();
    assert!(!index.is_fine() && !index.is_coded(), "nor could one byte");
    assert_eq!(index.row(3).unwrap().as_ref(), factors.row(3));
    // Or so short that single precision takes its square for zero.
    let mut short = clustered(72, 500, 64, 1.0);
    short.rows[..64].iter_mut().for_each(|value| *value *= 1e-28);
    let index = Index::open(bytes(&short, Metric::InnerProduct, RowForm::Fine)).unwrap();
    assert!(!index.is_fine() && index.is_coded());
    assert_eq!(index.row(0).unwrap().as_ref(), short.row(0));
    // By direction they are alike.
    assert!(Index::open(bytes(&factors, Metric::Cosine, RowForm::Fine)).unwrap().is_fine());
    // At 16 dimensions nothing would be saved.
    let short = clustered(73, 500, 16, 1.0);
    assert!(!Index::open(bytes(&short, Metric::Cosine, RowForm::Fine)).unwrap().is_fine());
}

/// The last row is a number in single precision, squared, and what two bytes say of it is none: each of its values is half a part of a step longer.
#[test]
fn rows_that_could_be_kept_as_longer_than_numbers_are_refused() {
    let of_length = |long: f32| {
        let mut rows = vec![0.0; 65 * 64];
        (0..64).for_each(|d| rows[d * 64 + d] = long);
        rows[64 * 64..].fill(long / 127.0 / 256.0 * 4_164.51);
        Factors::new(rows, 64)
    };
    let longest = of_length(1.8e19);
    let last = longest.row(64);
    assert!(dot_scalar(last, last).is_finite());
    let built = build_index(&longest.input(Metric::InnerProduct), &GraphOptions::default(), &HnswBuilder, &());
    assert!(matches!(&built, Err(error) if error.to_string().contains("too large")), "{built:?}");
    let index = Index::open(bytes(&of_length(0.9e19), Metric::InnerProduct, RowForm::Fine)).unwrap();
    index.verify().unwrap();
    assert!(index.is_fine());
}

/// By codes the other rows would all be zeros, and walks go nowhere.
#[test]
fn one_very_long_row_does_not_hide_the_others() {
    let mut factors = clustered(75, 4_000, 24, 1.0);
    factors.rows[..24].iter_mut().for_each(|value| *value *= 1e3);
    let index = Index::open(bytes(&factors, Metric::InnerProduct, RowForm::Fine)).unwrap();
    index.verify().unwrap();
    assert!(!index.is_coded());
    let (mut scratch, mut found) = (Scratch::default(), 0.0);
    let queries = factors.queries(76, 50);
    for query in &queries {
        index.search(query, &exactly(10), None, &mut scratch).unwrap();
        let truth = ordinals(&scratch);
        index.search(query, &broadly(10, 64), None, &mut scratch).unwrap();
        found += share(&truth, &ordinals(&scratch)) / queries.len() as f64;
    }
    assert!(found > 0.7, "{found}");
}

#[test]
fn what_cannot_be_rows_is_found() {
    let good = Parts::of(&bytes(&clustered(74, 300, 40, 1.0), Metric::Cosine, RowForm::Fine));
    let damaged = |damage: &dyn Fn(&mut Parts)| {
        let mut parts = good.clone();
        damage(&mut parts);
        parts.write()
    };
    for kind in [section::CODES, section::FINE_CODES] {
        let padding = damaged(&|parts| parts.section(kind)[64 * 7 + 40] ^= 1);
        assert_eq!(verify_error(padding), VerifyError::RowPadding { ordinal: 7 });
    }
    let other = damaged(&|parts| parts.section(section::CODES)[64 * 5..64 * 5 + 40].fill(255));
    assert!(matches!(verify_error(other), VerifyError::RowLength { ordinal: 5, .. }));
    let nothing = damaged(&|parts| parts.section(section::CODES)[64 * 5..64 * 5 + 40].fill(128));
    assert!(matches!(verify_error(nothing), VerifyError::RowLength { ordinal: 5, .. }));
    // With the inner product a row may be of any length, and only the code itself is wrong.
    let zero = damaged(&|parts| {
        parts.section(section::CODES)[64 * 5 + 3] = 0;
        let header = parts.header();
        parts.set_header(&IndexHeader { metric: Metric::InnerProduct as u32, ..header });
    });
    assert_eq!(verify_error(zero), VerifyError::CodeRange { ordinal: 5 });
    for wrong in [0.0, -0.1, f32::NAN, f32::INFINITY, 1e-40] {
        let scale = damaged(&|parts| parts.set_f32(section::CODE_SCALES, 2, wrong));
        assert!(matches!(verify_error(scale), VerifyError::CodeScale { dimension: 2, .. }), "{wrong}");
    }
    let large = damaged(&|parts| parts.set_f32(section::CODE_SCALES, 2, 1e30));
    assert!(matches!(verify_error(large), VerifyError::RowNotFinite { .. }));
    // Floats beside them, or nothing to be beside.
    let both = damaged(&|parts| *parts.section(section::VECTORS) = vec![0; 300 * 48 * 4]);
    assert!(matches!(open_error(both), OpenError::SectionLength { section: section::VECTORS, .. }));
    let short = damaged(&|parts| parts.section(section::FINE_CODES).truncate(64));
    assert!(matches!(open_error(short), OpenError::SectionLength { section: section::FINE_CODES, .. }));
    let none = damaged(&|parts| parts.section(section::CODES).clear());
    assert!(matches!(open_error(none), OpenError::SectionLength { section: section::CODES, .. }));
    let unscaled = damaged(&|parts| parts.section(section::CODE_SCALES).clear());
    assert!(matches!(open_error(unscaled), OpenError::SectionLength { section: section::CODE_SCALES, .. }));
    let neither = damaged(&|parts| parts.sections.retain(|kind, _| *kind != section::FINE_CODES));
    assert!(matches!(open_error(neither), OpenError::SectionLength { section: section::VECTORS, .. }));
    read(good.write()).unwrap();
}

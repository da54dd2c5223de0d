//! Any bytes: open, verify, look up, filter, search. None of it may panic, hang or read outside the bytes, verified or not; and after
//! verification succeeded, what it promises must hold.
//!
//! Run on a stable compiler: `cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none open_verify_search`.
//!
//! The first byte says how the rest is read: odd, as it is; even, with magic, length and checksums made good first, so that mutations
//! reach what lies behind the checksums. Before it starts, the target plants small valid files in the corpus, so that the fuzzer works
//! on content and not on noise from the first second.

#![no_main]

#[path = "../../../index/tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::path::Path;
use std::{fs, io};

use kindred_index::{AlignedBytes, AllowSet, FilterExpr, Index, Scratch, SearchParams};
use libfuzzer_sys::fuzz_target;

thread_local! {
    // Kept from run to run, as a server keeps it from request to request: what one index leaves behind must not harm the next.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fuzz_target!(init: plant().unwrap_or_else(|error| eprintln!("no seeds: {error}")), |input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    let mut bytes = AlignedBytes::from(rest);
    if mode.is_multiple_of(2) {
        support::mend_checksums(bytes.as_mut());
    }
    let Ok(index) = Index::open(bytes) else { return };
    let verified = index.verify().is_ok();
    SCRATCH.with_borrow_mut(|scratch| use_it(&index, verified, scratch));
});

/// Writes the seeds: small valid files, each once as it is and once to be mended.
fn plant() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/open_verify_search");
    fs::create_dir_all(&corpus)?;
    let files = [
        ("small", support::small()),
        ("empty", support::empty()),
        ("wide", support::sized(30, 17)),
        ("fine", support::small_fine()),
    ];
    for (name, file) in files {
        for mode in [0, 1] {
            fs::write(corpus.join(format!("seed-{name}-{mode}")), [&[mode], file.as_ref()].concat())?;
        }
    }
    Ok(())
}

fn use_it(index: &Index<AlignedBytes>, verified: bool, scratch: &mut Scratch) {
    let n = index.len();
    for ordinal in (0..n.min(64)).chain([n, u32::MAX]) {
        let key = index.key(ordinal);
        let found = key.and_then(|key| index.ordinal(key));
        let row = index.row(ordinal);
        if verified {
            assert_eq!(found, Some(ordinal).filter(|ordinal| *ordinal < n), "a verified index finds each of its keys");
            assert_eq!(row.map(|row| row.len()), (ordinal < n).then_some(index.dimensions()));
        }
    }
    let text = |text: &str| text.to_owned();
    let mut filters = vec![
        FilterExpr::Match { field: text("colour"), value: text("red") },
        FilterExpr::Range { field: text("price"), gt: Some(0.0), gte: None, lt: None, lte: Some(3.0) },
        FilterExpr::Not(Box::new(FilterExpr::Exists { field: text("rare") })),
        FilterExpr::And(Vec::new()),
    ];
    for field in index.attributes().fields().take(4) {
        filters.push(FilterExpr::Exists { field: text(field.name()) });
        let values: Vec<String> = field.terms().take(4).map(|(value, _)| text(value)).collect();
        filters.push(FilterExpr::Any { field: text(field.name()), values });
    }
    let query = vec![0.5; index.dimensions()];
    search(index, &query, None, verified, scratch);
    for filter in &filters {
        if let Ok(allow) = index.attributes().evaluate(filter, n) {
            search(index, &query, Some(&allow), verified, scratch);
        }
    }
}

fn search(index: &Index<AlignedBytes>, query: &[f32], allow: Option<&AllowSet>, verified: bool, scratch: &mut Scratch) {
    for exact in [false, true] {
        let params = SearchParams { k: 10, ef_search: 16, exact };
        let answer = index.search(query, &params, allow, scratch);
        assert!(answer.is_ok() || !verified, "a verified index answers: {answer:?}");
        if answer.is_err() {
            continue;
        }
        let hits = scratch.hits();
        let possible = allow.map_or(index.len(), AllowSet::cardinality) as usize;
        assert!(hits.len() <= possible.min(params.k));
        assert!(hits.iter().all(|hit| hit.ordinal < index.len()), "a hit that does not exist");
        assert!(
            hits.iter().all(|hit| allow.is_none_or(|allow| allow.contains(hit.ordinal))),
            "a hit that is not allowed"
        );
        if verified {
            let ordered = |pair: &[kindred_index::Hit]| pair[0].similarity >= pair[1].similarity;
            assert!(hits.windows(2).all(ordered), "hits out of order");
            assert!(!exact || hits.len() == possible.min(params.k), "an exact scan finds all there is");
        }
    }
}

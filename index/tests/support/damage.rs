//! Reading damaged files the way a server does: open, verify, and use what opened, whatever verifying says.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kindred_index::format::IndexHeader;
use kindred_index::{AlignedBytes, AllowSet, FilterExpr, Index, OpenError, Scratch, SearchParams, VerifyError};

use crate::support::{self, Parts};

/// Either of the two errors that reading may end with.
#[derive(Debug)]
pub enum Damage {
    Open(OpenError),
    Verify(VerifyError),
}

pub fn read(bytes: AlignedBytes) -> Result<(), Damage> {
    let index = Index::open(bytes).map_err(Damage::Open)?;
    let verified = index.verify();
    // Whatever verifying says, using the index must not panic.
    use_it(&index);
    verified.map(|_| ()).map_err(Damage::Verify)
}

/// Every way in which a request touches an index.
fn use_it(index: &Index<AlignedBytes>) {
    for ordinal in (0..index.len().min(100)).chain([index.len(), u32::MAX]) {
        let key = index.key(ordinal).map(str::to_owned);
        key.and_then(|key| index.ordinal(&key));
        index.row(ordinal);
    }
    let match_red = FilterExpr::Match { field: "colour".to_owned(), value: "red".to_owned() };
    let cheap = FilterExpr::Range { field: "price".to_owned(), gt: Some(0.0), gte: None, lt: None, lte: Some(3.0) };
    let filters = [match_red, cheap, FilterExpr::Exists { field: "rare".to_owned() }, FilterExpr::And(Vec::new())];
    let query = vec![0.5; index.dimensions()];
    let mut scratch = Scratch::default();
    let mut search = |exact, allow: Option<&AllowSet>| {
        let params = SearchParams { k: 10, ef_search: 16, exact };
        // An error is as good as an answer here; only a panic or a hit that does not exist is not.
        if index.search(&query, &params, allow, &mut scratch).is_ok() {
            assert!(scratch.hits().iter().all(|hit| hit.ordinal < index.len()));
        }
    };
    for exact in [false, true] {
        search(exact, None);
        for filter in &filters {
            if let Ok(allow) = index.attributes().evaluate(filter, index.len()) {
                search(exact, Some(&allow));
            }
        }
    }
}

pub fn open_error(bytes: AlignedBytes) -> OpenError {
    match read(bytes) {
        Err(Damage::Open(error)) => error,
        other => panic!("expected an error of opening, found {other:?}"),
    }
}

pub fn verify_error(bytes: AlignedBytes) -> VerifyError {
    match read(bytes) {
        Err(Damage::Verify(error)) => error,
        other => panic!("expected an error of verifying, found {other:?}"),
    }
}

/// Damages the small index section by section, with good checksums, and returns what verifying says.
pub fn forged(damage: impl FnOnce(&mut Parts)) -> VerifyError {
    let mut parts = Parts::of(&support::small());
    damage(&mut parts);
    verify_error(parts.write())
}

pub fn forged_header(damage: impl FnOnce(&mut IndexHeader)) -> OpenError {
    let mut parts = Parts::of(&support::small());
    let mut header = parts.header();
    damage(&mut header);
    parts.set_header(&header);
    open_error(parts.write())
}

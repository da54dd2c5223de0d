//! An item that others are compared with while a graph is made: by codes, if there are any, and by rows.

use super::rows::StoredRows;
use crate::compare::{ByCodes, ByRows, Compare};
use crate::metric::CodedQuery;
use crate::visited::Query;

/// The row of an item, in each form that it is compared in. Its memory is kept from one item to the next.
#[derive(Default)]
pub(super) struct Asked {
    query: Query,
    in_parts: Query,
    coded: CodedQuery,
}

impl Asked {
    /// Takes an item: by what walks compare with it, and by what answers do.
    pub(super) fn of<'a>(&'a mut self, item: u32, rows: &'a StoredRows) -> (Near<'a>, ByRows<'a>) {
        let Self { query, in_parts, coded } = self;
        let view = rows.view();
        query.set(&view.row(item).unwrap_or_default().values(), 1.0, view.stride());
        let query: &'a Query = query;
        let by_rows = ByRows::of(view, query, in_parts);
        let near = match rows.codes() {
            Some(codes) => {
                coded.set(query.values(), codes.scales);
                Near::Codes(ByCodes::new(coded, codes))
            }
            None => Near::Rows(by_rows),
        };
        (near, by_rows)
    }
}

/// What walks compare: codes, or rows where there are none.
#[derive(Clone, Copy)]
pub(super) enum Near<'a> {
    Codes(ByCodes<'a>),
    Rows(ByRows<'a>),
}

impl Compare for Near<'_> {
    // What a walk comes by is compared by rows afterwards.
    const EXACT: bool = false;

    fn n(&self) -> u32 {
        match self {
            Self::Codes(codes) => codes.n(),
            Self::Rows(rows) => rows.n(),
        }
    }

    #[inline(always)]
    fn ask(&self, item: u32) {
        match self {
            Self::Codes(codes) => codes.ask(item),
            Self::Rows(rows) => rows.ask(item),
        }
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        match self {
            Self::Codes(codes) => codes.many(items, similarities),
            Self::Rows(rows) => rows.many(items, similarities),
        }
    }

    fn margin(&self) -> f32 {
        match self {
            Self::Codes(codes) => codes.margin(),
            Self::Rows(rows) => rows.margin(),
        }
    }
}

//! By what a query and an item are compared: rows as they are, or codes.

use crate::codes::CodeView;
use crate::metric::{CodeKernel, CodedQuery, Group, Kernel, prefetch};
use crate::vectors::VectorView;
use crate::visited::Query;

/// A query and all that it can be compared with.
pub(crate) trait Compare: Copy {
    /// Whether similarities are those of the rows.
    const EXACT: bool;

    /// Asks the memory for what comparing with an item takes.
    fn ask(&self, item: u32);

    /// The similarities of the query with some items, as many as there are places for; 0 with what is not there.
    fn many(&self, items: &[u32], similarities: &mut [f32]);

    /// The standard deviation of a similarity from that of the rows.
    fn deviation(&self) -> f32;
}

/// Compares by rows.
#[derive(Clone, Copy)]
pub(crate) struct ByRows<'a> {
    query: &'a [Group],
    vectors: VectorView<'a>,
    kernel: Kernel,
}

impl<'a> ByRows<'a> {
    pub(crate) fn new(query: &'a Query, vectors: VectorView<'a>) -> Self {
        Self { query: query.groups(), vectors, kernel: Kernel::get() }
    }

    /// Number of rows.
    pub(crate) fn n(&self) -> u32 {
        self.vectors.n
    }
}

impl Compare for ByRows<'_> {
    const EXACT: bool = true;

    #[inline(always)]
    fn ask(&self, item: u32) {
        prefetch(self.vectors.row_groups(item));
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        self.kernel.many(self.query, self.vectors.groups(), items, similarities);
    }

    fn deviation(&self) -> f32 {
        0.0
    }
}

/// Compares by codes.
#[derive(Clone, Copy)]
pub(crate) struct ByCodes<'a> {
    query: &'a CodedQuery,
    codes: CodeView<'a>,
    kernel: CodeKernel,
}

impl<'a> ByCodes<'a> {
    pub(crate) fn new(query: &'a CodedQuery, codes: CodeView<'a>) -> Self {
        Self { query, codes, kernel: CodeKernel::get() }
    }
}

impl Compare for ByCodes<'_> {
    const EXACT: bool = false;

    #[inline(always)]
    fn ask(&self, item: u32) {
        prefetch(self.codes.row(item));
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        self.kernel.many(self.query, self.codes.rows, items, similarities);
    }

    fn deviation(&self) -> f32 {
        self.query.deviation
    }
}

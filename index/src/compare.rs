//! By what a query and an item are compared: rows as they are, or codes.

use crate::codes::CodeView;
use crate::metric::{CodeKernel, CodedQuery, Group, Kernel, prefetch};
use crate::vectors::VectorView;
use crate::visited::Query;

/// By how many standard deviations of its codes' error an item may be nearer than its codes say. The error is a sum over all dimensions,
/// so nearly normal: 3 leave out one in 700.
const DEVIATIONS: f32 = 3.0;

/// A query and all that it can be compared with.
pub(crate) trait Compare: Copy {
    /// Whether similarities are those of the rows.
    const EXACT: bool;

    /// Number of items that there is something of.
    fn n(&self) -> u32;

    /// Asks the memory for what comparing with an item takes.
    fn ask(&self, item: u32);

    /// The similarities of the query with some items, as many as there are places for; 0 with what is not there.
    fn many(&self, items: &[u32], similarities: &mut [f32]);

    /// By how much an item may be nearer by its row than it is by this.
    fn margin(&self) -> f32;
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
}

impl Compare for ByRows<'_> {
    const EXACT: bool = true;

    fn n(&self) -> u32 {
        self.vectors.n
    }

    #[inline(always)]
    fn ask(&self, item: u32) {
        prefetch(self.vectors.row_groups(item));
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        self.kernel.many(self.query, self.vectors.groups(), items, similarities);
    }

    fn margin(&self) -> f32 {
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

    fn n(&self) -> u32 {
        (self.codes.rows.len() / self.query.width().max(1)) as u32
    }

    #[inline(always)]
    fn ask(&self, item: u32) {
        prefetch(self.codes.row(item));
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        self.kernel.many(self.query, self.codes.rows, items, similarities);
    }

    fn margin(&self) -> f32 {
        DEVIATIONS * self.query.deviation
    }
}

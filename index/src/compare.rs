//! By what a query and an item are compared: rows as they are, or codes.

use crate::allow::AllowSet;
use crate::codes::CodeView;
use crate::exact;
use crate::metric::{CodeGroup, CodeKernel, CodedQuery, Group, Kernel, WOVEN, prefetch, prefetch_at};
use crate::row::RowsView;
use crate::visited::{Query, Scratch};

/// By how many standard deviations of its codes' error an item may be nearer than its codes say. The error is a sum over all dimensions,
/// so nearly normal: 3 leave out one in 700.
const DEVIATIONS: f32 = 3.0;

/// Codes side by side are compared with if there are at most so many times as many as items are left in the set.
const GATHERED_MOST: usize = 2;

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

    /// As [`exact::scan`] of a set, for one whose codes were put side by side, where that is faster.
    fn scan_gathered(&self, _k: usize, _allow: &AllowSet, _scratch: &mut Scratch) -> Option<u32> {
        None
    }
}

/// Compares by rows.
#[derive(Clone, Copy)]
pub(crate) struct ByRows<'a> {
    /// Times what 256ths of steps are worth, where rows are fine.
    query: &'a [Group],
    rows: RowsView<'a>,
    kernel: Kernel,
}

impl<'a> ByRows<'a> {
    /// A query that is padded as the rows are; `in_parts` is for the one that fine rows are compared with.
    pub(crate) fn of(rows: RowsView<'a>, query: &'a Query, in_parts: &'a mut Query) -> Self {
        let query = match rows {
            RowsView::Whole(_) => query,
            RowsView::Fine(fine) => {
                in_parts.set_in_parts(query.values(), fine.codes.scales);
                in_parts
            }
        };
        Self { query: query.groups(), rows, kernel: Kernel::get() }
    }
}

impl Compare for ByRows<'_> {
    const EXACT: bool = true;

    fn n(&self) -> u32 {
        self.rows.len()
    }

    #[inline(always)]
    fn ask(&self, item: u32) {
        match self.rows {
            RowsView::Whole(vectors) => prefetch(vectors.row_groups(item)),
            RowsView::Fine(rows) => rows.ask(item),
        }
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        match self.rows {
            RowsView::Whole(vectors) => self.kernel.many(self.query, vectors.groups(), items, similarities),
            RowsView::Fine(rows) => {
                for (item, similarity) in items.iter().zip(similarities) {
                    let product = |[codes, fine]: [&[u8]; 2]| self.kernel.fine(self.query, codes, fine);
                    *similarity = rows.row(*item).map_or(0.0, product);
                }
            }
        }
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
    /// Groups of a row.
    width: usize,
    kernel: CodeKernel,
}

impl<'a> ByCodes<'a> {
    pub(crate) fn new(query: &'a CodedQuery, codes: CodeView<'a>) -> Self {
        Self { query, codes, width: query.width(), kernel: CodeKernel::get() }
    }

    /// The similarities of the query with rows that are woven together, the first of so many sixteens of them.
    #[inline]
    pub(crate) fn woven(&self, rows: &[CodeGroup], first: usize, similarities: &mut [f32]) {
        let rows = rows.get(first * self.width * WOVEN..).unwrap_or_default();
        self.kernel.woven(self.query, rows, similarities);
    }
}

impl Compare for ByCodes<'_> {
    const EXACT: bool = false;

    fn n(&self) -> u32 {
        (self.codes.rows.len() / self.width.max(1)) as u32
    }

    #[inline(always)]
    fn ask(&self, item: u32) {
        prefetch_at(self.codes.rows, (item as usize).wrapping_mul(self.width), self.width);
    }

    #[inline(always)]
    fn many(&self, items: &[u32], similarities: &mut [f32]) {
        self.kernel.many(self.query, self.codes.rows, items, similarities);
    }

    fn margin(&self) -> f32 {
        DEVIATIONS * self.query.deviation
    }

    fn scan_gathered(&self, k: usize, allow: &AllowSet, scratch: &mut Scratch) -> Option<u32> {
        let gathered = allow.gathered.as_ref().filter(|gathered| gathered.is_of(self.codes))?;
        if gathered.ordinals.len() > GATHERED_MOST * allow.cardinality() as usize {
            return None;
        }
        let ordinal = |place: u32| gathered.ordinals.get(place as usize).copied().unwrap_or(u32::MAX);
        let near = ByCodes { codes: CodeView { rows: gathered.rows(), ..self.codes }, ..*self };
        let compared = exact::scan_where(near, k, |place| allow.contains(ordinal(place)), scratch);
        scratch.nearest.rename(ordinal);
        Some(compared)
    }
}

//! The rows that a graph is built over: as they come in, one by one, and as they lie in memory while searches compare them.

use std::io;

use zerocopy::FromBytes;

use super::RowForm;
use crate::assemble::{AssembleError, IndexInput, check_rows, stored_row};
use crate::codes::{CodeView, Codes};
use crate::container::cast;
use crate::format::row_stride;
use crate::map::Pages;
use crate::metric::Metric;
use crate::row::RowsView;
use crate::vectors::VectorView;

/// Rows as the file will have them, of unit length where the metric is cosine. They are made of those of an input when they are read; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    input: IndexInput<'a>,
    n: u32,
}

impl<'a> Rows<'a> {
    /// The rows of an input.
    ///
    /// # Errors
    /// Rows that no index can hold.
    pub fn new(input: &IndexInput<'a>) -> Result<Self, AssembleError> {
        Ok(Self { input: *input, n: check_rows(input)? })
    }

    /// Number of rows.
    pub fn len(&self) -> u32 {
        self.n
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Length of a row, in floats.
    pub fn dimensions(&self) -> usize {
        self.input.dims
    }

    /// Writes the row of an item; what lies beyond it becomes 0, and so does everything where there is no such item.
    pub fn read(&self, ordinal: u32, into: &mut [f32]) {
        let from = (ordinal as usize).saturating_mul(self.input.dims);
        let row = self.input.rows.get(from..from.saturating_add(self.input.dims)).unwrap_or_default();
        stored_row(row, self.input.metric, into);
    }
}

/// Rows in memory, as an index has them.
#[derive(Debug)]
pub(super) struct StoredRows {
    codes: Option<Codes>,
    /// None where codes and what is beside them are all that is kept.
    whole: Pages,
    n: u32,
    dimensions: usize,
}

impl StoredRows {
    /// Reads n rows, some of them more than once. Where codes would lead walks nowhere, rows are whole, whatever the form.
    ///
    /// # Errors
    /// Not enough memory.
    pub(super) fn new(
        form: RowForm,
        n: u32,
        dimensions: usize,
        metric: Metric,
        read: impl Fn(u32, &mut [f32]),
    ) -> io::Result<Self> {
        let codes = match form {
            RowForm::Whole => None,
            RowForm::Coded => Some(Codes::of(n, dimensions, &read)?),
            RowForm::Fine => Some(Codes::for_rows(n, dimensions, metric, &read)?),
        };
        // Rows of unit length are told apart by their codes always.
        let is_of_use = |codes: &Codes| metric == Metric::Cosine || codes.tell_apart(n, dimensions, &read);
        let codes = codes.filter(is_of_use);
        let stride = row_stride(dimensions as u32) as usize;
        let is_whole = codes.as_ref().is_none_or(|codes| codes.fine.is_none());
        let mut whole =
            if is_whole { Pages::zeroed(n as usize * stride * size_of::<f32>())? } else { Pages::default() };
        let rows = <[f32]>::mut_from_bytes(whole.as_mut()).unwrap_or_default().chunks_exact_mut(stride);
        (0..n).zip(rows).for_each(|(ordinal, row)| read(ordinal, row));
        Ok(Self { codes, whole, n, dimensions })
    }

    /// They, as searches see them.
    pub(super) fn view(&self) -> RowsView<'_> {
        let fine = self.codes.as_ref().and_then(|codes| codes.rows(self.n));
        fine.unwrap_or_else(|| {
            let rows = cast(self.whole.as_ref()).unwrap_or_default();
            let stride = row_stride(self.dimensions as u32) as usize;
            VectorView { rows, n: self.n, stride, dimensions: self.dimensions }.into()
        })
    }

    /// What walks compare, if not rows.
    pub(super) fn codes(&self) -> Option<CodeView<'_>> {
        self.codes.as_ref().map(Codes::view)
    }

    /// Their codes alone.
    pub(super) fn into_codes(self) -> Option<Codes> {
        self.codes
    }
}

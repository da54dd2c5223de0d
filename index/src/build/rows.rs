//! The rows that a graph is built over: as they come in, one after the other, and as they lie in memory while searches compare them.

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

/// Rows as the file will have them, of unit length where the metric is cosine. They are made of those of an input when they are read; nothing is kept.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    input: IndexInput<'a>,
}

/// Calls with each row and the place where it belongs, in any order, as often as it is called itself.
pub(super) type Pass<'a> = dyn Fn(&mut dyn FnMut(u32, &[f32])) -> io::Result<()> + 'a;

impl<'a> Rows<'a> {
    /// The rows of an input.
    ///
    /// # Errors
    /// Rows that no index can hold, or that cannot be read.
    pub fn new(input: &IndexInput<'a>) -> Result<Self, AssembleError> {
        check_rows(input)?;
        Ok(Self { input: *input })
    }

    /// Number of rows.
    pub fn len(&self) -> u32 {
        self.input.tables.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of a row, in floats.
    pub fn dimensions(&self) -> usize {
        self.input.dims
    }

    /// Calls `visit` with each ordinal and its row, in order.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn each(&self, visit: &mut dyn FnMut(u32, &mut [f32])) -> io::Result<()> {
        let (mut stored, mut ordinal) = (vec![0.0; self.input.dims], 0);
        self.input.rows.each(self.input.dims, &mut |row| {
            stored_row(row, self.input.metric, &mut stored);
            visit(ordinal, &mut stored);
            ordinal += 1;
            Ok(())
        })
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
    /// Reads n rows, more than once. Where codes would lead walks nowhere, rows are whole, whatever the form.
    ///
    /// # Errors
    /// Not enough memory, or rows that cannot be read.
    pub(super) fn new(form: RowForm, n: u32, dimensions: usize, metric: Metric, pass: &Pass<'_>) -> io::Result<Self> {
        let codes = match form {
            RowForm::Whole => None,
            RowForm::Coded => Some(Codes::of(n, dimensions, pass)?),
            RowForm::Fine => Some(Codes::for_rows(n, dimensions, metric, pass)?),
        };
        let codes = match codes {
            // Rows of unit length are told apart by their codes always.
            Some(codes) if metric == Metric::Cosine || codes.tell_apart(n, pass)? => Some(codes),
            Some(_) | None => None,
        };
        let stride = row_stride(dimensions as u32) as usize;
        let is_whole = codes.as_ref().is_none_or(|codes| codes.fine.is_none());
        let mut whole = Pages::default();
        if is_whole {
            whole = Pages::zeroed(n as usize * stride * size_of::<f32>())?;
            let rows = <[f32]>::mut_from_bytes(whole.as_mut()).unwrap_or_default();
            pass(&mut |place, row| {
                let from = place as usize * stride;
                let into = rows.get_mut(from..from + row.len()).unwrap_or_default();
                into.iter_mut().zip(row).for_each(|(into, value)| *into = *value);
            })?;
        }
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

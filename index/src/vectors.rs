//! The vectors: the row of an item.

use crate::metric::{GROUP, Group};

/// Rows end to end, each padded with zeros to a multiple of 16 floats, one cache line.
#[derive(Clone, Copy, Debug)]
pub struct VectorView<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) n: u32,
    pub(crate) stride: usize,
    pub(crate) dimensions: usize,
}

impl<'a> VectorView<'a> {
    /// The row of an item, without padding.
    pub fn row(&self, ordinal: u32) -> Option<&'a [f32]> {
        let from = (ordinal as usize).checked_mul(self.stride)?;
        self.rows.get(from..from.checked_add(self.dimensions)?)
    }

    /// Number of rows.
    pub fn len(&self) -> u32 {
        self.n
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Floats of a row that count.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Floats from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows in groups of 16 floats, as the kernels take them.
    pub(crate) fn groups(&self) -> &'a [Group] {
        self.rows.as_chunks::<GROUP>().0
    }

    /// The groups of one row, padding included.
    #[inline(always)]
    pub(crate) fn row_groups(&self, ordinal: u32) -> &'a [Group] {
        let width = self.stride / GROUP;
        let from = (ordinal as usize).saturating_mul(width);
        self.groups().get(from..from.saturating_add(width)).unwrap_or_default()
    }
}

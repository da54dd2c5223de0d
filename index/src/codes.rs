//! Coded rows: one byte per dimension, for walks, which need to know only roughly how near an item is.
//!
//! Dimension d of a row is close to `(code - 128) · scale_d`. What a walk finds is compared again by the rows themselves, so codes
//! cost a little recall and never a wrong similarity. At 64 dimensions a row is one cache line instead of four.

use crate::map::Pages;
use crate::metric::{CODE_GROUP, CODE_ZERO, CodeGroup, nearest_whole};

/// Largest code, counted from the one that stands for zero. -128 is not used, so that codes are symmetric.
pub(crate) const CODE_MOST: f32 = 127.0;

/// Coded rows end to end, each padded with the code of zero to a multiple of 64 bytes, one cache line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeView<'a> {
    pub(crate) rows: &'a [CodeGroup],
    /// What a step of a code is worth, by dimension.
    pub(crate) scales: &'a [f32],
    /// Which opening of an index they are of, by number; 0 while one is built.
    pub(crate) opening: u64,
}

impl<'a> CodeView<'a> {
    /// Groups of a row.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.scales.len().div_ceil(CODE_GROUP)
    }

    /// The groups of one row.
    #[inline(always)]
    pub(crate) fn row(&self, ordinal: u32) -> &'a [CodeGroup] {
        let width = self.width();
        let from = (ordinal as usize).saturating_mul(width);
        self.rows.get(from..from.saturating_add(width)).unwrap_or_default()
    }
}

/// Coded rows that own their memory.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) bytes: Pages,
    pub(crate) scales: Vec<f32>,
    /// What is beside them, where that is all that is kept of the rows.
    pub(crate) fine: Option<Pages>,
}

impl Codes {
    pub(crate) fn view(&self) -> CodeView<'_> {
        CodeView { rows: self.bytes.as_ref().as_chunks().0, scales: &self.scales, opening: 0 }
    }

    /// All of them, as the file has them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Writes the codes of a row; what lies beyond its dimensions gets the code of zero. Steps are rounded to the nearest, halves to even.
#[inline]
pub(crate) fn encode(row: &[f32], scales: &[f32], codes: &mut [u8]) {
    let (own, padding) = codes.split_at_mut(scales.len().min(codes.len()));
    for ((code, value), scale) in own.iter_mut().zip(row).zip(scales) {
        let steps = (value / scale).clamp(-CODE_MOST, CODE_MOST);
        *code = nearest_whole(steps) as u8 ^ CODE_ZERO;
    }
    padding.fill(CODE_ZERO);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_scales_is_cut() {
        let mut codes = [0; CODE_GROUP];
        encode(&[1e30, -1e30, 0.0], &[1.0; 3], &mut codes);
        assert_eq!(codes[..4], [255, 1, 128, 128]);
    }
}

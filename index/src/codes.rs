//! Coded rows: one byte per dimension, for walks, which need to know only roughly how near an item is.
//!
//! Dimension d of a row is close to `(code - 128) · scale_d`. What a walk finds is compared again by the rows themselves, so codes
//! cost a little recall and never a wrong similarity. At 64 dimensions a row is one cache line instead of four.

use std::io;

use crate::format::code_stride;
use crate::map::Pages;
use crate::metric::{CODE_GROUP, CODE_ZERO, CodeGroup};
use crate::vectors::VectorView;

/// Largest code, counted from the one that stands for zero. -128 is not used, so that codes are symmetric.
const CODE_MOST: f32 = 127.0;

/// Coded rows end to end, each padded with the code of zero to a multiple of 64 bytes, one cache line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeView<'a> {
    pub(crate) rows: &'a [CodeGroup],
    /// What a step of a code is worth, by dimension.
    pub(crate) scales: &'a [f32],
}

impl<'a> CodeView<'a> {
    /// The groups of one row.
    #[inline(always)]
    pub(crate) fn row(&self, ordinal: u32) -> &'a [CodeGroup] {
        let width = self.scales.len().div_ceil(CODE_GROUP);
        let from = (ordinal as usize).saturating_mul(width);
        self.rows.get(from..from.saturating_add(width)).unwrap_or_default()
    }
}

/// Coded rows that own their memory.
#[derive(Debug)]
pub(crate) struct Codes {
    bytes: Pages,
    scales: Vec<f32>,
}

impl Codes {
    /// Codes rows. Costs two passes over them.
    ///
    /// # Errors
    /// Not enough memory.
    pub(crate) fn of(rows: &VectorView<'_>) -> io::Result<Self> {
        let scales = scales(rows);
        let stride = code_stride(rows.dimensions() as u32) as usize;
        let mut bytes = Pages::zeroed(rows.len() as usize * stride)?;
        for (codes, row) in bytes.as_mut().chunks_exact_mut(stride).zip(rows.rows.chunks_exact(rows.stride)) {
            encode(row, &scales, codes);
        }
        Ok(Self { bytes, scales })
    }

    pub(crate) fn view(&self) -> CodeView<'_> {
        CodeView { rows: self.bytes.as_ref().as_chunks().0, scales: &self.scales }
    }

    /// All of them, as the file has them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// What steps are worth, so that the largest value of each dimension gets the largest code.
fn scales(rows: &VectorView<'_>) -> Vec<f32> {
    let mut most = vec![0.0_f32; rows.dimensions()];
    for row in rows.rows.chunks_exact(rows.stride) {
        for (most, value) in most.iter_mut().zip(row) {
            *most = most.max(value.abs());
        }
    }
    let scale = |most: f32| Some(most / CODE_MOST).filter(|scale| scale.is_normal()).unwrap_or(1.0);
    most.into_iter().map(scale).collect()
}

/// Writes the codes of a row; what lies beyond its dimensions gets the code of zero. Steps are rounded to the nearest, halves to even.
#[inline]
pub(crate) fn encode(row: &[f32], scales: &[f32], codes: &mut [u8]) {
    // Added to a number, it leaves the nearest whole one in the low bits, in two's complement.
    const ROUNDER: f32 = 12_582_912.0;
    let (own, padding) = codes.split_at_mut(scales.len().min(codes.len()));
    for ((code, value), scale) in own.iter_mut().zip(row).zip(scales) {
        let steps = (value / scale).clamp(-CODE_MOST, CODE_MOST);
        *code = ((steps + ROUNDER).to_bits() as u8) ^ CODE_ZERO;
    }
    padding.fill(CODE_ZERO);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_the_nearest_step(values in prop::collection::vec(-3.0_f32..3.0, 1..150)) {
            let stride = crate::format::row_stride(values.len() as u32) as usize;
            let mut row = values.clone();
            row.resize(stride, 0.0);
            let codes = Codes::of(&VectorView { rows: &row, n: 1, stride, dimensions: values.len() }).unwrap();
            let view = codes.view();
            for ((code, value), scale) in view.row(0).as_flattened().iter().zip(&values).zip(view.scales) {
                let off = (i16::from(*code) - i16::from(CODE_ZERO)) as f32 * scale - value;
                prop_assert!(off.abs() <= 0.501 * scale, "{value} by {scale} became {code}");
            }
            prop_assert!(view.row(0).as_flattened()[values.len()..].iter().all(|code| *code == CODE_ZERO));
            prop_assert!(view.row(1).is_empty());
        }
    }

    #[test]
    fn what_is_beyond_the_scales_is_cut() {
        let mut codes = [0; CODE_GROUP];
        encode(&[1e30, -1e30, 0.0], &[1.0; 3], &mut codes);
        assert_eq!(codes[..4], [255, 1, 128, 128]);
        let tiny = [0.0, 1e-44].into_iter().chain([0.0; 14]).collect::<Vec<f32>>();
        assert_eq!(scales(&VectorView { rows: &tiny, n: 1, stride: 16, dimensions: 2 }), [1.0, 1.0]);
    }
}

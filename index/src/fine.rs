//! Rows as two bytes a value: the code that walks compare by, and beside it how far the value is from that, in 256ths of a step.
//!
//! Dimension d of a row is `(code - 128 + (fine - 128) / 256) · scale_d`. So a row takes half of what it takes as floats, the first half of it
//! is what walks have read anyway, and it is off by at most a 65,000th of the largest value of each dimension.

use crate::codes::CodeView;
use crate::metric::{CodeGroup, prefetch_at};

/// The codes of rows, and what is beside them.
#[derive(Clone, Copy, Debug)]
pub struct FineView<'a> {
    pub(crate) codes: CodeView<'a>,
    /// As long as the codes.
    pub(crate) fine: &'a [CodeGroup],
    pub(crate) n: u32,
}

impl<'a> FineView<'a> {
    /// The codes of one row and what is beside them, with their padding; none for a row that is not there.
    #[inline(always)]
    pub(crate) fn row(&self, ordinal: u32) -> Option<[&'a [u8]; 2]> {
        let width = self.codes.width();
        let from = (ordinal as usize).checked_mul(width)?;
        let range = from..from.checked_add(width)?;
        Some([self.codes.rows.get(range.clone())?.as_flattened(), self.fine.get(range)?.as_flattened()])
    }

    /// Asks the memory for a row.
    #[inline(always)]
    pub(crate) fn ask(&self, ordinal: u32) {
        let width = self.codes.width();
        let from = (ordinal as usize).wrapping_mul(width);
        prefetch_at(self.codes.rows, from, width);
        prefetch_at(self.fine, from, width);
    }
}

/// Writes a row as codes and what is beside them; what lies beyond its dimensions gets the code of zero in both.
#[cfg(any(test, feature = "build"))]
#[inline]
pub(crate) fn encode_fine(row: &[f32], scales: &[f32], codes: &mut [u8], fine: &mut [u8]) {
    use crate::codes::CODE_MOST;
    use crate::metric::{CODE_ZERO, PARTS, nearest_whole};
    /// The most parts that are written: the largest code, and as much beside it.
    const PARTS_MOST: f32 = CODE_MOST * (PARTS + 1) as f32;
    let dimensions = scales.len().min(codes.len()).min(fine.len());
    let (codes, padding) = codes.split_at_mut(dimensions);
    let (fine, fine_padding) = fine.split_at_mut(dimensions);
    for (((code, fine), value), scale) in codes.iter_mut().zip(fine).zip(row).zip(scales) {
        let parts = nearest_whole((value / scale * PARTS as f32).clamp(-PARTS_MOST, PARTS_MOST));
        let steps = (parts + PARTS / 2).div_euclid(PARTS);
        *code = steps as u8 ^ CODE_ZERO;
        *fine = (parts - PARTS * steps) as u8 ^ CODE_ZERO;
    }
    padding.fill(CODE_ZERO);
    fine_padding.fill(CODE_ZERO);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metric::{CODE_ZERO, unfold};

    proptest! {
        #[test]
        fn a_row_is_off_by_at_most_half_a_part_of_a_step(
            row in prop::collection::vec(-3.0_f32..3.0, 1..100),
            scale in 0.024_f32..1.0,
        ) {
            let scales = vec![scale; row.len()];
            let (mut codes, mut fine) = ([0; 128], [0; 128]);
            encode_fine(&row, &scales, &mut codes, &mut fine);
            let mut values = vec![0.0; row.len()];
            unfold(&codes, &fine, &scales, &mut values);
            for (value, found) in row.iter().zip(&values) {
                prop_assert!((value - found).abs() <= 0.502 * scale / 256.0, "{value} became {found} by {scale}");
            }
            prop_assert!(codes[row.len()..].iter().chain(&fine[row.len()..]).all(|byte| *byte == CODE_ZERO));
        }
    }

    #[test]
    fn what_is_beyond_the_scales_is_cut_and_zero_is_zero() {
        let (mut codes, mut fine) = ([0; 4], [0; 4]);
        encode_fine(&[1e30, -1e30, 0.0], &[1.0; 3], &mut codes, &mut fine);
        assert_eq!((codes, fine), ([255, 1, 128, 128], [255, 1, 128, 128]));
        let mut values = [7.0; 3];
        unfold(&codes, &fine, &[1.0; 3], &mut values);
        assert_eq!(values, [127.0 + 127.0 / 256.0, -127.0 - 127.0 / 256.0, 0.0]);
    }
}

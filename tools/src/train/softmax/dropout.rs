//! Which numbers are left out of a step: a function of seed, step, row and place, so that no order of work changes it.

use crate::train::sparse::mixed;

/// Leaves numbers out at random and scales up those that stay, so that sums keep their mean (Srivastava et al. 2014).
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropout {
    /// Of 256 numbers, how many are left out.
    threshold: u64,
    keep: f32,
    key: u64,
}

impl Dropout {
    /// A share of at most 0.9; `key` tells one step and one use from another.
    pub(super) fn new(share: f64, key: u64) -> Self {
        let threshold = (share * 256.0).round().clamp(0.0, 255.0) as u64;
        Self { threshold, keep: 256.0 / (256 - threshold) as f32, key }
    }

    /// Applies the mask of a row to it.
    #[inline(always)]
    pub(super) fn apply(self, row: u64, values: &mut [f32]) {
        if self.threshold == 0 {
            return;
        }
        let (threshold, keep) = (self.threshold, self.keep);
        let start = mixed(self.key ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for (at, eight) in values.chunks_mut(8).enumerate() {
            let bits = mixed(start.wrapping_add((at as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)));
            for (place, value) in eight.iter_mut().enumerate() {
                let stays = (bits >> (8 * place)) & 0xff >= threshold;
                *value *= if stays { keep } else { 0.0 };
            }
        }
    }
}

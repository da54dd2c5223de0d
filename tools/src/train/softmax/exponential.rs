//! Softmax over a row of scores, in vector instructions.
//!
//! The loops are plain ones over sixteen numbers at a time, which the compiler turns into whatever vectors the processor has.

use super::super::kernels::{Kernel, Simd};

/// Numbers worked on side by side.
const LANES: usize = 16;
/// Below this `exp` is smaller than the smallest normal number.
const LOWEST: f32 = -87.0;
/// Adding it rounds a number below 2^22 to an integer, which then stands in the last bits.
const ROUNDING: f32 = 12_582_912.0;

/// `e^x` for `x ≤ 88`, to within 2 units in the last place; 0 to within 1e-37 below −87.
///
/// `e^x = 2^n · e^r` with `|r| ≤ ln 2 / 2`, and a polynomial for `e^r` (Cephes, Moshier 1989: the coefficients of its `expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x < LOWEST { LOWEST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    // ln 2 in two parts, so that the difference is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127);
    e * f32::from_bits(exponent << 23)
}

/// A row of cosines into the gradient of its cross-entropy by each of them, times `scale`; gives the cross-entropy.
///
/// The scores are `inverse_temperature · cosine + bias`. `wanted` is the place of the item to be predicted.
pub(super) struct SoftmaxRow<'a> {
    pub(super) row: &'a mut [f32],
    /// Added to each score; empty if there is nothing to add.
    pub(super) bias: &'a [f32],
    pub(super) wanted: usize,
    pub(super) inverse_temperature: f32,
    pub(super) scale: f32,
}

impl Kernel for SoftmaxRow<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let Self { row, bias, wanted, inverse_temperature, scale } = self;
        for (score, bias) in row.iter_mut().zip(bias) {
            *score += bias / inverse_temperature;
        }
        // What is wanted is certain to be among the scored, so nothing corrects it.
        if let (Some(score), Some(bias)) = (row.get_mut(wanted), bias.get(wanted)) {
            *score -= bias / inverse_temperature;
        }
        let score = row.get(wanted).copied().unwrap_or(0.0);
        let (blocks, last) = row.as_chunks_mut::<LANES>();
        let mut highest = [f32::MIN; LANES];
        for block in blocks.iter() {
            for (highest, score) in highest.iter_mut().zip(block) {
                *highest = if *score > *highest { *score } else { *highest };
            }
        }
        let top = last.iter().chain(&highest).copied().fold(f32::MIN, f32::max);
        let mut sums = [0.0_f32; LANES];
        for block in blocks.iter_mut() {
            for (score, sum) in block.iter_mut().zip(&mut sums) {
                *score = exp((*score - top) * inverse_temperature);
                *sum += *score;
            }
        }
        let mut sum = 0.0;
        for score in last.iter_mut() {
            *score = exp((*score - top) * inverse_temperature);
            sum += *score;
        }
        for partial in sums {
            sum += partial;
        }
        let factor = scale * inverse_temperature / sum;
        for score in row.iter_mut() {
            *score *= factor;
        }
        if let Some(gradient) = row.get_mut(wanted) {
            *gradient -= scale * inverse_temperature;
        }
        f64::from(sum).ln() + f64::from((top - score) * inverse_temperature)
    }
}

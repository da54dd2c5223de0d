//! Adding a row, scaled, to a sum in double precision: what a user vector is made of.
//!
//! Each place is one product and one addition, rounded one after the other and never fused, so every instruction set gives the same bits.

use std::sync::OnceLock;

/// A sum, a row and its scale.
pub(super) type AddScaled = fn(&mut [f64], &[f32], f64);

/// Adds `scale` times a row to a sum; of different lengths, the part that both have. About 15 ns for 128 dimensions.
#[inline]
pub fn add_scaled(sum: &mut [f64], row: &[f32], scale: f64) {
    static BEST: OnceLock<AddScaled> = OnceLock::new();
    let best = BEST.get_or_init(|| available().unwrap_or(add_scaled_portable));
    best(sum, row, scale);
}

/// What every machine has, and the text that wider registers are compiled from.
#[inline(always)]
pub(super) fn add_scaled_portable(sum: &mut [f64], row: &[f32], scale: f64) {
    for (into, value) in sum.iter_mut().zip(row) {
        *into += scale * f64::from(*value);
    }
}

fn available() -> Option<AddScaled> {
    #[cfg(target_arch = "x86_64")]
    return super::x86::available_for_sums();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_the_bits_of_the_portable_way(
            values in prop::collection::vec((-1e3_f64..1e3, any::<f32>()), 0..200),
            scale in -10.0_f64..10.0,
            shorter in 0..3_usize,
        ) {
            let (mut sum, mut row): (Vec<f64>, Vec<f32>) = values.into_iter().unzip();
            row.truncate(row.len().saturating_sub(shorter));
            let mut twin = sum.clone();
            add_scaled(&mut sum, &row, scale);
            add_scaled_portable(&mut twin, &row, scale);
            let bits = |sum: &[f64]| sum.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&sum), bits(&twin));
        }
    }
}

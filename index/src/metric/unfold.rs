//! Rows of two bytes a value, as floats: unfolded, or multiplied with a query as they lie.

use std::sync::OnceLock;

use super::codes::CODE_ZERO;
use super::kernels::{GROUP, Group};

/// Codes, what is beside them, scales, and where the values go.
pub(super) type Unfold = fn(&[u8], &[u8], &[f32], &mut [f32]);

/// What a code and what is beside it say together, both being those of zero.
pub(super) const FINE_ZERO: i32 = (PARTS + 1) * CODE_ZERO as i32;

/// Parts of a step that a row is written down to: what a byte can tell apart.
pub(crate) const PARTS: i32 = 256;

/// What one of them is to a step.
pub(crate) const PART: f32 = 1.0 / PARTS as f32;

/// The values of a row of two bytes each; as many as all four have room for. Every instruction set gives the same bits.
#[inline]
pub(crate) fn unfold(codes: &[u8], fine: &[u8], scales: &[f32], values: &mut [f32]) {
    static BEST: OnceLock<Unfold> = OnceLock::new();
    let best = BEST.get_or_init(|| available().unwrap_or(unfold_portable));
    best(codes, fine, scales, values);
}

/// What every machine has, and the text that wider registers are compiled from.
#[inline(always)]
pub(super) fn unfold_portable(codes: &[u8], fine: &[u8], scales: &[f32], values: &mut [f32]) {
    for (((value, code), fine), scale) in values.iter_mut().zip(codes).zip(fine).zip(scales) {
        *value = parts(*code, *fine) as f32 * (scale * PART);
    }
}

/// What a code and what is beside it say, in parts of a step.
#[inline(always)]
fn parts(code: u8, fine: u8) -> i32 {
    PARTS * i32::from(code) + i32::from(fine) - FINE_ZERO
}

/// The product of a query, times what parts of steps are worth, with a row: the twin of the others.
#[inline(always)]
pub(super) fn product_portable(query: &[Group], codes: &[u8], fine: &[u8]) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    let groups = codes.as_chunks::<GROUP>().0.iter().zip(fine.as_chunks::<GROUP>().0);
    for (query, (codes, fine)) in query.iter().zip(groups) {
        for (((sum, query), code), fine) in sums.iter_mut().zip(query).zip(codes).zip(fine) {
            *sum += query * parts(*code, *fine) as f32;
        }
    }
    sums
}

fn available() -> Option<Unfold> {
    #[cfg(target_arch = "x86_64")]
    return super::x86::available_for_unfolding();
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
            bytes in prop::collection::vec((any::<u8>(), any::<u8>(), 1e-6_f32..1e3), 0..200),
        ) {
            let (codes, fine): (Vec<u8>, Vec<u8>) = bytes.iter().map(|(code, fine, _)| (*code, *fine)).unzip();
            let scales: Vec<f32> = bytes.iter().map(|(.., scale)| *scale).collect();
            let (mut found, mut twin) = (vec![0.0; bytes.len()], vec![0.0; bytes.len()]);
            unfold(&codes, &fine, &scales, &mut found);
            unfold_portable(&codes, &fine, &scales, &mut twin);
            prop_assert_eq!(found, twin);
        }
    }
}

//! How similarity is measured: the dot product, by [`dot`] for two vectors and by a batch kernel for one query and many rows.
//!
//! The only file that names simsimd. [`dot`] is simsimd's; the batch path is `kernels.rs`. Both have the same scalar twin,
//! [`dot_scalar`], and are tried against it once, when first used: what disagrees is not used in this process.

use std::sync::OnceLock;

use ::simsimd::SpatialSimilarity;

#[cfg(target_arch = "aarch64")]
mod arm;
mod bits;
mod codes;
mod kernels;
mod prefetch;
mod sums;
mod unfold;
mod woven;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use bits::{BLOCK, Ordinals, Unpack, unpacking};
pub(crate) use codes::{CODE_GROUP, CODE_ZERO, CodeGroup, CodeKernel, CodedQuery, nearest_whole};
pub(crate) use kernels::{GROUP, Group, Kernel};
pub(crate) use prefetch::prefetch_at;
pub use prefetch::{fetched_ahead, prefetch};
pub use sums::add_scaled;
#[cfg(any(test, feature = "build"))]
pub(crate) use unfold::PARTS;
pub(crate) use unfold::{PART, unfold};
pub(crate) use woven::{WOVEN, weave};

/// How similarity is measured; larger is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The cosine; rows are of unit length, and so is the query when it is compared.
    Cosine = 1,
    /// The dot product of rows as they are.
    InnerProduct = 2,
}

/// The dot product of two vectors. Of vectors of different lengths, the part that both have counts.
///
/// By simsimd, which uses the widest instructions of the machine. About 6 ns for 64 dimensions.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let common = a.len().min(b.len());
    let (a, b) = (a.get(..common).unwrap_or(a), b.get(..common).unwrap_or(b));
    if !simsimd_agrees() {
        return dot_scalar(a, b);
    }
    f32::dot(a, b).map_or_else(|| dot_scalar(a, b), |product| product as f32)
}

/// The slow twin of everything here that is fast: a sum in double precision, in the order of the dimensions.
pub fn dot_scalar(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// What compares vectors on this machine: the kernel of the batch path, and whether single products are simsimd's.
pub fn arithmetic() -> String {
    let single = if simsimd_agrees() { "simsimd" } else { "scalar" };
    format!("{}, codes by {} (single products: {single})", Kernel::get().name(), CodeKernel::get().name())
}

/// Makes a vector of unit length; false, leaving it as it is, if its length is zero or not finite.
pub fn normalise(row: &mut [f32]) -> bool {
    let Some(scale) = unit_scale(row) else { return false };
    row.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    true
}

/// What to multiply a vector with to make it of unit length; none if its length is zero or not finite.
pub(crate) fn unit_scale(row: &[f32]) -> Option<f64> {
    Some(1.0 / squared_length(row).sqrt()).filter(|scale| scale.is_finite() && *scale > 0.0)
}

/// The length of a vector, in the space that it is a point of.
pub(crate) fn length(row: &[f32]) -> f32 {
    squared_length(row).sqrt() as f32
}

/// The square of a vector's length, which single precision may not hold.
pub(crate) fn squared_length(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
}

/// The start-up self test of simsimd.
fn simsimd_agrees() -> bool {
    static AGREES: OnceLock<bool> = OnceLock::new();
    *AGREES.get_or_init(|| agrees(|a, b| f32::dot(a, b).map(|product| product as f32)))
}

/// Tries a product against the scalar twin on lengths around every width of a register. The values are fixed.
fn agrees(product: impl Fn(&[f32], &[f32]) -> Option<f32>) -> bool {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let a: Vec<f32> = (0..130).map(noise).collect();
    let b: Vec<f32> = (1_000..1_130).map(noise).collect();
    (0..=a.len()).all(|len| {
        let (a, b) = (a.get(..len).unwrap_or(&a), b.get(..len).unwrap_or(&b));
        product(a, b).is_some_and(|found| close(found, dot_scalar(a, b), len))
    })
}

/// Whether two products of vectors with values up to 1 differ by no more than single precision explains.
fn close(a: f32, b: f32, len: usize) -> bool {
    (a - b).abs() <= f32::EPSILON * (len as f32 + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_machine_uses_what_is_fast() {
        assert!(simsimd_agrees());
        assert!(arithmetic().contains("simsimd"), "{}", arithmetic());
    }

    #[test]
    fn the_self_test_notices_a_wrong_product() {
        assert!(agrees(|a, b| Some(dot_scalar(a, b))));
        assert!(!agrees(|a, b| Some(dot_scalar(a, b) + 0.01)));
        // Wrong only where a register is not filled.
        assert!(!agrees(|a, b| Some(dot_scalar(&a[..a.len() / 16 * 16], b))));
        assert!(!agrees(|_, _| None));
    }

    #[test]
    fn vectors_without_a_direction_cannot_be_normalised() {
        let mut row = [3.0, 0.0, 4.0];
        assert!(normalise(&mut row));
        assert_eq!(row, [0.6, 0.0, 0.8]);
        assert!(!normalise(&mut [0.0; 5]) && !normalise(&mut []));
        assert!(!normalise(&mut [1.0, f32::NAN]) && !normalise(&mut [f32::INFINITY]));
        // Lengths whose squares single precision cannot hold.
        let (mut tiny, mut huge) = ([1e-30_f32; 2], [1e30_f32; 2]);
        assert!(normalise(&mut tiny) && normalise(&mut huge));
        assert_eq!((tiny[0], huge[0]), (0.5_f32.sqrt(), 0.5_f32.sqrt()));
    }

    proptest! {
        #[test]
        fn dot_agrees_with_its_scalar_twin(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..300)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            prop_assert!(close(dot(&a, &b), dot_scalar(&a, &b), a.len()));
        }
    }
}

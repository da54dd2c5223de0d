//! One query, many rows of one byte per dimension: the products that a walk spends its time on.
//!
//! A row is compared by its *codes*: dimension d of a row is `(code - 128) · scale_d`, and the query, times the scales, is rounded to 15
//! bits and a sign. So a product is a sum of whole numbers, which has no order: every kernel gives the same bits. At 64 dimensions a row is
//! one cache line and two instructions.

use std::sync::OnceLock;

use super::woven::{self, WOVEN, weave};
use crate::aligned::AlignedBytes;

/// Codes of a group: a cache line, and a register of AVX-512.
pub(crate) const CODE_GROUP: usize = 64;

/// A piece of a coded row.
pub(crate) type CodeGroup = [u8; CODE_GROUP];

/// What a code means that stands for zero.
pub(crate) const CODE_ZERO: u8 = 128;

/// The largest value of a query's dimension: two signed bytes of seven bits each, so that the widest sum fits 32 bits up to 1,024
/// dimensions.
const LARGEST: f32 = 16_256.0;

/// A query as coded rows are compared with: each value as one number of 16 bits, and taken apart into two bytes, `128 · high + low`.
#[derive(Debug, Default)]
pub(crate) struct CodedQuery {
    high: AlignedBytes,
    low: AlignedBytes,
    whole: Vec<i16>,
    /// What the offset of the codes adds to every sum, wrapped to 32 bits.
    pub(super) bias: i32,
    /// What a sum is multiplied with.
    pub(super) scale: f32,
    /// The standard deviation that rounding a row to codes gives a product, if its errors are even: the square root of
    /// `Σ (query_d · scale_d)² / 12`. Infinite for a query that codes say nothing of.
    pub(crate) deviation: f32,
}

impl CodedQuery {
    /// Takes a query in, for rows of these scales.
    pub(crate) fn set(&mut self, query: &[f32], scales: &[f32]) {
        let width = scales.len().next_multiple_of(CODE_GROUP);
        self.high.resize(width);
        self.low.resize(width);
        self.whole.clear();
        let scaled = || query.iter().zip(scales).map(|(value, scale)| value * scale);
        let most = scaled().fold(0.0_f32, |most, value| most.max(value.abs()));
        let largest = LARGEST.min(((1_u64 << 31) as f32 / (127.0 * width as f32) - 1.0).floor());
        let unit = most / largest;
        // A query of zeros is similar to everything alike. One that single precision cannot divide into steps is not told by codes.
        let is_told = unit.is_normal() || query.iter().all(|value| *value == 0.0);
        let unit = if unit > 0.0 && unit.is_finite() { unit } else { 1.0 };
        // Cut once more as whole numbers: what is not a number, as scales of an unverified file may be, passes the first cut.
        let whole = |value: f32| nearest_whole((value / unit).clamp(-LARGEST, LARGEST)) as i16;
        self.whole.extend(scaled().map(|value| whole(value).clamp(-(LARGEST as i16), LARGEST as i16)));
        self.whole.resize(width, 0);
        for ((whole, high), low) in self.whole.iter().zip(self.high.as_mut()).zip(self.low.as_mut()) {
            let top = (*whole + 64) >> 7;
            *high = top as i8 as u8;
            *low = (*whole - 128 * top) as i8 as u8;
        }
        let sum: i64 = self.whole.iter().map(|value| i64::from(*value)).sum();
        self.bias = (i64::from(CODE_ZERO) * sum) as i32;
        self.scale = unit;
        // In double precision, which holds the squares of all that single precision holds.
        let squares = scaled().map(|value| f64::from(value) * f64::from(value)).sum::<f64>();
        self.deviation = if is_told { (squares / 12.0).sqrt() as f32 } else { f32::INFINITY };
    }

    /// Groups of a row.
    pub(crate) fn width(&self) -> usize {
        self.high().len()
    }

    pub(super) fn high(&self) -> &[CodeGroup] {
        self.high.as_ref().as_chunks().0
    }

    pub(super) fn low(&self) -> &[CodeGroup] {
        self.low.as_ref().as_chunks().0
    }

    pub(super) fn whole(&self) -> &[[i16; CODE_GROUP]] {
        self.whole.as_chunks().0
    }

    /// A sum over codes as they are, as a similarity.
    #[inline(always)]
    pub(super) fn similarity(&self, sum: i32) -> f32 {
        sum.wrapping_sub(self.bias) as f32 * self.scale
    }
}

/// The nearest whole number, halves to even, of a value of less than 2^22. What machines of every age do with one addition.
#[inline(always)]
pub(crate) fn nearest_whole(value: f32) -> i32 {
    // Added to a number, it leaves the nearest whole one in the low bits, in two's complement.
    const ROUNDER: f32 = 12_582_912.0;
    (value + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

/// Query, rows end to end, which rows, and where their similarities go.
type ManyCodes = fn(&CodedQuery, &[CodeGroup], &[u32], &mut [f32]);
/// Query, rows that are woven together, and where the similarities of all of them go.
type WovenCodes = fn(&CodedQuery, &[CodeGroup], &mut [f32]);

/// The kernel for this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeKernel {
    pub(super) name: &'static str,
    pub(super) many: ManyCodes,
    pub(super) woven: WovenCodes,
}

impl CodeKernel {
    /// The fastest of those that the machine has and that agree with the scalar twin.
    pub(crate) fn get() -> Self {
        static BEST: OnceLock<CodeKernel> = OnceLock::new();
        *BEST.get_or_init(|| available().into_iter().find(Self::agrees).unwrap_or(PORTABLE))
    }

    /// The instruction set it is made of.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The similarities of a query with the coded rows of some ordinals; 0 for ordinals without a row. As many results as there are
    /// places for are written.
    #[inline]
    pub(crate) fn many(&self, query: &CodedQuery, rows: &[CodeGroup], ordinals: &[u32], similarities: &mut [f32]) {
        (self.many)(query, rows, ordinals, similarities);
    }

    /// The similarities of a query with rows that are woven together, as many sixteens as there are rows and places for.
    #[inline]
    pub(crate) fn woven(&self, query: &CodedQuery, rows: &[CodeGroup], similarities: &mut [f32]) {
        (self.woven)(query, rows, similarities);
    }

    /// The start-up self test: batches of every remainder, rows of one to three groups.
    fn agrees(&self) -> bool {
        const MOST: u32 = 2 * WOVEN as u32;
        let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
        (1..=3_usize).all(|groups| {
            let rows: Vec<CodeGroup> = (0..MOST as usize * groups)
                .map(|group| std::array::from_fn(|i| noise(group * CODE_GROUP + i) as u8))
                .collect();
            let query: Vec<f32> =
                (0..groups * CODE_GROUP).map(|i| noise(i + 7_919) as f32 / (1 << 23) as f32 - 1.0).collect();
            let mut coded = CodedQuery::default();
            coded.set(&query, &vec![0.01; query.len()]);
            let (mut found, mut expected) = ([0.0; MOST as usize], [0.0; MOST as usize]);
            let in_batches = (0..=MOST).all(|count| {
                let ordinals: Vec<u32> = (0..count).rev().collect();
                self.many(&coded, &rows, &ordinals, &mut found);
                (PORTABLE.many)(&coded, &rows, &ordinals, &mut expected);
                found == expected
            });
            let mut woven = vec![[0; CODE_GROUP]; rows.len()];
            for (sixteen, woven) in rows.chunks(groups * WOVEN).zip(woven.chunks_mut(groups * WOVEN)) {
                weave(sixteen.chunks(groups), woven);
            }
            self.woven(&coded, &woven, &mut found);
            // The last of the batches was in the opposite order.
            expected.reverse();
            in_batches && found == expected
        })
    }
}

/// The kernels that this machine can run, fastest first.
fn available() -> Vec<CodeKernel> {
    #[cfg(target_arch = "x86_64")]
    let mut kernels = super::x86::available_for_codes();
    #[cfg(target_arch = "aarch64")]
    let mut kernels = super::arm::available_for_codes();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let mut kernels = Vec::new();
    kernels.push(PORTABLE);
    kernels
}

/// What every machine has, and the twin of the others.
const PORTABLE: CodeKernel = CodeKernel {
    name: if cfg!(target_arch = "aarch64") { "NEON" } else { "portable" },
    many: |query, rows, ordinals, similarities| {
        codes_abreast(ordinals, similarities, |[ordinal]| [portable(query, rows, ordinal)]);
    },
    woven: woven::portable,
};

fn portable(query: &CodedQuery, rows: &[CodeGroup], ordinal: u32) -> f32 {
    let mut sum = 0_i32;
    for (group, values) in query.whole().iter().enumerate() {
        for (value, code) in values.iter().zip(group_of(rows, query.width(), ordinal, group)) {
            sum = sum.wrapping_add(i32::from(*value) * i32::from(*code));
        }
    }
    query.similarity(sum)
}

/// Takes a batch apart, N ordinals abreast; what is left over is filled up with ordinals that no row has. `abreast` is called at one place
/// only, so that it becomes part of the loop.
#[inline(always)]
pub(super) fn codes_abreast<const N: usize>(
    ordinals: &[u32],
    similarities: &mut [f32],
    abreast: impl Fn([u32; N]) -> [f32; N],
) {
    let most = ordinals.len().min(similarities.len());
    let similarities = similarities.get_mut(..most).unwrap_or_default();
    for (ordinals, places) in ordinals.chunks(N).zip(similarities.chunks_mut(N)) {
        let some = <[u32; N]>::try_from(ordinals)
            .unwrap_or_else(|_| std::array::from_fn(|place| ordinals.get(place).copied().unwrap_or(u32::MAX)));
        let found = abreast(some);
        match <&mut [f32; N]>::try_from(&mut *places) {
            Ok(places) => *places = found,
            Err(_) => places.iter_mut().zip(found).for_each(|(place, similarity)| *place = similarity),
        }
    }
}

/// A piece of the coded row of an ordinal; without a row, zeros.
#[inline(always)]
pub(super) fn group_of(rows: &[CodeGroup], width: usize, ordinal: u32, group: usize) -> &CodeGroup {
    static NOTHING: CodeGroup = [CODE_ZERO; CODE_GROUP];
    rows.get((ordinal as usize).wrapping_mul(width).wrapping_add(group)).unwrap_or(&NOTHING)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dot_scalar;
    use super::*;

    #[test]
    fn every_kernel_passes_its_self_test() {
        for kernel in available() {
            assert!(kernel.agrees(), "{}", kernel.name());
        }
    }

    #[test]
    fn the_widest_sums_do_not_wrap() {
        for width in [64, 1_024, 4_096] {
            let mut query = CodedQuery::default();
            query.set(&vec![1.0; width], &vec![1.0; width]);
            let row = vec![[255_u8; CODE_GROUP]; width / CODE_GROUP];
            for kernel in available() {
                let mut found = [0.0];
                kernel.many(&query, &row, &[0], &mut found);
                let expected = 127.0 * width as f32;
                assert!((found[0] - expected).abs() <= expected * 1e-3, "{} {width}: {found:?}", kernel.name());
            }
        }
    }

    #[test]
    fn a_query_of_any_length_has_its_deviation() {
        let deviation = |value: f32| {
            let mut query = CodedQuery::default();
            query.set(&[value; 64], &[0.5; 64]);
            query.deviation
        };
        let usual = deviation(1.0);
        assert!(usual > 1.0);
        for times in [2_f32.powi(100), 2_f32.powi(-100)] {
            assert_eq!(deviation(times), usual * times);
        }
        assert_eq!(deviation(0.0), 0.0);
        assert_eq!(deviation(1e-40), f32::INFINITY, "nothing is left of it in steps");
        assert_eq!(deviation(f32::from_bits(1)), f32::INFINITY, "nor where times the scales it is zero");
    }

    #[test]
    fn ordinals_without_a_row_give_zero() {
        let mut query = CodedQuery::default();
        query.set(&[1.0; 64], &[1.0; 64]);
        for kernel in available() {
            let mut found = [7.0; 6];
            kernel.many(&query, &[[CODE_ZERO + 1; CODE_GROUP]], &[0, 1, u32::MAX, 0, 1], &mut found);
            assert!(found[0] > 63.0 && found[0] == found[3], "{}: {found:?}", kernel.name());
            assert_eq!((found[1], found[2], found[4], found[5]), (0.0, 0.0, 0.0, 7.0));
        }
    }

    proptest! {
        #[test]
        fn codes_are_as_near_as_their_deviation_says(
            values in prop::collection::vec(-1.0_f32..1.0, 160),
            dimensions in 1_usize..150,
        ) {
            let scales = vec![1.0 / 127.0; dimensions];
            let query: Vec<f32> = values.iter().take(dimensions).copied().collect();
            let row: Vec<f32> = values.iter().rev().take(dimensions).copied().collect();
            let mut codes = vec![CODE_ZERO; dimensions.next_multiple_of(CODE_GROUP)];
            for (code, value) in codes.iter_mut().zip(&row) {
                *code = (value * 127.0).round() as i8 as u8 ^ CODE_ZERO;
            }
            let mut coded = CodedQuery::default();
            coded.set(&query, &scales);
            for kernel in available() {
                let mut found = [0.0];
                kernel.many(&coded, codes.as_chunks().0, &[0], &mut found);
                let error = (found[0] - dot_scalar(&query, &row)).abs();
                prop_assert!(error <= 6.0 * coded.deviation + 1e-3, "{}: off by {error}", kernel.name());
            }
        }
    }
}

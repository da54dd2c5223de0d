//! One query, many rows: the products that a search spends its time on.
//!
//! Rows and query are padded to whole groups of 16 floats with zeros, so there is no rest to treat. Each product is summed in the same
//! 16 places and folded in the same order whatever the instruction set and whatever stands beside it in the batch, so a row has the
//! same similarity on every path, and equal rows tie. Which kernel runs is found out once per process.

use std::sync::OnceLock;

use super::unfold::{FINE_ZERO, product_portable, unfold};

/// Floats of a group: a cache line, and a register of AVX-512.
pub(crate) const GROUP: usize = 16;

/// A piece of a row.
pub(crate) type Group = [f32; GROUP];

/// Rows that are multiplied side by side, so that their additions need not wait for each other.
pub(super) const ABREAST: usize = 4;

/// Query, rows end to end, which rows, and where their similarities go.
type Many = fn(&[Group], &[Group], &[u32], &mut [f32]);
/// Two rows.
type Pair = fn(&[Group], &[Group]) -> f32;
/// Query, codes, and what is beside them.
type Fine = fn(&[Group], &[u8], &[u8]) -> f32;

/// The kernel for this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub(super) name: &'static str,
    pub(super) many: Many,
    pub(super) pair: Pair,
    pub(super) fine: Fine,
}

impl Kernel {
    /// The fastest of those that the machine has and that agree with the scalar twin.
    pub(crate) fn get() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| available().into_iter().find(Self::agrees).unwrap_or(PORTABLE))
    }

    /// The instruction set it is made of.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The similarities of a query with the rows of some ordinals. A row has as many groups as the query; ordinals without a row
    /// give 0, as many results as there are places for are written.
    #[inline]
    pub(crate) fn many(&self, query: &[Group], rows: &[Group], ordinals: &[u32], similarities: &mut [f32]) {
        (self.many)(query, rows, ordinals, similarities);
    }

    /// The similarity of two rows.
    #[inline]
    pub(crate) fn pair(&self, a: &[Group], b: &[Group]) -> f32 {
        (self.pair)(a, b)
    }

    /// The similarity of a query, times what 256ths of steps are worth, with a row of two bytes a value.
    #[inline]
    pub(crate) fn fine(&self, query: &[Group], codes: &[u8], fine: &[u8]) -> f32 {
        (self.fine)(query, codes, fine)
    }

    /// The start-up self test, of single products and of batches of every remainder.
    fn agrees(&self) -> bool {
        let single = super::agrees(|a, b| Some(self.pair(&groups(a), &groups(b))));
        let in_batches = super::agrees(|a, b| {
            let (a, b) = (groups(a), groups(b));
            let mut found = [0.0; 2 * ABREAST];
            let ordinals = [0; 2 * ABREAST];
            let count = 1 + a.len() % found.len();
            self.many(&a, &b, ordinals.get(..count)?, &mut found);
            found.get(..count)?.iter().copied().reduce(|a, b| if a == b { a } else { f32::NAN })
        });
        // A row of two bytes a value each, against the same row as floats.
        let fine = super::agrees(|a, b| {
            let bytes = |shift: u32| -> Vec<u8> {
                b.iter().map(|value| (((value * 32_000.0) as i32 + FINE_ZERO) >> shift) as u8).collect()
            };
            let padded = |mut bytes: Vec<u8>| {
                bytes.resize(bytes.len().next_multiple_of(GROUP), 0);
                bytes
            };
            let (codes, beside) = (padded(bytes(8)), padded(bytes(0)));
            let mut values = vec![0.0; b.len()];
            unfold(&codes, &beside, &vec![256.0; b.len()], &mut values);
            let expected = super::dot_scalar(a, &values) / 32_000.0;
            let found = self.fine(&groups(a), &codes, &beside) / 32_000.0;
            // As near to the product with the values as they are as these are to the row.
            ((found - expected).abs() <= 1e-5 * (a.len() as f32 + 1.0)).then(|| super::dot_scalar(a, b))
        });
        single && in_batches && fine
    }
}

/// A vector in whole groups, filled up with zeros.
fn groups(vector: &[f32]) -> Vec<Group> {
    let piece = |values: &[f32]| std::array::from_fn(|place| values.get(place).copied().unwrap_or(0.0));
    vector.chunks(GROUP).map(piece).collect()
}

/// The kernels that this machine can run, fastest first.
fn available() -> Vec<Kernel> {
    #[cfg(target_arch = "x86_64")]
    let mut kernels = super::x86::available();
    #[cfg(not(target_arch = "x86_64"))]
    let mut kernels = Vec::new();
    kernels.push(PORTABLE);
    kernels
}

/// What every machine has; compilers turn it into the vector instructions of the target.
const PORTABLE: Kernel = Kernel {
    name: if cfg!(target_arch = "aarch64") { "NEON" } else { "portable" },
    many: |query, rows, ordinals, similarities| {
        in_fours(query, rows, ordinals, similarities, |query, rows| rows.map(|row| portable(query, row)), portable);
    },
    pair: portable,
    fine: |query, codes, fine| fold(product_portable(query, codes, fine)),
};

/// The product of two rows; of rows of different lengths, the part that both have counts.
fn portable(a: &[Group], b: &[Group]) -> f32 {
    let mut sum = [0.0; GROUP];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
            // Fused where every machine has an instruction for it; elsewhere it would be a call.
            *sum = if cfg!(target_arch = "aarch64") { a.mul_add(*b, *sum) } else { a * b + *sum };
        }
    }
    fold(sum)
}

/// Sixteen sums to one, in the order in which registers are folded.
#[inline(always)]
pub(super) fn fold(sum: [f32; GROUP]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| sum[i] + sum[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Takes a batch apart: four rows abreast, and what is left one by one. What is not there has no groups, and so a product of 0.
#[inline(always)]
pub(super) fn in_fours(
    query: &[Group],
    rows: &[Group],
    ordinals: &[u32],
    similarities: &mut [f32],
    four: impl Fn(&[Group], [&[Group]; ABREAST]) -> [f32; ABREAST],
    one: impl Fn(&[Group], &[Group]) -> f32,
) {
    let row = |ordinal: u32| {
        let from = (ordinal as usize).wrapping_mul(query.len());
        rows.get(from..from.wrapping_add(query.len())).unwrap_or_default()
    };
    let count = ordinals.len().min(similarities.len());
    let ordinals = ordinals.get(..count).unwrap_or_default().as_chunks::<ABREAST>();
    let places = similarities.get_mut(..count).unwrap_or_default().as_chunks_mut::<ABREAST>();
    for (ordinals, places) in ordinals.0.iter().zip(places.0) {
        let rows = ordinals.map(row);
        let all_there = rows.iter().all(|row| row.len() == query.len());
        *places = if all_there { four(query, rows) } else { rows.map(|row| one(query, row)) };
    }
    for (ordinal, place) in ordinals.1.iter().zip(places.1) {
        *place = one(query, row(*ordinal));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{close, dot_scalar};
    use super::*;

    #[test]
    fn every_kernel_passes_its_self_test() {
        for kernel in available() {
            assert!(kernel.agrees(), "{}", kernel.name());
        }
    }

    #[test]
    fn ordinals_without_a_row_give_zero_and_places_run_out() {
        let rows = [[1.0; GROUP], [2.0; GROUP]];
        for kernel in available() {
            let mut similarities = [7.0; 7];
            kernel.many(&[[1.0; GROUP]], &rows, &[1, u32::MAX, 2, 0, 0, 9], &mut similarities);
            assert_eq!(similarities, [32.0, 0.0, 0.0, 16.0, 16.0, 0.0, 7.0], "{}", kernel.name());
            kernel.many(&[[1.0; GROUP]], &rows, &[1, 0, 1, 0, 1, 0], &mut similarities[..3]);
            kernel.many(&[], &[], &[0, 1], &mut similarities);
            kernel.many(&[[1.0; GROUP]], &rows, &[], &mut similarities);
        }
    }

    proptest! {
        #[test]
        fn every_kernel_agrees_with_the_scalar_twin_and_with_itself(
            values in prop::collection::vec(-1.0_f32..1.0, 300),
            dimensions in 1_usize..70,
            count in 0_usize..20,
            seed in any::<u32>(),
        ) {
            let query: Vec<f32> = values.iter().take(dimensions).copied().collect();
            let vector = |row: usize| -> Vec<f32> {
                (0..dimensions).map(|i| values[(row * 37 + i * 11 + seed as usize) % values.len()]).collect()
            };
            let rows: Vec<Group> = (0..8).flat_map(|row| groups(&vector(row))).collect();
            let ordinals: Vec<u32> = (0..count as u32).map(|i| (i.wrapping_mul(seed | 1)) % 8).collect();
            for kernel in available() {
                let mut found = vec![0.0; count];
                kernel.many(&groups(&query), &rows, &ordinals, &mut found);
                for (ordinal, found) in ordinals.iter().zip(found) {
                    let row = vector(*ordinal as usize);
                    prop_assert!(close(found, dot_scalar(&query, &row), dimensions), "{}", kernel.name());
                    prop_assert_eq!(found.to_bits(), kernel.pair(&groups(&query), &groups(&row)).to_bits());
                }
            }
        }
    }
}

//! The Gram matrix `YᵀY` of a table of factors: what makes training on all user-item pairs as cheap as on the observed ones.

use rayon::prelude::*;

use super::kernels::{Kernel, Simd, add_scaled, add_scaled4, quarters, vectorised};
use crate::matrix::Matrix;

/// Partial sums a Gram matrix is put together from. Fixed, so that the result does not depend on the number of threads.
const PARTS: usize = 64;
/// Fewest rows worth a partial sum.
const ROWS_PER_PART_MIN: usize = 256;

/// `YᵀY` of an n × d table, d × d and symmetric.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gram {
    /// Summed in single precision over parts of the rows and in double precision over the parts.
    pub(crate) exact: Vec<f64>,
    d: usize,
}

impl Gram {
    /// Costs n·d²/2 multiplications, over all threads.
    pub(crate) fn of(table: &Matrix) -> Self {
        let d = table.cols;
        let rows_per_part = table.rows.div_ceil(PARTS).max(ROWS_PER_PART_MIN);
        let part = |rows: &[f32]| {
            let mut sum = vec![0.0_f32; d * d];
            vectorised(Accumulate { sum: &mut sum, rows, d });
            sum
        };
        let parts: Vec<Vec<f32>> = table.data.par_chunks((rows_per_part * d).max(1)).map(part).collect();
        let mut exact = vec![0.0_f64; d * d];
        for part in parts {
            exact.iter_mut().zip(part).for_each(|(sum, value)| *sum += f64::from(value));
        }
        // Only the upper triangle was summed.
        for row in 0..d {
            for col in 0..row {
                exact[row * d + col] = exact[col * d + row];
            }
        }
        Self { exact, d }
    }

    /// The matrix in single precision with `regularization` added to its diagonal.
    pub(crate) fn regularized(&self, regularization: f64) -> Vec<f32> {
        let mut out: Vec<f32> = self.exact.iter().map(|value| *value as f32).collect();
        for i in 0..self.d {
            out[i * (self.d + 1)] = (self.exact[i * (self.d + 1)] + regularization) as f32;
        }
        out
    }

    /// `Σ` over all pairs of rows of the two tables of `(x·y)²`, which is the trace of the product of their Gram matrices.
    pub(crate) fn sum_of_squared_products(&self, other: &Self) -> f64 {
        self.exact.iter().zip(&other.exact).map(|(a, b)| a * b).sum()
    }

    /// `Σ ‖y‖²` over the rows.
    pub(crate) fn sum_of_squares(&self) -> f64 {
        (0..self.d).map(|i| self.exact[i * (self.d + 1)]).sum()
    }
}

struct Accumulate<'a> {
    sum: &'a mut [f32],
    rows: &'a [f32],
    d: usize,
}

impl Kernel for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        accumulate(simd, self.sum, self.rows, self.d);
    }
}

/// Adds `Σ y yᵀ` over the rows to the upper triangle of `sum`, four rows at a time.
#[inline(always)]
fn accumulate<S: Simd>(simd: S, sum: &mut [f32], rows: &[f32], d: usize) {
    let mut blocks = rows.chunks_exact(4 * d);
    for block in &mut blocks {
        let [r0, r1, r2, r3] = quarters(block, d);
        for i in 0..d {
            let scales = [r0[i], r1[i], r2[i], r3[i]];
            add_scaled4(simd, &mut sum[i * d + i..(i + 1) * d], scales, [&r0[i..], &r1[i..], &r2[i..], &r3[i..]]);
        }
    }
    for row in blocks.remainder().chunks_exact(d) {
        for i in 0..d {
            add_scaled(simd, &mut sum[i * d + i..(i + 1) * d], row[i], &row[i..]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn agrees_with_its_definition() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for (n, d) in [(1, 1), (7, 5), (1_030, 9), (3, 33)] {
            let table = Matrix::from_vec(n, d, (0..n * d).map(|_| rng.random::<f32>() - 0.5).collect()).unwrap();
            let other = Matrix::from_vec(n, d, (0..n * d).map(|_| rng.random::<f32>() - 0.5).collect()).unwrap();
            let gram = Gram::of(&table);
            for i in 0..d {
                for j in 0..d {
                    let slow: f64 = table.iter().map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
                    assert!((gram.exact[i * d + j] - slow).abs() < 1e-3, "{n} {d} {i} {j}");
                }
            }
            let squares: f64 = table.data.iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!((gram.sum_of_squares() - squares).abs() < 1e-3);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a * *b)).sum::<f64>();
            let slow: f64 = table.iter().flat_map(|a| other.iter().map(move |b| dot(a, b).powi(2))).sum();
            let fast = gram.sum_of_squared_products(&Gram::of(&other));
            assert!((fast - slow).abs() < 1e-4 * slow.max(1.0), "{fast} {slow}");
        }
    }
}

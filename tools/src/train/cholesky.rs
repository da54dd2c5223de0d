//! Solving one user's or item's normal equations exactly, by Cholesky factorisation (single precision, d³/6 operations).

use super::equations::Equations;
use super::kernels::{Kernel, Simd, add_scaled, add_scaled4, dot, vectorised};

/// Factorises the symmetric positive definite `a` (d × d, row-major, lower triangle read) in place as `L·Lᵀ` and solves
/// `a·x = b`, with `b` in `x` on entry and the solution in `x` on return.
///
/// Returns false, with `x` undefined, if a pivot is not positive: the matrix is not positive definite, or too badly conditioned
/// for single precision.
#[inline(always)]
fn solve_inlined<S: Simd>(simd: S, a: &mut [f32], x: &mut [f32]) -> bool {
    let d = x.len();
    for j in 0..d {
        // Row by row, each element from the dot product of two finished row prefixes: contiguous, so vectorised.
        let (above, rest) = a.split_at_mut(j * d);
        let row = &mut rest[..d];
        for i in 0..j {
            let pivot_row = &above[i * d..i * d + i + 1];
            row[i] = (row[i] - dot(simd, &row[..i], &pivot_row[..i])) / pivot_row[i];
        }
        let pivot = row[j] - dot(simd, &row[..j], &row[..j]);
        if pivot.is_nan() || pivot <= f32::EPSILON * row[j].abs() {
            return false;
        }
        row[j] = pivot.sqrt();
    }
    for i in 0..d {
        let row = &a[i * d..i * d + i + 1];
        x[i] = (x[i] - dot(simd, &row[..i], &x[..i])) / row[i];
    }
    // The transpose is walked by rows too: once x[i] is known its share is taken from all earlier ones.
    for i in (0..d).rev() {
        let row = &a[i * d..i * d + i + 1];
        let value = x[i] / row[i];
        x[i] = value;
        add_scaled(simd, &mut x[..i], -value, &row[..i]);
    }
    // A single NaN or infinity makes the sum of squares one.
    dot(simd, x, x).is_finite()
}

/// Solves the equations for `x`. `matrix` is a buffer of d × d numbers. Costs n·d²/2 + d³/6.
///
/// Returns false, with `x` undefined, if the matrix is not positive definite in single precision.
pub(crate) fn solve(equations: &Equations<'_>, matrix: &mut [f32], x: &mut [f32]) -> bool {
    vectorised(Solve { equations, matrix, x })
}

struct Solve<'a> {
    equations: &'a Equations<'a>,
    matrix: &'a mut [f32],
    x: &'a mut [f32],
}

impl Kernel for Solve<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        gather(simd, self.equations, self.matrix, self.x);
        solve_inlined(simd, self.matrix, self.x)
    }
}

/// Writes the matrix of the equations (lower triangle) and their right side.
#[inline(always)]
fn gather<S: Simd>(simd: S, equations: &Equations<'_>, matrix: &mut [f32], x: &mut [f32]) {
    let (n, d) = (equations.len(), equations.d);
    matrix.copy_from_slice(equations.gram);
    x.fill(0.0);
    let mut k = 0;
    while k + 4 <= n {
        let [a, b, c, e] = equations.four(k);
        let rows = [a.y, b.y, c.y, e.y];
        add_scaled4(simd, x, [a.target, b.target, c.target, e.target], rows);
        for i in 0..d {
            let scales = [a.extra * a.y[i], b.extra * b.y[i], c.extra * c.y[i], e.extra * e.y[i]];
            add_scaled4(simd, &mut matrix[i * d..i * d + i + 1], scales, rows);
        }
        k += 4;
    }
    while k < n {
        let row = equations.row(k);
        add_scaled(simd, x, row.target, row.y);
        for i in 0..d {
            add_scaled(simd, &mut matrix[i * d..i * d + i + 1], row.extra * row.y[i], row.y);
        }
        k += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use faer::linalg::solvers::Solve as _;
    use proptest::prelude::*;

    use super::*;

    /// A system given whole.
    struct Dense<'a>(&'a mut [f32], &'a mut [f32]);

    impl Kernel for Dense<'_> {
        type Output = bool;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> bool {
            solve_inlined(simd, self.0, self.1)
        }
    }

    proptest! {
        #[test]
        fn agrees_with_faer(
            (d, b) in (1..40_usize).prop_flat_map(|d| (Just(d), prop::collection::vec(-1.0_f32..1.0, 2 * d * d + d))),
        ) {
            let (table, right) = b.split_at(2 * d * d);
            let gram = |i: usize, j: usize| {
                let sum: f64 = table.chunks(d).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
                sum + if i == j { 0.5 } else { 0.0 }
            };
            let dense = faer::Mat::<f64>::from_fn(d, d, gram);
            let rhs = faer::Mat::<f64>::from_fn(d, 1, |i, _| f64::from(right[i]));
            let oracle = dense.llt(faer::Side::Lower).unwrap().solve(&rhs);
            let mut a: Vec<f32> = (0..d * d).map(|at| gram(at / d, at % d) as f32).collect();
            let mut x = right.to_vec();
            prop_assert!(vectorised(Dense(&mut a, &mut x)));
            for (i, x) in x.iter().enumerate() {
                prop_assert!((f64::from(*x) - oracle[(i, 0)]).abs() < 2e-3, "{} against {}", x, oracle[(i, 0)]);
            }
        }
    }

    #[test]
    fn a_known_system() {
        // [4 2; 2 3] x = [8; 7] has the solution [1.25, 1.5].
        let mut a = [4.0, 2.0, 2.0, 3.0];
        let mut x = [8.0, 7.0];
        assert!(vectorised(Dense(&mut a, &mut x)));
        assert!((x[0] - 1.25).abs() < 1e-6 && (x[1] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_positive_definite_is_said_so() {
        for mut a in [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [-1.0, 0.0, 0.0, 1.0], [f32::NAN; 4]] {
            assert!(!vectorised(Dense(&mut a, &mut [1.0, 1.0])));
        }
    }
}

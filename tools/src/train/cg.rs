//! Solving one user's or item's normal equations approximately, by a few steps of conjugate gradients from the last solution
//! (Takács, Pilászy, Tikk 2011: Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative Filtering).
//!
//! A step costs d² + 2·n·d instead of the n·d²/2 of building the matrix, and since each pass over the data begins where
//! the last one ended, two or three steps a pass are as good as solving exactly.

use super::equations::{Equations, Row};
use super::kernels::{Kernel, Simd, add_scaled, add_scaled4, dot, dot4, symmetric_times, vectorised};

/// Buffers of a solve, d numbers each.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    residual: Vec<f32>,
    direction: Vec<f32>,
    product: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new(d: usize) -> Self {
        Self { residual: vec![0.0; d], direction: vec![0.0; d], product: vec![0.0; d] }
    }
}

/// Below this the squared residual is rounding, and a further step would divide noise by noise.
const RESIDUAL_MIN: f32 = 1e-20;

/// Improves `x` towards the solution of the equations by at most `steps` steps.
///
/// Never makes the quadratic form that a solution minimises larger, but for rounding.
pub(crate) fn improve(equations: &Equations<'_>, steps: usize, scratch: &mut Scratch, x: &mut [f32]) {
    vectorised(Improve { equations, steps, scratch, x });
}

struct Improve<'a> {
    equations: &'a Equations<'a>,
    steps: usize,
    scratch: &'a mut Scratch,
    x: &'a mut [f32],
}

impl Kernel for Improve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        conjugate_gradients(simd, self.equations, self.steps, self.scratch, self.x);
    }
}

#[inline(always)]
fn conjugate_gradients<S: Simd>(
    simd: S,
    equations: &Equations<'_>,
    steps: usize,
    scratch: &mut Scratch,
    x: &mut [f32],
) {
    let Scratch { residual, direction, product } = scratch;
    // residual = b − A·x, in one pass over the rows.
    symmetric_times(simd, product, equations.gram, x);
    for (residual, product) in residual.iter_mut().zip(product.iter()) {
        *residual = -product;
    }
    add_along::<true, S>(simd, residual, equations, x);
    direction.copy_from_slice(residual);
    let mut before = dot(simd, residual, residual);
    for _ in 0..steps {
        if before < RESIDUAL_MIN {
            break;
        }
        symmetric_times(simd, product, equations.gram, direction);
        add_along::<false, S>(simd, product, equations, direction);
        let curvature = dot(simd, direction, product);
        // Positive for every positive definite matrix; anything else is overflow, and x is left as it is.
        if curvature.is_nan() || curvature <= 0.0 {
            break;
        }
        let length = before / curvature;
        add_scaled(simd, x, length, direction);
        add_scaled(simd, residual, -length, product);
        let after = dot(simd, residual, residual);
        let turn = after / before;
        for (direction, residual) in direction.iter_mut().zip(residual.iter()) {
            *direction = residual + turn * *direction;
        }
        before = after;
    }
}

/// `out += Σ_k extra_k · (y_k·vector) · y_k`; or, for the residual, `out += Σ_k (target_k − extra_k · (y_k·vector)) · y_k`.
#[inline(always)]
fn add_along<const RESIDUAL: bool, S: Simd>(simd: S, out: &mut [f32], equations: &Equations<'_>, vector: &[f32]) {
    let n = equations.len();
    let mut k = 0;
    while k + 4 <= n {
        let four = equations.four(k);
        let rows = [four[0].y, four[1].y, four[2].y, four[3].y];
        let along = dot4(simd, rows, vector);
        let mut scales = [0.0; 4];
        for i in 0..4 {
            scales[i] = scale::<RESIDUAL>(&four[i], along[i]);
        }
        add_scaled4(simd, out, scales, rows);
        k += 4;
    }
    while k < n {
        let row = equations.row(k);
        add_scaled(simd, out, scale::<RESIDUAL>(&row, dot(simd, row.y, vector)), row.y);
        k += 1;
    }
}

#[inline(always)]
fn scale<const RESIDUAL: bool>(row: &Row<'_>, along: f32) -> f32 {
    if RESIDUAL { row.target - row.extra * along } else { row.extra * along }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::train::cholesky;

    /// A random problem: a positive definite matrix, and rows with the values of their pairs.
    #[derive(Clone, Debug)]
    struct Problem {
        d: usize,
        gram: Vec<f32>,
        table: Vec<f32>,
        columns: Vec<u32>,
        values: Vec<f32>,
    }

    fn problems() -> impl Strategy<Value = Problem> {
        (1..24_usize, 0..30_usize).prop_flat_map(|(d, n)| {
            let numbers = |n: usize| prop::collection::vec(-1.0_f32..1.0, n);
            let values = prop::collection::vec(-3.0_f32..5.0, n);
            (numbers(2 * d * d), numbers(n * d), values).prop_map(move |(square, table, values)| {
                let gram = |at: usize| {
                    let (i, j) = (at / d, at % d);
                    let sum: f32 = square.chunks(d).map(|row| row[i] * row[j]).sum();
                    sum + if i == j { 1.0 } else { 0.0 }
                };
                Problem { d, gram: (0..d * d).map(gram).collect(), table, columns: (0..n as u32).collect(), values }
            })
        })
    }

    impl Problem {
        fn equations(&self) -> Equations<'_> {
            Equations { gram: &self.gram, fixed: &self.table, columns: &self.columns, values: &self.values, d: self.d }
        }

        /// `½ xᵀAx − bᵀx`, in double precision, term by term.
        fn energy(&self, x: &[f32]) -> f64 {
            let mut energy = 0.0;
            for i in 0..self.d {
                for j in 0..self.d {
                    energy += 0.5 * f64::from(x[i]) * f64::from(self.gram[i * self.d + j]) * f64::from(x[j]);
                }
            }
            for (y, value) in self.table.chunks(self.d).zip(&self.values) {
                let along: f64 = y.iter().zip(x).map(|(y, x)| f64::from(*y) * f64::from(*x)).sum();
                let target = if *value > 0.0 { 1.0 + f64::from(*value) } else { 0.0 };
                energy += 0.5 * f64::from(value.abs()) * along * along - target * along;
            }
            energy
        }
    }

    proptest! {
        #[test]
        fn many_steps_agree_with_cholesky(problem in problems()) {
            let d = problem.d;
            let mut exact = vec![0.0; d];
            prop_assert!(cholesky::solve(&problem.equations(), &mut vec![0.0; d * d], &mut exact));
            let mut x = vec![0.0; d];
            improve(&problem.equations(), 4 * d, &mut Scratch::new(d), &mut x);
            for (x, exact) in x.iter().zip(&exact) {
                prop_assert!((x - exact).abs() < 2e-3, "{} against {}", x, exact);
            }
        }

        #[test]
        fn no_step_makes_it_worse(problem in problems(), start in -1.0_f32..1.0) {
            let mut x = vec![start; problem.d];
            let mut before = problem.energy(&x);
            for _ in 0..6 {
                improve(&problem.equations(), 1, &mut Scratch::new(problem.d), &mut x);
                let after = problem.energy(&x);
                prop_assert!(after <= before + 1e-4 * before.abs().max(1.0), "{} after {}", after, before);
                before = after;
            }
        }
    }
}

//! The inner loops of training: dot products and sums of scaled rows, in vector instructions.
//!
//! A [`Kernel`] is compiled once for each width of vector registers and run with the widest that the processor has; this is the
//! only file that names `pulp`, which makes that safe. Results differ in the last digits between processors of different
//! widths, and are the same to the bit on one, for any number of threads.
//! Everything here must be inlined into the kernel, so it is free of iterator adapters that take closures;
//! what is not inlined is merely slower.

#[cfg(test)]
pub(crate) use pulp::Scalar;
pub(crate) use pulp::Simd;

/// A computation to be compiled once for each width of vector registers. `run` must be `#[inline(always)]`, and so must all that
/// it calls; this is why it is not a closure, which cannot be marked so.
pub(crate) trait Kernel {
    /// What it computes.
    type Output;

    /// Computes it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with the widest vector instructions that this processor has.
#[inline(always)]
pub(crate) fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    struct Widest<K>(K);
    impl<K: Kernel> pulp::WithSimd for Widest<K> {
        type Output = K::Output;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            self.0.run(simd)
        }
    }
    pulp::Arch::new().dispatch(Widest(kernel))
}

/// `Σ a·b` over the shorter of the two.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let (a_vectors, a_rest) = S::as_simd_f32s(a);
    let (b_vectors, b_rest) = S::as_simd_f32s(b);
    // Four sums side by side, to hide the latency of additions.
    let (a_fours, a_last) = a_vectors.as_chunks::<4>();
    let (b_fours, b_last) = b_vectors.as_chunks::<4>();
    let zero = simd.splat_f32s(0.0);
    let [mut s0, mut s1, mut s2, mut s3] = [zero; 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        s0 = simd.mul_add_e_f32s(a[0], b[0], s0);
        s1 = simd.mul_add_e_f32s(a[1], b[1], s1);
        s2 = simd.mul_add_e_f32s(a[2], b[2], s2);
        s3 = simd.mul_add_e_f32s(a[3], b[3], s3);
    }
    for (a, b) in a_last.iter().zip(b_last) {
        s0 = simd.mul_add_e_f32s(*a, *b, s0);
    }
    let sum = simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3));
    simd.reduce_sum_f32s(sum) + rest(a_rest, b_rest)
}

/// Four dot products with one vector, `[Σ r₀·b, Σ r₁·b, Σ r₂·b, Σ r₃·b]`, reading it once. All are of one length.
#[inline(always)]
pub(crate) fn dot4<S: Simd>(simd: S, rows: [&[f32]; 4], b: &[f32]) -> [f32; 4] {
    let n = b.len();
    let [(r0, t0), (r1, t1), (r2, t2), (r3, t3)] = [
        S::as_simd_f32s(&rows[0][..n]),
        S::as_simd_f32s(&rows[1][..n]),
        S::as_simd_f32s(&rows[2][..n]),
        S::as_simd_f32s(&rows[3][..n]),
    ];
    let (vectors, b_rest) = S::as_simd_f32s(b);
    let zero = simd.splat_f32s(0.0);
    let [mut s0, mut s1, mut s2, mut s3] = [zero; 4];
    for ((((b, r0), r1), r2), r3) in vectors.iter().zip(r0).zip(r1).zip(r2).zip(r3) {
        s0 = simd.mul_add_e_f32s(*r0, *b, s0);
        s1 = simd.mul_add_e_f32s(*r1, *b, s1);
        s2 = simd.mul_add_e_f32s(*r2, *b, s2);
        s3 = simd.mul_add_e_f32s(*r3, *b, s3);
    }
    [
        simd.reduce_sum_f32s(s0) + rest(t0, b_rest),
        simd.reduce_sum_f32s(s1) + rest(t1, b_rest),
        simd.reduce_sum_f32s(s2) + rest(t2, b_rest),
        simd.reduce_sum_f32s(s3) + rest(t3, b_rest),
    ]
}

/// What is left of a dot product after the last whole vector.
#[inline(always)]
fn rest(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

/// `out += scale · row`.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(simd: S, out: &mut [f32], scale: f32, row: &[f32]) {
    let n = out.len();
    let (vectors, tail) = S::as_mut_simd_f32s(out);
    let (row, row_tail) = S::as_simd_f32s(&row[..n]);
    let factor = simd.splat_f32s(scale);
    for (out, row) in vectors.iter_mut().zip(row) {
        *out = simd.mul_add_e_f32s(factor, *row, *out);
    }
    for (out, row) in tail.iter_mut().zip(row_tail) {
        *out += scale * row;
    }
}

/// `out += s₀·r₀ + s₁·r₁ + s₂·r₂ + s₃·r₃`: four rows for one reading and writing of `out`. Rows are at least as long as `out`.
#[inline(always)]
pub(crate) fn add_scaled4<S: Simd>(simd: S, out: &mut [f32], scales: [f32; 4], rows: [&[f32]; 4]) {
    let n = out.len();
    let [(r0, t0), (r1, t1), (r2, t2), (r3, t3)] = [
        S::as_simd_f32s(&rows[0][..n]),
        S::as_simd_f32s(&rows[1][..n]),
        S::as_simd_f32s(&rows[2][..n]),
        S::as_simd_f32s(&rows[3][..n]),
    ];
    let (vectors, tail) = S::as_mut_simd_f32s(out);
    let [f0, f1, f2, f3] = [
        simd.splat_f32s(scales[0]),
        simd.splat_f32s(scales[1]),
        simd.splat_f32s(scales[2]),
        simd.splat_f32s(scales[3]),
    ];
    for ((((out, r0), r1), r2), r3) in vectors.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
        let front = simd.mul_add_e_f32s(f1, *r1, simd.mul_add_e_f32s(f0, *r0, *out));
        let back = simd.mul_add_e_f32s(f3, *r3, simd.mul_f32s(f2, *r2));
        *out = simd.add_f32s(front, back);
    }
    for ((((out, t0), t1), t2), t3) in tail.iter_mut().zip(t0).zip(t1).zip(t2).zip(t3) {
        *out += (scales[0] * t0 + scales[1] * t1) + (scales[2] * t2 + scales[3] * t3);
    }
}

/// `out = matrix · vector` for a symmetric matrix stored in full.
#[inline(always)]
pub(crate) fn symmetric_times<S: Simd>(simd: S, out: &mut [f32], matrix: &[f32], vector: &[f32]) {
    let d = vector.len();
    out.fill(0.0);
    if d == 0 {
        return;
    }
    // Symmetric, so its rows are its columns, and a sum of scaled rows needs no horizontal additions.
    let mut rows = matrix.chunks_exact(4 * d);
    let (scales, last) = vector.as_chunks::<4>();
    for (scales, block) in scales.iter().zip(&mut rows) {
        add_scaled4(simd, out, *scales, quarters(block, d));
    }
    for (scale, row) in last.iter().zip(rows.remainder().chunks_exact(d)) {
        add_scaled(simd, out, *scale, row);
    }
}

/// The four rows of a block of `4 · d` numbers.
#[inline(always)]
pub(crate) fn quarters(block: &[f32], d: usize) -> [&[f32]; 4] {
    let (front, back) = block.split_at(2 * d);
    let (first, second) = front.split_at(d);
    let (third, fourth) = back.split_at(d);
    [first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn numbers(n: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-2.0_f32..2.0, n)
    }

    fn slow_dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    struct Dot<'a>(&'a [f32], &'a [f32]);

    impl Kernel for Dot<'_> {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> f32 {
            dot(simd, self.0, self.1)
        }
    }

    struct Dot4<'a>([&'a [f32]; 4], &'a [f32]);

    impl Kernel for Dot4<'_> {
        type Output = [f32; 4];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> [f32; 4] {
            dot4(simd, self.0, self.1)
        }
    }

    /// `out += Σ scale · row`, four at a time or one by one.
    struct Add<'a>(&'a mut [f32], [f32; 4], [&'a [f32]; 4], bool);

    impl Kernel for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self(out, scales, rows, together) = self;
            if together {
                add_scaled4(simd, out, scales, rows);
            } else {
                for (scale, row) in scales.iter().zip(rows) {
                    add_scaled(simd, out, *scale, row);
                }
            }
        }
    }

    struct Times<'a>(&'a mut [f32], &'a [f32], &'a [f32]);

    impl Kernel for Times<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            symmetric_times(simd, self.0, self.1, self.2);
        }
    }

    proptest! {
        #[test]
        fn agree_with_double_precision(
            (rows, b) in (0..130_usize).prop_flat_map(|d| (prop::collection::vec(numbers(d), 4), numbers(d))),
            scales in prop::array::uniform4(-2.0_f32..2.0),
        ) {
            let rows: [&[f32]; 4] = std::array::from_fn(|i| rows[i].as_slice());
            for (row, product) in rows.iter().zip(vectorised(Dot4(rows, &b))) {
                prop_assert!((f64::from(product) - slow_dot(row, &b)).abs() < 1e-4);
                prop_assert!((f64::from(vectorised(Dot(row, &b))) - slow_dot(row, &b)).abs() < 1e-4);
                // The scalar twin, which is what runs on a processor without vector registers.
                prop_assert!((f64::from(dot(Scalar::new(), row, &b)) - slow_dot(row, &b)).abs() < 1e-4);
            }
            let sum = |together| {
                let mut out = b.clone();
                vectorised(Add(&mut out, scales, rows, together));
                out
            };
            for (at, (four, one)) in sum(true).iter().zip(sum(false)).enumerate() {
                let slow: f32 = b[at] + (0..4).map(|k| scales[k] * rows[k][at]).sum::<f32>();
                prop_assert!((four - slow).abs() < 1e-4 && (one - slow).abs() < 1e-4);
            }
        }

        #[test]
        fn a_symmetric_matrix_times_a_vector(
            (half, vector) in (0..19_usize).prop_flat_map(|d| (numbers(d * d), numbers(d))),
        ) {
            let d = vector.len();
            let matrix: Vec<f32> = (0..d * d).map(|i| half[i] + half[i % d * d + i / d]).collect();
            let mut product = vec![9.0; d];
            vectorised(Times(&mut product, &matrix, &vector));
            for (row, product) in product.iter().enumerate() {
                let slow = slow_dot(&matrix[row * d..(row + 1) * d], &vector);
                prop_assert!((f64::from(*product) - slow).abs() < 1e-4);
            }
        }
    }
}

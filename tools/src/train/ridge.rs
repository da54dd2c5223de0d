//! Ridge regression of many outputs at once on sparse rows: `W = (XᵀX + λ·1)⁻¹ XᵀR`, by conjugate gradients on all columns side by side.
//!
//! `XᵀX` is never made: a step walks over the entries of X twice, each time with a whole row of outputs, which is contiguous and so in vector
//! registers. Every column has step lengths of its own; all share the passes. Scaled by the diagonal first, since columns differ in weight by orders.

use rayon::prelude::*;

use super::sparse::SparseRows;

/// Steps, at most. What has not been found by then is finer than what a word can say.
const STEPS_MAX: usize = 40;
/// The squared residual, as a share of the first, at which it is solved.
const SOLVED: f64 = 1e-8;
/// Rows that are summed in one go, so that sums do not depend on the number of threads.
const BLOCK: usize = 512;

/// Bytes that partial sums of [`both_ways`] may take, and into how many parts it may be cut.
const PARTS_BYTES: usize = 256 << 20;
const PARTS: std::ops::RangeInclusive<usize> = 2..=16;

/// A regression: X, and what holds the solution small.
pub(crate) struct Ridge<'a> {
    rows: &'a SparseRows,
    lambda: f32,
    /// Outputs.
    width: usize,
    /// One over each place of the diagonal of `XᵀX + λ·1`.
    scales: Vec<f32>,
}

impl<'a> Ridge<'a> {
    /// `rows` has one row an example, `n_columns` columns and `width` outputs.
    pub(crate) fn new(rows: &'a SparseRows, n_columns: usize, lambda: f32, width: usize) -> Self {
        let mut squares = vec![lambda; n_columns];
        for row in 0..rows.rows() {
            let (columns, values) = rows.row(row);
            columns.iter().zip(values).for_each(|(column, value)| squares[*column as usize] += value * value);
        }
        let scales = squares.into_iter().map(|square| 1.0 / square).collect();
        Self { rows, lambda, width, scales }
    }

    /// The weights, a row of outputs for each column of X; `targets` has a row of outputs for each row of X.
    pub(crate) fn solve(&self, targets: &[f32]) -> Vec<f32> {
        let of_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&targets[row * self.width..][..self.width]);
        self.solve_for(scattered(self.rows, self.scales.len(), self.width, of_row))
    }

    /// The solution W of `(XᵀX + λ·1)·W = right`.
    pub(crate) fn solve_for(&self, right: Vec<f32>) -> Vec<f32> {
        let width = self.width;
        let mut residual = right;
        let mut solution = vec![0.0; residual.len()];
        let mut scaled = self.scaled(&residual);
        let mut direction = scaled.clone();
        let mut square = dots(&residual, &scaled, width);
        let first: f64 = square.iter().sum();
        for _ in 0..STEPS_MAX {
            if square.iter().sum::<f64>() <= SOLVED * first {
                break;
            }
            let mut product = both_ways(self.rows, self.rows, &direction, self.scales.len(), width);
            add(&mut product, &direction, &vec![self.lambda; width]);
            let curvature = dots(&direction, &product, width);
            let ratio = |a: &f64, b: &f64| if *b > 0.0 { (a / b) as f32 } else { 0.0 };
            let lengths: Vec<f32> = square.iter().zip(&curvature).map(|(square, curve)| ratio(square, curve)).collect();
            add(&mut solution, &direction, &lengths);
            let back: Vec<f32> = lengths.iter().map(|length| -length).collect();
            add(&mut residual, &product, &back);
            scaled = self.scaled(&residual);
            let after = dots(&residual, &scaled, width);
            let turns: Vec<f32> = after.iter().zip(&square).map(|(after, before)| ratio(after, before)).collect();
            turn(&mut direction, &scaled, &turns);
            square = after;
        }
        solution
    }

    fn scaled(&self, residual: &[f32]) -> Vec<f32> {
        let mut scaled = residual.to_vec();
        scaled.par_chunks_mut(self.width).zip(&self.scales).for_each(|(row, scale)| {
            row.iter_mut().for_each(|value| *value *= scale);
        });
        scaled
    }
}

/// `outerᵀ · (inner · vectors)`, where both have the same rows and `outer` has `n` columns.
pub(crate) fn both_ways(inner: &SparseRows, outer: &SparseRows, vectors: &[f32], n: usize, width: usize) -> Vec<f32> {
    scattered(outer, n, width, |row, out| {
        out.fill(0.0);
        let (columns, values) = inner.row(row);
        for (column, value) in columns.iter().zip(values) {
            let from = &vectors[*column as usize * width..][..width];
            out.iter_mut().zip(from).for_each(|(out, from)| *out += value * from);
        }
    })
}

/// `outerᵀ · M`, where `of_row` says a row of M. In parts whose number the sizes alone decide, so that sums do not depend on the number of threads.
fn scattered(outer: &SparseRows, n: usize, width: usize, of_row: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let bytes = (4 * n * width).max(1);
    let parts = (PARTS_BYTES / bytes).clamp(*PARTS.start(), *PARTS.end());
    let rows = outer.rows().div_ceil(parts).max(1);
    let part = |part: usize| {
        let (mut out, mut middle) = (vec![0.0; n * width], vec![0.0; width]);
        for row in part * rows..((part + 1) * rows).min(outer.rows()) {
            of_row(row, &mut middle);
            let (columns, values) = outer.row(row);
            for (column, value) in columns.iter().zip(values) {
                let into = &mut out[*column as usize * width..][..width];
                into.iter_mut().zip(&middle).for_each(|(into, middle)| *into += value * middle);
            }
        }
        out
    };
    let sums: Vec<Vec<f32>> = (0..parts).into_par_iter().map(part).collect();
    let mut sums = sums.into_iter();
    let mut sum = sums.next().unwrap_or_default();
    for other in sums {
        sum.par_chunks_mut(BLOCK * width).zip(other.par_chunks(BLOCK * width)).for_each(|(sum, other)| {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        });
    }
    sum
}

/// The dot product of each column of two tables.
fn dots(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
    let blocks = a.par_chunks(BLOCK * width).zip(b.par_chunks(BLOCK * width)).map(|(a, b)| {
        let mut sums = vec![0.0_f64; width];
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += f64::from(*a) * f64::from(*b));
        }
        sums
    });
    let blocks: Vec<Vec<f64>> = blocks.collect();
    let mut sums = vec![0.0; width];
    blocks.iter().for_each(|block| sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += part));
    sums
}

/// `into += scale · from`, with a scale a column.
fn add(into: &mut [f32], from: &[f32], scales: &[f32]) {
    let width = scales.len();
    into.par_chunks_mut(BLOCK * width).zip(from.par_chunks(BLOCK * width)).for_each(|(into, from)| {
        for (into, from) in into.chunks_exact_mut(width).zip(from.chunks_exact(width)) {
            into.iter_mut().zip(from.iter().zip(scales)).for_each(|(into, (from, scale))| *into += scale * from);
        }
    });
}

/// `direction = residual + turn · direction`, with a turn a column.
fn turn(direction: &mut [f32], residual: &[f32], turns: &[f32]) {
    let width = turns.len();
    direction.par_chunks_mut(BLOCK * width).zip(residual.par_chunks(BLOCK * width)).for_each(
        |(direction, residual)| {
            for (direction, residual) in direction.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
                let both = direction.iter_mut().zip(residual.iter().zip(turns));
                both.for_each(|(direction, (residual, turn))| *direction = residual + turn * *direction);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    /// The normal equations, dense, in double precision, by elimination with pivots.
    fn dense(x: &[Vec<f64>], targets: &[Vec<f64>], lambda: f64) -> Vec<Vec<f64>> {
        let (n, width) = (x[0].len(), targets[0].len());
        let mut system: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let product = |j: usize| x.iter().map(|row| row[i] * row[j]).sum::<f64>();
                let mut row: Vec<f64> = (0..n).map(|j| product(j) + if i == j { lambda } else { 0.0 }).collect();
                row.extend(
                    (0..width).map(|w| x.iter().zip(targets).map(|(row, target)| row[i] * target[w]).sum::<f64>()),
                );
                row
            })
            .collect();
        for i in 0..n {
            let pivot = (i..n).max_by(|a, b| system[*a][i].abs().total_cmp(&system[*b][i].abs())).unwrap();
            system.swap(i, pivot);
            for j in (0..n).filter(|j| *j != i) {
                let factor = system[j][i] / system[i][i];
                let row = system[i].clone();
                system[j].iter_mut().zip(row).for_each(|(value, above)| *value -= factor * above);
            }
        }
        (0..n).map(|i| system[i][n..].iter().map(|value| value / system[i][i]).collect()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_dense_normal_equations(
            x in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0.0_f32), -1.0_f32..1.0], 6), 1..15),
            seed in 0.0_f32..1.0,
            lambda in 0.1_f32..3.0,
        ) {
            let width = 3;
            let targets: Vec<f32> = (0..x.len() * width).map(|i| (i as f32 * 0.7 + seed).sin()).collect();
            let mut rows = SparseRows::new();
            for row in &x {
                rows.push((0_u32..).zip(row).filter(|(_, value)| **value != 0.0).map(|(at, value)| (at, *value)));
            }
            let found = Ridge::new(&rows, 6, lambda, width).solve(&targets);
            let wide = |rows: &[f32]| rows.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
            let x: Vec<Vec<f64>> = x.iter().map(|row| wide(row)).collect();
            let targets: Vec<Vec<f64>> = targets.chunks(width).map(wide).collect();
            for (found, wanted) in found.iter().zip(dense(&x, &targets, f64::from(lambda)).iter().flatten()) {
                prop_assert!((f64::from(*found) - wanted).abs() < 1e-2 * wanted.abs().max(1.0), "{} for {}", found, wanted);
            }
        }
    }
}

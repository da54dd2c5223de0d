//! The item-to-item table of a model that comes without interactions: for each item those whose factors point the same way.
//!
//! Every pair is measured while that takes minutes at most. Beyond that the items are gathered around some of them, drawn
//! evenly, and an item is compared with those gathered around the pivots nearest to it (an inverted file, as in Sivic and
//! Zisserman 2003, without the training of its centres): most of the true neighbours at a cost that grows with n·√n.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::kernels::{Kernel, Simd, dot, vectorised};
use super::neighbours::{NeighbourTable, k_best, positive, table, table_of_groups};
use super::{TrainError, TrainProgress};
use crate::matrix::Matrix;

/// Multiplications up to which every pair is measured: about two minutes on two cores.
const WORK_MAX: u128 = 4_000_000_000_000;
/// Items that are compared together, and of how many others a piece of the table is: products, rows and the piece stay in a core's cache.
const TOGETHER: usize = 64;
const PIECE: usize = 512;
/// Pivots for each square root of the number of items.
const PIVOTS_PER_ROOT: usize = 2;
/// Pivots around which an item looks for its neighbours.
const PROBES: usize = 24;
/// Times as many items as usually lie around so many pivots with which an item is compared at most: bounds the work that crowded directions make.
const CROWDED_MAX: usize = 4;
/// Items whose nearest pivots are looked for between two questions whether to stop.
const GATHERED_TOGETHER: usize = 4_096;

/// The `k` items of largest cosine for each row of a table, those of no or negative cosine left out.
///
/// Costs n²·d multiplications over all threads, or about 16·n·√n·d for large catalogues, and never more than 52·n·√n·d: for ten million items of 64
/// dimensions that is 3·10¹³, by estimate hours on two cores. Memory: the rows once more, and the table.
///
/// # Errors
/// A caller who no longer wants the result.
pub fn nearest(factors: &Matrix, k: usize, progress: &dyn TrainProgress) -> Result<NeighbourTable, TrainError> {
    let unit = factors.to_unit_length();
    let work = (unit.rows as u128).pow(2) * unit.cols as u128;
    // Of none there is nothing to measure, and nothing to gather.
    if work <= WORK_MAX || k == 0 { every_pair(&unit, k, progress) } else { around_pivots(&unit, k, PROBES, progress) }
}

/// Measures every pair: some items at a time, with one piece of the table after the other, which stays in a core's cache for all of them.
fn every_pair(unit: &Matrix, k: usize, progress: &dyn TrainProgress) -> Result<NeighbourTable, TrainError> {
    let of_items = |products: &mut Vec<f32>, items: Range<usize>| {
        let mut kept: Vec<Kept> = items.clone().map(|item| Kept::new(item, k)).collect();
        let d = unit.cols;
        let rows = unit.data.get(items.start * d..items.end * d).unwrap_or_default();
        for (piece, others) in unit.data.chunks(PIECE * d.max(1)).enumerate() {
            let count = others.len() / d.max(1);
            products.resize(kept.len() * count, 0.0);
            let into = MatMut::from_row_major_slice_mut(products, kept.len(), count);
            let (rows, others) =
                (MatRef::from_row_major_slice(rows, kept.len(), d), MatRef::from_row_major_slice(others, count, d));
            matmul(into, Accum::Replace, rows, others.transpose(), 1.0, Par::Seq);
            for (kept, products) in kept.iter_mut().zip(products.chunks_exact(count)) {
                kept.take((piece * PIECE) as u32, products);
            }
        }
        kept.into_iter().map(|kept| kept.found).collect()
    };
    table_of_groups(unit.rows, k, TOGETHER, Vec::new, of_items, progress)
}

/// The nearest of an item so far, and some that are not.
struct Kept {
    item: u32,
    k: usize,
    /// Nothing that is no more similar is kept: none, or as many as are wanted are more similar, or as similar and come before it.
    least: f32,
    found: Vec<(u32, f32)>,
}

impl Kept {
    fn new(item: usize, k: usize) -> Self {
        Self { item: item as u32, k, least: 0.0, found: Vec::with_capacity(2 * k.max(1)) }
    }

    /// Takes in what the item's products are with others that follow each other, from `first` on.
    fn take(&mut self, first: u32, products: &[f32]) {
        for (other, product) in (first..).zip(products) {
            if *product > self.least && other != self.item {
                self.found.push((other, *product));
                if self.found.len() >= 2 * self.k.max(1) {
                    self.found = k_best(std::mem::take(&mut self.found), self.k);
                    self.least = self.found.last().map_or(self.least, |(_, similarity)| *similarity);
                }
            }
        }
    }
}

fn around_pivots(
    unit: &Matrix,
    k: usize,
    probes: usize,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    let gathered = Gathered::new(unit, probes, progress)?;
    let of_item = |_: &mut (), item: usize| {
        let others = gathered.near(unit.row(item));
        let similarities = vectorised(ProductsOf { row: unit.row(item), table: unit, rows: &others });
        positive(item, others.into_iter().zip(similarities))
    };
    table(unit.rows, k, || (), of_item, progress)
}

/// Items gathered around pivots.
struct Gathered {
    pivots: Matrix,
    /// For each pivot, the items to which no other pivot is nearer.
    around: Vec<Vec<u32>>,
    probes: usize,
    /// Items that one is compared with, at most.
    most: usize,
}

impl Gathered {
    fn new(unit: &Matrix, probes: usize, progress: &dyn TrainProgress) -> Result<Self, TrainError> {
        let n = unit.rows;
        let n_pivots = (n.isqrt() * PIVOTS_PER_ROOT).clamp(1, n.max(1));
        let mut pivots = Matrix { rows: 0, cols: unit.cols, data: Vec::with_capacity(n_pivots * unit.cols) };
        // Evenly spaced: the order of a catalogue is not the order of its directions.
        for at in 0..n_pivots {
            pivots.data.extend_from_slice(unit.row(at * n / n_pivots));
            pivots.rows += 1;
        }
        let probes = probes.min(n_pivots);
        let most = (CROWDED_MAX * probes * n).div_ceil(n_pivots);
        let mut gathered = Self { pivots, around: vec![Vec::new(); n_pivots], probes, most };
        for from in (0..n).step_by(GATHERED_TOGETHER) {
            if progress.cancelled() {
                return Err(TrainError::Cancelled);
            }
            progress.step("gathering items", from as u64, n as u64);
            let items = from..(from + GATHERED_TOGETHER).min(n);
            let nearest = |item: usize| gathered.nearest(unit.row(item), 1);
            let nearest: Vec<Vec<(u32, f32)>> = items.clone().into_par_iter().map(nearest).collect();
            for (item, (pivot, _)) in items.zip(nearest.into_iter().flatten()) {
                gathered.around[pivot as usize].push(item as u32);
            }
        }
        Ok(gathered)
    }

    /// The `n` pivots nearest to a row, the nearest first.
    fn nearest(&self, row: &[f32], n: usize) -> Vec<(u32, f32)> {
        k_best((0..).zip(vectorised(Products { row, table: &self.pivots })).collect(), n)
    }

    /// The items around the pivots nearest to a row. Where too many are the same, as rows made of nothing are, one pivot has them all: then every so
    /// manieth of them.
    fn near(&self, row: &[f32]) -> Vec<u32> {
        let mut others = Vec::new();
        for (pivot, _) in self.nearest(row, self.probes) {
            let (around, left) = (&self.around[pivot as usize], self.most - others.len());
            if left == 0 {
                break;
            }
            others.extend(around.iter().step_by(around.len().div_ceil(left).max(1)));
        }
        others
    }
}

/// The dot products of one row with every row of a table.
struct Products<'a> {
    row: &'a [f32],
    table: &'a Matrix,
}

impl Kernel for Products<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = vec![0.0; self.table.rows];
        for (out, other) in out.iter_mut().zip(self.table.data.chunks_exact(self.table.cols.max(1))) {
            *out = dot(simd, self.row, other);
        }
        out
    }
}

/// The dot products of one row with some rows of a table.
struct ProductsOf<'a> {
    row: &'a [f32],
    table: &'a Matrix,
    rows: &'a [u32],
}

impl Kernel for ProductsOf<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = vec![0.0; self.rows.len()];
        for (out, other) in out.iter_mut().zip(self.rows) {
            *out = dot(simd, self.row, self.table.row(*other as usize));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model_dir::NO_NEIGHBOUR;

    proptest! {
        #[test]
        fn every_pair_is_measured(data in prop::collection::vec(-1.0_f32..1.0, 12 * 5), k in 0..14_usize) {
            let factors = Matrix::from_vec(12, 5, data).unwrap();
            let unit = factors.to_unit_length();
            let found = nearest(&factors, k, &()).unwrap();
            for item in 0..12 {
                let cosine = |other: usize| -> f64 {
                    unit.row(item).iter().zip(unit.row(other)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let mut best: Vec<f64> = (0..12).filter(|other| *other != item).map(cosine).collect();
                best.sort_by(|a, b| b.total_cmp(a));
                best.truncate(k);
                // Whether a cosine this near to zero is above it, single precision cannot say.
                let above = |least: f64| best.iter().filter(|cosine| **cosine > least).count();
                let (surely, perhaps) = (above(1e-6), above(-1e-6));
                let row = item * k..(item + 1) * k;
                let similar = found.items[row.clone()].iter().zip(&found.similarities[row]);
                let similar: Vec<_> = similar.take_while(|(other, _)| **other != NO_NEIGHBOUR).collect();
                prop_assert!((surely..=perhaps).contains(&similar.len()), "{surely} to {perhaps}: {similar:?}");
                for ((other, similarity), best) in similar.into_iter().zip(best) {
                    prop_assert!((f64::from(*similarity) - best).abs() < 1e-5);
                    prop_assert!((f64::from(*similarity) - cosine(*other as usize)).abs() < 1e-5);
                }
            }
        }
    }

    /// Across groups of items and pieces of the table.
    #[test]
    fn of_those_as_similar_the_first_are_kept_and_nothing_is_similar_to_zeros() {
        let n = PIECE + TOGETHER + 5;
        let mut factors = Matrix::from_vec(n, 1, vec![2.0; n]).unwrap();
        factors.data[1] = 0.0;
        let found = nearest(&factors, 3, &()).unwrap();
        let of = |item: usize| &found.items[3 * item..3 * item + 3];
        assert_eq!(of(0), [2, 3, 4]);
        assert_eq!(of(1), [NO_NEIGHBOUR; 3]);
        assert_eq!(of(3), [0, 2, 4]);
        assert_eq!(of(n - 1), [0, 2, 3]);
    }

    #[test]
    fn where_all_rows_are_the_same_one_is_compared_with_some_of_them() {
        let n = 3_000;
        let unit = Matrix::from_vec(n, 1, vec![1.0; n]).unwrap();
        let gathered = Gathered::new(&unit, 2, &()).unwrap();
        let usual = 2 * n / gathered.around.len();
        let near = gathered.near(unit.row(0)).len();
        assert!((2 * usual..=CROWDED_MAX * (usual + 1)).contains(&near), "{near} of {n}, where {usual} are usual");
        let found = around_pivots(&unit, 10, 2, &()).unwrap();
        assert!(found.similarities.iter().all(|similarity| *similarity == 1.0));
        assert_eq!(found.items.iter().filter(|item| **item == NO_NEIGHBOUR).count(), 0);
    }

    /// Rows scattered around 60 directions.
    fn clustered(n: usize, d: usize) -> Matrix {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut noise = |scale: f32| -> Vec<f32> { (0..d).map(|_| (rng.random::<f32>() - 0.5) * scale).collect() };
        let centres: Vec<Vec<f32>> = (0..60).map(|_| noise(1.0)).collect();
        let data = (0..n).flat_map(|at| {
            let row: Vec<f32> = centres[at * 7 % 60].iter().zip(noise(0.8)).map(|(a, b)| a + b).collect();
            row
        });
        Matrix::from_vec(n, d, data.collect()).unwrap()
    }

    #[test]
    fn pivots_lead_to_most_of_the_neighbours() {
        let unit = clustered(3_000, 16).to_unit_length();
        let exact = every_pair(&unit, 10, &()).unwrap();
        let found = around_pivots(&unit, 10, PROBES, &()).unwrap();
        let rows = exact.items.chunks(10).zip(found.items.chunks(10));
        let share = rows.map(|(exact, found)| exact.iter().filter(|item| found.contains(item)).count()).sum::<usize>();
        assert!(share > 27_000, "{share} of 30,000");
        // With every pivot probed, every pair is measured; sums in another order differ in their last digits.
        let all = around_pivots(&unit, 10, usize::MAX, &()).unwrap();
        assert!(all.similarities.iter().zip(&exact.similarities).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

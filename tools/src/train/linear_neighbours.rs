//! The item-to-item table by a linear model: what follows an item beyond what follows from the others that stand beside it.
//!
//! `B = (SᵀS + λ·1)⁻¹ SᵀT`, where S and T have a row for each place where a user's interactions can be cut in two, with the items before the cut and
//! behind it, those near it more (SLIST with α = 0: Choi et al., WWW 2021; see [`slist`](super::slist) for the same squeezed into factors). Row i of B
//! says what is taken after i. Counting alone gives a film the followers of every film that it is seen with; here each follower is explained once.
//!
//! B is made whole: three tables of n × n floats at once, and `n³/3 + 2·n³` floating-point operations, seconds for [`ITEMS_MAX`] items. Beside them S and T,
//! while they are made, take up to 500 bytes an interaction. The result is the same to the bit for any number of threads.

use faer::linalg::solvers::{Llt, Solve as _};
use faer::{Mat, MatRef, Side};
use rayon::prelude::*;

use super::neighbours::{NeighbourOptions, NeighbourTable, positive, table};
use super::slist::{Model, Slist};
use super::sparse::SparseRows;
use super::{TrainError, TrainProgress, TrainingData};

/// Items of a catalogue for which B is made: three tables of 256 MiB.
pub const ITEMS_MAX: usize = 8_192;
/// The most interactions for which it is tried where nobody asks for it: 2.5 GB of S and T.
pub const INTERACTIONS_MAX: usize = 5_000_000;
/// λ: what holds B small. On MovieLens-1M 50 to 200 find equally much.
const REGULARIZATION: f64 = 100.0;
/// Interactions from a cut after which one counts 1/e.
const REACH: f64 = 2.0;
/// Columns that are solved in one go.
const COLUMNS: usize = 256;

/// Neighbours by what follows what, explained once. Interactions of weight 0 or less take no part.
///
/// # Errors
/// A caller who no longer wants the result; no user with two interactions; more than [`ITEMS_MAX`] items; so many interactions that single
/// precision does not hold λ beside them.
pub fn by_linear_model(
    data: &TrainingData<'_>,
    options: &NeighbourOptions,
    progress: &dyn TrainProgress,
) -> Result<NeighbourTable, TrainError> {
    let n = data.n_items;
    options.fits(n)?;
    let settings = Slist { together: 0.0, reach: REACH, half_life_days: options.half_life_days, ..Slist::default() };
    let Model { all, behind, .. } = Model::of(&settings, data)?;
    let by_item = all.transposed(n);
    let mut gram = product(&by_item, &all, n);
    (0..n).for_each(|item| gram[item * n + item] += REGULARIZATION as f32);
    let stop = || if progress.cancelled() { Err(TrainError::Cancelled) } else { Ok(()) };
    stop()?;
    let factor = MatRef::from_row_major_slice(&gram, n, n).llt(Side::Lower);
    // λ is above 0 and the rest a sum of squares, so only the rounding of very large sums can make this fail.
    let factor: Llt<f32> = factor.map_err(|_| TrainError::Unsolved)?;
    drop(gram);
    stop()?;
    let follows = product(&by_item, &behind, n);
    let of_columns = |from: usize| {
        let mut columns = Mat::from_fn(n, COLUMNS.min(n - from), |row, column| follows[row * n + from + column]);
        factor.solve_in_place(&mut columns);
        columns
    };
    let blocks: Vec<Mat<f32>> = (0..n).step_by(COLUMNS).collect::<Vec<_>>().into_par_iter().map(of_columns).collect();
    let of_item = |(): &mut (), item: usize| {
        let row = blocks.iter().flat_map(|block| (0..block.ncols()).map(move |column| block[(item, column)]));
        positive(item, (0..).zip(row))
    };
    table(n, options.k, || (), of_item, progress)
}

/// The product of a transposed table, given by column, with another, whole: row i is the sum over the rows with i. Added up in double precision:
/// of what many take, millions of small numbers come to a large sum, where single precision would lose them.
fn product(by_item: &SparseRows, with: &SparseRows, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * n];
    let sums = || vec![0.0_f64; n];
    out.par_chunks_mut(n.max(1)).enumerate().for_each_init(sums, |sums, (item, out)| {
        sums.fill(0.0);
        let (rows, values) = by_item.row(item);
        for (row, value) in rows.iter().zip(values) {
            let (columns, others) = with.row(*row as usize);
            for (column, other) in columns.iter().zip(others) {
                sums[*column as usize] += f64::from(*value) * f64::from(*other);
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
    });
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::dataset::Interactions;
    use crate::model_dir::NO_NEIGHBOUR;
    use crate::train::neighbours::{self, Order};

    const ITEMS: usize = 7;

    fn walks() -> Interactions {
        let mut log = Interactions::default();
        for user in 0..90_u32 {
            for step in 0..5_u32 {
                log.push(user, (user * user + step * (2 + user % 3)) % ITEMS as u32, 0, 1.0, i64::from(step));
            }
        }
        log
    }

    /// B by its definition, in double precision.
    fn naive(log: &Interactions) -> Mat<f64> {
        let (mut gram, mut follows) = (Mat::<f64>::zeros(ITEMS, ITEMS), Mat::<f64>::zeros(ITEMS, ITEMS));
        for user in log.item.chunks(5) {
            for cut in 1..5 {
                // Of an item that is there several times the nearest counts.
                let weighed = |items: &mut dyn Iterator<Item = &u32>| {
                    let mut out = [0.0_f64; ITEMS];
                    for (place, item) in items.enumerate() {
                        out[*item as usize] = out[*item as usize].max((-(place as f64) / REACH).exp());
                    }
                    out
                };
                let before = weighed(&mut user[..cut].iter().rev());
                let behind = weighed(&mut user[cut..].iter());
                for i in 0..ITEMS {
                    for j in 0..ITEMS {
                        gram[(i, j)] += before[i] * before[j];
                        follows[(i, j)] += before[i] * behind[j];
                    }
                }
            }
        }
        (0..ITEMS).for_each(|item| gram[(item, item)] += REGULARIZATION);
        gram.llt(Side::Lower).unwrap().solve(&follows)
    }

    #[test]
    fn agrees_with_the_formula() {
        let log = walks();
        let data = TrainingData { interactions: &log, n_users: 90, n_items: ITEMS };
        let options = NeighbourOptions { by: Order::Linear, k: ITEMS, ..NeighbourOptions::default() };
        let found = neighbours::find(&data, &options, &()).unwrap();
        let wanted = naive(&log);
        for item in 0..ITEMS {
            let row = item * ITEMS..(item + 1) * ITEMS;
            let of_row = found.items[row.clone()].iter().zip(&found.similarities[row]);
            let of_row: Vec<_> = of_row.take_while(|(other, _)| **other != NO_NEIGHBOUR).collect();
            assert!(of_row.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            assert_eq!(of_row.len(), (0..ITEMS).filter(|other| *other != item && wanted[(item, *other)] > 0.0).count());
            for (other, value) in of_row {
                assert!((f64::from(*value) - wanted[(item, *other as usize)]).abs() < 1e-5, "{item} {other}");
            }
        }
    }

    #[test]
    fn small_numbers_count_in_a_large_sum() {
        // 4,096² is where single precision begins to count by twos.
        let mut rows = SparseRows::new();
        (0..101).for_each(|row| rows.push([(0, if row == 0 { 4_096.0 } else { 1.0 })]));
        assert_eq!(product(&rows.transposed(1), &rows, 1), [16_777_316.0]);
    }

    #[test]
    fn a_catalogue_that_is_too_large_is_told() {
        let log = walks();
        let data = TrainingData { interactions: &log, n_users: 90, n_items: ITEMS_MAX + 1 };
        let options = NeighbourOptions { by: Order::Linear, ..NeighbourOptions::default() };
        let error = neighbours::find(&data, &options, &()).unwrap_err().to_string();
        assert!(error.contains("neighbours-by is linear") && error.contains("following"), "{error}");
    }
}

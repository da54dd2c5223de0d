//! Which edges a graph gets: those by cosine, those by inner product, or both, whichever finds the most at the least cost.

use std::io;

use clap::ValueEnum;
use kindred_index::{EdgeSet, Metric, RowSource};

use crate::matrix::{Matrix, norm};
use crate::recall::Agreement;

/// Up to this many items, `auto` builds each edge set of all of them and measures; above, of as many spread over all, since a graph costs
/// minutes there.
const MEASURE_UP_TO: usize = 50_000;
/// Norms that differ by less than this share count as equal: inner product and cosine then order items alike.
const NORMS_EQUAL: f32 = 1e-3;
/// An edge set whose recall is within this of the best is as good, and the one that compares fewer vectors wins.
const RECALL_EQUAL: f64 = 0.001;

/// Which edges the graph gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EdgeChoice {
    /// `cosine` for rows of equal norm; else `measure`, for more than 50,000 items on as many of them, spread over all.
    Auto,
    /// Those of a graph built by cosine.
    Cosine,
    /// Those of a graph built by inner product.
    InnerProduct,
    /// Both.
    United,
    /// Builds each, measures on the model's queries, and takes the one that compares the fewest vectors at the best recall.
    Measure,
}

/// The edge sets to build and choose from.
///
/// # Errors
/// Rows that cannot be read.
pub(super) fn edge_sets(
    choice: EdgeChoice,
    metric: Metric,
    rows: &dyn RowSource,
    dims: usize,
) -> io::Result<&'static [EdgeSet]> {
    const ALL: &[EdgeSet] = &[EdgeSet::Cosine, EdgeSet::InnerProduct, EdgeSet::United];
    Ok(match choice {
        EdgeChoice::Cosine => &[EdgeSet::Cosine],
        EdgeChoice::InnerProduct => &[EdgeSet::InnerProduct],
        EdgeChoice::United => &[EdgeSet::United],
        EdgeChoice::Measure => ALL,
        EdgeChoice::Auto if metric == Metric::Cosine || norms_are_equal(rows, dims)? => &[EdgeSet::Cosine],
        EdgeChoice::Auto => ALL,
    })
}

/// Where edge sets are compared on some of so many items, at most [`MEASURE_UP_TO`]: each how many-th is one of them.
pub(super) fn step(choice: EdgeChoice, n_items: usize) -> Option<usize> {
    (choice == EdgeChoice::Auto && n_items > MEASURE_UP_TO).then(|| n_items.div_ceil(MEASURE_UP_TO))
}

/// The first row and each so-many-th after it.
///
/// # Errors
/// Rows that cannot be read.
pub(crate) fn every(step: usize, rows: &dyn RowSource, dims: usize) -> io::Result<Matrix> {
    let (mut matrix, mut at) = (Matrix { rows: 0, cols: dims, data: Vec::new() }, 0_usize);
    rows.each(dims, &mut |row| {
        if at.is_multiple_of(step) {
            matrix.data.extend_from_slice(row);
            matrix.rows += 1;
        }
        at += 1;
        Ok(())
    })?;
    Ok(matrix)
}

fn norms_are_equal(rows: &dyn RowSource, dims: usize) -> io::Result<bool> {
    let (mut least, mut most) = (f32::MAX, 0.0_f32);
    rows.each(dims, &mut |row| {
        let norm = norm(row);
        (least, most) = (least.min(norm), most.max(norm));
        Ok(())
    })?;
    Ok(most - least <= NORMS_EQUAL * most)
}

/// Whether `new` is clearly more exact than `old`, or as exact at a lower cost.
pub(super) fn better(new: &Agreement, old: &Agreement) -> bool {
    let gain = new.recall - old.recall;
    gain > RECALL_EQUAL || (gain >= -RECALL_EQUAL && new.distances < old.distances)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn agreement(recall: f64, distances: f64) -> Agreement {
        Agreement { recall, distances, n_queries: 100 }
    }

    #[test]
    fn recall_decides_and_between_equals_the_cost() {
        assert!(better(&agreement(0.99, 900.0), &agreement(0.95, 100.0)));
        assert!(!better(&agreement(0.95, 100.0), &agreement(0.99, 900.0)));
        assert!(better(&agreement(0.9895, 500.0), &agreement(0.99, 900.0)));
        assert!(!better(&agreement(0.99, 900.0), &agreement(0.99, 900.0)));
    }

    #[test]
    fn rows_of_equal_norm_need_only_the_cosine_graph() {
        let (equal, different) = (vec![3.0, 4.0, 0.0, 5.0], vec![3.0, 4.0, 0.0, 9.0]);
        let sets = |choice, metric, rows: &Vec<f32>| edge_sets(choice, metric, rows, 2).unwrap();
        assert_eq!(sets(EdgeChoice::Auto, Metric::InnerProduct, &equal), [EdgeSet::Cosine]);
        assert_eq!(sets(EdgeChoice::Auto, Metric::InnerProduct, &different).len(), 3);
        assert_eq!(sets(EdgeChoice::Auto, Metric::Cosine, &different), [EdgeSet::Cosine]);
        assert_eq!(sets(EdgeChoice::United, Metric::Cosine, &equal), [EdgeSet::United]);
    }

    #[test]
    fn of_many_rows_a_spread_few_are_compared() {
        assert_eq!(step(EdgeChoice::Auto, MEASURE_UP_TO), None);
        assert_eq!(step(EdgeChoice::Measure, MEASURE_UP_TO + 1), None);
        let n = 2 * MEASURE_UP_TO + 1;
        let step = step(EdgeChoice::Auto, n).unwrap();
        let few = every(step, &(0..n).map(|row| row as f32).collect::<Vec<f32>>(), 1).unwrap();
        assert_eq!((step, few.row(1), few.rows), (3, &[3.0][..], few.data.len()));
        assert!(few.rows <= MEASURE_UP_TO && few.data[few.rows - 1] as usize > n - 4);
    }
}

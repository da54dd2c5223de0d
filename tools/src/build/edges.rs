//! Which edges a graph gets: those by cosine, those by inner product, or both, whichever finds the most at the least cost.

use clap::ValueEnum;
use kindred_index::{EdgeSet, Metric};

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
pub(super) fn edge_sets(choice: EdgeChoice, metric: Metric, rows: &Matrix) -> &'static [EdgeSet] {
    const ALL: &[EdgeSet] = &[EdgeSet::Cosine, EdgeSet::InnerProduct, EdgeSet::United];
    match choice {
        EdgeChoice::Cosine => &[EdgeSet::Cosine],
        EdgeChoice::InnerProduct => &[EdgeSet::InnerProduct],
        EdgeChoice::United => &[EdgeSet::United],
        EdgeChoice::Measure => ALL,
        EdgeChoice::Auto if metric == Metric::Cosine || norms_are_equal(rows) => &[EdgeSet::Cosine],
        EdgeChoice::Auto => ALL,
    }
}

/// The rows that edge sets are compared on, where not all are: every so-many-th, so that there are at most [`MEASURE_UP_TO`].
pub(super) fn sample(choice: EdgeChoice, rows: &Matrix) -> Option<(Vec<usize>, Matrix)> {
    if choice != EdgeChoice::Auto || rows.rows <= MEASURE_UP_TO {
        return None;
    }
    let places: Vec<usize> = (0..rows.rows).step_by(rows.rows.div_ceil(MEASURE_UP_TO)).collect();
    let data = places.iter().flat_map(|place| rows.row(*place)).copied().collect();
    let matrix = Matrix { rows: places.len(), cols: rows.cols, data };
    Some((places, matrix))
}

fn norms_are_equal(rows: &Matrix) -> bool {
    let norms = (0..rows.rows).map(|row| norm(rows.row(row)));
    let (least, most) = norms.fold((f32::MAX, 0.0_f32), |(least, most), norm| (least.min(norm), most.max(norm)));
    most - least <= NORMS_EQUAL * most
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
        let equal = Matrix { rows: 2, cols: 2, data: vec![3.0, 4.0, 0.0, 5.0] };
        let different = Matrix { rows: 2, cols: 2, data: vec![3.0, 4.0, 0.0, 9.0] };
        assert_eq!(edge_sets(EdgeChoice::Auto, Metric::InnerProduct, &equal), [EdgeSet::Cosine]);
        assert_eq!(edge_sets(EdgeChoice::Auto, Metric::InnerProduct, &different).len(), 3);
        assert_eq!(edge_sets(EdgeChoice::Auto, Metric::Cosine, &different), [EdgeSet::Cosine]);
        assert_eq!(edge_sets(EdgeChoice::United, Metric::Cosine, &equal), [EdgeSet::United]);
    }

    #[test]
    fn of_many_rows_a_spread_few_are_compared() {
        let rows = |n: usize| Matrix { rows: n, cols: 1, data: (0..n).map(|row| row as f32).collect() };
        assert!(sample(EdgeChoice::Auto, &rows(MEASURE_UP_TO)).is_none());
        assert!(sample(EdgeChoice::Measure, &rows(MEASURE_UP_TO + 1)).is_none());
        let (places, few) = sample(EdgeChoice::Auto, &rows(2 * MEASURE_UP_TO + 1)).unwrap();
        assert_eq!((places[1], few.row(1), few.rows), (3, &[3.0][..], places.len()));
        assert!(few.rows <= MEASURE_UP_TO && places[few.rows - 1] > 2 * MEASURE_UP_TO - 3);
    }
}

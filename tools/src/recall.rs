//! How well a graph search agrees with the exact one: `ann_recall@k`, and what it cost.

use anyhow::Context;
pub use kindred::nearest::is_true;
use kindred_index::{Index, Metric, RowSource, Scratch, SearchParams, dot};
use rayon::prelude::*;
use serde::Serialize;

use crate::matrix::{Matrix, norm};

/// The true answers of a set of queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// How many nearest items there are, per query: those asked for, or all where there are fewer.
    pub k: usize,
    /// The similarity of the k-th nearest item, per query.
    pub worst: Vec<f32>,
}

/// Agreement of the graph search with the exact one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Mean share of the true k nearest that were found. An item exactly as near as the k-th counts as one of them.
    pub recall: f64,
    /// Mean vectors compared per query.
    pub distances: f64,
    /// Queries.
    pub n_queries: usize,
}

/// Finds the true k nearest of each query by comparing with every row. Parallel.
///
/// # Errors
/// A query of another length than the rows.
pub fn truth<D: AsRef<[u8]> + Sync>(index: &Index<D>, queries: &Matrix, k: usize) -> anyhow::Result<Truth> {
    let k = k.min(index.len() as usize);
    let params = SearchParams { k, ef_search: k.max(1), exact: true };
    let one = |scratch: &mut Scratch, query: usize| -> anyhow::Result<f32> {
        index.search(queries.row(query), &params, None, scratch).context("exact search")?;
        Ok(scratch.hits().last().map_or(f32::NEG_INFINITY, |hit| hit.similarity))
    };
    let worst: anyhow::Result<Vec<f32>> = (0..queries.rows).into_par_iter().map_init(Scratch::default, one).collect();
    Ok(Truth { k, worst: worst? })
}

/// Searches the graph with each query and compares. Parallel.
///
/// # Errors
/// A query of another length than the rows, or an `ef_search` out of range.
pub fn agreement<D: AsRef<[u8]> + Sync>(
    index: &Index<D>,
    queries: &Matrix,
    truth: &Truth,
    ef_search: usize,
) -> anyhow::Result<Agreement> {
    if truth.k == 0 || queries.rows == 0 {
        return Ok(Agreement { recall: 1.0, distances: 0.0, n_queries: queries.rows });
    }
    let params = SearchParams { k: truth.k, ef_search, exact: false };
    let one = |scratch: &mut Scratch, query: usize| -> anyhow::Result<(u64, u64)> {
        let stats = index.search(queries.row(query), &params, None, scratch).context("graph search")?;
        let worst = truth.worst.get(query).copied().unwrap_or(f32::NEG_INFINITY);
        let hits = scratch.hits().iter().filter(|hit| is_true(hit.similarity, worst)).count();
        Ok((hits as u64, u64::from(stats.distances)))
    };
    let sums = (0..queries.rows).into_par_iter().map_init(Scratch::default, one);
    let (hits, distances) = sums.try_reduce(|| (0, 0), |a, b| Ok((a.0 + b.0, a.1 + b.1)))?;
    let n = queries.rows as f64;
    let recall = hits as f64 / (n * truth.k as f64);
    Ok(Agreement { recall, distances: distances as f64 / n, n_queries: queries.rows })
}

/// Queries that [`kept`] asks, at most: it compares with floats of every item, which are no longer in the index.
const KEPT_QUERIES: usize = 200;
/// Rows that all of them are compared with before the next are read.
const KEPT_ROWS: usize = 4_096;

/// The mean share of the k nearest by the rows that an index was built of that are also among the k nearest by those that it keeps. Parallel.
///
/// # Errors
/// A query of another length than the rows, or rows that cannot be read.
pub fn kept<D: AsRef<[u8]> + Sync>(
    index: &Index<D>,
    rows: &dyn RowSource,
    queries: &Matrix,
    k: usize,
) -> anyhow::Result<f64> {
    let (k, dims) = (k.min(index.len() as usize), index.dimensions());
    let n_queries = queries.rows.min(KEPT_QUERIES);
    if k == 0 || n_queries == 0 {
        return Ok(1.0);
    }
    let mut nearest: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(k + 1); n_queries];
    let (mut block, mut first) = (Vec::with_capacity(KEPT_ROWS * dims), 0);
    let mut compare = |block: &mut Vec<f32>| {
        nearest.par_iter_mut().enumerate().for_each(|(query, nearest)| {
            for (row, item) in block.chunks_exact(dims.max(1)).zip(first..) {
                offer(nearest, k, dot(queries.row(query), row), item);
            }
        });
        first += (block.len() / dims.max(1)) as u32;
        block.clear();
    };
    rows.each(dims, &mut |row| {
        let length = if index.metric() == Metric::Cosine { norm(row) } else { 1.0 };
        block.extend(row.iter().map(|value| value / length));
        if block.len() >= KEPT_ROWS * dims {
            compare(&mut block);
        }
        Ok(())
    })
    .context("reading the rows again")?;
    compare(&mut block);
    let params = SearchParams { k, ef_search: k, exact: true };
    let one = |scratch: &mut Scratch, (query, nearest): (usize, &Vec<(f32, u32)>)| -> anyhow::Result<usize> {
        index.search(queries.row(query), &params, None, scratch).context("exact search")?;
        Ok(scratch.hits().iter().filter(|hit| nearest.iter().any(|(_, item)| *item == hit.ordinal)).count())
    };
    let found = nearest.par_iter().enumerate().map_init(Scratch::default, one);
    let found = found.try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(found as f64 / (n_queries * k) as f64)
}

/// Keeps an item that is one of the k nearest so far, which are in order.
fn offer(nearest: &mut Vec<(f32, u32)>, k: usize, similarity: f32, item: u32) {
    if nearest.len() < k || nearest.last().is_some_and(|(worst, _)| similarity > *worst) {
        let place = nearest.partition_point(|(better, _)| *better >= similarity);
        nearest.insert(place, (similarity, item));
        nearest.truncate(k);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use kindred::testing::Fixture;
    use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
    use kindred_index::{IndexInput, ItemTables, Metric};

    #[test]
    fn two_bytes_a_value_keep_the_nearest_and_other_rows_do_not() {
        let random = |seed| Matrix::from_vec(300, 32, Fixture::random(seed, 300, 32, Metric::Cosine).rows).unwrap();
        let (rows, others) = (random(5), random(6));
        let keys: Vec<String> = (0..300).map(|item| item.to_string()).collect();
        let tables = ItemTables::new(&keys, &[]).unwrap();
        let input = IndexInput { tables: &tables, rows: &rows.data, dims: 32, metric: Metric::Cosine };
        let built = build_index(&input, &GraphOptions::default(), &HnswBuilder, &()).unwrap();
        let index = Index::open(built.to_bytes().unwrap()).unwrap();
        assert!(index.is_fine());
        let found = kept(&index, &rows.data, &rows, 10).unwrap();
        assert!(found > 0.99, "{found}");
        let found = kept(&index, &others.data, &rows, 10).unwrap();
        assert!(found < 0.5, "{found}");
    }

    #[test]
    fn a_wide_search_of_a_small_index_agrees_and_a_narrow_one_costs_less() {
        let model = Fixture::random(5, 300, 16, Metric::Cosine).model();
        let index = model.index();
        let rows: Vec<f32> = (0..40).flat_map(|ordinal| index.row(ordinal).unwrap().to_vec()).collect();
        let queries = Matrix::from_vec(40, 16, rows).unwrap();
        let truth = truth(index, &queries, 10).unwrap();
        let wide = agreement(index, &queries, &truth, 300).unwrap();
        let narrow = agreement(index, &queries, &truth, 10).unwrap();
        assert!(wide.recall > 0.99, "{wide:?}");
        assert!(narrow.recall <= wide.recall && narrow.distances < wide.distances, "{narrow:?} {wide:?}");
    }

    #[test]
    fn a_tie_with_the_last_counts() {
        assert!(is_true(0.5, 0.5) && is_true(0.499_999_9, 0.5) && !is_true(0.49, 0.5));
        assert!(is_true(-0.5, -0.5) && !is_true(-0.51, -0.5));
    }

    #[test]
    fn no_query_means_no_disagreement() {
        let model = Fixture::random(5, 20, 16, Metric::Cosine).model();
        let none = Matrix::zeros(0, 16);
        let truth = truth(model.index(), &none, 10).unwrap();
        assert_eq!(agreement(model.index(), &none, &truth, 10).unwrap().recall, 1.0);
    }
}

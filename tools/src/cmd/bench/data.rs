//! The rows and queries of `bench index`: generated, or from files.

use anyhow::ensure;
use kindred_index::RowSource;

use super::index::Args;
use crate::build;
use crate::factors::{FactorsOptions, GeneratedFactors, generate};
use crate::matrix::{Matrix, first_fault};
use crate::npy::{self, NpyFile};
use crate::progress::Progress;

/// What an index is built of and measured with.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) rows: Box<dyn RowSource>,
    /// Items and dimensions.
    pub(super) shape: [usize; 2],
    pub(super) queries: Matrix,
    pub(super) source: String,
}

/// Generated rows, in memory, or those of a file, which are read from there as often as they are needed.
pub(super) fn data(args: &Args, progress: &Progress) -> anyhow::Result<Data> {
    progress.start("reading rows", 0);
    let (rows, shape, queries, source): (Box<dyn RowSource>, _, _, _) = match &args.npy {
        Some(path) => {
            let rows = NpyFile::open(path)?;
            let shape = rows.shape();
            // Without queries of their own, rows spread over the file stand in.
            let queries = build::every(shape[0].div_ceil(args.queries).max(1), &rows, shape[1])?;
            (Box::new(rows), shape, queries, by_whom(args, path.display().to_string()))
        }
        None => {
            let GeneratedFactors { items, queries, .. } = generated(args, args.items);
            let source = format!("generated factors, seed {}", args.seed);
            (Box::new(items.data), [items.rows, items.cols], queries, source)
        }
    };
    let queries = match &args.query_npy {
        Some(file) => first_rows(npy::read_matrix(file)?, args.queries),
        None => queries,
    };
    // Now, and not when the graph is built.
    fits(&queries, shape[1])?;
    if let Some((row, fault)) = first_fault(&*rows, shape[1])? {
        anyhow::bail!("row {row} {fault}: no search could find it");
    }
    Ok(Data { rows, shape, queries, source })
}

/// So many generated rows, with queries.
pub(super) fn generated(args: &Args, n_items: usize) -> GeneratedFactors {
    generate(&FactorsOptions { n_items, dims: args.dims, n_queries: args.queries, seed: args.seed })
}

/// Where rows are from, and whether some of them are the queries too.
pub(super) fn by_whom(args: &Args, source: String) -> String {
    if args.query_npy.is_none() { source + " (its own rows as queries)" } else { source }
}

pub(super) fn first_rows(mut matrix: Matrix, most: usize) -> Matrix {
    matrix.rows = matrix.rows.min(most);
    matrix.data.truncate(matrix.rows * matrix.cols);
    matrix
}

/// Whether there are queries, as long as the rows.
pub(super) fn fits(queries: &Matrix, expected: usize) -> anyhow::Result<()> {
    let found = queries.cols;
    ensure!(queries.rows > 0, "there is no query");
    ensure!(found == expected, "queries have {found} numbers, rows have {expected}: give queries of the same model");
    Ok(())
}

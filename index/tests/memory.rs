//! What a build holds in memory, and what becomes of it where rows are in a file that fails.
#![cfg(all(feature = "build", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use kindred_index::build::{
    BuildError, GraphBuilder, GraphOptions, HnswBuilder, HnswRsBuilder, Progress, Rows, build_index,
};
use kindred_index::{AssembleError, FlatGraph, IndexInput, ItemTables, Metric, RowSource};

/// Rows of 26 MB, beside which all else is little.
const N: usize = 100_000;
const DIMENSIONS: usize = 64;

/// Looks at the memory of the process where a graph would grow, and ends the build.
struct Looker(AtomicU64);

impl GraphBuilder for Looker {
    fn name(&self) -> &'static str {
        "looker"
    }

    fn build(
        &self,
        _rows: &Rows<'_>,
        _metric: Metric,
        _options: &GraphOptions,
        _progress: &dyn Progress,
    ) -> Result<FlatGraph, BuildError> {
        self.0.store(resident_bytes(), Ordering::Relaxed);
        Err(BuildError::Cancelled)
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
}

/// Rows that are nowhere: each is made when it is read.
#[derive(Debug)]
struct Made;

impl RowSource for Made {
    fn n_values(&self) -> u64 {
        (N * DIMENSIONS) as u64
    }

    fn each(&self, dims: usize, visit: &mut dyn FnMut(&[f32]) -> io::Result<()>) -> io::Result<()> {
        (0..N).try_for_each(|item| visit(&vec![1.0 + item as f32; dims]))
    }
}

#[test]
fn rows_are_not_held_before_a_graph_grows() {
    let keys: Vec<String> = (0..N).map(|item| item.to_string()).collect();
    let tables = ItemTables::new(&keys, &[]).unwrap();
    let input = IndexInput { tables: &tables, rows: &Made, dims: DIMENSIONS, metric: Metric::Cosine };
    let (looker, before) = (Looker(AtomicU64::new(0)), resident_bytes());
    let built = build_index(&input, &GraphOptions::default(), &looker, &());
    assert!(matches!(built, Err(BuildError::Cancelled)), "{built:?}");
    let grown = looker.0.into_inner().saturating_sub(before);
    assert!(grown < 13_000_000, "{grown} bytes more than before, for 25,600,000 of rows");
}

/// They end in the middle, as a file does on a disk that fails.
#[derive(Debug)]
struct Failing(AtomicU64);

impl RowSource for Failing {
    fn n_values(&self) -> u64 {
        1_000
    }

    fn each(&self, dims: usize, visit: &mut dyn FnMut(&[f32]) -> io::Result<()>) -> io::Result<()> {
        let passes = self.0.fetch_sub(1, Ordering::Relaxed);
        (0..1_000 / dims).try_for_each(|item| visit(&vec![1.0 + item as f32; dims]))?;
        if passes == 0 { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }
}

#[test]
fn rows_that_cannot_be_read_any_more_end_the_build_at_whichever_pass() {
    let keys: Vec<String> = (0..100).map(|item| item.to_string()).collect();
    let tables = ItemTables::new(&keys, &[]).unwrap();
    for builder in [&HnswBuilder as &dyn GraphBuilder, &HnswRsBuilder] {
        let mut failed = 0;
        loop {
            let rows = Failing(AtomicU64::new(failed));
            let input = IndexInput { tables: &tables, rows: &rows, dims: 10, metric: Metric::InnerProduct };
            match build_index(&input, &GraphOptions::default(), builder, &()) {
                Err(BuildError::Assemble(AssembleError::Rows(_)) | BuildError::Rows(_)) => failed += 1,
                other => break assert!(other.is_ok(), "{other:?}"),
            }
        }
        assert!((4..20).contains(&failed), "{failed} passes");
    }
}

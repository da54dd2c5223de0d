//! What a build holds in memory: nothing that is needed only after the graph has grown.
#![cfg(all(feature = "build", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};

use kindred_index::build::{BuildError, GraphBuilder, GraphOptions, Progress, Rows, build_index};
use kindred_index::{FlatGraph, IndexInput, Metric};

/// Items, each with a key of the greatest length: 26 MB of keys, beside which all else is little.
const N: usize = 100_000;

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

#[test]
fn keys_are_not_laid_out_while_a_graph_grows() {
    let keys: Vec<String> = (0..N).map(|item| format!("{item:0256}")).collect();
    let rows = vec![1.0; N];
    let input = IndexInput { keys: &keys, rows: &rows, dims: 1, metric: Metric::Cosine, attributes: &[] };
    let (looker, before) = (Looker(AtomicU64::new(0)), resident_bytes());
    let built = build_index(&input, &GraphOptions::default(), &looker, &());
    assert!(matches!(built, Err(BuildError::Cancelled)), "{built:?}");
    let grown = looker.0.into_inner().saturating_sub(before);
    assert!(grown < 13_000_000, "{grown} bytes more than before, for 25,600,000 of keys");
}

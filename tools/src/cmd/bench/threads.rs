//! What several threads search together, against what one of them does alone.

use std::time::Instant;

use anyhow::Context;
use kindred_index::{Index, Scratch, SearchParams};
use serde::Serialize;

use super::curve::median;
use crate::matrix::Matrix;

/// Seconds that a pass of one thread takes at least.
const PASS_LEAST: f64 = 0.1;

/// Searches of one thread and of as many as the machine has cores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Together {
    /// Breadth of the search.
    pub ef_search: usize,
    /// Threads.
    pub threads: usize,
    /// Queries per second of one thread.
    pub alone: f64,
    /// Queries per second of all together.
    pub together: f64,
}

impl Together {
    /// How many times one thread all are.
    pub fn ratio(&self) -> f64 {
        self.together / self.alone.max(f64::MIN_POSITIVE)
    }
}

/// Passes over all queries, for a tenth of a second at least, by one thread and by each of all threads at once, in turns; of the rounds the median
/// counts, after one that does not.
///
/// # Errors
/// A search that is refused.
pub(super) fn measure<D: AsRef<[u8]> + Sync>(
    index: &Index<D>,
    queries: &Matrix,
    params: &SearchParams,
    rounds: usize,
) -> anyhow::Result<Together> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    // So often that starting a thread does not count.
    let once = pass(index, queries, params, 1, 1)?;
    let times = (PASS_LEAST * once / queries.rows.max(1) as f64).ceil().max(1.0) as usize;
    for round in 0..=rounds {
        for (count, into) in [(1, &mut alone), (threads, &mut together)] {
            let per_second = pass(index, queries, params, count, times)?;
            if round > 0 {
                into.push(per_second);
            }
        }
    }
    let (alone, together) = (median(&mut alone), median(&mut together));
    Ok(Together { ef_search: params.ef_search, threads, alone, together })
}

/// Queries per second of so many threads, each of which makes all queries so many times.
fn pass<D: AsRef<[u8]> + Sync>(
    index: &Index<D>,
    queries: &Matrix,
    params: &SearchParams,
    threads: usize,
    times: usize,
) -> anyhow::Result<f64> {
    let all = || -> anyhow::Result<()> {
        let mut scratch = Scratch::default();
        for query in (0..times).flat_map(|_| 0..queries.rows) {
            index.search(queries.row(query), params, None, &mut scratch).context("searching")?;
        }
        Ok(())
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(all)).collect();
        let own = all();
        let ended = others.into_iter().map(|other| other.join().unwrap_or_else(|_| anyhow::bail!("a search panicked")));
        ended.fold(own, Result::and)
    })?;
    Ok((threads * times * queries.rows) as f64 / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_all_to_one() {
        let both = Together { ef_search: 40, threads: 2, alone: 10_000.0, together: 19_000.0 };
        assert!((both.ratio() - 1.9).abs() < 1e-12);
    }
}

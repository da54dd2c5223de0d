//! Which items are laid out by length, and whether it is worth it: tried out on rows of the index itself, as queries.

use crate::assemble::Longest;
use crate::longest::{certainty, step};
use crate::metric::length;
use crate::row::RowsView;

/// Rows that are tried as queries, spread over all.
const TRIED: usize = 200;
/// Nearest items looked for.
const K: usize = 10;
/// The breadth it must be worth at.
const EF: f32 = 64.0;
/// Not worth it where more items than this are compared on average: for low recalls the graph would be as fast, or faster.
const COMPARED_MOST: usize = 10_000;
/// Nor where fewer than so many of so many searches end among those that are laid out.
const ENDED_LEAST: (usize, usize) = (9, 10);
/// Nor where more than one in so many of the nearest is missed: rows may be nearly parallel to what is asked for.
const MISSED_MOST: usize = 33;
/// Items laid out, at most: so many, and one of so many.
const LAID_OUT_MOST: (usize, usize) = (1 << 16, 4);

/// The longest items, as many as a search that misses none compares with; none, if the graph is faster.
pub(super) fn longest(rows: &RowsView<'_>) -> Longest {
    let mut order: Vec<(f32, u32)> =
        (0..rows.len()).map(|ordinal| (length(&rows.row(ordinal).unwrap_or_default().values()), ordinal)).collect();
    let most = LAID_OUT_MOST.0.min(order.len() / LAID_OUT_MOST.1);
    if most == 0 {
        return Longest::default();
    }
    order.select_nth_unstable_by(most - 1, longer);
    order.truncate(most);
    order.sort_unstable_by(longer);
    let apart = (rows.len() as usize / TRIED).max(1);
    let (mut tried, mut ended, mut compared, mut missed, mut deepest) = (0, 0, 0, 0, 0);
    for query in (0..rows.len()).step_by(apart).filter_map(|ordinal| rows.row(ordinal)) {
        let trial = Trial::of(rows, &query.values(), &order);
        tried += 1;
        ended += usize::from(trial.at_breadth.is_some());
        compared += trial.at_breadth.unwrap_or(order.len());
        missed += trial.missed;
        deepest = deepest.max(trial.at_all);
    }
    if ended * ENDED_LEAST.1 < tried * ENDED_LEAST.0
        || compared > tried * COMPARED_MOST
        || missed * MISSED_MOST > tried * K
    {
        return Longest::default();
    }
    order.truncate(deepest);
    let (lengths, ordinals) = order.into_iter().unzip();
    Longest { ordinals, lengths }
}

/// The longer first, and of equals the one with the smaller ordinal.
fn longer(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// What became of a row that was tried as a query.
struct Trial {
    /// So many of the longest a search of breadth [`EF`] compares with; none, if the rest is never too short.
    at_breadth: Option<usize>,
    /// So many one that misses nothing.
    at_all: usize,
    /// So many of the nearest the first does not find.
    missed: usize,
}

impl Trial {
    fn of(rows: &RowsView<'_>, query: &[f32], order: &[(f32, u32)]) -> Self {
        let query_length = length(query);
        // How near, and at which place among the longest.
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(K + 1);
        let (mut compared, mut at_breadth) = (0, None);
        while compared < order.len() {
            let next = (compared + step(compared)).min(order.len());
            for (place, (_, ordinal)) in (compared..).zip(order.get(compared..next).unwrap_or_default()) {
                let similarity = rows.row(*ordinal).unwrap_or_default().dot(query);
                if best.len() < K || best.last().is_some_and(|(worst, _)| similarity > *worst) {
                    let before = best.partition_point(|(better, _)| *better >= similarity);
                    best.insert(before, (similarity, place));
                    best.truncate(K);
                }
            }
            compared = next;
            let Some(after) = order.get(compared).map(|(length, _)| length * query_length) else { break };
            let worst = best.get(K - 1).map_or(f32::NEG_INFINITY, |(worst, _)| *worst);
            if at_breadth.is_none() && certainty(EF) * after < worst {
                at_breadth = Some(compared);
            }
            if after < worst {
                break;
            }
        }
        let missed = best.iter().filter(|(_, place)| at_breadth.is_some_and(|end| *place >= end)).count();
        Self { at_breadth, at_all: compared, missed }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::vectors::VectorView;

    fn rows(n: usize, length_of: impl Fn(usize) -> f32) -> Vec<f32> {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n)
            .flat_map(|at| {
                let mut row: [f32; 16] = std::array::from_fn(|_| noise());
                let scale = length_of(at) / length(&row);
                row.iter_mut().for_each(|value| *value *= scale);
                row
            })
            .collect()
    }

    fn of(rows: &[f32]) -> Longest {
        let n = (rows.len() / 16) as u32;
        longest(&VectorView { rows, n, stride: 16, dimensions: 16 }.into())
    }

    #[test]
    fn the_longest_are_laid_out_in_their_order() {
        // Items whose number ends in 7 are ten times as long.
        let found = of(&rows(4_000, |at| if at % 10 == 7 { 10.0 + (at % 13) as f32 } else { 1.0 }));
        assert!((50..=1_000).contains(&found.ordinals.len()), "{}", found.ordinals.len());
        assert!(found.lengths.is_sorted_by(|a, b| a >= b));
        assert!(found.ordinals.iter().take(400).all(|ordinal| ordinal % 10 == 7));
        assert!((found.lengths[0] - 22.0).abs() < 1e-3, "{}", found.lengths[0]);
    }

    #[test]
    fn of_many_that_are_as_long_none_are() {
        assert!(of(&rows(80_000, |_| 1.0)).ordinals.is_empty());
        assert!(of(&[]).ordinals.is_empty());
    }
}

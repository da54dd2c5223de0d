//! The exact search: every row, or every allowed one. The oracle of the other, and the faster of the two where few items may be found.
//!
//! 64 dimensions: about 5 ns per row while the rows come in order from memory, 15 ns where they are scattered.

use crate::allow::AllowSet;
use crate::compare::{ByRows, Compare};
use crate::pool::Entry;
use crate::search::{Hit, SearchError};
use crate::vectors::VectorView;
use crate::visited::{Batch, Scratch};

/// Rows scored in one go.
const BLOCK: usize = 64;

/// The `k` rows nearest to a query by their dot product with it, best first, ties by ordinal. The slow twin of `Index::search`.
///
/// The query is compared as it is: where the metric is cosine, give it unit length first. With `allow`, only rows in it are looked at.
/// Returns how many rows were compared; the hits are in `scratch`.
///
/// # Errors
/// A query that is not as long as the rows, or that is not finite.
pub fn exact_search(
    vectors: VectorView<'_>,
    query: &[f32],
    k: usize,
    allow: Option<&AllowSet>,
    scratch: &mut Scratch,
) -> Result<u32, SearchError> {
    crate::search::check_query(query, vectors.dimensions)?;
    let mut taken = std::mem::take(&mut scratch.query);
    taken.set(query, 1.0, vectors.stride);
    let compared = scan(ByRows::new(&taken, vectors), k, allow, scratch);
    scratch.query = taken;
    Ok(compared)
}

/// As [`exact_search`], with a query that is prepared.
pub(crate) fn scan(rows: ByRows<'_>, k: usize, allow: Option<&AllowSet>, scratch: &mut Scratch) -> u32 {
    let mut scan = Scan { rows, compared: 0 };
    scratch.nearest.begin(k);
    match allow {
        None => scan.all(scratch),
        Some(allow) => scan.allowed(allow, scratch),
    }
    scratch.nearest.finish(&mut scratch.hits);
    scan.compared
}

struct Scan<'a> {
    rows: ByRows<'a>,
    compared: u32,
}

impl Scan<'_> {
    fn all(&mut self, scratch: &mut Scratch) {
        let n = self.rows.n();
        for first in (0..n).step_by(BLOCK) {
            let count = (n - first).min(BLOCK as u32);
            for (place, ordinal) in scratch.batch.ordinals.iter_mut().zip(first..first + count) {
                *place = ordinal;
            }
            self.score(count as usize, scratch);
        }
    }

    fn allowed(&mut self, allow: &AllowSet, scratch: &mut Scratch) {
        let (mut count, n) = (0, self.rows.n());
        for ordinal in allow.iter().take_while(|ordinal| *ordinal < n) {
            self.rows.ask(ordinal);
            if let Some(place) = scratch.batch.ordinals.get_mut(count) {
                *place = ordinal;
            }
            count += 1;
            if count == BLOCK {
                self.score(count, scratch);
                count = 0;
            }
        }
        self.score(count, scratch);
    }

    fn score(&mut self, count: usize, scratch: &mut Scratch) {
        let Scratch { batch: Batch { ordinals, similarities }, nearest, .. } = scratch;
        let ordinals = ordinals.get(..count).unwrap_or_default();
        self.rows.many(ordinals, similarities);
        for (ordinal, similarity) in ordinals.iter().zip(similarities) {
            nearest.offer(Entry::new(*similarity, *ordinal));
        }
        self.compared += count as u32;
    }
}

/// The best k of any number of entries: gathered, and cut to the best k whenever there are twice as many. Constant time per entry,
/// whatever k.
#[derive(Debug, Default)]
pub(crate) struct Nearest {
    entries: Vec<Entry>,
    k: usize,
    /// What is not better than this has k better ones.
    bound: Option<Entry>,
}

impl Nearest {
    fn begin(&mut self, k: usize) {
        self.entries.clear();
        self.k = k;
        self.bound = None;
    }

    #[inline]
    fn offer(&mut self, entry: Entry) {
        if self.bound.is_some_and(|bound| entry > bound) {
            return;
        }
        self.entries.push(entry);
        // At least a block, so that a small k does not cut all the time.
        if self.entries.len() >= (2 * self.k).max(BLOCK) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.entries.len() > self.k {
            if let Some(last) = self.k.checked_sub(1) {
                let (_, worst, _) = self.entries.select_nth_unstable(last);
                self.bound = Some(*worst);
            }
            self.entries.truncate(self.k);
        }
    }

    fn finish(&mut self, hits: &mut Vec<Hit>) {
        self.cut();
        self.entries.sort_unstable();
        hits.clear();
        hits.extend(self.entries.iter().map(|entry| entry.hit()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nearest_keeps_what_sorting_keeps(values in prop::collection::vec(0_u8..50, 0..500), k in 0_usize..80) {
            let mut nearest = Nearest::default();
            nearest.begin(k);
            let entries = || (0..).zip(&values).map(|(ordinal, value)| Entry::new(f32::from(*value), ordinal));
            entries().for_each(|entry| nearest.offer(entry));
            let mut hits = vec![Hit { ordinal: 0, similarity: 0.0 }];
            nearest.finish(&mut hits);
            let mut sorted: Vec<Entry> = entries().collect();
            sorted.sort();
            prop_assert_eq!(hits, sorted.into_iter().take(k).map(Entry::hit).collect::<Vec<_>>());
        }
    }
}

//! The exact search: every row, or every allowed one. The oracle of the other, and the faster of the two where few items may be found.
//!
//! 64 dimensions: about 5 ns per row while the rows come in order from memory, 15 ns where they are scattered; a quarter of that by codes.

use crate::allow::AllowSet;
use crate::compare::{ByRows, Compare};
use crate::pool::Entry;
use crate::search::SearchError;
use crate::vectors::VectorView;
use crate::visited::Scratch;

/// Rows scored in one go.
const BLOCK: usize = 64;
/// Rows compared in one go after their codes.
const REFINED: usize = 16;

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
    scratch.nearest.begin(k);
    let nearest = &mut scratch.nearest;
    let offer = |ordinals: &[u32], similarities: &[f32]| {
        for (ordinal, similarity) in ordinals.iter().zip(similarities) {
            nearest.offer(Entry::new(*similarity, *ordinal));
        }
    };
    let compared = match allow {
        None => in_blocks(rows, 0..rows.n(), offer),
        Some(allow) => in_blocks(rows, allow.iter(), offer),
    };
    scratch.hits.clear();
    scratch.hits.extend(scratch.nearest.sorted().iter().map(|entry| entry.hit()));
    compared
}

/// As [`scan`], by codes first: only items that may be among the nearest, by as much as codes can be off, are compared by rows. Four
/// times as fast, and finds the same but for one item in 700 that was barely among the nearest. Returns how many were compared by codes.
pub(crate) fn scan_coded<C: Compare>(
    near: C,
    rows: ByRows<'_>,
    k: usize,
    allow: &AllowSet,
    scratch: &mut Scratch,
) -> u32 {
    let Scratch { refined, hits, .. } = scratch;
    refined.begin(k);
    let margin = near.margin();
    let (mut waiting, mut count, mut bound) = ([0; REFINED], 0, f32::NEG_INFINITY);
    let mut refine = |waiting: &[u32]| {
        let mut similarities = [0.0; REFINED];
        rows.many(waiting, &mut similarities);
        let entries = waiting.iter().zip(&similarities);
        entries.for_each(|(ordinal, similarity)| refined.insert(Entry::new(*similarity, *ordinal)));
        refined.worst_of_full().map_or(f32::NEG_INFINITY, |worst| worst - margin)
    };
    let compared = in_blocks(near, allow.iter(), |ordinals, similarities| {
        for (ordinal, similarity) in ordinals.iter().zip(similarities) {
            if *similarity < bound {
                continue;
            }
            if let Some(place) = waiting.get_mut(count) {
                rows.ask(*ordinal);
                *place = *ordinal;
                count += 1;
            }
            if count == REFINED {
                bound = refine(&waiting);
                count = 0;
            }
        }
    });
    refine(waiting.get(..count).unwrap_or_default());
    hits.clear();
    hits.extend(refined.entries().iter().map(|entry| entry.hit()));
    compared
}

/// Compares with ascending ordinals, a block at a time, whose memory is asked for while the block before it is compared with.
#[inline(always)]
fn in_blocks<C: Compare>(near: C, ordinals: impl Iterator<Item = u32>, mut scored: impl FnMut(&[u32], &[f32])) -> u32 {
    let n = near.n();
    let mut ordinals = ordinals.take_while(|ordinal| *ordinal < n);
    let (mut ready, mut count, mut compared) = ([0; BLOCK], 0, 0);
    loop {
        let (mut next, mut asked) = ([0; BLOCK], 0);
        for (place, ordinal) in next.iter_mut().zip(&mut ordinals) {
            near.ask(ordinal);
            *place = ordinal;
            asked += 1;
        }
        let mut similarities = [0.0; BLOCK];
        let block = ready.get(..count).unwrap_or_default();
        near.many(block, &mut similarities);
        scored(block, similarities.get(..count).unwrap_or_default());
        compared += count as u32;
        if asked == 0 {
            return compared;
        }
        (ready, count) = (next, asked);
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

    /// The best k, best first.
    pub(crate) fn sorted(&mut self) -> &[Entry] {
        self.cut();
        self.entries.sort_unstable();
        &self.entries
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
            let mut sorted: Vec<Entry> = entries().collect();
            sorted.sort();
            sorted.truncate(k);
            prop_assert_eq!(nearest.sorted(), &sorted);
        }
    }
}

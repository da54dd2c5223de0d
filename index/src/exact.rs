//! The exact search: every row, or every allowed one. The oracle of the other, and the faster of the two where few items may be found.
//!
//! 64 dimensions: about 5 ns per row while the rows come in order from memory, 15 ns where they are scattered; 3 ns by codes.

use crate::allow::AllowSet;
use crate::compare::{ByRows, Compare};
use crate::metric::{BLOCK, Ordinals};
use crate::pool::Entry;
use crate::visited::Scratch;

/// Similarities that are told to be too small in one go.
const TOGETHER: usize = 16;

/// The k rows nearest to a query by their dot product with it, best first, ties by ordinal; with `allow`, of those in it. Returns how many were
/// compared; the hits are in the scratch.
pub(crate) fn search(rows: ByRows<'_>, k: usize, allow: Option<&AllowSet>, scratch: &mut Scratch) -> u32 {
    let compared = scan(rows, k, allow, scratch);
    scratch.hits.clear();
    scratch.hits.extend(scratch.nearest.sorted().iter().take(k).map(|entry| entry.hit()));
    compared
}

/// Compares with every item, or with every allowed one. Returns how many those are; the k nearest are in `scratch.nearest`, and with them all
/// that may be among the nearest by their rows, by as much as what is compared by can be off: of codes all but one in 700.
pub(crate) fn scan<C: Compare>(near: C, k: usize, allow: Option<&AllowSet>, scratch: &mut Scratch) -> u32 {
    let Some(allow) = allow else { return scan_where(near, k, |_| true, scratch) };
    if let Some(compared) = near.scan_gathered(k, allow, scratch) {
        return compared;
    }
    let nearest = &mut scratch.nearest;
    nearest.begin(k, kept_below(near));
    let mut blocks = allow.blocks();
    let fill = |block: &mut Ordinals| blocks.next_into(block);
    in_blocks::<_, true>(near, fill, |ordinals, similarities| nearest.offer(ordinals, similarities, |_| true))
}

/// As [`scan`], with every item; those that do not pass are left out afterwards, so as many should pass as not.
pub(crate) fn scan_where<C: Compare>(near: C, k: usize, passes: impl Fn(u32) -> bool, scratch: &mut Scratch) -> u32 {
    let nearest = &mut scratch.nearest;
    nearest.begin(k, kept_below(near));
    let mut first = 0;
    let fill = |block: &mut Ordinals| {
        for (place, ordinal) in block.iter_mut().zip(first..) {
            *place = ordinal;
        }
        let count = BLOCK.min((near.n() - first) as usize);
        first += count as u32;
        count
    };
    // The memory notices by itself that one comes after the other.
    in_blocks::<_, false>(near, fill, |ordinals, similarities| nearest.offer(ordinals, similarities, &passes))
}

/// How far below the k-th nearest, by what is compared by, the truly nearest may come out. Twice as far as one item can be off: where very many are
/// about as near, those that come out nearest are those that are flattered most, and the truly nearest may themselves be better than it says.
pub(crate) fn kept_below<C: Compare>(near: C) -> f32 {
    2.0 * near.margin()
}

/// Compares with ascending ordinals, a block at a time, whose memory is asked for, with `ASK`, while the block before it is compared with.
/// `fill` says how many it has put into a block; none, and it is over.
#[inline(always)]
fn in_blocks<C: Compare, const ASK: bool>(
    near: C,
    mut fill: impl FnMut(&mut Ordinals) -> usize,
    mut scored: impl FnMut(&[u32], &[f32]),
) -> u32 {
    let n = near.n();
    let (mut one, mut other, mut similarities) = ([0; BLOCK], [0; BLOCK], [0.0; BLOCK]);
    let (mut ready, mut next) = (&mut one, &mut other);
    let (mut count, mut compared) = (0, 0);
    loop {
        let filled = fill(next);
        let asked = next.get(..filled).unwrap_or_default();
        // A set may be of more items than there are.
        let asked = match asked.last() {
            Some(last) if *last >= n => asked.get(..asked.partition_point(|ordinal| *ordinal < n)).unwrap_or_default(),
            _ => asked,
        };
        if ASK {
            asked.iter().for_each(|ordinal| near.ask(*ordinal));
        }
        let left = asked.len();
        let block = ready.get(..count).unwrap_or_default();
        near.many(block, &mut similarities);
        scored(block, similarities.get(..count).unwrap_or_default());
        compared += count as u32;
        if left == 0 {
            return compared;
        }
        std::mem::swap(&mut ready, &mut next);
        count = left;
    }
}

/// The best k of any number of entries, and all that are worse than the k-th by at most a margin: gathered, and cut to those whenever there are
/// twice as many. Constant time per entry, whatever k.
#[derive(Debug, Default)]
pub(crate) struct Nearest {
    entries: Vec<Entry>,
    k: usize,
    margin: f32,
    /// What is not better than this does not belong to them.
    bound: Option<Entry>,
    /// When to cut: at so many entries.
    full: usize,
}

impl Nearest {
    pub(crate) fn begin(&mut self, k: usize, margin: f32) {
        self.entries.clear();
        (self.k, self.margin, self.bound) = (k, margin, None);
        self.full = k.max(BLOCK).saturating_mul(2);
    }

    #[inline]
    pub(crate) fn offer(&mut self, ordinals: &[u32], similarities: &[f32], passes: impl Fn(u32) -> bool) {
        let (blocks, rest) = similarities.as_chunks::<TOGETHER>();
        for (block, ordinals) in blocks.iter().zip(ordinals.chunks_exact(TOGETHER)) {
            // Mostly all are too far, which is told of them at once.
            let bound = self.bound();
            if block.iter().map(|similarity| u32::from(*similarity < bound)).sum::<u32>() < TOGETHER as u32 {
                self.offer_each(ordinals, block, &passes);
            }
        }
        self.offer_each(ordinals.get(similarities.len() - rest.len()..).unwrap_or_default(), rest, &passes);
    }

    fn offer_each(&mut self, ordinals: &[u32], similarities: &[f32], passes: &impl Fn(u32) -> bool) {
        let bound = self.bound();
        for (ordinal, similarity) in ordinals.iter().zip(similarities) {
            // What is not a number goes on, to be ranked last.
            if *similarity < bound {
                continue;
            }
            let entry = Entry::new(*similarity, *ordinal);
            if self.bound.is_none_or(|bound| entry <= bound) && passes(*ordinal) {
                self.entries.push(entry);
            }
        }
        if self.entries.len() >= self.full {
            self.cut();
        }
    }

    /// The least similarity that may belong to them.
    fn bound(&self) -> f32 {
        self.bound.map_or(f32::NEG_INFINITY, Entry::similarity)
    }

    fn cut(&mut self) {
        if self.entries.len() > self.k {
            let Some(last) = self.k.checked_sub(1) else { return self.entries.clear() };
            let (_, worst, _) = self.entries.select_nth_unstable(last);
            let bound = Entry::new(worst.similarity() - self.margin, worst.ordinal());
            self.entries.retain(|entry| *entry <= bound);
            self.bound = Some(bound);
        }
        // At least a block more, so that a small k does not cut all the time.
        self.full = 2 * self.entries.len().max(BLOCK);
    }

    /// Cuts them to what belongs to them; the similarity of the k-th, once there are more than k.
    pub(crate) fn cut_to_worst(&mut self) -> Option<f32> {
        self.cut();
        self.bound.map(|bound| bound.similarity() + self.margin)
    }

    /// Gives them other ordinals, in the same order.
    pub(crate) fn rename(&mut self, ordinal: impl Fn(u32) -> u32) {
        for entry in &mut self.entries {
            *entry = Entry::new(entry.similarity(), ordinal(entry.ordinal()));
        }
    }

    /// They, best first.
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

    /// Half of very many items are allowed, those far from the query: what comes out nearest by codes is what they flatter most.
    #[cfg(feature = "build")]
    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_scan_by_codes_keeps_the_truly_nearest_of_very_many_that_are_as_far() {
        use crate::codes::Codes;
        use crate::compare::ByCodes;
        use crate::metric::{CodedQuery, dot};
        use crate::vectors::VectorView;

        const N: u32 = 40_000;
        const DIMENSIONS: usize = 64;
        const K: usize = 10;
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let rows: Vec<f32> = (0..N as usize * DIMENSIONS).map(|_| noise()).collect();
        let vectors = VectorView { rows: &rows, n: N, stride: DIMENSIONS, dimensions: DIMENSIONS };
        let codes = Codes::of(N, DIMENSIONS, &|visit| {
            (0..N).for_each(|ordinal| visit(ordinal, vectors.row(ordinal).unwrap()));
            Ok(())
        });
        let codes = codes.unwrap();
        let (mut scratch, mut coded, mut found) = (Scratch::default(), CodedQuery::default(), 0);
        let queries: Vec<f32> = (0..20 * DIMENSIONS).map(|_| noise()).collect();
        for query in queries.chunks(DIMENSIONS) {
            let mut ranked: Vec<u32> = (0..N).collect();
            let similarity = |ordinal: u32| dot(query, vectors.row(ordinal).unwrap());
            ranked.sort_by(|a, b| similarity(*b).total_cmp(&similarity(*a)));
            let far = ranked.get(N as usize / 2..).unwrap();
            let mut allow = AllowSet::new_empty(N);
            far.iter().for_each(|ordinal| assert!(allow.insert(*ordinal)));
            coded.set(query, &codes.scales);
            scan(ByCodes::new(&coded, codes.view()), K, Some(&allow), &mut scratch);
            let kept: Vec<u32> = scratch.nearest.sorted().iter().map(|entry| entry.ordinal()).collect();
            found += far.iter().take(K).filter(|ordinal| kept.contains(ordinal)).count();
        }
        assert!(found >= 20 * K - 1, "{found} of {}", 20 * K);
    }

    proptest! {
        #[test]
        fn nearest_keeps_what_sorting_keeps(
            values in prop::collection::vec(0_u8..50, 0..500),
            k in 0_usize..80,
            margin in 0_u8..4,
        ) {
            let mut nearest = Nearest::default();
            nearest.begin(k, f32::from(margin));
            let (ordinals, similarities): (Vec<u32>, Vec<f32>) = (0..).zip(&values).map(|(i, value)| (i, f32::from(*value))).unzip();
            nearest.offer(&ordinals, &similarities, |_| true);
            let mut sorted: Vec<Entry> = ordinals.iter().zip(&similarities).map(|(i, value)| Entry::new(*value, *i)).collect();
            sorted.sort();
            let worst = k.checked_sub(1).and_then(|last| sorted.get(last)).copied();
            match worst {
                Some(worst) => {
                    let bound = Entry::new(worst.similarity() - f32::from(margin), worst.ordinal());
                    sorted.retain(|entry| *entry <= bound);
                }
                None => sorted.truncate(k.max(values.len().min(k))),
            }
            prop_assert_eq!(nearest.sorted(), &sorted);
        }
    }
}

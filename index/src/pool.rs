//! The candidates of a walk: a sorted array of bounded length, which is frontier and result at once.
//!
//! An entry is one integer, smaller for what is nearer and then for what has the smaller ordinal, so that one comparison orders
//! entries, and equal similarities come in the order of ordinals on every path. Its lowest bit says that the item was expanded.
//! Against two heaps: the walk keeps at most `ef` entries, and the shift of a few hundred bytes that an insertion costs is cheaper
//! than the branches of two heaps, of which one also holds what will never be looked at again.

use crate::search::Hit;

/// A similarity and an ordinal as one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

const EXPANDED: u64 = 1;

impl Entry {
    /// No entry is better.
    const BEST: Self = Self(0);

    /// Ordinals are below 2^30, so there is room for the flag. What is not a number ranks last.
    #[inline(always)]
    pub(crate) fn new(similarity: f32, ordinal: u32) -> Self {
        // Adding zero makes -0 the same as 0.
        let bits = if similarity.is_nan() { f32::NEG_INFINITY } else { similarity + 0.0 }.to_bits();
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(!ascending) << 32 | u64::from(ordinal) << 1)
    }

    #[inline(always)]
    pub(crate) fn ordinal(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline(always)]
    pub(crate) fn similarity(self) -> f32 {
        let ascending = !(self.0 >> 32) as u32;
        f32::from_bits(if ascending >> 31 == 1 { ascending ^ 1 << 31 } else { !ascending })
    }

    #[inline(always)]
    fn is_expanded(self) -> bool {
        self.0 & EXPANDED != 0
    }

    pub(crate) fn hit(self) -> Hit {
        Hit { ordinal: self.ordinal(), similarity: self.similarity() }
    }
}

/// At most so many entries, best first.
#[derive(Debug)]
pub(crate) struct Pool {
    entries: Vec<Entry>,
    capacity: usize,
    /// Only so many, the best, are expanded.
    breadth: usize,
    /// Everything before this place was expanded.
    next: usize,
    /// What found no place and may still be among the `k` best, since similarities are off by up to `margin`.
    near: Vec<Entry>,
    k: usize,
    margin: f32,
    /// What is better than this may be.
    bound: Entry,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            capacity: 0,
            breadth: 0,
            next: 0,
            near: Vec::new(),
            k: 0,
            margin: 0.0,
            bound: Entry::BEST,
        }
    }
}

impl Pool {
    /// Empties it, for at most so many entries.
    pub(crate) fn begin(&mut self, capacity: usize) {
        self.begin_keeping(capacity, 0, 0.0);
    }

    /// As [`Pool::begin`], for the k best at least, of which no more than `breadth` are expanded, and for similarities that are off by up to `margin`:
    /// what finds no place, and could be among the k best all the same, is kept beside, for [`Pool::add_near`].
    pub(crate) fn begin_keeping(&mut self, breadth: usize, k: usize, margin: f32) {
        let capacity = breadth.max(k);
        self.entries.clear();
        self.entries.reserve(capacity);
        self.near.clear();
        (self.capacity, self.breadth, self.next) = (capacity, breadth, 0);
        (self.k, self.margin, self.bound) = (k, margin, Entry::BEST);
    }

    /// Whether an entry would stay.
    #[inline(always)]
    pub(crate) fn admits(&self, entry: Entry) -> bool {
        self.entries.len() < self.capacity || self.entries.last().is_some_and(|worst| entry < *worst)
    }

    /// Puts an entry in its place, pushing the worst out of a full pool.
    #[inline]
    pub(crate) fn insert(&mut self, entry: Entry) {
        if !self.admits(entry) {
            self.keep_near(entry);
            return;
        }
        let place = self.entries.partition_point(|other| *other < entry);
        if self.entries.len() == self.capacity
            && let Some(worst) = self.entries.pop()
        {
            self.keep_near(worst);
        }
        self.entries.insert(place, entry);
        self.next = self.next.min(place);
        if place < self.k && self.margin > 0.0 {
            let last = self.k.checked_sub(1).and_then(|last| self.entries.get(last));
            self.bound = last.map_or(Entry::BEST, |last| Entry::new(last.similarity() - self.margin, 0));
        }
    }

    #[inline(always)]
    fn keep_near(&mut self, entry: Entry) {
        if entry < self.bound {
            self.near.push(entry);
        }
    }

    /// Adds what was kept beside and may still be among the k best, beyond the capacity: all of it is worse than what has a place.
    pub(crate) fn add_near(&mut self) {
        let bound = self.bound;
        self.near.retain(|entry| *entry < bound);
        self.near.sort_unstable();
        self.entries.append(&mut self.near);
    }

    /// The best entry that was not expanded; it is from now on. None, once all within the breadth were.
    #[inline]
    pub(crate) fn expand(&mut self) -> Option<Entry> {
        let within = self.entries.len().min(self.breadth);
        let rest = self.entries.get_mut(self.next..within).unwrap_or_default();
        let step = rest.iter().position(|entry| !entry.is_expanded());
        self.next += step.unwrap_or(rest.len());
        let entry = rest.get_mut(step?)?;
        let found = *entry;
        entry.0 |= EXPANDED;
        Some(found)
    }

    /// What [`Pool::expand`] would give next, if nothing better came in; a look at a few entries only.
    #[inline]
    pub(crate) fn peek(&self) -> impl Iterator<Item = Entry> + '_ {
        const LOOK: usize = 8;
        let ahead = self.entries.get(self.next..).unwrap_or_default().iter().take(LOOK);
        ahead.filter(|entry| !entry.is_expanded()).copied()
    }

    /// The similarity of the worst entry, once the pool is full.
    #[inline]
    pub(crate) fn worst_of_full(&self) -> Option<f32> {
        if self.entries.len() < self.capacity { None } else { self.entries.last().map(|worst| worst.similarity()) }
    }

    /// Its entries, best first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Keeps only some of them.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.entries.retain(|entry| keep(entry.ordinal()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_order_by_similarity_then_ordinal() {
        let values =
            [f32::INFINITY, 2.0, 1.0, f32::MIN_POSITIVE, 0.0, -f32::MIN_POSITIVE, -1.0, -2.0, f32::NEG_INFINITY];
        for pair in values.windows(2) {
            assert!(Entry::new(pair[0], 9) < Entry::new(pair[1], 0), "{pair:?}");
        }
        for value in values {
            assert!(Entry::new(value, 3) < Entry::new(value, 4));
            let entry = Entry::new(value, (1 << 30) - 1);
            assert_eq!((entry.similarity(), entry.ordinal()), (value, (1 << 30) - 1));
        }
        assert_eq!(Entry::new(-0.0, 1), Entry::new(0.0, 1));
        assert_eq!(Entry::new(f32::NAN, 1), Entry::new(f32::NEG_INFINITY, 1));
    }

    #[test]
    fn expanding_goes_back_to_what_came_in_before() {
        let mut pool = Pool::default();
        pool.begin(3);
        assert!(pool.expand().is_none() && pool.peek().next().is_none());
        for ordinal in [5, 4, 3] {
            pool.insert(Entry::new(ordinal as f32, ordinal));
        }
        assert_eq!(pool.expand().map(Entry::ordinal), Some(5));
        assert_eq!(pool.expand().map(Entry::ordinal), Some(4));
        pool.insert(Entry::new(9.0, 9));
        pool.insert(Entry::new(1.0, 1));
        assert_eq!(pool.peek().next().map(Entry::ordinal), Some(9));
        assert_eq!(pool.expand().map(Entry::ordinal), Some(9));
        assert!(pool.expand().is_none(), "3 was pushed out, 5 and 4 are done");
        assert_eq!(pool.entries().iter().map(|entry| entry.ordinal()).collect::<Vec<_>>(), [9, 5, 4]);
    }

    #[test]
    fn only_the_best_within_the_breadth_are_expanded() {
        let mut pool = Pool::default();
        pool.begin_keeping(2, 4, 0.0);
        for ordinal in [2, 5, 4, 3] {
            pool.insert(Entry::new(ordinal as f32, ordinal));
        }
        let mut expanded = || pool.expand().map(Entry::ordinal);
        assert_eq!([expanded(), expanded(), expanded()], [Some(5), Some(4), None]);
        pool.insert(Entry::new(9.0, 9));
        let mut expanded = || pool.expand().map(Entry::ordinal);
        assert_eq!([expanded(), expanded()], [Some(9), None]);
        assert_eq!(pool.entries().iter().map(|entry| entry.ordinal()).collect::<Vec<_>>(), [9, 5, 4, 3]);
    }

    proptest! {
        #[test]
        fn a_pool_keeps_what_sorting_keeps(values in prop::collection::vec(0_u8..50, 0..200), capacity in 1_usize..40) {
            let mut pool = Pool::default();
            pool.begin(capacity);
            for (ordinal, value) in (0..).zip(&values) {
                pool.insert(Entry::new(f32::from(*value), ordinal));
            }
            let mut sorted: Vec<Entry> = (0..).zip(&values).map(|(i, value)| Entry::new(f32::from(*value), i)).collect();
            sorted.sort();
            sorted.truncate(capacity);
            prop_assert_eq!(pool.entries, sorted);
        }

        #[test]
        fn a_pool_that_keeps_what_is_near_has_all_that_may_be_among_the_best(
            values in prop::collection::vec(0_u8..50, 0..200),
            k in 1_usize..10,
            more in 0_usize..10,
            margin in 1_u8..8,
        ) {
            let mut pool = Pool::default();
            pool.begin_keeping(k + more, k, f32::from(margin));
            let mut sorted: Vec<Entry> = (0..).zip(&values).map(|(i, value)| Entry::new(f32::from(*value), i)).collect();
            sorted.iter().for_each(|entry| pool.insert(*entry));
            pool.add_near();
            sorted.sort();
            let least = sorted.get(k - 1).map_or(f32::NEG_INFINITY, |worst| worst.similarity() - f32::from(margin));
            let expected: Vec<Entry> = (0..)
                .zip(sorted)
                .filter(|(place, entry)| *place < k + more || entry.similarity() > least)
                .map(|(_, entry)| entry)
                .collect();
            prop_assert_eq!(pool.entries, expected);
        }
    }
}

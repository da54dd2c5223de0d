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
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<Entry>,
    capacity: usize,
    /// Everything before this place was expanded.
    next: usize,
}

impl Pool {
    /// Empties it, for at most so many entries.
    pub(crate) fn begin(&mut self, capacity: usize) {
        self.entries.clear();
        self.entries.reserve(capacity);
        self.capacity = capacity;
        self.next = 0;
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
            return;
        }
        let place = self.entries.partition_point(|other| *other < entry);
        if self.entries.len() == self.capacity {
            self.entries.pop();
        }
        self.entries.insert(place, entry);
        self.next = self.next.min(place);
    }

    /// The best entry that was not expanded; it is from now on.
    #[inline]
    pub(crate) fn expand(&mut self) -> Option<Entry> {
        let rest = self.entries.get_mut(self.next..).unwrap_or_default();
        let step = rest.iter().position(|entry| !entry.is_expanded());
        self.next += step.unwrap_or(rest.len());
        let entry = self.entries.get_mut(self.next)?;
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
    }
}

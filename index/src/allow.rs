//! A set of items that a search may return: a bit per item and how many are set.

use std::fmt;
use std::sync::Arc;

use crate::gathered::Gathered;
use crate::metric::{Ordinals, Unpack, unpacking};

/// A dense set of ordinals below n, with its cardinality always at hand. One bit per item: 125 KB for a million.
///
/// Combining two sets goes word by word, about 10 GB/s.
#[derive(Clone)]
pub struct AllowSet {
    words: Vec<u64>,
    n: u32,
    cardinality: u32,
    /// The codes of its items, and perhaps of some that were in it, where they were put side by side.
    pub(crate) gathered: Option<Arc<Gathered>>,
}

impl PartialEq for AllowSet {
    fn eq(&self, other: &Self) -> bool {
        self.n == other.n && self.words == other.words
    }
}

impl Eq for AllowSet {}

const BITS: u32 = u64::BITS;

/// The items of a set, ascending, a block at a time.
pub(crate) struct Blocks<'a> {
    words: std::slice::Iter<'a, u64>,
    /// The ordinal of the next word's first bit.
    first: u32,
    unpack: Unpack,
}

impl Blocks<'_> {
    /// Fills a block with the next items and says how many they are; none, and there are no more.
    #[inline]
    pub(crate) fn next_into(&mut self, block: &mut Ordinals) -> usize {
        (self.unpack)(&mut self.words, &mut self.first, block)
    }
}

impl AllowSet {
    /// The empty set over n items.
    pub fn new_empty(n: u32) -> Self {
        Self { words: vec![0; n.div_ceil(BITS) as usize], n, cardinality: 0, gathered: None }
    }

    /// All of n items.
    pub fn full(n: u32) -> Self {
        let mut set = Self { words: vec![u64::MAX; n.div_ceil(BITS) as usize], n, cardinality: n, gathered: None };
        if let Some(last) = set.words.last_mut() {
            *last &= last_word_mask(n);
        }
        set
    }

    /// The number of items there are, in the set or not.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// The number of items in the set.
    pub fn cardinality(&self) -> u32 {
        self.cardinality
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice()) + self.gathered.as_ref().map_or(0, |gathered| gathered.bytes())
    }

    /// Whether no item is in the set.
    pub fn is_empty(&self) -> bool {
        self.cardinality == 0
    }

    /// Whether an item is in the set. False for ordinals out of range.
    #[inline]
    pub fn contains(&self, ordinal: u32) -> bool {
        self.words.get((ordinal / BITS) as usize).is_some_and(|word| word >> (ordinal % BITS) & 1 == 1)
    }

    /// Puts an item in; true if it was not there. An ordinal out of range changes nothing.
    pub fn insert(&mut self, ordinal: u32) -> bool {
        if ordinal >= self.n {
            return false;
        }
        let Some(word) = self.words.get_mut((ordinal / BITS) as usize) else { return false };
        let bit = 1 << (ordinal % BITS);
        let new = *word & bit == 0;
        *word |= bit;
        if new {
            self.cardinality += 1;
            self.gathered = None;
        }
        new
    }

    /// Puts items in; ordinals out of range change nothing.
    pub(crate) fn insert_all(&mut self, ordinals: &[u32]) {
        let mut new = 0;
        for ordinal in ordinals.iter().filter(|ordinal| **ordinal < self.n) {
            if let Some(word) = self.words.get_mut((ordinal / BITS) as usize) {
                new += u32::from(*word >> (ordinal % BITS) & 1 == 0);
                *word |= 1 << (ordinal % BITS);
            }
        }
        self.cardinality += new;
        self.gathered = None;
    }

    /// Takes an item out; true if it was there.
    pub fn remove(&mut self, ordinal: u32) -> bool {
        let Some(word) = self.words.get_mut((ordinal / BITS) as usize) else { return false };
        let bit = 1 << (ordinal % BITS);
        let there = *word & bit != 0;
        *word &= !bit;
        self.cardinality -= u32::from(there);
        there
    }

    /// Takes every item out.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.cardinality = 0;
        self.gathered = None;
    }

    /// Keeps what is also in `other`.
    pub fn and(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & theirs);
    }

    /// Adds what is in `other`, as far as it is below this set's n.
    pub fn or(&mut self, other: &Self) {
        self.gathered = None;
        self.combine(other, |mine, theirs| mine | theirs);
    }

    /// Takes out what is in `other`.
    pub fn and_not(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & !theirs);
    }

    /// The items in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        bits_of(&self.words)
    }

    /// As [`AllowSet::iter`], a block at a time.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks { words: self.words.iter(), first: 0, unpack: unpacking() }
    }

    /// Up to so many of the items, from places spread evenly over all ordinals: of each place, the next item in the set.
    pub(crate) fn spread(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        let step = self.words.len().div_ceil(count.max(1)).max(1);
        (0_u32..).zip(self.words.chunks(step)).filter_map(move |(chunk, words)| {
            let (place, word) = (0_u32..).zip(words).find(|(_, word)| **word != 0)?;
            Some((chunk * step as u32 + place) * BITS + word.trailing_zeros())
        })
    }

    /// Adds the items of a bitmap of 64-bit words; bits from n on are ignored.
    pub(crate) fn or_words(&mut self, words: &[u64]) {
        self.gathered = None;
        self.combine_words(words.iter().copied(), |mine, theirs| mine | theirs);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(u64, u64) -> u64) {
        // A shorter set says nothing about the items it does not cover, so they are not in it.
        self.combine_words(other.words.iter().copied().chain(std::iter::repeat(0)), with);
    }

    fn combine_words(&mut self, words: impl Iterator<Item = u64>, with: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.words.iter_mut().zip(words) {
            *mine = with(*mine, theirs);
        }
        if let Some(last) = self.words.last_mut() {
            *last &= last_word_mask(self.n);
        }
        self.cardinality = self.words.iter().map(|word| word.count_ones()).sum();
    }
}

/// The items of a bitmap of 64-bit words, ascending.
pub(crate) fn bits_of(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
    (0..).zip(words).flat_map(|(place, word)| {
        let lowest_out = |left: &u64| Some(left & left.wrapping_sub(1)).filter(|left| *left != 0);
        let first = Some(*word).filter(|word| *word != 0);
        std::iter::successors(first, lowest_out).map(move |left| place * BITS + left.trailing_zeros())
    })
}

/// The bits of the last word that stand for items.
fn last_word_mask(n: u32) -> u64 {
    match n % BITS {
        0 => u64::MAX,
        used => (1 << used) - 1,
    }
}

impl fmt::Debug for AllowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowSet").field("n", &self.n).field("cardinality", &self.cardinality).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::BLOCK;

    #[test]
    fn one_by_one() {
        let mut set = AllowSet::new_empty(130);
        assert!(set.is_empty() && set.iter().next().is_none());
        assert!(set.insert(0) && set.insert(63) && set.insert(64) && set.insert(129));
        assert!(!set.insert(129) && !set.insert(130) && !set.insert(u32::MAX));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        set.insert_all(&[0, 63, 130, u32::MAX]);
        assert_eq!(set.cardinality(), 4);
        assert!(set.contains(64) && !set.contains(65) && !set.contains(130) && !set.contains(u32::MAX));
        assert!(set.remove(64) && !set.remove(64) && !set.remove(u32::MAX));
        assert_eq!(set.cardinality(), 3);
        set.clear();
        assert_eq!(set, AllowSet::new_empty(130));
    }

    #[test]
    fn blocks_are_what_one_by_one_is() {
        for step in [1, 2, 7, 63, 64, 65, 999] {
            let mut set = AllowSet::new_empty(10_000);
            set.insert_all(&(0..10_000).step_by(step).collect::<Vec<_>>());
            let (mut blocks, mut block, mut found) = (set.blocks(), [0; BLOCK], Vec::new());
            loop {
                let count = blocks.next_into(&mut block);
                if count == 0 {
                    break;
                }
                found.extend_from_slice(&block[..count]);
            }
            assert_eq!(found, set.iter().collect::<Vec<_>>(), "{step}");
        }
    }

    #[test]
    fn a_spread_is_of_the_set_and_not_all_in_one_corner() {
        let mut set = AllowSet::new_empty(100_000);
        (0..100_000).step_by(37).for_each(|ordinal| assert!(set.insert(ordinal)));
        let spread: Vec<u32> = set.spread(10).collect();
        assert!(spread.len() <= 10 && spread.len() >= 9 && spread.iter().all(|ordinal| set.contains(*ordinal)));
        assert!(spread.is_sorted() && spread.last().is_some_and(|last| *last > 80_000), "{spread:?}");
        assert_eq!(AllowSet::full(1).spread(5).collect::<Vec<_>>(), [0]);
        assert_eq!(AllowSet::new_empty(0).spread(5).count() + AllowSet::full(9).spread(0).count(), 1);
    }

    #[test]
    fn a_full_set_has_no_items_beyond_the_last() {
        for n in [0, 1, 63, 64, 65, 1_000] {
            let set = AllowSet::full(n);
            assert_eq!(set.iter().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            assert_eq!(set.cardinality(), n);
            let mut none = AllowSet::full(n);
            none.and_not(&set);
            assert!(none.is_empty());
        }
    }

    #[test]
    fn sets_over_other_numbers_of_items() {
        let mut small = AllowSet::new_empty(10);
        small.or(&AllowSet::full(1_000));
        assert_eq!(small, AllowSet::full(10));
        let mut large = AllowSet::full(1_000);
        large.and(&AllowSet::full(10));
        assert_eq!(large.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}

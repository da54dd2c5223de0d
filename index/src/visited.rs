//! What a search keeps from one query to the next, so that a warm one allocates nothing: the set of visited items, pools, buffers.

use std::fmt;

use zerocopy::FromBytes;

use crate::aligned::AlignedBytes;
use crate::container::cast;
use crate::exact::Nearest;
use crate::format::M0_STRIDE_MAX;
use crate::metric::{CodedQuery, Group, PART};
use crate::pool::Pool;
use crate::search::{ABREAST, Hit};

/// Items scored in one go: as many as items that are expanded at once can have links.
pub(crate) const BATCH: usize = ABREAST * M0_STRIDE_MAX as usize;

/// The items that a search has seen, as one byte per item: those stamped with the present epoch.
///
/// Forgetting them all is one increment; the bytes are cleared every 255 queries. One byte rather than two keeps the set of a million
/// items in a second-level cache.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    stamps: Vec<u8>,
    epoch: u8,
}

impl Visited {
    /// Forgets everything, for a graph of n items. Grows to the largest graph it has seen.
    pub(crate) fn begin(&mut self, n: u32) {
        if self.stamps.len() < n as usize {
            self.stamps.resize(n as usize, 0);
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.stamps.fill(0);
            self.epoch = 1;
        }
    }

    /// The first n items, to be marked in a loop: where they lie and the epoch stay in registers.
    #[inline(always)]
    pub(crate) fn marks(&mut self, n: u32) -> Marks<'_> {
        let epoch = self.epoch;
        let n = self.stamps.len().min(n as usize);
        Marks { stamps: self.stamps.get_mut(..n).unwrap_or_default(), epoch }
    }

    /// Whether an item is marked.
    #[inline(always)]
    pub(crate) fn contains(&self, ordinal: u32) -> bool {
        self.stamps.get(ordinal as usize).is_some_and(|stamp| *stamp == self.epoch)
    }

    /// Marks an item; true if it was not marked. False for an ordinal out of range.
    #[inline(always)]
    pub(crate) fn insert(&mut self, ordinal: u32) -> bool {
        self.marks(u32::MAX).insert(ordinal).unwrap_or(false)
    }
}

/// The items of [`Visited`], borrowed for a loop.
pub(crate) struct Marks<'a> {
    stamps: &'a mut [u8],
    epoch: u8,
}

impl Marks<'_> {
    /// Marks an item; whether it was not marked. None for an ordinal out of range.
    #[inline(always)]
    pub(crate) fn insert(&mut self, ordinal: u32) -> Option<bool> {
        let stamp = self.stamps.get_mut(ordinal as usize)?;
        let new = *stamp != self.epoch;
        *stamp = self.epoch;
        Some(new)
    }
}

/// The working memory of searches: keep one per thread of use. Grows to the largest index and the widest search it has seen, and
/// allocates nothing after that. About a byte per item and 20 per unit of `ef_search`.
#[derive(Default)]
pub struct Scratch {
    pub(crate) visited: Visited,
    pub(crate) batch: Batch,
    pub(crate) query: Query,
    /// The query times what parts of steps are worth.
    pub(crate) in_parts: Query,
    pub(crate) coded: CodedQuery,
    pub(crate) walk: Pool,
    pub(crate) refined: Pool,
    pub(crate) nearest: Nearest,
    pub(crate) hits: Vec<Hit>,
}

impl Scratch {
    /// Nothing yet; the same as `Scratch::default()`.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the last search found: best first, ties by ordinal.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("hits", &self.hits.len()).finish_non_exhaustive()
    }
}

/// Ordinals to be scored together, and their similarities.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) ordinals: [u32; BATCH],
    pub(crate) similarities: [f32; BATCH],
}

impl Default for Batch {
    fn default() -> Self {
        Self { ordinals: [0; BATCH], similarities: [0.0; BATCH] }
    }
}

/// A query, padded with zeros as rows are, and aligned as they are.
#[derive(Debug, Default)]
pub(crate) struct Query(AlignedBytes);

impl Query {
    /// Takes a query in, times `scale`, for rows of so many floats. A scale of 1 leaves every bit as it is.
    pub(crate) fn set(&mut self, query: &[f32], scale: f64, stride: usize) {
        self.0.resize(stride * size_of::<f32>());
        let Ok(values) = <[f32]>::mut_from_bytes(self.0.as_mut()) else { return };
        let scaled = query.iter().map(|value| (f64::from(*value) * scale) as f32);
        for (value, scaled) in values.iter_mut().zip(scaled.chain(std::iter::repeat(0.0))) {
            *value = scaled;
        }
    }

    /// Takes another query in, which is padded, times what a 256th of a step is worth in each dimension.
    pub(crate) fn set_in_parts(&mut self, query: &[f32], scales: &[f32]) {
        self.0.resize(size_of_val(query));
        let Ok(values) = <[f32]>::mut_from_bytes(self.0.as_mut()) else { return };
        values.fill(0.0);
        for ((value, query), scale) in values.iter_mut().zip(query).zip(scales) {
            *value = query * (scale * PART);
        }
    }

    /// It, with its padding.
    pub(crate) fn values(&self) -> &[f32] {
        cast(self.0.as_ref()).unwrap_or_default()
    }

    /// It, in groups.
    pub(crate) fn groups(&self) -> &[Group] {
        cast(self.0.as_ref()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_forget_and_come_round() {
        let mut visited = Visited::default();
        for round in 0..600 {
            visited.begin(10 + round % 3);
            assert!(visited.insert(3) && !visited.insert(3) && visited.insert(9), "round {round}");
            assert!(!visited.insert(12) && !visited.insert(u32::MAX));
        }
    }

    #[test]
    fn a_smaller_graph_after_a_larger_one() {
        let mut visited = Visited::default();
        visited.begin(100);
        assert!(visited.insert(99));
        visited.begin(10);
        // What lies beyond the small graph is filtered by the caller, which knows n; that it is marked does no harm.
        visited.begin(100);
        assert!(visited.insert(99));
    }

    #[test]
    fn a_query_is_padded_and_aligned() {
        let mut query = Query::default();
        query.set(&[1.0; 40], 1.0, 48);
        query.set(&[3.0, 4.0], 0.2, 16);
        let [group] = query.groups() else { unreachable!("one group") };
        assert_eq!(group[..3], [0.6, 0.8, 0.0]);
        assert!(group[2..].iter().all(|value| *value == 0.0));
        assert_eq!(query.groups().as_ptr().addr() % 64, 0);
    }
}

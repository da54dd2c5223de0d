//! The graph: links of an item on a level, and what there is to say about all of them.

use crate::format::NONE;

/// Which graph or graphs the links come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeSet {
    /// Built by cosine.
    Cosine = 1,
    /// Built by inner product.
    InnerProduct = 2,
    /// Both: those of the inner product first.
    United = 3,
}

/// A graph over borrowed links. Nothing is assumed of them: what leads nowhere is skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphView<'a> {
    pub(crate) n: u32,
    pub(crate) m: u32,
    pub(crate) m0_stride: u32,
    pub(crate) max_level: u32,
    pub(crate) entry_point: u32,
    pub(crate) links0: &'a [u32],
    pub(crate) levels: &'a [u8],
    pub(crate) upper_index: &'a [u32],
    pub(crate) upper_links: &'a [u32],
}

/// The shape of a graph, to be looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphStats {
    /// Items whose highest level is this one, from level 0 up.
    pub items_by_level: Vec<u64>,
    /// Links on level 0.
    pub links0: u64,
    /// Links on the levels above.
    pub upper_links: u64,
    /// Fewest links of an item on level 0.
    pub degree_least: u32,
    /// Mean links of an item on level 0.
    pub degree_mean: f64,
    /// Most links of an item on level 0.
    pub degree_most: u32,
    /// Items that no link on level 0 leads to. A search finds them only where it starts from them.
    pub without_incoming: u64,
}

impl<'a> GraphView<'a> {
    /// The links of an item on a level: none above its own level.
    pub fn links(&self, ordinal: u32, level: u32) -> &'a [u32] {
        let places = self.places(ordinal, level);
        places.get(..used(places)).unwrap_or_default()
    }

    /// The highest level of an item; 0 for an ordinal out of range.
    pub fn level(&self, ordinal: u32) -> u8 {
        self.levels.get(ordinal as usize).copied().unwrap_or(0)
    }

    /// Where a search starts; none in an empty graph.
    pub fn entry_point(&self) -> Option<u32> {
        Some(self.entry_point).filter(|entry| *entry < self.n)
    }

    /// The level of the entry point.
    pub fn max_level(&self) -> u32 {
        self.max_level
    }

    /// The places for links of an item on a level, used or not.
    #[inline]
    pub(crate) fn places(&self, ordinal: u32, level: u32) -> &'a [u32] {
        if level == 0 { self.places0(ordinal) } else { self.upper_places(ordinal, level) }
    }

    /// The places for links of an item on level 0, used or not.
    #[inline(always)]
    pub(crate) fn places0(&self, ordinal: u32) -> &'a [u32] {
        let width = self.m0_stride as usize;
        let from = (ordinal as usize).saturating_mul(width);
        self.links0.get(from..from.saturating_add(width)).unwrap_or_default()
    }

    /// The places for links of an item on a level above 0.
    #[inline]
    fn upper_places(&self, ordinal: u32, level: u32) -> &'a [u32] {
        if level == 0 || level > u32::from(self.level(ordinal)) {
            return &[];
        }
        let slot = self.upper_index.get(ordinal as usize).copied().unwrap_or(NONE);
        let width = self.m as usize;
        let from = (slot as usize + level as usize - 1).saturating_mul(width);
        self.upper_links.get(from..from.saturating_add(width)).unwrap_or_default()
    }

    /// Counts what there is. Reads every link once: about 10 ns per item.
    pub fn stats(&self) -> GraphStats {
        let mut stats = GraphStats { degree_least: u32::MAX, ..GraphStats::default() };
        let mut linked = vec![false; self.n as usize];
        for ordinal in 0..self.n {
            let level = usize::from(self.level(ordinal));
            if stats.items_by_level.len() <= level {
                stats.items_by_level.resize(level + 1, 0);
            }
            if let Some(count) = stats.items_by_level.get_mut(level) {
                *count += 1;
            }
            let links = self.links(ordinal, 0);
            for link in links {
                if let Some(linked) = linked.get_mut(*link as usize) {
                    *linked = true;
                }
            }
            let degree = links.len() as u32;
            stats.links0 += u64::from(degree);
            stats.degree_least = stats.degree_least.min(degree);
            stats.degree_most = stats.degree_most.max(degree);
            stats.upper_links += (1..=level as u32).map(|level| self.links(ordinal, level).len() as u64).sum::<u64>();
        }
        stats.degree_least = stats.degree_least.min(stats.degree_most);
        stats.degree_mean = stats.links0 as f64 / f64::from(self.n.max(1));
        stats.without_incoming = linked.iter().filter(|linked| !**linked).count() as u64;
        stats
    }
}

/// How many places of a list are used: those before the first that is not.
pub(crate) fn used(places: &[u32]) -> usize {
    places.iter().position(|link| *link == NONE).unwrap_or(places.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(links0: &'a [u32], levels: &'a [u8], index: &'a [u32], upper: &'a [u32]) -> GraphView<'a> {
        GraphView {
            n: levels.len() as u32,
            m: 2,
            m0_stride: 2,
            max_level: 2,
            entry_point: 1,
            links0,
            levels,
            upper_index: index,
            upper_links: upper,
        }
    }

    #[test]
    fn links_end_at_the_first_unused_place() {
        let graph = view(&[1, NONE, 0, 2, NONE, NONE], &[0, 2, 0], &[NONE, 0, NONE], &[0, NONE, NONE, NONE]);
        assert_eq!((graph.links(0, 0), graph.links(1, 0), graph.links(2, 0)), (&[1][..], &[0, 2][..], &[][..]));
        assert_eq!((graph.links(1, 1), graph.links(1, 2), graph.links(1, 3)), (&[0][..], &[][..], &[][..]));
        assert_eq!((graph.links(0, 1), graph.links(9, 0), graph.level(9)), (&[][..], &[][..], 0));
        let stats = graph.stats();
        assert_eq!(stats.items_by_level, [2, 0, 1]);
        assert_eq!((stats.links0, stats.upper_links, stats.without_incoming), (3, 1, 0));
        assert_eq!((stats.degree_least, stats.degree_mean, stats.degree_most), (0, 1.0, 2));
    }

    #[test]
    fn sections_that_are_too_short_have_no_links() {
        let graph = view(&[1], &[9, 9, 9], &[0, u32::MAX, 7], &[0]);
        for ordinal in [0, 1, 2, 3, u32::MAX] {
            for level in [0, 1, 9, 10, u32::MAX] {
                assert!(graph.links(ordinal, level).is_empty());
            }
        }
        assert_eq!(view(&[], &[], &[], &[]).stats(), GraphStats::default());
    }
}

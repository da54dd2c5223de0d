//! Two graphs over the same items become one: the links of both.
//!
//! Inner products are large where rows are long, so a graph built by them alone leads to the long rows and leaves short ones behind;
//! a graph built by cosine alone leads in the right direction and misses the long rows. With the links of both, the search finds
//! either way. Those by inner product come first, and most items need few of them; those by cosine take free places, and not all of them,
//! because every further link is one more item to compare with. Products a query at recall 0.95 / 0.99, on 200,000 generated factors: 1,130 / 2,270 with all
//! links of both and as many by inner product as there is room for, 682 / 1,700 with few by inner product, 650 / 1,250 with more of them.

use std::io;

use super::GraphOptions;
use crate::assemble::FlatGraph;
use crate::format::{M_MIN, M0_STRIDE_MAX, STRIDE_UNIT};
use crate::links::Links;

/// Up to so many of so many places for links are filled with those of the second graph.
const FILLED: (usize, usize) = (3, 4);

/// How the second graph is built: a quarter as broadly and with no more links than there are places that it fills, since only its nearest links are used.
/// Recall and comparisons are the same, on real and on generated factors; a million are built in 64 s, and with all links in 73.
pub(super) fn second(options: &GraphOptions) -> GraphOptions {
    let m = (options.m * FILLED.0 / FILLED.1).max(M_MIN as usize);
    GraphOptions { m, ef_construction: (options.ef_construction / 4).max(2 * options.m + 1), ..*options }
}

/// A graph that waits for the second to grow: on level 0 it has no unused places, which by inner product are many.
pub(super) struct Waiting {
    /// The graph, without its links on level 0.
    graph: FlatGraph,
    /// How many of those each item has.
    counts: Vec<u16>,
    /// They, item after item.
    links: Vec<u32>,
}

impl Waiting {
    pub(super) fn of(graph: FlatGraph) -> Self {
        let view = graph.view();
        let lists = || (0..view.n).map(|ordinal| view.links(ordinal, 0));
        let counts: Vec<u16> = lists().map(|list| list.len() as u16).collect();
        let mut links = Vec::with_capacity(counts.iter().map(|count| usize::from(*count)).sum());
        lists().for_each(|list| links.extend_from_slice(list));
        Self { graph: FlatGraph { links0: Links::default(), ..graph }, counts, links }
    }

    /// The links of each item on level 0.
    fn lists(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.links.as_slice();
        self.counts.iter().map(move |count| {
            let (list, after) = rest.split_at_checked(usize::from(*count)).unwrap_or_default();
            rest = after;
            list
        })
    }
}

/// The links of `first` on every level, followed on level 0 by those of `second` that are new, as far as there is room. Levels and entry point are of
/// `first`.
///
/// An item has at most as many links as in one of them, which is 2 m; the width of the lists is what the longest one needs.
pub(super) fn unite(first: Waiting, second: &FlatGraph) -> io::Result<FlatGraph> {
    let filled = 2 * first.graph.m as usize * FILLED.0 / FILLED.1;
    let second = second.view();
    let lists = || first.lists().zip(0..).map(|(own, ordinal)| united(own, second.links(ordinal, 0), filled));
    let longest = lists().map(Iterator::count).max().unwrap_or(0) as u32;
    let m0_stride = longest.next_multiple_of(STRIDE_UNIT).clamp(STRIDE_UNIT, M0_STRIDE_MAX);
    let mut links0 = Links::unused(first.graph.n as usize * m0_stride as usize)?;
    for (places, list) in links0.chunks_exact_mut(m0_stride as usize).zip(lists()) {
        places.iter_mut().zip(list).for_each(|(place, link)| *place = link);
    }
    Ok(FlatGraph { links0, m0_stride, ..first.graph })
}

fn united<'a>(own: &'a [u32], others: &'a [u32], filled: usize) -> impl Iterator<Item = u32> + 'a {
    let new = others.iter().filter(|link| !own.contains(link));
    own.iter().chain(new.take(filled.saturating_sub(own.len()))).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::format::NONE;

    fn graph(lists: [&[u32]; 3]) -> FlatGraph {
        let mut links0 = Vec::new();
        for list in lists {
            links0.extend(list.iter().copied().chain([NONE; 16]).take(16));
        }
        FlatGraph {
            n: 3,
            m: 4,
            m0_stride: 16,
            links0: links0.into(),
            levels: vec![0; 3],
            upper_index: vec![NONE; 3],
            ..FlatGraph::default()
        }
    }

    #[test]
    fn each_link_once_the_first_graph_first() {
        let first = Waiting::of(graph([&[1], &[2, 0], &[]]));
        assert_eq!((first.links.as_slice(), first.graph.links0.len()), (&[1, 2, 0][..], 0), "no unused places");
        let united = unite(first, &graph([&[2, 1], &[0, 2], &[0]])).unwrap();
        let links = |ordinal| united.view().links(ordinal, 0).to_vec();
        assert_eq!([links(0), links(1), links(2)], [vec![1, 2], vec![2, 0], vec![0]]);
        assert_eq!((united.m0_stride, united.entry_point), (16, 0));
    }

    #[test]
    fn free_places_are_filled_but_not_all() {
        let others: Vec<u32> = (5..20).collect();
        let own: Vec<u32> = (0..8).collect();
        let united = unite(Waiting::of(graph([&[1], &own, &[]])), &graph([&others, &others, &[]])).unwrap();
        let links = |ordinal| united.view().links(ordinal, 0).to_vec();
        assert_eq!([links(0), links(1)], [vec![1, 5, 6, 7, 8, 9], own], "six of eight");
        let empty = Waiting::of(FlatGraph { m: 4, ..FlatGraph::default() });
        assert_eq!(unite(empty, &FlatGraph::default()).unwrap().m0_stride, 16);
    }
}

//! One level of a graph that grows: the links of each item.

use std::io;

use rayon::prelude::*;

use super::select::{SelectScratch, Selector};
use crate::format::{NONE, STRIDE_UNIT};
use crate::graph::{GraphView, used};
use crate::links::Links;

/// Lists that are changed by one task.
const BLOCK: usize = 256;

/// Links of the first so many items of an order. Lists are half as long again as what is kept in the end, so that a full one is cut back
/// once in many links and not with each.
#[derive(Debug)]
pub(super) struct Layer {
    n: usize,
    /// Links kept when a list is cut back.
    most: usize,
    /// Places per item.
    width: usize,
    /// n × width ordinals, unused ones at the end of each list.
    links: Links,
}

/// A link to be added: `to` gets one to `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Incoming {
    pub(super) to: u32,
    pub(super) from: u32,
}

impl Layer {
    /// A level of n items; the first ones have the links that they have on the level above.
    pub(super) fn new(n: usize, most: usize, above: Option<&Self>) -> io::Result<Self> {
        let width = (most + most / 2).next_multiple_of(STRIDE_UNIT as usize);
        let mut layer = Self { n, most, width, links: Links::unused(n * width)? };
        if let Some(above) = above {
            let all = above.view(above.len() as u32);
            (0..all.n).for_each(|item| layer.set(item, all.links(item, 0)));
        }
        Ok(layer)
    }

    pub(super) fn len(&self) -> usize {
        self.n
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The links of the first `n` items, as a search sees them.
    pub(super) fn view(&self, n: u32) -> GraphView<'_> {
        GraphView { n, m0_stride: self.width as u32, links0: &self.links, ..GraphView::default() }
    }

    /// Replaces the links of an item.
    pub(super) fn set(&mut self, item: u32, list: &[u32]) {
        let from = item as usize * self.width;
        let range = from..from + self.width;
        if let Some(places) = self.links.get_mut(range) {
            write(places, list);
        }
    }

    /// Adds links, which come sorted by `to` and `from`. A list without room for its new links is cut back to the best choice of all. The
    /// result is the same for any number of threads.
    pub(super) fn add(&mut self, incoming: &[Incoming], selector: &Selector<'_>) {
        let (width, most) = (self.width, self.most);
        let blocks = self.links.par_chunks_mut(BLOCK * width);
        blocks.enumerate().for_each_init(SelectScratch::default, |scratch, (block, links)| {
            let first = (block * BLOCK) as u32;
            let before = |item: u32| incoming.partition_point(|one| one.to < item);
            let of_block = incoming.get(before(first)..before(first + BLOCK as u32)).unwrap_or_default();
            for same in of_block.chunk_by(|a, b| a.to == b.to) {
                let Some(item) = same.first().map(|one| one.to) else { continue };
                let from = (item - first) as usize * width;
                if let Some(places) = links.get_mut(from..from + width) {
                    merge(item, places, same, most, selector, scratch);
                }
            }
        });
    }

    /// Cuts every list back to what is kept.
    pub(super) fn cut(&mut self, selector: &Selector<'_>) {
        let (width, most) = (self.width, self.most);
        let lists = self.links.par_chunks_mut(width).enumerate();
        lists.for_each_init(SelectScratch::default, |scratch, (item, places)| {
            let used = used(places);
            if used > most {
                let kept = selector.select(item as u32, places.get(..used).unwrap_or_default(), most, scratch);
                write(places, &kept);
            }
        });
    }
}

fn write(places: &mut [u32], list: &[u32]) {
    let links = list.iter().copied().chain(std::iter::repeat(NONE));
    places.iter_mut().zip(links).for_each(|(place, link)| *place = link);
}

/// Adds the links of one item.
fn merge(
    item: u32,
    places: &mut [u32],
    incoming: &[Incoming],
    most: usize,
    selector: &Selector<'_>,
    scratch: &mut SelectScratch,
) {
    let used = used(places);
    let (present, free) = places.split_at_mut(used);
    let new: Vec<u32> = incoming.iter().map(|one| one.from).filter(|from| !present.contains(from)).collect();
    if new.len() <= free.len() {
        free.iter_mut().zip(new).for_each(|(place, link)| *place = link);
        return;
    }
    let list: Vec<u32> = present.iter().copied().chain(new).collect();
    write(places, &selector.select(item, &list, most, scratch));
}

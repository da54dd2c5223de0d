//! One level of a graph that grows: the links of each item, with the similarity of each beside it.

use std::io;

use rayon::prelude::*;
use zerocopy::FromBytes;

use super::select::{Candidate, SelectScratch, Selector};
use crate::container::cast;
use crate::format::{NONE, STRIDE_UNIT};
use crate::graph::GraphView;
use crate::map::Pages;

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
    links: Pages,
    /// n × width.
    similarities: Pages,
}

/// A link to be added: `to` gets one to `from`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Incoming {
    pub(super) to: u32,
    pub(super) from: u32,
    pub(super) similarity: f32,
}

impl Layer {
    /// A level of n items; the first ones have the links that they have on the level above.
    pub(super) fn new(n: usize, most: usize, above: Option<&Self>) -> io::Result<Self> {
        let width = (most + most / 2).next_multiple_of(STRIDE_UNIT as usize);
        let bytes = n * width * size_of::<u32>();
        let mut layer = Self { n, most, width, links: Pages::zeroed(bytes)?, similarities: Pages::zeroed(bytes)? };
        layer.links.as_mut().fill(u8::MAX);
        for item in 0..above.map_or(0, Self::len) as u32 {
            let list: Vec<Candidate> = above.into_iter().flat_map(|above| above.list(item)).collect();
            layer.set(item, &list);
        }
        Ok(layer)
    }

    /// The links alone.
    pub(super) fn without_similarities(self) -> Self {
        Self { similarities: Pages::default(), ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.n
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The links of the first `n` items, as a search sees them.
    pub(super) fn view(&self, n: u32) -> GraphView<'_> {
        let links0 = self.links();
        GraphView { n, m0_stride: self.width as u32, links0, ..GraphView::default() }
    }

    /// The links of an item.
    pub(super) fn list(&self, item: u32) -> impl Iterator<Item = Candidate> + '_ {
        let from = item as usize * self.width;
        let links = self.links().get(from..from + self.width).unwrap_or_default();
        let similarities = cast(self.similarities.as_ref()).unwrap_or_default();
        listed(links, similarities.get(from..from + self.width).unwrap_or_default())
    }

    /// Replaces the links of an item.
    pub(super) fn set(&mut self, item: u32, list: &[Candidate]) {
        let width = self.width;
        let from = item as usize * width;
        let (links, similarities) = self.places();
        let places = links.get_mut(from..from + width).zip(similarities.get_mut(from..from + width));
        if let Some((links, similarities)) = places {
            write(links, similarities, list);
        }
    }

    /// Adds links, which come sorted by `to` and `from`. A list without room for its new links is cut back to the best choice of all. The
    /// result is the same for any number of threads.
    pub(super) fn add(&mut self, incoming: &[Incoming], selector: &Selector<'_>) {
        let (width, most) = (self.width, self.most);
        let (links, similarities) = self.places();
        let blocks = links.par_chunks_mut(BLOCK * width).zip(similarities.par_chunks_mut(BLOCK * width));
        blocks.enumerate().for_each_init(SelectScratch::default, |scratch, (block, (links, similarities))| {
            let first = (block * BLOCK) as u32;
            let before = |item: u32| incoming.partition_point(|one| one.to < item);
            let of_block = incoming.get(before(first)..before(first + BLOCK as u32)).unwrap_or_default();
            for same in of_block.chunk_by(|a, b| a.to == b.to) {
                let Some(item) = same.first().map(|one| one.to) else { continue };
                let from = (item - first) as usize * width;
                let list = links.get_mut(from..from + width).zip(similarities.get_mut(from..from + width));
                if let Some((links, similarities)) = list {
                    merge(links, similarities, same, most, selector, scratch);
                }
            }
        });
    }

    /// Cuts every list back to what is kept.
    pub(super) fn cut(&mut self, selector: &Selector<'_>) {
        let (width, most) = (self.width, self.most);
        let (links, similarities) = self.places();
        let lists = links.par_chunks_mut(width).zip(similarities.par_chunks_mut(width));
        lists.for_each_init(SelectScratch::default, |scratch, (links, similarities)| {
            let mut list: Vec<Candidate> = listed(links, similarities).collect();
            if list.len() > most {
                selector.select(&mut list, most, scratch);
                write(links, similarities, &list);
            }
        });
    }

    fn links(&self) -> &[u32] {
        cast(self.links.as_ref()).unwrap_or_default()
    }

    fn places(&mut self) -> (&mut [u32], &mut [f32]) {
        let links = <[u32]>::mut_from_bytes(self.links.as_mut()).unwrap_or_default();
        (links, <[f32]>::mut_from_bytes(self.similarities.as_mut()).unwrap_or_default())
    }
}

fn listed<'a>(links: &'a [u32], similarities: &'a [f32]) -> impl Iterator<Item = Candidate> + 'a {
    let pairs = links.iter().zip(similarities).take_while(|(link, _)| **link != NONE);
    pairs.map(|(link, similarity)| Candidate { item: *link, similarity: *similarity })
}

fn write(links: &mut [u32], similarities: &mut [f32], list: &[Candidate]) {
    links.fill(NONE);
    for ((link, similarity), one) in links.iter_mut().zip(similarities).zip(list) {
        (*link, *similarity) = (one.item, one.similarity);
    }
}

/// Adds the links of one item.
fn merge(
    links: &mut [u32],
    similarities: &mut [f32],
    incoming: &[Incoming],
    most: usize,
    selector: &Selector<'_>,
    scratch: &mut SelectScratch,
) {
    let used = links.iter().position(|link| *link == NONE).unwrap_or(links.len());
    let known = |one: &&Incoming| links.get(..used).unwrap_or_default().contains(&one.from);
    let new = incoming.iter().filter(|one| !known(one));
    let new: Vec<Candidate> = new.map(|one| Candidate { item: one.from, similarity: one.similarity }).collect();
    if used + new.len() <= links.len() {
        for ((link, similarity), one) in links.iter_mut().zip(similarities).skip(used).zip(new) {
            (*link, *similarity) = (one.item, one.similarity);
        }
        return;
    }
    let mut list: Vec<Candidate> = listed(links, similarities).chain(new).collect();
    selector.select(&mut list, most, scratch);
    write(links, similarities, &list);
}

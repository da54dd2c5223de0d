//! Every item can be found: the check, and the links that are added where it fails.
//!
//! An item is *reached* if links on level 0 lead to it from the entry point, and *found* if a search for its own row returns it among
//! the first ten, or ten items at least as near: copies of it, or longer rows where inner products count; or if its walk came by and only
//! codes put ten others before it. What is not reached or not found gets links from near items. A link is put into an unused place or replaces one that is
//! not needed: reached items form a tree, and links of the tree stay, as do those that were added.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::asked::Asked;
use super::rows::StoredRows;
use super::{BuildError, Progress};
use crate::assemble::FlatGraph;
use crate::compare::Compare;
use crate::format::NONE;
use crate::keys::KeyView;
use crate::metric::length;
use crate::pool::Entry;
use crate::search::{Hit, SearchParams, Searcher};
use crate::visited::Scratch;

/// Among so many nearest an item must be.
const K: usize = 10;
/// Breadths of search that are tried until an item is found.
const BREADTHS: [usize; 4] = [16, 64, 160, 512];
/// Links added to an item that needs some.
const LINKS: usize = 2;
/// Items of which one may be linked from; nearest first.
const NEAR: usize = 512;
/// Rounds of adding links and looking again, near by and everywhere.
const ROUNDS: u32 = 6;
/// Items between two looks at the progress, where they are looked for and where they are linked.
const CHUNK: usize = 16_384;
const LINKED: usize = 1_024;

/// Adds links until every item is reached and found; returns how many items got any.
///
/// Costs one search of breadth 16 per item, on all threads, a few more for each item that fails and for what is near it, and all of it again if one did:
/// each new link changes the walks of others a little, and a link that was replaced may have been the way to one of them.
pub(super) fn repair(
    graph: &mut FlatGraph,
    rows: &StoredRows,
    keys: KeyView<'_>,
    progress: &dyn Progress,
) -> Result<u32, BuildError> {
    if graph.n == 0 {
        return Ok(0);
    }
    let n = graph.n as usize;
    let (parents, order) = (vec![NONE; n], Vec::with_capacity(n));
    let (changed, added) = (BTreeSet::new(), BTreeSet::new());
    let mut repair = Repair { graph, rows, parents, order, changed, added, seeker: Seeker::default() };
    let mut repaired = repair.reach_all(progress)?;
    // Every item is looked for now, whatever was changed before.
    repair.changed.clear();
    let mut lost = repair.lost(&repair.order, progress)?;
    for _ in 0..ROUNDS {
        if lost.is_empty() {
            return Ok(repaired.len() as u32);
        }
        for _ in 0..ROUNDS {
            repair.link_lost(&lost, progress)?;
            let again = repair.near_changes(&lost);
            repaired.append(&mut lost);
            lost = repair.lost(&again, progress)?;
            if lost.is_empty() {
                break;
            }
        }
        // Mostly nothing is lost any more, since what lies near a change was looked for at once.
        lost.append(&mut repair.lost(&repair.order, progress)?);
    }
    match lost.first() {
        None => Ok(repaired.len() as u32),
        Some(ordinal) => {
            let key = keys.key(*ordinal).unwrap_or_default().to_owned();
            Err(BuildError::Unreachable { count: lost.len() as u64, ordinal: *ordinal, key })
        }
    }
}

fn stop_if_cancelled(progress: &dyn Progress) -> Result<(), BuildError> {
    if progress.cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
}

/// What a thread searches with.
#[derive(Default)]
struct Seeker {
    scratch: Scratch,
    asked: Asked,
}

struct Repair<'a> {
    graph: &'a mut FlatGraph,
    rows: &'a StoredRows,
    /// From which item each was reached first; NONE where it was not. The entry point is its own.
    parents: Vec<u32>,
    /// The items in the order in which they were reached. Of two that follow each other one mostly links to the other, so walks to one after the other read
    /// much of the same memory.
    order: Vec<u32>,
    /// Items whose lists were changed since they were asked for, and those that they do not link to any more.
    changed: BTreeSet<u32>,
    /// The links that were added, (from, to). They stay: items that are lost for the same reason have the same near ones, and would take each
    /// other's place for ever.
    added: BTreeSet<(u32, u32)>,
    /// For the search that finds an item near ones.
    seeker: Seeker,
}

impl Repair<'_> {
    /// Grows the tree from the entry point, and links what it does not reach; returns those items. Costs a broad search for each of them, on one thread:
    /// of many copies of one row that is nearly all.
    fn reach_all(&mut self, progress: &dyn Progress) -> Result<BTreeSet<u32>, BuildError> {
        const STAGE: &str = "linking what is not reached";
        self.set_parent(self.graph.entry_point, self.graph.entry_point);
        self.flood(self.graph.entry_point);
        let mut linked = BTreeSet::new();
        for ordinal in 0..self.graph.n {
            if !self.is_reached(ordinal) {
                if linked.len().is_multiple_of(LINKED) {
                    progress.step(STAGE, ordinal.into(), self.graph.n.into());
                    stop_if_cancelled(progress)?;
                }
                self.link(ordinal);
                linked.insert(ordinal);
                self.flood(ordinal);
            }
        }
        Ok(linked)
    }

    fn flood(&mut self, from: u32) {
        let mut frontier = vec![from];
        while let Some(ordinal) = frontier.pop() {
            self.order.push(ordinal);
            for link in self.graph.view().links(ordinal, 0) {
                if let Some(parent) = self.parents.get_mut(*link as usize).filter(|parent| **parent == NONE) {
                    *parent = ordinal;
                    frontier.push(*link);
                }
            }
        }
    }

    fn is_reached(&self, ordinal: u32) -> bool {
        self.parents.get(ordinal as usize).is_some_and(|parent| *parent != NONE)
    }

    fn set_parent(&mut self, ordinal: u32, to: u32) {
        if let Some(parent) = self.parents.get_mut(ordinal as usize) {
            *parent = to;
        }
    }

    /// Those of some items that are not found.
    fn lost(&self, ordinals: &[u32], progress: &dyn Progress) -> Result<BTreeSet<u32>, BuildError> {
        const STAGE: &str = "looking for every item";
        let is_lost = |seeker: &mut Seeker, ordinal: &u32| {
            let found = BREADTHS.iter().any(|breadth| self.is_found(*ordinal, *breadth, seeker));
            (!found).then_some(*ordinal)
        };
        let (mut lost, mut done, all) = (BTreeSet::new(), 0, ordinals.len() as u64);
        for chunk in ordinals.chunks(CHUNK) {
            progress.step(STAGE, done, all);
            stop_if_cancelled(progress)?;
            lost.par_extend(chunk.par_iter().map_init(Seeker::default, is_lost).flatten());
            done += chunk.len() as u64;
        }
        progress.step(STAGE, all, all);
        Ok(lost)
    }

    /// Those whose walks may have changed: these, and what is within two links of a changed list. In the order in which all are gone through.
    fn near_changes(&mut self, lost: &BTreeSet<u32>) -> Vec<u32> {
        let mut is_near = vec![false; self.parents.len()];
        let mut mark =
            |ordinal: &u32| is_near.get_mut(*ordinal as usize).is_some_and(|near| !std::mem::replace(near, true));
        let graph = self.graph.view();
        let mut newest: Vec<u32> = std::mem::take(&mut self.changed).into_iter().filter(&mut mark).collect();
        for _ in 0..2 {
            let links = newest.iter().flat_map(|ordinal| graph.links(*ordinal, 0));
            newest = links.copied().filter(&mut mark).collect();
        }
        lost.iter().for_each(|ordinal| _ = mark(ordinal));
        self.order.iter().copied().filter(|ordinal| is_near.get(*ordinal as usize) == Some(&true)).collect()
    }

    /// Whether a search as the index will make it finds an item by its own row.
    fn is_found(&self, ordinal: u32, ef_search: usize, seeker: &mut Seeker) -> bool {
        let Seeker { scratch, asked } = seeker;
        let (near, rows) = asked.of(ordinal, self.rows);
        Searcher { graph: self.graph.view(), near, rows, entries: &[] }.nearest(K, ef_search, scratch);
        let mut own = 0.0;
        rows.many(&[ordinal], std::slice::from_mut(&mut own));
        let own = Entry::new(own, ordinal).similarity();
        let hits = scratch.hits();
        let is_among = hits.iter().any(|hit| hit.ordinal == ordinal);
        let as_near = hits.get(K - 1).is_some_and(|tenth| tenth.similarity >= own);
        // Where the walk came by and only the rounding of codes kept it from the answer, no link would help.
        is_among || as_near || scratch.walk.entries().iter().any(|entry| entry.ordinal() == ordinal)
    }

    /// Links what is not found. Costs a broad search for each item, on one thread.
    fn link_lost(&mut self, lost: &BTreeSet<u32>, progress: &dyn Progress) -> Result<(), BuildError> {
        const STAGE: &str = "linking what is not found";
        for (done, ordinal) in lost.iter().enumerate() {
            if done.is_multiple_of(LINKED) {
                progress.step(STAGE, done as u64, lost.len() as u64);
                stop_if_cancelled(progress)?;
            }
            self.link(*ordinal);
        }
        Ok(())
    }

    /// Adds links to an item from near ones that are reached.
    fn link(&mut self, ordinal: u32) {
        let near = self.near(ordinal);
        let mut added = 0;
        // Unused places of the nearest first: nothing is lost by them.
        for from in near.iter().take(NEAR / 4) {
            if added < LINKS && self.add(*from, ordinal) {
                added += 1;
            }
        }
        for from in &near {
            if added < LINKS && (self.add(*from, ordinal) || self.replace(*from, ordinal)) {
                added += 1;
            }
        }
        if added == 0 {
            // Far from everything that has room: any reached item will do, so that at least there is a way. Where there is none that is seen at the end.
            let reached = |this: &Self, from: u32| from != ordinal && this.is_reached(from);
            let has_room = (0..self.graph.n).any(|from| reached(self, from) && self.add(from, ordinal));
            let _ = has_room || (0..self.graph.n).any(|from| reached(self, from) && self.replace(from, ordinal));
        }
    }

    /// Reached items near to an item, by the direction of their rows, nearest first: of those that a broad search for it comes to. What is nearer
    /// and lies where no search goes that the index makes is no help to it.
    fn near(&mut self, ordinal: u32) -> Vec<u32> {
        // Taken out and put back, so that the rest can be read meanwhile.
        let mut seeker = std::mem::take(&mut self.seeker);
        let Seeker { scratch, asked } = &mut seeker;
        let (near, rows) = asked.of(ordinal, self.rows);
        let params = SearchParams { k: NEAR, ef_search: NEAR, exact: false };
        Searcher { graph: self.graph.view(), near, rows, entries: &[] }.search(&params, None, scratch);
        let view = self.rows.view();
        let cosine = |hit: &Hit| hit.similarity / length(&view.row(hit.ordinal).unwrap_or_default().values());
        let reached = scratch.hits.iter().filter(|hit| hit.ordinal != ordinal && self.is_reached(hit.ordinal));
        let mut near: Vec<Entry> = reached.map(|hit| Entry::new(cosine(hit), hit.ordinal)).collect();
        near.sort_unstable();
        self.seeker = seeker;
        near.into_iter().map(Entry::ordinal).collect()
    }

    /// Links to an item in an unused place; false where there is none, or where the link is there already.
    fn add(&mut self, from: u32, to: u32) -> bool {
        let Some(places) = self.places(from) else { return false };
        if places.contains(&to) {
            return false;
        }
        let Some(place) = places.iter_mut().find(|place| **place == NONE) else { return false };
        *place = to;
        self.linked(from, to);
        true
    }

    /// Links to an item in place of the farthest link that the tree does not need. Not in the last of several unused places: nobody
    /// would look behind the first of them.
    fn replace(&mut self, from: u32, to: u32) -> bool {
        let (parents, added) = (std::mem::take(&mut self.parents), std::mem::take(&mut self.added));
        let is_of_tree = |link: u32| parents.get(link as usize) == Some(&from);
        let is_free = |link: u32| link != NONE && !is_of_tree(link) && !added.contains(&(from, link));
        let place = self.places(from).filter(|places| !places.contains(&to));
        let place = place.and_then(|places| places.iter_mut().rev().find(|place| is_free(**place)));
        let replaced = place.map(|place| std::mem::replace(place, to));
        (self.parents, self.added) = (parents, added);
        if let Some(before) = replaced {
            self.changed.insert(before);
            self.linked(from, to);
        }
        replaced.is_some()
    }

    fn linked(&mut self, from: u32, to: u32) {
        self.changed.insert(from);
        self.added.insert((from, to));
        if !self.is_reached(to) {
            self.set_parent(to, from);
        }
    }

    fn places(&mut self, ordinal: u32) -> Option<&mut [u32]> {
        let width = self.graph.m0_stride as usize;
        let from = ordinal as usize * width;
        self.graph.links0.get_mut(from..from + width)
    }
}

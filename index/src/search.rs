//! Searching the graph: down the levels by the steepest way, then a walk of bounded breadth over level 0.
//!
//! The two steps are algorithms 5 and 2 of Malkov and Yashunin, with what the hardware likes: the unvisited links of an item are gathered,
//! their rows are asked for ahead, and all are scored in one batch; the links of the item that will probably come next are asked for
//! while this happens.
//!
//! What a filter changes is in `filtered.rs`.

use thiserror::Error;

use crate::allow::AllowSet;
use crate::compare::{ByCodes, ByRows, Compare};
use crate::exact;
use crate::graph::GraphView;
use crate::metric::{Metric, length, prefetch, unit_scale};
use crate::open::Index;
use crate::pool::Entry;
use crate::visited::{Batch, Scratch, Visited};
use crate::{EF_SEARCH_MAX, K_MAX};

/// What to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchParams {
    /// Hits wanted, at most [`K_MAX`].
    pub k: usize,
    /// Breadth of the walk, at most [`EF_SEARCH_MAX`]: more finds more and takes longer. It may be less than k: the hits are then those of all
    /// that the walk compared with, and the farther ones may be missing. Below a quarter of k, or with a filter below k, it counts as that.
    pub ef_search: usize,
    /// Compares with every item instead of walking the graph.
    pub exact: bool,
}

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The item.
    pub ordinal: u32,
    /// Its cosine with the query, or its dot product with it, by the index's metric. Infinite where single precision does not hold it.
    pub similarity: f32,
}

/// What a search did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchStats {
    /// Rows, or codes of rows, that were compared with the query.
    pub distances: u32,
    /// Items whose links were followed.
    pub hops: u32,
    /// How the hits were found.
    pub plan: Plan,
}

impl SearchStats {
    /// Nothing done yet.
    pub(crate) fn none() -> Self {
        Self { distances: 0, hops: 0, plan: Plan::Graph }
    }
}

/// How hits were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// By comparing with every item, or with every allowed one: asked for, few allowed, or the walk was not worth going on with.
    Exact,
    /// By walking the graph.
    Graph,
    /// By walking the graph, broader the fewer items are allowed, and keeping what is allowed.
    FilteredGraph,
    /// By walking over allowed items only, from one to the next over items that are not.
    TwoHops,
    /// By comparing with the longest items, as many as can be among the nearest.
    Longest,
}

/// Why a search was not made. The caller's mistake in each case.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SearchError {
    /// The query has another length than the rows.
    #[error("the query has {found} dimensions, the index has {expected}")]
    Dimensions {
        /// Length of a row.
        expected: usize,
        /// Length of the query.
        found: usize,
    },
    /// A value of the query is not finite.
    #[error("value {place} of the query is {found}, expected a finite number")]
    NotFinite {
        /// Which value, from 0.
        place: usize,
        /// The value.
        found: f32,
    },
    /// A query of length zero has no direction, so no cosine.
    #[error("every value of the query is zero, so it has no direction to compare")]
    ZeroQuery,
    /// More hits wanted than allowed.
    #[error("k is {found}, expected at most {K_MAX}")]
    K {
        /// What was wanted.
        found: usize,
    },
    /// A walk broader than allowed.
    #[error("ef_search is {found}, expected at most {EF_SEARCH_MAX}: search exactly instead")]
    EfSearch {
        /// What was wanted.
        found: usize,
    },
    /// The set of allowed items is of another index.
    #[error("the set of allowed items is over {found} items, the index has {expected}: make it from this index")]
    AllowSet {
        /// Items of the index.
        expected: u32,
        /// Items that the set is over.
        found: u32,
    },
}

impl<D: AsRef<[u8]>> Index<D> {
    /// Finds the items most similar to a query: at most k, best first, ties by ordinal, in `scratch.hits()`.
    ///
    /// With `allow`, only items in that set are found; there are fewer hits than k only where fewer items are allowed. Safe on bytes
    /// that were not verified: a link that leads nowhere is skipped, and the number of steps is bounded. Allocates nothing once the
    /// scratch is warm.
    ///
    /// # Errors
    /// A query that cannot be compared, parameters out of range, a set of allowed items of another index.
    pub fn search(
        &self,
        query: &[f32],
        params: &SearchParams,
        allow: Option<&AllowSet>,
        scratch: &mut Scratch,
    ) -> Result<SearchStats, SearchError> {
        self.search_from(query, params, allow, &[], scratch)
    }

    /// As [`Index::search`], of a query that is made of items, or is known to lie near some: a walk begins with the first eight of these, where it would come
    /// down to one from the graph's entry point. It then compares with a fifth less, and finds more of what lies between several. Items that the
    /// index does not have are passed over.
    ///
    /// # Errors
    /// As [`Index::search`].
    pub fn search_from(
        &self,
        query: &[f32],
        params: &SearchParams,
        allow: Option<&AllowSet>,
        entries: &[u32],
        scratch: &mut Scratch,
    ) -> Result<SearchStats, SearchError> {
        scratch.hits.clear();
        check_params(params)?;
        check_query(query, self.dimensions())?;
        let expected = self.len();
        if let Some(found) = allow.map(AllowSet::n).filter(|found| *found != expected) {
            return Err(SearchError::AllowSet { expected, found });
        }
        let scale = match self.metric() {
            Metric::InnerProduct => 1.0,
            Metric::Cosine => unit_scale(query).ok_or(SearchError::ZeroQuery)?,
        };
        let graph = self.graph();
        // Taken out and put back, so that the rest of the scratch can be written to while they are read.
        let (mut whole, mut coded) = (std::mem::take(&mut scratch.query), std::mem::take(&mut scratch.coded));
        let mut in_parts = std::mem::take(&mut scratch.in_parts);
        whole.set(query, scale, self.rows().stride());
        let rows = ByRows::of(self.rows(), &whole, &mut in_parts);
        let stats = match self.codes() {
            Some(codes) if !params.exact => {
                coded.set(whole.values(), codes.scales);
                let searcher = Searcher { graph, near: ByCodes::new(&coded, codes), rows, entries };
                let among_longest = self.longest().map_or(Err(0), |longest| {
                    searcher.search_longest(longest, length(whole.values()), params, allow, scratch)
                });
                among_longest.unwrap_or_else(|compared| {
                    let stats = searcher.search(params, allow, scratch);
                    SearchStats { distances: stats.distances.saturating_add(compared), ..stats }
                })
            }
            _ => Searcher { graph, near: rows, rows, entries }.search(params, allow, scratch),
        };
        (scratch.query, scratch.coded, scratch.in_parts) = (whole, coded, in_parts);
        Ok(stats)
    }
}

fn check_params(params: &SearchParams) -> Result<(), SearchError> {
    if params.k > K_MAX {
        return Err(SearchError::K { found: params.k });
    }
    if params.ef_search > EF_SEARCH_MAX {
        return Err(SearchError::EfSearch { found: params.ef_search });
    }
    Ok(())
}

pub(crate) fn check_query(query: &[f32], expected: usize) -> Result<(), SearchError> {
    if query.len() != expected {
        return Err(SearchError::Dimensions { expected, found: query.len() });
    }
    match query.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(SearchError::NotFinite { place, found: query.get(place).copied().unwrap_or(f32::NAN) }),
        None => Ok(()),
    }
}

/// Steps down one level, at most. Each is to a nearer item; good graphs take a handful.
const DESCENT_STEPS_MAX: u32 = 1_000;

/// Items expanded on level 0, at most: so many, and so many more per unit of `ef`. Good graphs expand little more than `ef`.
const HOPS_MAX: (u32, u32) = (10_000, 16);

/// A walk has to be at least as broad as one of so many parts of what it is to find: it compares with several items for each that it expands,
/// and narrower ones would often not come back with enough.
const NARROWER_MOST: usize = 4;

/// Items expanded at once: the memory answers for the links of both together. The second would mostly have been next anyway; 824 comparisons
/// instead of 804 at recall 0.95 on 200,000 generated factors.
pub(crate) const ABREAST: usize = 2;

/// With how many of the items that a query is known to lie near to a walk begins, at most: with twenty it finds no more.
const ENTRIES_MOST: usize = 8;

/// Rows compared in one go when an answer is compared again.
const REFINED_AT_ONCE: usize = 8;

/// A graph over rows, whoever holds them, and a query: an index, or a builder.
#[derive(Clone, Copy)]
pub(crate) struct Searcher<'a, C> {
    pub(crate) graph: GraphView<'a>,
    /// By what the walk compares.
    pub(crate) near: C,
    /// By what the answer compares.
    pub(crate) rows: ByRows<'a>,
    /// Items that the query lies near to, as far as is known.
    pub(crate) entries: &'a [u32],
}

impl<C: Compare> Searcher<'_, C> {
    /// Searches; the hits are in the scratch.
    pub(crate) fn search(&self, params: &SearchParams, allow: Option<&AllowSet>, scratch: &mut Scratch) -> SearchStats {
        let possible = allow.map_or(self.graph.n, AllowSet::cardinality);
        let ef = params.ef_search.max(params.k.div_ceil(NARROWER_MOST)).max(1);
        let wanted = params.k.min(possible as usize);
        let mut stats = SearchStats { plan: Plan::Exact, ..SearchStats::none() };
        scratch.hits.clear();
        if wanted == 0 {
            return stats;
        }
        if !params.exact {
            match allow {
                None => {
                    stats.plan = Plan::Graph;
                    self.walk(params.k, ef, scratch, &mut stats);
                    if ef < wanted && scratch.walk.entries().len() < wanted {
                        self.walk(params.k, params.k, scratch, &mut stats);
                    }
                    self.answer_walk(params.k, scratch, &mut stats);
                }
                Some(allow) => self.search_filtered(params.k, ef.max(params.k), allow, scratch, &mut stats),
            }
        }
        // Also where links that lead nowhere cut a walk off from the rest.
        if scratch.hits.len() < wanted {
            stats.plan = Plan::Exact;
            stats.distances = stats.distances.saturating_add(exact::search(self.rows, params.k, allow, scratch));
        }
        stats
    }

    /// As [`Searcher::answer`], of what the walk found.
    pub(crate) fn answer_walk(&self, k: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        // Taken out and put back, so that the rest of the scratch can be written to while it is read.
        let walk = std::mem::take(&mut scratch.walk);
        self.answer(k, walk.entries(), scratch, stats);
        scratch.walk = walk;
    }

    /// As [`Searcher::answer`], of what a scan found.
    pub(crate) fn answer_scan(&self, k: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        // As above.
        let mut nearest = std::mem::take(&mut scratch.nearest);
        self.answer(k, nearest.sorted(), scratch, stats);
        scratch.nearest = nearest;
    }

    /// The best k of what a walk found, compared by rows: those of the walk, best first, until the next could be among the best only
    /// if its codes were off by more than [`Compare::margin`] says.
    pub(crate) fn answer(&self, k: usize, found: &[Entry], scratch: &mut Scratch, stats: &mut SearchStats) {
        let Scratch { refined, batch, hits, .. } = scratch;
        hits.clear();
        if C::EXACT {
            hits.extend(found.iter().take(k).map(|entry| entry.hit()));
            return;
        }
        refined.begin(k);
        let margin = self.near.margin();
        let mut rest = found;
        let mut block = k.clamp(REFINED_AT_ONCE, batch.ordinals.len());
        while let Some(next) = rest.first() {
            if refined.worst_of_full().is_some_and(|worst| next.similarity() + margin < worst) {
                break;
            }
            let (now, later) = rest.split_at(block.min(rest.len()));
            for (place, entry) in batch.ordinals.iter_mut().zip(now) {
                *place = entry.ordinal();
                self.rows.ask(entry.ordinal());
            }
            let ordinals = batch.ordinals.get(..now.len()).unwrap_or_default();
            self.rows.many(ordinals, &mut batch.similarities);
            stats.distances += now.len() as u32;
            batch.scored(now.len()).for_each(|entry| refined.insert(entry));
            (rest, block) = (later, REFINED_AT_ONCE);
        }
        hits.extend(refined.entries().iter().map(|entry| entry.hit()));
    }

    /// The k nearest that a walk finds, in the scratch; fewer where links lead nowhere.
    #[cfg(feature = "build")]
    pub(crate) fn nearest(&self, k: usize, ef: usize, scratch: &mut Scratch) {
        let mut stats = SearchStats::none();
        scratch.hits.clear();
        self.walk(k, ef.max(k), scratch, &mut stats);
        self.answer_walk(k, scratch, &mut stats);
    }

    /// Where level 0 is entered: the nearest of the items that the query is known to lie near to, or without any the one that the way down leads to.
    pub(crate) fn enter(&self, scratch: &mut Scratch, stats: &mut SearchStats) -> Option<Entry> {
        let known = self.known_entries().map(|item| self.entry(item, scratch, stats)).min();
        known.or_else(|| self.descend(scratch, stats))
    }

    fn known_entries(&self) -> impl Iterator<Item = u32> + use<'_, C> {
        self.entries.iter().copied().filter(|item| *item < self.graph.n).take(ENTRIES_MOST)
    }

    /// The nearest item that the steepest way down from the entry point leads to.
    fn descend(&self, scratch: &mut Scratch, stats: &mut SearchStats) -> Option<Entry> {
        let mut best = self.entry(self.graph.entry_point()?, scratch, stats);
        for level in (1..=self.graph.max_level).rev() {
            best = self.climb(best, level, scratch, stats);
        }
        Some(best)
    }

    /// An item, compared.
    pub(crate) fn entry(&self, item: u32, scratch: &mut Scratch, stats: &mut SearchStats) -> Entry {
        let [similarity, ..] = &mut scratch.batch.similarities;
        *similarity = 0.0;
        self.near.many(&[item], std::slice::from_mut(similarity));
        stats.distances += 1;
        Entry::new(*similarity, item)
    }

    /// The nearest item that the steepest way from `best` on one level leads to.
    pub(crate) fn climb(&self, mut best: Entry, level: u32, scratch: &mut Scratch, stats: &mut SearchStats) -> Entry {
        let Scratch { batch: Batch { ordinals, similarities }, .. } = scratch;
        for _ in 0..DESCENT_STEPS_MAX {
            let from = best;
            let mut count = 0;
            let places = self.graph.places(from.ordinal(), level);
            for link in places.iter().filter(|link| **link < self.graph.n) {
                self.near.ask(*link);
                if let Some(place) = ordinals.get_mut(count) {
                    *place = *link;
                    count += 1;
                }
            }
            let ordinals = ordinals.get(..count).unwrap_or_default();
            self.near.many(ordinals, similarities);
            stats.distances += count as u32;
            stats.hops += 1;
            for (ordinal, similarity) in ordinals.iter().zip(similarities.iter()) {
                // Of equals the one that was there first, so that the way has an end.
                if *similarity > best.similarity() {
                    best = Entry::new(*similarity, *ordinal);
                }
            }
            if best == from {
                break;
            }
        }
        best
    }

    /// Fills `scratch.walk` with the nearest items that a walk of breadth `ef` over level 0 finds, as many as the greater of `ef` and `k`, and what it
    /// has seen besides that may be among the `k` nearest by rows.
    fn walk(&self, k: usize, ef: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        let is_known = self.known_entries().next().is_some();
        let entry = if is_known { None } else { self.descend(scratch, stats) };
        self.walk_keeping(entry, k, ef, scratch, stats);
    }

    /// As [`Searcher::walk`], from the items that the query is known to lie near to, and from an entry beside them.
    pub(crate) fn walk_keeping(
        &self,
        entry: Option<Entry>,
        k: usize,
        ef: usize,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        scratch.walk.begin_keeping(ef, k, self.near.margin());
        self.go(entry, ef, scratch, stats);
        scratch.walk.add_near();
    }

    /// As [`Searcher::walk_keeping`], without what lies beyond its breadth.
    #[cfg(feature = "build")]
    pub(crate) fn walk_from(&self, entry: Option<Entry>, ef: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        scratch.walk.begin(ef);
        self.go(entry, ef, scratch, stats);
    }

    fn go(&self, entry: Option<Entry>, ef: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        scratch.visited.begin(self.graph.n);
        if let Some(entry) = entry {
            scratch.visited.insert(entry.ordinal());
            scratch.walk.insert(entry);
        }
        // All of them, since a query may lie between several.
        for item in self.known_entries() {
            if scratch.visited.insert(item) {
                let entry = self.entry(item, scratch, stats);
                scratch.walk.insert(entry);
            }
        }
        let hops_most = stats.hops.saturating_add(hops_max(ef));
        while stats.hops < hops_most {
            let next: [Option<Entry>; ABREAST] = std::array::from_fn(|_| scratch.walk.expand());
            if next.iter().all(Option::is_none) {
                break;
            }
            let count = self.expand(next.into_iter().flatten(), scratch, stats);
            let Scratch { batch, walk, .. } = &mut *scratch;
            for entry in batch.scored(count) {
                walk.insert(entry);
            }
        }
    }

    /// Scores the links of an item that were not visited yet; says how many are now in the batch.
    #[inline(always)]
    fn expand(&self, items: impl Iterator<Item = Entry>, scratch: &mut Scratch, stats: &mut SearchStats) -> usize {
        let Scratch { visited, batch, walk, .. } = scratch;
        let mut count = 0;
        for item in items {
            let free = batch.ordinals.get_mut(count..).unwrap_or_default();
            count += self.gather(self.graph.places0(item.ordinal()), visited, free);
            stats.hops += 1;
        }
        for after in walk.peek().take(ABREAST) {
            prefetch(self.graph.places0(after.ordinal()));
        }
        let ordinals = batch.ordinals.get(..count).unwrap_or_default();
        self.near.many(ordinals, &mut batch.similarities);
        stats.distances += count as u32;
        count
    }

    /// Collects the links that were not visited, marks them, and asks for their rows.
    #[inline(always)]
    fn gather(&self, links: &[u32], visited: &mut Visited, ordinals: &mut [u32]) -> usize {
        let mut marks = visited.marks(self.graph.n);
        let mut count = 0;
        for link in links {
            // An unused place, which ends the links of a sound graph; in another there may be more behind it.
            let Some(new) = marks.insert(*link) else { continue };
            // Written down whether or not it is new: which of both it is cannot be foretold, and a wrong guess costs more than a store.
            let Some(place) = ordinals.get_mut(count) else { break };
            *place = *link;
            count += usize::from(new);
        }
        ordinals.iter().take(count).for_each(|new| self.near.ask(*new));
        count
    }
}

pub(crate) fn hops_max(ef: usize) -> u32 {
    HOPS_MAX.0.saturating_add(HOPS_MAX.1.saturating_mul(ef as u32))
}

impl Batch {
    /// The first so many of the batch, scored.
    #[inline(always)]
    pub(crate) fn scored(&self, count: usize) -> impl Iterator<Item = Entry> + '_ {
        let pairs = self.similarities.iter().zip(&self.ordinals).take(count);
        pairs.map(|(similarity, ordinal)| Entry::new(*similarity, *ordinal))
    }
}

//! Searching where only some items may be found, without finding less: three ways, of which the cheapest is taken.
//!
//! - *Compare with every allowed item*, by codes where there are some. Costs the same whatever is allowed and wherever it lies, so it is
//!   also what is done when a walk does not come back with enough.
//! - *Walk broader* and keep what is allowed. As many of the items found are allowed as there are about the query, so the walk is broader
//!   by that share.
//! - *Walk over allowed items only*, from one to the next over items that are not: two hops. It compares with allowed items only, so its
//!   breadth is the usual one, but it reads many links.
//!
//! What matters is not how many items are allowed, but how many of those near the query: a filter may agree with the query or be against
//! it. So the way down to the query comes first, and the links about where it ends are counted. Two hops are the idea of ACORN (Patel et al.,
//! SIGMOD 2024).

use crate::allow::AllowSet;
use crate::compare::Compare;
use crate::exact;
use crate::metric::{fetched_ahead, prefetch};
use crate::pool::Entry;
use crate::search::{Plan, SearchStats, Searcher, hops_max};
use crate::visited::{BATCH, Scratch};
use crate::{EF_SEARCH_MAX, format::M0_STRIDE_MAX};

/// Costs, in comparisons of a walk: about 45 ns each at 64 dimensions, with all that a walk does beside comparing.
pub(crate) mod cost {
    /// Of an allowed item when all are compared.
    pub(super) const SCANNED: f64 = 0.12;
    /// Of a unit of breadth of a walk, which is about an item expanded: its unvisited links.
    pub(crate) const BREADTH: f64 = 12.0;
    /// Of an item expanded by two hops, each of whose links is read, and a share of what those lead to compared.
    pub(super) const TWO_HOPS: f64 = 100.0;
}

/// By how many standard deviations of their number more allowed items than are wanted a walk is expected to pass, as if chance had allowed them.
/// Fewer, and those that it did not pass are missed; twice as many, which are as many of a few, cost twice the time where nearly all are allowed.
const SURPLUS: f64 = 3.0;
/// Allowed items that tell their share about the query well enough.
const SHARE_TOLD: u32 = 64;
/// Two hops are not tried where fewer items than this are allowed among those two links away: ways from one to the next are missing.
/// With 20 of them recall fell from 0.985 to 0.957, with 50 it did not.
const TWO_HOPS_LEAST: f64 = 40.0;
/// Nor where the filter is against the query: where a smaller part of the items near the query is allowed than this part of the share of
/// all. What is allowed and nearest then lies all around the query, and no way leads from one to the next.
const TWO_HOPS_SHARE: f64 = 0.5;
/// Places where two hops begin, beside the one nearest to the query.
const SEEDS: usize = 16;
/// Allowed items that one expansion by two hops compares with, at most.
const TWO_HOPS_MOST: usize = 96;
/// Up to so many allowed items are compared by rows at once: comparing by codes and then by rows would not be cheaper.
const BY_ROWS_MOST: u32 = 128;

/// What is searched for, and the cost of finding it by comparing with every allowed item.
#[derive(Clone, Copy)]
struct Asked<'a> {
    k: usize,
    ef: usize,
    allow: &'a AllowSet,
    share_of_all: f64,
    scan: f64,
}

/// What a walk found: so many allowed items, of so many that it could have found.
struct Walked {
    found: usize,
    breadth: usize,
}

impl<C: Compare> Searcher<'_, C> {
    /// Finds the k nearest allowed items; the hits are in the scratch.
    pub(crate) fn search_filtered(
        &self,
        k: usize,
        ef: usize,
        allow: &AllowSet,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let allowed = allow.cardinality();
        let share_of_all = f64::from(allowed) / f64::from(self.graph.n.max(1));
        let asked = Asked { k, ef, allow, share_of_all, scan: f64::from(allowed) * cost::SCANNED };
        let enough = k.min(allowed as usize);
        if asked.scan > ef as f64 * cost::BREADTH
            && let Some(entry) = self.enter(scratch, stats)
        {
            let share = self.share_about(entry, allow, share_of_all);
            let mut walked = self.walk_for(&asked, share, entry, scratch, stats);
            if walked.found < enough && walked.found > 0 {
                // The filter is more against the query than it looked at first: what the walk saw is the better estimate.
                walked = self.walk_for(&asked, walked.found as f64 / walked.breadth as f64, entry, scratch, stats);
            }
            if walked.found >= enough {
                return self.answer_walk(k, scratch, stats);
            }
        }
        self.compare_with_all(k, allow, scratch, stats);
    }

    /// Walks, if that is expected to cost less than the scan. What was found is in `scratch.walk`, and nothing else.
    fn walk_for(
        &self,
        asked: &Asked<'_>,
        share: f64,
        entry: Entry,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) -> Walked {
        let Asked { k, ef, allow, share_of_all, scan } = *asked;
        let wanted = k as f64 + SURPLUS * (k as f64 * (1.0 - share).max(0.0)).sqrt();
        let breadth = (wanted / share.max(f64::MIN_POSITIVE)).ceil().max(ef as f64);
        let broader = if breadth <= EF_SEARCH_MAX as f64 { breadth * cost::BREADTH } else { f64::INFINITY };
        let reach = share * f64::from(self.graph.m0_stride).powi(2);
        let two_hops = if reach >= TWO_HOPS_LEAST && share >= TWO_HOPS_SHARE * share_of_all {
            ef as f64 * cost::TWO_HOPS
        } else {
            f64::INFINITY
        };
        if broader.min(two_hops) >= scan {
            return Walked { found: 0, breadth: 1 };
        }
        if broader <= two_hops {
            stats.plan = Plan::FilteredGraph;
            let breadth = breadth as usize;
            // Which of those that it finds is the k-th allowed one is not known yet, so what may be nearer than the last of them is kept.
            self.walk_keeping(Some(entry), breadth, breadth, scratch, stats);
            // That is kept for an answer and not counted: the walk was no broader for it.
            let within = scratch.walk.entries().iter().take(breadth);
            let found = within.filter(|near| allow.contains(near.ordinal())).count();
            scratch.walk.retain(|ordinal| allow.contains(ordinal));
            return Walked { found, breadth };
        }
        stats.plan = Plan::TwoHops;
        self.walk_two_hops(k, entry, ef, allow, scratch, stats);
        Walked { found: scratch.walk.entries().len(), breadth: ef }
    }

    /// Compares with every allowed item: by rows if they are few, or if codes say nothing of the query, so that none could be left out by them.
    fn compare_with_all(&self, k: usize, allow: &AllowSet, scratch: &mut Scratch, stats: &mut SearchStats) {
        stats.plan = Plan::Exact;
        if C::EXACT || allow.cardinality() <= BY_ROWS_MOST || !self.near.margin().is_finite() {
            stats.distances += exact::search(self.rows, k, Some(allow), scratch);
            return;
        }
        stats.distances += exact::scan(self.near, k, Some(allow), scratch);
        self.answer_scan(k, scratch, stats);
    }

    /// The share of allowed items among those that links lead to from an item and from its neighbours. As if the share of all items
    /// had been seen once, so that it is never zero. Looks no further once there are enough to tell.
    fn share_about(&self, entry: Entry, allow: &AllowSet, share_of_all: f64) -> f64 {
        let links = |item: u32| self.graph.places0(item).iter().filter(|link| **link < self.graph.n);
        let (mut allowed, mut seen) = (0_u32, 0_u32);
        for near in fetched_ahead(links(entry.ordinal()), |near| prefetch(self.graph.places0(*near))) {
            for link in links(*near) {
                allowed += u32::from(allow.contains(*link));
                seen += 1;
            }
            if allowed >= SHARE_TOLD {
                break;
            }
        }
        (f64::from(allowed) + share_of_all) / (f64::from(seen) + 1.0)
    }

    /// Fills `scratch.walk` with the `ef` nearest allowed items that a walk over allowed items finds, and what it has seen besides that may be among the
    /// `k` nearest by rows.
    fn walk_two_hops(
        &self,
        k: usize,
        entry: Entry,
        ef: usize,
        allow: &AllowSet,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        scratch.walk.begin_keeping(ef, k, self.near.margin());
        scratch.visited.begin(self.graph.n);
        scratch.visited.insert(entry.ordinal());
        if allow.contains(entry.ordinal()) {
            scratch.walk.insert(entry);
        }
        let mut count = 0;
        for seed in allow.spread(SEEDS).filter(|seed| *seed < self.graph.n) {
            if scratch.visited.insert(seed) {
                count = self.collect(seed, count, scratch, stats);
            }
        }
        self.score(count, scratch, stats);
        self.expand_two_hops(entry, allow, scratch, stats);
        let hops_most = stats.hops.saturating_add(hops_max(ef));
        while stats.hops < hops_most {
            let Some(next) = scratch.walk.expand() else { break };
            self.expand_two_hops(next, allow, scratch, stats);
        }
        scratch.walk.add_near();
    }

    /// Compares with the allowed items that links lead to from an item, and those that links lead to from its neighbours that are not.
    #[inline]
    fn expand_two_hops(&self, item: Entry, allow: &AllowSet, scratch: &mut Scratch, stats: &mut SearchStats) {
        stats.hops += 1;
        let n = self.graph.n;
        let mut between = [0_u32; M0_STRIDE_MAX as usize];
        let (mut n_between, mut count) = (0, 0);
        for link in self.graph.places0(item.ordinal()).iter().filter(|link| **link < n) {
            if scratch.visited.contains(*link) {
                continue;
            }
            if allow.contains(*link) {
                scratch.visited.insert(*link);
                count = self.collect(*link, count, scratch, stats);
            } else if let Some(place) = between.get_mut(n_between) {
                *place = *link;
                n_between += 1;
                prefetch(self.graph.places0(*link));
            }
        }
        let mut total = count;
        for middle in between.iter().take(n_between) {
            if total >= TWO_HOPS_MOST {
                break;
            }
            scratch.visited.insert(*middle);
            for link in self.graph.places0(*middle).iter().filter(|link| **link < n) {
                if allow.contains(*link) && scratch.visited.insert(*link) {
                    count = self.collect(*link, count, scratch, stats);
                    total += 1;
                }
            }
        }
        self.score(count, scratch, stats);
    }

    /// Puts an item into the batch, whose first `count` places are taken, after scoring the batch if it is full; returns how many are taken.
    #[inline(always)]
    fn collect(&self, item: u32, mut count: usize, scratch: &mut Scratch, stats: &mut SearchStats) -> usize {
        if count == BATCH {
            self.score(count, scratch, stats);
            count = 0;
        }
        if let Some(place) = scratch.batch.ordinals.get_mut(count) {
            *place = item;
            self.near.ask(item);
        }
        count + 1
    }

    /// Scores the first `count` of the batch and puts them into the walk.
    #[inline(always)]
    fn score(&self, count: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        let Scratch { batch, walk, .. } = scratch;
        self.near.many(batch.ordinals.get(..count).unwrap_or_default(), &mut batch.similarities);
        stats.distances += count as u32;
        batch.scored(count).for_each(|entry| walk.insert(entry));
    }
}

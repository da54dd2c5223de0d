//! The candidates of one request: a small table from ordinal to what is known so far.

use std::cmp::Ordering;

use kindred_index::{AllowSet, fetched_ahead};

use super::filter::Eligible;
use super::sessions::SimilarSessions;
use super::taste::Taste;
use crate::limits;
use crate::model::{ModelView, SessionsView};

/// The item may not be in the answer.
const EXCLUDED: u8 = 1;
/// A neighbour of one of the most recent items, not yet a candidate.
const NEAR: u8 = 2;
/// To be scored.
const PROPOSED: u8 = 4;
/// Proposed only to fill the list up, because it is popular.
const FILL: u8 = 8;
/// A rule wants it looked at, however low its score: it has a fixed place, is promoted or new.
const RULED: u8 = 16;

/// What is known about one item in the course of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) ordinal: u32,
    flags: u8,
    /// Similarity as the search measured it, if it did.
    pub(super) similarity: Option<f32>,
    /// Sum over all anchors of share × similarity in the item-to-item table.
    pub(super) neighbours: f64,
    /// The share of similar sessions that had it.
    pub(super) sessions: f64,
    /// Sum over the visitor's own interactions with it.
    pub(super) history: f64,
    /// Mean over those whom the visitor follows.
    pub(super) followed: f64,
}

/// Candidates by ordinal: open addressing over a list, cheap to clear, in the first-level cache for usual requests.
#[derive(Debug, Default)]
pub(super) struct CandidateTable {
    /// A power of two of them, at least twice as many as the list is long.
    slots: Vec<Slot>,
    list: Vec<Candidate>,
    near: Vec<(f64, u32)>,
    excluded: u32,
}

/// Where an item is in the list. The ordinal is here too, so that looking for one reads no other memory until it is found.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    ordinal: u32,
    /// Position in the list plus one, or zero.
    place: u32,
}

impl Candidate {
    /// An item of which nothing is known yet.
    pub(super) fn new(ordinal: u32) -> Self {
        Self { ordinal, flags: 0, similarity: None, neighbours: 0.0, sessions: 0.0, history: 0.0, followed: 0.0 }
    }

    /// Whether it is to be scored.
    pub(super) fn is_proposed(&self) -> bool {
        self.flags & (PROPOSED | EXCLUDED) == PROPOSED
    }

    /// Whether it may not be in the answer.
    pub(super) fn is_excluded(&self) -> bool {
        self.flags & EXCLUDED != 0
    }

    /// Whether a rule wants it looked at, however low its score.
    pub(super) fn is_ruled(&self) -> bool {
        self.flags & RULED != 0
    }

    /// Whether only its popularity brought it here.
    pub(super) fn is_fill(&self) -> bool {
        self.flags & FILL != 0
    }
}

impl CandidateTable {
    pub(super) fn clear(&mut self) {
        // A table that one huge request has blown up would cost every later one its clearing.
        const SLOTS_KEPT: usize = 1 << 14;
        self.slots.truncate(SLOTS_KEPT);
        self.slots.fill(Slot::default());
        self.list.clear();
        self.near.clear();
        self.excluded = 0;
    }

    /// All entries, proposed or not.
    pub(super) fn list(&self) -> &[Candidate] {
        &self.list
    }

    /// Items that may not be in the answer.
    pub(super) fn n_excluded(&self) -> usize {
        self.excluded as usize
    }

    /// The excluded items.
    pub(super) fn excluded(&self) -> impl Iterator<Item = u32> + '_ {
        self.list.iter().filter(|one| one.flags & EXCLUDED != 0).map(|one| one.ordinal)
    }

    /// What is known about an item, if anything is.
    pub(super) fn get(&self, ordinal: u32) -> Option<&Candidate> {
        let slot = self.slots.get(self.find(ordinal)?)?;
        self.list.get(slot.place.checked_sub(1)? as usize)
    }

    /// Marks items that may not be in the answer.
    pub(super) fn exclude(&mut self, ordinals: &[u32]) {
        for ordinal in ordinals {
            let Some(one) = self.entry(*ordinal) else { continue };
            let fresh = one.flags & EXCLUDED == 0;
            one.flags |= EXCLUDED;
            self.excluded += u32::from(fresh);
        }
    }

    /// Adds what the search found.
    pub(super) fn propose_found(&mut self, ordinal: u32, similarity: f32) {
        if let Some(one) = self.entry(ordinal) {
            one.flags |= PROPOSED;
            one.similarity = Some(similarity);
        }
    }

    /// Proposes an item; one that a rule proposes is looked at however low its score.
    pub(super) fn propose(&mut self, ordinal: u32, ruled: bool) {
        if let Some(one) = self.entry(ordinal) {
            one.flags |= PROPOSED | if ruled { RULED } else { 0 };
        }
    }

    /// Adds to the part of an item's score that the visitor's own interactions with it make, and proposes it or not.
    pub(super) fn add_history(&mut self, ordinal: u32, value: f64, propose: bool) {
        if let Some(one) = self.entry(ordinal) {
            one.flags |= if propose { PROPOSED } else { 0 };
            one.history += value;
        }
    }

    /// Notes the part of an item's score that those make whom the visitor follows, and proposes it or not.
    pub(super) fn add_followed(&mut self, ordinal: u32, value: f64, propose: bool) {
        if let Some(one) = self.entry(ordinal) {
            one.flags |= if propose { PROPOSED } else { 0 };
            one.followed = value;
        }
    }

    /// Proposes the first `most` of a list that may be in the answer and are not proposed yet, as filling or not. Says how many.
    pub(super) fn propose_first(&mut self, list: &[u32], most: usize, fill: bool, eligible: &Eligible<'_>) -> usize {
        let reason = PROPOSED | if fill { FILL } else { 0 };
        let mut left = most;
        for &ordinal in list {
            if left == 0 {
                break;
            }
            if eligible.allows(ordinal)
                && let Some(one) = self.entry(ordinal)
                && one.flags & (EXCLUDED | PROPOSED) == 0
            {
                one.flags |= reason;
                left -= 1;
            }
        }
        most - left
    }

    /// Adds up the neighbours part of the score for all neighbours of all anchors.
    pub(super) fn add_neighbours(&mut self, view: &ModelView<'_>, taste: &Taste) {
        let anchors = fetched_ahead(taste.anchors().iter(), |anchor| view.prefetch_neighbours(anchor.ordinal));
        for (position, anchor) in anchors.enumerate() {
            let flag = if position < limits::NEIGHBOUR_SEEDS_MAX { NEAR } else { 0 };
            for neighbour in view.neighbours(anchor.ordinal) {
                let Some(one) = self.entry(neighbour.ordinal) else { continue };
                one.flags |= flag;
                one.neighbours += anchor.share * f64::from(neighbour.similarity);
            }
        }
    }

    /// Proposes the `most` items with the greatest neighbours part among the neighbours of the most recent anchors.
    pub(super) fn propose_near(&mut self, most: usize, eligible: &Eligible<'_>) {
        self.propose_greatest(most, eligible, |one| if one.flags & NEAR != 0 { one.neighbours } else { 0.0 });
    }

    /// Proposes the `most` items with the greatest value above 0 that may be in the answer. Ties go to who came first, the neighbour of the
    /// more recent item or the item of the more similar session; so the cut is the same every time.
    fn propose_greatest(&mut self, most: usize, eligible: &Eligible<'_>, value: impl Fn(&Candidate) -> f64) {
        let Self { list, near, .. } = self;
        near.clear();
        for (at, one) in (0_u32..).zip(list.iter()) {
            let value = value(one);
            if value > 0.0 && !one.is_excluded() && eligible.allows(one.ordinal) {
                near.push((value, at));
            }
        }
        if near.len() > most {
            near.select_nth_unstable_by(most, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            near.truncate(most);
        }
        for (_, at) in near.iter() {
            if let Some(one) = list.get_mut(*at as usize) {
                one.flags |= PROPOSED;
            }
        }
    }

    /// Adds up the sessions part of the score for all items of similar sessions.
    pub(super) fn add_sessions(&mut self, view: &SessionsView<'_>, similar: &SimilarSessions) {
        similar.each(view, |ordinal, share| {
            if let Some(one) = self.entry(ordinal) {
                one.sessions += share;
            }
        });
    }

    /// Proposes the `most` items with the greatest sessions part.
    pub(super) fn propose_of_sessions(&mut self, most: usize, eligible: &Eligible<'_>) {
        self.propose_greatest(most, eligible, |one| one.sessions);
    }

    /// Items that are proposed and may be in the answer.
    pub(super) fn n_proposed(&self) -> usize {
        self.list.iter().filter(|one| one.is_proposed()).count()
    }

    /// Proposes `most` further items, the most popular that may be in the answer; `by_key` breaks ties. Says how many.
    pub(super) fn propose_popular(
        &mut self,
        view: &ModelView<'_>,
        most: usize,
        eligible: &Eligible<'_>,
        by_key: impl Fn(u32, u32) -> Ordering,
    ) -> usize {
        let mut left = most;
        let mut propose = |ordinal: u32| {
            if left > 0
                && let Some(one) = self.entry(ordinal)
                && one.flags & (EXCLUDED | PROPOSED) == 0
            {
                one.flags |= PROPOSED | FILL;
                left -= 1;
            }
            left > 0
        };
        most_popular_first(view, eligible.set(), most, by_key, &mut propose);
        // Nobody has done anything with them that the model knows of, so they come last.
        eligible.added().iter().copied().all(&mut propose);
        most - left
    }

    /// The entry of an item, made if there is none.
    fn entry(&mut self, ordinal: u32) -> Option<&mut Candidate> {
        if (self.list.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let at = self.find(ordinal)?;
        let slot = self.slots.get_mut(at)?;
        if slot.place == 0 {
            self.list.push(Candidate::new(ordinal));
            *slot = Slot { ordinal, place: self.list.len() as u32 };
        }
        self.list.get_mut((slot.place - 1) as usize)
    }

    /// The slot of an item, or the empty slot where it belongs.
    fn find(&self, ordinal: u32) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        // Fibonacci hashing; the high half of the product is well mixed.
        let mut at = (u64::from(ordinal).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.place == 0 || slot.ordinal == ordinal {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        const SLOTS_LEAST: usize = 1 << 10;
        let slots = (self.slots.len() * 2).max(SLOTS_LEAST);
        self.slots.clear();
        self.slots.resize(slots, Slot::default());
        for place in 0..self.list.len() {
            let Some(ordinal) = self.list.get(place).map(|one| one.ordinal) else { break };
            if let Some(slot) = self.find(ordinal).and_then(|at| self.slots.get_mut(at)) {
                *slot = Slot { ordinal, place: place as u32 + 1 };
            }
        }
    }
}

/// Goes through the items of a set, or through all of the model, the most popular first, until `goes_on` says no, which is expected after `most` of
/// them; `by_key` breaks ties.
pub(super) fn most_popular_first(
    view: &ModelView<'_>,
    set: Option<&AllowSet>,
    most: usize,
    by_key: impl Fn(u32, u32) -> Ordering,
    goes_on: impl FnMut(u32) -> bool,
) {
    // Where few items are in the set, sorting those is cheaper than walking down all items by popularity until enough of them have come by. One of a
    // sort of thousands costs about as much as so many steps of the walk.
    const STEPS: u64 = 16;
    let few = (most as u64 * view.popular().len() as u64 / STEPS).isqrt();
    match set.filter(|set| u64::from(set.cardinality()) <= few) {
        Some(set) => {
            let mut ordinals: Vec<u32> = set.iter().collect();
            ordinals.sort_unstable_by(|a, b| {
                view.popularity(*b).total_cmp(&view.popularity(*a)).then_with(|| by_key(*a, *b))
            });
            ordinals.into_iter().all(goes_on);
        }
        None => {
            let is_in = |ordinal: &u32| set.is_none_or(|set| set.contains(*ordinal));
            view.popular().iter().copied().filter(is_in).all(goes_on);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kindred_index::Metric;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Fixture;

    proptest! {
        #[test]
        fn behaves_like_a_map(ordinals in prop::collection::vec(0..3_000_u32, 0..2_000)) {
            let mut table = CandidateTable::default();
            for _ in 0..2 {
                table.clear();
                let mut map = BTreeMap::new();
                for (step, &ordinal) in ordinals.iter().enumerate() {
                    table.propose_found(ordinal, step as f32);
                    map.insert(ordinal, step as f32);
                }
                prop_assert_eq!(table.list().len(), map.len());
                prop_assert_eq!(table.n_proposed(), map.len());
                for ordinal in 0..3_000 {
                    let found = table.get(ordinal).and_then(|one| one.similarity);
                    prop_assert_eq!(found, map.get(&ordinal).copied());
                }
            }
        }
    }

    #[test]
    fn what_is_excluded_is_never_proposed() {
        let mut table = CandidateTable::default();
        table.exclude(&[3, 3, 5]);
        assert_eq!(table.n_excluded(), 2);
        assert_eq!(table.excluded().collect::<Vec<_>>(), [3, 5]);
        table.propose_found(3, 1.0);
        table.propose_found(4, 1.0);
        assert_eq!(table.n_proposed(), 1);
        let excluded = |ordinal| table.get(ordinal).is_some_and(Candidate::is_excluded);
        assert!(excluded(5) && !excluded(4) && !excluded(6));
    }

    #[test]
    fn a_few_are_sorted_in_the_order_in_which_all_are_walked() {
        let mut fixture = Fixture::random(3, 400, 12, Metric::Cosine);
        // With many ties.
        fixture.popularity.iter_mut().for_each(|popularity| *popularity = (*popularity / 200.0).floor());
        let model = fixture.model();
        let view = model.view();
        let mut few = AllowSet::new_empty(model.len());
        (0..model.len()).step_by(9).for_each(|ordinal| assert!(few.insert(ordinal)));
        let first = |most: usize, wanted: usize| {
            let mut found = Vec::new();
            let by_key = |a: u32, b: u32| view.key(a).cmp(&view.key(b));
            most_popular_first(&view, Some(&few), most, by_key, |ordinal| {
                found.push(ordinal);
                found.len() < wanted
            });
            found
        };
        // Of 45 items up to five are sorted where one is expected, and up to 158 where a thousand are.
        assert_eq!(first(1, 45), first(1_000, 45));
        assert_eq!((first(1, 45).len(), first(1_000, 45)[..7].to_vec()), (45, first(1_000, 7)));
    }

    #[test]
    fn an_empty_table_answers() {
        let table = CandidateTable::default();
        assert!(table.get(0).is_none());
        assert_eq!(table.n_proposed(), 0);
    }
}

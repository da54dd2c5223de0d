//! Session-kNN: what the sessions had that resemble the visitor's most recent items.
//!
//! After VMIS-kNN (Kersbergen, Sprangers, Schelter: Serenade, SIGMOD 2022). Each of the visitor's last [`WINDOW`] items a, counted from
//! the newest as p = 0, gives the most recent sessions that had it [`DECAY`]^p; the [`limits::SIMILAR_SESSIONS_MAX`] sessions that are given
//! the most, the newer of equals first, are the neighbours, and item j is worth the share of their weight that is in sessions with j:
//!
//! `s(j) = Σ_{n ∋ j} w_n / Σ_n w_n`, 0 to 1, with `w_n = Σ_{a ∈ n} DECAY^p(a)`
//!
//! Being a sum over a, it is explained exactly: a's share is its part of every w_n with j. Costs at most `WINDOW ·
//! SESSIONS_PER_ITEM_MAX` additions for the weights and one for each item of a neighbour.

use std::cmp::Reverse;

use super::taste::Anchor;
use crate::limits;
use crate::model::SessionsView;

/// Items that look for sessions.
const WINDOW: usize = 4;
/// What an item gives, relative to the one after it.
const DECAY: f64 = 0.3;

/// A session that resembles the visitor's.
#[derive(Clone, Copy, Debug, Default)]
struct Similar {
    session: u32,
    /// The items of the window that it has, a bit each.
    has: u32,
    weight: f64,
}

/// The sessions that resemble a visitor's; also the scratch memory to find them.
#[derive(Debug, Default)]
pub(super) struct SimilarSessions {
    /// Item, place in the history, and what it gives; the newest first.
    window: Vec<(u32, u32, f64)>,
    met: Vec<(u32, u32)>,
    similar: Vec<Similar>,
    total: f64,
}

impl SimilarSessions {
    /// Nothing resembles nobody.
    pub(super) fn clear(&mut self) {
        self.window.clear();
        self.similar.clear();
        self.total = 0.0;
    }

    /// Finds the sessions that resemble the most recent of `anchors`, the newest first. Those that speak against an item do not take part.
    pub(super) fn find(&mut self, view: &SessionsView<'_>, anchors: &[Anchor]) {
        self.clear();
        self.met.clear();
        let mut gives = 1.0;
        for anchor in anchors.iter().filter(|anchor| anchor.share > 0.0) {
            if self.window.iter().any(|(item, ..)| *item == anchor.ordinal) {
                continue;
            }
            let bit = 1_u32 << self.window.len();
            self.window.push((anchor.ordinal, anchor.index, gives));
            self.met.extend(view.with_item(anchor.ordinal).iter().map(|session| (*session, bit)));
            gives *= DECAY;
            if self.window.len() == WINDOW {
                break;
            }
        }
        self.met.sort_unstable();
        for same in self.met.chunk_by(|a, b| a.0 == b.0) {
            let has = same.iter().fold(0, |has, (_, bit)| has | bit);
            let weight = weight(&self.window, has);
            let session = same.first().map_or(0, |(session, _)| *session);
            self.similar.push(Similar { session, has, weight });
        }
        let most = limits::SIMILAR_SESSIONS_MAX;
        let best_first = |a: &Similar, b: &Similar| {
            b.weight.total_cmp(&a.weight).then_with(|| Reverse(a.session).cmp(&Reverse(b.session)))
        };
        if self.similar.len() > most {
            self.similar.select_nth_unstable_by(most, best_first);
            self.similar.truncate(most);
        }
        self.similar.sort_unstable_by(best_first);
        self.total = self.similar.iter().map(|one| one.weight).sum();
    }

    /// What each session gives each of its items; the sum over an item is its score.
    pub(super) fn each(&self, view: &SessionsView<'_>, mut add: impl FnMut(u32, f64)) {
        for one in &self.similar {
            let share = one.weight / self.total;
            view.items(one.session).iter().for_each(|item| add(*item, share));
        }
    }

    /// The share of each item of the window in the score of an item: its place in the history, its ordinal, the share.
    pub(super) fn explain(&self, view: &SessionsView<'_>, ordinal: u32) -> impl Iterator<Item = (u32, u32, f64)> + '_ {
        let mut shares = [0.0; WINDOW];
        for one in self.similar.iter().filter(|one| view.items(one.session).contains(&ordinal)) {
            for (at, (share, (.., gives))) in shares.iter_mut().zip(&self.window).enumerate() {
                if one.has >> at & 1 == 1 {
                    *share += gives / self.total;
                }
            }
        }
        self.window.iter().zip(shares).map(|((item, index, _), share)| (*index, *item, share))
    }
}

/// What the items of a set of bits give together, always summed in the same order.
fn weight(window: &[(u32, u32, f64)], has: u32) -> f64 {
    let in_set = window.iter().enumerate().filter(|(at, _)| has >> at & 1 == 1);
    in_set.map(|(_, (.., gives))| gives).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kindred_index::Metric;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Fixture;

    const ITEMS: usize = 12;

    /// The formula of the module documentation, over every session.
    fn naive(sessions: &[BTreeSet<u32>], anchors: &[u32]) -> BTreeMap<u32, f64> {
        let mut window: Vec<u32> = Vec::new();
        for anchor in anchors {
            if !window.contains(anchor) && window.len() < WINDOW {
                window.push(*anchor);
            }
        }
        let weight = |session: &BTreeSet<u32>| -> f64 {
            let given = (0_i32..).zip(&window).filter(|(_, item)| session.contains(item));
            given.map(|(place, _)| DECAY.powi(place)).sum()
        };
        let total: f64 = sessions.iter().map(&weight).sum();
        let mut scores = BTreeMap::new();
        for session in sessions.iter().filter(|session| weight(session) > 0.0) {
            session.iter().for_each(|item| *scores.entry(*item).or_default() += weight(session) / total);
        }
        scores
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula(
            sessions in prop::collection::vec(prop::collection::btree_set(0..ITEMS as u32, 1..6), 1..40),
            anchors in prop::collection::vec(0..ITEMS as u32, 0..8),
        ) {
            let mut fixture = Fixture::random(1, ITEMS, 8, Metric::Cosine);
            let lists: Vec<Vec<u32>> = sessions.iter().map(|session| session.iter().copied().collect()).collect();
            fixture.set_sessions(lists.iter().map(Vec::as_slice));
            let model = fixture.model();
            model.verify().unwrap();
            let view = model.sessions();
            let anchor = |(index, ordinal): (u32, &u32)| Anchor { ordinal: *ordinal, index, share: 1.0 };
            let anchors_of: Vec<Anchor> = (0..).zip(&anchors).map(anchor).collect();
            let mut similar = SimilarSessions::default();
            similar.find(&view, &anchors_of);
            let mut found: BTreeMap<u32, f64> = BTreeMap::new();
            similar.each(&view, |item, share| *found.entry(item).or_default() += share);
            let wanted = naive(&sessions, &anchors);
            prop_assert_eq!(found.len(), wanted.len());
            for (item, score) in &found {
                prop_assert!((score - wanted[item]).abs() < 1e-9, "item {}: {} against {}", item, score, wanted[item]);
                let explained: f64 = similar.explain(&view, *item).map(|(.., share)| share).sum();
                prop_assert!((score - explained).abs() < 1e-9);
            }
        }
    }
}

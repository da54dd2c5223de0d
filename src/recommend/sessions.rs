//! Session-kNN and user-kNN: what the sessions had that resemble the visitor's items.
//!
//! The [`limits::SIMILAR_SESSIONS_MAX`] sessions of the greatest likeness above 0, the newer of equals first, are the neighbours, and item j
//! is worth the share of their likeness that is in sessions with j: `s(j) = Σ_{n ∋ j} w_n / Σ_n w_n`, 0 to 1. What the likeness w_n is, the
//! artifact says:
//!
//! * By recency, after VMIS-kNN (Kersbergen, Sprangers, Schelter: Serenade, SIGMOD 2022): each of the visitor's last [`WINDOW`] items a,
//!   counted from the newest as p = 0, gives `x_a =` [`DECAY`]`^p` to the most recent sessions that had it, and `w_n = Σ_{a ∈ n} x_a`.
//! * By cosine: `x_a` is a's share in the user vector, of the last [`WIDE_WINDOW`] items, and `w_n = Σ_{a ∈ n} x_a / (|x| · √|n|)`.
//! * By Pearson's correlation of the same two over all N items:
//!   `w_n = (Σ_{a ∈ n} x_a − |n| Σ x / N) / √((|x|² − (Σ x)² / N) · (|n| − |n|² / N))`.
//!
//! The last two shrink where little is shared: `w_n · c / (c + shrinkage)`, with c items in common. Of an item that more sessions had, the
//! newest [`limits::SESSIONS_PER_ITEM_MAX`] take part.
//!
//! It is explained exactly: a's part of w_n is `w_n · x_a / Σ_{b ∈ n} x_b`, and its share is its part of every w_n with j. Costs at most
//! window · `SESSIONS_PER_ITEM_MAX` additions and a sort for the weights and one addition for each item of a neighbour.

use std::cmp::Reverse;

use super::taste::Anchor;
use crate::limits;
use crate::manifest::{SessionLikeness, SessionsBy};
use crate::model::SessionsView;

/// Items that look for sessions, by recency.
const WINDOW: usize = 4;
/// What an item gives by recency, relative to the one after it.
const DECAY: f64 = 0.3;
/// Items that look for sessions, by cosine and correlation; as many as there are bits in [`Similar::has`].
const WIDE_WINDOW: usize = 64;

/// A session that resembles the visitor's.
#[derive(Clone, Copy, Debug, Default)]
struct Similar {
    session: u32,
    /// The items of the window that it has, a bit each.
    has: u64,
    weight: f64,
}

/// An item that looks for sessions.
#[derive(Clone, Copy, Debug)]
struct Looking {
    ordinal: u32,
    /// Its place in the history.
    index: u32,
    gives: f64,
}

/// The sessions that resemble a visitor's; also the scratch memory to find them.
#[derive(Debug, Default)]
pub(super) struct SimilarSessions {
    /// The newest first.
    window: Vec<Looking>,
    /// Sessions, each with a place in the window.
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
        self.look_from(anchors, view.likeness().by);
        self.met.clear();
        for (place, looking) in (0_u32..).zip(&self.window) {
            self.met.extend(view.with_item(looking.ordinal).iter().map(|session| (*session, place)));
        }
        self.met.sort_unstable();
        let measure = Measure::new(&self.window, view);
        for same in self.met.chunk_by(|a, b| a.0 == b.0) {
            let has = same.iter().fold(0, |has, (_, place)| has | 1_u64 << place);
            let session = same.first().map_or(0, |(session, _)| *session);
            let weight = measure.weight(given(&self.window, has), has, || view.items(session).len());
            if weight > 0.0 {
                self.similar.push(Similar { session, has, weight });
            }
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

    /// Fills the window.
    fn look_from(&mut self, anchors: &[Anchor], by: SessionsBy) {
        let most = if by == SessionsBy::Recency { WINDOW } else { WIDE_WINDOW };
        let mut recency = 1.0;
        for anchor in anchors.iter().filter(|anchor| anchor.share > 0.0) {
            let gives = if by == SessionsBy::Recency { recency } else { anchor.share };
            match self.window.iter().position(|looking| looking.ordinal == anchor.ordinal) {
                Some(_) if by == SessionsBy::Recency => {}
                Some(at) => self.window.iter_mut().skip(at).take(1).for_each(|looking| looking.gives += gives),
                None if self.window.len() < most => {
                    self.window.push(Looking { ordinal: anchor.ordinal, index: anchor.index, gives });
                    recency *= DECAY;
                }
                None => {}
            }
        }
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
        let mut shares = [0.0; WIDE_WINDOW];
        for one in self.similar.iter().filter(|one| view.items(one.session).contains(&ordinal)) {
            let scale = one.weight / given(&self.window, one.has) / self.total;
            for (at, (share, looking)) in shares.iter_mut().zip(&self.window).enumerate() {
                if one.has >> at & 1 == 1 {
                    *share += scale * looking.gives;
                }
            }
        }
        self.window.iter().zip(shares).map(|(looking, share)| (looking.index, looking.ordinal, share))
    }
}

/// What the likeness of a session is reckoned with, beside the session.
struct Measure {
    likeness: SessionLikeness,
    n_items: f64,
    /// The sum of what the items of the window give.
    sum: f64,
    /// The sum of its squares.
    squares: f64,
}

impl Measure {
    fn new(window: &[Looking], view: &SessionsView<'_>) -> Self {
        let sum = window.iter().map(|looking| looking.gives).sum();
        let squares = window.iter().map(|looking| looking.gives * looking.gives).sum();
        Self { likeness: view.likeness(), n_items: f64::from(view.n_items()), sum, squares }
    }

    /// The likeness of a session that is given so much by the items of a set of bits; not above 0 where it has none.
    fn weight(&self, given: f64, has: u64, length: impl Fn() -> usize) -> f64 {
        let likeness = match self.likeness.by {
            SessionsBy::Recency => return given,
            SessionsBy::Cosine => given / (self.squares * length() as f64).sqrt(),
            SessionsBy::Pearson => {
                let (length, n) = (length() as f64, self.n_items);
                let spread = (self.squares - self.sum * self.sum / n) * (length - length * length / n);
                // One who has everything, or a session that has, is like nobody.
                if spread > 0.0 { (given - length * self.sum / n) / spread.sqrt() } else { 0.0 }
            }
        };
        let common = f64::from(has.count_ones());
        likeness * common / (common + f64::from(self.likeness.shrinkage))
    }
}

/// What the items of a set of bits give together, always summed in the same order.
fn given(window: &[Looking], has: u64) -> f64 {
    let in_set = window.iter().enumerate().filter(|(at, _)| has >> at & 1 == 1);
    in_set.map(|(_, looking)| looking.gives).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kindred_index::Metric;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Fixture;

    const ITEMS: usize = 12;

    /// A dense vector of every item, for formulas as they are in books.
    fn dense(entries: impl IntoIterator<Item = (u32, f64)>) -> Vec<f64> {
        let mut all = vec![0.0; ITEMS];
        entries.into_iter().for_each(|(item, value)| all[item as usize] += value);
        all
    }

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let lengths = (product(a, a) * product(b, b)).sqrt();
        if lengths > 1e-9 { product(a, b) / lengths } else { 0.0 }
    }

    fn centred(a: &[f64]) -> Vec<f64> {
        let mean = a.iter().sum::<f64>() / a.len() as f64;
        a.iter().map(|value| value - mean).collect()
    }

    /// The formulas of the module documentation, over every session.
    fn naive(sessions: &[BTreeSet<u32>], anchors: &[Anchor], likeness: SessionLikeness) -> BTreeMap<u32, f64> {
        let mut window: Vec<u32> = Vec::new();
        for anchor in anchors {
            if !window.contains(&anchor.ordinal) && window.len() < WINDOW {
                window.push(anchor.ordinal);
            }
        }
        let visitor = dense(anchors.iter().map(|anchor| (anchor.ordinal, anchor.share)));
        let weight = |session: &BTreeSet<u32>| -> f64 {
            let has = dense(session.iter().map(|item| (*item, 1.0)));
            let like = match likeness.by {
                SessionsBy::Recency => {
                    let given = (0_i32..).zip(&window).filter(|(_, item)| session.contains(item));
                    return given.map(|(place, _)| DECAY.powi(place)).sum();
                }
                SessionsBy::Cosine => cosine(&visitor, &has),
                SessionsBy::Pearson => cosine(&centred(&visitor), &centred(&has)),
            };
            let common = session.iter().filter(|item| visitor[**item as usize] > 0.0).count() as f64;
            if common > 0.0 { (like * common / (common + f64::from(likeness.shrinkage))).max(0.0) } else { 0.0 }
        };
        let total: f64 = sessions.iter().map(&weight).sum();
        let mut scores = BTreeMap::new();
        for session in sessions.iter().filter(|session| weight(session) > 1e-12) {
            session.iter().for_each(|item| *scores.entry(*item).or_default() += weight(session) / total);
        }
        scores
    }

    fn likenesses() -> impl Strategy<Value = SessionLikeness> {
        let by = prop::sample::select(vec![SessionsBy::Recency, SessionsBy::Cosine, SessionsBy::Pearson]);
        (by, prop::sample::select(vec![0.0_f32, 3.0])).prop_map(|(by, shrinkage)| SessionLikeness { by, shrinkage })
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula(
            sessions in prop::collection::vec(prop::collection::btree_set(0..ITEMS as u32, 1..6), 1..40),
            anchors in prop::collection::vec((0..ITEMS as u32, 0.1..1.0_f64), 0..8),
            likeness in likenesses(),
        ) {
            let mut fixture = Fixture::random(1, ITEMS, 8, Metric::Cosine);
            let lists: Vec<Vec<u32>> = sessions.iter().map(|session| session.iter().copied().collect()).collect();
            fixture.set_sessions(lists.iter().map(Vec::as_slice));
            fixture.session_likeness = likeness;
            let model = fixture.model();
            model.verify().unwrap();
            let view = model.sessions();
            let anchor = |(index, (ordinal, share)): (u32, &(u32, f64))| Anchor { ordinal: *ordinal, index, share: *share };
            let anchors: Vec<Anchor> = (0..).zip(&anchors).map(anchor).collect();
            let mut similar = SimilarSessions::default();
            similar.find(&view, &anchors);
            let mut found: BTreeMap<u32, f64> = BTreeMap::new();
            similar.each(&view, |item, share| *found.entry(item).or_default() += share);
            let wanted = naive(&sessions, &anchors, likeness);
            for item in 0..ITEMS as u32 {
                let (score, wanted) = (found.get(&item).unwrap_or(&0.0), wanted.get(&item).unwrap_or(&0.0));
                prop_assert!((score - wanted).abs() < 1e-6, "item {}: {} against {}", item, score, wanted);
                let explained: f64 = similar.explain(&view, item).map(|(.., share)| share).sum();
                prop_assert!((score - explained).abs() < 1e-9);
            }
        }
    }
}

//! From scored candidates to a list that rules have shaped: fixed places, a promoted share, diversity, caps, chance, and what comes last.
//!
//! Place after place, of what is left is taken: the item with this fixed place; else, by chance, a new one; else, where the place belongs to
//! the promoted share, the best promoted one; else the best. *Best* is by `score − diversity · (greatest cosine to an item above, if
//! positive)` (maximal marginal relevance; Carbonell and Goldstein, SIGIR 1998), buried ones after all others, ties by item key. Fixed
//! places are not subject to caps. Scores only fall as the list grows, so a candidate is compared with the items above only when what it was worth the
//! last time would win, and then with those that came since.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use kindred_index::key_hash;

use super::Placement;
use super::chance::Chance;
use super::taste::{cosine, length};
use crate::model::{Column, Model, ModelView};
use crate::scenario::{Cap, Exploration, ExploreMethod, Scenario};

/// A candidate on its way into the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) ordinal: u32,
    /// The sum of the parts of its score.
    pub(super) score: f64,
    /// Its fixed place, from 0.
    pub(super) pinned: Option<usize>,
    pub(super) promoted: bool,
    pub(super) new: bool,
    pub(super) buried: bool,
    /// The greatest cosine to one of the first `compared` items of the list, if positive.
    nearest: f64,
    compared: usize,
    /// The length of its row, once it is known.
    length: Option<f64>,
    taken: bool,
}

/// An item in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed {
    /// Its place among the entries.
    pub(super) entry: usize,
    /// What its likeness to items above takes off: not positive.
    pub(super) diversity: f64,
    pub(super) placement: Option<Placement>,
    pub(super) propensity: Option<f64>,
}

impl Entry {
    pub(super) fn new(ordinal: u32, score: f64) -> Self {
        let (pinned, promoted, new, buried) = (None, false, false, false);
        Self { ordinal, score, pinned, promoted, new, buried, nearest: 0.0, compared: 0, length: None, taken: false }
    }
}

/// How many items with each value are in the list, for each cap.
struct Counts<'a> {
    caps: Vec<(&'a Cap, Option<Arc<Column<u32>>>)>,
    view: &'a ModelView<'a>,
    /// The values of the model, by place, for entries that were changed since.
    names: Vec<Vec<&'a str>>,
    taken: BTreeMap<(usize, u32), usize>,
}

impl<'a> Counts<'a> {
    fn new<D: AsRef<[u8]>>(model: &'a Model<D>, view: &'a ModelView<'a>, caps: &'a [Cap]) -> Self {
        let names = |cap: &Cap| match (view.live(), model.index().attributes().field(&cap.key)) {
            (Some(_), Some(field)) => field.terms().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        };
        Self {
            caps: caps.iter().map(|cap| (cap, model.terms(&cap.key))).collect(),
            view,
            names: caps.iter().map(names).collect(),
            taken: BTreeMap::new(),
        }
    }

    /// The values of an item that count: the cap, how many may share it, and the value's place among those of the model. A value that came
    /// in since is known by its hash, beyond all places.
    fn values(&self, ordinal: u32) -> Vec<(usize, usize, u32)> {
        let mut values = Vec::new();
        let changed = self.view.live().and_then(|live| live.entry(ordinal));
        for (at, ((cap, column), names)) in self.caps.iter().zip(&self.names).enumerate() {
            if let Some(entry) = changed {
                let place = |term: &str| match names.binary_search(&term) {
                    Ok(place) => place as u32,
                    Err(_) => key_hash(0, term.as_bytes()) as u32 | (1 << 31),
                };
                values.extend(entry.attributes().terms_of(&cap.key).map(|term| (at, cap.at_most, place(term))));
            } else if let Some(column) = column {
                values.extend(column.of(ordinal).iter().map(|term| (at, cap.at_most, *term)));
            }
        }
        values
    }

    fn lets_pass(&self, ordinal: u32) -> bool {
        self.values(ordinal)
            .into_iter()
            .all(|(cap, most, term)| self.taken.get(&(cap, term)).is_none_or(|taken| *taken < most))
    }

    fn count(&mut self, ordinal: u32) {
        for (cap, _, term) in self.values(ordinal) {
            *self.taken.entry((cap, term)).or_default() += 1;
        }
    }
}

/// The items of the list so far, and what likeness to them takes off.
struct Above<'a> {
    view: &'a ModelView<'a>,
    /// Their rows and those' lengths.
    rows: Vec<(Cow<'a, [f32]>, f64)>,
    penalty: f64,
}

impl<'a> Above<'a> {
    /// What likeness to an item above takes off an entry: not positive.
    fn off(&self, entry: &mut Entry) -> f64 {
        if self.penalty > 0.0
            && let Some(row) = self.view.row(entry.ordinal)
        {
            let row = row.values();
            let length = *entry.length.get_or_insert_with(|| length(&row));
            let since = self.rows.get(entry.compared..).unwrap_or_default();
            let cosines = since.iter().map(|(above, above_length)| cosine((above, *above_length), (&row, length)));
            entry.nearest = cosines.fold(entry.nearest, f64::max);
            entry.compared = self.rows.len();
        }
        -self.penalty * entry.nearest
    }

    /// An item comes into the list.
    fn push(&mut self, ordinal: u32) {
        if self.penalty > 0.0 {
            self.rows.extend(self.view.row(ordinal).map(|row| row.values()).map(|row| {
                let length = length(&row);
                (row, length)
            }));
        }
    }
}

/// The list: at most `limit` of the entries, which come sorted by score, best first, ties by key.
pub(super) fn arrange<D: AsRef<[u8]>>(
    model: &Model<D>,
    view: &ModelView<'_>,
    scenario: &Scenario,
    entries: &mut [Entry],
    limit: usize,
    seed: u64,
) -> Vec<Placed> {
    let mut counts = Counts::new(model, view, &scenario.caps);
    let mut chance = Chance::new(seed);
    let mut above = Above { view, rows: Vec::new(), penalty: f64::from(scenario.diversity) };
    let greedy = scenario.explore.as_ref().filter(|explore| explore.method == ExploreMethod::EpsilonGreedy);
    let mut list = Vec::with_capacity(limit);
    for place in 0..limit {
        let pinned = entries.iter().position(|entry| entry.pinned == Some(place) && !entry.taken);
        let choice = match pinned {
            Some(entry) => Some((entry, Some(Placement::Pinned), greedy.map(|_| 1.0))),
            None => {
                let share = scenario.promote.as_ref().map_or(0.0, |promotion| f64::from(promotion.share));
                let wants_promoted = (((place + 1) as f64) * share).floor() > ((place as f64) * share).floor();
                let is_free = |entry: &Entry| {
                    !entry.taken && entry.pinned.is_none_or(|at| at >= limit) && counts.lets_pass(entry.ordinal)
                };
                choose(entries, &is_free, &above, wants_promoted, greedy, &mut chance)
            }
        };
        let Some((at, placement, propensity)) = choice else { continue };
        let Some(entry) = entries.get_mut(at) else { continue };
        entry.taken = true;
        let (ordinal, diversity) = (entry.ordinal, above.off(entry));
        list.push(Placed { entry: at, diversity, placement, propensity });
        counts.count(ordinal);
        above.push(ordinal);
    }
    list
}

type Choice = (usize, Option<Placement>, Option<f64>);

/// The item for a place that is not fixed.
fn choose(
    entries: &mut [Entry],
    is_free: &dyn Fn(&Entry) -> bool,
    above: &Above<'_>,
    wants_promoted: bool,
    greedy: Option<&Exploration>,
    chance: &mut Chance,
) -> Option<Choice> {
    let mut best_of = |fits: &dyn Fn(&Entry) -> bool| {
        // What an entry was worth when it was compared last: never less than it is worth now.
        let once = |entry: &Entry| (!entry.buried, entry.score - above.penalty * entry.nearest);
        let promising = entries.iter().enumerate().filter(|(_, entry)| fits(entry) && is_free(entry));
        let promising = promising.map(|(at, entry)| (at, once(entry)));
        // Of equals the first: the entries come in order of score and key.
        let first = promising.reduce(|best, next| if next.1 > best.1 { next } else { best })?.0;
        let entry = entries.get_mut(first)?;
        let mut best = (first, (!entry.buried, entry.score + above.off(entry)));
        for at in 0..entries.len() {
            let Some(entry) = entries.get_mut(at) else { continue };
            let beats = |worth: (bool, f64)| worth > best.1 || (worth == best.1 && at < best.0);
            if at == first || !beats(once(entry)) || !fits(entry) || !is_free(entry) {
                continue;
            }
            let worth = (!entry.buried, entry.score + above.off(entry));
            if beats(worth) {
                best = (at, worth);
            }
        }
        Some(best.0)
    };
    let promoted = if wants_promoted { best_of(&|entry| entry.promoted) } else { None };
    let exploit = promoted.or_else(|| best_of(&|_| true))?;
    let why = promoted
        .map(|_| Placement::Promoted)
        .or_else(|| entries.get(exploit).filter(|entry| entry.buried).map(|_| Placement::Buried));
    let Some(explore) = greedy else { return Some((exploit, why, None)) };
    let pool: Vec<usize> =
        entries.iter().enumerate().filter(|(_, entry)| entry.new && is_free(entry)).map(|(at, _)| at).collect();
    if pool.is_empty() {
        return Some((exploit, why, Some(1.0)));
    }
    let each = explore.epsilon / pool.len() as f64;
    let chance_of = |at: usize| {
        let drawn = if pool.contains(&at) { each } else { 0.0 };
        drawn + if at == exploit { 1.0 - explore.epsilon } else { 0.0 }
    };
    // Both draws are always made, so that what is drawn later does not depend on what is drawn here.
    let (draw, which) = (chance.unit(), chance.below(pool.len()));
    match pool.get(which) {
        // Drawn or not, what is the best stands where it would have stood.
        Some(&at) if draw < explore.epsilon && at != exploit => {
            Some((at, Some(Placement::Explored), Some(chance_of(at))))
        }
        _ => Some((exploit, why, Some(chance_of(exploit)))),
    }
}

//! From scored candidates to a list that rules have shaped: fixed places, a promoted share, diversity, caps, chance, and what comes last.
//!
//! Place after place, of what is left is taken: the item with this fixed place; else, by chance, a new one; else, where the place belongs to
//! the promoted share, the best promoted one; else the best. *Best* is by `score − diversity · (greatest cosine to an item above, if
//! positive)` (maximal marginal relevance; Carbonell and Goldstein, SIGIR 1998), buried ones after all others, ties by item key. Fixed
//! places are not subject to caps, and chance draws nothing that is buried. Scores only fall as the list grows, so a candidate is compared with the items above only when what it was worth the
//! last time would win, and then with those that came since.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use kindred_index::{Field, key_hash};

use super::candidates::CandidateTable;
use super::chance::{Chance, above};
use super::explain::Reasons;
use super::facts::passes;
use super::propose::newness;
use super::rank::{Question, Ranked};
use super::signals::Signals;
use super::taste::{cosine, length};
use super::{Placement, Recommendation};
use crate::model::{Column, Model, ModelView};
use crate::scenario::{Cap, Exploration, ExploreMethod, Pin, Promotion};

/// A candidate on its way into the list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ordinal: u32,
    /// The sum of the parts of its score.
    score: f64,
    /// Its fixed place, from 0.
    pinned: Option<usize>,
    promoted: bool,
    /// Whether it is one of the new ones that are drawn from.
    new: bool,
    buried: bool,
    /// The greatest cosine to one of the first `compared` items of the list, if positive.
    nearest: f64,
    compared: usize,
    /// The length of its row, once it is known.
    length: Option<f64>,
    taken: bool,
    /// Whether a cap keeps it out. Caps only tighten, so it stays out.
    capped: bool,
}

/// An item in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placed {
    /// Its place among the entries.
    entry: usize,
    /// What its likeness to items above takes off: not positive.
    diversity: f64,
    placement: Option<Placement>,
    propensity: Option<f64>,
}

impl Entry {
    fn new(ordinal: u32, score: f64) -> Self {
        let (pinned, promoted, new, buried) = (None, false, false, false);
        Self {
            ordinal,
            score,
            pinned,
            promoted,
            new,
            buried,
            nearest: 0.0,
            compared: 0,
            length: None,
            taken: false,
            capped: false,
        }
    }
}

/// How many items with each value are in the list, for each cap.
struct Counts<'a> {
    caps: Vec<Capped<'a>>,
    view: &'a ModelView<'a>,
    taken: BTreeMap<(usize, u32), usize>,
}

/// A cap, and the values of its attribute.
struct Capped<'a> {
    cap: &'a Cap,
    /// Those of each item of the model, by their places.
    column: Option<Arc<Column<u32>>>,
    field: Option<Field<'a>>,
}

impl Capped<'_> {
    /// The place of a value among those of the model. One that came in since is known by its hash, beyond all places.
    fn place(&self, term: &str) -> u32 {
        let of_the_model = self.field.and_then(|field| field.place(term));
        of_the_model.unwrap_or_else(|| key_hash(0, term.as_bytes()) as u32 | (1 << 31))
    }
}

impl<'a> Counts<'a> {
    fn new<D: AsRef<[u8]>>(model: &'a Model<D>, view: &'a ModelView<'a>, caps: &'a [Cap]) -> Self {
        let capped = |cap: &'a Cap| Capped {
            cap,
            column: model.terms(&cap.key),
            field: model.index().attributes().field(&cap.key),
        };
        Self { caps: caps.iter().map(capped).collect(), view, taken: BTreeMap::new() }
    }

    /// The values of an item that count: the cap, how many may share it, and the value's place.
    fn values(&self, ordinal: u32) -> Vec<(usize, usize, u32)> {
        let mut values = Vec::new();
        let changed = self.view.live().and_then(|live| live.entry(ordinal));
        for (at, capped) in self.caps.iter().enumerate() {
            let Cap { key, at_most } = capped.cap;
            if let Some(entry) = changed {
                values.extend(entry.attributes().terms_of(key).map(|term| (at, *at_most, capped.place(term))));
            } else if let Some(column) = &capped.column {
                values.extend(column.of(ordinal).iter().map(|term| (at, *at_most, *term)));
            }
        }
        // A value that was put twice is one, as in the tables of the index.
        if changed.is_some() {
            values.sort_unstable();
            values.dedup();
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

/// The list made of the best candidates, each scored in double precision; if not `drawn`, no place is left to chance. Of the reasons only what
/// is done here is noted: caps may have it made several times.
pub(super) fn shape<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &CandidateTable,
    order: &[Ranked],
    drawn: bool,
) -> Vec<Recommendation> {
    let Question { scenario, scorer, plan, .. } = question;
    let score = |one: &Ranked| Entry::new(one.ordinal, scorer.parts(one.ordinal, table).total());
    let mut entries: Vec<Entry> = order.iter().map(score).collect();
    let by_score = |a: &Entry, b: &Entry| {
        b.score.total_cmp(&a.score).then_with(|| question.of_equals(table, a.ordinal, b.ordinal))
    };
    entries.sort_unstable_by(by_score);
    let new = scenario.explore.as_ref().map(|explore| newness(explore, question.now_ms));
    let mut pool = scenario.explore.as_ref().map_or(0, |explore| explore.pool);
    let pinned = |pin: &Pin| Some((scorer.view.ordinal(&pin.item_id)?, pin.position.saturating_sub(1)));
    let pins = scenario.pins.iter().filter_map(pinned).filter(|(_, place)| *place < plan.limit);
    let pins: Vec<(u32, usize)> = pins.collect();
    for entry in &mut entries {
        let is = |filter| passes(scorer.model, &scorer.view, filter, entry.ordinal);
        entry.buried = scenario.bury.as_ref().is_some_and(|bury| is(bury.expression()));
        entry.promoted = scenario.promote.as_ref().is_some_and(|promotion| is(promotion.filter.expression()));
        entry.pinned = pins.iter().find(|(ordinal, _)| *ordinal == entry.ordinal).map(|(_, place)| *place);
        let may_be_drawn = pool > 0 && !entry.buried && entry.pinned.is_none();
        entry.new = may_be_drawn && new.as_ref().is_some_and(is);
        pool -= usize::from(entry.new);
    }
    let sampled = scenario.explore.as_ref().filter(|explore| explore.method == ExploreMethod::Thompson);
    let draws = sampled.map(|explore| draw(scorer.signals, explore.sigma, plan.seed, &mut entries));
    entries.sort_by(by_score);
    let mut list = arrange(question, &mut entries, drawn);
    let noise = |ordinal: u32| draws.as_ref().and_then(|all| all.iter().find(|one| one.0 == ordinal));
    if draws.is_some() {
        // The best of those that are not in the list is what each of them had to be better than.
        let next = entries.get(plan.limit).map(|entry| entry.score);
        for placed in &mut list {
            let ordinal = entries.get(placed.entry).map_or(0, |entry| entry.ordinal);
            let Some(((_, base, deviation, _), next)) = noise(ordinal).zip(next) else {
                placed.propensity = Some(1.0);
                continue;
            };
            placed.propensity = Some(above((next - base) / deviation));
            if *base < next {
                placed.placement = Some(Placement::Explored);
            }
        }
    }
    let item = |placed: &Placed| {
        let entry = entries.get(placed.entry)?;
        let parts = scorer.parts(entry.ordinal, table);
        let exploration = noise(entry.ordinal).map_or(0.0, |(.., noise)| *noise);
        let reasons = || Box::new(Reasons { exploration, diversity: placed.diversity, ..Reasons::default() });
        Some(Recommendation {
            ordinal: entry.ordinal,
            score: entry.score + placed.diversity,
            source: question.source(entry.ordinal, &parts, table),
            placement: placed.placement,
            propensity: placed.propensity,
            reasons: plan.explain.then(reasons),
        })
    };
    list.iter().filter_map(item).collect()
}

/// Draws the score of each new item; says its ordinal, its score before, the deviation and what was added.
fn draw(signals: &Signals<'_>, sigma: f64, seed: u64, entries: &mut [Entry]) -> Vec<(u32, f64, f64, f64)> {
    let mut chance = Chance::new(seed);
    let new = entries.iter_mut().filter(|entry| entry.new);
    let draw = new.map(|entry| {
        let taken = signals.overall.map_or(0, |trend| trend.count(entry.ordinal));
        let deviation = sigma / (1.0 + f64::from(taken)).sqrt();
        let (base, noise) = (entry.score, deviation * chance.normal());
        entry.score += noise;
        (entry.ordinal, base, deviation, noise)
    });
    draw.collect()
}

/// The places of a list, filled from entries that come sorted by score, best first, ties by key.
fn arrange<D: AsRef<[u8]>>(question: &Question<'_, D>, entries: &mut [Entry], drawn: bool) -> Vec<Placed> {
    let Question { scenario, scorer, plan, .. } = question;
    let (view, limit) = (&scorer.view, plan.limit);
    let mut counts = Counts::new(scorer.model, view, &scenario.caps);
    let mut chance = Chance::new(plan.seed);
    let mut above = Above { view, rows: Vec::new(), penalty: f64::from(scenario.diversity) };
    let is_greedy = |explore: &&Exploration| drawn && explore.method == ExploreMethod::EpsilonGreedy;
    let greedy = scenario.explore.as_ref().filter(is_greedy);
    let mut list = Vec::with_capacity(limit);
    // Caps only tighten: once none is free, none will be.
    let mut is_any_free = true;
    for place in 0..limit {
        let pinned = entries.iter().position(|entry| entry.pinned == Some(place) && !entry.taken);
        let choice = match pinned {
            Some(entry) => Some((entry, Some(Placement::Pinned), greedy.map(|_| 1.0))),
            None if !is_any_free => None,
            None => {
                let ends_a_share = |one: &Promotion| one.places_of(place + 1) > one.places_of(place);
                let wants_promoted = scenario.promote.as_ref().is_some_and(ends_a_share);
                let is_free = |entry: &mut Entry| {
                    if entry.taken || entry.capped || entry.pinned.is_some_and(|at| at < limit) {
                        return false;
                    }
                    entry.capped = !counts.lets_pass(entry.ordinal);
                    !entry.capped
                };
                choose(entries, &is_free, &above, wants_promoted, greedy, &mut chance)
            }
        };
        is_any_free &= choice.is_some();
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
    is_free: &dyn Fn(&mut Entry) -> bool,
    above: &Above<'_>,
    wants_promoted: bool,
    greedy: Option<&Exploration>,
    chance: &mut Chance,
) -> Option<Choice> {
    let mut best_of = |fits: &dyn Fn(&Entry) -> bool| {
        // What an entry was worth when it was compared last: never less than it is worth now.
        let once = |entry: &Entry| (!entry.buried, entry.score - above.penalty * entry.nearest);
        let mut first: Option<(usize, (bool, f64))> = None;
        for (at, entry) in entries.iter_mut().enumerate() {
            // Of equals the first: the entries come in order of score and key. What would not win is not looked at further.
            let worth = once(entry);
            if first.is_none_or(|(_, best)| worth > best) && fits(entry) && is_free(entry) {
                first = Some((at, worth));
            }
        }
        let first = first?.0;
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
        entries.iter_mut().enumerate().filter_map(|(at, entry)| (entry.new && is_free(entry)).then_some(at)).collect();
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

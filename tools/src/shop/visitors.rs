//! What the visitors of the generated shop do: each has tastes, and they change.
//!
//! A visitor likes a few shelves, two brands and a style. A session stays with one shelf and walks from an item to one that belongs to
//! it, or to another that fits the taste; now and then it looks at what everybody looks at. Between sessions the taste drifts, and the
//! next session often goes on where the last one stopped: so the last interactions say more than the older ones.

use super::catalogue::{Catalogue, Item};
use super::dice::{Dice, Odds, Stream};
use super::words;
use super::{END_S, WINDOW_DAYS};

const SECONDS_PER_DAY: u64 = 86_400;
/// Sessions of a visitor and views of a session, at most.
const SESSIONS_MAX: f64 = 60.0;
const VIEWS_MAX: usize = 25;
/// Interactions of a session, at most: each view may be followed by three more.
const SESSION_EVENTS_MAX: usize = 4 * VIEWS_MAX;
/// Interactions of a visitor, at most. Whoever has more is no person.
pub const PERSON_EVENTS_MAX: usize = 1_000;
/// Seconds before the end of the log at which the last session begins.
const LAST_BEGIN_S: u64 = 7_200;
/// Share of the visitors who were there before the log begins.
const REGULARS: f64 = 0.5;
/// Chance that a session goes on where the last one stopped.
const GOES_ON: f64 = 0.35;
/// Chance that the taste has changed between two sessions.
const DRIFT: f64 = 0.3;
/// Chances of the next step: to an item that belongs to this one, to one of the shelf that fits the taste, else anywhere.
const RELATED: f64 = 0.5;
const TO_TASTE: f64 = 0.38;
/// Mean of how many items a walk goes back before it goes on, rounded down.
const STEPS_BACK: f64 = 2.0;
/// How often people shop at each hour of the day, UTC.
const HOURS: [f64; 24] = [
    2.0, 1.0, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 5.0, 6.0, 6.0, 6.0, 7.0, 6.0, 5.0, 5.0, 6.0, 7.0, 9.0, 11.0, 12.0, 11.0,
    7.0, 4.0,
];

/// What a visitor did with an item. The names are those of the default weighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looked at its page.
    View,
    /// Came to its page from a search.
    SearchClick,
    /// Put it into the cart.
    Cart,
    /// Bought it.
    Purchase,
    /// Said that it is good.
    Like,
    /// Said that it is not.
    Dislike,
}

/// One interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The item's number.
    pub item: usize,
    /// What happened.
    pub kind: Kind,
    /// How many were bought; 1 for all else.
    pub quantity: u8,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// Which of the visitor's sessions it was in.
    pub session: u32,
}

/// A visitor in the middle of doing things.
#[derive(Clone, Debug)]
pub struct Visitor<'a> {
    catalogue: &'a Catalogue,
    dice: Dice,
    taste: Taste,
    /// What was looked at, the newest last.
    looked_at: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Taste {
    /// The newest love is the last, and the strongest.
    shelves: Vec<usize>,
    brands: [u8; 2],
    style: u8,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::View, Self::SearchClick, Self::Cart, Self::Purchase, Self::Like, Self::Dislike];

    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::SearchClick => "search_click",
            Self::Cart => "cart",
            Self::Purchase => "purchase",
            Self::Like => "like",
            Self::Dislike => "dislike",
        }
    }
}

impl<'a> Visitor<'a> {
    /// A visitor who has done nothing yet.
    pub fn new(number: u64, catalogue: &'a Catalogue, seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Visitor(number));
        let taste = Taste::new(catalogue, &mut dice);
        Self { catalogue, dice, taste, looked_at: Vec::new() }
    }

    /// Everything that the visitor does, into `events`, in the order of time.
    pub fn events(mut self, events: &mut Vec<Event>) {
        events.clear();
        for (number, begin) in (0..).zip(self.session_times()) {
            if events.len() + SESSION_EVENTS_MAX > PERSON_EVENTS_MAX {
                break;
            }
            if number > 0 && self.dice.chance(DRIFT) {
                self.taste.drift(self.catalogue, &mut self.dice);
            }
            self.session(number, begin, events);
        }
        // Sessions may overlap: people have two devices.
        events.sort_by_key(|event| event.at_s);
    }

    fn session_times(&mut self) -> Vec<u64> {
        let dice = &mut self.dice;
        let hours = Odds::new(HOURS);
        let n = (0.75 + 0.9 * dice.normal()).exp().ceil().clamp(1.0, SESSIONS_MAX) as usize;
        let days = f64::from(WINDOW_DAYS);
        let arrived = if dice.chance(REGULARS) { 0.0 } else { dice.unit() * days };
        let begin = END_S - u64::from(WINDOW_DAYS) * SECONDS_PER_DAY;
        let mut times: Vec<u64> = (0..n)
            .map(|_| {
                let day = (arrived + dice.unit() * (days - arrived)) as u64;
                let second = hours.draw(dice) as u64 * 3_600 + dice.below(3_600) as u64;
                (begin + day * SECONDS_PER_DAY + second).min(END_S - LAST_BEGIN_S)
            })
            .collect();
        times.sort_unstable();
        times
    }

    fn session(&mut self, session: u32, begin: u64, events: &mut Vec<Event>) {
        let mut shelf = self.taste.shelf(&mut self.dice);
        let mut at_s = begin;
        let going_on = self.one_of_the_last().filter(|_| self.dice.chance(GOES_ON));
        let mut searched = going_on.is_none();
        let mut item = match going_on {
            Some(last) => {
                shelf = self.shelf_of(last);
                self.catalogue.related(last, at_s, &mut self.dice)
            }
            None => self.pick_by_taste(shelf, at_s),
        };
        let mut basket = Vec::new();
        let views = (2 + self.dice.exponential(4.5) as usize).min(VIEWS_MAX);
        for _ in 0..views {
            let kind = if searched && self.dice.chance(0.35) { Kind::SearchClick } else { Kind::View };
            let event = Event { item, kind, quantity: 1, at_s, session };
            events.push(event);
            self.looked_at.push(item);
            at_s = self.react(&event, &mut basket, events) + 8 + self.dice.exponential(35.0).min(90.0) as u64;
            (item, searched) = self.next(shelf, at_s);
        }
        if self.dice.chance(0.45) {
            at_s += 40;
            for item in basket {
                let quantity = if self.dice.chance(0.1) { 2 + self.dice.below(2) as u8 } else { 1 };
                events.push(Event { item, kind: Kind::Purchase, quantity, at_s, session });
            }
        }
    }

    /// What follows a look at an item, and when it is over.
    fn react(&mut self, seen: &Event, basket: &mut Vec<usize>, events: &mut Vec<Event>) -> u64 {
        let mut at_s = seen.at_s;
        let mut does = |kind| {
            at_s += 5;
            events.push(Event { kind, at_s, ..*seen });
        };
        let fit = self.catalogue.item(seen.item).map_or(0.0, |item| self.taste.fit(item));
        if self.dice.chance(0.03 * fit) {
            does(Kind::Like);
        } else if fit < 1.0 && self.dice.chance(0.03) {
            does(Kind::Dislike);
        }
        if self.dice.chance(0.1 * fit) && !basket.contains(&seen.item) {
            does(Kind::Cart);
            basket.push(seen.item);
        }
        at_s
    }

    /// The item looked at next, and whether it was searched for.
    fn next(&mut self, shelf: usize, at_s: u64) -> (usize, bool) {
        let chance = self.dice.unit();
        if let Some(item) = self.one_of_the_last().filter(|_| chance < RELATED) {
            (self.catalogue.related(item, at_s, &mut self.dice), false)
        } else if chance < RELATED + TO_TASTE {
            (self.pick_by_taste(shelf, at_s), true)
        } else {
            let shelf = self.catalogue.any_shelf(&mut self.dice);
            (self.catalogue.pick(shelf, at_s, &mut self.dice), false)
        }
    }

    /// Of a few popular items of a shelf the one that fits best.
    fn pick_by_taste(&mut self, shelf: usize, at_s: u64) -> usize {
        const LOOKED_AT: usize = 3;
        let mut best = (f64::NEG_INFINITY, 0);
        for _ in 0..LOOKED_AT {
            let item = self.catalogue.pick(shelf, at_s, &mut self.dice);
            let fit = self.catalogue.item(item).map_or(0.0, |item| self.taste.fit(item));
            if fit > best.0 {
                best = (fit, item);
            }
        }
        best.1
    }

    /// Where a walk goes on: not always at the very last item, for people go back.
    fn one_of_the_last(&mut self) -> Option<usize> {
        let back = self.dice.exponential(STEPS_BACK) as usize;
        let newest = self.looked_at.len().checked_sub(1)?;
        self.looked_at.get(newest.saturating_sub(back)).copied()
    }

    fn shelf_of(&self, item: usize) -> usize {
        self.catalogue.item(item).map_or(0, |item| usize::from(item.shelf))
    }
}

impl Taste {
    fn new(catalogue: &Catalogue, dice: &mut Dice) -> Self {
        let first = catalogue.any_shelf(dice);
        let mut taste = Self {
            shelves: vec![first],
            brands: [dice.below(words::BRANDS) as u8, dice.below(words::BRANDS) as u8],
            style: dice.below(words::STYLES) as u8,
        };
        for _ in 0..dice.below(3) {
            taste.drift(catalogue, dice);
        }
        taste
    }

    /// A new love comes, near an old one half of the time; the oldest goes when there are too many.
    fn drift(&mut self, catalogue: &Catalogue, dice: &mut Dice) {
        const SHELVES_LIKED: usize = 3;
        let near = self.shelves.last().copied().filter(|_| dice.chance(0.5));
        let shelf = near.map_or_else(|| catalogue.any_shelf(dice), |shelf| catalogue.goes_with(shelf));
        self.shelves.retain(|liked| *liked != shelf);
        self.shelves.push(shelf);
        if self.shelves.len() > SHELVES_LIKED {
            self.shelves.remove(0);
        }
    }

    /// The shelf of a session: the newest love twice as likely as the one before it, and so on.
    fn shelf(&self, dice: &mut Dice) -> usize {
        let newest_first = self.shelves.iter().rev();
        newest_first.copied().find(|_| dice.chance(0.6)).or(self.shelves.last().copied()).unwrap_or(0)
    }

    /// How well an item fits: above 1 it is liked.
    fn fit(&self, item: Item) -> f64 {
        let brand = if self.brands.contains(&item.brand) { 1.8 } else { 0.8 };
        brand * if self.style == item.style { 1.7 } else { 0.9 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use kindred::user_vector::Weighting;

    use super::*;

    fn all(n_items: usize, n_visitors: u64) -> (Catalogue, Vec<Vec<Event>>) {
        let catalogue = Catalogue::new(n_items, 5);
        let visit = |number| {
            let mut events = Vec::new();
            Visitor::new(number, &catalogue, 5).events(&mut events);
            events
        };
        let log = (0..n_visitors).map(visit).collect();
        (catalogue, log)
    }

    #[test]
    fn every_event_names_an_item_a_known_kind_and_a_time_within_the_window() {
        let weights = Weighting::default().kinds;
        assert!(Kind::ALL.iter().all(|kind| weights.contains_key(kind.name())));
        for n_items in [20, 300] {
            let (catalogue, log) = all(n_items, 300);
            let begin = END_S - u64::from(WINDOW_DAYS) * SECONDS_PER_DAY;
            for event in log.iter().flatten() {
                assert!(event.item < catalogue.len() && (begin..END_S).contains(&event.at_s), "{event:?}");
            }
            assert!(log.iter().all(|events| events.len() >= 2 && events.is_sorted_by_key(|event| event.at_s)));
        }
    }

    #[test]
    fn there_is_a_funnel_and_a_long_tail() {
        let (catalogue, log) = all(2_000, 4_000);
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut touched = vec![0_usize; catalogue.len()];
        for event in log.iter().flatten() {
            *kinds.entry(event.kind).or_default() += 1;
            touched[event.item] += 1;
        }
        let total: usize = kinds.values().sum();
        assert!((80_000..140_000).contains(&total), "{total} interactions: {kinds:?}");
        let of = |kind| kinds.get(&kind).copied().unwrap_or(0);
        assert!(of(Kind::View) > 5 * of(Kind::Cart) && of(Kind::Cart) > of(Kind::Purchase), "{kinds:?}");
        assert!(
            of(Kind::Purchase) > 1_000 && of(Kind::Like) > of(Kind::Dislike) && of(Kind::Dislike) > 100,
            "{kinds:?}"
        );
        touched.sort_unstable_by(|a, b| b.cmp(a));
        let head: usize = touched.iter().take(200).sum();
        let share = head as f64 / total as f64;
        assert!((0.2..0.6).contains(&share), "a tenth of the items has {share} of the interactions");
        assert!(touched.iter().filter(|count| **count == 0).count() < 100);
    }

    #[test]
    fn whoever_knows_what_was_looked_at_last_guesses_far_better_than_popularity() {
        let (catalogue, log) = all(2_000, 4_000);
        let mut count: HashMap<usize, usize> = HashMap::new();
        log.iter().flatten().for_each(|event| *count.entry(event.item).or_default() += 1);
        let mut popular: Vec<usize> = (0..catalogue.len()).collect();
        popular.sort_by_key(|item| std::cmp::Reverse(count.get(item).copied().unwrap_or(0)));
        let (mut asked, mut by_popularity, mut by_line, mut by_old_line) = (0, 0, 0, 0);
        for events in &log {
            let seen: HashSet<usize> = events.iter().take(events.len() - 1).map(|event| event.item).collect();
            let Some(target) = events.last().filter(|last| !seen.contains(&last.item)) else { continue };
            let line = |item: usize| catalogue.item(item).map(|one| (one.shelf, one.brand, one.style));
            let guess = |from: &mut dyn Iterator<Item = &Event>| {
                let lines: Vec<_> = from.take(5).map(|event| line(event.item)).collect();
                let near = lines.iter().flat_map(|of| popular.iter().filter(move |item| line(**item) == *of));
                near.filter(|item| !seen.contains(item)).take(10).any(|item| *item == target.item)
            };
            asked += 1;
            by_popularity += usize::from(
                popular.iter().filter(|item| !seen.contains(item)).take(10).any(|item| *item == target.item),
            );
            by_line += usize::from(guess(&mut events.iter().rev().skip(1)));
            by_old_line += usize::from(guess(&mut events.iter()));
        }
        assert!(asked > 1_000);
        assert!(by_line > 8 * by_popularity, "line {by_line}, popularity {by_popularity} of {asked}");
        assert!(by_line * 10 > asked * 3, "line {by_line} of {asked}");
        assert!(by_line > 2 * by_old_line, "the last {by_line}, the first {by_old_line}: recency matters");
    }
}

//! What lists that were shown have come to: click-through, conversion, and what they would have been worth without exploration.
//!
//! A list is a sample, and samples are taken to be independent, since the log names no visitor: where few visitors ask for very many lists the
//! intervals are too narrow. An item of a list is clicked once or not at all, however often it was.
//!
//! Off-policy: the logged lists are those of a policy that leaves some places to chance and says how likely what it did was. What the same lists
//! would be worth with nothing left to chance is estimated from the places where chance had no say in the end, each weighed by one over its
//! propensity (inverse propensity scoring; Horvitz, Thompson 1952). SNIPS (Swaminathan, Joachims 2015) divides by the sum of the weights instead of
//! the number of places: a little bias for much less variance. Both take it that whether an item is clicked does not depend on its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use kindred::people::shown::Logged;
use kindred::user_vector::NOT_INTERESTED;
use serde::Serialize;

use crate::metrics::bootstrap::{UNITS_MAX, ratio_interval};

/// The placement of an item that chance alone has put where it is.
const EXPLORED: &str = "explored";

/// The kinds by which people turn down what they are shown: no clicks, unless they are asked for.
const TURNED_DOWN: [&str; 2] = [NOT_INTERESTED, "dislike"];

/// A number, and where it lies in 95 of 100 samples of lists.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Where it lies.
    pub interval: [f64; 2],
}

/// Lists of one scenario, or of one variant of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The scenario that was asked for.
    pub scenario: String,
    /// The experiment, where only the lists of one of its variants are looked at.
    pub experiment: Option<String>,
    /// That variant.
    pub variant: Option<String>,
    /// Lists.
    pub lists: u64,
    /// Items in them.
    pub items: u64,
    /// The share of lists with a click.
    pub click_through: Estimate,
    /// The share of shown items that were clicked.
    pub item_click_through: Estimate,
    /// The share of lists that led to an interaction of a kind, by kind.
    pub conversion: BTreeMap<String, Estimate>,
    /// What the lists would have been worth without exploration.
    pub without_exploration: OffPolicy,
}

/// The share of shown items that would have been clicked, had nothing been left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OffPolicy {
    /// Items that chance alone put into the lists.
    pub explored: u64,
    /// By inverse propensity scoring.
    pub ips: Estimate,
    /// The same, self-normalised.
    pub snips: Estimate,
    /// As many items without weights would say as much: `(Σw)² / Σw²`.
    pub effective_items: f64,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    groups: BTreeMap<Name, Listed>,
    /// Kinds of interaction that were met, by their numbers in [`Sums`].
    kinds: Vec<String>,
    /// Outcomes with an item that was not in the list, which count nowhere.
    pub elsewhere: u64,
}

/// A scenario, with an experiment and a variant or without.
type Name = (String, Option<(String, String)>);

/// Lists of one name. Of very many several are one, as the intervals take them: however many there are, they take no more memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Listed {
    n: usize,
    units: Vec<Sums>,
}

/// What one list adds to the sums, or several that do not stand beside each other.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    lists: f64,
    /// Lists with a click.
    lists_clicked: f64,
    items: f64,
    clicked: f64,
    explored: f64,
    /// Σ w over its items, Σ w², and Σ w over those that were clicked.
    weights: f64,
    squares: f64,
    clicked_weights: f64,
    /// Lists that led to an interaction of a kind.
    kinds: BTreeMap<usize, f64>,
}

impl Listed {
    fn push(&mut self, list: Sums) {
        match self.units.get_mut(self.n % UNITS_MAX) {
            Some(unit) => unit.add(list),
            None => self.units.push(list),
        }
        self.n += 1;
    }
}

impl Sums {
    fn add(&mut self, list: Self) {
        let Self { lists, lists_clicked, items, clicked, explored, weights, squares, clicked_weights, kinds } = list;
        self.lists += lists;
        self.lists_clicked += lists_clicked;
        self.items += items;
        self.clicked += clicked;
        self.explored += explored;
        self.weights += weights;
        self.squares += squares;
        self.clicked_weights += clicked_weights;
        for (kind, lists) in kinds {
            *self.kinds.entry(kind).or_default() += lists;
        }
    }
}

impl Lists {
    /// Takes a list, with what came of it. `click` names the kinds that count as a click; none for all but `not_interested`
    /// and `dislike`.
    pub fn add(&mut self, logged: &Logged, click: &[String]) {
        let Logged { shown, outcomes } = logged;
        let counts = |kind: &str| match click {
            [] => !TURNED_DOWN.contains(&kind),
            kinds => kinds.iter().any(|one| one == kind),
        };
        let mut list = Sums { lists: 1.0, items: shown.items.len() as f64, ..Sums::default() };
        let mut clicked = BTreeSet::new();
        for outcome in outcomes {
            if !shown.items.iter().any(|item| item.item_id == outcome.item_id) {
                self.elsewhere += 1;
                continue;
            }
            list.kinds.insert(self.kind(&outcome.kind), 1.0);
            if counts(&outcome.kind) {
                clicked.insert(outcome.item_id.as_str());
            }
        }
        for item in &shown.items {
            let is_explored = item.placement.as_deref() == Some(EXPLORED);
            // A propensity of zero would have been a list that could not be.
            let weight = if is_explored || item.propensity <= 0.0 { 0.0 } else { 1.0 / item.propensity };
            let is_clicked = clicked.contains(item.item_id.as_str());
            list.explored += f64::from(u8::from(is_explored));
            list.clicked += f64::from(u8::from(is_clicked));
            list.weights += weight;
            list.squares += weight * weight;
            list.clicked_weights += if is_clicked { weight } else { 0.0 };
        }
        list.lists_clicked = f64::from(u8::from(list.clicked > 0.0));
        if shown.experiment.is_some() {
            let name = (shown.scenario.clone(), shown.experiment.clone());
            self.groups.entry(name).or_default().push(list.clone());
        }
        self.groups.entry((shown.scenario.clone(), None)).or_default().push(list);
    }

    fn kind(&mut self, name: &str) -> usize {
        self.kinds.iter().position(|kind| kind == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }

    /// What they have come to: scenarios by name, each followed by the variants in it. `seed` decides the draws behind the intervals.
    pub fn groups(&self, seed: u64) -> Vec<Group> {
        self.groups
            .iter()
            .map(|((scenario, variant), listed)| self.group(scenario, variant.as_ref(), listed, seed))
            .collect()
    }

    fn group(&self, scenario: &str, variant: Option<&(String, String)>, listed: &Listed, seed: u64) -> Group {
        let Listed { n, units } = listed;
        let ratio = |part: &dyn Fn(&Sums) -> (f64, f64)| {
            let parts: Vec<(f64, f64)> = units.iter().map(part).collect();
            let (sum, of) = parts.iter().fold((0.0, 0.0), |sums, part| (sums.0 + part.0, sums.1 + part.1));
            Estimate { value: if of == 0.0 { 0.0 } else { sum / of }, interval: ratio_interval(&parts, seed) }
        };
        let sum = |part: &dyn Fn(&Sums) -> f64| units.iter().map(part).sum::<f64>();
        let led_to = |kind: usize| ratio(&|unit| (unit.kinds.get(&kind).copied().unwrap_or_default(), unit.lists));
        let is_met = |kind: &usize| units.iter().any(|unit| unit.kinds.contains_key(kind));
        let met = self.kinds.iter().enumerate().filter(|(kind, _)| is_met(kind));
        let (weights, squares) = (sum(&|unit| unit.weights), sum(&|unit| unit.squares));
        Group {
            scenario: scenario.to_owned(),
            experiment: variant.map(|(experiment, _)| experiment.clone()),
            variant: variant.map(|(_, variant)| variant.clone()),
            lists: *n as u64,
            items: sum(&|unit| unit.items) as u64,
            click_through: ratio(&|unit| (unit.lists_clicked, unit.lists)),
            item_click_through: ratio(&|unit| (unit.clicked, unit.items)),
            conversion: met.map(|(kind, name)| (name.clone(), led_to(kind))).collect(),
            without_exploration: OffPolicy {
                explored: sum(&|unit| unit.explored) as u64,
                ips: ratio(&|unit| (unit.clicked_weights, unit.items)),
                snips: ratio(&|unit| (unit.clicked_weights, unit.weights)),
                effective_items: if squares == 0.0 { 0.0 } else { weights * weights / squares },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kindred::people::shown::{Outcome, Shown, ShownItem};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Items as (id, propensity, explored); outcomes as (id, kind).
    fn logged(variant: Option<&str>, items: &[(&str, f64, bool)], outcomes: &[(&str, &str)]) -> Logged {
        let item = |(id, propensity, explored): &(&str, f64, bool)| ShownItem {
            item_id: (*id).to_owned(),
            score: 1.0,
            source: "vector".to_owned(),
            placement: explored.then(|| EXPLORED.to_owned()),
            propensity: *propensity,
        };
        let outcome =
            |(id, kind): &(&str, &str)| Outcome { item_id: (*id).to_owned(), kind: (*kind).to_owned(), at_ms: 0 };
        let shown = Shown {
            recommendation_id: String::new(),
            at_ms: 0,
            scenario: "home".to_owned(),
            experiment: variant.map(|variant| ("x".to_owned(), variant.to_owned())),
            generation: String::new(),
            fallback: None,
            items: items.iter().map(item).collect(),
            history: Vec::new(),
        };
        Logged { shown, outcomes: outcomes.iter().map(outcome).collect() }
    }

    #[test]
    fn rates_and_estimates_by_hand() {
        let mut lists = Lists::default();
        let two = [("a", 0.8, false), ("b", 0.5, false)];
        // Clicked twice is clicked once; an item that was not shown counts nowhere.
        lists.add(
            &logged(Some("control"), &two, &[("a", "view"), ("a", "view"), ("a", "purchase"), ("z", "view")]),
            &[],
        );
        lists.add(&logged(Some("other"), &[("c", 0.1, true), ("b", 0.5, false)], &[("c", "view"), ("b", "view")]), &[]);
        // To turn something down is no click, but a conversion of its own kind.
        let turned_down = [("d", NOT_INTERESTED), ("a", "dislike")];
        lists.add(&logged(None, &[("a", 1.0, false), ("d", 1.0, false)], &turned_down), &[]);
        lists.add(&logged(None, &two, &[]), &[]);
        assert_eq!(lists.elsewhere, 1);
        let groups = lists.groups(1);
        let names: Vec<Option<&str>> = groups.iter().map(|group| group.variant.as_deref()).collect();
        assert_eq!(names, [None, Some("control"), Some("other")]);
        let all = &groups[0];
        assert_eq!((all.lists, all.items, all.without_exploration.explored), (4, 8, 1));
        assert_eq!((all.click_through.value, all.item_click_through.value), (0.5, 3.0 / 8.0));
        let conversion: Vec<(&str, f64)> =
            all.conversion.iter().map(|(kind, share)| (kind.as_str(), share.value)).collect();
        assert_eq!(conversion, [("dislike", 0.25), (NOT_INTERESTED, 0.25), ("purchase", 0.25), ("view", 0.5)]);
        // Weights: 1.25, 2 | 0, 2 | 1, 1 | 1.25, 2; clicked: a of the first, b of the second.
        let off = &all.without_exploration;
        assert!((off.ips.value - (1.25 + 2.0) / 8.0).abs() < 1e-12, "{off:?}");
        assert!((off.snips.value - 3.25 / 10.5).abs() < 1e-12, "{off:?}");
        let squares = 2.0 * 1.25 * 1.25 + 3.0 * 4.0 + 2.0;
        assert!((off.effective_items - 10.5 * 10.5 / squares).abs() < 1e-9, "{off:?}");
        assert_eq!((groups[1].lists, groups[1].click_through.value), (1, 1.0));
        let mut only = Lists::default();
        only.add(&logged(None, &two, &[("a", "view"), ("b", "purchase")]), &["purchase".to_owned()]);
        assert_eq!(only.groups(1)[0].item_click_through.value, 0.5);
    }

    #[test]
    fn however_many_lists_there_are_they_say_the_same_in_no_more_memory() {
        let (mut lists, outcome) = (Lists::default(), [("a", "view")]);
        for at in 0..2 * UNITS_MAX + 5 {
            let outcomes = if at.is_multiple_of(4) { &outcome[..] } else { &[] };
            lists.add(&logged(None, &[("a", 1.0, false), ("b", 0.5, true)], outcomes), &[]);
        }
        assert!(lists.groups.values().all(|listed| listed.units.len() == UNITS_MAX));
        let group = &lists.groups(1)[0];
        let explored = group.without_exploration.explored;
        assert_eq!((group.lists, group.items, explored), (20_005, 40_010, 20_005));
        let share = 5_002.0 / 20_005.0;
        for found in [group.click_through, group.conversion["view"]] {
            assert!((found.value - share).abs() < 1e-12, "{found:?}");
        }
        assert!((group.item_click_through.value - share / 2.0).abs() < 1e-12, "{group:?}");
    }

    #[test]
    fn without_exploration_is_found_from_lists_with_it() {
        // One place: the best is clicked by 0.3, one of four new ones, drawn with 0.5, by 0.1. The best is new as well.
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut lists = Lists::default();
        for _ in 0..20_000 {
            let drawn = random.random_bool(0.5).then(|| random.random_range(0..4_u32)).filter(|drawn| *drawn != 0);
            let (item, rate) = if drawn.is_some() { ("new", 0.1) } else { ("best", 0.3) };
            let propensity = if drawn.is_some() { 0.125 } else { 0.625 };
            let outcome = [(item, "view")];
            let outcomes = if random.random_bool(rate) { &outcome[..] } else { &[] };
            lists.add(&logged(None, &[(item, propensity, drawn.is_some())], outcomes), &[]);
        }
        let group = &lists.groups(1)[0];
        assert!((group.item_click_through.value - (0.625 * 0.3 + 0.375 * 0.1)).abs() < 0.01, "{group:?}");
        for estimate in [group.without_exploration.ips, group.without_exploration.snips] {
            assert!((estimate.value - 0.3).abs() < 0.015, "{group:?}");
            let [low, high] = estimate.interval;
            assert!(low < 0.3 && 0.3 < high && high - low < 0.03, "{group:?}");
        }
        let width = |estimate: Estimate| estimate.interval[1] - estimate.interval[0];
        let off = group.without_exploration;
        assert!(width(off.snips) < width(off.ips), "self-normalised, it varies less: {off:?}");
    }
}

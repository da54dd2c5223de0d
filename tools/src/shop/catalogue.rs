//! What stands in the generated shop: shelves, lines of items that belong together, and who is popular.
//!
//! The items of a shelf stand in lines of [`LINE`]: one brand, one style, one name. A line is what visitors walk along, and so what
//! collaborative filtering can find without ever being told of it.

use std::collections::BTreeMap;

use kindred::catalog::CatalogItem;
use serde_json::Value;

use super::dice::{Dice, Odds, Stream, zipf};
use super::words::{self, DEPARTMENTS, Department};
use super::{END_S, WINDOW_DAYS};
use crate::calendar::Moment;

/// Items of a line.
pub const LINE: usize = 6;
/// Items below which a shelf is not worth having.
const SHELF_ITEMS: usize = 12;
/// Shelves of the smallest shop.
const SHELVES_LEAST: usize = 4;
/// Share of the items that came within the window of the log.
const NEWCOMERS: f64 = 0.06;
/// Days that an item is new.
const NEW_DAYS: u32 = 21;
/// Days that the oldest item has been there.
const OLDEST_DAYS: usize = 900;
/// Share of the items that are sold out.
const SOLD_OUT: f64 = 0.04;
/// Share of picks that fall on what is new, where something is.
const NEW_PICKS: f64 = 0.1;
const SECONDS_PER_DAY: u64 = 86_400;

/// All items, and how they are found.
#[derive(Clone, Debug)]
pub struct Catalogue {
    seed: u64,
    items: Vec<Item>,
    shelves: Vec<Shelf>,
    shelf_odds: Odds,
}

/// What visitors go by. The rest is made when an item is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The shelf it stands on.
    pub shelf: u16,
    /// Its brand, among those of the department.
    pub brand: u8,
    /// Its style.
    pub style: u8,
    /// Days before the end of the log on which it was added.
    pub age_days: u16,
}

#[derive(Clone, Debug)]
struct Shelf {
    first: usize,
    len: usize,
    odds: Odds,
    newcomers: Vec<usize>,
    goes_with: usize,
}

impl Catalogue {
    /// Lays out a shop. Takes some 20 bytes an item.
    pub fn new(n_items: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Layout);
        let most = DEPARTMENTS.len() * words::SHELVES;
        let n_shelves = (n_items / SHELF_ITEMS).clamp(SHELVES_LEAST, most).min(n_items.max(1));
        let mut catalogue = Self {
            seed,
            items: Vec::with_capacity(n_items),
            shelves: Vec::with_capacity(n_shelves),
            shelf_odds: Odds::default(),
        };
        for shelf in 0..n_shelves {
            let len = (shelf + 1) * n_items / n_shelves - shelf * n_items / n_shelves;
            catalogue.fill_shelf(shelf, len, &mut dice);
        }
        let mut weights: Vec<f64> = zipf(n_shelves, 6.0, 1.0).collect();
        dice.shuffle(&mut weights);
        catalogue.shelf_odds = Odds::new(weights);
        catalogue
    }

    fn fill_shelf(&mut self, number: usize, len: usize, dice: &mut Dice) {
        let first = self.items.len();
        let mut newcomers = Vec::new();
        let mut line = (0, 0);
        for place in 0..len {
            if place % LINE == 0 {
                line = (dice.below(words::BRANDS) as u8, dice.below(words::STYLES) as u8);
            }
            // The first of a shelf is old, so that there always is something to see.
            let is_new = place > 0 && dice.chance(NEWCOMERS);
            let age_days = if is_new {
                newcomers.push(first + place);
                dice.below(WINDOW_DAYS as usize - 2) + 1
            } else {
                WINDOW_DAYS as usize + dice.below(OLDEST_DAYS)
            };
            self.items.push(Item { shelf: number as u16, brand: line.0, style: line.1, age_days: age_days as u16 });
        }
        let mut weights: Vec<f64> = zipf(len, 3.0, 0.9).collect();
        dice.shuffle(&mut weights);
        self.shelves.push(Shelf { first, len, odds: Odds::new(weights), newcomers, goes_with: goes_with(number) });
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of shelves.
    pub fn n_shelves(&self) -> usize {
        self.shelves.len()
    }

    /// An item; none beyond the end.
    pub fn item(&self, number: usize) -> Option<Item> {
        self.items.get(number).copied()
    }

    /// A shelf, by how well it sells.
    pub fn any_shelf(&self, dice: &mut Dice) -> usize {
        self.shelf_odds.draw(dice)
    }

    /// The shelf that goes with this one: another of the department, where the shop has one.
    pub fn goes_with(&self, shelf: usize) -> usize {
        self.shelves
            .get(shelf)
            .map(|shelf| shelf.goes_with)
            .filter(|other| *other < self.shelves.len())
            .unwrap_or(shelf)
    }

    /// An item of a shelf that is there at a time, by popularity; now and then one that is new.
    pub fn pick(&self, shelf: usize, at_s: u64, dice: &mut Dice) -> usize {
        const TRIES: usize = 8;
        let Some(shelf) = self.shelves.get(shelf) else { return 0 };
        if dice.chance(NEW_PICKS) {
            let new = shelf.newcomers.get(dice.below(shelf.newcomers.len())).copied();
            if let Some(new) = new.filter(|new| self.is_new(*new, at_s)) {
                return new;
            }
        }
        let drawn = (0..TRIES).map(|_| shelf.first + shelf.odds.draw(dice)).find(|item| self.is_there(*item, at_s));
        drawn.unwrap_or(shelf.first)
    }

    /// An item that belongs to this one: of its line as a rule, else of the line beside it, else of the shelf that goes with its own.
    pub fn related(&self, item: usize, at_s: u64, dice: &mut Dice) -> usize {
        let Some((shelf, place)) = self.place(item) else { return item };
        let chance = dice.unit();
        let found = if chance < 0.75 {
            let line = place - place % LINE;
            let len = LINE.min(shelf.len - line);
            // Near ones are likelier, and the line is a ring.
            let step = 1 + dice.exponential(1.0) as usize;
            shelf.first + line + (place - line + step) % len
        } else if chance < 0.9 {
            shelf.first + (place + if dice.chance(0.5) { LINE } else { shelf.len.saturating_sub(LINE) }) % shelf.len
        } else {
            let with = self.shelves.get(shelf.goes_with).unwrap_or(shelf);
            with.first + (place * with.len / shelf.len).min(with.len.saturating_sub(1))
        };
        if found != item && self.is_there(found, at_s) { found } else { self.pick(self.shelf_of(item), at_s, dice) }
    }

    fn place(&self, item: usize) -> Option<(&Shelf, usize)> {
        let shelf = self.shelves.get(self.shelf_of(item))?;
        item.checked_sub(shelf.first).filter(|place| *place < shelf.len).map(|place| (shelf, place))
    }

    fn shelf_of(&self, item: usize) -> usize {
        self.items.get(item).map_or(0, |item| usize::from(item.shelf))
    }

    fn is_there(&self, item: usize, at_s: u64) -> bool {
        self.items.get(item).is_some_and(|item| added_s(*item) <= at_s)
    }

    fn is_new(&self, item: usize, at_s: u64) -> bool {
        let new_s = u64::from(NEW_DAYS) * SECONDS_PER_DAY;
        self.items.get(item).is_some_and(|item| (added_s(*item)..added_s(*item) + new_s).contains(&at_s))
    }

    /// The catalogue entry of an item; none beyond the end. Items that belong together share brand, style, name and price level.
    pub fn describe(&self, number: usize) -> Option<CatalogItem> {
        let item = self.items.get(number)?;
        let (shelf, place) = self.place(number)?;
        let (department, words) = shelf_words(usize::from(item.shelf))?;
        let mut of_line = Dice::new(self.seed, Stream::Line((shelf.first + place - place % LINE) as u64));
        let mut own = Dice::new(self.seed, Stream::Item(number as u64));
        let name = line_name(&mut of_line);
        let price_level = (0.35 * of_line.normal()).exp();
        let noun = words.nouns.get((of_line.below(words::NOUNS) + place % LINE / 2) % words::NOUNS).copied()?;
        let variant =
            department.variants.get((of_line.below(64) + place % LINE) % department.variants.len()).copied()?;
        let brand = department.brands.get(usize::from(item.brand)).copied()?;
        let style = department.styles.get(usize::from(item.style)).copied()?;
        let rating = (4.2 + 0.45 * own.normal()).clamp(1.0, 5.0);
        let added = Moment(added_s(*item)).rfc3339();
        let attributes = [
            ("brand", Value::from(brand)),
            (department.variant, Value::from(variant)),
            ("style", Value::from(style)),
            ("rating", Value::from((rating * 10.0).round() / 10.0)),
            ("added", Value::from(added.get(..10).unwrap_or_default())),
        ];
        let title = format!("{brand} {name} {noun}, {variant}");
        let description = format!("{} From the {style} {name} line by {brand}.", words.says);
        Some(CatalogItem {
            title,
            description,
            categories: vec![department.name.to_owned(), words.name.to_owned()],
            price: Some(price(words.price * price_level * (0.12 * own.normal()).exp())),
            available: !own.chance(SOLD_OUT),
            attributes: attributes
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
            ..CatalogItem::new(item_id(number))
        })
    }
}

/// The id of an item.
pub fn item_id(number: usize) -> String {
    format!("item-{number:05}")
}

/// When an item was added.
fn added_s(item: Item) -> u64 {
    END_S.saturating_sub(u64::from(item.age_days) * SECONDS_PER_DAY)
}

/// Shelves are opened department by department in rounds, so that a small shop has a little of everything.
fn shelf_words(number: usize) -> Option<(&'static Department, &'static words::Shelf)> {
    let department = DEPARTMENTS.get(number % DEPARTMENTS.len())?;
    Some((department, department.shelves.get(number / DEPARTMENTS.len())?))
}

fn goes_with(number: usize) -> usize {
    (number + DEPARTMENTS.len()) % (DEPARTMENTS.len() * words::SHELVES)
}

fn line_name(dice: &mut Dice) -> String {
    let (beginning, middle) = (dice.word(&words::LINE_BEGINNINGS), dice.word(&words::LINE_MIDDLES));
    format!("{beginning}{middle}{}", dice.word(&words::LINE_ENDS))
}

/// As prices are written: in tens of cents below 10, else ending in 9, or 90 cents.
fn price(exact: f64) -> f64 {
    let cents = if exact < 10.0 {
        (exact * 10.0).round().max(5.0) * 10.0 - 1.0
    } else if exact < 60.0 {
        exact.round() * 100.0 - 10.0
    } else {
        (exact / 10.0).round() * 1_000.0 - 100.0
    };
    cents / 100.0
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn entries_are_whole_and_their_own() {
        for n_items in [20, 120, 2_000] {
            let catalogue = Catalogue::new(n_items, 1);
            let entries: Vec<CatalogItem> = (0..n_items).map(|number| catalogue.describe(number).unwrap()).collect();
            assert!(catalogue.describe(n_items).is_none());
            let ids: HashSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
            assert_eq!(ids.len(), n_items);
            for entry in &entries {
                entry.to_json().unwrap();
                assert!(entry.price.unwrap() > 0.0 && entry.categories.len() == 2, "{entry:?}");
            }
            let titles: HashSet<&str> = entries.iter().map(|entry| entry.title.as_str()).collect();
            assert!(titles.len() * 100 >= n_items * 98, "{} titles", titles.len());
        }
    }

    #[test]
    fn the_shop_has_eight_departments_a_few_sold_out_and_prices_by_shelf() {
        let catalogue = Catalogue::new(2_000, 1);
        let mut prices: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut sold_out = 0;
        for entry in (0..2_000).filter_map(|number| catalogue.describe(number)) {
            prices.entry(entry.categories[1].clone()).or_default().push(entry.price.unwrap());
            sold_out += usize::from(!entry.available);
        }
        assert_eq!(prices.len(), DEPARTMENTS.len() * words::SHELVES);
        assert!((40..140).contains(&sold_out), "{sold_out}");
        let median = |shelf: &str| {
            let mut prices = prices[shelf].clone();
            prices.sort_by(f64::total_cmp);
            prices[prices.len() / 2]
        };
        assert!(median("Sofas") > 10.0 * median("Seeds"), "{} {}", median("Sofas"), median("Seeds"));
    }

    #[test]
    fn nothing_is_seen_before_it_is_added() {
        let catalogue = Catalogue::new(500, 3);
        let begin = END_S - u64::from(WINDOW_DAYS) * SECONDS_PER_DAY;
        let mut dice = Dice::new(3, Stream::Visitor(0));
        let mut new = 0;
        for round in 0..20_000_u64 {
            let at = begin + round * u64::from(WINDOW_DAYS) * SECONDS_PER_DAY / 20_000;
            let picked = catalogue.pick(dice.below(catalogue.n_shelves()), at, &mut dice);
            let related = catalogue.related(picked, at, &mut dice);
            assert!(catalogue.is_there(picked, at) && catalogue.is_there(related, at));
            new += usize::from(catalogue.is_new(picked, at));
        }
        assert!((200..4_000).contains(&new), "{new} of 20000 picks were new");
    }

    #[test]
    fn related_items_share_their_line() {
        let catalogue = Catalogue::new(2_000, 1);
        let mut dice = Dice::new(1, Stream::Visitor(0));
        let same = (0..2_000).filter(|&item| {
            let other = catalogue.related(item, END_S, &mut dice);
            let (one, other) = (catalogue.describe(item).unwrap(), catalogue.describe(other).unwrap());
            one.attributes["brand"] == other.attributes["brand"] && one.categories == other.categories
        });
        let same = same.count();
        assert!((1_300..1_800).contains(&same), "{same} of 2000 stay in the line");
    }

    #[test]
    fn prices_look_like_prices() {
        let prices: Vec<f64> = [0.1, 4.23, 23.4, 187.0].into_iter().map(price).collect();
        assert_eq!(prices, [0.49, 4.19, 22.9, 189.0]);
    }
}

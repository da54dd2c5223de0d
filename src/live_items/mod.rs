//! What changed in the catalogue since an artifact was built, laid over that artifact.
//!
//! An item of the artifact keeps its ordinal and its rows; only what is shown of it, whether it may be shown, and what filters can ask are
//! the change's. An item that the artifact does not know gets an ordinal beyond the artifact's last, and rows of its own. So the rest of the
//! service speaks of ordinals and need not know which is which. Lists of such items are short, since the next build takes them in:
//! they are compared one by one.

mod entry;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;

use kindred_index::{AllowSet, AttributeView, FilterError, FilterExpr, ItemAttributes};

pub use self::entry::{LiveEntry, LiveEntryError};
pub use self::rows::LiveRows;
use crate::catalog::attributes::{EXPIRES_AT, HIDDEN};
use crate::filter::{unheld_key, without};
use crate::limits;
use crate::model::Model;

/// How long nobody gets the ordinal of an item that is gone, beside the time between two rounds of adding up trends: what was counted by ordinal has
/// been counted anew then.
const ORDINAL_RESTS_MS: i64 = 60_000;

/// Changes laid over one artifact.
#[derive(Debug)]
pub struct LiveItems {
    n: u32,
    /// Items of the artifact that changed, in order, so that what is counted over them is the same every time.
    changed: BTreeMap<u32, Arc<LiveEntry>>,
    /// Items beside the artifact, by ordinal from n on; none where one was taken out.
    added: Vec<Option<Added>>,
    /// Places that items were taken out of, and when.
    free: VecDeque<(i64, u32)>,
    /// How long those are nobody's.
    rests_ms: i64,
    by_key: BTreeMap<String, u32>,
    /// Items of the artifact that are there, not hidden and not expired.
    shown: AllowSet,
    /// Those of them that are available.
    recommendable: AllowSet,
    /// When items expire. What the artifact says of them may be here after they have changed.
    expiring: BTreeSet<(i64, u32)>,
    /// Those that have, and what they were before: a clock may be set back.
    expired: BTreeMap<(i64, u32), WasShown>,
    /// Fields that changed and added items have.
    fields: HashMap<String, Held>,
    /// The time that expiry has been seen to.
    now_ms: i64,
    /// Whether the artifact itself hides items or lets them expire.
    restricts: bool,
}

/// Whether lists could hold an item of the artifact before it expired.
#[derive(Clone, Copy, Debug)]
struct WasShown {
    shown: bool,
    recommendable: bool,
}

/// How many changed and added items have a field, and how many of them as text and as numbers. A point is the field of its name, as neither.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    items: u32,
    texts: u32,
    numbers: u32,
}

#[derive(Debug)]
struct Added {
    entry: Arc<LiveEntry>,
    rows: LiveRows,
    shown: bool,
    /// As the entry says. Requests ask this of every item, and an entry lies elsewhere in memory.
    available: bool,
}

impl LiveItems {
    /// No change yet. Costs what evaluating three conditions costs, and a step for each item that expires.
    pub fn new<D: AsRef<[u8]>>(model: &Model<D>, now_ms: i64) -> Self {
        let n = model.len();
        let attributes = model.index().attributes();
        let mut shown = AllowSet::full(n);
        let hidden = FilterExpr::Match { field: HIDDEN.to_owned(), value: true.to_string() };
        // An index without the field hides nothing.
        if let Ok(hidden) = attributes.evaluate(&hidden, n) {
            shown.and_not(&hidden);
        }
        let expiry = attributes.field(EXPIRES_AT);
        let expiring: BTreeSet<_> =
            expiry.into_iter().flat_map(|field| field.numbered()).map(|(ordinal, at)| (at as i64, ordinal)).collect();
        let mut recommendable = shown.clone();
        if let Some(available) = model.available() {
            recommendable.and(available);
        }
        let restricts = shown.cardinality() < n || !expiring.is_empty();
        let mut items = Self {
            n,
            changed: BTreeMap::new(),
            added: Vec::new(),
            free: VecDeque::new(),
            rests_ms: ORDINAL_RESTS_MS,
            by_key: BTreeMap::new(),
            shown,
            recommendable,
            expiring,
            expired: BTreeMap::new(),
            fields: HashMap::new(),
            now_ms,
            restricts,
        };
        items.expire(now_ms);
        items
    }

    /// The same, where trends are added up by ordinal every so many milliseconds.
    #[must_use]
    pub fn with_trends_every(self, refresh_ms: u64) -> Self {
        let refresh_ms = i64::try_from(refresh_ms).unwrap_or(i64::MAX);
        Self { rests_ms: ORDINAL_RESTS_MS.saturating_add(refresh_ms), ..self }
    }

    /// Whether requests can do without: nothing changed, and the artifact hides nothing.
    pub fn is_idle(&self) -> bool {
        !self.restricts && self.is_empty()
    }

    /// Whether the artifact already says what the change says: it has the item as the change left it or as it became later, or does not
    /// have an item that is gone. Costs parsing one entry of the catalogue.
    pub fn is_contained<D: AsRef<[u8]>>(model: &Model<D>, entry: &LiveEntry) -> bool {
        let built = model.index().ordinal(entry.id()).and_then(|ordinal| model.catalog().item(ordinal).ok().flatten());
        match (built, entry.item()) {
            (None, item) => item.is_none(),
            (Some(built), Some(item)) if built.updated_at.is_none() => {
                built == crate::catalog::CatalogItem { updated_at: None, ..item.clone() }
            }
            (Some(built), _) => built.updated_at.is_some_and(|at| at.0 >= entry.updated_at_ms()),
        }
    }

    /// Takes a change in. `rows` are those of an item that the artifact does not know; without them it is kept, and recommended last.
    pub fn apply<D: AsRef<[u8]>>(&mut self, model: &Model<D>, entry: Arc<LiveEntry>, rows: Option<LiveRows>) {
        match model.index().ordinal(entry.id()) {
            Some(ordinal) => self.change(ordinal, entry),
            None => self.add(model.dimensions(), entry, rows),
        }
    }

    fn change(&mut self, ordinal: u32, entry: Arc<LiveEntry>) {
        if let Some(old) = self.changed.remove(&ordinal) {
            self.forget(ordinal, &old);
        }
        self.count_fields(&entry, |count| count + 1);
        self.mark(ordinal, entry.is_shown(self.now_ms), entry.is_recommendable(self.now_ms));
        self.expiring.extend(entry.expires_at_ms().map(|at| (at, ordinal)));
        self.changed.insert(ordinal, entry);
    }

    fn add(&mut self, dimensions: usize, entry: Arc<LiveEntry>, rows: Option<LiveRows>) {
        let own = self.by_key.remove(entry.id());
        if let Some(place) = own
            && let Some(old) = self.added.get_mut(place as usize).and_then(Option::take)
        {
            self.forget(self.n + place, &old.entry);
        }
        let at_ms = entry.updated_at_ms();
        if entry.item().is_none() {
            self.free.extend(own.map(|place| (at_ms, place)));
            return;
        }
        self.count_fields(&entry, |count| count + 1);
        let nothing = || LiveRows { target: vec![0.0; dimensions].into(), context: None };
        let id = entry.id().to_owned();
        let (shown, expires) = (entry.is_shown(self.now_ms), entry.expires_at_ms());
        let available = entry.item().is_some_and(|item| item.available);
        let added = Some(Added { entry, rows: rows.unwrap_or_else(nothing), shown, available });
        let place = match own.or_else(|| self.rested_place(at_ms)) {
            Some(place) => {
                if let Some(slot) = self.added.get_mut(place as usize) {
                    *slot = added;
                }
                place
            }
            None => {
                self.added.push(added);
                (self.added.len() - 1) as u32
            }
        };
        self.by_key.insert(id, place);
        self.expiring.extend(expires.map(|at| (at, self.n + place)));
    }

    /// A place that has been free for long. Where there are as many as there may be, the one that has been so longest.
    fn rested_place(&mut self, now_ms: i64) -> Option<u32> {
        let (since_ms, place) = *self.free.front()?;
        // One that was freed by a clock that was ahead does not hold up those behind it until then.
        let has_rested = now_ms.abs_diff(since_ms) >= self.rests_ms.unsigned_abs();
        if has_rested || self.added.len() >= limits::LIVE_ITEMS_MAX {
            self.free.pop_front();
            return Some(place);
        }
        None
    }

    fn mark(&mut self, ordinal: u32, shown: bool, recommendable: bool) {
        let put = |set: &mut AllowSet, is_in| if is_in { set.insert(ordinal) } else { set.remove(ordinal) };
        put(&mut self.shown, shown);
        put(&mut self.recommendable, recommendable);
    }

    /// Between which times [`LiveItems::expire`] does nothing: from when the last item expired until the next one may.
    pub fn unchanged_ms(&self) -> Range<i64> {
        let last = self.expired.last_key_value().map_or(i64::MIN, |((at, _), _)| *at);
        last..self.expiring.first().map_or(i64::MAX, |(at, _)| *at)
    }

    /// Takes out what has expired by now, and brings back what has not, where the clock was set back. Costs a step per item that did.
    pub fn expire(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        while let Some((at, ordinal)) = self.expiring.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.expiring.pop_first();
            if !self.is_stale(at, ordinal) {
                let was = WasShown {
                    shown: self.shown.contains(ordinal),
                    recommendable: self.recommendable.contains(ordinal),
                };
                self.expired.insert((at, ordinal), was);
                self.show(ordinal, WasShown { shown: false, recommendable: false });
            }
        }
        while let Some(((at, ordinal), was)) = self.expired.pop_last() {
            if at <= now_ms {
                self.expired.insert((at, ordinal), was);
                break;
            }
            if !self.is_stale(at, ordinal) {
                self.expiring.insert((at, ordinal));
                let shown = self.entry(ordinal).map(|entry| WasShown {
                    shown: entry.is_shown(now_ms),
                    recommendable: entry.is_recommendable(now_ms),
                });
                self.show(ordinal, shown.unwrap_or(was));
            }
        }
    }

    /// Whether an item has changed since it was noted when it expires.
    fn is_stale(&self, at: i64, ordinal: u32) -> bool {
        self.entry(ordinal).is_some_and(|entry| entry.expires_at_ms() != Some(at))
    }

    fn show(&mut self, ordinal: u32, is: WasShown) {
        match ordinal.checked_sub(self.n) {
            None => self.mark(ordinal, is.shown, is.recommendable),
            Some(place) => {
                if let Some(added) = self.added.get_mut(place as usize).and_then(Option::as_mut) {
                    added.shown = is.shown;
                }
            }
        }
    }

    /// Counts the fields of an entry, up or down.
    fn count_fields(&mut self, entry: &LiveEntry, step: fn(u32) -> u32) {
        let ItemAttributes { terms, numbers } = entry.attributes();
        // Whether each is there as text, and as numbers.
        let mut fields: BTreeMap<&str, (bool, bool)> =
            entry.attributes().fields().map(|name| (name, (false, false))).collect();
        terms.iter().for_each(|(name, _)| fields.entry(name.as_str()).or_default().0 = true);
        numbers.iter().for_each(|(name, _)| fields.entry(name.as_str()).or_default().1 = true);
        for (name, (is_text, is_number)) in fields {
            if !self.fields.contains_key(name) {
                self.fields.insert(name.to_owned(), Held::default());
            }
            let Some(held) = self.fields.get_mut(name) else { continue };
            held.items = step(held.items);
            held.texts = if is_text { step(held.texts) } else { held.texts };
            held.numbers = if is_number { step(held.numbers) } else { held.numbers };
            if held.items == 0 {
                self.fields.remove(name);
            }
        }
    }

    /// Takes out what was noted of an entry in whose place another comes.
    fn forget(&mut self, ordinal: u32, entry: &LiveEntry) {
        if let Some(at) = entry.expires_at_ms() {
            self.expiring.remove(&(at, ordinal));
            self.expired.remove(&(at, ordinal));
        }
        self.count_fields(entry, |count| count - 1);
    }

    /// One more than the last ordinal.
    pub fn end(&self) -> u32 {
        self.n.saturating_add(self.added.len() as u32)
    }

    /// Items of the artifact that changed.
    pub fn n_changed(&self) -> usize {
        self.changed.len()
    }

    /// How many items changed or were added.
    pub fn len(&self) -> usize {
        self.changed.len() + self.by_key.len()
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are if these change too.
    pub fn len_with<'a, D: AsRef<[u8]>>(&self, model: &Model<D>, ids: impl Iterator<Item = &'a str>) -> usize {
        let is_in = |id: &str| match model.index().ordinal(id) {
            Some(ordinal) => self.changed.contains_key(&ordinal),
            None => self.by_key.contains_key(id),
        };
        self.len() + ids.filter(|id| !is_in(id)).count()
    }

    /// How many fields the artifact and all changes have, these too: as many as the next build lays out, if no item goes.
    pub fn n_fields_with<D: AsRef<[u8]>>(&self, model: &Model<D>, changes: &[LiveEntry]) -> usize {
        let attributes = model.index().attributes();
        let mut names: BTreeSet<&str> = attributes.fields().map(|field| field.name()).collect();
        // A point is the two fields of its numbers, and no third.
        let is_point = |name: &str| self.fields.contains_key(format!("{name}.lat").as_str());
        names.extend(self.fields.keys().map(String::as_str).filter(|name| !is_point(name)));
        for ItemAttributes { terms, numbers } in changes.iter().map(LiveEntry::attributes) {
            names.extend(terms.iter().map(|(name, _)| name.as_str()));
            names.extend(numbers.iter().map(|(name, _)| name.as_str()));
        }
        names.len()
    }

    /// The ordinal of an item beside the artifact.
    pub fn ordinal(&self, key: &str) -> Option<u32> {
        self.by_key.get(key).map(|place| self.n + place)
    }

    /// The change of an item, if it changed or was added.
    pub fn entry(&self, ordinal: u32) -> Option<&LiveEntry> {
        match self.slot(ordinal) {
            Some(added) => Some(&added.entry),
            None => self.changed.get(&ordinal).map(Arc::as_ref),
        }
    }

    fn slot(&self, ordinal: u32) -> Option<&Added> {
        self.added.get(ordinal.checked_sub(self.n)? as usize)?.as_ref()
    }

    /// The target row of an item beside the artifact.
    pub fn row(&self, ordinal: u32) -> Option<&[f32]> {
        self.slot(ordinal).map(|added| &*added.rows.target)
    }

    /// The context row of an item beside the artifact.
    pub fn context_row(&self, ordinal: u32) -> Option<&[f32]> {
        self.slot(ordinal).map(|added| added.rows.context.as_deref().unwrap_or(&added.rows.target))
    }

    /// Whether an item is there, neither hidden nor expired.
    pub fn is_shown(&self, ordinal: u32) -> bool {
        match self.slot(ordinal) {
            Some(added) => added.shown,
            None => self.shown.contains(ordinal),
        }
    }

    /// The items of the artifact that lists may hold, of all or of those that can be had.
    pub fn allowed(&self, require_available: bool) -> &AllowSet {
        if require_available { &self.recommendable } else { &self.shown }
    }

    /// The items beside the artifact that lists may hold and that pass a filter, in order.
    ///
    /// Costs the filter's conditions for each of them.
    pub fn added(&self, require_available: bool, filter: Option<&FilterExpr>) -> Vec<u32> {
        let passes = |added: &Added| {
            let entry = &added.entry;
            let can_be_had = !require_available || added.available;
            added.shown && can_be_had && filter.is_none_or(|filter| filter.matches(entry.id(), entry.attributes()))
        };
        let slots = (self.n..).zip(&self.added);
        slots.filter(|(_, slot)| slot.as_ref().is_some_and(passes)).map(|(ordinal, _)| ordinal).collect()
    }

    /// The items beside the artifact whose keys come after one, in the order of keys; hidden ones too.
    pub fn added_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a LiveEntry> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_owned()));
        let places = self.by_key.range((from, Bound::Unbounded)).map(|(_, place)| *place as usize);
        places.filter_map(|place| self.added.get(place)?.as_ref()).map(|added| added.entry.as_ref())
    }

    /// The items of the artifact that pass a filter as they now are, shown or not.
    ///
    /// Costs the evaluation over the artifact's tables and the filter's conditions for each item that changed.
    ///
    /// # Errors
    /// As [`AttributeView::evaluate`], for fields that no changed or added item has either, or none as what is asked for.
    pub fn evaluate(&self, attributes: &AttributeView<'_>, filter: &FilterExpr) -> Result<AllowSet, FilterError> {
        let is_beside = |condition: &FilterExpr| self.is_beside(attributes, condition);
        let within = without(filter, &is_beside);
        let mut set = attributes.evaluate(&within, self.n).map_err(|error| self.with_fields(error))?;
        self.amend(filter, &mut set);
        Ok(set)
    }

    /// Whether a condition is one that only changed and added items can fulfil: they alone have the attribute, or they alone as what is asked for.
    fn is_beside(&self, attributes: &AttributeView<'_>, condition: &FilterExpr) -> bool {
        let Some(key) = unheld_key(attributes, condition) else { return false };
        let held = |name: &str| self.fields.get(name).copied().unwrap_or_default();
        let as_asked = match condition {
            FilterExpr::Match { .. } | FilterExpr::Any { .. } => held(key).texts,
            FilterExpr::Range { .. } => held(key).numbers,
            FilterExpr::GeoRadius { .. } => held(&format!("{key}.lat")).numbers,
            _ => held(key).items,
        };
        as_asked > 0 || (held(key).items > 0 && attributes.field(key).is_none())
    }

    /// Lays the changes over what passes a filter by the artifact's tables.
    ///
    /// Costs the filter's conditions for each item that changed.
    pub fn amend(&self, filter: &FilterExpr, set: &mut AllowSet) {
        for (ordinal, entry) in &self.changed {
            if entry.item().is_some() && filter.matches(entry.id(), entry.attributes()) {
                set.insert(*ordinal);
            } else {
                set.remove(*ordinal);
            }
        }
    }

    /// Names the fields of changed items too.
    fn with_fields(&self, error: FilterError) -> FilterError {
        match error {
            FilterError::UnknownField { field, known } => {
                let all: BTreeSet<String> = known.into_iter().chain(self.fields.keys().cloned()).collect();
                FilterError::UnknownField { field, known: all.into_iter().collect() }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;

//! The catalogue as it is now: changes taken in while an artifact serves, kept durably, and laid over each artifact that takes its place.
//!
//! A change is first synced by the store and then seen by requests, so what an answer showed is there after a restart. Changes of one item follow
//! one another; changes of different items share the store's commits. A change that a newer artifact contains is not laid over it; it is
//! kept in case an older artifact is activated again: for [`limits::CONTAINED_KEPT_MS`] after it was made, and until the artifact before contains it
//! too, or for less where there are many.

mod kept;
mod overlay;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kindred_index::MappedFile;
use kindred_index::format::FIELDS_MAX;
use tokio::sync::Mutex as Turn;

use self::kept::Kept;
pub use self::overlay::Overlay;
use crate::limits;
use crate::live_items::{LiveEntry, LiveEntryError, LiveItems, LiveRows};
use crate::model::Model;
use crate::reload::Live;
use crate::snapshot::Snapshot;
use crate::store::{Documents, StoreError, Table, Write};
use crate::telemetry::chain;

/// Items whose changes wait for one another although they are different items: one in so many.
const TURNS: usize = 64;
/// Changes read from the store at once, and removed from it.
const PAGE: usize = 1_000;

/// Why a change was not made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The store did not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A kept change cannot be read, or a new one cannot be written.
    #[error("{0}")]
    Entry(Arc<LiveEntryError>),
    /// More changes than are kept beside an artifact.
    #[error(
        "{found} items would be changed since the artifact was built, at most {most} are kept: build an artifact with the exported catalogue",
        most = limits::LIVE_ITEMS_MAX
    )]
    TooMany {
        /// How many there would be.
        found: usize,
    },
    /// More memory than changes may take.
    #[error(
        "the changes since the artifact was built would take {found_mb} MiB, at most {most_mb} are kept: build an artifact with the exported catalogue"
    )]
    TooLarge {
        /// How much there would be.
        found_mb: usize,
        /// The bound.
        most_mb: usize,
    },
    /// More fields than an index holds.
    #[error(
        "the catalogue would have {found} fields to filter on, at most {FIELDS_MAX} fit into an index; category, price and the like count, and a point is two"
    )]
    TooManyFields {
        /// How many there would be.
        found: usize,
    },
}

/// The live catalogue.
pub struct LiveCatalog {
    documents: Arc<dyn Documents>,
    kept: Mutex<Kept>,
    turns: Vec<Turn<()>>,
    /// Held by who adds fields, so that no two find room for the last one.
    adding_fields: Turn<()>,
    hasher: RandomState,
    /// Memory that changes may take.
    most_bytes: usize,
    damaged: u64,
    /// Milliseconds between two rounds of adding up what is trending, by ordinal.
    trends_every_ms: u64,
}

/// The right to change certain items: nobody else changes them meanwhile.
pub struct Turns<'a>(#[allow(dead_code, reason = "held, not read")] Vec<tokio::sync::MutexGuard<'a, ()>>);

impl LiveCatalog {
    /// Reads the changes that are kept. One that does not decode is left out, logged and counted: its item is as the artifact says until it is sent
    /// again. Waits for the disk.
    ///
    /// # Errors
    /// The store's failure.
    pub fn load(documents: Arc<dyn Documents>) -> Result<Self, ChangeError> {
        let (mut kept, mut damaged) = (Kept::default(), 0);
        let mut after: Option<String> = None;
        loop {
            let page = documents.blocking_scan(Table::Items, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (id, bytes) in page {
                match LiveEntry::from_record(&bytes) {
                    Ok(entry) => kept.put(Arc::new(entry)),
                    Err(error) => {
                        damaged += 1;
                        tracing::error!(item = id, error = chain(&error), "a kept change is left out");
                    }
                }
            }
        }
        let turns = (0..TURNS).map(|_| Turn::new(())).collect();
        Ok(Self {
            documents,
            kept: Mutex::new(kept),
            turns,
            adding_fields: Turn::new(()),
            hasher: RandomState::new(),
            most_bytes: limits::LIVE_BYTES_MAX,
            damaged,
            trends_every_ms: 0,
        })
    }

    /// The same, where trends are added up every so many milliseconds: so long no new item gets the ordinal of one that is gone.
    #[must_use]
    pub fn with_trends_every(self, refresh_ms: u64) -> Self {
        Self { trends_every_ms: refresh_ms, ..self }
    }

    /// Kept changes that did not decode when they were read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Waits until nobody else changes these items.
    pub async fn turns<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Turns<'_> {
        let mut places: Vec<usize> = ids.map(|id| self.turn_of(id)).collect();
        // In one order for all, so that two never wait for each other.
        places.sort_unstable();
        places.dedup();
        let mut guards = Vec::with_capacity(places.len());
        for turn in places.into_iter().filter_map(|place| self.turns.get(place)) {
            guards.push(turn.lock().await);
        }
        Turns(guards)
    }

    fn turn_of(&self, id: &str) -> usize {
        self.hasher.hash_one(id) as usize % TURNS
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last change of an item that is kept.
    pub fn last(&self, id: &str) -> Option<Arc<LiveEntry>> {
        self.kept().by_id.get(id).map(|(_, entry)| Arc::clone(entry))
    }

    /// Keeps changes, all or none, and then lays them over the artifact in service. The caller holds the items' turns.
    ///
    /// Costs one commit of the store, and for each item that the artifact does not know up to 256 rows.
    ///
    /// # Errors
    /// The store's failure, too many or too large changes, or too many fields; then nothing was changed.
    pub async fn change(
        &self,
        _held: &Turns<'_>,
        entries: Vec<LiveEntry>,
        live: impl Fn() -> Option<Arc<Live>>,
    ) -> Result<(), ChangeError> {
        let adds_fields = live().is_some_and(|live| {
            let (before, found) = n_fields(&live.overlay.as_it_is(), live.snapshot.model(), &entries);
            found > before
        });
        let _alone = if adds_fields { Some(self.adding_fields.lock().await) } else { None };
        self.check_room(&entries, live().as_deref())?;
        let write = |entry: &LiveEntry| {
            let record = entry.to_record().map_err(|error| ChangeError::Entry(Arc::new(error)))?;
            Ok(Write::put(Table::Items, entry.id(), record))
        };
        let writes: Vec<Write> = entries.iter().map(write).collect::<Result<_, ChangeError>>()?;
        self.documents.write(writes).await?;
        let entries: Vec<Arc<LiveEntry>> = entries.into_iter().map(Arc::new).collect();
        let mut kept = self.kept();
        entries.iter().for_each(|entry| kept.put(Arc::clone(entry)));
        // An artifact takes its place under the same lock, so none is missed.
        if let Some(live) = live() {
            let model = live.snapshot.model();
            let rows: Vec<Option<LiveRows>> = entries.iter().map(|entry| rows(model, entry)).collect();
            live.overlay.write(|items| {
                entries.into_iter().zip(rows).for_each(|(entry, rows)| items.apply(model, entry, rows));
            });
        }
        Ok(())
    }

    /// What lies over the artifact costs requests, and is bounded; what is kept takes memory, and twice as much may be: as many again may be contained.
    /// An attribute too many would end the next build, long after it came.
    fn check_room(&self, entries: &[LiveEntry], live: Option<&Live>) -> Result<(), ChangeError> {
        let is_too_many = |before: usize, found: usize, most: usize| found > before && found > most;
        if let Some(live) = live {
            let (items, model) = (live.overlay.as_it_is(), live.snapshot.model());
            let ids = entries.iter().map(LiveEntry::id);
            let found = items.len_with(model, ids);
            if is_too_many(items.len(), found, limits::LIVE_ITEMS_MAX) {
                return Err(ChangeError::TooMany { found });
            }
            let (before, found) = n_fields(&items, model, entries);
            if is_too_many(before, found, FIELDS_MAX as usize) {
                return Err(ChangeError::TooManyFields { found });
            }
        }
        let kept = self.kept();
        let new = entries.iter().filter(|entry| !kept.by_id.contains_key(entry.id())).count();
        let found = kept.by_id.len() + new;
        let times = if live.is_some() { 2 } else { 1 };
        if is_too_many(kept.by_id.len(), found, times * limits::LIVE_ITEMS_MAX) {
            return Err(ChangeError::TooMany { found });
        }
        let (found, most) = (kept.bytes_with(entries), times * self.most_bytes);
        if is_too_many(kept.bytes, found, most) {
            return Err(ChangeError::TooLarge { found_mb: found.div_ceil(1 << 20), most_mb: most >> 20 });
        }
        Ok(())
    }

    /// Lays the changes that an artifact does not contain over it, and puts it into service by `swap`, without missing a change that is made
    /// meanwhile. Costs parsing the artifact's entry of each changed item.
    pub fn put_into_service<T>(
        &self,
        snapshot: Snapshot,
        now_ms: i64,
        swap: impl FnOnce(Snapshot, LiveItems) -> T,
    ) -> T {
        let model = snapshot.model();
        let mut items = LiveItems::new(model, now_ms).with_trends_every(self.trends_every_ms);
        let apply = |items: &mut LiveItems, entry: Arc<LiveEntry>| {
            if !LiveItems::is_contained(model, &entry) {
                let rows = rows(model, &entry);
                items.apply(model, entry, rows);
            }
        };
        // Most of the work is done while changes go on; those that were made meanwhile follow under the lock.
        let (most, done) = {
            let kept = self.kept();
            (kept.by_id.values().cloned().collect::<Vec<_>>(), kept.sequence)
        };
        for (_, entry) in most {
            apply(&mut items, entry);
        }
        let kept = self.kept();
        follow(&mut items, model, &kept, done);
        swap(snapshot, items)
    }

    /// Removes changes that the artifact contains, and the one `before` it if there is one, and that were made long ago; and of those that it contains
    /// the oldest beyond [`limits::LIVE_ITEMS_MAX`] and [`limits::LIVE_BYTES_MAX`]. Only a clock that can be believed tells what is long. One whose item is being
    /// changed, or which the store does not remove, stays until the next time.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn tidy(
        &self,
        model: &Model<MappedFile>,
        before: Option<&Model<MappedFile>>,
        believed_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        self.tidy_to(model, before, believed_ms, limits::LIVE_ITEMS_MAX).await
    }

    async fn tidy_to(
        &self,
        model: &Model<MappedFile>,
        before: Option<&Model<MappedFile>>,
        believed_ms: Option<i64>,
        most: usize,
    ) -> Result<(), StoreError> {
        let (mut entries, bytes) = {
            let kept = self.kept();
            (kept.by_id.values().map(|(_, entry)| Arc::clone(entry)).collect::<Vec<_>>(), kept.bytes)
        };
        entries.sort_by_key(|entry| entry.updated_at_ms());
        let mut surplus = entries.len().saturating_sub(most);
        let mut surplus_bytes = bytes.saturating_sub(self.most_bytes);
        let mut by_turn: BTreeMap<usize, Vec<Arc<LiveEntry>>> = BTreeMap::new();
        for entry in entries {
            let is_surplus = surplus > 0 || surplus_bytes > 0;
            let age_ms = believed_ms.map_or(0, |now_ms| now_ms.saturating_sub(entry.updated_at_ms()));
            if age_ms <= limits::CONTAINED_KEPT_MS && !is_surplus {
                break;
            }
            // Where builds are rare, a change may be older than that when it is first contained.
            let is_contained = |model: &Model<MappedFile>| LiveItems::is_contained(model, &entry);
            if is_contained(model) && (is_surplus || before.is_none_or(is_contained)) {
                surplus = surplus.saturating_sub(1);
                surplus_bytes = surplus_bytes.saturating_sub(kept::bytes(&entry));
                by_turn.entry(self.turn_of(entry.id())).or_default().push(entry);
            }
        }
        for (turn, entries) in by_turn {
            let Some(Ok(_turn)) = self.turns.get(turn).map(Turn::try_lock) else { continue };
            let is_last = |entry: &&Arc<LiveEntry>| self.last(entry.id()).is_some_and(|last| Arc::ptr_eq(&last, entry));
            let entries: Vec<&Arc<LiveEntry>> = entries.iter().filter(is_last).collect();
            for entries in entries.chunks(PAGE) {
                let gone = entries.iter().map(|entry| Write::delete(Table::Items, entry.id())).collect();
                self.documents.write(gone).await?;
                let mut kept = self.kept();
                entries.iter().for_each(|entry| kept.remove(entry.id()));
            }
        }
        Ok(())
    }
}

/// Fields that the artifact and the changes over it have, without these and with them.
fn n_fields(items: &LiveItems, model: &Model<MappedFile>, entries: &[LiveEntry]) -> (usize, usize) {
    (items.n_fields_with(model, &[]), items.n_fields_with(model, entries))
}

/// Lays what was kept after a moment over an artifact, contained or not: what an item was before may lie over it already.
fn follow(items: &mut LiveItems, model: &Model<MappedFile>, kept: &Kept, done: u64) {
    for (_, entry) in kept.by_id.values().filter(|(sequence, _)| *sequence > done) {
        items.apply(model, Arc::clone(entry), rows(model, entry));
    }
}

/// The rows of an item that the model does not know.
fn rows(model: &Model<MappedFile>, entry: &LiveEntry) -> Option<LiveRows> {
    let needed = entry.item().is_some() && model.index().ordinal(entry.id()).is_none();
    needed.then(|| LiveRows::of(model, entry))
}

#[cfg(test)]
mod tests;

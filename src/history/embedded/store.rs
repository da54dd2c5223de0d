//! The tables and what is done to them in a transaction. Synchronous; the caller decides on which thread.
//!
//! | table | key | value |
//! |---|---|---|
//! | `interactions` | sequence `u64`, in order of arrival | a record (see [`Record`]), written once |
//! | `recent` | actor, `u:<id>` or `s:<id>` | up to `keep` pairs (occurred_at_ms `i64`, sequence `u64`), little-endian, newest first |
//! | `ids` | `interaction_id` | sequence `u64` |
//! | `meta` | name | `u64`: `layout`, `next_sequence` |
//!
//! The log is the truth and the next training set; `recent` and `ids` point into it and are pruned with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::{HistoryError, Incoming, Kept};
use super::Changed;
use crate::codec;
use crate::interaction::Interaction;
use crate::limits;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("interactions");
const RECENT: TableDefinition<&str, &[u8]> = TableDefinition::new("recent");
const IDS: TableDefinition<&str, u64> = TableDefinition::new("ids");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The version of the tables above.
const LAYOUT: u64 = 1;
/// The version of [`Record`].
const RECORD_VERSION: u8 = 1;
/// Bytes of one pair in `recent`.
const PAIR_BYTES: usize = 16;

/// One interaction as it is written. Fields are never reordered: a change is a new version of the record.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    arrived_at_ms: i64,
    user_id: Option<String>,
    session_id: Option<String>,
    interaction_id: Option<String>,
    item_id: String,
    kind: String,
    value: Option<f32>,
    occurred_at_ms: i64,
    context: BTreeMap<String, String>,
}

/// An open file.
pub(super) struct Store {
    path: PathBuf,
    database: Database,
    keep: usize,
}

/// What one commit did.
#[derive(Default)]
pub(super) struct Committed {
    /// For each interaction of the batch, in order: kept (true) or a duplicate.
    pub(super) accepted: Vec<bool>,
    /// What the cache must learn.
    pub(super) changed: Changed,
}

/// (occurred_at_ms, sequence), newest first.
type Pairs = Vec<(i64, u64)>;

impl Store {
    pub(super) fn open(path: &Path, page_cache_mb: usize, keep: usize) -> Result<Self, HistoryError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|source| HistoryError::Directory {
                path: directory.to_path_buf(),
                source: Arc::new(source),
            })?;
        }
        let database =
            Database::builder().set_cache_size(page_cache_mb << 20).create(path).map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
                    HistoryError::InUse { path: path.to_path_buf() }
                }
                other => HistoryError::Open { path: path.to_path_buf(), source: Arc::new(other) },
            })?;
        let store = Self { path: path.to_path_buf(), database, keep };
        store.prepare()?;
        Ok(store)
    }

    /// Creates the tables of a new file and checks the layout of an old one.
    fn prepare(&self) -> Result<(), HistoryError> {
        let found = self.guard("opening the tables", || {
            let transaction = self.begin_write()?;
            let found = {
                let mut meta = transaction.open_table(META)?;
                let found = meta.get("layout")?.map(|value| value.value());
                if found.is_none() {
                    meta.insert("layout", LAYOUT)?;
                    meta.insert("next_sequence", 1)?;
                }
                found
            };
            transaction.open_table(LOG)?;
            transaction.open_table(RECENT)?;
            transaction.open_table(IDS)?;
            transaction.commit()?;
            Ok(found)
        })?;
        match found {
            Some(found) if found != LAYOUT => {
                Err(HistoryError::Version { path: self.path.clone(), found, expected: LAYOUT })
            }
            _ => Ok(()),
        }
    }

    /// Writes a batch in one durable transaction: when it returns, the batch survives a kill and a power cut.
    pub(super) fn commit(&self, batch: &[Incoming], arrived_at_ms: i64) -> Result<Committed, HistoryError> {
        let records =
            batch.iter().map(|incoming| self.encode(incoming, arrived_at_ms)).collect::<Result<Vec<_>, _>>()?;
        self.guard("committing interactions", || {
            let transaction = self.begin_write()?;
            let committed = {
                let mut tables = Tables::open(&transaction)?;
                tables.write(batch, &records, self.keep)?
            };
            transaction.commit()?;
            Ok(committed)
        })
    }

    /// The newest interactions of an actor, newest first. Up to `keep` look-ups in the log: tens of microseconds when its pages are cached.
    pub(super) fn recent(&self, actor: &str) -> Result<Vec<Kept>, HistoryError> {
        let records = self.guard("reading recent interactions", || {
            let transaction = self.database.begin_read()?;
            let Some(pairs) = transaction.open_table(RECENT)?.get(actor)?.map(|bytes| decode_pairs(bytes.value()))
            else {
                return Ok(Vec::new());
            };
            let log = transaction.open_table(LOG)?;
            let mut records = Vec::with_capacity(pairs.len());
            for (_, sequence) in pairs {
                // A pair whose record has been pruned is a pair of the past.
                if let Some(bytes) = log.get(sequence)? {
                    records.push((sequence, bytes.value().to_vec()));
                }
            }
            Ok(records)
        })?;
        records
            .into_iter()
            .map(|(sequence, bytes)| self.decode(sequence, &bytes).map(|record| record.kept(sequence)))
            .collect()
    }

    /// Removes interactions that arrived before `before_ms`, oldest first, at most `most`, with their ids and the lists of actors who
    /// have nothing newer. Returns how many were removed.
    pub(super) fn prune(&self, before_ms: i64, most: usize) -> Result<u64, HistoryError> {
        let old = self.guard("looking for old interactions", || {
            let log = self.database.begin_read()?.open_table(LOG)?;
            let mut old = Vec::new();
            for entry in log.range::<u64>(..)?.take(most) {
                let (sequence, bytes) = entry?;
                old.push((sequence.value(), bytes.value().to_vec()));
            }
            Ok(old)
        })?;
        let mut doomed = Vec::new();
        for (sequence, bytes) in old {
            let record = self.decode(sequence, &bytes)?;
            if record.arrived_at_ms >= before_ms {
                break;
            }
            doomed.push((sequence, record));
        }
        let Some(last) = doomed.last().map(|(sequence, _)| *sequence) else {
            return Ok(0);
        };
        self.guard("removing old interactions", || {
            let transaction = self.begin_write()?;
            Tables::open(&transaction)?.remove(&doomed, last)?;
            transaction.commit()?;
            Ok(doomed.len() as u64)
        })
    }

    fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // The allocator state is saved with each commit, so a file left by a killed process opens at once whatever its size.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    fn guard<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T, HistoryError> {
        run().map_err(|error| HistoryError::Storage { path: self.path.clone(), operation, source: Arc::new(error) })
    }

    fn encode(&self, incoming: &Incoming, arrived_at_ms: i64) -> Result<Vec<u8>, HistoryError> {
        let interaction = &incoming.interaction;
        let record = Record {
            arrived_at_ms,
            user_id: incoming.user_id.clone(),
            session_id: incoming.session_id.clone(),
            interaction_id: interaction.interaction_id.clone(),
            item_id: interaction.item_id.clone(),
            kind: interaction.kind.clone(),
            value: interaction.value,
            occurred_at_ms: interaction.occurred_at_ms,
            context: interaction.context.clone(),
        };
        codec::encode(RECORD_VERSION, &record).map_err(|error| self.damaged(0, &error))
    }

    fn decode(&self, sequence: u64, bytes: &[u8]) -> Result<Record, HistoryError> {
        codec::decode(bytes, RECORD_VERSION, limits::RECORD_BYTES_MAX).map_err(|error| self.damaged(sequence, &error))
    }

    fn damaged(&self, sequence: u64, error: &dyn std::fmt::Display) -> HistoryError {
        HistoryError::Damaged { path: self.path.clone(), sequence, reason: error.to_string() }
    }
}

/// The tables of one write transaction.
struct Tables<'t> {
    log: Table<'t, u64, &'static [u8]>,
    recent: Table<'t, &'static str, &'static [u8]>,
    ids: Table<'t, &'static str, u64>,
    meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            log: transaction.open_table(LOG)?,
            recent: transaction.open_table(RECENT)?,
            ids: transaction.open_table(IDS)?,
            meta: transaction.open_table(META)?,
        })
    }

    fn write(&mut self, batch: &[Incoming], records: &[Vec<u8>], keep: usize) -> Result<Committed, redb::Error> {
        let mut next = self.meta.get("next_sequence")?.map_or(1, |value| value.value());
        let mut committed = Committed::default();
        let mut lists: HashMap<String, Pairs> = HashMap::new();
        for (incoming, record) in batch.iter().zip(records) {
            if let Some(id) = incoming.interaction.interaction_id.as_deref() {
                // The whole id is the key, so two ids never pass for one.
                if self.ids.get(id)?.is_some() {
                    committed.accepted.push(false);
                    continue;
                }
                self.ids.insert(id, next)?;
            }
            committed.accepted.push(true);
            self.log.insert(next, record.as_slice())?;
            let kept = Kept { sequence: next, interaction: Arc::new(incoming.interaction.clone()) };
            for actor in incoming.actors() {
                let actor = actor.as_str();
                if !lists.contains_key(actor) {
                    let pairs = self.recent.get(actor)?.map_or_else(Vec::new, |bytes| decode_pairs(bytes.value()));
                    committed.changed.insert(actor.to_owned(), (Vec::new(), pairs.is_empty()));
                    lists.insert(actor.to_owned(), pairs);
                }
                if let (Some(pairs), Some((new, _))) = (lists.get_mut(actor), committed.changed.get_mut(actor)) {
                    insert_pair(pairs, (incoming.interaction.occurred_at_ms, next), keep);
                    new.push(kept.clone());
                }
            }
            next += 1;
        }
        // In key order the tree is walked once from left to right.
        let mut lists: Vec<(String, Pairs)> = lists.into_iter().collect();
        lists.sort_unstable();
        for (actor, pairs) in &lists {
            self.recent.insert(actor.as_str(), encode_pairs(pairs).as_slice())?;
        }
        self.meta.insert("next_sequence", next)?;
        Ok(committed)
    }

    fn remove(&mut self, doomed: &[(u64, Record)], last: u64) -> Result<(), redb::Error> {
        for (sequence, record) in doomed {
            self.log.remove(sequence)?;
            if let Some(id) = record.interaction_id.as_deref() {
                self.ids.remove(id)?;
            }
            for actor in record.actors() {
                let outlived = self
                    .recent
                    .get(actor.as_str())?
                    .is_some_and(|bytes| decode_pairs(bytes.value()).iter().all(|(_, s)| *s <= last));
                if outlived {
                    self.recent.remove(actor.as_str())?;
                }
            }
        }
        Ok(())
    }
}

impl Record {
    fn kept(self, sequence: u64) -> Kept {
        let interaction = Interaction {
            interaction_id: self.interaction_id,
            item_id: self.item_id,
            kind: self.kind,
            value: self.value,
            occurred_at_ms: self.occurred_at_ms,
            context: self.context,
        };
        Kept { sequence, interaction: Arc::new(interaction) }
    }

    fn actors(&self) -> impl Iterator<Item = super::Actor> + '_ {
        let user = self.user_id.as_deref().map(super::Actor::user);
        user.into_iter().chain(self.session_id.as_deref().map(super::Actor::session))
    }
}

fn insert_pair(pairs: &mut Pairs, pair: (i64, u64), keep: usize) {
    let at = pairs.partition_point(|other| *other > pair);
    pairs.insert(at, pair);
    pairs.truncate(keep);
}

fn encode_pairs(pairs: &[(i64, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pairs.len() * PAIR_BYTES);
    for (occurred_at_ms, sequence) in pairs {
        bytes.extend_from_slice(&occurred_at_ms.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
    }
    bytes
}

fn decode_pairs(bytes: &[u8]) -> Pairs {
    let (pairs, _) = bytes.as_chunks::<PAIR_BYTES>();
    pairs
        .iter()
        .map(|[a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7]| {
            let occurred_at_ms = i64::from_le_bytes([*a0, *a1, *a2, *a3, *a4, *a5, *a6, *a7]);
            (occurred_at_ms, u64::from_le_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]))
        })
        .collect()
}

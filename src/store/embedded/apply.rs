//! What changes do to the keyspaces, in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fjall::Readable;

use super::super::{StoreError, Write};
use super::engine::{Result, Transaction};
use super::file::File;
use super::keys::{self, ID_BYTES};
use super::record::{Record, record_cost};
use super::{Change, Outcome};
use crate::codec::CodecError;
use crate::history::{Ack, Actor, Erased, Incoming, Kept, text_bytes as interaction_bytes};
use crate::interaction::RECOMMENDATION_ID;
use crate::limits;

/// What one commit did.
#[derive(Default)]
pub(super) struct Committed {
    /// For each change, in order.
    pub(super) outcomes: Vec<std::result::Result<Outcome, StoreError>>,
    /// New interactions by actor.
    pub(super) changed: HashMap<String, Vec<Kept>>,
    /// Actors some of whose interactions are gone: what is cached of them is void.
    pub(super) gone: HashSet<String>,
}

impl File {
    /// Applies changes in their order, durably, all or none: in one transaction. Only interactions of which it cannot be read whether they are there
    /// already are left out of it. An erasure comes alone, because it must find what the changes before it keep. After an error nobody knows whether
    /// they were applied.
    pub(super) fn commit(&self, changes: &[Change], arrived_at_ms: i64) -> std::result::Result<Committed, StoreError> {
        let mut committed = Committed::default();
        let encode = |incoming: &Incoming| {
            Record::new(incoming, arrived_at_ms).encode().map_err(|_| StoreError::TooLarge {
                table: "interactions",
                what: "size of a record",
                found: interaction_bytes(&incoming.interaction) as u64,
                limit: limits::RECORD_BYTES_MAX,
            })
        };
        let records = changes.iter().map(|change| match change {
            Change::Append(batch) => batch.iter().map(encode).collect(),
            _ => Ok(Vec::new()),
        });
        let records = records.collect::<std::result::Result<Vec<Vec<Vec<u8>>>, _>>()?;
        self.write("committing", |transaction| {
            let mut tables = Tables::open(transaction)?;
            for (change, records) in changes.iter().zip(&records) {
                let outcome = match change {
                    Change::Append(batch) => {
                        let appended = tables.append(batch, records, &mut committed).map(Outcome::Appended);
                        appended.map_err(|error| self.failed("looking for duplicates", error))
                    }
                    Change::Write(writes) => {
                        tables.write(writes);
                        Ok(Outcome::Written)
                    }
                    Change::Erase(actors, writes) => {
                        let erased = tables.erase(actors, &mut committed.gone)?;
                        if !erased.more {
                            tables.write(writes);
                        }
                        Ok(Outcome::Erased(erased))
                    }
                };
                committed.outcomes.push(outcome);
            }
            tables.close();
            Ok(())
        })?;
        Ok(committed)
    }
}

/// The keyspaces in one transaction, which does not see its own changes: what it must know of them is kept beside it.
pub(super) struct Tables<'t, 'e> {
    pub(super) transaction: &'t mut Transaction<'e>,
    /// Ids that are new.
    ids: HashSet<[u8; ID_BYTES]>,
    /// Interactions that are removed.
    removed: HashSet<u64>,
    /// The last change of each document.
    documents: HashMap<Vec<u8>, Option<Vec<u8>>>,
    next: u64,
    bytes: u64,
}

impl<'t, 'e> Tables<'t, 'e> {
    pub(super) fn open(transaction: &'t mut Transaction<'e>) -> Result<Self> {
        let next = transaction.view.number("next_sequence")?.unwrap_or(1);
        let bytes = transaction.view.number("interaction_bytes")?.unwrap_or(0);
        let (ids, removed, documents) = (HashSet::new(), HashSet::new(), HashMap::new());
        Ok(Self { transaction, ids, removed, documents, next, bytes })
    }

    pub(super) fn close(self) {
        let documents = &self.transaction.spaces().documents;
        for (key, value) in self.documents {
            match value {
                Some(value) => self.transaction.insert(documents, &key, &value),
                None => self.transaction.remove(documents, &key),
            }
        }
        self.transaction.set_number("next_sequence", self.next);
        self.transaction.set_number("interaction_bytes", self.bytes);
    }

    fn write(&mut self, writes: &[Write]) {
        for write in writes {
            let (table, key, value) = match write {
                Write::Put { table, key, value } => (*table, key, Some(value.clone())),
                Write::Delete { table, key } => (*table, key, None),
            };
            self.documents.insert(keys::document(table, key), value);
        }
    }

    /// Keeps interactions. Where it fails it has changed nothing.
    fn append(&mut self, batch: &[Incoming], records: &[Vec<u8>], committed: &mut Committed) -> Result<Ack> {
        let spaces = self.transaction.spaces();
        let snapshot = &self.transaction.view.snapshot;
        let look_up = |incoming: &Incoming| match incoming.interaction.interaction_id.as_deref().map(keys::id) {
            Some(id) => snapshot.contains_key(&spaces.ids, id).map(|is_stored| (Some(id), is_stored)),
            None => Ok((None, false)),
        };
        let ids = batch.iter().map(look_up).collect::<Result<Vec<_>>>()?;
        let mut ack = Ack::default();
        for ((incoming, record), (id, is_stored)) in batch.iter().zip(records).zip(ids) {
            let sequence = keys::sequence(self.next);
            if let Some(id) = id {
                if is_stored || !self.ids.insert(id) {
                    ack.duplicates += 1;
                    continue;
                }
                self.transaction.insert(&spaces.ids, &id, &sequence);
            }
            ack.accepted += 1;
            self.transaction.insert(&spaces.log, &sequence, record);
            self.bytes += record_cost(record);
            let kept = Kept { sequence: self.next, interaction: Arc::new(incoming.interaction.clone()) };
            for actor in incoming.actors() {
                let key = keys::actor(actor.as_str(), kept.interaction.occurred_at_ms, self.next);
                self.transaction.insert(&spaces.actors, &key, &[]);
                committed.changed.entry(actor.as_str().to_owned()).or_default().push(kept.clone());
            }
            self.next += 1;
        }
        ack.watermark = self.next - 1;
        Ok(ack)
    }

    fn erase(&mut self, actors: &[Actor], gone: &mut HashSet<String>) -> Result<Erased> {
        let spaces = self.transaction.spaces();
        let mut erased = Erased { watermark: self.next - 1, ..Erased::default() };
        for actor in actors {
            gone.insert(actor.as_str().to_owned());
            let entries = self.transaction.view.snapshot.range(&spaces.actors, keys::whole(actor.as_str()));
            // The newest first: where it is never asked again, what is left still says since when there was something.
            for entry in entries.rev() {
                let key = entry.key()?;
                let sequence = keys::sequence_of(&key);
                // What an actor of this erasure shared with one before is gone already.
                if self.removed.contains(&sequence) {
                    continue;
                }
                if erased.interactions == limits::ERASED_AT_ONCE as u64 {
                    return Ok(Erased { more: true, ..erased });
                }
                erased.interactions += 1;
                match self.take(sequence)? {
                    Some(Ok(record)) => {
                        erased.recommendations.extend(record.context.get(RECOMMENDATION_ID).cloned());
                        self.forget(sequence, &record, gone);
                    }
                    // A record that does not decode is gone all the same; what else points to it points to nothing.
                    _ => self.transaction.remove(&spaces.actors, &key),
                }
            }
        }
        Ok(erased)
    }

    /// Removes a record from the log; what it was, if there was one.
    pub(super) fn take(&mut self, sequence: u64) -> Result<Option<std::result::Result<Record, CodecError>>> {
        let log = &self.transaction.spaces().log;
        let key = keys::sequence(sequence);
        self.removed.insert(sequence);
        let Some(bytes) = self.transaction.view.get(log, &key)? else { return Ok(None) };
        self.transaction.remove(log, &key);
        self.bytes = self.bytes.saturating_sub(record_cost(&bytes));
        Ok(Some(Record::decode(&bytes)))
    }

    /// Removes what points to a record that has been removed.
    pub(super) fn forget(&mut self, sequence: u64, record: &Record, gone: &mut HashSet<String>) {
        let spaces = self.transaction.spaces();
        if let Some(id) = record.interaction_id.as_deref() {
            self.transaction.remove(&spaces.ids, &keys::id(id));
        }
        for actor in record.actors() {
            self.transaction.remove(&spaces.actors, &keys::actor(actor.as_str(), record.occurred_at_ms, sequence));
            gone.insert(actor.as_str().to_owned());
        }
    }
}

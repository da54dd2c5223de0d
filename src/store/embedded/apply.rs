//! What a group of changes does to the tables, in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadableTable, Table, WriteTransaction};

use super::super::{StoreError, Write};
use super::file::{ACTORS, File, IDS, LOG, META, documents};
use super::record::{Record, record_cost};
use super::{Change, Outcome};
use crate::codec::CodecError;
use crate::history::{Ack, Actor, Erased, Incoming, Kept, text_bytes as interaction_bytes};
use crate::limits;

/// What one commit did.
#[derive(Default)]
pub(super) struct Committed {
    /// For each change of the group, in order.
    pub(super) outcomes: Vec<Outcome>,
    /// New interactions by actor; whether the actor had none before.
    pub(super) changed: HashMap<String, (Vec<Kept>, bool)>,
    /// Actors some of whose interactions are gone: what is cached of them is void.
    pub(super) gone: HashSet<String>,
}

impl File {
    /// Applies a group of changes in their order, all or none, durably.
    pub(super) fn commit(&self, changes: &[Change], arrived_at_ms: i64) -> Result<Committed, StoreError> {
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
        let records = records.collect::<Result<Vec<Vec<Vec<u8>>>, _>>()?;
        self.write("committing", |transaction| {
            let mut tables = Tables::open(transaction)?;
            let mut committed = Committed::default();
            for (change, records) in changes.iter().zip(&records) {
                let outcome = match change {
                    Change::Append(batch) => Outcome::Appended(tables.append(batch, records, &mut committed)?),
                    Change::Write(writes) => {
                        write_documents(transaction, writes)?;
                        Outcome::Written
                    }
                    Change::Erase(actors, writes) => {
                        write_documents(transaction, writes)?;
                        let erased = tables.erase(actors, &mut committed.gone)?;
                        Outcome::Erased(erased)
                    }
                };
                committed.outcomes.push(outcome);
            }
            tables.close()?;
            Ok(committed)
        })
    }
}

fn write_documents(transaction: &WriteTransaction, writes: &[Write]) -> Result<(), redb::Error> {
    for write in writes {
        match write {
            Write::Put { table, key, value } => {
                transaction.open_table(documents(*table))?.insert(key.as_str(), value.as_slice())?;
            }
            Write::Delete { table, key } => {
                transaction.open_table(documents(*table))?.remove(key.as_str())?;
            }
        }
    }
    Ok(())
}

/// The tables of interactions in one write transaction.
pub(super) struct Tables<'t> {
    log: Table<'t, u64, &'static [u8]>,
    actors: Table<'t, (&'static str, i64, u64), ()>,
    ids: Table<'t, &'static str, u64>,
    pub(super) meta: Table<'t, &'static str, u64>,
    next: u64,
    bytes: u64,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let meta = transaction.open_table(META)?;
        let next = meta.get("next_sequence")?.map_or(1, |value| value.value());
        let bytes = meta.get("interaction_bytes")?.map_or(0, |value| value.value());
        Ok(Self {
            log: transaction.open_table(LOG)?,
            actors: transaction.open_table(ACTORS)?,
            ids: transaction.open_table(IDS)?,
            meta,
            next,
            bytes,
        })
    }

    pub(super) fn close(mut self) -> Result<(), redb::Error> {
        self.meta.insert("next_sequence", self.next)?;
        self.meta.insert("interaction_bytes", self.bytes)?;
        Ok(())
    }

    fn append(
        &mut self,
        batch: &[Incoming],
        records: &[Vec<u8>],
        committed: &mut Committed,
    ) -> Result<Ack, redb::Error> {
        let mut ack = Ack::default();
        for (incoming, record) in batch.iter().zip(records) {
            if let Some(id) = incoming.interaction.interaction_id.as_deref() {
                // The whole id is the key, so two ids never pass for one.
                if self.ids.get(id)?.is_some() {
                    ack.duplicates += 1;
                    continue;
                }
                self.ids.insert(id, self.next)?;
            }
            ack.accepted += 1;
            self.log.insert(self.next, record.as_slice())?;
            self.bytes += record_cost(record);
            let kept = Kept { sequence: self.next, interaction: Arc::new(incoming.interaction.clone()) };
            for actor in incoming.actors() {
                let actor = actor.as_str();
                if !committed.changed.contains_key(actor) {
                    let fresh = self.actors.range(whole(actor))?.next().is_none();
                    committed.changed.insert(actor.to_owned(), (Vec::new(), fresh));
                }
                self.actors.insert((actor, kept.interaction.occurred_at_ms, self.next), ())?;
                if let Some((new, _)) = committed.changed.get_mut(actor) {
                    new.push(kept.clone());
                }
            }
            self.next += 1;
        }
        ack.watermark = self.next - 1;
        Ok(ack)
    }

    fn erase(&mut self, actors: &[Actor], gone: &mut HashSet<String>) -> Result<Erased, redb::Error> {
        let mut erased = Erased::default();
        for actor in actors {
            gone.insert(actor.as_str().to_owned());
            let keys = self.actors.range(whole(actor.as_str()))?;
            let keys = keys
                .map(|entry| entry.map(|(key, _)| (key.value().1, key.value().2)))
                .collect::<Result<Vec<_>, _>>()?;
            for (occurred_at_ms, sequence) in keys {
                self.actors.remove((actor.as_str(), occurred_at_ms, sequence))?;
                let record = self.take(sequence)?;
                erased.interactions += 1;
                // A record that does not decode is gone all the same; what else points to it points to nothing.
                if let Some(Ok(record)) = record {
                    self.forget(sequence, &record, gone)?;
                }
            }
        }
        erased.watermark = self.next - 1;
        Ok(erased)
    }

    /// Removes a record from the log; what it was, if there was one.
    pub(super) fn take(&mut self, sequence: u64) -> Result<Option<Result<Record, CodecError>>, redb::Error> {
        let Some(bytes) = self.log.remove(sequence)? else { return Ok(None) };
        self.bytes = self.bytes.saturating_sub(record_cost(bytes.value()));
        Ok(Some(Record::decode(bytes.value())))
    }

    /// Removes what points to a record that has been removed.
    pub(super) fn forget(
        &mut self,
        sequence: u64,
        record: &Record,
        gone: &mut HashSet<String>,
    ) -> Result<(), redb::Error> {
        if let Some(id) = record.interaction_id.as_deref() {
            self.ids.remove(id)?;
        }
        for actor in record.actors() {
            self.actors.remove((actor.as_str(), record.occurred_at_ms, sequence))?;
            gone.insert(actor.as_str().to_owned());
        }
        Ok(())
    }
}

/// The keys of an actor, oldest first.
pub(super) fn whole(actor: &str) -> std::ops::RangeInclusive<(&str, i64, u64)> {
    (actor, i64::MIN, 0)..=(actor, i64::MAX, u64::MAX)
}

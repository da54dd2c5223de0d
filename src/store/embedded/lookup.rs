//! What is read from the file: interactions of an actor, documents.

use std::ops::Bound;

use super::super::{Page, StoreError, Table};
use super::apply::whole;
use super::file::{ACTORS, File, LOG, META, documents};
use super::record::Record;
use crate::history::{Actor, Kept};
use crate::interaction::Interaction;

impl File {
    /// The newest interactions of an actor, at most `limit`, newest first; with `before` only those older than that (occurred_at_ms, sequence).
    /// One look-up in the log for each: tens of microseconds for twenty when its pages are cached.
    pub(super) fn recent(
        &self,
        actor: &str,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        let records = self.read("reading interactions", |transaction| {
            let index = transaction.open_table(ACTORS)?;
            let log = transaction.open_table(LOG)?;
            let keys = match before {
                None => index.range(whole(actor))?,
                Some((occurred_at_ms, sequence)) => {
                    index.range((actor, i64::MIN, 0)..(actor, occurred_at_ms, sequence))?
                }
            };
            let mut records = Vec::new();
            for entry in keys.rev().take(limit) {
                let sequence = entry?.0.value().2;
                // A key whose record is gone points into the past.
                if let Some(bytes) = log.get(sequence)? {
                    records.push((sequence, bytes.value().to_vec()));
                }
            }
            Ok(records)
        })?;
        // One record that does not decode does not take the others with it.
        let kept = |(sequence, bytes): (u64, Vec<u8>)| {
            Record::decode(&bytes).map_err(|error| self.skip(sequence, &error)).ok().map(|record| record.kept(sequence))
        };
        Ok(records.into_iter().filter_map(kept).collect())
    }

    /// Records of the log after a sequence, in order of arrival, at most `limit`; those that do not decode are left out.
    pub(super) fn log(&self, after: u64, limit: usize) -> Result<Vec<(u64, Option<Record>)>, StoreError> {
        let records = self.read("reading the interaction log", |transaction| {
            let log = transaction.open_table(LOG)?;
            let mut records = Vec::new();
            for entry in log.range((Bound::Excluded(after), Bound::Unbounded))?.take(limit) {
                let (sequence, bytes) = entry?;
                records.push((sequence.value(), bytes.value().to_vec()));
            }
            Ok(records)
        })?;
        let decode = |(sequence, bytes): (u64, Vec<u8>)| {
            (sequence, Record::decode(&bytes).map_err(|error| self.skip(sequence, &error)).ok())
        };
        Ok(records.into_iter().map(decode).collect())
    }

    /// The last sequence that was given to an interaction; 0 for none.
    pub(super) fn last_sequence(&self) -> Result<u64, StoreError> {
        self.read("reading the last sequence", |transaction| {
            let next = transaction.open_table(META)?.get("next_sequence")?.map_or(1, |value| value.value());
            Ok(next.saturating_sub(1))
        })
    }

    /// Goes over the log, newest first, back to what arrived before `since_ms`.
    pub(super) fn replay(
        &self,
        since_ms: i64,
        most: usize,
        with: &mut dyn FnMut(&Actor, &Interaction),
    ) -> Result<(), StoreError> {
        self.read("reading the log", |transaction| {
            let log = transaction.open_table(LOG)?;
            for entry in log.range::<u64>(..)?.rev().take(most) {
                let (sequence, bytes) = entry?;
                match Record::decode(bytes.value()) {
                    Ok(record) if record.arrived_at_ms < since_ms => break,
                    Ok(record) => {
                        let who = record.actors().next();
                        if let Some(who) = who {
                            with(&who, &record.kept(sequence.value()).interaction);
                        }
                    }
                    // A damaged record is passed over; who reads it for itself counts it.
                    Err(_) => {}
                }
            }
            Ok(())
        })
    }

    pub(super) fn document(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("reading a document", |transaction| {
            Ok(transaction.open_table(documents(table))?.get(key)?.map(|bytes| bytes.value().to_vec()))
        })
    }

    pub(super) fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.read("reading documents", |transaction| {
            let documents = transaction.open_table(documents(table))?;
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut page = Page::new();
            for entry in documents.range::<&str>((from, Bound::Unbounded))?.take(limit) {
                let (key, value) = entry?;
                page.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(page)
        })
    }
}

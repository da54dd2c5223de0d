//! What is read from the file: interactions of an actor, documents.

use std::ops::Bound;

use fjall::Readable;

use super::super::{Page, StoreError, Table};
use super::file::File;
use super::keys;
use super::record::Record;
use crate::codec::CodecError;
use crate::history::{Actor, Kept};
use crate::interaction::Interaction;

/// A record of the log with its sequence, or why it does not decode.
pub(super) type Entry = (u64, Result<Record, CodecError>);

impl File {
    /// The newest interactions of an actor, at most `limit`, newest first; with `before` only those older than that (occurred_at_ms, sequence).
    /// One look-up in the log for each: tens of microseconds for twenty when its blocks are cached.
    pub(super) fn recent(
        &self,
        actor: &str,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> Result<Vec<Kept>, StoreError> {
        self.read("reading interactions", |view| {
            let (first, last) = keys::whole(actor).into_inner();
            let end = match before {
                None => Bound::Included(last),
                Some((occurred_at_ms, sequence)) => Bound::Excluded(keys::actor(actor, occurred_at_ms, sequence)),
            };
            let range = (Bound::Included(first), end);
            let mut kept = Vec::new();
            for entry in view.snapshot.range(&view.spaces.actors, range).rev() {
                if kept.len() == limit {
                    break;
                }
                let sequence = keys::sequence_of(&entry.key()?);
                // A key whose record is gone points into the past.
                let Some(bytes) = view.get(&view.spaces.log, &keys::sequence(sequence))? else { continue };
                match Record::decode(&bytes) {
                    Ok(record) => kept.push(record.kept(sequence)),
                    // One record that does not decode does not take the others with it.
                    Err(error) => self.skip(sequence, &error),
                }
            }
            Ok(kept)
        })
    }

    /// Records of the log after a sequence, in order of arrival, at most `limit`.
    pub(super) fn log(&self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let records = self.read("reading the interaction log", |view| {
            let range = (Bound::Excluded(keys::sequence(after)), Bound::Unbounded);
            let entries = view.snapshot.range(&view.spaces.log, range).take(limit);
            entries.map(fjall::Guard::into_inner).collect::<Result<Vec<_>, _>>()
        })?;
        let decode = |(key, bytes): fjall::KvPair| (keys::number(&key), Record::decode(&bytes));
        Ok(records.into_iter().map(decode).collect())
    }

    /// The last sequence that was given to an interaction; 0 for none.
    pub(super) fn last_sequence(&self) -> Result<u64, StoreError> {
        Ok(self.meta("next_sequence")?.saturating_sub(1))
    }

    /// Goes over the log, newest first, back to what arrived before `since_ms`. A few that seem to have are passed over: the clock may have been behind
    /// for a moment.
    pub(super) fn replay(
        &self,
        since_ms: i64,
        most: usize,
        with: &mut dyn FnMut(&[Actor], &Interaction),
    ) -> Result<(), StoreError> {
        /// So many in a row are no moment.
        const EARLY_IN_A_ROW: usize = 1_000;
        self.read("reading the log", |view| {
            let mut early = 0;
            for entry in view.snapshot.iter(&view.spaces.log).rev().take(most) {
                let (sequence, bytes) = entry.into_inner()?;
                match Record::decode(&bytes) {
                    Ok(record) if record.arrived_at_ms < since_ms => {
                        early += 1;
                        if early == EARLY_IN_A_ROW {
                            break;
                        }
                    }
                    Ok(record) => {
                        early = 0;
                        let who: Vec<Actor> = record.actors().collect();
                        with(&who, &record.kept(keys::number(&sequence)).interaction);
                    }
                    // A damaged record is passed over; who reads it for itself counts it.
                    Err(_) => {}
                }
            }
            Ok(())
        })
    }

    pub(super) fn document(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("reading a document", |view| {
            Ok(view.get(&view.spaces.documents, &keys::document(table, key))?.map(|bytes| bytes.to_vec()))
        })
    }

    pub(super) fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.read("reading documents", |view| {
            let first = keys::document(table, after.unwrap_or_default());
            let from = if after.is_some() { Bound::Excluded(first) } else { Bound::Included(first) };
            let range = (from, Bound::Excluded(keys::after_documents(table)));
            let mut page = Page::new();
            for entry in view.snapshot.range(&view.spaces.documents, range).take(limit) {
                let (key, value) = entry.into_inner()?;
                page.push((keys::document_name(table, &key), value.to_vec()));
            }
            Ok(page)
        })
    }
}

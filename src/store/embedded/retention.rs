//! What is removed without being asked: interactions beyond their age, by kind, and the oldest ones of a store that is too large.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::super::StoreError;
use super::apply::Tables;
use super::file::File;
use super::record::Record;

/// How long interactions are kept, and how many bytes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds that an interaction and its id are kept after their arrival; `None` = for ever.
    pub all_ms: Option<i64>,
    /// Shorter times for some kinds.
    pub kinds_ms: BTreeMap<String, i64>,
    /// Bytes of interactions with what points to them; beyond that the oldest go. `None` = as many as the disk holds.
    pub max_bytes: Option<u64>,
    /// How long the clock has to have gone evenly before anything is removed for its age: one that is far ahead for a moment must not cost what was
    /// acknowledged.
    pub clock_even_for: Duration,
}

impl Retention {
    /// Whether everything is kept.
    pub(super) fn keeps_all(&self) -> bool {
        self.all_ms.is_none() && self.kinds_ms.is_empty() && self.max_bytes.is_none()
    }
}

/// The number that says up to where everything is gone.
const PRUNED: &str = "pruned";

/// What one step removed.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// How many interactions.
    pub(super) removed: u64,
    /// Of whom.
    pub(super) gone: HashSet<String>,
    /// Whether another step would find more.
    pub(super) more: bool,
}

impl File {
    /// One step: looks at no more than `most` of the oldest interactions and at no more than `most` others for each kind of a shorter time. Without
    /// a time nothing is too old.
    pub(super) fn prune(&self, retention: &Retention, now_ms: Option<i64>, most: usize) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let too_large = match retention.max_bytes {
            Some(max) => self.interaction_bytes()? > max,
            None => false,
        };
        let age = retention.all_ms.zip(now_ms);
        if age.is_some() || too_large {
            let before_ms = age.map_or(i64::MIN, |(age, now_ms)| now_ms.saturating_sub(age));
            // From where the last step ended: what lies before it is gone, and would have to be passed over again until it is merged away.
            let old = self.oldest(self.meta(PRUNED)?, most)?;
            let seen = old.len();
            let excess = if too_large { most / 4 + 1 } else { 0 };
            // In order of arrival. The clock may have gone back, so a later one may look older: it waits for its turn.
            let doomed: Vec<(u64, Option<Record>)> = old
                .into_iter()
                .enumerate()
                .take_while(|(at, (_, record))| {
                    *at < excess || record.as_ref().is_none_or(|record| record.arrived_at_ms < before_ms)
                })
                .map(|(_, entry)| entry)
                .collect();
            pruned.more = !doomed.is_empty() && (doomed.len() == seen || too_large);
            if let Some(last) = doomed.last().map(|(sequence, _)| *sequence) {
                self.remove(doomed, PRUNED, last, &mut pruned)?;
            }
        }
        for (kind, age) in &retention.kinds_ms {
            if let Some(now_ms) = now_ms {
                self.sweep(kind, now_ms.saturating_sub(*age), most, &mut pruned)?;
            }
        }
        Ok(pruned)
    }

    /// The oldest of the log after a sequence. One that does not decode is not told: this comes by every few seconds.
    fn oldest(&self, after: u64, most: usize) -> Result<Vec<(u64, Option<Record>)>, StoreError> {
        Ok(self.log(after, most)?.into_iter().map(|(sequence, record)| (sequence, record.ok())).collect())
    }

    /// Removes interactions of one kind that arrived before `before_ms`, from where the last sweep for this kind ended.
    fn sweep(&self, kind: &str, before_ms: i64, most: usize, pruned: &mut Pruned) -> Result<(), StoreError> {
        let mark = ["swept/", kind].concat();
        let from = self.meta(&mark)?;
        let next = self.oldest(from, most)?;
        let seen = next.len();
        let old: Vec<_> = next
            .into_iter()
            .take_while(|(_, record)| record.as_ref().is_none_or(|record| record.arrived_at_ms < before_ms))
            .collect();
        let Some(last) = old.last().map(|(sequence, _)| *sequence) else { return Ok(()) };
        pruned.more |= old.len() == seen;
        let doomed = old.into_iter().filter(|(_, record)| record.as_ref().is_some_and(|record| record.kind == kind));
        self.remove(doomed.collect(), &mark, last, pruned)
    }

    /// Removes interactions, and notes how far it was looked.
    fn remove(
        &self,
        doomed: Vec<(u64, Option<Record>)>,
        mark: &str,
        last: u64,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        self.write("removing old interactions", |transaction| {
            let mut tables = Tables::open(transaction)?;
            for (sequence, record) in &doomed {
                tables.take(*sequence)?;
                if let Some(record) = record {
                    tables.forget(*sequence, record, &mut pruned.gone);
                }
            }
            tables.transaction.set_number(mark, last);
            tables.close();
            Ok(())
        })?;
        pruned.removed += doomed.len() as u64;
        Ok(())
    }

    /// Bytes of all interactions with what points to them, estimated.
    pub(super) fn interaction_bytes(&self) -> Result<u64, StoreError> {
        self.meta("interaction_bytes")
    }
}

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
    /// How long the clock has to have gone evenly before anything is removed for its age, unless the log bears it out: one that is far ahead for a
    /// moment must not cost what was acknowledged.
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
            // From where the last step ended: what lies before it is gone, and would have to be passed over again until it is merged away.
            let mut doomed = self.oldest(self.meta(PRUNED)?, most)?;
            let seen = doomed.len();
            let excess = if too_large { most / 4 + 1 } else { 0 };
            let due = age.map_or(Ok(0), |(age, now_ms)| self.due(&doomed, age, now_ms))?;
            doomed.truncate(due.max(excess));
            pruned.more = !doomed.is_empty() && (doomed.len() == seen || too_large);
            if let Some(last) = doomed.last().map(|(sequence, _)| *sequence) {
                self.remove(doomed, PRUNED, last, &mut pruned)?;
            }
        }
        for (kind, age) in &retention.kinds_ms {
            if let Some(now_ms) = now_ms {
                self.sweep(kind, *age, now_ms, most, &mut pruned)?;
            }
        }
        Ok(pruned)
    }

    /// The oldest of the log after a sequence. One that does not decode is not told: this comes by every few seconds.
    fn oldest(&self, after: u64, most: usize) -> Result<Vec<(u64, Option<Record>)>, StoreError> {
        Ok(self.log(after, most)?.into_iter().map(|(sequence, record)| (sequence, record.ok())).collect())
    }

    /// How many of a page of the log, from its first on, arrived longer ago than `age_ms`. In order of arrival: the clock may have gone back, so
    /// one that looks older than one before it waits for its turn. One from the future arrived under a clock that was ahead: its time is not
    /// believed, as where a record does not decode, and it is as old as the next that can be believed. Else it, and all after it, would stay until then.
    fn due(&self, page: &[(u64, Option<Record>)], age_ms: i64, now_ms: i64) -> Result<usize, StoreError> {
        let before_ms = now_ms.saturating_sub(age_ms);
        let is_old = |record: &Option<Record>| {
            let told = record.as_ref().map(|record| record.arrived_at_ms).filter(|at_ms| *at_ms <= now_ms);
            told.map(|at_ms| at_ms < before_ms)
        };
        let mut due = 0;
        for (at, (_, record)) in page.iter().enumerate() {
            match is_old(record) {
                Some(true) => due = at + 1,
                Some(false) => return Ok(due),
                None => {}
            }
        }
        let Some((last, _)) = page.last().filter(|_| due < page.len()) else { return Ok(due) };
        // What came after them may be far: each look goes twice as far.
        let mut beyond: u64 = 0;
        while let Some((_, record)) = self.oldest(last.saturating_add(beyond), 1)?.pop() {
            if let Some(is_old) = is_old(&record) {
                return Ok(if is_old { page.len() } else { due });
            }
            beyond = beyond.saturating_mul(2).saturating_add(1);
        }
        Ok(due)
    }

    /// Whether the log bears the clock out, for a store that is opened anew again and again before it has seen for itself how evenly the clock
    /// goes: of what was in it when it was opened, up to the sequence `opened_at`, the newest arrived no longer than twice `wait` ago and not in the
    /// future, and one once to twice `wait` ago. A clock that was just set ahead finds the newest too old.
    pub(super) fn bears_out(&self, now_ms: i64, wait: Duration, opened_at: u64) -> Result<bool, StoreError> {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let [from_ms, to_ms] = [2, 1].map(|times| now_ms.saturating_sub(wait_ms.saturating_mul(times)));
        // The first that arrived since then lies between these, which are halved. Where the clock went back it may be missed: nothing goes then.
        let newest = self.oldest(opened_at.saturating_sub(1), 1)?.pop().filter(|(sequence, _)| *sequence <= opened_at);
        let arrived_ms = newest.and_then(|(_, record)| record).map(|record| record.arrived_at_ms);
        if !arrived_ms.is_some_and(|arrived_ms| (from_ms..=now_ms).contains(&arrived_ms)) {
            return Ok(false);
        }
        let (mut before, mut last) = (self.meta(PRUNED)?, opened_at);
        while before < last {
            let middle = before + (last - before) / 2;
            match self.oldest(middle, 1)?.pop() {
                Some((sequence, Some(record))) if sequence <= last && record.arrived_at_ms <= to_ms => {
                    if record.arrived_at_ms >= from_ms {
                        return Ok(true);
                    }
                    before = sequence;
                }
                _ => last = middle,
            }
        }
        Ok(false)
    }

    /// Removes interactions of one kind that are older than they are kept, from where the last sweep for this kind ended.
    fn sweep(&self, kind: &str, age_ms: i64, now_ms: i64, most: usize, pruned: &mut Pruned) -> Result<(), StoreError> {
        let mark = ["swept/", kind].concat();
        let from = self.meta(&mark)?;
        let mut old = self.oldest(from, most)?;
        let seen = old.len();
        old.truncate(self.due(&old, age_ms, now_ms)?);
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

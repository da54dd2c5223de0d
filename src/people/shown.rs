//! The recommendation log: what was shown, and what came of it, so that lists can be repeated, compared and estimated from.
//!
//! An entry names no visitor. What ties it to one is the `recommendation_id` that the visitor's own interactions carry, and when those are
//! erased the entries go with them. Entries are written without being waited for: an answer is not held up by its log. The price is the last few
//! that a crash may take, and those that the store refuses, which are counted: while it is busy, and where hundreds of items with long ids make an
//! entry larger than a document may be. Ids begin with the time, so the table is in the order of time and old entries are at its beginning.
//!
//! Table `recommendations`: `r/<id>` is a [`Shown`], `o/<id>/<name>` an [`Outcome`], both as JSON.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{half_hex, sha256};
use crate::limits;
use crate::sample::Sample;
use crate::store::{Documents, StoreError, Table, Write};

/// How long a page waits for what was written just before.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// One list that was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The name of the answer.
    pub recommendation_id: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// The scenario that was asked for.
    pub scenario: String,
    /// The experiment and the variant in it, if the visitor was in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<(String, String)>,
    /// The artifact that answered.
    pub generation: String,
    /// Why it was not personal, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What was shown, best first.
    pub items: Vec<ShownItem>,
    /// What the list was made from, newest first, if that is logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<UsedInteraction>,
}

#[cfg(test)]
impl Shown {
    /// A list of nothing, shown at a time.
    pub(crate) fn nothing(at_ms: i64) -> Self {
        Self {
            recommendation_id: format!("{at_ms:012x}{:020}", 7),
            at_ms,
            scenario: "home".to_owned(),
            experiment: None,
            generation: "g1".to_owned(),
            fallback: None,
            items: Vec::new(),
            history: Vec::new(),
        }
    }
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownItem {
    /// The item.
    pub item_id: String,
    /// Its score.
    pub score: f64,
    /// What weighed most in it.
    pub source: String,
    /// The rule that put it where it is, if one did; `explored` where chance alone did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The probability with which this item was put into the list: 1 where nothing is left to chance.
    pub propensity: f64,
}

/// One interaction that a list was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsedInteraction {
    /// The item.
    pub item_id: String,
    /// What was done.
    pub kind: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// An interaction that named a recommendation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The item.
    pub item_id: String,
    /// What was done.
    pub kind: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// A list and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// The list.
    #[serde(flatten)]
    pub shown: Shown,
    /// What came of it.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownOptions {
    /// The share of answers that is logged, 0 to 1.
    pub sample: f64,
    /// Whether the interactions that a list was made from are logged too.
    pub history: bool,
    /// Milliseconds that an entry is kept.
    pub keep_ms: i64,
}

/// The log.
pub struct ShownLog {
    documents: Arc<dyn Documents>,
    options: ShownOptions,
    sample: Sample,
    recent: Mutex<Recent>,
    outcomes: AtomicU64,
    /// Entries that the store refused.
    refused: AtomicU64,
}

/// The lists that were logged last.
#[derive(Default)]
struct Recent {
    /// Each with its bytes as JSON, the oldest first.
    lists: VecDeque<(usize, Arc<Shown>)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, bytes: usize, shown: Shown) {
        self.bytes += bytes;
        self.lists.push_back((bytes, Arc::new(shown)));
        while self.lists.len() > limits::SHOWN_IN_MEMORY || self.bytes > limits::SHOWN_IN_MEMORY_BYTES_MAX {
            let Some((bytes, _)) = self.lists.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Shown) -> bool) {
        self.lists.retain(|(_, shown)| keeps(shown));
        self.bytes = self.lists.iter().map(|(bytes, _)| bytes).sum();
    }
}

impl ShownLog {
    /// A log over a store.
    #[must_use]
    pub fn new(documents: Arc<dyn Documents>, options: ShownOptions) -> Self {
        let (sample, recent) = (Sample::new(options.sample), Mutex::default());
        Self { documents, options, sample, recent, outcomes: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Whether anything is logged.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sample.is_on()
    }

    /// Whether interactions are logged with a list.
    #[must_use]
    pub fn keeps_history(&self) -> bool {
        self.options.history
    }

    /// Whether the next answer is to be logged.
    pub fn takes_next(&self) -> bool {
        self.sample.takes_next()
    }

    /// Lists and outcomes that are missing because the store refused them, since start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Logs a list. Does not wait.
    pub fn record(&self, shown: Shown) {
        let Ok(value) = serde_json::to_vec(&shown) else { return };
        let bytes = value.len();
        self.put(entry_key(&shown.recommendation_id), value);
        self.recent().push(bytes, shown);
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list by its name, if it was logged and is still kept.
    ///
    /// # Errors
    /// The failure of the disk.
    pub async fn find(&self, id: &str) -> Result<Option<Arc<Shown>>, StoreError> {
        let in_memory = || {
            let recent = self.recent();
            let found = recent.lists.iter().rev().find(|(_, shown)| shown.recommendation_id == id);
            found.map(|(_, shown)| Arc::clone(shown))
        };
        if let Some(shown) = in_memory() {
            return Ok(Some(shown));
        }
        let found = self.documents.get(Table::Recommendations, &entry_key(id)).await?;
        Ok(found.and_then(|value| serde_json::from_slice(&value).ok()).map(Arc::new))
    }

    /// Notes what came of a list; the same interaction only once. Does not wait. An outcome of a list that was not logged is kept as long and never
    /// asked for; one of an id that cannot be ours yet is not kept.
    pub fn outcome(&self, id: &str, interaction_id: Option<&str>, outcome: &Outcome, now_ms: i64) {
        if !self.is_on() || !is_id(id) || made_ms(id).is_none_or(|made| made > now_ms + CLOCKS_DIFFER_MS) {
            return;
        }
        let name = match interaction_id {
            Some(id) => half_hex(&sha256(&[id.as_bytes()])),
            None => format!("{:012x}{:08x}", outcome.at_ms.max(0), self.outcomes.fetch_add(1, Ordering::Relaxed)),
        };
        if let Ok(value) = serde_json::to_vec(outcome) {
            self.put([&outcome_prefix(id), name.as_str()].concat(), value);
        }
    }

    /// The store does the work whether or not its answer is awaited. What is too large, or comes while it is busy, it refuses at once: then this entry
    /// is lost and no other.
    fn put(&self, key: String, value: Vec<u8>) {
        let mut writing = self.documents.write(vec![Write::put(Table::Recommendations, key, value)]);
        let at_once = writing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if matches!(at_once, Poll::Ready(Err(_))) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page of the log in the order of time, with what came of each list; and the id to go on after, if there may be more.
    ///
    /// # Errors
    /// The failure of the disk.
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<(Vec<Logged>, Option<String>), StoreError> {
        // What a full, failing or stalled disk did not take is missing; all before it can be read.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, self.settle()).await;
        let start = entry_key(after.unwrap_or_default());
        let page = self.documents.scan(Table::Recommendations, Some(&start), limit).await?;
        let entries = page.iter().filter(|(key, _)| key.starts_with(ENTRY));
        let mut logged = Vec::new();
        for (_, value) in entries {
            let Ok(shown) = serde_json::from_slice::<Shown>(value) else { continue };
            let outcomes = self.outcomes_of(&shown.recommendation_id).await?;
            logged.push(Logged { shown, outcomes });
        }
        // After the last key of the page, whether or not its list decodes.
        let last = page.last().filter(|_| page.len() == limit).and_then(|(key, _)| key.strip_prefix(ENTRY));
        let next = last.map(str::to_owned);
        Ok((logged, next))
    }

    /// Waits for what was written without being waited for: the store applies changes in their order, so an answered one is after all of them.
    async fn settle(&self) -> Result<(), StoreError> {
        self.documents.write(vec![Write::delete(Table::Recommendations, "settled")]).await
    }

    async fn outcomes_of(&self, id: &str) -> Result<Vec<Outcome>, StoreError> {
        let found = self.keys_and_values(&outcome_prefix(id)).await?;
        let mut outcomes: Vec<Outcome> =
            found.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect();
        outcomes.sort_by_key(|outcome| outcome.at_ms);
        Ok(outcomes)
    }

    async fn keys_and_values(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        /// Few come of one list: a page that reads far beyond them costs more than a second one.
        const PAGE: usize = 16;
        let (mut found, mut after) = (Vec::new(), prefix.to_owned());
        loop {
            let page = self.documents.scan(Table::Recommendations, Some(&after), PAGE).await?;
            let is_last = page.len() < PAGE || page.last().is_none_or(|(key, _)| !key.starts_with(prefix));
            found.extend(page.into_iter().take_while(|(key, _)| key.starts_with(prefix)));
            match found.last() {
                Some((key, _)) if !is_last => after.clone_from(key),
                _ => return Ok(found),
            }
        }
    }

    /// Removes these lists and what came of them, part by part, and says how many lists there were. Cut off, it is done by asking again.
    ///
    /// # Errors
    /// The failure of the disk.
    pub async fn remove(&self, ids: &[String]) -> Result<u64, StoreError> {
        self.settle().await?;
        let mut removed = 0;
        for part in ids.chunks(REMOVED_AT_ONCE) {
            let mut keys = Vec::new();
            for id in part.iter().filter(|id| is_id(id)) {
                let key = entry_key(id);
                // Also one that does not decode.
                if self.documents.get(Table::Recommendations, &key).await?.is_some() {
                    removed += 1;
                    keys.push(key);
                }
                keys.extend(self.keys_and_values(&outcome_prefix(id)).await?.into_iter().map(|(key, _)| key));
            }
            for keys in keys.chunks(REMOVED_AT_ONCE) {
                let writes = keys.iter().map(|key| Write::delete(Table::Recommendations, key.as_str()));
                self.documents.write(writes.collect()).await?;
            }
            self.recent().retain(|shown| !part.contains(&shown.recommendation_id));
        }
        Ok(removed)
    }

    /// Removes a bounded number of entries that are older than they are kept. Returns whether there may be more.
    ///
    /// # Errors
    /// The failure of the disk.
    pub async fn prune(&self, now_ms: i64) -> Result<bool, StoreError> {
        let before = format!("{:012x}", now_ms.saturating_sub(self.options.keep_ms).max(0));
        self.recent().retain(|shown| shown.recommendation_id >= before);
        let mut old = Vec::new();
        for prefix in [ENTRY, OUTCOME] {
            let page = self.documents.scan(Table::Recommendations, Some(prefix), limits::PRUNE_SHOWN_MAX).await?;
            let is_old = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest < before.as_str());
            let keys = page.into_iter().map(|(key, _)| key).take_while(|key| is_old(key));
            old.extend(keys.map(|key| Write::delete(Table::Recommendations, key)));
        }
        let more = old.len() >= limits::PRUNE_SHOWN_MAX;
        if !old.is_empty() {
            self.documents.write(old).await?;
        }
        Ok(more)
    }
}

/// Goes over a whole log in the order of time, with what came of each list, and says how many lists do not decode. Lists and outcomes lie in the
/// same order, so one page of each is in memory. May wait for the disk: for tools.
///
/// # Errors
/// The failure of the disk.
pub fn each_logged(documents: &dyn Documents, mut visit: impl FnMut(Logged)) -> Result<u64, StoreError> {
    let mut entries = Rows::new(documents, ENTRY);
    let mut outcomes = Rows::new(documents, OUTCOME).peekable();
    let mut damaged = 0;
    while let Some((key, value)) = entries.next().transpose()? {
        let prefix = outcome_prefix(key.strip_prefix(ENTRY).unwrap_or_default());
        let mut own = Vec::new();
        // Before them may lie outcomes of lists that were not logged; a failure is taken out too, and returned.
        let is_due = |row: &Row| row.as_ref().map_or(true, |(key, _)| *key < prefix || key.starts_with(&prefix));
        while let Some((key, value)) = outcomes.next_if(is_due).transpose()? {
            own.extend(serde_json::from_slice(&value).ok().filter(|_: &Outcome| key.starts_with(&prefix)));
        }
        match serde_json::from_slice(&value) {
            Ok(shown) => visit(Logged { shown, outcomes: own }),
            Err(_) => damaged += 1,
        }
    }
    Ok(damaged)
}

type Row = Result<(String, Vec<u8>), StoreError>;

/// The rows of the log whose keys begin alike, page by page; ends after a failure.
struct Rows<'a> {
    documents: &'a dyn Documents,
    prefix: &'static str,
    after: Option<String>,
    page: VecDeque<(String, Vec<u8>)>,
}

impl<'a> Rows<'a> {
    fn new(documents: &'a dyn Documents, prefix: &'static str) -> Self {
        Self { documents, prefix, after: Some(prefix.to_owned()), page: VecDeque::new() }
    }
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.page.is_empty() {
            let after = self.after.take()?;
            match self.documents.blocking_scan(Table::Recommendations, Some(&after), limits::LISTED_MAX) {
                Ok(page) => self.page = page.into(),
                Err(error) => return Some(Err(error)),
            }
            self.after = self.page.back().map(|(key, _)| key.clone());
        }
        self.page.pop_front().filter(|(key, _)| key.starts_with(self.prefix)).map(Ok)
    }
}

/// How much the clock of another server that made a list may be ahead.
const CLOCKS_DIFFER_MS: i64 = 60_000;

/// Lists whose keys an erasure looks up together, and keys that it removes in one commit. No queue of the store is too small for them.
const REMOVED_AT_ONCE: usize = 500;

const _: () = assert!(REMOVED_AT_ONCE <= limits::BATCH_INTERACTIONS_MAX);

const ENTRY: &str = "r/";
const OUTCOME: &str = "o/";

fn entry_key(id: &str) -> String {
    [ENTRY, id].concat()
}

fn outcome_prefix(id: &str) -> String {
    [OUTCOME, id, "/"].concat()
}

/// Whether a text may be the name of an answer of ours: 32 hexadecimal digits.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// When the answer of a name was made, as its first twelve digits say.
fn made_ms(id: &str) -> Option<i64> {
    i64::from_str_radix(id.get(..12)?, 16).ok()
}

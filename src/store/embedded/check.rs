//! Whether a store is whole: its blocks, and that its keyspaces agree with each other.

use std::path::Path;

use fjall::Readable;

use super::super::StoreError;
use super::copy::TOOL_CACHE_MB;
use super::engine::{Result, View};
use super::file::File;
use super::keys;
use super::record::{Record, record_cost};

/// Most problems that are named; the rest are counted.
const PROBLEMS_NAMED_MAX: usize = 20;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Interactions in the log.
    pub interactions: u64,
    /// Documents in all tables.
    pub documents: u64,
    /// Sequence of the last interaction that was ever kept.
    pub watermark: u64,
    /// What is wrong, the first ones in words.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
    /// Why it cannot be read to its end, if it cannot. Everything else that is wrong hurts only itself.
    pub unreadable: Option<String>,
}

impl Checked {
    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_NAMED_MAX {
            self.problems.push(text());
        }
    }
}

/// Checks a store that no process has open. Reads all of it, and with it the checksums of its blocks; changes nothing but what opening after a crash
/// repairs.
///
/// # Errors
/// [`StoreError`]: it is not there, in use, or not a store at all. Damage is not an error but what was found.
pub fn check(path: &Path) -> std::result::Result<Checked, StoreError> {
    let file = File::existing(path, TOOL_CACHE_MB, None)?;
    let mut checked = Checked::default();
    file.read("checking the keyspaces", |view| {
        if let Err(error) = agree(view, &mut checked) {
            let text = format!("it cannot be read to its end: {error}");
            checked.unreadable = Some(text.clone());
            checked.problem(|| text);
        }
        Ok(())
    })?;
    Ok(checked)
}

/// The keyspaces against each other.
fn agree(view: &View<'_>, checked: &mut Checked) -> Result<()> {
    let spaces = view.spaces;
    checked.watermark = view.number("next_sequence")?.unwrap_or(1).saturating_sub(1);
    let (mut pointers, mut named, mut bytes) = (0, 0, 0);
    for entry in view.snapshot.iter(&spaces.log) {
        let (key, record) = entry.into_inner()?;
        let sequence = keys::number(&key);
        checked.interactions += 1;
        bytes += record_cost(&record);
        let record = match Record::decode(&record) {
            Ok(record) => record,
            Err(error) => {
                checked.problem(|| format!("interaction {sequence} does not decode: {error}"));
                continue;
            }
        };
        let watermark = checked.watermark;
        if sequence > watermark {
            checked.problem(|| format!("interaction {sequence} is beyond the last sequence {watermark}"));
        }
        for actor in record.actors() {
            pointers += 1;
            let key = keys::actor(actor.as_str(), record.occurred_at_ms, sequence);
            if !view.snapshot.contains_key(&spaces.actors, key)? {
                checked.problem(|| format!("interaction {sequence} is not in the index of actors"));
            }
        }
        if let Some(id) = record.interaction_id.as_deref() {
            named += 1;
            if view.get(&spaces.ids, &keys::id(id))?.map(|value| keys::number(&value)) != Some(sequence) {
                checked.problem(|| format!("the id of interaction {sequence} is not in the index of ids"));
            }
        }
    }
    let found = view.snapshot.len(&spaces.actors)?;
    if found != pointers {
        checked.problem(|| format!("the index of actors has {found} entries, the log calls for {pointers}"));
    }
    let found = view.snapshot.len(&spaces.ids)?;
    if found != named {
        checked.problem(|| format!("the index of ids has {found} entries, the log calls for {named}"));
    }
    let counted = view.number("interaction_bytes")?.unwrap_or(0);
    if counted != bytes {
        checked.problem(|| format!("the interactions take {bytes} bytes, the store counted {counted}"));
    }
    for entry in view.snapshot.iter(&spaces.documents) {
        entry.into_inner()?;
        checked.documents += 1;
    }
    Ok(())
}

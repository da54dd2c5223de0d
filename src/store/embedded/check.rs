//! Whether a store is whole: its pages, and that its tables agree with each other.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::super::{StoreError, Table};
use super::copy::{TOOL_CACHE_MB, require};
use super::file::{ACTORS, IDS, LAYOUT, LOG, META, documents, opening};
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
}

impl Checked {
    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_NAMED_MAX {
            self.problems.push(text());
        }
    }
}

/// Checks a store that no process has open. Reads all of it; changes nothing but what opening after a crash repairs.
///
/// # Errors
/// [`StoreError`]: it is not there, in use, or not a store at all. Damage is not an error but what was found.
pub fn check(path: &Path) -> Result<Checked, StoreError> {
    require(path)?;
    let mut database =
        Database::builder().set_cache_size(TOOL_CACHE_MB << 20).open(path).map_err(|error| opening(path, error))?;
    let mut checked = Checked::default();
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => checked
            .problem(|| "pages did not agree with their checksums or the allocator; they were repaired".to_owned()),
        Err(error) => {
            checked.problem(|| format!("pages are damaged: {error}"));
            return Ok(checked);
        }
    }
    match tables(&database, &mut checked) {
        Ok(None) => Ok(checked),
        Ok(Some(found)) => Err(StoreError::Version { path: path.to_path_buf(), found, expected: LAYOUT }),
        Err(error) => {
            let source = Arc::new(error);
            Err(StoreError::Storage { path: path.to_path_buf(), operation: "checking the tables", source })
        }
    }
}

/// The tables against each other; another layout's number if it is not ours.
fn tables(database: &Database, checked: &mut Checked) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name: &str| meta.get(name).map(|value| value.map_or(0, |value| value.value()));
    let layout = number("layout")?;
    if layout != LAYOUT {
        return Ok(Some(layout));
    }
    checked.watermark = number("next_sequence")?.saturating_sub(1);
    let log = transaction.open_table(LOG)?;
    let actors = transaction.open_table(ACTORS)?;
    let ids = transaction.open_table(IDS)?;
    checked.interactions = log.len()?;
    let (mut keys, mut named, mut bytes) = (0, 0, 0);
    for entry in log.range::<u64>(..)? {
        let (sequence, record) = entry?;
        let sequence = sequence.value();
        bytes += record_cost(record.value());
        let record = match Record::decode(record.value()) {
            Ok(record) => record,
            Err(error) => {
                checked.problem(|| format!("interaction {sequence} does not decode: {error}"));
                continue;
            }
        };
        if sequence > checked.watermark {
            checked
                .problem(|| format!("interaction {sequence} is beyond the last sequence {}", checked_watermark(&meta)));
        }
        for actor in record.actors() {
            keys += 1;
            if actors.get((actor.as_str(), record.occurred_at_ms, sequence))?.is_none() {
                checked.problem(|| format!("interaction {sequence} is not in the index of actors"));
            }
        }
        if let Some(id) = record.interaction_id.as_deref() {
            named += 1;
            if ids.get(id)?.map(|value| value.value()) != Some(sequence) {
                checked.problem(|| format!("the id of interaction {sequence} is not in the index of ids"));
            }
        }
    }
    if actors.len()? != keys {
        let found = actors.len()?;
        checked.problem(|| format!("the index of actors has {found} entries, the log calls for {keys}"));
    }
    if ids.len()? != named {
        let found = ids.len()?;
        checked.problem(|| format!("the index of ids has {found} entries, the log calls for {named}"));
    }
    let counted = number("interaction_bytes")?;
    if counted != bytes {
        checked.problem(|| format!("the interactions take {bytes} bytes, the store counted {counted}"));
    }
    for table in Table::ALL {
        match transaction.open_table(documents(table)) {
            Ok(table) => checked.documents += table.len()?,
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn checked_watermark(meta: &redb::ReadOnlyTable<&'static str, u64>) -> u64 {
    meta.get("next_sequence").ok().flatten().map_or(0, |value| value.value().saturating_sub(1))
}

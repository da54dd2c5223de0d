//! The interaction log from its beginning to its end: the next training set.

use std::sync::Arc;

use super::super::StoreError;
use super::lookup::Entry;
use super::record::Record;
use super::{EmbeddedStore, Retention};
use crate::interaction::Interaction;

/// One interaction with all that was kept with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its place in the order of arrival.
    pub sequence: u64,
    /// When it was committed, milliseconds since 1970.
    pub arrived_at_ms: i64,
    /// The signed-in user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// What was done.
    pub interaction: Interaction,
}

impl EmbeddedStore {
    /// Opens a store that is there, to look at it: nothing is removed by age or size while it is open, nor what a restore has put aside.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`], or there is no such file.
    pub fn open_existing(path: &std::path::Path) -> Result<Self, StoreError> {
        let page_cache_mb = super::copy::TOOL_CACHE_MB;
        let options = super::EmbeddedOptions {
            keep: 1,
            cache_mb: 1,
            page_cache_mb,
            queue: 8_192,
            retention: Retention::default(),
        };
        Self::over(super::file::File::existing(path, page_cache_mb, None)?, options, || 0)
    }

    /// At most `limit` interactions after a sequence (0: from the first), in order of arrival, and the sequence to go on from; none at the end.
    /// May wait for the disk.
    ///
    /// # Errors
    /// The failure of the disk.
    pub fn blocking_log(&self, after: u64, limit: usize) -> Result<Option<(Vec<Logged>, u64)>, StoreError> {
        let records = self.shared.file.log(after, limit)?;
        let Some(last) = records.last().map(|(sequence, _)| *sequence) else { return Ok(None) };
        let logged = |(sequence, record): Entry| match record {
            Ok(record) => Some(logged(sequence, record)),
            Err(error) => {
                self.shared.file.skip(sequence, &error);
                None
            }
        };
        Ok(Some((records.into_iter().filter_map(logged).collect(), last)))
    }
}

fn logged(sequence: u64, mut record: Record) -> Logged {
    let (arrived_at_ms, user_id, session_id) = (record.arrived_at_ms, record.user_id.take(), record.session_id.take());
    let interaction = Arc::unwrap_or_clone(record.kept(sequence).interaction);
    Logged { sequence, arrived_at_ms, user_id, session_id, interaction }
}

//! One interaction as it lies in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::history::{Actor, Incoming, Kept};
use crate::interaction::Interaction;
use crate::limits;

/// The version of [`Record`].
const VERSION: u8 = 1;

/// One interaction as it is written. Fields are never reordered: a change is a new version of the record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) arrived_at_ms: i64,
    pub(super) user_id: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) interaction_id: Option<String>,
    pub(super) item_id: String,
    pub(super) kind: String,
    pub(super) value: Option<f32>,
    pub(super) occurred_at_ms: i64,
    pub(super) context: BTreeMap<String, String>,
}

impl Record {
    pub(super) fn new(incoming: &Incoming, arrived_at_ms: i64) -> Self {
        let interaction = &incoming.interaction;
        Self {
            arrived_at_ms,
            user_id: incoming.user_id.clone(),
            session_id: incoming.session_id.clone(),
            interaction_id: interaction.interaction_id.clone(),
            item_id: interaction.item_id.clone(),
            kind: interaction.kind.clone(),
            value: interaction.value,
            occurred_at_ms: interaction.occurred_at_ms,
            context: interaction.context.clone(),
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, VERSION, limits::RECORD_BYTES_MAX)
    }

    pub(super) fn kept(self, sequence: u64) -> Kept {
        let interaction = Interaction {
            interaction_id: self.interaction_id,
            item_id: self.item_id,
            kind: self.kind,
            value: self.value,
            occurred_at_ms: self.occurred_at_ms,
            context: self.context,
        };
        Kept { sequence, interaction: Arc::new(interaction) }
    }

    pub(super) fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        let user = self.user_id.as_deref().map(Actor::user);
        user.into_iter().chain(self.session_id.as_deref().map(Actor::session))
    }
}

/// What a record takes of the file with what points to it, in bytes, estimated: the same when it comes and when it goes.
pub(super) fn record_cost(record: &[u8]) -> u64 {
    /// Two entries in the index of actors and one in that of ids, with the engine's own bytes and what waits to be merged away.
    const INDEX_BYTES: u64 = 150;
    record.len() as u64 + INDEX_BYTES
}

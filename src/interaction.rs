//! One event between a visitor and an item.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;

/// The key in an interaction's context under which the recommendation is kept that it came from.
pub const RECOMMENDATION_ID: &str = "recommendation_id";

/// One thing a visitor did with one item.
///
/// Who did it is not part of the record: histories are kept per visitor, and the pure part never needs a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// The caller's identifier of the event; the same one twice is the same event.
    pub interaction_id: Option<String>,
    /// The item's key, opaque UTF-8 of at most 256 bytes.
    pub item_id: String,
    /// What happened: `view`, `cart`, `purchase`... The weighting says what it is worth.
    pub kind: String,
    /// A number that came with the event: stars, an amount, seconds watched. It does not take part in the user vector.
    pub value: Option<f32>,
    /// When it happened, milliseconds since 1970-01-01T00:00:00Z.
    pub occurred_at_ms: i64,
    /// Free key-value pairs, kept for the next training run.
    pub context: BTreeMap<String, String>,
}

/// What is wrong with an interaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InteractionError {
    /// A required text is empty.
    #[error("{field} is empty: send the {field} of the interaction")]
    Empty {
        /// The field at fault.
        field: &'static str,
    },
    /// A text is longer than its bound.
    #[error("{field} has {found} bytes, at most {expected} are allowed")]
    TooLong {
        /// The field at fault.
        field: &'static str,
        /// The bound, in bytes.
        expected: usize,
        /// The length found, in bytes.
        found: usize,
    },
    /// The value is infinite or not a number.
    #[error("value is not a finite number: leave it out or send a finite one")]
    ValueNotFinite,
    /// More context entries than allowed.
    #[error("context has {found} entries, at most {expected} are allowed")]
    ContextTooLarge {
        /// The bound.
        expected: usize,
        /// The number found.
        found: usize,
    },
}

impl Interaction {
    /// An interaction of the given kind with the given item at the given time, and nothing else.
    pub fn new(item_id: impl Into<String>, kind: impl Into<String>, occurred_at_ms: i64) -> Self {
        Self { item_id: item_id.into(), kind: kind.into(), occurred_at_ms, ..Self::default() }
    }

    /// Checks lengths and finiteness. Costs a few comparisons; call it once where the interaction enters.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), InteractionError> {
        text("item_id", &self.item_id, limits::KEY_BYTES_MAX)?;
        text("kind", &self.kind, limits::KIND_BYTES_MAX)?;
        if let Some(id) = &self.interaction_id {
            text("interaction_id", id, limits::KEY_BYTES_MAX)?;
        }
        if self.value.is_some_and(|value| !value.is_finite()) {
            return Err(InteractionError::ValueNotFinite);
        }
        // The tie to a recommendation is kept among them and is none of the sender's.
        let found = self.context.len() - usize::from(self.context.contains_key(RECOMMENDATION_ID));
        if found > limits::CONTEXT_ENTRIES_MAX {
            return Err(InteractionError::ContextTooLarge { expected: limits::CONTEXT_ENTRIES_MAX, found });
        }
        for (key, value) in &self.context {
            text("context key", key, limits::CONTEXT_BYTES_MAX)?;
            at_most("context value", value, limits::CONTEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}

fn text(field: &'static str, value: &str, bytes_max: usize) -> Result<(), InteractionError> {
    if value.is_empty() {
        return Err(InteractionError::Empty { field });
    }
    at_most(field, value, bytes_max)
}

fn at_most(field: &'static str, value: &str, bytes_max: usize) -> Result<(), InteractionError> {
    if value.len() > bytes_max {
        return Err(InteractionError::TooLong { field, expected: bytes_max, found: value.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_interaction_is_valid() {
        assert_eq!(Interaction::new("item-1", "view", 0).validate(), Ok(()));
    }

    #[test]
    fn each_bound_has_its_own_error() {
        let plain = || Interaction::new("item-1", "view", 0);
        let empty = Interaction { item_id: String::new(), ..plain() };
        assert_eq!(empty.validate(), Err(InteractionError::Empty { field: "item_id" }));
        let long = Interaction { item_id: "x".repeat(257), ..plain() };
        assert_eq!(long.validate(), Err(InteractionError::TooLong { field: "item_id", expected: 256, found: 257 }));
        let longest = Interaction { item_id: "x".repeat(256), ..plain() };
        assert_eq!(longest.validate(), Ok(()));
        let nan = Interaction { value: Some(f32::NAN), ..plain() };
        assert_eq!(nan.validate(), Err(InteractionError::ValueNotFinite));
        let context = (0..33).map(|i| (format!("key{i}"), String::new())).collect();
        let mut crowded = Interaction { context, ..plain() };
        assert_eq!(crowded.validate(), Err(InteractionError::ContextTooLarge { expected: 32, found: 33 }));
        crowded.context.remove("key0");
        crowded.context.insert(RECOMMENDATION_ID.to_owned(), "r".to_owned());
        assert_eq!(crowded.validate(), Ok(()), "it is not the sender's");
    }
}

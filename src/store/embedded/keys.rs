//! The keys of the keyspaces as bytes, which the engine keeps in order.

use std::ops::RangeInclusive;

use super::super::Table;
use crate::digest::sha256;

/// Bytes of the digest that stands for an interaction's id.
pub(super) const ID_BYTES: usize = 16;

pub(super) fn sequence(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// A number as [`sequence`] writes it; 0 if it is none.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// The key of one interaction of an actor: those of one actor lie together, in the order of their time.
pub(super) fn actor(actor: &str, occurred_at_ms: i64, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + actor.len() + 16);
    // With its length in front no actor's keys are among those of another whose name goes on.
    key.extend(u16::try_from(actor.len()).unwrap_or(u16::MAX).to_be_bytes());
    key.extend(actor.as_bytes());
    // The order of bytes is that of the signed numbers once the sign is turned round.
    key.extend((occurred_at_ms.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key.extend(sequence(number));
    key
}

/// All keys of an actor, oldest first.
pub(super) fn whole(name: &str) -> RangeInclusive<Vec<u8>> {
    actor(name, i64::MIN, 0)..=actor(name, i64::MAX, u64::MAX)
}

/// The sequence in a key of [`actor`].
pub(super) fn sequence_of(actor_key: &[u8]) -> u64 {
    actor_key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// 128 bits of SHA-256 stand for an id, so that an entry is small and of one size: that two ids share them by chance among 10^12 has a probability
/// of about 10^-15, and whoever looks for two on purpose needs some 2^64 hashes to hide an event of their own.
pub(super) fn id(interaction_id: &str) -> [u8; ID_BYTES] {
    let digest = sha256(&[interaction_id.as_bytes()]);
    let mut key = [0; ID_BYTES];
    key.copy_from_slice(&digest[..ID_BYTES]);
    key
}

/// The key of a document: the tables lie one after the other.
pub(super) fn document(table: Table, key: &str) -> Vec<u8> {
    [table.name().as_bytes(), b"\0", key.as_bytes()].concat()
}

/// Beyond every document of a table.
pub(super) fn after_documents(table: Table) -> Vec<u8> {
    [table.name().as_bytes(), b"\x01"].concat()
}

/// What the document's owner calls it.
pub(super) fn document_name(table: Table, key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(table.name().len() + 1..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_of_one_actor_are_in_the_order_of_time_and_among_no_others(
            (a, b) in ("[ab\0]{0,4}", "[ab\0]{0,4}"), at in any::<(i64, u64)>(), other in any::<(i64, u64)>(),
        ) {
            let (one, two) = (actor(&a, at.0, at.1), actor(&b, other.0, other.1));
            if a == b {
                prop_assert_eq!(one.cmp(&two), at.cmp(&other));
            }
            prop_assert_eq!(whole(&b).contains(&one), a == b);
            prop_assert_eq!(sequence_of(&one), at.1);
        }
    }
}

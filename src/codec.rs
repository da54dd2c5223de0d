//! Small records of our own as bytes: one version byte, then bincode with fixed-width little-endian integers.
//!
//! Only for values that this program wrote itself, never for mapped arrays and never for bytes from the network.
//! This is the only file that names bincode. Version 1.3.3 is what its authors call complete (3.0.0 is a tombstone); the
//! encoding is pinned by golden bytes in the tests below, so that replacing the crate is provably without effect.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits;

/// Why a record could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// There is no byte at all.
    #[error("the record is empty, expected version {expected}")]
    Empty {
        /// The version asked for.
        expected: u8,
    },
    /// The record is of another version.
    #[error("the record has version {found}, expected {expected}: use the program version that wrote it")]
    Version {
        /// The version asked for.
        expected: u8,
        /// The version found.
        found: u8,
    },
    /// The record is longer than its bound.
    #[error("the record has {found} bytes, at most {limit} are allowed")]
    TooLong {
        /// The bound, in bytes.
        limit: u64,
        /// The length found, in bytes.
        found: u64,
    },
    /// The value could not be written, or would be longer than its bound.
    #[error("the record cannot be encoded")]
    Encode(#[source] bincode::Error),
    /// The bytes are not such a record, or go on after its end.
    #[error("the record cannot be decoded")]
    Decode(#[source] bincode::Error),
}

/// A value as a record of the given version, at most [`limits::RECORD_BYTES_MAX`] long.
///
/// # Errors
/// The value is too large.
pub fn encode<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![version];
    options(limits::RECORD_BYTES_MAX - 1).serialize_into(&mut bytes, value).map_err(CodecError::Encode)?;
    Ok(bytes)
}

/// The value of a record of the given version, at most `limit` bytes long including the version byte.
///
/// # Errors
/// Another version, a longer record, bytes that are not such a value, or bytes after its end. Never panics, and allocates no
/// more than `limit` whatever the bytes claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], version: u8, limit: u64) -> Result<T, CodecError> {
    let Some((&found, rest)) = bytes.split_first() else { return Err(CodecError::Empty { expected: version }) };
    if found != version {
        return Err(CodecError::Version { expected: version, found });
    }
    if bytes.len() as u64 > limit {
        return Err(CodecError::TooLong { limit, found: bytes.len() as u64 });
    }
    options(limit).deserialize(rest).map_err(CodecError::Decode)
}

/// The free functions of bincode accept trailing bytes and have no limit; these options do neither.
fn options(limit: u64) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().reject_trailing_bytes().with_limit(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interaction::Interaction;

    fn interaction() -> Interaction {
        Interaction {
            interaction_id: Some("e1".to_owned()),
            value: Some(1.5),
            context: [("k".to_owned(), "v".to_owned())].into(),
            ..Interaction::new("i", "view", 258)
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let golden: &[u8] = &[
            7, // version
            1, 2, 0, 0, 0, 0, 0, 0, 0, b'e', b'1', // interaction_id
            1, 0, 0, 0, 0, 0, 0, 0, b'i', // item_id
            4, 0, 0, 0, 0, 0, 0, 0, b'v', b'i', b'e', b'w', // kind
            1, 0, 0, 0xc0, 0x3f, // value
            2, 1, 0, 0, 0, 0, 0, 0, // occurred_at_ms
            1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'k', 1, 0, 0, 0, 0, 0, 0, 0, b'v', // context
        ];
        assert_eq!(encode(7, &interaction()).unwrap(), golden);
        assert_eq!(decode::<Interaction>(golden, 7, 1_000).unwrap(), interaction());
    }

    #[test]
    fn each_damage_has_its_own_error() {
        let bytes = encode(7, &interaction()).unwrap();
        let decode = |bytes: &[u8], limit| decode::<Interaction>(bytes, 7, limit).unwrap_err();
        assert!(matches!(decode(&[], 100), CodecError::Empty { expected: 7 }));
        assert!(matches!(decode(&[8, 0], 100), CodecError::Version { expected: 7, found: 8 }));
        assert!(matches!(decode(&bytes, 20), CodecError::TooLong { limit: 20, .. }));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(decode(&longer, 1_000), CodecError::Decode(_)));
        for length in 1..bytes.len() {
            assert!(matches!(decode(&bytes[..length], 1_000), CodecError::Decode(_)), "{length}");
        }
        // A length that no memory could hold is refused, not allocated.
        let mut huge = bytes.clone();
        huge[2..10].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(decode(&huge, 1_000), CodecError::Decode(_)));
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused() {
        let novel = "x".repeat(limits::RECORD_BYTES_MAX as usize);
        assert!(matches!(encode(1, &novel), Err(CodecError::Encode(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Interaction>(&bytes, bytes.first().copied().unwrap_or(0), 1_000);
        }
    }
}

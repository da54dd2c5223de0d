//! The cursor of infinite scroll: what has been shown, carried by the client.
//!
//! Nothing is kept on the server, so a cursor outlives a restart, a new artifact and a change of server. It can leave out items and choose the
//! seed of chance, nothing else, so there is nothing to forge. As text: hexadecimal digits of a version, the seed, and each item's key behind its
//! length.

use super::body::not_our_cursor;
use super::error::Problem;
use crate::limits;

const VERSION: u8 = 1;

/// What a cursor says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cursor {
    /// The seed of the first page, so that chance goes on as it began.
    pub(super) seed: u64,
    /// Items that were shown, in the order in which they were.
    pub(super) shown: Vec<String>,
}

impl Cursor {
    /// Reads what [`Cursor::text`] wrote.
    ///
    /// # Errors
    /// [`Problem`] for anything else.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let bytes = from_hex(text).ok_or_else(not_our_cursor)?;
        let (head, mut rest) = bytes.split_first_chunk::<9>().ok_or_else(not_our_cursor)?;
        let (version, seed) = head.split_first().ok_or_else(not_our_cursor)?;
        if *version != VERSION {
            return Err(not_our_cursor());
        }
        let seed = seed.iter().rev().fold(0, |seed, byte| (seed << 8) | u64::from(*byte));
        let mut shown = Vec::new();
        while let Some((length, after)) = rest.split_first() {
            // A key has 1 to 256 bytes, so its length is kept less one.
            let (key, after) = after.split_at_checked(usize::from(*length) + 1).ok_or_else(not_our_cursor)?;
            shown.push(String::from_utf8(key.to_vec()).map_err(|_| not_our_cursor())?);
            rest = after;
        }
        if shown.len() > limits::CURSOR_ITEMS_MAX {
            return Err(not_our_cursor());
        }
        Ok(Self { seed, shown })
    }

    /// The cursor as it is sent.
    pub(super) fn text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.seed.to_le_bytes());
        for key in &self.shown {
            bytes.push(u8::try_from(key.len().saturating_sub(1)).unwrap_or(u8::MAX));
            bytes.extend(key.as_bytes());
        }
        to_hex(&bytes)
    }
}

/// Bytes as they may stand in an address.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads what [`to_hex`] wrote.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_says_what_it_was_told(seed: u64, shown in prop::collection::vec(".{1,60}", 0..40)) {
            let cursor = Cursor { seed, shown };
            prop_assert_eq!(Cursor::parse(&cursor.text()).unwrap(), cursor);
        }

        #[test]
        fn no_text_is_too_strange(text in "[0-9a-z]{0,200}|.{0,40}|01[0-9a-f]{16,80}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.text(), text.to_lowercase());
            }
        }
    }
}

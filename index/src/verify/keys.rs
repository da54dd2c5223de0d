//! The keys: text of the right length, and a table that finds each of them and nothing else.

use crate::error::VerifyError;
use crate::format::{KEY_BYTES_MAX, NONE};
use crate::keys::{AT_ONCE, KeyView};

pub(super) fn verify(keys: &KeyView<'_>, n: u32) -> Result<(), VerifyError> {
    offsets(keys)?;
    utf8(keys)?;
    slots(keys, n)?;
    let mut found = Vec::new();
    for start in (0..n).step_by(AT_ONCE) {
        // Looked up together, they do not wait for the memory one after the other.
        let batch: [&[u8]; AT_ONCE] =
            std::array::from_fn(|place| keys.bytes_of(start + place as u32).unwrap_or_default());
        found.clear();
        keys.find_all(&batch, &mut found);
        for (ordinal, found) in (start..n).zip(&found) {
            match *found {
                Some(found) if found == ordinal => {}
                Some(first) => return Err(VerifyError::KeyTwice { first, second: ordinal }),
                None => return Err(VerifyError::KeyNotFound { ordinal }),
            }
        }
    }
    Ok(())
}

/// The offsets cut the bytes into pieces of 1 to 256 bytes and leave none over.
fn offsets(keys: &KeyView<'_>) -> Result<(), VerifyError> {
    let offsets = keys.offsets();
    let ends = [(0, 0), (offsets.len().saturating_sub(1), keys.bytes().len() as u64)];
    for (place, expected) in ends {
        let found = offsets.get(place).copied().unwrap_or(u64::MAX);
        if found != expected {
            return Err(VerifyError::KeyOffset { place: place as u64, expected, found });
        }
    }
    for (ordinal, pair) in (0..).zip(offsets.windows(2)) {
        let &[from, to] = pair else { continue };
        let found = to.checked_sub(from).unwrap_or(u64::MAX);
        if found == 0 || found > KEY_BYTES_MAX as u64 {
            return Err(VerifyError::KeyLength { ordinal, found });
        }
    }
    Ok(())
}

/// Each key is UTF-8: all of them together are, and none begins in the middle of a character.
fn utf8(keys: &KeyView<'_>) -> Result<(), VerifyError> {
    let together = str::from_utf8(keys.bytes());
    let begins = |from: &u64| together.is_ok_and(|text| text.is_char_boundary(*from as usize));
    if keys.offsets().iter().all(begins) {
        return Ok(());
    }
    for ordinal in 0..keys.offsets().len() as u32 {
        if let Err(error) = str::from_utf8(keys.bytes_of(ordinal).unwrap_or_default()) {
            return Err(VerifyError::KeyUtf8 { ordinal, offset: error.valid_up_to() as u64 });
        }
    }
    Ok(())
}

/// Every slot is empty or an item, and as many are taken as there are items. Since each item is found, none is there twice.
fn slots(keys: &KeyView<'_>, n: u32) -> Result<(), VerifyError> {
    // Whether a slot is taken is as good as random, so this pass does not branch on it; where something is wrong is found out after.
    let (mut taken, mut wrong) = (0_u64, false);
    for slot in keys.table() {
        taken += u64::from(*slot != NONE);
        wrong |= (*slot != NONE) & (*slot >= n);
    }
    if !wrong && taken <= u64::from(n) {
        return Ok(());
    }
    let mut room = n;
    for (slot, &found) in (0..).zip(keys.table()).filter(|(_, found)| **found != NONE) {
        if found >= n {
            return Err(VerifyError::KeySlot { slot, expected: "an item or nothing", found });
        }
        let Some(left) = room.checked_sub(1) else {
            return Err(VerifyError::KeySlot { slot, expected: "nothing: all items have a slot", found });
        };
        room = left;
    }
    Ok(())
}

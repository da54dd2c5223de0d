//! The keys: text of the right length, and a table that finds each of them and nothing else.

use crate::error::VerifyError;
use crate::format::{KEY_BYTES_MAX, NONE};
use crate::keys::KeyView;

/// Keys whose first slots are read together, so that the reads need not wait for one another. Measured with 400,000 keys: a whole
/// verification takes 43 ms instead of 56.
const BATCH: usize = 32;

pub(super) fn verify(keys: &KeyView<'_>, n: u32) -> Result<(), VerifyError> {
    offsets(keys)?;
    slots(keys, n)?;
    for start in (0..n).step_by(BATCH) {
        let key_of = |ordinal| keys.bytes_of(ordinal).unwrap_or_default();
        let first: [Option<u32>; BATCH] = std::array::from_fn(|place| keys.first(key_of(start + place as u32)));
        for (ordinal, first) in (start..n).zip(first) {
            let key = key_of(ordinal);
            if let Err(error) = str::from_utf8(key) {
                return Err(VerifyError::KeyUtf8 { ordinal, offset: error.valid_up_to() as u64 });
            }
            // In the very first slot there is nothing before it that could have the same key.
            if first != Some(ordinal) {
                find(keys, ordinal, key)?;
            }
        }
    }
    Ok(())
}

fn find(keys: &KeyView<'_>, ordinal: u32, key: &[u8]) -> Result<(), VerifyError> {
    match keys.find(key) {
        Some(found) if found == ordinal => Ok(()),
        Some(first) => Err(VerifyError::KeyTwice { first, second: ordinal }),
        None => Err(VerifyError::KeyNotFound { ordinal }),
    }
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

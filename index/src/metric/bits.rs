//! Bits to ordinals: which of a set's items come next, a block at a time. One at a time would cost as much as comparing with them does.

use std::slice::Iter;
use std::sync::OnceLock;

/// Bits of a word.
pub(crate) const BITS: usize = u64::BITS as usize;

/// Most ordinals of a block. One that is half full is given away, so that the next word always has room.
pub(crate) const BLOCK: usize = 2 * BITS;

/// Room for a block.
pub(crate) type Ordinals = [u32; BLOCK];

/// Takes words, the first of which stands for the ordinals from `first` on, as far as there is room for theirs in the block; says how many
/// ordinals there are now, and sets `first` to that of the next word. What is behind them in the block means nothing.
pub(crate) type Unpack = fn(&mut Iter<'_, u64>, &mut u32, &mut Ordinals) -> usize;

/// The fastest way of this machine.
pub(crate) fn unpacking() -> Unpack {
    static BEST: OnceLock<Unpack> = OnceLock::new();
    *BEST.get_or_init(|| available().into_iter().find(|unpack| agrees(*unpack)).unwrap_or(portable))
}

fn available() -> Option<Unpack> {
    #[cfg(target_arch = "x86_64")]
    return super::x86::available_for_bits();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// The start-up self test: words of every density.
fn agrees(unpack: Unpack) -> bool {
    let noise = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(i | 1);
    let words: Vec<u64> =
        (0..64).map(|i| noise(i) & noise(i + 99) >> (i % 7) | noise(i) >> i).chain([0, u64::MAX]).collect();
    let all = |unpack: Unpack| {
        let (mut words, mut first, mut block, mut found) = (words.iter(), 7, [0; BLOCK], Vec::new());
        loop {
            let count = unpack(&mut words, &mut first, &mut block);
            if count == 0 {
                return (found, first);
            }
            found.extend_from_slice(block.get(..count).unwrap_or_default());
        }
    };
    all(unpack) == all(portable)
}

fn portable(words: &mut Iter<'_, u64>, first: &mut u32, block: &mut Ordinals) -> usize {
    let mut count = 0;
    while count <= BLOCK - BITS
        && let Some(word) = words.next()
    {
        let mut left = *word;
        for place in block.get_mut(count..).unwrap_or_default().iter_mut().take(word.count_ones() as usize) {
            *place = *first + left.trailing_zeros();
            left &= left.wrapping_sub(1);
            count += 1;
        }
        // Behind the last word of all there are, the next would be beyond what 32 bits hold.
        *first = first.wrapping_add(BITS as u32);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_agrees_with_the_portable_way() {
        assert!(available().is_none_or(agrees));
    }

    #[test]
    fn the_last_word_of_all_there_are_can_be_taken() {
        for unpack in available().into_iter().chain([portable as Unpack]) {
            let set = [1 | 1 << 63];
            let (mut words, mut first, mut block) = (set.iter(), u32::MAX - 63, [0; BLOCK]);
            assert_eq!(unpack(&mut words, &mut first, &mut block), 2);
            assert_eq!(block[..2], [u32::MAX - 63, u32::MAX]);
        }
    }
}

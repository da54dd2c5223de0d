//! A share of what goes by, evenly spread, of whatever comes again and again too.

use std::sync::atomic::{AtomicU64, Ordering};

/// Takes a share of what goes by. Shared by threads.
#[derive(Debug)]
pub(crate) struct Sample {
    share: f64,
    asked: AtomicU64,
}

/// 2^64 divided by the golden ratio: its multiples, modulo 2^64, lie evenly wherever one stops, and so do those of every second, third or thousandth
/// of them. Taking each thousandth would take the same placement of a page again and again, and of the others none.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Sample {
    /// A share from 0, nothing, to 1, everything.
    pub(crate) fn new(share: f64) -> Self {
        Self { share, asked: AtomicU64::new(0) }
    }

    /// Whether anything is taken.
    pub(crate) fn is_on(&self) -> bool {
        self.share > 0.0
    }

    /// Whether the next one is taken.
    pub(crate) fn takes_next(&self) -> bool {
        if !self.is_on() {
            return false;
        }
        let place = self.asked.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        self.share >= 1.0 || (place as f64) < self.share * 2.0_f64.powi(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_taken_of_all_and_of_each_that_comes_again() {
        for share in [0.0, 0.001, 0.3, 0.5, 1.0] {
            for period in [1_usize, 2, 3, 10, 1_000, 10_000] {
                let sample = Sample::new(share);
                let rounds = 20_000;
                let taken: Vec<bool> = (0..period * rounds / period.min(100)).map(|_| sample.takes_next()).collect();
                for first in (0..period).step_by(period.div_ceil(3)) {
                    let of_one: Vec<&bool> = taken.iter().skip(first).step_by(period).collect();
                    let found = of_one.iter().filter(|taken| ***taken).count() as f64;
                    let expected = share * of_one.len() as f64;
                    assert!((found - expected).abs() <= 6.0, "{share} {period} {first}: {found} of {expected}");
                }
            }
        }
    }
}

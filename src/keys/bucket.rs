//! How fast one key may call: a token bucket in one atomic number.
//!
//! The generic cell rate algorithm (ITU-T I.371): instead of counting tokens, the time is kept at which the bucket would be full again. It
//! is the same as a bucket of `burst` tokens that gains `per_second` a second, without a clock of its own: the time comes as an argument.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Rate;

const SECOND_NS: u64 = 1_000_000_000;

/// A token bucket, full at first.
#[derive(Debug)]
pub struct Bucket {
    /// Nanoseconds in which one token comes.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills.
    whole: u64,
    /// When the bucket will be full, nanoseconds of the caller's clock.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket. Rates are 1 to a thousand million a second.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let interval = (SECOND_NS / u64::from(rate.per_second.max(1))).max(1);
        Self { interval, whole: interval * u64::from(rate.burst.max(1)), full_at: AtomicU64::new(0) }
    }

    /// Takes a token. The time is in nanoseconds and does not run backwards.
    ///
    /// # Errors
    /// Nanoseconds until there will be one.
    pub fn take(&self, now: u64) -> Result<(), u64> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let after = full_at.max(now) + self.interval;
            let missing = after.saturating_sub(now).saturating_sub(self.whole);
            if missing > 0 {
                return Err(missing);
            }
            match self.full_at.compare_exchange_weak(full_at, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => full_at = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow twin: tokens, counted in units of a nanosecond's gain.
    struct Counted {
        interval: u64,
        most: u64,
        level: u64,
        at: u64,
    }

    impl Counted {
        fn take(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.at)).min(self.most);
            self.at = now;
            let enough = self.level >= self.interval;
            if enough {
                self.level -= self.interval;
            }
            enough
        }
    }

    proptest! {
        #[test]
        fn it_is_a_token_bucket(
            per_second in 1_u32..2_000,
            burst in 1_u32..50,
            steps in prop::collection::vec(0_u64..5_000_000, 1..300),
        ) {
            let bucket = Bucket::new(Rate { per_second, burst });
            let mut counted =
                Counted { interval: bucket.interval, most: bucket.whole, level: bucket.whole, at: 0 };
            let mut now = 0;
            for step in steps {
                now += step;
                let taken = bucket.take(now);
                prop_assert_eq!(taken.is_ok(), counted.take(now));
                if let Err(wait) = taken {
                    prop_assert_eq!(counted.interval - counted.level, wait);
                }
            }
        }
    }

    #[test]
    fn the_wait_that_is_named_is_enough() {
        let bucket = Bucket::new(Rate { per_second: 10, burst: 2 });
        assert_eq!((bucket.take(5), bucket.take(5)), (Ok(()), Ok(())));
        let wait = bucket.take(5).unwrap_err();
        assert_eq!(wait, SECOND_NS / 10);
        assert_eq!(bucket.take(5 + wait - 1), Err(1));
        assert_eq!(bucket.take(5 + wait), Ok(()));
    }
}

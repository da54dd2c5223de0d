//! Latencies that come one by one: counted in microseconds, told in milliseconds.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in microseconds; longer ones count as this.
const MICROS_MAX: u64 = 600_000_000;

/// Points of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// Exceeded by one in a hundred.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Latencies of one sort of request.
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> anyhow::Result<Self> {
        Histogram::new_with_bounds(1, MICROS_MAX, 3).context("making a histogram").map(Self)
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_told_as_milliseconds() {
        let mut latency = Latency::new().unwrap();
        (0..99).for_each(|_| latency.record(Duration::from_micros(500)));
        latency.record(Duration::from_secs(3_600));
        let Quantiles { p50, p99, max } = latency.quantiles();
        assert_eq!((latency.count(), p50, p99), (100, 0.5, 0.5));
        assert!((max - 600_000.0).abs() < 600.0, "what is longer than can be told apart counts as the longest: {max}");
    }
}

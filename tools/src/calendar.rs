//! The present as text. All times are UTC, so that the order of the texts is the order in time.

use std::time::{SystemTime, UNIX_EPOCH};

use kindred::timestamp::Timestamp;

/// A moment, in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl Moment {
    /// The present; 1970 on a machine whose clock is before it.
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// As RFC 3339: `2026-11-24T14:25:01Z`.
    pub fn rfc3339(self) -> String {
        Timestamp(self.0 as i64 * 1_000).to_string()
    }

    /// As a part of file names: `20261124T142501Z`.
    pub fn compact(self) -> String {
        self.rfc3339().replace(['-', ':'], "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_the_calendar_has_them() {
        assert_eq!(Moment(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Moment(951_782_399).rfc3339(), "2000-02-28T23:59:59Z");
        assert_eq!(Moment(951_782_400).rfc3339(), "2000-02-29T00:00:00Z");
        assert_eq!(Moment(1_795_530_301).compact(), "20261124T142501Z");
        assert_eq!(Moment(4_107_542_400).rfc3339(), "2100-03-01T00:00:00Z");
    }
}

//! Times as they are written: RFC 3339 text or milliseconds since 1970, to milliseconds and back.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Whole numbers nearer to 1970 than this (1973) are taken for seconds sent by mistake.
pub const LEAST_PLAUSIBLE_MS: i64 = 100_000_000_000;

const DAY_MS: i64 = 86_400_000;
/// 0000-01-01T00:00:00Z.
const YEAR_0_MS: i64 = -62_167_219_200_000;
/// 10000-01-01T00:00:00Z.
const YEAR_10000_MS: i64 = 253_402_300_800_000;

/// Whether a time can be written in RFC 3339: its year has four digits.
#[must_use]
pub fn has_text(ms: i64) -> bool {
    (YEAR_0_MS..YEAR_10000_MS).contains(&ms)
}

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = rfc3339(self.0);
        match text.strip_suffix(".000Z") {
            Some(seconds) => write!(f, "{seconds}Z"),
            None => f.write_str(&text),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Timestamp;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("RFC 3339 text such as \"2026-11-24T14:25:01Z\", or whole milliseconds since 1970")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Timestamp, E> {
                if (1..LEAST_PLAUSIBLE_MS).contains(&value) {
                    return Err(E::custom(format_args!(
                        "the time {value} looks like seconds: send milliseconds since 1970, or RFC 3339 text"
                    )));
                }
                // Years beyond four digits have no RFC 3339 text.
                if !has_text(value) {
                    return Err(E::custom(format_args!(
                        "the time {value} is not within the years 0 to 9999: leave out a time that never comes"
                    )));
                }
                Ok(Timestamp(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Timestamp, E> {
                let value = i64::try_from(value).map_err(|_| E::custom("the time is out of range"))?;
                self.visit_i64(value)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
                parse_rfc3339(text)
                    .map(Timestamp)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.fff…](Z|±HH:MM)` to milliseconds since 1970; `None` if it is not that. Digits beyond milliseconds are cut;
/// a leap second counts as the second before it.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, any_of: &[u8]| bytes.get(at).is_some_and(|byte| any_of.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let kept = digits.min(3);
        millis = number(at + 1, at + 1 + kept).filter(|_| digits > 0)? * [1, 100, 10, 1][kept];
        at += 1 + digits;
    }
    let offset_minutes = match bytes.get(at..)? {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + (minute - offset_minutes) * 60 + second.min(59);
    // An offset may lead out of the years that have four digits.
    Some(seconds * 1000 + millis).filter(|ms| has_text(*ms))
}

/// Milliseconds since 1970 as RFC 3339 text in UTC, to milliseconds. Years beyond four digits do not occur in checked input; they are written out.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date_of(days);
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The days of a month, 1 to 12, in the Gregorian calendar.
#[must_use]
pub fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
#[must_use]
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970: the inverse of [`days_since_1970`], from the same source.
#[must_use]
pub fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-24T14:25:01.5Z", 1_795_530_301_500),
            ("2026-11-24T15:25:01.500999+01:00", 1_795_530_301_500),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse_rfc3339(text), Some(ms), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in YEAR_0_MS..YEAR_10000_MS) {
            proptest::prop_assert_eq!(parse_rfc3339(&Timestamp(ms).to_string()), Some(ms));
            let json = serde_json::to_string(&Timestamp(ms)).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(ms));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            proptest::prop_assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        }
    }

    #[test]
    fn a_number_that_has_no_text_is_refused() {
        let read = |ms: i64| serde_json::from_str::<Timestamp>(&ms.to_string());
        for ms in [YEAR_0_MS - 1, YEAR_10000_MS, i64::MAX, 15_307_448_633_447_362] {
            assert!(read(ms).unwrap_err().to_string().contains("years 0 to 9999"), "{ms}");
        }
        assert_eq!(read(YEAR_10000_MS - 1).unwrap(), Timestamp(YEAR_10000_MS - 1));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
            "now",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-24",
            "2026-11-24T14:25:01",
            "2026-11-24T14:25:01.Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T14:25:01+1:00",
            "２０２６-11-24T14:25:01Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_sent_for_milliseconds_are_noticed() {
        let error = serde_json::from_str::<Timestamp>("1795530301").unwrap_err().to_string();
        assert!(error.contains("looks like seconds"), "{error}");
        assert_eq!(serde_json::from_str::<Timestamp>("1795530301500").unwrap(), Timestamp(1_795_530_301_500));
        assert_eq!(serde_json::from_str::<Timestamp>("0").unwrap(), Timestamp(0));
    }
}

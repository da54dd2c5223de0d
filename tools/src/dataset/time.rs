//! When something happened, from how a log says it.
//!
//! A number counts from 1970-01-01T00:00:00Z in a unit that all of a file share, or is a date without separators such as
//! `20171010`; a date is `2017-10-10`, or with a time of day after `T` or a space: `10:23`, `10:23:45` or `10:23:45.678`,
//! then nothing (which means UTC), `Z` or an offset `+02:00`, which may stand after a space.

use std::fmt;

use clap::ValueEnum;
use kindred::timestamp::{days_in_month, days_since_1970};
use serde::{Deserialize, Serialize};

const MS_PER_DAY: i64 = 86_400_000;
/// 0001-01-01 and the end of 9999: what is outside is no time of a log, but a number from another column.
const RANGE_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// What a number of a time column counts, or how else it is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since 1970.
    #[value(alias = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[value(alias = "ms")]
    Milliseconds,
    /// Microseconds since 1970.
    #[value(alias = "us")]
    Microseconds,
    /// Nanoseconds since 1970.
    #[value(alias = "ns")]
    Nanoseconds,
    /// Dates without separators, in UTC: 20171010, 201710101023 or 20171010102345.
    #[value(alias = "yyyymmdd")]
    Dates,
}

/// A time as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// A whole number, in a unit that is known when the column has been read.
    Number(i64),
    /// One that is not whole.
    Fraction(f64),
    /// Milliseconds since 1970.
    Millis(i64),
}

impl TimeUnit {
    /// All units: dates, then what is counted, finest last.
    pub const ALL: [Self; 5] = [Self::Dates, Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// The unit that a number of this size is likely to be in: seconds reach 10¹¹ in the year 5138. What can be read as a date from 1900 on is
    /// one where, counted, it would be of 1970 to 1976, or after 2570.
    pub fn told_by(number: i64) -> Self {
        let may_be_date = matches!(
            number,
            19_000_101..100_000_000 | 190_001_010_000..220_000_000_000 | 19_000_101_000_000..100_000_000_000_000
        );
        if may_be_date && date_of_digits(number).is_some() {
            return Self::Dates;
        }
        Self::counted(number)
    }

    /// The same of a number that is not whole, and so no date.
    pub fn told_by_fraction(number: f64) -> Self {
        Self::counted(number as i64)
    }

    fn counted(number: i64) -> Self {
        match number.unsigned_abs() {
            0..100_000_000_000 => Self::Seconds,
            100_000_000_000..100_000_000_000_000 => Self::Milliseconds,
            100_000_000_000_000..100_000_000_000_000_000 => Self::Microseconds,
            _ => Self::Nanoseconds,
        }
    }

    /// A number in this unit as milliseconds; none for what is no time between the years 1 and 9999.
    pub fn millis(self, number: i64) -> Option<i64> {
        let ms = match self {
            Self::Seconds => number.checked_mul(1_000)?,
            Self::Milliseconds => number,
            Self::Microseconds => number.div_euclid(1_000),
            Self::Nanoseconds => number.div_euclid(1_000_000),
            Self::Dates => date_of_digits(number)?,
        };
        RANGE_MS.contains(&ms).then_some(ms)
    }

    /// As [`TimeUnit::millis`], of a number that need not be whole.
    pub fn fraction_millis(self, number: f64) -> Option<i64> {
        let ms = match self {
            Self::Seconds => number * 1e3,
            Self::Milliseconds => number,
            Self::Microseconds => number / 1e3,
            Self::Nanoseconds => number / 1e6,
            Self::Dates => return None,
        };
        // A number of today is held to a quarter of a microsecond: 0.678 s may lie just below what was written.
        let ms = (ms + 5e-4).floor();
        // The range is far inside what an f64 holds exactly.
        (ms.is_finite() && RANGE_MS.contains(&(ms as i64))).then_some(ms as i64)
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
            Self::Dates => "dates like 20171010",
        })
    }
}

/// Reads a time. None if it is neither a number nor a date.
pub fn parse(text: &[u8]) -> Option<Time> {
    let text = text.trim_ascii();
    if let Some(number) = whole(text) {
        return Some(Time::Number(number));
    }
    if let Some(ms) = date_time(text) {
        return Some(Time::Millis(ms));
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if number.fract() == 0.0 && number.abs() < 9e18 {
        return Some(Time::Number(number as i64));
    }
    number.is_finite().then_some(Time::Fraction(number))
}

/// Milliseconds of a date whose digits stand together, with a time of day to the minute or the second, or without.
fn date_of_digits(number: i64) -> Option<i64> {
    let (date, clock) = match number {
        10_000_000..100_000_000 => (number, 0),
        100_000_000_000..1_000_000_000_000 => (number / 10_000, number % 10_000 * 100),
        10_000_000_000_000..100_000_000_000_000 => (number / 1_000_000, number % 1_000_000),
        _ => return None,
    };
    let days = days(date / 10_000, date / 100 % 100, date % 100)?;
    let (hour, minute, second) = (clock / 10_000, clock / 100 % 100, clock % 100);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days * MS_PER_DAY + (hour * 3_600 + minute * 60 + second) * 1_000)
}

/// Milliseconds of a date or a date with a time of day.
pub fn date_time(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = digits(&[*y1, *y2, *y3, *y4])?;
    let days = days(year, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)?;
    let of_day = match rest.split_first() {
        None => 0,
        Some((b'T' | b't' | b' ', rest)) => time_of_day(rest)?,
        Some(_) => return None,
    };
    Some(days * MS_PER_DAY + of_day)
}

/// Milliseconds since midnight UTC; negative or more than a day where an offset says so.
fn time_of_day(text: &[u8]) -> Option<i64> {
    let (clock, rest) = text.split_at_checked(5)?;
    let [h1, h2, b':', m1, m2] = clock else { return None };
    let (hour, minute) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    let (second, rest) = match rest.split_at_checked(3) {
        Some(([b':', s1, s2], rest)) => (digits(&[*s1, *s2])?, rest),
        _ => (0, rest),
    };
    let (fraction, rest) = match rest.split_first() {
        Some((b'.' | b',', rest)) => {
            let n = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, rest) = rest.split_at_checked(n)?;
            let ms = digits.iter().chain(b"000").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
            (ms, rest)
        }
        _ => (0, rest),
    };
    // 60 is a leap second; clocks that have them repeat or smear it.
    if minute > 59 || second > 60 {
        return None;
    }
    let of_day = (hour * 3_600 + minute * 60 + second) * 1_000 + fraction;
    // 24:00 is the end of a day.
    if hour > 23 && of_day > MS_PER_DAY {
        return None;
    }
    Some(of_day - offset(rest)?)
}

/// Milliseconds that a local clock is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, h, m) = match text.strip_prefix(b" ").unwrap_or(text) {
        [] | [b'Z' | b'z'] | [b'U', b'T', b'C'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        [sign, h1, h2] => (sign, digits(&[*h1, *h2])?, 0),
        _ => return None,
    };
    if h > 23 || m > 59 {
        return None;
    }
    let ms = (h * 60 + m) * 60_000;
    match sign {
        b'+' => Some(ms),
        b'-' => Some(-ms),
        _ => None,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar; none if there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let exists = year != 0 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    exists.then(|| days_since_1970(year, month, day))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, byte| byte.is_ascii_digit().then(|| n * 10 + i64::from(byte - b'0')))
}

/// A whole number of at most 18 digits, which cannot overflow.
fn whole(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        _ => (1, text),
    };
    if rest.is_empty() || rest.len() > 18 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    Some(sign * digits(rest)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::Moment;

    fn millis(text: &str) -> Option<i64> {
        match parse(text.as_bytes())? {
            Time::Millis(ms) => Some(ms),
            Time::Number(_) | Time::Fraction(_) => None,
        }
    }

    #[test]
    fn dates_are_read_as_they_are_usually_written() {
        let at = Some(1_507_630_980_000);
        for text in [
            "2017-10-10T10:23:00Z",
            "2017-10-10 10:23",
            "2017-10-10T12:23:00+02:00",
            "2017-10-10 10:23:00 UTC",
            "2017-10-10 12:23:00 +0200",
            "2017-10-10 10:23:00.000000+00",
            "2017-10-10 05:23:00 -05",
        ] {
            assert_eq!(millis(text), at, "{text}");
        }
        assert_eq!(millis("2017-10-09T24:00:00Z"), millis("2017-10-10"));
        assert_eq!(millis("2017-10-10T10:23:00.5-0000"), at.map(|ms| ms + 500));
        assert_eq!(millis("2017-10-10"), Some(1_507_593_600_000));
        assert_eq!(millis("1969-12-31T23:59:59Z"), Some(-1_000));
        for text in [
            "2017-13-01",
            "2017-02-29",
            "2017-10-10T25:00",
            "2017-10-10 24:59",
            "2017-10-10 24:00:01",
            "2017-10-10 10:23:00  +0200",
            "2017-10-10 10:23:00 +2400",
            "2017-10-10 10:23:00+02:60",
            "10.10.2017",
            "yesterday",
            "2017-10-10X",
            "nan",
            "",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_fraction_is_the_milliseconds_that_were_written() {
        for ms in 1..1_000 {
            let text = format!("1508194801.{ms:03}");
            let Some(Time::Fraction(number)) = parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(TimeUnit::Seconds.fraction_millis(number), Some(1_508_194_801_000 + ms), "{text}");
        }
    }

    #[test]
    fn numbers_are_told_by_their_size() {
        let now = 1_508_194_801;
        for (factor, unit) in [1, 1_000, 1_000_000, 1_000_000_000].into_iter().zip(TimeUnit::ALL.into_iter().skip(1)) {
            assert_eq!(TimeUnit::told_by(now * factor), unit);
            assert_eq!(unit.millis(now * factor), Some(now * 1_000));
        }
        assert_eq!(parse(b"1508194801"), Some(Time::Number(now)));
        assert_eq!(parse(b"1508194801.25"), Some(Time::Fraction(1_508_194_801.25)));
        assert_eq!(TimeUnit::Seconds.fraction_millis(1_508_194_801.25), Some(now * 1_000 + 250));
        assert_eq!(parse(b"1.508194801e9"), Some(Time::Number(now)));
        assert_eq!(TimeUnit::Seconds.millis(i64::MAX), None);
    }

    #[test]
    fn digits_of_a_date_are_no_seconds_of_1970() {
        for (number, text) in [
            (20_240_131, "2024-01-31"),
            (99_991_231, "9999-12-31"),
            (202_401_311_020, "2024-01-31T10:20:00Z"),
            (20_240_131_102_030, "2024-01-31T10:20:30Z"),
        ] {
            assert_eq!(TimeUnit::told_by(number), TimeUnit::Dates, "{text}");
            assert_eq!(TimeUnit::Dates.millis(number), millis(text), "{text}");
        }
        for (number, unit) in [
            (20_241_331, TimeUnit::Seconds),
            (20_230_229, TimeUnit::Seconds),
            (2_024_013_110, TimeUnit::Seconds),
            (202_401_312_520, TimeUnit::Milliseconds),
            (881_250_949_000, TimeUnit::Milliseconds),
            (20_240_131_106_030, TimeUnit::Milliseconds),
        ] {
            assert_eq!((TimeUnit::told_by(number), TimeUnit::Dates.millis(number)), (unit, None), "{number}");
        }
        assert_eq!(TimeUnit::Dates.fraction_millis(20_240_131.5), None);
    }

    proptest! {
        #[test]
        fn what_the_calendar_writes_is_read_back(seconds in 0_u64..253_402_300_800) {
            let text = Moment(seconds).rfc3339();
            prop_assert_eq!(millis(&text), Some(seconds as i64 * 1_000));
        }

        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..40), number in any::<i64>()) {
            let _ = parse(&text);
            let _ = TimeUnit::told_by(number).millis(number);
        }
    }
}

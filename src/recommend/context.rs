//! The circumstances of a request: device, country, time of day, place.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::scenario::{GeoPoint, WEEKDAYS};

/// What a request says about its circumstances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestContext {
    /// Free text by name: `device`, `country`, whatever the settings speak of.
    pub values: BTreeMap<String, String>,
    /// Where the visitor's clock stands against UTC, in minutes; for `hour` and `weekday`.
    pub utc_offset_minutes: i32,
    /// Where the visitor is.
    pub place: Option<GeoPoint>,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

impl RequestContext {
    /// The value of a key: what was said, or for `hour` (0 to 23) and `weekday` (mon to sun) what the clock says.
    pub fn value(&self, key: &str, now_ms: i64) -> Option<Cow<'_, str>> {
        match self.values.get(key) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => clock_value(key, now_ms.saturating_add(i64::from(self.utc_offset_minutes) * MINUTE_MS)),
        }
    }

    /// Whether a rule's conditions on the context hold: each key has one of its values. An hour may be given as a span, `22-5` over midnight.
    pub(super) fn holds(&self, when: &BTreeMap<String, Vec<String>>, now_ms: i64) -> bool {
        when.iter().all(|(key, values)| {
            let Some(found) = self.value(key, now_ms) else { return false };
            values.iter().any(|value| *value == found || (key == "hour" && in_span(value, &found)))
        })
    }
}

/// `hour` and `weekday` of a local time.
pub(crate) fn clock_value(key: &str, local_ms: i64) -> Option<Cow<'static, str>> {
    match key {
        "hour" => Some(Cow::Owned((local_ms.rem_euclid(DAY_MS) / HOUR_MS).to_string())),
        "weekday" => {
            // The first of January 1970 was a Thursday.
            let day = (local_ms.div_euclid(DAY_MS) + 3).rem_euclid(7);
            WEEKDAYS.get(usize::try_from(day).unwrap_or_default()).map(|day| Cow::Borrowed(*day))
        }
        _ => None,
    }
}

fn in_span(span: &str, hour: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let Some((from, to)) = span.split_once('-') else { return false };
    let (Some(from), Some(to), Some(hour)) = (number(from), number(to), number(hour)) else { return false };
    if from <= to { (from..=to).contains(&hour) } else { hour >= from || hour <= to }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wednesday, 2026-11-25T01:02:03Z.
    const NOW_MS: i64 = 1_795_568_523_000;

    #[test]
    fn the_clock_is_the_visitors() {
        let value = |key, utc_offset_minutes| {
            let context = RequestContext { utc_offset_minutes, ..RequestContext::default() };
            context.value(key, NOW_MS).map(Cow::into_owned)
        };
        assert_eq!((value("hour", 0).as_deref(), value("weekday", 0).as_deref()), (Some("1"), Some("wed")));
        assert_eq!((value("hour", -120).as_deref(), value("weekday", -120).as_deref()), (Some("23"), Some("tue")));
        assert_eq!(value("device", 0), None);
    }

    #[test]
    fn rules_hold_where_every_key_has_one_of_its_values() {
        let context = RequestContext {
            values: BTreeMap::from([("device".to_owned(), "mobile".to_owned())]),
            ..RequestContext::default()
        };
        let when = |pairs: &[(&str, &[&str])]| {
            pairs
                .iter()
                .map(|(key, values)| ((*key).to_owned(), values.iter().map(|v| (*v).to_owned()).collect()))
                .collect()
        };
        assert!(context.holds(&when(&[]), NOW_MS));
        assert!(context.holds(&when(&[("device", &["tablet", "mobile"]), ("hour", &["22-5"])]), NOW_MS));
        assert!(!context.holds(&when(&[("device", &["mobile"]), ("hour", &["6-12"])]), NOW_MS));
        assert!(!context.holds(&when(&[("country", &["de"])]), NOW_MS));
    }
}

//! A JSON object a line: only the fields that are asked for are looked at, and none is copied unless it has escapes in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::ColumnsTaken;
use super::error::PrepareError;
use super::log::{Row, RowTime};
use super::read::{ROWS_A_STEP, Reading};
use super::source::{Source, next_line};

/// All keys of the first lines, those of earlier lines first: not every row has every field.
pub(super) fn keys(source: &Source) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    // All rows may stand in one object, which then has as many keys.
    let mut seen = HashSet::new();
    for line in source.head_lines() {
        let Ok(fields) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(object(line)) else { continue };
        keys.extend(fields.into_keys().filter(|key| seen.insert(key.clone())));
    }
    keys
}

/// Fields that are remembered of those that first came after the first lines.
const LATE_MOST: usize = 1_000;

/// What came in the rows of a file.
pub(super) struct Came {
    /// The names of those wanted fields that some row had.
    pub(super) wanted: Vec<String>,
    /// Those of other fields that were not known yet.
    pub(super) late: Vec<String>,
}

/// Reads rows into the log. `known` are the fields of the first lines.
///
/// # Errors
/// The file cannot be read, or there is more than a log can hold.
pub(super) fn read(
    mut source: Source,
    taken: &ColumnsTaken,
    known: &[String],
    Reading { log, rules, progress }: Reading<'_>,
) -> Result<Came, PrepareError> {
    let ColumnsTaken { user, item, time, kind, value, rating } = taken;
    let wanted = [Some(user), Some(item), time.as_ref(), kind.as_ref(), value.as_ref(), rating.as_ref()];
    let mut came = [false; 6];
    let mut others = Others { known: known.iter().cloned().collect(), late: Vec::new() };
    let mut text = Vec::new();
    let mut line = 0_u64;
    while next_line(&mut source.reader, &mut text, &source.path)? {
        line += 1;
        if line.is_multiple_of(ROWS_A_STEP) {
            progress.set(source.done());
        }
        let json = object(&text);
        if json.is_empty() {
            continue;
        }
        match fields(json, &wanted, &mut came, &mut others) {
            Ok(fields) => {
                let [user, item, time, kind, value, rating] = &fields;
                let time = RowTime::Text(time);
                log.push(line, &Row { user, item, time, kind, value, rating }, rules)?;
            }
            Err(reason) => log.push_bad(line, reason, json),
        }
    }
    let wanted = wanted.into_iter().zip(came).filter(|(_, came)| *came).filter_map(|(name, _)| name.cloned()).collect();
    Ok(Came { wanted, late: others.late })
}

/// The object of a line. A comma after it, as in an array that has lost its brackets, says nothing.
pub(super) fn object(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_suffix(b",").unwrap_or(line)
}

type Fields<'a> = [Cow<'a, [u8]>; 6];

/// The fields of a row; those that it has are marked in `present`.
fn fields<'a>(
    json: &'a [u8],
    wanted: &[Option<&String>; 6],
    present: &mut [bool; 6],
    others: &mut Others,
) -> Result<Fields<'a>, &'static str> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let raw = Wanted { wanted, others }.deserialize(&mut deserializer).map_err(|_| "not a JSON object")?;
    deserializer.end().map_err(|_| "more than a JSON object")?;
    let mut fields: Fields<'a> = Default::default();
    present.iter_mut().zip(&raw).for_each(|(present, raw)| *present |= raw.is_some());
    for (field, raw) in fields.iter_mut().zip(raw) {
        *field = raw.map_or(Ok(Cow::Borrowed(b"".as_slice())), field_text)?;
    }
    Ok(fields)
}

/// Text without its quotes, a number as it is written, nothing for null.
fn field_text(raw: &RawValue) -> Result<Cow<'_, [u8]>, &'static str> {
    let raw = raw.get();
    match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Ok(Cow::Borrowed(inner)),
        [b'"', ..] => {
            let text: String = serde_json::from_str(raw).map_err(|_| "a text that is not UTF-8")?;
            Ok(Cow::Owned(text.into_bytes()))
        }
        b"null" => Ok(Cow::Borrowed(b"")),
        [b'0'..=b'9' | b'-', ..] => Ok(Cow::Borrowed(raw.as_bytes())),
        _ => Err("a field that is neither text nor a number"),
    }
}

/// The fields that are not wanted.
struct Others {
    known: HashSet<String>,
    /// Those that were not known, in the order in which they came.
    late: Vec<String>,
}

impl Others {
    fn see(&mut self, key: &str) {
        if !self.known.contains(key) && self.late.len() < LATE_MOST {
            self.known.insert(key.to_owned());
            self.late.push(key.to_owned());
        }
    }
}

struct Wanted<'w> {
    wanted: &'w [Option<&'w String>; 6],
    others: &'w mut Others,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = [Option<&'de RawValue>; 6];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = [Option<&'de RawValue>; 6];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; 6];
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let places = || self.wanted.iter().zip(0..).filter(|(name, _)| name.is_some_and(|name| *name == key));
            if places().next().is_none() {
                self.others.see(&key);
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &'de RawValue = map.next_value()?;
            for (_, place) in places() {
                if let Some(found) = found.get_mut(place as usize) {
                    *found = Some(value);
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(json: &str) -> Result<[String; 3], &'static str> {
        let names = ["user", "item", "value"].map(str::to_owned);
        let wanted = [Some(&names[0]), Some(&names[1]), None, None, Some(&names[2]), None];
        let others = &mut Others { known: HashSet::new(), late: Vec::new() };
        let [user, item, _, _, value, _] = fields(json.as_bytes(), &wanted, &mut [false; 6], others)?;
        Ok([user, item, value].map(|field| String::from_utf8(field.into_owned()).unwrap()))
    }

    #[test]
    fn fields_are_text_or_numbers_and_others_are_passed_over() {
        let found = three(r#"{"x": {"deep": [1]}, "user": 7, "item": "a\"b", "value": 2.50, "y": "z"}"#).unwrap();
        assert_eq!(found, ["7", "a\"b", "2.50"]);
        assert_eq!(three(r#"{"user": null}"#).unwrap(), ["", "", ""]);
        assert!(three(r#"{"user": ["a"]}"#).is_err());
        assert!(three("[1]").is_err());
        assert!(three(r#"{"user": "a"} {"user": "b"}"#).is_err());
        assert!(three(r#"{"user": "#).is_err());
    }
}

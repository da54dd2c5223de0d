//! Settings of the environment: which of its variables are ours, and what their text stands for.

use std::collections::HashMap;
use std::ffi::OsString;

use config::{Value, ValueKind};

use super::{HOME, SettingsError};

/// What the names of ours begin with.
const PREFIX: &str = "KINDRED__";
/// The variable that brings the key by which ids become pseudonyms.
pub(super) const PSEUDONYM_KEY: &str = "KINDRED__PEOPLE__PSEUDONYM_KEY";

/// What of the environment is ours. What is no text is passed over where it is another program's, and an error where it is ours.
pub(super) fn ours(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<HashMap<String, String>, SettingsError> {
    let named = variables.filter_map(|(key, value)| Some((key.into_string().ok()?, value)));
    let ours = named.filter(|(key, _)| key.starts_with(PREFIX));
    // The value is not shown: it may be the pseudonym key.
    let text = ours.map(|(key, value)| match value.into_string() {
        Ok(value) => Ok((key, value)),
        Err(_) => Err(SettingsError::Invalid { message: format!("{key} of the environment is not UTF-8") }),
    });
    text.collect()
}

/// What variables set, by dotted key.
pub(super) fn read(variables: HashMap<String, String>, usual: &Value) -> Result<Vec<(String, Value)>, SettingsError> {
    // A secret that did not get here: what is on the disk under plain ids stays there.
    if variables.get(PSEUDONYM_KEY).is_some_and(String::is_empty) {
        let message = format!("{PSEUDONYM_KEY} is empty: give it the key, or unset it to keep ids as they are");
        return Err(SettingsError::Invalid { message });
    }
    let origin = "the environment".to_owned();
    let set = variables.into_iter().filter_map(|(variable, text)| {
        let key = variable.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
        let value = Value::new(Some(&origin), meant(&key, text, usual));
        Some((key, value))
    });
    Ok(set.collect())
}

/// What a text stands for, by what the setting usually is: text stays as it is written, and a list is written with commas, with or without spaces
/// beside them.
fn meant(key: &str, text: String, usual: &Value) -> ValueKind {
    let parsed = match usually(key, usual).map(|usual| &usual.kind) {
        Some(ValueKind::String(_)) => None,
        // An empty one is no list of one empty text.
        Some(ValueKind::Array(_)) if text.trim().is_empty() => Some(ValueKind::Array(Vec::new())),
        Some(ValueKind::Array(_)) => Some(ValueKind::Array(text.split(',').map(str::trim).map(Value::from).collect())),
        Some(_) => number(&text),
        // Not known: it may be text too, so it is a number only where that is the same text again. The bounds of a range never are text.
        None => number(&text).filter(|number| key.contains(".range.") || as_text(number) == text),
    };
    parsed.unwrap_or(ValueKind::String(text))
}

/// What a setting is by default. In a scenario of the operator's own that is what it is in the usual one.
fn usually<'a>(key: &str, usual: &'a Value) -> Option<&'a Value> {
    let in_home = || {
        let (_, rest) = key.strip_prefix("scenarios.")?.split_once('.')?;
        at(&format!("scenarios.{HOME}.{rest}"), usual)
    };
    at(key, usual).or_else(in_home)
}

/// What stands under a dotted key.
pub(super) fn at<'a>(key: &str, found: &'a Value) -> Option<&'a Value> {
    key.split('.').try_fold(found, |found, name| match &found.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })
}

/// A number, or true or false.
fn number(text: &str) -> Option<ValueKind> {
    let flag = text.to_lowercase().parse().ok().map(ValueKind::Boolean);
    flag.or_else(|| text.parse().ok().map(ValueKind::I64)).or_else(|| text.parse().ok().map(ValueKind::Float))
}

fn as_text(number: &ValueKind) -> String {
    Value::new(None, number.clone()).into_string().unwrap_or_default()
}

//! Whole numbers: that none of them is made of a part of one on its way into the settings, which the crate that reads them would round.

use config::{Value, ValueKind};
use serde_json::Value as Made;

use super::edge::out_of_range;
use super::variables::at;
use super::{Settings, SettingsError};

/// Refuses a part of a number where a whole one is expected: it would be rounded, and a quarter of a day of retention be for ever.
pub(super) fn check_whole(key: &str, usual: &Value, found: &Value) -> Result<(), SettingsError> {
    match (&usual.kind, &found.kind) {
        (ValueKind::Table(usual), ValueKind::Table(found)) => found.iter().try_for_each(|(name, value)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            usual.get(name).map_or(Ok(()), |usual| check_whole(&key, usual, value))
        }),
        (ValueKind::I64(_), ValueKind::Float(number)) => check_number(key, *number),
        _ => Ok(()),
    }
}

/// As [`check_whole`], where names are the operator's own and the defaults have nothing to compare with: by what was made of the settings.
pub(super) fn check_named(settings: &Settings, found: &Value) -> Result<(), SettingsError> {
    let Settings { scenarios, experiments, history, .. } = settings;
    for (key, made) in [
        ("scenarios", serde_json::to_value(scenarios)),
        ("experiments", serde_json::to_value(experiments)),
        ("history.retention_days_by_kind", serde_json::to_value(&history.retention_days_by_kind)),
    ] {
        let made = made.map_err(|error| SettingsError::Invalid { message: format!("{key}: {error}") })?;
        at(key, found).map_or(Ok(()), |found| check_made(key, &made, found))?;
    }
    Ok(())
}

fn check_made(key: &str, made: &Made, found: &Value) -> Result<(), SettingsError> {
    match (made, &found.kind) {
        (Made::Object(made), ValueKind::Table(found)) => found.iter().try_for_each(|(name, value)| {
            made.get(name).map_or(Ok(()), |made| check_made(&format!("{key}.{name}"), made, value))
        }),
        (Made::Array(made), ValueKind::Array(found)) => {
            let mut places = made.iter().zip(found).enumerate();
            places.try_for_each(|(at, (made, value))| check_made(&format!("{key}[{at}]"), made, value))
        }
        (Made::Number(made), ValueKind::Float(number)) if !made.is_f64() => check_number(key, *number),
        _ => Ok(()),
    }
}

fn check_number(key: &str, number: f64) -> Result<(), SettingsError> {
    if number.fract() == 0.0 && number >= 0.0 {
        return Ok(());
    }
    Err(out_of_range(key, &number.to_string(), "a whole number"))
}

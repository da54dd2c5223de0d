//! The circumstances of a request: what it says of them, and what is known from a profile.

use std::collections::BTreeMap;

use super::body::check_count;
use super::error::Problem;
use crate::limits;
use crate::people::profile::Profile;
use crate::recommend::RequestContext;
use crate::scenario::GeoPoint;

/// Clocks stand within this of UTC, with some to spare.
pub(super) const UTC_OFFSET_MINUTES_MAX: u32 = 18 * 60;

/// The circumstances that a request names; none if it names none.
pub(crate) fn checked(
    values: BTreeMap<String, String>,
    utc_offset_minutes: i32,
    place: Option<GeoPoint>,
) -> Result<Option<RequestContext>, Problem> {
    if values.is_empty() && utc_offset_minutes == 0 && place.is_none() {
        return Ok(None);
    }
    check_count("context entries", values.len(), limits::CONTEXT_ENTRIES_MAX)?;
    let too_long = |text: &&String| text.len() > limits::CONTEXT_BYTES_MAX;
    if let Some(text) = values.iter().flat_map(|(key, value)| [key, value]).find(too_long) {
        return Err(Problem::limit("bytes of a context key or value", text.len(), limits::CONTEXT_BYTES_MAX));
    }
    if utc_offset_minutes.unsigned_abs() > UTC_OFFSET_MINUTES_MAX {
        let detail = format!("utc_offset_minutes is {utc_offset_minutes}, expected -1080 to 1080");
        let remedy = "send the offset of the visitor's clock in minutes, east of Greenwich positive";
        return Err(Problem::invalid(detail, remedy));
    }
    if let Some(place) = place.filter(|place| !place.is_on_earth()) {
        let detail = format!("location is {}, {}", place.lat, place.lon);
        return Err(Problem::invalid(detail, "send lat from -90 to 90 and lon from -180 to 180, in degrees"));
    }
    Ok(Some(RequestContext { values, utc_offset_minutes, place }))
}

/// What is known of the circumstances from a profile, where the request does not say it.
pub(crate) fn complete(context: &mut Option<RequestContext>, profile: &Profile) {
    for (key, value) in [("country", &profile.country), ("device", &profile.device)] {
        if let Some(value) = value {
            let values = &mut context.get_or_insert_default().values;
            values.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

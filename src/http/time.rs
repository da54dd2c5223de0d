//! How a time is described in the API; [`Timestamp`] parses it.

pub(crate) use crate::timestamp::Timestamp;

/// What a time may be: RFC 3339 text, or whole milliseconds since 1970.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the field in /openapi.json; Timestamp parses it, for better errors")]
pub(crate) enum TimestampDto {
    /// RFC 3339 text.
    Text(String),
    /// Milliseconds.
    Milliseconds(i64),
}

//! Bytes to a request: size, JSON, unknown fields, and what each failure says.
//!
//! The body is parsed where it lies. Depth is bounded by the parser (128) and by the types, which nest in filters only.

use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::{HttpRequest, web};
use serde::Deserialize;

use super::error::{Code, Problem, shown};
use crate::limits;

/// Parses a body. An unknown field is an error that names the known ones.
///
/// # Errors
/// [`Problem`] with the line and column and what was expected there.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(
            Code::InvalidJson,
            "the body is empty",
            "send a JSON object; {} asks for the defaults",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        let remedy = match error.classify() {
            serde_json::error::Category::Data => "see /openapi.json for the fields of this route and their types",
            _ => "send one well-formed JSON value, encoded as UTF-8",
        };
        Problem::new(Code::InvalidJson, shown_error(&error), remedy)
    })
}

/// The parser's message; it may quote the caller's text, so its length is bounded.
fn shown_error(error: &serde_json::Error) -> String {
    const CHARS_MAX: usize = 400;
    error.to_string().chars().take(CHARS_MAX).collect()
}

/// Bounds on bodies, paths and queries, and the shape of their errors.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(limits::BODY_BYTES_MAX))
        .app_data(web::PathConfig::default().error_handler(path_error))
        .app_data(web::QueryConfig::default().error_handler(query_error));
}

/// Why the bytes of a body could not be had.
pub(crate) fn payload_error(error: &actix_web::Error) -> Problem {
    let too_large = error.as_error::<PayloadError>().is_some_and(|error| matches!(error, PayloadError::Overflow));
    if too_large {
        return Problem::new(
            Code::BodyTooLarge,
            format!("the body is larger than {} bytes", limits::BODY_BYTES_MAX),
            "send fewer interactions or items a request",
        );
    }
    Problem::new(Code::InvalidRequest, format!("the body could not be read: {error}"), "send the whole body")
}

fn path_error(error: PathError, _: &HttpRequest) -> actix_web::Error {
    Problem::invalid(format!("the address cannot be decoded: {error}"), "percent-encode the id as UTF-8").into()
}

fn query_error(error: QueryPayloadError, request: &HttpRequest) -> actix_web::Error {
    let detail = format!("the query {:?} cannot be used: {error}", shown(request.query_string()));
    Problem::invalid(detail, "see /openapi.json for the query fields of this address").into()
}

/// Checks an id from a path, a query or a body.
///
/// # Errors
/// [`Problem`] naming the field if it is empty or too long.
pub(crate) fn check_id(field: &dyn std::fmt::Display, id: &str) -> Result<(), Problem> {
    if id.is_empty() {
        return Err(Problem::invalid(format!("{field} is empty"), format!("send a {field}, or leave the field out")));
    }
    if id.len() > limits::KEY_BYTES_MAX {
        return Err(Problem::new(
            Code::LimitExceeded,
            format!("{field} has {} bytes, at most {} are allowed", id.len(), limits::KEY_BYTES_MAX),
            "use a shorter id, for example its hash",
        ));
    }
    Ok(())
}

/// Checks the length of a list.
///
/// # Errors
/// [`Problem`] naming the list and its bound.
pub(crate) fn check_count(what: &str, found: usize, most: usize) -> Result<(), Problem> {
    if found > most { Err(Problem::limit(what, found, most)) } else { Ok(()) }
}

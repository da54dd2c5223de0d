//! Bytes to a request: content type, size, JSON, unknown fields, and what each failure says.
//!
//! The body is parsed where it lies. Depth is bounded by the parser (128) and by the types, which nest in filters only.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;

use super::error::{Code, Problem, shown};
use crate::limits;

/// The bytes of a request that brings JSON, within their bound.
pub(crate) struct Body(web::Bytes);

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FromRequest for Body {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let content_type = check_content_type(request);
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            content_type?;
            bytes.await.map(Self).map_err(|error| payload_error(&error))
        })
    }
}

/// JSON, or nothing said. Anything else is a mistake of the caller, or a form on some page that posts to this address.
fn check_content_type(request: &HttpRequest) -> Result<(), Problem> {
    let Some(found) = request.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let found = String::from_utf8_lossy(found.as_bytes());
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("the content type is {:?}", shown(&found)),
        "send JSON with the header content-type: application/json",
    ))
}

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
fn payload_error(error: &actix_web::Error) -> Problem {
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

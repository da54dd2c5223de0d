//! Bytes to a request: content type, size, JSON, unknown fields, and what each failure says.
//!
//! A body must come within its time, or a client that sends a byte a minute would hold a connection and its buffers for ever.
//! The body is parsed where it lies. Depth is bounded by the parser (128) and by the types, which nest in filters only.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::{PathError, PayloadError, QueryPayloadError};
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_core::Stream as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::error::{Code, Problem, shown};
use crate::filter::Object;
use crate::limits;

/// The bytes of a request that brings JSON, within their bound.
pub(crate) struct Body(web::Bytes);

/// How long a body may take to come.
#[derive(Clone, Copy)]
pub(crate) struct BodyTimeout(pub(crate) Duration);

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
        let bytes = receive(request, payload, check_content_type(request));
        Box::pin(async move { bytes.await.map(Self) })
    }
}

/// A whole number that every reader of JSON takes as it is written (RFC 8259, section 6): a larger one would come back as another.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<u64>::deserialize(deserializer)?;
    match number.filter(|number| *number > limits::JSON_INTEGER_MAX) {
        None => Ok(number),
        Some(number) => Err(D::Error::custom(format_args!(
            "{number} is more than {most}, beyond which JSON numbers lose digits",
            most = limits::JSON_INTEGER_MAX
        ))),
    }
}

/// A list of objects. One that is written as an array is refused, as [`json`] refuses a body.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Object(one)| one).collect())
}

/// The bytes of a request that brings a JSON list, or a JSON object a line.
pub(crate) struct Lines {
    bytes: web::Bytes,
    lines: bool,
}

impl Lines {
    /// Whether it is an object a line.
    pub(crate) fn is_lines(&self) -> bool {
        self.lines
    }
}

impl std::ops::Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromRequest for Lines {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        const LINES: [&str; 4] =
            ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
        let found = request.headers().get(CONTENT_TYPE).and_then(|found| found.to_str().ok()).unwrap_or_default();
        let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let lines = LINES.contains(&essence.as_str());
        let content_type = if lines { Ok(()) } else { check_content_type(request) };
        let bytes = receive(request, payload, content_type);
        Box::pin(async move { bytes.await.map(|bytes| Self { bytes, lines }) })
    }
}

/// What may stand before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a body, within its bound and its time.
fn receive(
    request: &HttpRequest,
    payload: &mut Payload,
    content_type: Result<(), Problem>,
) -> impl Future<Output = Result<web::Bytes, Problem>> + use<> {
    let said: Option<usize> =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let patience = request.app_data::<BodyTimeout>().map_or(Duration::MAX, |timeout| timeout.0);
    let stream = request.extensions_mut().remove::<Stream>();
    let streamed = stream.is_some().then(|| request.clone());
    let payload = stream.map_or_else(|| payload.take(), |stream| stream.0);
    let mut reading = Reading { payload, streamed };
    let encoding = check_encoding(request);
    async move {
        content_type.and(encoding)?;
        if said.is_some_and(|length| length > limits::BODY_BYTES_MAX) {
            return Err(too_large());
        }
        let bytes = in_time(read(&mut reading.payload), patience).await?;
        drop(reading.streamed.take());
        // Editors and shells begin a file with it, unseen; a reader may pass over it (RFC 8259, section 8.1).
        Ok(if bytes.starts_with(BYTE_ORDER_MARK) { bytes.slice(BYTE_ORDER_MARK.len()..) } else { bytes })
    }
}

/// A body that is being read. A stream that is not read to its end goes back to its request, whatever the reason: a wrong type, an error, or
/// another part of the request that was refused first.
struct Reading {
    payload: Payload,
    streamed: Option<HttpRequest>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(request) = self.streamed.take() {
            let payload = std::mem::replace(&mut self.payload, Payload::None);
            request.extensions_mut().insert(Stream(payload));
        }
    }
}

/// Most bodies come in one piece with the head. Only the others are worth a timer.
async fn in_time<T>(work: impl Future<Output = Result<T, Problem>>, patience: Duration) -> Result<T, Problem> {
    let mut work = std::pin::pin!(work);
    let at_hand = std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    });
    match at_hand.await {
        Some(outcome) => outcome,
        None => tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(too_slow(patience))),
    }
}

/// Reads a body to its end or its bound. One that comes in one piece is not copied.
async fn read(payload: &mut Payload) -> Result<web::Bytes, Problem> {
    let mut next = async || std::future::poll_fn(|context| Pin::new(&mut *payload).poll_next(context)).await;
    let Some(first) = next().await else { return Ok(web::Bytes::new()) };
    let first = first.map_err(|error| payload_error(&error))?;
    let Some(second) = next().await else { return within(first.len()).map(|()| first) };
    let mut bytes = web::BytesMut::from(first.as_ref());
    let mut part = Some(second);
    while let Some(found) = part {
        bytes.extend_from_slice(&found.map_err(|error| payload_error(&error))?);
        within(bytes.len())?;
        part = next().await;
    }
    Ok(bytes.freeze())
}

fn within(length: usize) -> Result<(), Problem> {
    if length > limits::BODY_BYTES_MAX { Err(too_large()) } else { Ok(()) }
}

/// A body whose length was not said. The server goes on reading one that nobody wants, to keep the connection, for as long as it is sent; so
/// what has not been read to its end is held beside the answer, which closes the connection instead.
struct Stream(Payload);

/// Takes the body of a request that does not say how long it is. Whether it was one.
pub(crate) fn keep_stream(request: &mut ServiceRequest) -> bool {
    let is_stream = request.headers().contains_key(TRANSFER_ENCODING);
    if is_stream {
        let payload = request.take_payload();
        request.extensions_mut().insert(Stream(payload));
    }
    is_stream
}

/// Holds an unread stream beside the answer.
pub(crate) fn close_unless_read<B>(response: ServiceResponse<EitherBody<B>>) -> ServiceResponse<EitherBody<B>>
where
    B: MessageBody + 'static,
{
    let Some(stream) = response.request().extensions_mut().remove::<Stream>() else { return response };
    response.map_body(|_, body| EitherBody::right(BoxBody::new(Holding { body: body.boxed(), _stream: stream })))
}

/// An answer, and the stream that was not read.
struct Holding {
    body: BoxBody,
    _stream: Stream,
}

impl MessageBody for Holding {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
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

/// The bytes as they are: nothing is unpacked here, and packed ones would be told to be bad JSON.
fn check_encoding(request: &HttpRequest) -> Result<(), Problem> {
    let Some(found) = request.headers().get(CONTENT_ENCODING) else { return Ok(()) };
    let found = String::from_utf8_lossy(found.as_bytes());
    if found.trim().eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("the content encoding is {:?}", shown(&found)),
        "send the body as it is, without the header content-encoding",
    ))
}

/// Parses a body that is an object. An unknown field is an error that names the known ones.
///
/// # Errors
/// As [`json_of_any_form`], and an array: the parser would take one for the fields of an object in their order, which nobody means.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Problem::new(
            Code::InvalidJson,
            "the body is an array, expected an object",
            "see /openapi.json for the fields of this route and their types",
        ));
    }
    json_of_any_form(body)
}

/// Parses a body. An unknown field is an error that names the known ones.
///
/// # Errors
/// [`Problem`] with the line and column and what was expected there.
pub(crate) fn json_of_any_form<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
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

/// The parser's message, without the names of our types; it may quote the caller's text, so its length is bounded.
pub(super) fn shown_error(error: &serde_json::Error) -> String {
    const CHARS_MAX: usize = 400;
    const NAMES: [(&[&str], &str); 3] = [
        (&["usize", "u64", "u32", "u16", "u8"], "a whole number of at least 0"),
        (&["i64", "i32"], "a whole number"),
        (&["f64", "f32"], "a number"),
    ];
    let mut text = error.to_string();
    for (types, words) in NAMES {
        for name in types {
            text = text.replace(&format!(", expected {name} at line "), &format!(", expected {words} at line "));
        }
    }
    text.chars().take(CHARS_MAX).collect()
}

/// Bounds on bodies, paths and queries, and the shape of their errors.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PathConfig::default().error_handler(path_error))
        .app_data(web::QueryConfig::default().error_handler(query_error));
}

fn too_slow(patience: Duration) -> Problem {
    Problem::new(
        Code::BodyTimeout,
        format!("the body had not come after {} ms", patience.as_millis()),
        "send the body at once, or raise http.client_body_timeout_ms",
    )
}

fn too_large() -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("the body is larger than {} bytes", limits::BODY_BYTES_MAX),
        "send fewer interactions or items a request",
    )
}

/// Why the bytes of a body could not be had.
fn payload_error(error: &PayloadError) -> Problem {
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
        return Err(Problem::invalid(format!("{field} is empty"), "send an id, or leave the field out"));
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

/// How many entries a page has: those asked for, or the usual number.
///
/// # Errors
/// [`Problem`] naming the bound.
pub(crate) fn page_limit(asked: Option<usize>, usual: usize) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(usual);
    if (1..=limits::LISTED_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit is {limit}, expected 1 to {}", limits::LISTED_MAX);
    Err(Problem::new(Code::LimitExceeded, detail, "ask for so many, and go on with next_cursor"))
}

/// A cursor that no page has given.
pub(crate) fn not_our_cursor() -> Problem {
    let remedy = "send the next_cursor of the page before as it is, or none for the first page";
    Problem::invalid("cursor is not one that an answer brought", remedy)
}

/// Checks the length of a list.
///
/// # Errors
/// [`Problem`] naming the list and its bound.
pub(crate) fn check_count(what: &str, found: usize, most: usize) -> Result<(), Problem> {
    if found > most { Err(Problem::limit(what, found, most)) } else { Ok(()) }
}

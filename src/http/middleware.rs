//! Around every request: a name, a count, a time, and a log line only where someone should look.
//!
//! There is no access log: at thousands of requests a second it costs more than the answers. Errors of ours and slow requests are
//! warnings; `kindred::http=debug` logs every request.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpRequest, web};

use super::body;
use super::connections;
use super::error::{Code, Problem};
use super::gate::{self, Passage};
use super::state::State;
use super::stopwatch::StageTimes;
use crate::audit::Deed;
use crate::clock::Clock;
use crate::limits;
use crate::telemetry::{Finished, Route, is_failure};
use crate::timestamp::has_text;

const NO_SUCH_ADDRESS: &str = "(no such address)";
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lets a request pass or not, names, times and counts it. An inbound `x-request-id` is kept if it is short and printable.
pub(crate) fn observe<S, B>(
    mut request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let started = Instant::now();
    let is_stream = body::keep_stream(&mut request);
    let state = request.app_data::<web::Data<State>>().cloned();
    let given = request.headers().get(&REQUEST_ID).filter(|id| acceptable(id)).cloned();
    let route = route_of(request.method(), request.path());
    let is_change = !gate::only_asks(request.method(), request.path());
    if let Some(state) = state.as_ref().filter(|state| state.clock.is_requested()) {
        set_clock(&state.clock, &request);
    }
    let parent = state.as_ref().filter(|state| state.traces.are_on());
    let parent = parent.and_then(|_| request.headers().get(&TRACE_PARENT).cloned());
    let mut passage = state.as_ref().map(|state| gate::pass(state, &request, started));
    let refused = passage.as_mut().and_then(|passage| passage.answer.take());
    let id = given.or_else(|| HeaderValue::from_str(&state.as_ref()?.names.next()).ok());
    let operator = state.as_ref().zip(passage.as_ref());
    let operator = operator.and_then(|(state, passage)| Operator::of(state, passage, &request, id.as_ref()));
    let work = match refused {
        Some(answer) => Err(request.into_response(answer).map_into_right_body()),
        None => Ok(service.call(request)),
    };
    async move {
        let mut response = match work {
            Err(refused) => told(std::future::ready(Ok(refused)), operator).await?,
            Ok(answer) if is_change => to_the_end(told(answer, operator), state.clone()).await?.map_into_left_body(),
            Ok(answer) => told(answer, operator).await?.map_into_left_body(),
        };
        let (Some(state), Some(passage)) = (state, passage) else { return Ok(response) };
        let elapsed = started.elapsed();
        let status = response.status().as_u16();
        state.metrics.request(route, status, elapsed);
        if status >= 500 || elapsed > state.slow_request || tracing::enabled!(tracing::Level::DEBUG) {
            log(&response, id.as_ref(), status, elapsed, state.slow_request);
        }
        if state.traces.are_on() {
            trace(&state, &response, parent.as_ref(), elapsed);
        }
        dress(&mut response, passage.origin);
        connections::close_unless_it_stays(&mut response);
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(if is_stream { body::close_unless_read(response) } else { response })
    }
}

/// Does a change to its end even where the caller goes away meanwhile: what the store keeps then is also seen, what was refused is in force, and
/// what the operator did is in the audit log. A stop waits for those that are left alone.
async fn to_the_end<T: 'static>(
    work: impl Future<Output = Result<T, Error>> + 'static,
    state: Option<web::Data<State>>,
) -> Result<T, Error> {
    let stopped =
        |error| Problem::new(Code::Internal, format!("{error}"), "report this with the request that caused it");
    let change = Rc::new(Change { state, is_alone: Cell::new(false) });
    let caller = Caller(Rc::clone(&change));
    let work = actix_web::rt::spawn(async move {
        let _until_it_is_done = change;
        work.await
    });
    let done = work.await.unwrap_or_else(|error| Err(stopped(error).into()));
    drop(caller);
    done
}

/// A change in progress; held by its task to the end.
struct Change {
    state: Option<web::Data<State>>,
    is_alone: Cell<bool>,
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(state) = self.state.as_ref().filter(|_| self.is_alone.get()) {
            state.left_alone.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whoever waits for a change; dropped before it is done where the caller goes away.
struct Caller(Rc<Change>);

impl Drop for Caller {
    fn drop(&mut self) {
        let is_in_progress = Rc::strong_count(&self.0) > 1;
        if let Some(state) = self.0.state.as_ref().filter(|_| is_in_progress) {
            state.left_alone.fetch_add(1, Ordering::Relaxed);
            self.0.is_alone.set(true);
        }
    }
}

/// Headers that every answer has, whatever it is.
fn dress<B>(response: &mut ServiceResponse<B>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What is said of a visitor, or to a key, is for nobody else: a cache on the way would keep it unless told.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// An answer, with what the audit log tells of it, if it tells something, already written.
async fn told<B>(
    answer: impl Future<Output = Result<ServiceResponse<B>, Error>>,
    operator: Option<Operator>,
) -> Result<ServiceResponse<B>, Error> {
    let response = answer.await?;
    if let Some(operator) = operator {
        operator.did(&response).await;
    }
    Ok(response)
}

/// Put beside a batch that is to delete items, for the audit log.
pub(super) struct Deletes;

/// Whoever asks for something that the audit log tells of: an operator's request, or a deletion.
struct Operator {
    state: web::Data<State>,
    caller: Option<Arc<str>>,
    id: Option<HeaderValue>,
}

impl Operator {
    /// None where nothing is told. Callers without a good key are counted elsewhere.
    fn of(
        state: &web::Data<State>,
        passage: &Passage,
        request: &ServiceRequest,
        id: Option<&HeaderValue>,
    ) -> Option<Self> {
        let is_known = state.keys.is_none() || passage.caller.is_some();
        let is_batch = *request.method() == Method::POST && request.path() == super::BATCH;
        let may_delete = *request.method() == Method::DELETE || is_batch;
        let is_told = is_known && (passage.is_admin || may_delete);
        is_told.then(|| Self { state: state.clone(), caller: passage.caller.clone(), id: id.cloned() })
    }

    /// Writes down what it did or tried to do.
    async fn did<B>(&self, response: &ServiceResponse<B>) {
        let request = response.request();
        let is_batch = request.path() == super::BATCH && *request.method() == Method::POST;
        if is_batch && request.extensions().get::<Deletes>().is_none() {
            return;
        }
        let status = response.status().as_u16();
        let who = self.caller.clone().unwrap_or_else(|| Arc::from("local"));
        if matches!(status, 403 | 429) && !self.state.audit.tells_refusal(&who, status, Instant::now()) {
            return;
        }
        let peer = request.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
        let write = self.state.audit.log(&Deed {
            at_ms: self.state.now_ms(),
            who: &who,
            peer: &peer,
            action: &format!("{} {}", request.method(), without_people(request)),
            outcome: response.status().as_str(),
            request_id: self.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        });
        // Not on this thread, which has others' requests to answer. While the server stops there may be no other.
        if let Some(write) = write
            && web::block(write).await.is_err()
        {
            tracing::error!("the audit log is not written any more: the server is stopping");
        }
    }
}

/// The path, or where it may name a person its pattern: the audit log outlives an erasure. Asked of the pattern, since a path may be written with
/// percent signs, and one that is none of ours may be one of a person's, misspelled.
fn without_people(request: &HttpRequest) -> Cow<'_, str> {
    match request.match_pattern() {
        Some(pattern) if pattern.starts_with("/v1/users/") || pattern.starts_with("/v1/sessions/") => {
            Cow::Owned(pattern)
        }
        Some(_) => Cow::Borrowed(request.path()),
        None if request.path().starts_with("/admin/") => Cow::Borrowed(request.path()),
        None => Cow::Borrowed(NO_SUCH_ADDRESS),
    }
}

/// Takes the present from a request, where the settings say so.
fn set_clock(clock: &Clock, request: &ServiceRequest) {
    let now = request.headers().get("x-kindred-now").and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    if let Some(now) = now.filter(|now| *now > 0 && has_text(*now)) {
        clock.set(now);
    }
}

fn log<B>(response: &ServiceResponse<B>, id: Option<&HeaderValue>, status: u16, elapsed: Duration, slow: Duration) {
    let request = response.request();
    // The pattern, not the path, and of a refusal its code, not its words: ids of people stay out of the log.
    let pattern = request.match_pattern();
    let (method, path) = (request.method().as_str(), pattern.as_deref().unwrap_or(NO_SUCH_ADDRESS));
    let request_id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    let took_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let error = response.response().error().map(|error| match error.as_error::<Problem>() {
        Some(problem) if status < 500 => problem.code_name().to_owned(),
        _ => error.to_string(),
    });
    let error = error.unwrap_or_default();
    if is_failure(status) {
        tracing::error!(method, path, status, took_us, request_id, error, "request failed");
    } else if elapsed > slow {
        let stages = response.response().extensions().get::<StageTimes>().copied();
        let stages_us = stages.map(|stages| format!("{stages:?}")).unwrap_or_default();
        tracing::warn!(method, path, status, took_us, request_id, stages_us, error, "request was slow");
    } else {
        // Refusals for want of room come in thousands; the counter tells them, and debug tells each.
        tracing::debug!(method, path, status, took_us, request_id, error, "request answered");
    }
}

/// Sends what was measured to whoever collects it.
fn trace<B>(state: &State, response: &ServiceResponse<B>, parent: Option<&HeaderValue>, elapsed: Duration) {
    let request = response.request();
    let pattern = request.match_pattern();
    let stages = response.response().extensions().get::<StageTimes>().map(StageTimes::in_order);
    state.traces.finished(&Finished {
        method: request.method().as_str(),
        route: pattern.as_deref().unwrap_or(NO_SUCH_ADDRESS),
        status: response.status().as_u16(),
        elapsed,
        is_slow: elapsed > state.slow_request,
        parent: parent.and_then(|parent| parent.to_str().ok()),
        stages_us: stages.as_ref().map_or(&[], |stages| stages.as_slice()),
    });
}

fn acceptable(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    !bytes.is_empty() && bytes.len() <= limits::REQUEST_ID_BYTES_MAX && bytes.iter().all(u8::is_ascii_graphic)
}

fn route_of(method: &Method, path: &str) -> Route {
    match path {
        "/v1/recommendations" if *method != Method::POST => Route::RecommendationLog,
        "/v1/recommendations" => Route::Recommendations,
        "/v1/interactions" => Route::Interactions,
        "/v1/search" => Route::Search,
        "/v1/score" => Route::Score,
        "/v1/items" => Route::Item,
        "/v1/model" => Route::Model,
        "/healthz" => Route::Health,
        "/readyz" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/openapi.json" => Route::OpenApi,
        "/admin/reload" => Route::Reload,
        "/admin/backup" => Route::Backup,
        "/" => Route::Page,
        _ if path.starts_with("/v1/items/") => match path["/v1/items/".len()..].strip_suffix("/similar") {
            Some(id) if !id.is_empty() => Route::Similar,
            _ => Route::Item,
        },
        _ if path.starts_with("/v1/users/") || path.starts_with("/v1/sessions/") => match path.rsplit('/').next() {
            Some("interactions") => Route::UserInteractions,
            Some("data") => Route::PersonData,
            Some("merge" | "unmerge") => Route::Merge,
            _ => Route::User,
        },
        _ if path.starts_with("/v1/recommendations/") => Route::Replay,
        _ if path.starts_with("/items/") || path.starts_with("/assets/") => Route::Page,
        _ => Route::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_apart_by_their_path() {
        let got = |path| route_of(&Method::GET, path);
        assert_eq!(got("/v1/items/a/similar"), Route::Similar);
        assert_eq!(got("/v1/items/similar"), Route::Item);
        assert_eq!(got("/v1/itemsx"), Route::Other);
        assert_eq!(got("/wp-login.php"), Route::Other);
        assert_eq!(got("/admin/backup"), Route::Backup);
        // A log that is read is no list that is made.
        assert_eq!(got("/v1/recommendations"), Route::RecommendationLog);
        assert_eq!(route_of(&Method::HEAD, "/v1/recommendations"), Route::RecommendationLog);
        assert_eq!(route_of(&Method::POST, "/v1/recommendations"), Route::Recommendations);
    }
}

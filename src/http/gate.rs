//! Before every request: may this caller do this?
//!
//! One rule for every address, those to come included: reading needs `read`, anything else `write`, `/admin` needs `admin`; a POST that only
//! asks is named below. The address is looked at as the router sees it, percent-decoded, so that `/%61dmin` is `/admin`.
//! Without keys everybody who reaches the port may do everything, but `/admin` is only for this machine, and pages of other sites may
//! change nothing, nor read under a name of theirs that they let point at this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::error::{Code, Problem, no_content};
use super::state::State;
use crate::keys::{Refusal, Role};
use crate::limits;

const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// What a proxy or a browser adds to a request of someone else.
const SENT_ON: [&str; 5] = ["forwarded", "x-forwarded-for", "x-real-ip", "via", "origin"];

/// What became of a request at the gate.
pub(crate) struct Passage {
    /// The answer, where the request goes no further.
    pub(crate) answer: Option<HttpResponse>,
    /// The name of the key, where there are keys and it is one of them, whether or not it may do this.
    pub(crate) caller: Option<Arc<str>>,
    /// Whether it is a request of the operator's.
    pub(crate) is_admin: bool,
    /// The origin whose page may read the answer.
    pub(crate) origin: Option<HeaderValue>,
}

/// Looks at the head of a request. Without keys: a comparison of the address, and for requests that change something a look for an origin.
pub(crate) fn pass(state: &State, request: &ServiceRequest, now: Instant) -> Passage {
    let need = role_needed(request.method(), request.match_info().as_str());
    let origin = allowed_origin(state, request);
    let mut passage = Passage { answer: None, caller: None, is_admin: need == Some(Role::Admin), origin };
    if passage.origin.is_some() && request.method() == Method::OPTIONS {
        passage.answer = Some(preflight());
        return passage;
    }
    let Some(role) = need else { return passage };
    let verdict = match &state.keys {
        Some(keys) => match keys.authorize(presented(request), role, now) {
            Ok(caller) => {
                passage.caller = Some(caller.name);
                Ok(())
            }
            Err(refusal) => {
                if let Refusal::Role(caller) | Refusal::TooFast { caller, .. } = &refusal {
                    passage.caller = Some(Arc::clone(&caller.name));
                }
                Err(refused(refusal, role, is_page(request.match_info().as_str())))
            }
        },
        None if passage.is_admin => only_local(request),
        None => own_name(state, request).and_then(|()| same_site(request, passage.origin.is_some())),
    };
    match verdict.and_then(|()| in_utf8(request.path())) {
        Ok(()) => {}
        Err(problem) => {
            state.metrics.refused(problem.code_name());
            passage.answer = Some(actix_web::ResponseError::error_response(&problem));
        }
    }
    passage
}

/// The router puts U+FFFD in the place of what is not UTF-8. As the id of a person that would be one for many: somebody else's data would be shown,
/// and an erasure would be acknowledged that erased nothing.
fn in_utf8(path: &str) -> Result<(), Problem> {
    // A percent sign that begins no escape stands for itself, as it does to the router.
    if percent_decode_str(path).decode_utf8().is_ok() {
        return Ok(());
    }
    Err(Problem::invalid(
        "the address does not decode to UTF-8",
        "percent-encode the bytes of the id in UTF-8: é is %C3%A9",
    ))
}

/// What a request needs; nothing for those that a load balancer sends.
pub(super) fn role_needed(method: &Method, path: &str) -> Option<Role> {
    let below = |room: &str| path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if matches!(path, "/healthz" | "/readyz") {
        return None;
    }
    if below("/admin") {
        return Some(Role::Admin);
    }
    // What is known of people, and what they were shown, is not for everyone who may ask for a list.
    let asks_for_a_list = *method == Method::POST && asks(path);
    let of_people = below("/v1/users") || below("/v1/sessions") || (below("/v1/recommendations") && !asks_for_a_list);
    let reads = only_asks(method, path) && !of_people;
    Some(if reads { Role::Read } else { Role::Write })
}

/// Whether a request changes nothing.
pub(super) fn only_asks(method: &Method, path: &str) -> bool {
    *method == Method::GET || *method == Method::HEAD || (*method == Method::POST && asks(path))
}

/// The addresses that take a body and change nothing.
fn asks(path: &str) -> bool {
    matches!(path, "/v1/recommendations" | "/v1/search" | "/v1/score") || path.ends_with("/similar")
}

/// `authorization: Bearer KEY` or `api-key: KEY`.
fn presented(request: &ServiceRequest) -> Option<&[u8]> {
    let bearer = |value: &'_ HeaderValue| {
        let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.len())
    };
    let headers = request.headers();
    let key = match headers.get(API_KEY) {
        Some(value) => value.as_bytes(),
        None => {
            let value = headers.get(header::AUTHORIZATION)?;
            let length = bearer(value)?;
            value.as_bytes().get(value.len() - length..)?
        }
    };
    (key.len() <= limits::PRESENTED_KEY_BYTES_MAX).then_some(key)
}

/// Whether somebody looks at it with a browser.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/items/")
}

fn refused(refusal: Refusal, need: Role, page: bool) -> Problem {
    match refusal {
        Refusal::Missing => {
            let then = if page {
                "a browser cannot send it: the pages are for servers without keys, or behind a proxy that adds the header"
            } else {
                "the operator makes keys with `kindred key new`"
            };
            Problem::new(
                Code::Unauthorized,
                "the request has no API key",
                format!("send the header `authorization: Bearer kin_…` or `api-key: kin_…`; {then}"),
            )
        }
        Refusal::Unknown => Problem::new(
            Code::Unauthorized,
            "the API key is not known",
            "ask the operator for a new one; a key is the text that `kindred key new` printed, beginning with kin_",
        ),
        Refusal::Role(caller) => Problem::new(
            Code::Forbidden,
            format!("key {:?} has the role {}, this needs {}", caller.name, caller.role.name(), need.name()),
            format!("use a key with the role {}", need.name()),
        ),
        Refusal::TooFast { seconds, .. } => Problem::too_fast(seconds),
    }
}

/// A peer on this machine that speaks for itself. Behind a proxy every peer is local, so what a proxy adds is refused; a browser says
/// where a page came from, and pages have no business here.
fn only_local(request: &ServiceRequest) -> Result<(), Problem> {
    let local = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    match SENT_ON.iter().find(|name| request.headers().contains_key(**name)) {
        None if local => Ok(()),
        Some(header) if local => Err(Problem::new(
            Code::Forbidden,
            format!("the request has the header {header}, so it was sent on for someone else"),
            "ask this machine directly, for example with curl, or send the process SIGHUP; or use keys (security.keys)",
        )),
        _ => Err(Problem::new(
            Code::Forbidden,
            "without keys only this machine may ask",
            "ask from the machine that the server runs on, send the process SIGHUP, or use keys (security.keys)",
        )),
    }
}

/// Without keys a page could have the browser of whoever sits at this machine ask under a name of its own site, which it lets point here: to the browser
/// both are then one site, and the page may add what headers it likes. So who asks from this machine has to name it by address, as localhost, or
/// by a name that the operator has given; where there are such names, so has everybody.
fn own_name(state: &State, request: &ServiceRequest) -> Result<(), Problem> {
    let local = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let is_asked = local || !state.hosts.is_empty();
    let Some(host) = request.headers().get(header::HOST).filter(|_| is_asked) else { return Ok(()) };
    let name = host.to_str().map(without_port).unwrap_or_default();
    if is_of_this_machine(name) || state.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        "without keys this server is asked by address or as localhost, the request names another host",
        "ask http://127.0.0.1 or http://localhost, add the name to security.hosts, or use keys (security.keys)",
    ))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host is an address or a name that always means the machine itself.
fn is_of_this_machine(name: &str) -> bool {
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if in_brackets.unwrap_or(name).parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Without keys a page of any site that the operator visits could send requests from the operator's browser.
fn same_site(request: &ServiceRequest, allowed: bool) -> Result<(), Problem> {
    if allowed || matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let from = origin.as_bytes().splitn(3, |byte| *byte == b'/').nth(2);
    if from.is_some_and(|from| from == host) {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        "the request comes from a page of another site",
        "add the page's origin to security.cors_origins, or ask from the server of that site",
    ))
}

/// The origin of a request, if its pages may call.
fn allowed_origin(state: &State, request: &ServiceRequest) -> Option<HeaderValue> {
    if state.cors_origins.is_empty() {
        return None;
    }
    let origin = request.headers().get(header::ORIGIN)?;
    // A browser writes the name in small letters, whatever the settings do.
    let is_it = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    state.cors_origins.iter().any(is_it).then(|| origin.clone())
}

/// The answer to a browser that asks whether a page may call.
fn preflight() -> HttpResponse {
    let mut answer = no_content();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        // The last two are added by what traces a page.
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, api-key, content-type, x-request-id, traceparent, tracestate",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_site_is_not_this_machine() {
        for host in
            ["localhost", "LocalHost:8080", "kindred.localhost:1", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]"]
        {
            assert!(is_of_this_machine(without_port(host)), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80", "", ":80"]
        {
            assert!(!is_of_this_machine(without_port(host)), "{host}");
        }
    }

    #[test]
    fn an_address_decodes_to_utf8_or_is_refused() {
        for path in ["/", "/v1/users/Ren%C3%A9", "/v1/items/100%", "/items/%2", "/items/%zz", "/items/%EF%BF%BD"] {
            assert!(in_utf8(path).is_ok(), "{path}");
        }
        for path in ["/v1/users/Ren%E9", "/v1/users/Ren%e9/data", "/%ff", "/v1/items/a%C3", "/v1/items/%C3%2F%A9"] {
            assert!(in_utf8(path).is_err(), "{path}");
        }
        assert!(percent_decode_str("/%61%2F%%41%4").eq(*b"/a/%A%4"));
    }

    #[test]
    fn what_changes_something_needs_more_than_what_asks() {
        let need = |method: &Method, path| role_needed(method, path);
        for (method, path, role) in [
            (Method::GET, "/healthz", None),
            (Method::GET, "/readyz", None),
            (Method::GET, "/", Some(Role::Read)),
            (Method::GET, "/metrics", Some(Role::Read)),
            (Method::GET, "/nowhere", Some(Role::Read)),
            (Method::HEAD, "/v1/items/a", Some(Role::Read)),
            (Method::POST, "/v1/recommendations", Some(Role::Read)),
            (Method::POST, "/v1/items/a/similar", Some(Role::Read)),
            (Method::POST, "/v1/interactions", Some(Role::Write)),
            (Method::PUT, "/v1/items", Some(Role::Write)),
            (Method::DELETE, "/v1/recommendations", Some(Role::Write)),
            (Method::OPTIONS, "/v1/items", Some(Role::Write)),
            (Method::GET, "/v1/users/u/export", Some(Role::Write)),
            (Method::GET, "/v1/usersx", Some(Role::Read)),
            (Method::GET, "/admin", Some(Role::Admin)),
            (Method::POST, "/admin/reload", Some(Role::Admin)),
            (Method::GET, "/administer", Some(Role::Read)),
        ] {
            assert_eq!(need(&method, path), role, "{method} {path}");
        }
    }
}

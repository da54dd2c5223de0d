//! The edge: every address, its bounds, and nothing that decides what is recommended.
//!
//! A handler parses, calls and renders. It computes on the worker's own thread, because the pure part takes tens of microseconds and a hop
//! to another thread costs as much; the only waiting is for the history store.

use actix_web::guard;
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use serde::Serialize;

mod backup;
mod body;
pub(crate) mod connections;
mod context;
mod cursor;
mod error;
mod gate;
mod interactions;
mod item_changes;
mod item_input;
mod item_list;
mod items;
mod kept;
mod lesser;
mod merge;
pub(crate) mod middleware;
pub mod openapi;
mod operations;
mod page;
mod recommendations;
mod replay;
mod score;
mod search;
pub(crate) mod state;
mod stopwatch;
mod time;
mod users;
mod visitor;

use error::{Code, Problem, method_not_allowed, not_found};

/// Every address of the server but the operator's.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(several(
            "/v1/recommendations",
            "GET, HEAD, POST",
            [web::post().to(recommendations::post), reading(web::to(replay::list))],
        ))
        .service(posted("/v1/recommendations/{id}/replay", web::to(replay::replay)))
        .service(several(
            "/v1/users/{id}",
            "GET, HEAD, PUT, PATCH, DELETE",
            [
                reading(web::to(users::get)),
                web::put().to(users::put),
                web::patch().to(users::patch),
                web::delete().to(users::delete),
            ],
        ))
        .service(got("/v1/users/{id}/interactions", web::to(kept::user_interactions)))
        .service(posted("/v1/users/{id}/merge", web::to(merge::merge)))
        .service(posted("/v1/users/{id}/unmerge", web::to(merge::unmerge)))
        .service(several(
            "/v1/users/{id}/data",
            "GET, HEAD, DELETE",
            [reading(web::to(kept::export_user)), web::delete().to(kept::erase_user)],
        ))
        .service(got("/v1/sessions/{id}/interactions", web::to(kept::session_interactions)))
        .service(several(
            "/v1/sessions/{id}/data",
            "GET, HEAD, DELETE",
            [reading(web::to(kept::export_session)), web::delete().to(kept::erase_session)],
        ))
        .service(posted("/v1/interactions", web::to(interactions::post)))
        .service(got("/v1/items/{id}/similar", web::to(items::get_similar)))
        .service(got("/v1/items", web::to(item_list::get)))
        .service(item("/v1/items/{id}"))
        .service(posted("/v1/search", web::to(search::post)))
        .service(posted("/v1/score", web::to(score::post)))
        .service(got("/v1/model", web::to(operations::model)))
        .service(got("/healthz", web::to(operations::health)))
        .service(got("/readyz", web::to(operations::ready)))
        .service(got("/openapi.json", web::to(openapi::get)))
        .service(got("/", web::to(page::home)))
        .service(got("/items/{id}", web::to(page::item)))
        .service(got("/assets/shop.css", web::to(page::style)))
        .service(got("/assets/shop.js", web::to(page::script)));
}

/// The operator's addresses: on an address of their own, or beside the others.
pub(crate) fn admin_routes(config: &mut web::ServiceConfig) {
    config
        .service(got("/metrics", web::to(operations::metrics)))
        .service(posted("/admin/reload", web::to(operations::reload)))
        .service(posted("/admin/backup", web::to(backup::post)));
}

/// What tells whether the server lives, for where the operator's addresses are alone.
pub(crate) fn health_routes(config: &mut web::ServiceConfig) {
    config.service(got("/healthz", web::to(operations::health))).service(got("/readyz", web::to(operations::ready)));
}

/// Bounds of requests, and the answer to addresses that do not exist.
pub(crate) fn bounds(config: &mut web::ServiceConfig, body_timeout: std::time::Duration) {
    config.app_data(body::BodyTimeout(body_timeout)).configure(body::configure).default_service(web::to(not_found));
}

/// An address that is read.
fn got(path: &str, route: Route) -> Resource {
    several(path, "GET, HEAD", [reading(route)])
}

/// An address that takes a body.
fn posted(path: &str, route: Route) -> Resource {
    several(path, "POST", [route.guard(guard::Post())])
}

/// A route that reads. HEAD is answered as GET, without the body.
fn reading(route: Route) -> Route {
    route.guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// An address that takes these methods, and refuses others.
fn several(path: &str, allow: &'static str, routes: impl IntoIterator<Item = Route>) -> Resource {
    let refuse = move |request: HttpRequest| async move { Err::<HttpResponse, _>(method_not_allowed(&request, allow)) };
    let resource = web::resource(path).default_service(web::to(refuse));
    routes.into_iter().fold(resource, Resource::route)
}

/// An item: read, put, patched and taken out. A batch stands here too, so that there may be an item with the id `batch`.
fn item(path: &str) -> Resource {
    const ALLOW: &str = "GET, HEAD, PUT, PATCH, DELETE";
    let refuse = |request: HttpRequest| async move {
        let allow = if request.path() == BATCH { "GET, HEAD, POST, PUT, PATCH, DELETE" } else { ALLOW };
        Err::<HttpResponse, _>(method_not_allowed(&request, allow))
    };
    several(
        path,
        ALLOW,
        [
            reading(web::to(items::get)),
            web::put().to(item_changes::put),
            web::patch().to(item_changes::patch),
            web::delete().to(item_changes::delete),
            web::post().guard(guard::fn_guard(is_batch)).to(item_changes::batch),
        ],
    )
    .default_service(web::to(refuse))
}

const BATCH: &str = "/v1/items/batch";

fn is_batch(context: &guard::GuardContext<'_>) -> bool {
    context.head().uri.path() == BATCH
}

/// An answer as JSON.
fn render<T: Serialize>(answer: &T) -> Result<HttpResponse, Problem> {
    /// A list of twenty items takes about this much; a larger one grows.
    const USUAL_BYTES: usize = 2048;
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut bytes, answer).map_err(|error| {
        Problem::new(Code::Internal, error.to_string(), "report this with the request that caused it")
    })?;
    Ok(HttpResponse::Ok().content_type("application/json").body(bytes))
}

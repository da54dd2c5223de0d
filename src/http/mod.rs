//! The edge: every address, its bounds, and nothing that decides what is recommended.
//!
//! A handler parses, calls and renders. It computes on the worker's own thread, because the pure part takes tens of microseconds and a hop
//! to another thread costs as much; the only waiting is for the history store.

use actix_web::{HttpResponse, web};
use serde::Serialize;

mod body;
mod error;
mod filter;
mod interactions;
mod items;
pub(crate) mod middleware;
pub mod openapi;
mod operations;
mod page;
mod recommendations;
mod score;
mod search;
pub(crate) mod state;
mod stopwatch;
mod time;
mod visitor;

use error::{Code, Problem, method_not_allowed, not_found};

/// Every address of the server.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let only = |path: &str, route: actix_web::Route| {
        web::resource(path).route(route).default_service(web::to(method_not_allowed))
    };
    config
        .configure(body::configure)
        .service(only("/v1/recommendations", web::post().to(recommendations::post)))
        .service(only("/v1/interactions", web::post().to(interactions::post)))
        .service(only("/v1/items/{id}/similar", web::get().to(items::get_similar)))
        .service(only("/v1/items/{id}", web::get().to(items::get)))
        .service(only("/v1/search", web::post().to(search::post)))
        .service(only("/v1/score", web::post().to(score::post)))
        .service(only("/v1/model", web::get().to(operations::model)))
        .service(only("/healthz", web::get().to(operations::health)))
        .service(only("/readyz", web::get().to(operations::ready)))
        .service(only("/metrics", web::get().to(operations::metrics)))
        .service(only("/openapi.json", web::get().to(openapi::get)))
        .service(only("/admin/reload", web::post().to(operations::reload)))
        .service(only("/", web::get().to(page::home)))
        .service(only("/items/{id}", web::get().to(page::item)))
        .service(only("/assets/shop.css", web::get().to(page::style)))
        .service(only("/assets/shop.js", web::get().to(page::script)))
        .default_service(web::to(not_found));
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

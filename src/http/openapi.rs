//! The description of the API, made from the handlers, committed as `config/openapi.json` and compared by a test.

mod bounds;

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use self::bounds::Bounds;
use super::{
    backup, gate, interactions, item_changes, item_list, items, kept, merge, operations, recommendations, replay,
    score, search, users,
};

/// The description of every address under `/v1`, and of those for operators.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kindred",
        description = "Given what this visitor has just done, which items should they see now? Errors are application/problem+json with a stable `code`.",
        license(name = "MIT OR Apache-2.0"),
    ),
    paths(
        interactions::post,
        recommendations::post,
        replay::list,
        replay::replay,
        users::get,
        users::put,
        users::patch,
        users::delete,
        kept::user_interactions,
        merge::merge,
        merge::unmerge,
        kept::export_user,
        kept::erase_user,
        kept::session_interactions,
        kept::export_session,
        kept::erase_session,
        score::post,
        item_list::get,
        item_changes::batch,
        items::get,
        item_changes::put,
        item_changes::patch,
        item_changes::delete,
        items::get_similar,
        search::post,
        operations::model,
        operations::health,
        operations::ready,
        operations::metrics,
        operations::reload,
        backup::post,
        get,
    ),
    components(schemas(super::error::ProblemBody)),
    modifiers(&Problems, &Bounds),
    tags(
        (name = "interactions", description = "what visitors did"),
        (name = "recommendations", description = "what they should see"),
        (name = "people", description = "who a visitor is, what they agreed to, and what is kept about them"),
        (name = "items", description = "the catalogue"),
        (name = "search", description = "the index itself"),
        (name = "operations", description = "for operators and machines"),
    )
)]
struct Description;

/// Adds the problems that every address of a kind may answer, so that a handler names only those of its own.
struct Problems;

/// What each request to `/v1` and each readiness check may meet.
const NOT_NOW: (&str, &str) = ("503", "no artifact is loaded, or too much to do; see Retry-After");
/// What each request with parameters or a body may meet.
const NOT_SO: (&str, &str) = ("400", "the request cannot be used; nothing was changed");
/// What each request with a body may meet.
const NOT_THIS: [(&str, &str); 3] = [
    ("408", "the body did not come in time"),
    ("413", "the body is too large"),
    ("415", "the body is not said to be JSON, or is packed"),
];
/// What each request meets that needs a key, where there are keys.
const NOT_YOU: [(&str, &str); 3] = [
    ("401", "there is no API key, or it is not known"),
    ("403", "this key, or this caller, may not do this"),
    ("429", "the key calls too often; see Retry-After"),
];
/// What each request to `/v1` that keeps something may meet, and one that changes items.
const NO_ROOM: (&str, &str) = ("507", "the store's disk is full; nothing was kept");
const NO_ROOM_FOR_ITEMS: (&str, &str) =
    ("507", "the store's disk is full, or too many items have changed since the last build; nothing was kept");

impl Modify for Problems {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let header = |name: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("api_key", header("api-key"));
        // The last for servers without keys.
        let with = |name: &str| SecurityRequirement::new(name, [] as [&str; 0]);
        description.security = Some(vec![with("bearer"), with("api_key"), SecurityRequirement::default()]);
        for (path, item) in &mut description.paths.paths {
            let methods = [
                (Method::GET, &mut item.get),
                (Method::POST, &mut item.post),
                (Method::PUT, &mut item.put),
                (Method::PATCH, &mut item.patch),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                let takes_body = operation.request_body.is_some();
                if takes_body || operation.parameters.is_some() {
                    add(operation, NOT_SO);
                }
                if takes_body {
                    NOT_THIS.into_iter().for_each(|problem| add(operation, problem));
                }
                if gate::role_needed(&method, path).is_some() {
                    NOT_YOU.into_iter().for_each(|problem| add(operation, problem));
                }
                if path.starts_with("/v1/") {
                    add(operation, NOT_NOW);
                    // A replay is a POST that keeps nothing.
                    if !gate::only_asks(&method, path) && !path.ends_with("/replay") {
                        add(operation, if path.starts_with("/v1/items") { NO_ROOM_FOR_ITEMS } else { NO_ROOM });
                    }
                }
            }
        }
    }
}

/// Adds a problem to an operation that does not describe this status itself.
fn add(operation: &mut Operation, (status, description): (&str, &str)) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody"))).build();
        let response = ResponseBuilder::new().description(description);
        response.content("application/problem+json", content).build().into()
    });
}

/// The description as pretty JSON with a line break at its end, the same bytes for the same source.
///
/// # Errors
/// The serializer's, which the test would show.
pub fn text() -> Result<String, serde_json::Error> {
    Description::openapi().to_pretty_json().map(|text| text + "\n")
}

/// Show this description
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_description", tag = "operations", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn get() -> HttpResponse {
    // The committed one; a test sees to it that it is the one of this source.
    HttpResponse::Ok().content_type("application/json").body(include_str!("../../config/openapi.json"))
}

//! The description of the API, made from the handlers, committed as `config/openapi.json` and compared by a test.

use actix_web::HttpResponse;
use utoipa::OpenApi;

use super::{interactions, items, operations, recommendations, score, search};

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
        score::post,
        items::get,
        items::get_similar,
        search::post,
        operations::model,
        operations::health,
        operations::ready,
        operations::metrics,
        operations::reload,
    ),
    tags(
        (name = "interactions", description = "what visitors did"),
        (name = "recommendations", description = "what they should see"),
        (name = "items", description = "the catalogue"),
        (name = "search", description = "the index itself"),
        (name = "operations", description = "for operators and machines"),
    )
)]
struct Description;

/// The description as pretty JSON with a line break at its end, the same bytes for the same source.
///
/// # Errors
/// The serializer's, which the test would show.
pub fn text() -> Result<String, serde_json::Error> {
    Description::openapi().to_pretty_json().map(|text| text + "\n")
}

/// Serves the committed description; the test sees to it that it is the one of this source.
pub(crate) async fn get() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(include_str!("../../config/openapi.json"))
}

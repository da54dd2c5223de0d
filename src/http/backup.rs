//! `POST /admin/backup`: a copy of the store, made while it goes on.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Problem, ProblemBody};
use super::state::State;

/// The copy.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupAnswer {
    /// Where it is, on the machine of the server.
    #[schema(example = "store/backups/kindred-000000001234")]
    pub(crate) file: String,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Interactions in it.
    pub(crate) interactions: u64,
    /// Documents in it, of all tables.
    pub(crate) documents: u64,
}

/// Copy the store
///
/// Everything that was committed when it began and nothing after it, in the directory `backups` beside the store, checked by `kindred fsck` and put
/// back by `kindred restore`. Answered when the copy is whole and synced: minutes for millions of interactions; the server goes on meanwhile. For the
/// operator, as a reload.
#[utoipa::path(
    post, path = "/admin/backup", operation_id = "back_up_store", tag = "operations",
    responses(
        (status = 200, description = "done", body = BackupAnswer, example = json!({
            "file": "store/backups/kindred-000000001234", "bytes": 1_310_720, "interactions": 1234, "documents": 17
        })),
        (status = 403, description = "not an administrator's key, or not from this machine", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "the copy could not be made, or another is being made (`history_busy`)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "the disk is full", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let copied = state.history.backup().await.map_err(|error| Problem::store(&error, state.retry_after_seconds))?;
    let file = copied.path.display().to_string();
    let (bytes, interactions, documents) = (copied.bytes, copied.interactions, copied.documents);
    Ok(HttpResponse::Ok().json(BackupAnswer { file, bytes, interactions, documents }))
}

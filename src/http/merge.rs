//! `POST /v1/users/{id}/merge` and `POST /v1/users/{id}/unmerge`: a visitor logs in, or two accounts turn out to be one.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Body, check_id, json};
use super::error::{Problem, ProblemBody};
use super::state::{State, Worker};
use crate::history::Actor;
use crate::timestamp::rfc3339;

/// What is merged into the user, or taken out again: exactly one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeRequest {
    /// A session: what was done in it, and what is done in it from now on, is the user's.
    #[serde(default)]
    #[schema(example = "session-8f3a")]
    session_id: Option<String>,
    /// Another user: asked about by either name, it is one person.
    #[serde(default)]
    user_id: Option<String>,
}

/// A merge that stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MergeAnswer {
    /// The user.
    pub(crate) user_id: String,
    /// Since when, RFC 3339. Merging again does not change it.
    pub(crate) merged_at: String,
    /// Until when it can be undone, RFC 3339.
    pub(crate) reversible_until: String,
    /// Users and sessions that the person is known by now.
    pub(crate) names: usize,
}

/// A merge that was undone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnmergeAnswer {
    /// The user.
    pub(crate) user_id: String,
    /// Users and sessions that the person is known by now.
    pub(crate) names: usize,
}

/// The user, and what is merged into it.
fn both(state: &State, id: &str, body: &[u8]) -> Result<(Actor, Actor), Problem> {
    check_id(&"user id", id)?;
    let request: MergeRequest = json(body)?;
    let source = match (&request.session_id, &request.user_id) {
        (Some(session), None) => {
            check_id(&"session_id", session)?;
            state.people.session(session)
        }
        (None, Some(user)) => {
            check_id(&"user_id", user)?;
            state.people.user(user)
        }
        _ => {
            return Err(Problem::invalid(
                "not exactly one of session_id and user_id is given",
                "name the session or the user that is merged into the one in the address",
            ));
        }
    };
    Ok((state.people.user(id), source))
}

/// Merge a session or a user into a user
///
/// From the next request on, whoever asks for the user is asked for as one person: what was done under the names is used, and excluded where a list
/// leaves out what was seen; of more than 50 names, that of all users and of the newest sessions. Listing, export and erasure have all names. Nothing is moved: `unmerge` leaves both as they would have been. A source that belongs to
/// another user is refused, and so is a circle; the same merge again changes nothing. A session that is asked about by itself stays by itself.
#[utoipa::path(
    post, path = "/v1/users/{id}/merge", operation_id = "merge_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    request_body(content = MergeRequest, examples(
        ("login" = (summary = "a visitor logs in", value = json!({"session_id": "session-8f3a"}))),
        ("accounts" = (summary = "two accounts are one person", value = json!({"user_id": "user-17-old"}))),
    )),
    responses(
        (status = 200, description = "merged", body = MergeAnswer),
        (status = 409, description = "the source belongs to another user, it would be a circle, or the person would have too many names", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "the store's disk is full, or no more users and sessions can be merged; nothing was kept", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn merge(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let id = path.into_inner();
    let (target, source) = both(&state, &id, &body)?;
    let merged = state.people.merge(&target, &source, state.now_ms()).await;
    let link = merged.map_err(|error| Problem::people(&error, state.retry_after_seconds))?;
    super::render(&MergeAnswer {
        merged_at: rfc3339(link.at_ms),
        reversible_until: rfc3339(state.people.reversible_until_ms(&link)),
        names: state.people.person(&target).len(),
        user_id: id,
    })
}

/// Undo a merge
///
/// For `people.unmerge_days` after the merge. What each of the two has done is its own again, also what was done since.
#[utoipa::path(
    post, path = "/v1/users/{id}/unmerge", operation_id = "unmerge_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    request_body(content = MergeRequest, example = json!({"session_id": "session-8f3a"})),
    responses(
        (status = 200, description = "no longer merged", body = UnmergeAnswer),
        (status = 409, description = "they are not merged, or the time is over", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn unmerge(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let id = path.into_inner();
    let (target, source) = both(&state, &id, &body)?;
    let undone = state.people.unmerge(&target, &source, state.now_ms()).await;
    undone.map_err(|error| Problem::people(&error, state.retry_after_seconds))?;
    super::render(&UnmergeAnswer { names: state.people.person(&target).len(), user_id: id })
}

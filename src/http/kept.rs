//! `GET /v1/users/{id}/interactions` and `/data`, the same for sessions, and `DELETE …/data`: what is kept about a person, shown and removed.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{check_id, not_our_cursor, page_limit};
use super::error::Problem;
use super::state::{State, Worker};
use super::users::ProfileDto;
use crate::history::{Actor, Kept};
use crate::interaction::RECOMMENDATION_ID;
use crate::manifest::TrainingWindow;
use crate::people::erase::Erasure;
use crate::timestamp::rfc3339;

/// Interactions in a page that asks for no number.
const LISTED: usize = 20;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Interactions wanted; 20 if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the last page ended: its `next_cursor`.
    cursor: Option<String>,
}

/// An interaction that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeptDto {
    /// The caller's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction_id: Option<String>,
    /// The item.
    item_id: String,
    /// What was done.
    kind: String,
    /// The number that came with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f32>,
    /// When, RFC 3339.
    occurred_at: String,
    /// The recommendation that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation_id: Option<String>,
    /// Free text by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    context: BTreeMap<String, String>,
}

/// A page of interactions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InteractionsPage {
    /// The interactions.
    interactions: Vec<KeptDto>,
    /// Send it as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
}

/// Everything that is kept about a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PersonData {
    /// Every name that the person is kept under: `u:` and the user's id or `s:` and the session's, hashed where ids are kept so.
    names: Vec<String>,
    /// What was set about the user, by the name that it is kept under; after a merge there may be several.
    profiles: BTreeMap<String, ProfileDto>,
    /// A page of interactions of the store, newest first.
    interactions: Vec<KeptDto>,
    /// Interactions that are in memory only, newest first; on the first page.
    in_memory: Vec<KeptDto>,
    /// Send it as `cursor` for the next page of interactions; null at the end.
    next_cursor: Option<String>,
}

/// What an erasure did. It names nobody, so it can be filed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// A name for this receipt.
    receipt_id: String,
    /// When everything was gone, RFC 3339. What was counted as trending names nobody, and goes with its window (`trending.window_hours`).
    erased_at: String,
    /// How much was removed.
    removed: RemovedCounts,
    /// What is kept on purpose: `refusal`, the user's standing choice that nothing be kept, or nothing on disk, without which the next request would
    /// be kept again.
    kept: Vec<&'static str>,
    /// Published artifacts, and whether their factors may carry the person's trace. It goes when the artifact goes: train and build anew, and
    /// remove the old generations.
    generations: Vec<GenerationTrace>,
}

/// How much was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedCounts {
    /// Interactions on disk.
    interactions: u64,
    /// Interactions in memory only.
    in_memory: u64,
    /// Profiles.
    profiles: u64,
    /// Merges.
    merges: u64,
    /// Whom the person followed, and who followed the person.
    follows: u64,
    /// Entries of the recommendation log.
    recommendations: u64,
}

/// Whether an artifact may carry a person's trace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerationTrace {
    /// The artifact.
    generation: String,
    /// `none_known` if all that was kept of the person came after the time that it was trained on, and all that came to this server in that time is
    /// still kept (`history.retention_days`, the shortest of `history.retention_days_by_kind`, no `history.max_mb`); else `possible`. It is not known
    /// here what stood in a log of another place that it was trained on, nor what an earlier erasure removed: that one's receipt tells.
    trace: &'static str,
    /// The first moment that it was trained on, if it says so.
    trained_from: Option<String>,
    /// The last.
    trained_to: Option<String>,
}

impl From<&Kept> for KeptDto {
    fn from(kept: &Kept) -> Self {
        let interaction = (*kept.interaction).clone();
        let mut context = interaction.context;
        Self {
            recommendation_id: context.remove(RECOMMENDATION_ID),
            interaction_id: interaction.interaction_id,
            item_id: interaction.item_id,
            kind: interaction.kind,
            value: interaction.value,
            occurred_at: rfc3339(interaction.occurred_at_ms),
            context,
        }
    }
}

fn cursor((at_ms, sequence): (i64, u64)) -> String {
    format!("{at_ms}.{sequence}")
}

impl PageQuery {
    /// How many, and after which place.
    fn checked(&self) -> Result<(usize, Option<(i64, u64)>), Problem> {
        let limit = page_limit(self.limit, LISTED)?;
        let place = |text: &str| {
            let (at_ms, sequence) = text.split_once('.')?;
            Some((at_ms.parse().ok()?, sequence.parse().ok()?))
        };
        let before = self.cursor.as_deref().map(|text| place(text).ok_or_else(not_our_cursor));
        Ok((limit, before.transpose()?))
    }
}

/// The names of the person that a path speaks of.
fn user_person(state: &State, id: &str) -> Result<Vec<Actor>, Problem> {
    check_id(&"user id", id)?;
    Ok(state.people.person(&state.people.user(id)))
}

/// A session alone: who holds a session need not be the user that it is merged into.
fn session_person(state: &State, id: &str) -> Result<Vec<Actor>, Problem> {
    check_id(&"session id", id)?;
    Ok(vec![state.people.session(id)])
}

async fn list(state: &State, person: &[Actor], query: &PageQuery) -> Result<HttpResponse, Problem> {
    let (limit, before) = query.checked()?;
    let listed = state.people.list(person, before, limit).await;
    let (page, next) = listed.map_err(|error| Problem::store(&error, state.retry_after_seconds))?;
    let interactions = page.iter().map(KeptDto::from).collect();
    super::render(&InteractionsPage { interactions, next_cursor: next.map(cursor) })
}

async fn export(state: &State, person: &[Actor], query: &PageQuery) -> Result<HttpResponse, Problem> {
    let (limit, before) = query.checked()?;
    let failed = |error| Problem::store(&error, state.retry_after_seconds);
    let (page, next) = state.people.list(person, before, limit).await.map_err(failed)?;
    let mut profiles = BTreeMap::new();
    for name in person {
        if let Some(profile) = state.people.profile(name).await.map_err(failed)? {
            profiles.insert(name.as_str().to_owned(), (*profile).clone().into());
        }
    }
    let in_memory = if before.is_none() { state.people.fleeting(person) } else { Vec::new() };
    super::render(&PersonData {
        names: person.iter().map(|one| one.as_str().to_owned()).collect(),
        profiles,
        interactions: page.iter().map(KeptDto::from).collect(),
        in_memory: in_memory.iter().map(KeptDto::from).collect(),
        next_cursor: next.map(cursor),
    })
}

async fn erase(state: &web::Data<State>, person: &[Actor]) -> Result<HttpResponse, Problem> {
    let erased = state.people.erase(person, &state.shown).await;
    let erasure = erased.map_err(|error| Problem::people(&error, state.retry_after_seconds))?;
    let for_disk = state.clone();
    let published = web::block(move || for_disk.reloader.published()).await.unwrap_or_default();
    let kept_since_ms = state.now_ms().saturating_sub(state.kept_for_ms);
    let trace = |(generation, window): (String, Option<TrainingWindow>)| GenerationTrace {
        generation,
        trace: if may_carry(&erasure, window, kept_since_ms) { "possible" } else { "none_known" },
        trained_from: window.map(|window| rfc3339(window.first_ms)),
        trained_to: window.map(|window| rfc3339(window.last_ms)),
    };
    super::render(&Receipt {
        receipt_id: state.names.next(),
        erased_at: rfc3339(state.now_ms()),
        removed: RemovedCounts {
            interactions: erasure.interactions,
            in_memory: erasure.fleeting,
            profiles: erasure.profiles,
            merges: erasure.merges,
            follows: erasure.follows,
            recommendations: erasure.recommendations,
        },
        kept: erasure.refusal_kept.then_some("refusal").into_iter().collect(),
        generations: published.into_iter().map(trace).collect(),
    })
}

/// Whether a person may have done something in the time that an artifact was trained on. What came before `kept_since_ms` may have been removed for its
/// age: who did nothing in such a time as far as is kept, or nothing at all, may still have left a trace.
fn may_carry(erasure: &Erasure, window: Option<TrainingWindow>, kept_since_ms: i64) -> bool {
    match (erasure.span_ms, window) {
        (Some((first, _)), Some(window)) => first <= window.last_ms || window.first_ms < kept_since_ms,
        _ => true,
    }
}

/// List what a user has done
///
/// Newest first, what was done under merged names included.
#[utoipa::path(
    get, path = "/v1/users/{id}/interactions", operation_id = "list_user_interactions", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17"), PageQuery),
    responses((status = 200, description = "a page", body = InteractionsPage, example = json!({"interactions": [{"item_id": "item-42", "kind": "view", "occurred_at": "2026-11-24T14:25:01Z"}], "next_cursor": null})))
)]
pub(crate) async fn user_interactions(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    list(&state, &user_person(&state, &path)?, &query).await
}

/// List what was done in a session
#[utoipa::path(
    get, path = "/v1/sessions/{id}/interactions", operation_id = "list_session_interactions", tag = "people",
    params(("id" = String, Path, description = "the session's id", example = "session-8f3a"), PageQuery),
    responses((status = 200, description = "a page", body = InteractionsPage, example = json!({"interactions": [{"item_id": "item-42", "kind": "view", "occurred_at": "2026-11-24T14:25:01Z"}], "next_cursor": null})))
)]
pub(crate) async fn session_interactions(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    list(&state, &session_person(&state, &path)?, &query).await
}

/// Export everything that is kept about a user
///
/// A page at a time: profile and names with each, interactions by page.
#[utoipa::path(
    get, path = "/v1/users/{id}/data", operation_id = "export_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17"), PageQuery),
    responses((status = 200, description = "a page of everything", body = PersonData, example = json!({
            "names": ["u:user-17"], "profiles": {"u:user-17": {"country": "DE", "device": "mobile", "labels": ["garden"], "follows": [], "consent": "full"}},
            "interactions": [{"item_id": "item-42", "kind": "view", "occurred_at": "2026-11-24T14:25:01Z"}], "in_memory": [], "next_cursor": null
        })))
)]
pub(crate) async fn export_user(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    export(&state, &user_person(&state, &path)?, &query).await
}

/// Export everything that is kept about a session
#[utoipa::path(
    get, path = "/v1/sessions/{id}/data", operation_id = "export_session", tag = "people",
    params(("id" = String, Path, description = "the session's id", example = "session-8f3a"), PageQuery),
    responses((status = 200, description = "a page of everything", body = PersonData, example = json!({
            "names": ["s:session-8f3a"], "profiles": {},
            "interactions": [{"item_id": "item-42", "kind": "view", "occurred_at": "2026-11-24T14:25:01Z"}], "in_memory": [], "next_cursor": null
        })))
)]
pub(crate) async fn export_session(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    export(&state, &session_person(&state, &path)?, &query).await
}

/// Erase a person
///
/// Everything that is kept about the user and all merged users and sessions is removed: interactions on disk and in memory, profile, merges, who
/// follows whom in both directions, and the entries of the recommendation log that the interactions name. Answered when it is gone, with a receipt that says what was removed and
/// which published artifacts may still carry a trace in their factors.
#[utoipa::path(
    delete, path = "/v1/users/{id}/data", operation_id = "erase_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    responses((status = 200, description = "erased", body = Receipt, example = json!({
            "receipt_id": "5d1c8e42000000000000000000000031", "erased_at": "2026-11-24T14:25:01Z",
            "removed": {"interactions": 12, "in_memory": 0, "profiles": 1, "merges": 1, "follows": 2, "recommendations": 3}, "kept": [],
            "generations": [{"generation": "20261124T120000Z-1", "trace": "possible", "trained_from": null, "trained_to": null}]
        })))
)]
pub(crate) async fn erase_user(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    erase(&state, &user_person(&state, &path)?).await
}

/// Erase a session
///
/// What was done in the session, wherever it was kept. Other names of a person that the session is merged into stay.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/data", operation_id = "erase_session", tag = "people",
    params(("id" = String, Path, description = "the session's id", example = "session-8f3a")),
    responses((status = 200, description = "erased", body = Receipt, example = json!({
            "receipt_id": "5d1c8e42000000000000000000000031", "erased_at": "2026-11-24T14:25:01Z",
            "removed": {"interactions": 12, "in_memory": 0, "profiles": 1, "merges": 1, "follows": 2, "recommendations": 3}, "kept": [],
            "generations": [{"generation": "20261124T120000Z-1", "trace": "possible", "trained_from": null, "trained_to": null}]
        })))
)]
pub(crate) async fn erase_session(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    erase(&state, &session_person(&state, &path)?).await
}

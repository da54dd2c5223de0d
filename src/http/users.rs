//! `PUT`, `PATCH`, `GET` and `DELETE /v1/users/{id}`: what is known about a user beside what they did.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::body::{Body, check_count, check_id, json};
use super::error::{Code, Problem, ProblemBody};
use super::state::{State, Worker};
use super::visitor::ConsentDto;
use crate::limits;
use crate::people::PeopleError;
use crate::people::profile::Profile;

/// What is known about a user.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProfileDto {
    /// Where, a code or name: the `country` of the user's requests whose `context` has none.
    #[schema(example = "DE")]
    country: Option<String>,
    /// With what: the `device` of the user's requests whose `context` has none.
    #[schema(example = "mobile")]
    device: Option<String>,
    /// Free labels: segments, interests asked for at registration.
    labels: Vec<String>,
    /// Ids of the users whom this one follows. Scenarios with a weight for `followed` list what those took lately, as far as they agree to be
    /// remembered. Where ids are kept as keyed hashes, answers have the hashes.
    #[schema(example = json!(["user-3"]))]
    follows: Vec<String>,
    /// The standing choice. What a request says can only be less. `none` is an opt-out: nothing is kept, nothing that was kept is used.
    consent: ConsentDto,
}

/// Changes of what is known about a user: a field that is left out stays, null removes it (RFC 7396).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProfilePatch {
    /// Where.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "AT")]
    country: Option<Option<String>>,
    /// With what.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    device: Option<Option<String>>,
    /// All labels anew.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    labels: Option<Option<Vec<String>>>,
    /// All who are followed anew.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    follows: Option<Option<Vec<String>>>,
    /// The standing choice.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<ConsentDto>)]
    consent: Option<Option<ConsentDto>>,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserAnswer {
    /// The user's id, as it was given.
    pub(crate) user_id: String,
    /// Where.
    country: Option<String>,
    /// With what.
    device: Option<String>,
    /// Free labels.
    labels: Vec<String>,
    /// Who is followed, under the ids that are kept.
    follows: Vec<String>,
    /// The standing choice: the least that was said under any of the person's names.
    consent: ConsentDto,
    /// Users and sessions that are merged into the user, those merged into them included. Where ids are kept as keyed hashes, these are the
    /// hashes.
    pub(crate) merged: Vec<String>,
    /// The user that this one is merged into, if it is; what is known about it is then what is shown here.
    pub(crate) merged_into: Option<String>,
}

/// Whether something was there to be removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedAnswer {
    /// Whether there was anything to remove.
    pub(crate) removed: bool,
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ProfileDto {
    fn profile(self, state: &State) -> Result<Profile, Problem> {
        let Self { country, device, labels, follows, consent } = self;
        Ok(Profile { country, device, labels, follows: names(state, follows)?, consent: consent.into() })
    }
}

/// The names under which those are kept whom a user follows, each once.
fn names(state: &State, ids: Vec<String>) -> Result<Vec<String>, Problem> {
    check_count("follows", ids.len(), limits::FOLLOWS_MAX)?;
    ids.iter().try_for_each(|id| check_id(&"user id in follows", id))?;
    let mut names: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        let name = state.people.user(&id).id().to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

impl From<Profile> for ProfileDto {
    fn from(profile: Profile) -> Self {
        let Profile { country, device, labels, follows, consent } = profile;
        Self { country, device, labels, follows, consent: consent.into() }
    }
}

impl ProfilePatch {
    /// `follows` has been checked and is in kept names.
    fn apply(self, follows: Option<Vec<String>>, profile: &mut Profile) {
        if let Some(country) = self.country {
            profile.country = country;
        }
        if let Some(device) = self.device {
            profile.device = device;
        }
        if let Some(labels) = self.labels {
            profile.labels = labels.unwrap_or_default();
        }
        if let Some(follows) = follows {
            profile.follows = follows;
        }
        if let Some(consent) = self.consent {
            profile.consent = consent.unwrap_or_default().into();
        }
    }
}

/// The answer about a user whose profile is given.
fn shown(state: &State, id: String, profile: Profile) -> Result<HttpResponse, Problem> {
    let user = state.people.user(&id);
    let person = state.people.person(&user);
    let root = person.first().filter(|root| **root != user).map(|root| root.id().to_owned());
    let merged = person.iter().skip(1).filter(|one| **one != user).map(|one| one.as_str().to_owned()).collect();
    let bound = Profile { consent: profile.consent.and(state.people.standing(&user)), ..profile };
    let ProfileDto { country, device, labels, follows, consent } = bound.into();
    super::render(&UserAnswer { user_id: id, country, device, labels, follows, consent, merged, merged_into: root })
}

fn failed(state: &State, error: &PeopleError) -> Problem {
    Problem::people(error, state.retry_after_seconds)
}

/// Set what is known about a user
///
/// Everything that the body leaves out is unset, but for `consent`: who says nothing of it takes no refusal back. A user need not be set before their
/// interactions come.
#[utoipa::path(
    put, path = "/v1/users/{id}", operation_id = "put_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    request_body(content = ProfileDto, example = json!({"country": "DE", "device": "mobile", "labels": ["garden"], "consent": "full"})),
    responses((status = 200, description = "set", body = UserAnswer))
)]
pub(crate) async fn put(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let id = path.into_inner();
    check_id(&"user id", &id)?;
    let profile = json::<ProfileDto>(&body)?.profile(&state)?;
    let decides = json::<ProfilePatch>(&body)?.consent.is_some();
    let user = state.people.user(&id);
    state.people.set_profile(&user, Some(&profile), decides).await.map_err(|error| failed(&state, &error))?;
    shown(&state, id, profile)
}

/// Change what is known about a user
///
/// A JSON merge patch: a field that is left out stays, null unsets it. A user about whom nothing was known is created.
#[utoipa::path(
    patch, path = "/v1/users/{id}", operation_id = "patch_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    request_body(content = ProfilePatch, example = json!({"country": "AT", "labels": null})),
    responses((status = 200, description = "changed", body = UserAnswer))
)]
pub(crate) async fn patch(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let id = path.into_inner();
    check_id(&"user id", &id)?;
    let mut patch: ProfilePatch = json(&body)?;
    let follows = patch.follows.take().map(|ids| names(&state, ids.unwrap_or_default())).transpose()?;
    let user = state.people.user(&id);
    let decides = patch.consent.is_some();
    let changed = state.people.change_profile(&user, decides, |profile| patch.apply(follows, profile)).await;
    shown(&state, id, changed.map_err(|error| failed(&state, &error))?)
}

/// Show what is known about a user
#[utoipa::path(
    get, path = "/v1/users/{id}", operation_id = "get_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    responses(
        (status = 200, description = "the user", body = UserAnswer, example = json!({
            "user_id": "user-17", "country": "DE", "device": "mobile", "labels": ["garden"], "follows": ["user-3"], "consent": "full",
            "merged": ["s:session-8f3a"], "merged_into": null
        })),
        (status = 404, description = "nothing was set, and nobody is merged", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    let id = path.into_inner();
    check_id(&"user id", &id)?;
    let user = state.people.user(&id);
    let person = state.people.person(&user);
    let root = person.first().unwrap_or(&user);
    let profile = state.people.profile(root).await.map_err(|error| failed(&state, &error.into()))?;
    match profile {
        Some(profile) => shown(&state, id, (*profile).clone()),
        // What is merged is to be seen here, and a refusal under another name binds.
        None if person.len() > 1 => shown(&state, id, Profile::default()),
        None => Err(Problem::new(
            Code::UserNotFound,
            "nothing was set about this user",
            "PUT /v1/users/{id} sets it; interactions of a user are at /v1/users/{id}/interactions",
        )),
    }
}

/// Remove what was set about a user
///
/// Interactions, merges and a standing refusal stay: a refusal is lifted by setting `consent`, and `DELETE /v1/users/{id}/data` removes all else.
#[utoipa::path(
    delete, path = "/v1/users/{id}", operation_id = "delete_user", tag = "people",
    params(("id" = String, Path, description = "the user's id", example = "user-17")),
    responses((status = 200, description = "nothing is set any more", body = RemovedAnswer, example = json!({"removed": true})))
)]
pub(crate) async fn delete(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let id = path.into_inner();
    check_id(&"user id", &id)?;
    let user = state.people.user(&id);
    let removed = state.people.set_profile(&user, None, false).await.map_err(|error| failed(&state, &error))?;
    super::render(&RemovedAnswer { removed })
}

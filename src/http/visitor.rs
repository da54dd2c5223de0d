//! Who asks: ids, and interactions that come with the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{check_count, check_id};
use super::error::Problem;
use super::interactions::Place;
use super::state::State;
use super::time::{Timestamp, TimestampDto};
use crate::history::gather::Gathered;
use crate::interaction::Interaction;
use crate::limits;
use crate::people::Visitor;
use crate::people::consent::Consent;
use crate::people::profile::Profile;
use crate::scenario::Scenario;

/// An interaction that comes with a request, is used for it and is not kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecentDto {
    /// The caller's name for it: one that is stored under the same name is counted once.
    #[serde(default)]
    pub(crate) interaction_id: Option<String>,
    /// The item.
    #[schema(example = "item-42")]
    pub(crate) item_id: String,
    /// What was done; `view` if left out.
    #[serde(default = "view")]
    #[schema(example = "view")]
    pub(crate) kind: String,
    /// A number that came with it.
    #[serde(default)]
    pub(crate) value: Option<f32>,
    /// When: RFC 3339 text or milliseconds since 1970. If left out, the order of the list is the order in time, the last one now.
    #[serde(default)]
    #[schema(value_type = Option<TimestampDto>)]
    pub(crate) occurred_at: Option<Timestamp>,
    /// Free text by name; it has no effect on the answer.
    #[serde(default)]
    pub(crate) context: BTreeMap<String, String>,
}

fn view() -> String {
    "view".to_owned()
}

/// What a visitor agrees to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConsentDto {
    /// Nothing is kept, and nothing that was kept is used.
    None,
    /// Kept in memory only, for a while; nothing on disk is used.
    Session,
    /// Kept, and used.
    #[default]
    Full,
}

impl From<ConsentDto> for Consent {
    fn from(dto: ConsentDto) -> Self {
        match dto {
            ConsentDto::None => Self::None,
            ConsentDto::Session => Self::Session,
            ConsentDto::Full => Self::Full,
        }
    }
}

impl From<Consent> for ConsentDto {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::None => Self::None,
            Consent::Session => Self::Session,
            Consent::Full => Self::Full,
        }
    }
}

/// Who asks, by ids that are checked.
pub(super) fn visitor(
    state: &State,
    user: Option<&str>,
    session: Option<&str>,
    consent: ConsentDto,
) -> Result<Visitor, Problem> {
    for (field, id) in [("user_id", user), ("session_id", session)] {
        if let Some(id) = id {
            check_id(&field, id)?;
        }
    }
    Ok(state.people.visitor(user, session, consent.into()))
}

/// What a scenario asks of a visitor beside what they did.
pub(super) struct Beside {
    /// What those did lately whom the visitor follows.
    pub(super) followed: Vec<Gathered>,
    pub(super) profile: Option<Arc<Profile>>,
    /// Whether some of it could not be had.
    pub(super) failed: bool,
}

/// Looks that up, each as long as there is patience for it.
pub(super) async fn beside(
    state: &State,
    scenario: &Scenario,
    visitor: &Visitor,
    patience: impl Fn() -> Duration,
) -> Beside {
    let asks_followed = scenario.weights.followed > 0.0;
    let followed = if asks_followed { state.people.followed(visitor, patience()).await } else { Vec::new() };
    let profile = if scenario.asks_context() { state.people.profile_of(visitor, patience()).await } else { Ok(None) };
    let failed = profile.is_err() || followed.iter().any(|one| one.failure.is_some());
    Beside { followed, profile: profile.ok().flatten(), failed }
}

/// Checks the interactions of a request and gives each a time: those without one are a millisecond apart, in the order of the list.
pub(super) fn recent_to_history(recent: Vec<RecentDto>, state: &State) -> Result<Vec<Interaction>, Problem> {
    check_count("interactions", recent.len(), limits::HISTORY_MAX)?;
    if recent.is_empty() {
        return Ok(Vec::new());
    }
    let now_ms = state.now_ms();
    let count = recent.len();
    let is_loaded = state.reloader.live().is_some();
    state.with_kinds(|kinds| {
        let convert = |(at, dto): (usize, RecentDto)| {
            let from_the_end = i64::try_from(count - 1 - at).unwrap_or(i64::MAX);
            let interaction = Interaction {
                interaction_id: dto.interaction_id,
                item_id: dto.item_id,
                kind: dto.kind,
                value: dto.value,
                occurred_at_ms: dto.occurred_at.map_or(now_ms - from_the_end, |at| at.0),
                context: dto.context,
            };
            super::interactions::check(&interaction, Place::At(at), now_ms, kinds, is_loaded)?;
            Ok(interaction)
        };
        recent.into_iter().enumerate().map(convert).collect()
    })
}

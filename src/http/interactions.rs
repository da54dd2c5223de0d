//! `POST /v1/interactions`: what visitors did. Answered once it is kept.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{Body, check_count, check_id, json, json_of_any_form};
use super::error::{Code, Problem};
use super::state::{State, Worker};
use super::time::{Timestamp, TimestampDto};
use super::visitor::ConsentDto;
use crate::filter::Object;
use crate::history::{Actor, Incoming};
use crate::interaction::{Interaction, InteractionError, RECOMMENDATION_ID};
use crate::limits;
use crate::people::consent::Consent;
use crate::people::shown::Outcome;
use crate::user_vector::NOT_INTERESTED;

/// One interaction of a visitor. At least one of `user_id` and `session_id` is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InteractionDto {
    /// The caller's name for this event. Sent again, it is answered as a duplicate and changes nothing.
    #[serde(default)]
    pub(crate) interaction_id: Option<String>,
    /// The signed-in user.
    #[serde(default)]
    #[schema(example = "user-17")]
    pub(crate) user_id: Option<String>,
    /// The session.
    #[serde(default)]
    #[schema(example = "session-8f3a")]
    pub(crate) session_id: Option<String>,
    /// The item. It need not be in the catalogue yet.
    #[schema(example = "item-42")]
    pub(crate) item_id: String,
    /// What was done: one of the kinds of the loaded model, see `GET /v1/model`, or `not_interested`, which hides the item from this visitor
    /// for as long as it is among the newest interactions that are kept for recommending (`history.keep_per_actor`).
    #[schema(example = "view")]
    pub(crate) kind: String,
    /// A number that came with it: a rating, an amount.
    #[serde(default)]
    pub(crate) value: Option<f32>,
    /// When: RFC 3339 text or milliseconds since 1970; now if left out.
    #[serde(default)]
    #[schema(value_type = Option<TimestampDto>, example = "2026-11-24T14:25:01Z")]
    pub(crate) occurred_at: Option<Timestamp>,
    /// Free text by name, kept for the next training; `country`, `device` and whatever `trending.by` names are counted for what is trending.
    #[serde(default)]
    pub(crate) context: BTreeMap<String, String>,
    /// The recommendation that it came from: the `recommendation_id` of the answer in which the item was shown.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    pub(crate) recommendation_id: Option<String>,
    /// What the visitor agrees to; `full` if left out. With `none` it is not kept at all.
    #[serde(default)]
    pub(crate) consent: ConsentDto,
}

/// Several interactions at once. They are kept all together or not at all. A bare array is taken as well.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InteractionBatch {
    /// The interactions.
    #[serde(deserialize_with = "super::body::objects")]
    pub(crate) interactions: Vec<InteractionDto>,
}

/// What the body may be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(
    dead_code,
    reason = "describes the body in /openapi.json; the parser tells the forms apart itself, for better errors"
)]
pub(crate) enum InteractionsBody {
    /// One.
    One(Box<InteractionDto>),
    /// Several.
    Batch(InteractionBatch),
    /// Several, bare.
    Array(Vec<InteractionDto>),
}

/// What became of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InteractionsAnswer {
    /// Interactions that are now kept.
    pub(crate) accepted: u32,
    /// Interactions whose `interaction_id` had been kept before.
    pub(crate) duplicates: u32,
    /// Interactions that were not kept, by what the visitor agrees to.
    pub(crate) not_kept: u32,
    /// Send it as `min_watermark` with a read that has to know all of this.
    pub(crate) watermark: u64,
}

/// Keep interactions
///
/// Answered once they are kept; the next recommendation for the same user or session knows them.
#[utoipa::path(
    post, path = "/v1/interactions", operation_id = "keep_interactions", tag = "interactions",
    request_body(content = InteractionsBody, examples(
        ("one" = (summary = "one", value = json!({
            "interaction_id": "order-7731-1", "user_id": "user-17", "session_id": "session-8f3a", "item_id": "item-42", "kind": "purchase",
            "value": 19.9, "occurred_at": "2026-11-24T14:25:01Z", "context": {"page": "cart"}
        }))),
        ("several" = (summary = "several", value = json!({"interactions": [
            {"session_id": "session-8f3a", "item_id": "item-42", "kind": "view"},
            {"session_id": "session-8f3a", "item_id": "item-42", "kind": "cart"}
        ]}))),
    )),
    responses(
        (status = 200, description = "kept", body = InteractionsAnswer),
    )
)]
pub(crate) async fn post(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let batch = parse(&body)?;
    check_count("interactions", batch.len(), limits::BATCH_INTERACTIONS_MAX)?;
    let now_ms = state.now_ms();
    let single = batch.len() == 1;
    let is_loaded = state.reloader.live().is_some();
    let batch = state.with_kinds(|kinds| {
        let incoming = |(at, dto): (usize, InteractionDto)| {
            let place = if single { Place::Only } else { Place::At(at) };
            let (one, consent) = dto.into_incoming(place, now_ms, kinds, is_loaded)?;
            // What binds decides what else is noted of it: outcomes and trends count only whom the store may know.
            let consent = state.people.binding(&one, consent);
            Ok::<_, Problem>((one, consent))
        };
        batch.into_iter().enumerate().map(incoming).collect::<Result<Vec<_>, _>>()
    })?;
    batch.iter().for_each(|(one, _)| state.metrics.event_lag(now_ms.saturating_sub(one.interaction.occurred_at_ms)));
    let outcomes = if state.shown.is_on() { outcomes(&batch) } else { Vec::new() };
    // Who does not agree to be remembered is not counted either.
    let counted = batch.iter().filter(|(_, consent)| *consent == Consent::Full);
    let counted: Vec<(Actor, Interaction)> =
        counted.filter_map(|(incoming, _)| Some((state.people.who(incoming)?, incoming.interaction.clone()))).collect();
    let ack = state.people.keep(batch).await.map_err(|error| Problem::store(&error, state.retry_after_seconds))?;
    for (id, interaction_id, outcome) in &outcomes {
        state.shown.outcome(id, interaction_id.as_deref(), outcome, now_ms);
    }
    state.metrics.not_kept.inc_by(u64::from(ack.not_kept));
    state.metrics.accepted.inc_by(u64::from(ack.accepted));
    state.metrics.duplicates.inc_by(u64::from(ack.duplicates));
    // Of a batch that is partly known, only those without an id are surely new; the others are counted at the next start.
    let is_new = |(_, one): &&(Actor, Interaction)| ack.duplicates == 0 || one.interaction_id.is_none();
    state.with_kinds(|kinds| {
        counted.iter().filter(is_new).for_each(|(who, one)| state.trending.count(who, one, kinds, now_ms));
    });
    Ok(HttpResponse::Ok().json(InteractionsAnswer {
        accepted: ack.accepted,
        duplicates: ack.duplicates,
        not_kept: ack.not_kept,
        watermark: ack.watermark,
    }))
}

/// What came of recommendations, by their names and those of the interactions; of those whose visitors agree to be remembered.
fn outcomes(batch: &[(Incoming, Consent)]) -> Vec<(String, Option<String>, Outcome)> {
    let outcome = |(incoming, consent): &(Incoming, Consent)| {
        let Interaction { interaction_id, item_id, kind, occurred_at_ms, context, .. } = &incoming.interaction;
        let id = context.get(RECOMMENDATION_ID).filter(|_| *consent == Consent::Full)?;
        let (item_id, kind) = (item_id.clone(), kind.clone());
        Some((id.clone(), interaction_id.clone(), Outcome { item_id, kind, at_ms: *occurred_at_ms }))
    };
    batch.iter().filter_map(outcome).collect()
}

/// One object, an object with a list, or a list.
fn parse(body: &[u8]) -> Result<Vec<InteractionDto>, Problem> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => {
            let list: Vec<Object<InteractionDto>> = json_of_any_form(body)?;
            Ok(list.into_iter().map(|Object(one)| one).collect())
        }
        _ if has_list(body)? => Ok(json::<InteractionBatch>(body)?.interactions),
        _ => Ok(vec![json(body)?]),
    }
}

/// Whether the object has a key `interactions`. A pass over the text that builds nothing but the list of keys.
fn has_list(body: &[u8]) -> Result<bool, Problem> {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, default)]
        interactions: Option<&'a RawValue>,
    }
    Ok(json::<Peek<'_>>(body)?.interactions.is_some())
}

impl InteractionDto {
    fn into_incoming(
        self,
        place: Place,
        now_ms: i64,
        kinds: &BTreeMap<String, f32>,
        is_loaded: bool,
    ) -> Result<(Incoming, Consent), Problem> {
        if self.user_id.is_none() && self.session_id.is_none() {
            return Err(Problem::invalid(
                format!("{place}neither user_id nor session_id is given"),
                "say whose interaction it is: user_id, session_id or both",
            ));
        }
        for (field, id) in [("user_id", &self.user_id), ("session_id", &self.session_id)] {
            if let Some(id) = id {
                check_id(&format_args!("{place}{field}"), id)?;
            }
        }
        let (user_id, session_id) = (self.user_id, self.session_id);
        let mut interaction = Interaction {
            interaction_id: self.interaction_id,
            item_id: self.item_id,
            kind: self.kind,
            value: self.value,
            occurred_at_ms: self.occurred_at.map_or(now_ms, |at| at.0),
            context: self.context,
        };
        if let Some(id) = self.recommendation_id {
            check_id(&format_args!("{place}recommendation_id"), &id)?;
            // In the context it is kept with the interaction, and is there for the next training.
            interaction.context.insert(RECOMMENDATION_ID.to_owned(), id);
        }
        check(&interaction, place, now_ms, kinds, is_loaded)?;
        Ok((Incoming { user_id, session_id, interaction }, self.consent.into()))
    }
}

/// Where in the body an interaction stands; a text only when something is wrong there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The body is the interaction.
    Only,
    /// In the list, counted from 0.
    At(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::At(at) => write!(f, "interactions[{at}]: "),
        }
    }
}

/// Checks an interaction that came in, wherever it is going. `kinds` are those of the model if one `is_loaded`, else the usual ones.
///
/// # Errors
/// [`Problem`] that begins with `place` and says what is wrong.
pub(super) fn check(
    interaction: &Interaction,
    place: Place,
    now_ms: i64,
    kinds: &BTreeMap<String, f32>,
    is_loaded: bool,
) -> Result<(), Problem> {
    interaction.validate().map_err(|error| {
        let code = match error {
            InteractionError::TooLong { .. } | InteractionError::ContextTooLarge { .. } => Code::LimitExceeded,
            _ => Code::InvalidRequest,
        };
        let see = "see /openapi.json for the fields of an interaction and their bounds";
        Problem::new(code, format!("{place}{error}"), see)
    })?;
    if interaction.occurred_at_ms > now_ms + limits::CLOCK_AHEAD_MS_MAX {
        return Err(Problem::invalid(
            format!("{place}occurred_at lies more than {} s in the future", limits::CLOCK_AHEAD_MS_MAX / 1000),
            "check the sender's clock, or leave occurred_at out: then it is the time of arrival",
        ));
    }
    if !kinds.contains_key(&interaction.kind) && interaction.kind != NOT_INTERESTED {
        let unknown = format!("{place}kind {:?} is not known", super::error::shown(&interaction.kind));
        if !is_loaded {
            // The model may know it. A refusal would be for good, and what was done would be lost.
            return Err(Problem::not_ready().at(&unknown));
        }
        let known: Vec<&str> = kinds.keys().map(String::as_str).collect();
        let remedy = format!("use one of: {}; or train a model with this kind", known.join(", "));
        return Err(Problem::new(Code::UnknownKind, unknown, remedy));
    }
    Ok(())
}

//! `POST /v1/score`: the predicted affinity of a visitor to given items, for lists that are made elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Body, check_count, check_id, json};
use super::context;
use super::error::Problem;
use super::lesser::{Lesser, degraded, fallback_name};
use super::state::{State, Worker};
use super::stopwatch::Stopwatch;
use super::visitor::{Beside, ConsentDto, RecentDto, beside, recent_to_history, visitor};
use crate::limits;
use crate::recommend::{RecommendRequest, score};
use crate::scenario::GeoPoint;
use crate::settings::HOME;

/// Whose affinity to what.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreRequest {
    /// The items to score.
    pub(crate) item_ids: Vec<String>,
    /// The signed-in user, whose stored interactions are used.
    pub(crate) user_id: Option<String>,
    /// The session, whose stored interactions are used.
    pub(crate) session_id: Option<String>,
    /// Interactions beside those that are stored, oldest first.
    #[serde(default, deserialize_with = "super::body::objects")]
    pub(crate) interactions: Vec<RecentDto>,
    /// What the visitor agrees to; `full` if left out.
    #[serde(default)]
    pub(crate) consent: ConsentDto,
    /// The placement whose weights are used; `home` if left out.
    pub(crate) scenario: Option<String>,
    /// The circumstances, as for a recommendation.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub(crate) context: BTreeMap<String, String>,
    /// Where the visitor's clock stands against UTC, in minutes.
    #[serde(default)]
    #[schema(example = 60)]
    pub(crate) utc_offset_minutes: i32,
    /// Where the visitor is, for boosts by distance.
    pub(crate) location: Option<GeoPoint>,
}

/// Scores in the order in which the items were given.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoreAnswer<'a> {
    /// The items with their scores.
    pub(crate) scores: Vec<ItemScore<'a>>,
    /// The artifact that answered.
    #[schema(value_type = String)]
    pub(crate) generation: &'a str,
    /// Why the scores are not made from what is known about the visitor; null if they are.
    #[schema(value_type = Option<String>)]
    pub(crate) fallback: Option<&'static str>,
    /// Why the answer is less than it could be; null if it is not.
    #[schema(value_type = Option<String>)]
    pub(crate) degraded: Option<&'static str>,
    /// Interactions that were looked at, stored and sent.
    pub(crate) events_used: usize,
    /// Microseconds from the arrival of the request to the rendering of this answer.
    pub(crate) took_us: u64,
}

/// The score of one item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemScore<'a> {
    /// The item.
    #[schema(value_type = String)]
    pub(crate) item_id: &'a str,
    /// Its score, as a recommendation would give it; null if the item is not in the catalogue.
    pub(crate) score: Option<f64>,
}

/// Score given items for a visitor
#[utoipa::path(
    post, path = "/v1/score", operation_id = "score_items", tag = "recommendations",
    request_body(content = ScoreRequest, example = json!({"user_id": "user-17", "item_ids": ["item-42", "item-7"]})),
    responses(
        (status = 200, description = "the scores, in the order of the items", body = ScoreAnswer),
    )
)]
pub(crate) async fn post(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let watch = Stopwatch::start();
    let _permit = state.admit_whole(&worker).await?;
    let mut request: ScoreRequest = json(&body)?;
    if request.item_ids.is_empty() {
        return Err(Problem::invalid("item_ids is empty", "send the ids of the items to score"));
    }
    check_count("item_ids", request.item_ids.len(), limits::SCORE_ITEMS_MAX)?;
    request.item_ids.iter().try_for_each(|id| check_id(&"item id", id))?;
    let context = std::mem::take(&mut request.context);
    let mut context = context::checked(context, request.utc_offset_minutes, request.location)?;
    let sent = recent_to_history(std::mem::take(&mut request.interactions), &state)?;
    let (user, session) = (request.user_id.as_deref(), request.session_id.as_deref());
    let visitor = visitor(&state, user, session, request.consent)?;
    let (_, scenario, _) = state.scenario_of(request.scenario.as_deref().unwrap_or(HOME), &visitor)?;
    let deadline = watch.started() + Duration::from_millis(scenario.deadline_ms);
    let patience = || state.read_timeout.min(deadline.saturating_duration_since(Instant::now()));
    let gathered = state.people.gather(&visitor, patience()).await;
    let history = gathered.union(&sent, limits::HISTORY_MAX);
    let Beside { followed, profile, failed } = beside(&state, scenario, &visitor, patience).await;
    let failed = failed || gathered.failure.is_some();
    let followed: Vec<_> = followed.iter().map(|one| one.union(&[], limits::FOLLOWED_INTERACTIONS_MAX)).collect();
    if let Some(profile) = profile {
        context::complete(&mut context, &profile);
    }
    let degraded = degraded(&state, failed, Lesser::default());
    state.with_live(|live| {
        let model = live.snapshot.model();
        let changes = live.changes(state.now_ms());
        let mut scratch = worker.scratch.borrow_mut();
        let weighting = &model.manifest().weighting;
        let asked = RecommendRequest {
            item_ids: &request.item_ids,
            live: changes.as_deref(),
            followed: &followed,
            context: context.as_ref(),
            ..RecommendRequest::new(&history, state.now_ms())
        };
        let found = state.with_signals(scenario, live.snapshot.generation(), context.as_ref(), |signals| {
            score(model, scenario, weighting, &RecommendRequest { signals, ..asked }, &mut scratch)
        })?;
        let scores = request.item_ids.iter().zip(found.scores);
        super::render(&ScoreAnswer {
            scores: scores.map(|(item_id, score)| ItemScore { item_id, score }).collect(),
            generation: live.snapshot.generation(),
            fallback: found.fallback.map(fallback_name),
            degraded,
            events_used: history.len(),
            took_us: watch.total_us(),
        })
    })
}

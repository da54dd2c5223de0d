//! `POST /v1/recommendations/{id}/replay` and `GET /v1/recommendations`: what was shown, again and for evaluation.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{not_our_cursor, page_limit};
use super::error::{Code, Problem, ProblemBody};
use super::state::{State, Worker};
use crate::people::shown::{Logged, Outcome, Shown, ShownItem, is_id};
use crate::timestamp::rfc3339;

/// Lists in a page that asks for no number.
const LISTED: usize = 100;

/// An item that was shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownItemDto {
    /// The item.
    item_id: String,
    /// Its score then.
    score: f64,
    /// What weighed most in it.
    source: String,
    /// The rule that put it where it is, if one did: `pinned`, `promoted`, `explored` or `buried`.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    /// The probability with which it was put into the list; 1 where nothing was left to chance.
    propensity: f64,
}

/// A list that was shown before.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayAnswer {
    /// The items, in the order in which they were shown.
    items: Vec<ShownItemDto>,
    /// The name of the answer.
    recommendation_id: String,
    /// When it was given, RFC 3339.
    at: String,
    /// The scenario that was asked for.
    scenario: String,
    /// The experiment that the visitor was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
    /// The variant in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    /// The artifact that answered.
    generation: String,
    /// `live` if it answers now, `kept` if it is still on the disk.
    generation_state: &'static str,
    /// Why it was not personal, if it was not.
    fallback: Option<String>,
}

/// An interaction that named the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeDto {
    /// The item.
    item_id: String,
    /// What was done.
    kind: String,
    /// When, milliseconds since 1970.
    at_ms: i64,
}

/// An interaction that the list was made from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsedDto {
    /// The item.
    item_id: String,
    /// What was done.
    kind: String,
    /// When, milliseconds since 1970.
    at_ms: i64,
}

/// A list of the log, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoggedDto {
    /// The name of the answer.
    recommendation_id: String,
    /// When, milliseconds since 1970.
    at_ms: i64,
    /// The scenario that was asked for.
    scenario: String,
    /// The experiment and the variant in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<(String, String)>,
    /// The artifact that answered.
    generation: String,
    /// Why it was not personal, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// What was shown, best first.
    items: Vec<ShownItemDto>,
    /// What it was made from, newest first, where that is logged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<UsedDto>,
    /// What came of it, in the order of the times that the interactions have.
    outcomes: Vec<OutcomeDto>,
}

/// A page of the log, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogPage {
    /// The lists.
    recommendations: Vec<LoggedDto>,
    /// Send it as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Lists wanted; 100 if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the last page ended: its `next_cursor`.
    cursor: Option<String>,
}

impl From<ShownItem> for ShownItemDto {
    fn from(item: ShownItem) -> Self {
        let ShownItem { item_id, score, source, placement, propensity } = item;
        Self { item_id, score, source, placement, propensity }
    }
}

impl From<Logged> for LoggedDto {
    fn from(Logged { shown, outcomes }: Logged) -> Self {
        let outcome = |Outcome { item_id, kind, at_ms }| OutcomeDto { item_id, kind, at_ms };
        let history = shown.history.into_iter();
        Self {
            recommendation_id: shown.recommendation_id,
            at_ms: shown.at_ms,
            scenario: shown.scenario,
            experiment: shown.experiment,
            generation: shown.generation,
            fallback: shown.fallback,
            items: shown.items.into_iter().map(ShownItemDto::from).collect(),
            history: history.map(|one| UsedDto { item_id: one.item_id, kind: one.kind, at_ms: one.at_ms }).collect(),
            outcomes: outcomes.into_iter().map(outcome).collect(),
        }
    }
}

/// Show a list again
///
/// The items that were shown, in their order, from the recommendation log, while the artifact that they came from is kept. Answers are logged as
/// far as `recommendation_log.sample` says, and for visitors who agree to be remembered.
#[utoipa::path(
    post, path = "/v1/recommendations/{id}/replay", operation_id = "replay_recommendation", tag = "recommendations",
    params(("id" = String, Path, description = "the recommendation_id of an answer", example = "019ab6f0c2e05d1c8e4200000000002a")),
    responses(
        (status = 200, description = "the same list", body = ReplayAnswer, example = json!({
            "items": [{"item_id": "item-42", "score": 0.81, "source": "vector", "propensity": 1.0}], "recommendation_id": "019ab6f0c2e05d1c8e4200000000002a", "at": "2026-11-24T14:25:01Z", "scenario": "home",
            "generation": "20261124T120000Z-1", "generation_state": "live", "fallback": null, "experiment": null, "variant": null
        })),
        (status = 404, description = "it was not logged, or is no longer kept", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "the artifact that made it is gone", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    let id = path.into_inner();
    let mut found = None;
    if is_id(&id) {
        let asked = state.shown.find(&id).await;
        found = asked.map_err(|error| Problem::store(&error, state.retry_after_seconds))?;
    }
    let Some(shown) = found else {
        return Err(Problem::new(
            Code::RecommendationNotFound,
            "there is no such recommendation in the log",
            "check the id; recommendation_log.sample says which share of the answers is logged, keep_days for how long",
        ));
    };
    let live = state.reloader.live().as_deref().is_some_and(|live| live.snapshot.generation() == shown.generation);
    let (for_disk, generation) = (state.clone(), shown.generation.clone());
    if !live {
        let published = web::block(move || for_disk.reloader.published()).await.unwrap_or_default();
        if !published.iter().any(|(name, _)| *name == generation) {
            return Err(Problem::new(
                Code::GenerationGone,
                format!("generation {generation} is no longer kept"),
                "keep more generations: kindred build --keep",
            ));
        }
    }
    super::render(&answer((*shown).clone(), live))
}

fn answer(shown: Shown, live: bool) -> ReplayAnswer {
    let (experiment, variant) = shown.experiment.unzip();
    ReplayAnswer {
        items: shown.items.into_iter().map(ShownItemDto::from).collect(),
        recommendation_id: shown.recommendation_id,
        at: rfc3339(shown.at_ms),
        scenario: shown.scenario,
        experiment,
        variant,
        generation: shown.generation,
        generation_state: if live { "live" } else { "kept" },
        fallback: shown.fallback,
    }
}

/// Read the recommendation log
///
/// Oldest first, a page at a time, each list with the interactions that named it.
#[utoipa::path(
    get, path = "/v1/recommendations", operation_id = "list_recommendations", tag = "recommendations",
    params(LogQuery),
    responses((status = 200, description = "a page of the log", body = LogPage, example = json!({
        "recommendations": [{
            "recommendation_id": "019ab6f0c2e05d1c8e4200000000002a", "at_ms": 1_795_530_301_000_i64, "scenario": "home",
            "generation": "20261124T120000Z-1", "items": [{"item_id": "item-42", "score": 0.81, "source": "vector", "propensity": 1.0}],
            "outcomes": [{"item_id": "item-42", "kind": "purchase", "at_ms": 1_795_530_361_000_i64}]
        }],
        "next_cursor": null
    })))
)]
pub(crate) async fn list(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    query: web::Query<LogQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    let limit = page_limit(query.limit, LISTED)?;
    let after = query.cursor.as_deref();
    if after.is_some_and(|cursor| !is_id(cursor)) {
        return Err(not_our_cursor());
    }
    let page = state.shown.page(after, limit).await;
    let (logged, next_cursor) = page.map_err(|error| Problem::store(&error, state.retry_after_seconds))?;
    super::render(&LogPage { recommendations: logged.into_iter().map(LoggedDto::from).collect(), next_cursor })
}

//! `GET /v1/items/{id}` and `GET /v1/items/{id}/similar`, and how an item is shown in any answer.

use std::borrow::Borrow;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::body::check_id;
use super::error::{Problem, ProblemBody};
use super::lesser::{Lesser, degraded, fallback};
use super::recommendations::fresh_seed;
use super::state::{State, Worker};
use super::stopwatch::{StageTimes, Stopwatch};
use crate::interaction::Interaction;
use crate::model::ModelView;
use crate::overload::Step;
use crate::recommend::{
    Breadth, Placement, Reasons, RecommendRequest, Recommendation, Recommendations, Source, recommend,
};
use crate::settings::SIMILAR;
use crate::telemetry::RequestStage;

/// An entry of the catalogue, as it was given to the build.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is sent as the catalogue holds it")]
pub(crate) struct ItemDto {
    /// The item's id.
    id: String,
    /// Its title; empty if the catalogue has none.
    #[schema(required = false)]
    title: String,
    /// Its description; left out if the catalogue has none.
    #[schema(required = false)]
    description: String,
    /// Its categories.
    #[schema(required = false)]
    categories: Vec<String>,
    /// Its price.
    price: Option<f64>,
    /// The address of an image.
    image: Option<String>,
    /// Whether it can be had.
    #[schema(required = false)]
    available: bool,
    /// Whether it is kept out of every list; left out if it is not.
    #[schema(required = false)]
    hidden: bool,
    /// From when on it is kept out of every list.
    expires_at: Option<String>,
    /// When it was last changed; left out where the catalogue does not say so.
    updated_at: Option<String>,
    /// Everything else.
    #[schema(value_type = Object, required = false)]
    attributes: (),
}

/// One item of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecommendedItem<'a> {
    /// The item's id.
    #[schema(value_type = String)]
    pub(crate) item_id: &'a str,
    /// Its score; larger is better. Comparable within one answer.
    pub(crate) score: f64,
    /// The part of the score that weighs most: `vector`, `neighbours`, `sessions`, `popular`, `trending`, `context`,
    /// `history` or `followed`.
    #[schema(value_type = String)]
    pub(crate) source: &'static str,
    /// The rule that put it where it is, if one did: `pinned`, `promoted`, `explored` or `buried`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) placement: Option<&'static str>,
    /// Where the scenario explores new items, how likely this was: epsilon-greedy, that this item stands here, given those above; Thompson
    /// sampling, that it is in the list, given what was drawn for all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) propensity: Option<f64>,
    /// Why it is there, if `explain` was asked for. All its parts add up to the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasons: Option<Box<ReasonsDto<'a>>>,
    /// The catalogue's entry, if `with_items` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ItemDto>)]
    pub(crate) item: Option<&'a RawValue>,
}

/// The parts of one score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReasonsDto<'a> {
    /// What each past interaction contributes, the greatest first.
    pub(crate) because: Vec<BecauseDto<'a>>,
    /// What the item's popularity contributes.
    pub(crate) popularity: f64,
    /// What is taken by everyone just now contributes so much.
    pub(crate) trending: f64,
    /// What is taken just now by visitors of the same context contributes so much.
    pub(crate) context: Vec<PartDto>,
    /// What those have taken lately whom the visitor follows contributes so much; who is not said.
    pub(crate) followed: f64,
    /// What each boost of the scenario adds.
    pub(crate) boosts: Vec<PartDto>,
    /// What chance has added, where new items are explored by drawing their scores.
    pub(crate) exploration: f64,
    /// What its likeness to items further up takes off; not positive.
    pub(crate) diversity: f64,
}

/// A part of a score that has a name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartDto {
    /// The boost's name, or the key of the context.
    pub(crate) name: String,
    /// What it adds.
    pub(crate) share: f64,
}

/// What one past interaction contributes to a score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BecauseDto<'a> {
    /// The item of the interaction.
    #[schema(value_type = String)]
    pub(crate) item_id: &'a str,
    /// The kind of the interaction; null for a seed of similar items.
    #[schema(value_type = Option<String>)]
    pub(crate) kind: Option<&'a str>,
    /// Its share of the score; negative if it speaks against the item.
    pub(crate) share: f64,
}

/// Items that resemble an item, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarAnswer<'a> {
    /// The item asked about.
    #[schema(value_type = String)]
    pub(crate) item_id: &'a str,
    /// The items, best first.
    pub(crate) items: Vec<RecommendedItem<'a>>,
    /// The placement.
    #[schema(value_type = String)]
    pub(crate) scenario: &'a str,
    /// The artifact that answered.
    #[schema(value_type = String)]
    pub(crate) generation: &'a str,
    /// Why the list is not made from the item alone; null if it is.
    #[schema(value_type = Option<String>)]
    pub(crate) fallback: Option<&'static str>,
    /// `overload` where the search was less broad because others wait; null if it was not.
    #[schema(value_type = Option<String>)]
    pub(crate) degraded: Option<&'static str>,
    /// Microseconds from the arrival of the request to the rendering of this answer.
    pub(crate) took_us: u64,
    /// Microseconds of each stage, if `explain` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stages_us: Option<StageTimes>,
}

/// What may be asked beside the item.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SimilarQuery {
    /// Items wanted; the scenario's number if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<usize>,
    /// The placement; `similar` if left out.
    pub(crate) scenario: Option<String>,
    /// Put the catalogue's entry beside each item.
    #[serde(default)]
    pub(crate) with_items: bool,
    /// Say why each item is there.
    #[serde(default)]
    pub(crate) explain: bool,
    /// Compare with every item instead of searching the graph.
    #[serde(default)]
    pub(crate) exact: bool,
    /// Breadth of the graph search; the scenario's if left out.
    #[param(minimum = 1, maximum = 20000)]
    pub(crate) ef_search: Option<usize>,
    /// Instead of that: the share of the true nearest that the search is to find, above 0, at most 1.
    pub(crate) recall_target: Option<f64>,
}

/// Show an item of the catalogue
#[utoipa::path(
    get, path = "/v1/items/{id}", operation_id = "get_item", tag = "items", params(("id" = String, Path, description = "the item, percent-encoded", example = "item-42")),
    responses(
        (status = 200, description = "the catalogue's entry", body = ItemDto, example = json!({"id": "item-42", "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9, "available": true})),
        (status = 404, description = "no such item", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(state: web::Data<State>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    check_id(&"item id", &id)?;
    state.with_live(|live| {
        let changes = live.changes(state.now_ms());
        let view = live.snapshot.model().view_with(changes.as_deref());
        let entry = view.ordinal(&id).and_then(|ordinal| view.entry(ordinal));
        let entry = entry.ok_or_else(|| Problem::item_not_found(&id))?;
        Ok(HttpResponse::Ok().content_type("application/json").body(entry.to_owned()))
    })
}

/// List items that resemble an item
#[utoipa::path(
    get, path = "/v1/items/{id}/similar", operation_id = "list_similar_items", tag = "items",
    params(("id" = String, Path, description = "the item, percent-encoded", example = "item-42"), SimilarQuery),
    responses(
        (status = 200, description = "the list, best first", body = SimilarAnswer, example = json!({
            "item_id": "item-42", "items": [{"item_id": "item-7", "score": 0.93, "source": "vector"}], "scenario": "similar",
            "generation": "20261124T120000Z-1", "fallback": null, "degraded": null, "took_us": 180
        })),
        (status = 404, description = "no such item", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_similar(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    id: web::Path<String>,
    query: web::Query<SimilarQuery>,
) -> Result<HttpResponse, Problem> {
    let mut watch = Stopwatch::start();
    let permit = state.admit(&worker).await?;
    watch.lap(RequestStage::Queue);
    check_id(&"item id", &id)?;
    let (name, placement) = state.scenario(query.scenario.as_deref().unwrap_or(SIMILAR))?;
    if !placement.based_on.has_seeds() {
        let detail = format!("scenario {name:?} makes no list of what resembles an item, or goes with it");
        return Err(Problem::invalid(detail, "name one that does, such as similar or also_bought"));
    }
    let mut answer = state.with_live(|live| {
        let model = live.snapshot.model();
        let changes = live.changes(state.now_ms());
        let view = model.view_with(changes.as_deref());
        let known = view.ordinal(&id).is_some_and(|ordinal| view.entry(ordinal).is_some());
        if !known {
            return Err(Problem::item_not_found(&id));
        }
        let history: [Interaction; 0] = [];
        let mut scratch = worker.scratch.borrow_mut();
        let asks = query.ef_search.is_some() || query.recall_target.is_some() || query.exact;
        let is_usual = permit.step == Step::Full && !asks;
        let breadth = if is_usual { state.recall.begin(name, &mut scratch) } else { Breadth::default() };
        let request = RecommendRequest {
            impersonal: permit.step == Step::Popular,
            live: changes.as_deref(),
            limit: query.limit,
            explain: query.explain,
            exact: query.exact && permit.step == Step::Full,
            ef_search: placement.ef_search(permit.step, query.ef_search),
            recall_target: query.recall_target.filter(|_| permit.step == Step::Full),
            breadth,
            item_ids: std::slice::from_ref(&*id),
            seed: fresh_seed(&state, placement),
            ..RecommendRequest::new(&history, state.now_ms())
        };
        watch.lap(RequestStage::Parse);
        let (scenario, weighting) = (placement.at(permit.step), &model.manifest().weighting);
        let list = state.with_signals(placement, live.snapshot.generation(), None, |signals| {
            let request = RecommendRequest { signals, ..request };
            recommend(model, scenario, weighting, &request, &mut scratch, &mut |stage| watch.lap(stage.into()))
        });
        state.recall.end(name, live.snapshot.generation(), &mut scratch);
        let list = list?;
        let degraded = degraded(&state, false, Lesser::of(permit.step));
        let response = super::render(&SimilarAnswer {
            item_id: &id,
            items: render_items(&view, &list, &history, query.with_items),
            scenario: name,
            generation: live.snapshot.generation(),
            fallback: fallback(list.fallback, permit.step, degraded),
            degraded,
            took_us: watch.total_us(),
            stages_us: query.explain.then(|| watch.times()),
        });
        watch.lap(RequestStage::Render);
        watch.count(&state.metrics);
        response
    });
    watch.note(&state, name, &mut answer);
    answer
}

/// The items of a list as they are sent. `history` is what the list was made from, for its reasons.
pub(super) fn render_items<'a, H: Borrow<Interaction>>(
    view: &ModelView<'a>,
    list: &Recommendations,
    history: &'a [H],
    with_items: bool,
) -> Vec<RecommendedItem<'a>> {
    let render = |item: &Recommendation| RecommendedItem {
        item_id: view.key(item.ordinal).unwrap_or_default(),
        score: item.score,
        source: match item.source {
            Source::Vector => "vector",
            Source::Neighbours => "neighbours",
            Source::Sessions => "sessions",
            Source::Popular => "popular",
            Source::Trending => "trending",
            Source::Context => "context",
            Source::History => "history",
            Source::Followed => "followed",
        },
        placement: item.placement.map(|placement| match placement {
            Placement::Pinned => "pinned",
            Placement::Promoted => "promoted",
            Placement::Explored => "explored",
            Placement::Buried => "buried",
        }),
        propensity: item.propensity,
        reasons: item.reasons.as_ref().map(|reasons| Box::new(render_reasons(view, reasons, history))),
        item: if with_items { entry(view, item.ordinal) } else { None },
    };
    view.prefetch_keys(list.items.iter().map(|item| item.ordinal));
    list.items.iter().map(render).collect()
}

/// The catalogue's entry as it lies there; it has been checked to be JSON when the artifact was opened.
pub(super) fn entry<'a>(view: &ModelView<'a>, ordinal: u32) -> Option<&'a RawValue> {
    view.entry(ordinal).and_then(|text| serde_json::from_str(text).ok())
}

fn render_reasons<'a, H: Borrow<Interaction>>(
    view: &ModelView<'a>,
    reasons: &Reasons,
    history: &'a [H],
) -> ReasonsDto<'a> {
    let because = reasons.because.iter().map(|because| BecauseDto {
        item_id: view.key(because.ordinal).unwrap_or_default(),
        kind: history
            .get(because.index as usize)
            .filter(|_| !because.is_seed)
            .map(|interaction| interaction.borrow().kind.as_str()),
        share: because.share(),
    });
    let parts = |parts: &[(String, f64)]| {
        parts.iter().map(|(name, share)| PartDto { name: name.clone(), share: *share }).collect()
    };
    ReasonsDto {
        because: because.collect(),
        popularity: reasons.popularity,
        trending: reasons.trending,
        context: parts(&reasons.context),
        followed: reasons.followed,
        boosts: parts(&reasons.boosts),
        exploration: reasons.exploration,
        diversity: reasons.diversity,
    }
}

//! `POST /v1/recommendations`: what this visitor should see now. The way of a request on one page.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use kindred_index::{FilterExpr, key_hash};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Body, check_count, check_id, json};
use super::context;
use super::cursor::Cursor;
use super::error::Problem;
use super::items::{RecommendedItem, render_items};
use super::lesser::{Lesser, degraded, fallback};
use super::state::{State, Worker};
use super::stopwatch::{StageTimes, Stopwatch};
use super::visitor::{Beside, ConsentDto, RecentDto, beside, recent_to_history, visitor};
use crate::filter::Filter;
use crate::interaction::Interaction;
use crate::limits;
use crate::live_items::LiveItems;
use crate::overload::{Placement, Step};
use crate::people;
use crate::people::consent::Consent;
use crate::people::shown::{Shown, ShownItem, UsedInteraction};
use crate::recommend::{Breadth, RecommendRequest, Recommendations, RequestContext, recommend};
use crate::reload::Live;
use crate::scenario::{GeoPoint, Scenario};
use crate::settings::HOME;
use crate::telemetry::RequestStage;

/// Who asks, what for, and what is left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecommendationsRequest {
    /// The signed-in user, whose stored interactions are used.
    #[schema(example = "user-17")]
    pub(crate) user_id: Option<String>,
    /// The session, whose stored interactions are used.
    pub(crate) session_id: Option<String>,
    /// Interactions beside those that are stored, oldest first. They are used for this answer and not kept.
    #[serde(default, deserialize_with = "super::body::objects")]
    pub(crate) interactions: Vec<RecentDto>,
    /// What the visitor agrees to; `full` if left out. With `none` nothing that was kept is used.
    #[serde(default)]
    pub(crate) consent: ConsentDto,
    /// The `watermark` of an acknowledged interaction that the answer has to know. The server waits for it as long as for what is stored
    /// (`history.read_timeout_ms`, within the deadline); an answer
    /// without it says so in `degraded`.
    #[serde(default, deserialize_with = "super::body::integer")]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub(crate) min_watermark: Option<u64>,
    /// The placement; `home` if left out.
    #[schema(example = "home")]
    pub(crate) scenario: Option<String>,
    /// The items that the list is for (`similar`, `also_bought`, `cart`), at most 100, or that are to be ranked (`rerank`), at most 1000, or
    /// 10000 with a `limit`. Only for such scenarios.
    #[serde(default)]
    pub(crate) item_ids: Vec<String>,
    /// The circumstances, by name: `device`, `country`, whatever the scenario's rules and counts speak of. `hour` and `weekday` are taken
    /// from the clock if left out, `country` and `device` from the user's profile.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub(crate) context: BTreeMap<String, String>,
    /// Where the visitor's clock stands against UTC, in minutes.
    #[serde(default)]
    #[schema(example = 60)]
    pub(crate) utc_offset_minutes: i32,
    /// Where the visitor is, for boosts by distance.
    pub(crate) location: Option<GeoPoint>,
    /// Decides what chance decides where new items are explored; if left out, made from the visitor and what they did, or drawn where nothing
    /// is known of them.
    #[serde(default, deserialize_with = "super::body::integer")]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub(crate) seed: Option<u64>,
    /// The `next_cursor` of the page before, for scenarios with pages (`next_page`): what was shown does not come again.
    pub(crate) cursor: Option<String>,
    /// Items wanted; the scenario's number if left out.
    #[schema(example = 10)]
    pub(crate) limit: Option<usize>,
    /// Items that must not be in the answer.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// What items must fulfil.
    pub(crate) filter: Option<Filter>,
    /// Say why each item is there, and how long each stage took.
    #[serde(default)]
    pub(crate) explain: bool,
    /// Score every item instead of searching the graph: slower, and the truth.
    #[serde(default)]
    pub(crate) exact: bool,
    /// Breadth of the graph search; the scenario's if left out. Never narrower than the list and what is left out of it.
    pub(crate) ef_search: Option<usize>,
    /// Instead of `ef_search`: the share of the true nearest that the search is to find, above 0, at most 1. The breadth is the least that was
    /// measured to find as much when the artifact was built; if none did, every item is scored.
    #[schema(example = 0.95)]
    pub(crate) recall_target: Option<f64>,
    /// Put the catalogue's entry beside each item.
    #[serde(default)]
    pub(crate) with_items: bool,
}

/// A list for a visitor, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecommendationsAnswer<'a> {
    /// The items, best first.
    pub(crate) items: Vec<RecommendedItem<'a>>,
    /// A name for this answer.
    pub(crate) recommendation_id: String,
    /// The placement.
    #[schema(value_type = String)]
    pub(crate) scenario: &'a str,
    /// The artifact that answered.
    #[schema(value_type = String)]
    pub(crate) generation: &'a str,
    /// Why the list is not made from what is known about the visitor, or not from that alone: `newcomer`, `unknown_items`,
    /// `no_preference`, `too_few_candidates`, `deadline`, `overload`; null if it is.
    #[schema(value_type = Option<String>)]
    pub(crate) fallback: Option<&'static str>,
    /// Why the answer is less than it could be: `history_unavailable`, `watermark_not_reached`, `deadline` or `overload`; null if it is not. Late or under load the
    /// search is less broad first, then also without neighbours, sessions and who is followed; at last everybody gets the popular list.
    #[schema(value_type = Option<String>)]
    pub(crate) degraded: Option<&'static str>,
    /// The experiment that the visitor is in, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) experiment: Option<&'a str>,
    /// The variant in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) variant: Option<&'a str>,
    /// Send it as `cursor` for the next page; null at the end, which a page that caps make short need not be. Only of scenarios with pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<Option<String>>,
    /// The seed that chance was drawn with, where the scenario explores new items: the same request with it has the same answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Interactions that were looked at, stored and sent.
    pub(crate) events_used: usize,
    /// Up to where the answer knows what was acknowledged.
    pub(crate) watermark: u64,
    /// Microseconds from the arrival of the request to the rendering of this answer.
    pub(crate) took_us: u64,
    /// Microseconds of each stage, if `explain` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stages_us: Option<StageTimes>,
}

/// A request after every check.
struct Checked {
    body: Vec<Interaction>,
    /// Whether the caller says when each of those was; the others have the present for a time.
    dated: Vec<bool>,
    filter: Option<FilterExpr>,
    /// None where the request says nothing of its circumstances.
    context: Option<RequestContext>,
    /// The cursor of a scenario with pages; empty for the first page.
    cursor: Option<Cursor>,
    /// With a cursor: what the request leaves out and what was shown.
    excluded: Option<Vec<String>>,
}

/// Recommend items to a visitor
///
/// An unknown visitor, an empty history, a store that does not answer and a deadline that has passed each have a labelled answer.
#[utoipa::path(
    post, path = "/v1/recommendations", operation_id = "recommend", tag = "recommendations",
    request_body(content = RecommendationsRequest, examples(
        ("visitor" = (summary = "for a visitor", value = json!({"user_id": "user-17", "session_id": "session-8f3a", "limit": 10}))),
        ("cart" = (summary = "what goes with the cart", value = json!({
            "scenario": "cart", "session_id": "session-8f3a", "item_ids": ["item-42", "item-7"]
        }))),
        ("trending" = (summary = "what is taken just now, also by visitors of the same country and device", value = json!({
            "scenario": "trending", "context": {"country": "de", "device": "mobile"}, "utc_offset_minutes": 60,
            "filter": {"key": "category", "match": {"value": "toys"}}
        }))),
        ("next_page" = (summary = "infinite scroll: send next_cursor as cursor for the page after", value = json!({
            "scenario": "next_page", "user_id": "user-17", "limit": 10
        }))),
        ("rerank" = (summary = "a given list, in the order in which this visitor would like it", value = json!({
            "scenario": "rerank", "user_id": "user-17", "item_ids": ["item-3", "item-42", "item-7"]
        }))),
        ("anonymous" = (summary = "from what the request brings, narrowed and explained", value = json!({
            "interactions": [{"item_id": "item-42"}, {"item_id": "item-7", "kind": "cart"}],
            "filter": {"must": [{"key": "category", "match": {"any": ["toys", "books"]}}, {"key": "price", "range": {"lt": 40}}]},
            "exclude": ["item-3"], "explain": true
        }))),
    )),
    responses(
        (status = 200, description = "the list, best first", body = RecommendationsAnswer),
    )
)]
pub(crate) async fn post(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let mut watch = Stopwatch::start();
    let permit = state.admit(&worker).await?;
    watch.lap(RequestStage::Queue);
    let mut request: RecommendationsRequest = json(&body)?;
    let mut checked = check(&mut request, &state)?;
    let (user, session) = (request.user_id.as_deref(), request.session_id.as_deref());
    let visitor = visitor(&state, user, session, request.consent)?;
    let asked = request.scenario.as_deref().unwrap_or(HOME);
    let (name, placement, assignment) = state.scenario_for(asked, &visitor)?;
    check_cursor(&mut checked, &request, placement)?;
    watch.lap(RequestStage::Parse);

    let deadline = watch.started() + Duration::from_millis(placement.deadline_ms);
    let patience = || state.read_timeout.min(deadline.saturating_duration_since(Instant::now()));
    let behind = match request.min_watermark {
        Some(wanted) => !state.people.reaches(wanted, patience()).await,
        None => false,
    };
    let watermark = state.history.watermark();
    let gathered = state.people.gather(&visitor, patience()).await;
    let history = gathered.union(&checked.body, limits::HISTORY_MAX);
    let listed = placement.at(permit.step);
    let Beside { followed, profile, failed } = beside(&state, listed, &visitor, patience).await;
    let failed = failed || gathered.failure.is_some();
    let followed: Vec<_> = followed.iter().map(|one| one.union(&[], limits::FOLLOWED_INTERACTIONS_MAX)).collect();
    if let Some(profile) = profile {
        context::complete(&mut checked.context, &profile);
    }
    watch.lap(RequestStage::Gather);

    let allowed = deadline.saturating_duration_since(watch.started());
    let by_time = Step::by_time(watch.started().elapsed(), allowed);
    let lesser = Lesser { step: permit.step.max(by_time), is_late: by_time > permit.step };
    if behind {
        state.metrics.degraded_watermark.inc();
    }
    let made_less = degraded(&state, failed, lesser);
    // Whoever has asked for it has to know, whatever else is less.
    let degraded = behind.then_some("watermark_not_reached").or(made_less);
    // From here on nothing waits, and everything is of one artifact.
    let mut answer = state.with_live(|live| {
        // The popular list is made from no interaction; what was seen stays out of it all the same.
        let used = if lesser.step == Step::Popular { &[] } else { history.as_slice() };
        let changes = live.changes(state.now_ms());
        let drawn_before = checked.cursor.as_ref().filter(|cursor| !cursor.shown.is_empty()).map(|cursor| cursor.seed);
        let made = || seed_of(&request, name, &history, &checked).unwrap_or_else(|| fresh_seed(&state, placement));
        let seed = placement.explore.is_some().then(|| drawn_before.or(request.seed).unwrap_or_else(made));
        let shown_before = checked.cursor.as_ref().map_or(0, |cursor| cursor.shown.len());
        let list = compute(
            live,
            changes.as_deref(),
            placement,
            lesser.step,
            &request,
            &checked,
            &history,
            &followed,
            &state,
            &worker,
            &mut watch,
            seed.map_or(0, |seed| seed_of_page(seed, shown_before)),
            assignment.map_or(name, |one| one.scenario),
        )?;
        let fallback = fallback(list.fallback, lesser.step, made_less);
        if let Some(reason) = fallback {
            state.metrics.fallback(reason);
        }
        let view = live.snapshot.model().view_with(changes.as_deref());
        let items = render_items(&view, &list, used, request.with_items);
        let limit = request.limit.unwrap_or(placement.limit);
        let more = items.len() >= limit || items.len() < list.candidates as usize;
        let excluded = request.exclude.len();
        let next_cursor = |cursor| if more { next_cursor(cursor, seed.unwrap_or(0), &items, excluded) } else { None };
        let next_cursor = checked.cursor.as_ref().map(next_cursor);
        let answer = RecommendationsAnswer {
            items,
            next_cursor,
            recommendation_id: state.names.timed(state.now_ms()),
            scenario: name,
            generation: live.snapshot.generation(),
            fallback,
            degraded,
            experiment: assignment.map(|one| one.experiment),
            variant: assignment.map(|one| one.variant),
            seed,
            events_used: used.len(),
            watermark,
            took_us: watch.total_us(),
            stages_us: request.explain.then(|| watch.times()),
        };
        if visitor.consent == Consent::Full && state.shown.takes_next() {
            // Neither what the request brought nor what is in memory only: neither was to be kept.
            let kept = if state.shown.keeps_history() && !used.is_empty() {
                people::stored(&gathered, limits::SHOWN_HISTORY_MAX)
            } else {
                Vec::new()
            };
            state.shown.record(shown(&answer, &kept, &state));
        }
        let response = super::render(&answer);
        watch.lap(RequestStage::Render);
        watch.count(&state.metrics);
        response
    });
    watch.note(&state, name, &mut answer);
    answer
}

/// An answer as the log keeps it.
fn shown(answer: &RecommendationsAnswer<'_>, history: &[&Interaction], state: &State) -> Shown {
    let item = |item: &RecommendedItem<'_>| ShownItem {
        item_id: item.item_id.to_owned(),
        score: item.score,
        source: item.source.to_owned(),
        placement: item.placement.map(str::to_owned),
        propensity: item.propensity.unwrap_or(1.0),
    };
    let used = |one: &&Interaction| UsedInteraction {
        item_id: one.item_id.clone(),
        kind: one.kind.clone(),
        at_ms: one.occurred_at_ms,
    };
    let experiment = answer.experiment.zip(answer.variant);
    Shown {
        recommendation_id: answer.recommendation_id.clone(),
        at_ms: state.now_ms(),
        scenario: answer.scenario.to_owned(),
        experiment: experiment.map(|(experiment, variant)| (experiment.to_owned(), variant.to_owned())),
        generation: answer.generation.to_owned(),
        fallback: answer.fallback.map(str::to_owned),
        items: answer.items.iter().map(item).collect(),
        history: history.iter().rev().map(used).collect(),
    }
}

/// The cheap checks, and the wire's types to the domain's.
fn check(request: &mut RecommendationsRequest, state: &State) -> Result<Checked, Problem> {
    check_count("exclude", request.exclude.len(), limits::EXCLUDE_MAX)?;
    check_count("item_ids", request.item_ids.len(), limits::SCORE_ITEMS_MAX)?;
    request.item_ids.iter().try_for_each(|id| check_id(&"item id", id))?;
    let dated = request.interactions.iter().map(|one| one.occurred_at.is_some()).collect();
    let body = recent_to_history(std::mem::take(&mut request.interactions), state)?;
    let filter = request.filter.take().map(Filter::expression).transpose()?.flatten();
    let context = context::checked(std::mem::take(&mut request.context), request.utc_offset_minutes, request.location)?;
    Ok(Checked { body, dated, filter, context, cursor: None, excluded: None })
}

/// The cursor that a request brings; what it has shown is left out like anything else that the request leaves out.
fn check_cursor(checked: &mut Checked, request: &RecommendationsRequest, scenario: &Scenario) -> Result<(), Problem> {
    let cursor = match &request.cursor {
        None => scenario.paged.then(Cursor::default),
        Some(_) if !scenario.paged => {
            let remedy = "name a scenario with pages, such as next_page, or leave the cursor out";
            return Err(Problem::invalid("cursor was sent to a scenario without pages", remedy));
        }
        Some(text) => Some(Cursor::parse(text)?),
    };
    if let Some(cursor) = cursor.as_ref().filter(|cursor| !cursor.shown.is_empty()) {
        let excluded: Vec<String> = request.exclude.iter().chain(&cursor.shown).cloned().collect();
        check_count("exclude and cursor together", excluded.len(), limits::EXCLUDE_MAX)?;
        checked.excluded = Some(excluded);
    }
    checked.cursor = cursor;
    Ok(())
}

/// The cursor of the page after this list; none where it would be too long, by itself or with the items that the request excludes beside it.
fn next_cursor(cursor: &Cursor, seed: u64, shown: &[RecommendedItem<'_>], excluded: usize) -> Option<String> {
    let mut all = cursor.shown.clone();
    all.extend(shown.iter().map(|item| item.item_id.to_owned()));
    let fits = all.len() <= limits::CURSOR_ITEMS_MAX && all.len() + excluded <= limits::EXCLUDE_MAX;
    let text = fits.then(|| Cursor { seed, shown: all }.text());
    // The request that brings it back must fit.
    text.filter(|text| text.len() <= limits::CURSOR_BYTES_MAX)
}

/// The seed of a request that explores and brings none: the same visitor with the same history has the same luck, until something is done;
/// none for those of whom nothing is known, who are not one visitor. Below 2^53, so that it survives JSON numbers.
fn seed_of(request: &RecommendationsRequest, name: &str, history: &[&Interaction], checked: &Checked) -> Option<u64> {
    if request.user_id.is_none() && request.session_id.is_none() && history.is_empty() {
        return None;
    }
    let texts = [request.user_id.as_deref(), request.session_id.as_deref(), Some(name)];
    let ids = texts.into_iter().flatten().fold(0, |seed, text| key_hash(seed, text.as_bytes()));
    let last = history.last();
    // The present, which is another for each request, is nothing done.
    let is_dated = |last: &&&Interaction| {
        !checked.body.iter().zip(&checked.dated).any(|(sent, dated)| !dated && std::ptr::eq(sent, **last))
    };
    let at_ms = last.filter(is_dated).map_or(0, |last| last.occurred_at_ms);
    let done = last.map_or([""; 2], |last| [last.item_id.as_str(), last.kind.as_str()]);
    let seed = key_hash(ids ^ history.len() as u64, &at_ms.to_le_bytes());
    Some(done.into_iter().fold(seed, |seed, text| key_hash(seed, text.as_bytes())) >> 11)
}

/// A seed for a list that nobody in particular asks for; 0 where the scenario leaves nothing to chance.
pub(super) fn fresh_seed(state: &State, scenario: &Scenario) -> u64 {
    scenario.explore.as_ref().map_or(0, |_| key_hash(0, state.names.next().as_bytes()) >> 11)
}

/// What a page draws with: each with luck of its own, which follows from the seed of the first and from how many were shown before.
fn seed_of_page(seed: u64, shown_before: usize) -> u64 {
    if shown_before == 0 { seed } else { key_hash(seed, &(shown_before as u64).to_le_bytes()) }
}

/// The pure part, timed stage by stage.
#[allow(clippy::too_many_arguments, reason = "one call, of everything that a request has gathered")]
fn compute(
    live: &Live,
    changes: Option<&LiveItems>,
    placement: &Placement,
    step: Step,
    request: &RecommendationsRequest,
    checked: &Checked,
    history: &[&Interaction],
    followed: &[Vec<&Interaction>],
    state: &State,
    worker: &Worker,
    watch: &mut Stopwatch,
    seed: u64,
    made_by: &str,
) -> Result<Recommendations, Problem> {
    let model = live.snapshot.model();
    let generation = live.snapshot.generation();
    let mut scratch = worker.scratch.borrow_mut();
    // What asks for a breadth of its own, or gets less than all of an answer, says nothing of the scenario's.
    let asks = request.ef_search.is_some() || request.recall_target.is_some() || request.exact;
    let is_usual = step == Step::Full && !asks;
    let breadth = if is_usual { state.recall.begin(made_by, &mut scratch) } else { Breadth::default() };
    let request = RecommendRequest {
        history,
        impersonal: step == Step::Popular,
        now_ms: state.now_ms(),
        limit: request.limit,
        exclude: checked.excluded.as_deref().unwrap_or(&request.exclude),
        filter: checked.filter.as_ref(),
        live: changes,
        explain: request.explain,
        exact: request.exact && step == Step::Full,
        ef_search: placement.ef_search(step, request.ef_search),
        recall_target: request.recall_target.filter(|_| step == Step::Full),
        breadth,
        item_ids: &request.item_ids,
        context: checked.context.as_ref(),
        followed,
        signals: None,
        seed,
    };
    let (scenario, weighting) = (placement.at(step), &model.manifest().weighting);
    let list = state.with_signals(placement, generation, request.context, |signals| {
        let request = RecommendRequest { signals, ..request };
        recommend(model, scenario, weighting, &request, &mut scratch, &mut |stage| watch.lap(stage.into()))
    });
    state.recall.end(made_by, generation, &mut scratch);
    Ok(list?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_draws_with_its_seed_and_each_later_one_with_another() {
        let pages = [0, 10, 20].map(|shown_before| seed_of_page(7, shown_before));
        assert_eq!(pages[0], 7);
        assert!(pages[1] != 7 && pages[2] != 7 && pages[1] != pages[2]);
        assert_eq!(seed_of_page(7, 10), pages[1]);
    }
}

//! `POST /v1/search`: the index itself. Items nearest to a vector, or to examples.

use std::borrow::Cow;

use actix_web::{HttpResponse, web};
use kindred_index::{Hit, MappedFile, Plan, SearchParams, normalise};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{Body, check_count, check_id, json};
use super::error::{Problem, ProblemBody};
use super::items::{ItemDto, entry};
use super::state::{State, Worker};
use super::stopwatch::Stopwatch;
use crate::encoder::{Encoded, EncoderView, Features};
use crate::filter::Filter;
use crate::limits;
use crate::model::{Model, ModelView};
use crate::nearest::nearest;
use crate::recommend::{NEAREST, breadth_asked_for};

/// What to look near to: a vector; or words, examples, or both.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchRequest {
    /// A vector of the model's dimensions.
    pub(crate) vector: Option<Vec<f32>>,
    /// Words that somebody looks for, in any order. They are compared by what the model has learned of its catalogue's titles, descriptions,
    /// categories and attributes, not letter by letter. Beside examples they count as much as one of weight 1.
    #[schema(example = "a red garden lantern", max_length = 1000)]
    pub(crate) q: Option<String>,
    /// Items to be near to, as ids or with weights. The query is the weighted sum of the unit vectors of all examples; they are left out of
    /// the answer.
    #[serde(default)]
    pub(crate) positive: Vec<Example>,
    /// Items to be far from.
    #[serde(default)]
    pub(crate) negative: Vec<Example>,
    /// Items wanted; 10 if left out.
    #[schema(example = 10)]
    pub(crate) k: Option<usize>,
    /// Breadth of the graph search; the one the artifact was measured with if left out. It may be less than `k`: the nearest are then found as well as
    /// that breadth finds them, and what is farther may be missing.
    pub(crate) ef_search: Option<usize>,
    /// Instead of `ef_search`: the share of the true nearest that the search is to find, above 0, at most 1. The breadth is the least that was
    /// measured to find as much when the artifact was built; if none did, every item is compared.
    #[schema(example = 0.95)]
    pub(crate) recall_target: Option<f64>,
    /// Compare with every item instead of searching the graph.
    #[serde(default)]
    pub(crate) exact: bool,
    /// Put each item's vector into the answer.
    #[serde(default)]
    pub(crate) with_vector: bool,
    /// Put the catalogue's entry beside each item.
    #[serde(default)]
    pub(crate) with_items: bool,
    /// What items must fulfil.
    pub(crate) filter: Option<Filter>,
}

/// An item, with the weight 1 or another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected an item id, or {\"item_id\": \"…\", \"weight\": 1.0}")]
pub(crate) enum Example {
    /// Weight 1.
    Id(String),
    /// Another weight.
    Weighted(WeightedExample),
}

/// An item with its weight.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightedExample {
    /// The item.
    item_id: String,
    /// How much it counts; greater than 0.
    weight: f32,
}

/// The nearest items, nearest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchAnswer<'a> {
    /// The items, nearest first.
    pub(crate) hits: Vec<HitDto<'a>>,
    /// Words of `q` that the model has never met; where that is all of them and there are no examples, there are no hits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unknown_words: Vec<String>,
    /// The artifact that answered.
    #[schema(value_type = String)]
    pub(crate) generation: &'a str,
    /// What similarity is: `cosine` or `inner_product`.
    #[schema(value_type = String)]
    pub(crate) metric: &'a str,
    /// How it was found: `exact`, `graph`, `filtered_graph`, `two_hops` or `longest`; `none` where no word of `q` is known.
    #[schema(value_type = String)]
    pub(crate) plan: &'static str,
    /// Vectors that were compared.
    pub(crate) distances: u32,
    /// Microseconds from the arrival of the request to the rendering of this answer.
    pub(crate) took_us: u64,
}

/// One item that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitDto<'a> {
    /// The item.
    #[schema(value_type = String)]
    pub(crate) item_id: &'a str,
    /// Its similarity; larger is nearer.
    pub(crate) similarity: f32,
    /// Its vector, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<f32>>)]
    pub(crate) vector: Option<Cow<'a, [f32]>>,
    /// The catalogue's entry, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ItemDto>)]
    pub(crate) item: Option<&'a RawValue>,
}

const K_DEFAULT: usize = 10;

/// Search by similarity
#[utoipa::path(
    post, path = "/v1/search", operation_id = "search_items", tag = "search",
    request_body(content = SearchRequest, examples(
        ("like" = (summary = "like this item", value = json!({"positive": ["item-42"], "k": 10}))),
        ("words" = (summary = "by words", value = json!({"q": "a red garden lantern", "k": 10, "with_items": true}))),
        ("between" = (summary = "like one, unlike another, in one category", value = json!({
            "positive": [{"item_id": "item-42", "weight": 2.0}], "negative": ["item-7"],
            "filter": {"key": "category", "match": {"value": "garden"}}, "k": 5, "with_items": true
        }))),
    )),
    responses(
        (status = 200, description = "the nearest items, nearest first", body = SearchAnswer),
        (status = 404, description = "an example is not in the catalogue", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let watch = Stopwatch::start();
    let _permit = state.admit_whole(&worker).await?;
    let mut request: SearchRequest = json(&body)?;
    check_count("examples", request.positive.len() + request.negative.len(), limits::SEARCH_EXAMPLES_MAX)?;
    let filter = request.filter.take().map(Filter::expression).transpose()?.flatten();
    state.with_live(|live| {
        let model = live.snapshot.model();
        let changes = live.changes(state.now_ms());
        let view = model.view_with(changes.as_deref());
        let query = query_of(&view, model.encoder(), &request)?;
        let params = params(model, &request)?;
        let mut scratch = worker.search.borrow_mut();
        let found = match &query.vector {
            Some(vector) => {
                Some(nearest(model, &view, vector, &params, filter.as_ref(), &query.examples, &mut scratch)?)
            }
            None => None,
        };
        let (hits_found, stats) = found.unzip();
        let hits_found = hits_found.unwrap_or_default();
        if hits_found.iter().any(|hit| !hit.similarity.is_finite()) {
            let overflow = "the vector is so long that its similarities are infinite";
            return Err(Problem::invalid(overflow, "send a shorter one; with unit length the order is the same"));
        }
        super::render(&SearchAnswer {
            hits: hits(&view, &request, &hits_found),
            unknown_words: query.unknown_words,
            generation: live.snapshot.generation(),
            metric: &model.manifest().metric,
            plan: stats.map_or("none", |stats| plan_name(stats.plan)),
            distances: stats.map_or(0, |stats| stats.distances),
            took_us: watch.total_us(),
        })
    })
}

/// A query vector, and the examples it was made of. No vector where nothing that was given says anything.
#[derive(Default)]
struct Query {
    vector: Option<Vec<f32>>,
    examples: Vec<u32>,
    unknown_words: Vec<String>,
}

fn query_of(view: &ModelView<'_>, encoder: EncoderView<'_>, request: &SearchRequest) -> Result<Query, Problem> {
    let by_example = !request.positive.is_empty() || !request.negative.is_empty();
    match &request.vector {
        Some(_) if by_example || request.q.is_some() => {
            Err(Problem::invalid("a vector and words or examples are given", "send the vector, or the others"))
        }
        Some(vector) => {
            if vector.len() != view.dimensions() {
                return Err(Problem::invalid(
                    format!("the vector has {} numbers, the model has {} dimensions", vector.len(), view.dimensions()),
                    "send a vector made by the same model; GET /v1/model tells its dimensions",
                ));
            }
            Ok(Query { vector: Some(vector.clone()), ..Query::default() })
        }
        None if by_example || request.q.is_some() => sum_of_examples(view, encoder, request),
        None => Err(Problem::invalid(
            "neither a vector nor words nor examples are given",
            "send vector, or q, or positive and negative",
        )),
    }
}

/// The weighted sum of the unit vectors of the examples and the words, so that a long row does not drown the others.
fn sum_of_examples(view: &ModelView<'_>, encoder: EncoderView<'_>, request: &SearchRequest) -> Result<Query, Problem> {
    let mut query = Query::default();
    let mut sum = vec![0.0; view.dimensions()];
    let mut says_something = false;
    if let Some(text) = &request.q {
        check_count("characters of q", text.chars().count(), limits::QUERY_TEXT_CHARS_MAX)?;
        if encoder.is_empty() {
            return Err(Problem::invalid(
                "the model has learned no words, so q cannot be answered",
                "send examples, or train on a catalogue with titles, categories or attributes",
            ));
        }
        if text.trim().is_empty() {
            return Err(Problem::invalid("q is empty", "send words, or leave q out"));
        }
        query.unknown_words = encoder.unknown_words(text);
        if let Some(Encoded { mut target, .. }) = encoder.encode(&Features::of_query(text)) {
            normalise(&mut target);
            sum = target;
            says_something = true;
        }
    }
    let signed = request.positive.iter().map(|example| (example, 1.0f32));
    for (example, sign) in signed.chain(request.negative.iter().map(|example| (example, -1.0))) {
        let (id, weight) = match example {
            Example::Id(id) => (id, 1.0),
            Example::Weighted(example) => (&example.item_id, example.weight),
        };
        check_id(&"item_id", id)?;
        if !(weight.is_finite() && weight > 0.0) {
            return Err(Problem::invalid(
                format!("the weight of example {id:?} is {weight}"),
                "give a weight greater than 0; what should be far goes into negative",
            ));
        }
        let ordinal = view.ordinal(id).filter(|ordinal| view.entry(*ordinal).is_some());
        let ordinal = ordinal.ok_or_else(|| Problem::item_not_found(id))?;
        let row = view.row(ordinal).unwrap_or_default().values();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let factor = sign * weight / norm.max(f32::MIN_POSITIVE);
        sum.iter_mut().zip(row.iter()).for_each(|(sum, x)| *sum += factor * x);
        query.examples.push(ordinal);
    }
    says_something |= !query.examples.is_empty();
    query.vector = says_something.then_some(sum);
    Ok(query)
}

fn params(model: &Model<MappedFile>, request: &SearchRequest) -> Result<SearchParams, Problem> {
    let k = request.k.unwrap_or(K_DEFAULT);
    if !(1..=limits::ANSWER_ITEMS_MAX).contains(&k) {
        return Err(Problem::invalid(
            format!("k is {k}, expected 1 to {}", limits::ANSWER_ITEMS_MAX),
            "ask for fewer items",
        ));
    }
    let measured = (model.manifest().ef_search as usize).clamp(1, kindred_index::EF_SEARCH_MAX);
    let usual = measured.max(k);
    let (mut ef_search, as_exact) =
        breadth_asked_for(model.manifest(), request.ef_search, request.recall_target, usual)?;
    // What a breadth finds was measured of the ten nearest; of more it finds less.
    if request.recall_target.is_some() && k > NEAREST {
        ef_search = ef_search.max(k);
    }
    Ok(SearchParams { k, ef_search, exact: request.exact || as_exact })
}

fn hits<'a>(view: &ModelView<'a>, request: &SearchRequest, found: &[Hit]) -> Vec<HitDto<'a>> {
    let render = |hit: &Hit| HitDto {
        item_id: view.key(hit.ordinal).unwrap_or_default(),
        similarity: hit.similarity,
        vector: view.row(hit.ordinal).filter(|_| request.with_vector).map(|row| row.values()),
        item: if request.with_items { entry(view, hit.ordinal) } else { None },
    };
    found.iter().map(render).collect()
}

fn plan_name(plan: Plan) -> &'static str {
    match plan {
        Plan::Exact => "exact",
        Plan::Graph => "graph",
        Plan::FilteredGraph => "filtered_graph",
        Plan::TwoHops => "two_hops",
        Plan::Longest => "longest",
    }
}

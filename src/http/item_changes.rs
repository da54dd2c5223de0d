//! `PUT`, `PATCH` and `DELETE /v1/items/{id}` and `POST /v1/items/batch`: what changes the catalogue, seen by the very next answer.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::{Body, Lines, check_count, check_id, json, json_of_any_form};
use super::error::{Code, Problem, ProblemBody};
use super::item_input::{ItemInput, ItemPatch, input, patched};
use super::items::ItemDto;
use super::state::{State, Worker};
use crate::catalog::CatalogItem;
use crate::limits;
use crate::live_catalog::Turns;
use crate::live_items::LiveEntry;

/// What became of a batch. Counts of changes of each kind.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// Items that are now as they were sent.
    pub(crate) put: usize,
    /// Items of which some fields were changed.
    pub(crate) patched: usize,
    /// Items that are gone.
    pub(crate) deleted: usize,
}

/// What became of an item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedAnswer<'a> {
    /// The item.
    #[schema(value_type = String)]
    pub(crate) id: &'a str,
    /// Always true.
    pub(crate) deleted: bool,
}

/// What is done with an item of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// The item is as sent, and nothing else.
    #[default]
    Put,
    /// The fields that are sent replace those of the item; null removes one.
    Patch,
    /// The item is gone.
    Delete,
}

/// Items to change: each with its `id`, the fields of an item and an `op`: `put` (also if left out), `patch` or `delete`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a body that is read item by item, so that each error has its place")]
pub(crate) struct BatchItem {
    /// What is done; `put` if left out.
    op: Option<Operation>,
    /// Which item.
    id: String,
    /// The fields of the item, beside these two.
    #[schema(inline)]
    #[serde(flatten)]
    item: Map<String, Value>,
}

/// Put an item into the catalogue
///
/// It is in the very next answer, whether it is new or was there before, and synced to disk. A new item is recommended at once, by the vector
/// that came with it or by an estimate. What `GET` shows can be sent back as it is.
#[utoipa::path(
    put, path = "/v1/items/{id}", operation_id = "put_item", tag = "items", params(("id" = String, Path, description = "the item, percent-encoded", example = "item-42")),
    request_body(content = ItemInput, example = json!({
        "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9, "image": "https://example.org/lantern.jpg",
        "attributes": {"colour": ["red", "black"], "height_cm": 31, "since": "2026-11-24T00:00:00Z", "shop": {"lat": 47.37, "lon": 8.54}},
        "expires_at": "2036-12-24T18:00:00Z"
    })),
    responses((status = 200, description = "the item as it now is", body = ItemDto))
)]
pub(crate) async fn put(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let input = json::<ItemInput>(&body)?;
    let turns = state.catalog.turns(std::iter::once(id.as_str())).await;
    let before = known(current(&state, &id));
    let at_ms = time_of_change(&state, &id, before.as_ref(), None);
    let entry = input.into_entry(&id, "", before.as_ref(), state.dimensions(), at_ms)?;
    change_one(&state, &turns, entry).await
}

/// Change some fields of an item
///
/// A JSON merge patch (RFC 7396): fields that are sent replace those of the item, null removes one.
#[utoipa::path(
    patch, path = "/v1/items/{id}", operation_id = "patch_item", tag = "items", params(("id" = String, Path, description = "the item, percent-encoded", example = "item-42")),
    request_body(content = ItemPatch, example = json!({"price": 19.9, "available": false})),
    responses(
        (status = 200, description = "the item as it now is", body = ItemDto),
        (status = 404, description = "no such item", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn patch(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    check_id(&"item id", &id)?;
    let patch = json::<Map<String, Value>>(&body)?;
    let turns = state.catalog.turns(std::iter::once(id.as_str())).await;
    let (current, vector) = current(&state, &id)?;
    let entry = input(patched(&current, vector.as_deref(), patch, "")?, "")?;
    let at_ms = time_of_change(&state, &id, Some(&current), None);
    let entry = entry.into_entry(&id, "", Some(&current), state.dimensions(), at_ms)?;
    change_one(&state, &turns, entry).await
}

/// Take an item out of the catalogue
///
/// It is in no list from the next answer on.
#[utoipa::path(
    delete, path = "/v1/items/{id}", operation_id = "delete_item", tag = "items", params(("id" = String, Path, description = "the item, percent-encoded", example = "item-42")),
    responses(
        (status = 200, description = "it is gone", body = DeletedAnswer, example = json!({"id": "item-42", "deleted": true})),
        (status = 404, description = "no such item", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    check_id(&"item id", &id)?;
    let turns = state.catalog.turns(std::iter::once(id.as_str())).await;
    let (current, _) = current(&state, &id)?;
    let at_ms = time_of_change(&state, &id, Some(&current), None);
    change(&state, &turns, vec![LiveEntry::deleted(id.as_str(), at_ms)]).await?;
    super::render(&DeletedAnswer { id: &id, deleted: true })
}

/// Change many items, all or none
///
/// A JSON list, or a JSON object a line (`application/x-ndjson`). Each has its `id`, and an `op` beside the fields of an item.
#[utoipa::path(
    post, path = "/v1/items/batch", operation_id = "change_items", tag = "items",
    request_body(description = "a list of changes; as application/x-ndjson a change a line", content(
        (Vec<BatchItem> = "application/json", example = json!([
            {"id": "lantern-7", "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9},
            {"op": "patch", "id": "lantern-7", "available": false},
            {"op": "delete", "id": "lantern-7"}
        ])),
        (BatchItem = "application/x-ndjson", example = json!({"id": "lantern-7", "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9})),
    )),
    responses(
        (status = 200, description = "all changes are made", body = BatchAnswer),
        (status = 404, description = "an item to patch or delete is not there", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn batch(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    request: HttpRequest,
    body: Lines,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_write(&worker).await?;
    let items = operations(&body)?;
    if items.iter().any(|item| item.op == Operation::Delete) {
        // Whatever comes of it: a failing disk may keep what it does not confirm.
        request.extensions_mut().insert(super::middleware::Deletes);
    }
    check_count("items", items.len(), limits::BATCH_ITEMS_MAX)?;
    let turns = state.catalog.turns(items.iter().map(|item| item.id.as_str())).await;
    let (mut done, mut entries) = (BatchAnswer::default(), Vec::<LiveEntry>::with_capacity(items.len()));
    for item in items {
        let place = format!("items[{}]: ", item.at);
        let earlier = entries.iter().rev().find(|entry| entry.id() == item.id);
        let current = after(&state, &item.id, earlier);
        let (value, before) = match item.op {
            Operation::Put => {
                done.put += 1;
                (Value::Object(item.fields), known(current))
            }
            Operation::Patch => {
                done.patched += 1;
                let (current, vector) = current?;
                (patched(&current, vector.as_deref(), item.fields, &place)?, Some(current))
            }
            Operation::Delete => {
                done.deleted += 1;
                let at_ms = time_of_change(&state, &item.id, Some(&current?.0), earlier);
                entries.push(LiveEntry::deleted(item.id, at_ms));
                continue;
            }
        };
        let at_ms = time_of_change(&state, &item.id, before.as_ref(), earlier);
        let input = input(value, &place)?;
        entries.push(input.into_entry(&item.id, &place, before.as_ref(), state.dimensions(), at_ms)?);
    }
    change(&state, &turns, entries).await?;
    super::render(&done)
}

/// One change of a batch.
struct Change {
    at: usize,
    op: Operation,
    id: String,
    fields: Map<String, Value>,
}

fn operations(body: &Lines) -> Result<Vec<Change>, Problem> {
    let maps: Vec<Map<String, Value>> = if body.is_lines() {
        let lines = body.split(|byte| *byte == b'\n').zip(1..);
        let lines = lines.filter(|(line, _)| !line.iter().all(u8::is_ascii_whitespace));
        let parsed = lines.map(|(line, number)| json(line).map_err(|problem| problem.at(&format!("line {number}"))));
        parsed.collect::<Result<_, _>>()?
    } else {
        json_of_any_form(body)?
    };
    let change = |(at, mut fields): (usize, Map<String, Value>)| {
        let place = format!("items[{at}]: ");
        let op = fields.remove("op").filter(|op| !op.is_null()).unwrap_or_else(|| Value::from("put"));
        let op = serde_json::from_value(op).map_err(|_| {
            Problem::invalid(format!("{place}op is not known"), "send put, patch or delete, or leave op out to put")
        })?;
        let Some(Value::String(id)) = fields.remove("id") else {
            return Err(Problem::invalid(format!("{place}id is not text"), "send the id of the item as text"));
        };
        check_id(&format_args!("{place}id"), &id)?;
        if op == Operation::Delete && !fields.is_empty() {
            return Err(Problem::invalid(format!("{place}delete has further fields"), "send op and id alone"));
        }
        Ok(Change { at, op, id, fields })
    };
    maps.into_iter().enumerate().map(change).collect()
}

/// An item, and the vector that came with it.
type Current = (CatalogItem, Option<Vec<f32>>);

/// The item that is put anew, as far as it is known: one that is not there, or cannot be read, is put all the same.
fn known(current: Result<Current, Problem>) -> Option<CatalogItem> {
    current.ok().map(|(item, _)| item)
}

/// The item as an earlier change of the same batch left it, or as it is.
fn after(state: &State, id: &str, earlier: Option<&LiveEntry>) -> Result<Current, Problem> {
    match earlier {
        Some(entry) => {
            let item = entry.item().cloned().ok_or_else(|| Problem::item_not_found(id))?;
            Ok((item, entry.vector().map(<[f32]>::to_vec)))
        }
        None => current(state, id),
    }
}

/// When an item changes now: later than its last change, also an earlier one of the same batch, whatever the clock says, because an artifact that is as
/// late counts as containing the change.
fn time_of_change(state: &State, id: &str, before: Option<&CatalogItem>, earlier: Option<&LiveEntry>) -> i64 {
    let kept = state.catalog.last(id).map(|entry| entry.updated_at_ms());
    let shown = before.and_then(|item| item.updated_at).map(|at| at.0);
    let last = kept.max(shown).max(earlier.map(LiveEntry::updated_at_ms));
    last.map_or(state.now_ms(), |last| state.now_ms().max(last.saturating_add(1)))
}

/// The item as it is, without a vector that was for a model of another length.
fn current(state: &State, id: &str) -> Result<Current, Problem> {
    let last = state.catalog.last(id);
    let fits = |vector: &&[f32]| state.dimensions().is_none_or(|dimensions| vector.len() == dimensions);
    let vector = last.as_ref().and_then(|entry| entry.vector()).filter(fits).map(<[f32]>::to_vec);
    let item = match state.reloader.live().as_deref() {
        Some(live) => {
            let changes = live.changes(state.now_ms());
            let view = live.snapshot.model().view_with(changes.as_deref());
            let json = view.ordinal(id).and_then(|ordinal| view.entry(ordinal));
            json.map(serde_json::from_str).transpose().map_err(|error| {
                Problem::new(Code::Internal, error.to_string(), "verify the artifact with `kindred verify`")
            })?
        }
        // What the artifact has is not known: who is told that the item is not there puts it anew, without what it had.
        None => last.ok_or_else(Problem::not_ready)?.item().cloned(),
    };
    Ok((item.ok_or_else(|| Problem::item_not_found(id))?, vector))
}

/// Changes one item; the answer is the item as it now is.
async fn change_one(state: &State, turns: &Turns<'_>, entry: LiveEntry) -> Result<HttpResponse, Problem> {
    let answer = entry.json().unwrap_or_default().to_owned();
    change(state, turns, vec![entry]).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(answer))
}

async fn change(state: &State, turns: &Turns<'_>, entries: Vec<LiveEntry>) -> Result<(), Problem> {
    let live = || state.reloader.live().as_ref().map(std::sync::Arc::clone);
    let changed = state.catalog.change(turns, entries, live).await;
    changed.map_err(|error| Problem::change(&error, state.retry_after_seconds))
}

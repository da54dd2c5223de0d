//! `GET /v1/items`: the whole catalogue as it now is, page by page, or in one go as a line an item for the next build.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::Method;
use actix_web::http::header::ACCEPT;
use actix_web::rt::task::{JoinHandle, spawn_blocking};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::body::{not_our_cursor, page_limit};
use super::cursor::{from_hex, to_hex};
use super::error::Problem;
use super::items::ItemDto;
use super::state::{State, Worker};
use crate::model::ModelView;
use crate::reload::Reloader;

/// Items in a page that asks for no number.
const LISTED: usize = 100;
/// Lines rendered at once; a few hundred kilobytes.
const LINES_AT_ONCE: usize = 256;

/// Which part of the catalogue is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Items a page; 100 if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<usize>,
    /// `next_cursor` of the page before; left out for the first.
    pub(crate) cursor: Option<String>,
}

impl ListQuery {
    /// How many, and after which id.
    fn checked(&self) -> Result<(usize, Option<String>), Problem> {
        let limit = page_limit(self.limit, LISTED)?;
        Ok((limit, self.cursor.as_deref().map(decode).transpose()?))
    }
}

/// A page of the catalogue, in the order of the ids' bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemsPage<'a> {
    /// The items as they now are, hidden and expired ones too.
    #[schema(value_type = Vec<ItemDto>)]
    pub(crate) items: Vec<&'a RawValue>,
    /// What to send as `cursor` for the next page; null after the last. It stays good when another artifact takes its place.
    pub(crate) next_cursor: Option<String>,
}

/// List the catalogue
///
/// With `Accept: application/x-ndjson` the answer is all of it, an item a line, as `kindred prepare --items` takes it; `limit` and
/// `cursor` are then not looked at.
#[utoipa::path(
    get, path = "/v1/items", operation_id = "list_items", tag = "items", params(ListQuery),
    responses((status = 200, description = "a page of items; as application/x-ndjson all of them, an item a line", content(
        (ItemsPage = "application/json", example = json!({"items": [{"id": "item-42", "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9, "available": true}], "next_cursor": null})),
        (ItemDto = "application/x-ndjson", example = json!({"id": "item-42", "title": "Garden lantern, red", "categories": ["garden"], "price": 24.9, "available": true})),
    )))
)]
pub(crate) async fn get(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    request: HttpRequest,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let _permit = state.admit_whole(&worker).await?;
    let live = state.reloader.live().as_ref().map(Arc::clone).ok_or_else(Problem::not_ready)?;
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let whole = accepts.contains("ndjson") || accepts.contains("jsonl");
    let asked = if whole { None } else { Some(query.checked()?) };
    // Sorting the ids of a large catalogue takes a second the first time, which is too long for a worker.
    let sorted = Arc::clone(&live);
    let sorting = web::block(move || sorted.sorted().len()).await;
    sorting.map_err(|_| Problem::stopping())?;
    let Some((limit, after)) = asked else {
        let lines = LinesOfItems::new(Arc::clone(&state.reloader), request.method());
        return Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines));
    };
    let changes = live.changes(state.now_ms());
    let view = live.snapshot.model().view_with(changes.as_deref());
    let page = page(&view, live.sorted(), after.as_deref(), limit);
    let next_cursor = (page.len() == limit).then(|| page.last().map(|(key, _)| to_hex(key.as_bytes()))).flatten();
    let items = page.into_iter().filter_map(|(_, json)| serde_json::from_str(json).ok()).collect();
    super::render(&ItemsPage { items, next_cursor })
}

/// The items after a key, in the order of keys: those of the artifact and those beside it.
fn page<'a>(view: &ModelView<'a>, sorted: &[u32], after: Option<&str>, limit: usize) -> Vec<(&'a str, &'a str)> {
    let is_done = |key: Option<&str>| after.is_some_and(|after| key.is_some_and(|key| key <= after));
    let first = sorted.partition_point(|ordinal| is_done(view.key(*ordinal)));
    let built = sorted.get(first..).unwrap_or_default().iter().copied();
    let mut built = built.filter_map(|ordinal| Some((view.key(ordinal)?, view.entry(ordinal)?))).peekable();
    let added = view.live().into_iter().flat_map(|live| live.added_after(after));
    let mut added = added.filter_map(|entry| Some((entry.id(), entry.json()?))).peekable();
    let mut page = Vec::with_capacity(limit.min(LINES_AT_ONCE));
    while page.len() < limit {
        let next = match (built.peek(), added.peek()) {
            (Some(one), Some(other)) if one.0 <= other.0 => built.next(),
            (_, Some(_)) => added.next(),
            _ => built.next(),
        };
        let Some(next) = next else { break };
        page.push(next);
    }
    page
}

/// The key in a cursor, where it stands in hexadecimal.
fn decode(cursor: &str) -> Result<String, Problem> {
    let key = from_hex(cursor).and_then(|key| String::from_utf8(key).ok());
    key.filter(|key| !key.is_empty()).ok_or_else(not_our_cursor)
}

/// The body that is the whole catalogue, made as it is sent. It holds no artifact: one who reads slowly, or no more, would keep it in memory and on the
/// disk after another took its place.
struct LinesOfItems {
    reloader: Arc<Reloader>,
    after: Option<String>,
    ended: bool,
    /// The sorting of an artifact that took the place of another meanwhile.
    sorting: Option<JoinHandle<()>>,
    /// Whether the last call made lines.
    made: bool,
}

impl LinesOfItems {
    /// HEAD asks for none: all would be made in one go, since nothing waits for room on the way, and thrown away.
    fn new(reloader: Arc<Reloader>, method: &Method) -> Self {
        Self { reloader, after: None, ended: *method == Method::HEAD, sorting: None, made: false }
    }
}

impl MessageBody for LinesOfItems {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<web::Bytes, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(live) = self.reloader.live().as_ref().map(Arc::clone) else { return Poll::Ready(None) };
        if !live.is_sorted() {
            let unsorted = Arc::clone(&live);
            let sort = || {
                spawn_blocking(move || {
                    unsorted.sorted();
                })
            };
            if Pin::new(self.sorting.get_or_insert_with(sort)).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.sorting = None;
        self.made = !self.made;
        if !self.made {
            // One who takes lines as fast as they are made would have the worker for as long as there are any: others have their turn in between.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Expired items are listed too, so no time is seen to: sending takes long, and what expired meanwhile would be back in every list.
        let changes = live.overlay.as_it_is();
        let view = live.snapshot.model().view_with(Some(&changes));
        let page = page(&view, live.sorted(), self.after.as_deref(), LINES_AT_ONCE);
        self.ended = page.len() < LINES_AT_ONCE;
        self.after = page.last().map(|(key, _)| (*key).to_owned());
        let mut lines = String::new();
        for (_, json) in page {
            lines.push_str(json);
            lines.push('\n');
        }
        if lines.is_empty() { Poll::Ready(None) } else { Poll::Ready(Some(Ok(lines.into()))) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::poll_fn;
    use std::path::Path;
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use kindred_index::{Memory, Metric};

    use super::*;
    use crate::catalog::CatalogItem;
    use crate::live_catalog::LiveCatalog;
    use crate::live_items::LiveEntry;
    use crate::reload::Reloaded;
    use crate::store::memory::MemoryDocuments;
    use crate::telemetry::Metrics;
    use crate::testing::Fixture;
    use crate::timestamp::Timestamp;

    fn reloader(root: &Path) -> Arc<Reloader> {
        let (metrics, catalog) = (Metrics::new().unwrap(), LiveCatalog::load(Arc::new(MemoryDocuments::default())));
        let (metrics, catalog) = (Arc::new(metrics), Arc::new(catalog.unwrap()));
        Arc::new(Reloader::start(root, Memory::default(), None, metrics, || 0, catalog).unwrap())
    }

    #[actix_web::test]
    async fn who_reads_slowly_keeps_no_artifact_and_is_sent_the_rest_of_the_one_that_took_its_place() {
        let (root, n) = (tempfile::tempdir().unwrap(), 2 * LINES_AT_ONCE);
        Fixture::random(42, n, 16, Metric::Cosine).publish(root.path(), "g1");
        let reloader = reloader(root.path());
        let replaced = reloader.live().as_ref().map(Arc::downgrade).unwrap();
        let mut lines = LinesOfItems::new(Arc::clone(&reloader), &Method::GET);
        let mut sent = Vec::new();
        while let Some(Ok(part)) = poll_fn(|context| Pin::new(&mut lines).poll_next(context)).await {
            let is_first = sent.is_empty();
            sent.extend_from_slice(&part);
            if is_first {
                Fixture::random(43, n, 16, Metric::Cosine).publish(root.path(), "g2");
                assert_eq!(reloader.reload().await.unwrap(), Reloaded::Swapped("g2".to_owned()));
                let began = Instant::now();
                while replaced.strong_count() > 0 && began.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert_eq!(replaced.strong_count(), 0, "nobody waits for who reads");
            }
        }
        let sent: Vec<CatalogItem> =
            sent.trim_ascii().split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        let ids: BTreeSet<&str> = sent.iter().map(|item| item.id.as_str()).collect();
        assert_eq!((sent.len(), ids.len()), (n, n), "each item once");
    }

    #[test]
    fn sending_all_of_it_holds_nobody_up_and_brings_nothing_back_that_expired_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        Fixture::random(42, 2 * LINES_AT_ONCE, 16, Metric::Cosine).publish(root.path(), "g1");
        let reloader = reloader(root.path());
        let live = reloader.live().as_ref().map(Arc::clone).unwrap();
        live.sorted();
        let item = CatalogItem { expires_at: Some(Timestamp(10)), ..CatalogItem::new("new") };
        let entry = Arc::new(LiveEntry::put(item, None, 0).unwrap());
        live.overlay.write(|items| items.apply(live.snapshot.model(), entry, None));
        let mut lines = LinesOfItems::new(Arc::clone(&reloader), &Method::GET);
        assert!(live.changes(10).unwrap().added(true, None).is_empty(), "it has expired");
        let (mut sent, mut turns_of_others) = (0, 0);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut lines).poll_next(&mut context) {
                Poll::Ready(Some(Ok(part))) => sent += part.iter().filter(|byte| **byte == b'\n').count(),
                Poll::Ready(_) => break,
                Poll::Pending => turns_of_others += 1,
            }
        }
        assert_eq!((sent, turns_of_others), (2 * LINES_AT_ONCE + 1, 2), "all of the catalogue, and pauses in between");
        let mut head = LinesOfItems::new(Arc::clone(&reloader), &Method::HEAD);
        assert!(matches!(Pin::new(&mut head).poll_next(&mut context), Poll::Ready(None)), "no line is made for HEAD");
        assert!(live.overlay.as_it_is().added(true, None).is_empty(), "and stays so");
    }

    #[test]
    fn cursors_are_read_back_and_nonsense_is_refused() {
        for key in ["a", "a/b?&=%", "日本", "\u{1}"] {
            assert_eq!(decode(&to_hex(key.as_bytes())).unwrap(), key);
        }
        for cursor in ["", "0", "zz", "ff", "6"] {
            assert!(decode(cursor).is_err(), "{cursor}");
        }
    }
}

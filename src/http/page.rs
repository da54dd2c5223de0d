//! A plain shop front over the API: a home list, product pages with similar items, and a list that follows what one looks at.
//!
//! Pages are complete without the script; the script adds the visitor (a session id kept by the browser), sends what is looked at, replaces
//! the list, and shows what does nothing without it and is hidden until then. Everything from the catalogue is escaped, and the policy header
//! forbids everything that is not ours.

use std::fmt::Write as _;

use actix_web::{HttpResponse, ResponseError, web};
use kindred_index::MappedFile;

use super::body::check_id;
use super::error::Problem;
use super::recommendations::fresh_seed;
use super::state::{State, Worker};
use crate::catalog::CatalogItem;
use crate::interaction::Interaction;
use crate::live_items::LiveItems;
use crate::model::{Model, ModelView};
use crate::overload::Step;
use crate::recommend::{RecommendRequest, Recommendations, recommend};
use crate::settings::{HOME, SIMILAR};

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' https: http: data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const LIST_ITEMS: usize = 12;

/// The home page: what the shop recommends.
pub(crate) async fn home(state: web::Data<State>, worker: web::Data<Worker>) -> Result<HttpResponse, Problem> {
    let permit = state.admit(&worker).await?;
    if state.reloader.live().is_none() {
        return Ok(waiting(&state));
    }
    state.with_live(|live| {
        let changes = live.changes(state.now_ms());
        let view = live.snapshot.model().view_with(changes.as_deref());
        let list = popular(&state, &worker, live.snapshot.model(), changes.as_deref(), permit.step)?;
        let main = format!(
            "<section><h1 id=\"home-title\">Popular now</h1><p class=\"hint\" id=\"home-hint\" hidden>Open an item: this list follows what you look at.</p>\
             <div class=\"grid\" id=\"for-you\">{}</div></section>",
            cards(&view, &list)
        );
        Ok(page(&state, "Shop", "", &main, live.snapshot.generation()))
    })
}

/// A product page: the item, a button, similar items, and the list for this visitor.
pub(crate) async fn item(
    state: web::Data<State>,
    worker: web::Data<Worker>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    check_id(&"item id", &id)?;
    let permit = state.admit(&worker).await?;
    if state.reloader.live().is_none() {
        return Ok(waiting(&state));
    }
    let (_, scenario) = state.scenario(SIMILAR)?;
    state.with_live(|live| {
        let model = live.snapshot.model();
        let changes = live.changes(state.now_ms());
        let view = model.view_with(changes.as_deref());
        let seed = view.ordinal(&id).filter(|seed| view.entry(*seed).is_some());
        let Some(seed) = seed else { return Ok(missing(&state, &id, live.snapshot.generation())) };
        let shown = entry(&view, seed);
        let nobody: [Interaction; 0] = [];
        let request = RecommendRequest {
            impersonal: permit.step == Step::Popular,
            limit: Some(LIST_ITEMS),
            live: changes.as_deref(),
            item_ids: std::slice::from_ref(&*id),
            seed: fresh_seed(&state, scenario),
            ..RecommendRequest::new(&nobody, state.now_ms())
        };
        let weighting = &model.manifest().weighting;
        let listed = scenario.at(permit.step);
        let list = state.with_signals(scenario, live.snapshot.generation(), None, |signals| {
            let request = RecommendRequest { signals, ..request };
            recommend(model, listed, weighting, &request, &mut worker.scratch.borrow_mut(), &mut |_| ())
        })?;
        let main = format!(
            "{}<section><h2>Similar items</h2><div class=\"grid\">{}</div></section>\
             <section><h2 id=\"home-title\">For you</h2><div class=\"grid\" id=\"for-you\">{}</div></section>",
            product(&shown),
            cards(&view, &list),
            cards(&view, &popular(&state, &worker, model, changes.as_deref(), permit.step)?),
        );
        Ok(page(&state, title(&shown), &shown.id, &main, live.snapshot.generation()))
    })
}

/// The style sheet.
pub(crate) async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", include_str!("page/shop.css"))
}

/// The script.
pub(crate) async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", include_str!("page/shop.js"))
}

/// The same for everybody, and another with another version of the server: a browser asks again before it uses what it has.
fn asset(content_type: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(content_type).insert_header(("cache-control", "no-cache")).body(text)
}

/// What a visitor gets about whom nothing is known. The script asks again for the one who is there.
fn popular(
    state: &State,
    worker: &Worker,
    model: &Model<MappedFile>,
    live: Option<&LiveItems>,
    step: Step,
) -> Result<Recommendations, Problem> {
    let (_, scenario) = state.scenario(HOME)?;
    let nobody: [Interaction; 0] = [];
    let seed = fresh_seed(state, scenario);
    let request =
        RecommendRequest { limit: Some(LIST_ITEMS), live, seed, ..RecommendRequest::new(&nobody, state.now_ms()) };
    let weighting = &model.manifest().weighting;
    let list = state.with_signals(scenario, &model.manifest().generation, None, |signals| {
        let request = RecommendRequest { signals, ..request };
        recommend(model, scenario.at(step), weighting, &request, &mut worker.scratch.borrow_mut(), &mut |_| ())
    });
    Ok(list?)
}

fn entry(view: &ModelView<'_>, ordinal: u32) -> CatalogItem {
    let known = view.entry(ordinal).and_then(|json| serde_json::from_str(json).ok());
    known.unwrap_or_else(|| CatalogItem::new(view.key(ordinal).unwrap_or_default()))
}

fn title(item: &CatalogItem) -> &str {
    if item.title.is_empty() { &item.id } else { &item.title }
}

fn cards(view: &ModelView<'_>, list: &Recommendations) -> String {
    if list.items.is_empty() {
        // The script says the same.
        return "<p class=\"meta\">Nothing to show at present.</p>".to_owned();
    }
    list.items.iter().map(|found| card(&entry(view, found.ordinal))).collect()
}

/// One item of a list. The script makes the same from the API's answer.
fn card(item: &CatalogItem) -> String {
    format!(
        "<a class=\"card\" href=\"/items/{}\">{}<span class=\"name\">{}</span><span class=\"meta\">{}</span>{}</a>",
        percent(&item.id),
        picture(item),
        escape(title(item)),
        escape(&item.categories.join(" · ")),
        price(item),
    )
}

fn product(item: &CatalogItem) -> String {
    let stock = if item.available { "" } else { "<p class=\"meta\">Not available at present.</p>" };
    format!(
        "<section class=\"product\" id=\"product\" data-id=\"{id}\">{picture}<div><h1>{title}</h1><p class=\"meta\">{categories}</p>\
         <p>{description}</p>{price}{stock}<button type=\"button\" id=\"add\" hidden>Add to cart</button>\
         <span class=\"hint\" id=\"added\" role=\"status\"></span></div></section>",
        id = escape(&item.id),
        picture = picture(item),
        title = escape(title(item)),
        categories = escape(&item.categories.join(" · ")),
        description = escape(&item.description),
        price = price(item),
    )
}

fn price(item: &CatalogItem) -> String {
    item.price.map_or_else(String::new, |price| format!("<span class=\"price\">{price:.2}</span>"))
}

/// The image, or a tile in the colour of the first category with the title's first letter.
fn picture(item: &CatalogItem) -> String {
    if let Some(address) = item.image.as_deref().filter(|address| is_web_address(address)) {
        return format!("<img class=\"picture\" src=\"{}\" alt=\"\" loading=\"lazy\">", escape(address));
    }
    let hue = item.categories.first().map_or(0, |category| hue(category));
    let letter: String =
        title(item).chars().find(|c| c.is_alphanumeric()).into_iter().flat_map(char::to_uppercase).collect();
    format!("<span class=\"picture tile hue-{hue}\" aria-hidden=\"true\">{}</span>", escape(&letter))
}

fn is_web_address(address: &str) -> bool {
    ["https://", "http://", "/"].iter().any(|start| address.starts_with(start))
}

/// One of twelve colours. The script counts the same way.
fn hue(category: &str) -> u32 {
    category.chars().fold(0u32, |sum, c| (sum.wrapping_mul(31).wrapping_add(c as u32)) % 1_000_003) % 12
}

/// The frame of every page.
fn page(state: &State, title: &str, item_id: &str, main: &str, generation: &str) -> HttpResponse {
    // With an address of its own it is not on this one.
    let metrics = if state.admin_apart { "" } else { " · <a href=\"/metrics\">metrics</a>" };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} · Kindred</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/assets/shop.css\">\
         <script src=\"/assets/shop.js\" defer></script></head><body data-item=\"{item_id}\">\
         <header><a class=\"brand\" href=\"/\">Kindred</a><span class=\"trail\" id=\"trail\"></span><button type=\"button\" id=\"reset\" hidden>Start over</button></header>\
         <main>{main}</main><footer>Artifact <code>{generation}</code> · <a href=\"/v1/model\">model</a>{metrics} · \
         <a href=\"/openapi.json\">API</a><span id=\"took\"></span></footer></body></html>",
        title = escape(title),
        item_id = escape(item_id),
        generation = escape(generation),
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", POLICY))
        .insert_header(("x-frame-options", "DENY"))
        .insert_header(("referrer-policy", "same-origin"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), geolocation=(), microphone=()"))
        .body(html)
}

/// The page of an item that is not there.
fn missing(state: &State, id: &str, generation: &str) -> HttpResponse {
    let main = format!(
        "<section><h1>There is no such item</h1><p><code>{}</code> is not in the catalogue. <a href=\"/\">See what is.</a></p></section>",
        escape(id)
    );
    let mut response = page(state, "Not found", "", &main, generation);
    *response.status_mut() = Problem::item_not_found(id).status_code();
    response
}

/// The page before anything is published. It looks again by itself.
fn waiting(state: &State) -> HttpResponse {
    let main = "<section><h1>Nothing is published yet</h1><p>Run <code>kindred build</code>, or <code>kindred demo</code> for a shop made up \
        for you. This page shows it as soon as it is there.</p></section>";
    let mut response = page(state, "Waiting", "", main, "none");
    let refresh = actix_web::http::header::HeaderValue::from_static("3");
    response.headers_mut().insert(actix_web::http::header::HeaderName::from_static("refresh"), refresh);
    response
}

/// Text that is safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// An id as one segment of a path.
fn percent(id: &str) -> String {
    let mut safe = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && id.len() > 2) {
            safe.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_catalogue_holds_is_escaped() {
        let mut item = CatalogItem::new("a/b\"><script>");
        item.title = "<img src=x onerror=alert(1)>".to_owned();
        item.description = "'\"&".to_owned();
        item.image = Some("javascript:alert(1)".to_owned());
        let html = format!("{}{}", card(&item), product(&item));
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("javascript:"), "{html}");
        assert!(html.contains("/items/a%2Fb%22%3E%3Cscript%3E"), "{html}");
        assert!(html.contains("&#39;&quot;&amp;"), "{html}");
    }

    #[test]
    fn an_image_needs_a_web_address() {
        let mut item = CatalogItem::new("a");
        item.image = Some("https://example.org/a.png?x=1&y=2".to_owned());
        assert!(picture(&item).contains("src=\"https://example.org/a.png?x=1&amp;y=2\""));
        item.image = None;
        assert!(picture(&item).contains("tile"));
    }
}

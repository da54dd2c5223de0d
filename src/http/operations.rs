//! What operators and machines ask: is it alive, is it ready, what is it serving, how is it doing; and take the new artifact now.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Code, Problem, ProblemBody};
use super::state::State;
use crate::manifest::Manifest;
use crate::reload::{Live, Reloaded};
use crate::telemetry::ArtifactGauges;
use crate::timestamp::parse_rfc3339;

/// The state of a part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadyAnswer {
    /// `ready`, or `degraded` when it answers with less than it should.
    #[schema(value_type = String)]
    pub(crate) status: &'static str,
    /// The artifact in service.
    pub(crate) generation: String,
    /// `ok`, or in short what is wrong with the history store: the server's log says more.
    pub(crate) history: String,
}

/// What is in service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelAnswer<'a> {
    /// The artifact in service.
    #[schema(value_type = String)]
    pub(crate) generation: &'a str,
    /// Seconds since it went into service.
    pub(crate) live_seconds: u64,
    /// Items in it.
    pub(crate) items: u32,
    /// Numbers in a vector.
    pub(crate) dimensions: usize,
    /// Similarity: `cosine` or `inner_product`.
    #[schema(value_type = String)]
    pub(crate) metric: &'a str,
    /// Words and attributes that the model has learned; with none, searches by words (`q`) are refused.
    pub(crate) features: usize,
    /// Kinds of interaction and what they weigh.
    #[schema(value_type = BTreeMap<String, f32>)]
    pub(crate) kinds: &'a BTreeMap<String, f32>,
    /// The placements a request may name.
    pub(crate) scenarios: Vec<&'a str>,
    /// Everything the artifact says about itself: how it was trained, built and measured.
    #[schema(value_type = Object)]
    pub(crate) manifest: &'a Manifest,
}

/// What a reload did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReloadAnswer {
    /// `swapped`, `unchanged`, or `nothing_published` where CURRENT is not there: what is in service stays.
    #[schema(value_type = String)]
    pub(crate) result: &'static str,
    /// The artifact now in service; null if none is.
    pub(crate) generation: Option<String>,
}

/// Tell whether the process lives
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "operations", responses((status = 200, description = "it lives", body = String, example = json!("ok\n"))))]
pub(crate) async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// Tell whether requests can be answered
///
/// Ready means that an artifact is loaded. A history store that fails does not make the server unready, because answers from the interactions
/// in a request go on; it is named here, and a list for which a look-up failed says so in `degraded`.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "operations",
    responses(
        (status = 200, description = "ready", body = ReadyAnswer, example = json!({"status": "ready", "generation": "20261124T120000Z-1", "history": "ok"})),
        (status = 503, description = "no artifact is loaded, or the server is stopping", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ready(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Problem::stopping());
    }
    let history = state.history.check();
    state.with_live(|live| {
        Ok(HttpResponse::Ok().json(ReadyAnswer {
            status: if history.is_ok() { "ready" } else { "degraded" },
            generation: live.snapshot.generation().to_owned(),
            // Anybody may ask this, so it does not tell where the store lies.
            history: history.as_ref().map_or_else(|error| Problem::store(error, 0).in_short(), |()| "ok".to_owned()),
        }))
    })
}

/// Show what is in service
#[utoipa::path(
    get, path = "/v1/model", operation_id = "get_model", tag = "operations",
    responses(
        (status = 200, description = "the artifact, its model and the placements", body = ModelAnswer, example = json!({
            "generation": "20261124T120000Z-1", "live_seconds": 3600, "items": 2000, "dimensions": 64, "metric": "inner_product",
            "features": 8120, "kinds": {"view": 1.0, "cart": 3.0, "purchase": 5.0}, "scenarios": ["home", "similar"], "manifest": {"trainer": "als"}
        })),
    )
)]
pub(crate) async fn model(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    state.with_live(|live| {
        let model = live.snapshot.model();
        super::render(&ModelAnswer {
            generation: live.snapshot.generation(),
            live_seconds: live.since.elapsed().as_secs(),
            items: model.len(),
            dimensions: model.dimensions(),
            features: model.encoder().keys.len(),
            metric: &model.manifest().metric,
            kinds: &model.manifest().weighting.kinds,
            scenarios: state.scenarios.keys().map(String::as_str).collect(),
            manifest: model.manifest(),
        })
    })
}

/// Show the metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "operations", responses((status = 200, description = "the Prometheus text format", body = String, example = json!("kindred_ready 1\n"))))]
pub(crate) async fn metrics(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let gauges = |live: &Live| ArtifactGauges {
        ready: true,
        items: live.snapshot.model().len(),
        age_seconds: live.since.elapsed().as_secs_f64(),
        generation: live.snapshot.generation().to_owned(),
        model_age_seconds: parse_rfc3339(&live.snapshot.manifest().created_at)
            .map(|made| state.now_ms().saturating_sub(made).max(0) as f64 / 1e3),
    };
    let artifact = state.reloader.live().as_deref().map(gauges).unwrap_or_default();
    // Sizes are asked of the disk and the resident share of the system: not on this thread, which has lists to answer.
    let text = web::block(move || {
        let in_flight = state.in_flight.load(Ordering::Relaxed) + state.keeping.load(Ordering::Relaxed);
        let mut stats = state.history.stats();
        stats.damaged += state.catalog.damaged() + state.people.damaged();
        state.metrics.unlogged.set(i64::try_from(state.shown.refused()).unwrap_or(i64::MAX));
        state.metrics.render(in_flight, &artifact, &stats).map_err(|error| error.to_string())
    });
    let text = text.await.unwrap_or_else(|error| Err(error.to_string()));
    let text = text.map_err(|error| Problem::new(Code::Internal, error, "report this; the service itself goes on"))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// Take the published artifact now
///
/// Needs a key with the role `admin`. Without keys it is for the operator on this machine: refused for a peer that is not on the loopback
/// interface, and for a request that a proxy or a browser sent on for someone else. SIGHUP does the same.
#[utoipa::path(
    post, path = "/admin/reload", operation_id = "reload_artifact", tag = "operations",
    responses(
        (status = 200, description = "done", body = ReloadAnswer, example = json!({"result": "swapped", "generation": "20261124T120000Z-1"})),
        (status = 403, description = "not an administrator's key, or not from this machine", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "the artifact was refused; the old one stays", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "too many reloads are waiting", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn reload(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let (result, generation) = match state.reloader.reload().await? {
        Reloaded::Swapped(generation) => ("swapped", Some(generation)),
        Reloaded::Unchanged(generation) => ("unchanged", Some(generation)),
        Reloaded::NothingPublished => {
            let live = state.reloader.live();
            ("nothing_published", live.as_deref().map(|live| live.snapshot.generation().to_owned()))
        }
    };
    Ok(HttpResponse::Ok().json(ReloadAnswer { result, generation }))
}

//! Every metric of one application, in a registry of its own.
//!
//! Nothing is looked up per request: each counter and histogram of a known route, stage or reason is resolved once at start.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::process::ProcessGauges;
use super::recall::RecallMetrics;
use super::{RequestStage, Route, TelemetryError};
use crate::history::HistoryStats;
use crate::overload::Step;

/// Why an answer may not be personal, as the wire says it.
const FALLBACKS: [&str; 6] =
    ["newcomer", "unknown_items", "no_preference", "too_few_candidates", "deadline", "overload"];

/// Why a caller was sent away, by the code of the answer.
const REFUSALS: [&str; 3] = ["unauthorized", "forbidden", "rate_limited"];

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

struct RouteMetrics {
    seconds: Histogram,
    by_class: [IntCounter; STATUS_CLASSES.len()],
}

/// What the live artifact looks like to `/metrics`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArtifactGauges {
    /// Whether one is loaded.
    pub ready: bool,
    /// Its items.
    pub items: u32,
    /// Seconds since it was opened.
    pub age_seconds: f64,
    /// Its name.
    pub generation: String,
    /// Seconds since it was made, where its manifest says when.
    pub model_age_seconds: Option<f64>,
}

/// Every metric of one application.
pub struct Metrics {
    registry: Registry,
    routes: Vec<RouteMetrics>,
    stages: Vec<Histogram>,
    /// Answers given in a lesser way, by reason.
    pub degraded_history: IntCounter,
    /// Answers that were the fallback because the deadline had passed.
    pub degraded_deadline: IntCounter,
    /// Answers that were less because others waited.
    pub degraded_overload: IntCounter,
    /// Answers that do not know all that they were asked to.
    pub degraded_watermark: IntCounter,
    fallbacks: Vec<(&'static str, IntCounter)>,
    variants: IntCounterVec,
    /// Interactions that were not kept, by consent.
    pub not_kept: IntCounter,
    refusals: Vec<(&'static str, IntCounter)>,
    steps: Vec<IntCounter>,
    queue: Histogram,
    /// Requests refused because too many were in progress or waited.
    pub shed: IntCounter,
    /// Interactions kept.
    pub accepted: IntCounter,
    /// Interactions that were there already.
    pub duplicates: IntCounter,
    /// Artifacts swapped in.
    pub reloads_done: IntCounter,
    /// Artifacts refused.
    pub reloads_refused: IntCounter,
    /// Looks for a new artifact that wait for the one in progress, and that one.
    pub reloads_waiting: IntGauge,
    in_flight: IntGauge,
    ready: IntGauge,
    items: IntGauge,
    artifact_age: Gauge,
    artifact_info: IntGaugeVec,
    model_age: Gauge,
    /// When the certificate ends, seconds since 1970.
    pub certificate_ends: IntGauge,
    event_lag: Histogram,
    /// Time of a commit of the store.
    pub commit_seconds: Histogram,
    /// Entries that the recommendation log lacks.
    pub unlogged: IntGauge,
    scenario_seconds: HistogramVec,
    scenario_errors: IntCounterVec,
    scenarios: BTreeMap<String, (Histogram, IntCounter)>,
    process: ProcessGauges,
    history: HistoryGauges,
    /// The recall of live searches.
    pub(crate) recall: RecallMetrics,
    /// Held while the gauges are brought up to now and read: of two scrapes at once neither finds those that the other has only begun to set.
    rendering: Mutex<()>,
}

struct HistoryGauges {
    cached_actors: IntGauge,
    cached_bytes: IntGauge,
    queued: IntGauge,
    committed: IntGauge,
    hits: IntGauge,
    misses: IntGauge,
    pruned: IntGauge,
    file_bytes: IntGauge,
    damaged: IntGauge,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    ///
    /// # Errors
    /// [`TelemetryError::Metric`] if two metrics have one name.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let r = &registry;
        let seconds = register(
            r,
            HistogramVec::new(
                HistogramOpts::new("kindred_request_seconds", "time from the head of a request to its answer")
                    .buckets(buckets(50e-6)),
                &["route"],
            )?,
        )?;
        let requests = register(
            r,
            IntCounterVec::new(
                Opts::new("kindred_requests_total", "requests answered, by route and status class"),
                &["route", "status"],
            )?,
        )?;
        let stage = register(
            r,
            HistogramVec::new(
                HistogramOpts::new("kindred_stage_seconds", "time of one stage of a recommendation")
                    .buckets(buckets(0.5e-6)),
                &["stage"],
            )?,
        )?;
        let degraded = register(
            r,
            IntCounterVec::new(
                Opts::new("kindred_degraded_total", "recommendations answered in a lesser way, by reason"),
                &["reason"],
            )?,
        )?;
        let interactions = register(
            r,
            IntCounterVec::new(
                Opts::new("kindred_interactions_total", "interactions received, by what became of them"),
                &["result"],
            )?,
        )?;
        let reloads = register(
            r,
            IntCounterVec::new(Opts::new("kindred_reloads_total", "artifacts swapped in or refused"), &["result"])?,
        )?;
        let fallbacks = register(
            r,
            IntCounterVec::new(
                Opts::new("kindred_fallback_total", "recommendations that were not personal, by reason"),
                &["reason"],
            )?,
        )?;
        let refusals = register(
            r,
            IntCounterVec::new(
                Opts::new(
                    "kindred_refused_callers_total",
                    "requests of callers who may not, by the code of the answer",
                ),
                &["code"],
            )?,
        )?;
        let steps = register(
            r,
            IntCounterVec::new(
                Opts::new(
                    "kindred_overload_steps_total",
                    "requests that got less because others waited, by how much less",
                ),
                &["step"],
            )?,
        )?;
        let routes = Route::ALL
            .iter()
            .map(|route| RouteMetrics {
                seconds: seconds.with_label_values(&[route.name()]),
                by_class: STATUS_CLASSES.map(|class| requests.with_label_values(&[route.name(), class])),
            })
            .collect();
        Ok(Self {
            routes,
            stages: RequestStage::ALL.iter().map(|s| stage.with_label_values(&[s.name()])).collect(),
            degraded_history: degraded.with_label_values(&["history_unavailable"]),
            degraded_deadline: degraded.with_label_values(&["deadline"]),
            degraded_overload: degraded.with_label_values(&["overload"]),
            degraded_watermark: degraded.with_label_values(&["watermark_not_reached"]),
            variants: register(
                r,
                IntCounterVec::new(
                    Opts::new("kindred_variant_total", "recommendations asked for by visitors in an experiment"),
                    &["experiment", "variant"],
                )?,
            )?,
            not_kept: interactions.with_label_values(&["not_kept"]),
            refusals: REFUSALS.iter().map(|code| (*code, refusals.with_label_values(&[*code]))).collect(),
            steps: Step::ALL.iter().map(|one| steps.with_label_values(&[one.name()])).collect(),
            queue: histogram(r, "kindred_queue_seconds", "time that a request waits for its turn on a worker", 5e-6)?,
            fallbacks: FALLBACKS.iter().map(|reason| (*reason, fallbacks.with_label_values(&[*reason]))).collect(),
            shed: register(
                r,
                IntCounter::new("kindred_shed_total", "requests refused because too many were in progress or waited")?,
            )?,
            accepted: interactions.with_label_values(&["accepted"]),
            duplicates: interactions.with_label_values(&["duplicate"]),
            reloads_done: reloads.with_label_values(&["swapped"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            reloads_waiting: gauge(
                r,
                "kindred_reloads_waiting",
                "looks for a new artifact asked for and not yet answered",
            )?,
            in_flight: gauge(r, "kindred_in_flight", "requests in progress")?,
            ready: gauge(r, "kindred_ready", "1 when an artifact is loaded")?,
            items: gauge(r, "kindred_items", "items of the loaded artifact")?,
            artifact_age: register(
                r,
                Gauge::new("kindred_artifact_age_seconds", "seconds since the artifact was loaded")?,
            )?,
            artifact_info: register(
                r,
                IntGaugeVec::new(Opts::new("kindred_artifact_info", "1 for the loaded artifact"), &["generation"])?,
            )?,
            model_age: register(
                r,
                Gauge::new(
                    "kindred_model_age_seconds",
                    "seconds since the loaded artifact was made, 0 if it does not say",
                )?,
            )?,
            certificate_ends: gauge(
                r,
                "kindred_certificate_expiry_timestamp_seconds",
                "when the certificate expires, seconds since 1970; 0 without TLS",
            )?,
            commit_seconds: histogram(
                r,
                "kindred_store_commit_seconds",
                "time of a commit of the store, synced",
                50e-6,
            )?,
            unlogged: gauge(
                r,
                "kindred_recommendations_unlogged",
                "lists and outcomes that the store refused to log since start",
            )?,
            event_lag: histogram(
                r,
                "kindred_event_lag_seconds",
                "from when an interaction occurred to when it came in",
                1e-3,
            )?,
            scenario_seconds: register(
                r,
                HistogramVec::new(
                    HistogramOpts::new("kindred_scenario_seconds", "time of a recommendation, by scenario")
                        .buckets(buckets(50e-6)),
                    &["scenario"],
                )?,
            )?,
            scenario_errors: register(
                r,
                IntCounterVec::new(
                    Opts::new("kindred_scenario_errors_total", "recommendations that failed, by scenario"),
                    &["scenario"],
                )?,
            )?,
            scenarios: BTreeMap::new(),
            process: ProcessGauges::new(r)?,
            history: HistoryGauges::new(r)?,
            recall: RecallMetrics::new(r)?,
            rendering: Mutex::default(),
            registry,
        })
    }

    /// Counts by these scenarios too.
    #[must_use]
    pub fn with_scenarios<'a>(mut self, names: impl Iterator<Item = &'a String>) -> Self {
        let one = |name: &String| {
            let handles =
                (self.scenario_seconds.with_label_values(&[name]), self.scenario_errors.with_label_values(&[name]));
            (name.clone(), handles)
        };
        self.scenarios = names.map(one).collect();
        self
    }

    /// Counts a recommendation of a scenario.
    pub fn scenario(&self, name: &str, elapsed: Duration, is_ok: bool) {
        let Some((seconds, errors)) = self.scenarios.get(name) else { return };
        seconds.observe(elapsed.as_secs_f64());
        if !is_ok {
            errors.inc();
        }
    }

    /// Counts how long an interaction took to come in.
    pub fn event_lag(&self, ms: i64) {
        self.event_lag.observe(ms.max(0) as f64 / 1e3);
    }

    /// Counts an answered request.
    pub fn request(&self, route: Route, status: u16, elapsed: Duration) {
        let Some(metrics) = self.routes.get(route as usize) else { return };
        metrics.seconds.observe(elapsed.as_secs_f64());
        if let Some(counter) = metrics.by_class.get(usize::from(status / 100).saturating_sub(1)) {
            counter.inc();
        }
    }

    /// Counts the time of one stage.
    pub fn stage(&self, stage: RequestStage, elapsed: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }

    /// Counts how long a request waited for its turn on a worker.
    pub fn queue(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
    }

    /// Counts a request that gets less because others wait.
    pub fn stepped(&self, step: Step) {
        if let Some(counter) = self.steps.get(step as usize) {
            counter.inc();
        }
    }

    /// Counts a caller who may not do what was asked.
    pub fn refused(&self, code: &'static str) {
        if let Some((_, counter)) = self.refusals.iter().find(|(name, _)| *name == code) {
            counter.inc();
        }
    }

    /// Counts a request of a visitor in an experiment. Both names come from the settings, so there are few.
    pub fn variant(&self, experiment: &str, variant: &str) {
        self.variants.with_label_values(&[experiment, variant]).inc();
    }

    /// Counts an answer that was not personal.
    pub fn fallback(&self, reason: &'static str) {
        if let Some((_, counter)) = self.fallbacks.iter().find(|(name, _)| *name == reason) {
            counter.inc();
        }
    }

    /// Everything in the Prometheus text format, with the gauges brought up to now.
    ///
    /// # Errors
    /// [`TelemetryError::Metric`] if a metric cannot be written.
    pub fn render(
        &self,
        in_flight: usize,
        artifact: &ArtifactGauges,
        history: &HistoryStats,
    ) -> Result<Vec<u8>, TelemetryError> {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.ready.set(i64::from(artifact.ready));
        self.items.set(i64::from(artifact.items));
        self.artifact_age.set(artifact.age_seconds);
        self.model_age.set(artifact.model_age_seconds.unwrap_or(0.0));
        self.artifact_info.reset();
        if artifact.ready {
            self.artifact_info.with_label_values(&[&artifact.generation]).set(1);
        }
        self.process.update();
        self.history.set(history);
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl HistoryGauges {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            cached_actors: gauge(r, "kindred_history_cached_actors", "users and sessions held in memory")?,
            cached_bytes: gauge(r, "kindred_history_cached_bytes", "bytes of interactions held in memory, estimated")?,
            queued: gauge(r, "kindred_history_queued", "interactions waiting to be committed")?,
            committed: gauge(r, "kindred_history_committed", "interactions committed since start")?,
            hits: gauge(r, "kindred_history_hits", "look-ups answered from memory since start")?,
            misses: gauge(r, "kindred_history_misses", "look-ups that went to the disk since start")?,
            pruned: gauge(r, "kindred_history_pruned", "interactions removed after their retention since start")?,
            file_bytes: gauge(r, "kindred_store_file_bytes", "bytes that the store takes of the disk")?,
            damaged: gauge(r, "kindred_store_damaged_records", "records that do not decode, met since start")?,
        })
    }

    fn set(&self, stats: &HistoryStats) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.cached_actors, stats.cached_actors);
        set(&self.cached_bytes, stats.cached_bytes);
        set(&self.queued, stats.queued);
        set(&self.committed, stats.committed);
        set(&self.hits, stats.hits);
        set(&self.misses, stats.misses);
        set(&self.pruned, stats.pruned);
        set(&self.file_bytes, stats.file_bytes);
        set(&self.damaged, stats.damaged);
    }
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::new(name, help)?)
}

/// A histogram whose first bound is `first`, seconds.
fn histogram(registry: &Registry, name: &str, help: &str, first: f64) -> Result<Histogram, prometheus::Error> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets(first)))?)
}

/// 20 bounds, each twice the one before: five decades with one and a half digits.
fn buckets(first: f64) -> Vec<f64> {
    (0..20).map(|power| first * f64::from(1u32 << power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_up_in_the_text() {
        let metrics = Metrics::new().unwrap();
        metrics.request(Route::Score, 404, Duration::from_micros(80));
        metrics.stage(RequestStage::Search, Duration::from_micros(50));
        let artifact = ArtifactGauges { ready: true, items: 7, generation: "g1".to_owned(), ..Default::default() };
        let text = metrics.render(3, &artifact, &HistoryStats::default()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("kindred_requests_total{route=\"score\",status=\"4xx\"} 1"), "{text}");
        assert!(text.contains("kindred_stage_seconds_count{stage=\"search\"} 1"), "{text}");
        assert!(text.contains("kindred_artifact_info{generation=\"g1\"} 1"), "{text}");
        assert!(text.contains("kindred_items 7") && text.contains("kindred_in_flight 3"), "{text}");
    }

    #[test]
    fn scrapes_at_once_find_all_that_there_is() {
        let metrics = Metrics::new().unwrap();
        let artifact = ArtifactGauges { ready: true, generation: "g1".to_owned(), ..Default::default() };
        let scrape = || {
            let text = metrics.render(0, &artifact, &HistoryStats::default()).unwrap();
            String::from_utf8(text).unwrap().contains("kindred_artifact_info{generation=\"g1\"} 1")
        };
        let all = || (0..100).all(|_| scrape());
        std::thread::scope(|scope| {
            let scrapers = [0; 4].map(|_| scope.spawn(all));
            assert!(scrapers.into_iter().all(|scraper| scraper.join().unwrap()));
        });
    }

    #[test]
    fn the_order_of_routes_and_stages_is_the_order_of_their_handles() {
        for (at, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, at);
        }
        for (at, stage) in RequestStage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, at);
        }
    }
}

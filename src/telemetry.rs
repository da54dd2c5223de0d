//! What the operator sees: logs, metrics with one registry per application, and traces where a collector is named.
//!
//! Nothing is looked up per request: every counter and histogram of a known route, stage or reason is resolved once at start, and a
//! request touches a handful of atomics. Times are seconds, as Prometheus wants them.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

use crate::settings::LogSettings;

mod metrics;
mod process;
mod recall;
mod traces;

pub use self::metrics::{ArtifactGauges, Metrics};
pub use self::traces::{Finished, TraceSettings, Traces};

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "setting log.level = {found:?} is not a filter: {reason}; expected a level (error, warn, info, debug, trace) or \"info,kindred::http=debug\""
    )]
    Filter {
        /// The filter found.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A metric could not be registered.
    #[error("metric cannot be registered: {0}")]
    Metric(#[from] prometheus::Error),
    /// Traces cannot be sent.
    #[error("traces cannot be sent: {0}; leave traces.endpoint empty to start without them")]
    Traces(String),
}

/// What libraries say that is of no use to who runs a server, unless they name the library: an error for each connection on which no HTTP comes
/// (it is answered with 400, and whoever scans ports, or wants the disk full, makes as many as they like), and each step of the store's engine.
const QUIETER: [(&str, &str); 3] =
    [("actix_http", "actix_http::h1::dispatcher=off"), ("fjall", "fjall=warn"), ("lsm_tree", "lsm_tree=warn")];

/// Starts logging to stderr for the whole process. A second call changes nothing, so tests may call it often.
///
/// # Errors
/// [`TelemetryError::Filter`] if the level does not parse.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let mut filter = EnvFilter::try_new(&settings.level).map_err(|error| not_a_filter(settings, &error))?;
    let is_chatty = filter.max_level_hint().is_none_or(|level| level > LevelFilter::WARN);
    for (library, quieter) in QUIETER {
        let is_quieter = is_chatty || quieter.ends_with("off");
        if is_quieter && !settings.level.contains(library) {
            let quieter = quieter.parse::<Directive>().map_err(|error| not_a_filter(settings, &error))?;
            filter = filter.add_directive(quieter);
        }
    }
    // A log that cannot be written, on a full disk or to a reader that has gone, is no reason to panic, as saying so on the same stderr would.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // Already started is fine: the first one stays.
    let _ = if settings.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    Ok(())
}

fn not_a_filter(settings: &LogSettings, reason: &dyn std::error::Error) -> TelemetryError {
    TelemetryError::Filter { found: settings.level.clone(), reason: reason.to_string() }
}

/// An error and what caused it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether an answer is a failure of ours that is told by itself. What is refused for want of room, in the queue (503) or on the disk (507), comes in
/// thousands: the counters tell it, and the store what ails its disk.
pub(crate) fn is_failure(status: u16) -> bool {
    status >= 500 && !matches!(status, 503 | 507)
}

/// A path as it is logged, from the root on: who reads the log need not know where the server was started.
pub(crate) fn from_root(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

/// The parts of a request that are timed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStage {
    /// Waiting for a turn.
    Queue,
    /// Bytes to a checked request.
    Parse,
    /// Fetching stored interactions.
    Gather,
    /// Interactions to a user vector.
    UserVector,
    /// Seen, excluded and filtered items.
    Filter,
    /// Neighbours of recent items gathered.
    Neighbours,
    /// The graph, or every item, searched.
    Search,
    /// Exact scores, order, cut.
    Rank,
    /// The answer to bytes.
    Render,
}

impl RequestStage {
    /// Every stage, in the order of a request.
    pub const ALL: [Self; 9] = [
        Self::Queue,
        Self::Parse,
        Self::Gather,
        Self::UserVector,
        Self::Filter,
        Self::Neighbours,
        Self::Search,
        Self::Rank,
        Self::Render,
    ];

    /// The label in `/metrics` and in an explained answer.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Parse => "parse",
            Self::Gather => "gather",
            Self::UserVector => "user_vector",
            Self::Filter => "filter",
            Self::Neighbours => "neighbours",
            Self::Search => "search",
            Self::Rank => "rank",
            Self::Render => "render",
        }
    }
}

/// The routes that are counted one by one; whatever else is asked for is `Other`, so a scanner cannot grow the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after its route")]
pub enum Route {
    Interactions,
    Recommendations,
    Replay,
    RecommendationLog,
    User,
    UserInteractions,
    Merge,
    PersonData,
    Similar,
    Search,
    Score,
    Item,
    Model,
    Health,
    Ready,
    Metrics,
    OpenApi,
    Reload,
    Backup,
    Page,
    Other,
}

impl Route {
    const ALL: [Self; 21] = [
        Self::Interactions,
        Self::Recommendations,
        Self::Replay,
        Self::RecommendationLog,
        Self::User,
        Self::UserInteractions,
        Self::Merge,
        Self::PersonData,
        Self::Similar,
        Self::Search,
        Self::Score,
        Self::Item,
        Self::Model,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Reload,
        Self::Backup,
        Self::Page,
        Self::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Interactions => "interactions",
            Self::Recommendations => "recommendations",
            Self::Replay => "replay",
            Self::RecommendationLog => "recommendation_log",
            Self::User => "user",
            Self::UserInteractions => "user_interactions",
            Self::Merge => "merge",
            Self::PersonData => "person_data",
            Self::Similar => "similar",
            Self::Search => "search",
            Self::Score => "score",
            Self::Item => "item",
            Self::Model => "model",
            Self::Health => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::OpenApi => "openapi",
            Self::Reload => "reload",
            Self::Backup => "backup",
            Self::Page => "page",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_want_of_room_is_no_failure() {
        assert_eq!([404, 500, 503, 507].map(is_failure), [false, true, false, false]);
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        let settings = LogSettings { level: "kindred=loud".to_owned(), json: false };
        assert!(matches!(init(&settings), Err(TelemetryError::Filter { .. })));
    }
}

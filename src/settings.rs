//! Settings: the committed `config/kindred.toml`, then a file, then the environment.
//!
//! Every key has its default and its comment in `config/kindred.toml`, which is compiled in. Unknown keys are errors, ranges are
//! checked once here, and units are in the names. Read once at start; nothing is read later.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, FileFormat};
use kindred_index::Memory;
use serde::de::{DeserializeOwned, Error as _, value};
use serde::{Deserialize, Deserializer};

use crate::experiment::{self, Experiment};
use crate::limits;
use crate::people::settings::{PeopleSettings, ShownSettings};
use crate::recall_audit::RecallAuditSettings;
use crate::scenario::{Basis, Scenario};
use crate::telemetry::TraceSettings;
use crate::trending::TrendingSettings;

mod edge;
mod variables;
mod whole;

pub use self::edge::{AdminSettings, OverloadSettings, SecuritySettings, TlsSettings};
use self::edge::{in_range, out_of_range};
use self::whole::{check_named, check_whole};

/// The scenario of a request that names none.
pub const HOME: &str = "home";
/// The scenario of similar items.
pub const SIMILAR: &str = "similar";

/// Worker threads, at most: the HTTP library panics at more.
pub(crate) const WORKERS_MAX: usize = 512;
/// The committed file with every default, as text.
pub const DEFAULTS: &str = include_str!("../config/kindred.toml");

/// All settings of one server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The listener and its bounds.
    pub http: HttpSettings,
    /// Who may call.
    pub security: SecuritySettings,
    /// The certificate, if TLS is spoken.
    pub tls: TlsSettings,
    /// Where the operator's routes are.
    pub admin: AdminSettings,
    /// What gives way under load.
    pub overload: OverloadSettings,
    /// Where published artifacts are found.
    pub artifacts: ArtifactSettings,
    /// Where recent interactions are kept.
    pub history: HistorySettings,
    /// How people are kept.
    pub people: PeopleSettings,
    /// What is remembered of answers.
    pub recommendation_log: ShownSettings,
    /// How live searches are checked.
    pub recall_audit: RecallAuditSettings,
    /// Who gets which scenario, by the name of the experiment.
    #[serde(default)]
    pub experiments: BTreeMap<String, Experiment>,
    /// What is logged and how.
    pub log: LogSettings,
    /// Where traces of requests go.
    pub traces: TraceSettings,
    /// How it is counted what is taken just now.
    pub trending: TrendingSettings,
    /// The placements a request may name.
    pub scenarios: BTreeMap<String, Scenario>,
}

/// The listener and its bounds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address to listen on.
    pub host: String,
    /// TCP port, 0 = chosen by the system.
    pub port: u16,
    /// Worker threads, 0 = one per core.
    pub workers: usize,
    /// Connections a worker holds at once.
    pub max_connections_per_worker: usize,
    /// Requests in progress at once over all workers.
    pub max_in_flight: usize,
    /// Seconds named in Retry-After when a request is shed.
    pub retry_after_seconds: u32,
    /// Seconds an idle connection is kept.
    pub keep_alive_seconds: u64,
    /// Milliseconds a client has to send the head of the first request of a connection.
    pub client_request_timeout_ms: u64,
    /// Milliseconds a client has to send the body of its request.
    pub client_body_timeout_ms: u64,
    /// Milliseconds after which a client that does not take its answer is cut off.
    pub client_write_timeout_ms: u64,
    /// Seconds that requests in progress, and changes whose callers have gone away, have together to finish after a stop.
    pub shutdown_timeout_seconds: u64,
    /// Sets TCP_NODELAY on every connection.
    pub tcp_nodelay: bool,
    /// Milliseconds above which a request is logged as slow.
    pub slow_request_ms: u64,
    /// Where the present comes from.
    #[serde(deserialize_with = "word")]
    pub clock: ClockKind,
}

/// Where the present comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockKind {
    /// From the system.
    System,
    /// From the header `x-kindred-now` of the latest request that has one: for replaying what was.
    Request,
}

/// Where published artifacts are found.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactSettings {
    /// Directory with CURRENT and one directory per generation.
    pub dir: PathBuf,
    /// Milliseconds between two looks at CURRENT, 0 = only when told.
    pub poll_ms: u64,
    /// Where its bytes lie.
    #[serde(deserialize_with = "word")]
    pub memory: MemoryKind,
}

/// Where the bytes of an artifact lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// On the disk until they are touched.
    Cold,
    /// In the page cache.
    Cached,
    /// In memory of the process, locked.
    Pinned,
}

impl From<MemoryKind> for Memory {
    fn from(kind: MemoryKind) -> Self {
        match kind {
            MemoryKind::Cold => Self::Cold,
            MemoryKind::Cached => Self::Cached,
            MemoryKind::Pinned => Self::Pinned,
        }
    }
}

/// Which store keeps recent interactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One directory on disk; what was acknowledged survives a kill.
    Embedded,
    /// In memory; lost at a restart.
    Memory,
}

/// Where recent interactions are kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistorySettings {
    /// Which store.
    #[serde(deserialize_with = "word")]
    pub store: StoreKind,
    /// Directory of the embedded store.
    pub path: PathBuf,
    /// Newest interactions kept for one user or session.
    pub keep_per_actor: usize,
    /// MiB of recent interactions held in memory.
    pub cache_mb: u64,
    /// MiB of block cache of the embedded store.
    pub page_cache_mb: usize,
    /// Seconds after which an idle user or session is forgotten (memory store).
    pub idle_seconds: u64,
    /// Days that interactions and their ids are kept on disk, 0 = for ever.
    pub retention_days: u32,
    /// Fewer days for some kinds of interaction.
    pub retention_days_by_kind: BTreeMap<String, u32>,
    /// MiB of interactions kept on disk, 0 = as many as fit.
    pub max_mb: u64,
    /// Milliseconds a request waits for stored interactions.
    pub read_timeout_ms: u64,
    /// Interactions that may wait to be committed.
    pub queue: usize,
}

impl HistorySettings {
    /// Days that interactions are kept, each number that is set for some; 0 = for ever.
    pub(crate) fn retention(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.retention_days).chain(self.retention_days_by_kind.values().copied())
    }
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// A filter: a level, or levels per module.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The named file is not there or not readable.
    #[error(
        "cannot read settings file {path}: {source}; give an existing file with --config, or none for the defaults"
    )]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key is unknown, missing or of the wrong type.
    #[error("settings are not valid: {message}; every key with its default is in config/kindred.toml")]
    Invalid {
        /// What the parser said, with the key and where it came from.
        message: String,
    },
    /// A value is outside its range.
    #[error("setting {key} = {found} is out of range: expected {expected}")]
    OutOfRange {
        /// The key, dotted.
        key: String,
        /// The value found.
        found: String,
        /// The range.
        expected: String,
    },
}

/// One of a few words. Where it is none of them, the error lists them, which that of the crate that reads settings does not.
fn word<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    T::deserialize(value::StringDeserializer::<value::Error>::new(text)).map_err(D::Error::custom)
}

/// What the parser says without the line that it shows, where a secret stands in that.
fn without_secret(message: &str) -> String {
    let shown = |line: &str| match line.split_once("pseudonym_key") {
        Some((before, after)) if after.contains('=') => format!("{before}pseudonym_key = (not shown)"),
        _ => line.to_owned(),
    };
    message.lines().map(shown).collect::<Vec<_>>().join("\n")
}

impl Settings {
    /// Reads the defaults, then `file` if given, then the environment (`KINDRED__HTTP__PORT=9000`), and checks ranges.
    ///
    /// # Errors
    /// [`SettingsError`] naming the file or key.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::layered(file, variables::ours(std::env::vars_os())?)
    }

    /// [`Settings::load`] with the environment given as an argument.
    ///
    /// # Errors
    /// [`SettingsError`] naming the file or key.
    pub fn layered(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, SettingsError> {
        let invalid = |error: ConfigError| SettingsError::Invalid { message: without_secret(&error.to_string()) };
        let defaults = || Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        let usual = defaults().build().map_err(invalid)?;
        let mut builder = defaults();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SettingsError::Unreadable { path: path.to_path_buf(), source })?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let merged = variables::read(environment, &usual.cache)?
            .into_iter()
            .try_fold(builder, |builder, (key, value)| builder.set_override(key, value))
            .and_then(|builder| builder.build())
            .map_err(invalid)?;
        check_whole("", &usual.cache, &merged.cache)?;
        let found = merged.cache.clone();
        let settings: Self = merged.try_deserialize().map_err(invalid)?;
        check_named(&settings, &found)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks every range; [`Settings::load`] has called it, a hand-made value may.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] naming the first key that is outside its range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        in_range("http.workers", self.http.workers as u64, 0, WORKERS_MAX as u64)?;
        in_range("http.max_connections_per_worker", self.http.max_connections_per_worker as u64, 1, 1 << 20)?;
        in_range("http.max_in_flight", self.http.max_in_flight as u64, 1, 1 << 20)?;
        in_range("http.retry_after_seconds", u64::from(self.http.retry_after_seconds), 1, 3600)?;
        in_range("http.keep_alive_seconds", self.http.keep_alive_seconds, 1, 3600)?;
        in_range("http.client_request_timeout_ms", self.http.client_request_timeout_ms, 100, 600_000)?;
        in_range("http.client_body_timeout_ms", self.http.client_body_timeout_ms, 100, 600_000)?;
        in_range("http.client_write_timeout_ms", self.http.client_write_timeout_ms, 100, 600_000)?;
        in_range("http.shutdown_timeout_seconds", self.http.shutdown_timeout_seconds, 0, 3600)?;
        self.security.validate()?;
        self.tls.validate()?;
        self.overload.validate()?;
        if let Some((key, found, expected)) = self.traces.problem() {
            return Err(out_of_range(key, &found, expected));
        }
        in_range("artifacts.poll_ms", self.artifacts.poll_ms, 0, 3_600_000)?;
        let keep = limits::HISTORY_MAX as u64;
        in_range("history.keep_per_actor", self.history.keep_per_actor as u64, 1, keep)?;
        in_range("history.cache_mb", self.history.cache_mb, 1, 1 << 20)?;
        in_range("history.page_cache_mb", self.history.page_cache_mb as u64, 1, 1 << 20)?;
        in_range("history.idle_seconds", self.history.idle_seconds, 1, 10 * 366 * 86_400)?;
        in_range("history.retention_days", u64::from(self.history.retention_days), 0, 36_600)?;
        for (kind, days) in &self.history.retention_days_by_kind {
            in_range(&format!("history.retention_days_by_kind.{kind}"), u64::from(*days), 1, 36_600)?;
        }
        in_range("history.max_mb", self.history.max_mb, 0, 1 << 30)?;
        in_range("history.read_timeout_ms", self.history.read_timeout_ms, 1, 60_000)?;
        let batch = limits::BATCH_INTERACTIONS_MAX as u64;
        in_range("history.queue", self.history.queue as u64, batch, 1 << 24)?;
        in_range("people.unmerge_days", u64::from(self.people.unmerge_days), 0, 36_600)?;
        in_range("people.session_idle_seconds", self.people.session_idle_seconds, 1, 10 * 366 * 86_400)?;
        in_range("people.session_cache_mb", self.people.session_cache_mb, 1, 1 << 20)?;
        in_range("people.session_keep", self.people.session_keep as u64, 1, keep)?;
        in_range("recommendation_log.keep_days", u64::from(self.recommendation_log.keep_days), 1, 36_600)?;
        in_range("recall_audit.window", u64::from(self.recall_audit.window), 4, 1_000_000)?;
        for (key, share) in [
            ("recommendation_log.sample", self.recommendation_log.sample),
            ("recall_audit.sample", self.recall_audit.sample),
            ("recall_audit.floor", self.recall_audit.floor),
        ] {
            if !(0.0..=1.0).contains(&share) {
                let (key, found, expected) = (key.to_owned(), share.to_string(), "0 to 1".to_owned());
                return Err(SettingsError::OutOfRange { key, found, expected });
            }
        }
        experiment::validate(&self.experiments, &self.scenarios)
            .map_err(|(name, error)| SettingsError::Invalid { message: format!("experiments.{name}: {error}") })?;
        in_range("trending.refresh_ms", self.trending.refresh_ms, 10, 3_600_000)?;
        in_range("trending.minimum_count", u64::from(self.trending.minimum_count), 1, 1_000)?;
        in_range("trending.by (number of keys)", self.trending.by.len() as u64, 0, limits::TRENDING_KEYS_MAX as u64)?;
        // A space after a comma would make it a key that no context has.
        if let Some(key) = self.trending.by.iter().find(|key| key.trim() != key.as_str()) {
            return Err(out_of_range("trending.by", &format!("{key:?}"), "keys without spaces around them"));
        }
        for (key, hours) in
            [("window_hours", self.trending.window_hours), ("half_life_hours", self.trending.half_life_hours)]
        {
            if !(0.1..=8_784.0).contains(&hours) {
                return Err(SettingsError::OutOfRange {
                    key: format!("trending.{key}"),
                    found: hours.to_string(),
                    expected: "0.1 to 8784".to_owned(),
                });
            }
        }
        for (name, scenario) in &self.scenarios {
            scenario.validate().map_err(|error| SettingsError::OutOfRange {
                key: format!("scenarios.{name}"),
                found: "this scenario".to_owned(),
                expected: error.to_string(),
            })?;
        }
        // Pages and addresses that name no scenario ask these two in their own way.
        let seeds = [Basis::SimilarItems, Basis::ItemsTogether];
        let rest = [Basis::Visitor, Basis::Nobody];
        for (name, fitting, words) in
            [(HOME, rest, "\"visitor\" or \"nobody\""), (SIMILAR, seeds, "\"similar_items\" or \"items_together\"")]
        {
            let Some(scenario) = self.scenarios.get(name) else {
                return Err(SettingsError::Invalid { message: format!("scenarios.{name} is missing") });
            };
            if !fitting.contains(&scenario.based_on) {
                let message = format!("scenarios.{name}.based_on does not fit its use, expected {words}");
                return Err(SettingsError::Invalid { message });
            }
        }
        Ok(())
    }
}

impl Default for Settings {
    /// The same values as `config/kindred.toml` (a test compares them), without parsing it.
    fn default() -> Self {
        Self {
            http: HttpSettings {
                host: "127.0.0.1".to_owned(),
                port: 8080,
                workers: 0,
                max_connections_per_worker: 4096,
                max_in_flight: 1024,
                retry_after_seconds: 1,
                keep_alive_seconds: 75,
                client_request_timeout_ms: 5000,
                client_body_timeout_ms: 10_000,
                client_write_timeout_ms: 10_000,
                shutdown_timeout_seconds: 30,
                tcp_nodelay: true,
                slow_request_ms: 250,
                clock: ClockKind::System,
            },
            security: SecuritySettings::default(),
            tls: TlsSettings::default(),
            admin: AdminSettings::default(),
            overload: OverloadSettings::default(),
            artifacts: ArtifactSettings { dir: PathBuf::from("artifacts"), poll_ms: 1000, memory: MemoryKind::Cached },
            history: HistorySettings {
                store: StoreKind::Embedded,
                path: PathBuf::from(crate::store::embedded::DEFAULT_PATH),
                keep_per_actor: 100,
                cache_mb: 128,
                page_cache_mb: 64,
                idle_seconds: 2_592_000,
                retention_days: 90,
                retention_days_by_kind: BTreeMap::new(),
                max_mb: 0,
                read_timeout_ms: 20,
                queue: 65_536,
            },
            people: PeopleSettings::default(),
            recommendation_log: ShownSettings::default(),
            recall_audit: RecallAuditSettings::default(),
            experiments: BTreeMap::new(),
            log: LogSettings { level: "info".to_owned(), json: false },
            traces: TraceSettings::default(),
            trending: TrendingSettings {
                window_hours: 48.0,
                half_life_hours: 6.0,
                refresh_ms: 5000,
                minimum_count: 3,
                by: vec!["country".to_owned(), "device".to_owned()],
            },
            scenarios: Scenario::built_in(),
        }
    }
}

#[cfg(test)]
mod tests;

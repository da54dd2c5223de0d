//! The settings of people.

use serde::Deserialize;

/// How people are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleSettings {
    /// With a key, users and sessions are kept under keyed hashes of their ids.
    pub pseudonym_key: Secret,
    /// Days in which a merge can be undone.
    pub unmerge_days: u32,
    /// Seconds after which what is kept in memory only is forgotten.
    pub session_idle_seconds: u64,
    /// MiB for what is kept in memory only.
    pub session_cache_mb: u64,
    /// Newest interactions of one visitor that are kept in memory only.
    pub session_keep: usize,
}

/// The log of recommendations.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShownSettings {
    /// The share of answers that is logged, 0 to 1.
    pub sample: f64,
    /// Whether what a list was made from is logged with it.
    pub history: bool,
    /// Days that an entry is kept.
    pub keep_days: u32,
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "(a secret)" })
    }
}

impl Default for PeopleSettings {
    fn default() -> Self {
        Self {
            pseudonym_key: Secret::default(),
            unmerge_days: 30,
            session_idle_seconds: 1_800,
            session_cache_mb: 32,
            session_keep: 100,
        }
    }
}

impl Default for ShownSettings {
    fn default() -> Self {
        Self { sample: 0.0, history: false, keep_days: 30 }
    }
}

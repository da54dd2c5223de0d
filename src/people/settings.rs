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

impl ShownSettings {
    /// Days that an entry is kept where interactions are kept for so many (0 = for ever): no longer than any of them, because an erasure finds the
    /// entries of a person by the interactions that name them.
    #[must_use]
    pub fn days_kept(&self, retention: impl IntoIterator<Item = u32>) -> u32 {
        retention.into_iter().filter(|days| *days > 0).fold(self.keep_days, u32::min)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_no_longer_than_the_interactions_that_name_its_entries() {
        let log = ShownSettings { keep_days: 30, ..ShownSettings::default() };
        for (retention, kept) in [(vec![90, 7], 7), (vec![0, 90], 30), (vec![14, 60], 14), (vec![], 30)] {
            assert_eq!(log.days_kept(retention), kept);
        }
    }
}

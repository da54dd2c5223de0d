//! What is known about a user beside what they did, and what they agreed to.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::consent::Consent;
use crate::limits;

/// What is known about a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Where: a code or name, compared as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// With what: `mobile`, `desktop`, compared as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Free labels: segments, interests that were asked for at registration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Users whom this one follows, under the ids that are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<String>,
    /// The standing choice; what a request says can only be less.
    pub consent: Consent,
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A text is empty.
    #[error("{field} is empty: leave it out, or send null")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A text is too long.
    #[error("{field} has {found} bytes, at most {most} are allowed", most = limits::CONTEXT_BYTES_MAX)]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        found: usize,
    },
    /// There are too many labels, or too many who are followed.
    #[error("{field} has {found} entries, at most {most} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many.
        found: usize,
        /// The most allowed.
        most: usize,
    },
}

impl Profile {
    /// That nothing be kept, and nothing more.
    pub(super) fn refusal() -> Self {
        Self { consent: Consent::None, ..Self::default() }
    }

    /// What is left of a person who refused: the choice, and nothing more. Nothing of one who did not.
    pub(super) fn refused(standing: Consent) -> Option<Self> {
        (standing != Consent::Full).then(|| Self { consent: standing, ..Self::default() })
    }

    /// For how many it counts among those in memory: one more for each whole KiB.
    pub(super) fn weight(&self) -> u32 {
        let texts = self.labels.iter().chain(&self.follows).chain(&self.country).chain(&self.device);
        let bytes: usize = texts.map(|text| size_of::<String>() + text.len()).sum();
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn validate(&self) -> Result<(), ProfileError> {
        let bounded =
            [("labels", self.labels.len(), limits::LABELS_MAX), ("follows", self.follows.len(), limits::FOLLOWS_MAX)];
        if let Some((field, found, most)) = bounded.into_iter().find(|(_, found, most)| found > most) {
            return Err(ProfileError::TooMany { field, found, most });
        }
        let labels = self.labels.iter().map(|label| ("label", label));
        let texts = self.country.iter().map(|text| ("country", text));
        for (field, text) in texts.chain(self.device.iter().map(|text| ("device", text))).chain(labels) {
            if text.is_empty() {
                return Err(ProfileError::Empty { field });
            }
            if text.len() > limits::CONTEXT_BYTES_MAX {
                return Err(ProfileError::TooLong { field, found: text.len() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_profile_counts_for_several() {
        let social = Profile { follows: vec!["x".repeat(36); 100], ..Profile::default() };
        assert_eq!((Profile::refusal().weight(), social.weight()), (1, 6));
    }

    #[test]
    fn each_bound_has_its_own_error() {
        let of = |country: &str| Profile { country: Some(country.to_owned()), ..Profile::default() }.validate();
        assert_eq!(of("DE"), Ok(()));
        assert_eq!(of(""), Err(ProfileError::Empty { field: "country" }));
        assert_eq!(of(&"x".repeat(257)), Err(ProfileError::TooLong { field: "country", found: 257 }));
        let labels = Profile { labels: vec!["a".to_owned(); 65], ..Profile::default() };
        assert_eq!(labels.validate(), Err(ProfileError::TooMany { field: "labels", found: 65, most: 64 }));
    }
}

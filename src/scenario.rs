//! A scenario: one place on a page, and how its list is made.
//!
//! Scenarios are settings, not code: they carry how many items, from which sources, with which weights and within which
//! time. Two come built in, `home` (for a visitor) and `similar` (for an item).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;

/// How one kind of list is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Items in the answer when the request does not say.
    pub limit: usize,
    /// Candidates the search proposes, seen items among them. More cost time and find items whose sources disagree.
    pub candidates: usize,
    /// Breadth of the graph search: larger finds more of the true nearest and takes longer.
    pub ef_search: usize,
    /// Whether items the visitor has interacted with are left out.
    pub exclude_seen: bool,
    /// What each part of the score weighs.
    pub weights: SourceWeights,
    /// Whether items whose attribute `available` is false are left out. Without effect on an index that has no such attribute.
    pub require_available: bool,
    /// What a visitor gets about whom nothing is known.
    pub fallback: FallbackList,
    /// Time the whole answer may take, in milliseconds, counted from the request's arrival.
    pub deadline_ms: u64,
}

/// What each part of a score weighs: `score = vector · u·Q[j] + neighbours · s(j) + sessions · k(j) + popularity · pop(j)`.
///
/// The parts are in comparable units: factors are trained so that u·Q is around 0 to 1, the
/// others are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceWeights {
    /// Weight of the similarity between user vector and item.
    pub vector: f32,
    /// Weight of the mean similarity to the items of the history, from the item-to-item table.
    pub neighbours: f32,
    /// Weight of the share of the most similar sessions that had the item; without effect on a model that keeps no sessions.
    pub sessions: f32,
    /// Weight of the item's popularity.
    pub popularity: f32,
}

/// The list given where nothing is known about a visitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackList {
    /// The most popular items that pass the filter.
    #[default]
    Popular,
    /// An empty list, for pages that would rather show nothing.
    Nothing,
}

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// A number is outside its range.
    #[error("{field} is {found}, expected {least} to {most}")]
    OutOfRange {
        /// The setting at fault.
        field: &'static str,
        /// What it is.
        found: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// A weight is negative, infinite or not a number.
    #[error("weights.{field} is {found}: weights are finite and not negative")]
    Weight {
        /// The weight at fault.
        field: &'static str,
        /// What it is.
        found: f32,
    },
    /// Every weight is zero, so that every item would score the same.
    #[error(
        "all of weights.vector, weights.neighbours, weights.sessions and weights.popularity are zero: give at least one a weight"
    )]
    NoWeight,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            limit: 20,
            // Through the index, 128 ALS factors, 64 candidates instead of 100 cost no HR@10 on MovieLens-1M (3,416 items) and 0.0003 of
            // 0.2261 on 11,777 news articles, and a quarter of the time of a request over 200,000 items.
            candidates: 64,
            ef_search: 64,
            exclude_seen: true,
            weights: SourceWeights::default(),
            require_available: true,
            fallback: FallbackList::Popular,
            deadline_ms: 200,
        }
    }
}

impl Default for SourceWeights {
    fn default() -> Self {
        // Measured on MovieLens-1M (leave last out on a validation split, 128 ALS factors, e-folding 3, whole catalogue ranked):
        // neighbours 0, 0.1, 0.2, 0.5, 1.0 give HR@10 / NDCG@10 of .240/.128, .240/.129, .239/.130, .230/.126, .217/.120;
        // popularity up to 0.02 changes nothing there. The little that both weigh helps where factors know little.
        Self { vector: 1.0, neighbours: 0.1, sessions: 0.0, popularity: 0.01 }
    }
}

impl Scenario {
    /// What a visitor should see now.
    pub fn home() -> Self {
        Self::default()
    }

    /// What resembles an item. Popularity weighs nothing here: a visitor who asks for similar items wants similar ones.
    pub fn similar() -> Self {
        Self {
            weights: SourceWeights { vector: 1.0, neighbours: 1.0, sessions: 0.0, popularity: 0.0 },
            ..Self::default()
        }
    }

    /// The scenarios that exist without any setting, by name.
    pub fn built_in() -> BTreeMap<String, Self> {
        BTreeMap::from([("home".to_owned(), Self::home()), ("similar".to_owned(), Self::similar())])
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        between("limit", self.limit as u64, 1, limits::ANSWER_ITEMS_MAX as u64)?;
        between("candidates", self.candidates as u64, 1, limits::CANDIDATES_MAX as u64)?;
        between("ef_search", self.ef_search as u64, 1, kindred_index::EF_SEARCH_MAX as u64)?;
        between("deadline_ms", self.deadline_ms, 1, limits::DEADLINE_MS_MAX)?;
        self.weights.validate()
    }
}

impl SourceWeights {
    fn validate(&self) -> Result<(), ScenarioError> {
        let named = [
            ("vector", self.vector),
            ("neighbours", self.neighbours),
            ("sessions", self.sessions),
            ("popularity", self.popularity),
        ];
        for (field, found) in named {
            if !found.is_finite() || found < 0.0 {
                return Err(ScenarioError::Weight { field, found });
            }
        }
        if named.iter().all(|(_, weight)| *weight == 0.0) {
            return Err(ScenarioError::NoWeight);
        }
        Ok(())
    }
}

fn between(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), ScenarioError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(ScenarioError::OutOfRange { field, found, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenarios_are_valid() {
        for (name, scenario) in Scenario::built_in() {
            assert_eq!(scenario.validate(), Ok(()), "{name}");
        }
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = serde_json::from_str::<Scenario>(r#"{"limits": 3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `limits`"), "{error}");
    }

    #[test]
    fn missing_settings_take_their_defaults() {
        let scenario: Scenario = serde_json::from_str(r#"{"limit": 3, "weights": {"popularity": 0.5}}"#).unwrap();
        assert_eq!(scenario.limit, 3);
        assert_eq!(scenario.weights.popularity, 0.5);
        assert_eq!(scenario.weights.vector, SourceWeights::default().vector);
    }

    #[test]
    fn each_bound_has_its_own_error() {
        let zero = Scenario { limit: 0, ..Scenario::home() };
        assert_eq!(zero.validate(), Err(ScenarioError::OutOfRange { field: "limit", found: 0, least: 1, most: 1_000 }));
        let weights = SourceWeights { vector: -1.0, ..SourceWeights::default() };
        let negative = Scenario { weights, ..Scenario::home() };
        assert_eq!(negative.validate(), Err(ScenarioError::Weight { field: "vector", found: -1.0 }));
        let weights = SourceWeights { vector: 0.0, neighbours: 0.0, sessions: 0.0, popularity: 0.0 };
        assert_eq!(Scenario { weights, ..Scenario::home() }.validate(), Err(ScenarioError::NoWeight));
    }
}

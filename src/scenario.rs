//! A scenario: one place on a page, and how its list is made.
//!
//! Scenarios are settings, not code: they carry whom or what a list is for, how many items, from which sources, with which weights, rules
//! and filters, what stands in where they find nothing, and within which time. Ten come built in; `config/kindred.toml` describes each.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use crate::filter::GeoPoint;
use crate::limits;
use crate::manifest::Manifest;

mod built_in;
mod explore;
mod interests;
mod learned;
mod rules;

pub use explore::{Exploration, ExploreMethod};
pub use interests::Interests;
pub use learned::LearnedWeights;
pub(crate) use rules::WEEKDAYS;
pub use rules::{Boost, Cap, Decay, DecayFunction, ItemFilter, Pin, Promotion, RequestTarget, Target};

/// How one kind of list is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Whom or what the list is for.
    pub based_on: Basis,
    /// Items in the answer when the request does not say.
    pub limit: usize,
    /// Candidates the search proposes, seen items among them. More cost time and find items whose sources disagree.
    pub candidates: usize,
    /// Breadth of the graph search: larger finds more of the true nearest and takes longer.
    pub ef_search: usize,
    /// Instead of that: the share of the true nearest that the search is to find, by what was measured when the artifact was built.
    pub recall_target: Option<f64>,
    /// Whether items the visitor has interacted with are left out.
    pub exclude_seen: bool,
    /// With `exclude_seen`: only interactions of these kinds count. Empty: of every kind that weighs something.
    pub exclude_kinds: Vec<String>,
    /// With `exclude_seen`: only interactions younger than this count, in hours. 0: of any age.
    pub exclude_within_hours: f64,
    /// Kinds of interaction after which an item is not shown to the visitor again, whatever else holds, while the interaction is in their history.
    pub hide_kinds: Vec<String>,
    /// What each part of the score weighs.
    pub weights: SourceWeights,
    /// Whether the weights that were learned with the model stand in the place of those, where it has some.
    pub learned_weights: bool,
    /// What the current session and what came before it weigh in the visitor's taste.
    pub interests: Interests,
    /// Which interactions the source `history` lists, and how they weigh.
    pub history: HistorySource,
    /// Whether items whose attribute `available` is false are left out. Without effect on an index that has no such attribute.
    pub require_available: bool,
    /// What every item of the list must fulfil, beside what the request asks.
    pub filter: Option<ItemFilter>,
    /// What is added to scores.
    pub boosts: Vec<Boost>,
    /// Maximal marginal relevance: what a cosine of 1 to an item further up takes off a score. 0: nothing.
    pub diversity: f32,
    /// How many items of the list may share a value of an attribute.
    pub caps: Vec<Cap>,
    /// Items with a fixed place.
    pub pins: Vec<Pin>,
    /// Items that come after all others.
    pub bury: Option<ItemFilter>,
    /// Items that a share of the list is kept for.
    pub promote: Option<Promotion>,
    /// How new items get a chance.
    pub explore: Option<Exploration>,
    /// What fills the list where too little is known, one after the other; beside what visitors of the same context take, where that weighs something.
    #[serde(deserialize_with = "one_or_several")]
    pub fallback: Vec<FallbackList>,
    /// Time the whole answer may take, in milliseconds, counted from the request's arrival.
    pub deadline_ms: u64,
    /// Whether answers carry a cursor to the next page.
    pub paged: bool,
}

/// Whom or what a list is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A visitor: similarity to what they have done.
    #[default]
    Visitor,
    /// The items that the request names: what resembles them. The vector part is a cosine of target rows.
    SimilarItems,
    /// The items that the request names: what those who took them took too. The vector part uses their context rows.
    ItemsTogether,
    /// A visitor, and only the items that the request names are ranked.
    List,
    /// Nobody in particular: neither interactions nor items are looked at, but for what is seen or hidden.
    Nobody,
}

impl Basis {
    /// Whether a list is made for the items that a request names.
    pub fn has_seeds(self) -> bool {
        matches!(self, Self::SimilarItems | Self::ItemsTogether)
    }
}

/// What each part of a score weighs; the score is their sum.
///
/// `vector · u·Q[j] + neighbours · s(j) + sessions · k(j) + popularity · pop(j) + trending · t(j) + context · c(j) + history · h(j) + followed · f(j)`, and
/// boosts.
/// The parts are in comparable units: factors are trained so that u·Q is around 0 to 1, the others are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceWeights {
    /// Weight of the similarity between user vector and item.
    pub vector: f32,
    /// Weight of the mean similarity to the items of the history, from the item-to-item table.
    pub neighbours: f32,
    /// Weight of the share of the most similar sessions that had the item; without effect on a model that keeps no sessions.
    pub sessions: f32,
    /// Weight of the item's popularity in the data of the model.
    pub popularity: f32,
    /// Weight of how much the item is taken just now, by everyone.
    pub trending: f32,
    /// Weight of how much it is taken just now by visitors of the same context: a mean over the request's context keys that are counted.
    pub context: f32,
    /// Weight of the visitor's own interactions with the item.
    pub history: f32,
    /// Weight of what those have taken lately whom the visitor follows.
    pub followed: f32,
}

/// Which of the visitor's own interactions make the part `history`, and how: `Σ 0.5^(age / half-life)` over those with the
/// item, so one that was taken twice counts twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySource {
    /// The kinds that count. Empty: every kind that weighs more than 0.
    pub kinds: Vec<String>,
    /// Hours after which an interaction counts half; in the part `followed` too.
    pub half_life_hours: f64,
    /// Hours since the last of these interactions with an item before it is listed: nobody buys again on the way home.
    pub not_before_hours: f64,
}

/// What fills a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackList {
    /// What is taken most just now.
    Trending,
    /// The most popular items that pass the filter.
    Popular,
    /// Nothing: for pages that would rather be short or empty.
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
    /// A share of the true nearest that is none.
    #[error("recall_target is {found}, expected a share above 0, at most 1")]
    RecallTarget {
        /// What it is.
        found: f64,
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
        "every weight is zero: give at least one of vector, neighbours, sessions, popularity, trending, context, history and followed a weight"
    )]
    NoWeight,
    /// A number of hours is negative, infinite or not a number.
    #[error("{field} is {found}: hours are a finite number from 0, and above 0 for a half-life")]
    Hours {
        /// The setting at fault.
        field: &'static str,
        /// What it is.
        found: f64,
    },
    /// A rule cannot be used.
    #[error("{rule}: {what}")]
    Rule {
        /// Which.
        rule: String,
        /// What must hold.
        what: &'static str,
    },
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            based_on: Basis::Visitor,
            limit: 20,
            // Through the index, 128 ALS factors, 64 candidates instead of 100 cost no HR@10 on MovieLens-1M (3,416 items) and 0.0003 of
            // 0.2261 on 11,777 news articles, and a quarter of the time of a request over 200,000 items.
            candidates: 64,
            ef_search: 64,
            recall_target: None,
            exclude_seen: true,
            exclude_kinds: Vec::new(),
            exclude_within_hours: 0.0,
            hide_kinds: vec![crate::user_vector::NOT_INTERESTED.to_owned()],
            weights: SourceWeights::default(),
            learned_weights: false,
            interests: Interests::default(),
            history: HistorySource::default(),
            require_available: true,
            filter: None,
            boosts: Vec::new(),
            diversity: 0.0,
            caps: Vec::new(),
            pins: Vec::new(),
            bury: None,
            promote: None,
            explore: None,
            fallback: vec![FallbackList::Popular],
            deadline_ms: 200,
            paged: false,
        }
    }
}

impl Default for SourceWeights {
    fn default() -> Self {
        // Measured on MovieLens-1M (leave last out on a validation split, 128 ALS factors, e-folding 3, whole catalogue ranked):
        // neighbours 0, 0.1, 0.2, 0.5, 1.0 give HR@10 / NDCG@10 of .240/.128, .240/.129, .239/.130, .230/.126, .217/.120;
        // popularity up to 0.02 changes nothing there. The little that both weigh helps where factors know little.
        Self { vector: 1.0, neighbours: 0.1, popularity: 0.01, ..Self::none() }
    }
}

impl Default for HistorySource {
    fn default() -> Self {
        Self { kinds: Vec::new(), half_life_hours: 24.0 * 7.0, not_before_hours: 0.0 }
    }
}

impl Scenario {
    /// Whether any rule shapes the list beyond the order of its scores.
    pub fn is_shaped(&self) -> bool {
        self.diversity > 0.0
            || !self.caps.is_empty()
            || !self.pins.is_empty()
            || self.bury.is_some()
            || self.promote.is_some()
    }

    /// Whether its lists depend on what is taken just now.
    pub fn counts_trends(&self) -> bool {
        let weights = &self.weights;
        self.learned_weights
            || weights.trending > 0.0
            || weights.context > 0.0
            || self.fallback.contains(&FallbackList::Trending)
            || self.explore.is_some()
    }

    /// What each part of the score weighs with a model.
    pub fn weights_with(&self, manifest: &Manifest) -> SourceWeights {
        let learned = manifest.learned_weights.as_ref().filter(|_| self.learned_weights);
        learned.map_or(self.weights, |learned| self.weights.with(learned))
    }

    /// What boosts that are marked as learned are multiplied by with a model.
    pub fn learned_boosts(&self, manifest: &Manifest) -> f32 {
        let learned = manifest.learned_weights.as_ref().filter(|_| self.learned_weights);
        learned.and_then(|learned| learned.boosts).unwrap_or(1.0)
    }

    /// Whether its lists depend on the circumstances of a request.
    pub fn asks_context(&self) -> bool {
        self.weights.context > 0.0 || self.boosts.iter().any(|boost| !boost.when.is_empty())
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        between("limit", self.limit as u64, 1, limits::ANSWER_ITEMS_MAX as u64)?;
        between("candidates", self.candidates as u64, 1, limits::CANDIDATES_MAX as u64)?;
        between("ef_search", self.ef_search as u64, 1, kindred_index::EF_SEARCH_MAX as u64)?;
        if let Some(found) = self.recall_target.filter(|target| !(*target > 0.0 && *target <= 1.0)) {
            return Err(ScenarioError::RecallTarget { found });
        }
        between("deadline_ms", self.deadline_ms, 1, limits::DEADLINE_MS_MAX)?;
        at_most("boosts", self.boosts.len(), limits::BOOSTS_MAX)?;
        let kinds = [
            ("exclude_kinds", &self.exclude_kinds),
            ("hide_kinds", &self.hide_kinds),
            ("history.kinds", &self.history.kinds),
        ];
        kinds.into_iter().try_for_each(|(field, kinds)| at_most(field, kinds.len(), limits::KINDS_MAX))?;
        for (field, found, least) in [
            ("exclude_within_hours", self.exclude_within_hours, 0.0),
            ("history.half_life_hours", self.history.half_life_hours, f64::MIN_POSITIVE),
            ("history.not_before_hours", self.history.not_before_hours, 0.0),
        ] {
            if !(found.is_finite() && found >= least) {
                return Err(ScenarioError::Hours { field, found });
            }
        }
        self.interests.validate()?;
        self.boosts.iter().try_for_each(Boost::validate)?;
        rules::validate_shape(&self.caps, &self.pins, self.promote.as_ref(), self.diversity)?;
        let weights = &self.weights;
        let of_someone = [weights.vector, weights.neighbours, weights.sessions, weights.history, weights.followed];
        let of_nobody = self.based_on == Basis::Nobody;
        if of_nobody && self.learned_weights {
            let what = "weights are learned for lists of somebody: leave learned_weights out";
            return Err(ScenarioError::Rule { rule: "based_on".to_owned(), what });
        }
        if of_nobody && of_someone.iter().any(|weight| *weight != 0.0) {
            let what = "a list for nobody in particular has no vector, neighbours, sessions, history or followed: set their weights to 0";
            return Err(ScenarioError::Rule { rule: "based_on".to_owned(), what });
        }
        self.explore.as_ref().map_or(Ok(()), |explore| explore.validate(self.is_shaped()))?;
        self.weights.validate()
    }
}

impl SourceWeights {
    /// No weight at all; set at least one.
    pub fn none() -> Self {
        Self {
            vector: 0.0,
            neighbours: 0.0,
            sessions: 0.0,
            popularity: 0.0,
            trending: 0.0,
            context: 0.0,
            history: 0.0,
            followed: 0.0,
        }
    }

    fn validate(&self) -> Result<(), ScenarioError> {
        let named = [
            ("vector", self.vector),
            ("neighbours", self.neighbours),
            ("sessions", self.sessions),
            ("popularity", self.popularity),
            ("trending", self.trending),
            ("context", self.context),
            ("history", self.history),
            ("followed", self.followed),
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

fn at_most(field: &'static str, found: usize, most: usize) -> Result<(), ScenarioError> {
    between(field, found as u64, 0, most as u64)
}

/// A chain of lists, or one.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FallbackList>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected \"trending\", \"popular\" or \"nothing\", or a list of these")]
    enum Written {
        One(FallbackList),
        Several(Vec<FallbackList>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(list) => vec![list],
        Written::Several(lists) => lists,
    })
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
        let weights = SourceWeights::none();
        assert_eq!(Scenario { weights, ..Scenario::home() }.validate(), Err(ScenarioError::NoWeight));
    }
}

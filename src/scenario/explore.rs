//! Exploration: how a scenario gives new items a chance, and what it costs to know how likely each was shown.

use serde::{Deserialize, Serialize};

use super::rules::ItemFilter;
use super::{ScenarioError, at_most};
use crate::limits;

/// How new items come into a list that their score alone would not put them in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exploration {
    /// How it is drawn which.
    pub method: ExploreMethod,
    /// Which items count as new: those that this lets pass. Together with `new_within_hours` both must hold; one of the two is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ItemFilter>,
    /// The attribute with an item's time of publication, in milliseconds since 1970.
    #[serde(default = "published_at")]
    pub key: String,
    /// Hours since that time during which an item counts as new, to the minute; 0: not asked.
    #[serde(default)]
    pub new_within_hours: f64,
    /// New items that a request draws from, at most: of the most similar the best by score, without buried ones and those with a fixed place.
    #[serde(default = "pool")]
    pub pool: usize,
    /// Epsilon-greedy: the chance of each place to be drawn.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Thompson sampling: how uncertain the score of an item without any interaction is, as a standard deviation.
    #[serde(default = "sigma")]
    pub sigma: f64,
}

/// How it is drawn which new items are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExploreMethod {
    /// Each place is, with probability epsilon, given to a new item drawn evenly from the pool.
    EpsilonGreedy,
    /// The score of each new item is drawn from a normal distribution around it, which is the narrower the more interactions the item
    /// has had lately: `sigma / √(1 + interactions)`.
    Thompson,
}

fn published_at() -> String {
    "published_at".to_owned()
}

fn pool() -> usize {
    50
}

fn epsilon() -> f64 {
    0.1
}

fn sigma() -> f64 {
    0.1
}

impl Exploration {
    /// Checks every bound. `shaped`: whether the scenario has diversity, caps, pins or promotion too.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self, shaped: bool) -> Result<(), ScenarioError> {
        at_most("explore.pool", self.pool, limits::EXPLORE_POOL_MAX)?;
        let wrong = |what| Err(ScenarioError::Rule { rule: "explore".to_owned(), what });
        let hours = self.new_within_hours;
        if self.filter.is_none() && hours == 0.0 {
            return wrong("it says which items are new, by a filter, by new_within_hours or by both");
        }
        if !(hours.is_finite() && hours >= 0.0) || self.key.is_empty() || self.pool == 0 {
            return wrong("new_within_hours is a finite number from 0, key is not empty and pool is at least 1");
        }
        match self.method {
            ExploreMethod::EpsilonGreedy if !(self.epsilon > 0.0 && self.epsilon < 1.0) => {
                wrong("epsilon is between 0 and 1")
            }
            ExploreMethod::Thompson if !(self.sigma > 0.0 && self.sigma.is_finite()) => wrong("sigma is above 0"),
            ExploreMethod::Thompson if shaped => wrong(
                "thompson goes without diversity, caps, pins, bury and promote, which would make its propensities wrong: use epsilon_greedy",
            ),
            _ => Ok(()),
        }
    }
}

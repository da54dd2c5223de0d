//! Weights of the sources that were learned with a model.

use serde::{Deserialize, Serialize};

use super::SourceWeights;

/// What each source weighs in the score, as learned on interactions that were held back from training; part of a model. Sources that no log can
/// teach a weight for (context, history, followed) keep those of the scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnedWeights {
    /// Weight of the similarity between user vector and item.
    pub vector: f32,
    /// Weight of the mean similarity to the items of the history.
    pub neighbours: f32,
    /// Weight of the share of the most similar sessions that had the item.
    pub sessions: f32,
    /// Weight of the item's popularity in the data of the model.
    pub popularity: f32,
    /// Weight of how much the item is taken just now.
    pub trending: f32,
    /// What boosts that are marked as `learned` are multiplied by; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boosts: Option<f32>,
}

impl SourceWeights {
    /// With what was learned in the place of what was set.
    pub fn with(self, learned: &LearnedWeights) -> Self {
        let LearnedWeights { vector, neighbours, sessions, popularity, trending, boosts: _ } = *learned;
        Self { vector, neighbours, sessions, popularity, trending, ..self }
    }
}

impl LearnedWeights {
    /// The learned weights of a score, where they can be used: all finite, none negative, one above 0.
    pub fn are_valid(&self) -> bool {
        let boosts = self.boosts.is_none_or(|boosts| boosts.is_finite() && boosts >= 0.0);
        boosts && SourceWeights::none().with(self).validate().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_log_teaches_stays_as_it_was_set() {
        let set = SourceWeights { context: 0.5, followed: 0.25, ..SourceWeights::default() };
        let learned = LearnedWeights { sessions: 1.0, trending: 0.125, ..LearnedWeights::default() };
        let both = set.with(&learned);
        assert_eq!((both.vector, both.sessions, both.trending), (0.0, 1.0, 0.125));
        assert_eq!((both.context, both.history, both.followed), (0.5, 0.0, 0.25));
        assert!(learned.are_valid() && !LearnedWeights::default().are_valid());
        assert!(!LearnedWeights { vector: f32::NAN, ..learned }.are_valid());
        assert!(!LearnedWeights { boosts: Some(-1.0), ..learned }.are_valid());
    }
}

//! What a visitor wants right now, and what they always want: how much each says.

use serde::{Deserialize, Serialize};

use super::ScenarioError;
use crate::limits;

/// What the current session and what came before it weigh in a visitor's taste: each interaction's weight is multiplied by its part's.
///
/// The current session is what was done last without a pause: from the present back to the first one longer than `session_gap_minutes`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interests {
    /// Weight of the interactions of the current session.
    pub session: f32,
    /// Weight of those before it.
    pub long_term: f32,
    /// Minutes without an interaction after which a session is over.
    pub session_gap_minutes: f64,
    /// Tastes of a visitor that are told apart at most, 1 to [`limits::TASTES_MAX`]: with more than 1 each is searched for, so that somebody with
    /// two gets both.
    pub tastes: usize,
}

impl Default for Interests {
    fn default() -> Self {
        Self { session: 1.0, long_term: 1.0, session_gap_minutes: 30.0, tastes: 1 }
    }
}

impl Interests {
    /// Whether both parts weigh as the model says.
    pub fn are_one(&self) -> bool {
        self.session == 1.0 && self.long_term == 1.0
    }

    pub(super) fn validate(&self) -> Result<(), ScenarioError> {
        let wrong = |what| Err(ScenarioError::Rule { rule: "interests".to_owned(), what });
        let is_weight = |weight: f32| weight.is_finite() && weight >= 0.0;
        if !is_weight(self.session) || !is_weight(self.long_term) || self.session + self.long_term == 0.0 {
            return wrong("session and long_term are finite, not negative, and not both 0");
        }
        if !(self.session_gap_minutes.is_finite() && self.session_gap_minutes > 0.0) {
            return wrong("session_gap_minutes is a finite number above 0");
        }
        if !(1..=limits::TASTES_MAX).contains(&self.tastes) {
            return wrong("tastes is 1 to 8");
        }
        Ok(())
    }
}

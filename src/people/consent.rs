//! What a visitor has agreed to: how much of what they do may be kept, and used.

use serde::{Deserialize, Serialize};

/// From nothing to everything. The order is that of how much is kept, so the lesser of two is the one that binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nothing is kept and nothing that was kept is used: the answer is made of what the request brings.
    None,
    /// Kept in memory only, for as long as `people.session_idle_seconds` after the last interaction; nothing on disk is used.
    Session,
    /// Kept in the store, and used.
    #[default]
    Full,
}

impl Consent {
    /// What holds when a request says one thing and the user's standing choice another: the lesser.
    #[must_use]
    pub fn and(self, standing: Self) -> Self {
        self.min(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::Consent::{Full, None, Session};

    #[test]
    fn the_lesser_of_two_binds() {
        assert_eq!([Full.and(None), None.and(Full), Session.and(Full), Session.and(None)], [None, None, Session, None]);
    }
}

//! What was read last of files that are looked at again and again: bad ones are an error once, not at every look, but for who asks.

use super::Hash;

/// What was read last, good or bad. Without Debug: it holds a hash.
pub(crate) struct Seen {
    /// None where it could not be read.
    hash: Option<Hash>,
    is_in_force: bool,
}

impl Seen {
    /// What a server starts with.
    pub(crate) fn in_force(hash: Hash) -> Self {
        Self { hash: Some(hash), is_in_force: true }
    }

    /// Notes what was read, none where nothing could be. Whether there is something to do or to say: it is not what was read last, or that was bad
    /// and somebody insists.
    pub(crate) fn is_news(&mut self, hash: Option<Hash>, insist: bool) -> bool {
        let is_news = self.hash != hash || (insist && !self.is_in_force);
        if is_news {
            *self = Self { hash, is_in_force: false };
        }
        is_news
    }

    /// What was noted last was good and has taken effect.
    pub(crate) fn took_effect(&mut self) {
        self.is_in_force = true;
    }
}

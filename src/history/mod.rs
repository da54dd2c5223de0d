//! Recent interactions of users and sessions: what a visitor has just done.
//!
//! A store is append-only to its callers: [`RecentInteractions::append`] answers once the interactions are as safe as the store makes them,
//! and what it acknowledged is in the next [`RecentInteractions::recent`] of the same actor. Two stores: [`memory`] (bounded, lost at a
//! restart) and [`crate::store::embedded`] (one directory, durable). Neither knows anything of items, ranking or HTTP.

use std::sync::Arc;
use std::time::Duration;

use crate::interaction::Interaction;
use crate::store::{BoxFuture, Copied, StoreError, Write};

pub mod gather;
pub mod memory;

/// Whose interactions: a signed-in user or an anonymous session. Two names in two spaces that never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor(String);

impl Actor {
    /// The user called `id`.
    #[must_use]
    pub fn user(id: &str) -> Self {
        Self(["u:", id].concat())
    }

    /// The session called `id`.
    #[must_use]
    pub fn session(id: &str) -> Self {
        Self(["s:", id].concat())
    }

    /// The actor that a store keeps under a name, if it is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (name.starts_with("u:") || name.starts_with("s:")).then(|| Self(name.to_owned()))
    }

    /// Whether it is a user rather than a session.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.0.starts_with("u:")
    }

    /// The id alone.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.get(2..).unwrap_or_default()
    }

    /// The name under which a store keeps it: `u:<id>` or `s:<id>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An interaction on its way into a store, with whoever did it. At least one of the two ids is present; with both it is kept for both.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The signed-in user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// What was done.
    pub interaction: Interaction,
}

impl Incoming {
    /// The one or two actors this interaction is kept for.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        let user = self.user_id.as_deref().map(Actor::user);
        user.into_iter().chain(self.session_id.as_deref().map(Actor::session))
    }
}

/// A kept interaction. `sequence` is its place in the store's order of arrival, so one that is kept for two actors is known as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Place in the order of arrival, unique in the store.
    pub sequence: u64,
    /// What was done.
    pub interaction: Arc<Interaction>,
}

/// The recent interactions of one actor, newest first (by `occurred_at_ms`, then by arrival), shared with the store's cache.
pub type Recent = Arc<[Kept]>;

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ack {
    /// Interactions that are now kept.
    pub accepted: u32,
    /// Interactions whose `interaction_id` had been accepted before; they changed nothing.
    pub duplicates: u32,
    /// Sequence of the last interaction in the store when the batch was in it. It never falls, and what a store has up to a watermark it has for
    /// good, but for what is erased or pruned.
    pub watermark: u64,
}

/// What became of an erasure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// Interactions that are gone.
    pub interactions: u64,
    /// The recommendations that they came from.
    pub recommendations: Vec<String>,
    /// Sequence of the last interaction in the store at that moment.
    pub watermark: u64,
    /// Whether there is more to remove, for which it has to be asked again.
    pub more: bool,
}

/// The answer to a look-up: at hand, or on its way from the disk.
pub enum Lookup {
    /// It was in memory.
    Ready(Recent),
    /// It is being read; dropping the future gives up waiting, not the read.
    Pending(BoxFuture<'static, Result<Recent, StoreError>>),
    /// It cannot be had.
    Failed(StoreError),
}

/// What a store tells about itself, for `/metrics` and `/readyz`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HistoryStats {
    /// Actors whose interactions are in memory.
    pub cached_actors: u64,
    /// Bytes those take, estimated.
    pub cached_bytes: u64,
    /// Interactions waiting to be committed.
    pub queued: u64,
    /// Interactions committed since start.
    pub committed: u64,
    /// Look-ups answered from memory.
    pub hits: u64,
    /// Look-ups that went to the disk.
    pub misses: u64,
    /// Interactions dropped because they were older than the retention, or because there were too many.
    pub pruned: u64,
    /// Bytes that the store takes of the disk.
    pub file_bytes: u64,
    /// Records met that did not decode and were left out.
    pub damaged: u64,
}

/// A store of recent interactions.
pub trait RecentInteractions: Send + Sync + 'static {
    /// Keeps a batch, whole or not at all, and answers when it is as safe as the store makes it.
    fn append(&self, batch: Vec<Incoming>) -> BoxFuture<'_, Result<Ack, StoreError>>;

    /// Tells how long each commit takes, from now on; the first who asks is told. A store that commits nothing tells nothing.
    fn watch_commits(&self, _told: Box<dyn Fn(Duration) + Send + Sync>) {}

    /// The newest interactions of an actor; none for one never seen. About a microsecond when [`Lookup::Ready`].
    fn recent(&self, actor: &Actor) -> Lookup;

    /// Goes over the log, with who did it (the user first, then the session), from the newest interaction back to those that arrived before `since_ms`, at most `most` of them. Blocks: for start.
    /// A store without a log that outlives the process has none to go over.
    ///
    /// # Errors
    /// The failure of the disk. A damaged record is passed over.
    fn replay(
        &self,
        _since_ms: i64,
        _most: usize,
        _with: &mut dyn FnMut(&[Actor], &Interaction),
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Interactions of an actor beyond the recent ones: at most `limit`, newest first, with `before` only those that come after this
    /// (occurred_at_ms, sequence) in that order. For listings and exports; one look-up on the disk for each.
    fn page(
        &self,
        actor: &Actor,
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>>;

    /// Removes every interaction of these actors, whoever else it was kept for, with the ids that made them idempotent, and applies changes of
    /// documents: all of it or nothing, answered when it is as safe as an append. Of more than [`crate::limits::ERASED_AT_ONCE`] only so many go, the
    /// newest of an actor first, and documents change when it is asked again and no more is left. Appends made before it are removed, later ones are
    /// new. A look-up that began before may still answer the old list once; none that begins after the answer does.
    fn erase(&self, actors: Vec<Actor>, documents: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>>;

    /// Sequence of the last interaction that every look-up from now on knows. What an [`Ack`] says is reached when it is answered.
    fn watermark(&self) -> u64 {
        0
    }

    /// A consistent copy of everything in the store, made while it goes on, beside it. Minutes for a large one, at the cost of reading it once.
    fn backup(&self) -> BoxFuture<'static, Result<Copied, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::NotKept)))
    }

    /// Numbers for the operator.
    fn stats(&self) -> HistoryStats;

    /// Whether the store works, as far as it knows without trying.
    ///
    /// # Errors
    /// The failure that it met last, while that lasts.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Commits what is queued and lets go of files and threads. Later appends fail with [`StoreError::Closed`]. Blocks.
    fn close(&self) {}
}

/// Puts `new` into `list` (newest first) and keeps the newest `keep`; one that is already there (by sequence) is not put twice.
/// Cost: a copy of `keep` pointers.
#[must_use]
pub fn merge(list: &[Kept], new: impl IntoIterator<Item = Kept>, keep: usize) -> Recent {
    let mut merged: Vec<Kept> = list.to_vec();
    for kept in new {
        if merged.iter().any(|other| other.sequence == kept.sequence) {
            continue;
        }
        let at = merged.partition_point(|other| is_newer(other, &kept));
        merged.insert(at, kept);
    }
    merged.truncate(keep);
    merged.into()
}

fn is_newer(a: &Kept, b: &Kept) -> bool {
    (a.interaction.occurred_at_ms, a.sequence) > (b.interaction.occurred_at_ms, b.sequence)
}

/// Bytes that a cached list takes, estimated from its strings: what bounds the cache.
pub(crate) fn cached_size(actor: &str, list: &Recent) -> u32 {
    /// Vec and Arc headers, the map's own entry, and allocator rounding, per list and per interaction.
    const LIST_OVERHEAD: usize = 160;
    const INTERACTION_OVERHEAD: usize = 240;
    /// Entries that a node of the map of a context has room for. One entry takes a whole node.
    const CONTEXT_NODE: usize = 11;
    const CONTEXT_NODE_BYTES: usize = CONTEXT_NODE * size_of::<(String, String)>() + 16;
    let of_one = |kept: &Kept| {
        let nodes = kept.interaction.context.len().div_ceil(CONTEXT_NODE);
        INTERACTION_OVERHEAD + nodes * CONTEXT_NODE_BYTES + text_bytes(&kept.interaction)
    };
    let interactions: usize = list.iter().map(of_one).sum();
    u32::try_from(LIST_OVERHEAD + actor.len() + interactions).unwrap_or(u32::MAX)
}

pub(crate) fn text_bytes(interaction: &Interaction) -> usize {
    let context: usize = interaction.context.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
    interaction.item_id.len()
        + interaction.kind.len()
        + interaction.interaction_id.as_ref().map_or(0, String::len)
        + context
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sequence: u64, occurred_at_ms: i64) -> Kept {
        let interaction = Interaction {
            interaction_id: None,
            item_id: format!("item-{sequence}"),
            kind: "view".to_owned(),
            value: None,
            occurred_at_ms,
            context: Default::default(),
        };
        Kept { sequence, interaction: Arc::new(interaction) }
    }

    #[test]
    fn merging_keeps_the_newest_by_time_then_by_arrival() {
        let list = merge(&[], [kept(1, 10), kept(2, 30), kept(3, 20), kept(4, 30)], 3);
        let order: Vec<u64> = list.iter().map(|kept| kept.sequence).collect();
        assert_eq!(order, [4, 2, 3]);
    }

    #[test]
    fn merging_the_same_interaction_twice_keeps_it_once() {
        let list = merge(&[], [kept(1, 10)], 5);
        assert_eq!(merge(&list, [kept(1, 10)], 5).len(), 1);
    }

    #[test]
    fn the_size_of_a_list_knows_that_a_context_takes_a_node_of_a_map() {
        let size = |kept: Kept| {
            let list: Recent = Arc::from([kept]);
            cached_size("u:a", &list)
        };
        let mut said = (*kept(1, 10).interaction).clone();
        said.context.insert("page".to_owned(), "home".to_owned());
        let said = Kept { sequence: 1, interaction: Arc::new(said) };
        assert!(size(said) - size(kept(1, 10)) > 500);
    }

    #[test]
    fn a_user_and_a_session_of_the_same_name_are_two_actors() {
        assert_ne!(Actor::user("a"), Actor::session("a"));
    }
}

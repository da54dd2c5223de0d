//! The only waiting of a read: fetch what is stored about a visitor, within a time limit.
//!
//! A failed or late store is not an error of the request: the interactions in its body are enough to answer, and the answer says so.

use std::collections::HashSet;
use std::time::Duration;

use super::{Actor, Lookup, Recent, RecentInteractions};
use crate::interaction::Interaction;
use crate::limits;
use crate::store::StoreError;

/// Further look-ups of a visitor that are under way at once: those for a person of many names leave some to others.
const AT_ONCE: usize = 16;

const _: () = assert!(4 * AT_ONCE <= limits::STORE_READS_MAX);

/// What was fetched, and why it may be incomplete.
#[derive(Debug, Default)]
pub struct Gathered {
    user: Option<Recent>,
    session: Option<Recent>,
    /// Lists of the person's other names, and of other stores.
    more: Vec<Recent>,
    /// The failure that left something out.
    pub failure: Option<StoreError>,
}

/// Fetches the stored interactions of a user and a session, waiting for both together at most `patience`.
/// Without a miss in the store's cache nothing is awaited.
pub async fn gather(
    store: &dyn RecentInteractions,
    user: Option<&Actor>,
    session: Option<&Actor>,
    patience: Duration,
) -> Gathered {
    let mut gathered = Gathered::default();
    let deadline = tokio::time::Instant::now() + patience;
    // Both look-ups are started before either is awaited.
    let user = user.map(|actor| store.recent(actor));
    let session = session.map(|actor| store.recent(actor));
    gathered.user = settle(user, deadline, patience, &mut gathered.failure).await;
    gathered.session = settle(session, deadline, patience, &mut gathered.failure).await;
    gathered
}

async fn settle(
    lookup: Option<Lookup>,
    deadline: tokio::time::Instant,
    patience: Duration,
    failure: &mut Option<StoreError>,
) -> Option<Recent> {
    let answer = match lookup? {
        Lookup::Ready(recent) => Ok(recent),
        Lookup::Failed(error) => Err(error),
        Lookup::Pending(pending) => {
            tokio::time::timeout_at(deadline, pending).await.unwrap_or_else(|_| Err(StoreError::timed_out(patience)))
        }
    };
    match answer {
        Ok(recent) => Some(recent),
        Err(error) => {
            *failure = Some(error);
            None
        }
    }
}

impl Gathered {
    /// What is there where looking up who is to be asked about has failed.
    pub(crate) fn failed(failure: StoreError) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// Fetches further lists, as [`gather`] does. Sequences of different stores must not meet.
    pub async fn add(
        &mut self,
        store: &dyn RecentInteractions,
        actors: impl Iterator<Item = &Actor>,
        patience: Duration,
    ) {
        let deadline = tokio::time::Instant::now() + patience;
        let actors: Vec<&Actor> = actors.collect();
        for some in actors.chunks(AT_ONCE) {
            let lookups: Vec<Lookup> = some.iter().map(|actor| store.recent(actor)).collect();
            let waits = lookups.iter().any(|lookup| matches!(lookup, Lookup::Pending(_)));
            for lookup in lookups {
                let list = settle(Some(lookup), deadline, patience, &mut self.failure).await;
                self.more.extend(list.filter(|list| !list.is_empty()));
            }
            // What is late is still under way: with more of it nothing would be left to others.
            if waits && tokio::time::Instant::now() >= deadline {
                break;
            }
        }
    }

    /// Stored interactions and those in the body as one list without copies or repeats, the newest `limit`, oldest first: of two at the same
    /// time, the one that arrived later stands later, which is how the pure part tells them apart. An interaction is repeated when several
    /// stored lists hold it, or when the body repeats its `interaction_id`, or, without one, its item, kind and time.
    #[must_use]
    pub fn union<'a>(&'a self, body: &'a [Interaction], limit: usize) -> Vec<&'a Interaction> {
        self.union_below(u64::MAX, body, limit)
    }

    /// [`Gathered::union`] of the stored interactions whose sequences are below one: of those of several stores, what the first has.
    #[must_use]
    pub fn union_below<'a>(&'a self, below: u64, body: &'a [Interaction], limit: usize) -> Vec<&'a Interaction> {
        let lists = || self.user.iter().chain(&self.session).chain(&self.more);
        let stored: usize = lists().map(|list| list.len()).sum();
        // With the place in the order of arrival; what the request brings comes after all that is stored.
        let mut all: Vec<(u64, &Interaction)> = Vec::with_capacity(body.len() + stored);
        all.extend(body.iter().rev().map(|interaction| (u64::MAX, interaction)));
        let several = lists().filter(|list| !list.is_empty()).nth(1).is_some();
        let mut sequences: HashSet<u64> = HashSet::new();
        for kept in lists().flat_map(|list| list.iter()) {
            if kept.sequence >= below || (several && !sequences.insert(kept.sequence)) {
                continue;
            }
            let interaction = &*kept.interaction;
            if !body.iter().any(|other| same(interaction, other)) {
                all.push((kept.sequence, interaction));
            }
        }
        // Newest first and stable: the body stays in its order.
        all.sort_by_key(|(sequence, interaction)| std::cmp::Reverse((interaction.occurred_at_ms, *sequence)));
        all.truncate(limit);
        all.into_iter().rev().map(|(_, interaction)| interaction).collect()
    }
}

fn same(a: &Interaction, b: &Interaction) -> bool {
    match (&a.interaction_id, &b.interaction_id) {
        (Some(a), Some(b)) => a == b,
        _ => a.occurred_at_ms == b.occurred_at_ms && a.item_id == b.item_id && a.kind == b.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Erased, HistoryStats, Incoming, Kept};
    use crate::store::{BoxFuture, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn interaction(item: &str, at: i64, id: Option<&str>) -> Interaction {
        Interaction {
            interaction_id: id.map(str::to_owned),
            item_id: item.to_owned(),
            kind: "view".to_owned(),
            value: None,
            occurred_at_ms: at,
            context: Default::default(),
        }
    }

    fn kept(sequence: u64, item: &str, at: i64, id: Option<&str>) -> Kept {
        Kept { sequence, interaction: Arc::new(interaction(item, at, id)) }
    }

    #[test]
    fn the_union_repeats_nothing_and_is_oldest_first() {
        let shared = kept(7, "both", 50, None);
        let gathered = Gathered {
            user: Some(Arc::from([shared.clone(), kept(1, "old", 10, None)])),
            session: Some(Arc::from([shared.clone(), kept(2, "named", 40, Some("x"))])),
            more: vec![Arc::from([shared, kept(1 << 62, "elsewhere", 5, None)])],
            failure: None,
        };
        let body = [interaction("named", 99, Some("x")), interaction("now", 100, None), interaction("old", 10, None)];
        let union = gathered.union(&body, 10);
        let items: Vec<&str> = union.iter().map(|interaction| interaction.item_id.as_str()).collect();
        assert_eq!(items, ["elsewhere", "old", "both", "named", "now"]);
        let newest = gathered.union(&body, 2);
        assert_eq!(newest.iter().map(|one| one.item_id.as_str()).collect::<Vec<_>>(), ["named", "now"]);
    }

    #[test]
    fn at_the_same_time_what_arrived_later_stands_later() {
        let user: Recent = Arc::from([kept(3, "c", 10, None), kept(1, "a", 10, None)]);
        let session: Recent = Arc::from([kept(2, "b", 10, None)]);
        let gathered = Gathered { user: Some(user), session: Some(session), ..Gathered::default() };
        let body = [interaction("d", 10, None), interaction("e", 10, None)];
        let items: Vec<&str> = gathered.union(&body, 9).iter().map(|one| one.item_id.as_str()).collect();
        assert_eq!(items, ["a", "b", "c", "d", "e"]);
    }

    /// A store whose disk never answers, and how often it was asked.
    #[derive(Default)]
    struct Stuck(AtomicUsize);

    impl RecentInteractions for Stuck {
        fn append(&self, _: Vec<Incoming>) -> BoxFuture<'_, Result<crate::history::Ack, StoreError>> {
            Box::pin(std::future::pending())
        }
        fn recent(&self, _: &Actor) -> Lookup {
            self.0.fetch_add(1, Ordering::Relaxed);
            Lookup::Pending(Box::pin(std::future::pending()))
        }
        fn page(
            &self,
            _: &Actor,
            _: Option<(i64, u64)>,
            _: usize,
        ) -> BoxFuture<'static, Result<Vec<Kept>, StoreError>> {
            Box::pin(std::future::pending())
        }
        fn erase(&self, _: Vec<Actor>, _: Vec<Write>) -> BoxFuture<'static, Result<Erased, StoreError>> {
            Box::pin(std::future::pending())
        }
        fn stats(&self) -> HistoryStats {
            HistoryStats::default()
        }
    }

    #[test]
    fn a_store_that_never_answers_leaves_the_body() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let gathered = runtime.block_on(gather(
            &Stuck::default(),
            Some(&Actor::user("u")),
            Some(&Actor::session("s")),
            Duration::from_millis(5),
        ));
        assert!(matches!(gathered.failure, Some(StoreError::TimedOut { waited_ms: 5 })));
        let body = [interaction("now", 1, None)];
        assert_eq!(gathered.union(&body, 10).len(), 1);
    }

    #[test]
    fn a_person_of_many_names_leaves_look_ups_to_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let names: Vec<Actor> = (0..limits::NAMES_LOOKED_UP_MAX).map(|n| Actor::user(&n.to_string())).collect();
        let (store, mut gathered) = (Stuck::default(), Gathered::default());
        runtime.block_on(async {
            let adding = gathered.add(&store, names.iter(), Duration::from_secs(60));
            assert!(tokio::time::timeout(Duration::from_millis(5), adding).await.is_err());
        });
        assert_eq!(store.0.load(Ordering::Relaxed), AT_ONCE);
        // Nor once there is no more patience, while those are under way.
        let (store, mut gathered) = (Stuck::default(), Gathered::default());
        runtime.block_on(gathered.add(&store, names.iter(), Duration::from_millis(5)));
        assert_eq!(store.0.load(Ordering::Relaxed), AT_ONCE);
        assert!(gathered.failure.is_some());
    }
}

//! What several do with one person at once, and what is made of a store that is damaged or takes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::consent::Consent;
use super::links::Link;
use super::profile::Profile;
use super::settings::PeopleSettings;
use super::shown::{Shown, ShownItem, ShownLog, ShownOptions};
use super::{People, records, stored};
use crate::history::memory::MemoryHistory;
use crate::history::{Actor, Incoming};
use crate::interaction::{Interaction, RECOMMENDATION_ID};
use crate::limits;
use crate::store::embedded::{EmbeddedOptions, EmbeddedStore, Retention};
use crate::store::memory::MemoryDocuments;
use crate::store::{BoxFuture, Documents, Page, StoreError, Table, Write};
use crate::testing::HeldUpHistory;

/// Documents that are read at once and handed out when the gate opens, while it is shut.
struct Gated {
    inner: MemoryDocuments,
    gate: Arc<Semaphore>,
    is_shut: AtomicBool,
    /// Whether nothing more is taken.
    is_full: AtomicBool,
}

impl Gated {
    fn open() -> Arc<Self> {
        let (inner, gate) = (MemoryDocuments::default(), Arc::new(Semaphore::new(0)));
        Arc::new(Self { inner, gate, is_shut: AtomicBool::new(false), is_full: AtomicBool::new(false) })
    }

    fn later<T: Send + 'static>(&self, found: Result<T, StoreError>) -> BoxFuture<'static, Result<T, StoreError>> {
        let (gate, is_shut) = (Arc::clone(&self.gate), self.is_shut.load(Ordering::Relaxed));
        Box::pin(async move {
            if is_shut {
                gate.acquire().await.unwrap().forget();
            }
            found
        })
    }
}

impl Documents for Gated {
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        if self.is_full.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(StoreError::Closed)));
        }
        // The least that history.queue may be.
        let limit = limits::BATCH_INTERACTIONS_MAX;
        if writes.len() > limit {
            return Box::pin(std::future::ready(Err(StoreError::Busy { queued: 0, limit: limit as u64 })));
        }
        self.inner.write(writes)
    }

    fn blocking_get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blocking_get(table, key)
    }

    fn blocking_scan(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        self.inner.blocking_scan(table, after, limit)
    }

    fn get(&self, table: Table, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        self.later(self.inner.blocking_get(table, key))
    }

    fn scan(&self, table: Table, after: Option<&str>, limit: usize) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.later(self.inner.blocking_scan(table, after, limit))
    }
}

/// A history that takes so many erasures.
fn erasing(left: &Arc<AtomicUsize>) -> Arc<HeldUpHistory> {
    let left = Arc::clone(left);
    let take = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    HeldUpHistory::new(
        history(),
        Box::new(move || {
            let taken = take().map(drop).map_err(|_| StoreError::Closed);
            Box::pin(std::future::ready(taken))
        }),
    )
}

fn history() -> MemoryHistory {
    MemoryHistory::new(1, 100, Duration::from_secs(60))
}

fn people(documents: &Arc<Gated>) -> People {
    let history = Arc::new(history());
    People::open(&PeopleSettings::default(), history, documents.clone()).unwrap()
}

fn log(documents: &Arc<Gated>) -> ShownLog {
    ShownLog::new(documents.clone(), ShownOptions { sample: 1.0, history: false, keep_ms: 1_000 })
}

/// What a user did with an item of it.
fn click(user: &str, list: &Shown) -> Incoming {
    let mut interaction = Interaction::new("i", "view", list.at_ms);
    interaction.context.insert(RECOMMENDATION_ID.to_owned(), list.recommendation_id.clone());
    Incoming { user_id: Some(user.to_owned()), session_id: None, interaction }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn what_was_read_before_a_change_does_not_come_back_after_it() {
    let user = Actor::user("u");
    let documents = Gated::open();
    documents.inner.write_now(vec![records::profile(&user, Some(&Profile::default()))]).unwrap();
    let people = Arc::new(people(&documents));
    runtime().block_on(async {
        documents.is_shut.store(true, Ordering::Relaxed);
        let (reader, name) = (Arc::clone(&people), user.clone());
        let reading = tokio::spawn(async move { reader.profile(&name).await });
        tokio::task::yield_now().await;
        documents.is_shut.store(false, Ordering::Relaxed);
        people.set_profile(&user, Some(&Profile::refusal()), true).await.unwrap();
        documents.gate.add_permits(1);
        assert_eq!(reading.await.unwrap().unwrap().unwrap().consent, Consent::Full, "what it read");
        assert_eq!(people.profile(&user).await.unwrap().unwrap().consent, Consent::None);
    });
}

#[test]
fn an_erasure_that_goes_over_all_profiles_holds_nobody_up() {
    let (fan, gone) = (Actor::user("fan"), [Actor::user("gone")]);
    let documents = Gated::open();
    let follower = Profile { follows: vec!["gone".to_owned()], ..Profile::default() };
    documents.inner.write_now(vec![records::profile(&fan, Some(&follower))]).unwrap();
    let (people, log) = (people(&documents), log(&documents));
    runtime().block_on(async {
        documents.is_shut.store(true, Ordering::Relaxed);
        let erasing = people.erase(&gone, &log);
        tokio::pin!(erasing);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut erasing).await.is_err(), "it waits for profiles");
        documents.is_shut.store(false, Ordering::Relaxed);
        let changing = people.change_profile(&fan, false, |profile| profile.country = Some("DE".to_owned()));
        tokio::time::timeout(Duration::from_secs(10), changing).await.expect("not held up").unwrap();
        documents.gate.add_permits(1);
        assert_eq!(erasing.await.unwrap().follows, 1);
        let left = people.profile(&fan).await.unwrap().unwrap();
        assert_eq!((left.country.as_deref(), left.follows.len()), (Some("DE"), 0), "both changes are there");
    });
}

#[test]
fn a_profile_that_cannot_be_read_stays_a_refusal_while_other_things_are_said() {
    let user = Actor::user("u");
    let documents = Gated::open();
    documents.inner.write_now(vec![Write::put(Table::People, user.as_str(), b"{\"consent\":".to_vec())]).unwrap();
    let people = people(&documents);
    runtime().block_on(async {
        assert_eq!(people.standing(&user), Consent::None);
        let country = |profile: &mut Profile| profile.country = Some("DE".to_owned());
        let changed = people.change_profile(&user, false, country).await.unwrap();
        assert_eq!((changed.consent, people.standing(&user)), (Consent::None, Consent::None));
        let erased = people.erase(std::slice::from_ref(&user), &log(&documents)).await.unwrap();
        assert!(erased.refusal_kept && people.standing(&user) == Consent::None);
        let consent = |profile: &mut Profile| profile.consent = Consent::Full;
        people.change_profile(&user, true, consent).await.unwrap();
        assert_eq!(people.standing(&user), Consent::Full);
    });
}

#[test]
fn what_does_not_decode_is_counted_and_the_rest_is_there() {
    let (user, session) = (Actor::user("u"), Actor::session("s"));
    let documents = Gated::open();
    let nonsense = |table: Table| Write::put(table, Actor::user("x").as_str(), b"{".to_vec());
    let link = records::put_link(&session, &Link { target: user.clone(), at_ms: 0 });
    documents.inner.write_now(vec![nonsense(Table::People), nonsense(Table::Merges), link]).unwrap();
    let people = people(&documents);
    assert_eq!(people.damaged(), 2);
    assert_eq!(people.person(&user), [user, session]);
}

#[test]
fn what_is_in_memory_only_is_not_among_what_is_stored() {
    let people = people(&Gated::open());
    let view = |item: &str, at: i64| Incoming {
        user_id: Some("u".to_owned()),
        session_id: None,
        interaction: Interaction::new(item, "view", at),
    };
    runtime().block_on(async {
        let batch = vec![(view("kept", 1), Consent::Full), (view("fleeting", 2), Consent::Session)];
        people.keep(batch).await.unwrap();
        let visitor = people.visitor(Some("u"), None, Consent::Full);
        let gathered = people.gather(&visitor, Duration::from_secs(10)).await;
        let items = |list: Vec<&Interaction>| list.iter().map(|one| one.item_id.clone()).collect::<Vec<String>>();
        assert_eq!(items(gathered.union(&[], 10)), ["kept", "fleeting"]);
        assert_eq!(items(stored(&gathered, 10)), ["kept"]);
    });
}

#[test]
fn the_log_is_read_where_the_disk_takes_nothing() {
    let documents = Gated::open();
    let log = log(&documents);
    let shown = Shown::nothing(0);
    log.record(shown.clone());
    documents.is_full.store(true, Ordering::Relaxed);
    let (page, next) = runtime().block_on(log.page(None, 10)).unwrap();
    assert_eq!(page.into_iter().map(|one| one.shown).collect::<Vec<_>>(), [shown]);
    assert_eq!(next, None);
}

#[test]
fn what_the_store_does_not_take_of_the_log_is_counted() {
    let documents = Gated::open();
    let log = log(&documents);
    let item = ShownItem {
        item_id: "i".repeat(limits::KEY_BYTES_MAX),
        score: 0.5,
        source: "popular".to_owned(),
        placement: None,
        propensity: 1.0,
    };
    log.record(Shown { items: vec![item; limits::ANSWER_ITEMS_MAX], ..Shown::nothing(0) });
    assert_eq!(log.refused(), 1, "larger than a document");
    log.record(Shown::nothing(1));
    assert_eq!(log.refused(), 1);
    documents.is_full.store(true, Ordering::Relaxed);
    log.record(Shown::nothing(2));
    assert_eq!(log.refused(), 2);
}

#[test]
fn lists_in_memory_are_bounded_by_their_bytes_too() {
    let documents = Gated::open();
    let log = log(&documents);
    documents.is_full.store(true, Ordering::Relaxed);
    let long = ShownItem {
        item_id: "i".repeat(limits::SHOWN_IN_MEMORY_BYTES_MAX / 4),
        score: 0.5,
        source: "popular".to_owned(),
        placement: None,
        propensity: 1.0,
    };
    (0..4).for_each(|at_ms| log.record(Shown { items: vec![long.clone()], ..Shown::nothing(at_ms) }));
    runtime().block_on(async {
        let held = async |at_ms| log.find(&Shown::nothing(at_ms).recommendation_id).await.unwrap().is_some();
        assert_eq!([held(0).await, held(1).await, held(3).await], [false, true, true]);
    });
}

#[test]
fn an_erasure_that_removes_lists_holds_nobody_up() {
    let (user, session, gone) = (Actor::user("u"), Actor::session("s"), [Actor::user("gone")]);
    let documents = Gated::open();
    let (people, log) = (people(&documents), log(&documents));
    let shown = Shown::nothing(0);
    log.record(shown.clone());
    runtime().block_on(async {
        people.keep(vec![(click("gone", &shown), Consent::Full)]).await.unwrap();
        documents.is_shut.store(true, Ordering::Relaxed);
        let erasing = people.erase(&gone, &log);
        tokio::pin!(erasing);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut erasing).await.is_err(), "it waits for the log");
        documents.is_shut.store(false, Ordering::Relaxed);
        let merging = people.merge(&user, &session, 0);
        tokio::time::timeout(Duration::from_secs(10), merging).await.expect("not held up").unwrap();
        documents.gate.add_permits(1);
        assert_eq!(erasing.await.unwrap().recommendations, 1);
    });
}

#[test]
fn a_list_that_only_what_is_in_memory_names_is_erased_too() {
    let documents = Gated::open();
    let (people, log) = (people(&documents), log(&documents));
    let shown = Shown::nothing(0);
    log.record(shown.clone());
    runtime().block_on(async {
        people.keep(vec![(click("u", &shown), Consent::Session)]).await.unwrap();
        let erased = people.erase(&[Actor::user("u")], &log).await.unwrap();
        assert_eq!((erased.fleeting, erased.recommendations), (1, 1));
        assert!(log.find(&shown.recommendation_id).await.unwrap().is_none());
    });
}

#[test]
fn no_queue_is_too_small_to_remove_a_list_of_which_much_came() {
    let documents = Gated::open();
    let log = log(&documents);
    let shown = Shown::nothing(0);
    let id = shown.recommendation_id.clone();
    log.record(shown);
    let outcome = |n: usize| Write::put(Table::Recommendations, format!("o/{id}/{n:04}"), b"{}".to_vec());
    documents.inner.write_now((0..1_500).map(outcome).collect()).unwrap();
    assert_eq!(runtime().block_on(log.remove(std::slice::from_ref(&id))).unwrap(), 1);
    assert!(documents.inner.blocking_scan(Table::Recommendations, None, 1).unwrap().is_empty());
}

#[test]
fn what_is_older_than_it_is_kept_is_gone_from_memory_too() {
    let documents = Gated::open();
    let log = log(&documents);
    let [old, new] = [Shown::nothing(1_000), Shown::nothing(5_000)];
    [&old, &new].into_iter().for_each(|shown| log.record(shown.clone()));
    runtime().block_on(async {
        assert!(!log.prune(5_500).await.unwrap());
        assert_eq!(log.find(&old.recommendation_id).await.unwrap(), None);
        assert_eq!(log.find(&new.recommendation_id).await.unwrap().as_deref(), Some(&new));
    });
}

#[test]
fn sessions_of_which_nothing_is_kept_give_way_to_new_ones_and_a_refusal_stays_under_each() {
    let documents = Gated::open();
    let people = people(&documents);
    let user = Actor::user("u");
    let session = |day: usize| Actor::session(&day.to_string());
    let view = Incoming {
        user_id: None,
        session_id: Some(session(0).id().to_owned()),
        interaction: Interaction::new("i", "view", 1),
    };
    runtime().block_on(async {
        people.keep(vec![(view, Consent::Full)]).await.unwrap();
        let merge = async |days: std::ops::Range<usize>| {
            for day in days {
                people.merge(&user, &session(day), day as i64).await.unwrap();
            }
        };
        merge(0..limits::MERGED_MAX - 1).await;
        let names = |day: usize| people.person(&user).contains(&session(day));
        assert_eq!((people.person(&user).len(), names(1)), (limits::MERGED_MAX, true));
        let visitor = people.visitor(Some("u"), None, Consent::Full);
        assert_eq!(visitor.more.len() + 1, limits::NAMES_LOOKED_UP_MAX);
        merge(limits::MERGED_MAX..limits::MERGED_MAX + 1).await;
        let gone = limits::SESSIONS_LET_GO_MAX - 1;
        assert_eq!([names(0), names(1), names(gone), names(gone + 1)], [true, false, false, true], "one has something");
        assert_eq!(people.standing(&session(1)), Consent::Full);
        people.set_profile(&user, Some(&Profile::refusal()), true).await.unwrap();
        merge(limits::MERGED_MAX + 1..limits::MERGED_MAX + 1 + gone).await;
        assert_eq!((names(gone + 1), people.standing(&session(gone + 1))), (false, Consent::None));
        let erased = people.erase(std::slice::from_ref(&user), &log(&documents)).await.unwrap();
        assert_eq!((erased.interactions, names(0)), (1, false));
    });
}

#[test]
fn a_refusal_binds_what_an_erasure_that_stops_halfway_has_left() {
    let documents = Gated::open();
    let left = Arc::new(AtomicUsize::new(1));
    let people = People::open(&PeopleSettings::default(), erasing(&left), documents.clone()).unwrap();
    let (user, old) = (Actor::user("u"), Actor::user("old"));
    runtime().block_on(async {
        people.set_profile(&old, Some(&Profile::refusal()), true).await.unwrap();
        for other in 0..300 {
            people.merge(&user, &Actor::user(&other.to_string()), 0).await.unwrap();
        }
        people.merge(&user, &old, 0).await.unwrap();
        let erase = async || people.erase(std::slice::from_ref(&user), &log(&documents)).await;
        erase().await.unwrap_err();
        let names = people.person(&user);
        assert!(names.len() < 302 && !names.contains(&old), "{}", names.len());
        assert_eq!([people.standing(&user), people.standing(&old)], [Consent::None; 2]);
        left.store(9, Ordering::Relaxed);
        assert!(erase().await.unwrap().refusal_kept);
        assert_eq!((people.person(&user).len(), people.standing(&user)), (1, Consent::None));
    });
}

#[test]
fn an_erasure_that_stops_halfway_goes_on_by_whichever_of_the_users_it_is_asked_for() {
    let documents = Gated::open();
    let left = Arc::new(AtomicUsize::new(1));
    let people = People::open(&PeopleSettings::default(), erasing(&left), documents.clone()).unwrap();
    let (user, old) = (Actor::user("u"), Actor::user("old"));
    runtime().block_on(async {
        for session in 0..300 {
            people.merge(&user, &Actor::session(&session.to_string()), 0).await.unwrap();
        }
        people.merge(&user, &old, 0).await.unwrap();
        let view =
            Incoming { user_id: Some("u".to_owned()), session_id: None, interaction: Interaction::new("i", "view", 1) };
        people.keep(vec![(view, Consent::Full)]).await.unwrap();
        let erase = async || people.erase(&people.person(&old), &log(&documents)).await;
        erase().await.unwrap_err();
        assert!(people.person(&old).len() < 302, "some names are gone");
        left.store(9, Ordering::Relaxed);
        assert_eq!(erase().await.unwrap().interactions, 1);
        assert_eq!([people.person(&user).len(), people.person(&old).len()], [1; 2]);
    });
}

#[test]
fn a_session_that_alone_has_a_refusal_does_not_give_way_to_new_ones() {
    let documents = Gated::open();
    let people = people(&documents);
    let (user, before) = (Actor::user("u"), Actor::user("before"));
    let session = |day: usize| Actor::session(&day.to_string());
    runtime().block_on(async {
        people.set_profile(&before, Some(&Profile::refusal()), true).await.unwrap();
        people.merge(&before, &session(0), 0).await.unwrap();
        // The refusal is left under each name.
        people.erase(std::slice::from_ref(&before), &log(&documents)).await.unwrap();
        for day in 0..limits::MERGED_MAX {
            people.merge(&user, &session(day), day as i64).await.unwrap();
        }
        let person = people.person(&user);
        assert_eq!([0, 1].map(|day| person.contains(&session(day))), [true, false]);
        assert_eq!(people.standing(&user), Consent::None);
    });
}

#[test]
fn an_erasure_goes_on_until_nothing_is_left_of_very_much() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        EmbeddedOptions { keep: 5, cache_mb: 4, page_cache_mb: 4, queue: 10_000, retention: Retention::default() };
    let store = Arc::new(EmbeddedStore::open(&directory.path().join("h"), options, || 1_000).unwrap());
    let people = People::open(&PeopleSettings::default(), store.clone(), store.clone()).unwrap();
    let (user, session) = (Actor::user("u"), Actor::session("s"));
    let count = 2 * limits::ERASED_AT_ONCE + 1;
    runtime().block_on(async {
        people.merge(&user, &session, 0).await.unwrap();
        let view = |at: usize| Incoming {
            user_id: at.is_multiple_of(2).then(|| "u".to_owned()),
            session_id: Some("s".to_owned()),
            interaction: Interaction::new("i", "view", at as i64),
        };
        let many: Vec<(Incoming, Consent)> = (0..count).map(|at| (view(at), Consent::Full)).collect();
        for batch in many.chunks(limits::BATCH_INTERACTIONS_MAX) {
            people.keep(batch.to_vec()).await.unwrap();
        }
        let log = ShownLog::new(store.clone(), ShownOptions { sample: 0.0, history: false, keep_ms: 1_000 });
        let erased = people.erase(std::slice::from_ref(&user), &log).await.unwrap();
        assert_eq!((erased.interactions, erased.merges), (count as u64, 1));
        assert_eq!(erased.span_ms, Some((0, count as i64 - 1)));
        assert!(people.list(&[user, session], None, 1).await.unwrap().0.is_empty());
    });
}

#[test]
fn what_is_done_under_merged_names_is_counted_as_one_persons() {
    let people = people(&Gated::open());
    let (user, session) = (Actor::user("u"), Actor::session("s"));
    let interaction = Interaction::new("i", "view", 1);
    let view = Incoming { user_id: None, session_id: Some("s".to_owned()), interaction };
    let counted = || people.counted(std::slice::from_ref(&session));
    runtime().block_on(async {
        assert_eq!((people.who(&view), counted()), (Some(session.clone()), Some(session.clone())));
        people.merge(&user, &session, 0).await.unwrap();
        assert_eq!((people.who(&view), counted()), (Some(user.clone()), Some(user.clone())));
        people.set_profile(&user, Some(&Profile::refusal()), true).await.unwrap();
        assert_eq!(counted(), None);
    });
}

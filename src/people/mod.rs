//! Who a visitor is, what they agreed to, and what is kept about them.
//!
//! Everything that a request does with a person goes through [`People`]: ids become names (as they are, or as keyed hashes), a user
//! becomes the person that all merged users and sessions are, consent decides what is kept and what is looked up, and a person can be listed,
//! exported and erased. Knows no index, no ranking and no HTTP. What is off costs a request an atomic read at most.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;

use crate::digest::{half_hex, hmac_sha256};
use crate::history::gather::{Gathered, gather};
use crate::history::memory::MemoryHistory;
use crate::history::{Actor, Incoming, RecentInteractions};
use crate::interaction::Interaction;
use crate::limits;
use crate::store::{Documents, StoreError, Table};

pub mod consent;
pub mod erase;
mod follows;
pub mod links;
mod merges;
pub mod profile;
pub mod records;
pub mod settings;
pub mod shown;

use consent::Consent;
use links::{LinkError, Links};
use profile::{Profile, ProfileError};
use settings::PeopleSettings;

/// Where the sequences of what is kept in memory only begin, so that they meet none of the store's.
const FLEETING_SEQUENCES: u64 = 1 << 62;

/// Everything that is known about people.
pub struct People {
    history: Arc<dyn RecentInteractions>,
    documents: Arc<dyn Documents>,
    /// What visitors did who agreed to memory only.
    fleeting: MemoryHistory,
    fleeting_used: AtomicBool,
    links: RwLock<Links>,
    linked: AtomicBool,
    /// Users whose standing consent is not full, by name: one for each of the store's profiles that says so, some hundred bytes each. All are here,
    /// since none may be missed.
    restricted: RwLock<HashMap<String, Consent>>,
    restricting: AtomicBool,
    profiles: Cache<String, Option<Arc<Profile>>>,
    /// How many profiles were changed since start. What was read before a change is not put into the cache after it.
    profile_changes: Mutex<u64>,
    profiled: AtomicBool,
    /// Whether anybody may follow anybody.
    following: AtomicBool,
    /// Merges and profiles that did not decode.
    damaged: u64,
    key: Option<Vec<u8>>,
    unmerge_ms: i64,
    /// One change of who is who at a time.
    changing: tokio::sync::Mutex<()>,
}

/// A visitor of one request, resolved.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// The signed-in user, as the person's first name.
    pub user: Option<Actor>,
    /// The session.
    pub session: Option<Actor>,
    /// The person's other names, as many as an answer is made from.
    pub more: Vec<Actor>,
    /// What binds.
    pub consent: Consent,
}

/// What became of interactions that came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// Now kept, on disk or in memory.
    pub accepted: u32,
    /// Kept before.
    pub duplicates: u32,
    /// Not kept, by the visitor's consent.
    pub not_kept: u32,
    /// What a read has to demand to see all of it.
    pub watermark: u64,
}

/// Why something cannot be done with a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeopleError {
    /// A merge, or its undoing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl People {
    /// Reads merges and profiles from the store. May wait for the disk: at start.
    ///
    /// # Errors
    /// The failure of the disk.
    pub fn open(
        settings: &PeopleSettings,
        history: Arc<dyn RecentInteractions>,
        documents: Arc<dyn Documents>,
    ) -> Result<Self, StoreError> {
        let idle = Duration::from_secs(settings.session_idle_seconds);
        let fleeting = MemoryHistory::new(settings.session_cache_mb, settings.session_keep, idle);
        let key = settings.pseudonym_key.bytes();
        let (links, damaged) = records::links(&*documents)?;
        let profiles = records::profiles(&*documents)?;
        let people = Self {
            history,
            fleeting: fleeting.starting_at(FLEETING_SEQUENCES),
            fleeting_used: AtomicBool::new(false),
            links: RwLock::new(links),
            linked: AtomicBool::new(false),
            restricted: RwLock::default(),
            restricting: AtomicBool::new(false),
            profiles: Cache::builder()
                .max_capacity(limits::PROFILES_IN_MEMORY_MAX)
                .weigher(|_: &String, found: &Option<Arc<Profile>>| found.as_ref().map_or(1, |one| one.weight()))
                .build(),
            profile_changes: Mutex::default(),
            profiled: AtomicBool::new(false),
            following: AtomicBool::new(false),
            damaged: damaged + profiles.damaged,
            key: (!key.is_empty()).then(|| key.to_vec()),
            unmerge_ms: i64::from(settings.unmerge_days) * 86_400_000,
            changing: tokio::sync::Mutex::new(()),
            documents,
        };
        people.restricting.store(!profiles.restricted.is_empty(), Ordering::Relaxed);
        *people.restricted.write().unwrap_or_else(PoisonError::into_inner) = profiles.restricted;
        people.profiled.store(profiles.any, Ordering::Relaxed);
        people.following.store(profiles.any_follows, Ordering::Relaxed);
        people.note_links(|_| ());
        Ok(people)
    }

    /// Merges and profiles that did not decode when they were read at start.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// A user under the name that is kept: the id itself, or with a key its keyed hash.
    #[must_use]
    pub fn user(&self, id: &str) -> Actor {
        Actor::user(&self.name("u:", id))
    }

    /// A session under the name that is kept.
    #[must_use]
    pub fn session(&self, id: &str) -> Actor {
        Actor::session(&self.name("s:", id))
    }

    /// Who did something: the person that the user is, else the session, by the first name.
    #[must_use]
    pub fn who(&self, incoming: &Incoming) -> Option<Actor> {
        let session = || incoming.session_id.as_deref().map(|id| self.session(id));
        let name = incoming.user_id.as_deref().map(|id| self.user(id)).or_else(session)?;
        Some(self.root(&name))
    }

    /// Who did what is kept under these names, the user's before the session's; nobody where one of them has refused since.
    #[must_use]
    pub fn counted(&self, names: &[Actor]) -> Option<Actor> {
        let may = names.iter().all(|name| self.standing(name) == Consent::Full);
        names.first().filter(|_| may).map(|first| self.root(first))
    }

    fn name<'a>(&self, space: &str, id: &'a str) -> Cow<'a, str> {
        match &self.key {
            None => Cow::Borrowed(id),
            Some(key) => Cow::Owned(half_hex(&hmac_sha256(key, &[space.as_bytes(), id.as_bytes()]))),
        }
    }

    /// Who asks.
    #[must_use]
    pub fn visitor(&self, user: Option<&str>, session: Option<&str>, consent: Consent) -> Visitor {
        let user = user.map(|id| self.user(id));
        let session = session.map(|id| self.session(id));
        let consent = self.bound(user.as_ref(), session.as_ref(), consent);
        let Some(name) = user.as_ref().filter(|_| self.linked.load(Ordering::Acquire)) else {
            return Visitor { user, session, more: Vec::new(), consent };
        };
        let mut person = self.looked_up(name).into_iter();
        let root = person.next();
        let more = person.filter(|one| Some(one) != session.as_ref()).collect();
        Visitor { user: root, session, more, consent }
    }

    /// The standing consent of the person that a user or session is: the least that stands under any of their names.
    #[must_use]
    pub fn standing(&self, name: &Actor) -> Consent {
        if !self.restricting.load(Ordering::Acquire) {
            return Consent::Full;
        }
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let restricted = self.restricted.read().unwrap_or_else(PoisonError::into_inner);
        let one = |name: &Actor| restricted.get(name.as_str()).copied().unwrap_or_default();
        links.names(name).into_iter().map(one).fold(Consent::Full, Consent::and)
    }

    /// What a visitor has done lately, as far as they agree that it is used, waiting at most `patience`.
    pub async fn gather(&self, visitor: &Visitor, patience: Duration) -> Gathered {
        let (user, session) = (visitor.user.as_ref(), visitor.session.as_ref());
        let began = Instant::now();
        let left = || patience.saturating_sub(began.elapsed());
        let mut gathered = match visitor.consent {
            Consent::None => return Gathered::default(),
            Consent::Session => Gathered::default(),
            Consent::Full => {
                let mut gathered = gather(&*self.history, user, session, patience).await;
                if !visitor.more.is_empty() {
                    gathered.add(&*self.history, visitor.more.iter(), left()).await;
                }
                gathered
            }
        };
        if self.fleeting_used.load(Ordering::Acquire) {
            let all = user.into_iter().chain(session).chain(&visitor.more);
            gathered.add(&self.fleeting, all, left()).await;
        }
        gathered
    }

    /// What binds an interaction: what came with it, and what stands for who did it.
    #[must_use]
    pub fn binding(&self, incoming: &Incoming, consent: Consent) -> Consent {
        if !self.restricting.load(Ordering::Acquire) {
            return consent;
        }
        let user = incoming.user_id.as_deref().map(|id| self.user(id));
        let session = incoming.session_id.as_deref().map(|id| self.session(id));
        self.bound(user.as_ref(), session.as_ref(), consent)
    }

    /// The least of what is said now and of what stands for the user and for the session, which may be merged into somebody else.
    fn bound(&self, user: Option<&Actor>, session: Option<&Actor>, consent: Consent) -> Consent {
        user.into_iter().chain(session).map(|name| self.standing(name)).fold(consent, Consent::and)
    }

    /// Keeps what visitors did, each with what binds it ([`People::binding`]). All of what goes to the store is kept, or none of the batch.
    ///
    /// # Errors
    /// The store's; then nothing was kept.
    pub async fn keep(&self, batch: Vec<(Incoming, Consent)>) -> Result<KeptCounts, StoreError> {
        let mut counts = KeptCounts::default();
        let (mut durable, mut fleeting) = (Vec::with_capacity(batch.len()), Vec::new());
        for (mut incoming, consent) in batch {
            if self.key.is_some() {
                incoming.user_id = incoming.user_id.as_deref().map(|id| self.name("u:", id).into_owned());
                incoming.session_id = incoming.session_id.as_deref().map(|id| self.name("s:", id).into_owned());
            }
            match consent {
                Consent::None => counts.not_kept += 1,
                Consent::Session => fleeting.push(incoming),
                Consent::Full => durable.push(incoming),
            }
        }
        let ack = self.history.append(durable).await?;
        (counts.accepted, counts.duplicates) = (ack.accepted, ack.duplicates);
        counts.watermark = ack.watermark.max(self.history.watermark());
        if !fleeting.is_empty() {
            self.fleeting_used.store(true, Ordering::Release);
            let ack = self.fleeting.append(fleeting).await?;
            counts.accepted += ack.accepted;
            counts.duplicates += ack.duplicates;
        }
        Ok(counts)
    }

    /// Whether everything up to a watermark is in the next read. Waits for it at most `patience`.
    pub async fn reaches(&self, watermark: u64, patience: Duration) -> bool {
        /// How often the store is asked.
        const EVERY: Duration = Duration::from_millis(2);
        let deadline = tokio::time::Instant::now() + patience;
        while self.history.watermark() < watermark {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(EVERY.min(patience)).await;
        }
        true
    }

    /// The name under which what is known of a person is kept.
    fn root(&self, user: &Actor) -> Actor {
        self.links.read().unwrap_or_else(PoisonError::into_inner).root(user).clone()
    }

    /// The names of a person that an answer is made from.
    fn looked_up(&self, user: &Actor) -> Vec<Actor> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).looked_up(user)
    }

    /// All names of a person, the first one first.
    #[must_use]
    pub fn person(&self, user: &Actor) -> Vec<Actor> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).person(user)
    }

    /// What is known about a user beside what they did.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn profile(&self, user: &Actor) -> Result<Option<Arc<Profile>>, StoreError> {
        if !self.profiled.load(Ordering::Acquire) {
            return Ok(None);
        }
        if let Some(found) = self.profiles.get(user.as_str()) {
            return Ok(found);
        }
        let changes = *self.profile_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.documents.get(Table::People, user.as_str()).await?;
        let found = found.map(|value| Arc::new(records::read_profile(&value)));
        let now = self.profile_changes.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == changes {
            self.profiles.insert(user.as_str().to_owned(), found.clone());
        }
        Ok(found)
    }

    /// Lets look-ups see a profile that was written or removed.
    fn cache_profile(&self, user: &Actor, profile: Option<Arc<Profile>>) {
        let mut changes = self.profile_changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.profiles.insert(user.as_str().to_owned(), profile);
    }

    /// Sets what is known about the person that a user is, or removes it. With `decides` its consent is from now on that of all of their names;
    /// without, what was chosen stays, also under other names and where all else is removed. Returns whether anything is other than it was.
    ///
    /// # Errors
    /// A bound, or the store's failure.
    pub async fn set_profile(
        &self,
        user: &Actor,
        profile: Option<&Profile>,
        decides: bool,
    ) -> Result<bool, PeopleError> {
        let _one = self.changing.lock().await;
        self.set_profile_alone(user, profile, decides).await
    }

    /// As [`People::set_profile`], but from what was there before, with nobody changing it meanwhile.
    ///
    /// # Errors
    /// A bound, or the store's failure.
    pub async fn change_profile(
        &self,
        user: &Actor,
        decides: bool,
        change: impl FnOnce(&mut Profile),
    ) -> Result<Profile, PeopleError> {
        let _one = self.changing.lock().await;
        let mut profile = self.profile(&self.root(user)).await?.map(|found| (*found).clone()).unwrap_or_default();
        change(&mut profile);
        self.set_profile_alone(user, Some(&profile), decides).await?;
        Ok(profile)
    }

    async fn set_profile_alone(
        &self,
        user: &Actor,
        profile: Option<&Profile>,
        decides: bool,
    ) -> Result<bool, PeopleError> {
        if let Some(profile) = profile {
            profile.validate()?;
        }
        let user = &self.root(user);
        let before = self.profile(user).await?;
        let mut profile = profile.cloned();
        // Who says nothing of consent takes no refusal back, nor does who removes all else.
        if let (Some(before), false) = (&before, decides) {
            match &mut profile {
                Some(profile) => profile.consent = before.consent,
                None => profile = Profile::refused(before.consent),
            }
        }
        let is_other = before.as_deref() != profile.as_ref();
        let consent = profile.as_ref().map(|profile| profile.consent).unwrap_or_default();
        let follows = profile.as_ref().is_some_and(|profile| !profile.follows.is_empty());
        let mut changed = vec![(user.clone(), profile)];
        // Each name has its own choice, for the day when a merge is taken back.
        for name in self.person(user).into_iter().filter(|name| decides && name != user) {
            let own = self.profile(&name).await?;
            // A session chooses nothing, but may have a refusal that an erasure left it.
            if own.is_none() && !name.is_user() {
                continue;
            }
            let own = own.map(|found| (*found).clone()).unwrap_or_default();
            if own.consent != consent {
                let profile = Profile { consent, ..own };
                changed.push((name, (profile != Profile::default()).then_some(profile)));
            }
        }
        let writes = changed.iter().map(|(name, profile)| records::profile(name, profile.as_ref())).collect();
        self.documents.write(writes).await?;
        self.profiled.store(true, Ordering::Release);
        if follows {
            self.following.store(true, Ordering::Release);
        }
        for (name, profile) in changed {
            self.note_profile(&name, consent);
            self.cache_profile(&name, profile.map(Arc::new));
        }
        Ok(is_other)
    }

    fn note_profile(&self, user: &Actor, consent: Consent) {
        let mut restricted = self.restricted.write().unwrap_or_else(PoisonError::into_inner);
        if consent == Consent::Full {
            restricted.remove(user.as_str());
        } else {
            restricted.insert(user.as_str().to_owned(), consent);
        }
        self.restricting.store(!restricted.is_empty(), Ordering::Release);
    }
}

/// Of what was gathered of a visitor the newest `limit` that the store keeps, oldest first: not what is in memory only, by the visitor's choice.
#[must_use]
pub fn stored(gathered: &Gathered, limit: usize) -> Vec<&Interaction> {
    gathered.union_below(FLEETING_SEQUENCES, &[], limit)
}

#[cfg(test)]
mod tests;

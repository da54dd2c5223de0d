//! Whom users follow: what those did lately, as far as all agree, and the end of it when one of them is erased.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::consent::Consent;
use super::profile::Profile;
use super::{People, Visitor, records};
use crate::history::Actor;
use crate::history::gather::Gathered;
use crate::limits;
use crate::store::{StoreError, Table};

impl People {
    /// A visitor's profile, waiting at most `patience`; none where they do not agree that it is used.
    ///
    /// # Errors
    /// It cannot be had, or not in time.
    pub async fn profile_of(&self, visitor: &Visitor, patience: Duration) -> Result<Option<Arc<Profile>>, StoreError> {
        let Some(user) = visitor.user.as_ref().filter(|_| visitor.consent == Consent::Full) else { return Ok(None) };
        let found = tokio::time::timeout(patience, self.profile(user)).await;
        found.unwrap_or_else(|_| Err(StoreError::timed_out(patience)))
    }

    /// What those have done lately whom a visitor follows, one by one, waiting at most `patience` in all. Only what lies in the store, under the
    /// names of users, of those whose standing consent is full; nothing where the visitor's is less. Where it cannot be had whom, there is one with the failure.
    pub async fn followed(&self, visitor: &Visitor, patience: Duration) -> Vec<Gathered> {
        if !self.following.load(Ordering::Acquire) {
            return Vec::new();
        }
        let deadline = tokio::time::Instant::now() + patience;
        let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
        let profile = match self.profile_of(visitor, patience).await {
            Ok(Some(profile)) => profile,
            Ok(None) => return Vec::new(),
            Err(failure) => return vec![Gathered::failed(failure)],
        };
        let mut all = Vec::with_capacity(profile.follows.len());
        for name in &profile.follows {
            let followed = Actor::user(name);
            // Users first, then sessions.
            let person = self.looked_up(&followed);
            if self.standing(&followed) != Consent::Full || person.first() == visitor.user.as_ref() {
                continue;
            }
            let mut gathered = Gathered::default();
            gathered.add(&*self.history, person.iter().filter(|one| one.is_user()), left()).await;
            all.push(gathered);
        }
        all
    }

    /// Takes a person out of the lists of those who follow them, and says how many there were. Goes over all profiles, so only for an erasure, and
    /// lets others change theirs meanwhile: who says now that they follow the person says it after the erasure was asked for.
    ///
    /// # Errors
    /// The store's failure; some may then follow them still.
    pub(super) async fn unfollow(&self, person: &[Actor]) -> Result<u64, StoreError> {
        let person: Vec<Actor> = person.iter().filter(|one| one.is_user()).cloned().collect();
        if !self.following.load(Ordering::Acquire) || person.is_empty() {
            return Ok(0);
        }
        let (mut removed, mut after) = (0, None);
        loop {
            let page = self.documents.scan(Table::People, after.as_deref(), limits::LISTED_MAX).await?;
            let full = page.len() == limits::LISTED_MAX;
            after = page.last().map(|(key, _)| key.clone());
            let follows = |value: &[u8]| records::read_profile(value).follows.iter().any(|id| is_of(&person, id));
            let followers = page.into_iter().filter(|(_, value)| follows(value));
            let followers = followers.filter_map(|(key, _)| Actor::named(&key)).filter(|user| !person.contains(user));
            removed += self.end_following(followers.collect(), &person).await?;
            if !full {
                return Ok(removed);
            }
        }
    }

    /// Takes a person's users out of the lists of those who were found to follow them, as these lists are now.
    async fn end_following(&self, followers: Vec<Actor>, person: &[Actor]) -> Result<u64, StoreError> {
        if followers.is_empty() {
            return Ok(0);
        }
        let _one = self.changing.lock().await;
        let (mut removed, mut changed) = (0, Vec::new());
        for user in followers {
            let Some(found) = self.profile(&user).await? else { continue };
            let mut profile = (*found).clone();
            profile.follows.retain(|id| !is_of(person, id));
            removed += (found.follows.len() - profile.follows.len()) as u64;
            changed.push((user, profile));
        }
        let writes = changed.iter().map(|(user, profile)| records::profile(user, Some(profile))).collect();
        self.documents.write(writes).await?;
        for (user, profile) in changed {
            self.cache_profile(&user, Some(Arc::new(profile)));
        }
        Ok(removed)
    }
}

/// Whether an id in a list of who is followed is one of these users'.
fn is_of(person: &[Actor], id: &str) -> bool {
    person.iter().any(|one| one.id() == id)
}

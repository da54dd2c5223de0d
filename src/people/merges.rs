//! Merges and their undoing: links in the store and in memory, and the sessions that go where a person has too many names.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::consent::Consent;
use super::links::{Link, LinkError, Links};
use super::profile::Profile;
use super::{People, PeopleError, records};
use crate::history::Actor;
use crate::limits;
use crate::store::StoreError;

impl People {
    /// Merges a user or session into a user. Returns since when they are merged.
    ///
    /// # Errors
    /// A conflict, a bound, or the store's failure.
    pub async fn merge(&self, target: &Actor, source: &Actor, now_ms: i64) -> Result<Link, PeopleError> {
        let _one = self.changing.lock().await;
        let mut linked = self.link(target, source, now_ms);
        if matches!(linked, Err(LinkError::TooMany | LinkError::Full)) {
            self.let_go(target).await?;
            linked = self.link(target, source, now_ms);
        }
        let (link, is_new) = linked?;
        if is_new {
            let written = self.documents.write(vec![records::put_link(source, &link)]).await;
            if let Err(error) = written {
                self.note_links(|links| links.remove(source));
                return Err(error.into());
            }
        }
        self.note_links(|_| ());
        Ok(link)
    }

    /// Links a source to a user in memory, and says whether it was not before.
    fn link(&self, target: &Actor, source: &Actor, now_ms: i64) -> Result<(Link, bool), LinkError> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let before = links.len();
        let link = links.merge(target, source, now_ms)?;
        Ok((link, links.len() > before))
    }

    /// Takes those of a person's oldest sessions out of which nothing is kept any more: whoever lists, exports or erases the person finds as much
    /// without them. What the person refused stays under each, as after an erasure. A session whose refusal the first name does not have stays, since that
    /// binds all.
    async fn let_go(&self, user: &Actor) -> Result<(), StoreError> {
        let mut oldest = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.oldest_sessions(user, limits::SESSIONS_LET_GO_MAX)
        };
        let by_itself = self.chosen(&self.root(user));
        oldest.retain(|session| by_itself.and(self.chosen(session)) == by_itself);
        let mut gone = Vec::new();
        for session in oldest {
            let is_empty = self.history.page(&session, None, 1).await?.is_empty();
            if is_empty && self.fleeting(std::slice::from_ref(&session)).is_empty() {
                gone.push(session);
            }
        }
        if !gone.is_empty() {
            let refused = Profile::refused(self.standing(user));
            self.documents.write(records::leave(&gone, refused.as_ref())).await?;
            self.forget(&gone, refused);
        }
        Ok(())
    }

    /// What was chosen under a name itself.
    fn chosen(&self, name: &Actor) -> Consent {
        let restricted = self.restricted.read().unwrap_or_else(PoisonError::into_inner);
        restricted.get(name.as_str()).copied().unwrap_or_default()
    }

    /// Until when a merge can be undone, milliseconds since 1970.
    #[must_use]
    pub fn reversible_until_ms(&self, link: &Link) -> i64 {
        link.at_ms.saturating_add(self.unmerge_ms)
    }

    /// Takes a merge back.
    ///
    /// # Errors
    /// They are not merged, it is too late, or the store's failure.
    pub async fn unmerge(&self, target: &Actor, source: &Actor, now_ms: i64) -> Result<(), PeopleError> {
        let _one = self.changing.lock().await;
        let may = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.may_unmerge(target, source, now_ms, self.unmerge_ms)
        };
        may?;
        self.documents.write(vec![records::delete_link(source)]).await?;
        self.note_links(|links| links.remove(source));
        Ok(())
    }

    pub(super) fn note_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> T {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut links);
        self.linked.store(!links.is_empty(), Ordering::Release);
        outcome
    }
}

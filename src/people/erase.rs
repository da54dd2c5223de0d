//! Listing, exporting and erasing what is kept about a person.

use std::collections::HashSet;
use std::sync::Arc;

use super::consent::Consent;
use super::profile::Profile;
use super::shown::ShownLog;
use super::{People, PeopleError, records};
use crate::history::{Actor, Kept, Lookup, RecentInteractions};
use crate::interaction::RECOMMENDATION_ID;
use crate::limits;
use crate::store::{StoreError, Write};

/// What was removed of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Interactions of the store.
    pub interactions: u64,
    /// Interactions that were in memory only.
    pub fleeting: u64,
    /// Profiles.
    pub profiles: u64,
    /// Merges.
    pub merges: u64,
    /// Whom the person followed, and who followed the person.
    pub follows: u64,
    /// Entries of the recommendation log.
    pub recommendations: u64,
    /// Whether a choice that nothing be kept, or nothing on disk, is still known: it is what keeps the person out.
    pub refusal_kept: bool,
    /// The first and the last interaction of the store, milliseconds since 1970, if there was any.
    pub span_ms: Option<(i64, i64)>,
}

impl People {
    /// Interactions of several names of one person as one list, newest first, after a place if one is given: at most `limit`, and the place to
    /// go on after, if there may be more.
    ///
    /// # Errors
    /// The failure of the disk.
    pub async fn list(
        &self,
        person: &[Actor],
        before: Option<(i64, u64)>,
        limit: usize,
    ) -> Result<(Vec<Kept>, Option<(i64, u64)>), StoreError> {
        let mut all: Vec<Kept> = Vec::new();
        for actor in person {
            all.extend(self.history.page(actor, before, limit + 1).await?);
            // However many names there are, two pages are in memory.
            newest_first(&mut all);
            all.truncate(limit + 1);
        }
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().filter(|_| more).map(place);
        Ok((all, next))
    }

    /// Interactions of a person that are in memory only, newest first.
    #[must_use]
    pub fn fleeting(&self, person: &[Actor]) -> Vec<Kept> {
        let lists = person.iter().filter_map(|actor| match self.fleeting.recent(actor) {
            Lookup::Ready(list) => Some(list),
            Lookup::Pending(_) | Lookup::Failed(_) => None,
        });
        let mut all: Vec<Kept> = lists.flat_map(|list| list.to_vec()).collect();
        newest_first(&mut all);
        all
    }

    /// Removes everything that is kept about a person, under all of their names. Answered when it is gone from the disk.
    ///
    /// # Errors
    /// The store's failure; then nothing that is on disk was removed, but that lists may be gone that the person was shown, and that some may not
    /// follow the person any more; of one with hundreds of names some may be gone, with all that was kept under them, and of more than
    /// [`limits::ERASED_AT_ONCE`] interactions any. Asked again, it goes on. Or, if it failed at the very end, all was removed but lists named by what
    /// came in meanwhile.
    pub async fn erase(&self, person: &[Actor], shown: &ShownLog) -> Result<Erasure, PeopleError> {
        let mut erasure = Erasure::default();
        let (mut names, mut ids, _one) = loop {
            let names = self.erased_with(person);
            // This goes over all profiles and over all that the person did, and holds nobody up.
            erasure.follows += self.unfollow(&names).await?;
            let (mut ids, count) = self.recommendations_of(&names, &mut erasure).await?;
            erasure.recommendations += shown.remove(&Vec::from_iter(ids.iter().cloned())).await?;
            // So much is not waited for by who merges or refuses.
            if count > limits::ERASED_AT_ONCE {
                for names in names.chunks(NAMES_AT_ONCE) {
                    let late = self.erase_stored(names, &[], shown, &mut ids, &mut erasure).await?;
                    erasure.recommendations += shown.remove(&late).await?;
                }
            }
            let one = self.changing.lock().await;
            // Asked again now that nobody merges.
            if self.erased_with(person) == names {
                break (names, ids, one);
            }
        };
        // Users first, the root before all: they are the names by which somebody asks.
        names.sort_by_key(|name| !name.is_user());
        let person = names.as_slice();
        // Of a session that of the user it is merged into, too: the link goes with it.
        let mut standing = person.first().map_or(Consent::Full, |name| self.standing(name));
        for actor in person {
            if let Some(profile) = self.profile(actor).await? {
                erasure.profiles += 1;
                erasure.follows += profile.follows.len() as u64;
                standing = standing.and(profile.consent);
            }
        }
        // Under all names, since nothing says any more that they are one person.
        let left = Profile::refused(standing);
        erasure.refusal_kept = left.is_some();
        // What one name has refused binds all of them, also where it is gone and the rest is not.
        if let (Some(left), Some(first)) = (&left, person.first().filter(|_| person.len() > NAMES_AT_ONCE)) {
            self.documents.write(vec![records::profile(first, Some(left))]).await?;
            self.note_profile(first, left.consent);
            self.cache_profile(first, Some(Arc::new(left.clone())));
        }
        // Names before those that they are merged into, and users last: where a part fails, what is left is found from the first name, and from each user
        // that goes in the last part.
        for names in person.chunks(NAMES_AT_ONCE).rev() {
            let documents = records::leave(names, left.as_ref());
            let mut late = self.erase_stored(names, &documents, shown, &mut ids, &mut erasure).await?;
            let fleeting = self.fleeting.erase(names.to_vec(), Vec::new()).await?;
            erasure.fleeting += fleeting.interactions;
            erasure.merges += self.forget(names, left.clone());
            // Named by what came in since they were read, or was in memory only.
            late.extend(fleeting.recommendations.into_iter().filter(|id| ids.insert(id.clone())));
            if !late.is_empty() {
                erasure.recommendations += shown.remove(&late).await?;
            }
        }
        Ok(erasure)
    }

    /// Removes what the store keeps of these names, part by part, with the lists that it names and that are not among `ids`; of the last part it
    /// returns those. Documents change with that part.
    async fn erase_stored(
        &self,
        names: &[Actor],
        documents: &[Write],
        shown: &ShownLog,
        ids: &mut HashSet<String>,
        erasure: &mut Erasure,
    ) -> Result<Vec<String>, StoreError> {
        loop {
            let erased = self.history.erase(names.to_vec(), documents.to_vec()).await?;
            erasure.interactions += erased.interactions;
            let late: Vec<String> = erased.recommendations.into_iter().filter(|id| ids.insert(id.clone())).collect();
            if !erased.more {
                return Ok(late);
            }
            if !late.is_empty() {
                erasure.recommendations += shown.remove(&late).await?;
            }
        }
    }

    /// The names that are erased with the first of a person's: a user goes with all names, a session by itself.
    fn erased_with(&self, person: &[Actor]) -> Vec<Actor> {
        person.first().filter(|first| first.is_user()).map_or_else(|| person.to_vec(), |user| self.person(user))
    }

    /// The recommendations that a person's interactions name, how many interactions these are, and their span.
    async fn recommendations_of(
        &self,
        person: &[Actor],
        erasure: &mut Erasure,
    ) -> Result<(HashSet<String>, usize), StoreError> {
        let (mut ids, mut count) = (HashSet::new(), 0);
        for name in person {
            let mut before = None;
            loop {
                let (page, next) = self.list(std::slice::from_ref(name), before, limits::LISTED_MAX).await?;
                count += page.len();
                for kept in &page {
                    let at = kept.interaction.occurred_at_ms;
                    let (first, last) = erasure.span_ms.unwrap_or((at, at));
                    erasure.span_ms = Some((first.min(at), last.max(at)));
                    ids.extend(kept.interaction.context.get(RECOMMENDATION_ID).cloned());
                }
                before = next;
                if before.is_none() {
                    break;
                }
            }
        }
        Ok((ids, count))
    }

    /// Brings what is in memory up to a change that has left each name nothing, or a profile that says no more than what the person refused. Says how
    /// many merges went.
    pub(super) fn forget(&self, names: &[Actor], left: Option<Profile>) -> u64 {
        // Refusals first: between the two every name is bound by itself already.
        let consent = left.as_ref().map(|left| left.consent).unwrap_or_default();
        names.iter().for_each(|name| self.note_profile(name, consent));
        let merges = self.note_links(|links| {
            let before = links.len();
            names.iter().rev().for_each(|name| links.remove(name));
            before - links.len()
        });
        let left = left.map(Arc::new);
        names.iter().for_each(|name| self.cache_profile(name, left.clone()));
        merges as u64
    }
}

/// Names that are erased in one transaction. No queue of the store is too small for them with the profile and the merge of each.
const NAMES_AT_ONCE: usize = 250;

const _: () = assert!(3 * NAMES_AT_ONCE <= limits::BATCH_INTERACTIONS_MAX);

/// The place of an interaction in a list.
fn place(kept: &Kept) -> (i64, u64) {
    (kept.interaction.occurred_at_ms, kept.sequence)
}

/// One list of those of several names: an interaction of a user in a session is in the lists of both, and is one.
fn newest_first(all: &mut Vec<Kept>) {
    all.sort_by_key(|kept| std::cmp::Reverse(place(kept)));
    all.dedup_by_key(|kept| kept.sequence);
}

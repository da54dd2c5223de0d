//! Who is the same person: users and sessions merged into users, so that it can be undone.
//!
//! A merge moves nothing. It is a link from a source to a user, and a person is everything that can be reached over links; what each source has
//! done stays under its own name, so taking the link away leaves everything as it would have been.
//!
//! | case | what happens |
//! |---|---|
//! | the same merge again | nothing, and it is said to have been merged at the first time |
//! | a source that is merged into another user | refused: it has to be unmerged first |
//! | a user into itself, or into someone who is merged into it | refused: nobody would be left |
//! | a source that has sources of its own | they come along, and go along when it is unmerged |
//! | a person with too many names | the oldest sessions of which nothing is kept any more go; a new one is refused if there is none |
//! | a session that is asked about by itself | stays by itself: who holds a session need not be the user |
//! | a user that is merged and asked about by its old name | is the person |

use std::cmp::Reverse;
use std::collections::HashMap;

use thiserror::Error;

use crate::history::Actor;
use crate::limits;

/// Where a source has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The user it was merged into.
    pub target: Actor,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// Why a merge or its undoing is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The source belongs to another user.
    #[error("the source is merged into another user: unmerge it there first")]
    Taken,
    /// Source and target are, or would be, the same person at both ends.
    #[error("the target is the source, or is merged into it: merge the other way round, or unmerge first")]
    Circle,
    /// The person would have too many names.
    #[error(
        "a person may be known by {most} users and sessions, and of the oldest sessions something is still kept: unmerge one, or erase a session that is over (DELETE /v1/sessions/{{id}}/data)",
        most = limits::MERGED_MAX
    )]
    TooMany,
    /// There are too many merges in all.
    #[error(
        "{most} users and sessions are merged, which is the most that are kept: erase sessions that are over (DELETE /v1/sessions/{{id}}/data)",
        most = limits::MERGES_MAX
    )]
    Full,
    /// The source is not merged into this user.
    #[error("the source is not merged into this user: check both ids")]
    NotMerged,
    /// The time in which it could be undone is over.
    #[error("the merge is older than people.unmerge_days, after which it is final")]
    Final,
}

/// All merges.
#[derive(Clone, Debug, Default)]
pub struct Links {
    of: HashMap<Actor, Link>,
    sources: HashMap<Actor, Vec<Actor>>,
}

impl Links {
    /// Merges that stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Where a user or session has gone, if it has.
    #[must_use]
    pub fn link(&self, source: &Actor) -> Option<&Link> {
        self.of.get(source)
    }

    /// The user at the end of the links of a user; itself if it is merged into nobody.
    #[must_use]
    pub fn root<'a>(&'a self, user: &'a Actor) -> &'a Actor {
        let mut at = user;
        // Circles are refused, so this ends; the bound is for a table that someone else has written.
        for _ in 0..limits::MERGED_MAX {
            let Some(link) = self.of.get(at) else { break };
            at = &link.target;
        }
        at
    }

    /// Everyone that is the same person as a user: the root first, then what is merged into it, then what is merged into that.
    #[must_use]
    pub fn person(&self, user: &Actor) -> Vec<Actor> {
        self.names(user).into_iter().cloned().collect()
    }

    /// [`Links::person`] without a copy.
    pub(super) fn names<'a>(&'a self, user: &'a Actor) -> Vec<&'a Actor> {
        let root = self.root(user);
        let (mut all, mut at) = (vec![root], 0);
        while let Some(one) = all.get(at).copied() {
            let sources = self.sources.get(one).into_iter().flatten();
            // A source has one target, so only a circle comes back, and to where it began: in a table that someone else has written.
            all.extend(sources.filter(|source| *source != root));
            at += 1;
        }
        all
    }

    /// Of a person the names that an answer is made from: the root, the other users, and the newest sessions, at most
    /// [`limits::NAMES_LOOKED_UP_MAX`].
    #[must_use]
    pub fn looked_up(&self, user: &Actor) -> Vec<Actor> {
        let mut names = self.names(user);
        if names.len() > limits::NAMES_LOOKED_UP_MAX {
            let newest = |name: &&Actor| Reverse(self.of.get(*name).map_or(i64::MAX, |link| link.at_ms));
            names.sort_by_cached_key(|name| (!name.is_user(), newest(name)));
            names.truncate(limits::NAMES_LOOKED_UP_MAX);
        }
        names.into_iter().cloned().collect()
    }

    /// The sessions of a person that were merged first, the oldest first.
    #[must_use]
    pub fn oldest_sessions(&self, user: &Actor, most: usize) -> Vec<Actor> {
        let sessions = self.names(user).into_iter().filter(|name| !name.is_user());
        let mut sessions: Vec<(i64, &Actor)> =
            sessions.filter_map(|session| Some((self.of.get(session)?.at_ms, session))).collect();
        sessions.sort_unstable();
        sessions.into_iter().take(most).map(|(_, session)| session.clone()).collect()
    }

    /// Merges a source into a user. Returns the link, which is an older one if they are merged already.
    ///
    /// # Errors
    /// A conflict of the table above, or a bound.
    pub fn merge(&mut self, target: &Actor, source: &Actor, at_ms: i64) -> Result<Link, LinkError> {
        if let Some(link) = self.of.get(source) {
            return if link.target == *target { Ok(link.clone()) } else { Err(LinkError::Taken) };
        }
        if self.root(target) == source {
            return Err(LinkError::Circle);
        }
        // Nobody has the source, so its names are those that come along with it.
        if self.names(target).len() + self.names(source).len() > limits::MERGED_MAX {
            return Err(LinkError::TooMany);
        }
        if self.of.len() >= limits::MERGES_MAX {
            return Err(LinkError::Full);
        }
        let link = Link { target: target.clone(), at_ms };
        self.insert(source.clone(), link.clone());
        Ok(link)
    }

    /// Puts a link in, as it was read from a store.
    pub fn insert(&mut self, source: Actor, link: Link) {
        self.sources.entry(link.target.clone()).or_default().push(source.clone());
        self.of.insert(source, link);
    }

    /// Whether a merge may be undone now.
    ///
    /// # Errors
    /// They are not merged, or the time is over.
    pub fn may_unmerge(&self, target: &Actor, source: &Actor, now_ms: i64, within_ms: i64) -> Result<(), LinkError> {
        let link = self.of.get(source).filter(|link| link.target == *target).ok_or(LinkError::NotMerged)?;
        if now_ms.saturating_sub(link.at_ms) > within_ms { Err(LinkError::Final) } else { Ok(()) }
    }

    /// Takes a link away, if there is one.
    pub fn remove(&mut self, source: &Actor) {
        let Some(link) = self.of.remove(source) else { return };
        if let Some(sources) = self.sources.get_mut(&link.target) {
            if let Some(at) = sources.iter().rposition(|one| one == source) {
                sources.remove(at);
            }
            if sources.is_empty() {
                self.sources.remove(&link.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Merge(u8, u8),
        Unmerge(u8, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (any::<bool>(), 0..8_u8, 0..8_u8);
        let step = step.prop_map(|(merge, a, b)| if merge { Step::Merge(a, b) } else { Step::Unmerge(a, b) });
        prop::collection::vec(step, 0..40)
    }

    /// Numbers below 6 are users, the others are sessions, which can only be sources.
    fn actor(n: u8) -> Actor {
        if n < 6 { Actor::user(&n.to_string()) } else { Actor::session(&n.to_string()) }
    }

    /// The plain reference: a list of pairs, walked until nothing is new.
    fn connected(pairs: &BTreeMap<u8, u8>, start: u8) -> BTreeSet<u8> {
        let mut all = BTreeSet::from([start]);
        loop {
            let new: Vec<u8> = pairs
                .iter()
                .flat_map(|(source, target)| [(*source, *target), (*target, *source)])
                .filter(|(from, to)| all.contains(from) && !all.contains(to))
                .map(|(_, to)| to)
                .collect();
            if new.is_empty() {
                return all;
            }
            all.extend(new);
        }
    }

    proptest! {
        #[test]
        fn persons_are_those_of_the_plain_reference(steps in steps()) {
            let mut links = Links::default();
            let mut pairs: BTreeMap<u8, u8> = BTreeMap::new();
            for (at_ms, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Merge(target, source) if target < 6 => {
                        let outcome = links.merge(&actor(target), &actor(source), at_ms as i64);
                        let expected = match pairs.get(&source) {
                            Some(other) if *other == target => Ok(()),
                            Some(_) => Err(LinkError::Taken),
                            // Every person is a tree, so a circle closes exactly where both ends are one person already.
                            None if connected(&pairs, source).contains(&target) => Err(LinkError::Circle),
                            None => Ok(()),
                        };
                        prop_assert_eq!(outcome.map(|_| ()), expected.clone());
                        if expected.is_ok() {
                            pairs.insert(source, target);
                        }
                    }
                    Step::Unmerge(target, source) if target < 6 => {
                        let may = links.may_unmerge(&actor(target), &actor(source), at_ms as i64, i64::MAX);
                        prop_assert_eq!(may.is_ok(), pairs.get(&source) == Some(&target));
                        if may.is_ok() {
                            links.remove(&actor(source));
                            pairs.remove(&source);
                        }
                    }
                    _ => {}
                }
                for user in 0..6 {
                    let person: BTreeSet<Actor> = links.person(&actor(user)).into_iter().collect();
                    let expected: BTreeSet<Actor> = connected(&pairs, user).into_iter().map(actor).collect();
                    prop_assert_eq!(&person, &expected);
                    prop_assert!(links.link(links.root(&actor(user))).is_none());
                }
                prop_assert_eq!(links.len(), pairs.len());
            }
        }
    }

    #[test]
    fn a_merge_is_final_after_its_time() {
        let mut links = Links::default();
        let (user, session) = (Actor::user("u"), Actor::session("s"));
        links.merge(&user, &session, 1_000).unwrap();
        assert_eq!(links.merge(&user, &session, 9_000).unwrap().at_ms, 1_000, "the first time counts");
        assert_eq!(links.may_unmerge(&user, &session, 1_500, 500), Ok(()));
        assert_eq!(links.may_unmerge(&user, &session, 1_501, 500), Err(LinkError::Final));
        assert_eq!(links.may_unmerge(&Actor::user("x"), &session, 0, 500), Err(LinkError::NotMerged));
    }

    #[test]
    fn a_person_has_a_bounded_number_of_names() {
        let mut links = Links::default();
        let user = Actor::user("u");
        let one = |n: usize| Actor::session(&n.to_string());
        assert!((1..limits::MERGED_MAX).all(|n| links.merge(&user, &one(n), 0).is_ok()));
        let error = links.merge(&user, &one(limits::MERGED_MAX), 0).unwrap_err();
        assert_eq!((error.clone(), links.person(&user).len()), (LinkError::TooMany, limits::MERGED_MAX));
        let said = error.to_string();
        let parts = ["by 1000 users and sessions", "DELETE /v1/sessions/{id}/data"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }

    #[test]
    fn an_answer_looks_at_all_users_of_a_person_and_at_the_newest_sessions() {
        let mut links = Links::default();
        let (user, old) = (Actor::user("u"), Actor::user("old"));
        links.merge(&user, &old, 0).unwrap();
        let session = |n: usize| Actor::session(&n.to_string());
        // Some were merged into the other account; what was merged last was not always put in last.
        let days = 2 * limits::NAMES_LOOKED_UP_MAX;
        let merges = (0..days).rev().map(|day| (if day % 2 == 0 { &user } else { &old }, day));
        merges.for_each(|(target, day)| drop(links.merge(target, &session(day), day as i64 + 1).unwrap()));
        let looked_up = links.looked_up(&old);
        assert_eq!(looked_up[..3], [user.clone(), old.clone(), session(days - 1)]);
        assert_eq!(looked_up.last(), Some(&session(days + 2 - limits::NAMES_LOOKED_UP_MAX)));
        assert_eq!(looked_up.len(), limits::NAMES_LOOKED_UP_MAX);
        assert_eq!(links.person(&old).len(), days + 2);
        assert_eq!(links.oldest_sessions(&user, 2), [session(0), session(1)]);
    }

    #[test]
    fn a_circle_that_someone_else_has_written_ends() {
        let mut links = Links::default();
        let [a, b, c] = ["a", "b", "c"].map(Actor::user);
        for (source, target) in [(&a, &b), (&b, &a), (&c, &a)] {
            links.insert(source.clone(), Link { target: target.clone(), at_ms: 0 });
        }
        assert_eq!(links.person(&c).len(), 3);
    }
}

//! How merges and profiles lie in the store: JSON under the name of the user or session.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::consent::Consent;
use super::links::{Link, Links};
use super::profile::Profile;
use crate::history::Actor;
use crate::limits;
use crate::store::{Documents, StoreError, Table, Write};

/// A merge as it lies in the table `merges`, under the source's name.
#[derive(Debug, Serialize, Deserialize)]
struct LinkRecord {
    target: String,
    at_ms: i64,
}

/// All merges of a store, and how many do not decode. Those are left out.
pub(super) fn links(documents: &dyn Documents) -> Result<(Links, u64), StoreError> {
    let (mut links, mut damaged) = (Links::default(), 0_u64);
    each(documents, Table::Merges, |key, value| match read_link(key, &value) {
        Some((source, link)) => links.insert(source, link),
        None => damaged += 1,
    })?;
    // How many, and not whose: the log is no place for the names of people.
    if damaged > 0 {
        tracing::warn!(
            damaged,
            "merges that do not decode are left out: `kindred fsck` names them, merge these users and sessions again"
        );
    }
    Ok((links, damaged))
}

/// A merge as it lies in the store: who was merged, and where they have gone; none if that cannot be read.
#[must_use]
pub fn read_link(key: &str, value: &[u8]) -> Option<(Actor, Link)> {
    let record = serde_json::from_slice::<LinkRecord>(value).ok()?;
    Some((Actor::named(key)?, Link { target: Actor::named(&record.target)?, at_ms: record.at_ms }))
}

/// What is to be known of all profiles at start.
#[derive(Default)]
pub(super) struct Profiles {
    /// Users whose standing consent is not full.
    pub(super) restricted: HashMap<String, Consent>,
    /// Whether there is any profile.
    pub(super) any: bool,
    /// Whether anybody follows anybody.
    pub(super) any_follows: bool,
    /// How many do not decode.
    pub(super) damaged: u64,
}

/// Goes over all profiles.
pub(super) fn profiles(documents: &dyn Documents) -> Result<Profiles, StoreError> {
    let mut all = Profiles::default();
    each(documents, Table::People, |key, value| {
        all.any = true;
        let profile = decoded(&value).unwrap_or_else(|| {
            all.damaged += 1;
            Profile::refusal()
        });
        all.any_follows |= !profile.follows.is_empty();
        if profile.consent != Consent::Full {
            all.restricted.insert(key.to_owned(), profile.consent);
        }
    })?;
    if all.damaged > 0 {
        tracing::warn!(
            damaged = all.damaged,
            "profiles that do not decode count as refusals until consent is set anew: `kindred fsck` names them"
        );
    }
    Ok(all)
}

/// A profile as it lies in the store. One that cannot be read may have been a refusal, and is taken for one until it is set anew.
pub(super) fn read_profile(value: &[u8]) -> Profile {
    decoded(value).unwrap_or_else(Profile::refusal)
}

fn decoded(value: &[u8]) -> Option<Profile> {
    serde_json::from_slice(value).ok()
}

fn each(documents: &dyn Documents, table: Table, mut visit: impl FnMut(&str, Vec<u8>)) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let page = documents.blocking_scan(table, after.as_deref(), limits::LISTED_MAX)?;
        let full = page.len() == limits::LISTED_MAX;
        after = page.last().map(|(key, _)| key.clone());
        page.into_iter().for_each(|(key, value)| visit(&key, value));
        if !full {
            return Ok(());
        }
    }
}

pub(super) fn put_link(source: &Actor, link: &Link) -> Write {
    let record = LinkRecord { target: link.target.as_str().to_owned(), at_ms: link.at_ms };
    Write::put(Table::Merges, source.as_str(), serde_json::to_vec(&record).unwrap_or_default())
}

pub(super) fn delete_link(source: &Actor) -> Write {
    Write::delete(Table::Merges, source.as_str())
}

/// All that is left of names: nothing, or what was refused.
pub(super) fn leave(names: &[Actor], refused: Option<&Profile>) -> Vec<Write> {
    names.iter().flat_map(|name| [profile(name, refused), delete_link(name)]).collect()
}

pub(super) fn profile(user: &Actor, profile: Option<&Profile>) -> Write {
    match profile {
        Some(profile) => Write::put(Table::People, user.as_str(), serde_json::to_vec(profile).unwrap_or_default()),
        None => Write::delete(Table::People, user.as_str()),
    }
}

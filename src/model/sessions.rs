//! Sessions of the training part as a model keeps them, for session-kNN: which items a session had, and which sessions an item.

use std::io::{self, Write};

use kindred_index::{Container, ContainerWriter, WriteError};

use super::layout::section::{self, Section};
use super::{ModelError, ModelWriteError};
use crate::limits;
use crate::manifest::SessionLikeness;

/// Sessions of the training part, the oldest first, end to end.
#[derive(Clone, Copy, Debug)]
pub struct SessionsData<'a> {
    /// Where each session begins among the items, and where the last one ends: one more than there are sessions.
    pub offsets: &'a [u32],
    /// Ordinals; no session has one twice.
    pub items: &'a [u32],
}

/// The sessions of a model, borrowed for the length of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionsView<'a> {
    n_items: u32,
    likeness: SessionLikeness,
    offsets: &'a [u32],
    items: &'a [u32],
    postings_offsets: &'a [u32],
    postings: &'a [u32],
}

impl<'a> SessionsView<'a> {
    /// The sections of a model file; empty where it has none.
    pub(super) fn of<D: AsRef<[u8]>>(data: &'a Container<D>, n_items: u32, likeness: SessionLikeness) -> Self {
        Self {
            n_items,
            likeness,
            offsets: section::words(data, section::SESSION_OFFSETS),
            items: section::words(data, section::SESSION_ITEMS),
            postings_offsets: section::words(data, section::ITEM_SESSION_OFFSETS),
            postings: section::words(data, section::ITEM_SESSIONS),
        }
    }

    /// Number of items that may be in them.
    pub fn n_items(&self) -> u32 {
        self.n_items
    }

    /// How they are compared with a visitor's.
    pub fn likeness(&self) -> SessionLikeness {
        self.likeness
    }

    /// Number of sessions.
    pub fn len(&self) -> u32 {
        self.offsets.len().saturating_sub(1) as u32
    }

    /// Whether the model keeps none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items of a session; none of one that there is not. Ordinals out of range may be among them until the model is verified.
    pub fn items(&self, session: u32) -> &'a [u32] {
        slice(self.offsets, self.items, session)
    }

    /// The most recent sessions with an item, the newest first: at most [`limits::SESSIONS_PER_ITEM_MAX`].
    pub fn with_item(&self, ordinal: u32) -> &'a [u32] {
        slice(self.postings_offsets, self.postings, ordinal)
    }

    /// Reads every value: offsets ascend and end where the arrays do, ordinals and sessions exist.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        if self.is_empty() && self.postings.is_empty() {
            return Ok(());
        }
        let tables = [
            (section::SESSION_OFFSETS, self.offsets, self.items, self.n_items),
            (section::ITEM_SESSION_OFFSETS, self.postings_offsets, self.postings, self.len()),
        ];
        for (section, offsets, values, below) in tables {
            let wrong = |found| ModelError::Value { section: section.kind, name: section.name, ordinal: 0, found };
            if !are_offsets(offsets, values) {
                return Err(wrong("offsets that do not ascend from 0 to the length of their table"));
            }
            if values.iter().any(|value| *value >= below) {
                return Err(wrong("a value beyond the last item or session"));
            }
        }
        // Requests go over all of them.
        let most = limits::SESSIONS_PER_ITEM_MAX;
        match (0..self.n_items).find(|ordinal| self.with_item(*ordinal).len() > most) {
            None => Ok(()),
            Some(ordinal) => {
                let Section { kind, name } = section::ITEM_SESSIONS;
                Err(ModelError::Value { section: kind, name, ordinal, found: "more sessions than are kept of an item" })
            }
        }
    }
}

/// Whether offsets ascend from 0 to the number of values.
fn are_offsets(offsets: &[u32], values: &[u32]) -> bool {
    let ends = offsets.first() == Some(&0) && offsets.last().map(|last| *last as usize) == Some(values.len());
    ends && offsets.is_sorted()
}

fn slice<'a>(offsets: &[u32], values: &'a [u32], at: u32) -> &'a [u32] {
    let offset = |at: usize| offsets.get(at).map(|offset| *offset as usize);
    let range = offset(at as usize).zip(offset(at as usize + 1));
    range.and_then(|(from, to)| values.get(from..to)).unwrap_or_default()
}

impl SessionsData<'_> {
    /// How many sections they make.
    pub(super) const N_SECTIONS: u32 = 4;

    /// Checks what a caller could get wrong.
    pub(super) fn validate(&self, n_items: u32) -> Result<(), ModelWriteError> {
        let wrong = |found| Err(ModelWriteError::Value { array: "sessions", ordinal: 0, found });
        if !are_offsets(self.offsets, self.items) {
            return wrong("offsets that do not ascend from 0 to the number of items");
        }
        if self.items.iter().any(|item| *item >= n_items) {
            return wrong("an item that is not of this model");
        }
        Ok(())
    }

    /// Writes the sessions, and for each item the most recent ones with it.
    pub(super) fn write<W: Write + io::Seek>(
        &self,
        n_items: u32,
        container: &mut ContainerWriter<W>,
    ) -> Result<(), WriteError> {
        let (offsets, postings) = self.by_item(n_items);
        let tables: [(Section, &[u32]); 4] = [
            (section::SESSION_OFFSETS, self.offsets),
            (section::SESSION_ITEMS, self.items),
            (section::ITEM_SESSION_OFFSETS, &offsets),
            (section::ITEM_SESSIONS, &postings),
        ];
        for (section, words) in tables {
            let write = |into: &mut dyn Write| words.iter().try_for_each(|word| into.write_all(&word.to_le_bytes()));
            container.section(section.kind, write)?;
        }
        Ok(())
    }

    /// Offsets and sessions by item, the newest first. Two passes, and a word an entry.
    fn by_item(&self, n_items: u32) -> (Vec<u32>, Vec<u32>) {
        let mut counts = vec![0_usize; n_items as usize];
        for item in self.items {
            if let Some(count) = counts.get_mut(*item as usize) {
                *count = (*count + 1).min(limits::SESSIONS_PER_ITEM_MAX);
            }
        }
        let mut offsets = vec![0_u32];
        let mut end = 0;
        for count in &counts {
            end += *count as u32;
            offsets.push(end);
        }
        let mut next: Vec<u32> = offsets.clone();
        let mut postings = vec![0_u32; end as usize];
        let sessions = self.offsets.len().saturating_sub(1) as u32;
        for session in (0..sessions).rev() {
            for item in slice(self.offsets, self.items, session) {
                let at = *item as usize;
                let (Some(place), Some(end)) = (next.get_mut(at), offsets.get(at + 1)) else { continue };
                if *place < *end
                    && let Some(into) = postings.get_mut(*place as usize)
                {
                    *into = session;
                    *place += 1;
                }
            }
        }
        (offsets, postings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_more_sessions_than_are_kept_is_refused() {
        let verified = |sessions: usize| {
            let postings = vec![0; sessions];
            let view = SessionsView {
                n_items: 2,
                offsets: &[0, 1],
                items: &[1],
                postings_offsets: &[0, 0, sessions as u32],
                postings: &postings,
                ..SessionsView::default()
            };
            view.check()
        };
        verified(limits::SESSIONS_PER_ITEM_MAX).unwrap();
        let refused = verified(limits::SESSIONS_PER_ITEM_MAX + 1);
        assert!(matches!(refused, Err(ModelError::Value { ordinal: 1, .. })), "{refused:?}");
    }

    #[test]
    fn the_newest_sessions_of_an_item_come_first_and_old_ones_are_dropped() {
        let most = limits::SESSIONS_PER_ITEM_MAX as u32;
        let items: Vec<u32> = (0..most + 2).flat_map(|session| [0, 1 + session % 2]).collect();
        let offsets: Vec<u32> = (0..=most + 2).map(|session| 2 * session).collect();
        let (starts, postings) = SessionsData { offsets: &offsets, items: &items }.by_item(4);
        let of = |item: usize| &postings[starts[item] as usize..starts[item + 1] as usize];
        assert_eq!(of(0).to_vec(), (2..most + 2).rev().collect::<Vec<_>>());
        assert_eq!(of(1)[..3], [most, most - 2, most - 4]);
        assert!(of(3).is_empty());
    }
}

//! Which rows of a batch used which item as context, and which items are scored: the way back of the gradients.

/// No place among the scored items.
const NOWHERE: u32 = u32::MAX;

/// For each item, where it was used in a batch.
#[derive(Debug)]
pub(super) struct Inverse {
    /// Where the uses of an item begin; one more than there are items.
    starts: Vec<u32>,
    /// Where the next use of an item goes, while they are filled in.
    cursors: Vec<u32>,
    /// Row of the batch and weight of the item in it, by item.
    uses: Vec<(u32, f32)>,
    /// Place of an item among the scored ones.
    places: Vec<u32>,
}

impl Inverse {
    /// Of no batch yet.
    pub(super) fn new(n_items: usize) -> Self {
        Self { starts: vec![0; n_items + 1], cursors: Vec::new(), uses: Vec::new(), places: vec![NOWHERE; n_items] }
    }

    /// All items are scored, in their own order.
    pub(super) fn score_all(&mut self) {
        self.places.iter_mut().zip(0..).for_each(|(place, item)| *place = item);
    }

    /// These items are scored, in this order; `before` are those that were, none if all were.
    pub(super) fn score(&mut self, before: Option<&[u32]>, now: &[u32]) {
        match before {
            None => self.places.fill(NOWHERE),
            Some(before) => {
                for item in before {
                    if let Some(place) = self.places.get_mut(*item as usize) {
                        *place = NOWHERE;
                    }
                }
            }
        }
        for (item, at) in now.iter().zip(0..) {
            if let Some(place) = self.places.get_mut(*item as usize) {
                *place = at;
            }
        }
    }

    /// Fills in the uses of a batch, given as (row, item, weight) in order of rows. A counting sort.
    pub(super) fn fill(&mut self, uses: impl Iterator<Item = (u32, u32, f32)> + Clone) {
        self.starts.fill(0);
        let mut n = 0;
        for (_, item, _) in uses.clone() {
            if let Some(start) = self.starts.get_mut(item as usize) {
                *start += 1;
                n += 1;
            }
        }
        let mut end = 0;
        for start in &mut self.starts {
            let count = *start;
            *start = end;
            end += count;
        }
        self.uses.clear();
        self.uses.resize(n, (0, 0.0));
        self.cursors.clone_from(&self.starts);
        for (row, item, weight) in uses {
            let Some(cursor) = self.cursors.get_mut(item as usize) else { continue };
            if let Some(slot) = self.uses.get_mut(*cursor as usize) {
                *slot = (row, weight);
            }
            *cursor += 1;
        }
    }

    /// Rows that used an item, in order, each with the item's weight in it.
    #[inline(always)]
    pub(super) fn uses(&self, item: usize) -> &[(u32, f32)] {
        match self.starts.get(item..item + 2) {
            Some(&[from, to]) => self.uses.get(from as usize..to as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Place of an item among the scored ones, if it is.
    #[inline(always)]
    pub(super) fn place(&self, item: usize) -> Option<usize> {
        self.places.get(item).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }
}

//! What is known about a visitor, in the form that scoring needs: anchors with shares, and their sum as a vector.

use std::borrow::Cow;

use kindred_index::Row;

use super::Fallback;
use super::aspects::{Aspect, Aspects};
use super::sessions::SimilarSessions;
use crate::model::{ModelView, SessionsView};
use crate::user_vector::{Weighted, user_vector_into};

/// Which rows of the anchors make the vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rows {
    /// Context rows: anchors are interactions, the vector part is a dot product.
    #[default]
    Context,
    /// Target rows at unit length: anchors are seeds, the vector part is a cosine.
    UnitTarget,
}

/// One past interaction, or one seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    pub(super) ordinal: u32,
    /// Its place in the history, or among the items, that the request gave.
    pub(super) index: u32,
    /// Its weight divided by the sum of the absolute weights of all.
    pub(super) share: f64,
}

/// Anchors, most recent first, and their weighted mean.
#[derive(Debug, Default)]
pub(super) struct Taste {
    rows: Rows,
    /// Whether the anchors are items that the request named, and no interactions.
    of_seeds: bool,
    anchors: Vec<Anchor>,
    /// Those of them that speak for their items: the vector lies near these.
    entries: Vec<u32>,
    exact: Vec<f64>,
    vector: Vec<f32>,
    /// Several tastes, where they are told apart.
    aspects: Aspects,
    /// Found where sessions weigh something.
    similar: SimilarSessions,
}

impl Taste {
    /// Looks for sessions that resemble the visitor's; leaves none where they weigh nothing.
    pub(super) fn find_sessions(&mut self, view: &SessionsView<'_>, weight: f32) {
        self.similar.clear();
        if weight > 0.0 && !view.is_empty() {
            self.similar.find(view, &self.anchors);
        }
    }

    /// The sessions that resemble the visitor's.
    pub(super) fn similar_sessions(&self) -> &SimilarSessions {
        &self.similar
    }

    /// The taste that a weighed history shows.
    pub(super) fn set_history(&mut self, view: &ModelView<'_>, weighted: &[Weighted]) {
        self.rows = Rows::Context;
        self.of_seeds = false;
        self.aspects.clear();
        self.anchors.clear();
        user_vector_into(weighted, |ordinal| view.context_row(ordinal), &mut self.exact, &mut self.vector);
        let known = || weighted.iter().filter(|one| one.ordinal < view.len());
        let total: f64 = known().map(|one| f64::from(one.weight.abs())).sum();
        let anchor =
            |one: &Weighted| Anchor { ordinal: one.ordinal, index: one.index, share: f64::from(one.weight) / total };
        self.anchors.extend(known().map(anchor));
        self.note_entries();
    }

    fn note_entries(&mut self) {
        self.entries.clear();
        add_liked(self.anchors.iter(), &mut self.entries);
    }

    /// Tells at most so many tastes of a history apart.
    pub(super) fn tell_apart(&mut self, view: &ModelView<'_>, most: usize) {
        self.aspects.clear();
        if most > 1 && self.rows == Rows::Context {
            let row = |anchor: &Anchor| (view.context_row(anchor.ordinal).unwrap_or_default().values(), anchor.share);
            let rows: Vec<(Cow<'_, [f32]>, f64)> = self.anchors.iter().map(row).collect();
            let anchors: Vec<(&[f32], f64)> = rows.iter().map(|(row, share)| (row.as_ref(), *share)).collect();
            self.aspects.find(&anchors, most, f64::from(self.vector_length()));
        }
    }

    /// Items that the vector lies near to, most recent first: a search begins with them.
    pub(super) fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// Those of them that one of several tastes lies near to. The most recent of all may be of another, far from it.
    pub(super) fn entries_of(&self, taste: usize) -> Vec<u32> {
        let own = self.anchors.iter().enumerate().filter(|(place, _)| self.aspects.of_anchor(*place) == Some(taste));
        let mut entries = Vec::new();
        add_liked(own.map(|(_, anchor)| anchor), &mut entries);
        entries
    }

    /// The tastes that are told apart; none where all is one.
    pub(super) fn aspects(&self) -> &[Aspect] {
        self.aspects.all()
    }

    /// The taste that seeds stand for, given by their places and ordinals: each with an equal share.
    pub(super) fn set_seeds(&mut self, view: &ModelView<'_>, seeds: &[(u32, u32)]) {
        self.rows = Rows::UnitTarget;
        self.of_seeds = true;
        self.aspects.clear();
        self.anchors.clear();
        self.exact.clear();
        self.exact.resize(view.dimensions(), 0.0);
        let share = 1.0 / seeds.len().max(1) as f64;
        for &(index, ordinal) in seeds {
            let Some(row) = view.row(ordinal) else { continue };
            self.anchors.push(Anchor { ordinal, index, share });
            let length = length(&row.values());
            if length > 0.0 {
                row.add_to(&mut self.exact, share / length);
            }
        }
        self.note_entries();
        self.vector.clear();
        self.vector.extend(self.exact.iter().map(|value| *value as f32));
    }

    /// The taste of those who took these items: each with an equal share, by their context rows.
    pub(super) fn set_together(&mut self, view: &ModelView<'_>, items: &[(u32, u32)]) {
        self.rows = Rows::Context;
        self.of_seeds = true;
        self.aspects.clear();
        self.anchors.clear();
        self.exact.clear();
        self.exact.resize(view.dimensions(), 0.0);
        let share = 1.0 / items.len().max(1) as f64;
        for &(index, ordinal) in items {
            let Some(row) = view.context_row(ordinal) else { continue };
            self.anchors.push(Anchor { ordinal, index, share });
            row.add_to(&mut self.exact, share);
        }
        self.note_entries();
        self.vector.clear();
        self.vector.extend(self.exact.iter().map(|value| *value as f32));
    }

    /// The taste of nobody in particular.
    pub(super) fn set_nobody(&mut self) {
        self.aspects.clear();
        self.anchors.clear();
        self.entries.clear();
        self.exact.clear();
        self.vector.clear();
    }

    /// The label of the fallback this taste calls for, or none where it says something.
    pub(super) fn fallback(&self, no_history: bool) -> Option<Fallback> {
        if no_history {
            return Some(Fallback::Newcomer);
        }
        if self.anchors.is_empty() {
            return Some(Fallback::UnknownItems);
        }
        let likes = self.anchors.iter().any(|anchor| anchor.share > 0.0);
        let points_somewhere = self.vector.iter().any(|value| *value != 0.0);
        (!likes || !points_somewhere).then_some(Fallback::NoPreference)
    }

    /// The anchors, most recent first.
    pub(super) fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Whether the anchors are items that the request named, and no interactions.
    pub(super) fn is_of_seeds(&self) -> bool {
        self.of_seeds
    }

    /// The vector, in single precision, as the search wants it.
    pub(super) fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// Length of the vector.
    pub(super) fn vector_length(&self) -> f32 {
        norm(&self.exact) as f32
    }

    /// Whether the vector part is a cosine, so that the length of the item's row does not count.
    pub(super) fn is_cosine(&self) -> bool {
        self.rows == Rows::UnitTarget
    }

    /// The likeness of an item to the taste, or to the one of several that it is most like, in single precision; `known` is the one to the
    /// taste as a whole, where it has been measured.
    pub(super) fn similarity<'a>(&self, known: Option<f32>, row: impl Fn() -> Row<'a>) -> f32 {
        let whole = known.unwrap_or_else(|| row().dot(&self.vector));
        self.aspects().iter().fold(whole, |most, aspect| most.max(row().dot(aspect.vector())))
    }

    /// The vector part of an item's score, from its target row.
    pub(super) fn vector_part(&self, row: &[f32]) -> f64 {
        self.scaled(self.greatest(row).0, row)
    }

    /// The greatest product of a taste with a row, and which one of several it is.
    fn greatest(&self, row: &[f32]) -> (f64, Option<usize>) {
        let whole = (dot_mixed(&self.exact, row), None);
        let of_aspects =
            self.aspects().iter().enumerate().map(|(at, aspect)| (dot_mixed(aspect.exact(), row), Some(at)));
        of_aspects.fold(whole, |most, one| if one.0 > most.0 { one } else { most })
    }

    /// The share of each anchor in [`Taste::vector_part`], in their order; they add up to it.
    pub(super) fn anchor_parts<'a>(
        &'a self,
        view: &'a ModelView<'_>,
        row: &'a [f32],
    ) -> impl Iterator<Item = (&'a Anchor, f64)> + 'a {
        let (_, taste) = self.greatest(row);
        self.anchors.iter().enumerate().map(move |(place, anchor)| {
            let scale = match taste {
                None => 1.0,
                Some(at) if self.aspects.of_anchor(place) == Some(at) => self.aspects()[at].scale(),
                Some(_) => 0.0,
            };
            (anchor, scale * self.anchor_part(view, anchor, row))
        })
    }

    fn anchor_part(&self, view: &ModelView<'_>, anchor: &Anchor, row: &[f32]) -> f64 {
        let (anchor_row, scale) = match self.rows {
            Rows::Context => (view.context_row(anchor.ordinal), 1.0),
            Rows::UnitTarget => {
                let anchor_row = view.row(anchor.ordinal);
                let length = anchor_row.map_or(0.0, |row| length(&row.values()));
                (anchor_row, if length > 0.0 { 1.0 / length } else { 0.0 })
            }
        };
        let Some(anchor_row) = anchor_row else { return 0.0 };
        self.scaled(anchor.share * scale * dot_wide(&anchor_row.values(), row), row)
    }

    fn scaled(&self, part: f64, row: &[f32]) -> f64 {
        if !self.is_cosine() {
            return part;
        }
        let length = length(row);
        if length > 0.0 { part / length } else { 0.0 }
    }
}

/// Adds the items that anchors speak for, each once: one that was looked at, put into the cart and bought takes no place of others.
fn add_liked<'a>(anchors: impl Iterator<Item = &'a Anchor>, items: &mut Vec<u32>) {
    for anchor in anchors.filter(|anchor| anchor.share > 0.0) {
        if !items.contains(&anchor.ordinal) {
            items.push(anchor.ordinal);
        }
    }
}

/// The cosine of two rows with their lengths, 0 where one has none.
pub(super) fn cosine((a, length_a): (&[f32], f64), (b, length_b): (&[f32], f64)) -> f64 {
    let lengths = length_a * length_b;
    if lengths > 0.0 { dot_wide(a, b) / lengths } else { 0.0 }
}

/// The length of a vector in double precision.
pub(super) fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

pub(super) fn length(row: &[f32]) -> f64 {
    dot_wide(row, row).sqrt()
}

/// A dot product of single-precision rows in double precision, in a fixed order of summation.
pub(super) fn dot_wide(a: &[f32], b: &[f32]) -> f64 {
    lanes(a, b, f64::from)
}

pub(super) fn dot_mixed(a: &[f64], b: &[f32]) -> f64 {
    lanes(a, b, |value| value)
}

/// Eight running sums, so that additions need not wait for one another and the compiler may use vector registers; the order
/// never changes, so neither does the result.
fn lanes<'a, A: Copy + 'a>(a: &'a [A], b: &'a [f32], wide: impl Fn(A) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0_f64; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    let rest: f64 = rest.map(|(a, b)| wide(*a) * f64::from(*b)).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += wide(*a) * f64::from(*b);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use kindred_index::Metric;

    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_search_for_one_taste_of_two_begins_with_what_that_is_made_of() {
        let mut fixture = Fixture::random(7, 40, 12, Metric::Cosine);
        // Items of even and of odd numbers have next to nothing in common.
        for (item, row) in fixture.rows.chunks_exact_mut(12).enumerate() {
            row.iter_mut().for_each(|value| *value *= 0.01);
            row[item % 2] = 1.0;
            let length = length(row) as f32;
            row.iter_mut().for_each(|value| *value /= length);
        }
        let model = fixture.model();
        let interaction = |(index, (ordinal, weight))| Weighted { ordinal, weight, position: index, index };
        let history = [(0, 1.0), (2, 1.0), (0, 3.0), (3, -0.5), (4, 1.0), (1, 1.0), (5, 1.0), (1, 1.0)];
        let weighted: Vec<Weighted> = (0..).zip(history).map(interaction).collect();
        let mut taste = Taste::default();
        taste.set_history(&model.view(), &weighted);
        taste.tell_apart(&model.view(), 2);
        assert_eq!(taste.entries(), [0, 2, 4, 1, 5], "each once, and none that is disliked");
        assert_eq!((taste.entries_of(0), taste.entries_of(1)), (vec![0, 2, 4], vec![1, 5]));
    }
}

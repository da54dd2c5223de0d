//! What is learned from: each interaction of a user as the one that follows those before it.

use std::ops::Range;

use super::super::sparse::Fading;
use super::super::{TrainingData, by_user};

/// The histories, and which of their interactions are to be predicted from those before them.
///
/// Takes 12 bytes an interaction, 4 more where age counts, and 4 an example.
#[derive(Debug)]
pub(super) struct Examples {
    /// Items of all histories, one history after the other, each oldest first.
    pub(super) items: Vec<u32>,
    /// What each interaction weighs by its kind.
    pub(super) weights: Vec<f32>,
    /// Where the history that an interaction belongs to begins.
    begins: Vec<u32>,
    /// Interactions to be predicted: at least one is before them, and their item is new to the history.
    pub(super) targets: Vec<u32>,
    /// Interactions that take part in a prediction, at most.
    pub(super) history: usize,
    /// The chance of each interaction to be an example of an epoch; empty where all are of each.
    chances: Vec<f32>,
}

impl Examples {
    /// All examples of a training part. `kind_weights` has the online weight of each kind, since a request will weigh so too;
    /// kinds that weigh nothing are passed over as they are there.
    pub(super) fn of(data: &TrainingData<'_>, kind_weights: &[f32], history: usize, fading: Fading) -> Self {
        let from = data.interactions;
        let kept = fading.kept(from);
        let (items, weights, begins) = (vec![], vec![], vec![]);
        let mut out = Self { items, weights, begins, targets: vec![], history, chances: vec![] };
        for (_, rows) in by_user(&from.user) {
            let begin = out.items.len();
            for row in rows {
                let kind = from.kind.get(row).copied().map_or(0, usize::from);
                let weight = kind_weights.get(kind).copied().unwrap_or(0.0);
                let Some(item) = from.item.get(row).copied().filter(|_| weight != 0.0) else { continue };
                let at = out.items.len();
                let before = out.items.get(begin.max(at.saturating_sub(history))..).unwrap_or_default();
                if weight > 0.0 && !before.is_empty() && !before.contains(&item) {
                    out.targets.push(at as u32);
                }
                out.items.push(item);
                out.weights.push(weight);
                out.begins.push(begin as u32);
                if fading.half_life_days.is_some() {
                    out.chances.push(kept(row));
                }
            }
        }
        out
    }

    /// The interactions that a target is predicted from, oldest first.
    pub(super) fn context(&self, target: u32) -> Range<usize> {
        let at = target as usize;
        let begin = self.begins.get(at).map_or(at, |begin| *begin as usize);
        begin.max(at.saturating_sub(self.history))..at
    }

    /// The items of all examples, what is wanted and what comes before it, each time with the chance of the example to be one of an epoch. An
    /// interaction of several examples is the last one's, which is the youngest.
    pub(super) fn met(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let mut met = usize::MAX;
        self.targets.iter().rev().flat_map(move |target| {
            // Examples stand in order, so what a later one has had is passed over.
            let rows = self.context(*target).start..met.min(*target as usize + 1);
            met = rows.start;
            let chance = self.chance(*target);
            rows.filter_map(move |at| self.items.get(at).map(|item| (*item, chance)))
        })
    }

    /// The chance of an interaction to be an example of an epoch: half of it is gone after the half-life.
    pub(super) fn chance(&self, target: u32) -> f32 {
        self.chances.get(target as usize).copied().unwrap_or(1.0)
    }

    /// The item of an interaction.
    pub(super) fn item(&self, at: u32) -> u32 {
        self.items.get(at as usize).copied().unwrap_or_default()
    }
}

//! Why an item is in a list: the exact parts of its score.

use super::taste::Taste;
use crate::model::{ModelView, SessionsView};
use crate::scenario::SourceWeights;

/// The parts of one item's score. They add up to it within 1e-6.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// What each past interaction (or seed) contributes, the greatest contribution first.
    pub because: Vec<Because>,
    /// What the item's popularity contributes.
    pub popularity: f64,
}

/// What one past interaction, or one seed, contributes to a score. Negative where it speaks against the item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Because {
    /// Its place in the history, or among the seeds, that the request gave.
    pub index: u32,
    /// The ordinal of its item.
    pub ordinal: u32,
    /// Its share of the vector part.
    pub vector: f64,
    /// Its share of the neighbours part.
    pub neighbours: f64,
    /// Its share of the sessions part.
    pub sessions: f64,
}

impl Because {
    /// Its share of the score.
    pub fn share(&self) -> f64 {
        self.vector + self.neighbours + self.sessions
    }
}

impl Reasons {
    /// The sum of all parts: the score.
    pub fn total(&self) -> f64 {
        self.because.iter().map(Because::share).sum::<f64>() + self.popularity
    }

    /// The reason of an item that is there only because it is popular.
    pub(super) fn popular(score: f64) -> Self {
        Self { because: Vec::new(), popularity: score }
    }

    /// The parts of an item's score by the formula. Costs a dot product and a walk over k neighbours per anchor.
    pub(super) fn new(
        view: &ModelView<'_>,
        sessions: &SessionsView<'_>,
        taste: &Taste,
        weights: &SourceWeights,
        ordinal: u32,
    ) -> Self {
        let row = view.row(ordinal).unwrap_or_default();
        let part = |anchor: &super::taste::Anchor| {
            let similarity: f64 = view
                .neighbours(anchor.ordinal)
                .filter(|neighbour| neighbour.ordinal == ordinal)
                .map(|neighbour| f64::from(neighbour.similarity))
                .sum();
            Because {
                index: anchor.index,
                ordinal: anchor.ordinal,
                vector: f64::from(weights.vector) * taste.anchor_part(view, anchor, row),
                neighbours: f64::from(weights.neighbours) * anchor.share * similarity,
                sessions: 0.0,
            }
        };
        let mut because: Vec<Because> = taste.anchors().iter().map(part).collect();
        if weights.sessions > 0.0 {
            for (index, _, share) in taste.similar_sessions().explain(sessions, ordinal) {
                if let Some(one) = because.iter_mut().find(|one| one.index == index) {
                    one.sessions = f64::from(weights.sessions) * share;
                }
            }
        }
        because.sort_by(|a, b| b.share().total_cmp(&a.share()).then(a.index.cmp(&b.index)));
        Self { because, popularity: f64::from(weights.popularity) * f64::from(view.popularity(ordinal)) }
    }
}

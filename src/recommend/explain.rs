//! Why an item is in a list: the exact parts of its score.

use super::Recommendation;
use super::rank::Scorer;
use super::taste::Anchor;

/// The parts of one item's score. They add up to it within 1e-6.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// What each past interaction (or item that the request named) contributes, the greatest contribution first.
    pub because: Vec<Because>,
    /// What the item's popularity contributes.
    pub popularity: f64,
    /// What is taken by everyone just now contributes so much.
    pub trending: f64,
    /// What is taken just now by visitors of the same context contributes so much, by key of the context.
    pub context: Vec<(String, f64)>,
    /// What those have taken lately whom the visitor follows contributes so much. Who is not said.
    pub followed: f64,
    /// What each boost adds, by its name.
    pub boosts: Vec<(String, f64)>,
    /// What chance has added, where new items are explored by drawing their scores.
    pub exploration: f64,
    /// What its likeness to items further up takes off; not positive.
    pub diversity: f64,
}

/// What one past interaction, or one item that the request named, contributes to a score. Negative where it speaks against the item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Because {
    /// Whether it is an item that the request named, and no interaction.
    pub is_seed: bool,
    /// Its place in the history, or among the items, that the request gave.
    pub index: u32,
    /// The ordinal of its item.
    pub ordinal: u32,
    /// Its share of the vector part.
    pub vector: f64,
    /// Its share of the neighbours part.
    pub neighbours: f64,
    /// Its share of the sessions part.
    pub sessions: f64,
    /// Its share of the part that the visitor's own interactions with the item make.
    pub history: f64,
}

/// One of the visitor's own interactions with an item that may be listed again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recall {
    pub(super) ordinal: u32,
    /// Its place in the history that the request gave.
    pub(super) index: u32,
    pub(super) value: f64,
}

impl Because {
    /// Its share of the score.
    pub fn share(&self) -> f64 {
        self.vector + self.neighbours + self.sessions + self.history
    }
}

impl Reasons {
    /// The sum of all parts: the score.
    pub fn total(&self) -> f64 {
        let named = |parts: &[(String, f64)]| parts.iter().map(|(_, part)| part).sum::<f64>();
        self.because.iter().map(Because::share).sum::<f64>()
            + self.popularity
            + self.trending
            + named(&self.context)
            + self.followed
            + named(&self.boosts)
            + self.exploration
            + self.diversity
    }

    /// The parts of an item's score by the formula. Costs a dot product and a walk over k neighbours per anchor.
    pub(super) fn new<D: AsRef<[u8]>>(scorer: &Scorer<'_, D>, ordinal: u32, exploration: f64, diversity: f64) -> Self {
        let (view, weights) = (&scorer.view, &scorer.weights);
        let row = &view.row(ordinal).unwrap_or_default().values();
        let part = |(anchor, vector): (&Anchor, f64)| {
            let neighbours = view.neighbours(anchor.ordinal).filter(|neighbour| neighbour.ordinal == ordinal);
            let similarity: f64 = neighbours.map(|neighbour| f64::from(neighbour.similarity)).sum();
            Because {
                is_seed: scorer.taste.is_of_seeds(),
                index: anchor.index,
                ordinal: anchor.ordinal,
                vector: f64::from(weights.vector) * vector,
                neighbours: f64::from(weights.neighbours) * anchor.share * similarity,
                sessions: 0.0,
                history: 0.0,
            }
        };
        let mut because: Vec<Because> = Vec::new();
        if weights.vector > 0.0 || weights.neighbours > 0.0 || weights.sessions > 0.0 {
            because.extend(scorer.taste.anchor_parts(view, row).map(part));
        }
        if weights.sessions > 0.0 {
            for (index, _, share) in scorer.taste.similar_sessions().explain(&scorer.sessions, ordinal) {
                if let Some(one) = because.iter_mut().find(|one| one.index == index) {
                    one.sessions = f64::from(weights.sessions) * share;
                }
            }
        }
        if weights.history > 0.0 {
            add_recalls(&mut because, scorer.recalls, ordinal, f64::from(weights.history));
        }
        because.sort_by(|a, b| b.share().total_cmp(&a.share()).then(a.index.cmp(&b.index)));
        let mut context = Vec::new();
        if weights.context > 0.0 {
            let weight = f64::from(weights.context);
            context.extend(scorer.signals.context_parts(ordinal).map(|(key, part)| (key.to_owned(), weight * part)));
        }
        Self {
            because,
            popularity: f64::from(weights.popularity) * f64::from(view.popularity(ordinal)),
            trending: f64::from(weights.trending) * scorer.signals.trending(ordinal),
            context,
            followed: f64::from(weights.followed)
                * scorer.followed.iter().find(|(one, _)| *one == ordinal).map_or(0.0, |(_, value)| *value),
            boosts: scorer.boosts.parts(scorer.model, &scorer.view, ordinal),
            exploration,
            diversity,
        }
    }
}

/// Says why each item of a list is there, once it is known which these are: what chance and likeness to others have added is noted already.
pub(super) fn explain<D: AsRef<[u8]>>(scorer: &Scorer<'_, D>, items: &mut [Recommendation]) {
    for item in items {
        let Reasons { exploration, diversity, .. } = *item.reasons.take().unwrap_or_default();
        item.reasons = Some(Box::new(Reasons::new(scorer, item.ordinal, exploration, diversity)));
    }
}

/// Adds the shares of the interactions with the item itself; an interaction that has a share already gets them added to it.
fn add_recalls(because: &mut Vec<Because>, recalls: &[Recall], ordinal: u32, weight: f64) {
    for recall in recalls.iter().filter(|recall| recall.ordinal == ordinal) {
        let history = weight * recall.value;
        match because.iter_mut().find(|one| !one.is_seed && one.index == recall.index) {
            Some(one) => one.history += history,
            None => because.push(Because {
                is_seed: false,
                index: recall.index,
                ordinal,
                vector: 0.0,
                neighbours: 0.0,
                sessions: 0.0,
                history,
            }),
        }
    }
}

//! The user vector: what a visitor's recent interactions say, as one vector.
//!
//! `u = Σ_t w_t · P[item_t] / Σ_t |w_t|`, where P are the context factors and
//! `w_t = kind weight × exp(−position / position_decay) × 0.5^(age / half-life)`.
//! Position counts from the most recent interaction, which has position 0. A trainer that learns the weight of each position
//! with its factors gives them as a table, which then stands in place of the exponential.
//!
//! Being linear, it is exact to explain: the share of interaction t in the score of item j is `w_t/Σ|w| · P[item_t]·Q[j]`.
//! That recency matters more than the model was measured on MovieLens-1M: with the same factors HR@10 is 0.089 with the
//! plain mean of the history and 0.215 with an e-folding of five interactions.
//!
//! Training, evaluation and serving all call the functions of this file, so that they cannot differ.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use kindred_index::{Row, fetched_ahead};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::interaction::Interaction;
use crate::limits;

/// The kind of interaction that says: never show me this again. It is always known; what it weighs, if anything, is the model's to say.
pub const NOT_INTERESTED: &str = "not_interested";

/// What interactions weigh. Learned offline and stored in the artifact; a setting may override it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weighting {
    /// Weight of each kind of interaction; negative ones push away. A kind that is not named here weighs nothing.
    pub kinds: BTreeMap<String, f32>,
    /// Interactions after which the weight has fallen to 1/e.
    pub position_decay: f32,
    /// Weight of each position, the most recent first, in place of the exponential; beyond its end interactions weigh nothing.
    /// None if the trainer did not learn any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_weights: Option<Vec<f32>>,
    /// Seconds after which the weight has halved; none means that age does not matter.
    pub half_life_s: Option<f64>,
    /// Most recent interactions that take part.
    pub max_interactions: usize,
}

/// One interaction that takes part in a user vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// The item's ordinal in the index.
    pub ordinal: u32,
    /// Its weight, not yet divided by the sum of all. Never zero, always finite.
    pub weight: f32,
    /// Its place counted from the most recent, which is 0. Interactions that weigh nothing are not counted.
    pub position: u32,
    /// Its place in the history that was given, so that an explanation can name it.
    pub index: u32,
}

/// What is wrong with a weighting.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum WeightingError {
    /// More kinds than allowed.
    #[error("kinds has {found} entries, at most {expected} are allowed")]
    TooManyKinds {
        /// The bound.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// The weight of a kind is infinite or not a number.
    #[error("kinds.{kind} is {found}: a weight is a finite number")]
    KindWeight {
        /// The kind at fault.
        kind: String,
        /// Its weight.
        found: f32,
    },
    /// The decay is not positive.
    #[error(
        "position_decay is {found}: give the number of interactions after which the weight has fallen to 1/e, above 0"
    )]
    PositionDecay {
        /// The value found.
        found: f32,
    },
    /// The table of position weights is empty or too long.
    #[error(
        "position_weights has {found} entries, expected 1 to {most}; leave it out to weigh by position_decay",
        most = limits::WEIGHTED_INTERACTIONS_MAX
    )]
    PositionWeights {
        /// The number found.
        found: usize,
    },
    /// A position weight is infinite, negative or not a number.
    #[error("position_weights[{position}] is {found}: a weight by position is a finite number of at least 0")]
    PositionWeight {
        /// The position at fault.
        position: usize,
        /// Its weight.
        found: f32,
    },
    /// The half-life is not positive.
    #[error("half_life_s is {found}: give seconds above 0, or leave it out if age does not matter")]
    HalfLife {
        /// The value found.
        found: f64,
    },
    /// The number of interactions is outside its range.
    #[error("max_interactions is {found}, expected 1 to {most}", most = limits::WEIGHTED_INTERACTIONS_MAX)]
    MaxInteractions {
        /// The value found.
        found: usize,
    },
}

/// Buffers of [`weigh_into`], reused between calls.
#[derive(Clone, Debug, Default)]
pub struct WeighScratch {
    known: Vec<Known>,
    /// After a call: the ordinals of all items of the history that have a weight, newest first, with repetitions, also of
    /// those too old to take part in the vector. This is what counts as seen.
    pub seen: Vec<u32>,
}

/// An interaction whose item the model knows and whose kind weighs something.
#[derive(Clone, Copy, Debug)]
struct Known {
    occurred_at_ms: i64,
    index: u32,
    ordinal: u32,
    kind_weight: f32,
}

impl Default for Weighting {
    fn default() -> Self {
        let kinds = [
            ("view", 1.0),
            ("search_click", 1.5),
            ("cart", 3.0),
            ("purchase", 5.0),
            ("like", 2.0),
            ("rating", 1.0),
            ("dislike", -1.0),
        ];
        Self {
            kinds: kinds.into_iter().map(|(kind, weight)| (kind.to_owned(), weight)).collect(),
            position_decay: 5.0,
            position_weights: None,
            half_life_s: None,
            max_interactions: 50,
        }
    }
}

impl Weighting {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), WeightingError> {
        if self.kinds.len() > limits::KINDS_MAX {
            return Err(WeightingError::TooManyKinds { expected: limits::KINDS_MAX, found: self.kinds.len() });
        }
        if let Some((kind, found)) = self.kinds.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(WeightingError::KindWeight { kind: kind.clone(), found: *found });
        }
        if !self.position_decay.is_finite() || self.position_decay <= 0.0 {
            return Err(WeightingError::PositionDecay { found: self.position_decay });
        }
        if let Some(weights) = &self.position_weights {
            if !(1..=limits::WEIGHTED_INTERACTIONS_MAX).contains(&weights.len()) {
                return Err(WeightingError::PositionWeights { found: weights.len() });
            }
            let wrong = |weight: &f32| !weight.is_finite() || *weight < 0.0;
            if let Some((position, found)) = weights.iter().enumerate().find(|(_, weight)| wrong(weight)) {
                return Err(WeightingError::PositionWeight { position, found: *found });
            }
        }
        if let Some(found) = self.half_life_s.filter(|seconds| !seconds.is_finite() || *seconds <= 0.0) {
            return Err(WeightingError::HalfLife { found });
        }
        if !(1..=limits::WEIGHTED_INTERACTIONS_MAX).contains(&self.max_interactions) {
            return Err(WeightingError::MaxInteractions { found: self.max_interactions });
        }
        Ok(())
    }

    /// How the weight falls with position, in words for a report.
    pub fn recency(&self) -> String {
        match &self.position_weights {
            Some(weights) => format!("weights learned for the last {} interactions", weights.len()),
            None => format!("falling to 1/e in {} interactions", self.position_decay),
        }
    }

    /// Weight of an interaction of a kind that weighs `kind_weight`, at a position, of an age in milliseconds.
    /// Events from the future count as of age 0: clocks differ.
    pub fn weight(&self, kind_weight: f32, position: u32, age_ms: i64) -> f32 {
        let recency = match &self.position_weights {
            Some(weights) => weights.get(position as usize).map_or(0.0, |weight| f64::from(*weight)),
            None => (-f64::from(position) / f64::from(self.position_decay)).exp(),
        };
        let freshness = self.half_life_s.map_or(1.0, |half_life_s| {
            let age_s = age_ms.max(0) as f64 / 1_000.0;
            (-age_s / half_life_s).exp2()
        });
        (f64::from(kind_weight) * recency * freshness) as f32
    }
}

/// Weighs a history, given in any order: newest first, at most `max_interactions`.
///
/// `resolve` maps an item key to its ordinal. Interactions with unknown items or with kinds that weigh nothing are passed
/// over and do not take up a position. Costs one look-up and one sort step per interaction.
pub fn weigh<H: Borrow<Interaction>>(
    history: &[H],
    weighting: &Weighting,
    now_ms: i64,
    resolve: impl Fn(&str) -> Option<u32>,
) -> Vec<Weighted> {
    let ordinals: Vec<_> = history.iter().map(|interaction| resolve(&interaction.borrow().item_id)).collect();
    let mut weighted = Vec::new();
    weigh_into(history, &ordinals, weighting, now_ms, &mut WeighScratch::default(), &mut weighted);
    weighted
}

/// As [`weigh`], of a history whose items have been looked up, into buffers of the caller; allocates nothing once they are warm.
pub fn weigh_into<H: Borrow<Interaction>>(
    history: &[H],
    ordinals: &[Option<u32>],
    weighting: &Weighting,
    now_ms: i64,
    scratch: &mut WeighScratch,
    out: &mut Vec<Weighted>,
) {
    out.clear();
    scratch.known.clear();
    scratch.seen.clear();
    let mut known_kind: Option<(&str, f32)> = None;
    for ((index, interaction), ordinal) in (0_u32..).zip(history).zip(ordinals) {
        let interaction = interaction.borrow();
        // What one does comes in runs: many views, a cart.
        let kind_weight = match known_kind {
            Some((kind, weight)) if kind == interaction.kind => weight,
            _ => weighting.kinds.get(&interaction.kind).copied().unwrap_or(0.0),
        };
        known_kind = Some((&interaction.kind, kind_weight));
        let Some(ordinal) = *ordinal else { continue };
        if kind_weight == 0.0 || !kind_weight.is_finite() {
            continue;
        }
        scratch.known.push(Known { occurred_at_ms: interaction.occurred_at_ms, index, ordinal, kind_weight });
    }
    // Newest first; of two at the same millisecond, the one given later counts as newer. The index makes the order total.
    scratch.known.sort_unstable_by_key(|known| Reverse((known.occurred_at_ms, known.index)));
    let most = weighting.max_interactions.min(limits::WEIGHTED_INTERACTIONS_MAX);
    for (position, known) in (0_u32..).zip(&scratch.known) {
        scratch.seen.push(known.ordinal);
        if (position as usize) < most {
            let age_ms = now_ms.saturating_sub(known.occurred_at_ms);
            let weight = weighting.weight(known.kind_weight, position, age_ms);
            // A weight that has decayed to nothing takes its position but no part.
            if weight != 0.0 && weight.is_finite() {
                out.push(Weighted { ordinal: known.ordinal, weight, position, index: known.index });
            }
        }
    }
}

/// The user vector into `out`: the weighted mean of the context rows, in single precision.
///
/// `context_row` gives the row of an ordinal; ordinals without one are passed over. Returns false, with `out` empty, for a
/// newcomer: no interaction, or none that the model knows. Costs one multiply-add per interaction and dimension; sums in
/// double precision, so that the order of the history changes nothing that single precision can show.
pub fn user_vector<'a>(
    weighted: &[Weighted],
    context_row: impl Fn(u32) -> Option<Row<'a>>,
    out: &mut Vec<f32>,
) -> bool {
    let mut sum = Vec::new();
    user_vector_into(weighted, context_row, &mut sum, out)
}

/// As [`user_vector`], leaving the unrounded vector in `sum`; allocates nothing once the buffers are warm.
pub fn user_vector_into<'a>(
    weighted: &[Weighted],
    context_row: impl Fn(u32) -> Option<Row<'a>>,
    sum: &mut Vec<f64>,
    out: &mut Vec<f32>,
) -> bool {
    sum.clear();
    out.clear();
    let mut total = 0.0_f64;
    let rows = weighted.iter().map(|one| (one, context_row(one.ordinal)));
    for (one, row) in fetched_ahead(rows, |(_, row)| row.unwrap_or_default().prefetch()) {
        let Some(row) = row else { continue };
        if sum.is_empty() {
            sum.resize(row.len(), 0.0);
        }
        let weight = f64::from(one.weight);
        total += weight.abs();
        row.add_to(sum, weight);
    }
    if total <= 0.0 || !total.is_finite() {
        sum.clear();
        return false;
    }
    sum.iter_mut().for_each(|value| *value /= total);
    out.extend(sum.iter().map(|value| *value as f32));
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The formula of the module documentation, word for word, in double precision and without any buffer.
    fn naive(history: &[Interaction], weighting: &Weighting, now_ms: i64, rows: &[Vec<f32>]) -> Option<Vec<f64>> {
        let mut order: Vec<usize> = (0..history.len())
            .filter(|&i| weighting.kinds.get(&history[i].kind).is_some_and(|weight| *weight != 0.0))
            .filter(|&i| resolve(rows.len())(&history[i].item_id).is_some())
            .collect();
        order.sort_by_key(|&i| (history[i].occurred_at_ms, i));
        order.reverse();
        order.truncate(weighting.max_interactions);
        let mut sum = vec![0.0_f64; rows.first()?.len()];
        let mut total = 0.0;
        for (position, &i) in order.iter().enumerate() {
            let age_s = (now_ms - history[i].occurred_at_ms).max(0) as f64 / 1000.0;
            let freshness = weighting.half_life_s.map_or(1.0, |half_life_s| 0.5_f64.powf(age_s / half_life_s));
            let recency = match &weighting.position_weights {
                Some(weights) if position < weights.len() => f64::from(weights[position]),
                Some(_) => 0.0,
                None => (-(position as f64) / f64::from(weighting.position_decay)).exp(),
            };
            let weight = f64::from(weighting.kinds[&history[i].kind]) * recency * freshness;
            total += weight.abs();
            let row = &rows[resolve(rows.len())(&history[i].item_id).unwrap() as usize];
            for (into, value) in sum.iter_mut().zip(row) {
                *into += weight * f64::from(*value);
            }
        }
        (total > 0.0).then(|| sum.into_iter().map(|value| value / total).collect())
    }

    fn resolve(n: usize) -> impl Fn(&str) -> Option<u32> {
        move |key| key.parse::<u32>().ok().filter(|ordinal| (*ordinal as usize) < n)
    }

    fn histories() -> impl Strategy<Value = Vec<Interaction>> {
        let kinds = prop::sample::select(vec!["view", "cart", "purchase", "dislike", "unheard_of"]);
        // Item 9 is unknown; equal times are frequent on purpose.
        prop::collection::vec((0..10_u32, kinds, 0..20_i64), 0..30).prop_map(|events| {
            let interaction =
                |(item, kind, time): (u32, &str, i64)| Interaction::new(item.to_string(), kind, time * 500);
            events.into_iter().map(interaction).collect()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula(
            history in histories(),
            rows in prop::collection::vec(prop::collection::vec(-2.0_f32..2.0, 7), 9),
            decay in 0.5_f32..20.0,
            position_weights in prop::option::of(prop::collection::vec(0.0_f32..3.0, 1..9)),
            half_life_s in prop::option::of(0.5_f64..20.0),
            max_interactions in 1..12_usize,
        ) {
            let weighting = Weighting {
                position_decay: decay,
                position_weights,
                half_life_s,
                max_interactions,
                ..Weighting::default()
            };
            let now_ms = 8_000;
            let weighted = weigh(&history, &weighting, now_ms, resolve(rows.len()));
            let mut fast = Vec::new();
            let known = user_vector(&weighted, |o| rows.get(o as usize).map(|row| Row::from(row.as_slice())), &mut fast);
            let slow = naive(&history, &weighting, now_ms, &rows);
            prop_assert_eq!(known, slow.is_some());
            for (fast, slow) in fast.iter().zip(slow.unwrap_or_default()) {
                prop_assert!((f64::from(*fast) - slow).abs() < 1e-6, "{} against {}", fast, slow);
            }
        }

        #[test]
        fn references_and_buffers_change_nothing(history in histories(), max_interactions in 1..12_usize) {
            let weighting = Weighting { max_interactions, ..Weighting::default() };
            let references: Vec<&Interaction> = history.iter().collect();
            let mut scratch = WeighScratch::default();
            let mut out = vec![Weighted { ordinal: 7, weight: 1.0, position: 0, index: 0 }];
            for _ in 0..2 {
                let ordinals: Vec<_> = history.iter().map(|one| resolve(9)(&one.item_id)).collect();
                weigh_into(&references, &ordinals, &weighting, 8_000, &mut scratch, &mut out);
                prop_assert_eq!(&out, &weigh(&history, &weighting, 8_000, resolve(9)));
            }
            prop_assert!(out.len() <= max_interactions);
            prop_assert!(out.iter().all(|one| scratch.seen.contains(&one.ordinal)));
        }
    }

    #[test]
    fn learned_weights_stand_in_place_of_the_exponential_and_survive_json() {
        let history: Vec<Interaction> = (0..4).map(|i| Interaction::new(i.to_string(), "view", i)).collect();
        let weighting = Weighting { position_weights: Some(vec![0.7, 0.0, 0.25]), ..Weighting::default() };
        let weighted = weigh(&history, &weighting, 100, resolve(9));
        let weights: Vec<_> = weighted.iter().map(|one| (one.ordinal, one.weight, one.position)).collect();
        assert_eq!(weights, [(3, 0.7, 0), (1, 0.25, 2)], "the fourth is beyond the table");
        assert_eq!(weighting.recency(), "weights learned for the last 3 interactions");
        assert_eq!(Weighting::default().recency(), "falling to 1/e in 5 interactions");
        let json = serde_json::to_string(&weighting).unwrap();
        assert_eq!(serde_json::from_str::<Weighting>(&json).unwrap(), weighting);
        let without = serde_json::to_string(&Weighting::default()).unwrap();
        assert!(!without.contains("position_weights"));
        assert_eq!(serde_json::from_str::<Weighting>(&without).unwrap(), Weighting::default());
    }

    #[test]
    fn the_newest_has_position_zero_and_the_later_given_wins_a_tie() {
        let history = [
            Interaction::new("1", "view", 10),
            Interaction::new("2", "view", 30),
            Interaction::new("3", "view", 30),
            Interaction::new("4", "unheard_of", 40),
        ];
        let weighted = weigh(&history, &Weighting::default(), 100, resolve(9));
        let order: Vec<_> = weighted.iter().map(|one| (one.ordinal, one.position, one.index)).collect();
        assert_eq!(order, [(3, 0, 2), (2, 1, 1), (1, 2, 0)]);
        assert_eq!(weighted[0].weight, 1.0);
        assert!((weighted[1].weight - (-0.2_f32).exp()).abs() < 1e-7);
    }

    #[test]
    fn a_half_life_halves_and_the_future_counts_as_now() {
        let weighting = Weighting { half_life_s: Some(10.0), ..Weighting::default() };
        assert_eq!(weighting.weight(2.0, 0, 10_000), 1.0);
        assert_eq!(weighting.weight(2.0, 0, -5_000), 2.0);
    }

    #[test]
    fn nobody_is_a_newcomer_twice() {
        let mut out = vec![1.0];
        assert!(!user_vector(&[], |_| Some(Row::from([1.0].as_slice())), &mut out));
        assert!(out.is_empty());
        let weighted = weigh(&[Interaction::new("0", "view", 0)], &Weighting::default(), 0, resolve(1));
        assert!(user_vector(&weighted, |_| Some(Row::from([3.0, -1.0].as_slice())), &mut out));
        assert_eq!(out, [3.0, -1.0]);
    }

    #[test]
    fn each_bound_has_its_own_error() {
        let plain = Weighting::default;
        assert_eq!(plain().validate(), Ok(()));
        let decay = Weighting { position_decay: 0.0, ..plain() };
        assert_eq!(decay.validate(), Err(WeightingError::PositionDecay { found: 0.0 }));
        let table = |weights: Vec<f32>| Weighting { position_weights: Some(weights), ..plain() }.validate();
        assert_eq!(table(vec![1.0, 0.0, 0.5]), Ok(()));
        assert_eq!(table(vec![]), Err(WeightingError::PositionWeights { found: 0 }));
        let long = limits::WEIGHTED_INTERACTIONS_MAX + 1;
        assert_eq!(table(vec![1.0; long]), Err(WeightingError::PositionWeights { found: long }));
        assert_eq!(table(vec![1.0, -0.5]), Err(WeightingError::PositionWeight { position: 1, found: -0.5 }));
        assert!(matches!(table(vec![f32::NAN]), Err(WeightingError::PositionWeight { position: 0, .. })));
        let half_life = Weighting { half_life_s: Some(-1.0), ..plain() };
        assert_eq!(half_life.validate(), Err(WeightingError::HalfLife { found: -1.0 }));
        let none = Weighting { max_interactions: 0, ..plain() };
        assert_eq!(none.validate(), Err(WeightingError::MaxInteractions { found: 0 }));
        let kinds = BTreeMap::from([("view".to_owned(), f32::INFINITY)]);
        let infinite = Weighting { kinds, ..plain() };
        assert!(matches!(infinite.validate(), Err(WeightingError::KindWeight { .. })));
    }
}

//! Choosing how fast the past of a visitor fades: the decay by position of the user vector.
//!
//! Each user's last training interaction is held back, a shortened training run sees the rest, and for every decay of a
//! small grid the held-back item is ranked by the user vector that a request would make, among all items but those seen.
//! The decay with the best NDCG@10, or one that is as good within chance, is stored in the model. The test part of the dataset
//! takes no part in it.

use kindred::interaction::Interaction;
use kindred::user_vector::{Weighting, user_vector, weigh};
use kindred_index::Row;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::checkpoint::Checkpoints;
use super::kernels::{Kernel, Simd, dot, vectorised};
use super::{Factors, TrainError, TrainProgress, Trainer, TrainingData, append, by_user};
use crate::dataset::Interactions;
use crate::matrix::Matrix;
use crate::model_dir::{Tried, Validation};

/// The decays that are tried.
pub const DECAYS: [f32; 9] = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 15.0, 40.0];
/// The decay to take where there is nothing to choose by: it is on the plateau of every data set tried so far.
pub const USUAL: f32 = 3.0;
/// Items the held-back one is ranked among, at most; a larger catalogue is sampled.
const RANKED_ITEMS_MAX: usize = 20_000;
/// Users whose last interaction is held back, at most.
const USERS_MAX: usize = 20_000;
/// Multiplications spent on ranking, at most: seconds on two cores.
const WORK_MAX: usize = 30_000_000_000;
/// Users below this number say too little to choose by.
const USERS_MIN: usize = 50;

/// Chooses a decay. None if too few users have a history to learn it from, or the shortened run fails to learn anything.
///
/// Costs about half a training run, and seconds.
///
/// # Errors
/// As [`Trainer::train`].
pub fn choose(
    trainer: &dyn Trainer,
    data: &TrainingData<'_>,
    kinds: &[String],
    weighting: &Weighting,
    progress: &dyn TrainProgress,
) -> Result<Option<Validation>, TrainError> {
    let held_back = HeldBack::of(data, trainer.seed());
    if held_back.cases.len() < USERS_MIN {
        return Ok(None);
    }
    let rest = TrainingData { interactions: &held_back.rest, ..*data };
    let factors = match trainer.shortened().train(&rest, &Quiet(progress)) {
        Ok(factors) => factors,
        Err(TrainError::NoInteractions | TrainError::NoSequences | TrainError::Diverged { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let weightings = DECAYS.map(|position_decay| Weighting { position_decay, ..weighting.clone() });
    let (ranks, n_ranked) = ranks(&factors, &held_back, kinds, &weightings, trainer.seed());
    progress.step("decay", 1, 1);
    Ok(Some(summary(&ranks, n_ranked)))
}

/// How many items score higher than the held-back one, for each case that is looked at and each weighting; and among how many.
fn ranks<const N: usize>(
    factors: &Factors,
    held_back: &HeldBack,
    kinds: &[String],
    weightings: &[Weighting; N],
    seed: u64,
) -> (Vec<Option<[usize; N]>>, usize) {
    let context = factors.context.as_ref().unwrap_or(&factors.items);
    let among = sample(factors.items.rows, RANKED_ITEMS_MAX, seed);
    let work_per_user = among.len() * factors.items.cols * N;
    let n_users = (WORK_MAX / work_per_user.max(1)).clamp(USERS_MIN, USERS_MAX).min(held_back.cases.len());
    let rank = |case: &Case| {
        let history = history(&held_back.rest, case.history.clone(), kinds);
        let vectors = weightings.each_ref().map(|weighting| vector(&history, weighting, case.now_ms, context));
        let seen = &held_back.rest.item[case.history.clone()];
        vectorised(Ranks { vectors: &vectors, item: case.item, seen, targets: &factors.items, among: &among })
    };
    (held_back.cases[..n_users].par_iter().map(rank).collect(), among.len())
}

/// What factors are worth on held-back interactions, by the user vector that a request would make of them: hit rate and NDCG, both
/// at 10, with the weights by position that were learned with the factors, or else with the decay that is best here.
pub(crate) fn worth(
    factors: &Factors,
    held_back: &HeldBack,
    kinds: &[String],
    weighting: &Weighting,
    seed: u64,
) -> Tried {
    if let Some(learned) = &factors.position_weights {
        let position_weights = Some(learned.clone());
        let weighting = Weighting { position_weights, max_interactions: learned.len(), ..weighting.clone() };
        let position_decay = weighting.position_decay;
        let (ranks, _) = ranks(factors, held_back, kinds, &[weighting], seed);
        let ranks: Vec<usize> = ranks.into_iter().flatten().map(|[rank]| rank).collect();
        return tried(position_decay, &ranks);
    }
    let weightings = DECAYS.map(|position_decay| Weighting { position_decay, ..weighting.clone() });
    let (ranks, n_ranked) = ranks(factors, held_back, kinds, &weightings, seed);
    let best = summary(&ranks, n_ranked).tried.into_iter().next();
    best.unwrap_or(Tried { position_decay: USUAL, hit_rate_at_10: 0.0, ndcg_at_10: 0.0 })
}

fn tried(position_decay: f32, ranks: &[usize]) -> Tried {
    let share = 1.0 / (ranks.len().max(1) as f64);
    Tried {
        position_decay,
        hit_rate_at_10: ranks.iter().filter(|rank| **rank < 10).count() as f64 * share,
        ndcg_at_10: ranks.iter().map(|rank| gain(*rank)).sum::<f64>() * share,
    }
}

/// The user vector that a request with this history makes; none for a history that says nothing.
pub(crate) fn vector(
    history: &[Interaction],
    weighting: &Weighting,
    now_ms: i64,
    context: &Matrix,
) -> Option<Vec<f32>> {
    let weighted = weigh(history, weighting, now_ms, |item| item.parse().ok());
    let mut out = Vec::new();
    user_vector(&weighted, |ordinal| context.get(ordinal as usize).map(Row::from), &mut out).then_some(out)
}

/// Rows of a table as interactions whose items are named by their numbers.
pub(crate) fn history(table: &Interactions, rows: std::ops::Range<usize>, kinds: &[String]) -> Vec<Interaction> {
    let interaction = |at: usize| {
        let kind = kinds.get(usize::from(table.kind[at])).cloned().unwrap_or_default();
        Interaction::new(table.item[at].to_string(), kind, table.time_ms[at])
    };
    rows.map(interaction).collect()
}

/// A user whose last interaction was held back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// The user's other interactions, as rows of what is left.
    pub(crate) history: std::ops::Range<usize>,
    /// The item held back.
    pub(crate) item: u32,
    /// When it was interacted with.
    pub(crate) now_ms: i64,
}

/// The training part without the last interaction of some users.
#[derive(Debug)]
pub(crate) struct HeldBack {
    /// The others.
    pub(crate) rest: Interactions,
    /// In random order, so that the first ones are a fair sample.
    pub(crate) cases: Vec<Case>,
}

impl HeldBack {
    /// Holds back an interaction that has a positive weight, an item new to its user, and two others before it.
    pub(crate) fn of(data: &TrainingData<'_>, seed: u64) -> Self {
        let from = data.interactions;
        let can_be_held = |rows: &std::ops::Range<usize>| {
            let last = rows.end - 1;
            rows.len() > 2 && from.weight[last] > 0.0 && !from.item[rows.start..last].contains(&from.item[last])
        };
        let mut users: Vec<(u32, bool)> = by_user(&from.user).map(|(user, rows)| (user, can_be_held(&rows))).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xdeca);
        users.shuffle(&mut rng);
        users.retain(|(_, can)| *can);
        users.truncate(USERS_MAX);
        users.sort_unstable();
        let mut rest = Interactions::default();
        let mut cases = Vec::new();
        for (user, rows) in by_user(&from.user) {
            let start = rest.user.len();
            let last = rows.end - 1;
            let hold = users.binary_search(&(user, true)).is_ok();
            let kept = rows.start..if hold { last } else { rows.end };
            append(&mut rest, from, kept);
            if hold {
                let history = start..rest.user.len();
                cases.push(Case { history, item: from.item[last], now_ms: from.time_ms[last] });
            }
        }
        cases.shuffle(&mut rng);
        Self { rest, cases }
    }
}

/// At most `most` of `n` items, evenly drawn.
pub(crate) fn sample(n: usize, most: usize, seed: u64) -> Vec<u32> {
    let mut items: Vec<u32> = (0..n as u32).collect();
    if n > most {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5a3e);
        items.shuffle(&mut rng);
        items.truncate(most);
        items.sort_unstable();
    }
    items
}

/// For each vector, how many unseen items score higher than `item`. None if any of them is missing.
pub(crate) struct Ranks<'a, const N: usize> {
    pub(crate) vectors: &'a [Option<Vec<f32>>; N],
    pub(crate) item: u32,
    pub(crate) seen: &'a [u32],
    pub(crate) targets: &'a Matrix,
    pub(crate) among: &'a [u32],
}

impl<const N: usize> Kernel for Ranks<'_, N> {
    type Output = Option<[usize; N]>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let mut vectors: [&[f32]; N] = [&[]; N];
        let mut wanted = [0.0; N];
        for at in 0..N {
            vectors[at] = self.vectors[at].as_deref()?;
            wanted[at] = dot(simd, vectors[at], self.targets.row(self.item as usize));
        }
        let mut seen = self.seen.to_vec();
        seen.sort_unstable();
        // Twice the rank: what is level counts half, so that a model that tells nothing apart gains nothing by it.
        let mut ranks = [0; N];
        for other in self.among {
            let row = self.targets.row(*other as usize);
            let mut above = [0; N];
            for at in 0..N {
                let found = dot(simd, vectors[at], row);
                above[at] = usize::from(found > wanted[at]) + usize::from(found >= wanted[at]);
            }
            if above != [0; N] && *other != self.item && seen.binary_search(other).is_err() {
                for at in 0..N {
                    ranks[at] += above[at];
                }
            }
        }
        Some(ranks.map(|rank| rank / 2))
    }
}

/// Hit rate and gain of every decay, the best one first, and which to take.
fn summary(ranks: &[Option<[usize; DECAYS.len()]>], n_items: usize) -> Validation {
    let ranks: Vec<&[usize; DECAYS.len()]> = ranks.iter().flatten().collect();
    let share = 1.0 / (ranks.len().max(1) as f64);
    let of = |at: usize| tried(DECAYS[at], &ranks.iter().map(|ranks| ranks[at]).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..DECAYS.len()).collect();
    order.sort_by(|a, b| of(*b).ndcg_at_10.total_cmp(&of(*a).ndcg_at_10));
    // Of the decays that are worse than the best by no more than two standard errors, the one nearest to the usual one is taken:
    // a few hundred users cannot tell 1.5 from 3, and the usual one is the safer guess.
    let best = order.first().copied().unwrap_or_default();
    let as_good = |at: &&usize| {
        let differences: Vec<f64> = ranks.iter().map(|ranks| gain(ranks[best]) - gain(ranks[**at])).collect();
        let mean = differences.iter().sum::<f64>() * share;
        let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() * share;
        mean <= 2.0 * (variance * share).sqrt()
    };
    let distance = |at: &&usize| (DECAYS[**at] / USUAL).ln().abs();
    let chosen = order.iter().filter(as_good).min_by(|a, b| distance(a).total_cmp(&distance(b)));
    Validation {
        n_users: ranks.len() as u64,
        n_items: n_items as u64,
        chosen: chosen.map_or(USUAL, |at| DECAYS[*at]),
        tried: order.into_iter().map(of).collect(),
    }
}

/// The discounted gain of a rank counted from 0, among the first 10.
pub(crate) fn gain(rank: usize) -> f64 {
    if rank < 10 { 1.0 / (rank as f64 + 2.0).log2() } else { 0.0 }
}

/// The shortened run reports under its own name.
struct Quiet<'a>(&'a dyn TrainProgress);

impl TrainProgress for Quiet<'_> {
    fn step(&self, _stage: &str, done: u64, total: u64) {
        self.0.step("trial run", done, total);
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.0.checkpoints()
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rand::Rng;

    use super::*;
    use crate::train::als::Als;

    /// Users who stay with one group of items for `stay` interactions and then change to another.
    fn fickle(stay: usize) -> Interactions {
        let mut rng = ChaCha8Rng::seed_from_u64(stay as u64);
        let mut out = Interactions::default();
        for user in 0..300 {
            let mut group = 0;
            let mut order: Vec<u32> = Vec::new();
            for time in 0..24_u32 {
                if (time as usize).is_multiple_of(stay) {
                    group = rng.random_range(0..8);
                    order = (0..30).collect();
                    order.shuffle(&mut rng);
                }
                out.user.push(user);
                out.item.push(group * 30 + order[time as usize % 30]);
                out.kind.push(0);
                out.weight.push(1.0);
                out.time_ms.push(i64::from(time) * 1_000);
            }
        }
        out
    }

    fn chosen(stay: usize) -> Validation {
        let interactions = fickle(stay);
        let data = TrainingData { interactions: &interactions, n_users: 300, n_items: 240 };
        let als = Als { factors: 16, iterations: 8, ..Als::default() };
        choose(&als, &data, &["view".to_owned()], &Weighting::default(), &()).unwrap().unwrap()
    }

    #[test]
    fn those_who_change_often_get_a_shorter_memory() {
        let (often, seldom) = (chosen(2), chosen(24));
        assert!(often.chosen < seldom.chosen, "{often:?} {seldom:?}");
        assert_eq!(often.tried.len(), DECAYS.len());
        assert!(often.n_users > 250 && often.n_items == 240);
    }

    #[test]
    fn chance_does_not_move_it_from_the_usual() {
        let at = |decay: f32| DECAYS.iter().position(|other| *other == decay).unwrap();
        // One user of a hundred is better off with 1.5; everybody is worse off with 40.
        let ranks = |user: usize| {
            let mut ranks = [1; DECAYS.len()];
            ranks[at(40.0)] = 5;
            if user == 0 {
                ranks[at(1.5)] = 0;
            }
            Some(ranks)
        };
        let validation = summary(&(0..100).map(ranks).collect::<Vec<_>>(), 10);
        assert_eq!(validation.tried[0].position_decay, 1.5);
        assert_eq!(validation.chosen, USUAL);
        assert_eq!(validation.tried.last().unwrap().position_decay, 40.0);
        assert_eq!(summary(&[], 10).chosen, USUAL);
    }

    #[test]
    fn what_is_held_back_is_not_trained_on() {
        let interactions = fickle(4);
        let data = TrainingData { interactions: &interactions, n_users: 300, n_items: 240 };
        let held_back = HeldBack::of(&data, 1);
        assert_eq!(held_back.rest.user.len() + held_back.cases.len(), interactions.user.len());
        for case in &held_back.cases {
            assert!(!held_back.rest.item[case.history.clone()].contains(&case.item));
            assert!(held_back.rest.time_ms[case.history.clone()].iter().all(|time| *time < case.now_ms));
            let users = &held_back.rest.user[case.history.clone()];
            assert!(users.iter().all(|user| *user == users[0]));
        }
    }

    #[test]
    fn users_are_drawn_from_those_who_have_something_to_hold_back() {
        let mut log = Interactions::default();
        for user in 0..USERS_MAX as u32 + 10_000 {
            let n = if user % 300 == 0 { 3 } else { 1 };
            (0..n).for_each(|item| log.push(user, item, 0, 1.0, i64::from(item)));
        }
        let data = TrainingData { interactions: &log, n_users: USERS_MAX + 10_000, n_items: 3 };
        assert_eq!(HeldBack::of(&data, 1).cases.len(), 100, "one in 300 of 30,000");
    }

    #[test]
    fn ranks_are_counted_among_unseen_items() {
        let targets = Matrix::from_vec(4, 1, vec![4.0, 3.0, 2.0, 1.0]).unwrap();
        let up = Some(vec![1.0]);
        let down = Some(vec![-1.0]);
        let ranks = |vectors| {
            vectorised(Ranks { vectors: &vectors, item: 2, seen: &[0], targets: &targets, among: &[0, 1, 2, 3] })
        };
        assert_eq!(ranks([up.clone(), down]), Some([1, 1]));
        assert_eq!(ranks([up, None]), None);
    }

    /// Learns nothing from less than all there is.
    struct Brittle;

    impl Trainer for Brittle {
        fn name(&self) -> &'static str {
            "brittle"
        }

        fn parameters(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn seed(&self) -> u64 {
            1
        }

        fn check(&self) -> Result<(), TrainError> {
            Ok(())
        }

        fn shortened(&self) -> Box<dyn Trainer> {
            Box::new(Self)
        }

        fn train(&self, _: &TrainingData<'_>, _: &dyn TrainProgress) -> Result<Factors, TrainError> {
            Err(TrainError::Diverged { iteration: 1 })
        }
    }

    #[test]
    fn a_trial_that_fails_chooses_nothing_and_costs_no_model() {
        let interactions = fickle(4);
        let data = TrainingData { interactions: &interactions, n_users: 300, n_items: 240 };
        let kinds = ["view".to_owned()];
        assert_eq!(choose(&Brittle, &data, &kinds, &Weighting::default(), &()).unwrap(), None);
    }

    #[test]
    fn too_few_users_choose_nothing() {
        let interactions = fickle(4);
        let mut few = Interactions::default();
        append(&mut few, &interactions, 0..240);
        let data = TrainingData { interactions: &few, n_users: 300, n_items: 240 };
        let kinds = ["view".to_owned()];
        assert_eq!(choose(&Als::default(), &data, &kinds, &Weighting::default(), &()).unwrap(), None);
    }
}

//! Real interactions replayed in the order of time against a running server: ask, look where the next item stands, then send it.
//!
//! What the live lists are compared with is the offline evaluator on the same questions: `kindred evaluate --protocol next-event`, where each
//! interaction of the test part is predicted from everything that the same user did before.

use std::collections::HashSet;
use std::ops::Range;

use kindred::model::Model;
use kindred::recommend::RecommendError;
use kindred::scenario::Scenario;
use kindred::timestamp::LEAST_PLAUSIBLE_MS;
use kindred::user_vector::Weighting;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::dataset::Interactions;
use crate::evaluate::{EvaluateOptions, HeldOut, Protocol, Round};
use crate::train::by_user;

/// One interaction to replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// The user, by number.
    pub user: u32,
    /// The item, by number.
    pub item: u32,
    /// The kind, by number.
    pub kind: u8,
    /// When, milliseconds since 1970.
    pub time_ms: i64,
    /// Whether a list is asked for first: where the evaluator asks for one. What no list can contain is only sent.
    pub asked: bool,
}

/// What is replayed.
#[derive(Clone, Debug)]
pub struct Script {
    /// What they did before the first interaction of the test part: sent before anything is asked.
    pub before: Interactions,
    /// What they did from then on, in the order of time.
    pub events: Vec<Event>,
    /// All of it for the offline evaluator.
    pub questions: HeldOut,
    /// Users that take part.
    pub users: u64,
}

/// Hits of the lists so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hits {
    /// Lists asked for.
    pub asked: u64,
    /// Lists that held the next item.
    pub hits: u64,
    /// Sum of one over its place, counted from 1.
    pub reciprocal: f64,
}

impl Hits {
    /// Notes one list.
    pub fn note(&mut self, list: &[String], next: &str) {
        self.asked += 1;
        if let Some(place) = list.iter().position(|id| id == next) {
            self.hits += 1;
            self.reciprocal += 1.0 / (place as f64 + 1.0);
        }
    }

    /// The share of lists that held the next item.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.asked.max(1) as f64
    }

    /// The mean of one over its place.
    pub fn mrr(&self) -> f64 {
        self.reciprocal / self.asked.max(1) as f64
    }
}

/// Makes the script of a dataset, for `most` of the users of its test part drawn by `seed`, or for all.
///
/// # Errors
/// The scenario's filter is beyond the limits.
pub fn script<D: AsRef<[u8]> + Sync>(
    held_out: &HeldOut,
    model: &Model<D>,
    scenario: &Scenario,
    weighting: &Weighting,
    most: Option<usize>,
    seed: u64,
) -> Result<Script, RecommendError> {
    let HeldOut { train, test, kinds, keys, history_max } = held_out;
    let mut users: Vec<(u32, Range<usize>)> = by_user(&test.user).collect();
    if let Some(most) = most.filter(|most| *most < users.len()) {
        users.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        users.truncate(most);
        users.sort_unstable_by_key(|(user, _)| *user);
    }
    let histories: Vec<(u32, Range<usize>)> = by_user(&train.user).collect();
    let (mut before, mut after) = (Interactions::default(), Interactions::default());
    let n_users = users.len() as u64;
    for (user, rows) in users {
        let found = histories.binary_search_by_key(&user, |(user, _)| *user);
        let history = found.ok().and_then(|at| histories.get(at)).map_or(0..0, |(_, rows)| rows.clone());
        history.for_each(|row| copy(train, row, &mut before));
        rows.for_each(|row| copy(test, row, &mut after));
    }
    // Places in a list instead of times, as some logs have them, begin when time does for a server; ages stay as they are.
    let first_ms = before.time_ms.iter().chain(&after.time_ms).copied().min().unwrap_or(LEAST_PLAUSIBLE_MS);
    let later_ms = (LEAST_PLAUSIBLE_MS - first_ms).max(0);
    before.time_ms.iter_mut().chain(&mut after.time_ms).for_each(|time_ms| *time_ms += later_ms);
    let (kinds, keys, history_max) = (kinds.clone(), keys.clone(), *history_max);
    let questions = HeldOut { train: before, test: after, kinds, keys, history_max };
    let options = EvaluateOptions {
        ks: Vec::new(),
        exact_only: false,
        protocol: Protocol::NextEvent,
        users: None,
        only_new: false,
        seed,
        trending: None,
    };
    // What the evaluator asks is asked, and nothing else.
    let (cases, _) = Round { model, held_out: &questions, scenario, weighting, options: &options }.cases()?;
    let asked: HashSet<usize> = cases.into_iter().map(|case| case.prefix.end).collect();
    let event = |part: &Interactions, row: usize, asked: bool| Event {
        user: part.user[row],
        item: part.item[row],
        kind: part.kind[row],
        time_ms: part.time_ms[row],
        asked,
    };
    let HeldOut { train, test, .. } = &questions;
    // What others did in the training part while the test part went on is replayed when it was, or trends would know the future.
    let from_ms = test.time_ms.iter().copied().min().unwrap_or(i64::MAX);
    let (mut first, mut trained) = (Interactions::default(), Vec::new());
    for row in 0..train.len() {
        if train.time_ms[row] < from_ms {
            copy(train, row, &mut first);
        } else {
            trained.push(event(train, row, false));
        }
    }
    let tested: Vec<Event> = (0..test.len()).map(|row| event(test, row, asked.contains(&row))).collect();
    // Stable: at the same moment the order is that of the evaluator, who knows of the training part what happened just then, or knows it not.
    let mut events = if questions.is_mixed() { [tested, trained].concat() } else { [trained, tested].concat() };
    events.sort_by_key(|event| event.time_ms);
    Ok(Script { before: first, events, questions, users: n_users })
}

fn copy(from: &Interactions, row: usize, into: &mut Interactions) {
    into.push(from.user[row], from.item[row], from.kind[row], from.weight[row], from.time_ms[row]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kindred::limits;
    use kindred::testing::Fixture;

    use super::*;

    fn rows(rows: &[(u32, u32, i64)]) -> Interactions {
        let mut all = Interactions::default();
        rows.iter().for_each(|(user, item, time)| all.push(*user, *item, 0, 1.0, *time));
        all
    }

    fn held_out(train: &[(u32, u32, i64)], test: &[(u32, u32, i64)]) -> HeldOut {
        let keys = (0..61).map(Fixture::key).collect();
        let (kinds, history_max) = (vec!["view".to_owned()], limits::HISTORY_MAX);
        HeldOut { train: rows(train), test: rows(test), kinds, keys, history_max }
    }

    fn scripted(held_out: &HeldOut, most: Option<usize>) -> Script {
        script(held_out, &Fixture::shop().model(), &Scenario::home(), &Weighting::default(), most, 1).unwrap()
    }

    #[test]
    fn each_interaction_is_a_question_with_everything_before_it() {
        // User 1 has nothing before; item 9 is not available; item 1 was seen; item 60 does not exist.
        let held_out = held_out(
            &[(0, 1, 1), (0, 2, 6), (2, 3, 1)],
            &[(0, 4, 10), (0, 9, 11), (0, 1, 12), (0, 5, 13), (1, 6, 5), (2, 60, 8), (2, 7, 9)],
        );
        let script = scripted(&held_out, None);
        assert_eq!(script.users, 3);
        let asked: Vec<(u32, bool)> = script.events.iter().map(|event| (event.item, event.asked)).collect();
        assert_eq!(script.before.item, [1, 3], "item 2 was taken when the test part had begun");
        assert_eq!(
            asked,
            [(6, false), (2, false), (60, false), (7, true), (4, true), (9, false), (1, false), (5, true)]
        );
        // Times that are none are moved together to where they are some.
        let moved = |part: &Interactions| {
            let time_ms = part.time_ms.iter().map(|time_ms| time_ms - 1 + LEAST_PLAUSIBLE_MS).collect();
            Interactions { time_ms, ..part.clone() }
        };
        assert_eq!(script.questions.train, moved(&held_out.train));
        assert_eq!(script.questions.test, moved(&held_out.test));
        let one = scripted(&held_out, Some(1));
        assert_eq!((one.users, one.events.len()), (1, one.questions.test.len()));
    }

    #[test]
    fn what_a_user_does_later_is_not_known_yet() {
        // As where items are held out: training interactions after those of the test part.
        let script = scripted(&held_out(&[(0, 1, 1), (0, 4, 30), (1, 2, 30)], &[(0, 4, 10), (1, 5, 10)]), None);
        let asked: Vec<(u32, bool)> = script.events.iter().map(|event| (event.item, event.asked)).collect();
        assert_eq!(asked, [(4, true), (5, false), (4, false), (2, false)]);
    }

    #[test]
    fn what_happened_at_the_same_moment_is_known_where_the_evaluator_knows_it() {
        let asked = |train: &[(u32, u32, i64)]| -> Vec<(u32, bool)> {
            let script = scripted(&held_out(train, &[(0, 4, 10)]), None);
            script.events.iter().map(|event| (event.item, event.asked)).collect()
        };
        assert_eq!(asked(&[(0, 1, 1), (0, 5, 10)]), [(5, false), (4, true)]);
        // What came later tells that items are held out, and of a basket the rest may be what is looked for next.
        assert_eq!(asked(&[(0, 1, 1), (0, 5, 10), (0, 2, 30)]), [(4, true), (5, false), (2, false)]);
    }

    #[test]
    fn hits_are_counted_by_place() {
        let mut hits = Hits::default();
        let list = ["a", "b"].map(str::to_owned);
        hits.note(&list, "b");
        hits.note(&list, "x");
        assert_eq!((hits.hit_rate(), hits.mrr()), (0.5, 0.25));
    }
}

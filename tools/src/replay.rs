//! Real interactions replayed in the order of time against a running server: ask, look where the next item stands, then send it.
//!
//! What the live lists are compared with is the offline evaluator on the same questions: `kindred evaluate --protocol next-event`, where each
//! interaction of the test part is predicted from everything that the same user did before.

use std::collections::HashSet;
use std::ops::Range;

use kindred::model::Model;
use kindred::scenario::Scenario;
use kindred::timestamp::LEAST_PLAUSIBLE_MS;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::dataset::Interactions;
use crate::evaluate::HeldOut;
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
    /// Whether a list is asked for first. Not for an item that no list can contain: those are only sent.
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
pub fn script<D: AsRef<[u8]>>(
    held_out: &HeldOut,
    model: &Model<D>,
    scenario: &Scenario,
    most: Option<usize>,
    seed: u64,
) -> Script {
    let HeldOut { train, test, kinds, keys } = held_out;
    let mut users: Vec<(u32, Range<usize>)> = by_user(&test.user).collect();
    if let Some(most) = most.filter(|most| *most < users.len()) {
        users.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        users.truncate(most);
        users.sort_unstable_by_key(|(user, _)| *user);
    }
    let histories: Vec<(u32, Range<usize>)> = by_user(&train.user).collect();
    let ordinals: Vec<Option<u32>> = keys.iter().map(|key| model.index().ordinal(key)).collect();
    let available = if scenario.require_available { model.available() } else { None };
    let listable = |item: u32| {
        let ordinal = ordinals.get(item as usize).copied().flatten();
        ordinal.is_some_and(|ordinal| available.is_none_or(|set| set.contains(ordinal)))
    };
    let (mut before, mut after, mut events) = (Interactions::default(), Interactions::default(), Vec::new());
    let n_users = users.len() as u64;
    for (user, rows) in users {
        let found = histories.binary_search_by_key(&user, |(user, _)| *user);
        let history = found.ok().and_then(|at| histories.get(at)).map_or(0..0, |(_, rows)| rows.clone());
        history.clone().for_each(|row| copy(train, row, &mut before));
        let mut seen: HashSet<u32> = train.item.get(history).unwrap_or_default().iter().copied().collect();
        for row in rows {
            copy(test, row, &mut after);
            let (item, kind, time_ms) = (test.item[row], test.kind[row], test.time_ms[row]);
            // The rules of the evaluator: something must be known of the user, and the item must be one that a list may hold.
            let new = !(scenario.exclude_seen && seen.contains(&item));
            let asked = !seen.is_empty() && test.weight[row] > 0.0 && listable(item) && new;
            events.push(Event { user, item, kind, time_ms, asked });
            seen.insert(item);
        }
    }
    // Places in a list instead of times, as some logs have them, begin when time does for a server; ages stay as they are.
    let first_ms = before.time_ms.iter().chain(&after.time_ms).copied().min().unwrap_or(LEAST_PLAUSIBLE_MS);
    let later_ms = (LEAST_PLAUSIBLE_MS - first_ms).max(0);
    let times =
        before.time_ms.iter_mut().chain(&mut after.time_ms).chain(events.iter_mut().map(|event| &mut event.time_ms));
    times.for_each(|time_ms| *time_ms += later_ms);
    // What others did in the training part while the test part went on is replayed when it was, or trends would know the future.
    let from_ms = after.time_ms.iter().copied().min().unwrap_or(i64::MAX);
    let mut first = Interactions::default();
    let mut meanwhile = Vec::new();
    for row in 0..before.len() {
        if before.time_ms[row] < from_ms {
            copy(&before, row, &mut first);
        } else {
            let (user, item, kind, time_ms) =
                (before.user[row], before.item[row], before.kind[row], before.time_ms[row]);
            meanwhile.push(Event { user, item, kind, time_ms, asked: false });
        }
    }
    events.splice(0..0, meanwhile);
    // Stable: at the same moment the order is that of the dataset, the training part first.
    events.sort_by_key(|event| event.time_ms);
    let questions = HeldOut { train: before, test: after, kinds: kinds.clone(), keys: keys.clone() };
    Script { before: first, events, questions, users: n_users }
}

fn copy(from: &Interactions, row: usize, into: &mut Interactions) {
    into.push(from.user[row], from.item[row], from.kind[row], from.weight[row], from.time_ms[row]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kindred::testing::Fixture;

    use super::*;

    fn rows(rows: &[(u32, u32, i64)]) -> Interactions {
        let mut all = Interactions::default();
        rows.iter().for_each(|(user, item, time)| all.push(*user, *item, 0, 1.0, *time));
        all
    }

    #[test]
    fn each_interaction_is_a_question_with_everything_before_it() {
        let model = Fixture::shop().model();
        let held_out = HeldOut {
            train: rows(&[(0, 1, 1), (0, 2, 6), (2, 3, 1)]),
            // User 1 has nothing before; item 9 is not available; item 1 was seen; item 60 does not exist.
            test: rows(&[(0, 4, 10), (0, 9, 11), (0, 1, 12), (0, 5, 13), (1, 6, 5), (2, 60, 8), (2, 7, 9)]),
            kinds: vec!["view".to_owned()],
            keys: (0..61).map(Fixture::key).collect(),
        };
        let script = script(&held_out, &model, &Scenario::home(), None, 1);
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
        let one = super::script(&held_out, &model, &Scenario::home(), Some(1), 1);
        assert_eq!((one.users, one.events.len()), (1, one.questions.test.len()));
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

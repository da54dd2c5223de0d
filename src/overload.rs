//! What gives way when there is more to do than can be done: first the breadth of the search, then its sources, then that the list is
//! personal, and only then the request.
//!
//! The requests of a worker stand in a [`Line`], and before each turn whatever has come meanwhile is read and joins it. So how long each has
//! waited is known, that which it has waited in the kernel included, and where there is no room the newest are refused, at once. What is given
//! up is regulated so that the wait keeps to a target (`pressure.rs`).

mod line;
mod pressure;

use std::ops::Deref;
use std::time::Duration;

pub use self::line::{Line, Sort};
use crate::scenario::Scenario;

/// How much of an answer is given, most first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// All of it.
    #[default]
    Full,
    /// Half the breadth of the search, half the candidates.
    Lighter,
    /// A quarter of the breadth, beside which neighbours, sessions and who is followed count for nothing.
    Narrow,
    /// The popular list.
    Popular,
}

impl Step {
    /// Every step, in their order.
    pub const ALL: [Self; 4] = [Self::Full, Self::Lighter, Self::Narrow, Self::Popular];

    /// Its label in `/metrics`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lighter => "lighter",
            Self::Narrow => "narrow",
            Self::Popular => "popular",
        }
    }

    /// The step for a request that has spent so much of its time before anything was computed.
    #[must_use]
    pub fn by_time(spent: Duration, allowed: Duration) -> Self {
        match () {
            () if spent > allowed => Self::Popular,
            () if spent > allowed.mul_f32(0.75) => Self::Narrow,
            () if spent > allowed.mul_f32(0.5) => Self::Lighter,
            () => Self::Full,
        }
    }
}

/// A scenario with its lesser forms, made once.
#[derive(Debug, Clone)]
pub struct Placement {
    full: Scenario,
    lighter: Scenario,
    narrow: Scenario,
}

impl Placement {
    /// A scenario and what it becomes under load.
    #[must_use]
    pub fn new(full: Scenario) -> Self {
        let part = |number: usize, share: usize| (number / share).max(1);
        let less = |share| Scenario {
            candidates: part(full.candidates, share).max(full.limit),
            ef_search: part(full.ef_search, share).max(full.limit),
            recall_target: None,
            ..full.clone()
        };
        let lighter = less(2);
        // What was learned is learned for all sources together.
        let mut narrow = Scenario { learned_weights: false, ..less(4) };
        narrow.interests.tastes = 1;
        if narrow.weights.vector > 0.0 {
            narrow.weights.neighbours = 0.0;
            narrow.weights.followed = 0.0;
            narrow.weights.sessions = 0.0;
        }
        Self { full, lighter, narrow }
    }

    /// The form for a step.
    #[must_use]
    pub fn at(&self, step: Step) -> &Scenario {
        match step {
            Step::Full => &self.full,
            Step::Lighter => &self.lighter,
            Step::Narrow | Step::Popular => &self.narrow,
        }
    }

    /// The breadth of the search at a step, for a request that asks for one of its own.
    #[must_use]
    pub fn ef_search(&self, step: Step, asked: Option<usize>) -> Option<usize> {
        if step == Step::Full { asked } else { asked.map(|asked| asked.min(self.at(step).ef_search)) }
    }
}

impl Deref for Placement {
    type Target = Scenario;

    fn deref(&self) -> &Scenario {
        &self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn late_answers_are_less() {
        let by_time = |spent| Step::by_time(spent * MS, 100 * MS);
        assert_eq!([50, 51, 76, 101].map(by_time), Step::ALL);
    }

    #[test]
    fn each_step_does_less_and_stays_valid() {
        for scenario in Scenario::built_in().into_values() {
            let placement = Placement::new(scenario);
            let work = |step| (placement.at(step).candidates, placement.at(step).ef_search);
            assert!(work(Step::Full) > work(Step::Lighter) && work(Step::Lighter) > work(Step::Narrow));
            let weights = &placement.at(Step::Narrow).weights;
            assert_eq!((weights.neighbours, weights.sessions), (0.0, 0.0));
            Step::ALL.iter().for_each(|step| assert_eq!(placement.at(*step).validate(), Ok(())));
            assert_eq!(placement.ef_search(Step::Lighter, Some(500)), Some(placement.at(Step::Lighter).ef_search));
            assert_eq!(placement.ef_search(Step::Full, Some(500)), Some(500));
        }
        let mut only_neighbours = Scenario::home();
        only_neighbours.weights.vector = 0.0;
        assert!(Placement::new(only_neighbours).at(Step::Narrow).validate().is_ok(), "a last source stays");
    }
}

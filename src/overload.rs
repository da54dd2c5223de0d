//! What gives way when there is more to do than can be done: first the breadth of the search, then its sources, then that the list is
//! personal, and only then the request.
//!
//! How much there is to do is measured by how long a request waits, not by how many there are: a worker computes without yielding, so
//! what waits lies in its queue and in the kernel's, where nobody counts it. A [`Pulse`] is a task of the worker's own that is put at the end
//! of its queue when a request comes; how long it takes to get its turn is how long a request takes.
//!
//! A queue after a pause (a swap of artifacts, a core that was taken away for a moment) is worked off by itself and no reason to refuse
//! anything; one that does not get empty is. So what begins it is how long no wait was short, as in CoDel (Nichols, Jacobson 2012): only
//! when no task has had its turn at once for 100 ms does anything give way. From then on a controller (proportional and integral, as in
//! PIE, RFC 8033) gives up as much as keeps the wait at its target: a request that has to be refused is so after a target's time, not
//! after it has waited in vain.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::scenario::Scenario;

/// How long nobody must have had a turn at once before anything gives way; and for how long nobody must have asked before nothing does.
const WINDOW: Duration = Duration::from_millis(100);
/// Steps that a wait gives up for each target that it is longer than the target.
const AT_ONCE: f32 = 1.0;
/// Steps that one of twice the target gives up more for each second that it lasts, as does a longer one; and that are taken back for each second
/// without a wait. Slow, so that what a core that was taken away leaves is worked off before much is given up for it.
const PER_SECOND: f32 = 20.0;
/// Steps from everything to nothing.
const STEPS: f32 = Step::ALL.len() as f32;
/// Steps to the least answer. Where that is enough in the long run, a single long wait leads no further: the popular list late is more than a
/// refusal late.
const ANSWERED: f32 = STEPS - 1.0;
/// Targets after which a request is late: it is refused only where much more comes than can be answered, and new ones in its place.
const LATE: u32 = 4;
const MUCH_MORE: f32 = ANSWERED + 0.5;
/// Targets that something that was sent to be kept may wait.
const KEPT_WAITS: u32 = 8;

/// How much of an answer is given, most first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// All of it.
    #[default]
    Full,
    /// Half the breadth of the search, half the candidates.
    Lighter,
    /// A quarter of the breadth, and the search as the only source.
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

/// How long a task of one worker waits for its turn, and what gives way therefore.
#[derive(Debug)]
pub struct Pulse {
    /// The wait that is aimed at where there is more to do than can be done.
    target: Duration,
    /// Since when no wait was as short as the target.
    waiting_since: Cell<Option<Instant>>,
    /// Whether the queue stands.
    overloaded: Cell<bool>,
    /// Steps that are given up in the long run.
    level: Cell<f32>,
    /// The part of a step that requests so far have still to give up.
    owed: Cell<f32>,
    /// When the task was put at the end of the queue, if it has not had its turn yet.
    sent: Cell<Option<Instant>>,
    /// When it had its turn last, and how long it had waited.
    last: Cell<Option<(Instant, Duration)>>,
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    /// A pulse that keeps waits at `target` where there is more to do than can be done.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            waiting_since: Cell::default(),
            overloaded: Cell::default(),
            level: Cell::default(),
            owed: Cell::default(),
            sent: Cell::default(),
            last: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// The task has its turn: notes how long it waited, and how it is called the next time.
    pub fn beat(&self, waker: &Waker, now: Instant) -> Option<Duration> {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        let waited = now.saturating_duration_since(self.sent.take()?);
        let before = self.last.replace(Some((now, waited)));
        if self.overloaded.get() {
            let excess = self.excess(waited).min(1.0);
            // A wait counts for as long as it lasted, none for as long as there was none.
            let since = before.map_or(waited, |(at, _)| now.saturating_duration_since(at));
            let lasted = if excess > 0.0 { since.min(waited) } else { since };
            let level = self.level.get() + excess * PER_SECOND * lasted.as_secs_f32();
            self.level.set(level.clamp(0.0, STEPS));
            self.overloaded.set(level > 0.0);
        } else {
            let asked_before = before.is_some_and(|(at, _)| now.saturating_duration_since(at) <= WINDOW + waited);
            self.watch(now, waited, asked_before);
        }
        Some(waited)
    }

    /// Learns from a wait whether the queue stands. One before which nobody asked for a while is the first of a new queue.
    fn watch(&self, now: Instant, waited: Duration, asked_before: bool) {
        if waited <= self.target {
            self.waiting_since.set(None);
            return;
        }
        let since = self.waiting_since.get().filter(|_| asked_before).unwrap_or(now);
        let stands = now.saturating_duration_since(since) >= WINDOW;
        self.waiting_since.set((!stands).then_some(since));
        if stands {
            self.overloaded.set(true);
            // What stands is worked off first.
            self.level.set(STEPS);
        }
    }

    /// By how many targets a wait is longer than the target; -1 where there was none.
    fn excess(&self, waited: Duration) -> f32 {
        waited.as_secs_f32() / self.target.as_secs_f32() - 1.0
    }

    /// What a request gets that has its turn now; none if it is refused. And puts the task at the end of the queue if it is not in it.
    pub fn step(&self, now: Instant) -> Option<Step> {
        let waited = self.waited(now);
        if !self.overloaded.get() {
            return Some(Step::Full);
        }
        if self.last.get().is_some_and(|(at, _)| now.saturating_duration_since(at) > WINDOW + waited) {
            self.overloaded.set(false);
            return Some(Step::Full);
        }
        let level = self.level.get();
        let is_late = waited > LATE * self.target;
        let most = if level < ANSWERED || (is_late && level < MUCH_MORE) { ANSWERED } else { STEPS };
        let given_up = (level + AT_ONCE * self.excess(waited)).clamp(0.0, most);
        // Between two steps some requests get the one and some the other, as many as it says.
        let owed = self.owed.get() + given_up.fract();
        self.owed.set(owed.fract());
        Step::ALL.get((given_up.trunc() + owed.trunc()) as usize).copied()
    }

    /// Whether something is kept that was sent to be kept. It costs little and is worth more than a list, so it is refused last.
    pub fn keeps(&self, now: Instant) -> bool {
        let waited = self.waited(now);
        !self.overloaded.get() || waited <= KEPT_WAITS * self.target
    }

    /// How long a request that has its turn now has waited, about.
    fn waited(&self, now: Instant) -> Duration {
        // A wait that was measured longer ago than it lasted says nothing about a queue that may have emptied since.
        let fresh = |(at, waited): (Instant, Duration)| (now.saturating_duration_since(at) <= waited).then_some(waited);
        let last = self.last.get().and_then(fresh).unwrap_or_default();
        match self.sent.get() {
            Some(sent) => last.max(now.saturating_duration_since(sent)),
            None => {
                if let Some(waker) = &*self.waker.borrow() {
                    self.sent.set(Some(now));
                    waker.wake_by_ref();
                }
                last
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

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

    /// A pulse whose task waits so long, one turn after the other; and the time at the end.
    fn after(waits: impl IntoIterator<Item = Duration>) -> (Pulse, Instant) {
        let (pulse, mut now) = (Pulse::new(MS), Instant::now());
        assert_eq!(pulse.step(now), Some(Step::Full), "nobody beats yet");
        assert_eq!(pulse.beat(Waker::noop(), now), None);
        for waited in waits {
            pulse.step(now);
            now += waited;
            assert_eq!(pulse.beat(Waker::noop(), now), Some(waited));
            now += 100 * US;
        }
        (pulse, now)
    }

    #[test]
    fn a_queue_after_a_pause_is_worked_off_in_peace() {
        let (pulse, now) = after([0, 0, 60, 40, 20, 5, 1].map(|waited| waited * MS));
        assert_eq!(pulse.step(now), Some(Step::Full));
        let (pulse, now) = after((0..100).map(|turn| if turn % 20 == 0 { US } else { 4 * MS }));
        assert_eq!(pulse.step(now), Some(Step::Full), "it gets empty now and then");
        let (pulse, mut now) = after([60 * MS]);
        for _ in 0..5 {
            now += Duration::from_secs(1);
            assert_eq!(pulse.step(now), Some(Step::Full), "pauses far from each other are no queue");
            pulse.beat(Waker::noop(), now + 60 * MS);
        }
    }

    #[test]
    fn what_is_late_is_answered_with_little_while_that_is_enough() {
        let (pulse, mut now) = after([3 * MS; 36]);
        while pulse.level.get() > ANSWERED + 0.2 {
            now += 5 * MS;
            pulse.step(now);
            pulse.beat(Waker::noop(), now);
        }
        assert!(pulse.level.get() > ANSWERED);
        pulse.step(now);
        pulse.beat(Waker::noop(), now + 2 * MS);
        assert_eq!(pulse.step(now + 2 * MS), None, "one that has not waited for long makes room");
        pulse.beat(Waker::noop(), now + 9 * MS);
        assert_eq!(pulse.step(now + 9 * MS), Some(Step::Popular), "seven targets are late");
    }

    #[test]
    fn a_queue_that_stands_makes_everything_give_way_until_it_is_gone() {
        let (pulse, mut now) = after([3 * MS; 36]);
        assert_eq!(pulse.step(now), None, "it stood for so long that much is to be worked off");
        assert!(pulse.keeps(now), "what is to be kept is refused last");
        assert!(!pulse.keeps(now + 30 * MS), "the task is still in the queue");
        pulse.beat(Waker::noop(), now + 3 * MS);
        for _ in 0..8 {
            now += 10 * MS;
            pulse.step(now);
            pulse.beat(Waker::noop(), now);
        }
        assert!(matches!(pulse.step(now), Some(Step::Full | Step::Lighter | Step::Narrow)), "it gets better");
        assert_eq!(pulse.step(now + 30 * MS), Some(Step::Popular), "a single long wait is no reason to refuse");
        pulse.beat(Waker::noop(), now + 30 * MS);
        assert_eq!(pulse.step(now + 200 * MS), Some(Step::Full), "nobody asked for a while");
        let (pulse, mut now) = after([3 * MS; 36]);
        for _ in 0..40 {
            now += 10 * MS;
            pulse.step(now);
            pulse.beat(Waker::noop(), now);
        }
        assert_eq!(pulse.step(now), Some(Step::Full), "nobody waited for a while");
    }

    /// A worker to which requests come at an even pace, each of which costs so much as its step says; what it answered and refused in the last
    /// second of five, and the longest that one waited in it.
    fn worker(per_second: u32) -> (usize, usize, Duration) {
        const COST_US: [u32; 5] = [115, 90, 65, 45, 15];
        let (pulse, start) = (Pulse::new(MS), Instant::now());
        pulse.beat(Waker::noop(), start);
        let (mut now, mut turn) = (start, None);
        let (mut answered, mut refused, mut longest) = (0, 0, Duration::ZERO);
        for request in 0..5 * per_second {
            let came = start + Duration::from_secs(1) * request / per_second;
            // The task has its turn before a request that came after it was put into the queue.
            if turn.is_some_and(|put| put < came) {
                pulse.beat(Waker::noop(), now);
                turn = None;
            }
            now = now.max(came);
            let step = pulse.step(now);
            turn = turn.or(Some(now));
            now += COST_US[step.map_or(4, |step| step as usize)] * US;
            if came - start > Duration::from_secs(4) {
                *(if step.is_some() { &mut answered } else { &mut refused }) += 1;
                longest = longest.max(now - came);
            }
        }
        (answered, refused, longest)
    }

    #[test]
    fn more_than_can_be_done_is_lessened_to_what_can() {
        let (answered, refused, longest) = worker(8_000);
        assert!(answered >= 7_990 && refused == 0 && longest < MS, "{answered} {refused} {longest:?}");
        for per_second in [10_000, 17_000, 30_000, 50_000] {
            let (answered, refused, longest) = worker(per_second);
            assert!(longest < 3 * MS, "{per_second}: {longest:?}");
            // As many of the cheapest answers as there is time for beside the refusals.
            let most = per_second.min((1_000_000 - 15 * per_second) / (45 - 15)) as usize;
            assert!(answered > most / 100 * 95, "{per_second}: {answered} {refused}");
        }
    }
}

//! What gives way when there is more to do than can be done: first the breadth of the search, then its sources, then that the list is
//! personal, and only then the request.
//!
//! How much there is to do is measured by how long a request waits, not by how many there are: a worker computes without yielding, so
//! what waits lies in its queue and in the kernel's, where nobody counts it. A [`Pulse`] is a task of the worker's own that is put at the end
//! of its queue when a request comes; how long it takes to get its turn is how long a request takes.
//!
//! A queue after a pause (a swap of artifacts, a core that was taken away for a moment) is worked off by itself and no reason to refuse
//! anything; one that does not get empty is. So what counts is the least wait of a while, as in CoDel (Nichols, Jacobson 2012): only
//! when no task of the last 100 ms had its turn at once does anything give way, and until for as long each had it at once.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::scenario::Scenario;
use crate::settings::OverloadSettings;

/// How long nobody must have had a turn at once before anything gives way; and everybody, before nothing does.
const WINDOW: Duration = Duration::from_millis(100);

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

/// From how long a request has waited to what it gets.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    enabled: bool,
    lighter: Duration,
    narrow: Duration,
    popular: Duration,
    refuse: Duration,
}

impl Ladder {
    /// The ladder of the settings.
    #[must_use]
    pub fn new(settings: &OverloadSettings) -> Self {
        Self {
            enabled: settings.enabled,
            lighter: Duration::from_micros(settings.lighter_us),
            narrow: Duration::from_micros(settings.narrow_us),
            popular: Duration::from_micros(settings.popular_us),
            refuse: Duration::from_micros(settings.refuse_us),
        }
    }

    /// Whether waiting is measured.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The wait above which something gives way.
    #[must_use]
    pub fn first(&self) -> Duration {
        self.lighter
    }

    /// What a request gets that has waited so long; none if it is refused.
    #[must_use]
    pub fn step(&self, waited: Duration) -> Option<Step> {
        match () {
            () if waited <= self.lighter => Some(Step::Full),
            () if waited <= self.narrow => Some(Step::Lighter),
            () if waited <= self.popular => Some(Step::Narrow),
            () if waited <= self.refuse => Some(Step::Popular),
            () => None,
        }
    }

    /// Whether something is kept that was sent to be kept. It costs little and is worth more than a list, so it is refused last.
    #[must_use]
    pub fn keeps(&self, waited: Duration) -> bool {
        waited <= 2 * self.refuse
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
            ..full.clone()
        };
        let lighter = less(2);
        let mut narrow = less(4);
        if narrow.weights.vector > 0.0 {
            narrow.weights.neighbours = 0.0;
            narrow.weights.followed = 0.0;
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

/// When a window began, and the least and the greatest wait in it.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    least: Duration,
    most: Duration,
}

/// How long a task of one worker waits for its turn.
#[derive(Debug)]
pub struct Pulse {
    /// The least wait of a window that is overload.
    target: Duration,
    /// The waits of a while.
    window: Cell<Option<Window>>,
    /// Whether the queue stands.
    overloaded: Cell<bool>,
    /// When the task was put at the end of the queue, if it has not had its turn yet.
    sent: Cell<Option<Instant>>,
    /// When it had its turn last, and how long it had waited.
    last: Cell<Option<(Instant, Duration)>>,
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    /// A pulse that tells overload when nobody's wait gets down to `target` for a while.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            window: Cell::default(),
            overloaded: Cell::default(),
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
        self.last.set(Some((now, waited)));
        self.note(now, waited);
        Some(waited)
    }

    /// Learns from a wait whether the queue stands.
    fn note(&self, now: Instant, waited: Duration) {
        let begun = Window { began: now, least: waited, most: waited };
        let window = match self.window.get() {
            None => begun,
            Some(window) if now.saturating_duration_since(window.began) < WINDOW => {
                Window { least: window.least.min(waited), most: window.most.max(waited), ..window }
            }
            Some(ended) => {
                if ended.least > self.target {
                    self.overloaded.set(true);
                } else if ended.most <= self.target {
                    self.overloaded.set(false);
                }
                begun
            }
        };
        self.window.set(Some(window));
    }

    /// How long a request that has its turn now has waited, about, if the queue stands; none at all if it does not. And puts the task at the end of the queue if it is not in it.
    pub fn waited(&self, now: Instant) -> Duration {
        // A wait that was measured longer ago than it lasted says nothing about a queue that may have emptied since.
        let fresh = |(at, waited): (Instant, Duration)| (now.saturating_duration_since(at) <= waited).then_some(waited);
        let last = self.last.get().and_then(fresh).unwrap_or_default();
        let waited = match self.sent.get() {
            Some(sent) => last.max(now.saturating_duration_since(sent)),
            None => {
                if let Some(waker) = &*self.waker.borrow() {
                    self.sent.set(Some(now));
                    waker.wake_by_ref();
                }
                last
            }
        };
        if self.overloaded.get() { waited } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_longer_one_waits_the_less_one_gets() {
        let ladder = Ladder::new(&OverloadSettings::default());
        let at = |us| ladder.step(Duration::from_micros(us));
        assert_eq!(
            [0, 2000, 2001, 2501, 3001].map(at),
            [Some(Step::Full), Some(Step::Full), Some(Step::Lighter), Some(Step::Narrow), Some(Step::Popular)]
        );
        assert_eq!(at(4001), None);
        assert!(ladder.keeps(8 * MS) && !ladder.keeps(9 * MS));
        let by_time = |spent| Step::by_time(spent * MS, 100 * MS);
        assert_eq!([50, 51, 76, 101].map(by_time), Step::ALL);
    }

    #[test]
    fn each_step_does_less_and_stays_valid() {
        for scenario in Scenario::built_in().into_values() {
            let placement = Placement::new(scenario);
            let work = |step| (placement.at(step).candidates, placement.at(step).ef_search);
            assert!(work(Step::Full) > work(Step::Lighter) && work(Step::Lighter) > work(Step::Narrow));
            assert_eq!(placement.at(Step::Narrow).weights.neighbours, 0.0);
            Step::ALL.iter().for_each(|step| assert_eq!(placement.at(*step).validate(), Ok(())));
            assert_eq!(placement.ef_search(Step::Lighter, Some(500)), Some(placement.at(Step::Lighter).ef_search));
            assert_eq!(placement.ef_search(Step::Full, Some(500)), Some(500));
        }
        let mut only_neighbours = Scenario::home();
        only_neighbours.weights.vector = 0.0;
        assert!(Placement::new(only_neighbours).at(Step::Narrow).validate().is_ok(), "a last source stays");
    }

    /// A pulse whose task waits `waits` milliseconds, one turn after the other; and the time at the end.
    fn after(waits: impl IntoIterator<Item = u32>) -> (Pulse, Instant) {
        let (pulse, mut now) = (Pulse::new(2 * MS), Instant::now());
        assert_eq!(pulse.waited(now), Duration::ZERO, "nobody beats yet");
        assert_eq!(pulse.beat(Waker::noop(), now), None);
        for waits in waits {
            pulse.waited(now);
            now += waits * MS;
            assert_eq!(pulse.beat(Waker::noop(), now), Some(waits * MS));
        }
        (pulse, now)
    }

    #[test]
    fn a_queue_that_stands_is_told_as_long_as_it_is() {
        let (pulse, now) = after([3; 40]);
        assert_eq!(pulse.waited(now + MS), 3 * MS, "the queue was that long just now");
        assert_eq!(pulse.waited(now + 9 * MS), 8 * MS, "the task is still in the queue");
        assert_eq!(pulse.beat(Waker::noop(), now + 10 * MS), Some(9 * MS));
        assert_eq!(pulse.waited(now + 900 * MS), Duration::ZERO, "long ago");
        for turn in 0..30 {
            assert_eq!(pulse.beat(Waker::noop(), now + (900 + 10 * turn) * MS), Some(Duration::ZERO));
            pulse.waited(now + (910 + 10 * turn) * MS);
        }
        assert_eq!(
            pulse.waited(now + 1_250 * MS),
            Duration::ZERO,
            "it was empty for a while: a single wait says nothing"
        );
    }

    #[test]
    fn a_queue_after_a_pause_is_worked_off_in_peace() {
        let (pulse, now) = after([0, 0, 60, 40, 20, 5, 1]);
        assert_eq!(pulse.waited(now), Duration::ZERO);
        let (pulse, now) = after((0..100).map(|turn| if turn % 20 == 0 { 0 } else { 4 }));
        assert_eq!(pulse.waited(now + MS), Duration::ZERO, "it gets empty now and then");
    }
}

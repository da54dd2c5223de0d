//! How much is given up, so that requests wait no longer than a target.
//!
//! A queue after a pause (a swap of artifacts, a core that was taken away for a moment) is worked off by itself and no reason to give up
//! anything; one that does not get empty is. So what begins it is how long no wait was short, as in CoDel (Nichols, Jacobson 2012): only
//! when nobody has had a turn at once for 100 ms does anything give way. From then on a controller (proportional and integral, as in
//! PIE, RFC 8033) gives up as much as keeps the wait at its target.

use std::time::{Duration, Instant};

use super::Step;

/// How long nobody must have had a turn at once before anything gives way; and for how long nobody must have asked before nothing does.
const WINDOW: Duration = Duration::from_millis(100);
/// Steps that a wait gives up for each target that it is longer than the target.
const AT_ONCE: f32 = 1.0;
/// Steps that one of twice the target gives up more for each second that it lasts, as does a longer one; and that are taken back for each second
/// without a wait. Slow, so that what a core that was taken away leaves is worked off before much is given up for it.
const PER_SECOND: f32 = 20.0;
/// Steps from everything to nothing, and to the least.
const STEPS: f32 = Step::ALL.len() as f32;
const LEAST: f32 = STEPS - 1.0;

/// What one worker gives up.
#[derive(Debug)]
pub(super) struct Pressure {
    /// The wait that is aimed at where there is more to do than can be done.
    target: Duration,
    /// Since when no wait was as short as the target.
    waiting_since: Option<Instant>,
    /// Whether the queue stands.
    is_on: bool,
    /// Steps that are given up in the long run.
    level: f32,
    /// The part of a step that requests so far have still to give up.
    owed: f32,
    /// The last turn.
    last: Option<Instant>,
}

impl Pressure {
    pub(super) fn new(target: Duration) -> Self {
        Self { target, waiting_since: None, is_on: false, level: 0.0, owed: 0.0, last: None }
    }

    /// Whether much more comes than can be answered with the least.
    pub(super) fn is_heavy(&self) -> bool {
        self.is_on && self.level >= LEAST + 0.5
    }

    /// Whether somebody who would have a turn after such a wait would get less than the least.
    pub(super) fn refuses(&self, wait: Duration) -> bool {
        self.is_on && self.level + AT_ONCE * self.excess(wait) >= STEPS
    }

    /// Whether anything gives way.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Learns from a turn after a wait, and says what is given to whoever has it.
    pub(super) fn turn(&mut self, now: Instant, waited: Duration) -> Step {
        let since = self.since_last(now, waited);
        if let Some(since) = since.filter(|_| self.is_on) {
            let excess = self.excess(waited).min(1.0);
            // A wait counts for as long as it lasted, none for as long as there was none.
            let lasted = if excess > 0.0 { since.min(waited) } else { since };
            let level = self.level + excess * PER_SECOND * lasted.as_secs_f32();
            self.level = level.clamp(0.0, STEPS);
            self.is_on = level > 0.0;
        } else {
            self.is_on = false;
            self.watch(now, waited, since.is_some());
        }
        self.step(waited)
    }

    /// What is given to one whose turn it is after a pause. There is nothing to be learned from what it has waited.
    pub(super) fn late_turn(&mut self, now: Instant, waited: Duration) -> Step {
        if self.since_last(now, waited).is_none() {
            // Also for those that come next.
            self.is_on = false;
            self.waiting_since = None;
        }
        self.step(waited)
    }

    /// How long ago the turn before was. None where nobody asked for a while: what was does not stand any more.
    fn since_last(&mut self, now: Instant, waited: Duration) -> Option<Duration> {
        let last = self.last.replace(now)?;
        Some(now.saturating_duration_since(last)).filter(|since| *since <= WINDOW + waited)
    }

    /// Learns whether the queue stands. A wait before which nobody asked for a while is the first of a new queue.
    fn watch(&mut self, now: Instant, waited: Duration, goes_on: bool) {
        if waited <= self.target {
            self.waiting_since = None;
            return;
        }
        let since = self.waiting_since.filter(|_| goes_on).unwrap_or(now);
        self.is_on = now.saturating_duration_since(since) >= WINDOW;
        self.waiting_since = (!self.is_on).then_some(since);
        if self.is_on {
            // What stands is worked off first.
            self.level = STEPS;
        }
    }

    /// By how many targets a wait is longer than the target; -1 where there was none.
    fn excess(&self, waited: Duration) -> f32 {
        waited.as_secs_f32() / self.target.as_secs_f32() - 1.0
    }

    fn step(&mut self, waited: Duration) -> Step {
        if !self.is_on {
            return Step::Full;
        }
        let given_up = (self.level + AT_ONCE * self.excess(waited)).clamp(0.0, LEAST);
        // Between two steps some requests get the one and some the other, as many as it says.
        let owed = self.owed + given_up.fract();
        self.owed = owed.fract();
        let at = (given_up.trunc() + owed.trunc()) as usize;
        Step::ALL.get(at).copied().unwrap_or(Step::Popular)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

    /// Turns after these waits, one after the other; the step of the last, and the time.
    fn after(waits: impl IntoIterator<Item = Duration>) -> (Pressure, Step, Instant) {
        let (mut pressure, mut now, mut step) = (Pressure::new(MS), Instant::now(), Step::Full);
        for waited in waits {
            now += waited + 100 * US;
            step = pressure.turn(now, waited);
        }
        (pressure, step, now)
    }

    #[test]
    fn a_queue_after_a_pause_is_worked_off_in_peace() {
        assert_eq!(after([0, 0, 60, 40, 20, 5, 1].map(|waited| waited * MS)).1, Step::Full);
        let (_, step, _) = after((0..100).map(|turn| if turn % 20 == 0 { US } else { 4 * MS }));
        assert_eq!(step, Step::Full, "it gets empty now and then");
        let (mut pressure, _, mut now) = after([60 * MS]);
        for _ in 0..5 {
            now += Duration::from_secs(1);
            assert_eq!(pressure.turn(now, 60 * MS), Step::Full, "pauses far from each other are no queue");
        }
    }

    #[test]
    fn who_is_late_after_a_while_in_which_nobody_asked_finds_no_queue() {
        let (mut pressure, _, now) = after([3 * MS; 36]);
        assert!(pressure.is_on());
        assert_eq!(pressure.late_turn(now + Duration::from_secs(1), 60 * MS), Step::Full);
        let (mut pressure, _, now) = after([3 * MS]);
        let later = now + Duration::from_secs(1);
        pressure.late_turn(later, 60 * MS);
        assert_eq!(pressure.turn(later + MS, 3 * MS), Step::Full, "nor does who comes after");
    }

    #[test]
    fn a_queue_that_stands_makes_answers_less_until_it_is_gone() {
        let (mut pressure, step, mut now) = after([3 * MS; 36]);
        assert_eq!(step, Step::Popular, "it stood for so long that much is to be worked off");
        for _ in 0..8 {
            now += 10 * MS;
            pressure.turn(now, Duration::ZERO);
        }
        assert!(pressure.turn(now, Duration::ZERO) < Step::Popular, "it gets better");
        assert_eq!(pressure.turn(now + 30 * MS, 30 * MS), Step::Popular, "who waited for long gets the least");
        assert_eq!(pressure.turn(now + 200 * MS, Duration::ZERO), Step::Full, "nobody asked for a while");
        assert!(!pressure.is_on());
        let (mut pressure, _, mut now) = after([3 * MS; 36]);
        for _ in 0..40 {
            now += 10 * MS;
            pressure.turn(now, Duration::ZERO);
        }
        assert_eq!(pressure.turn(now, Duration::ZERO), Step::Full, "nobody waited for a while");
        assert!(!pressure.is_on());
    }
}

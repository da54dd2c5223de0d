//! The requests of one worker in the order in which they came, and who of them is answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::Step;
use super::pressure::Pressure;

/// Targets after which one that joins the line after a pause, such as another program makes that the core is given to, is late. It has waited for what it
/// asks; one that has come just now is refused in its place.
const LATE: u32 = 1;
/// Targets that one that is late, or that was sent to be kept, may take in all. While those who came in a pause are answered, refusing the others takes most
/// of the time, so it is several times the pause until all of them are.
const LONGEST: u32 = 40;
/// Where very much comes, reading and refusing would leave no time to answer anything. So of as many that are read one has a place, and one its turn
/// before the sockets are looked at again.
const READ_PER_TURN: usize = 8;
/// How many times as long as is usual for what was done in it a round is that is none of the rule, but a pause; or how many targets, as when the core was slow
/// or the round before so long.
const LONG: u32 = 3;
/// Rounds that the mean pace is of, about; and the time that what is usual is learned from, of which a core that is slow for a moment is not much.
const ROUNDS: u32 = 16;
const USUAL_OF: Duration = Duration::from_millis(100);

/// What a request is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// To be answered with something.
    Asks,
    /// To be kept. It costs little and is worth more than a list, so it is refused last.
    Keeps,
}

/// Where the requests of one worker wait for their turn.
///
/// A worker computes without yielding. So the next are called only once the sockets have been looked at, and whatever could be read there has
/// joined the line: what nobody has read, nobody can refuse. That is the usher's work, a task of the worker's own ([`Line::usher`]).
#[derive(Debug)]
pub struct Line {
    target: Duration,
    /// Those that have not been called, in the order in which they came.
    waiting: RefCell<VecDeque<Rc<Ticket>>>,
    /// How many of the last of those have joined since the sockets were looked at.
    joined: Cell<usize>,
    /// How many were read since then, and how many of those had their turn at once.
    read: Cell<usize>,
    served: Cell<usize>,
    /// How many have been called and have not had their turn.
    called: Cell<usize>,
    usher: RefCell<Option<Waker>>,
    /// When the sockets were looked at, the time before the last and the last.
    looks: Cell<[Instant; 2]>,
    /// What was done since the last: requests read, called, refused; and the time that one of those usually takes.
    done: Cell<u32>,
    usual: Cell<Duration>,
    /// When a pause was first seen. None once the sockets have been looked at in time again.
    paused: Cell<Option<Instant>>,
    /// When the last were called, and how many.
    round: Cell<Option<(Instant, u32)>>,
    /// From one turn to the next, where somebody waits.
    pace: Cell<Duration>,
    pressure: RefCell<Pressure>,
}

/// A place in the line.
#[derive(Debug)]
struct Ticket {
    sort: Sort,
    came: Cell<Instant>,
    /// Whether it came in a pause, which is what it waited for.
    is_late: Cell<bool>,
    state: Cell<TicketState>,
    waker: RefCell<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TicketState {
    Waits,
    Called,
    Refused,
}

/// What a request gets that has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// How much of an answer; none if it is refused.
    pub step: Option<Step>,
    /// How long it has waited.
    pub waited: Duration,
}

impl Line {
    /// A line whose waits are kept at `target` where there is more to do than can be done.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            waiting: RefCell::default(),
            joined: Cell::default(),
            read: Cell::default(),
            served: Cell::default(),
            called: Cell::default(),
            usher: RefCell::default(),
            looks: Cell::new([Instant::now(); 2]),
            done: Cell::default(),
            usual: Cell::default(),
            paused: Cell::default(),
            round: Cell::default(),
            pace: Cell::default(),
            pressure: RefCell::new(Pressure::new(target)),
        }
    }

    /// Calls those in the line, for ever.
    pub async fn usher(&self) {
        let mut is_busy = false;
        loop {
            std::future::poll_fn(|context| {
                if self.is_wanted(is_busy) {
                    return Poll::Ready(());
                }
                *self.usher.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            self.look(Instant::now());
            // The runtime looks at the sockets before it wakes what has yielded.
            tokio::task::yield_now().await;
            is_busy = self.call(Instant::now());
        }
    }

    /// Whether there is something to do for the usher, who only rests once nothing was read: whoever finds it resting has not waited.
    fn is_wanted(&self, is_busy: bool) -> bool {
        self.called.get() == 0 && (is_busy || self.read.get() > 0 || !self.waiting.borrow().is_empty())
    }

    /// Stands in line. Whoever goes away meanwhile leaves it.
    pub async fn turn(&self, sort: Sort) -> Given {
        let mut place = Place { line: self, ticket: None };
        std::future::poll_fn(|context| {
            let Some(ticket) = &place.ticket else {
                return match self.come(sort, context.waker(), Instant::now()) {
                    Ok(ticket) => {
                        place.ticket = Some(ticket);
                        Poll::Pending
                    }
                    Err(given) => Poll::Ready(given),
                };
            };
            let given = match ticket.state.get() {
                TicketState::Waits => {
                    ticket.waker.borrow_mut().clone_from(context.waker());
                    return Poll::Pending;
                }
                TicketState::Called => self.take(ticket, Instant::now()),
                TicketState::Refused => Given { step: None, waited: ticket.age(Instant::now()) },
            };
            place.ticket = None;
            Poll::Ready(given)
        })
        .await
    }

    /// One that has just been read: a place at the end of the line, or what it is given at once, while its bytes are in the cache.
    fn come(&self, sort: Sort, waker: &Waker, now: Instant) -> Result<Rc<Ticket>, Given> {
        let mut waiting = self.waiting.borrow_mut();
        if self.called.get() == 0 && self.read.get() == 0 && self.wake_usher() {
            self.looks.set([now; 2]);
            self.done.set(0);
            self.paused.set(None);
            self.round.set(None);
        }
        self.count_one();
        self.read.set(self.read.get() + 1);
        if sort == Sort::Asks
            && let Some(given) = self.at_once(waiting.len() + self.called.get(), now)
        {
            return Err(given);
        }
        let ticket = Rc::new(Ticket {
            sort,
            came: Cell::new(now),
            is_late: Cell::new(false),
            state: Cell::new(TicketState::Waits),
            waker: RefCell::new(waker.clone()),
        });
        self.joined.set(self.joined.get() + 1);
        waiting.push_back(Rc::clone(&ticket));
        Ok(ticket)
    }

    /// What is given at once to one that has just been read, if it does not stand in line behind so many.
    fn at_once(&self, ahead: usize, now: Instant) -> Option<Given> {
        let mut pressure = self.pressure.borrow_mut();
        let places = self.read.get() / READ_PER_TURN;
        if pressure.is_heavy() {
            // There is no end of them: those that were read first have their turn, the others are refused.
            let [before, look] = self.looks.get().map(|then| now.saturating_duration_since(then));
            let waited = (before + look) / 2;
            let has_turn = self.served.get() <= places || look < self.target / 2;
            let step = has_turn.then(|| pressure.turn(now, waited));
            self.served.set(self.served.get() + usize::from(has_turn));
            return Some(Given { step, waited });
        }
        // One that came in a pause may be late; that is seen once all of them have been read.
        let is_refused =
            !self.may_be_late(now) && ahead > places && pressure.refuses(self.pace.get() * (ahead as u32 + 1));
        is_refused.then_some(Given { step: None, waited: Duration::ZERO })
    }

    /// The sockets are looked at now.
    fn look(&self, now: Instant) {
        let [_, last] = self.looks.get();
        self.looks.set([last, now]);
        let took = now.saturating_duration_since(last);
        if took < LATE * self.target {
            self.paused.set(None);
        } else if self.is_pause(took) {
            self.pause(now);
        }
        let (one, usual) = (took / self.done.take().max(1), self.usual.get());
        let share = took.min(USUAL_OF).div_duration_f32(USUAL_OF);
        self.usual.set(if usual.is_zero() {
            one.min(self.target)
        } else {
            usual.mul_f32(1.0 - share) + one.min(usual * LONG).mul_f32(share)
        });
    }

    /// Whether what was done since the sockets were looked at should not have taken so long.
    fn is_pause(&self, took: Duration) -> bool {
        took >= LATE * self.target
            && (took >= LONG * self.target || took >= self.usual.get() * LONG * (self.done.get() + 1))
    }

    /// Whether those that are read by now may be late: there was a pause, and the sockets have not been looked at in time since. Not for ever, where all that comes
    /// cannot even be read in time.
    fn may_be_late(&self, now: Instant) -> bool {
        let [_, look] = self.looks.get();
        if self.is_pause(now.saturating_duration_since(look)) {
            self.pause(now);
        }
        self.paused.get().is_some_and(|seen| now.saturating_duration_since(seen) < LONGEST * self.target)
    }

    /// There was a pause by now, unless one is known that has not been made good.
    fn pause(&self, now: Instant) {
        self.paused.set(self.paused.get().or(Some(now)));
    }

    /// One more was read, called or refused.
    fn count_one(&self) {
        self.done.set(self.done.get() + 1);
    }

    /// Whatever could be read has joined the line: refuses those for whom there is no room, and calls the first. Whether anything was read.
    fn call(&self, now: Instant) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let (joined, read, served) = (self.joined.take(), self.read.take(), self.served.take());
        let turns = read / READ_PER_TURN;
        let mut new = waiting.len() - joined;
        if let Some((last, called)) = self.round.get() {
            self.pace.set(self.mean(self.pace.get(), now.saturating_duration_since(last) / called));
        }
        // They came between two looks, and nothing tells more of when each of them did.
        let [from, to] = self.looks.get();
        let step = to.saturating_duration_since(from) / (joined as u32 + 1);
        let may_be_late = self.may_be_late(now);
        for (at, ticket) in waiting.range(new..).enumerate() {
            ticket.came.set(from + step * (at as u32 + 1));
            ticket.is_late.set(may_be_late && ticket.age(now) >= LATE * self.target);
        }
        let pressure = self.pressure.borrow();
        if pressure.is_on() {
            while let Some(ticket) = waiting.get(new) {
                if new <= turns || self.has_room(&pressure, ticket, new, now) {
                    new += 1;
                } else if let Some(ticket) = waiting.remove(new) {
                    ticket.wake(TicketState::Refused);
                    self.count_one();
                }
            }
        }
        // As many as had their turn at once, so that nobody in the line is overtaken for long.
        let called = turns.max(served).max(1).min(waiting.len());
        for ticket in waiting.drain(..called) {
            ticket.wake(TicketState::Called);
            self.count_one();
        }
        self.called.set(called);
        self.round.set((called > 0).then_some((now, called as u32)));
        read > 0
    }

    /// A mean with one more round in it.
    fn mean(&self, mean: Duration, round: Duration) -> Duration {
        if mean.is_zero() { round.min(self.target) } else { (mean * (ROUNDS - 1) + round.min(mean * LONG)) / ROUNDS }
    }

    /// Whether one that has joined the line will have its turn in time.
    fn has_room(&self, pressure: &Pressure, ticket: &Ticket, ahead: usize, now: Instant) -> bool {
        let wait = ticket.age(now) + self.pace.get() * (ahead as u32 + 1);
        match ticket.sort {
            Sort::Asks if !ticket.is_late.get() => !pressure.refuses(wait),
            Sort::Asks | Sort::Keeps => wait <= LONGEST * self.target,
        }
    }

    /// The turn of one that was called.
    fn take(&self, ticket: &Ticket, now: Instant) -> Given {
        let waited = ticket.age(now);
        let mut pressure = self.pressure.borrow_mut();
        let step = if ticket.is_late.get() { pressure.late_turn(now, waited) } else { pressure.turn(now, waited) };
        drop(pressure);
        self.is_through();
        Given { step: Some(step), waited }
    }

    /// One that was called needs its turn no more.
    fn is_through(&self) {
        self.called.set(self.called.get() - 1);
        if self.called.get() == 0 {
            self.wake_usher();
        }
    }

    /// Whether it rested.
    fn wake_usher(&self) -> bool {
        let usher = self.usher.borrow_mut().take();
        usher.map(Waker::wake).is_some()
    }

    /// Somebody goes away without having had a turn.
    fn leave(&self, ticket: &Rc<Ticket>) {
        if ticket.state.get() == TicketState::Called {
            self.is_through();
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|one| Rc::ptr_eq(one, ticket)) {
            if at >= waiting.len() - self.joined.get() {
                self.joined.set(self.joined.get() - 1);
            }
            waiting.remove(at);
        }
    }
}

impl Ticket {
    /// How long it has waited.
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.came.get())
    }

    fn wake(&self, state: TicketState) {
        self.state.set(state);
        self.waker.borrow().wake_by_ref();
    }
}

/// Somebody in the line, who leaves it when dropped.
struct Place<'a> {
    line: &'a Line,
    ticket: Option<Rc<Ticket>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.line.leave(&ticket);
        }
    }
}

#[cfg(test)]
mod tests;

#![allow(clippy::unwrap_used)]

use super::*;

const MS: Duration = Duration::from_millis(1);
const US: Duration = Duration::from_micros(1);
const TARGET: Duration = Duration::from_millis(2);
/// Microseconds that reading a request takes, refusing it, and each step of an answer.
#[derive(Clone, Copy, Debug)]
struct Costs {
    read: u32,
    refuse: u32,
    answer: [u32; Step::ALL.len()],
}
const USUAL: Costs = Costs { read: 20, refuse: 15, answer: [95, 70, 45, 25] };
const FAST: Costs = Costs { read: 8, refuse: 5, answer: [40, 32, 25, 17] };
/// Connections: that many requests wait at most, read or not.
const CONNECTIONS: usize = 1_000;

/// What became of the requests of the last second.
#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    whole: usize,
    refused: usize,
    longest_answer: Duration,
    longest_refusal: Duration,
}

/// What a worker is about to do when its core is taken away; or that it only becomes slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// To note that the sockets are looked at.
    Look,
    /// To read the last request that was found there.
    Reading,
    /// Anything, which takes so many times as long meanwhile.
    Slow(u32),
}

/// A worker to which requests come at an even pace for five seconds.
fn worker(per_second: u32, pause: Duration) -> Outcome {
    worker_of(|sent| Duration::from_secs(1) * sent / per_second, pause, Before::Look, USUAL)
}

/// A worker whose requests are due at these times, and whose core is taken away for a while four times in the last of five seconds. Nothing is read before the sockets
/// are looked at, but where it rests.
fn worker_of(due: impl Fn(u32) -> Duration, pause: Duration, before: Before, costs: Costs) -> Outcome {
    let (line, start) = (Line::new(TARGET), Instant::now());
    let counted_from = start + Duration::from_secs(4);
    let mut paused = 0;
    let mut pauses = |now: Instant, at: Before| {
        let is_now = at == before && now > counted_from + 100 * MS + paused * 250 * MS;
        paused += u32::from(is_now);
        if is_now { now + pause } else { now }
    };
    let spent = |now: Instant, us: u32| {
        let since = Duration::from_millis((now - start).as_millis() as u64 % 250);
        match before {
            Before::Slow(factor) if now > counted_from && since < pause => now + us * factor * US,
            _ => now + us * US,
        }
    };
    let mut now = start;
    let mut outcome = Outcome::default();
    let mut note = |came: Instant, now: Instant, step: Option<Step>| {
        if came >= counted_from {
            let Outcome { answered, whole, refused, longest_answer, longest_refusal } = &mut outcome;
            *whole += usize::from(step == Some(Step::Full));
            let (n, longest) = if step.is_some() { (answered, longest_answer) } else { (refused, longest_refusal) };
            (*n, *longest) = (*n + 1, (*longest).max(now - came));
        }
    };
    let (mut sent, mut unread, mut in_line) = (0, VecDeque::new(), Vec::<(Instant, Rc<Ticket>)>::new());
    let mut is_busy = false;
    while now < start + Duration::from_secs(5) {
        now = pauses(now, Before::Look);
        let is_wanted = line.is_wanted(is_busy);
        if is_wanted {
            line.look(now);
        } else {
            *line.usher.borrow_mut() = Some(Waker::noop().clone());
            now = now.max(start + due(sent));
        }
        while start + due(sent) <= now {
            if unread.len() + in_line.len() < CONNECTIONS {
                unread.push_back(start + due(sent));
            }
            sent += 1;
        }
        let last = unread.back().copied();
        for came in unread.drain(..) {
            if last == Some(came) {
                now = pauses(now, Before::Reading);
            }
            now = spent(now, costs.read);
            match line.come(Sort::Asks, Waker::noop(), now) {
                Ok(ticket) => in_line.push((came, ticket)),
                Err(given) => {
                    now = spent(now, given.step.map_or(costs.refuse, |step| costs.answer[step as usize]));
                    note(came, now, given.step);
                }
            }
        }
        if !is_wanted {
            continue;
        }
        is_busy = line.call(now);
        in_line.retain(|(came, ticket)| {
            let is_refused = ticket.state.get() == TicketState::Refused;
            if is_refused {
                now = spent(now, costs.refuse);
                note(*came, now, None);
            }
            !is_refused
        });
        in_line.retain(|(came, ticket)| {
            let is_called = ticket.state.get() == TicketState::Called;
            if is_called {
                let step = line.take(ticket, now).step;
                now = spent(now, costs.answer[step.unwrap() as usize]);
                note(*came, now, step);
            }
            !is_called
        });
        // An empty round takes time, too.
        now = spent(now, 1);
    }
    outcome
}

#[test]
fn what_can_be_done_is_done_whole_and_at_once() {
    let outcome = worker(8_000, Duration::ZERO);
    assert!(outcome.answered >= 7_990 && outcome.refused == 0 && outcome.longest_answer < MS, "{outcome:?}");
    let outcome = worker(4_000, 60 * MS);
    assert_eq!(outcome.refused, 0, "a queue after a pause is worked off: {outcome:?}");
}

#[test]
fn more_than_can_be_done_is_lessened_to_what_can() {
    for per_second in [10_000, 17_000, 25_000] {
        let outcome = worker(per_second, Duration::ZERO);
        assert!(outcome.longest_answer < 5 * TARGET, "{per_second}: {outcome:?}");
        assert!(outcome.longest_refusal < 2 * TARGET, "{per_second}: {outcome:?}");
        // As many of the cheapest answers as there is time for beside the refusals.
        let most = per_second
            .min((1_000_000 - (USUAL.read + USUAL.refuse) * per_second) / (USUAL.answer[3] - USUAL.refuse))
            as usize;
        assert!(outcome.answered > most / 100 * 85, "{per_second}: {outcome:?}, at most {most}");
    }
}

#[test]
fn once_it_is_over_it_is_over() {
    for (per_second, calm) in [(10_000, 500), (25_000, 500), (25_000, 5), (25_000, 4_000)] {
        let due = |sent: u32| {
            let rush = Duration::from_secs(1) * sent.min(2 * per_second) / per_second;
            rush + Duration::from_secs(1) * sent.saturating_sub(2 * per_second) / calm
        };
        let outcome = worker_of(due, Duration::ZERO, Before::Look, USUAL);
        assert!(
            outcome.answered > 0 && outcome.whole == outcome.answered && outcome.refused == 0,
            "{calm}: {outcome:?}"
        );
    }
}

#[test]
fn where_more_comes_than_can_be_refused_some_are_answered() {
    let outcome = worker(60_000, Duration::ZERO);
    assert!(outcome.answered > 3_000, "{outcome:?}");
}

#[test]
fn who_came_in_a_pause_is_answered_and_who_comes_after_it_refused_at_once() {
    let due = |sent: u32| Duration::from_secs(1) * sent / 17_000;
    for before in [Before::Look, Before::Reading] {
        for pause in [5, 15, 30] {
            let outcome = worker_of(due, pause * MS, before, USUAL);
            assert!(
                outcome.longest_answer > pause * MS && outcome.longest_answer < (3 * pause + 5) * MS,
                "{before:?}, {pause} ms: {outcome:?}"
            );
            assert!(outcome.refused > 0 && outcome.longest_refusal < 4 * MS, "{before:?}, {pause} ms: {outcome:?}");
        }
    }
}

#[test]
fn who_came_in_a_pause_longer_than_anybody_may_wait_is_answered_where_there_is_time() {
    let due = |sent: u32| Duration::from_secs(1) * sent / 10_000;
    let outcome = worker_of(due, 90 * MS, Before::Look, USUAL);
    assert!(outcome.answered > 7_000 && outcome.refused > 0, "{outcome:?}");
}

#[test]
fn so_it_is_where_the_core_is_only_slow() {
    for per_second in [30_000, 34_000, 36_000] {
        let due = |sent: u32| Duration::from_secs(1) * sent / per_second;
        let outcome = worker_of(due, 30 * MS, Before::Slow(5), FAST);
        assert!(outcome.refused > 0 && outcome.longest_refusal < 5 * MS, "{per_second}: {outcome:?}");
    }
}

#[test]
fn what_is_to_be_kept_is_refused_last() {
    let (line, start) = (Line::new(MS), Instant::now());
    let mut now = start;
    // A queue stands for so long that lists are refused.
    while !line.pressure.borrow().refuses(MS) {
        let ticket = line.come(Sort::Keeps, Waker::noop(), now).unwrap();
        line.look(now);
        now += 2 * MS;
        line.call(now);
        assert!(line.take(&ticket, now).waited >= MS);
    }
    line.come(Sort::Keeps, Waker::noop(), now).unwrap();
    line.look(now);
    line.look(now + 100 * US);
    line.pace.set(MS);
    now += 200 * US;
    line.served.set(1);
    assert_eq!(line.come(Sort::Asks, Waker::noop(), now + 800 * US).unwrap_err().step, None);
    let kept = line.come(Sort::Keeps, Waker::noop(), now).unwrap();
    line.call(now);
    assert_eq!(kept.state.get(), TicketState::Waits);
    line.pace.set(50 * MS);
    let kept = line.come(Sort::Keeps, Waker::noop(), now).unwrap();
    line.call(now);
    assert_eq!(kept.state.get(), TicketState::Refused, "it would wait for more than forty targets");
}

#[actix_web::test]
async fn who_goes_away_is_called_no_more_and_the_others_are() {
    let line = Rc::new(Line::new(MS));
    let usher = Rc::clone(&line);
    actix_web::rt::spawn(async move { usher.usher().await });
    let stand = || {
        let line = Rc::clone(&line);
        actix_web::rt::spawn(async move { line.turn(Sort::Asks).await.step })
    };
    let (first, second, third, last) = (stand(), stand(), stand(), stand());
    tokio::task::yield_now().await;
    second.abort();
    third.abort();
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (Some(Step::Full), Some(Step::Full)));
    assert_eq!((line.called.get(), line.joined.get(), line.waiting.borrow().len()), (0, 0, 0));
    assert_eq!(stand().await.unwrap(), Some(Step::Full));
}

//! The loop that sends and measures.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::connection::Connection;
use super::plan::{Plan, Sort};

/// Longest latency that is told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// How long answers may take after the last request should have been sent.
const GRACE: Duration = Duration::from_secs(10);
/// Two looks at the clock that lie further apart were not the loop's doing: the machine took its core away. Between them lie at most the calls
/// of one connection, which do not wait, and offering the core to others.
const PAUSE: Duration = Duration::from_millis(3);
/// Messages of errors kept apart; further ones are counted together.
const ERRORS_MAX: usize = 16;
/// Share of the rate asked for that must be answered with success for it to count as held.
const HELD: f64 = 0.99;
/// The status of a server that has too much to do.
pub const REFUSED: u16 = 503;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Pace {
    /// At a constant rate, whether or not answers come.
    Open {
        /// Requests per second.
        rate: f64,
    },
    /// Each connection sends its next request when its answer is there.
    Closed,
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Connections at once.
    pub connections: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

/// What was measured.
pub struct Measured {
    /// Latencies of answered reads, writes and changes, in nanoseconds: from the moment each should have been sent (open loop) or was
    /// sent (closed loop).
    pub latency: [Histogram<u64>; 3],
    /// Latencies of answers that refuse for want of room (503), in nanoseconds; without those of the warm-up, in which a server that gets
    /// more than it can do has still to see it.
    pub refused: Histogram<u64>,
    /// As both, successful answers and refusals, without those that were due or on their way while the generator's own core was taken away: how long those
    /// took says nothing of the server.
    pub undisturbed: [Histogram<u64>; 2],
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by what went wrong.
    pub broken: BTreeMap<String, u64>,
    /// Requests that should have been sent or answered and were not when the grace was over.
    pub unfinished: u64,
    /// Seconds that were counted, to the last answer.
    pub seconds: f64,
    /// For how long the generator's own core was taken away, all in all and at the longest.
    pub pauses: [Duration; 2],
}

/// A connection and the request on it.
struct Lane<'a> {
    connection: Connection<'a>,
    sort: Sort,
    /// From when latency counts.
    since: Instant,
    counted: bool,
}

/// The clock, and what was missing between two looks at it.
struct Clock {
    counted_from: Instant,
    last: Instant,
    /// All in all and at the longest.
    pauses: [Duration; 2],
    /// The end of the last.
    paused_until: Option<Instant>,
}

impl Clock {
    fn read(&mut self) -> Instant {
        let now = Instant::now();
        self.saw(now);
        now
    }

    fn saw(&mut self, now: Instant) {
        let pause = now.duration_since(self.last);
        if pause > PAUSE && now >= self.counted_from {
            let [all, longest] = self.pauses;
            self.pauses = [all + pause, longest.max(pause)];
            self.paused_until = Some(now);
        }
        self.last = now;
    }
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("making a histogram");
        Ok(Self {
            latency: [histogram()?, histogram()?, histogram()?],
            refused: histogram()?,
            undisturbed: [histogram()?, histogram()?],
            statuses: BTreeMap::new(),
            broken: BTreeMap::new(),
            unfinished: 0,
            seconds: 0.0,
            pauses: [Duration::ZERO; 2],
        })
    }

    /// Requests that were answered, those with a failure among them, also of the warm-up.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests that were answered with success.
    pub fn succeeded(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| is_success(**status)).map(|(_, n)| n).sum()
    }

    /// Answers with success per second: a refusal is an answer, but not what was asked for.
    pub fn per_second(&self) -> f64 {
        self.succeeded() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Whether the rate was held, to one in a hundred; a closed loop has none to hold. Of 2.5 requests two are due or three.
    pub fn held(&self, pace: Pace) -> Option<bool> {
        match pace {
            Pace::Open { rate } => Some(self.succeeded() as f64 >= (HELD * rate * self.seconds).floor()),
            Pace::Closed => None,
        }
    }

    /// Requests that were not answered with success.
    pub fn failed(&self) -> u64 {
        self.failures().values().sum()
    }

    /// Requests that were not answered with success, by what went wrong.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let refused = self.statuses.iter().filter(|(status, _)| !is_success(**status));
        let mut failures = self.broken.clone();
        failures.extend(refused.map(|(status, n)| (format!("status {status}"), *n)));
        if self.unfinished > 0 {
            failures.insert("not sent or answered in time".to_owned(), self.unfinished);
        }
        failures
    }

    fn answer(&mut self, status: u16, lane: &Lane<'_>, latency: Duration, disturbed: bool) {
        *self.statuses.entry(status).or_default() += 1;
        if !lane.counted {
            return;
        }
        // A refusal is quick; it must not make the latency look good.
        let [answers, refusals] = &mut self.undisturbed;
        let histograms = match status {
            REFUSED => Some((&mut self.refused, refusals)),
            _ if is_success(status) => self.latency.get_mut(lane.sort as usize).map(|all| (all, answers)),
            _ => None,
        };
        if let Some((all, undisturbed)) = histograms {
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
            all.saturating_record(ns);
            if !disturbed {
                undisturbed.saturating_record(ns);
            }
        }
    }

    fn breakage(&mut self, error: &io::Error) {
        let mut name = error.to_string();
        if self.broken.len() >= ERRORS_MAX && !self.broken.contains_key(&name) {
            name = "other".to_owned();
        }
        *self.broken.entry(name).or_default() += 1;
    }
}

/// Sends requests as asked until the time is over, then waits for the last answers.
///
/// # Errors
/// The server cannot be reached at the start. Later failures are counted, not returned.
pub fn run(plan: &Plan, options: &RunOptions) -> anyhow::Result<Measured> {
    let mut measured = Measured::new()?;
    let begin = Instant::now();
    let open = |_| {
        Connection::open(options.address).map(|connection| Lane {
            connection,
            sort: Sort::Read,
            since: begin,
            counted: false,
        })
    };
    let lanes: io::Result<Vec<Lane<'_>>> = (0..options.connections.max(1)).map(open).collect();
    let mut lanes = lanes.with_context(|| {
        format!(
            "connecting to {} over {} connections: is the server running there, and may this process have so many files open (ulimit -n)?",
            options.address, options.connections
        )
    })?;

    let start = Instant::now();
    let counted_from = start + options.warm_up;
    let end = counted_from + options.duration;
    let due = |at: u64| match options.pace {
        Pace::Open { rate } => start + Duration::from_secs_f64(at as f64 / rate),
        Pace::Closed => start,
    };
    let mut next = 0_u64;
    let mut last_answer = counted_from;
    let mut clock = Clock { counted_from, last: start, pauses: [Duration::ZERO; 2], paused_until: None };
    loop {
        let mut moved = false;
        let mut busy = 0;
        for lane in &mut lanes {
            if !lane.connection.is_busy() {
                let now = clock.read();
                let intended = due(next);
                if intended > now || intended >= end || now >= end && options.pace == Pace::Closed {
                    continue;
                }
                let (sort, request) = plan.request(next);
                lane.since = if options.pace == Pace::Closed { now } else { intended };
                lane.counted = lane.since >= counted_from;
                lane.sort = sort;
                if lane.connection.begin(request) {
                    // What connecting takes is the server's time, and no pause of ours.
                    clock.last = Instant::now();
                }
                next += 1;
                moved = true;
            }
            busy += 1;
            moved |= poll(lane, &mut measured, &mut last_answer, &mut clock);
        }
        let now = clock.read();
        let all_sent = now >= end && (options.pace == Pace::Closed || due(next) >= end);
        if all_sent && busy == 0 {
            break;
        }
        if now >= end + GRACE {
            // Those of the warm-up too: what never ends is a failure whenever it began.
            let on_their_way = lanes.iter().filter(|lane| lane.connection.is_busy()).count() as u64;
            measured.unfinished = on_their_way + never_sent(options, next);
            break;
        }
        if !moved {
            // Costs nothing while the core is our own, and gives it away where it is shared with the server.
            std::thread::yield_now();
        }
    }
    measured.seconds = last_answer.max(end).duration_since(counted_from).as_secs_f64();
    measured.pauses = clock.pauses;
    Ok(measured)
}

/// Sends and receives on one connection. Whether the request came to its end.
fn poll(lane: &mut Lane<'_>, measured: &mut Measured, last_answer: &mut Instant, clock: &mut Clock) -> bool {
    let outcome = lane.connection.poll();
    let now = clock.read();
    match outcome {
        Ok(None) => return false,
        // A failure counts also during the warm-up: there is no time at which requests may fail.
        Ok(Some(status)) if lane.counted || !is_success(status) => {
            let disturbed = clock.paused_until.is_some_and(|end| end >= lane.since);
            measured.answer(status, lane, now.duration_since(lane.since), disturbed);
            *last_answer = now;
        }
        Ok(Some(_)) => {}
        Err(error) => {
            measured.breakage(&error);
            // A server that is away for good makes every further request fail here and be counted.
            if lane.connection.reopen().is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Connecting may wait.
            clock.last = Instant::now();
        }
    }
    true
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Requests of an open loop that were due in the counted time and have not been sent.
fn never_sent(options: &RunOptions, next: u64) -> u64 {
    match options.pace {
        Pace::Closed => 0,
        Pace::Open { rate } => {
            let all = (rate * (options.warm_up + options.duration).as_secs_f64()).floor() as u64;
            all.saturating_sub(next)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::load::plan::{Items, PlanOptions};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server of one answer, that stalls once for a while.
    fn server(stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut chunk = [0; 65_536];
            let mut answered = 0;
            while let Ok(n) = stream.read(&mut chunk)
                && n > 0
            {
                answered += 1;
                if answered == 20 {
                    std::thread::sleep(stall);
                }
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                    break;
                }
            }
        });
        address
    }

    fn plan() -> Plan {
        Plan::new(&PlanOptions {
            host: "localhost".to_owned(),
            items: Items { ids: vec!["a".to_owned()], related: Vec::new() },
            interactions: 1,
            limit: 1,
            kind: "view".to_owned(),
            write_share: 0.0,
            change_share: 0.0,
            by_user: false,
            body: serde_json::Map::new(),
            seed: 1,
        })
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_waited() {
        let pace = Pace::Open { rate: 200.0 };
        let (warm_up, duration) = (Duration::ZERO, Duration::from_millis(500));
        let address = server(Duration::from_millis(250));
        let measured = run(&plan(), &RunOptions { address, connections: 1, pace, warm_up, duration }).unwrap();
        assert_eq!((measured.answered(), measured.failed()), (100, 0));
        // About 50 requests were due during the stall; a closed loop would have charged one.
        let waited = measured.latency[0].iter_recorded().filter(|value| value.value_iterated_to() > 20_000_000);
        let waited: u64 = waited.map(|value| value.count_at_value()).sum();
        assert!(waited >= 30, "{waited}");
    }

    #[test]
    fn a_long_turn_over_many_connections_is_no_pause() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut clock = Clock { counted_from: at(2), last: start, pauses: [Duration::ZERO; 2], paused_until: None };
        (1..50).for_each(|ms| clock.saw(at(ms)));
        assert_eq!(clock.pauses, [Duration::ZERO; 2]);
        [90, 91, 100].into_iter().for_each(|ms| clock.saw(at(ms)));
        assert_eq!(clock.pauses, [50, 41].map(Duration::from_millis));
        assert_eq!(clock.paused_until, Some(at(100)), "what was due until then was held up");
        let mut clock = Clock { counted_from: at(2), last: start, pauses: [Duration::ZERO; 2], paused_until: None };
        clock.saw(at(10));
        assert_eq!(clock.paused_until, Some(at(10)), "it began before anything was counted, and held up what was");
    }

    #[test]
    fn a_closed_loop_sends_as_fast_as_answers_come() {
        let (warm_up, duration) = (Duration::from_millis(20), Duration::from_millis(500));
        let address = server(Duration::ZERO);
        let measured =
            run(&plan(), &RunOptions { address, connections: 1, pace: Pace::Closed, warm_up, duration }).unwrap();
        assert!(measured.answered() > 0);
        assert_eq!(measured.failed(), 0);
    }

    #[test]
    fn nobody_there_is_an_error_with_the_address() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = RunOptions {
            address,
            connections: 1,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
        };
        let error = run(&plan(), &options).err().unwrap().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("1 connections"), "{error}");
    }
}

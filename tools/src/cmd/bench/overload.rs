//! What the server does with more than it can do: how much it still answers, how soon, and how soon it says no.

use std::fmt::Write;

use serde::Serialize;

use super::http::{Args, Target};
use super::http_report::{Percentiles, Phase};
use crate::load::plan::Plan;
use crate::load::run::{Measured, Pace, REFUSED, run as run_load};
use crate::load::scrape::Metrics;
use crate::report::{Bar, count, note, percent};

/// Share of the most it can do that it must still answer.
const GOODPUT: f64 = 0.8;
/// Milliseconds within which 99 in 100 answers must be there.
const ANSWERED_MS: f64 = 10.0;
/// Milliseconds within which 99 in 100 refusals must be there.
const REFUSED_MS: f64 = 5.0;
/// Connections, so that a request is sent when it is due and does not wait in the generator for one that is free; and as many as generator and server
/// hold where a process may have [`FILES`] open, of which a server leaves a third to its store, and of its places one in 32 to those who come.
const CONNECTIONS: usize = 640;
/// What most systems let a process have open unless they are told otherwise.
const FILES: usize = 1_024;
const _: () = assert!(CONNECTIONS < (FILES - FILES / 3) / 32 * 31);
/// The steps by which an answer is less, as `/metrics` names them.
const STEPS: [&str; 3] = ["lighter", "narrow", "popular"];

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// The most that the server can do, answers per second.
    pub most_per_second: f64,
    /// Connections over which more was sent.
    pub connections: usize,
    /// What was sent, requests per second.
    pub offered_per_second: f64,
    /// Answers with success, per second.
    pub goodput_per_second: f64,
    /// Latency of those.
    pub answered: Option<Percentiles>,
    /// Refusals (503); as everything but what failed and what was less, without those of the warm-up.
    pub refused: u64,
    /// Their latency.
    pub refusals: Option<Percentiles>,
    /// Latency of both without those that were held up with the generator's core, by which the bars go.
    pub undisturbed: [Option<Percentiles>; 2],
    /// Requests that failed in another way.
    pub failed: u64,
    /// Share of the time for which the machine took the generator's core away, and the longest time, in milliseconds: that long any request waits.
    pub paused_share: f64,
    /// See there.
    pub longest_pause_ms: f64,
    /// Answers that were less than they could be, by step; those of the warm-up are among them.
    pub degraded: Vec<(&'static str, u64)>,
    /// What it is to hold.
    pub bars: Vec<Bar>,
}

/// The most that the server could do, by the measurement that came first; none if it answered nothing with success, of which there is no multiple.
fn most(phases: &[Phase]) -> Option<f64> {
    phases.first().map(|phase| phase.per_second).filter(|most| *most > 0.0)
}

/// Sends `factor` times the most that the measurements before have found; nothing where there is none.
///
/// # Errors
/// The server cannot be reached.
pub(super) fn measure(
    args: &Args,
    target: &Target,
    plan: &Plan,
    factor: f64,
    before: &[Phase],
) -> anyhow::Result<Option<Overload>> {
    let Some(most) = most(before) else {
        note("note: the server answered nothing with success, so there is no most of which to send more");
        return Ok(None);
    };
    let rate = factor * most;
    let options = args.load(target, CONNECTIONS.max(args.connections), Pace::Open { rate });
    let before = Metrics::of(target.address)?;
    let measured = run_load(plan, &options)?;
    let after = Metrics::of(target.address)?;
    let step = |name: &'static str| {
        let line = format!("kindred_overload_steps_total{{step=\"{name}\"}}");
        (name, (after.get(&line) - before.get(&line)) as u64)
    };
    Overload::new(&measured, options.connections, most, rate, STEPS.map(step).to_vec()).map(Some)
}

impl Overload {
    fn new(
        measured: &Measured,
        connections: usize,
        most: f64,
        rate: f64,
        degraded: Vec<(&'static str, u64)>,
    ) -> anyhow::Result<Self> {
        let refused = measured.statuses.get(&REFUSED).copied().unwrap_or(0);
        let mut answered = measured.latency[0].clone();
        answered.add(&measured.latency[1])?;
        let [paused, longest] = measured.pauses;
        let overload = Self {
            paused_share: paused.as_secs_f64() / measured.seconds.max(f64::MIN_POSITIVE),
            longest_pause_ms: longest.as_secs_f64() * 1e3,
            connections,
            most_per_second: most,
            offered_per_second: rate,
            goodput_per_second: measured.per_second(),
            answered: Percentiles::of(&answered),
            refused: measured.refused.len(),
            refusals: Percentiles::of(&measured.refused),
            undisturbed: measured.undisturbed.each_ref().map(Percentiles::of),
            failed: measured.failed() - refused,
            degraded,
            bars: Vec::new(),
        };
        Ok(Self { bars: overload.judged().to_vec(), ..overload })
    }

    /// Whether every bar is held.
    pub fn is_good(&self) -> bool {
        self.bars.iter().all(|bar| bar.held)
    }

    fn judged(&self) -> [Bar; 4] {
        let share = self.goodput_per_second / self.most_per_second.max(f64::MIN_POSITIVE);
        let [answered, refused] = self.undisturbed;
        [
            Bar::new(
                format!("goodput {} of the most, at least {}", percent(share), percent(GOODPUT)),
                share >= GOODPUT,
            ),
            in_time("answers", self.answered, answered, ANSWERED_MS),
            in_time("refusals", self.refusals, refused, REFUSED_MS),
            Bar::new(format!("{} requests failed otherwise, none", count(self.failed)), self.failed == 0),
        ]
    }

    /// The measurement in words, with its bars.
    pub fn text(&self) -> String {
        let mut text = format!(
            "overload: {:.0}/s sent over {} connections, {:.0}/s answered, {} refused\n",
            self.offered_per_second,
            self.connections,
            self.goodput_per_second,
            count(self.refused)
        );
        for (what, latency) in [("answers", self.answered), ("refusals", self.refusals)] {
            let Some(Percentiles { p50_ms, p90_ms, p99_ms, max_ms, .. }) = latency else { continue };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {what}: p50 {p50_ms:.2} ms, p90 {p90_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms"
            );
        }
        let degraded: Vec<String> = self.degraded.iter().map(|(step, n)| format!("{step} {}", count(*n))).collect();
        let _ = writeln!(text, "  answers that were less, with the warm-up: {}", degraded.join(", "));
        let all = [self.answered, self.refusals].iter().flatten().map(|of| of.count).sum::<u64>();
        let undisturbed = self.undisturbed.iter().flatten().map(|of| of.count).sum::<u64>();
        let _ = writeln!(
            text,
            "  the machine took the generator's core away for {} of the time, for {:.0} ms at the longest; the {} requests held up by that do not count below",
            percent(self.paused_share),
            self.longest_pause_ms,
            count(all - undisturbed)
        );
        for bar in &self.bars {
            text.push_str("  ");
            text.push_str(&bar.line());
        }
        text
    }
}

/// The bar of one sort of answers, by those that were not held up. Where most were, as on one core that is shared with the server, nobody knows: those few
/// are the ones that happened to be quick.
fn in_time(what: &str, all: Option<Percentiles>, undisturbed: Option<Percentiles>, below_ms: f64) -> Bar {
    let Some(all) = all else { return Bar::new(format!("no {what}"), true) };
    match undisturbed.filter(|some| 2 * some.count >= all.count) {
        None => Bar::new(format!("p99 of {what} cannot be told: most were held up with the generator's core"), false),
        Some(Percentiles { p99_ms, .. }) => {
            Bar::new(format!("p99 of {what} {p99_ms:.2} ms, below {below_ms} ms"), p99_ms < below_ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;

    #[test]
    fn a_bar_is_not_held_by_what_nobody_could_measure() {
        let times =
            |p99_ms| Percentiles { count: 9, p50_ms: 0.5, p90_ms: 0.9, p99_ms, p999_ms: p99_ms, max_ms: p99_ms };
        let held = |refusals: Option<Percentiles>, undisturbed: [Option<Percentiles>; 2]| {
            let overload = Overload {
                most_per_second: 100.0,
                connections: CONNECTIONS,
                offered_per_second: 200.0,
                goodput_per_second: 100.0,
                answered: Some(times(20.0)),
                refused: refusals.map_or(0, |of| of.count),
                refusals,
                undisturbed,
                failed: 0,
                paused_share: 0.9,
                longest_pause_ms: 4.0,
                degraded: Vec::new(),
                bars: Vec::new(),
            };
            overload.judged().map(|bar| bar.held)
        };
        let (short, long) = (Some(times(1.0)), Some(times(20.0)));
        assert_eq!(held(None, [short, None]), [true; 4], "there was nothing to refuse");
        assert_eq!(held(long, [short, short]), [true; 4], "what was held up does not count");
        assert_eq!(held(long, [long, long]), [true, false, false, true]);
        assert_eq!(held(long, [None, None]), [true, false, false, true]);
        let few = short.map(|some| Percentiles { count: 4, ..some });
        assert_eq!(held(long, [few, few]), [true, false, false, true], "most were held up, so the few tell nothing");
    }

    fn measured(statuses: &[(u16, u64)]) -> Measured {
        let histogram = || Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        Measured {
            latency: [histogram(), histogram(), histogram()],
            refused: histogram(),
            undisturbed: [histogram(), histogram()],
            statuses: BTreeMap::from_iter(statuses.iter().copied()),
            broken: BTreeMap::new(),
            unfinished: 0,
            seconds: 1.0,
            pauses: [Duration::ZERO; 2],
        }
    }

    #[test]
    fn refusals_of_the_warm_up_are_neither_told_as_refusals_nor_as_failures() {
        let mut measured = measured(&[(200, 50), (503, 70)]);
        measured.refused.record_n(1_000_000, 50).unwrap();
        let overload = Overload::new(&measured, 640, 40.0, 80.0, Vec::new()).unwrap();
        assert_eq!((overload.refused, overload.failed), (50, 0));
        assert_eq!(overload.bars.len(), 4, "the verdicts are in what is printed as JSON");
        assert!(!overload.is_good() && overload.text().contains("  MISSED: p99 of refusals"), "{}", overload.text());
    }

    #[test]
    fn a_server_that_answers_nothing_with_success_has_no_most() {
        let phase = |status: u16| Phase::new(Pace::Closed, &measured(&[(status, 50)]), None, None, None);
        assert_eq!(most(&[phase(200), phase(404)]), Some(50.0));
        assert_eq!((most(&[phase(404)]), most(&[])), (None, None));
    }
}

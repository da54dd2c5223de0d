//! What `kindred bench http` found, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::asked::Histories;
use super::overload::Overload;
use crate::load::run::{Measured, Pace};
use crate::load::scrape::Shares;
use crate::load::swap::Swaps;
use crate::machine::Machine;
use crate::report::{Report, Table, bytes, count, leftovers, percent};

/// A server, measured.
#[derive(Clone, Debug, Serialize)]
pub struct HttpReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Where it listens.
    pub target: String,
    /// The generation it served at the start.
    pub generation: String,
    /// Items it serves.
    pub items: u64,
    /// Length of a vector.
    pub dimensions: u64,
    /// Connections at once.
    pub connections: usize,
    /// Interactions in the body of each read.
    pub interactions: usize,
    /// What they have to do with each other.
    pub histories: Histories,
    /// Items asked for.
    pub limit: usize,
    /// Share of requests that are writes.
    pub write_share: f64,
    /// Whether they go into memory only, as with a server that we start: then a write waits for no disk.
    pub in_memory: bool,
    /// Share of the items that pass the filter of those measurements that have one.
    pub filtered_share: Option<f64>,
    /// The core that the server is pinned to, if we started it.
    pub server_core: Option<usize>,
    /// The core that the generator is pinned to.
    pub generator_core: Option<usize>,
    /// Memory of the server that is resident after the load, if we started it.
    pub server_resident_bytes: Option<u64>,
    /// What of earlier builds could not be removed, if we built what it serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_removed: Vec<String>,
    /// The measurements, in their order.
    pub phases: Vec<Phase>,
    /// What it does with more than it can do.
    pub overload: Option<Overload>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// When requests were sent.
    #[serde(flatten)]
    pub pace: Pace,
    /// Whether requests had a filter on availability and category.
    pub filtered: bool,
    /// Answers with success per second.
    pub per_second: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were answered with success.
    pub succeeded: u64,
    /// Requests that were not answered with success, whatever the reason. Must be 0.
    pub failed: u64,
    /// Those, by what went wrong.
    pub failures: BTreeMap<String, u64>,
    /// Whether the rate was held, to one in a hundred; a closed loop has none to hold.
    pub held: Option<bool>,
    /// Latency of reads.
    pub reads: Option<Percentiles>,
    /// Latency of writes.
    pub writes: Option<Percentiles>,
    /// CPU time of the server per request, microseconds; where it can be told.
    pub server_cpu_us: Option<f64>,
    /// Where the time of a recommendation went.
    pub shares: Option<Shares>,
    /// For each stage of a recommendation, the microseconds that 99 in 100 are below, to the upper bound of a bucket.
    pub stages_p99_us: BTreeMap<String, f64>,
    /// Artifacts swapped meanwhile.
    pub swaps: Option<Swaps>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Requests.
    pub count: u64,
    /// Half are below.
    pub p50_ms: f64,
    /// Nine in ten are below.
    pub p90_ms: f64,
    /// 99 in 100 are below.
    pub p99_ms: f64,
    /// 999 in 1,000 are below.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds; none if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let ms = |ns: u64| ns as f64 / 1e6;
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        })
    }
}

impl Phase {
    /// What one measurement came to.
    pub fn new(
        pace: Pace,
        measured: &Measured,
        server_cpu_us: Option<f64>,
        shares: Option<Shares>,
        swaps: Option<Swaps>,
    ) -> Self {
        let [reads, writes, _] = &measured.latency;
        Self {
            pace,
            filtered: false,
            per_second: measured.per_second(),
            held: measured.held(pace),
            answered: measured.answered(),
            succeeded: measured.succeeded(),
            failed: measured.failed(),
            failures: measured.failures(),
            reads: Percentiles::of(reads),
            writes: Percentiles::of(writes),
            server_cpu_us,
            stages_p99_us: BTreeMap::new(),
            shares,
            swaps,
        }
    }

    fn name(&self) -> String {
        let pace = match self.pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open { rate } => format!("open loop, {} /s", count(rate as u64)),
        };
        if self.filtered { format!("{pace}, filtered") } else { pace }
    }

    /// What needs to be said about this measurement beside its row in the table.
    fn remarks(&self, text: &mut String) {
        let name = self.name();
        if self.held == Some(false) {
            let _ =
                writeln!(text, "{name}: the rate was NOT held, so latencies grow with the length of the measurement");
        }
        if let Some(shares) = &self.shares {
            let parts =
                shares.parts.iter().map(|part| format!("{} {:.1} µs ({})", part.part, part.us, percent(part.share)));
            let parts: Vec<String> = parts.collect();
            let _ = writeln!(
                text,
                "{name}: {:.1} µs of {} per request: {}",
                shares.total_us,
                shares.total_is,
                parts.join(", ")
            );
        }
        if !self.stages_p99_us.is_empty() {
            let parts: Vec<String> =
                self.stages_p99_us.iter().map(|(stage, us)| format!("{stage} {us:.0} µs")).collect();
            let _ = writeln!(text, "{name}: 99 in 100 below: {}", parts.join(", "));
        }
        if let Some(swaps) = &self.swaps {
            let _ = writeln!(
                text,
                "{name}: {} of {} artifact swaps done, the longest in {:.2} s",
                swaps.done, swaps.asked, swaps.longest_s
            );
            if let Some(problem) = &swaps.problem {
                let _ = writeln!(text, "{name}: a swap failed: {problem}");
            }
        }
        if self.failed > 0 {
            let reasons: Vec<String> = self.failures.iter().map(|(reason, n)| format!("{reason}: {n}")).collect();
            let _ = writeln!(text, "{name}: {} requests FAILED ({})", count(self.failed), reasons.join(", "));
        }
    }
}

impl HttpReport {
    /// The best rate of the closed loop, with a filter or without; 0 if it was not measured.
    fn best(&self, filtered: bool) -> f64 {
        let closed =
            self.phases.iter().filter(|phase| matches!(phase.pace, Pace::Closed) && phase.filtered == filtered);
        closed.map(|phase| phase.per_second).fold(0.0, f64::max)
    }

    /// Whether nothing failed, each rate was held, and each bar.
    pub fn is_good(&self) -> bool {
        let held = self.phases.iter().all(|phase| phase.held != Some(false));
        self.failed() == 0 && held && self.overload.as_ref().is_none_or(Overload::is_good)
    }

    /// Requests that failed, in all measurements, and swaps that did.
    fn failed(&self) -> u64 {
        let swaps = |phase: &Phase| phase.swaps.as_ref().map_or(0, |swaps| u64::from(swaps.asked - swaps.done));
        self.phases.iter().map(|phase| phase.failed + swaps(phase)).sum()
    }
}

impl Report for HttpReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let place = match (self.server_core, self.generator_core) {
            (Some(server), Some(own)) => format!("server on core {server}, generator on core {own}"),
            _ => "server and generator not pinned".to_owned(),
        };
        let _ = writeln!(
            text,
            "{} items × {}, {} {} per request, {} items asked for, {} writes{}, {} connections, {place}",
            count(self.items),
            self.dimensions,
            self.interactions,
            match self.histories {
                Histories::Related => "related interactions",
                Histories::Random => "random interactions",
            },
            self.limit,
            percent(self.write_share),
            if self.in_memory && self.write_share > 0.0 { " (into memory, so that none waits for a disk)" } else { "" },
            self.connections
        );
        let mut table = Table::new(["", "requests/s", "failed", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]);
        for phase in &self.phases {
            for (sort, latency) in [("reads", phase.reads), ("writes", phase.writes)] {
                let Some(latency) = latency else { continue };
                let ms = |ms: f64| format!("{ms:.3}");
                // Of fewer requests it is the longest, and says nothing of one in so many.
                let of = |least: u64, value: f64| if latency.count < least { "too few".to_owned() } else { ms(value) };
                table.row([
                    format!("{}: {sort}", phase.name()),
                    format!("{:.0}", phase.per_second * latency.count as f64 / phase.succeeded.max(1) as f64),
                    count(phase.failed),
                    ms(latency.p50_ms),
                    of(10, latency.p90_ms),
                    of(100, latency.p99_ms),
                    of(1_000, latency.p999_ms),
                    ms(latency.max_ms),
                ]);
            }
        }
        text.push_str(&table.text());
        if let Some(share) = self.filtered_share {
            let _ = writeln!(text, "filtered: {} of the items pass", percent(share));
        }
        self.phases.iter().for_each(|phase| phase.remarks(&mut text));
        let (with, without) = (self.best(true), self.best(false));
        if with > 0.0 && without > 0.0 {
            let ratio = with / without;
            let _ = writeln!(
                text,
                "closed loop: {with:.0}/s with a filter, {ratio:.2} of {without:.0}/s without, best of each"
            );
        }
        if let Some(overload) = &self.overload {
            text.push_str(&overload.text());
        }
        if let Some(resident) = self.server_resident_bytes {
            let _ = writeln!(text, "server memory: {} resident", bytes(resident));
        }
        text.push_str(&leftovers(&self.not_removed));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(refused: u64) -> Measured {
        let histogram = || Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        Measured {
            latency: [histogram(), histogram(), histogram()],
            refused: histogram(),
            undisturbed: [histogram(), histogram()],
            statuses: BTreeMap::from([(200, 100 - refused), (503, refused)]),
            broken: BTreeMap::new(),
            unfinished: 0,
            seconds: 1.0,
            pauses: [Duration::ZERO; 2],
        }
    }

    fn report(phases: Vec<Phase>) -> HttpReport {
        HttpReport {
            machine: Machine::here(),
            target: String::new(),
            generation: String::new(),
            items: 0,
            dimensions: 0,
            connections: 1,
            interactions: 0,
            histories: Histories::Related,
            limit: 1,
            write_share: 0.05,
            in_memory: true,
            filtered_share: Some(0.9),
            server_core: None,
            generator_core: None,
            server_resident_bytes: None,
            not_removed: vec!["bench/g1.partial".to_owned()],
            phases,
            overload: None,
        }
    }

    #[test]
    fn a_rate_is_not_held_by_refusing() {
        let phase = |refused: u64| Phase::new(Pace::Open { rate: 100.0 }, &measured(refused), None, None, None);
        assert_eq!((phase(0).held, phase(0).per_second), (Some(true), 100.0));
        let phase = phase(40);
        assert_eq!((phase.held, phase.per_second), (Some(false), 60.0));
        assert_eq!((phase.answered, phase.succeeded, phase.failed), (100, 60, 40));
        let few = Measured { statuses: BTreeMap::from([(200, 2)]), seconds: 10.0, ..measured(0) };
        assert_eq!([0.25, 0.4].map(|rate| few.held(Pace::Open { rate })), [Some(true), Some(false)]);
    }

    #[test]
    fn a_rate_that_is_not_held_is_no_good_though_nothing_failed() {
        let at = |rate: f64| report(vec![Phase::new(Pace::Open { rate }, &measured(0), None, None, None)]);
        assert!(at(100.0).is_good());
        assert!(!at(200.0).is_good() && at(200.0).failed() == 0);
    }

    #[test]
    fn few_requests_say_nothing_of_one_in_a_thousand() {
        let told = |n: u64| {
            let mut measured = measured(0);
            measured.latency[0].record_n(2_000_000, n).unwrap();
            report(vec![Phase::new(Pace::Closed, &measured, None, None, None)]).text()
        };
        assert_eq!([5, 99, 999, 1_000].map(|n| told(n).matches("too few").count()), [3, 2, 1, 0]);
    }

    #[test]
    fn what_is_no_number_of_the_table_is_told_beside_it() {
        let report = report(Vec::new());
        let text = report.text();
        assert!(text.contains("remove it by hand: bench/g1.partial"), "{text}");
        assert!(text.contains("5.0 % writes (into memory") && text.contains("filtered: 90.0 % of the items"), "{text}");
        let reads_only = HttpReport { write_share: 0.0, ..report }.text();
        assert!(reads_only.contains("0.0 % writes, 1 connections"), "{reads_only}");
    }
}

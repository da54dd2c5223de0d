//! What the server says of itself: where the time of its requests went, from `/metrics` before and after.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::connection::call;

const PATIENCE: Duration = Duration::from_secs(10);

/// The numbers of a `/metrics` page, by name with labels, as it writes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(HashMap<String, f64>);

/// The parts of a request that are told apart, and the stages of the server that each is made of.
const PARTS: &[(&str, &[&str])] = &[
    ("JSON", &["parse", "render"]),
    ("history", &["gather"]),
    ("user vector", &["user_vector"]),
    ("search", &["search"]),
    ("ranking", &["filter", "neighbours", "rank"]),
];

/// Where the time of a recommendation went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Microseconds of a recommendation, all told.
    pub total_us: f64,
    /// What `total_us` is: `server CPU time`, or `time in the server` where the CPU time of its process cannot be read.
    pub total_is: &'static str,
    /// Its parts; together they are the whole.
    pub parts: Vec<Part>,
}

/// One part of a recommendation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Which.
    pub part: &'static str,
    /// Its microseconds.
    pub us: f64,
    /// Its share of the whole, 0 to 1.
    pub share: f64,
}

impl Metrics {
    /// Asks the server.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let (status, text) = call(address, "GET", "/metrics", "", PATIENCE).context("reading /metrics")?;
        ensure!(status == 200, "/metrics answered {status}, expected 200: is {address} a Kindred server?");
        Ok(Self::parse(&text))
    }

    /// Reads the Prometheus text format: `name{labels} value` a line.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
    }

    /// One number; 0 where it is not there.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// How much a number has grown since.
    fn since(&self, before: &Self, name: &str) -> f64 {
        self.get(name) - before.get(name)
    }

    /// For each stage, the microseconds below which 99 in 100 recommendations between two looks were: the upper bound of the bucket that
    /// the 99th of 100 is in, so up to twice the truth.
    pub fn stage_p99(&self, before: &Self) -> BTreeMap<String, f64> {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for name in self.0.keys() {
            let labels = name.strip_prefix("kindred_stage_seconds_bucket{").and_then(|rest| rest.strip_suffix('}'));
            let Some(labels) = labels else { continue };
            let label = |key: &str| labels.split(',').find_map(|one| one.strip_prefix(key)?.strip_prefix("=\""));
            let (Some(stage), Some(bound)) = (label("stage"), label("le")) else { continue };
            let bound = bound.trim_end_matches('"').parse().unwrap_or(f64::INFINITY);
            let stage = stage.trim_end_matches('"').to_owned();
            buckets.entry(stage).or_default().push((bound, self.since(before, name)));
        }
        let p99 = |mut counts: Vec<(f64, f64)>| {
            counts.sort_by(|a, b| a.0.total_cmp(&b.0));
            let all = counts.last()?.1;
            let bound = counts.iter().find(|(_, below)| all > 0.0 && *below >= 0.99 * all)?.0;
            Some(bound * 1e6)
        };
        buckets.into_iter().filter_map(|(stage, counts)| Some((stage, p99(counts)?))).collect()
    }

    /// Where the time of the recommendations between two looks went. `cpu_us` is the server's CPU time per request, if known: it
    /// contains what no clock inside a request sees, the reading and writing of sockets.
    pub fn shares(&self, before: &Self, cpu_us: Option<f64>) -> Option<Shares> {
        let requests = self.since(before, "kindred_stage_seconds_count{stage=\"rank\"}");
        if requests < 1.0 {
            return None;
        }
        let stage = |stage: &&str| self.since(before, &format!("kindred_stage_seconds_sum{{stage=\"{stage}\"}}"));
        let us = |stages: &[&str]| stages.iter().map(stage).sum::<f64>() / requests * 1e6;
        let in_stages: f64 = PARTS.iter().map(|(_, stages)| us(stages)).sum();
        let route =
            |of: &str| self.since(before, &format!("kindred_request_seconds_{of}{{route=\"recommendations\"}}"));
        let in_server = route("sum") / route("count").max(1.0) * 1e6;
        let (total_us, total_is) = match cpu_us {
            Some(cpu_us) if cpu_us > in_stages => (cpu_us, "server CPU time"),
            _ => (in_server.max(in_stages), "time in the server"),
        };
        let part = |part, us| Part { part, us, share: us / total_us.max(f64::MIN_POSITIVE) };
        let mut parts = vec![part("HTTP", total_us - in_stages)];
        parts.extend(PARTS.iter().map(|(name, stages)| part(name, us(stages))));
        Some(Shares { total_us, total_is, parts })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let before = Metrics::parse("# HELP x y\nkindred_stage_seconds_count{stage=\"rank\"} 10\n");
        let after = Metrics::parse(
            "kindred_stage_seconds_count{stage=\"rank\"} 110\n\
             kindred_stage_seconds_sum{stage=\"rank\"} 0.001\n\
             kindred_stage_seconds_sum{stage=\"search\"} 0.005\n\
             kindred_stage_seconds_sum{stage=\"parse\"} 0.0002\n\
             kindred_request_seconds_sum{route=\"recommendations\"} 0.008\n\
             kindred_request_seconds_count{route=\"recommendations\"} 100\n",
        );
        let shares = after.shares(&before, Some(100.0)).unwrap();
        assert_eq!((shares.total_us, shares.total_is), (100.0, "server CPU time"));
        let part = |name: &str| shares.parts.iter().find(|part| part.part == name).unwrap().share;
        assert!((part("search") - 0.5).abs() < 1e-9 && (part("JSON") - 0.02).abs() < 1e-9);
        assert!((part("HTTP") - 0.38).abs() < 1e-9, "{shares:?}");
        assert!((shares.parts.iter().map(|part| part.share).sum::<f64>() - 1.0).abs() < 1e-9);
        let shares = after.shares(&before, None).unwrap();
        assert!((shares.total_us - 80.0).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn the_99th_of_100_is_in_its_bucket() {
        let line = |le: &str, n: u32| format!("kindred_stage_seconds_bucket{{stage=\"rank\",le=\"{le}\"}} {n}\n");
        let page = |counts: [u32; 3]| {
            let [one, two, all] = counts;
            Metrics::parse(&(line("0.000001", one) + &line("0.000002", two) + &line("+Inf", all)))
        };
        let p99 = page([90, 109, 110]).stage_p99(&page([0, 10, 10]));
        assert_eq!(p99.get("rank").map(|us| us.round()), Some(2.0), "{p99:?}");
        assert!(page([0, 10, 10]).stage_p99(&page([0, 10, 10])).is_empty());
    }

    #[test]
    fn no_recommendation_has_no_parts() {
        assert_eq!(Metrics::default().shares(&Metrics::default(), None), None);
    }
}

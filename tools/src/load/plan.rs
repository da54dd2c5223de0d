//! What is sent: requests made before the clock runs, so that the generator's own work is a memory copy.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::connection::request;

/// Different requests of each sort. Together with their bodies they should not fit the server's caches all too well.
const DIFFERENT: usize = 8_192;
/// Visitors whose interactions are written.
const VISITORS: u32 = 10_000;
/// Length of the pattern in which reads and writes alternate.
const PATTERN: usize = 10_000;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Asks for a list.
    Read,
    /// Posts an interaction.
    Write,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The value of the Host header.
    pub host: String,
    /// Items that interactions are drawn from.
    pub items: Vec<String>,
    /// Interactions in the body of a read.
    pub interactions: usize,
    /// Items asked for.
    pub limit: usize,
    /// A kind that the model knows.
    pub kind: String,
    /// Share of requests that are writes, 0 to 1.
    pub write_share: f64,
    /// The same seed gives the same requests in the same order.
    pub seed: u64,
}

/// Requests, ready to be sent, in an order that repeats.
#[derive(Clone, Debug)]
pub struct Plan {
    reads: Vec<Vec<u8>>,
    writes: Vec<Vec<u8>>,
    pattern: Vec<(Sort, usize)>,
}

impl Plan {
    /// Makes the requests.
    pub fn new(options: &PlanOptions) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        let reads = (0..DIFFERENT).map(|_| read(options, &mut random)).collect();
        let writes = (0..DIFFERENT).map(|_| write(options, &mut random)).collect();
        let sort = |random: &mut ChaCha8Rng| {
            if random.random::<f64>() < options.write_share { Sort::Write } else { Sort::Read }
        };
        let pattern = (0..PATTERN).map(|_| (sort(&mut random), random.random_range(0..DIFFERENT))).collect();
        Self { reads, writes, pattern }
    }

    /// The request to be sent as number `at`.
    pub fn request(&self, at: u64) -> (Sort, &[u8]) {
        let place = (at % self.pattern.len().max(1) as u64) as usize;
        let (sort, number) = self.pattern.get(place).copied().unwrap_or((Sort::Read, 0));
        let among = if sort == Sort::Read { &self.reads } else { &self.writes };
        (sort, among.get(number).map_or(&[], Vec::as_slice))
    }
}

fn draw<'a>(items: &'a [String], random: &mut ChaCha8Rng) -> &'a str {
    items.choose(random).map_or("nothing", String::as_str)
}

fn read(options: &PlanOptions, random: &mut ChaCha8Rng) -> Vec<u8> {
    let one = |random: &mut ChaCha8Rng| json!({"item_id": draw(&options.items, random), "kind": options.kind});
    let interactions: Vec<_> = (0..options.interactions).map(|_| one(random)).collect();
    let body = json!({"interactions": interactions, "limit": options.limit}).to_string();
    request("POST", "/v1/recommendations", &options.host, &body)
}

fn write(options: &PlanOptions, random: &mut ChaCha8Rng) -> Vec<u8> {
    let visitor = format!("bench-{}", random.random_range(0..VISITORS));
    let body = json!({"user_id": visitor, "item_id": draw(&options.items, random), "kind": options.kind}).to_string();
    request("POST", "/v1/interactions", &options.host, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(write_share: f64) -> PlanOptions {
        PlanOptions {
            host: "localhost".to_owned(),
            items: vec!["a".to_owned(), "b".to_owned()],
            interactions: 3,
            limit: 20,
            kind: "view".to_owned(),
            write_share,
            seed: 1,
        }
    }

    #[test]
    fn the_mix_is_as_asked_and_the_order_repeats() {
        let plan = Plan::new(&options(0.05));
        let writes = (0..PATTERN as u64).filter(|at| plan.request(*at).0 == Sort::Write).count();
        assert!((400..600).contains(&writes), "{writes}");
        assert_eq!(plan.request(3), plan.request(3 + PATTERN as u64));
        let reads_only = Plan::new(&options(0.0));
        assert!((0..PATTERN as u64).all(|at| reads_only.request(at).0 == Sort::Read));
    }

    #[test]
    fn a_read_carries_its_interactions() {
        let plan = Plan::new(&options(0.0));
        let text = String::from_utf8_lossy(plan.request(0).1).into_owned();
        assert_eq!(text.matches("\"item_id\"").count(), 3, "{text}");
        assert!(text.starts_with("POST /v1/recommendations ") && text.contains("\"limit\":20"));
    }
}

//! What is sent: requests made before the clock runs, so that the generator's own work is a memory copy.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use super::connection::{in_path, request};

/// Different requests of each sort. Together with their bodies they should not fit the server's caches all too well.
const DIFFERENT: usize = 8_192;
/// Visitors whose interactions are written.
const VISITORS: u32 = 10_000;
/// Items that are changed, over and over.
const CHANGED: usize = 1_000;
/// Interests that a visitor has, at most.
const INTERESTS_MOST: usize = 3;
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
    /// Changes an item of the catalogue.
    Change,
}

/// Items that visitors look at.
#[derive(Clone, Debug, Default)]
pub struct Items {
    /// Their ids.
    pub ids: Vec<String>,
    /// For each, the places of those that are like it; none where that is not known.
    pub related: Vec<Vec<u32>>,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The value of the Host header.
    pub host: String,
    /// Items that interactions are drawn from. Where it is known which are alike, a read's interactions follow one to three interests, from an item to
    /// one that is like it; else they are any items.
    pub items: Items,
    /// Interactions in the body of a read.
    pub interactions: usize,
    /// Items asked for.
    pub limit: usize,
    /// A kind that the model knows.
    pub kind: String,
    /// Share of requests that are writes, 0 to 1.
    pub write_share: f64,
    /// Share of requests that change an item, 0 to 1.
    pub change_share: f64,
    /// Whether reads name a visitor whose interactions are stored, instead of bringing interactions.
    pub by_user: bool,
    /// Further fields of the body of a read: a scenario, a filter, `explain`.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// The same seed gives the same requests in the same order.
    pub seed: u64,
}

/// Requests, ready to be sent, in an order that repeats.
#[derive(Clone, Debug)]
pub struct Plan {
    reads: Vec<Vec<u8>>,
    writes: Vec<Vec<u8>>,
    changes: Vec<Vec<u8>>,
    pattern: Vec<(Sort, usize)>,
}

impl Plan {
    /// Makes the requests.
    pub fn new(options: &PlanOptions) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        let reads = (0..DIFFERENT).map(|_| read(options, &mut random)).collect();
        let writes = (0..DIFFERENT).map(|_| write(options, &mut random)).collect();
        let changes = match options.change_share > 0.0 {
            true => (0..CHANGED).map(|_| change(options, &mut random)).collect(),
            false => Vec::new(),
        };
        let sort = |random: &mut ChaCha8Rng| match random.random::<f64>() {
            at if at < options.write_share => Sort::Write,
            at if at < options.write_share + options.change_share => Sort::Change,
            _ => Sort::Read,
        };
        let pattern = (0..PATTERN).map(|_| (sort(&mut random), random.random_range(0..DIFFERENT))).collect();
        Self { reads, writes, changes, pattern }
    }

    /// The request to be sent as number `at`.
    pub fn request(&self, at: u64) -> (Sort, &[u8]) {
        let place = (at % self.pattern.len().max(1) as u64) as usize;
        let (sort, number) = self.pattern.get(place).copied().unwrap_or((Sort::Read, 0));
        let among = match sort {
            Sort::Read => &self.reads,
            Sort::Write => &self.writes,
            Sort::Change => &self.changes,
        };
        (sort, among.get(number % among.len().max(1)).map_or(&[], Vec::as_slice))
    }
}

impl Items {
    fn draw(&self, random: &mut ChaCha8Rng) -> &str {
        self.ids.choose(random).map_or("nothing", String::as_str)
    }

    /// What a visitor has looked at: so many items.
    fn history(&self, length: usize, random: &mut ChaCha8Rng) -> Vec<&str> {
        let any = |random: &mut ChaCha8Rng| random.random_range(0..self.ids.len().max(1));
        let mut interests: Vec<usize> = (0..random.random_range(1..=INTERESTS_MOST)).map(|_| any(random)).collect();
        let one = |_| {
            let next = random.random_range(0..interests.len());
            let Some(interest) = interests.get_mut(next) else { return "nothing" };
            let item = *interest;
            let related = self.related.get(item).and_then(|related| related.choose(random));
            *interest = related.map_or_else(|| any(random), |item| *item as usize);
            self.ids.get(item).map_or("nothing", String::as_str)
        };
        (0..length).map(one).collect()
    }
}

fn visitor(random: &mut ChaCha8Rng) -> String {
    format!("bench-{}", random.random_range(0..VISITORS))
}

/// A new price for an item that is there, so that the catalogue does not grow without end.
fn change(options: &PlanOptions, random: &mut ChaCha8Rng) -> Vec<u8> {
    let body = json!({"price": f64::from(random.random_range(100..10_000)) / 100.0}).to_string();
    request("PATCH", &format!("/v1/items/{}", in_path(options.items.draw(random))), &options.host, "", &body)
}

fn read(options: &PlanOptions, random: &mut ChaCha8Rng) -> Vec<u8> {
    if options.by_user {
        let body = json!({"user_id": visitor(random), "limit": options.limit}).to_string();
        return request("POST", "/v1/recommendations", &options.host, "", &body);
    }
    let history = options.items.history(options.interactions, random);
    let interactions: Vec<_> = history.iter().map(|item| json!({"item_id": item, "kind": options.kind})).collect();
    let mut body = json!({"interactions": interactions, "limit": options.limit});
    if let Some(fields) = body.as_object_mut() {
        fields.extend(options.body.clone());
    }
    let body = body.to_string();
    request("POST", "/v1/recommendations", &options.host, "", &body)
}

fn write(options: &PlanOptions, random: &mut ChaCha8Rng) -> Vec<u8> {
    let body =
        json!({"user_id": visitor(random), "item_id": options.items.draw(random), "kind": options.kind}).to_string();
    request("POST", "/v1/interactions", &options.host, "", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(write_share: f64) -> PlanOptions {
        PlanOptions {
            host: "localhost".to_owned(),
            items: Items { ids: vec!["a".to_owned(), "b".to_owned()], related: Vec::new() },
            interactions: 3,
            limit: 20,
            kind: "view".to_owned(),
            write_share,
            change_share: 0.0,
            by_user: false,
            body: serde_json::Map::from_iter([("scenario".to_owned(), json!("next_page"))]),
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
    fn an_item_of_any_id_is_changed() {
        let items = Items { ids: vec!["a b/ü".to_owned()], related: Vec::new() };
        let plan = Plan::new(&PlanOptions { items, change_share: 1.0, ..options(0.0) });
        let (sort, request) = plan.request(0);
        let text = String::from_utf8_lossy(request).into_owned();
        assert!(sort == Sort::Change && text.starts_with("PATCH /v1/items/a%20b%2F%C3%BC HTTP/1.1\r\n"), "{text}");
    }

    #[test]
    fn a_read_carries_its_interactions() {
        let plan = Plan::new(&options(0.0));
        let text = String::from_utf8_lossy(plan.request(0).1).into_owned();
        assert_eq!(text.matches("\"item_id\"").count(), 3, "{text}");
        assert!(text.starts_with("POST /v1/recommendations ") && text.contains("\"limit\":20"));
        assert!(text.contains("\"scenario\":\"next_page\""), "{text}");
    }

    #[test]
    fn a_history_follows_few_interests() {
        // Ten items in a ring of their own each, tens of them.
        let related = (0..1_000).map(|item| vec![item / 10 * 10 + (item + 1) % 10]).collect();
        let items = Items { ids: (0..1_000).map(|item| item.to_string()).collect(), related };
        let rings = |items: &Items| {
            let history = items.history(20, &mut ChaCha8Rng::seed_from_u64(3));
            assert_eq!(history.len(), 20);
            history.iter().map(|id| id.parse::<u32>().unwrap() / 10).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!((1..=INTERESTS_MOST).contains(&rings(&items)));
        let unknown = Items { related: Vec::new(), ..items };
        assert!(rings(&unknown) > 10, "any items where it is not known which are alike");
        assert_eq!(Items::default().history(2, &mut ChaCha8Rng::seed_from_u64(3)), ["nothing", "nothing"]);
    }
}

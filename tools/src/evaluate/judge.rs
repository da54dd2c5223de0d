//! What lists are worth: the metrics of each system, how sure they are, and by segment.

use kindred::model::Model;
use serde::Serialize;

use super::HeldOut;
use super::cases::Case;
use crate::metrics;

/// The share of the items, most interacted with first, that is the head of the catalogue.
const HEAD: f64 = 0.2;
/// Lengths of history that are short, and those that are neither short nor long.
const SHORT: usize = 5;
const MIDDLE: usize = 20;

/// One way to make lists.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct System {
    /// `index`, `exact` or `popular`.
    pub name: &'static str,
    /// What it was worth, for each length of list.
    pub at: Vec<AtK>,
    /// What it was worth to some, for each length of list.
    pub segments: Vec<Segment>,
}

/// Metrics at one length of list, means over lists.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtK {
    /// Length of the list.
    pub k: usize,
    /// Share of lists with a hit.
    pub hit_rate: f64,
    /// Where the hit rate lies in 95 of 100 samples of users.
    pub hit_rate_interval: [f64; 2],
    /// Share of what came next that was in the list.
    pub recall: f64,
    /// Normalised discounted cumulative gain.
    pub ndcg: f64,
    /// Where the gain lies in 95 of 100 samples of users.
    pub ndcg_interval: [f64; 2],
    /// Mean reciprocal rank of the first hit.
    pub mrr: f64,
    /// Mean average precision.
    pub map: f64,
    /// Share of the items that stood in any list.
    pub coverage: f64,
    /// Mean share of items less popular than a recommended one: 0.5 is no bias.
    pub popularity_percentile: f64,
    /// Mean surprise at a recommended item, in bits.
    pub novelty: f64,
    /// How unevenly recommendations are spread over items: 0 evenly, near 1 all on a few.
    pub gini: f64,
}

/// Metrics over some of the lists, or by some of the items looked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// Which ones.
    pub name: &'static str,
    /// Length of the list.
    pub k: usize,
    /// Lists that are part of it.
    pub n_lists: u64,
    /// Share of them with a hit.
    pub hit_rate: f64,
    /// Their normalised discounted cumulative gain.
    pub ndcg: f64,
}

/// How alike two lists are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// Length of the lists.
    pub k: usize,
    /// Mean share of the items of the exact list that are in the other.
    pub share: f64,
}

/// A part of the cases: each with what is looked for in it; empty for a case that is not part of it.
struct Part {
    name: &'static str,
    relevant: Vec<Vec<u32>>,
}

/// What lists are judged by.
pub(super) struct Judge<'a> {
    cases: &'a [Case],
    percentiles: Vec<f64>,
    information: Vec<f64>,
    parts: Vec<Part>,
    seed: u64,
}

impl<'a> Judge<'a> {
    pub(super) fn new<D: AsRef<[u8]>>(model: &Model<D>, held_out: &HeldOut, cases: &'a [Case], seed: u64) -> Self {
        let popularity: Vec<f32> = (0..model.len()).map(|ordinal| model.popularity(ordinal)).collect();
        let mut by_number = vec![0_u64; held_out.keys.len()];
        for item in &held_out.train.item {
            if let Some(times) = by_number.get_mut(*item as usize) {
                *times += 1;
            }
        }
        let mut times = vec![0_u64; popularity.len()];
        for (key, seen) in held_out.keys.iter().zip(by_number) {
            if let Some(times) = model.index().ordinal(key).and_then(|ordinal| times.get_mut(ordinal as usize)) {
                *times = seen;
            }
        }
        let percentiles = metrics::percentiles(&popularity);
        Self { cases, percentiles, information: metrics::self_information(&times), parts: parts(cases, &times), seed }
    }

    /// What one way to make lists is worth; `lists` are in the order of the cases.
    pub(super) fn system(&self, name: &'static str, lists: &[&[u32]], ks: &[usize]) -> System {
        let at = ks.iter().map(|k| self.at(*k, lists)).collect();
        let segments = ks.iter().flat_map(|k| self.parts.iter().filter_map(|part| part.at(*k, lists))).collect();
        System { name, at, segments }
    }

    fn at(&self, k: usize, lists: &[&[u32]]) -> AtK {
        let n = self.cases.len() as f64;
        let values = |metric: fn(&[u32], &[u32], usize) -> f64| {
            let each = self.cases.iter().zip(lists).map(move |(case, list)| metric(list, &case.relevant, k));
            each.collect::<Vec<f64>>()
        };
        let mean_of = |values: &[f64]| values.iter().sum::<f64>() / n;
        let mean = |metric| mean_of(&values(metric));
        let (hits, gains) = (values(metrics::hit_rate), values(metrics::ndcg));
        let mut times = vec![0_u64; self.percentiles.len()];
        let (mut percentile, mut information, mut shown) = (0.0, 0.0, 0_u64);
        for item in lists.iter().flat_map(|list| list.iter().take(k)).map(|item| *item as usize) {
            let known = self.percentiles.get(item).zip(self.information.get(item));
            if let Some((times, (one_percentile, one_information))) = times.get_mut(item).zip(known) {
                *times += 1;
                percentile += one_percentile;
                information += one_information;
                shown += 1;
            }
        }
        let shown = shown.max(1) as f64;
        AtK {
            k,
            hit_rate: mean_of(&hits),
            hit_rate_interval: self.interval(&hits),
            recall: mean(metrics::recall),
            ndcg: mean_of(&gains),
            ndcg_interval: self.interval(&gains),
            mrr: mean(metrics::reciprocal_rank),
            map: mean(metrics::average_precision),
            coverage: metrics::coverage(&times),
            popularity_percentile: percentile / shown,
            novelty: information / shown,
            gini: metrics::gini(&times),
        }
    }

    fn interval(&self, values: &[f64]) -> [f64; 2] {
        // The lists of a user stand together.
        let mut values = values.iter();
        let users = self.cases.chunk_by(|a, b| a.user == b.user);
        let sums = users.map(|lists| (values.by_ref().take(lists.len()).sum(), lists.len() as f64));
        let users: Vec<(f64, f64)> = sums.collect();
        metrics::bootstrap::ratio_interval(&users, self.seed)
    }
}

/// The segments: by how much is known of the visitor, and by how well known is what they went on to.
fn parts(cases: &[Case], times: &[u64]) -> Vec<Part> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let last_of_head = ((sorted.len() as f64 * HEAD).ceil() as usize).saturating_sub(1);
    let head = sorted.get(last_of_head).copied().unwrap_or_default().max(1);
    let times_of = |item: &u32| times.get(*item as usize).copied().unwrap_or_default();
    let of = |name, keep: &dyn Fn(&Case, &u32) -> bool| {
        let relevant = |case: &Case| case.relevant.iter().copied().filter(|item| keep(case, item)).collect();
        Part { name, relevant: cases.iter().map(relevant).collect() }
    };
    let known = |case: &Case| case.history.len() + case.prefix.len();
    vec![
        of("history of up to 5", &|case, _| known(case) <= SHORT),
        of("history of 6 to 20", &|case, _| (SHORT + 1..=MIDDLE).contains(&known(case))),
        of("history of 21 and more", &|case, _| known(case) > MIDDLE),
        of("items: most popular fifth", &|_, item| times_of(item) >= head),
        of("items: the rest", &|_, item| (1..head).contains(&times_of(item))),
        of("items: new", &|_, item| times_of(item) == 0),
    ]
}

impl Part {
    /// None if no list is part of it.
    fn at(&self, k: usize, lists: &[&[u32]]) -> Option<Segment> {
        let inside = || self.relevant.iter().zip(lists).filter(|(relevant, _)| !relevant.is_empty());
        let n_lists = inside().count() as u64;
        let mean = |metric: fn(&[u32], &[u32], usize) -> f64| {
            inside().map(|(relevant, list)| metric(list, relevant, k)).sum::<f64>() / n_lists as f64
        };
        let (hit_rate, ndcg) = (mean(metrics::hit_rate), mean(metrics::ndcg));
        (n_lists > 0).then_some(Segment { name: self.name, k, n_lists, hit_rate, ndcg })
    }
}

/// Mean share of the second list that the first has, over pairs of lists.
pub(super) fn overlap<'l>(k: usize, lists: impl Iterator<Item = (&'l [u32], &'l [u32])>) -> Overlap {
    let (mut sum, mut n) = (0.0, 0_u64);
    for (list, exact) in lists {
        let exact = &exact[..k.min(exact.len())];
        let found = exact.iter().filter(|item| list.iter().take(k).any(|other| other == *item)).count();
        sum += if exact.is_empty() { 1.0 } else { found as f64 / exact.len() as f64 };
        n += 1;
    }
    Overlap { k, share: sum / n.max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(user: u32, known: usize, relevant: &[u32]) -> Case {
        Case { user, history: 0..known, prefix: 0..0, relevant: relevant.to_vec(), now_ms: 0, is_mixed: false }
    }

    #[test]
    fn segments_look_only_for_what_is_theirs() {
        // Ten items: the first two are the head, the last one nobody touched.
        let times = [50, 40, 3, 3, 3, 3, 3, 3, 3, 0];
        let cases = [case(0, 3, &[0, 5]), case(1, 10, &[9]), case(2, 30, &[1])];
        let lists: [&[u32]; 3] = [&[0, 2], &[9, 1], &[2, 3]];
        let found: Vec<Segment> = parts(&cases, &times).iter().filter_map(|part| part.at(2, &lists)).collect();
        let short = |segment: &Segment| (segment.name, segment.n_lists, segment.hit_rate);
        let expected = [
            ("history of up to 5", 1, 1.0),
            ("history of 6 to 20", 1, 1.0),
            ("history of 21 and more", 1, 0.0),
            ("items: most popular fifth", 2, 0.5),
            ("items: the rest", 1, 0.0),
            ("items: new", 1, 1.0),
        ];
        assert_eq!(found.iter().map(short).collect::<Vec<_>>(), expected);
        assert!(parts(&cases[..1], &times)[1].at(2, &lists).is_none(), "a segment of nobody is left out");
    }

    #[test]
    fn overlap_by_hand() {
        let pairs: [(&[u32], &[u32]); 2] = [(&[1, 2, 3], &[3, 1, 9]), (&[], &[])];
        assert_eq!(overlap(3, pairs.into_iter()).share, (2.0 / 3.0 + 1.0) / 2.0);
    }
}

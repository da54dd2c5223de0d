//! Rules, sources and bases of scenarios, judged by a twin that scores every item from the catalogue and chooses place by place.

use std::collections::{BTreeMap, BTreeSet};

use kindred_index::{AlignedBytes, FilterExpr, Metric};
use proptest::prelude::*;

use super::*;
use crate::catalog::CatalogItem;
use crate::scenario::{
    Boost, Cap, Decay, DecayFunction, Exploration, ExploreMethod, FallbackList, ItemFilter, Pin, Promotion,
    SourceWeights, Target,
};
use crate::testing::Fixture;
use crate::user_vector::weigh;

pub(super) const NOW_MS: i64 = 1_795_568_523_000;
pub(super) const N: usize = 80;

fn filter(category: usize) -> ItemFilter {
    let text = format!(r#"{{"key": "category", "match": {{"value": "{}"}}}}"#, Fixture::category(category));
    serde_json::from_str(&text).unwrap()
}

pub(super) fn run(
    model: &Model<AlignedBytes>,
    scenario: &Scenario,
    request: &RecommendRequest<'_>,
) -> Result<Recommendations, RecommendError> {
    scenario.validate().unwrap();
    let scratch = &mut RecommendScratch::default();
    recommend(model, scenario, &Weighting::default(), request, scratch, &mut |_| ())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// What one item scores, from the definitions.
struct Twin<'a> {
    model: &'a Model<AlignedBytes>,
    items: &'a [CatalogItem],
    scenario: &'a Scenario,
    history: &'a [Interaction],
    named: &'a [u32],
    signals: &'a Signals<'a>,
}

impl Twin<'_> {
    fn anchors(&self) -> Vec<(u32, f64)> {
        match self.scenario.based_on {
            Basis::Nobody => Vec::new(),
            Basis::SimilarItems | Basis::ItemsTogether => {
                self.named.iter().map(|item| (*item, 1.0 / self.named.len() as f64)).collect()
            }
            Basis::Visitor | Basis::List => {
                let resolve = |key: &str| self.model.index().ordinal(key);
                let weighted = weigh(self.history, &Weighting::default(), NOW_MS, resolve);
                let total: f64 = weighted.iter().map(|one| f64::from(one.weight).abs()).sum();
                weighted.iter().map(|one| (one.ordinal, f64::from(one.weight) / total)).collect()
            }
        }
    }

    fn score(&self, ordinal: u32) -> f64 {
        let (weights, row) = (&self.scenario.weights, self.model.index().row(ordinal).unwrap());
        let mut score = 0.0;
        for (anchor, share) in self.anchors() {
            let likeness = match self.scenario.based_on {
                Basis::SimilarItems => cosine(&self.model.index().row(anchor).unwrap(), &row),
                _ => dot(&self.model.context_row(anchor).unwrap().values(), &row),
            };
            let near = self.model.neighbours(anchor).find(|one| one.ordinal == ordinal);
            score += share * f64::from(weights.vector) * likeness;
            score += share * f64::from(weights.neighbours) * near.map_or(0.0, |one| f64::from(one.similarity));
        }
        score += f64::from(weights.popularity) * f64::from(self.model.popularity(ordinal));
        let trend = |trend: Option<&Trend>| trend.map_or(0.0, |trend| f64::from(trend.score(ordinal)));
        score += f64::from(weights.trending) * trend(self.signals.overall);
        let groups = self.signals.segments.len().max(1) as f64;
        score += self.signals.segments.iter().map(|(_, one)| trend(Some(one)) / groups).sum::<f64>()
            * f64::from(weights.context);
        score += self.history_part(ordinal) * f64::from(weights.history);
        score + self.scenario.boosts.iter().map(|boost| self.boost(boost, ordinal)).sum::<f64>()
    }

    fn history_part(&self, ordinal: u32) -> f64 {
        let source = &self.scenario.history;
        let of_item = self.history.iter().filter(|one| self.model.index().ordinal(&one.item_id) == Some(ordinal));
        let speaks_for =
            |one: &Interaction| Weighting::default().kinds.get(&one.kind).is_some_and(|weight| *weight > 0.0);
        let counted = of_item.filter(|one| match source.kinds.as_slice() {
            [] => speaks_for(one),
            kinds => kinds.contains(&one.kind),
        });
        counted.map(|one| 0.5_f64.powf((NOW_MS - one.occurred_at_ms) as f64 / 3.6e6 / source.half_life_hours)).sum()
    }

    /// Boosts of these tests: an optional category, an optional fall by price.
    fn boost(&self, boost: &Boost, ordinal: u32) -> f64 {
        let item = &self.items[ordinal as usize];
        if boost.filter.as_ref().is_some_and(|wanted| !has(item, wanted)) {
            return 0.0;
        }
        let Some(decay) = &boost.decay else { return f64::from(boost.weight) };
        let Target::Number(target) = decay.target else { unreachable!() };
        let steps = (item.price.unwrap() - target).abs() / decay.scale;
        let value = match decay.function {
            DecayFunction::Linear => (1.0 - (1.0 - decay.midpoint) * steps).max(0.0),
            DecayFunction::Exp => (decay.midpoint.ln() * steps).exp(),
            DecayFunction::Gauss => (decay.midpoint.ln() * steps * steps).exp(),
        };
        f64::from(boost.weight) * value
    }

    fn may(&self, ordinal: u32) -> bool {
        let item = &self.items[ordinal as usize];
        let seen = || self.history.iter().any(|one| one.item_id == item.id);
        let of_items = matches!(self.scenario.based_on, Basis::SimilarItems | Basis::ItemsTogether);
        let left_out = (self.scenario.require_available && !item.available)
            || (self.scenario.exclude_seen && seen())
            || (of_items && self.named.contains(&ordinal));
        !left_out
            && (self.scenario.based_on != Basis::List || self.named.contains(&ordinal))
            && self.scenario.filter.as_ref().is_none_or(|wanted| has(item, wanted))
    }

    /// The list, chosen place by place: ordinals and scores.
    fn list(&self, limit: usize) -> Vec<(u32, f64)> {
        let mut left: Vec<(u32, f64)> =
            (0..self.model.len()).filter(|item| self.may(*item)).map(|item| (item, self.score(item))).collect();
        let mut list: Vec<(u32, f64)> = Vec::new();
        let place_of = |ordinal: u32| {
            let pins = self.scenario.pins.iter();
            pins.filter(|pin| pin.position <= limit)
                .find(|pin| pin.item_id == self.items[ordinal as usize].id)
                .map(|pin| pin.position - 1)
        };
        for place in 0..limit {
            let row = |ordinal| self.model.index().row(ordinal).unwrap();
            let nearest =
                |ordinal| list.iter().map(|(above, _)| cosine(&row(*above), &row(ordinal))).fold(0.0, f64::max);
            let worth = |(ordinal, score): &(u32, f64)| score - f64::from(self.scenario.diversity) * nearest(*ordinal);
            let buried =
                |ordinal: u32| self.scenario.bury.as_ref().is_some_and(|one| has(&self.items[ordinal as usize], one));
            let capped = |ordinal: u32| {
                let categories = &self.items[ordinal as usize].categories;
                let same = |other: &&(u32, f64)| self.items[other.0 as usize].categories == *categories;
                self.scenario.caps.iter().any(|cap| list.iter().filter(same).count() >= cap.at_most)
            };
            let best = |fits: &dyn Fn(u32) -> bool| {
                let free = left.iter().filter(|(item, _)| fits(*item) && !capped(*item) && place_of(*item).is_none());
                free.copied().min_by(|a, b| {
                    let key = |one: &(u32, f64)| self.items[one.0 as usize].id.clone();
                    buried(a.0).cmp(&buried(b.0)).then(worth(b).total_cmp(&worth(a))).then_with(|| key(a).cmp(&key(b)))
                })
            };
            let pinned = left.iter().copied().find(|(item, _)| place_of(*item) == Some(place));
            let promoted = self.scenario.promote.as_ref().filter(|promotion| {
                let of_first = |places: usize| (places as f64 * promotion.share + 1e-9).floor();
                of_first(place + 1) > of_first(place)
            });
            let promoted = promoted.and_then(|one| best(&|item| has(&self.items[item as usize], &one.filter)));
            let Some(chosen) = pinned.or(promoted).or_else(|| best(&|_| true)) else { continue };
            let score = worth(&chosen);
            left.retain(|(item, _)| *item != chosen.0);
            list.push((chosen.0, score));
        }
        list
    }
}

fn has(item: &CatalogItem, wanted: &ItemFilter) -> bool {
    let FilterExpr::Match { value, .. } = wanted.expression() else { unreachable!() };
    item.categories.contains(value)
}

fn histories() -> impl Strategy<Value = Vec<Interaction>> {
    let kinds = prop::sample::select(vec!["view", "cart", "purchase", "view", "cart", "purchase", "dislike"]);
    prop::collection::vec((0..N, kinds, 0..500_i64), 1..20).prop_map(|events| {
        let one =
            |(item, kind, age): (usize, &str, i64)| Interaction::new(Fixture::key(item), kind, NOW_MS - age * 60_000);
        events.into_iter().map(one).collect()
    })
}

fn boosts() -> impl Strategy<Value = Vec<Boost>> {
    let functions = prop::sample::select(vec![DecayFunction::Linear, DecayFunction::Exp, DecayFunction::Gauss]);
    let decay =
        (functions, 0.0..80.0_f64, 1.0..60.0_f64, 0.1..0.9_f64).prop_map(|(function, target, scale, midpoint)| Decay {
            function,
            key: "price".to_owned(),
            target: Target::Number(target),
            scale,
            midpoint,
            missing: 0.0,
        });
    let boost =
        (-0.5_f32..0.5, prop::option::of(0..4_usize), prop::option::of(decay)).prop_map(|(weight, category, decay)| {
            Boost { name: "b".to_owned(), weight, filter: category.map(filter), decay, ..Boost::default() }
        });
    prop::collection::vec(boost, 0..3)
}

/// Every basis that scores by likeness, with any rule on or off.
fn scenarios() -> impl Strategy<Value = Scenario> {
    let basis = prop::sample::select(vec![Basis::Visitor, Basis::SimilarItems, Basis::ItemsTogether, Basis::List]);
    let history = prop::sample::select(vec![0.0_f32, 0.0, 0.6]);
    let weights = (0.1_f32..2.0, 0.0_f32..2.0, 0.0_f32..1.0, 0.0_f32..1.0, 0.0_f32..1.0, history);
    let shape = (
        prop::sample::select(vec![0.0_f32, 0.0, 0.3, 1.5]),
        prop::option::of(1..6_usize),
        prop::collection::vec((0..N, 1..12_usize), 0..3),
        prop::option::of(0..4_usize),
        prop::option::of((0..4_usize, 0.05..1.0_f64)),
    );
    let rest = (any::<bool>(), any::<bool>(), prop::option::of(0..4_usize), boosts());
    (basis, weights, shape, rest).prop_map(
        |(based_on, weights, shape, (exclude_seen, require_available, category, boosts))| {
            let (vector, neighbours, popularity, trending, context, history) = weights;
            let (diversity, cap, mut pins, bury, promote) = shape;
            pins.dedup_by(|a, b| a.0 == b.0 || a.1 == b.1);
            let none = SourceWeights::none();
            Scenario {
                based_on,
                candidates: 120,
                weights: SourceWeights { vector, neighbours, popularity, trending, context, history, ..none },
                exclude_seen,
                require_available,
                filter: category.map(filter),
                boosts,
                diversity,
                caps: cap.map(|at_most| Cap { key: "category".to_owned(), at_most }).into_iter().collect(),
                pins: pins.into_iter().map(|(item, position)| Pin { item_id: Fixture::key(item), position }).collect(),
                bury: bury.map(filter),
                promote: promote.map(|(category, share)| Promotion { filter: filter(category), share }),
                ..Scenario::home()
            }
        },
    )
}

fn trend(seed: u64) -> Trend {
    let mut noise = crate::testing::Noise(seed);
    Trend::new(
        (0..30)
            .map(|_| (noise.below(N) as u32, noise.below(50) as f64))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .map(|(item, count)| (item, count, 3))
            .collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_what_its_twin_chooses_and_its_reasons_add_up(
        seed in 0..1_000_u64, cosine: bool, history in histories(), scenario in scenarios(), limit in 1..20_usize,
        named in prop::collection::btree_set(0..N as u32, 1..30),
    ) {
        let fixture = Fixture::random(seed, N, 12, if cosine { Metric::Cosine } else { Metric::InnerProduct });
        let model = fixture.model();
        let named: Vec<u32> = named.into_iter().collect();
        let keys = named.iter().map(|item| Fixture::key(*item as usize));
        let item_ids: Vec<String> = ["no such item".to_owned()].into_iter().chain(keys).collect();
        let needs = scenario.based_on != Basis::Visitor;
        let (all, mine) = (trend(seed), trend(seed + 1));
        let signals = Signals { overall: Some(&all), segments: vec![("country", &mine)] };
        let request = RecommendRequest {
            limit: Some(limit), exact: true, explain: true, item_ids: if needs { &item_ids } else { &[] }, signals: Some(&signals),
            ..RecommendRequest::new(&history, NOW_MS)
        };
        let answer = run(&model, &scenario, &request).unwrap();
        let twin = Twin { model: &model, items: &fixture.items, scenario: &scenario, history: &history, named: &named, signals: &signals };
        let expected = twin.list(limit);
        let (found, wanted): (Vec<_>, Vec<_>) = (answer.items.iter().map(|item| item.ordinal).collect(), expected.iter().map(|one| one.0).collect());
        prop_assert_eq!(found, wanted);
        for (item, (_, score)) in answer.items.iter().zip(expected) {
            prop_assert!((item.score - score).abs() < 1e-9, "{} against {}", item.score, score);
            let reasons = item.reasons.as_ref().unwrap();
            prop_assert!((reasons.total() - item.score).abs() < 1e-9, "{} against {}", reasons.total(), item.score);
            for one in &reasons.because {
                let at = one.index as usize;
                let id = if one.is_seed { &item_ids[at] } else { &history[at].item_id };
                prop_assert_eq!(model.index().ordinal(id), Some(one.ordinal), "{:?}", one);
            }
        }
    }

    #[test]
    fn own_interactions_are_listed_by_how_often_and_how_lately(seed in 0..1_000_u64, history in histories()) {
        let fixture = Fixture::random(seed, N, 12, Metric::Cosine);
        let model = fixture.model();
        for scenario in [Scenario::recently_viewed(), Scenario::buy_again()] {
            let mut scenario = scenario;
            scenario.history.not_before_hours = 0.0;
            let request = RecommendRequest { explain: true, ..RecommendRequest::new(&history, NOW_MS) };
            let answer = run(&model, &scenario, &request).unwrap();
            let signals = Signals::default();
            let twin = Twin { model: &model, items: &fixture.items, scenario: &scenario, history: &history, named: &[], signals: &signals };
            let mut expected: Vec<_> = (0..model.len()).filter(|item| twin.may(*item) && twin.history_part(*item) > 0.0).collect();
            expected.sort_by(|a, b| twin.score(*b).total_cmp(&twin.score(*a)).then_with(|| model.index().key(*a).cmp(&model.index().key(*b))));
            expected.truncate(20);
            prop_assert_eq!(answer.items.iter().map(|item| item.ordinal).collect::<Vec<_>>(), expected);
            for item in &answer.items {
                prop_assert_eq!(item.source, Source::History);
                prop_assert!((item.reasons.as_ref().unwrap().total() - twin.score(item.ordinal)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn chance_is_repeated_by_its_seed_and_told(seed in 0..1_000_u64, history in histories(), thompson: bool, luck in 0..20_u64) {
        let model = Fixture::random(seed, N, 12, Metric::Cosine).model();
        let method = if thompson { ExploreMethod::Thompson } else { ExploreMethod::EpsilonGreedy };
        let explore: Exploration = serde_json::from_str(r#"{"method": "thompson", "filter": {"key": "category", "match": {"value": "garden"}},
            "epsilon": 0.3, "sigma": 0.5}"#).unwrap();
        let scenario = Scenario { explore: Some(Exploration { method, ..explore }), ..Scenario::home() };
        let request = RecommendRequest { explain: true, seed: luck, ..RecommendRequest::new(&history, NOW_MS) };
        let answer = run(&model, &scenario, &request).unwrap();
        let again = run(&model, &scenario, &request).unwrap();
        prop_assert_eq!(&again.items, &answer.items);
        let distinct: BTreeSet<u32> = answer.items.iter().map(|item| item.ordinal).collect();
        prop_assert_eq!(distinct.len(), answer.items.len());
        for item in &answer.items {
            let propensity = item.propensity.unwrap();
            prop_assert!(propensity > 0.0 && propensity <= 1.0, "{:?}", item);
            prop_assert!((item.reasons.as_ref().unwrap().total() - item.score).abs() < 1e-9);
        }
    }
}

#[test]
fn what_is_followed_is_listed_and_added_up_for_visitors_and_newcomers() {
    let model = Fixture::random(3, N, 12, Metric::InnerProduct).model();
    let (day, hour) = (86_400_000, 3_600_000);
    let did = |item: usize, kind: &str, age: i64| Interaction::new(Fixture::key(item), kind, NOW_MS - age);
    let one = [did(2, "purchase", hour), did(2, "view", 9 * day), did(6, "view", 7 * day), did(10, "dislike", 0)];
    let other = [did(2, "view", 14 * day), did(11, "view", 0), did(9, "view", 0)];
    let followed: Vec<Vec<&Interaction>> = vec![one.iter().collect(), other.iter().collect(), Vec::new()];
    let half = |age: i64| 0.5_f64.powf(age as f64 / (7 * day) as f64) / 3.0;
    let expected = BTreeMap::from([(2_u32, half(hour) + half(14 * day)), (6, half(7 * day)), (11, half(0))]);
    let weights = SourceWeights { followed: 30.0, ..SourceWeights::default() };
    let scenario = Scenario { weights, ..Scenario::home() };
    let seen = [did(11, "view", hour)];
    for history in [&seen[..], &[]] {
        let request = RecommendRequest {
            followed: &followed,
            explain: true,
            limit: Some(6),
            ..RecommendRequest::new(history, NOW_MS)
        };
        let answer = run(&model, &scenario, &request).unwrap();
        assert_eq!(answer.items[0].ordinal, 2, "two of three took it: {answer:?}");
        for item in &answer.items {
            let reasons = item.reasons.as_ref().unwrap();
            assert!((reasons.total() - item.score).abs() < 1e-9);
            let value = expected.get(&item.ordinal).copied().unwrap_or(0.0);
            assert!((reasons.followed - 30.0 * value).abs() < 1e-6, "{item:?}: {value}");
            assert_eq!(item.source == Source::Followed, value > 0.0, "{item:?}");
        }
        let found: BTreeSet<u32> = answer.items.iter().map(|item| item.ordinal).collect();
        assert_eq!(found.contains(&11), history.is_empty(), "what was seen stays out");
        assert!(found.contains(&6) && !found.contains(&9), "item 9 is not available: {found:?}");
        let impersonal = run(&model, &scenario, &RecommendRequest { impersonal: true, ..request }).unwrap();
        assert!(impersonal.items.iter().all(|item| item.source == Source::Popular));
    }
    let home = Scenario::home();
    let plain = run(&model, &home, &RecommendRequest::new(&seen, NOW_MS)).unwrap();
    let request = RecommendRequest { followed: &followed, ..RecommendRequest::new(&seen, NOW_MS) };
    assert_eq!(run(&model, &home, &request).unwrap().items, plain.items, "off unless it has a weight");
}

#[test]
fn caps_make_no_list_shorter_while_there_is_more() {
    let mut fixture = Fixture::random(7, N, 12, Metric::Cosine);
    // The most popular are of one category, as is all that resembles what the visitor has seen.
    for (item, popularity) in fixture.popularity.iter_mut().enumerate() {
        *popularity = (N - item) as f32 + if item % 4 == 0 { 900.0 } else { 100.0 };
    }
    let model = fixture.model();
    let capped = |at_most: usize| {
        let caps = vec![Cap { key: "category".to_owned(), at_most }];
        Scenario { caps, limit: 12, candidates: 12, ef_search: 12, ..Scenario::home() }
    };
    let (nobody, history) = ([], [Interaction::new(Fixture::key(0), "view", NOW_MS)]);
    let list = |scenario: &Scenario, history: &[Interaction], exact: bool| {
        run(&model, scenario, &RecommendRequest { exact, ..RecommendRequest::new(history, NOW_MS) }).unwrap()
    };
    let scenario = capped(3);
    for (answer, label) in [
        (list(&scenario, &nobody, false), Some(Fallback::Newcomer)),
        (list(&scenario, &history, false), Some(Fallback::TooFewCandidates)),
        (list(&scenario, &history, true), None),
    ] {
        let of_category = |category: u32| answer.items.iter().filter(|item| item.ordinal % 4 == category).count();
        assert_eq!([0, 1, 2, 3].map(of_category), [3, 3, 3, 3], "{answer:?}");
        assert_eq!(answer.fallback, label);
    }
    let (items, signals) = (&fixture.items, Signals::default());
    let twin = Twin { model: &model, items, scenario: &scenario, history: &history, named: &[], signals: &signals };
    let exact = list(&scenario, &history, true).items.iter().map(|item| item.ordinal).collect::<Vec<_>>();
    assert_eq!(exact, twin.list(12).iter().map(|one| one.0).collect::<Vec<_>>());
    // Four is all that this lets pass at once. What is left is told: 80 items, 8 of which are not available.
    let few = list(&capped(1), &nobody, false);
    assert_eq!((few.items.len(), few.candidates), (4, 72));
}

#[test]
fn boosts_choose_for_newcomers_too() {
    let model = Fixture::random(7, N, 12, Metric::Cosine).model();
    let boost = Boost { name: "kitchen".to_owned(), weight: 5.0, filter: Some(filter(3)), ..Boost::default() };
    let scenario = Scenario { boosts: vec![boost], ..Scenario::home() };
    let answer = run(&model, &scenario, &RecommendRequest { limit: Some(5), ..RecommendRequest::new(&[], NOW_MS) });
    assert!(answer.unwrap().items.iter().all(|item| item.ordinal % 4 == 3));
}

#[test]
fn what_was_turned_down_does_not_count_as_taken() {
    let model = Fixture::random(4, N, 12, Metric::Cosine).model();
    let weights = SourceWeights { history: 1.0, ..SourceWeights::none() };
    let scenario = Scenario { weights, exclude_seen: false, fallback: vec![FallbackList::Nothing], ..Scenario::home() };
    let did = |item: usize, kind: &str| Interaction::new(Fixture::key(item), kind, NOW_MS);
    let history = [did(4, "view"), did(6, "dislike"), did(8, "dislike"), did(8, "view"), did(10, "unheard_of")];
    let answer = run(&model, &scenario, &RecommendRequest::new(&history, NOW_MS)).unwrap();
    let found: Vec<_> = answer.items.iter().map(|item| (item.ordinal, item.score)).collect();
    assert_eq!(found, [(4, 1.0), (8, 1.0)]);
}

#[test]
fn what_is_not_wanted_does_not_come_back() {
    let model = Fixture::random(1, N, 12, Metric::Cosine).model();
    let mut history = vec![Interaction::new(Fixture::key(0), "view", NOW_MS)];
    let all = Scenario { exclude_seen: false, limit: 70, ..Scenario::home() };
    let shown = |history: &[Interaction], scenario: &Scenario| -> Vec<u32> {
        let answer = run(&model, scenario, &RecommendRequest::new(history, NOW_MS)).unwrap();
        answer.items.iter().map(|item| item.ordinal).collect()
    };
    assert!(shown(&history, &all).contains(&4));
    history.push(Interaction::new(Fixture::key(4), "not_interested", NOW_MS));
    assert!(!shown(&history, &all).contains(&4) && shown(&history, &all).contains(&0));
    // Only purchases of the last hour count as seen.
    let young =
        Scenario { exclude_seen: true, exclude_kinds: vec!["purchase".to_owned()], exclude_within_hours: 1.0, ..all };
    history.push(Interaction::new(Fixture::key(8), "purchase", NOW_MS - 1_000));
    history.push(Interaction::new(Fixture::key(12), "purchase", NOW_MS - 7_200_000));
    let found = shown(&history, &young);
    assert!(!found.contains(&8) && found.contains(&12) && found.contains(&0), "{found:?}");
}

#[test]
fn trends_lead_their_lists_and_fill_others() {
    let model = Fixture::random(2, N, 12, Metric::Cosine).model();
    let (all, mine) = (Trend::new(vec![(3, 9.0, 9), (5, 4.0, 4), (9, 2.0, 2)]), Trend::new(vec![(7, 5.0, 5)]));
    let signals = Signals { overall: Some(&all), segments: vec![("country", &mine)] };
    let request = RecommendRequest {
        signals: Some(&signals),
        limit: Some(4),
        explain: true,
        ..RecommendRequest::new(&[], NOW_MS)
    };
    let answer = run(&model, &Scenario::trending(), &request).unwrap();
    let found: Vec<_> = answer.items.iter().map(|item| (item.ordinal, item.source)).collect();
    // Item 9 is not available; the fourth fills up.
    assert_eq!(found[..3], [(3, Source::Trending), (5, Source::Trending), (7, Source::Context)]);
    assert_eq!((found[3].1, answer.fallback), (Source::Popular, Some(Fallback::TooFewCandidates)));
    for item in &answer.items {
        assert!((item.reasons.as_ref().unwrap().total() - item.score).abs() < 1e-9);
    }
    let home = Scenario { fallback: vec![FallbackList::Trending, FallbackList::Popular], ..Scenario::home() };
    let newcomer = run(&model, &home, &request).unwrap();
    // Both are added up for a newcomer: what is taken just now leads what was taken always.
    assert!([3, 5].contains(&newcomer.items[0].ordinal), "{newcomer:?}");
    assert_eq!(newcomer.fallback, Some(Fallback::Newcomer));
    let popular = run(&model, &Scenario::popular(), &request).unwrap();
    assert_eq!(
        (popular.fallback, popular.items[0].score),
        (None, f64::from(model.popularity(popular.items[0].ordinal)))
    );
    // Where nothing is taken just now, popular items fill the list in their own order, chosen by a rule or not.
    let ordinals = |list: &Recommendations| list.items.iter().map(|item| item.ordinal).collect::<Vec<_>>();
    for caps in [Vec::new(), vec![Cap { key: "category".to_owned(), at_most: 4 }]] {
        let quiet = Scenario { caps, ..Scenario::trending() };
        let request = RecommendRequest { limit: Some(4), ..RecommendRequest::new(&[], NOW_MS) };
        assert_eq!(ordinals(&run(&model, &quiet, &request).unwrap()), ordinals(&popular));
    }
}

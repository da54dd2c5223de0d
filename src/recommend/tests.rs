//! Properties of recommending, judged by a brute-force twin that follows the formula word for word.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use kindred_index::{AlignedBytes, Metric};
use proptest::prelude::*;

use super::*;
use crate::filter::Filter;
use crate::scenario::{FallbackList, Interests, SourceWeights};
use crate::testing::Fixture;
use crate::user_vector::weigh;

const NOW_MS: i64 = 1_000_000;
const N: usize = 80;

fn fixture(seed: u64, cosine: bool) -> Fixture {
    let mut fixture = Fixture::random(seed, N, 12, if cosine { Metric::Cosine } else { Metric::InnerProduct });
    let session =
        |number: usize| (0..2 + number % 5).map(move |step| ((number * 7 + step * (3 + number % 4)) % N) as u32);
    let sessions: Vec<Vec<u32>> = (0..60).map(|number| session(number).collect()).collect();
    fixture.set_sessions(sessions.iter().map(Vec::as_slice));
    fixture
}

/// The share of the sessions with the newest four items that an item is in, each counting 0.3 to the power of the places of those it has.
fn in_sessions(model: &Model<AlignedBytes>, anchors: &[(u32, f64)], ordinal: u32) -> f64 {
    let mut window: Vec<u32> = Vec::new();
    for (anchor, _) in anchors.iter().filter(|(_, share)| *share > 0.0) {
        if window.len() < 4 && !window.contains(anchor) {
            window.push(*anchor);
        }
    }
    let view = model.sessions();
    let weight = |session: u32| -> f64 {
        let given = (0_i32..).zip(&window).filter(|(_, item)| view.items(session).contains(item));
        given.map(|(place, _)| 0.3_f64.powi(place)).sum()
    };
    let total: f64 = (0..view.len()).map(weight).sum();
    let with: f64 = (0..view.len()).filter(|session| view.items(*session).contains(&ordinal)).map(weight).sum();
    if total > 0.0 { with / total } else { 0.0 }
}

fn run(
    model: &Model<AlignedBytes>,
    scenario: &Scenario,
    request: &RecommendRequest<'_>,
) -> Result<Recommendations, RecommendError> {
    let scratch = &mut RecommendScratch::default();
    recommend(model, scenario, &Weighting::default(), request, scratch, &mut |_| ())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The neighbours part: Σ share × similarity, by scanning every list.
fn near(model: &Model<AlignedBytes>, anchors: &[(u32, f64)], ordinal: u32) -> f64 {
    let similarity = |anchor: u32| {
        model.neighbours(anchor).find(|one| one.ordinal == ordinal).map_or(0.0, |one| f64::from(one.similarity))
    };
    anchors.iter().map(|(anchor, share)| share * similarity(*anchor)).sum()
}

fn sorted(model: &Model<AlignedBytes>, mut scored: Vec<(u32, f64)>, limit: usize) -> Vec<(u32, f64)> {
    let key = |ordinal: u32| model.index().key(ordinal).unwrap().to_owned();
    scored.sort_by(|a, b| match b.1.total_cmp(&a.1) {
        Ordering::Equal => key(a.0).cmp(&key(b.0)),
        other => other,
    });
    scored.truncate(limit);
    scored
}

/// Scores every item by the formula of the module and sorts: what an exact answer must be.
fn brute_force(
    model: &Model<AlignedBytes>,
    scenario: &Scenario,
    request: &RecommendRequest<'_>,
    passes: impl Fn(u32) -> bool,
) -> Vec<(u32, f64)> {
    let resolve = |key: &str| model.index().ordinal(key);
    let mut weighted = weigh(request.history, &Weighting::default(), request.now_ms, resolve);
    let at_ms = |one: &Interaction| one.occurred_at_ms;
    let mut times: Vec<i64> = request.history.iter().map(at_ms).chain([request.now_ms]).collect();
    times.sort_unstable();
    times.reverse();
    let pause = |pair: &[i64]| (pair[0] - pair[1]) as f64 / 60_000.0 > scenario.interests.session_gap_minutes;
    let began_ms = times[times.windows(2).take_while(|pair| !pause(pair)).count()];
    for one in &mut weighted {
        let in_session = at_ms(&request.history[one.index as usize]) >= began_ms;
        one.weight *= if in_session { scenario.interests.session } else { scenario.interests.long_term };
    }
    let total: f64 = weighted.iter().map(|one| f64::from(one.weight).abs()).sum();
    let anchors: Vec<_> = weighted.iter().map(|one| (one.ordinal, f64::from(one.weight) / total)).collect();
    let seen: BTreeSet<u32> = request.history.iter().filter_map(|one| resolve(&one.item_id)).collect();
    let weights = &scenario.weights;
    let mut scored = Vec::new();
    for ordinal in 0..model.len() {
        let excluded = request.exclude.iter().any(|key| resolve(key) == Some(ordinal));
        if excluded || (scenario.exclude_seen && seen.contains(&ordinal)) || !passes(ordinal) {
            continue;
        }
        let row = model.index().row(ordinal).unwrap();
        let context = |anchor: u32| model.context_row(anchor).unwrap().values();
        let vector: f64 = anchors.iter().map(|(anchor, share)| share * dot(&context(*anchor), &row)).sum();
        let score = f64::from(weights.vector) * vector
            + f64::from(weights.neighbours) * near(model, &anchors, ordinal)
            + f64::from(weights.sessions) * in_sessions(model, &anchors, ordinal)
            + f64::from(weights.popularity) * f64::from(model.popularity(ordinal));
        scored.push((ordinal, score));
    }
    sorted(model, scored, request.limit.unwrap_or(scenario.limit))
}

fn available(model: &Model<AlignedBytes>) -> impl Fn(u32) -> bool + '_ {
    |ordinal| model.catalog().item(ordinal).unwrap().unwrap().available
}

fn histories() -> impl Strategy<Value = Vec<Interaction>> {
    let kinds = prop::sample::select(vec!["view", "cart", "purchase"]);
    prop::collection::vec((0..N + 5, kinds, 0..50_i64), 1..25).prop_map(|events| {
        let one = |(item, kind, time): (usize, &str, i64)| Interaction::new(Fixture::key(item), kind, time * 1_000);
        events.into_iter().map(one).collect()
    })
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let weights = (0.0_f32..2.0, 0.0_f32..2.0, prop::sample::select(vec![0.0_f32, 0.7]), 0.01_f32..1.0);
    // The histories of these tests are within 16 minutes of the present.
    let apart = (0.1_f32..3.0, prop::sample::select(vec![0.1_f32, 1.0, 4.0]), 0.01_f64..17.0).prop_map(
        |(session, long_term, session_gap_minutes)| Interests {
            session,
            long_term,
            session_gap_minutes,
            ..Interests::default()
        },
    );
    (weights, prop::option::of(apart), any::<bool>(), any::<bool>()).prop_map(
        |((vector, neighbours, sessions, popularity), interests, exclude_seen, available)| Scenario {
            weights: SourceWeights { vector, neighbours, sessions, popularity, ..SourceWeights::none() },
            interests: interests.unwrap_or_default(),
            exclude_seen,
            require_available: available,
            ..Scenario::home()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn exact_is_brute_force(
        seed in 0..1_000_u64, cosine: bool, history in histories(), scenario in scenarios(),
        limit in 1..40_usize, exclude in prop::collection::vec(0..N, 0..20),
    ) {
        let model = fixture(seed, cosine).model();
        let exclude: Vec<String> = exclude.into_iter().map(Fixture::key).collect();
        let request = RecommendRequest { limit: Some(limit), exact: true, exclude: &exclude, ..RecommendRequest::new(&history, NOW_MS) };
        let answer = run(&model, &scenario, &request).unwrap();
        prop_assume!(!matches!(answer.fallback, Some(Fallback::UnknownItems)));
        let expected = brute_force(&model, &scenario, &request, |ordinal| {
            !scenario.require_available || available(&model)(ordinal)
        });
        prop_assert_eq!(answer.items.len(), expected.len());
        for (found, (ordinal, score)) in answer.items.iter().zip(expected) {
            prop_assert_eq!(found.ordinal, ordinal);
            prop_assert!((found.score - score).abs() < 1e-9, "{} against {}", found.score, score);
        }
    }

    #[test]
    fn reasons_add_up_to_the_score(
        seed in 0..1_000_u64, cosine: bool, history in histories(), scenario in scenarios(), exact: bool,
        tastes in 1..5_usize,
    ) {
        let interests = Interests { tastes, ..scenario.interests };
        let scenario = Scenario { interests, ..scenario };
        let model = fixture(seed, cosine).model();
        let request = RecommendRequest { explain: true, exact, ..RecommendRequest::new(&history, NOW_MS) };
        for item in run(&model, &scenario, &request).unwrap().items {
            let reasons = item.reasons.unwrap();
            prop_assert!((reasons.total() - item.score).abs() < 1e-6, "{} against {}", reasons.total(), item.score);
            let named = |one: &Because| model.index().ordinal(&history[one.index as usize].item_id);
            prop_assert!(reasons.because.iter().all(|one| named(one) == Some(one.ordinal)));
        }
        let seeds = [3, 7, 11];
        let item_ids: Vec<String> = seeds.iter().map(|seed| Fixture::key(*seed as usize)).collect();
        let scenario = Scenario { based_on: Basis::SimilarItems, ..scenario };
        let request = RecommendRequest { explain: true, exact, item_ids: &item_ids, ..RecommendRequest::new(&[], NOW_MS) };
        let answer = run(&model, &scenario, &request).unwrap();
        for item in answer.items {
            prop_assert!((item.reasons.unwrap().total() - item.score).abs() < 1e-6);
        }
    }

    #[test]
    fn same_input_same_answer_and_a_used_scratch_changes_nothing(
        seed in 0..1_000_u64, cosine: bool, history in histories(), other in histories(), scenario in scenarios(),
        tastes in 1..5_usize,
    ) {
        let interests = Interests { tastes, ..scenario.interests };
        let scenario = Scenario { interests, ..scenario };
        let model = fixture(seed, cosine).model();
        let request = RecommendRequest { explain: true, ..RecommendRequest::new(&history, NOW_MS) };
        let fresh = run(&model, &scenario, &request).unwrap();
        let mut scratch = RecommendScratch::default();
        let weighting = Weighting::default();
        let before = RecommendRequest::new(&other, NOW_MS);
        recommend(&model, &scenario, &weighting, &before, &mut scratch, &mut |_| ()).unwrap();
        let used = recommend(&model, &scenario, &weighting, &request, &mut scratch, &mut |_| ()).unwrap();
        prop_assert_eq!(&used.items, &fresh.items);
        prop_assert_eq!(used.fallback, fresh.fallback);
        let references: Vec<&Interaction> = history.iter().collect();
        let request = RecommendRequest { explain: true, ..RecommendRequest::new(&references, NOW_MS) };
        let referred = recommend(&model, &scenario, &weighting, &request, &mut scratch, &mut |_| ()).unwrap();
        prop_assert_eq!(&referred.items, &fresh.items);
    }

    #[test]
    fn what_must_not_appear_does_not(
        seed in 0..1_000_u64, cosine: bool, history in histories(), exclude in prop::collection::vec(0..N, 0..80),
        exact: bool, category in prop::option::of(0..4_usize), limit in 1..N,
    ) {
        let fixture = fixture(seed, cosine);
        let model = fixture.model();
        let exclude: Vec<String> = exclude.into_iter().map(Fixture::key).collect();
        let filter = category.map(|category| FilterExpr::Match {
            field: "category".to_owned(), value: Fixture::category(category),
        });
        let request = RecommendRequest {
            exclude: &exclude, exact, limit: Some(limit), filter: filter.as_ref(), ..RecommendRequest::new(&history, NOW_MS)
        };
        let answer = run(&model, &Scenario::home(), &request).unwrap();
        let may = |item: &crate::catalog::CatalogItem| {
            item.available
                && !exclude.contains(&item.id)
                && !history.iter().any(|one| one.item_id == item.id)
                && category.is_none_or(|category| item.categories.contains(&Fixture::category(category)))
        };
        for item in &answer.items {
            prop_assert!(may(&fixture.items[item.ordinal as usize]), "{:?}", item);
        }
        let distinct: BTreeSet<u32> = answer.items.iter().map(|item| item.ordinal).collect();
        prop_assert_eq!(distinct.len(), answer.items.len());
        prop_assert!(answer.items.windows(2).all(|pair| pair[0].score >= pair[1].score));
        // Whatever is left of the catalogue fills the list: it is shorter than wanted only when nothing more may appear.
        let eligible = fixture.items.iter().filter(|item| may(item)).count();
        prop_assert_eq!(answer.items.len(), limit.min(eligible));
    }

    #[test]
    fn scores_are_those_of_the_list(seed in 0..1_000_u64, cosine: bool, history in histories(), scenario in scenarios()) {
        let model = fixture(seed, cosine).model();
        let answer = run(&model, &scenario, &RecommendRequest::new(&history, NOW_MS)).unwrap();
        let mut keys: Vec<_> = answer.items.iter().map(|item| model.index().key(item.ordinal).unwrap().to_owned()).collect();
        keys.push("no such item".to_owned());
        let scratch = &mut RecommendScratch::default();
        let request = RecommendRequest { item_ids: &keys, ..RecommendRequest::new(&history, NOW_MS) };
        let scores = score(&model, &scenario, &Weighting::default(), &request, scratch).unwrap();
        let expected: Vec<_> = answer.items.iter().map(|item| Some(item.score)).chain([None]).collect();
        prop_assert_eq!(scores.scores, expected);
    }
}

#[test]
fn similar_by_scan_is_brute_force_by_cosine() {
    for cosine in [true, false] {
        let model = fixture(5, cosine).model();
        let scenario = Scenario::similar();
        let seeds = [4, 9];
        let item_ids = seeds.map(|seed| Fixture::key(seed as usize));
        let request = RecommendRequest {
            exact: true,
            limit: Some(10),
            item_ids: &item_ids,
            ..RecommendRequest::new(&[], NOW_MS)
        };
        let answer = run(&model, &scenario, &request).unwrap();
        let row = |ordinal| model.index().row(ordinal).unwrap();
        let product = |a, b| dot(&row(a), &row(b));
        let cosine = |a, b| product(a, b) / (product(a, a) * product(b, b)).sqrt();
        let mut scored = Vec::new();
        for ordinal in (0..model.len()).filter(|one| !seeds.contains(one) && available(&model)(*one)) {
            let anchors = seeds.map(|seed| (seed, 0.5));
            let vector = (cosine(4, ordinal) + cosine(9, ordinal)) / 2.0;
            let neighbours = near(&model, &anchors, ordinal);
            scored.push((ordinal, vector + neighbours));
        }
        let expected = sorted(&model, scored, 10);
        for (found, (ordinal, score)) in answer.items.iter().zip(expected) {
            assert_eq!(found.ordinal, ordinal);
            assert!((found.score - score).abs() < 1e-9, "{} against {score}", found.score);
        }
    }
}

#[test]
fn the_graph_finds_what_the_scan_finds() {
    let (mut found, mut wanted) = (0, 0);
    for seed in 0..40 {
        let model = Fixture::random(seed, 400, 12, Metric::InnerProduct).model();
        let history: Vec<_> = (0..8)
            .map(|i| Interaction::new(Fixture::key((seed as usize * 31 + i * 7) % 400), "view", i as i64))
            .collect();
        let approximate = RecommendRequest { limit: Some(10), ..RecommendRequest::new(&history, NOW_MS) };
        let exact = RecommendRequest { limit: Some(10), exact: true, ..RecommendRequest::new(&history, NOW_MS) };
        let scenario = Scenario { candidates: 50, ef_search: 60, ..Scenario::home() };
        let approximate = run(&model, &scenario, &approximate).unwrap();
        assert!(approximate.search.is_some());
        let exact: Vec<_> = run(&model, &scenario, &exact).unwrap().items.iter().map(|item| item.ordinal).collect();
        wanted += exact.len();
        found += approximate.items.iter().filter(|item| exact.contains(&item.ordinal)).count();
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted}");
}

#[test]
fn each_fallback_has_its_label() {
    let model = fixture(1, false).model();
    let label =
        |history: &[Interaction]| run(&model, &Scenario::home(), &RecommendRequest::new(history, NOW_MS)).unwrap();
    let newcomer = label(&[]);
    assert_eq!(newcomer.fallback, Some(Fallback::Newcomer));
    let popular: Vec<_> = model.popular().iter().copied().filter(|one| available(&model)(*one)).take(20).collect();
    assert_eq!(newcomer.items.iter().map(|item| item.ordinal).collect::<Vec<_>>(), popular);
    assert!(newcomer.items.iter().all(|item| item.source == Source::Popular));
    assert_eq!(newcomer.items[0].score, f64::from(model.popularity(popular[0])));

    let stranger = label(&[Interaction::new("no such item", "view", 0)]);
    assert_eq!(stranger.fallback, Some(Fallback::UnknownItems));
    assert_eq!(stranger.items, newcomer.items);
    let unheard = label(&[Interaction::new(Fixture::key(0), "unheard_of", 0)]);
    assert_eq!(unheard.fallback, Some(Fallback::UnknownItems));

    let grumbler = label(&[Interaction::new(Fixture::key(0), "dislike", 0)]);
    assert_eq!(grumbler.fallback, Some(Fallback::NoPreference));
    assert_eq!(grumbler.items.len(), 20);

    let known = label(&[Interaction::new(Fixture::key(0), "view", 0)]);
    assert_eq!(known.fallback, None);
}

#[test]
fn an_impersonal_list_is_a_newcomers_without_what_was_seen() {
    let model = fixture(1, false).model();
    let list = |request: &RecommendRequest<'_>| run(&model, &Scenario::home(), request).unwrap();
    let newcomer = list(&RecommendRequest { limit: Some(11), ..RecommendRequest::new(&[], NOW_MS) });
    let seen = newcomer.items[0].ordinal;
    let history = [Interaction::new(Fixture::key(seen as usize), "view", 0)];
    let request = RecommendRequest { impersonal: true, limit: Some(10), ..RecommendRequest::new(&history, NOW_MS) };
    let impersonal = list(&request);
    assert_eq!(impersonal.fallback, Some(Fallback::Newcomer));
    assert_eq!(impersonal.items, newcomer.items[1..]);
    // The same of a list for items: what was named stays out, and nothing is searched.
    let item_ids = [Fixture::key(seen as usize)];
    for scenario in [Scenario::similar(), Scenario::cart()] {
        let request = RecommendRequest { item_ids: &item_ids, history: &[], ..request };
        let of_items = run(&model, &scenario, &request).unwrap();
        assert_eq!((of_items.fallback, of_items.search), (Some(Fallback::Newcomer), None));
        assert_eq!(of_items.items, newcomer.items[1..]);
        let personal = run(&model, &scenario, &RecommendRequest { impersonal: false, ..request }).unwrap();
        assert_eq!(personal.fallback, None);
    }
}

/// Those of a narrow filter are sorted, those of a wide one are walked down to.
#[test]
fn what_is_popular_among_few_and_among_many_is_in_one_order() {
    let model = fixture(1, false).model();
    let all = run(&model, &Scenario::home(), &RecommendRequest::new(&[], NOW_MS)).unwrap().items;
    let keys: Vec<String> = all.iter().map(|item| Fixture::key(item.ordinal as usize)).collect();
    for n in 1..=keys.len() {
        let wanted: Vec<&String> = keys.iter().rev().take(n).collect();
        let filter: Filter = serde_json::from_value(serde_json::json!({"has_id": wanted})).unwrap();
        let filter = filter.expression().unwrap();
        let request = RecommendRequest { filter: filter.as_ref(), ..RecommendRequest::new(&[], NOW_MS) };
        let found = run(&model, &Scenario::home(), &request).unwrap().items;
        assert!(found.iter().map(|item| item.ordinal).eq(all[keys.len() - n..].iter().map(|item| item.ordinal)), "{n}");
    }
}

#[test]
fn a_page_that_would_rather_show_nothing_shows_nothing() {
    let model = fixture(1, false).model();
    let scenario = Scenario { fallback: vec![FallbackList::Nothing], ..Scenario::home() };
    let answer = run(&model, &scenario, &RecommendRequest::new(&[], NOW_MS)).unwrap();
    assert_eq!((answer.items.len(), answer.fallback), (0, Some(Fallback::Newcomer)));
}

#[test]
fn the_session_alone_or_what_came_before_alone_can_make_the_list() {
    let model = fixture(1, false).model();
    let view = |item: usize, minutes: i64| Interaction::new(Fixture::key(item), "view", NOW_MS - minutes * 60_000);
    let (before, now) = ([view(2, 90), view(6, 80)], [view(1, 25), view(5, 3)]);
    let all: Vec<_> = before.iter().chain(&now).cloned().collect();
    let list = |session: f32, long_term: f32, history: &[Interaction]| {
        let interests = Interests { session, long_term, ..Interests::default() };
        let scenario = Scenario { interests, exclude_seen: false, ..Scenario::home() };
        let request = RecommendRequest { exact: true, ..RecommendRequest::new(history, NOW_MS) };
        let answer = run(&model, &scenario, &request).unwrap();
        answer.items.iter().map(|item| item.ordinal).collect::<Vec<_>>()
    };
    assert_eq!(list(1.0, 0.0, &all), list(1.0, 1.0, &now));
    assert_eq!(list(0.0, 1.0, &all), list(1.0, 1.0, &before));
    assert_ne!(list(1.0, 0.0, &all), list(0.0, 1.0, &all));
    let nothing = Interests { session: 0.0, long_term: 0.0, ..Interests::default() };
    assert!(Scenario { interests: nothing, ..Scenario::home() }.validate().is_err());
}

#[test]
fn somebody_with_two_tastes_gets_both() {
    let model = Fixture::random(3, 400, 16, Metric::Cosine).model();
    let context = |ordinal: u32| model.context_row(ordinal).unwrap().values();
    // An interaction with one item, and before it one with an item that has nothing in common with that.
    let in_common = |other: u32| (dot(&context(0), &context(other)) * 1e9).abs() as u64;
    let other = (1..400).min_by_key(|other| in_common(*other)).unwrap();
    let view = |ordinal: u32, at: i64| Interaction::new(model.index().key(ordinal).unwrap().to_owned(), "view", at);
    let history = [view(0, 9), view(other, 8)];
    let mut like_other: Vec<u32> = (0..400).collect();
    let likeness = |ordinal: u32| dot(&context(other), &model.index().row(ordinal).unwrap());
    like_other.sort_by(|a, b| likeness(*b).total_cmp(&likeness(*a)));
    let of_other = |tastes: usize, exact: bool| {
        let interests = Interests { tastes, ..Interests::default() };
        let weights = SourceWeights { vector: 1.0, ..SourceWeights::none() };
        let scenario = Scenario { interests, weights, candidates: 60, ..Scenario::home() };
        let request = RecommendRequest { exact, limit: Some(10), ..RecommendRequest::new(&history, NOW_MS) };
        let list = run(&model, &scenario, &request).unwrap().items;
        list.iter().filter(|item| like_other[..10].contains(&item.ordinal)).count()
    };
    let (as_one, as_two) = (of_other(1, true), of_other(2, true));
    assert!(as_two >= as_one + 2, "{as_one} and {as_two}");
    assert_eq!((of_other(1, false), of_other(2, false)), (as_one, as_two));
}

#[test]
fn too_few_candidates_are_filled_up_and_said() {
    let model = fixture(2, true).model();
    let history = [Interaction::new(Fixture::key(0), "view", 0)];
    let filter = FilterExpr::Match { field: "category".to_owned(), value: "no such category".to_owned() };
    let request = RecommendRequest { filter: Some(&filter), ..RecommendRequest::new(&history, NOW_MS) };
    let answer = run(&model, &Scenario::home(), &request).unwrap();
    assert_eq!((answer.items.len(), answer.fallback), (0, Some(Fallback::TooFewCandidates)));
}

#[test]
fn each_mistake_has_its_own_error() {
    let model = fixture(3, true).model();
    let history = [Interaction::new(Fixture::key(0), "view", 0)];
    let plain = || RecommendRequest::new(&history, NOW_MS);
    let fail = |request: &RecommendRequest<'_>| run(&model, &Scenario::home(), request).unwrap_err();
    assert!(matches!(fail(&RecommendRequest { limit: Some(0), ..plain() }), RecommendError::Limit { found: 0 }));
    assert!(matches!(fail(&RecommendRequest { limit: Some(1_001), ..plain() }), RecommendError::Limit { .. }));
    assert!(matches!(fail(&RecommendRequest { ef_search: Some(0), ..plain() }), RecommendError::EfSearch { found: 0 }));
    let exclude = vec![String::new(); 10_001];
    let crowded = RecommendRequest { exclude: &exclude, ..plain() };
    assert!(matches!(fail(&crowded), RecommendError::TooManyExcluded { found: 10_001 }));
    let filter = FilterExpr::Match { field: "colour".to_owned(), value: "red".to_owned() };
    let error = fail(&RecommendRequest { filter: Some(&filter), ..plain() });
    let RecommendError::Filter(source) = error else { panic!("{error}") };
    assert!(source.to_string().contains("category"), "the known fields are listed: {source}");
    let asked = |scenario: Scenario, item_ids: &[String]| {
        run(&model, &scenario, &RecommendRequest { item_ids, ..RecommendRequest::new(&[], NOW_MS) }).unwrap_err()
    };
    assert!(matches!(asked(Scenario::similar(), &[]), RecommendError::Items { found: 0, .. }));
    let crowd = vec!["item-1".to_owned(); 101];
    assert!(matches!(asked(Scenario::cart(), &crowd), RecommendError::Items { found: 101, most: 100 }));
    assert!(matches!(asked(Scenario::home(), &crowd), RecommendError::ItemsUnused));
    let crowd = vec!["item-1".to_owned(); 1_001];
    assert!(matches!(asked(Scenario::rerank(), &crowd), RecommendError::TooManyToRank { found: 1_001 }));
}

#[test]
fn stages_are_reported_in_order() {
    let model = fixture(4, true).model();
    let history = [Interaction::new(Fixture::key(0), "view", 0)];
    for exact in [false, true] {
        let mut stages = Vec::new();
        let request = RecommendRequest { exact, ..RecommendRequest::new(&history, NOW_MS) };
        let scratch = &mut RecommendScratch::default();
        recommend(&model, &Scenario::home(), &Weighting::default(), &request, scratch, &mut |stage| stages.push(stage))
            .unwrap();
        assert_eq!(stages, [Stage::UserVector, Stage::Filter, Stage::Neighbours, Stage::Search, Stage::Rank]);
    }
}

#[test]
fn an_empty_model_answers_nothing() {
    let model = Fixture::random(0, 0, 12, Metric::Cosine).model();
    model.verify().unwrap();
    let history = [Interaction::new(Fixture::key(0), "view", 0)];
    for history in [&history[..], &[]] {
        let answer = run(&model, &Scenario::home(), &RecommendRequest::new(history, NOW_MS)).unwrap();
        assert!(answer.items.is_empty() && answer.fallback.is_some());
    }
}

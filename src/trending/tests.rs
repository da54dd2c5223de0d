//! Counts against adding up one by one, under clocks that go well and badly.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_795_568_523_000;

/// Decayed weight, number, and who.
type Sum = (f64, u32, BTreeSet<u8>);

fn settings(minimum_count: u32) -> TrendingSettings {
    TrendingSettings {
        window_hours: 48.0,
        half_life_hours: 6.0,
        refresh_ms: 1_000,
        minimum_count,
        by: vec!["country".to_owned(), "hour".to_owned()],
    }
}

fn kinds() -> BTreeMap<String, f32> {
    BTreeMap::from([("view".to_owned(), 1.0), ("purchase".to_owned(), 5.0), ("dislike".to_owned(), -1.0)])
}

fn ordinal(key: &str) -> Option<u32> {
    key.parse().ok()
}

proptest! {
    #[test]
    fn counts_are_those_of_adding_up_one_by_one(
        events in prop::collection::vec((0..12_u32, prop::sample::select(vec!["view", "purchase", "dislike", "stare"]), 0..6_000_i64,
            prop::option::of(0..3_u8), 0..4_u8), 0..200),
        minimum_count in 1..4_u32,
    ) {
        let trending = Trending::new(settings(minimum_count));
        let mut sums: BTreeMap<(Option<u8>, u32), Sum> = BTreeMap::new();
        for (item, kind, minutes, country, who) in &events {
            let mut interaction = Interaction::new(item.to_string(), *kind, NOW_MS - minutes * 60_000);
            if let Some(country) = country {
                interaction.context.insert("country".to_owned(), country.to_string());
            }
            trending.count(&Actor::user(&who.to_string()), &interaction, &kinds(), NOW_MS);
            let weight = f64::from(kinds().get(*kind).copied().unwrap_or(0.0));
            // A bucket is an hour; one that began within the window counts with its middle's age.
            let middle = interaction.occurred_at_ms.div_euclid(3_600_000) * 3_600_000 + 1_800_000;
            if weight > 0.0 && *minutes <= 48 * 60 {
                let decay = 0.5_f64.powf((NOW_MS - middle).max(0) as f64 / 3.6e6 / 6.0);
                for group in [None, *country].into_iter().take(if country.is_some() { 2 } else { 1 }) {
                    let sum = sums.entry((group, *item)).or_default();
                    (sum.0, sum.1) = (sum.0 + weight * decay, sum.1 + 1);
                    sum.2.insert(*who);
                }
            }
        }
        trending.refresh("g", ordinal, NOW_MS);
        let tables = trending.tables();
        for country in [None, Some(0), Some(1), Some(2)] {
            let counted = sums.iter().filter(|((group, _), (_, _, people))| *group == country && people.len() >= minimum_count as usize);
            let expected = Trend::new(counted.map(|((_, item), (sum, n, _))| (*item, *sum, *n)).collect());
            let values = country.map(|country: u8| ("country".to_owned(), country.to_string())).into_iter().collect();
            let context = RequestContext { values, ..RequestContext::default() };
            let signals = trending.signals(&tables, "g", Some(&context), NOW_MS);
            let found = match country {
                None => signals.overall,
                Some(_) => signals.segments.iter().find(|(key, _)| *key == "country").map(|(_, trend)| *trend),
            };
            for item in 0..12 {
                let (score, n) = found.map_or((0.0, 0), |trend| (trend.score(item), trend.count(item)));
                prop_assert!((score - expected.score(item)).abs() < 1e-5, "{:?} {}: {} against {}", country, item, score, expected.score(item));
                prop_assert_eq!(n, expected.count(item));
            }
        }
    }
}

/// What is listed at a time, the most taken first.
fn listed(trending: &Trending, now_ms: i64) -> Vec<u32> {
    trending.refresh("g", ordinal, now_ms);
    let tables = trending.tables();
    let overall = trending.signals(&tables, "g", None, now_ms).overall;
    overall.map(|trend| trend.order().to_vec()).unwrap_or_default()
}

#[test]
fn what_is_old_is_left_out_and_another_artifact_has_no_counts() {
    let trending = Trending::new(settings(1));
    trending.count(&Actor::user("u"), &Interaction::new("1", "view", NOW_MS), &kinds(), NOW_MS);
    trending.refresh("g1", ordinal, NOW_MS);
    let tables = trending.tables();
    assert!(trending.signals(&tables, "g1", None, NOW_MS).overall.is_some());
    assert!(trending.signals(&tables, "g2", None, NOW_MS).overall.is_none());
    trending.refresh("g1", ordinal, NOW_MS + 50 * 3_600_000);
    assert!(trending.signals(&trending.tables(), "g1", None, NOW_MS).overall.is_none());
}

#[test]
fn the_clock_is_a_context_of_its_own_in_utc_for_everyone() {
    let trending = Trending::new(settings(1));
    trending.count(&Actor::user("u"), &Interaction::new("1", "view", NOW_MS), &kinds(), NOW_MS);
    trending.refresh("g", ordinal, NOW_MS);
    let tables = trending.tables();
    let keys = |context: Option<&RequestContext>| {
        let segments = trending.signals(&tables, "g", context, NOW_MS).segments;
        segments.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys(None), ["hour"]);
    assert_eq!(keys(Some(&RequestContext { utc_offset_minutes: 120, ..RequestContext::default() })), ["hour"]);
    let values = BTreeMap::from([("hour".to_owned(), "17".to_owned())]);
    assert!(keys(Some(&RequestContext { values, ..RequestContext::default() })).is_empty(), "what is said counts");
}

#[test]
fn a_clock_that_is_days_ahead_for_a_while_wipes_nothing_and_buckets_are_bounded() {
    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    let trending = Trending::new(settings(1));
    let view = |item: &str, now_ms: i64| {
        trending.count(&Actor::user("u"), &Interaction::new(item, "view", now_ms), &kinds(), now_ms);
    };
    (0..48_i64).rev().for_each(|hours| view(&hours.to_string(), NOW_MS - hours * HOUR_MS));
    view("100", NOW_MS + 10 * DAY_MS);
    assert_eq!(listed(&trending, NOW_MS + 10 * DAY_MS), [100]);
    assert_eq!(listed(&trending, NOW_MS), (0..48).collect::<Vec<u32>>(), "set right again");
    (1..=60_i64).for_each(|days| view("100", NOW_MS + days * DAY_MS));
    assert_eq!(listed(&trending, NOW_MS + 60 * DAY_MS), [100]);
    assert_eq!(trending.buckets().len(), limits::TRENDING_BUCKETS_MAX);
}

#[test]
fn counting_does_not_wait_for_adding_up_and_is_bounded_meanwhile() {
    let trending = Trending::new(settings(1));
    let (who, one, kinds) = (Actor::user("u"), Interaction::new("1", "view", NOW_MS), kinds());
    let adding_up = trending.buckets();
    (0..=limits::TRENDING_WAITING_MAX).for_each(|_| trending.count(&who, &one, &kinds, NOW_MS));
    assert_eq!(trending.waiting().len(), limits::TRENDING_WAITING_MAX, "the last one found no place");
    drop(adding_up);
    trending.count(&who, &one, &kinds, NOW_MS);
    assert_eq!(trending.waiting().len(), 1, "who counts takes in what waits where nobody else does");
    trending.refresh("g", ordinal, NOW_MS);
    let tables = trending.tables();
    let counted = trending.signals(&tables, "g", None, NOW_MS).overall.map(|trend| trend.count(1) as usize);
    assert_eq!(counted, Some(limits::TRENDING_WAITING_MAX + 1));
}

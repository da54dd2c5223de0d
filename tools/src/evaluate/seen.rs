//! What keeps an item out of a list: what its visitor did with it before, as `recommend/visitor.rs` of the service decides it.

use kindred::scenario::Scenario;
use kindred::user_vector::Weighting;

/// Whether an interaction of this kind and time keeps its item out of a list that is made at `now_ms`.
pub(super) fn keeps_out(scenario: &Scenario, weighting: &Weighting, kind: &str, time_ms: i64, now_ms: i64) -> bool {
    let Scenario { exclude_seen, exclude_kinds, exclude_within_hours, hide_kinds, .. } = scenario;
    let is_of = |kinds: &[String]| kinds.iter().any(|one| one == kind);
    let hours = now_ms.saturating_sub(time_ms).max(0) as f64 / 3_600_000.0;
    let any_age = *exclude_within_hours == 0.0;
    let counts = match exclude_kinds.is_empty() {
        true if any_age => weighting.kinds.get(kind).is_some_and(|weight| *weight != 0.0),
        true => true,
        false => is_of(exclude_kinds),
    };
    let is_seen = *exclude_seen && counts && (any_age || hours < *exclude_within_hours);
    is_seen || is_of(hide_kinds)
}

#[cfg(test)]
mod tests {
    use kindred::interaction::Interaction;
    use kindred::recommend::{RecommendRequest, RecommendScratch, recommend};
    use kindred::testing::Fixture;

    use super::*;

    #[test]
    fn the_service_decides_the_same() {
        let (model, weighting, now_ms) = (Fixture::shop().model(), Weighting::default(), 100 * 3_600_000);
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<String>>();
        let scenario = |exclude_seen: bool, exclude_kinds: &[&str], exclude_within_hours: f64| {
            let (exclude_kinds, hide_kinds) = (kinds(exclude_kinds), kinds(&["not_interested"]));
            Scenario { exclude_seen, exclude_kinds, exclude_within_hours, hide_kinds, ..Scenario::home() }
        };
        let scenarios = [
            scenario(true, &[], 0.0),
            scenario(true, &[], 4.0),
            scenario(true, &["purchase"], 0.0),
            scenario(true, &["purchase"], 4.0),
            scenario(false, &[], 0.0),
            scenario(false, &["purchase"], 4.0),
        ];
        let deeds = ["view", "purchase", "stare", "not_interested"].map(|kind| [(kind, 1), (kind, 9)]).concat();
        let mut kept_out = 0;
        for scenario in &scenarios {
            for (kind, hours) in deeds.iter().copied() {
                let time_ms = now_ms - hours * 3_600_000;
                let done = |item, kind: &str, time_ms| Interaction::new(Fixture::key(item), kind, time_ms);
                let history = [done(0, kind, time_ms), done(4, "cart", now_ms)];
                let request =
                    RecommendRequest { limit: Some(60), exact: true, ..RecommendRequest::new(&history, now_ms) };
                let scratch = &mut RecommendScratch::default();
                let list = recommend(&model, scenario, &weighting, &request, scratch, &mut |_| ()).unwrap();
                let is_listed = list.items.iter().any(|item| item.ordinal == 0);
                let found = keeps_out(scenario, &weighting, kind, time_ms, now_ms);
                assert_eq!(found, !is_listed, "{kind}, {hours} hours ago: {scenario:?}");
                kept_out += usize::from(found);
            }
        }
        assert_eq!(kept_out, 22, "twelve that are never shown again, ten that count as seen");
    }
}

//! What a visitor's interactions mean beside the user vector: what must not be shown, what may be shown again, what is not known.

use std::borrow::Borrow;

use super::candidates::CandidateTable;
use super::explain::Recall;
use super::taste::Taste;
use super::{Fallback, RecommendRequest};
use crate::interaction::Interaction;
use crate::scenario::{Basis, FallbackList, Interests, Scenario, SourceWeights};
use crate::user_vector::{Weighted, Weighting};

/// Weighs the current session and what came before it apart. What then weighs nothing is taken out.
pub(super) fn weigh_interests<H: Borrow<Interaction>>(
    interests: &Interests,
    request: &RecommendRequest<'_, H>,
    weighted: &mut Vec<Weighted>,
) {
    if interests.are_one() {
        return;
    }
    let began_ms = session_began_ms(request, interests.session_gap_minutes * 60_000.0);
    weighted.retain_mut(|one| {
        let at_ms = request.history.get(one.index as usize).map_or(began_ms, |found| found.borrow().occurred_at_ms);
        one.weight *= if at_ms >= began_ms { interests.session } else { interests.long_term };
        one.weight != 0.0 && one.weight.is_finite()
    });
}

/// When the current session began. Whatever was done is no pause, also with items that the model does not know.
fn session_began_ms<H: Borrow<Interaction>>(request: &RecommendRequest<'_, H>, gap_ms: f64) -> i64 {
    let mut began_ms = request.now_ms;
    loop {
        let times = request.history.iter().map(|one| one.borrow().occurred_at_ms);
        let is_near = |at_ms: &i64| *at_ms < began_ms && began_ms.saturating_sub(*at_ms) as f64 <= gap_ms;
        let Some(earliest_ms) = times.filter(is_near).min() else { return began_ms };
        began_ms = earliest_ms;
    }
}

/// Why a list cannot be made from what is known, if it cannot.
pub(super) fn label(
    based_on: Basis,
    weights: &SourceWeights,
    taste: &Taste,
    recalls: &[Recall],
    no_history: bool,
) -> Option<Fallback> {
    match based_on {
        Basis::Nobody => None,
        Basis::SimilarItems | Basis::ItemsTogether => taste.fallback(no_history),
        // A list of the visitor's own items needs no taste.
        Basis::Visitor | Basis::List
            if weights.vector == 0.0 && weights.neighbours == 0.0 && weights.sessions == 0.0 =>
        {
            match recalls {
                _ if weights.history == 0.0 => None,
                _ if no_history => Some(Fallback::Newcomer),
                [] => Some(Fallback::UnknownItems),
                _ => None,
            }
        }
        Basis::Visitor | Basis::List => taste.fallback(no_history),
    }
}

/// Whether what a visitor did with an item, of this kind and at this time, keeps it out of a list that is made at `now_ms`: because it
/// counts as seen, or because it is not to be shown again.
pub fn keeps_out(scenario: &Scenario, weighting: &Weighting, kind: &str, time_ms: i64, now_ms: i64) -> bool {
    let Scenario { exclude_seen, exclude_kinds, exclude_within_hours, .. } = scenario;
    let is_young = || *exclude_within_hours == 0.0 || hours(now_ms, time_ms) < *exclude_within_hours;
    let counts = || match exclude_kinds.as_slice() {
        [] => weighting.kinds.get(kind).is_some_and(|weight| *weight != 0.0),
        kinds => kinds.iter().any(|one| one == kind),
    };
    *exclude_seen && counts() && is_young() || is_hidden(scenario, kind)
}

fn is_hidden(scenario: &Scenario, kind: &str) -> bool {
    scenario.hide_kinds.iter().any(|one| one == kind)
}

/// Marks what may not be in the answer because of what the visitor has done or named.
pub(super) fn exclude<H: Borrow<Interaction>>(
    scenario: &Scenario,
    request: &RecommendRequest<'_, H>,
    weighting: &Weighting,
    seen: &[u32],
    named: &[(u32, u32)],
    ordinals: &[Option<u32>],
    table: &mut CandidateTable,
) {
    // Then what counts as seen is what was weighed.
    let all_seen = scenario.exclude_seen && scenario.exclude_kinds.is_empty() && scenario.exclude_within_hours == 0.0;
    if all_seen {
        table.exclude(seen);
    }
    let stays_out = |one: &Interaction| match all_seen {
        true => is_hidden(scenario, &one.kind),
        false => keeps_out(scenario, weighting, &one.kind, one.occurred_at_ms, request.now_ms),
    };
    let kept_out = looked_up(request.history, ordinals).filter(|(one, _)| stays_out(one));
    kept_out.for_each(|(_, ordinal)| table.exclude(&[ordinal]));
    if scenario.based_on.has_seeds() {
        named.iter().for_each(|(_, ordinal)| table.exclude(&[*ordinal]));
    }
}

/// The interactions that make the part `history` of a score; none where it weighs nothing.
pub(super) fn recall_into<H: Borrow<Interaction>>(
    scenario: &Scenario,
    request: &RecommendRequest<'_, H>,
    weighting: &Weighting,
    ordinals: &[Option<u32>],
    recalls: &mut Vec<Recall>,
) {
    recalls.clear();
    if scenario.weights.history <= 0.0 || request.impersonal {
        return;
    }
    let source = &scenario.history;
    let counts = |one: &Interaction| match source.kinds.as_slice() {
        [] => speaks_for(weighting, one),
        kinds => kinds.contains(&one.kind),
    };
    for ((index, interaction), ordinal) in (0_u32..).zip(request.history).zip(ordinals) {
        let interaction: &Interaction = interaction.borrow();
        let Some(ordinal) = ordinal.filter(|_| counts(interaction)) else { continue };
        let value = (-hours(request.now_ms, interaction.occurred_at_ms) / source.half_life_hours).exp2();
        recalls.push(Recall { ordinal, index, value });
    }
    if source.not_before_hours > 0.0 {
        // Who only looks at what they may want again has not taken it.
        let is_recent =
            |one: &Interaction| counts(one) && hours(request.now_ms, one.occurred_at_ms) < source.not_before_hours;
        let recent = looked_up(request.history, ordinals).filter(|(one, _)| is_recent(one));
        let mut recent: Vec<u32> = recent.map(|(_, ordinal)| ordinal).collect();
        recent.sort_unstable();
        recalls.retain(|recall| recent.binary_search(&recall.ordinal).is_err());
    }
}

/// Whether an interaction speaks for its item.
fn speaks_for(weighting: &Weighting, interaction: &Interaction) -> bool {
    weighting.kinds.get(&interaction.kind).is_some_and(|weight| *weight > 0.0)
}

/// The interactions whose items are known, with their ordinals.
fn looked_up<'a, H: Borrow<Interaction>>(
    history: &'a [H],
    ordinals: &'a [Option<u32>],
) -> impl Iterator<Item = (&'a Interaction, u32)> {
    let known = |(one, ordinal): (&'a H, &Option<u32>)| ordinal.map(|ordinal| (one.borrow(), ordinal));
    history.iter().zip(ordinals).filter_map(known)
}

/// What those have taken whom the visitor follows: for each item the mean over them of `0.5^(age / half-life)` of the last time, greatest first.
pub(super) fn followed_into<H>(
    scenario: &Scenario,
    request: &RecommendRequest<'_, H>,
    weighting: &Weighting,
    resolve: impl Fn(&str) -> Option<u32>,
    followed: &mut Vec<(u32, f64)>,
) {
    followed.clear();
    if scenario.weights.followed <= 0.0 || request.impersonal {
        return;
    }
    let share = 1.0 / request.followed.len().max(1) as f64;
    for list in request.followed {
        let from = followed.len();
        for one in list.iter().filter(|one| speaks_for(weighting, one)) {
            let Some(ordinal) = resolve(&one.item_id) else { continue };
            let value = share * (-hours(request.now_ms, one.occurred_at_ms) / scenario.history.half_life_hours).exp2();
            match followed.iter_mut().skip(from).find(|(known, _)| *known == ordinal) {
                Some((_, known)) => *known = known.max(value),
                None => followed.push((ordinal, value)),
            }
        }
    }
    followed.sort_by_key(|(ordinal, _)| *ordinal);
    followed.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0.0 };
        same
    });
    followed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
}

/// The age of an interaction in hours; not negative, since clocks differ.
fn hours(now_ms: i64, time_ms: i64) -> f64 {
    now_ms.saturating_sub(time_ms).max(0) as f64 / 3_600_000.0
}

/// The weights for a visitor of whom nothing is known but whom they follow: what fills the list, in full.
pub(super) fn weights_of_nobody(scenario: &Scenario) -> SourceWeights {
    let trending = if scenario.fallback.contains(&FallbackList::Trending) { 1.0 } else { 0.0 };
    let popularity = if scenario.fallback.contains(&FallbackList::Popular) { 1.0 } else { 0.0 };
    let SourceWeights { context, followed, .. } = scenario.weights;
    SourceWeights { popularity, trending, context, followed, ..SourceWeights::none() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{RecommendScratch, Recommendations, recommend};
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn lists_are_without_what_is_kept_out() {
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
        assert_eq!(kept_out, 21, "twelve that are never shown again, nine that count as seen");
    }

    fn list(scenario: &Scenario, history: &[Interaction], now_ms: i64) -> Recommendations {
        let (model, request) = (Fixture::shop().model(), RecommendRequest::new(history, now_ms));
        let scratch = &mut RecommendScratch::default();
        recommend(&model, scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap()
    }

    #[test]
    fn a_session_goes_on_over_items_that_nothing_is_known_about() {
        let now_ms = 100 * 3_600_000;
        let done = |item: String, minutes: i64| Interaction::new(item, "view", now_ms - minutes * 60_000);
        let before = done(Fixture::key(1), 90);
        let session = [done(Fixture::key(0), 50), done("no such item".to_owned(), 25)];
        let history = [&[before][..], &session[..]].concat();
        let all = Scenario { exclude_seen: false, ..Scenario::home() };
        let interests = Interests { long_term: 0.0, ..Interests::default() };
        let of_session = list(&Scenario { interests, ..all.clone() }, &history, now_ms);
        assert_eq!((of_session.fallback, &of_session.items), (None, &list(&all, &session, now_ms).items));
        // Without what lies between, the first is of a session that is over.
        let paused = list(&Scenario { interests, ..all }, &history[..2], now_ms);
        assert_eq!(paused.fallback, Some(Fallback::UnknownItems));
    }

    #[test]
    fn what_may_not_be_listed_takes_no_place_of_what_is_followed() {
        let (model, hour, now_ms) = (Fixture::shop().model(), 3_600_000, 100 * 3_600_000);
        let last = model.popular().iter().rev().copied().find(|ordinal| ordinal % 10 != 9 && *ordinal != 0).unwrap();
        let took = |item: u32, hours: i64| Interaction::new(Fixture::key(item as usize), "view", now_ms - hours * hour);
        // The first is left out, the second cannot be had.
        let (taken, exclude) = ([took(0, 0), took(9, 1), took(last, 2)], [Fixture::key(0)]);
        let followed = [taken.iter().collect::<Vec<&Interaction>>()];
        let weights = SourceWeights { followed: 30.0, ..SourceWeights::default() };
        let scenario = Scenario { weights, limit: 2, candidates: 2, ..Scenario::home() };
        let request: RecommendRequest<'_> =
            RecommendRequest { followed: &followed, exclude: &exclude, ..RecommendRequest::new(&[], now_ms) };
        let scratch = &mut RecommendScratch::default();
        let list = recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap();
        assert_eq!((list.items.len(), list.items[0].ordinal), (2, last));
    }

    #[test]
    fn who_looks_at_what_they_may_buy_again_still_finds_it() {
        let (day, now_ms) = (24 * 3_600_000, 100 * 24 * 3_600_000);
        let done = |item, kind: &str, days: i64| Interaction::new(Fixture::key(item), kind, now_ms - days * day);
        let bought = [done(0, "purchase", 30), done(4, "purchase", 30), done(4, "purchase", 2)];
        let history = [&bought[..], &[done(0, "view", 0)][..]].concat();
        let ordinals = list(&Scenario::buy_again(), &history, now_ms).items.into_iter().map(|item| item.ordinal);
        assert_eq!(ordinals.collect::<Vec<_>>(), [0], "what was bought two days ago waits");
    }
}

//! What a server does by itself, for as long as it runs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::web;

use crate::clock::EvenClock;
use crate::http::state::State;
use crate::limits;
use crate::people::shown::ShownLog;
use crate::recommend::unheld;
use crate::scenario::{ItemFilter, Scenario};
use crate::store::StoreError;

/// Removes what is kept longer than it may be, now and then.
pub(super) async fn prune(state: web::Data<State>) {
    const EVERY: Duration = Duration::from_secs(60);
    let mut clock = EvenClock::new(limits::CLOCK_EVEN_FOR);
    while !state.draining.load(Ordering::Relaxed) {
        let more = prune_some(&state.shown, &mut clock, state.now_ms()).await.unwrap_or_else(|error| {
            tracing::error!(%error, "old recommendations were not removed");
            false
        });
        // More may be due at once.
        tokio::time::sleep(if more { Duration::from_millis(100) } else { EVERY }).await;
    }
}

/// Removes some of the old recommendations, if the clock can be believed; whether there may be more.
async fn prune_some(log: &ShownLog, clock: &mut EvenClock, now_ms: i64) -> Result<bool, StoreError> {
    let is_believed = clock.believed(now_ms).is_some() || bears_out(log, now_ms).await?;
    if is_believed { log.prune(now_ms).await } else { Ok(false) }
}

/// Whether the log bears the clock out, for a server that is started anew again and again before it has seen for itself how evenly the clock goes: an
/// answer of one to two hours ago is in it. By a clock that was set ahead by more than that, the last one is older.
async fn bears_out(log: &ShownLog, now_ms: i64) -> Result<bool, StoreError> {
    let [from, to] = [2, 1].map(|times| (now_ms - times * limits::CLOCK_EVEN_FOR.as_millis() as i64).max(0));
    let (logged, _) = log.page(Some(&format!("{from:012x}")), 1).await?;
    Ok(logged.first().is_some_and(|logged| logged.shown.at_ms <= to))
}

/// Says once of each artifact which rules of scenarios ask for what none of its items has: nothing has it just now, or its name is misspelt.
pub(super) async fn tell_of_rules(state: web::Data<State>) {
    const EVERY: Duration = Duration::from_secs(1);
    let mut told = String::new();
    loop {
        if let Some(live) = state.reloader.live().as_deref()
            && live.snapshot.generation() != told
        {
            let generation = live.snapshot.generation();
            generation.clone_into(&mut told);
            for (scenario, placement) in &state.scenarios {
                let tell = |(rule, filter): (&'static str, &ItemFilter)| {
                    for key in unheld(live.snapshot.model(), filter.expression()) {
                        tracing::warn!(
                            generation,
                            scenario,
                            rule,
                            key,
                            "a rule asks for an attribute that no item of the artifact has as it is asked for, so that holds for none: \
                             is its name misspelt?"
                        );
                    }
                };
                rules(placement).for_each(tell);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The filters of a scenario, by the names that they have in the settings.
fn rules(scenario: &Scenario) -> impl Iterator<Item = (&'static str, &ItemFilter)> {
    let explored = scenario.explore.as_ref().and_then(|explore| explore.filter.as_ref());
    let alone = [
        ("filter", scenario.filter.as_ref()),
        ("bury", scenario.bury.as_ref()),
        ("promote", scenario.promote.as_ref().map(|promotion| &promotion.filter)),
        ("explore", explored),
    ];
    let boosts = scenario.boosts.iter().map(|boost| ("boosts", boost.filter.as_ref()));
    alone.into_iter().chain(boosts).filter_map(|(name, filter)| Some((name, filter?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::people::shown::{Shown, ShownOptions};
    use crate::store::memory::MemoryDocuments;

    #[actix_web::test]
    async fn a_server_that_has_just_been_started_removes_what_is_old_where_the_log_bears_the_clock_out() {
        const MINUTE: i64 = 60_000;
        let now_ms = 100_000 * MINUTE;
        for (minutes_ago, is_removed) in [(90, true), (30, false), (150, false)] {
            let options = ShownOptions { sample: 1.0, history: false, keep_ms: 1_440 * MINUTE };
            let log = ShownLog::new(Arc::new(MemoryDocuments::default()), options);
            let [old, last] = [1_500, minutes_ago].map(|minutes| Shown::nothing(now_ms - minutes * MINUTE));
            [&old, &last].into_iter().for_each(|shown| log.record(shown.clone()));
            let mut clock = EvenClock::new(limits::CLOCK_EVEN_FOR);
            assert!(!prune_some(&log, &mut clock, now_ms).await.unwrap());
            let found = log.find(&old.recommendation_id).await.unwrap();
            assert_eq!(found.is_none(), is_removed, "the last answer was {minutes_ago} minutes ago");
        }
    }
}

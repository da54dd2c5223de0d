//! What a server does by itself, for as long as it runs.

use std::time::Duration;

use actix_web::web;

use crate::clock::EvenClock;
use crate::http::state::State;
use crate::limits;
use crate::recommend::unheld;
use crate::scenario::{ItemFilter, Scenario};

/// Removes what is kept longer than it may be, now and then.
pub(super) async fn prune(state: web::Data<State>) {
    const EVERY: Duration = Duration::from_secs(60);
    let mut clock = EvenClock::new(limits::CLOCK_EVEN_FOR);
    loop {
        let Some(now_ms) = clock.believed(state.now_ms()) else {
            tokio::time::sleep(EVERY).await;
            continue;
        };
        match state.shown.prune(now_ms).await {
            // More may be due at once.
            Ok(true) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(false) => tokio::time::sleep(EVERY).await,
            Err(error) => {
                tracing::error!(%error, "old recommendations were not removed");
                tokio::time::sleep(EVERY).await;
            }
        }
    }
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

//! What makes an answer less than it could be, in the words of the wire.

use super::state::State;
use crate::overload::Step;
use crate::recommend::Fallback;

/// How much less than all of an answer is given, and whether because time has passed or because others wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lesser {
    pub(super) step: Step,
    pub(super) is_late: bool,
}

impl Lesser {
    /// Because others wait.
    pub(super) fn of(step: Step) -> Self {
        Self { step, is_late: false }
    }
}

/// Names and counts what makes the answer less than it could be.
pub(super) fn degraded(state: &State, history_failed: bool, lesser: Lesser) -> Option<&'static str> {
    if history_failed {
        state.metrics.degraded_history.inc();
    }
    if lesser.step != Step::Full {
        let (counter, reason) = match lesser.is_late {
            true => (&state.metrics.degraded_deadline, "deadline"),
            false => (&state.metrics.degraded_overload, "overload"),
        };
        counter.inc();
        return Some(reason);
    }
    history_failed.then_some("history_unavailable")
}

/// The wire's word for why a list is not made from what is known. Where nothing of that was looked at, it is what makes the answer less.
pub(super) fn fallback(found: Option<Fallback>, step: Step, degraded: Option<&'static str>) -> Option<&'static str> {
    match found {
        Some(Fallback::Newcomer) if step == Step::Popular => degraded,
        found => found.map(fallback_name),
    }
}

/// The wire's word for a fallback.
pub(super) fn fallback_name(fallback: Fallback) -> &'static str {
    match fallback {
        Fallback::Newcomer => "newcomer",
        Fallback::UnknownItems => "unknown_items",
        Fallback::NoPreference => "no_preference",
        Fallback::TooFewCandidates => "too_few_candidates",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_that_would_have_been_another_names_the_load() {
        let said = |found, step| fallback(found, step, Some("overload"));
        assert_eq!(said(Some(Fallback::Newcomer), Step::Popular), Some("overload"));
        assert_eq!(said(Some(Fallback::Newcomer), Step::Narrow), Some("newcomer"));
        assert_eq!(said(Some(Fallback::TooFewCandidates), Step::Popular), Some("too_few_candidates"));
        assert_eq!(said(None, Step::Popular), None, "what is trending is so under load too");
    }
}

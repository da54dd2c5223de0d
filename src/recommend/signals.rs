//! What is taken just now, as counted outside: the same for every request until the next count.

/// Decayed counts of one group of visitors, by item.
#[derive(Debug, Default, PartialEq)]
pub struct Trend {
    /// Ordinals, the most taken first.
    order: Vec<u32>,
    /// Score and raw count, by ordinal.
    by_ordinal: Vec<(u32, f32, u32)>,
}

/// The counts that a request may use. All absent where nothing is counted, as in an offline evaluation.
#[derive(Clone, Debug, Default)]
pub struct Signals<'a> {
    /// Of everyone.
    pub overall: Option<&'a Trend>,
    /// Of visitors who share a value of the context with the request: the key, and the counts.
    pub segments: Vec<(&'a str, &'a Trend)>,
}

impl Trend {
    /// From each item's decayed count and its raw one. A score is the log-scaled share of the greatest decayed count, 0 to 1. Of equal counts
    /// the lower ordinal comes first.
    pub fn new(mut counts: Vec<(u32, f64, u32)>) -> Self {
        counts.retain(|(_, count, _)| *count > 0.0 && count.is_finite());
        counts.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let greatest = counts.first().map_or(1.0, |(_, count, _)| count.ln_1p());
        let order = counts.iter().map(|(ordinal, ..)| *ordinal).collect();
        let score = |(ordinal, count, raw): (u32, f64, u32)| (ordinal, (count.ln_1p() / greatest) as f32, raw);
        let mut by_ordinal: Vec<_> = counts.into_iter().map(score).collect();
        by_ordinal.sort_unstable_by_key(|(ordinal, ..)| *ordinal);
        Self { order, by_ordinal }
    }

    /// Ordinals, the most taken first.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// An item's score, 0 to 1; 0 for one that was not taken.
    pub fn score(&self, ordinal: u32) -> f32 {
        self.get(ordinal).map_or(0.0, |(_, score, _)| *score)
    }

    /// How often the item was taken within the window, undecayed.
    pub fn count(&self, ordinal: u32) -> u32 {
        self.get(ordinal).map_or(0, |(.., count)| *count)
    }

    fn get(&self, ordinal: u32) -> Option<&(u32, f32, u32)> {
        let place = self.by_ordinal.binary_search_by_key(&ordinal, |(ordinal, ..)| *ordinal).ok()?;
        self.by_ordinal.get(place)
    }
}

impl Signals<'_> {
    /// Everyone's score of an item.
    pub(super) fn trending(&self, ordinal: u32) -> f64 {
        self.overall.map_or(0.0, |trend| f64::from(trend.score(ordinal)))
    }

    /// The mean score of an item over the request's groups.
    pub(super) fn context(&self, ordinal: u32) -> f64 {
        self.context_parts(ordinal).map(|(_, part)| part).sum()
    }

    /// What each group adds to the mean.
    pub(super) fn context_parts(&self, ordinal: u32) -> impl Iterator<Item = (&str, f64)> + '_ {
        let share = 1.0 / self.segments.len().max(1) as f64;
        self.segments.iter().map(move |(key, trend)| (*key, share * f64::from(trend.score(ordinal))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fallback, RecommendRequest, RecommendScratch, Recommendation, Source, recommend};
    use super::*;
    use crate::interaction::Interaction;
    use crate::scenario::{FallbackList, Scenario, SourceWeights};
    use crate::testing::Fixture;
    use crate::user_vector::Weighting;

    #[test]
    fn scores_are_log_scaled_shares_of_the_greatest() {
        let trend = Trend::new(vec![(7, 1.0, 2), (3, 7.0, 9), (5, 1.0, 1), (9, 0.0, 4), (2, f64::NAN, 1)]);
        assert_eq!(trend.order(), [3, 5, 7]);
        assert_eq!((trend.score(3), trend.count(3)), (1.0, 9));
        assert!((f64::from(trend.score(7)) - 2_f64.ln() / 8_f64.ln()).abs() < 1e-6);
        assert_eq!((trend.score(9), trend.count(9)), (0.0, 0));
        let empty = Trend::new(Vec::new());
        assert!(empty.order().is_empty() && empty.score(0) == 0.0);
    }

    #[test]
    fn groups_are_averaged() {
        let (one, other) = (Trend::new(vec![(1, 3.0, 3)]), Trend::new(vec![(2, 3.0, 3)]));
        let signals = Signals { overall: None, segments: vec![("country", &one), ("device", &other)] };
        assert_eq!((signals.trending(1), signals.context(1), signals.context(3)), (0.0, 0.5, 0.0));
        assert_eq!(signals.context_parts(2).collect::<Vec<_>>(), [("country", 0.0), ("device", 0.5)]);
    }

    #[test]
    fn what_puts_an_item_first_for_a_newcomer_is_named_as_its_source() {
        let model = Fixture::shop().model();
        // Every tenth item is not available.
        let first = model.popular().iter().copied().find(|ordinal| ordinal % 10 != 9).unwrap();
        let mine = Trend::new(vec![(first, 3.0, 3)]);
        let signals = Signals { overall: None, segments: vec![("country", &mine)] };
        let weights = SourceWeights { context: 5.0, ..SourceWeights::default() };
        let scenario = Scenario { weights, ..Scenario::home() };
        let request: RecommendRequest<'_> =
            RecommendRequest { signals: Some(&signals), limit: Some(2), ..RecommendRequest::new(&[], 1) };
        let scratch = &mut RecommendScratch::default();
        let list = recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap();
        assert_eq!((list.items[0].ordinal, list.items[0].source), (first, Source::Context));
        assert_eq!(list.items[1].source, Source::Popular);
    }

    #[test]
    fn what_visitors_of_the_same_context_take_is_proposed_to_whom_nothing_is_known_of() {
        let model = Fixture::shop().model();
        // The least popular of those that can be had, and one that cannot.
        let last = model.popular().iter().rev().copied().find(|ordinal| ordinal % 10 != 9 && *ordinal != 0).unwrap();
        let mine = Trend::new(vec![(9, 7.0, 7), (last, 3.0, 3)]);
        let signals = Signals { overall: None, segments: vec![("country", &mine)] };
        let nobody: [Interaction; 0] = [];
        let grumbler = [Interaction::new(Fixture::key(0), "dislike", 1)];
        let list = |history: &[Interaction], fallback: FallbackList| {
            let weights = SourceWeights { context: 5.0, ..SourceWeights::default() };
            let scenario = Scenario { weights, fallback: vec![fallback], candidates: 4, ..Scenario::home() };
            let request = RecommendRequest {
                signals: Some(&signals),
                limit: Some(4),
                explain: true,
                ..RecommendRequest::new(history, 1)
            };
            let scratch = &mut RecommendScratch::default();
            recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap()
        };
        for (history, label) in [(&nobody[..], Fallback::Newcomer), (&grumbler[..], Fallback::NoPreference)] {
            let found = list(history, FallbackList::Popular);
            assert_eq!((found.fallback, found.items.len()), (Some(label), 4));
            assert_eq!((found.items[0].ordinal, found.items[0].source), (last, Source::Context), "{found:?}");
            let is_whole = |item: &Recommendation| {
                item.reasons.as_ref().is_some_and(|reasons| (reasons.total() - item.score).abs() < 1e-9)
            };
            assert!(found.items.iter().all(is_whole) && found.items.iter().all(|item| item.ordinal != 9));
        }
        // A page that would rather be empty stays so.
        assert!(list(&nobody, FallbackList::Nothing).items.is_empty());
    }
}

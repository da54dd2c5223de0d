//! The scenarios that exist without any setting.

use std::collections::BTreeMap;

use super::{Basis, FallbackList, Scenario, SourceWeights};

impl Scenario {
    /// What a visitor should see now.
    pub fn home() -> Self {
        Self::default()
    }

    /// What resembles an item. Popularity weighs nothing here: a visitor who asks for similar items wants similar ones.
    pub fn similar() -> Self {
        let weights = SourceWeights { vector: 1.0, neighbours: 1.0, popularity: 0.0, ..SourceWeights::default() };
        Self { based_on: Basis::SimilarItems, weights, ..Self::default() }
    }

    /// What others took who took these items: what goes with them rather than what resembles them.
    pub fn also_bought() -> Self {
        let weights = SourceWeights { vector: 0.5, neighbours: 1.0, popularity: 0.01, ..SourceWeights::default() };
        Self { based_on: Basis::ItemsTogether, weights, ..Self::default() }
    }

    /// What goes with everything in the cart.
    pub fn cart() -> Self {
        Self { limit: 10, ..Self::also_bought() }
    }

    /// What is looked at and bought most just now, with what the request's own context likes.
    pub fn trending() -> Self {
        let weights = SourceWeights { trending: 1.0, context: 0.5, ..SourceWeights::none() };
        Self { based_on: Basis::Nobody, weights, fallback: vec![FallbackList::Popular], ..Self::default() }
    }

    /// What has been looked at and bought most in all the data that the model was made of.
    pub fn popular() -> Self {
        let weights = SourceWeights { popularity: 1.0, ..SourceWeights::none() };
        Self { based_on: Basis::Nobody, weights, ..Self::default() }
    }

    /// What the visitor has looked at: the more lately, and the more often, the further up.
    pub fn recently_viewed() -> Self {
        let mut scenario = Self::of_history(&["view", "click", "search_click"]);
        scenario.history.half_life_hours = 24.0;
        scenario.require_available = false;
        scenario
    }

    /// What the visitor has bought and may need again: the more often and the more lately the higher.
    pub fn buy_again() -> Self {
        let mut scenario = Self::of_history(&["purchase"]);
        scenario.history.half_life_hours = 24.0 * 60.0;
        scenario.history.not_before_hours = 24.0 * 7.0;
        scenario
    }

    /// The next page of what a visitor should see: longer lists, continued by the cursor of the one before.
    pub fn next_page() -> Self {
        Self { candidates: 128, paged: true, ..Self::home() }
    }

    /// A given list in the order in which this visitor would like it.
    pub fn rerank() -> Self {
        let fallback = vec![FallbackList::Popular];
        Self { based_on: Basis::List, exclude_seen: false, require_available: false, fallback, ..Self::default() }
    }

    fn of_history(kinds: &[&str]) -> Self {
        let weights = SourceWeights { history: 1.0, ..SourceWeights::none() };
        let mut scenario =
            Self { weights, exclude_seen: false, fallback: vec![FallbackList::Nothing], ..Self::default() };
        scenario.history.kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        scenario
    }

    /// The scenarios that exist without any setting, by name.
    pub fn built_in() -> BTreeMap<String, Self> {
        let all = [
            ("home", Self::home()),
            ("similar", Self::similar()),
            ("also_bought", Self::also_bought()),
            ("cart", Self::cart()),
            ("trending", Self::trending()),
            ("popular", Self::popular()),
            ("recently_viewed", Self::recently_viewed()),
            ("buy_again", Self::buy_again()),
            ("next_page", Self::next_page()),
            ("rerank", Self::rerank()),
        ];
        all.into_iter().map(|(name, scenario)| (name.to_owned(), scenario)).collect()
    }
}

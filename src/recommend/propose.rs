//! Which items are looked at: from the search, from the neighbours, from what is taken just now, from rules.

use kindred_index::{AllowSet, EF_SEARCH_MAX, FilterExpr, K_MAX, Metric, Scratch, SearchParams, SearchStats};

use super::candidates::{Candidate, CandidateTable, most_popular_first};
use super::facts::passes;
use super::rank::{Plan, Question};
use super::{Fallback, Probe, RecommendError, Stage};
use crate::scenario::{Basis, Exploration, FallbackList};

/// What proposing has found out.
pub(super) struct Proposed {
    /// What the graph search did, if there was one.
    pub(super) search: Option<SearchStats>,
    /// The label of the answer.
    pub(super) label: Option<Fallback>,
}

/// Fills the table with what is to be scored. The table holds what is excluded and nothing else.
pub(super) fn propose<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &mut CandidateTable,
    search: &mut Scratch,
    probe: Option<&mut Probe>,
    observe: &mut dyn FnMut(Stage),
) -> Result<Proposed, RecommendError> {
    let Question { scorer, plan, fallback: label, eligible, .. } = question;
    let (view, weights) = (&scorer.view, &scorer.weights);
    let is_open = question.scenario.based_on != Basis::List;
    let mut proposed = Proposed { search: None, label: *label };
    if weights.neighbours > 0.0 {
        table.add_neighbours(view, scorer.taste);
    }
    if weights.sessions > 0.0 {
        table.add_sessions(&scorer.sessions, scorer.taste.similar_sessions());
    }
    if weights.history > 0.0 {
        for recall in scorer.recalls {
            let proposes = is_open && label.is_none() && eligible.allows(recall.ordinal);
            table.add_history(recall.ordinal, recall.value, proposes);
        }
    }
    if weights.followed > 0.0 {
        // What may not be in the list takes no place from what follows it.
        let mut left = if is_open { plan.candidates } else { 0 };
        for (ordinal, value) in scorer.followed {
            let is_excluded = table.get(*ordinal).is_some_and(Candidate::is_excluded);
            let proposes = left > 0 && !is_excluded && eligible.allows(*ordinal);
            table.add_followed(*ordinal, *value, proposes);
            left -= usize::from(proposes);
        }
    }
    if !is_open {
        let fitting = question.named.iter().filter(|(_, ordinal)| eligible.allows(*ordinal));
        fitting.for_each(|(_, ordinal)| table.propose(*ordinal, false));
        observe(Stage::Neighbours);
        return Ok(proposed);
    }
    if label.is_some() {
        let most = if question.is_nobody() { question.to_fill() } else { plan.candidates };
        // What is taken in a country or on a device may be far from popular with everyone.
        from_context(question, most, table);
        fill(question, most, table);
        observe(Stage::Neighbours);
        by_rules(question, table, search)?;
        return Ok(proposed);
    }
    if !plan.exact && weights.neighbours > 0.0 {
        // Without a search they propose as many as it would.
        table.propose_near(if weights.vector > 0.0 { plan.near() } else { plan.candidates }, eligible);
    }
    if !plan.exact && weights.sessions > 0.0 {
        table.propose_of_sessions(plan.candidates, eligible);
    }
    from_signals(question, table);
    observe(Stage::Neighbours);
    if !plan.exact && weights.vector > 0.0 {
        // Items that were seen take up places, so enough are asked for that the list can be filled without them.
        let k = plan.candidates.max(plan.limit + eligible.ask_for_more());
        proposed.search = Some(find(question, k, eligible.set(), eligible.added(), false, table, search)?);
        if let Some(probe) = probe {
            // What is taken out of the set, where very many are left out, is in none of the hits.
            let left_out = table.excluded().take(eligible.ask_for_more()).collect();
            probe.keep(scorer.taste.vector(), left_out, eligible.set(), plan.breadth, search.hits());
        }
        for at in 0..scorer.taste.aspects().len() {
            find_like(question, at, k, eligible.set(), table, search)?;
        }
    }
    by_rules(question, table, search)?;
    if !question.scans() {
        let found = table.n_proposed();
        if found < plan.limit {
            proposed.label = Some(Fallback::TooFewCandidates);
            fill(question, question.to_fill() - found, table);
        }
        observe(Stage::Search);
    }
    Ok(proposed)
}

/// The items whose score comes from somewhere else than from likeness.
fn from_signals<D: AsRef<[u8]>>(question: &Question<'_, D>, table: &mut CandidateTable) {
    let Question { scorer, plan, eligible, .. } = question;
    let weights = &scorer.weights;
    // Where they are all there is, they are looked at as widely as a search would.
    let by_likeness = weights.vector > 0.0 || weights.neighbours > 0.0 || weights.sessions > 0.0;
    let alone = !by_likeness && weights.history == 0.0;
    let most = if alone { plan.candidates } else { plan.near() };
    if weights.trending > 0.0
        && let Some(trend) = scorer.signals.overall
    {
        table.propose_first(trend.order(), most, false, eligible);
    }
    from_context(question, most, table);
    if alone && weights.popularity > 0.0 {
        table.propose_first(scorer.view.popular(), most, false, eligible);
    }
}

/// What visitors of the same context take most just now: so many for each of its values that is counted.
fn from_context<D: AsRef<[u8]>>(question: &Question<'_, D>, most: usize, table: &mut CandidateTable) {
    let Question { scorer, eligible, .. } = question;
    if scorer.weights.context > 0.0 {
        for (_, trend) in &scorer.signals.segments {
            table.propose_first(trend.order(), most, false, eligible);
        }
    }
}

/// Fills up with the scenario's lists, one after the other; says with how many. Where the first has some, those after it only make up for what is
/// missing in a list: what is wanted beyond, for rules to choose from, would outweigh it. What is given, or scored as a whole, is not filled up.
pub(super) fn fill<D: AsRef<[u8]>>(question: &Question<'_, D>, most: usize, table: &mut CandidateTable) -> usize {
    let Question { scorer, eligible, .. } = question;
    if question.scans() || question.scenario.based_on == Basis::List {
        return 0;
    }
    let mut found = 0;
    for list in &question.scenario.fallback {
        let left = if found == 0 { most } else { most.min(question.plan.limit).saturating_sub(found) };
        if left == 0 {
            break;
        }
        match list {
            FallbackList::Trending => {
                let order = scorer.signals.overall.map_or(&[][..], |trend| trend.order());
                found += table.propose_first(order, left, true, eligible);
            }
            FallbackList::Popular => {
                found += table.propose_popular(&scorer.view, left, eligible, |a, b| scorer.by_key(a, b));
                break;
            }
            FallbackList::Nothing => break,
        }
    }
    found
}

/// The graph search among some items: proposes what it finds, and the nearest of those beside the model.
#[allow(clippy::too_many_arguments, reason = "a step of one function; a struct would only rename its arguments")]
fn find<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    k: usize,
    set: Option<&AllowSet>,
    added: &[u32],
    ruled: bool,
    table: &mut CandidateTable,
    search: &mut Scratch,
) -> Result<SearchStats, RecommendError> {
    let (model, taste) = (question.scorer.model, question.scorer.taste);
    let k = k.min(K_MAX);
    let stats = model.index().search_from(taste.vector(), &breadth(question, k, set), set, taste.entries(), search)?;
    // A cosine search sees the query at unit length; the score wants the dot product with the vector as it is.
    let scale = match model.index().metric() {
        Metric::Cosine => taste.vector_length(),
        Metric::InnerProduct => 1.0,
    };
    for hit in search.hits() {
        table.propose_found(hit.ordinal, hit.similarity * scale);
        if ruled {
            table.propose(hit.ordinal, true);
        }
    }
    // Items beside the model are in no graph: all are compared, and as many of the nearest go on as the search brings.
    if !added.is_empty() {
        let row = |ordinal: u32| question.scorer.view.row(ordinal).unwrap_or_default();
        let score = |ordinal: u32| taste.similarity(None, || row(ordinal));
        let mut scored: Vec<(f32, u32)> = added.iter().map(|&ordinal| (score(ordinal), ordinal)).collect();
        if scored.len() > k {
            scored.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0).then_with(|| question.scorer.by_key(a.1, b.1)));
            scored.truncate(k);
        }
        for (similarity, ordinal) in scored {
            if taste.aspects().is_empty() {
                table.propose_found(ordinal, similarity);
            }
            table.propose(ordinal, ruled);
        }
    }
    Ok(stats)
}

/// The graph search for one taste of several. What it is worth to the visitor as a whole is measured when it is scored.
fn find_like<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    at: usize,
    k: usize,
    set: Option<&AllowSet>,
    table: &mut CandidateTable,
    search: &mut Scratch,
) -> Result<(), RecommendError> {
    let (model, taste) = (question.scorer.model, question.scorer.taste);
    // A search wants a direction.
    if let Some(aspect) = taste.aspects().get(at).filter(|aspect| aspect.length() > 0.0) {
        let k = k.min(K_MAX);
        let params = breadth(question, k, set);
        model.index().search_from(aspect.vector(), &params, set, &taste.entries_of(at), search)?;
        search.hits().iter().for_each(|hit| table.propose(hit.ordinal, false));
    }
    Ok(())
}

/// How broadly to search for so many: at least for the list and what is left out of it, which is among the nearest. The rest of the candidates may be
/// what is met on the way.
fn breadth<D: AsRef<[u8]>>(question: &Question<'_, D>, k: usize, set: Option<&AllowSet>) -> SearchParams {
    let least = (question.plan.limit + question.eligible.ask_for_more()).min(k);
    let Plan { ef_search, exact, breadth, .. } = question.plan;
    let mut params = SearchParams { k, ef_search: ef_search.max(least).min(EF_SEARCH_MAX), exact };
    breadth.widen(set, &mut params);
    params
}

/// What pins, the promoted share and exploration want looked at.
fn by_rules<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &mut CandidateTable,
    search: &mut Scratch,
) -> Result<(), RecommendError> {
    let Question { scenario, scorer, plan, eligible, .. } = question;
    for pin in &scenario.pins {
        let found = scorer.view.ordinal(&pin.item_id).filter(|ordinal| eligible.allows(*ordinal));
        if let Some(ordinal) = found.filter(|_| pin.position <= plan.limit) {
            table.propose(ordinal, true);
        }
    }
    if let Some(promotion) = &scenario.promote {
        // By their score they may take other places too, and caps may keep the best of them out.
        let most = if scenario.caps.is_empty() { plan.limit } else { plan.candidates };
        among(question, promotion.filter.expression(), most, table, search)?;
    }
    if let Some(explore) = &scenario.explore {
        among(question, &newness(explore, question.now_ms), explore.pool, table, search)?;
    }
    Ok(())
}

/// The items that count as new. To the minute, so that what passes is evaluated once a minute and not by each request.
pub(super) fn newness(explore: &Exploration, now_ms: i64) -> FilterExpr {
    const MINUTE_MS: f64 = 60_000.0;
    let mut parts: Vec<FilterExpr> = explore.filter.iter().map(|filter| filter.expression().clone()).collect();
    if explore.new_within_hours > 0.0 {
        let began = (now_ms as f64 / MINUTE_MS).floor() * MINUTE_MS;
        let (since, until) = (began - explore.new_within_hours * 60.0 * MINUTE_MS, began + MINUTE_MS);
        let field = explore.key.clone();
        parts.push(FilterExpr::Range { field, gt: None, gte: Some(since), lt: Some(until), lte: None });
    }
    FilterExpr::And(parts)
}

/// Proposes the best `most` of the items that a rule is about: by likeness, or the most popular where no taste is known.
fn among<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    filter: &FilterExpr,
    most: usize,
    table: &mut CandidateTable,
    search: &mut Scratch,
) -> Result<(), RecommendError> {
    let scorer = &question.scorer;
    // A rule beyond what a filter may cost is about no item.
    let Ok(set) = question.eligible.those_of(scorer.model, &scorer.view, filter, table) else { return Ok(()) };
    let fits = |ordinal: &u32| passes(scorer.model, &scorer.view, filter, *ordinal);
    let added: Vec<u32> = question.eligible.added().iter().copied().filter(fits).collect();
    if set.is_empty() && added.is_empty() {
        return Ok(());
    }
    if scorer.weights.vector > 0.0 && question.fallback.is_none() {
        find(question, most, Some(&set), &added, true, table, search)?;
        return Ok(());
    }
    added.iter().take(most).for_each(|ordinal| table.propose(*ordinal, true));
    let mut left = most;
    let by_key = |a: u32, b: u32| scorer.by_key(a, b);
    most_popular_first(&scorer.view, Some(&set), most, by_key, |ordinal| {
        table.propose(ordinal, true);
        left = left.saturating_sub(1);
        left > 0
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Placement, RecommendRequest, RecommendScratch, recommend};
    use crate::interaction::Interaction;
    use crate::scenario::{Boost, Cap, ItemFilter, Promotion, Scenario, SourceWeights};
    use crate::testing::Fixture;
    use crate::user_vector::Weighting;

    #[test]
    fn without_a_search_neighbours_propose_as_many_as_there_may_be_candidates() {
        let model = Fixture::shop().model();
        let view = |item, at_ms| Interaction::new(Fixture::key(item), "view", at_ms);
        // The neighbours of the second, a toy, are worth more than those of the first.
        let history = [view(3, 1), view(4, 2)];
        let weighting = Weighting { position_decay: 0.5, ..Weighting::default() };
        let kitchen = r#"{"key": "category", "match": {"value": "kitchen"}}"#;
        let filter: Option<ItemFilter> = Some(serde_json::from_str(kitchen).unwrap());
        let boosts = vec![Boost { name: "kitchen".to_owned(), weight: 5.0, filter, ..Boost::default() }];
        let weights = SourceWeights { neighbours: 1.0, ..SourceWeights::none() };
        let scenario = Scenario { weights, boosts, candidates: 8, ..Scenario::home() };
        let best = |exact: bool| {
            let request = RecommendRequest { limit: Some(1), exact, ..RecommendRequest::new(&history, 2) };
            let scratch = &mut RecommendScratch::default();
            recommend(&model, &scenario, &weighting, &request, scratch, &mut |_| ()).unwrap().items
        };
        assert_eq!(best(true)[0].ordinal % 4, 3);
        assert_eq!(best(false), best(true));
    }

    #[test]
    fn a_promoted_share_is_filled_with_what_caps_leave_of_it() {
        let mut fixture = Fixture::shop();
        // What is of one category is alike, and has next to nothing in common with the rest.
        for (item, row) in fixture.rows.chunks_exact_mut(16).enumerate() {
            row.iter_mut().for_each(|value| *value *= 0.01);
            row[item % 4] = 1.0;
            let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            row.iter_mut().for_each(|value| *value /= length);
        }
        let model = fixture.model();
        // A toy twice, and a book.
        let history = [(1, 1), (0, 2), (0, 3)].map(|(item, at_ms)| Interaction::new(Fixture::key(item), "view", at_ms));
        // Three toys, and something for the garden.
        let promoted = r#"{"must": [{"has_id": ["item-4", "item-8", "item-12", "item-2"]}]}"#;
        let filter: ItemFilter = serde_json::from_str(promoted).unwrap();
        let promote = Some(Promotion { filter, share: 0.5 });
        let caps = vec![Cap { key: "category".to_owned(), at_most: 2 }];
        let weights = SourceWeights { vector: 1.0, ..SourceWeights::none() };
        let scenario = Scenario { weights, promote, caps, candidates: 20, ..Scenario::home() };
        let request = RecommendRequest { limit: Some(4), ..RecommendRequest::new(&history, 3) };
        let scratch = &mut RecommendScratch::default();
        let list = recommend(&model, &scenario, &Weighting::default(), &request, scratch, &mut |_| ()).unwrap();
        let is_promoted = |placement: Option<Placement>| placement == Some(Placement::Promoted);
        let found = list.items.iter().map(|item| (item.ordinal % 4, is_promoted(item.placement)));
        assert_eq!(found.collect::<Vec<_>>(), [(0, false), (0, true), (1, false), (2, true)]);
    }
}

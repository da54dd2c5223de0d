//! Scoring candidates and cutting the list.

use std::cmp::Ordering;

use kindred_index::{Metric, Scratch, dot, fetched_ahead};

use super::breadth::breadth_asked_for;
use super::candidates::{Candidate, CandidateTable};
use super::explain::{Recall, explain};
use super::facts::Boosts;
use super::filter::Eligible;
use super::propose::{fill, propose};
use super::signals::Signals;
use super::slate::shape;
use super::taste::Taste;
use super::visitor::weights_of_nobody;
use super::{
    Breadth, Fallback, Probe, RecommendError, RecommendRequest, Recommendation, Recommendations, Source, Stage,
};
use crate::limits;
use crate::manifest::Manifest;
use crate::model::{Model, ModelView, SessionsView};
use crate::scenario::{Basis, FallbackList, Scenario, SourceWeights};

/// Candidates carried from the single-precision cut into the double-precision one beyond the limit, so that rounding
/// cannot push an item out of the list.
const MARGIN: usize = 16;

/// What a list is chosen from where caps keep it short, at most: so many times its candidates. Where a filter leaves little but what is capped,
/// looking further finds nothing.
const WIDEST: usize = 16;

/// The numbers of a request, all checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) limit: usize,
    pub(super) candidates: usize,
    pub(super) ef_search: usize,
    pub(super) exact: bool,
    pub(super) breadth: Breadth,
    pub(super) explain: bool,
    pub(super) seed: u64,
}

/// A request on its way to a list: everything that does not change any more.
pub(super) struct Question<'a, D> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: Plan,
    pub(super) fallback: Option<Fallback>,
    pub(super) eligible: Eligible<'a>,
    pub(super) scorer: Scorer<'a, D>,
    /// The items that the request named, as far as they are known: place and ordinal.
    pub(super) named: &'a [(u32, u32)],
    pub(super) now_ms: i64,
}

/// A candidate with its score in single precision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    score: f32,
    pub(super) ordinal: u32,
}

/// The parts of a score, weighted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    vector: f64,
    neighbours: f64,
    sessions: f64,
    popularity: f64,
    trending: f64,
    context: f64,
    history: f64,
    followed: f64,
    boosts: f64,
}

/// What scoring reads.
pub(super) struct Scorer<'a, D> {
    pub(super) model: &'a Model<D>,
    pub(super) view: ModelView<'a>,
    pub(super) sessions: SessionsView<'a>,
    pub(super) taste: &'a Taste,
    pub(super) weights: SourceWeights,
    pub(super) signals: &'a Signals<'a>,
    pub(super) boosts: Boosts<'a>,
    pub(super) recalls: &'a [Recall],
    /// What those make of an item whom the visitor follows, greatest first.
    pub(super) followed: &'a [(u32, f64)],
}

static NO_SIGNALS: Signals<'static> = Signals { overall: None, segments: Vec::new() };

impl Plan {
    pub(super) fn new<H>(
        manifest: &Manifest,
        scenario: &Scenario,
        request: &RecommendRequest<'_, H>,
    ) -> Result<Self, RecommendError> {
        let named = request.item_ids.len();
        let most = match scenario.based_on {
            Basis::Visitor | Basis::Nobody => 0,
            Basis::SimilarItems | Basis::ItemsTogether => limits::SIMILAR_SEEDS_MAX,
            Basis::List => limits::SCORE_ITEMS_MAX,
        };
        if most == 0 && named > 0 {
            return Err(RecommendError::ItemsUnused);
        }
        if most > 0 && !(1..=most).contains(&named) {
            return Err(RecommendError::Items { found: named, most });
        }
        let usual = match scenario.based_on {
            Basis::List if request.limit.is_none() && named > limits::ANSWER_ITEMS_MAX => {
                return Err(RecommendError::TooManyToRank { found: named });
            }
            // A list that is given is answered whole.
            Basis::List => named,
            _ => scenario.limit,
        };
        let limit = request.limit.unwrap_or(usual);
        if !(1..=limits::ANSWER_ITEMS_MAX).contains(&limit) {
            return Err(RecommendError::Limit { found: limit });
        }
        let of_scenario = scenario.recall_target.filter(|_| request.ef_search.is_none());
        let target = request.recall_target.or(of_scenario);
        let (ef_search, as_exact) = breadth_asked_for(manifest, request.ef_search, target, scenario.ef_search)?;
        if request.exclude.len() > limits::EXCLUDE_MAX {
            return Err(RecommendError::TooManyExcluded { found: request.exclude.len() });
        }
        let candidates = scenario.candidates.clamp(limit, limits::CANDIDATES_MAX);
        let RecommendRequest { exact, breadth, explain, seed, .. } = *request;
        let exact = exact || as_exact;
        Ok(Self { limit, candidates, ef_search, exact, breadth, explain, seed })
    }

    /// How many neighbours of recent items become candidates. Each costs a row that the search has not read already, and where
    /// both sources speak for an item the search mostly proposes it too; a quarter of the candidates is what the rest is worth.
    pub(super) fn near(&self) -> usize {
        (self.candidates / 4).max(self.limit)
    }
}

impl<D: AsRef<[u8]>> Question<'_, D> {
    /// Whether nothing is known that a list could be made from.
    pub(super) fn is_nobody(&self) -> bool {
        is_nobody(self.fallback)
    }

    /// Whether every item is scored rather than candidates.
    pub(super) fn scans(&self) -> bool {
        let by_likeness = {
            let weights = &self.scorer.weights;
            weights.vector > 0.0 || weights.neighbours > 0.0 || weights.sessions > 0.0
        };
        self.plan.exact && self.fallback.is_none() && by_likeness && self.scenario.based_on != Basis::List
    }

    /// Whether more than the order of scores makes the list.
    fn is_shaped(&self) -> bool {
        self.scenario.is_shaped() || self.scenario.explore.is_some()
    }

    /// How many fill up a list that too little is known for: where rules choose among them, as many as they would choose from otherwise.
    pub(super) fn to_fill(&self) -> usize {
        if self.is_shaped() || !self.scorer.boosts.is_empty() { self.plan.candidates } else { self.plan.limit }
    }
}

fn is_nobody(fallback: Option<Fallback>) -> bool {
    matches!(fallback, Some(Fallback::Newcomer | Fallback::UnknownItems))
}

/// From a question to a list. The table holds what is excluded and nothing else.
pub(super) fn answer<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &mut CandidateTable,
    order: &mut Vec<Ranked>,
    search: &mut Scratch,
    probe: Option<&mut Probe>,
    observe: &mut dyn FnMut(Stage),
) -> Result<Recommendations, RecommendError> {
    let Question { scenario, plan, .. } = question;
    let fills = scenario.fallback.iter().any(|list| *list != FallbackList::Nothing);
    if question.fallback.is_some() && !fills {
        return Ok(Recommendations { fallback: question.fallback, ..Recommendations::default() });
    }
    let mut proposed = propose(question, table, search, probe, observe)?;
    let shaped = question.is_shaped();
    let mut keep = if shaped { plan.candidates.max(plan.limit + MARGIN) } else { plan.limit + MARGIN };
    let mut candidates = best(question, table, order, keep);
    if question.scans() {
        if candidates < plan.limit as u32 {
            proposed.label = Some(Fallback::TooFewCandidates);
        }
        observe(Stage::Search);
    }
    // Chance has no say in what a list is chosen from, or what is told of it would not be true; without caps it has none in how long it is.
    let drawn_last = scenario.explore.is_some() && !scenario.caps.is_empty();
    let mut items = if shaped { shape(question, table, order, !drawn_last) } else { render(question, table, order) };
    while shaped && items.len() < plan.limit {
        let wider = widened(question, table, keep, candidates as usize, &mut proposed.label);
        let Some(wider) = wider else { break };
        keep = wider;
        candidates = best(question, table, order, keep);
        items = shape(question, table, order, !drawn_last);
    }
    if drawn_last {
        items = shape(question, table, order, true);
    }
    if shaped && items.len() < plan.limit && proposed.label.is_none() && scenario.based_on != Basis::List {
        proposed.label = Some(Fallback::TooFewCandidates);
    }
    if plan.explain {
        explain(&question.scorer, &mut items);
    }
    observe(Stage::Rank);
    Ok(Recommendations { items, fallback: proposed.label, search: proposed.search, candidates })
}

/// A list has come out short, because caps keep many out: how many it is chosen from next, four times as many, be they among those that were cut
/// off or such as fill it up. None where there are no more.
fn widened<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &mut CandidateTable,
    keep: usize,
    candidates: usize,
    label: &mut Option<Fallback>,
) -> Option<usize> {
    let chosen_from = keep.min(candidates);
    let widest = (WIDEST * question.plan.candidates).min(limits::CANDIDATES_MAX);
    let more = (3 * chosen_from).max(question.plan.limit).min(widest.saturating_sub(chosen_from));
    if candidates <= keep {
        if fill(question, more, table) == 0 {
            return None;
        }
        *label = label.or(Some(Fallback::TooFewCandidates));
    }
    (more > 0).then(|| keep.max(chosen_from + more))
}

/// Scores what is proposed, or every item, and leaves the best `keep` and what rules want looked at; says how many were scored.
fn best<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &CandidateTable,
    order: &mut Vec<Ranked>,
    keep: usize,
) -> u32 {
    let scorer = &question.scorer;
    let candidates = if question.scans() {
        scan(question, table, order, keep)
    } else {
        let rows_are_unit = scorer.model.index().metric() == Metric::Cosine;
        order.clear();
        let proposed = table.list().iter().filter(|one| one.is_proposed());
        if scorer.weights.popularity > 0.0 {
            proposed.clone().for_each(|one| scorer.view.prefetch_popularity(one.ordinal));
        }
        // The rows of those that the search has not measured come from memory while others are scored.
        let unread = |one: &Candidate| {
            scorer.view.row(one.ordinal).filter(|_| one.similarity.is_none()).unwrap_or_default().prefetch()
        };
        order.extend(
            fetched_ahead(proposed, unread)
                .map(|one| Ranked { score: scorer.quick(one, rows_are_unit), ordinal: one.ordinal }),
        );
        order.len() as u32
    };
    cut(question, table, order, keep);
    if question.is_shaped() {
        add_ruled(table, order);
    }
    candidates
}

/// Scores of given items, in their order.
pub(super) fn scores<D: AsRef<[u8]>>(
    scorer: &Scorer<'_, D>,
    fallback: Option<Fallback>,
    ordinals: impl Iterator<Item = Option<u32>>,
    table: &mut CandidateTable,
) -> Vec<Option<f64>> {
    if !is_nobody(fallback) && scorer.weights.neighbours > 0.0 {
        table.add_neighbours(&scorer.view, scorer.taste);
    }
    if !is_nobody(fallback) && scorer.weights.sessions > 0.0 {
        table.add_sessions(&scorer.sessions, scorer.taste.similar_sessions());
    }
    ordinals.map(|ordinal| ordinal.map(|ordinal| scorer.parts(ordinal, table).total())).collect()
}

/// Scores every item of the model that may be in the answer, keeping the best; says how many there were.
fn scan<D: AsRef<[u8]>>(
    question: &Question<'_, D>,
    table: &CandidateTable,
    order: &mut Vec<Ranked>,
    keep: usize,
) -> u32 {
    let Question { scorer, eligible, .. } = question;
    order.clear();
    let rows_are_unit = scorer.model.index().metric() == Metric::Cosine;
    let mut scored = 0;
    for ordinal in 0..scorer.view.len() {
        let unknown = Candidate::new(ordinal);
        let known = table.get(ordinal).unwrap_or(&unknown);
        if !eligible.allows(ordinal) || known.is_excluded() {
            continue;
        }
        order.push(Ranked { score: scorer.quick(known, rows_are_unit), ordinal });
        scored += 1;
        // Cutting at every doubling keeps the list short at a constant cost per item.
        if order.len() >= 4 * keep {
            cut(question, table, order, keep);
        }
    }
    scored
}

/// Keeps the best `keep`, in no particular order.
fn cut<D: AsRef<[u8]>>(question: &Question<'_, D>, table: &CandidateTable, order: &mut Vec<Ranked>, keep: usize) {
    if order.len() > keep {
        let by_score = |a: &Ranked, b: &Ranked| {
            b.score.total_cmp(&a.score).then_with(|| question.of_equals(table, a.ordinal, b.ordinal))
        };
        order.select_nth_unstable_by(keep, by_score);
        order.truncate(keep);
    }
}

/// Adds what rules want looked at and the cut has left out.
fn add_ruled(table: &CandidateTable, order: &mut Vec<Ranked>) {
    let kept = order.len();
    for one in table.list().iter().filter(|one| one.is_proposed() && one.is_ruled()) {
        if !order.iter().take(kept).any(|other| other.ordinal == one.ordinal) {
            order.push(Ranked { score: 0.0, ordinal: one.ordinal });
        }
    }
}

/// Scores the survivors in double precision, sorts them and cuts to the limit.
fn render<D: AsRef<[u8]>>(question: &Question<'_, D>, table: &CandidateTable, order: &[Ranked]) -> Vec<Recommendation> {
    let Question { scorer, plan, .. } = question;
    let mut items: Vec<Recommendation> = Vec::with_capacity(order.len());
    for one in order {
        let parts = scorer.parts(one.ordinal, table);
        items.push(Recommendation {
            ordinal: one.ordinal,
            score: parts.total(),
            source: question.source(one.ordinal, &parts, table),
            placement: None,
            propensity: None,
            reasons: None,
        });
    }
    items.sort_unstable_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| question.of_equals(table, a.ordinal, b.ordinal))
    });
    items.truncate(plan.limit);
    items
}

impl<D: AsRef<[u8]>> Question<'_, D> {
    pub(super) fn source(&self, ordinal: u32, parts: &Parts, table: &CandidateTable) -> Source {
        let is_fill = || table.get(ordinal).is_some_and(Candidate::is_fill);
        let alone = parts.trending == 0.0 && parts.context == 0.0 && parts.followed == 0.0;
        if alone && (self.is_nobody() || is_fill()) { Source::Popular } else { parts.source() }
    }

    /// The order of equal scores: what only fills the list up comes last, in the order of a list for nobody; then by key.
    pub(super) fn of_equals(&self, table: &CandidateTable, a: u32, b: u32) -> Ordering {
        let Self { scenario, scorer, .. } = self;
        let weights = weights_of_nobody(scenario);
        let filling = |ordinal: u32| {
            let fills = table.get(ordinal).is_some_and(Candidate::is_fill);
            let popularity = f64::from(weights.popularity * scorer.view.popularity(ordinal));
            let trending = f64::from(weights.trending) * scorer.signals.trending(ordinal);
            if fills { popularity + trending } else { f64::INFINITY }
        };
        filling(b).total_cmp(&filling(a)).then_with(|| scorer.by_key(a, b))
    }
}

impl<'a, D: AsRef<[u8]>> Scorer<'a, D> {
    #[allow(clippy::too_many_arguments, reason = "everything that scoring reads, from the one place that has it")]
    pub(super) fn new<H>(
        model: &'a Model<D>,
        view: ModelView<'a>,
        scenario: &'a Scenario,
        fallback: Option<Fallback>,
        taste: &'a Taste,
        request: &RecommendRequest<'a, H>,
        recalls: &'a [Recall],
        followed: &'a [(u32, f64)],
    ) -> Self {
        let known = || scenario.weights_with(model.manifest());
        let weights = if is_nobody(fallback) { weights_of_nobody(scenario) } else { known() };
        let learned = scenario.learned_boosts(model.manifest());
        let boosts = Boosts::new(model, &scenario.boosts, learned, request.context, request.now_ms);
        let signals = request.signals.unwrap_or(&NO_SIGNALS);
        Self { model, view, sessions: model.sessions(), taste, weights, signals, boosts, recalls, followed }
    }

    /// The order of keys.
    pub(super) fn by_key(&self, a: u32, b: u32) -> Ordering {
        self.view.key(a).cmp(&self.view.key(b)).then(a.cmp(&b))
    }

    /// The score in single precision.
    fn quick(&self, one: &Candidate, rows_are_unit: bool) -> f32 {
        let ordinal = one.ordinal;
        let mut score = 0.0;
        if self.weights.vector > 0.0 {
            let row = || self.view.row(ordinal).unwrap_or_default();
            let mut similarity = self.taste.similarity(one.similarity, row);
            if self.taste.is_cosine() && !rows_are_unit {
                let row = row().values();
                let length = dot(&row, &row).sqrt();
                similarity = if length > 0.0 { similarity / length } else { 0.0 };
            }
            score += self.weights.vector * similarity;
        }
        score += self.weights.neighbours * one.neighbours as f32;
        score += self.weights.sessions * one.sessions as f32;
        if self.weights.popularity > 0.0 {
            score += self.weights.popularity * self.view.popularity(ordinal);
        }
        if self.weights.trending > 0.0 {
            score += self.weights.trending * self.signals.trending(ordinal) as f32;
        }
        if self.weights.context > 0.0 {
            score += self.weights.context * self.signals.context(ordinal) as f32;
        }
        score += self.weights.history * one.history as f32;
        score += self.weights.followed * one.followed as f32;
        if !self.boosts.is_empty() {
            score += self.boosts.total(self.model, &self.view, ordinal) as f32;
        }
        score
    }

    /// The score in double precision, by parts.
    pub(super) fn parts(&self, ordinal: u32, table: &CandidateTable) -> Parts {
        let weights = &self.weights;
        let known = table.get(ordinal);
        let part = |weight: f32, value: &dyn Fn() -> f64| if weight > 0.0 { f64::from(weight) * value() } else { 0.0 };
        Parts {
            vector: part(weights.vector, &|| {
                self.taste.vector_part(&self.view.row(ordinal).unwrap_or_default().values())
            }),
            neighbours: part(weights.neighbours, &|| known.map_or(0.0, |one| one.neighbours)),
            sessions: part(weights.sessions, &|| known.map_or(0.0, |one| one.sessions)),
            popularity: part(weights.popularity, &|| f64::from(self.view.popularity(ordinal))),
            trending: part(weights.trending, &|| self.signals.trending(ordinal)),
            context: part(weights.context, &|| self.signals.context(ordinal)),
            history: part(weights.history, &|| known.map_or(0.0, |one| one.history)),
            followed: part(weights.followed, &|| known.map_or(0.0, |one| one.followed)),
            boosts: if self.boosts.is_empty() { 0.0 } else { self.boosts.total(self.model, &self.view, ordinal) },
        }
    }
}

impl Parts {
    pub(super) fn total(&self) -> f64 {
        self.vector
            + self.neighbours
            + self.sessions
            + self.popularity
            + self.trending
            + self.context
            + self.history
            + self.followed
            + self.boosts
    }

    /// The part that weighs most; of equals the one named first.
    fn source(&self) -> Source {
        let mut best = (self.vector, Source::Vector);
        for (part, source) in [
            (self.neighbours, Source::Neighbours),
            (self.sessions, Source::Sessions),
            (self.popularity, Source::Popular),
            (self.trending, Source::Trending),
            (self.context, Source::Context),
            (self.history, Source::History),
            (self.followed, Source::Followed),
        ] {
            if part > best.0 {
                best = (part, source);
            }
        }
        best.1
    }
}

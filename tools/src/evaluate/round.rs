//! A round of questions: every case put to a model, with the history and the trends that a server would have had there.

use std::ops::Range;

use kindred::interaction::Interaction;
use kindred::model::Model;
use kindred::recommend::{RecommendError, RecommendScratch, Signals};
use kindred::scenario::Scenario;
use kindred::user_vector::Weighting;
use rayon::prelude::*;

use super::cases::{self, Case};
use super::trends::Trends;
use super::{EvaluateOptions, HeldOut, Protocol, Skipped};
use crate::dataset::Interactions;

/// Who is asked, and on what.
pub(crate) struct Round<'a, D> {
    pub(crate) model: &'a Model<D>,
    pub(crate) held_out: &'a HeldOut,
    pub(crate) scenario: &'a Scenario,
    pub(crate) weighting: &'a Weighting,
    pub(crate) options: &'a EvaluateOptions,
}

/// What is known where a case is asked.
pub(crate) struct Question<'a> {
    pub(crate) case: &'a Case,
    /// What the user did before, as much of it as the service would look at.
    pub(crate) history: Vec<Interaction>,
    /// What is taken just now, where that is counted.
    pub(crate) signals: Option<Signals<'a>>,
}

impl<D: AsRef<[u8]> + Sync> Round<'_, D> {
    /// The cases, by user and time, and what was left out.
    pub(crate) fn cases(&self) -> Result<(Vec<Case>, Skipped), RecommendError> {
        cases::cases(self.model, self.held_out, self.scenario, self.weighting, self.options)
    }

    /// Asks every case, over all threads, and gives the answers in the order of the cases. Where trends are counted, cases are asked in the
    /// order of time, in blocks.
    pub(crate) fn ask<T: Send>(
        &self,
        cases: &[Case],
        progress: &(dyn Fn(u64, u64) + Sync),
        ask: &(dyn Fn(&Question<'_>, &mut RecommendScratch) -> Result<T, RecommendError> + Sync),
    ) -> Result<Vec<T>, RecommendError> {
        let Self { model, held_out, scenario, weighting, options } = self;
        let counts = options.protocol == Protocol::NextEvent && scenario.counts_trends();
        let settings = options.trending.clone().filter(|_| counts);
        let mut trends = settings.map(|settings| Trends::new(settings, held_out, weighting));
        let (order, blocks) = match &trends {
            Some(trends) => trends.blocks(cases),
            None => ((0..cases.len()).collect(), blocks(cases.len())),
        };
        let mut answers = Vec::with_capacity(cases.len());
        for block in blocks {
            let block = &order[block];
            let now_ms = block.first().map_or(0, |at| cases[*at].now_ms);
            let tables = trends.as_mut().map(|trends| trends.at(now_ms, |key| model.index().ordinal(key)));
            let just_now = trends.as_ref().map(|trends| &trends.trending).zip(tables.as_deref());
            let ask = |scratch: &mut RecommendScratch, at: &usize| {
                let case = &cases[*at];
                let signals = just_now.map(|(trending, tables)| trending.signals(tables, "", None, case.now_ms));
                ask(&Question { case, history: self.history(case), signals }, scratch)
            };
            let answered: Result<Vec<T>, _> = block.par_iter().map_init(RecommendScratch::default, ask).collect();
            answers.extend(block.iter().copied().zip(answered?));
            progress(answers.len() as u64, cases.len() as u64);
        }
        answers.sort_unstable_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn history(&self, case: &Case) -> Vec<Interaction> {
        let HeldOut { kinds, keys, .. } = self.held_out;
        let interaction = |(table, at): (&Interactions, usize)| {
            let key = keys.get(table.item[at] as usize).cloned().unwrap_or_default();
            let kind = kinds.get(usize::from(table.kind[at])).cloned().unwrap_or_default();
            Interaction::new(key, kind, table.time_ms[at])
        };
        case.before(self.held_out).map(interaction).collect()
    }
}

/// In blocks, so that progress moves.
fn blocks(n: usize) -> Vec<Range<usize>> {
    const BLOCK: usize = 1_024;
    (0..n).step_by(BLOCK).map(|begin| begin..(begin + BLOCK).min(n)).collect()
}

//! What was taken just now at each case, counted as a server counts it: from everything in the data that came before.

use kindred::history::Actor;
use kindred::interaction::Interaction;
use kindred::trending::{Tables, Trending, TrendingSettings};
use kindred::user_vector::Weighting;

use std::ops::Range;
use std::sync::Arc;

use super::{Case, HeldOut};
use crate::dataset::Interactions;

/// The counts, as far as time has gone.
pub(super) struct Trends<'a> {
    pub(super) trending: Trending,
    held_out: &'a HeldOut,
    weighting: &'a Weighting,
    /// Rows of the training part (false) and of the test part (true), by time.
    rows: Vec<(i64, bool, usize)>,
    counted: usize,
}

impl<'a> Trends<'a> {
    pub(super) fn new(settings: TrendingSettings, held_out: &'a HeldOut, weighting: &'a Weighting) -> Self {
        let times = |part: &Interactions, is_test| -> Vec<(i64, bool, usize)> {
            part.time_ms.iter().enumerate().map(|(row, time_ms)| (*time_ms, is_test, row)).collect()
        };
        let mut rows = times(&held_out.train, false);
        rows.extend(times(&held_out.test, true));
        rows.sort_unstable();
        Self { trending: Trending::new(settings), held_out, weighting, rows, counted: 0 }
    }

    /// What a server would have added up by then.
    pub(super) fn at(&mut self, now_ms: i64, ordinal: impl Fn(&str) -> Option<u32>) -> Arc<Tables> {
        let HeldOut { train, test, kinds, keys, .. } = self.held_out;
        while let Some((time_ms, is_test, row)) = self.rows.get(self.counted).filter(|(time_ms, ..)| *time_ms < now_ms)
        {
            let part = if *is_test { test } else { train };
            let text = |all: &[String], number: usize| all.get(number).cloned().unwrap_or_default();
            let (item, kind) = (text(keys, part.item[*row] as usize), text(kinds, usize::from(part.kind[*row])));
            let (who, one) = (Actor::user(&part.user[*row].to_string()), Interaction::new(item, kind, *time_ms));
            self.trending.count(&who, &one, &self.weighting.kinds, now_ms);
            self.counted += 1;
        }
        self.trending.refresh("", ordinal, now_ms);
        self.trending.tables()
    }

    /// The cases in the order of time, in blocks that begin when a server would have added up anew.
    pub(super) fn blocks(&self, cases: &[Case]) -> (Vec<usize>, Vec<Range<usize>>) {
        let every_ms = i64::try_from(self.trending.settings().refresh_ms).unwrap_or(i64::MAX);
        let mut order: Vec<usize> = (0..cases.len()).collect();
        order.sort_by_key(|at| cases[*at].now_ms);
        let (mut blocks, mut begin) = (Vec::new(), 0);
        for end in 1..=order.len() {
            let first_ms = cases[order[begin]].now_ms;
            if order.get(end).is_none_or(|at| cases[*at].now_ms >= first_ms.saturating_add(every_ms)) {
                blocks.push(begin..end);
                begin = end;
            }
        }
        (order, blocks)
    }
}

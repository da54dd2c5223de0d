//! Who is asked what: the cases of an evaluation, by its protocol.

use std::collections::HashSet;
use std::ops::Range;

use kindred::model::Model;
use kindred::recommend::RecommendError;
use kindred::scenario::Scenario;
use kindred_index::AllowSet;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{EvaluateOptions, HeldOut, Protocol, Skipped, listable};
use crate::train::by_user;

/// One list to ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// The user, by number.
    pub(crate) user: u32,
    /// Training rows.
    pub(crate) history: Range<usize>,
    /// Test rows that count as history.
    pub(crate) prefix: Range<usize>,
    /// Ordinals to look for, sorted.
    pub(crate) relevant: Vec<u32>,
    /// The present.
    pub(crate) now_ms: i64,
}

/// What decides whether a test row can be looked for.
struct Maker<'a> {
    held_out: &'a HeldOut,
    ordinals: Vec<Option<u32>>,
    listable: Option<AllowSet>,
    /// The items that are looked for; none for all.
    only: Option<HashSet<u32>>,
    exclude_seen: bool,
    skipped: Skipped,
}

/// The cases, by user and time, and what was left out. Costs one look-up an item and a set of what each user has seen.
///
/// # Errors
/// The scenario's filter names a field that the index does not have.
pub(super) fn cases<D: AsRef<[u8]>>(
    model: &Model<D>,
    held_out: &HeldOut,
    scenario: &Scenario,
    options: &EvaluateOptions,
) -> Result<(Vec<Case>, Skipped), RecommendError> {
    let HeldOut { train, test, keys, .. } = held_out;
    let mut maker = Maker {
        held_out,
        ordinals: keys.iter().map(|key| model.index().ordinal(key)).collect(),
        listable: listable(model, scenario, None)?,
        only: options.only_new.then(|| held_out.new_items()),
        exclude_seen: scenario.exclude_seen,
        skipped: Skipped::default(),
    };
    let histories: Vec<(u32, Range<usize>)> = by_user(&train.user).collect();
    let mut cases = Vec::new();
    for (user, rows) in by_user(&test.user) {
        let found = histories.binary_search_by_key(&user, |(user, _)| *user);
        let history = found.map_or(0..0, |at| histories[at].1.clone());
        let before = cases.len();
        match options.protocol {
            Protocol::HeldOut if history.is_empty() => maker.skipped.without_history += rows.len() as u64,
            Protocol::HeldOut => cases.extend(maker.whole(user, history, rows)),
            Protocol::NextEvent => maker.steps(user, history, rows, &mut cases),
        }
        maker.skipped.users_without_any += u64::from(cases.len() == before);
    }
    sample(&mut cases, options, &mut maker.skipped);
    Ok((cases, maker.skipped))
}

/// Leaves the cases of a seeded sample of the users.
fn sample(cases: &mut Vec<Case>, options: &EvaluateOptions, skipped: &mut Skipped) {
    let mut users: Vec<u32> = cases.iter().map(|case| case.user).collect();
    users.dedup();
    let Some(most) = options.users.filter(|most| *most < users.len()) else { return };
    skipped.users_not_sampled += (users.len() - most) as u64;
    users.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    users.truncate(most);
    let drawn: HashSet<u32> = users.into_iter().collect();
    cases.retain(|case| drawn.contains(&case.user));
}

impl Maker<'_> {
    /// All test rows of a user in one case.
    fn whole(&mut self, user: u32, history: Range<usize>, rows: Range<usize>) -> Option<Case> {
        let HeldOut { train, test, .. } = self.held_out;
        let seen: HashSet<u32> = train.item[history.clone()].iter().copied().collect();
        let mut relevant: Vec<u32> = Vec::new();
        for row in rows.clone() {
            match self.wanted(row, &seen) {
                Some(ordinal) if relevant.contains(&ordinal) => self.skipped.repeated += 1,
                Some(ordinal) => relevant.push(ordinal),
                None => {}
            }
        }
        relevant.sort_unstable();
        let now_ms = test.time_ms[rows.start];
        (!relevant.is_empty()).then_some(Case { user, history, prefix: 0..0, relevant, now_ms })
    }

    /// A case for each test row of a user, but the first where nothing comes before it.
    fn steps(&mut self, user: u32, history: Range<usize>, rows: Range<usize>, cases: &mut Vec<Case>) {
        let HeldOut { train, test, .. } = self.held_out;
        let mut seen = HashSet::new();
        let mut before = history.start..history.start;
        for row in rows.clone() {
            let (prefix, now_ms) = (rows.start..row, test.time_ms[row]);
            // Where items are held out, training interactions lie before, between and after those of the test part.
            let later = before.end..history.end;
            let passed = train.time_ms[later.clone()].partition_point(|time_ms| *time_ms <= now_ms);
            seen.extend(train.item[later].iter().take(passed));
            before.end += passed;
            if before.is_empty() && prefix.is_empty() {
                self.skipped.without_history += 1;
            } else if let Some(ordinal) = self.wanted(row, &seen) {
                cases.push(Case { user, history: before.clone(), prefix, relevant: vec![ordinal], now_ms });
            }
            seen.insert(test.item[row]);
        }
    }

    /// The ordinal of a test row if a list could contain it; counts why not.
    fn wanted(&mut self, row: usize, seen: &HashSet<u32>) -> Option<u32> {
        let test = &self.held_out.test;
        let item = test.item[row];
        let ordinal = self.ordinals.get(item as usize).copied().flatten();
        let reason = match ordinal {
            _ if test.weight[row] <= 0.0 => &mut self.skipped.not_liked,
            None => &mut self.skipped.unknown_items,
            Some(_) if self.only.as_ref().is_some_and(|only| !only.contains(&item)) => &mut self.skipped.not_new,
            Some(_) if self.exclude_seen && seen.contains(&item) => &mut self.skipped.seen_before,
            Some(ordinal) if self.listable.as_ref().is_some_and(|set| !set.contains(ordinal)) => {
                &mut self.skipped.unavailable
            }
            Some(_) => return ordinal,
        };
        *reason += 1;
        None
    }
}

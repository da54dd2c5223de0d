//! Who is asked what: the cases of an evaluation, by its protocol.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use kindred::model::Model;
use kindred::recommend::{RecommendError, keeps_out};
use kindred::scenario::Scenario;
use kindred::user_vector::Weighting;
use kindred_index::AllowSet;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{EvaluateOptions, HeldOut, Protocol, Skipped, listable};
use crate::dataset::Interactions;
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
    /// Whether of one moment the test rows come first: where the parts are [mixed](HeldOut::is_mixed).
    pub(crate) is_mixed: bool,
}

/// What decides whether a test row can be looked for.
struct Maker<'a> {
    held_out: &'a HeldOut,
    ordinals: Vec<Option<u32>>,
    listable: Option<AllowSet>,
    /// The items that are looked for; none for all.
    only: Option<HashSet<u32>>,
    scenario: &'a Scenario,
    weighting: &'a Weighting,
    /// As [`HeldOut::is_mixed`] says.
    is_mixed: bool,
    skipped: Skipped,
}

/// The cases, by user and time, and what was left out. Costs one look-up an item, and for each test row a pass over what is known there.
///
/// # Errors
/// The scenario's filter is beyond the limits.
pub(super) fn cases<D: AsRef<[u8]>>(
    model: &Model<D>,
    held_out: &HeldOut,
    scenario: &Scenario,
    weighting: &Weighting,
    options: &EvaluateOptions,
) -> Result<(Vec<Case>, Skipped), RecommendError> {
    let HeldOut { train, test, keys, .. } = held_out;
    let mut maker = Maker {
        held_out,
        ordinals: keys.iter().map(|key| model.index().ordinal(key)).collect(),
        listable: listable(model, scenario, None)?,
        only: options.only_new.then(|| held_out.new_items()),
        scenario,
        weighting,
        is_mixed: held_out.is_mixed(),
        skipped: Skipped::default(),
    };
    let histories: Vec<(u32, Range<usize>)> = by_user(&train.user).collect();
    let history_of = |user: u32| {
        let found = histories.binary_search_by_key(&user, |(user, _)| *user);
        found.map_or(0..0, |at| histories[at].1.clone())
    };
    let mut cases = Vec::new();
    for (user, rows) in by_user(&test.user) {
        let history = history_of(user);
        let before = cases.len();
        match options.protocol {
            Protocol::HeldOut => cases.extend(maker.whole(user, &history, rows)),
            Protocol::NextEvent => maker.steps(user, &history, rows, &mut cases),
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

impl HeldOut {
    /// Whether training interactions lie between those of the test part and after them, as where items are held out. What happened at the very
    /// moment of a list may then be its future: a basket has one time.
    pub(crate) fn is_mixed(&self) -> bool {
        let Self { train, test, .. } = self;
        let last = |(user, rows): (u32, Range<usize>)| (user, train.time_ms[rows.end - 1]);
        let lasts: HashMap<u32, i64> = by_user(&train.user).map(last).collect();
        let goes_on = |(user, rows): (u32, Range<usize>)| {
            lasts.get(&user).is_some_and(|last_ms| *last_ms > test.time_ms[rows.start])
        };
        by_user(&test.user).any(goes_on)
    }
}

impl Case {
    /// What its user did before, as far back as the service would look: rows of the one part, then of the other. Of two at the same time the one
    /// given later is the newer, as it is for a server that they are sent to.
    pub(super) fn before<'a>(&self, held_out: &'a HeldOut) -> impl Iterator<Item = (&'a Interactions, usize)> {
        let HeldOut { train, test, history_max, .. } = held_out;
        let (mut oldest, mut oldest_tested) = (self.history.end, self.prefix.end);
        // From the newest back, by time: where items are held out, rows of one part lie between those of the other.
        for _ in 0..*history_max {
            let trained_ms = (oldest > self.history.start).then(|| train.time_ms[oldest - 1]);
            let tested_ms = (oldest_tested > self.prefix.start).then(|| test.time_ms[oldest_tested - 1]);
            let is_trained = trained_ms > tested_ms || (self.is_mixed && trained_ms == tested_ms);
            if trained_ms.is_some() && is_trained {
                oldest -= 1;
            } else if tested_ms.is_some() {
                oldest_tested -= 1;
            } else {
                break;
            }
        }
        let mut parts = [(train, oldest..self.history.end), (test, oldest_tested..self.prefix.end)];
        if self.is_mixed {
            parts.reverse();
        }
        parts.into_iter().flat_map(|(part, rows)| rows.map(move |row| (part, row)))
    }
}

impl Maker<'_> {
    /// All test rows of a user in one case, from the first on before which there is something.
    fn whole(&mut self, user: u32, history: &Range<usize>, rows: Range<usize>) -> Option<Case> {
        let asked = rows.clone().map(|row| (row, self.at(user, history, 0..0, row)));
        let Some((first, mut case)) = asked.into_iter().find(|(_, case)| !case.history.is_empty()) else {
            self.skipped.without_history += rows.len() as u64;
            return None;
        };
        self.skipped.without_history += (first - rows.start) as u64;
        for row in first..rows.end {
            let wanted = self.wanted(row, &case);
            case.relevant.extend(wanted);
        }
        let n_wanted = case.relevant.len();
        case.relevant.sort_unstable();
        case.relevant.dedup();
        self.skipped.repeated += (n_wanted - case.relevant.len()) as u64;
        (!case.relevant.is_empty()).then_some(case)
    }

    /// A case for each test row of a user, but the first where nothing comes before it.
    fn steps(&mut self, user: u32, history: &Range<usize>, rows: Range<usize>, cases: &mut Vec<Case>) {
        for row in rows.clone() {
            let mut case = self.at(user, history, rows.start..row, row);
            if case.history.is_empty() && case.prefix.is_empty() {
                self.skipped.without_history += 1;
            } else if let Some(ordinal) = self.wanted(row, &case) {
                case.relevant.push(ordinal);
                cases.push(case);
            }
        }
    }

    /// A list that is asked for when a test row happened, and nothing yet to look for in it.
    fn at(&self, user: u32, history: &Range<usize>, prefix: Range<usize>, row: usize) -> Case {
        let HeldOut { train, test, .. } = self.held_out;
        let now_ms = test.time_ms[row];
        let is_before = |time_ms: &i64| if self.is_mixed { *time_ms < now_ms } else { *time_ms <= now_ms };
        let passed = train.time_ms[history.clone()].partition_point(is_before);
        let history = history.start..history.start + passed;
        Case { user, history, prefix, relevant: Vec::new(), now_ms, is_mixed: self.is_mixed }
    }

    /// The ordinal of a test row if the list of a case could contain it; counts why not.
    fn wanted(&mut self, row: usize, case: &Case) -> Option<u32> {
        let (held_out, scenario, weighting) = (self.held_out, self.scenario, self.weighting);
        let test = &held_out.test;
        let item = test.item[row];
        let ordinal = self.ordinals.get(item as usize).copied().flatten();
        let is_seen = || {
            let with_it = case.before(held_out).filter(|(part, at)| part.item[*at] == item);
            let kind = |number: u8| held_out.kinds.get(usize::from(number)).map_or("", String::as_str);
            let mut done = with_it.map(|(part, at)| (kind(part.kind[at]), part.time_ms[at]));
            done.any(|(kind, time_ms)| keeps_out(scenario, weighting, kind, time_ms, case.now_ms))
        };
        let reason = match ordinal {
            _ if test.weight[row] <= 0.0 => &mut self.skipped.not_liked,
            None => &mut self.skipped.unknown_items,
            Some(_) if self.only.as_ref().is_some_and(|only| !only.contains(&item)) => &mut self.skipped.not_new,
            Some(_) if is_seen() => &mut self.skipped.seen_before,
            Some(ordinal) if self.listable.as_ref().is_some_and(|set| !set.contains(ordinal)) => {
                &mut self.skipped.unavailable
            }
            Some(_) => return ordinal,
        };
        *reason += 1;
        None
    }
}

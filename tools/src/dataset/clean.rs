//! From the rows of a log to interactions in order: sorted, without repetitions, without users and items that say nothing.

use serde::{Deserialize, Serialize};

use super::Interactions;
use super::log::Log;

/// What is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanOptions {
    /// Least interactions of a user.
    pub min_user: u32,
    /// Least interactions of an item.
    pub min_item: u32,
    /// Most interactions of a user who is believed to be a person; 0 for no bound.
    pub max_user_interactions: u32,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// Interactions of the same user with the same item at the same time of the same kind and weight as another.
    pub duplicates: u64,
    /// Users with more interactions than a person has.
    pub busy_users: u64,
    /// Their interactions.
    pub busy_user_interactions: u64,
    /// Users with too few interactions.
    pub rare_users: u64,
    /// Items with too few interactions.
    pub rare_items: u64,
    /// The interactions of both.
    pub rare_interactions: u64,
    /// Passes until no user and no item had too few.
    pub rounds: u32,
}

/// Cleaned interactions: users and items numbered by the order of their identifiers, kinds by the order of their names, so that
/// the same content gives the same numbers whatever the order of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clean {
    /// Sorted by user and time; rows of one moment as they stood in the log.
    pub interactions: Interactions,
    /// Users, sorted.
    pub users: Vec<Box<str>>,
    /// Items, sorted.
    pub items: Vec<Box<str>>,
    /// Kinds, sorted.
    pub kinds: Vec<String>,
    /// What was dropped.
    pub cleaned: Cleaned,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self { min_user: 1, min_item: 1, max_user_interactions: 20_000 }
    }
}

/// Cleans a log whose times are settled. Costs O(rows) for each round and a sort of each user's own rows; beside the log it
/// takes 4 bytes a row for the order, and each column once more while it is put in order.
pub fn clean(log: Log, options: &CleanOptions) -> Clean {
    let Log { users, items, kinds, user, item, kind, weight, time, .. } = log;
    let (users, items) = (users.into_texts(), items.into_texts());
    let order = by_user_and_time(&user, &time, users.len());
    let mut rows = Interactions {
        user: gather(user, &order),
        item: gather(item, &order),
        kind: gather(kind, &order),
        weight: gather(weight, &order),
        time_ms: gather(time, &order),
    };
    drop(order);
    let mut cleaned = Cleaned::default();
    let before = rows.len();
    let keep = not_repeated(&rows);
    rows.retain(&keep);
    cleaned.duplicates = (before - rows.len()) as u64;
    drop_busy(&mut rows, users.len(), options, &mut cleaned);
    drop_rare(&mut rows, users.len(), items.len(), options, &mut cleaned);
    let (users, user_numbers) = renumber(users, &rows.user);
    let (items, item_numbers) = renumber(items, &rows.item);
    let kinds_used: Vec<u32> = rows.kind.iter().map(|kind| u32::from(*kind)).collect();
    let (kinds, kind_numbers) = renumber(kinds.into_iter().map(String::into_boxed_str).collect(), &kinds_used);
    map(&mut rows.user, &user_numbers);
    map(&mut rows.item, &item_numbers);
    for kind in &mut rows.kind {
        // At most 255 kinds came in.
        *kind = kind_numbers.get(usize::from(*kind)).map_or(*kind, |number| *number as u8);
    }
    // Users have new numbers, so their rows stand in another order.
    let order = by_user_and_time(&rows.user, &rows.time_ms, users.len());
    let interactions = Interactions {
        user: gather(rows.user, &order),
        item: gather(rows.item, &order),
        kind: gather(rows.kind, &order),
        weight: gather(rows.weight, &order),
        time_ms: gather(rows.time_ms, &order),
    };
    Clean { interactions, users, items, kinds: kinds.into_iter().map(String::from).collect(), cleaned }
}

/// The order by user, time and row: counted by user, then each user's rows sorted.
fn by_user_and_time(user: &[u32], time: &[i64], n_users: usize) -> Vec<u32> {
    let mut next = vec![0_u32; n_users + 1];
    for user in user {
        next[*user as usize + 1] += 1;
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let starts = next.clone();
    let mut order = vec![0_u32; user.len()];
    for (row, user) in user.iter().enumerate() {
        let at = &mut next[*user as usize];
        order[*at as usize] = row as u32;
        *at += 1;
    }
    for bounds in starts.windows(2) {
        // Rows of a user stand in the order of the log, and a stable sort leaves those of one moment so.
        order[bounds[0] as usize..bounds[1] as usize].sort_by_key(|row| time[*row as usize]);
    }
    order
}

fn gather<T: Copy>(column: Vec<T>, order: &[u32]) -> Vec<T> {
    order.iter().map(|row| column[*row as usize]).collect()
}

/// For each row whether it is the first of its like.
fn not_repeated(rows: &Interactions) -> Vec<bool> {
    let mut keep = vec![true; rows.len()];
    let mut like: Vec<(u32, u8, u32, usize)> = Vec::new();
    let mut from = 0;
    while from < rows.len() {
        let moment = |row: usize| (rows.user[row], rows.time_ms[row]);
        let to = (from + 1..rows.len()).find(|row| moment(*row) != moment(from)).unwrap_or(rows.len());
        if to - from > 1 {
            like.clear();
            like.extend((from..to).map(|row| (rows.item[row], rows.kind[row], rows.weight[row].to_bits(), row)));
            like.sort_unstable();
            for pair in like.windows(2) {
                let ((item, kind, weight, _), (item_2, kind_2, weight_2, row)) = (pair[0], pair[1]);
                keep[row] = (item, kind, weight) != (item_2, kind_2, weight_2);
            }
        }
        from = to;
    }
    keep
}

fn drop_busy(rows: &mut Interactions, n_users: usize, options: &CleanOptions, cleaned: &mut Cleaned) {
    if options.max_user_interactions == 0 {
        return;
    }
    let counts = counts(&rows.user, n_users);
    let busy = |user: &u32| counts[*user as usize] > options.max_user_interactions;
    cleaned.busy_users = (0..n_users as u32).filter(busy).count() as u64;
    if cleaned.busy_users > 0 {
        let keep: Vec<bool> = rows.user.iter().map(|user| !busy(user)).collect();
        let before = rows.len();
        rows.retain(&keep);
        cleaned.busy_user_interactions = (before - rows.len()) as u64;
    }
}

/// The core: users and items are dropped until none of those left has too few interactions with those left.
fn drop_rare(rows: &mut Interactions, n_users: usize, n_items: usize, options: &CleanOptions, cleaned: &mut Cleaned) {
    let before = (rows.len(), distinct(&rows.user, n_users), distinct(&rows.item, n_items));
    loop {
        let (of_user, of_item) = (counts(&rows.user, n_users), counts(&rows.item, n_items));
        let common = |(user, item): (&u32, &u32)| {
            of_user[*user as usize] >= options.min_user && of_item[*item as usize] >= options.min_item
        };
        let keep: Vec<bool> = rows.user.iter().zip(&rows.item).map(common).collect();
        if keep.iter().all(|keep| *keep) {
            break;
        }
        rows.retain(&keep);
        cleaned.rounds += 1;
    }
    cleaned.rare_interactions = (before.0 - rows.len()) as u64;
    cleaned.rare_users = before.1 - distinct(&rows.user, n_users);
    cleaned.rare_items = before.2 - distinct(&rows.item, n_items);
}

fn counts(numbers: &[u32], n: usize) -> Vec<u32> {
    let mut counts = vec![0; n];
    numbers.iter().for_each(|number| counts[*number as usize] += 1);
    counts
}

fn distinct(numbers: &[u32], n: usize) -> u64 {
    counts(numbers, n).into_iter().filter(|count| *count > 0).count() as u64
}

/// The texts in use, sorted, and for each old number the new one.
fn renumber(texts: Vec<Box<str>>, used: &[u32]) -> (Vec<Box<str>>, Vec<u32>) {
    let used = counts(used, texts.len());
    let mut numbers = vec![u32::MAX; texts.len()];
    let mut kept: Vec<(Box<str>, usize)> =
        texts.into_iter().enumerate().filter(|(old, _)| used[*old] > 0).map(|(old, text)| (text, old)).collect();
    kept.sort_unstable();
    for (new, (_, old)) in kept.iter().enumerate() {
        numbers[*old] = new as u32;
    }
    (kept.into_iter().map(|(text, _)| text).collect(), numbers)
}

fn map(column: &mut [u32], numbers: &[u32]) {
    column.iter_mut().for_each(|number| *number = numbers[*number as usize]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::log::{Row, RowRules, RowTime};

    fn log(rows: &[(u8, u8, i64)]) -> Log {
        let rules =
            RowRules { kind_weights: BTreeMap::from([("view".to_owned(), 1.0)]), default_kind: None, min_rating: None };
        let mut log = Log::default();
        for (user, item, time) in rows {
            let (user, item) = (format!("u{user}"), format!("i{item}"));
            let row =
                Row { user: user.as_bytes(), item: item.as_bytes(), time: RowTime::Millis(*time), ..Row::default() };
            log.push(1, &row, &rules).unwrap();
        }
        log
    }

    /// The slow twin: rows as texts, everything by looking at everything.
    fn slowly(rows: &[(u8, u8, i64)], options: &CleanOptions) -> Vec<(String, String, i64)> {
        let mut left: Vec<(String, String, i64)> = Vec::new();
        for (user, item, time) in rows {
            let row = (format!("u{user}"), format!("i{item}"), *time);
            if !left.contains(&row) {
                left.push(row);
            }
        }
        let most = options.max_user_interactions as usize;
        let all = left.clone();
        left.retain(|row| most == 0 || all.iter().filter(|other| other.0 == row.0).count() <= most);
        loop {
            let all = left.clone();
            left.retain(|row| {
                all.iter().filter(|other| other.0 == row.0).count() >= options.min_user as usize
                    && all.iter().filter(|other| other.1 == row.1).count() >= options.min_item as usize
            });
            if left.len() == all.len() {
                break;
            }
        }
        left.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
        left
    }

    proptest! {
        #[test]
        fn cleaning_agrees_with_its_slow_twin(
            rows in proptest::collection::vec((0_u8..12, 0_u8..8, 0_i64..6), 0..60),
            min_user in 0_u32..4, min_item in 0_u32..4, max_user_interactions in 0_u32..12,
        ) {
            let options = CleanOptions { min_user, min_item, max_user_interactions };
            let clean = clean(log(&rows), &options);
            let Interactions { user, item, time_ms, .. } = &clean.interactions;
            let found: Vec<(String, String, i64)> = (0..user.len())
                .map(|row| {
                    let (user, item) = (&clean.users[user[row] as usize], &clean.items[item[row] as usize]);
                    (user.to_string(), item.to_string(), time_ms[row])
                })
                .collect();
            prop_assert_eq!(&found, &slowly(&rows, &options));
            let c = clean.cleaned;
            let dropped = c.duplicates + c.busy_user_interactions + c.rare_interactions;
            prop_assert_eq!(dropped as usize + found.len(), rows.len());
        }
    }

    #[test]
    fn the_core_is_found_in_rounds() {
        // Item 9 goes first, then user 3, who had nothing else but it and item 1, then item 1.
        let rows = [(1, 0, 1), (1, 2, 2), (2, 0, 1), (2, 2, 2), (3, 9, 1), (3, 1, 2), (1, 1, 3)];
        let clean = clean(log(&rows), &CleanOptions { min_user: 2, min_item: 2, max_user_interactions: 0 });
        assert_eq!(clean.items, [Box::from("i0"), Box::from("i2")]);
        assert_eq!((clean.cleaned.rare_users, clean.cleaned.rare_items, clean.cleaned.rounds), (1, 2, 3));
    }
}

//! The sessions that a model keeps for session-kNN: what visitors did in one go, cut from the training interactions.
//!
//! Unless all of a user is to be one session ([`Cut::ByUser`]), interactions are cut where nothing happened for [`GAP_MS`] and after [`ITEMS_MAX`] items; items that come twice in a session are
//! kept once, sessions of a single item say nothing about what goes with what and are dropped, and of more than [`SESSIONS_MAX`] the newest are
//! kept. One pass and a sort; 4 bytes an interaction, and some 40 a session while they are cut.

use super::by_user;
use crate::dataset::Interactions;
use crate::model_dir::SessionTable;

/// A session ends when nothing happens for so long: the half hour of web statistics.
pub const GAP_MS: i64 = 30 * 60 * 1_000;
/// What is a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// What a user does without a pause of [`GAP_MS`], at most [`ITEMS_MAX`] items.
    #[default]
    AtPauses,
    /// The last [`USER_ITEMS_MAX`] items of a user, whatever the pauses: session-kNN is then user-kNN.
    ByUser,
}

/// Most items of a session that is all of a user.
pub const USER_ITEMS_MAX: usize = 300;
/// Most items of a session. A longer one says less about each, and costs every visitor who resembles it.
pub const ITEMS_MAX: usize = 30;
/// Most sessions kept.
pub const SESSIONS_MAX: usize = 2_000_000;

/// The sessions, by the time of their last interaction, the oldest first.
pub fn of(interactions: &Interactions, cut: Cut) -> SessionTable {
    let mut sessions: Vec<(i64, Vec<u32>)> = Vec::new();
    // Most visitors of a shop look at one thing and go: what is dropped at once takes no memory.
    let mut keep = |last: i64, items: Vec<u32>| {
        if items.len() > 1 {
            sessions.push((last, items));
        }
    };
    for (_, rows) in by_user(&interactions.user) {
        let (rows, gap_ms, most) = match cut {
            Cut::AtPauses => (rows, GAP_MS, ITEMS_MAX),
            Cut::ByUser => {
                (rows.end.saturating_sub(USER_ITEMS_MAX).max(rows.start)..rows.end, i64::MAX, USER_ITEMS_MAX)
            }
        };
        let mut session: Vec<u32> = Vec::new();
        let mut last: Option<i64> = None;
        for at in rows {
            let (item, now) = (interactions.item[at], interactions.time_ms[at]);
            if let Some(before) = last
                && (now.saturating_sub(before) > gap_ms || session.len() >= most)
            {
                keep(before, std::mem::take(&mut session));
            }
            last = Some(now);
            if interactions.weight[at] > 0.0 && !session.contains(&item) {
                session.push(item);
            }
        }
        if let Some(last) = last {
            keep(last, session);
        }
    }
    // Stable, so that sessions that end at one moment stay in the order of their users.
    sessions.sort_by_key(|(last, _)| *last);
    let too_many = sessions.len().saturating_sub(SESSIONS_MAX);
    let mut table = SessionTable { offsets: vec![0], items: Vec::new() };
    for (_, items) in sessions.into_iter().skip(too_many) {
        table.items.extend(items);
        table.offsets.push(table.items.len() as u32);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_cut_at_pauses_and_sorted_by_their_end() {
        let minute = 60_000;
        let rows: [(u32, u32, f32, i64); 9] = [
            (0, 5, 1.0, 0),
            (0, 6, 1.0, 29),
            (0, 5, 1.0, 50),
            (0, 7, 1.0, 81),
            (0, 8, 1.0, 82),
            (1, 1, 1.0, 0),
            (1, 2, -1.0, 1),
            (1, 3, 1.0, 2),
            (2, 4, 1.0, 3),
        ];
        let mut interactions = Interactions::default();
        for (user, item, weight, minutes) in rows {
            interactions.push(user, item, 0, weight, minutes * minute);
        }
        let table = of(&interactions, Cut::AtPauses);
        assert_eq!(table, SessionTable { offsets: vec![0, 2, 4, 6], items: vec![1, 3, 5, 6, 7, 8] });
        assert_eq!(of(&Interactions::default(), Cut::AtPauses), SessionTable { offsets: vec![0], items: Vec::new() });
    }

    #[test]
    fn long_sessions_are_cut() {
        let mut interactions = Interactions::default();
        (0..ITEMS_MAX as u32 + 2).for_each(|item| interactions.push(0, item, 0, 1.0, i64::from(item)));
        assert_eq!(of(&interactions, Cut::AtPauses).offsets, [0, ITEMS_MAX as u32, ITEMS_MAX as u32 + 2]);
    }

    #[test]
    fn a_user_can_be_one_session() {
        let mut log = Interactions::default();
        (0..USER_ITEMS_MAX as u32 + 2).for_each(|item| log.push(0, item, 0, 1.0, i64::from(item) * 10 * GAP_MS));
        log.push(1, 7, 0, 1.0, 5);
        log.push(1, 8, 0, 1.0, 4 * GAP_MS);
        let table = of(&log, Cut::ByUser);
        assert_eq!(table.offsets, [0, 2, 2 + USER_ITEMS_MAX as u32]);
        assert_eq!((&table.items[..3], of(&log, Cut::AtPauses).items.len()), (&[7, 8, 2][..], 0));
    }
}

//! What is held out for `kindred evaluate`: by time, so that no model is asked about what it could have learned from.

use std::fmt;
use std::str::FromStr;

use kindred::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::Interactions;
use super::time;

/// How interactions are divided into a training and a test part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Split {
    /// The last interaction of each user who has more than one is tested.
    LeaveLastOut,
    /// What happened at or after a moment is tested.
    Time {
        /// The moment, in milliseconds since 1970.
        at_ms: i64,
    },
    /// The newest interactions are tested.
    Share {
        /// The share that is trained on, above 0 and below 1.
        train: f64,
    },
    /// The last basket of each user who has more than one is tested: all interactions of the user's last moment.
    LastBasket,
    /// Users whose last interaction is among the newest are tested whole: for logs whose users are sessions.
    Sessions {
        /// How long before the newest interaction of all, in seconds.
        last_s: u32,
    },
    /// Every interaction with some of the items is tested: how good lists are with items that nobody has touched yet.
    Items {
        /// The share of the items, above 0 and below 1, drawn by their numbers.
        tested: f64,
    },
    /// Some users are tested whole: how good lists are for people whom no model has learned from.
    Users {
        /// The share of the users, above 0 and below 1, drawn by their numbers.
        tested: f64,
    },
    /// Nothing is tested.
    None,
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("time=")) {
            ("leave-last-out", _) => Ok(Self::LeaveLastOut),
            ("last-basket", _) => Ok(Self::LastBasket),
            ("none", _) => Ok(Self::None),
            _ if text.starts_with("sessions=") => match text.trim_start_matches("sessions=").parse() {
                Ok(last_s) if last_s > 0 => Ok(Self::Sessions { last_s }),
                _ => Err("give seconds above 0, as in sessions=14400".to_owned()),
            },
            _ if text.starts_with("items=") => Ok(Self::Items { tested: share(text)? }),
            _ if text.starts_with("users=") => Ok(Self::Users { tested: share(text)? }),
            (_, Some(at)) => {
                if let Some(at_ms) = time::date_time(at.as_bytes()) {
                    return Ok(Self::Time { at_ms });
                }
                match at.parse::<f64>() {
                    Ok(train) if train > 0.0 && train < 1.0 => Ok(Self::Share { train }),
                    _ => Err(format!("{at:?} is neither a date like 2017-10-10T00:00:00Z nor a share between 0 and 1")),
                }
            }
            _ => {
                Err("expected leave-last-out, last-basket, sessions=14400, items=0.1, users=0.1, time=2017-10-10T00:00:00Z, time=0.9 or none"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaveLastOut => write!(f, "the last interaction of each user"),
            Self::Time { at_ms } => write!(f, "what happened at or after {}", Timestamp(*at_ms)),
            Self::Share { train } => write!(f, "what happened after the oldest {}", crate::report::percent(*train)),
            Self::LastBasket => write!(f, "all of each user's last moment"),
            Self::Sessions { last_s } => write!(f, "users whose last interaction is of the newest {last_s} seconds"),
            Self::Items { tested } => {
                write!(f, "all interactions with {} of the items", crate::report::percent(*tested))
            }
            Self::Users { tested } => write!(f, "all interactions of {} of the users", crate::report::percent(*tested)),
            Self::None => write!(f, "nothing"),
        }
    }
}

/// The fractional part of the golden ratio, whose multiples spread evenly.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Whether a number is among those drawn. Golden ratio steps: even over all numbers, in whatever order they came in, and the same every time.
fn is_drawn(number: u32, share: f64) -> bool {
    (f64::from(number) * GOLDEN).fract() < share
}

/// The share of `items=0.1` and the like.
fn share(text: &str) -> Result<f64, String> {
    let of = text.split_once('=').and_then(|(_, share)| share.parse().ok());
    let fine = of.filter(|share| *share > 0.0 && *share < 1.0);
    fine.ok_or_else(|| format!("{text:?}: give a share between 0 and 1, as in items=0.1 or users=0.1"))
}

/// Divides interactions, sorted by user and time; both parts stay so. Costs one pass, and a copy of the times for a share.
pub fn split(all: Interactions, by: Split) -> (Interactions, Interactions) {
    let is_test: Vec<bool> = match by {
        Split::None => return (all, Interactions::default()),
        Split::LeaveLastOut => {
            let user = |row: usize| all.user.get(row);
            let before = |row: usize| row.checked_sub(1).and_then(user);
            (0..all.len()).map(|row| user(row) != user(row + 1) && user(row) == before(row)).collect()
        }
        Split::LastBasket => of_users(&all.user, |rows| {
            let times = &all.time_ms[rows.clone()];
            let last = times.last().copied();
            let more = times.first().copied() != last;
            times.iter().map(|time| more && Some(*time) == last).collect()
        }),
        Split::Sessions { last_s } => {
            let newest = all.time_ms.iter().copied().max().unwrap_or_default();
            let after = newest.saturating_sub(i64::from(last_s) * 1_000);
            of_users(&all.user, |rows| {
                vec![all.time_ms.get(rows.end - 1).is_some_and(|last| *last > after); rows.len()]
            })
        }
        Split::Items { tested } => all.item.iter().map(|item| is_drawn(*item, tested)).collect(),
        Split::Users { tested } => all.user.iter().map(|user| is_drawn(*user, tested)).collect(),
        Split::Time { at_ms } => all.time_ms.iter().map(|time| *time >= at_ms).collect(),
        Split::Share { train } => {
            let mut times = all.time_ms.clone();
            // The last that is trained on.
            let place = ((times.len() as f64 * train) as usize).saturating_sub(1);
            let at_ms = if times.is_empty() { 0 } else { *times.select_nth_unstable(place).1 };
            // Those of the very moment are trained on: a test must not share its moment with what was learned from.
            all.time_ms.iter().map(|time| *time > at_ms).collect()
        }
    };
    let mut test = all.clone();
    test.retain(&is_test);
    let mut train = all;
    train.retain(&is_test.iter().map(|test| !test).collect::<Vec<bool>>());
    (train, test)
}

/// What a rule says of the rows of each user, end to end.
fn of_users(users: &[u32], rule: impl Fn(std::ops::Range<usize>) -> Vec<bool>) -> Vec<bool> {
    crate::train::by_user(users).flat_map(|(_, rows)| rule(rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(u32, i64)]) -> Interactions {
        let mut all = Interactions::default();
        for (user, time) in rows {
            all.push(*user, 0, 0, 1.0, *time);
        }
        all
    }

    #[test]
    fn the_last_of_each_user_is_left_out_but_never_the_only_one() {
        let (train, test) = split(rows(&[(0, 1), (0, 2), (0, 3), (1, 9), (2, 4), (2, 5)]), Split::LeaveLastOut);
        assert_eq!((train.user, train.time_ms), (vec![0, 0, 1, 2], vec![1, 2, 9, 4]));
        assert_eq!((test.user, test.time_ms), (vec![0, 2], vec![3, 5]));
    }

    #[test]
    fn a_moment_or_a_share_divides_all_users_at_once() {
        let all = rows(&[(0, 1), (0, 5), (1, 2), (1, 6)]);
        let (train, test) = split(all.clone(), Split::Time { at_ms: 5 });
        assert_eq!((train.time_ms, test.time_ms), (vec![1, 2], vec![5, 6]));
        let (train, test) = split(all.clone(), Split::Share { train: 0.5 });
        assert_eq!((train.time_ms, test.time_ms), (vec![1, 2], vec![5, 6]));
        let ten = rows(&(0..10).map(|time| (0, time)).collect::<Vec<_>>());
        assert_eq!(split(ten, Split::Share { train: 0.9 }).1.time_ms, [9]);
        let (train, test) = split(all.clone(), Split::None);
        assert_eq!((train, test.len()), (all, 0));
        assert_eq!(split(Interactions::default(), Split::Share { train: 0.5 }).1.len(), 0);
    }

    #[test]
    fn a_basket_is_a_moment_and_the_last_of_several_is_tested() {
        let all = rows(&[(0, 1), (0, 1), (0, 7), (0, 7), (1, 5), (1, 5)]);
        let (train, test) = split(all, Split::LastBasket);
        assert_eq!((train.time_ms, test.time_ms), (vec![1, 1, 5, 5], vec![7, 7]));
    }

    #[test]
    fn sessions_are_tested_whole_or_not_at_all() {
        let all = rows(&[(0, 1_000), (0, 3_000), (1, 2_000), (1, 9_000), (2, 8_000), (2, 9_500)]);
        let (train, test) = split(all, Split::Sessions { last_s: 1 });
        assert_eq!((train.user, test.user), (vec![0, 0], vec![1, 1, 2, 2]));
    }

    #[test]
    fn items_are_tested_in_all_their_interactions_or_in_none() {
        let mut all = Interactions::default();
        (0..2_000_u32).for_each(|row| all.push(row / 20, row % 200, 0, 1.0, i64::from(row)));
        let (train, test) = split(all, Split::Items { tested: 0.1 });
        assert!((180..=220).contains(&test.len()), "{}", test.len());
        assert!(test.item.iter().all(|item| !train.item.contains(item)));
    }

    #[test]
    fn users_are_tested_in_all_they_did_or_in_nothing() {
        let mut all = Interactions::default();
        (0..2_000_u32).for_each(|row| all.push(row / 10, row % 7, 0, 1.0, i64::from(row)));
        let (train, test) = split(all, Split::Users { tested: 0.1 });
        assert!((180..=220).contains(&test.len()) && test.len() % 10 == 0, "{}", test.len());
        assert!(test.user.iter().all(|user| !train.user.contains(user)));
    }

    #[test]
    fn a_split_is_written_as_a_word() {
        assert_eq!("leave-last-out".parse(), Ok(Split::LeaveLastOut));
        assert_eq!("time=2017-10-10".parse(), Ok(Split::Time { at_ms: 1_507_593_600_000 }));
        assert_eq!("time=0.9".parse(), Ok(Split::Share { train: 0.9 }));
        assert_eq!("sessions=14400".parse(), Ok(Split::Sessions { last_s: 14_400 }));
        assert_eq!("items=0.1".parse(), Ok(Split::Items { tested: 0.1 }));
        assert_eq!("users=0.25".parse(), Ok(Split::Users { tested: 0.25 }));
        assert!("users=x".parse::<Split>().unwrap_err().contains("users=0.1"));
        assert!("items=1".parse::<Split>().unwrap_err().contains("share"));
        assert_eq!("last-basket".parse(), Ok(Split::LastBasket));
        assert!("sessions=0".parse::<Split>().unwrap_err().contains("seconds"));
        assert!("time=1.5".parse::<Split>().unwrap_err().contains("share"));
        assert!("half".parse::<Split>().unwrap_err().contains("leave-last-out"));
    }
}

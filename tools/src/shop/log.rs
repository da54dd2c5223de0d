//! How the generated log is written, and what is wrong with it.
//!
//! A real log is never clean, so this one has what they have: rows that were sent twice, rows that cannot be read, and a robot.

use std::io::{self, Write};

use super::catalogue::{Catalogue, item_id};
use super::dice::{Dice, Stream};
use super::visitors::{Event, Kind, PERSON_EVENTS_MAX, Visitor};
use super::{END_S, ShopOptions, WINDOW_DAYS};
use crate::calendar::Moment;
use crate::progress::Progress;

/// The columns. `value` is how many were bought, 1 for all else.
pub const HEADER: &str = "user_id,item_id,kind,value,occurred_at,session_id";
/// The robot among the visitors.
pub const ROBOT: &str = "visitor-robot";
/// Share of rows that were sent twice.
const TWICE: f64 = 0.002;
/// Share of rows before which one stands that cannot be read.
const BAD: f64 = 0.000_3;
/// Bounds on the views of the robot: more than a person has.
const ROBOT_VIEWS: (usize, usize) = (2 * PERSON_EVENTS_MAX, 5 * PERSON_EVENTS_MAX);

/// What is in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Rows but for the header, all told.
    pub rows: u64,
    /// What people did.
    pub interactions: u64,
    /// Rows that were sent twice.
    pub twice: u64,
    /// Rows that cannot be read.
    pub bad: u64,
    /// What the robot looked at.
    pub robot: u64,
}

/// Writes the log, visitor by visitor.
///
/// # Errors
/// Whatever the writer says.
pub fn write_log(
    catalogue: &Catalogue,
    options: &ShopOptions,
    out: &mut impl Write,
    progress: &Progress,
) -> io::Result<LogCounts> {
    let mut dirt = Dice::new(options.seed, Stream::Dirt);
    let mut counts = LogCounts::default();
    let mut events = Vec::new();
    writeln!(out, "{HEADER}")?;
    for number in 0..options.n_visitors {
        Visitor::new(number as u64, catalogue, options.seed).events(&mut events);
        let user = format!("visitor-{number:05}");
        for event in &events {
            if dirt.chance(BAD) {
                write_bad(&user, event, &mut dirt, out)?;
                counts.bad += 1;
            }
            write_row(&user, event, out)?;
            counts.interactions += 1;
            if dirt.chance(TWICE) {
                write_row(&user, event, out)?;
                counts.twice += 1;
            }
        }
        if number == options.n_visitors / 2 {
            counts.robot = write_robot(catalogue, options.n_visitors, out)?;
        }
        progress.inc(1);
    }
    counts.rows = counts.interactions + counts.twice + counts.bad + counts.robot;
    Ok(counts)
}

fn write_row(user: &str, event: &Event, out: &mut impl Write) -> io::Result<()> {
    let (item, kind, at) = (item_id(event.item), event.kind.name(), Moment(event.at_s).rfc3339());
    writeln!(out, "{user},{item},{kind},{},{at},{user}-{}", event.quantity, event.session)
}

/// A row that went wrong on its way: without an item, with a time that is none, or cut off.
fn write_bad(user: &str, event: &Event, dirt: &mut Dice, out: &mut impl Write) -> io::Result<()> {
    let (item, kind, at) = (item_id(event.item), event.kind.name(), Moment(event.at_s).rfc3339());
    match dirt.below(3) {
        0 => writeln!(out, "{user},,{kind},1,{at},{user}-{}", event.session),
        1 => writeln!(out, "{user},{item},{kind},1,yesterday,{user}-{}", event.session),
        _ => writeln!(out, "{user}"),
    }
}

/// A crawler: every item in turn, two seconds apart.
fn write_robot(catalogue: &Catalogue, n_visitors: usize, out: &mut impl Write) -> io::Result<u64> {
    let views = n_visitors.clamp(ROBOT_VIEWS.0, ROBOT_VIEWS.1) as u64;
    let begin = END_S - u64::from(WINDOW_DAYS) * 43_200;
    let items = (0..catalogue.len()).cycle();
    for (view, item) in (0..views).zip(items) {
        let event = Event { item, kind: Kind::View, quantity: 1, at_s: begin + 2 * view, session: 0 };
        write_row(ROBOT, &event, out)?;
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn every_row_but_the_bad_ones_names_what_there_is() {
        let options = ShopOptions { n_items: 300, n_visitors: 1_000, seed: 4 };
        let catalogue = Catalogue::new(options.n_items, options.seed);
        let mut text = Vec::new();
        let counts = write_log(&catalogue, &options, &mut text, &Progress::hidden()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let items: HashSet<String> = (0..300).filter_map(|n| catalogue.describe(n)).map(|item| item.id).collect();
        let kinds: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let mut times_written: HashMap<&str, u64> = HashMap::new();
        let (mut rows, mut bad, mut robot) = (0, 0, 0);
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            rows += 1;
            robot += u64::from(cells[0] == ROBOT);
            let whole = cells.len() == HEADER.split(',').count()
                && items.contains(cells[1])
                && kinds.contains(cells[2])
                && cells[4].starts_with("2026-");
            bad += u64::from(!whole);
            *times_written.entry(line).or_default() += 1;
        }
        assert_eq!((rows, bad, robot), (counts.rows, counts.bad, counts.robot));
        assert!(counts.bad > 0 && counts.bad * 500 < rows && counts.robot == 2_000, "{counts:?}");
        let twice: u64 = times_written.values().map(|times| times - 1).sum();
        assert!(twice >= counts.twice && counts.twice > 0 && twice * 50 < rows, "{twice} {counts:?}");
    }
}

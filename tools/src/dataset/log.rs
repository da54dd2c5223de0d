//! A log in memory: rows as they were read, in columns, each row checked as it comes.
//!
//! 22 bytes a row, and each distinct user and item identifier once; the log itself is never held as text.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use kindred::limits;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::columns::{Mapping, excerpt};
use super::interner::Interner;
use super::retain;
use super::time::{self, Time, TimeUnit};

/// Bad rows that are shown.
pub const EXAMPLES_MAX: usize = 10;
/// Distinct texts of a kind column that are told apart: a column with more is not one of kinds.
const KINDS_TOLD_APART: usize = 1_000;

/// One row as a reader hands it over. An empty field is a missing one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    /// Who.
    pub user: &'a [u8],
    /// With what.
    pub item: &'a [u8],
    /// When.
    pub time: RowTime<'a>,
    /// Did what.
    pub kind: &'a [u8],
    /// A factor on the weight.
    pub value: &'a [u8],
    /// A rating.
    pub rating: &'a [u8],
}

/// The time of a row.
#[derive(Clone, Copy, Debug, Default)]
pub enum RowTime<'a> {
    /// Not said.
    #[default]
    Missing,
    /// As text.
    Text(&'a [u8]),
    /// Known to be in milliseconds since 1970.
    Millis(i64),
}

/// What rows are worth, and which are not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct RowRules {
    /// Weight of each kind of interaction. Rows of other kinds are left out.
    pub kind_weights: BTreeMap<String, f32>,
    /// The kind of rows that name none; without it `rating` where there is a rating column, else `view`.
    pub default_kind: Option<String>,
    /// Least rating that counts as an interaction.
    pub min_rating: Option<f64>,
}

/// What became of the rows while they were read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// Rows read, good or bad.
    pub rows: u64,
    /// Rows that cannot be used, by reason.
    pub bad: BTreeMap<String, u64>,
    /// The first of them.
    pub bad_examples: Vec<BadRow>,
    /// Rows of kinds without a weight, by kind.
    pub unknown_kinds: BTreeMap<String, u64>,
    /// Rows that weigh nothing: the weight of their kind or their value is 0.
    pub weightless: u64,
    /// Rows with a rating below the least, or without one.
    pub below_min_rating: u64,
    /// Rows without a kind in a log that has a kind column; they got the default.
    pub filled_kind: u64,
    /// Rows without a value in a log that has a value column; they count 1.
    pub filled_value: u64,
    /// Rows without a time, which got that of the row before, or their place in the file where no row has a time.
    pub filled_time: u64,
    /// Rows whose number for a time looks like another unit than the others of its file, and was read in that of the others all the same.
    #[serde(default)]
    pub odd_times: u64,
    /// Rows with a line break in a field.
    #[serde(default)]
    pub several_lines: u64,
    /// Rows with more cells than the first line.
    #[serde(default)]
    pub longer: u64,
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// The line, or the row of a file without lines, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// The value at fault, shortened.
    pub found: String,
}

/// The rows that were taken.
#[derive(Debug, Default)]
pub struct Log {
    /// Users, by number.
    pub users: Interner,
    /// Items, by number.
    pub items: Interner,
    /// Kinds, by number.
    pub kinds: Vec<String>,
    /// The user of each row.
    pub user: Vec<u32>,
    /// The item of each row.
    pub item: Vec<u32>,
    /// The kind of each row.
    pub kind: Vec<u8>,
    /// The weight of each row.
    pub weight: Vec<f32>,
    /// The time of each row; milliseconds after [`Log::settle_times`].
    pub time: Vec<i64>,
    /// How each time is to be understood.
    stamp: Vec<Stamp>,
    /// What became of the rows.
    pub counts: ReadCounts,
    seen_kinds: HashMap<Box<[u8]>, SeenKind>,
    file: String,
    /// The row that each file begins with.
    starts: Vec<usize>,
    columns: Mapping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    Missing,
    Number,
    /// The bits of a number that is not whole.
    Fraction,
    Millis,
    Impossible,
}

#[derive(Clone, Copy, Debug)]
enum SeenKind {
    Known(u8, f32),
    Unknown,
}

/// The log does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the log has more than {limit} {what}: split it by time and prepare the newest part")]
pub struct TooMany {
    what: &'static str,
    limit: u64,
}

/// Why a row is bad, and the value that makes it so.
struct Fault<'a>(&'static str, &'a [u8]);

impl Log {
    /// Begins a file: its name for messages, and its columns.
    pub fn begin(&mut self, file: String, columns: Mapping) {
        (self.file, self.columns) = (file, columns);
        self.starts.push(self.user.len());
        // What a row without a kind is depends on the columns of its file.
        self.seen_kinds.clear();
    }

    /// Rows taken so far.
    pub fn len(&self) -> usize {
        self.user.len()
    }

    /// Whether no row was taken.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Takes a row, or counts why not.
    ///
    /// # Errors
    /// More rows, users or items than numbers.
    pub fn push(&mut self, line: u64, row: &Row<'_>, rules: &RowRules) -> Result<(), TooMany> {
        self.counts.rows += 1;
        match self.take(row, rules) {
            Ok(taken) => taken,
            Err(Fault(reason, found)) => {
                self.bad(line, reason, found);
                Ok(())
            }
        }
    }

    /// Counts a row that could not even be taken apart.
    pub fn push_bad(&mut self, line: u64, reason: &str, found: &[u8]) {
        self.counts.rows += 1;
        self.bad(line, reason, found);
    }

    fn bad(&mut self, line: u64, reason: &str, found: &[u8]) {
        match self.counts.bad.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.counts.bad.insert(reason.to_owned(), 1);
            }
        }
        if self.counts.bad_examples.len() < EXAMPLES_MAX {
            let (file, reason, found) = (self.file.clone(), reason.to_owned(), excerpt(found));
            self.counts.bad_examples.push(BadRow { file, line, reason, found });
        }
    }

    fn take<'a>(&mut self, row: &Row<'a>, rules: &RowRules) -> Result<Result<(), TooMany>, Fault<'a>> {
        let user = identifier(row.user, ["no user", "user longer than 256 bytes", "user is not UTF-8"])?;
        let item = identifier(row.item, ["no item", "item longer than 256 bytes", "item is not UTF-8"])?;
        let (time, stamp) = match row.time {
            RowTime::Millis(ms) => (ms, Stamp::Millis),
            RowTime::Text(text) if !is_missing(text) => match time::parse(text) {
                Some(Time::Number(number)) => (number, Stamp::Number),
                Some(Time::Fraction(number)) => (number.to_bits().cast_signed(), Stamp::Fraction),
                Some(Time::Millis(ms)) => (ms, Stamp::Millis),
                None => return Err(Fault("time is neither a number nor a date", text)),
            },
            RowTime::Missing | RowTime::Text(_) => (0, Stamp::Missing),
        };
        let value = number(row.value, "value is not a finite number")?;
        // Nothing else looks at it, so what is none costs no row.
        let rating = match rules.min_rating {
            Some(_) => number(row.rating, "rating is not a finite number")?,
            None => None,
        };
        if row.kind.len() > limits::KIND_BYTES_MAX {
            return Err(Fault("kind longer than 64 bytes", row.kind));
        }
        if rules.min_rating.is_some_and(|least| rating.is_none_or(|rating| rating < least)) {
            self.counts.below_min_rating += 1;
            return Ok(Ok(()));
        }
        let Some((kind, kind_weight)) = self.kind(row.kind, rules) else { return Ok(Ok(())) };
        let weight = (f64::from(kind_weight) * value.unwrap_or(1.0)) as f32;
        if !weight.is_finite() {
            return Err(Fault("value is not a finite number", row.value));
        }
        if weight == 0.0 {
            self.counts.weightless += 1;
            return Ok(Ok(()));
        }
        self.counts.filled_value += u64::from(self.columns.value.is_some() && value.is_none());
        self.counts.filled_time += u64::from(stamp == Stamp::Missing);
        let Some(user) = self.users.number(user) else { return Ok(Err(too_many("users"))) };
        let Some(item) = self.items.number(item) else { return Ok(Err(too_many("items"))) };
        if self.user.len() >= u32::MAX as usize {
            return Ok(Err(too_many("interactions")));
        }
        self.user.push(user);
        self.item.push(item);
        self.kind.push(kind);
        self.weight.push(weight);
        self.time.push(time);
        self.stamp.push(stamp);
        Ok(Ok(()))
    }

    /// The number and weight of a kind; none, and counted, if it has no weight.
    fn kind(&mut self, text: &[u8], rules: &RowRules) -> Option<(u8, f32)> {
        let text = if is_missing(text) { b"" } else { text };
        self.counts.filled_kind += u64::from(text.is_empty() && self.columns.kind.is_some());
        let seen = match self.seen_kinds.get(text) {
            Some(seen) => *seen,
            None => {
                let seen = self.new_kind(text, rules);
                if self.seen_kinds.len() < KINDS_TOLD_APART {
                    self.seen_kinds.insert(text.into(), seen);
                }
                seen
            }
        };
        match seen {
            SeenKind::Known(number, weight) => Some((number, weight)),
            SeenKind::Unknown => {
                let name = excerpt(text);
                let told_apart = self.counts.unknown_kinds.len() < KINDS_TOLD_APART;
                let name =
                    if told_apart || self.counts.unknown_kinds.contains_key(&name) { name } else { "…".into() };
                *self.counts.unknown_kinds.entry(name).or_default() += 1;
                None
            }
        }
    }

    fn new_kind(&mut self, text: &[u8], rules: &RowRules) -> SeenKind {
        let text = String::from_utf8_lossy(text);
        let name = match &rules.default_kind {
            _ if !text.is_empty() => usual_kind(&text, rules),
            Some(kind) => kind.clone(),
            None if self.columns.rating.is_some() => "rating".to_owned(),
            None => "view".to_owned(),
        };
        let Some(weight) = rules.kind_weights.get(&name) else { return SeenKind::Unknown };
        let number = self.kinds.iter().position(|kind| *kind == name).unwrap_or_else(|| {
            self.kinds.push(name);
            self.kinds.len() - 1
        });
        u8::try_from(number).map_or(SeenKind::Unknown, |number| SeenKind::Known(number, *weight))
    }

    /// Makes all times milliseconds, when every row has been read, and says for each file the unit that its numbers were taken to be in.
    ///
    /// The unit is the one that most numbers of the file look like, so that a single odd one does not decide. A row without a time gets
    /// the time of the row before it, and those before the first that has one get that. If no row has a time, the place in the log stands in for
    /// it, one second a row. Rows whose time is none are removed, and so are those without one where no row has one that is.
    pub fn settle_times(&mut self, given: Option<TimeUnit>) -> Vec<Option<TimeUnit>> {
        let mut starts = std::mem::take(&mut self.starts);
        if starts.is_empty() {
            starts.push(0);
        }
        let ends = starts.iter().skip(1).copied().chain([self.len()]);
        let units = starts.iter().zip(ends).map(|(start, end)| self.settle_unit(*start..end, given)).collect();
        let no_times = self.stamp.iter().all(|stamp| *stamp == Stamp::Missing);
        let mut rows = self.time.iter().zip(&self.stamp);
        let mut before = rows.find(|(_, stamp)| **stamp == Stamp::Millis).map(|(time, _)| *time);
        let mut keep = Vec::with_capacity(self.len());
        for (row, (time, stamp)) in self.time.iter_mut().zip(&self.stamp).enumerate() {
            let ms = match stamp {
                Stamp::Missing if no_times => Some(row as i64 * 1_000),
                Stamp::Missing => before,
                Stamp::Millis => Some(*time),
                _ => None,
            };
            if let Some(ms) = ms {
                *time = ms;
                before = Some(ms);
            }
            keep.push(ms.is_some());
        }
        self.keep(&keep);
        units
    }

    /// Makes the times of the rows of one file milliseconds, and says the unit of its numbers; none where it has no number.
    fn settle_unit(&mut self, rows: Range<usize>, given: Option<TimeUnit>) -> Option<TimeUnit> {
        let (times, stamps) = (&mut self.time[rows.clone()], &mut self.stamp[rows]);
        let mut votes = TimeUnit::ALL.map(|unit| (0_u64, unit));
        for (time, stamp) in times.iter().zip(stamps.iter()) {
            let Some(told) = looks_like(*stamp, *time) else { continue };
            votes.iter_mut().filter(|(_, unit)| *unit == told).for_each(|(votes, _)| *votes += 1);
        }
        let told = votes.iter().max_by_key(|(votes, _)| *votes).filter(|(votes, _)| *votes > 0).map(|(_, unit)| *unit);
        let unit = given.or(told).unwrap_or(TimeUnit::Seconds);
        for (time, stamp) in times.iter_mut().zip(stamps) {
            let is_odd = given.is_none() && looks_like(*stamp, *time).is_some_and(|told| told != unit);
            let ms = match stamp {
                Stamp::Number => unit.millis(*time),
                Stamp::Fraction => unit.fraction_millis(fraction(*time)),
                Stamp::Millis => TimeUnit::Milliseconds.millis(*time),
                Stamp::Missing | Stamp::Impossible => continue,
            };
            self.counts.odd_times += u64::from(is_odd && ms.is_some());
            (*time, *stamp) = ms.map_or((0, Stamp::Impossible), |ms| (ms, Stamp::Millis));
        }
        told.is_some().then_some(unit)
    }

    /// For each user, by number, a second after the latest of their times that are milliseconds already; 0 where there is none.
    pub fn next_times(&self) -> Vec<i64> {
        let mut next: Vec<i64> = Vec::new();
        let rows = self.user.iter().zip(&self.time).zip(&self.stamp);
        for ((user, time), _) in rows.filter(|(_, stamp)| **stamp == Stamp::Millis) {
            let user = *user as usize;
            next.resize(next.len().max(user + 1), 0);
            next[user] = next[user].max(time.saturating_add(1_000));
        }
        next
    }

    /// Removes the rows, all but those to keep, whose time is none.
    fn keep(&mut self, keep: &[bool]) {
        let n_removed = keep.iter().filter(|keep| !**keep).count() as u64;
        if n_removed == 0 {
            return;
        }
        let reason = "time is not between the years 1 and 9999 in the unit of the others".to_owned();
        *self.counts.bad.entry(reason).or_default() += n_removed;
        retain(&mut self.user, keep);
        retain(&mut self.item, keep);
        retain(&mut self.kind, keep);
        retain(&mut self.weight, keep);
        retain(&mut self.time, keep);
        retain(&mut self.stamp, keep);
    }
}

impl ReadCounts {
    /// Rows that cannot be used.
    pub fn n_bad(&self) -> u64 {
        self.bad.values().sum()
    }
}

/// The unit that a number of a time column looks like; none where it is no number.
fn looks_like(stamp: Stamp, time: i64) -> Option<TimeUnit> {
    match stamp {
        Stamp::Number => Some(TimeUnit::told_by(time)),
        Stamp::Fraction => Some(TimeUnit::told_by_fraction(fraction(time))),
        Stamp::Missing | Stamp::Millis | Stamp::Impossible => None,
    }
}

/// The number that is not whole, of its bits.
fn fraction(time: i64) -> f64 {
    f64::from_bits(time.cast_unsigned())
}

fn too_many(what: &'static str) -> TooMany {
    TooMany { what, limit: u64::from(u32::MAX) - 1 }
}

fn identifier<'a>(bytes: &'a [u8], [none, long, strange]: [&'static str; 3]) -> Result<&'a str, Fault<'a>> {
    // Nothing but spaces is no name; about one they are a part of it, as for a server, where a reader has left them.
    if bytes.trim_ascii().is_empty() {
        return Err(Fault(none, bytes));
    }
    if bytes.len() > limits::KEY_BYTES_MAX {
        return Err(Fault(long, bytes));
    }
    std::str::from_utf8(bytes).map_err(|_| Fault(strange, bytes))
}

fn number<'a>(bytes: &'a [u8], reason: &'static str) -> Result<Option<f64>, Fault<'a>> {
    if is_missing(bytes) {
        return Ok(None);
    }
    let number = std::str::from_utf8(bytes.trim_ascii()).ok().and_then(|text| text.parse().ok());
    number.filter(|number: &f64| number.is_finite()).map(Some).ok_or(Fault(reason, bytes))
}

/// Whether a field says that there is nothing in it, as databases, pandas and spreadsheets write it.
pub fn is_missing(bytes: &[u8]) -> bool {
    let nothing: [&[u8]; 13] =
        [b"", b"null", b"NULL", b"None", b"NaN", b"nan", b"NaT", b"NA", b"<NA>", b"N/A", b"n/a", b"#N/A", b"\\N"];
    nothing.contains(&bytes.trim_ascii())
}

/// The name that a kind goes by in Kindred: the text itself where it has a weight, else what it usually means.
fn usual_kind(text: &str, rules: &RowRules) -> String {
    let text = text.trim();
    if rules.kind_weights.contains_key(text) {
        return text.to_owned();
    }
    let lower = text.to_lowercase().replace([' ', '-'], "_");
    let usual = match lower.as_str() {
        own if rules.kind_weights.contains_key(own) => own,
        "click" | "clicks" | "pv" | "page_view" | "pageview" | "product_view" | "detail_view" | "viewed" => "view",
        "addtocart" | "add_to_cart" | "add" | "basket" | "add_to_basket" => "cart",
        "transaction" | "buy" | "bought" | "order" | "purchased" => "purchase",
        "fav" | "favorite" | "favourite" | "wishlist" | "liked" => "like",
        "rate" | "rated" => "rating",
        other => other,
    };
    usual.to_owned()
}

#[cfg(test)]
mod tests;

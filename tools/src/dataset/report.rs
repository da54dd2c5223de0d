//! What `kindred prepare` found, kept and dropped: `report.json` of a dataset, and its text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use kindred::timestamp::Timestamp;
use kindred::user_vector::NOT_INTERESTED;
use serde::{Deserialize, Serialize};

use super::clean::{CleanOptions, Cleaned};
use super::item_table::ItemTableReport;
use super::log::ReadCounts;
use super::read::SourceReport;
use super::split::Split;
use super::time::TimeUnit;
use crate::report::count;

/// What a dataset is and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetReport {
    /// Version of the directory's layout.
    pub format_version: u32,
    /// Users; the numbers in the user column are below this.
    pub n_users: u64,
    /// Items of the catalogue; the numbers in the item column are below this.
    pub n_items: u64,
    /// Items of the catalogue without any interaction.
    pub n_items_without_interactions: u64,
    /// Items whose identifiers are whole numbers with a point, as 17.0 is, where all are.
    #[serde(default)]
    pub items_with_point: u64,
    /// Interactions of the training part.
    pub n_train: u64,
    /// Interactions of the test part.
    pub n_test: u64,
    /// Kinds of interaction, in the order of the kind column.
    pub kinds: Vec<String>,
    /// Interactions of each kind.
    pub kind_counts: BTreeMap<String, u64>,
    /// What an interaction of each kind weighs, those among them that the log does not have.
    pub kind_weights: BTreeMap<String, f32>,
    /// Time of the first interaction.
    pub first_ms: i64,
    /// Time of the last interaction.
    pub last_ms: i64,
    /// Interactions more than a day later than the clock said when this was made.
    #[serde(default)]
    pub in_future: u64,
    /// What numbers of the time column were taken to count; none where there were none, or where the files differ.
    pub time_unit: Option<TimeUnit>,
    /// What is held out.
    pub split: Split,
    /// The files of the log.
    pub sources: Vec<SourceReport>,
    /// What became of the rows while they were read.
    pub read: ReadCounts,
    /// What was asked to be dropped.
    pub clean: CleanOptions,
    /// What was dropped.
    pub cleaned: Cleaned,
    /// The item table, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_table: Option<ItemTableReport>,
    /// A hash of the content: the same interactions and items give the same one, whatever files they came in.
    pub fingerprint: String,
    /// Version of the program that wrote it.
    pub tool_version: String,
}

impl DatasetReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for source in &self.sources {
            let _ = writeln!(text, "read {}: {} rows{}", source.path.display(), count(source.rows), columns(source));
        }
        for (n, reason) in self.dropped() {
            let _ = writeln!(text, "dropped: {} {reason}", count(n));
        }
        text.push_str(&examples(&self.read));
        for (n, what) in self.filled() {
            let _ = writeln!(text, "filled: {} {what}", count(n));
        }
        for (n, what) in self.doubtful() {
            let _ = writeln!(text, "doubtful: {} {what}", count(n));
        }
        if let Some(table) = &self.item_table {
            text.push_str(&table.text());
        }
        let kinds: Vec<String> =
            self.kind_counts.iter().map(|(kind, n)| format!("{} {kind} × {}", count(*n), self.weight(kind))).collect();
        let _ = writeln!(
            text,
            "kept: {} interactions of {} users with {} items ({})",
            count(self.n_train + self.n_test),
            count(self.n_users),
            count(self.n_items - self.n_items_without_interactions),
            kinds.join(", ")
        );
        if self.n_items_without_interactions > 0 {
            let _ = writeln!(text, "items without interactions: {}", count(self.n_items_without_interactions));
        }
        let _ = writeln!(text, "time: {} to {}", Timestamp(self.first_ms), Timestamp(self.last_ms));
        let _ = writeln!(
            text,
            "held out: {}: {} interactions to test on, {} to train on",
            self.split,
            count(self.n_test),
            count(self.n_train)
        );
        let _ = writeln!(text, "fingerprint: {}", self.fingerprint);
        text
    }

    fn weight(&self, kind: &str) -> f32 {
        self.kind_weights.get(kind).copied().unwrap_or_default()
    }

    /// Everything that was dropped, with the reason.
    fn dropped(&self) -> Vec<(u64, String)> {
        let c = &self.cleaned;
        let mut dropped = reasons(&self.read);
        dropped.push((c.duplicates, "exact repetitions".to_owned()));
        let most = self.clean.max_user_interactions;
        dropped.push((
            c.busy_user_interactions,
            format!("interactions of {} users with more than {most} (--max-user-interactions)", count(c.busy_users)),
        ));
        dropped.push((
            c.rare_interactions,
            format!(
                "interactions, with {} users and {} items below --min-user {} or --min-item {}",
                count(c.rare_users),
                count(c.rare_items),
                self.clean.min_user,
                self.clean.min_item
            ),
        ));
        dropped.retain(|(n, _)| *n > 0);
        dropped
    }

    fn filled(&self) -> Vec<(u64, &'static str)> {
        let mut filled = vec![
            (self.read.filled_kind, "rows without a kind got the default one"),
            (self.read.filled_value, "rows without a value count 1"),
            (
                self.read.filled_time,
                "rows without a time got that of the row before, or where no row has one their place in the log in seconds",
            ),
        ];
        filled.retain(|(n, _)| *n > 0);
        filled
    }

    /// What was taken as it stood and may not be what was meant.
    fn doubtful(&self) -> Vec<(u64, &'static str)> {
        let mut doubtful = vec![
            (
                self.read.several_lines,
                "rows go over several lines: where none should, a closing quote is missing, and the rows in between are lost",
            ),
            (
                self.read.longer,
                "rows have more cells than the first line, and lost them: does a separator stand in a value without quotes?",
            ),
            (
                self.in_future,
                "interactions are of the future, by the clock here: --train-half-life-days and --split sessions count from the newest",
            ),
            (
                self.read.odd_times,
                "rows have a number for a time that looks like another unit than the others of their file, and was read in theirs",
            ),
            (
                self.items_with_point,
                "items, all there are, are written as 17.0 is, and requests have to name them so: write whole numbers into the log",
            ),
        ];
        doubtful.retain(|(n, _)| *n > 0);
        doubtful
    }
}

/// Why rows were dropped while they were read, with a remedy where there is one.
pub fn reasons(read: &ReadCounts) -> Vec<(u64, String)> {
    let mut reasons: Vec<(u64, String)> =
        read.bad.iter().map(|(reason, n)| (*n, format!("bad rows: {reason}"))).collect();
    let mut unknown: Vec<(&String, &u64)> = read.unknown_kinds.iter().collect();
    // The most frequent first; those beyond what is told apart have no name of their own.
    unknown.sort_by_key(|(kind, n)| (kind.as_str() == "…", std::cmp::Reverse(**n)));
    reasons.extend(unknown.iter().take(10).map(|(kind, n)| {
        // What people turned down is nothing to recommend.
        let weight = if matches!(kind.as_str(), NOT_INTERESTED | "dislike") { -1 } else { 1 };
        (**n, format!("rows of kind {kind:?}, which has no weight (--kind-weights {kind}={weight} takes them)"))
    }));
    let more: u64 = unknown.iter().skip(10).map(|(_, n)| **n).sum();
    reasons.push((more, "rows of further kinds without a weight".to_owned()));
    reasons.push((read.weightless, "rows that weigh 0".to_owned()));
    reasons.push((read.below_min_rating, "rows with a rating below --min-rating, or without one".to_owned()));
    reasons.retain(|(n, _)| *n > 0);
    reasons
}

/// The bad rows that are shown, a line each.
pub fn examples(read: &ReadCounts) -> String {
    let mut text = String::new();
    for bad in &read.bad_examples {
        let _ = writeln!(text, "  {}, line {}: {}: {:?}", bad.file, bad.line, bad.reason, bad.found);
    }
    let more = read.n_bad().saturating_sub(read.bad_examples.len() as u64);
    if more > 0 && !text.is_empty() {
        let _ = writeln!(text, "  and {} more", count(more));
    }
    text
}

fn columns(source: &SourceReport) -> String {
    let Some(columns) = &source.columns else { return String::new() };
    let optional =
        [("time", &columns.time), ("kind", &columns.kind), ("value", &columns.value), ("rating", &columns.rating)];
    let mut text = format!(" (user: {}, item: {}", columns.user, columns.item);
    for (role, name) in optional {
        if let Some(name) = name {
            let _ = write!(text, ", {role}: {name}");
        }
    }
    if let Some(unit) = source.time_unit {
        let _ = write!(text, ", times in {unit}");
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_that_most_rows_have_are_named() {
        let mut unknown_kinds: BTreeMap<String, u64> = (0..12).map(|n| (format!("k{n:02}"), n + 1)).collect();
        unknown_kinds.insert("…".to_owned(), 100);
        let told = reasons(&ReadCounts { unknown_kinds, ..ReadCounts::default() });
        assert!(told[0].1.contains("\"k11\"") && told[9].1.contains("\"k02\""), "{told:?}");
        assert_eq!((told.len(), told[10].0), (11, 1 + 2 + 100));
    }

    #[test]
    fn what_people_turned_down_is_not_to_be_taken_as_liked() {
        let unknown_kinds = BTreeMap::from(["hum", NOT_INTERESTED].map(|kind| (kind.to_owned(), 5)));
        let told = reasons(&ReadCounts { unknown_kinds, ..ReadCounts::default() });
        assert!(told[0].1.contains("hum=1 ") && told[1].1.contains("not_interested=-1 "), "{told:?}");
    }
}

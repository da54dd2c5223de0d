//! What a sub-command found: one struct, printed as text or as JSON. The only place of this crate that prints.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// A result that a person and a program can read.
pub trait Report: Serialize {
    /// The result as text, ending in a line break. Tables come from [`Table`].
    fn text(&self) -> String;
}

/// Prints a report to stdout: its text, or with `json` one line of JSON. A reader that has gone away has seen enough: that is no error, the rest of the
/// work is done, and what was found still decides the exit code.
///
/// # Errors
/// stdout cannot be written.
pub fn emit(report: &impl Report, json: bool) -> anyhow::Result<()> {
    let mut text = if json { serde_json::to_string(report)? } else { report.text() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints a line for the person who waits, to stderr, where it does not mix with results. Says nothing under `--quiet`.
pub fn note(line: &str) {
    if !crate::progress::is_silent() {
        // Nobody is left to tell that stderr cannot be written.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// Prints an error and its causes to stderr on one line.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr().lock(), "Error: {error:#}");
}

/// Whether both ends of a conversation are a person's: stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A table in aligned columns: the first is text on the left, the others are numbers and set to the right unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    left: Vec<usize>,
}

impl Table {
    /// A table with these column heads.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new(), left: vec![0] }
    }

    /// Sets one more column, counted from 0, to the left.
    #[must_use]
    pub fn left(mut self, column: usize) -> Self {
        self.left.push(column);
        self
    }

    /// Adds a row. Missing cells are left empty, surplus ones dropped.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).take(self.head.len()).collect());
    }

    /// The table as text, each line indented by two spaces and ending in a line break.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let lines = std::iter::once(&self.head).chain(&self.rows);
            lines.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::from(" ");
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.push_str(if column == 0 { " " } else { "  " });
                line.extend(if self.left.contains(&column) { [cell, &gap] } else { [&gap, cell] });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The table as HTML; every cell is escaped.
    pub fn html(&self) -> String {
        let line = |cells: &[String], tag: &str| {
            let cell = |(column, cell): (usize, &String)| {
                let class = if self.left.contains(&column) { " class=\"left\"" } else { "" };
                format!("<{tag}{class}>{}</{tag}>", crate::svg::escaped(cell))
            };
            format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
        };
        let rows: String = self.rows.iter().map(|row| line(row, "td")).collect();
        format!("<table>\n{}{rows}</table>\n", line(&self.head, "th"))
    }
}

/// What a measurement is to hold, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// What was found, and what is wanted.
    pub bar: String,
    /// Whether it is so.
    pub held: bool,
}

impl Bar {
    /// A bar that is held or not.
    pub fn new(bar: String, held: bool) -> Self {
        Self { bar, held }
    }

    /// As a line of text.
    pub fn line(&self) -> String {
        format!("{} {}\n", if self.held { "held:  " } else { "MISSED:" }, self.bar)
    }
}

/// What of earlier builds could not be removed, a line each.
pub fn leftovers(not_removed: &[String]) -> String {
    let line = |left: &String| format!("Of an earlier build, and could not be removed; remove it by hand: {left}\n");
    not_removed.iter().map(line).collect()
}

/// A number of bytes in the unit a person would choose: `3.4 MB` is 3,400,000 bytes.
pub fn bytes(n: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units.get(unit).copied().unwrap_or("TB"))
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time in the unit a person would choose: `350 µs`, `12.3 ms`, `4.56 s`, `3 min 5 s`.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.2} s"),
        s => format!("{} min {} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

/// A share as a percentage: `0.1234` is `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(999), bytes(3_400_000), bytes(999_960)], ["999 B", "3.4 MB", "1.0 MB"]);
        assert_eq!(
            [seconds(0.00035), seconds(0.0123), seconds(4.56), seconds(185.0)],
            ["350 µs", "12.3 ms", "4.56 s", "3 min 5 s"]
        );
        assert_eq!(percent(0.1234), "12.3 %");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["section", "bytes", "file"]).left(2);
        table.row(["vectors", "1,024", "a"]);
        table.row(["links", "7", "bc"]);
        assert_eq!(table.text(), "  section  bytes  file\n  vectors  1,024  a\n  links        7  bc\n");
        table.row(["<b>", "1", "d"]);
        assert!(
            table.html().contains("<td class=\"left\">&lt;b&gt;</td><td>1</td><td class=\"left\">d</td>"),
            "{}",
            table.html()
        );
    }
}

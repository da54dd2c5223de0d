//! Rows with something between their fields: CSV and its relatives, and lines of sequences.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use super::columns::Mapping;
use super::error::PrepareError;
use super::log::{Row, RowTime, is_missing};
use super::read::{ROWS_A_STEP, Reading};
use super::source::{Format, LINE_BYTES_MAX, Source, next_line};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 18;
/// Most line breaks in a row: a text with more is the rest of a file, after a quote that is not closed.
const ROW_BREAKS_MAX: u64 = 10_000;

/// The records of a file, none of them longer than a line may be.
pub(super) struct Records {
    reader: csv::Reader<Bounded>,
    record: csv::ByteRecord,
    path: PathBuf,
    /// Whether lines end with two bytes.
    crlf: bool,
}

/// Ends where a record does not: after a stray quote all the rest of the file would be read into memory as one field.
struct Bounded {
    inner: Box<dyn BufRead>,
    /// Bytes that may still be read before the record has to end.
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(n)
    }
}

impl Records {
    /// Takes the reader of a source; with `quoting` a field may stand in quotation marks.
    pub(super) fn of(source: &mut Source, separator: u8, quoting: bool) -> Self {
        let inner = std::mem::replace(&mut source.reader, Box::new(io::empty()));
        let reader = builder(separator).quoting(quoting).from_reader(Bounded { inner, left: 0 });
        let end = source.head.iter().position(|byte| *byte == b'\n').unwrap_or_default();
        let crlf = source.head.get(..end).is_some_and(|line| line.ends_with(b"\r"));
        Self { reader, record: csv::ByteRecord::new(), path: source.path.clone(), crlf }
    }

    /// The next record and the line on which it begins; none at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read or is not CSV, or the record does not end.
    pub(super) fn next_record(&mut self) -> Result<Option<(u64, &csv::ByteRecord)>, PrepareError> {
        // What has been read ahead may belong to the records after this one.
        self.reader.get_mut().left = LINE_BYTES_MAX + BUFFER_BYTES as u64;
        let more = self.reader.read_byte_record(&mut self.record);
        // The second byte of a line break is read with the record after it.
        let least = |at: &csv::Position| at.line() + u64::from(self.crlf && at.byte() > 0);
        let least = self.record.position().map_or(0, least);
        let more = more.map_err(|error| self.error(error.into_kind(), least))?;
        let breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let line = self.line(breaks, least);
        if breaks > ROW_BREAKS_MAX {
            let most = format!("{ROW_BREAKS_MAX} lines");
            return Err(PrepareError::Quote { path: self.path.clone(), line, most });
        }
        Ok(more.then_some((line, &self.record)))
    }

    /// The line on which the record that was read begins, counted back from where it ends: empty lines before it were read with it.
    fn line(&self, breaks: u64, least: u64) -> u64 {
        let end = self.reader.position().line();
        end.saturating_sub(breaks + u64::from(!self.crlf)).max(least)
    }

    /// What an error says of the file.
    fn error(&self, kind: csv::ErrorKind, line: u64) -> PrepareError {
        let path = self.path.clone();
        match kind {
            csv::ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                PrepareError::Quote { path, line, most: format!("{LINE_BYTES_MAX} bytes") }
            }
            csv::ErrorKind::Io(source) => PrepareError::Read { path, source },
            kind => PrepareError::Csv { path, source: csv::Error::from(io::Error::other(format!("{kind:?}"))) },
        }
    }
}

/// The cells of the first line.
pub(super) fn first_cells(source: &Source, form: Format) -> Vec<String> {
    let text = |cell: &[u8]| String::from_utf8_lossy(cell).trim().to_owned();
    match separator(form) {
        Some(separator) => {
            let mut record = csv::ByteRecord::new();
            // A head that is not CSV has no cells, and the reader says why.
            let _ = builder(separator).from_reader(source.head.as_slice()).read_byte_record(&mut record);
            record.iter().map(text).collect()
        }
        None => source.head_lines().next().map(|line| double_colons(line).map(text).collect()).unwrap_or_default(),
    }
}

/// Reads rows of fields into the log, without the first line if that is a header.
///
/// # Errors
/// The file cannot be read or is not CSV, or there is more than a log can hold.
pub(super) fn read(
    source: Source,
    form: Format,
    skip_first: bool,
    mapping: &Mapping,
    reading: Reading<'_>,
) -> Result<(), PrepareError> {
    match separator(form) {
        Some(separator) => separated(source, separator, skip_first, mapping, reading),
        None => double_colon_lines(source, skip_first, mapping, reading),
    }
}

fn separated(
    mut source: Source,
    separator: u8,
    skip_first: bool,
    mapping: &Mapping,
    Reading { log, rules, progress }: Reading<'_>,
) -> Result<(), PrepareError> {
    let mut records = Records::of(&mut source, separator, true);
    let (mut n, mut width) = (0_u64, 0);
    while let Some((line, record)) = records.next_record()? {
        n += 1;
        if n.is_multiple_of(ROWS_A_STEP) {
            progress.set(source.done());
        }
        if n == 1 {
            width = record.len();
            if skip_first {
                continue;
            }
        }
        let is_longer = record.len() > width && record.iter().skip(width).any(|cell| !cell.trim_ascii().is_empty());
        log.counts.longer += u64::from(is_longer);
        log.counts.several_lines += u64::from(record.as_slice().contains(&b'\n'));
        if record.len() < mapping.width_least() {
            log.push_bad(line, "too few columns", record.as_slice());
        } else {
            log.push(line, &row(mapping, |at| record.get(at)), rules)?;
        }
    }
    Ok(())
}

fn double_colon_lines(
    mut source: Source,
    skip_first: bool,
    mapping: &Mapping,
    Reading { log, rules, progress }: Reading<'_>,
) -> Result<(), PrepareError> {
    let mut text = Vec::new();
    let mut line = 0_u64;
    while next_line(&mut source.reader, &mut text, &source.path)? {
        line += 1;
        if line.is_multiple_of(ROWS_A_STEP) {
            progress.set(source.done());
        }
        if text.is_empty() || (line == 1 && skip_first) {
            continue;
        }
        let cells: Vec<&[u8]> = double_colons(&text).collect();
        if cells.len() < mapping.width_least() {
            log.push_bad(line, "too few columns", &text);
        } else {
            log.push(line, &row(mapping, |at| cells.get(at).copied()), rules)?;
        }
    }
    Ok(())
}

/// Reads lines of a user and their items, oldest first. The place in all lines of the user, from 0, is the time in seconds.
///
/// # Errors
/// The file cannot be read, or there is more than a log can hold.
pub(super) fn sequences(mut source: Source, Reading { log, rules, progress }: Reading<'_>) -> Result<(), PrepareError> {
    // When the next item of each user comes, by the number of the user: after what other files have of them too.
    let mut next = log.next_times();
    let mut text = Vec::new();
    let mut line = 0;
    while next_line(&mut source.reader, &mut text, &source.path)? {
        line += 1;
        progress.set(source.done());
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(user) = words.next().map(identifier) else { continue };
        let mut items = words.map(identifier).peekable();
        if items.peek().is_none() {
            log.push_bad(line, "a user without items", &text);
        }
        let (from, mut ms) = (log.len(), 0);
        for item in items {
            log.push(line, &Row { user, item, time: RowTime::Millis(ms), ..Row::default() }, rules)?;
            ms += 1_000;
        }
        let Some(user) = log.user.get(from).map(|user| *user as usize) else { continue };
        next.resize(next.len().max(user + 1), 0);
        log.time[from..].iter_mut().for_each(|time| *time += next[user]);
        next[user] += ms;
    }
    Ok(())
}

fn row<'a>(mapping: &Mapping, cell: impl Fn(usize) -> Option<&'a [u8]>) -> Row<'a> {
    let present = |at: usize| cell(at).map(identifier).unwrap_or_default();
    let optional = |at: Option<usize>| at.and_then(&cell).unwrap_or_default();
    Row {
        user: present(mapping.user),
        item: present(mapping.item),
        time: mapping.time.and_then(&cell).map_or(RowTime::Missing, RowTime::Text),
        kind: optional(mapping.kind),
        value: optional(mapping.value),
        rating: optional(mapping.rating),
    }
}

/// A user or an item without the spaces about it. Where everything is text, a word says that there is nothing: all of whom nothing is known would be
/// one user.
fn identifier(text: &[u8]) -> &[u8] {
    if is_missing(text) { b"" } else { text.trim_ascii() }
}

/// The one byte between fields; none for two.
pub(super) fn separator(form: Format) -> Option<u8> {
    match form {
        Format::Tsv => Some(b'\t'),
        Format::Semicolons => Some(b';'),
        Format::Bars => Some(b'|'),
        Format::DoubleColons => None,
        _ => Some(b','),
    }
}

/// A reader that takes the first line as it takes any other, and rows of any length.
fn builder(separator: u8) -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(separator).buffer_capacity(BUFFER_BYTES);
    builder
}

/// The fields of a line with `::` between them.
pub(super) fn double_colons(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        match line.windows(2).position(|two| two == b"::") {
            Some(at) => {
                rest = line.get(at + 2..);
                line.get(..at)
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_colons_part_and_one_does_not() {
        let cells: Vec<&[u8]> = double_colons(b"1::Alien: 3::::x").collect();
        assert_eq!(cells, [b"1".as_slice(), b"Alien: 3", b"", b"x"]);
        assert_eq!(double_colons(b"").count(), 1);
    }

    #[test]
    fn a_word_for_nothing_is_no_user_and_no_item() {
        let mapping = Mapping { user: 0, item: 1, ..Mapping::default() };
        for (cells, wanted) in
            [(["\\N", "a"], ["", "a"]), ([" NULL ", "<NA>"], ["", ""]), ([" u", "nullable "], ["u", "nullable"])]
        {
            let row = row(&mapping, |at| cells.get(at).map(|cell| cell.as_bytes()));
            assert_eq!([row.user, row.item], wanted.map(str::as_bytes));
        }
    }

    #[test]
    fn a_row_is_told_by_the_line_that_it_begins_on() {
        let lines = |text: &str| {
            let mut source = Source {
                path: PathBuf::from("log.csv"),
                format: Format::Csv,
                head: text.as_bytes().to_vec(),
                reader: Box::new(io::Cursor::new(text.as_bytes().to_vec())),
                done: Default::default(),
                size: 0,
            };
            let mut records = Records::of(&mut source, b',', true);
            let mut lines = Vec::new();
            while let Some((line, _)) = records.next_record().unwrap() {
                lines.push(line);
            }
            lines
        };
        for text in ["user,item\n1,2\n\n3,\"4\n5\"\n6,7", "user,item\n1,2\n\n3,\"4\n5\"\n6,7\n"] {
            assert_eq!(lines(text), [1, 2, 4, 6]);
            assert_eq!(lines(&text.replace('\n', "\r\n")), [1, 2, 4, 6]);
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_and_not_read_to_the_end() {
        let begin = || io::Cursor::new(b"user,item\n1,\"2".to_vec());
        let rest_of_a_small_file = io::Cursor::new("\n3,4".repeat(10_001).into_bytes());
        let readers: [Box<dyn Read>; 2] =
            [Box::new(begin().chain(io::repeat(b'x'))), Box::new(begin().chain(rest_of_a_small_file))];
        for (reader, most) in readers.into_iter().zip(["16777216 bytes", "10000 lines"]) {
            let mut source = Source {
                path: PathBuf::from("log.csv"),
                format: Format::Csv,
                head: Vec::new(),
                reader: Box::new(io::BufReader::new(reader)),
                done: Default::default(),
                size: 0,
            };
            let mut records = Records::of(&mut source, b',', true);
            assert_eq!(records.next_record().unwrap().map(|(line, record)| (line, record.len())), Some((1, 2)));
            let error = records.next_record().unwrap_err().to_string();
            assert!(error.contains("log.csv, line 2") && error.contains("closing quote"), "{error}");
            assert!(error.contains(most), "{error}");
        }
    }
}

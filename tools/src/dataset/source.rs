//! A file of a log or of a table: opened, unpacked, and its form told by its name and its first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::error::PrepareError;

/// What is looked at before the form is decided; all of the first row, where that is longer.
const HEAD_BYTES: u64 = 64 * 1024;
/// Longest line that is read: a longer one is not a line of a log.
pub const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const PARQUET: &[u8] = b"PAR1";
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Fields with commas between them, quoted where needed.
    Csv,
    /// Fields with tabs between them.
    Tsv,
    /// Fields with semicolons between them.
    #[value(skip)]
    Semicolons,
    /// Fields with vertical bars between them.
    #[value(skip)]
    Bars,
    /// Fields with `::` between them, as MovieLens has them.
    #[value(skip)]
    DoubleColons,
    /// A user and their items, oldest first, with spaces between them.
    #[value(skip)]
    Sequences,
    /// A JSON object a line.
    #[value(alias = "jsonl", alias = "ndjson")]
    JsonLines,
    /// Parquet.
    Parquet,
}

/// An opened file.
pub struct Source {
    /// Its path.
    pub path: PathBuf,
    /// How its rows stand in it, as far as its bytes tell.
    pub format: Format,
    /// Its first bytes, unpacked, up to a line break if there is one.
    pub head: Vec<u8>,
    /// All of it, unpacked.
    pub reader: Box<dyn BufRead>,
    /// Bytes of the file on disk that were read so far.
    pub done: Arc<AtomicU64>,
    /// Bytes of the file on disk.
    pub size: u64,
}

struct Counted<R> {
    inner: R,
    done: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Source {
    /// Opens a file and looks at its first bytes.
    ///
    /// # Errors
    /// It cannot be read, is empty, is neither text nor Parquet, or is one JSON array.
    pub fn open(path: &Path) -> Result<Self, PrepareError> {
        let fail = |source| PrepareError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        let done = Arc::new(AtomicU64::new(0));
        let mut packed = BufReader::with_capacity(1 << 18, Counted { inner: file, done: done.clone() });
        let magic = packed.fill_buf().map_err(fail)?.to_vec();
        let mut reader: Box<dyn BufRead> = if magic.starts_with(GZIP) {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(packed)))
        } else {
            Box::new(packed)
        };
        let mut head = Vec::new();
        reader.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(fail)?;
        if head.starts_with(BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        if head.trim_ascii().is_empty() {
            return Err(PrepareError::Empty { path: path.to_owned() });
        }
        // A first row that the head cuts off would not say what its fields are.
        if !head.starts_with(PARQUET) && !head.trim_ascii_start().contains(&b'\n') {
            reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut head).map_err(fail)?;
        }
        let reader = Box::new(Cursor::new(head.clone()).chain(reader));
        // A line that the head cuts off tells nothing that can be relied on.
        if head.len() as u64 >= HEAD_BYTES - BYTE_ORDER_MARK.len() as u64
            && let Some(end) = head.iter().rposition(|byte| *byte == b'\n')
        {
            head.truncate(end + 1);
        }
        let format = if head.starts_with(PARQUET) && !magic.starts_with(GZIP) {
            Format::Parquet
        } else if head.contains(&0) {
            return Err(PrepareError::Binary { path: path.to_owned() });
        } else if is_json_array(&head) {
            return Err(PrepareError::JsonArray { path: path.to_owned() });
        } else {
            of_text(&head)
        };
        Ok(Self { path: path.to_owned(), format, head, reader, done, size })
    }

    /// The lines of its head.
    pub fn head_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end()).filter(|line| !line.is_empty())
    }

    /// Its name without directories and without `.gz`.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_suffix(".gz").map(str::to_owned).unwrap_or(name)
    }

    /// Bytes of the file on disk that were read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Reads the next line into `line`, without its end. False at the end of the file.
///
/// # Errors
/// The file cannot be read, or the line is longer than a line can be.
pub fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, path: &Path) -> Result<bool, PrepareError> {
    line.clear();
    let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', line);
    let n = read.map_err(|source| PrepareError::Read { path: path.to_owned(), source })? as u64;
    if n == LINE_BYTES_MAX {
        return Err(PrepareError::Line { path: path.to_owned(), most: LINE_BYTES_MAX });
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(n > 0)
}

/// Whether a text is an array of objects: they may stand on any number of lines.
fn is_json_array(head: &[u8]) -> bool {
    head.trim_ascii_start().strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"))
}

/// Told by the first line: an object, or the separator that stands in it most often.
fn of_text(head: &[u8]) -> Format {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.starts_with(b"{") {
        return Format::JsonLines;
    }
    if line.windows(2).filter(|two| two == b"::").count() >= 2 {
        return Format::DoubleColons;
    }
    let separators = [(b'\t', Format::Tsv), (b',', Format::Csv), (b';', Format::Semicolons), (b'|', Format::Bars)];
    let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
    // The first of equals: commas may stand in the text of a tab separated line, tabs hardly in that of a CSV.
    let best = separators.iter().rev().max_by_key(|(separator, _)| count(*separator));
    best.filter(|(separator, _)| count(*separator) > 0).map_or(Format::Csv, |(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn opened(name: &str, bytes: &[u8]) -> Result<Source, PrepareError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Source::open(&path)
    }

    #[test]
    fn the_form_is_told_by_the_content() {
        let cases: [(&str, Format); 6] = [
            ("a,b\n1,2\n", Format::Csv),
            ("a\tb,c\td\n", Format::Tsv),
            ("1::2::5::978300760\n", Format::DoubleColons),
            ("a;b;c\n", Format::Semicolons),
            ("  {\"a\": 1}\n", Format::JsonLines),
            ("1|Toy Story (1995)|01-Jan-1995\n", Format::Bars),
        ];
        for (text, format) in cases {
            assert_eq!(opened("x", text.as_bytes()).unwrap().format, format, "{text}");
        }
    }

    #[test]
    fn a_first_row_is_looked_at_to_its_end_however_long_it_is() {
        let page = "x".repeat(100_000);
        let text = format!("\n{{\"page\": \"{page}\", \"user\": 1}}\n{{\"user\": 2}}\n");
        for text in [text.as_str(), text.trim_end(), text.trim().lines().next().unwrap()] {
            let mut source = opened("log.jsonl", text.as_bytes()).unwrap();
            assert_eq!((source.format, source.head_lines().count()), (Format::JsonLines, 1));
            assert!(source.head_lines().all(|line| line.ends_with(b"\"user\": 1}")));
            let mut read = String::new();
            source.reader.read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn packed_files_are_unpacked_and_nonsense_is_refused() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"\xef\xbb\xbfuser\titem\n1\t2\n").unwrap();
        let mut source = opened("log.tsv.gz", &packer.finish().unwrap()).unwrap();
        let mut text = String::new();
        source.reader.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), source.name().as_str(), source.format),
            ("user\titem\n1\t2\n", "log.tsv", Format::Tsv)
        );
        assert!(matches!(opened("x", b" \n\n"), Err(PrepareError::Empty { .. })));
        assert!(matches!(opened("x", b"\x7fELF\0\0\0"), Err(PrepareError::Binary { .. })));
        for array in ["[{\"user\": 1}]", " [\n  {\n \"user\": 1"] {
            assert!(matches!(opened("x", array.as_bytes()), Err(PrepareError::JsonArray { .. })), "{array}");
        }
    }
}

//! A shop that never was: a catalogue and a log of what its visitors did, for `kindred demo`.
//!
//! The same numbers and seed give the same bytes, whatever the clock says: the log ends at [`END_S`] and goes back [`WINDOW_DAYS`].
//! Visitors are made one after another and written as they are made, so that ten million of them need no more memory than one.

pub mod catalogue;
pub mod dice;
pub mod log;
pub mod visitors;
pub mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::catalogue::Catalogue;
use self::log::{LogCounts, write_log};
use crate::progress::Progress;

/// The end of the log: 2026-11-01T00:00:00Z.
pub const END_S: u64 = 1_793_491_200;
/// The days that the log covers.
pub const WINDOW_DAYS: u32 = 60;
/// The file of the interactions.
pub const LOG_FILE: &str = "interactions.csv";
/// The file of the items.
pub const ITEMS_FILE: &str = "items.jsonl";

/// The size of a shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShopOptions {
    /// Items in the catalogue.
    pub n_items: usize,
    /// Visitors in the log, besides a robot.
    pub n_visitors: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shop {
    /// The interactions, CSV with a header.
    pub interactions: PathBuf,
    /// The items, one catalogue entry a line.
    pub items: PathBuf,
    /// What is in the log.
    pub counts: LogCounts,
}

/// A shop could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShopError {
    /// A file cannot be written.
    #[error("cannot write {}: see that its directory is there, is yours and has room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Generates a shop into two files of a directory that is there; replaces them if they are.
///
/// Costs about a microsecond per interaction, and 20 bytes of memory per item.
///
/// # Errors
/// A file that cannot be written.
pub fn generate(options: &ShopOptions, dir: &Path, progress: &Progress) -> Result<Shop, ShopError> {
    let catalogue = Catalogue::new(options.n_items, options.seed);
    progress.start("items", options.n_items as u64);
    let items = dir.join(ITEMS_FILE);
    to_file(&items, |out| write_items(&catalogue, out, progress))?;
    progress.start("visitors", options.n_visitors as u64);
    let interactions = dir.join(LOG_FILE);
    let counts = to_file(&interactions, |out| write_log(&catalogue, options, out, progress))?;
    Ok(Shop { interactions, items, counts })
}

fn to_file<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> Result<T, ShopError> {
    let written = || {
        let mut out = BufWriter::with_capacity(1 << 16, File::create(path)?);
        let result = write(&mut out)?;
        out.flush()?;
        Ok(result)
    };
    written().map_err(|source| ShopError::Write { path: path.to_owned(), source })
}

fn write_items(catalogue: &Catalogue, out: &mut impl Write, progress: &Progress) -> io::Result<()> {
    for number in 0..catalogue.len() {
        let Some(entry) = catalogue.describe(number) else { continue };
        writeln!(out, "{}", entry.to_json().map_err(io::Error::other)?)?;
        progress.inc(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::calendar::Moment;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let bytes = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let options = ShopOptions { n_items: 100, n_visitors: 120, seed };
            let shop = generate(&options, dir.path(), &Progress::hidden()).unwrap();
            (fs::read(shop.interactions).unwrap(), fs::read(shop.items).unwrap())
        };
        let first = bytes(1);
        assert!(first == bytes(1), "the same seed gave another shop");
        let other = bytes(2);
        assert!(first.0 != other.0 && first.1 != other.1, "another seed gave the same shop");
    }

    #[test]
    fn the_end_is_what_its_documentation_says() {
        assert_eq!(Moment(END_S).rfc3339(), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let options = ShopOptions { n_items: 20, n_visitors: 20, seed: 1 };
        let error = generate(&options, Path::new("/nowhere/at/all"), &Progress::hidden()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}

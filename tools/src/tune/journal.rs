//! What a search has tried, one JSON line a trial, so that it can be stopped at any moment and resumed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::space::Settings;

/// What is searched: the first line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The trainer's name.
    pub trainer: String,
    /// The settings that are searched, in the order of a trial's point.
    pub settings: Vec<String>,
    /// Length of a row.
    pub factors: usize,
    /// Fingerprint of the dataset.
    pub dataset: String,
    /// Seed of everything random.
    pub seed: u64,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Where it was, a place of 0 to 1 a setting.
    pub point: Vec<f64>,
    /// The settings that the place stands for.
    pub settings: Settings,
    /// Hit rate at 10 on held-back interactions.
    pub hit_rate_at_10: f64,
    /// NDCG at 10 on held-back interactions: what is searched for the most of.
    pub ndcg_at_10: f64,
    /// How long training took.
    pub seconds: f64,
    /// Why there is no result, if there is none; its numbers are then zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A journal on disk, open for more, and for this process alone.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// Why there is no journal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It could not be read or written.
    #[error("{path}: cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not a trial.
    #[error("{path}, line {line}: {reason}; give another --output, or remove the file to start anew")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process goes on with it.
    #[error("{path} is being written by another process: wait for it, or give another --output")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It is of another search.
    #[error("{path} is of another search ({found:?}, wanted {wanted:?}): give another --output")]
    Another {
        /// The file.
        path: PathBuf,
        /// What it searched.
        found: Box<Search>,
        /// What is to be searched.
        wanted: Box<Search>,
    },
}

impl Journal {
    /// Opens the journal at `path`, or begins it, and gives the trials that it has.
    ///
    /// A last line without its end, as a kill leaves it, is cut off: that trial is done again.
    ///
    /// # Errors
    /// The file cannot be used, has a line that is none, belongs to another search, or another process has it open.
    pub fn open(path: &Path, search: &Search) -> Result<(Self, Vec<Trial>), JournalError> {
        let io = |source| JournalError::File { path: path.to_path_buf(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        // Two would try the same settings, and one cut off what the other is writing. A disk that knows no locks has none.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(JournalError::Busy { path: path.to_path_buf() });
        }
        let mut reader = BufReader::new(&file);
        let (mut trials, mut whole, mut number) = (Vec::new(), 0_u64, 0);
        let mut line = String::new();
        let mut begun = false;
        while reader.read_line(&mut line).map_err(io)? > 0 {
            number += 1;
            let wrong = |reason: String| JournalError::Line { path: path.to_path_buf(), line: number, reason };
            if !line.ends_with('\n') {
                // What is not the beginning of a journal is somebody else's.
                if !begun && !text(search).map_err(io)?.starts_with(line.as_bytes()) {
                    return Err(wrong("not the line that a journal of this search begins with".to_owned()));
                }
                break;
            }
            if begun {
                let trial: Trial = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
                if trial.point.len() != search.settings.len() {
                    return Err(wrong(format!("{} places, expected {}", trial.point.len(), search.settings.len())));
                }
                trials.push(trial);
            } else {
                let found: Search = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
                if found != *search {
                    let (found, wanted) = (Box::new(found), Box::new(search.clone()));
                    return Err(JournalError::Another { path: path.to_path_buf(), found, wanted });
                }
                begun = true;
            }
            whole += line.len() as u64;
            line.clear();
        }
        drop(reader);
        file.set_len(whole).map_err(io)?;
        let mut journal = Self { path: path.to_path_buf(), file };
        if !begun {
            journal.line(search)?;
        }
        Ok((journal, trials))
    }

    /// Adds a trial; when it returns, the trial is on disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, trial: &Trial) -> Result<(), JournalError> {
        self.line(trial)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), JournalError> {
        let io = |source| JournalError::File { path: self.path.clone(), source };
        let text = text(value).map_err(io)?;
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(io)
    }
}

/// A line of a journal.
fn text(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn search() -> Search {
        Search {
            trainer: "als".to_owned(),
            settings: vec!["alpha".to_owned()],
            factors: 8,
            dataset: "f00d".to_owned(),
            seed: 1,
        }
    }

    fn trial(ndcg_at_10: f64) -> Trial {
        let settings = Settings::from_iter([("alpha".to_owned(), 2.5.into())]);
        Trial { point: vec![0.25], settings, hit_rate_at_10: 0.2, ndcg_at_10, seconds: 1.5, failure: None }
    }

    #[test]
    fn what_was_written_is_read_again_and_a_torn_line_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("journal.jsonl");
        let (mut journal, trials) = Journal::open(&path, &search()).unwrap();
        assert!(trials.is_empty());
        journal.add(&trial(0.1)).unwrap();
        journal.add(&trial(0.2)).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (mut journal, trials) = Journal::open(&path, &search()).unwrap();
        assert_eq!(trials, [trial(0.1)]);
        journal.add(&trial(0.2)).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_search_that_is_going_on_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path, &search()).unwrap();
        let refused = Journal::open(&path, &search()).unwrap_err();
        assert!(matches!(refused, JournalError::Busy { .. }), "{refused}");
        journal.add(&trial(0.1)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path, &search()).unwrap().1, [trial(0.1)]);
    }

    #[test]
    fn another_search_and_a_line_that_is_none_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("journal.jsonl");
        drop(Journal::open(&path, &search()).unwrap());
        let other = Search { seed: 2, ..search() };
        assert!(matches!(Journal::open(&path, &other), Err(JournalError::Another { .. })));
        for thesis in ["thesis\n", "thesis"] {
            std::fs::write(&path, thesis).unwrap();
            let error = Journal::open(&path, &search()).unwrap_err();
            assert!(matches!(error, JournalError::Line { line: 1, .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), thesis, "and it is left as it was");
        }
        // A kill in the first line.
        std::fs::write(&path, "{\"trainer\":\"al").unwrap();
        assert!(Journal::open(&path, &search()).unwrap().1.is_empty());
    }
}

//! Ratings from text files: user, item, rating and whatever follows, separated by tabs, commas, `::` or spaces; gzip or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Ratings;

/// Ratings to learn from, and held-out ones of the same numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// To learn from.
    pub train: Ratings,
    /// Held out; a user or item that the training part does not have is none.
    pub test: Vec<(Option<u32>, Option<u32>, f32)>,
}

/// Why ratings could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read.
    #[error("{path}: cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not a rating.
    #[error("{path}, line {line}: expected user, item and a number, separated by tabs, commas, `::` or spaces")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// There is no rating.
    #[error("{path}: no rating in it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a training and a test file.
///
/// # Errors
/// A file that cannot be read, a line that is not a rating (a first line may be a header), or no rating at all.
pub fn split(train: &Path, test: &Path) -> Result<Split, ReadError> {
    let (mut users, mut items) = (HashMap::new(), HashMap::new());
    let mut out = Split::default();
    for (user, item, value) in rows(train)? {
        let next = users.len() as u32;
        out.train.user.push(*users.entry(user).or_insert(next));
        let next = items.len() as u32;
        out.train.item.push(*items.entry(item).or_insert(next));
        out.train.value.push(value);
    }
    (out.train.n_users, out.train.n_items) = (users.len(), items.len());
    let number = |(user, item, value)| (users.get(&user).copied(), items.get(&item).copied(), value);
    out.test = rows(test)?.into_iter().map(number).collect();
    Ok(out)
}

fn rows(path: &Path) -> Result<Vec<(String, String, f32)>, ReadError> {
    let fail = |source| ReadError::File { path: path.to_owned(), source };
    let mut rows = Vec::new();
    for (at, line) in lines(path).map_err(fail)?.enumerate() {
        let line = line.map_err(fail)?;
        let mut fields = line.split(['\t', ',', ':', ' ']).filter(|field| !field.is_empty());
        let mut field = || fields.next().unwrap_or_default().to_owned();
        let (user, item, value) = (field(), field(), field().parse::<f32>());
        match value {
            Ok(value) if value.is_finite() => rows.push((user, item, value)),
            _ if at == 0 || line.trim().is_empty() => {}
            _ => return Err(ReadError::Line { path: path.to_owned(), line: at + 1 }),
        }
    }
    if rows.is_empty() { Err(ReadError::Empty { path: path.to_owned() }) } else { Ok(rows) }
}

fn lines(path: &Path) -> io::Result<io::Lines<Box<dyn BufRead>>> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic)?;
    file.rewind()?;
    let reader: Box<dyn BufRead> = match magic[..] {
        [0x1f, 0x8b] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        _ => Box::new(BufReader::new(file)),
    };
    Ok(reader.lines())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn forms_of_files_and_strangers() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(root.path().join(name), text).unwrap();
            root.path().join(name)
        };
        let train = file("train.csv", "user,item,rating\na,x,5\nb,x,3.5\na,y,1\n");
        let test = file("test.dat", "b::y::2::978300760\nc::x::4::978300760\n");
        let read = split(&train, &test).unwrap();
        assert_eq!((read.train.user, read.train.item), (vec![0, 1, 0], vec![0, 0, 1]));
        assert_eq!(read.train.value, [5.0, 3.5, 1.0]);
        assert_eq!(read.test, [(Some(1), Some(1), 2.0), (None, Some(0), 4.0)]);
        let wrong = file("wrong", "a b 3\na b\n");
        assert!(split(&wrong, &test).unwrap_err().to_string().contains("line 2"));
        assert!(matches!(split(&file("none", "\n"), &test), Err(ReadError::Empty { .. })));
    }
}

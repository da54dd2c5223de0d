//! Which column of a log says what: by the names given, or by the names such columns usually have.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Names of columns, as given on the command line. None means to look for a usual name, an empty one means no column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// Who.
    pub user: Option<String>,
    /// With what.
    pub item: Option<String>,
    /// When.
    pub time: Option<String>,
    /// Did what.
    pub kind: Option<String>,
    /// A factor on the weight.
    pub value: Option<String>,
    /// A rating, for the least that counts.
    pub rating: Option<String>,
}

/// Where in a row stands what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Who.
    pub user: usize,
    /// With what.
    pub item: usize,
    /// When.
    pub time: Option<usize>,
    /// Did what.
    pub kind: Option<usize>,
    /// A factor on the weight.
    pub value: Option<usize>,
    /// A rating.
    pub rating: Option<usize>,
}

/// The names of the columns that were taken, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnsTaken {
    /// Who.
    pub user: String,
    /// With what.
    pub item: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Did what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A factor on the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A rating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<String>,
}

/// Why the columns of a file are not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// A column that was asked for is not there.
    #[error("there is no column {name:?} for the {role}; there are: {there}")]
    Missing {
        /// What it was to say.
        role: &'static str,
        /// Its name.
        name: String,
        /// The columns there are.
        there: String,
    },
    /// No column has a usual name.
    #[error(
        "no column has a usual name for the {role}: name it with --{role}-column; there are: {there} \
         (if these are values, give --no-header and number the columns from 1)"
    )]
    Unknown {
        /// What is not known.
        role: &'static str,
        /// The columns there are.
        there: String,
    },
    /// One column for two things that are never the same.
    #[error("column {name:?} is taken for both user and item: name another with --user-column or --item-column")]
    Same {
        /// Its name.
        name: String,
    },
}

/// Names without case and punctuation, the likeliest first.
const USER: &[&str] = &[
    "userid",
    "user",
    "visitorid",
    "visitor",
    "customerid",
    "customer",
    "memberid",
    "reviewerid",
    "uid",
    "sessionid",
    "session",
];
pub(super) const ITEM: &[&str] = &[
    "itemid",
    "item",
    "productid",
    "product",
    "movieid",
    "movie",
    "clickarticleid",
    "articleid",
    "article",
    "contentid",
    "newsid",
    "bookid",
    "songid",
    "trackid",
    "stockcode",
    "sku",
    "asin",
    "iid",
];
const TIME: &[&str] = &[
    "timestamp",
    "time",
    "occurredat",
    "occurredatms",
    "datetime",
    "eventtime",
    "eventtimestamp",
    "clicktimestamp",
    "createdat",
    "date",
    "unixtime",
    "unixreviewtime",
    "invoicedate",
    "ts",
];
const KIND: &[&str] =
    &["kind", "event", "eventtype", "eventname", "interactiontype", "behaviortype", "behavior", "action", "type"];
const VALUE: &[&str] = &["weight", "value"];
const RATING: &[&str] = &["rating", "stars", "overall", "score"];

/// A name without case and punctuation: `user_id`, `userId` and `User ID` are the same.
pub fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl ColumnNames {
    /// Finds the columns in a header.
    ///
    /// # Errors
    /// A named column that is not there, no column for the user or the item, or the same one for both.
    pub fn find(&self, header: &[String]) -> Result<(Mapping, ColumnsTaken), MappingError> {
        let plain: Vec<String> = header.iter().map(|name| plain(name)).collect();
        let finder = Finder { header, plain: &plain };
        let need =
            |role, found: Option<usize>| found.ok_or_else(|| MappingError::Unknown { role, there: there(header) });
        let user = need("user", finder.find("user", self.user.as_ref(), USER)?)?;
        let item = need("item", finder.find("item", self.item.as_ref(), ITEM)?)?;
        let name = |at: usize| header.get(at).cloned().unwrap_or_default();
        if user == item {
            return Err(MappingError::Same { name: name(user) });
        }
        let mapping = Mapping {
            user,
            item,
            time: finder.find("time", self.time.as_ref(), TIME)?,
            kind: finder.find("kind", self.kind.as_ref(), KIND)?,
            value: finder.find("value", self.value.as_ref(), VALUE)?,
            rating: finder.find("rating", self.rating.as_ref(), RATING)?,
        };
        let taken = ColumnsTaken {
            user: name(user),
            item: name(item),
            time: mapping.time.map(name),
            kind: mapping.kind.map(name),
            value: mapping.value.map(name),
            rating: mapping.rating.map(name),
        };
        Ok((mapping, taken))
    }

    /// The names that were given.
    pub fn given(&self) -> impl Iterator<Item = &String> {
        let Self { user, item, time, kind, value, rating } = self;
        [user, item, time, kind, value, rating].into_iter().flatten().filter(|name| !name.is_empty())
    }
}

impl ColumnsTaken {
    /// The first column that another choice does not have: what it says, and its name.
    pub(super) fn first_other_than(&self, other: &Self) -> Option<(&'static str, &str)> {
        let pairs = [
            ("user", Some(&self.user), Some(&other.user)),
            ("item", Some(&self.item), Some(&other.item)),
            ("time", self.time.as_ref(), other.time.as_ref()),
            ("kind", self.kind.as_ref(), other.kind.as_ref()),
            ("value", self.value.as_ref(), other.value.as_ref()),
            ("rating", self.rating.as_ref(), other.rating.as_ref()),
        ];
        let mut differ = pairs.into_iter().filter(|(_, own, other)| own != other);
        differ.find_map(|(role, own, _)| Some((role, own?.as_str())))
    }
}

impl Mapping {
    /// One more than the last place that a row must have: the optional columns may be cut off at its end.
    pub fn width_least(&self) -> usize {
        self.user.max(self.item) + 1
    }
}

/// Whether a first line is a header: it names both a user and an item.
pub fn is_header(cells: &[String]) -> bool {
    ColumnNames::default().find(cells).is_ok()
}

struct Finder<'a> {
    header: &'a [String],
    plain: &'a [String],
}

impl Finder<'_> {
    fn find(&self, role: &'static str, given: Option<&String>, usual: &[&str]) -> Result<Option<usize>, MappingError> {
        match given {
            Some(name) if name.is_empty() => Ok(None),
            Some(name) => {
                let at = self.header.iter().position(|column| column == name);
                let missing = || MappingError::Missing { role, name: name.clone(), there: there(self.header) };
                at.ok_or_else(missing).map(Some)
            }
            None => Ok(usual.iter().find_map(|name| self.plain.iter().position(|column| column == name))),
        }
    }
}

/// The columns there are, for a message: not more than a screen can show.
fn there(header: &[String]) -> String {
    const SHOWN: usize = 40;
    let mut text = header.iter().take(SHOWN).map(|name| excerpt(name.as_bytes())).collect::<Vec<_>>().join(", ");
    if header.len() > SHOWN {
        text.push_str(&format!(" and {} more", header.len() - SHOWN));
    }
    text
}

/// The beginning of a value, fit to be printed.
pub fn excerpt(value: &[u8]) -> String {
    const SHOWN: usize = 40;
    let text = String::from_utf8_lossy(value.get(..value.len().min(4 * SHOWN)).unwrap_or_default());
    let mut short: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().count() > SHOWN {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn usual_names_are_found_however_they_are_written() {
        let (mapping, taken) = ColumnNames::default().find(&header("userId,movieId,rating,timestamp")).unwrap();
        assert_eq!(mapping, Mapping { user: 0, item: 1, time: Some(3), kind: None, value: None, rating: Some(2) });
        assert_eq!(taken.item, "movieId");
        let (mapping, _) = ColumnNames::default().find(&header("Time,User ID,EVENT,item_id,session_id")).unwrap();
        assert_eq!((mapping.user, mapping.item, mapping.time, mapping.kind), (1, 3, Some(0), Some(2)));
        // As Google Analytics has it.
        let (mapping, _) =
            ColumnNames::default().find(&header("event_date,event_timestamp,event_name,user_id,item_id")).unwrap();
        assert_eq!((mapping.time, mapping.kind), (Some(1), Some(2)));
    }

    #[test]
    fn given_names_win_and_an_empty_one_is_none() {
        let names =
            ColumnNames { user: Some("session_id".to_owned()), time: Some(String::new()), ..ColumnNames::default() };
        let (mapping, _) = names.find(&header("user_id,item_id,session_id,time")).unwrap();
        assert_eq!((mapping.user, mapping.time), (2, None));
    }

    #[test]
    fn nobody_is_their_own_item() {
        let names = ColumnNames { user: Some("item_id".to_owned()), ..ColumnNames::default() };
        let error = names.find(&header("user_id,item_id,time")).unwrap_err().to_string();
        assert!(error.contains("\"item_id\"") && error.contains("--user-column"), "{error}");
    }

    #[test]
    fn what_is_missing_is_told_with_what_there_is() {
        let names = ColumnNames { user: Some("who".to_owned()), ..ColumnNames::default() };
        let error = names.find(&header("a,item")).unwrap_err().to_string();
        assert!(error.contains("\"who\"") && error.contains("there are: a, item"), "{error}");
        let error = ColumnNames::default().find(&header("user,b,c")).unwrap_err().to_string();
        assert!(error.contains("--item-column") && error.contains("user, b, c"), "{error}");
        assert!(!is_header(&header("1,2,3")) && is_header(&header("SessionId,ItemId,Time")));
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt(b"a\x07b\xff"), "a\u{fffd}b\u{fffd}");
        assert_eq!(excerpt(&[b'x'; 1_000]).chars().count(), 41);
    }
}

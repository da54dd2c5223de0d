//! What is known about the items: a table of any of the forms of a log, to catalogue entries.
//!
//! The usual names make the identifier, title, description, categories, price, picture and availability; every other column
//! becomes an attribute, a list one with several values. Categories are parted by `|` or `;`, or are a list. MovieLens'
//! `movies.csv`, `movies.dat` and `u.item` are known by their names; the year in a title becomes an attribute. A line that is not
//! UTF-8 is read as Latin-1.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use kindred::catalog::CatalogItem;
use kindred::limits;
use kindred::timestamp::{self, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::columns::{ITEM, excerpt, plain};
use super::delimited::Records;
use super::error::PrepareError;
use super::log::{BadRow, EXAMPLES_MAX, is_missing};
use super::source::{Format, Source, next_line};
use super::time::{self, Time, TimeUnit};
use super::{delimited, json_lines, parquet_log};
use crate::report::count;

/// Names without case and punctuation, the likeliest first.
const ID: &[&str] = &["id"];
const TITLE: &[&str] = &["title", "name", "productname", "itemname"];
const DESCRIPTION: &[&str] = &["description", "desc", "summary", "text"];
const CATEGORIES: &[&str] = &["categories", "category", "genres", "genre", "categoryid"];
const PRICE: &[&str] = &["price", "unitprice"];
const IMAGE: &[&str] = &["image", "imageurl", "picture", "poster", "thumbnail"];
const AVAILABLE: &[&str] = &["available", "instock", "active"];
const HIDDEN: &[&str] = &["hidden"];
const EXPIRES_AT: &[&str] = &["expiresat"];
const UPDATED_AT: &[&str] = &["updatedat"];
const YEAR: &str = "year";

/// The genres of `u.item`, one column each after the first five.
const U_ITEM: [&str; 24] = [
    "movie id",
    "title",
    "release date",
    "video release date",
    "IMDb URL",
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];
const U_ITEM_TEXTS: usize = 5;

/// A table that was read.
#[derive(Debug)]
pub struct Table {
    items: HashMap<String, CatalogItem>,
    pub(super) report: ItemTableReport,
}

/// What became of the rows of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemTableReport {
    /// The file.
    pub path: PathBuf,
    /// Rows read.
    pub rows: u64,
    /// Rows that cannot be used.
    pub bad: u64,
    /// The first of them.
    pub bad_examples: Vec<BadRow>,
    /// Rows with the identifier of an earlier one, which counts.
    pub repeated: u64,
    /// Lines that are not UTF-8 and were read as Latin-1.
    pub latin_1: u64,
    /// Prices, truth values and times that could not be read as such and were left out.
    pub left_out: u64,
    /// Rows with more cells than the header has names; those beyond it were left out.
    #[serde(default)]
    pub longer: u64,
    /// Columns left out, at least in some rows: they hold neither text, numbers, truth values or times nor lists of these, or longer lists than an
    /// attribute may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_left_out: Vec<String>,
    /// Items of the log that it calls 17.0 and the table 17, as they are called now.
    #[serde(default)]
    pub with_point: u64,
    /// Items of the log that the table does not have; they have no title.
    pub without_entry: u64,
}

/// How the rows of a table come.
struct Reader {
    movielens: bool,
    items: HashMap<String, CatalogItem>,
    report: ItemTableReport,
    file: String,
}

/// Reads a table.
///
/// # Errors
/// It cannot be read, or no column is one of identifiers.
pub fn read(path: &Path) -> Result<Table, PrepareError> {
    let source = Source::open(path)?;
    let name = source.name();
    let movielens = ["movies.csv", "movies.dat", "u.item"].contains(&name.as_str());
    let report = ItemTableReport { path: path.to_owned(), ..ItemTableReport::default() };
    let mut reader = Reader { movielens, items: HashMap::new(), report, file: name.clone() };
    match source.format {
        Format::JsonLines => reader.json_lines(source)?,
        Format::Parquet => reader.parquet(&source.path)?,
        Format::DoubleColons => reader.double_colons(source)?,
        format => reader.separated(source, format, name == "u.item")?,
    }
    Ok(Table { items: reader.items, report: reader.report })
}

impl Table {
    /// Joins the items of a log, sorted, with the table: all entries in the order of their identifiers, and for each number of
    /// the log the number in that order. Entries without interactions are kept: new items are recommended by their categories.
    pub fn join(table: Table, mut of_log: Vec<Box<str>>) -> (Vec<CatalogItem>, Vec<u32>, ItemTableReport) {
        let Table { items: mut known, mut report } = table;
        if let Some(whole) = without_points(&of_log, &known) {
            report.with_point = whole.len() as u64;
            of_log = whole;
        }
        let mut items: Vec<(CatalogItem, Option<usize>)> = Vec::with_capacity(known.len());
        for (number, id) in of_log.iter().enumerate() {
            let entry = known.remove(&**id);
            report.without_entry += u64::from(entry.is_none());
            items.push((entry.unwrap_or_else(|| CatalogItem::new(&**id)), Some(number)));
        }
        items.extend(known.into_values().map(|item| (item, None)));
        items.sort_unstable_by(|a, b| a.0.id.cmp(&b.0.id));
        let mut numbers = vec![0; of_log.len()];
        for (new, (_, old)) in items.iter().enumerate() {
            if let Some(number) = old.and_then(|old| numbers.get_mut(old)) {
                *number = new as u32;
            }
        }
        (items.into_iter().map(|(item, _)| item).collect(), numbers, report)
    }
}

impl ItemTableReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = format!("read {}: {} rows of items\n", self.path.display(), count(self.rows));
        let notes = [
            (self.bad, "bad rows of items were dropped"),
            (self.repeated, "rows repeat an item; its first row counts"),
            (self.latin_1, "lines are not UTF-8 and were read as Latin-1"),
            (
                self.longer,
                "rows have more cells than the header has names, and lost them: does a separator stand in a value without quotes?",
            ),
            (self.left_out, "prices, truth values or times could not be read and were left out"),
            (self.with_point, "items of the log are written as 17.0 is, and were read as the table writes them, 17"),
            (self.without_entry, "items of the log are not in the table and have no title"),
        ];
        for (n, note) in notes.into_iter().filter(|(n, _)| *n > 0) {
            text.push_str(&format!("  {} {note}\n", count(n)));
        }
        if !self.columns_left_out.is_empty() {
            let (most, names) = (limits::ATTRIBUTE_VALUES_MAX, names(&self.columns_left_out));
            text.push_str(&format!(
                "  columns were left out where they hold neither values nor lists of at most {most} values: {names}\n"
            ));
        }
        for bad in &self.bad_examples {
            text.push_str(&format!("  {}, line {}: {}: {:?}\n", bad.file, bad.line, bad.reason, bad.found));
        }
        text
    }
}

impl Reader {
    fn separated(&mut self, mut source: Source, format: Format, u_item: bool) -> Result<(), PrepareError> {
        let separator = delimited::separator(format).unwrap_or(b',');
        // In u.item a quotation mark is a part of the title.
        let mut records = Records::of(&mut source, separator, !u_item);
        let mut header: Option<Vec<String>> = u_item.then(|| U_ITEM.map(str::to_owned).to_vec());
        while let Some((line, record)) = records.next_record()? {
            let before = self.report.latin_1;
            // Spaces about a separator are no part of a name or value; what is one is the same in a log.
            let cells: Vec<String> = record.iter().map(|cell| self.text(cell.trim_ascii())).collect();
            self.report.latin_1 = self.report.latin_1.min(before + 1);
            match &header {
                None => {
                    header = Some(cells);
                    self.needs_id(header.as_deref().unwrap_or_default())?;
                }
                Some(_) if u_item => self.u_item(line, cells),
                Some(header) => {
                    let is_longer = cells.iter().skip(header.len()).any(|cell| !cell.is_empty());
                    self.report.longer += u64::from(is_longer);
                    self.named(line, header.iter().cloned().zip(cells));
                }
            }
        }
        Ok(())
    }

    /// `movies.dat`: identifier, title, genres.
    fn double_colons(&mut self, mut source: Source) -> Result<(), PrepareError> {
        let mut text = Vec::new();
        let mut line = 0;
        while next_line(&mut source.reader, &mut text, &source.path)? {
            line += 1;
            if !text.is_empty() {
                let text = self.text(&text);
                let cells = delimited::double_colons(text.as_bytes());
                let cells = cells.map(|cell| String::from_utf8_lossy(cell.trim_ascii()).into_owned());
                let names = ["id", "title", "genres"].into_iter().map(str::to_owned);
                self.named(line, names.zip(cells));
            }
        }
        Ok(())
    }

    fn u_item(&mut self, line: u64, cells: Vec<String>) {
        let flags = cells.iter().zip(U_ITEM).skip(U_ITEM_TEXTS);
        let genres: Vec<&str> = flags.filter(|(cell, _)| *cell == "1").map(|(_, genre)| genre).collect();
        let genres = genres.join("|");
        let wanted = ["id", "title", "release_date"].into_iter().map(str::to_owned).zip(cells);
        self.named(line, wanted.chain([("genres".to_owned(), genres)]));
    }

    fn named(&mut self, line: u64, cells: impl Iterator<Item = (String, String)>) {
        self.cells(line, cells.map(|(name, cell)| (name, cell.into())));
    }

    /// A row of columns. Of those that share a name, as joined tables have them, the first counts that has something in it.
    fn cells(&mut self, line: u64, cells: impl Iterator<Item = (String, Value)>) {
        let mut fields = Map::new();
        for (name, cell) in cells {
            // A vector, mostly: it would be numbers to filter by.
            if cell.as_array().is_some_and(|values| values.len() > limits::ATTRIBUTE_VALUES_MAX) {
                if !self.report.columns_left_out.contains(&name) {
                    self.report.columns_left_out.push(name);
                }
                continue;
            }
            let field = fields.entry(name).or_insert(Value::Null);
            if field.is_null() && !cell.as_str().is_some_and(|text| is_missing(text.as_bytes())) {
                *field = cell;
            }
        }
        self.row(line, fields);
    }

    fn json_lines(&mut self, mut source: Source) -> Result<(), PrepareError> {
        let mut text = Vec::new();
        let mut line = 0;
        // There is no header: the columns are those of the rows, asked for where no row was an item.
        let mut columns = BTreeSet::new();
        while next_line(&mut source.reader, &mut text, &source.path)? {
            line += 1;
            match serde_json::from_slice::<Map<String, Value>>(json_lines::object(&text)) {
                _ if text.trim_ascii().is_empty() => {}
                Ok(fields) => {
                    if self.items.is_empty() {
                        columns.extend(fields.keys().cloned());
                    }
                    self.row(line, fields);
                }
                Err(_) => self.bad(line, "not a JSON object", &text),
            }
        }
        if self.items.is_empty() && !columns.is_empty() {
            self.needs_id(&columns.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn parquet(&mut self, path: &Path) -> Result<(), PrepareError> {
        let (columns, left_out) = parquet_log::columns_of_table(path)?;
        self.report.columns_left_out = left_out;
        self.needs_id(&columns)?;
        parquet_log::each_row(path, |line, cells| self.cells(line, columns.iter().cloned().zip(cells)))
    }

    fn needs_id(&self, columns: &[String]) -> Result<(), PrepareError> {
        let is_id = |name: &String| ID.iter().chain(ITEM).any(|usual| plain(name) == *usual);
        if columns.iter().any(is_id) {
            return Ok(());
        }
        Err(PrepareError::ItemColumn { path: self.report.path.clone(), there: names(columns) })
    }

    /// UTF-8, or else Latin-1, in which every byte is the character of that number.
    fn text(&mut self, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.report.latin_1 += 1;
                bytes.iter().map(|byte| char::from(*byte)).collect()
            }
        }
    }

    fn bad(&mut self, line: u64, reason: &str, found: &[u8]) {
        self.report.rows += 1;
        self.report.bad += 1;
        if self.report.bad_examples.len() < EXAMPLES_MAX {
            let (file, reason, found) = (self.file.clone(), reason.to_owned(), excerpt(found));
            self.report.bad_examples.push(BadRow { file, line, reason, found });
        }
    }

    /// A time: a text is read as those of logs are, a number as milliseconds since 1970. What is neither is left out, and counted, as is what lies
    /// before 1970: 0 and -1 mostly mean never.
    fn time(&mut self, value: Option<Value>) -> Option<Timestamp> {
        let value = value?;
        let time = match value.as_str().map(|text| time::parse(text.as_bytes())) {
            Some(read) => read.and_then(|read| match read {
                Time::Millis(ms) => Some(ms),
                Time::Number(number) => TimeUnit::told_by(number).millis(number),
                Time::Fraction(number) => TimeUnit::told_by_fraction(number).fraction_millis(number),
            }),
            None => serde_json::from_value::<Timestamp>(value).ok().map(|time| time.0),
        };
        // What an offset leads beyond the year 9999 could be written and not be read again.
        let time = time.filter(|ms| *ms > 0 && timestamp::has_text(*ms)).map(Timestamp);
        self.report.left_out += u64::from(time.is_none());
        time
    }

    fn row(&mut self, line: u64, mut fields: Map<String, Value>) {
        let id = take(&mut fields, ID).or_else(|| take(&mut fields, ITEM)).map(|id| as_text(&id));
        let id = id.filter(|id| !id.trim_ascii().is_empty());
        let mut item = CatalogItem::new(id.unwrap_or_default());
        item.title = take(&mut fields, TITLE).map(|title| as_text(&title)).unwrap_or_default();
        item.description = take(&mut fields, DESCRIPTION).map(|text| texts(text).join(" ")).unwrap_or_default();
        item.categories = take(&mut fields, CATEGORIES).map(categories).unwrap_or_default();
        item.image = take(&mut fields, IMAGE).and_then(|image| texts(image).into_iter().next());
        if let Some(price) = take(&mut fields, PRICE) {
            item.price = as_text(&price).trim().parse().ok().filter(|price: &f64| price.is_finite());
            self.report.left_out += u64::from(item.price.is_none());
        }
        if let Some(available) = take(&mut fields, AVAILABLE) {
            let available = truth(&as_text(&available));
            self.report.left_out += u64::from(available.is_none());
            item.available = available.unwrap_or(true);
        }
        if let Some(hidden) = take(&mut fields, HIDDEN) {
            let hidden = truth(&as_text(&hidden));
            self.report.left_out += u64::from(hidden.is_none());
            item.hidden = hidden.unwrap_or(false);
        }
        item.expires_at = self.time(take(&mut fields, EXPIRES_AT));
        item.updated_at = self.time(take(&mut fields, UPDATED_AT));
        if fields.get("attributes").is_some_and(Value::is_object)
            && let Some(Value::Object(attributes)) = fields.remove("attributes")
        {
            item.attributes.extend(attributes);
        }
        item.attributes.extend(fields.into_iter().map(|(name, value)| (name, attribute(value))));
        item.attributes.retain(|name, value| !name.is_empty() && !value.is_null());
        if let Some(year) = year(&item.title).filter(|_| self.movielens) {
            item.attributes.insert(YEAR.to_owned(), year.into());
        }
        if let Err(error) = item.to_json() {
            return self.bad(line, &error.to_string(), item.id.as_bytes());
        }
        self.report.rows += 1;
        match self.items.entry(item.id.clone()) {
            std::collections::hash_map::Entry::Occupied(_) => self.report.repeated += 1,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(item);
            }
        }
    }
}

/// The items of a log as the table calls them, if the log calls each 17.0 where the table has 17, as a column of numbers with gaps is written. Not
/// told by fewer than all: 1.0 may be a name.
fn without_points(of_log: &[Box<str>], known: &HashMap<String, CatalogItem>) -> Option<Vec<Box<str>>> {
    let mut whole: Vec<Box<str>> = Vec::new();
    for id in of_log {
        let digits = whole_with_point(id).filter(|_| !known.contains_key(&**id))?;
        whole.push(digits.into());
    }
    whole.iter().any(|id| known.contains_key(&**id)).then_some(whole)
}

/// The digits of an identifier such as 17.0.
pub(super) fn whole_with_point(id: &str) -> Option<&str> {
    let is_whole = |digits: &&str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    id.strip_suffix(".0").filter(is_whole)
}

/// Names of columns for a message: not more than a screen can show.
fn names(columns: &[String]) -> String {
    columns.iter().take(40).map(|name| excerpt(name.as_bytes())).collect::<Vec<_>>().join(", ")
}

/// Takes the field with the likeliest of the names; none where it is null.
fn take(fields: &mut Map<String, Value>, usual: &[&str]) -> Option<Value> {
    let name = usual.iter().find_map(|usual| fields.keys().find(|name| plain(name) == *usual))?.clone();
    fields.remove(&name).filter(|value| !value.is_null())
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The texts of a list, also of lists in it, or the one of anything else; none of null.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        Value::Null => Vec::new(),
        other => vec![as_text(&other)],
    }
}

fn categories(value: Value) -> Vec<String> {
    let mut categories: Vec<String> = match value {
        list @ Value::Array(_) => texts(list),
        other => parted(&as_text(&other)),
    };
    // What MovieLens writes where there are none.
    categories.retain(|category| !category.is_empty() && category != "(no genres listed)");
    categories
}

/// The categories of a text: those that `|` or `;` part, or those of a list as programs write it into a cell: `["toys"]`, or Python's
/// `['toys', 'games']`.
fn parted(text: &str) -> Vec<String> {
    let list = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(str::trim);
    match (list, serde_json::from_str::<Vec<Value>>(text)) {
        (_, Ok(values)) => values.into_iter().flat_map(texts).collect(),
        (Some(list), _) if list.trim_start_matches(['[', ' ']).starts_with(['\'', '"']) => quoted(list),
        _ => text.split(['|', ';']).map(|category| category.trim().to_owned()).collect(),
    }
}

/// What stands in quotation marks, of either kind.
fn quoted(mut text: &str) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((at, mark)) = text.char_indices().find(|(_, letter)| matches!(letter, '\'' | '"')) {
        let (_, opened) = text.split_at(at + 1);
        let Some((inside, rest)) = opened.split_once(mark) else { break };
        found.push(inside.to_owned());
        text = rest;
    }
    found
}

/// Text of a table as what it says: a number or a truth value where it is one.
fn attribute(value: Value) -> Value {
    let Value::String(text) = &value else { return value };
    match text.as_str() {
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        // 007 and 1e5 are names as often as numbers, and a number would lose how they are written.
        text => match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number.to_string() == text => number.into(),
            _ => value,
        },
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        // A database writes t, and a table that has gaps 1.0.
        "true" | "yes" | "y" | "t" | "1" | "1.0" => Some(true),
        "false" | "no" | "n" | "f" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// The year at the end of a title: `Alien (1979)`.
fn year(title: &str) -> Option<u16> {
    let inner = title.trim().strip_suffix(')')?;
    let digits = inner.get(inner.len().checked_sub(4)?..)?;
    let year = digits.parse().ok().filter(|year| (1_800..2_200).contains(year))?;
    inner.strip_suffix(digits)?.ends_with('(').then_some(year)
}

#[cfg(test)]
mod tests;

//! The catalogue: what is known about an item besides its vector.
//!
//! On disk an entry is its JSON text, so that an answer can carry it without decoding and encoding it again.

use std::collections::BTreeMap;
use std::{fmt, io};

pub mod attributes;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;
use crate::timestamp::Timestamp;

/// One item of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogItem {
    /// The item's key, opaque UTF-8 of 1 to 256 bytes.
    pub id: String,
    /// What to show as its name; may be empty.
    #[serde(default)]
    pub title: String,
    /// A longer text; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The categories it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Its price, in the catalogue's one currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Address of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it may be recommended at all.
    #[serde(default = "yes")]
    pub available: bool,
    /// Whether it is kept out of every list, available or not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// From when on it is kept out of every list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was last changed. Of two accounts of an item the later one counts; one without a time is the older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Anything else; text, numbers, truth values, times, points and lists of text can be filtered on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// Catalogue entries, from wherever they lie: they are read one after the other, as often as they are needed, and need not be in memory.
pub trait ItemSource: fmt::Debug + Sync {
    /// Calls `visit` with each entry in order.
    ///
    /// # Errors
    /// Entries that cannot be read, or what `visit` returned.
    fn each(&self, visit: &mut dyn FnMut(&CatalogItem) -> io::Result<()>) -> io::Result<()>;
}

impl ItemSource for Vec<CatalogItem> {
    fn each(&self, visit: &mut dyn FnMut(&CatalogItem) -> io::Result<()>) -> io::Result<()> {
        self.iter().try_for_each(visit)
    }
}

/// What is wrong with a catalogue entry.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The identifier is empty or too long.
    #[error("item id has {found} bytes, expected 1 to {most}", most = limits::KEY_BYTES_MAX)]
    Id {
        /// Its length, in bytes.
        found: usize,
    },
    /// The price is infinite or not a number.
    #[error("price of item {id:?} is not a finite number: leave it out or give a finite one")]
    Price {
        /// The item at fault.
        id: String,
    },
    /// The entry is larger than allowed.
    #[error("item {id:?} has {found} bytes of JSON, at most {most} are allowed: shorten its description or attributes", most = limits::CATALOG_ITEM_BYTES_MAX)]
    TooLarge {
        /// The item at fault.
        id: String,
        /// Its size, in bytes.
        found: usize,
    },
    /// A stored entry is not the JSON of an item.
    #[error("catalogue entry {ordinal} is not an item: verify the artifact and build it again")]
    Entry {
        /// The item's ordinal.
        ordinal: u32,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// An entry could not be written as JSON.
    #[error("item {id:?} cannot be written as JSON")]
    Encode {
        /// The item at fault.
        id: String,
        /// What the writer said.
        source: serde_json::Error,
    },
}

/// The catalogue entries of a model, by ordinal. Borrows; copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct CatalogView<'a> {
    offsets: &'a [u64],
    json: &'a [u8],
}

fn is_false(value: &bool) -> bool {
    !value
}

fn yes() -> bool {
    true
}

impl CatalogItem {
    /// An item of which only the key is known.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: String::new(),
            description: String::new(),
            categories: Vec::new(),
            price: None,
            image: None,
            available: true,
            hidden: false,
            expires_at: None,
            updated_at: None,
            attributes: BTreeMap::new(),
        }
    }

    /// The entry as it is stored and sent: one line of JSON, checked against the bounds.
    ///
    /// # Errors
    /// An identifier, price or size outside its bounds.
    pub fn to_json(&self) -> Result<String, CatalogError> {
        if self.id.is_empty() || self.id.len() > limits::KEY_BYTES_MAX {
            return Err(CatalogError::Id { found: self.id.len() });
        }
        if self.price.is_some_and(|price| !price.is_finite()) {
            return Err(CatalogError::Price { id: self.id.clone() });
        }
        let json =
            serde_json::to_string(self).map_err(|source| CatalogError::Encode { id: self.id.clone(), source })?;
        if json.len() > limits::CATALOG_ITEM_BYTES_MAX {
            return Err(CatalogError::TooLarge { id: self.id.clone(), found: json.len() });
        }
        Ok(json)
    }
}

impl<'a> CatalogView<'a> {
    /// A view over `n + 1` offsets into the JSON of n entries.
    pub(crate) fn new(offsets: &'a [u64], json: &'a [u8]) -> Self {
        Self { offsets, json }
    }

    /// Number of entries.
    pub fn len(&self) -> u32 {
        u32::try_from(self.offsets.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The JSON text of an entry, to be sent on as it is. None for an ordinal out of range or a damaged entry.
    pub fn raw(&self, ordinal: u32) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(ordinal)?).ok()
    }

    /// An entry, parsed. Costs a JSON parse; answers that only pass the entry on use [`CatalogView::raw`].
    ///
    /// # Errors
    /// The stored bytes are not the JSON of an item.
    pub fn item(&self, ordinal: u32) -> Result<Option<CatalogItem>, CatalogError> {
        let Some(bytes) = self.bytes(ordinal) else { return Ok(None) };
        serde_json::from_slice(bytes).map(Some).map_err(|source| CatalogError::Entry { ordinal, source })
    }

    fn bytes(&self, ordinal: u32) -> Option<&'a [u8]> {
        let at = ordinal as usize;
        let from = usize::try_from(*self.offsets.get(at)?).ok()?;
        let to = usize::try_from(*self.offsets.get(at + 1)?).ok()?;
        self.json.get(from..to)
    }

    /// Checks that the offsets ascend and end where the text ends and that each entry is UTF-8 between braces.
    /// Says the first ordinal at fault.
    pub(crate) fn check(&self) -> Result<(), u32> {
        if self.offsets.first() != Some(&0) || self.offsets.last() != Some(&(self.json.len() as u64)) {
            return Err(0);
        }
        // Where all of it is UTF-8, so is what stands between two braces; else it is asked of each entry, to say which.
        let together = std::str::from_utf8(self.json).is_ok();
        for ordinal in 0..self.len() {
            let bytes = self.bytes(ordinal).filter(|bytes| together || std::str::from_utf8(bytes).is_ok());
            if !bytes.is_some_and(|bytes| bytes.starts_with(b"{") && bytes.ends_with(b"}")) {
                return Err(ordinal);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_json_and_leaves_out_what_is_empty() {
        let item = CatalogItem {
            title: "Ein Bär".to_owned(),
            price: Some(9.5),
            categories: vec!["toys".to_owned()],
            attributes: BTreeMap::from([("colour".to_owned(), serde_json::json!(["brown", "black"]))]),
            ..CatalogItem::new("bear")
        };
        let json = item.to_json().unwrap();
        assert_eq!(serde_json::from_str::<CatalogItem>(&json).unwrap(), item);
        assert_eq!(CatalogItem::new("x").to_json().unwrap(), r#"{"id":"x","title":"","available":true}"#);
    }

    #[test]
    fn a_bare_identifier_is_an_available_item() {
        assert_eq!(serde_json::from_str::<CatalogItem>(r#"{"id":"x"}"#).unwrap(), CatalogItem::new("x"));
    }

    #[test]
    fn each_bound_has_its_own_error() {
        assert!(matches!(CatalogItem::new("").to_json(), Err(CatalogError::Id { found: 0 })));
        assert!(matches!(CatalogItem::new("x".repeat(257)).to_json(), Err(CatalogError::Id { found: 257 })));
        let priceless = CatalogItem { price: Some(f64::NAN), ..CatalogItem::new("x") };
        assert!(matches!(priceless.to_json(), Err(CatalogError::Price { .. })));
        let novel = CatalogItem { description: "x".repeat(70_000), ..CatalogItem::new("x") };
        assert!(matches!(novel.to_json(), Err(CatalogError::TooLarge { .. })));
    }

    #[test]
    fn a_view_reads_back_and_refuses_hostile_offsets() {
        let json = br#"{"id":"a"}{"id":"b"}"#;
        let view = CatalogView::new(&[0, 10, 20], json);
        assert_eq!(view.len(), 2);
        assert_eq!(view.raw(1), Some(r#"{"id":"b"}"#));
        assert_eq!(view.item(0).unwrap(), Some(CatalogItem::new("a")));
        assert_eq!(view.raw(2), None);
        assert_eq!(view.check(), Ok(()));
        let hostile = CatalogView::new(&[0, u64::MAX, 20], json);
        assert_eq!(hostile.raw(0), None);
        assert_eq!(hostile.raw(1), None);
        assert_eq!(hostile.check(), Err(0));
        let cut = CatalogView::new(&[0, 9, 20], json);
        assert!(matches!(cut.item(0), Err(CatalogError::Entry { ordinal: 0, .. })));
        assert_eq!(cut.check(), Err(0));
        let torn = CatalogView::new(&[0, 10, 20], b"{\"id\":\"a\"}{\"id\":\"\xff\"}");
        assert_eq!((torn.raw(1), torn.check()), (None, Err(1)));
    }
}

//! One change of the catalogue, as it is kept and as requests see it.

use kindred_index::ItemAttributes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::attributes::{LeftOut, of_item};
use crate::catalog::{CatalogError, CatalogItem};
use crate::timestamp::Timestamp;

/// What is known about an item since it was last changed: all of it, or that it is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveEntry {
    id: String,
    item: Option<CatalogItem>,
    json: String,
    vector: Option<Vec<f32>>,
    updated_at_ms: i64,
    attributes: ItemAttributes,
}

/// Why kept bytes are not a change of the catalogue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LiveEntryError {
    /// They are not the JSON of one.
    #[error("a kept change of the catalogue cannot be read: restore the store from a backup, or send the item again")]
    Record(#[from] serde_json::Error),
    /// The item in it breaks a bound.
    #[error("a kept change of the catalogue breaks a bound: send the item again")]
    Item(#[from] CatalogError),
}

/// The form in which a change is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    item: Option<CatalogItem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
    updated_at_ms: i64,
}

impl LiveEntry {
    /// The item as it now is. The time of the change is noted in the item, so that a later build that knows it can be told from an earlier one.
    ///
    /// # Errors
    /// An item outside the bounds of the catalogue.
    pub fn put(mut item: CatalogItem, vector: Option<Vec<f32>>, now_ms: i64) -> Result<Self, CatalogError> {
        item.updated_at = Some(Timestamp(now_ms));
        let json = item.to_json()?;
        let attributes = of_item(&item, &mut LeftOut::default());
        Ok(Self { id: item.id.clone(), item: Some(item), json, vector, updated_at_ms: now_ms, attributes })
    }

    /// An item that is gone.
    pub fn deleted(id: impl Into<String>, now_ms: i64) -> Self {
        Self {
            id: id.into(),
            item: None,
            json: String::new(),
            vector: None,
            updated_at_ms: now_ms,
            attributes: ItemAttributes::default(),
        }
    }

    /// The bytes to keep.
    ///
    /// # Errors
    /// A value that JSON does not have.
    pub fn to_record(&self) -> Result<Vec<u8>, LiveEntryError> {
        let record = Record {
            id: self.id.clone(),
            item: self.item.clone(),
            vector: self.vector.clone(),
            updated_at_ms: self.updated_at_ms,
        };
        Ok(serde_json::to_vec(&record)?)
    }

    /// The change that was kept.
    ///
    /// # Errors
    /// Bytes that [`LiveEntry::to_record`] did not make.
    pub fn from_record(bytes: &[u8]) -> Result<Self, LiveEntryError> {
        let record: Record = serde_json::from_slice(bytes)?;
        Ok(match record.item {
            Some(item) => Self::put(item, record.vector, record.updated_at_ms)?,
            None => Self::deleted(record.id, record.updated_at_ms),
        })
    }

    /// Its key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The item; none if it is gone.
    pub fn item(&self) -> Option<&CatalogItem> {
        self.item.as_ref()
    }

    /// The item as JSON, as answers carry it; none if it is gone.
    pub fn json(&self) -> Option<&str> {
        self.item.as_ref().map(|_| self.json.as_str())
    }

    /// The vector that came with it.
    pub fn vector(&self) -> Option<&[f32]> {
        self.vector.as_deref()
    }

    /// When it was changed, in milliseconds since 1970.
    pub fn updated_at_ms(&self) -> i64 {
        self.updated_at_ms
    }

    /// What filters can ask of it.
    pub fn attributes(&self) -> &ItemAttributes {
        &self.attributes
    }

    /// Whether it is there, and neither hidden nor expired.
    pub fn is_shown(&self, now_ms: i64) -> bool {
        self.item.as_ref().is_some_and(|item| !item.hidden && item.expires_at.is_none_or(|at| at.0 > now_ms))
    }

    /// Whether it is shown and can be had.
    pub fn is_recommendable(&self, now_ms: i64) -> bool {
        self.is_shown(now_ms) && self.item.as_ref().is_some_and(|item| item.available)
    }

    /// When it expires, if it does.
    pub fn expires_at_ms(&self) -> Option<i64> {
        Some(self.item.as_ref()?.expires_at?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let item =
            CatalogItem { hidden: true, expires_at: Some(Timestamp(5_000_000_000_000)), ..CatalogItem::new("bear") };
        let entry = LiveEntry::put(item, Some(vec![0.5, -1.0]), 1_795_530_301_500).unwrap();
        assert_eq!(LiveEntry::from_record(&entry.to_record().unwrap()).unwrap(), entry);
        assert_eq!(entry.item().unwrap().updated_at, Some(Timestamp(1_795_530_301_500)));
        let gone = LiveEntry::deleted("bear", 7);
        assert_eq!(LiveEntry::from_record(&gone.to_record().unwrap()).unwrap(), gone);
        assert_eq!(gone.json(), None);
        assert!(matches!(LiveEntry::from_record(b"{}"), Err(LiveEntryError::Record(_))));
    }

    #[test]
    fn hidden_expired_and_sold_out_items_are_told_apart() {
        let entry = |item: CatalogItem| LiveEntry::put(item, None, 0).unwrap();
        let plain = entry(CatalogItem::new("a"));
        assert!(plain.is_shown(0) && plain.is_recommendable(0));
        assert!(!entry(CatalogItem { hidden: true, ..CatalogItem::new("a") }).is_shown(0));
        let sold_out = entry(CatalogItem { available: false, ..CatalogItem::new("a") });
        assert!(sold_out.is_shown(0) && !sold_out.is_recommendable(0));
        let expiring = entry(CatalogItem { expires_at: Some(Timestamp(10)), ..CatalogItem::new("a") });
        assert!(expiring.is_shown(9) && !expiring.is_shown(10));
        assert!(!LiveEntry::deleted("a", 0).is_shown(0));
    }
}

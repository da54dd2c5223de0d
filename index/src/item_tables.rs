//! What an index says of its items beside their rows: keys and attributes, laid out as the file has them.
//!
//! They are laid out before the graph is built, so that what is wrong with them is told before the work, and nothing else of the items has to be
//! in memory during it.

use std::io::{Seek, Write};

use crate::attribute_tables::{AttributeTables, GatheredAttributes, ItemAttributes};
use crate::error::WriteError;
use crate::keys::{KeyTable, KeyView};
use crate::write::ContainerWriter;

/// The keys and attributes of all items, in the order of ordinals.
#[derive(Clone, Debug)]
pub struct ItemTables {
    keys: KeyTable,
    attributes: AttributeTables,
}

/// They, while items come in one after the other.
#[derive(Debug)]
pub struct ItemTablesBuilder {
    keys: KeyTable,
    attributes: GatheredAttributes,
}

impl ItemTables {
    /// Those of items that are in memory; `attributes` has an entry for each, or none at all.
    ///
    /// # Errors
    /// As [`ItemTablesBuilder`]; another number of attributes than of keys.
    pub fn new<K: AsRef<str>>(keys: &[K], attributes: &[ItemAttributes]) -> Result<Self, WriteError> {
        let keys = KeyTable::build(keys)?;
        let attributes = AttributeTables::build(keys.len(), attributes)?;
        Ok(Self { keys, attributes })
    }

    /// Number of items.
    pub fn len(&self) -> u32 {
        self.keys.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys.
    pub fn keys(&self) -> KeyView<'_> {
        self.keys.view()
    }

    pub(crate) fn key_table(&self) -> &KeyTable {
        &self.keys
    }

    pub(crate) fn write<W: Write + Seek>(&self, into: &mut ContainerWriter<W>) -> Result<(), WriteError> {
        self.keys.write(into)?;
        self.attributes.write(into)
    }
}

impl Default for ItemTablesBuilder {
    fn default() -> Self {
        Self { keys: KeyTable::empty(), attributes: GatheredAttributes::default() }
    }
}

impl ItemTablesBuilder {
    /// Takes the next item in. Nothing of it is kept but its key, values that are new, and a few bytes for each of its attributes.
    ///
    /// # Errors
    /// More items than an index holds, an empty or long key, names or values that are too long, a number that is not finite.
    pub fn push(&mut self, key: &str, attributes: &ItemAttributes) -> Result<(), WriteError> {
        let ordinal = self.keys.len();
        self.keys.push(key)?;
        self.attributes.push(ordinal, attributes)
    }

    /// All of them.
    ///
    /// # Errors
    /// A repeated key, keys that were made to collide, too many fields.
    pub fn finish(self) -> Result<ItemTables, WriteError> {
        let keys = self.keys.hashed()?;
        let attributes = self.attributes.laid_out(keys.len())?;
        Ok(ItemTables { keys, attributes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn item_by_item_or_all_at_once_makes_the_same_tables() {
        let keys = ["c", "a", "b"];
        let term = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let attributes = ["red", "blue", "red"].map(|colour| ItemAttributes {
            terms: vec![term("colour", colour), term("sort", "x"), term("colour", colour)],
            numbers: vec![("price".to_owned(), colour.len() as f64)],
        });
        let mut builder = ItemTablesBuilder::default();
        keys.iter().zip(&attributes).for_each(|(key, attributes)| builder.push(key, attributes).unwrap());
        let (one_by_one, at_once) = (builder.finish().unwrap(), ItemTables::new(&keys, &attributes).unwrap());
        assert_eq!(format!("{one_by_one:?}"), format!("{at_once:?}"));
        assert_eq!((at_once.len(), at_once.keys().key(1), at_once.keys().ordinal("b")), (3, Some("a"), Some(2)));
    }

    #[test]
    fn a_repeated_key_and_too_few_attributes_are_told() {
        assert!(matches!(ItemTables::new(&["a", "a"], &[]), Err(WriteError::KeyTwice { first: 0, second: 1, .. })));
        let one = [ItemAttributes::default()];
        assert!(matches!(
            ItemTables::new(&["a", "b"], &one),
            Err(WriteError::AttributeCount { expected: 2, found: 1 })
        ));
    }
}

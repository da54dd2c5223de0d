//! Laying attributes out for the file: the writing side of `attributes.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};

use zerocopy::IntoBytes;

use crate::error::WriteError;
use crate::format::{
    FIELD_NAME_BYTES_MAX, FIELDS_MAX, FieldEntry, POSTINGS_BITMAP, POSTINGS_LIST, Postings, TERM_BYTES_MAX, TermEntry,
    section,
};
use crate::write::ContainerWriter;

/// The attributes of one item, as they come in. Repeated entries count once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemAttributes {
    /// Field and text value.
    pub terms: Vec<(String, String)>,
    /// Field and number; finite.
    pub numbers: Vec<(String, f64)>,
}

/// The attribute sections of an index to be written.
#[derive(Clone, Debug, Default)]
pub struct AttributeTables {
    fields: Vec<FieldEntry>,
    terms: Vec<TermEntry>,
    strings: Vec<u8>,
    postings: Vec<u32>,
    number_values: Vec<f64>,
    number_ordinals: Vec<u32>,
}

/// One field while it is gathered: the items of each value, ascending, and the numbers with their items.
#[derive(Debug, Default)]
struct GatheredField {
    terms: BTreeMap<String, Vec<u32>>,
    numbers: Vec<(f64, u32)>,
    present: Vec<u32>,
}

/// The attributes of items while they come in, one item after the other. Each name and each value is kept once.
#[derive(Debug, Default)]
pub(crate) struct GatheredAttributes(BTreeMap<String, GatheredField>);

impl AttributeTables {
    /// Lays the attributes of n items out; an empty slice stands for no attributes. The same input gives the same bytes.
    ///
    /// Costs a sort of the numbers and a look-up in an ordered map per text value.
    ///
    /// # Errors
    /// Another number of entries than items, too many fields, a name or value that is too long, a number that is not finite.
    pub fn build(n: u32, items: &[ItemAttributes]) -> Result<Self, WriteError> {
        if !items.is_empty() && items.len() as u64 != u64::from(n) {
            return Err(WriteError::AttributeCount { expected: u64::from(n), found: items.len() as u64 });
        }
        let mut gathered = GatheredAttributes::default();
        (0..).zip(items).try_for_each(|(ordinal, item)| gathered.push(ordinal, item))?;
        gathered.laid_out(n)
    }

    fn push_field(&mut self, n: u32, name: &str, mut field: GatheredField) {
        let (name_start, name_len) = self.push_string(name);
        let terms_first = self.terms.len() as u64;
        for (value, items) in &field.terms {
            let (value_start, value_len) = self.push_string(value);
            let items = self.push_postings(n, items);
            self.terms.push(TermEntry { value_start, value_len, zero: 0, items });
        }
        field.numbers.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        field.numbers.dedup();
        let numbers_first = self.number_values.len() as u64;
        self.number_values.extend(field.numbers.iter().map(|(value, _)| *value));
        self.number_ordinals.extend(field.numbers.iter().map(|(_, ordinal)| *ordinal));
        let present = self.push_postings(n, &field.present);
        self.fields.push(FieldEntry {
            name_start,
            name_len,
            zero: 0,
            terms_first,
            terms_count: field.terms.len() as u64,
            numbers_first,
            numbers_count: field.numbers.len() as u64,
            present,
        });
    }

    fn push_string(&mut self, text: &str) -> (u64, u32) {
        let start = self.strings.len() as u64;
        self.strings.extend_from_slice(text.as_bytes());
        (start, text.len() as u32)
    }

    /// A list or a bitmap, whichever is shorter, padded to whole 64-bit words.
    fn push_postings(&mut self, n: u32, items: &[u32]) -> Postings {
        let start = self.postings.len() as u64;
        let bitmap_words = 2 * n.div_ceil(u64::BITS) as usize;
        let encoding = if items.len() <= bitmap_words { POSTINGS_LIST } else { POSTINGS_BITMAP };
        if encoding == POSTINGS_LIST {
            self.postings.extend_from_slice(items);
            self.postings.resize(self.postings.len().next_multiple_of(2), 0);
        } else {
            let mut words = vec![0_u32; bitmap_words];
            for item in items {
                if let Some(word) = words.get_mut((item / u32::BITS) as usize) {
                    *word |= 1 << (item % u32::BITS);
                }
            }
            self.postings.extend_from_slice(&words);
        }
        Postings { start, cardinality: items.len() as u32, encoding }
    }

    /// Writes the six attribute sections.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write<W: Write + Seek>(&self, into: &mut ContainerWriter<W>) -> Result<(), WriteError> {
        into.section(section::ATTRIBUTE_FIELDS, |w| w.write_all(self.fields.as_bytes()))?;
        into.section(section::ATTRIBUTE_TERMS, |w| w.write_all(self.terms.as_bytes()))?;
        into.section(section::ATTRIBUTE_STRINGS, |w| w.write_all(&self.strings))?;
        into.section(section::POSTINGS, |w| w.write_all(self.postings.as_bytes()))?;
        into.section(section::NUMBER_VALUES, |w| w.write_all(self.number_values.as_bytes()))?;
        into.section(section::NUMBER_ORDINALS, |w| w.write_all(self.number_ordinals.as_bytes()))
    }
}

impl GatheredAttributes {
    /// Takes those of an item in; items come in the order of their ordinals.
    pub(crate) fn push(&mut self, ordinal: u32, item: &ItemAttributes) -> Result<(), WriteError> {
        let names = item.terms.iter().map(|(name, _)| name).chain(item.numbers.iter().map(|(name, _)| name));
        let names: BTreeSet<&str> = names.map(String::as_str).collect();
        for name in names {
            if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX {
                return Err(WriteError::FieldName { ordinal, found: name.len() });
            }
            with(&mut self.0, name, |field| field.present.push(ordinal));
        }
        for (name, value) in &item.terms {
            if value.len() > TERM_BYTES_MAX {
                return Err(WriteError::TermLength { ordinal, field: name.clone(), found: value.len() });
            }
            let add = |items: &mut Vec<u32>| {
                if items.last() != Some(&ordinal) {
                    items.push(ordinal);
                }
            };
            with(&mut self.0, name, |field| with(&mut field.terms, value, add));
        }
        for (name, number) in &item.numbers {
            if !number.is_finite() {
                return Err(WriteError::Number { ordinal, field: name.clone(), found: *number });
            }
            // Adding zero turns -0 into 0, so that the order by value is also the order by bits.
            with(&mut self.0, name, |field| field.numbers.push((number + 0.0, ordinal)));
        }
        Ok(())
    }

    /// As the file has those of n items.
    pub(crate) fn laid_out(self, n: u32) -> Result<AttributeTables, WriteError> {
        if self.0.len() as u64 > FIELDS_MAX {
            return Err(WriteError::TooManyFields { found: self.0.len() as u64 });
        }
        let mut tables = AttributeTables::default();
        for (name, field) in self.0 {
            tables.push_field(n, &name, field);
        }
        Ok(tables)
    }
}

/// Changes what is kept under a name, which is copied if it is new.
fn with<T: Default>(map: &mut BTreeMap<String, T>, name: &str, change: impl FnOnce(&mut T)) {
    match map.get_mut(name) {
        Some(kept) => change(kept),
        None => change(map.entry(name.to_owned()).or_default()),
    }
}

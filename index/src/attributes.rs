//! Attributes of items: text values with the items that have them, numbers in order, both grouped by field.
//!
//! What a filter asks is answered by a binary search for field and value, and then by a list or bitmap that is ready in the file.

use std::fmt;

use crate::allow::{AllowSet, bits_of};
use crate::container::cast;
use crate::filter::Bounds;
use crate::format::{FieldEntry, POSTINGS_BITMAP, POSTINGS_LIST, Postings, TermEntry};
use crate::keys::KeyView;

/// The attributes of an opened index.
#[derive(Clone, Copy)]
pub struct AttributeView<'a> {
    pub(crate) n: u32,
    pub(crate) fields: &'a [FieldEntry],
    pub(crate) terms: &'a [TermEntry],
    pub(crate) strings: &'a [u8],
    pub(crate) postings: &'a [u8],
    pub(crate) number_values: &'a [f64],
    pub(crate) number_ordinals: &'a [u32],
    pub(crate) keys: KeyView<'a>,
}

/// One field of the attributes.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    view: AttributeView<'a>,
    entry: &'a FieldEntry,
}

impl<'a> AttributeView<'a> {
    /// All fields, in order of their names.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let view = *self;
        self.fields.iter().map(move |entry| Field { view, entry })
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<Field<'a>> {
        let name_of = |entry: &FieldEntry| self.string(entry.name_start, entry.name_len);
        let place = self.fields.binary_search_by(|entry| name_of(entry).cmp(&Some(name.as_bytes()))).ok()?;
        Some(Field { view: *self, entry: self.fields.get(place)? })
    }

    pub(crate) fn string(&self, start: u64, len: u32) -> Option<&'a [u8]> {
        let start = usize::try_from(start).ok()?;
        self.strings.get(start..start.checked_add(len as usize)?)
    }

    /// Words of the postings from `start` on, as ordinals.
    pub(crate) fn list(&self, postings: &Postings) -> Option<&'a [u32]> {
        let words: &[u32] = cast(self.postings)?;
        let start = usize::try_from(postings.start).ok()?;
        words.get(start..start.checked_add(postings.cardinality as usize)?)
    }

    pub(crate) fn bitmap(&self, postings: &Postings) -> Option<&'a [u64]> {
        let words: &[u64] = cast(self.postings)?;
        let start = usize::try_from(postings.start / 2).ok()?;
        words.get(start..start.checked_add(self.n.div_ceil(u64::BITS) as usize)?)
    }

    /// Whether an item is in a postings entry.
    fn holds(&self, postings: &Postings, ordinal: u32) -> bool {
        match postings.encoding {
            POSTINGS_LIST => self.list(postings).unwrap_or_default().binary_search(&ordinal).is_ok(),
            POSTINGS_BITMAP => {
                let word = self.bitmap(postings).unwrap_or_default().get((ordinal / u64::BITS) as usize);
                word.is_some_and(|word| word >> (ordinal % u64::BITS) & 1 == 1)
            }
            _ => false,
        }
    }

    /// The items of a postings entry.
    fn each(&self, postings: &Postings, with: impl FnMut(u32)) {
        match postings.encoding {
            POSTINGS_LIST => self.list(postings).unwrap_or_default().iter().copied().for_each(with),
            POSTINGS_BITMAP => {
                // Bits beyond the last item, which verification rules out, stand for nothing.
                bits_of(self.bitmap(postings).unwrap_or_default()).take_while(|item| *item < self.n).for_each(with);
            }
            _ => {}
        }
    }

    /// Adds the items of a postings entry. Nothing for an entry that leads outside, which verification rules out.
    pub(crate) fn add_postings(&self, postings: &Postings, into: &mut AllowSet) {
        match postings.encoding {
            POSTINGS_LIST => into.insert_all(self.list(postings).unwrap_or_default()),
            POSTINGS_BITMAP => into.or_words(self.bitmap(postings).unwrap_or_default()),
            _ => {}
        }
    }
}

impl<'a> Field<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        let bytes = self.view.string(self.entry.name_start, self.entry.name_len);
        bytes.and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// How many different text values it has.
    pub fn n_terms(&self) -> u64 {
        self.entry.terms_count
    }

    /// How many numbers it has; an item with several counts several times.
    pub fn n_numbers(&self) -> u64 {
        self.entry.numbers_count
    }

    /// How many items have a value or number.
    pub fn n_items(&self) -> u32 {
        self.entry.present.cardinality
    }

    /// Its text values in order, each with the number of items that have it.
    pub fn terms(&self) -> impl Iterator<Item = (&'a str, u32)> + use<'a> {
        let view = self.view;
        self.term_entries().iter().map(move |term| {
            let bytes = view.string(term.value_start, term.value_len);
            (bytes.and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default(), term.items.cardinality)
        })
    }

    /// The least and the greatest of its numbers.
    pub fn number_range(&self) -> Option<(f64, f64)> {
        let (values, _) = self.numbers();
        Some((*values.first()?, *values.last()?))
    }

    /// Whether an item has this text value: a binary search for the value, and one for the item.
    pub fn has_term(&self, value: &str, ordinal: u32) -> bool {
        self.term(value).is_some_and(|term| self.view.holds(&term.items, ordinal))
    }

    /// The place of a text value, in the order of [`Field::terms`]; none where no item has it.
    pub fn place(&self, value: &str) -> Option<u32> {
        let value_of = |term: &TermEntry| self.view.string(term.value_start, term.value_len);
        let found = self.term_entries().binary_search_by(|term| value_of(term).cmp(&Some(value.as_bytes())));
        found.ok().map(|place| place as u32)
    }

    fn term(&self, value: &str) -> Option<&'a TermEntry> {
        self.term_entries().get(self.place(value)? as usize)
    }

    /// Whether an item has any value or number.
    pub fn has_any(&self, ordinal: u32) -> bool {
        self.view.holds(&self.entry.present, ordinal)
    }

    /// Every pair of a text value's place, in the order of [`Field::terms`], and an item that has it.
    pub fn each_term(&self, mut with: impl FnMut(u32, u32)) {
        for (place, term) in (0..).zip(self.term_entries()) {
            self.view.each(&term.items, |ordinal| with(place, ordinal));
        }
    }

    pub(crate) fn term_entries(&self) -> &'a [TermEntry] {
        window(self.view.terms, self.entry.terms_first, self.entry.terms_count)
    }

    /// Its numbers, ascending, and the item of each.
    pub(crate) fn numbers(&self) -> (&'a [f64], &'a [u32]) {
        let FieldEntry { numbers_first: first, numbers_count: count, .. } = *self.entry;
        (window(self.view.number_values, first, count), window(self.view.number_ordinals, first, count))
    }

    pub(crate) fn add_term(&self, value: &str, into: &mut AllowSet) {
        if let Some(term) = self.term(value) {
            self.view.add_postings(&term.items, into);
        }
    }

    pub(crate) fn add_numbers(&self, bounds: &Bounds, into: &mut AllowSet) {
        self.within(bounds).for_each(|(ordinal, _)| {
            into.insert(ordinal);
        });
    }

    /// The items with a number within bounds, and that number; in order of the numbers.
    pub(crate) fn within(&self, bounds: &Bounds) -> impl ExactSizeIterator<Item = (u32, f64)> + use<'a> {
        let (values, ordinals) = self.numbers();
        let from = values.partition_point(|value| bounds.below(*value));
        let to = values.partition_point(|value| !bounds.above(*value));
        let (values, ordinals) = (values.get(from..to), ordinals.get(from..to));
        ordinals.unwrap_or_default().iter().copied().zip(values.unwrap_or_default().iter().copied())
    }

    /// What [`Field::add_except`] compares for so many values and numbers, or adds, if that is more: few values may be those of very many items.
    pub(crate) fn except_steps(&self, values: usize, numbers: usize) -> usize {
        let compared =
            self.term_entries().len().saturating_mul(1 + values) + self.numbers().0.len().saturating_mul(1 + numbers);
        compared.max(self.n_items() as usize)
    }

    /// Adds the items with a text value or number that is none of these. Costs a step per value of the field.
    pub(crate) fn add_except(&self, values: &[String], numbers: &[f64], into: &mut AllowSet) {
        for term in self.term_entries() {
            let value = self.view.string(term.value_start, term.value_len);
            if !values.iter().any(|except| Some(except.as_bytes()) == value) {
                self.view.add_postings(&term.items, into);
            }
        }
        for (ordinal, number) in self.within(&Bounds::NONE) {
            if !numbers.contains(&number) {
                into.insert(ordinal);
            }
        }
    }

    /// Its numbers with the item of each, ascending by number.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, f64)> + use<'a> {
        self.within(&Bounds::NONE)
    }

    pub(crate) fn add_present(&self, into: &mut AllowSet) {
        self.view.add_postings(&self.entry.present, into);
    }
}

/// A part of a table; empty where it leads outside, which verification rules out.
pub(crate) fn window<T>(table: &[T], first: u64, count: u64) -> &[T] {
    let end = first.checked_add(count).and_then(|end| usize::try_from(end).ok());
    end.and_then(|end| table.get(first as usize..end)).unwrap_or_default()
}

impl fmt::Debug for AttributeView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributeView").field("fields", &self.fields.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("name", &self.name()).field("terms", &self.n_terms()).finish_non_exhaustive()
    }
}

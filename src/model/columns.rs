//! Attributes by item rather than by value: what rules ask of each candidate. Made of the index's tables when a rule first asks, and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Model;

/// The values of one field, by ordinal.
#[derive(Debug)]
pub struct Column<T> {
    offsets: Vec<u32>,
    values: Vec<T>,
}

/// The columns that have been asked for.
#[derive(Debug, Default)]
pub(super) struct Columns {
    numbers: Kept<f64>,
    terms: Kept<u32>,
}

type Kept<T> = Mutex<BTreeMap<String, Arc<Column<T>>>>;

impl<T: Copy + Default> Column<T> {
    /// Groups pairs by item; the order within an item is that of the pairs. 4 bytes an item and the values.
    fn new(n: u32, pairs: &[(u32, T)]) -> Self {
        let mut offsets = vec![0_u32; n as usize + 1];
        for (ordinal, _) in pairs {
            if let Some(count) = offsets.get_mut(*ordinal as usize + 1) {
                *count += 1;
            }
        }
        let mut total = 0;
        for offset in &mut offsets {
            total += *offset;
            *offset = total;
        }
        let (mut next, mut values) = (offsets.clone(), vec![T::default(); total as usize]);
        for (ordinal, value) in pairs {
            if let Some(place) = next.get_mut(*ordinal as usize)
                && let Some(into) = values.get_mut(*place as usize)
            {
                *into = *value;
                *place += 1;
            }
        }
        Self { offsets, values }
    }

    /// The values of an item; none for an ordinal out of range.
    pub fn of(&self, ordinal: u32) -> &[T] {
        let at = ordinal as usize;
        let ends = self.offsets.get(at).zip(self.offsets.get(at + 1));
        ends.and_then(|(from, to)| self.values.get(*from as usize..*to as usize)).unwrap_or_default()
    }
}

impl<D: AsRef<[u8]>> Model<D> {
    /// The numbers of a field by item, or none where no item has the field. The first call for a field costs a pass over its numbers.
    pub fn numbers(&self, field: &str) -> Option<Arc<Column<f64>>> {
        kept(&self.columns.numbers, field, || {
            let pairs: Vec<_> = self.index.attributes().field(field)?.numbered().collect();
            Some(Column::new(self.len(), &pairs))
        })
    }

    /// Makes the columns that another model has been asked for: in whose place this one comes is asked for the same, and no request waits then.
    pub(crate) fn make_columns_of<E: AsRef<[u8]>>(&self, other: &Model<E>) {
        names(&other.columns.numbers).iter().for_each(|field| drop(self.numbers(field)));
        names(&other.columns.terms).iter().for_each(|field| drop(self.terms(field)));
    }

    /// The text values of a field by item, each as its place among the values of the field, or none where no item has the field.
    pub fn terms(&self, field: &str) -> Option<Arc<Column<u32>>> {
        kept(&self.columns.terms, field, || {
            let mut pairs = Vec::new();
            self.index.attributes().field(field)?.each_term(|term, ordinal| pairs.push((ordinal, term)));
            Some(Column::new(self.len(), &pairs))
        })
    }
}

/// Only fields that there are take up a place, so callers cannot make it grow.
fn kept<T>(all: &Kept<T>, field: &str, make: impl FnOnce() -> Option<Column<T>>) -> Option<Arc<Column<T>>> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(column) = all.get(field) {
        return Some(Arc::clone(column));
    }
    let column = Arc::new(make()?);
    all.insert(field.to_owned(), Arc::clone(&column));
    Some(column)
}

fn names<T>(all: &Kept<T>) -> Vec<String> {
    all.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
}

#[cfg(test)]
mod tests {
    use kindred_index::Metric;

    use super::names;
    use crate::testing::Fixture;

    #[test]
    fn the_columns_of_the_model_before_are_there_before_anybody_asks() {
        let (before, model) = (Fixture::shop().model(), Fixture::random(3, 70, 8, Metric::Cosine).model());
        before.numbers("price").unwrap();
        before.terms("category").unwrap();
        model.make_columns_of(&before);
        assert_eq!(names(&model.columns.numbers), ["price"]);
        assert_eq!(names(&model.columns.terms), ["category"]);
    }

    #[test]
    fn columns_say_what_the_catalogue_says() {
        let fixture = Fixture::random(3, 70, 8, Metric::Cosine);
        let model = fixture.model();
        let (prices, categories) = (model.numbers("price").unwrap(), model.terms("category").unwrap());
        let names: Vec<_> =
            model.index().attributes().field("category").unwrap().terms().map(|(name, _)| name).collect();
        for (ordinal, item) in (0..).zip(&fixture.items) {
            assert_eq!(prices.of(ordinal), [item.price.unwrap()]);
            let found: Vec<_> = categories.of(ordinal).iter().map(|term| names[*term as usize]).collect();
            assert_eq!(found, item.categories);
            let field = model.index().attributes().field("category").unwrap();
            for name in &names {
                assert_eq!(field.has_term(name, ordinal), item.categories.contains(&(*name).to_owned()));
            }
            assert!(field.has_any(ordinal));
        }
        assert!(prices.of(70).is_empty() && model.numbers("no such").is_none());
    }
}

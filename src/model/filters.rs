//! Filters that are asked again and again: what passes them, evaluated once for as long as the model is served.
//!
//! The model's tables never change; what changed in the catalogue since is laid over what is kept here, request by request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kindred_index::format::code_stride;
use kindred_index::{AllowSet, FilterExpr, Index};

use crate::limits;

/// Sets are gathered that have at most one in so many of all items: of others, a search compares with few.
const GATHERED_SHARE: u32 = 6;

/// What passes the filters that were asked last.
#[derive(Debug, Default)]
pub(super) struct Filters {
    kept: Mutex<Vec<Kept>>,
}

/// A filter, and what passes it; not yet after it was asked for the first time, so that filters that never come again cost no memory.
#[derive(Debug)]
struct Kept {
    filter: FilterExpr,
    set: Option<Arc<AllowSet>>,
}

impl Filters {
    /// What passes a filter, if that is kept. Costs a comparison with each filter that was asked since it was asked last.
    pub(super) fn get(&self, filter: &FilterExpr) -> Option<Arc<AllowSet>> {
        let mut kept = self.kept();
        let place = kept.iter().position(|one| one.filter == *filter)?;
        kept.get_mut(..=place)?.rotate_right(1);
        kept.first()?.set.clone()
    }

    /// Keeps what passes a filter, if it is asked for the second time.
    pub(super) fn put<D: AsRef<[u8]>>(&self, filter: &FilterExpr, set: AllowSet, index: &Index<D>) -> Arc<AllowSet> {
        self.put_within(filter, set, index, limits::FILTERS_KEPT_BYTES_MAX)
    }

    /// The same, in so much memory.
    fn put_within<D: AsRef<[u8]>>(
        &self,
        filter: &FilterExpr,
        set: AllowSet,
        index: &Index<D>,
        most_bytes: usize,
    ) -> Arc<AllowSet> {
        if filter.n_parts() > limits::FILTER_KEPT_PARTS_MAX {
            return Arc::new(set);
        }
        if !self.is_asked_again(filter) {
            return Arc::new(set);
        }
        let mut set = set;
        let gathered =
            set.cardinality() as usize * (code_stride(index.dimensions() as u32) as usize + size_of::<u32>());
        // Beside what is kept: filters that come in turns would drive out one another's, and each copy would be made again and again.
        let others: usize = self.kept().iter().filter_map(|one| one.set.as_ref()).map(|set| set.bytes()).sum();
        let fits = others + set.bytes() + gathered <= most_bytes;
        if fits && set.cardinality() <= index.len() / GATHERED_SHARE {
            index.gather(&mut set);
        }
        let set = Arc::new(set);
        let mut kept = self.kept();
        if let Some(one) = kept.iter_mut().find(|one| one.filter == *filter) {
            one.set = Some(Arc::clone(&set));
        }
        let mut bytes = 0;
        for one in kept.iter_mut() {
            bytes += one.set.as_ref().map_or(0, |set| set.bytes());
            if bytes > most_bytes {
                one.set = None;
            }
        }
        set
    }

    /// Whether a filter was asked before. It is now.
    fn is_asked_again(&self, filter: &FilterExpr) -> bool {
        let mut kept = self.kept();
        let is_known = kept.iter().any(|one| one.filter == *filter);
        if !is_known {
            kept.insert(0, Kept { filter: filter.clone(), set: None });
            kept.truncate(limits::FILTERS_KEPT_MAX);
        }
        is_known
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
    use kindred_index::{AlignedBytes, IndexInput, Metric};

    use super::*;
    use crate::testing::Fixture;

    /// With codes, which an index that is only laid out has not.
    fn index(fixture: &Fixture) -> Index<AlignedBytes> {
        let tables = fixture.tables();
        let (dims, metric) = (fixture.dimensions, fixture.metric);
        let input = IndexInput { tables: &tables, rows: &fixture.rows, dims, metric };
        let built = build_index(&input, &GraphOptions::default(), &HnswBuilder, &()).unwrap();
        Index::open(built.to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn copies_that_do_not_fit_together_do_not_drive_out_one_another() {
        let index = index(&Fixture::random(3, 600, 16, Metric::Cosine));
        let mut set = AllowSet::new_empty(index.len());
        (0..index.len()).step_by(10).for_each(|ordinal| assert!(set.insert(ordinal)));
        let filter = |value: &str| FilterExpr::Match { field: "category".to_owned(), value: value.to_owned() };
        let ask = |filters: &Filters, value: &str, most_bytes: usize| {
            filters.get(&filter(value));
            filters.put_within(&filter(value), set.clone(), &index, most_bytes).bytes()
        };
        let alone = Filters::default();
        let gathered = ["toys"; 2].map(|value| ask(&alone, value, usize::MAX))[1];
        assert!(gathered > 2 * set.bytes());
        let (filters, most_bytes) = (Filters::default(), gathered + set.bytes());
        let taken = ["toys", "toys", "books", "books"].map(|value| ask(&filters, value, most_bytes));
        assert_eq!(taken, [set.bytes(), gathered, set.bytes(), set.bytes()]);
        let kept = ["toys", "books"].map(|value| filters.get(&filter(value)).map(|set| set.bytes()));
        assert_eq!(kept, [Some(gathered), Some(set.bytes())]);
    }
}

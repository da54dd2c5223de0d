//! Rows for items that no interaction said anything about.
//!
//! An item that is in the catalogue and in no interaction has no factors, yet it must be findable by its key, filterable and, when a
//! visitor comes upon it, say something about them. It gets the direction that its texts and attributes call for, or else that of the items of its
//! categories, and a length
//! as small as those of the items least interacted with, so that it does not crowd out what is known to be liked.

use std::collections::BTreeMap;

use kindred::catalog::CatalogItem;
use kindred::encoder::{Encoded, Features};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Factors, encoder};
use crate::matrix::{self, Matrix, normalise};
use crate::model_dir::{EncoderTable, ModelMetric};

/// How much of a cold row is random: enough that two items of the same categories are not the same point of the graph.
const NOISE: f32 = 0.1;
/// The share of items whose lengths are below that of a cold row.
const LENGTH_QUANTILE: f64 = 0.05;

/// Fills rows of zeros; others stay. Returns how many target rows there were. Costs one pass over the factors and the catalogue.
///
/// Where no row at all was learned, nothing is filled in.
pub fn fill(factors: &mut Factors, catalog: &[CatalogItem], encoder: Option<&EncoderTable>, seed: u64) -> u64 {
    let filled = fill_cold(factors, catalog, encoder, seed);
    if let Some(context) = &mut factors.context {
        fill_context(context, &factors.items);
    }
    filled
}

/// Fills the context rows of items that have target rows: nothing ever came after such an item, so all that is known of it is what it came after. It
/// says as little as the items do that say least.
fn fill_context(context: &mut Matrix, items: &Matrix) {
    let norms = context.norms();
    let Some(small) = small(&norms) else { return };
    for item in (0..norms.len()).filter(|item| norms[*item] == 0.0) {
        let mut direction = items.row(item).to_vec();
        normalise(&mut direction);
        scaled_into(context.row_mut(item), &direction, small);
    }
}

fn fill_cold(factors: &mut Factors, catalog: &[CatalogItem], encoder: Option<&EncoderTable>, seed: u64) -> u64 {
    let norms = factors.items.norms();
    let cold: Vec<usize> = (0..norms.len()).filter(|item| norms[*item] == 0.0).collect();
    let small_context = factors.context.as_ref().and_then(|context| small(&context.norms())).unwrap_or(1.0);
    let Some(small) = small(&norms).filter(|_| !cold.is_empty()) else { return 0 };
    let means = Means::of(&factors.items, catalog);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xc01d);
    for item in &cold {
        let entry = catalog.get(*item);
        let made = encoder
            .zip(entry)
            .and_then(|(table, entry)| encoder::view(table, factors.items.cols).encode(&Features::of_item(entry)));
        let (target, context) = match made {
            Some(Encoded { target, context }) => (target, context),
            None => (means.plain(entry), None),
        };
        let direction = noisy(target, &mut rng);
        let length = if factors.metric == ModelMetric::Cosine { 1.0 } else { small };
        scaled_into(factors.items.row_mut(*item), &direction, length);
        // Of an item that came after nothing it may well be known what comes after it.
        let unknown = factors.context.as_mut().filter(|rows| matrix::norm(rows.row(*item)) == 0.0);
        if let Some(rows) = unknown {
            let direction = context.map_or(direction, |context| noisy(context, &mut rng));
            scaled_into(rows.row_mut(*item), &direction, small_context);
        }
    }
    cold.len() as u64
}

/// The length that few rows are shorter than; none where there are none but zeros.
fn small(norms: &[f32]) -> Option<f32> {
    let mut lengths: Vec<f32> = norms.iter().copied().filter(|norm| *norm > 0.0).collect();
    lengths.sort_unstable_by(f32::total_cmp);
    lengths.get((lengths.len() as f64 * LENGTH_QUANTILE) as usize).copied()
}

fn scaled_into(row: &mut [f32], direction: &[f32], length: f32) {
    row.iter_mut().zip(direction).for_each(|(row, value)| *row = value * length);
}

/// Mean directions of the items of each category, and of all.
pub(super) struct Means<'a> {
    by_category: BTreeMap<&'a str, Vec<f32>>,
    all: Vec<f32>,
}

impl<'a> Means<'a> {
    pub(super) fn of(items: &Matrix, catalog: &'a [CatalogItem]) -> Self {
        let unit = items.to_unit_length();
        let mut means = Self { by_category: BTreeMap::new(), all: vec![0.0; items.cols] };
        for (item, row) in catalog.iter().zip(unit.iter()) {
            add(&mut means.all, row);
            for category in &item.categories {
                add(means.by_category.entry(category).or_insert_with(|| vec![0.0; row.len()]), row);
            }
        }
        means
    }

    /// A vector of length 1: the mean of the item's categories, or of all items.
    pub(super) fn plain(&self, item: Option<&CatalogItem>) -> Vec<f32> {
        let mut sum = vec![0.0; self.all.len()];
        let categories = item.map(|item| item.categories.as_slice()).unwrap_or_default();
        categories.iter().filter_map(|category| self.by_category.get(category.as_str())).for_each(|m| add(&mut sum, m));
        if matrix::norm(&sum) == 0.0 {
            sum.clone_from(&self.all);
        }
        normalise(&mut sum);
        sum
    }
}

/// A direction, and some noise; of length 1.
fn noisy(mut direction: Vec<f32>, rng: &mut ChaCha8Rng) -> Vec<f32> {
    normalise(&mut direction);
    let mut noise: Vec<f32> = direction.iter().map(|_| rng.random::<f32>() - 0.5).collect();
    normalise(&mut noise);
    direction.iter_mut().zip(noise).for_each(|(value, noise)| *value += NOISE * noise);
    normalise(&mut direction);
    direction
}

fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn item(id: &str, category: &str) -> CatalogItem {
        CatalogItem { categories: vec![category.to_owned()], ..CatalogItem::new(id) }
    }

    #[test]
    fn cold_items_point_where_their_categories_point() {
        let catalog =
            [item("a", "toys"), item("b", "books"), item("c", "toys"), item("d", "toys"), CatalogItem::new("e")];
        let items = Matrix::from_vec(5, 3, [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0; 3], [0.0; 3], [0.0; 3]].concat());
        let items = items.unwrap();
        let context = Some(items.to_unit_length());
        let metric = ModelMetric::InnerProduct;
        let mut factors = Factors { items, context, metric, loss: vec![], position_weights: None, parameters: None };
        assert_eq!(fill(&mut factors, &catalog, None, 1), 3);
        for cold in [2, 3] {
            let row = factors.items.row(cold);
            assert!((matrix::norm(row) - 2.0).abs() < 1e-5, "as short as the shortest");
            assert!(row[0] > 1.9, "{row:?}");
            assert!((matrix::norm(factors.context.as_ref().unwrap().row(cold)) - 1.0).abs() < 1e-5);
        }
        assert_ne!(factors.items.row(2), factors.items.row(3), "no two are the same point");
        let everything = factors.items.row(4);
        assert!(everything[0] > 1.0 && everything[1] > 1.0, "{everything:?}");
        assert_eq!(factors.items.row(1), [0.0, 4.0, 0.0], "learned rows stay");
        assert_eq!(fill(&mut factors, &catalog, None, 1), 0);
    }

    #[test]
    fn a_cold_item_says_as_little_of_a_visitor_as_those_that_say_least() {
        let items = Matrix::from_vec(3, 2, vec![2.0, 0.0, 0.0, 4.0, 0.0, 0.0]).unwrap();
        let context = Some(Matrix::from_vec(3, 2, vec![0.0, 0.5, 0.25, 0.0, 0.0, 0.0]).unwrap());
        let metric = ModelMetric::InnerProduct;
        let mut factors = Factors { items, context, metric, loss: vec![], position_weights: None, parameters: None };
        assert_eq!(fill(&mut factors, &[], None, 1), 1);
        let length = matrix::norm(factors.context.unwrap().row(2));
        assert!((length - 0.25).abs() < 1e-5, "{length}");
    }

    #[test]
    fn what_came_after_nothing_says_of_a_visitor_what_was_learned() {
        let items = Matrix::from_vec(3, 2, vec![2.0, 0.0, 0.0, 4.0, 0.0, 0.0]).unwrap();
        let learned = vec![0.0, 0.5, 0.25, 0.0, 0.3, -0.4];
        let context = Some(Matrix::from_vec(3, 2, learned.clone()).unwrap());
        let metric = ModelMetric::InnerProduct;
        let mut factors = Factors { items, context, metric, loss: vec![], position_weights: None, parameters: None };
        assert_eq!(fill(&mut factors, &[], None, 1), 1);
        assert_eq!(factors.context.unwrap().data, learned);
        assert!(matrix::fault(factors.items.row(2)).is_none());
    }

    #[test]
    fn what_nothing_came_after_says_of_a_visitor_what_it_came_after() {
        let items = Matrix::from_vec(3, 2, vec![2.0, 0.0, 0.0, 4.0, 3.0, 4.0]).unwrap();
        let context = Some(Matrix::from_vec(3, 2, vec![0.0, 0.5, 0.25, 0.0, 0.0, 0.0]).unwrap());
        let metric = ModelMetric::InnerProduct;
        let mut factors = Factors { items, context, metric, loss: vec![], position_weights: None, parameters: None };
        assert_eq!(fill(&mut factors, &[], None, 1), 0, "its target row was learned");
        assert_eq!(factors.context.unwrap().data, [0.0, 0.5, 0.25, 0.0, 0.15, 0.2]);
    }
}

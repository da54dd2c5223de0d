//! The encoder: which factors an item probably has, from its texts and attributes.
//!
//! The features of each item that has learned rows (`kindred::encoder`), weighed by how rare they are and of length 1 in all, are regressed onto its
//! target and context directions (`ridge`; Gantner et al. 2010). Items with few interactions count less, since theirs are rows of
//! chance. What holds the rows small is chosen on one item in ten that is held back, whose made rows are compared with the learned ones; the
//! mean of their categories is compared too, so that the model says what its texts are worth.

use std::collections::HashMap;

use kindred::catalog::CatalogItem;
use kindred::encoder::{EncoderView, Features};
use kindred::limits;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::ridge::Ridge;
use super::sparse::SparseRows;
use super::{Factors, TrainError, TrainProgress, cold};
use crate::matrix::{self, Matrix};
use crate::model_dir::{EncoderInfo, EncoderTable};

/// What is tried to hold rows small.
const RIDGES: [f32; 5] = [0.1, 0.3, 1.0, 3.0, 10.0];
/// Items that choosing is done on, at most.
const CHOSEN_ON_MAX: usize = 20_000;
/// Fewer items than these teach no words.
const ITEMS_MIN: usize = 20;
/// Interactions after which an item's rows are trusted by half.
const TRUSTED_BY_HALF: f32 = 5.0;
/// Features to an item, on average, beyond which the rarest are left out.
const FEATURES_PER_ITEM: usize = 4;
const FEATURES_MIN: usize = 4_096;

/// An item to learn from.
struct Example {
    item: usize,
    features: Features,
    trust: f32,
}

/// Fits an encoder; none where too few items have both factors and something that describes them. `counts` are interactions an item.
///
/// Costs seven regressions of some tens of passes over the features of all items, and memory for four numbers a feature and factor.
///
/// # Errors
/// A caller who no longer wants the result.
pub fn fit(
    factors: &Factors,
    catalog: &[CatalogItem],
    counts: &[f32],
    seed: u64,
    progress: &dyn TrainProgress,
) -> Result<Option<(EncoderTable, EncoderInfo)>, TrainError> {
    let examples = examples(factors, catalog, counts);
    if examples.len() < ITEMS_MIN {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xe4c0));
    order.truncate(CHOSEN_ON_MAX);
    let (held_back, rest) = order.split_at(order.len() / 10);
    let of = |places: &[usize]| -> Vec<&Example> { places.iter().map(|at| &examples[*at]).collect() };
    let (held_back, rest) = (of(held_back), of(rest));
    let (mut chosen, mut best) = (RIDGES[0], f64::MIN);
    let mut words = Words::of(&rest);
    for (done, ridge) in (0_u64..).zip(RIDGES) {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        progress.step("learning words", done, RIDGES.len() as u64 + 1);
        let table = words.regress(&rest, factors, ridge);
        let worth = mean_cosine(&held_back, factors, |example| {
            view(&table, factors.items.cols).encode(&example.features).map(|encoded| encoded.target)
        });
        if worth > best {
            (chosen, best) = (ridge, worth);
        }
    }
    let by_category = cold::Means::of(&without(factors, &held_back), catalog);
    let cosine_of_categories =
        mean_cosine(&held_back, factors, |example| Some(by_category.plain(catalog.get(example.item))));
    let all: Vec<&Example> = examples.iter().collect();
    words = Words::of(&all);
    let table = words.regress(&all, factors, chosen);
    progress.step("learning words", 1, 1);
    let (n_features, n_items) = (table.keys.len(), all.len());
    let info = EncoderInfo { n_features, n_items, ridge: chosen, cosine: best, cosine_of_categories };
    Ok(Some((table, info)))
}

/// A table as serving sees it.
pub(super) fn view(table: &EncoderTable, dimensions: usize) -> EncoderView<'_> {
    let EncoderTable { keys, weights, rows, context_rows } = table;
    EncoderView { keys, weights, rows, context_rows, dimensions }
}

fn examples(factors: &Factors, catalog: &[CatalogItem], counts: &[f32]) -> Vec<Example> {
    let norms = factors.items.norms();
    let example = |(item, entry): (usize, &CatalogItem)| {
        let features = Features::of_item(entry);
        let count = counts.get(item).copied().unwrap_or_default().max(0.0);
        let known = norms.get(item).is_some_and(|norm| *norm > 0.0);
        (known && !features.is_empty()).then(|| Example {
            item,
            features,
            trust: (1.0 + count) / (1.0 + count + TRUSTED_BY_HALF),
        })
    };
    catalog.iter().enumerate().filter_map(example).collect()
}

/// The factors without the target rows of some items.
fn without(factors: &Factors, examples: &[&Example]) -> Matrix {
    let mut rows = factors.items.clone();
    examples.iter().for_each(|example| rows.row_mut(example.item).fill(0.0));
    rows
}

/// How well rows that are made point where the learned ones do; one that cannot be made is at a right angle.
fn mean_cosine(examples: &[&Example], factors: &Factors, make: impl Fn(&Example) -> Option<Vec<f32>>) -> f64 {
    let cosine = |example: &&Example| {
        let (row, made) = (factors.items.row(example.item), make(example)?);
        let product: f32 = row.iter().zip(&made).map(|(a, b)| a * b).sum();
        let lengths = matrix::norm(row) * matrix::norm(&made);
        (lengths > 0.0).then(|| f64::from(product / lengths))
    };
    examples.iter().map(|example| cosine(example).unwrap_or_default()).sum::<f64>() / examples.len().max(1) as f64
}

/// The features that are known, and how much each weighs.
struct Words {
    keys: Vec<u64>,
    weights: Vec<f32>,
}

impl Words {
    /// The features of some items; the rarest are left out where there are too many.
    fn of(examples: &[&Example]) -> Self {
        let mut items: HashMap<u64, u32> = HashMap::new();
        for example in examples {
            example.features.iter().for_each(|(key, _)| *items.entry(key).or_default() += 1);
        }
        let most = (FEATURES_PER_ITEM * examples.len()).clamp(FEATURES_MIN, limits::ENCODER_FEATURES_MAX);
        let mut all: Vec<(u64, u32)> = items.into_iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(most);
        all.sort_unstable();
        let n = examples.len() as f32;
        let weight = |(_, items): &(u64, u32)| ((1.0 + n) / (1.0 + *items as f32)).ln() + 1.0;
        Self { weights: all.iter().map(weight).collect(), keys: all.into_iter().map(|(key, _)| key).collect() }
    }

    /// The rows of the features that come nearest to those of the items.
    fn regress(&self, examples: &[&Example], factors: &Factors, ridge: f32) -> EncoderTable {
        let dimensions = factors.items.cols;
        let tables = [Some(&factors.items), factors.context.as_ref()];
        let width = dimensions * tables.iter().flatten().count();
        let known = EncoderView { keys: &self.keys, weights: &self.weights, ..EncoderView::default() };
        let mut targets = Vec::with_capacity(examples.len() * width);
        let mut rows = SparseRows::new();
        for example in examples {
            let trust = example.trust.sqrt();
            rows.push(known.known(&example.features).into_iter().map(|(at, value)| (at as u32, trust * value)));
            for table in tables.iter().flatten() {
                let row = table.row(example.item);
                let scale = trust / matrix::norm(row).max(f32::MIN_POSITIVE);
                targets.extend(row.iter().map(|value| scale * value));
            }
        }
        let solved = Ridge::new(&rows, self.keys.len(), ridge, width).solve(&targets);
        let part = |from: usize| -> Vec<f32> {
            let all = solved.chunks_exact(width).flat_map(|row| row.get(from..from + dimensions).unwrap_or_default());
            all.copied().collect()
        };
        let context_rows = if width > dimensions { part(dimensions) } else { Vec::new() };
        EncoderTable { keys: self.keys.clone(), weights: self.weights.clone(), rows: part(0), context_rows }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::model_dir::ModelMetric;

    /// Items of a colour and a thing: rows are the sum of a direction for each, so words say all.
    fn shop(context: bool) -> (Factors, Vec<CatalogItem>) {
        let (colours, things) = (["red", "green", "blue", "white"], ["lamp", "chair", "table", "mirror", "clock"]);
        let mut catalog = Vec::new();
        let mut items = Matrix::zeros(100, 10);
        for item in 0..100 {
            let (colour, thing) = (item % 4, item / 4 % 5);
            let entry = CatalogItem {
                title: format!("{} {}", colours[colour], things[thing]),
                ..CatalogItem::new(format!("item-{item}"))
            };
            catalog.push(entry);
            items.row_mut(item)[colour] = 3.0;
            items.row_mut(item)[4 + thing] = 3.0;
        }
        items.row_mut(99).fill(0.0);
        let context = context.then(|| {
            let mut other = items.clone();
            other.data.iter_mut().for_each(|value| *value = -*value);
            other
        });
        let metric = ModelMetric::InnerProduct;
        (Factors { items, context, metric, loss: vec![], position_weights: None, parameters: None }, catalog)
    }

    #[test]
    fn words_say_what_rows_are_made_of() {
        let (factors, catalog) = shop(true);
        let (table, info) = fit(&factors, &catalog, &[100.0; 100], 1, &()).unwrap().unwrap();
        assert_eq!(info.n_items, 99, "one has no row");
        assert!(info.cosine > 0.98 && info.cosine > info.cosine_of_categories + 0.2, "{info:?}");
        let view = view(&table, 10);
        let found = view.encode(&Features::of_query("a blue mirror")).unwrap();
        let (target, context) = (found.target, found.context.unwrap());
        let greatest = |row: &[f32]| (0..10).filter(|at| row[*at].abs() > 0.3).collect::<Vec<usize>>();
        assert_eq!(greatest(&target), [2, 7], "{target:?}");
        assert!(context[2] < -0.3 && context[7] < -0.3, "{context:?}");
        assert_eq!(view.unknown_words("blue sofa"), ["sofa"]);
    }

    #[test]
    fn a_catalogue_that_says_nothing_teaches_nothing() {
        let (factors, _) = shop(false);
        let bare: Vec<CatalogItem> = (0..100).map(|item| CatalogItem::new(format!("item-{item}"))).collect();
        assert_eq!(fit(&factors, &bare, &[1.0; 100], 1, &()).unwrap(), None);
        let (mut few, catalog) = shop(false);
        (10..100).for_each(|item| few.items.row_mut(item).fill(0.0));
        assert_eq!(fit(&few, &catalog, &[1.0; 100], 1, &()).unwrap(), None);
        let (factors, catalog) = shop(false);
        assert!(fit(&factors, &catalog, &[], 1, &()).unwrap().unwrap().0.context_rows.is_empty());
    }
}

//! The vectors of an item that the artifact does not know.

use kindred_index::{FilterExpr, Metric, Row, normalise};

use super::entry::LiveEntry;
use crate::catalog::attributes::CATEGORY;
use crate::encoder::Features;
use crate::model::{Model, ModelView};

/// Items of the same categories that stand in for one that nothing else is known about. More change the mean little.
const ALIKE_MAX: usize = 256;

/// Target and context row of an item beside the artifact, each as long as the model's.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRows {
    /// What is compared with a visitor; of unit length where the metric is cosine.
    pub target: Box<[f32]>,
    /// What the item says about a visitor; none in a symmetric model.
    pub context: Option<Box<[f32]>>,
}

impl LiveRows {
    /// The vector that came with the item, or else what its texts and attributes say, or else the mean of items of the same categories, or of
    /// popular items. As long as that mean, so that a new item is no more than an average one where rows differ in length.
    ///
    /// Costs a row per item and feature that is looked at, at most 256 and 512. A vector of another length than the model's counts as none: it was made
    /// for another model.
    pub fn of<D: AsRef<[u8]>>(model: &Model<D>, entry: &LiveEntry) -> Self {
        let view = model.view();
        let given = entry.vector().filter(|vector| vector.len() == model.dimensions());
        let alike = if given.is_some() && model.is_symmetric() { Vec::new() } else { alike(model, entry) };
        let needed = entry.item().filter(|_| given.is_none() || !model.is_symmetric());
        let made = needed.and_then(|item| model.encoder().encode(&Features::of_item(item)));
        let (made_target, made_context) = made.map_or((None, None), |made| (Some(made.target), made.context));
        let mut target: Box<[f32]> = match given {
            Some(vector) => vector.into(),
            None => as_long_as(mean(&view, &alike, ModelView::row), made_target),
        };
        if model.index().metric() == Metric::Cosine {
            normalise(&mut target);
        }
        let context = || as_long_as(mean(&view, &alike, ModelView::context_row), made_context);
        Self { target, context: (!model.is_symmetric()).then(context) }
    }
}

/// The direction of the second row, if there is one, and the length of the first.
fn as_long_as(mean: Box<[f32]>, made: Option<Vec<f32>>) -> Box<[f32]> {
    let Some(made) = made else { return mean };
    let length = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
    let scale = length(&mean) / length(&made).max(f32::MIN_POSITIVE);
    if scale > 0.0 { made.iter().map(|value| scale * value).collect() } else { mean }
}

/// Items that an item is probably like.
fn alike<D: AsRef<[u8]>>(model: &Model<D>, entry: &LiveEntry) -> Vec<u32> {
    let values: Vec<String> = entry.item().map(|item| item.categories.clone()).unwrap_or_default();
    let filter = FilterExpr::Any { field: CATEGORY.to_owned(), values };
    let same = model.index().attributes().evaluate(&filter, model.len());
    let mut alike = Vec::new();
    if let Ok(same) = same {
        // Spread over the catalogue, so that neighbours in the file do not speak for all.
        let step = (same.cardinality() as usize / ALIKE_MAX).max(1);
        alike.extend(same.iter().step_by(step).take(ALIKE_MAX));
    }
    if alike.is_empty() {
        alike.extend(model.popular().iter().take(ALIKE_MAX));
    }
    alike
}

fn mean<'a>(view: &ModelView<'a>, items: &[u32], row: impl Fn(&ModelView<'a>, u32) -> Option<Row<'a>>) -> Box<[f32]> {
    let mut sum = vec![0.0_f32; view.dimensions()];
    let share = 1.0 / items.len().max(1) as f32;
    for row in items.iter().filter_map(|item| row(view, *item)) {
        sum.iter_mut().zip(row.values().iter()).for_each(|(sum, value)| *sum += share * value);
    }
    sum.into()
}

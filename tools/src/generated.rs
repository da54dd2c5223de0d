//! A model of generated factors: what `kindred bench http` serves when it is given nothing else.

use std::collections::BTreeMap;

use kindred::catalog::CatalogItem;
use kindred::user_vector::Weighting;

use crate::factors::{FactorsOptions, generate};
use crate::matrix::Matrix;
use crate::model_dir::{FORMAT_VERSION, ModelDir, ModelInfo, ModelMetric};

/// The name of this maker in manifests.
pub const TRAINER: &str = "generated";
/// Neighbours kept per item.
const K_NEIGHBOURS: usize = 20;
/// Categories that items are spread over.
const CATEGORIES: u32 = 50;

/// Generates a model. With the cosine metric its rows are of unit length, as a softmax over cosines trains them; with inner product their
/// norms differ, as ALS leaves them.
pub fn model(options: &FactorsOptions, metric: ModelMetric) -> ModelDir {
    let factors = generate(options);
    let (neighbours, neighbour_similarities) = factors.neighbours(K_NEIGHBOURS, options.seed);
    let items = factors.homes.iter().enumerate().map(|(number, home)| item(number, *home)).collect();
    let item_factors = match metric {
        ModelMetric::Cosine => factors.items.to_unit_length(),
        ModelMetric::InnerProduct => factors.items,
    };
    ModelDir {
        info: info(options, metric),
        item_factors,
        context_factors: None::<Matrix>,
        items,
        neighbours,
        neighbour_similarities,
        popularity: factors.popularity,
        sessions: None,
        encoder: None,
        queries: factors.queries,
    }
}

fn item(number: usize, home: u32) -> CatalogItem {
    CatalogItem {
        title: format!("Generated item {number}"),
        categories: vec![format!("category-{}", home % CATEGORIES)],
        price: Some(1.0 + (number % 500) as f64),
        ..CatalogItem::new(format!("item-{number:06}"))
    }
}

fn info(options: &FactorsOptions, metric: ModelMetric) -> ModelInfo {
    ModelInfo {
        format_version: FORMAT_VERSION,
        trainer: TRAINER.to_owned(),
        parameters: serde_json::to_value(BTreeMap::from([("items", options.n_items), ("dims", options.dims)]))
            .unwrap_or_default(),
        seed: options.seed,
        factors: options.dims,
        metric,
        symmetric: true,
        weighting: Weighting::default(),
        kinds: vec!["view".to_owned()],
        training_window: None,
        n_users: 0,
        n_items: options.n_items as u64,
        n_interactions: 0,
        n_cold_items: 0,
        k_neighbours: K_NEIGHBOURS,
        neighbours: None,
        session_likeness: Default::default(),
        loss: Vec::new(),
        validation: None,
        learned: None,
        encoder: None,
        dataset_fingerprint: None,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

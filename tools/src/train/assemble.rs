//! A whole model from a dataset and a trainer: factors, rows for cold items, decay, neighbours, popularity, queries.

use std::collections::BTreeMap;

use kindred::catalog::CatalogItem;
use kindred::manifest::{SessionLikeness, TrainingWindow};
use kindred::timestamp::LEAST_PLAUSIBLE_MS;
use kindred::user_vector::Weighting;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::neighbours::{self, NeighbourOptions};
use super::{
    Factors, TrainError, TrainProgress, Trainer, TrainingData, by_user, cold, decay, encoder, kind_weights,
    neighbour_choice, sessions,
};
use crate::dataset::Interactions;
use crate::matrix::Matrix;
use crate::model_dir::{self, ModelDir, ModelInfo};

/// What a model is made of, read from a dataset.
#[derive(Clone, Debug)]
pub struct Material {
    /// The training part, sorted by user and time.
    pub interactions: Interactions,
    /// Users; the numbers in the user column are below this.
    pub n_users: usize,
    /// Catalogue entries; the numbers in the item column count them.
    pub items: Vec<CatalogItem>,
    /// Kinds of interaction, in the order of the kind column.
    pub kinds: Vec<String>,
    /// What kinds weighed when the dataset was prepared, those among them that it does not have.
    pub kind_weights: BTreeMap<String, f32>,
    /// Fingerprint of the dataset.
    pub fingerprint: Option<String>,
}

/// How a model is made, beside the trainer's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// The item-to-item table.
    pub neighbours: NeighbourOptions,
    /// The decay by position of the user vector.
    pub decay: Decay,
    /// Seconds after which the weight of a visitor's interaction has halved; none if age does not matter.
    pub half_life_s: Option<f64>,
    /// How the sessions are cut that the model keeps, for session-kNN; none if it keeps none.
    pub sessions: Option<sessions::Cut>,
    /// How they are compared with a visitor's.
    pub session_likeness: SessionLikeness,
    /// Different users below which an item has no popularity, so that no single one can be read off it.
    pub popularity_min_people: u32,
    /// Whether the model learns words, where its catalogue has texts.
    pub encoder: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            neighbours: NeighbourOptions::default(),
            decay: Decay::default(),
            half_life_s: None,
            sessions: None,
            session_likeness: SessionLikeness::default(),
            popularity_min_people: 3,
            encoder: true,
        }
    }
}

/// How the decay by position is found.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Decay {
    /// As the trainer learned it; else on interactions held back from training, or [`decay::USUAL`] where there are too few users.
    #[default]
    Chosen,
    /// Given, whatever the trainer learned.
    Fixed(f32),
}

/// Trains a model.
///
/// # Errors
/// As [`Trainer::train`].
pub fn model(
    material: Material,
    trainer: &dyn Trainer,
    options: &ModelOptions,
    progress: &dyn TrainProgress,
) -> Result<ModelDir, TrainError> {
    let Material { interactions, n_users, items, kinds, kind_weights, fingerprint } = material;
    let data = TrainingData { interactions: &interactions, n_users, n_items: items.len() };
    let mut weighting = weighting(&interactions, &kinds, &kind_weights);
    weighting.half_life_s = options.half_life_s;
    let mut factors = trainer.train(&data, progress)?;
    let known = if options.encoder {
        encoder::fit(&factors, &items, &counts(&interactions, items.len()), trainer.seed(), progress)?
    } else {
        None
    };
    let (table_of_words, worth_of_words) = known.unzip();
    let n_cold_items = cold::fill(&mut factors, &items, table_of_words.as_ref(), trainer.seed());
    let validation = match (options.decay, factors.position_weights.take()) {
        (Decay::Fixed(position_decay), _) => {
            weighting.position_decay = position_decay;
            None
        }
        (Decay::Chosen, Some(learned)) => {
            weighting.max_interactions = learned.len();
            weighting.position_weights = Some(learned);
            None
        }
        (Decay::Chosen, None) => {
            let validation = decay::choose(trainer, &data, &kinds, &weighting, progress)?;
            weighting.position_decay = validation.as_ref().map_or(decay::USUAL, |validation| validation.chosen);
            validation
        }
    };
    let neighbour_options = neighbour_choice::choose(&data, &options.neighbours, trainer.seed(), progress)?;
    let table = neighbours::find(&data, &neighbour_options, progress)?;
    let Factors { items: item_factors, context: context_factors, metric, loss, parameters, .. } = factors;
    let context = context_factors.as_ref().unwrap_or(&item_factors);
    let queries = queries(&interactions, &kinds, &weighting, context, trainer.seed());
    let times = || interactions.time_ms.iter().copied();
    let window = times().min().zip(times().max()).map(|(first_ms, last_ms)| TrainingWindow { first_ms, last_ms });
    // Places in a list are no times: an erasure would be told that nobody of today was in it.
    let window = window.filter(|window| window.last_ms >= LEAST_PLAUSIBLE_MS);
    let info = ModelInfo {
        format_version: model_dir::FORMAT_VERSION,
        trainer: trainer.name().to_owned(),
        parameters: parameters.unwrap_or_else(|| trainer.parameters()),
        seed: trainer.seed(),
        factors: item_factors.cols,
        metric,
        symmetric: context_factors.is_none(),
        weighting,
        kinds,
        training_window: window,
        n_users: by_user(&interactions.user).count() as u64,
        n_items: items.len() as u64,
        n_interactions: interactions.user.len() as u64,
        n_cold_items,
        k_neighbours: table.k,
        neighbours: Some(neighbour_options),
        session_likeness: options.session_likeness,
        loss,
        validation,
        learned: None,
        encoder: worth_of_words,
        dataset_fingerprint: fingerprint,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let popularity = popularity(&interactions, items.len(), options.popularity_min_people);
    let (neighbours, neighbour_similarities) = (table.items, table.similarities);
    let sessions = options.sessions.map(|cut| sessions::of(&interactions, cut));
    Ok(ModelDir {
        info,
        item_factors,
        context_factors,
        items,
        neighbours,
        neighbour_similarities,
        popularity,
        sessions,
        encoder: table_of_words,
        queries,
    })
}

/// What kinds weigh online: what they weighed, on average, in the training data, so that `kindred prepare --kind-weights` holds
/// for serving too. Kinds that the data does not have weigh what the dataset was prepared with: a kind that weighs 0 has no row in it.
pub fn weighting(interactions: &Interactions, kinds: &[String], as_prepared: &BTreeMap<String, f32>) -> Weighting {
    let mut weighting = Weighting::default();
    weighting.kinds.extend(as_prepared.iter().map(|(kind, weight)| (kind.clone(), *weight)));
    for (kind, weight) in kinds.iter().zip(kind_weights(interactions)).filter(|(_, weight)| *weight != 0.0) {
        weighting.kinds.insert(kind.clone(), weight);
    }
    weighting
}

/// Interactions an item.
fn counts(interactions: &Interactions, n_items: usize) -> Vec<f32> {
    let mut counts = vec![0.0; n_items];
    for item in &interactions.item {
        if let Some(count) = counts.get_mut(*item as usize) {
            *count += 1.0;
        }
    }
    counts
}

/// Weighted interactions an item, or 0 where fewer than so many users took it; dislikes count neither against it nor as such users.
fn popularity(interactions: &Interactions, n_items: usize, min_people: u32) -> Vec<f32> {
    let mut sums = vec![0.0_f64; n_items];
    let mut people = vec![(None, 0_u32); n_items];
    for (_, rows) in by_user(&interactions.user) {
        let user = rows.start;
        for at in rows.filter(|at| interactions.weight[*at] > 0.0) {
            let item = interactions.item[at] as usize;
            if let Some((last, count)) = people.get_mut(item).filter(|(last, _)| *last != Some(user)) {
                (*last, *count) = (Some(user), *count + 1);
            }
        }
    }
    for (item, weight) in interactions.item.iter().zip(&interactions.weight) {
        if let Some(sum) = sums.get_mut(*item as usize) {
            *sum += f64::from(weight.max(0.0));
        }
    }
    let known = |(sum, (_, people)): (f64, (Option<usize>, u32))| if people < min_people { 0.0 } else { sum as f32 };
    sums.into_iter().zip(people).map(known).collect()
}

/// The vectors of some training users: what the index will be asked.
fn queries(
    interactions: &Interactions,
    kinds: &[String],
    weighting: &Weighting,
    context: &Matrix,
    seed: u64,
) -> Matrix {
    let mut users: Vec<_> = by_user(&interactions.user).map(|(_, rows)| rows).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9e7);
    users.shuffle(&mut rng);
    let mut queries = Matrix { rows: 0, cols: context.cols, data: Vec::new() };
    for rows in users {
        let now_ms = interactions.time_ms.get(rows.end - 1).copied().unwrap_or_default();
        let history = decay::history(interactions, rows, kinds);
        if let Some(vector) = decay::vector(&history, weighting, now_ms, context)
            && crate::matrix::fault(&vector).is_none()
        {
            queries.data.extend(vector);
            queries.rows += 1;
        }
        if queries.rows == model_dir::QUERIES_MAX {
            break;
        }
    }
    queries
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::train::als::Als;
    use crate::train::slist::Slist;
    use crate::train::softmax::Softmax;

    fn material() -> Material {
        let mut interactions = Interactions::default();
        for user in 0..80_u32 {
            for step in 0..6_u32 {
                interactions.user.push(user);
                interactions.item.push(user % 4 * 5 + (user / 4 + step) % 5);
                interactions.kind.push((step % 2) as u8);
                interactions.weight.push(if step % 2 == 0 { 1.0 } else { 4.0 });
                interactions.time_ms.push(i64::from(user * 100 + step));
            }
        }
        Material {
            interactions,
            n_users: 80,
            items: (0..21).map(|i| CatalogItem::new(format!("item-{i}"))).collect(),
            kinds: vec!["view".to_owned(), "listen".to_owned()],
            kind_weights: BTreeMap::new(),
            fingerprint: Some("f00d".to_owned()),
        }
    }

    #[test]
    fn a_model_is_whole_and_survives_the_disk() {
        let als = Als { factors: 8, iterations: 6, ..Als::default() };
        let made = model(material(), &als, &ModelOptions::default(), &()).unwrap();
        assert_eq!(made.info.n_cold_items, 1, "nobody touched item 20");
        assert_eq!((made.info.n_users, made.info.n_items, made.info.n_interactions), (80, 21, 480));
        assert_eq!(made.popularity.iter().sum::<f32>(), 80.0 * (3.0 + 12.0));
        let few = popularity(&material().interactions, 21, 81);
        assert!(few.iter().all(|one| *one == 0.0), "no item has 81 users");
        assert_eq!(made.queries.rows, 80);
        assert_eq!(made.neighbours.len(), 21 * 50);
        assert!(made.neighbours[0] < 5, "the nearest of item 0 is of its own group: {}", made.neighbours[0]);
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        made.write(&dir, false).unwrap();
        let mut loaded = ModelDir::load(&dir).unwrap();
        // JSON numbers are read to within their last digit; that is enough for a loss.
        assert!(loaded.info.loss.iter().zip(&made.info.loss).all(|(a, b)| (a - b).abs() < 1e-12));
        loaded.info.loss.clone_from(&made.info.loss);
        assert!(loaded == made);
    }

    #[test]
    fn places_in_a_list_are_no_time_that_was_trained_on() {
        let window = |later_ms: i64| {
            let mut material = material();
            material.interactions.time_ms.iter_mut().for_each(|time_ms| *time_ms += later_ms);
            let als = Als { factors: 4, iterations: 2, ..Als::default() };
            let options = ModelOptions { decay: Decay::Fixed(7.0), ..ModelOptions::default() };
            model(material, &als, &options, &()).unwrap().info.training_window
        };
        assert_eq!(window(0), None);
        let first_ms = 1_700_000_000_000;
        assert_eq!(window(first_ms), Some(TrainingWindow { first_ms, last_ms: first_ms + 7_905 }));
    }

    #[test]
    fn who_dislikes_an_item_does_not_hide_the_one_who_took_it() {
        let mut log = Interactions::default();
        for (user, weight) in [(0, 1.0), (1, -1.0), (2, -1.0)] {
            log.push(user, 0, 0, weight, 0);
            log.push(user, 1, 0, 1.0, 1);
        }
        assert_eq!(popularity(&log, 2, 3), [0.0, 3.0], "one of three took item 0");
    }

    #[test]
    fn learned_weights_by_position_are_those_of_the_model() {
        let softmax = Softmax { factors: 8, history: 4, epochs: Some(2), ..Softmax::default() };
        let made = model(material(), &softmax, &ModelOptions::default(), &()).unwrap();
        let weights = made.info.weighting.position_weights.clone().unwrap();
        assert_eq!((weights.len(), made.info.weighting.max_interactions), (4, 4));
        assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)), "{weights:?}");
        assert_eq!(made.info.metric, model_dir::ModelMetric::Cosine);
        assert_eq!(made.info.parameters["epochs"], 2);
        assert!(made.item_factors.is_unit_length());
        let root = tempfile::tempdir().unwrap();
        made.write(&root.path().join("model"), false).unwrap();
        assert_eq!(ModelDir::load(&root.path().join("model")).unwrap().info.weighting, made.info.weighting);
        let options = ModelOptions { decay: Decay::Fixed(7.0), ..ModelOptions::default() };
        assert_eq!(model(material(), &softmax, &options, &()).unwrap().info.weighting.position_weights, None);
    }

    #[test]
    fn an_item_that_is_only_ever_the_last_makes_a_model() {
        let mut material = material();
        material.items.push(CatalogItem::new("last"));
        for row in (5..480).step_by(6) {
            material.interactions.item[row] = 21;
        }
        let slist = Slist { factors: 8, together: 0.0, ..Slist::default() };
        let made = model(material, &slist, &ModelOptions::default(), &()).unwrap();
        let root = tempfile::tempdir().unwrap();
        made.write(&root.path().join("model"), false).unwrap();
    }

    #[test]
    fn kinds_weigh_online_what_they_weighed_in_training() {
        let Material { interactions, kinds, .. } = material();
        let as_prepared = [("listen", 1.0), ("purchase", 0.0), ("dislike", -3.0)];
        let as_prepared = BTreeMap::from(as_prepared.map(|(kind, weight)| (kind.to_owned(), weight)));
        let weights = weighting(&interactions, &kinds, &as_prepared).kinds;
        assert_eq!((weights["view"], weights["listen"]), (1.0, 4.0));
        assert_eq!((weights["purchase"], weights["dislike"]), (0.0, -3.0), "the data does not have them");
        assert_eq!(weights["cart"], Weighting::default().kinds["cart"]);
    }

    #[test]
    fn a_given_decay_is_taken_as_it_is() {
        let als = Als { factors: 4, iterations: 2, ..Als::default() };
        let options = ModelOptions { decay: Decay::Fixed(7.0), ..ModelOptions::default() };
        let made = model(material(), &als, &options, &()).unwrap();
        assert_eq!(made.info.weighting.position_decay, 7.0);
        assert_eq!(made.info.validation, None);
    }
}

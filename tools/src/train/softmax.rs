//! Item factors by softmax over cosines, for a user vector that is a weighted sum of item factors.
//!
//! Each interaction of a history is to be predicted from those before it. With rows e and shifts c, the user vector is
//! `u = Σ_t w_t · (e + c)/|e + c|` over the last interactions, scaled to length 1, and item j scores `u · e_j/|e_j| / temperature`;
//! the loss is the cross-entropy of the softmax over the whole catalogue. Rows, shifts and the weight of each position
//! are learned together. This is the idea of CORE (Hou, Hu, Zhang, Zhao, SIGIR 2022: sessions encoded in the space of their
//! items, and robust distances) without its transformer: the user vector stays linear, so a request makes it with one
//! multiply-add an interaction and dimension, and can explain it.
//!
//! Adam (Kingma, Ba 2015) takes the steps, and what is kept is a running mean of the parameters (Polyak, Juditsky 1992), so that
//! training may end after any epoch. Dropout (Srivastava et al. 2014) leaves out dimensions: of a whole history at once, and of
//! each target row. Catalogues above 20,000 items are sampled (Bengio, Senécal 2008).
//! Where age counts, an older interaction is an example less often.
//! What is left open in the settings is chosen on interactions held back from training; see `softmax/trial.rs`.
//!
//! The result is the same to the bit for any number of threads. Memory: 10 rows an item, 30 while trials are compared (the best so far, the
//! next, and its running means), 8 more while a checkpoint is written; 16 bytes an interaction; and one batch's scores. An epoch costs
//! `6 · n_examples · n_scored · d` floating-point operations.

mod batch;
mod dropout;
mod examples;
mod exponential;
mod inverse;
mod learner;
mod parameters;
mod sample;
mod trial;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Reached};
use super::sparse::Fading;
use super::{Factors, TrainError, TrainProgress, Trainer, TrainingData, check_common, check_setting, kind_weights};
use crate::model_dir::ModelMetric;
use examples::Examples;
use learner::Learner;

/// Most epochs.
pub const EPOCHS_MAX: usize = 100;
/// Most examples of a batch.
pub const BATCH_MAX: usize = 65_536;
/// Most interactions of a history that take part.
pub const HISTORY_MAX: usize = kindred::limits::WEIGHTED_INTERACTIONS_MAX;

/// Settings of the trainer. What is none is chosen on held-back interactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softmax {
    /// Length of a row.
    pub factors: usize,
    /// Cosines are divided by it: a lower one tells nearer neighbours apart, and learns chance sooner.
    pub temperature: Option<f64>,
    /// Whether an item says the same about its visitor as it is recommended by: half the parameters, better for sparse data.
    pub symmetric: Option<bool>,
    /// Share of the dimensions left out of each step.
    pub dropout: Option<f64>,
    /// Passes over all examples.
    pub epochs: Option<usize>,
    /// Length of a step of Adam.
    pub learning_rate: f64,
    /// Examples a step.
    pub batch: usize,
    /// Interactions of a history that take part, the most recent ones.
    pub history: usize,
    /// How strongly shifts are drawn to zero: the share of them that a step of rate 1 takes away.
    pub shift_decay: f64,
    /// Days after which an interaction is half as often an example; none if age does not matter.
    pub half_life_days: Option<f64>,
    /// Seed of everything random.
    pub seed: u64,
}

/// What a run is made with, of that which may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Choice {
    symmetric: bool,
    temperature: f64,
    dropout: f64,
}

impl Default for Softmax {
    fn default() -> Self {
        Self {
            factors: 128,
            temperature: None,
            symmetric: None,
            dropout: None,
            epochs: None,
            learning_rate: 2e-3,
            batch: 512,
            history: 50,
            shift_decay: 0.0,
            half_life_days: None,
            seed: 1,
        }
    }
}

impl Trainer for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn check(&self) -> Result<(), TrainError> {
        let whole = |name, found: usize, most: usize, expected| {
            check_setting((1..=most).contains(&found), name, found, expected)
        };
        let real = |name, found: f64, least: f64, most: f64, expected| {
            check_setting((least..=most).contains(&found), name, found, expected)
        };
        check_common(self.factors, self.half_life_days)?;
        whole("epochs", self.epochs.unwrap_or(1), EPOCHS_MAX, "1 to 100")?;
        whole("batch", self.batch, BATCH_MAX, "1 to 65536")?;
        whole("history", self.history, HISTORY_MAX, "1 to 500")?;
        // Below 0.01 a score no longer fits the range of single precision's exponential.
        real("temperature", self.temperature.unwrap_or(1.0), 0.01, 10.0, "0.01 to 10")?;
        real("dropout", self.dropout.unwrap_or(0.0), 0.0, 0.9, "0 to 0.9")?;
        real("learning-rate", self.learning_rate, 1e-6, 1.0, "0.000001 to 1")?;
        real("shift-decay", self.shift_decay, 0.0, 100.0, "0 to 100")
    }

    fn shortened(&self) -> Box<dyn Trainer> {
        Box::new(Self { epochs: Some(self.epochs.map_or(2, |epochs| epochs.div_ceil(2))), ..self.clone() })
    }

    fn train(&self, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Result<Factors, TrainError> {
        self.check()?;
        data.check()?;
        let checkpoint = Checkpoint::of(self, data, progress);
        let mut reached = checkpoint.reached(&Learner::shapes(self, data.n_items))?.unwrap_or_default();
        let plan = match serde_json::from_value::<trial::Plan>(reached.notes.take()) {
            Ok(plan) => plan,
            Err(_) => trial::plan(self, data, progress)?,
        };
        let notes = serde_json::to_value(&plan).unwrap_or_default();
        if reached.iterations == 0 {
            checkpoint.keep(|| Reached { notes: notes.clone(), ..Reached::default() })?;
        }
        let fading = Fading { half_life_days: self.half_life_days };
        let examples = Examples::of(data, &kind_weights(data.interactions), self.history, fading);
        if examples.targets.is_empty() {
            return Err(TrainError::NoSequences);
        }
        let mut learner = Learner::new(self, plan.choice, &examples, data.n_items, Some(plan.epochs));
        let mut losses = reached.losses;
        if reached.iterations > 0 {
            learner.go_on(reached.iterations, reached.tables);
        }
        for epoch in reached.iterations + 1..=plan.epochs {
            let loss = learner.epoch(epoch, |done, of| {
                progress.step("softmax", ((epoch - 1) * of + done) as u64, (plan.epochs * of) as u64);
                if progress.cancelled() { Err(TrainError::Cancelled) } else { Ok(()) }
            })?;
            losses.push(loss);
            checkpoint.keep(|| Reached {
                iterations: epoch,
                losses: losses.clone(),
                notes: notes.clone(),
                tables: learner.tables(),
            })?;
        }
        let parameters = learner.parameters.averaged();
        let mut position_weights = parameters.position_weights();
        let highest = position_weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        position_weights.iter_mut().for_each(|weight| *weight /= highest);
        let (mut items, mut context) = (parameters.targets, parameters.contexts);
        // An item in no example, or only in such as are so old that most likely no epoch had one, still has its random start; a row of zeros leaves it
        // to others.
        let mut missed = vec![1.0_f64; data.n_items];
        for (item, chance) in examples.met() {
            if let Some(missed) = missed.get_mut(item as usize) {
                *missed *= 1.0 - f64::from(chance);
            }
        }
        let is_taught = |missed: f64| missed.powi(plan.epochs as i32) <= 0.5;
        for (item, _) in missed.iter().enumerate().filter(|(_, missed)| !is_taught(**missed)) {
            items.row_mut(item).fill(0.0);
            context.row_mut(item).fill(0.0);
        }
        Ok(Factors {
            items,
            context: (!plan.choice.symmetric).then_some(context),
            metric: ModelMetric::Cosine,
            loss: losses,
            position_weights: Some(position_weights),
            parameters: Some(self.chosen(&plan)),
        })
    }
}

impl Softmax {
    /// The settings with what was chosen filled in, and what it was chosen among.
    fn chosen(&self, plan: &trial::Plan) -> serde_json::Value {
        let Choice { symmetric, temperature, dropout } = plan.choice;
        let settings = Self {
            symmetric: Some(symmetric),
            temperature: Some(temperature),
            dropout: Some(dropout),
            epochs: Some(plan.epochs),
            ..self.clone()
        };
        let mut value = settings.parameters();
        if let (Some(object), Some(trials)) = (value.as_object_mut(), &plan.trials) {
            object.insert("chosen_on".to_owned(), serde_json::to_value(trials).unwrap_or_default());
        }
        value
    }
}

#[cfg(test)]
mod tests;

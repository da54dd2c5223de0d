//! A run of training: batches in random order, epoch after epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::TrainError;
use super::batch::{Batch, Scored, Settings};
use super::dropout::Dropout;
use super::examples::Examples;
use super::parameters::{Parameters, Shape, Stride};
use super::sample::Sampler;
use super::{Choice, Softmax};
use crate::matrix::Matrix;
use crate::train::sparse::{mixed, takes_part};

/// Catalogues above this are sampled; a smaller one is scored whole.
const SCORED_WHOLE_MAX: usize = 20_000;
/// Items drawn for each batch of a larger one.
const DRAWS: usize = 4_096;
/// Epochs a step's influence on the averaged parameters lasts, about.
const AVERAGED_EPOCHS: f64 = 0.5;
/// Steps it lasts at most.
const AVERAGED_STEPS_MAX: f64 = 2_000.0;

/// A run that can be looked at after every epoch.
#[derive(Debug)]
pub(super) struct Learner<'a> {
    settings: &'a Softmax,
    choice: Choice,
    examples: &'a Examples,
    pub(super) parameters: Parameters,
    batch: Batch,
    /// Epochs over which steps shorten to nothing (Loshchilov, Hutter 2017); none if it is not known how many there will be.
    horizon: Option<usize>,
    sampler: Option<Sampler>,
    scored: Scored,
    order: Vec<u32>,
    step: u64,
}

impl<'a> Learner<'a> {
    /// Before the first step.
    pub(super) fn new(
        settings: &'a Softmax,
        choice: Choice,
        examples: &'a Examples,
        n_items: usize,
        horizon: Option<usize>,
    ) -> Self {
        let Softmax { factors: d, history, seed, batch, .. } = *settings;
        let shape = Shape { n_items, d, history, asymmetric: !choice.symmetric };
        let sampler =
            (n_items > SCORED_WHOLE_MAX).then(|| Sampler::new(examples, n_items, batch, DRAWS, seed ^ 0x5a3b1e));
        Self {
            settings,
            choice,
            examples,
            parameters: Parameters::new(shape, seed),
            batch: Batch::new(n_items, d),
            horizon,
            sampler,
            scored: Scored::default(),
            order: examples.targets.clone(),
            step: 0,
        }
    }

    /// The shapes of [`Learner::tables`].
    pub(super) fn shapes(settings: &Softmax, n_items: usize) -> [(usize, usize); 2] {
        Parameters::shapes(n_items, settings.factors, settings.history)
    }

    /// All that is learned so far, for a checkpoint after an epoch.
    pub(super) fn tables(&self) -> Vec<Matrix> {
        self.parameters.tables()
    }

    /// Goes on from what was learned in so many epochs.
    pub(super) fn go_on(&mut self, epochs: usize, tables: Vec<Matrix>) {
        self.parameters.set(tables);
        self.step = (1..=epochs).map(|epoch| self.draw(epoch).len().div_ceil(self.settings.batch) as u64).sum();
    }

    /// The examples of an epoch, in its order: each with the chance that its age leaves it.
    fn draw(&mut self, epoch: usize) -> Vec<u32> {
        let seed = self.settings.seed.wrapping_add(epoch as u64);
        self.order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let drawn = |target: &u32| takes_part(seed, (*target).into(), self.examples.chance(*target));
        self.order.iter().copied().filter(drawn).collect()
    }

    /// Goes once over all examples; gives their mean loss. `watch` hears how many batches of the epoch are done.
    ///
    /// # Errors
    /// `watch` no longer wants the result, or the parameters have left the range of single precision.
    pub(super) fn epoch(
        &mut self,
        epoch: usize,
        mut watch: impl FnMut(usize, usize) -> Result<(), TrainError>,
    ) -> Result<f64, TrainError> {
        let Softmax { seed, batch, .. } = *self.settings;
        let drawn = self.draw(epoch);
        let mut loss = 0.0;
        let batches = drawn.len().div_ceil(batch);
        let kept = (AVERAGED_EPOCHS * batches as f64).clamp(1.0, AVERAGED_STEPS_MAX);
        for (at, rows) in drawn.chunks(batch).enumerate() {
            watch(at, batches)?;
            self.step += 1;
            if let Some(sampler) = &self.sampler {
                let now = sampler.draw(self.step, rows.iter().map(|target| self.examples.item(*target)));
                self.batch.score(&self.scored, &now);
                self.scored = now;
            }
            let key = mixed(seed ^ (self.step << 1));
            let settings = Settings {
                temperature: self.choice.temperature as f32,
                batch,
                context_dropout: Dropout::new(self.choice.dropout, key),
                target_dropout: Dropout::new(self.choice.dropout, key ^ 1),
            };
            loss += self.batch.run(&self.parameters, self.examples, rows, &self.scored, &settings);
            let gone = self.horizon.map_or(0.0, |epochs| (self.step - 1) as f64 / (epochs * batches) as f64);
            let pace = 0.5 + 0.5 * (std::f64::consts::PI * gone).cos();
            let stride = Stride {
                step: self.step,
                learning_rate: (self.settings.learning_rate * pace) as f32,
                decay: self.settings.shift_decay as f32,
                averaging: (1.0 - 1.0 / kept) as f32,
            };
            self.parameters.step(&stride, &self.batch.gradients(), settings.target_dropout);
        }
        let loss = loss / drawn.len().max(1) as f64;
        if loss.is_finite() { Ok(loss) } else { Err(TrainError::Diverged { iteration: epoch }) }
    }
}

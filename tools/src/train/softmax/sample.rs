//! A share of a large catalogue in place of all of it: sampled softmax (Bengio, Senécal 2008).
//!
//! Each batch is scored against the items it wants, and further ones that are drawn. An item that is among them with probability
//! π counts 1/π times, so that the sum over the sample is, in the mean, the sum over the catalogue (Horvitz, Thompson 1952);
//! on a score that is `− ln π`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::batch::Scored;
use super::examples::Examples;

/// Popularity counts to this power among the drawn (Mikolov et al. 2013); half of the draws pay it no heed at all.
const POWER: f64 = 0.75;

/// Draws items.
#[derive(Debug)]
pub(super) struct Sampler {
    draws: usize,
    seed: u64,
    /// Share of the draws that hit an item or one before it.
    cumulated: Vec<f64>,
    /// `− ln π` of each item.
    corrections: Vec<f32>,
}

impl Sampler {
    /// For batches of so many examples, and so many draws for each.
    pub(super) fn new(examples: &Examples, n_items: usize, batch: usize, draws: usize, seed: u64) -> Self {
        let mut wanted = vec![0.0_f64; n_items];
        for target in &examples.targets {
            if let Some(count) = wanted.get_mut(examples.item(*target) as usize) {
                *count += f64::from(examples.chance(*target));
            }
        }
        let shares: Vec<f64> = wanted.iter().map(|count| count.powf(POWER)).collect();
        let whole: f64 = shares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let per_example = batch as f64 / wanted.iter().sum::<f64>().max(1.0);
        let (mut cumulated, mut corrections, mut sum) = (Vec::with_capacity(n_items), Vec::with_capacity(n_items), 0.0);
        for (share, count) in shares.iter().zip(&wanted) {
            let drawn = 0.5 * share / whole + 0.5 / n_items.max(1) as f64;
            sum += drawn;
            cumulated.push(sum);
            let expected = drawn * draws as f64 + count * per_example;
            corrections.push(-(-(-expected).exp_m1()).ln() as f32);
        }
        Self { draws, seed, cumulated, corrections }
    }

    /// What a batch is scored against: ascending, without repetition, all items that `wanted` names among them.
    pub(super) fn draw(&self, step: u64, wanted: impl Iterator<Item = u32>) -> Scored {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ step.rotate_left(32));
        let whole = self.cumulated.last().copied().unwrap_or_default();
        let last = self.cumulated.len().saturating_sub(1);
        let mut sample: Vec<u32> = wanted.collect();
        sample.extend((0..self.draws).map(|_| {
            let point = rng.random::<f64>() * whole;
            self.cumulated.partition_point(|sum| *sum <= point).min(last) as u32
        }));
        sample.sort_unstable();
        sample.dedup();
        let correction = |item: &u32| self.corrections.get(*item as usize).copied().unwrap_or_default();
        Scored { bias: sample.iter().map(correction).collect(), sample: Some(sample) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sparse::Fading;
    use super::*;
    use crate::dataset::Interactions;
    use crate::train::TrainingData;

    #[test]
    fn a_sample_stands_for_the_catalogue() {
        // Item i of 60 is wanted in proportion to 1/(i + 1), about.
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut interactions = Interactions::default();
        for at in 0..6_000_u32 {
            interactions.user.push(at / 10);
            interactions.item.push((60.0_f64.powf(rng.random()) - 1.0) as u32);
            interactions.kind.push(0);
            interactions.weight.push(1.0);
            interactions.time_ms.push(i64::from(at));
        }
        let data = TrainingData { interactions: &interactions, n_users: 600, n_items: 60 };
        let examples = Examples::of(&data, &[1.0], 10, Fading { half_life_days: None });
        let sampler = Sampler::new(&examples, 60, 8, 12, 5);
        let value = |item: u32| 1.0 + f64::from(item % 7);
        let exact: f64 = (0..60).map(value).sum();
        let mut mean = 0.0;
        let batches: Vec<&[u32]> = examples.targets.chunks_exact(8).collect();
        for (step, batch) in batches.iter().enumerate() {
            let scored = sampler.draw(step as u64, batch.iter().map(|target| examples.item(*target)));
            let sample = scored.sample.unwrap_or_default();
            assert!(sample.is_sorted_by(|a, b| a < b));
            assert!(batch.iter().all(|target| sample.binary_search(&examples.item(*target)).is_ok()));
            let weighed = sample.iter().zip(&scored.bias).map(|(item, bias)| value(*item) * f64::from(*bias).exp());
            mean += weighed.sum::<f64>() / batches.len() as f64;
        }
        assert!((mean / exact - 1.0).abs() < 0.1, "{mean} for {exact}");
        assert_eq!(sampler.draw(3, [1, 2].into_iter()).sample, sampler.draw(3, [2, 1].into_iter()).sample);
    }
}

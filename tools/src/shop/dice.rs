//! How chance is drawn: from a seed and a stream, so that each visitor and item has chances of its own, in whatever order they are made.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of chances.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

/// What a stream is for; streams never meet.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// How the shop is laid out.
    Layout,
    /// What the items of a line share.
    Line(u64),
    /// An item.
    Item(u64),
    /// A visitor.
    Visitor(u64),
    /// What is wrong with the log.
    Dirt,
}

/// Weights to draw by: cumulative sums. Costs a binary search per draw.
#[derive(Clone, Debug, Default)]
pub struct Odds {
    cumulative: Vec<f64>,
}

impl Dice {
    /// The chances of one stream.
    pub fn new(seed: u64, stream: Stream) -> Self {
        /// Above every number of items or visitors.
        const APART: u64 = 1 << 40;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match stream {
            Stream::Layout => 0,
            Stream::Dirt => 1,
            Stream::Line(number) => APART + number,
            Stream::Item(number) => 2 * APART + number,
            Stream::Visitor(number) => 3 * APART + number,
        });
        Self(rng)
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// In 0..n; 0 where n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n as u64) as usize }
    }

    /// Normally distributed, mean 0 and deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// One of some words; the empty one where there is none.
    pub fn word(&mut self, words: &[&'static str]) -> &'static str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }

    /// The same things in another order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

impl Odds {
    /// Odds in proportion to weights, which are not negative.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let sums = weights.into_iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { cumulative: sums.collect() }
    }

    /// The place of one weight; 0 where there is none.
    pub fn draw(&self, dice: &mut Dice) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = dice.unit() * total;
        self.cumulative.partition_point(|sum| *sum <= at).min(self.cumulative.len().saturating_sub(1))
    }
}

/// Weights that fall with the rank as popularity does: `1 / (rank + flat)^steep` (Zipf; Mandelbrot 1953).
pub fn zipf(n: usize, flat: f64, steep: f64) -> impl Iterator<Item = f64> {
    (0..n).map(move |rank| (rank as f64 + flat).powf(-steep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_kept() {
        let odds = Odds::new([1.0, 0.0, 3.0]);
        let mut dice = Dice::new(1, Stream::Layout);
        let mut drawn = [0_u32; 3];
        for _ in 0..4_000 {
            drawn[odds.draw(&mut dice)] += 1;
        }
        assert_eq!(drawn[1], 0);
        assert!((900..1_100).contains(&drawn[0]), "{drawn:?}");
        assert_eq!(Odds::default().draw(&mut dice), 0);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut dice = Dice::new(2, Stream::Dirt);
        let n = 20_000;
        let normal: Vec<f64> = (0..n).map(|_| dice.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mean = (0..n).map(|_| dice.exponential(3.0)).sum::<f64>() / f64::from(n);
        assert!((mean - 3.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |stream| Dice::new(7, stream).unit().to_bits();
        assert_eq!(draw(Stream::Visitor(3)), draw(Stream::Visitor(3)));
        assert_ne!(draw(Stream::Visitor(3)), draw(Stream::Visitor(4)));
        assert_ne!(draw(Stream::Item(3)), draw(Stream::Line(3)));
    }
}

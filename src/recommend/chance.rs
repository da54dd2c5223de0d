//! Chance that is an argument: the same seed draws the same.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). Good enough to choose items by.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 up to but not 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly below n, which is at least 1.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The bias is n / 2^64.
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }

    /// From the normal distribution of mean 0 and deviation 1 (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The chance that a draw from the normal distribution is above z: within 1.2e-7 relative error (Press et al., Numerical Recipes, erfcc).
pub(super) fn above(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    const TERMS: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let erfc = t * (series - x * x).exp();
    0.5 * if x >= 0.0 { erfc } else { 2.0 - erfc }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_evenly() {
        let (mut one, mut other) = (Chance::new(7), Chance::new(7));
        let mut counts = [0; 5];
        for _ in 0..50_000 {
            let drawn = one.below(5);
            assert_eq!(drawn, other.below(5));
            counts[drawn] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_tail_is_that_of_the_draws() {
        assert!(
            (above(0.0) - 0.5).abs() < 1e-6
                && (above(1.959_964) - 0.025).abs() < 1e-6
                && (above(-1.0) - 0.841_345).abs() < 1e-6
        );
        let mut chance = Chance::new(3);
        let beyond = (0..100_000).filter(|_| chance.normal() > 0.7).count();
        assert!((beyond as f64 / 100_000.0 - above(0.7)).abs() < 0.005, "{beyond}");
    }
}

//! How sure a mean is: the bootstrap (Efron 1979), over users.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// How often users are drawn anew.
const RESAMPLES: usize = 1_000;
/// Most that are drawn from. Of more users or lists several are drawn as one, which is as sure, and takes no longer however many there are.
pub(crate) const UNITS_MAX: usize = 10_000;

/// Where the ratio of two sums lies in 95 of 100 draws of as many entries with replacement. Each entry is what one user, or one list, adds to them:
/// for a mean over lists the sum of a metric over the lists of a user, and their number, since the lists of a user are not independent and stand or
/// fall together. Over all threads; their number changes nothing. Empty input gives zeros.
pub fn ratio_interval(parts: &[(f64, f64)], seed: u64) -> [f64; 2] {
    if parts.is_empty() {
        return [0.0; 2];
    }
    let units = units(parts);
    let resample = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xb007);
        rng.set_stream(number as u64);
        let (mut sum, mut of) = (0.0, 0.0);
        for _ in &units {
            let (value, weight) = units[rng.random_range(0..units.len())];
            sum += value;
            of += weight;
        }
        if of == 0.0 { 0.0 } else { sum / of }
    };
    let mut means: Vec<f64> = (0..RESAMPLES).into_par_iter().map(resample).collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES as f64 * share) as usize).min(RESAMPLES - 1)];
    [at(0.025), at(0.975)]
}

/// Each a part, or the sum of several that do not stand beside each other.
fn units(parts: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut units = vec![(0.0, 0.0); parts.len().min(UNITS_MAX)];
    for part in parts.chunks(UNITS_MAX) {
        for ((sum, of), (value, weight)) in units.iter_mut().zip(part) {
            *sum += value;
            *of += weight;
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_several_are_drawn_as_one_and_it_is_as_sure() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let parts: Vec<(f64, f64)> = (0..95_000).map(|_| (f64::from(rng.random_range(0..2_u32)), 1.0)).collect();
        let units = units(&parts);
        let sum = |all: &[(f64, f64)]| all.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert_eq!((units.len(), sum(&units)), (UNITS_MAX, sum(&parts)));
        // The standard error is 0.5 / √95,000.
        let [low, high] = ratio_interval(&parts, 1);
        let wanted = 2.0 * 1.96 * 0.5 / 95_000_f64.sqrt();
        assert!((high - low - wanted).abs() < 0.15 * wanted, "{low} to {high}, {wanted} apart expected");
    }

    #[test]
    fn as_wide_as_the_normal_law_says() {
        // 400 users, half of them with a hit: the standard error is 0.5 / 20.
        let users: Vec<(f64, f64)> = (0..400).map(|user| (f64::from(user % 2), 1.0)).collect();
        let [low, high] = ratio_interval(&users, 1);
        assert!((low - (0.5 - 1.96 * 0.025)).abs() < 0.01, "{low}");
        assert!((high - (0.5 + 1.96 * 0.025)).abs() < 0.01, "{high}");
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let user = |user: u32| (f64::from(user % 3) / 2.0, f64::from(1 + user % 4));
        let users: Vec<(f64, f64)> = (0..300).map(user).collect();
        let found = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ratio_interval(&users, 5))
        });
        assert_eq!(found[0], found[1]);
    }

    #[test]
    fn a_sure_thing_has_no_width_and_lists_count_by_number() {
        assert_eq!(ratio_interval(&[(2.0, 4.0), (1.0, 2.0)], 7), [0.5, 0.5]);
        assert_eq!(ratio_interval(&[], 7), [0.0, 0.0]);
    }
}

//! How sure a mean is: the bootstrap (Efron 1979), over users.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// How often users are drawn anew.
const RESAMPLES: usize = 1_000;

/// Where the mean lies in 95 of 100 draws of as many users with replacement. Each entry is the sum of a metric over one user's lists, and
/// their number: the lists of a user stand or fall together, since they are not independent. Empty input gives zeros.
pub fn interval(users: &[(f64, u32)], seed: u64) -> [f64; 2] {
    let parts: Vec<(f64, f64)> = users.iter().map(|(sum, lists)| (*sum, f64::from(*lists))).collect();
    ratio_interval(&parts, seed)
}

/// The same for any ratio of two sums: each entry is what one user, or one list, adds to them. Over all threads; their number changes nothing.
pub fn ratio_interval(parts: &[(f64, f64)], seed: u64) -> [f64; 2] {
    if parts.is_empty() {
        return [0.0; 2];
    }
    let resample = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xb007);
        rng.set_stream(number as u64);
        let (mut sum, mut of) = (0.0, 0.0);
        for _ in parts {
            let (value, weight) = parts[rng.random_range(0..parts.len())];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_wide_as_the_normal_law_says() {
        // 400 users, half of them with a hit: the standard error is 0.5 / 20.
        let users: Vec<(f64, u32)> = (0..400).map(|user| (f64::from(user % 2), 1)).collect();
        let [low, high] = interval(&users, 1);
        assert!((low - (0.5 - 1.96 * 0.025)).abs() < 0.01, "{low}");
        assert!((high - (0.5 + 1.96 * 0.025)).abs() < 0.01, "{high}");
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let users: Vec<(f64, u32)> = (0..300_u32).map(|user| (f64::from(user % 3) / 2.0, 1 + user % 4)).collect();
        let found = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| interval(&users, 5))
        });
        assert_eq!(found[0], found[1]);
    }

    #[test]
    fn a_sure_thing_has_no_width_and_lists_count_by_number() {
        assert_eq!(interval(&[(2.0, 4), (1.0, 2)], 7), [0.5, 0.5]);
        assert_eq!(interval(&[], 7), [0.0, 0.0]);
    }
}

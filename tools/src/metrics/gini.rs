//! Concentration of recommendations.

/// The Gini coefficient of how often each item was recommended: 0 when all are alike, near 1 when a few get everything.
/// `times` holds, per item, in how many lists it stood.
pub fn gini(times: &[u64]) -> f64 {
    let total: u64 = times.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let n = sorted.len() as f64;
    let weighted: f64 =
        sorted.iter().enumerate().map(|(i, times)| (2.0 * (i as f64 + 1.0) - n - 1.0) * *times as f64).sum();
    weighted / (n * total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(gini(&[5, 5, 5]), 0.0);
        // All of it on one of four: (n − 1) / n.
        assert_eq!(gini(&[0, 8, 0, 0]), 0.75);
        // Sorted 1, 2, 3: (−2·1 + 0·2 + 2·3) / (3·6).
        assert!((gini(&[3, 1, 2]) - 4.0 / 18.0).abs() < 1e-12);
        assert_eq!(gini(&[0, 0]), 0.0);
        assert_eq!(gini(&[]), 0.0);
    }
}

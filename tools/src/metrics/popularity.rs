//! Popularity bias: how much of what is recommended is popular anyway.

/// For each item the share of items that are less popular than it, ties counted half: 0.5 on average. The mean over what
/// was recommended says how far a list leans towards the popular (above 0.5) or the rare (below).
pub fn percentiles(popularity: &[f32]) -> Vec<f64> {
    let mut sorted = popularity.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let n = sorted.len() as f64;
    let percentile = |value: &f32| {
        let below = sorted.partition_point(|other| other.total_cmp(value).is_lt());
        let up_to = sorted.partition_point(|other| other.total_cmp(value).is_le());
        (below + up_to) as f64 / (2.0 * n)
    };
    popularity.iter().map(percentile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(percentiles(&[10.0, 1.0, 5.0, 5.0]), [0.875, 0.125, 0.5, 0.5]);
        assert!(percentiles(&[]).is_empty());
    }
}

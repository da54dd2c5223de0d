//! Normalised discounted cumulative gain (Järvelin, Kekäläinen 2002), with gains of 0 and 1.

/// `DCG@k / best DCG@k`, where the place r, counted from 1, is worth `1 / log2(r + 1)`.
pub fn ndcg(list: &[u32], relevant: &[u32], k: usize) -> f64 {
    let worth = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let best: f64 = (0..relevant.len().min(k)).map(worth).sum();
    if best == 0.0 {
        return 0.0;
    }
    let hits = super::hits(list, relevant, k).enumerate().filter(|(_, hit)| *hit);
    // Not `sum`, which is -0 where there is none.
    hits.fold(0.0, |gained, (place, _)| gained + worth(place)) / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let list = [7, 3, 9, 1];
        // One relevant item in the second place: 1 / log2(3) of the best, which is 1.
        assert!((ndcg(&list, &[3], 10) - 0.630_929_753_571_457).abs() < 1e-12);
        // In the first and third place of three: (1 + 1/2) / (1 + 0.6309297 + 1/2).
        assert!((ndcg(&list, &[5, 7, 9], 10) - 1.5 / 2.130_929_753_571_457).abs() < 1e-12);
        // Only two places count, so the best is two hits.
        assert!((ndcg(&list, &[5, 7, 9], 2) - 1.0 / 1.630_929_753_571_457).abs() < 1e-12);
        assert_eq!(ndcg(&list, &[7], 1), 1.0);
        assert_eq!(ndcg(&list, &[1], 3), 0.0);
        assert!(ndcg(&list, &[1], 3).is_sign_positive(), "it is shown");
        assert_eq!(ndcg(&list, &[], 3), 0.0);
    }
}

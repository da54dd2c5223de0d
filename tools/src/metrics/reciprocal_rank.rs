//! Reciprocal rank.

/// `1 / r` for the first relevant item, in place r of the first k, else 0. Its mean over users is MRR@k.
pub fn reciprocal_rank(list: &[u32], relevant: &[u32], k: usize) -> f64 {
    super::hits(list, relevant, k).position(|hit| hit).map_or(0.0, |place| 1.0 / (place as f64 + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let list = [7, 3, 9, 1];
        assert_eq!(reciprocal_rank(&list, &[1, 9], 4), 1.0 / 3.0);
        assert_eq!(reciprocal_rank(&list, &[7], 4), 1.0);
        assert_eq!(reciprocal_rank(&list, &[1, 9], 2), 0.0);
    }
}

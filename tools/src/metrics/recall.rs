//! Recall.

/// The share of the relevant items that are among the first k.
pub fn recall(list: &[u32], relevant: &[u32], k: usize) -> f64 {
    if relevant.is_empty() {
        return 0.0;
    }
    super::hits(list, relevant, k).filter(|hit| *hit).count() as f64 / relevant.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let list = [7, 3, 9, 1];
        assert_eq!(recall(&list, &[1, 3, 5], 4), 2.0 / 3.0);
        assert_eq!(recall(&list, &[1, 3, 5], 3), 1.0 / 3.0);
        assert_eq!(recall(&list, &[5], 4), 0.0);
        assert_eq!(recall(&list, &[], 4), 0.0);
    }
}

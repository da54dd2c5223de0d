//! Hit rate.

/// 1 if any of the first k items is relevant, else 0. Its mean over users is HR@k.
pub fn hit_rate(list: &[u32], relevant: &[u32], k: usize) -> f64 {
    if super::hits(list, relevant, k).any(|hit| hit) { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let list = [7, 3, 9, 1];
        assert_eq!(hit_rate(&list, &[9], 3), 1.0);
        assert_eq!(hit_rate(&list, &[9], 2), 0.0);
        assert_eq!(hit_rate(&list, &[1, 5, 7], 10), 1.0);
        assert_eq!(hit_rate(&[], &[1], 10), 0.0);
    }
}

//! Average precision.

/// The mean, over the relevant items, of the precision at the place of each that is among the first k; at most k of them count.
/// Its mean over users is MAP@k.
pub fn average_precision(list: &[u32], relevant: &[u32], k: usize) -> f64 {
    let most = relevant.len().min(k);
    if most == 0 {
        return 0.0;
    }
    let mut found = 0_u32;
    let mut sum = 0.0;
    for (place, _) in super::hits(list, relevant, k).enumerate().filter(|(_, hit)| *hit) {
        found += 1;
        sum += f64::from(found) / (place as f64 + 1.0);
    }
    sum / most as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let list = [7, 3, 9, 1];
        // Hits in places 1 and 3, three relevant: (1/1 + 2/3) / 3.
        assert!((average_precision(&list, &[5, 7, 9], 10) - 5.0 / 9.0).abs() < 1e-12);
        // Two places: (1/1) / 2.
        assert_eq!(average_precision(&list, &[5, 7, 9], 2), 0.5);
        assert_eq!(average_precision(&list, &[1], 4), 0.25);
        assert_eq!(average_precision(&list, &[1], 3), 0.0);
        assert_eq!(average_precision(&list, &[], 3), 0.0);
    }
}

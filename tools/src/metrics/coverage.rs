//! Catalogue coverage.

/// The share of the items that were recommended at all. `times` holds, per item, in how many lists it stood.
pub fn coverage(times: &[u64]) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    times.iter().filter(|times| **times > 0).count() as f64 / times.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(coverage(&[0, 3, 1, 0]), 0.5);
        assert_eq!(coverage(&[]), 0.0);
    }
}

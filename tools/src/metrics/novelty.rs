//! Novelty of recommendations (Vargas, Castells 2011: mean self-information).

/// How surprising each item is, in bits: `−log2` of its share of all interactions. `times` holds, per item, in how many interactions it stood;
/// half an interaction is added to each, so that an item nobody touched is the most surprising one and not infinitely so. The mean over
/// what was recommended says how far a list is from what everybody knows.
pub fn self_information(times: &[u64]) -> Vec<f64> {
    let total: f64 = times.iter().map(|times| *times as f64 + 0.5).sum();
    times.iter().map(|times| -((*times as f64 + 0.5) / total).log2()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Of 3.5 + 0.5 = 4 interactions counted: shares 7/8 and 1/8.
        let found = self_information(&[3, 0]);
        assert!((found[0] - (8.0_f64 / 7.0).log2()).abs() < 1e-12, "{found:?}");
        assert_eq!(found[1], 3.0);
        assert_eq!(self_information(&[5, 5]), [1.0, 1.0]);
        assert!(self_information(&[]).is_empty());
    }
}

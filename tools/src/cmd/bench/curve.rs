//! A curve of recall against speed, and what it says between the points that were measured.

use serde::Serialize;

/// One setting of one search, measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Breadth of the search.
    pub ef_search: usize,
    /// Mean share of the true k nearest found.
    pub recall: f64,
    /// Queries per second on one thread: the median over the rounds.
    pub qps: f64,
    /// Median latency of a query, microseconds.
    pub p50_us: f64,
    /// Latency that one query in a hundred exceeds, microseconds.
    pub p99_us: f64,
    /// Mean vectors compared per query, where the search says.
    pub distances: Option<f64>,
}

/// Queries per second at this recall.
pub fn qps_at(points: &[Point], recall: f64) -> Option<f64> {
    value_at(points, recall, |point| point.qps)
}

/// A value above zero at this recall: exponentially between the two points around it on the best curve, none where it was not reached.
///
/// The best curve leaves out every point that another beats in both: a wider search that found less is chance.
pub fn value_at(points: &[Point], recall: f64, value: impl Fn(&Point) -> f64) -> Option<f64> {
    let mut best: Vec<&Point> = points.iter().collect();
    best.sort_by(|a, b| b.qps.total_cmp(&a.qps));
    let mut below: Option<&Point> = None;
    for point in best {
        if point.recall >= recall {
            let Some(low) = below else { return Some(value(point)) };
            let t = (recall - low.recall) / (point.recall - low.recall);
            let [low, high] = [value(low), value(point)].map(f64::ln);
            return Some((low + t * (high - low)).exp());
        }
        if below.is_none_or(|low| point.recall > low.recall) {
            below = Some(point);
        }
    }
    None
}

/// A number that is not there where a recall was not reached.
pub fn or_not_reached(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "not reached".to_owned(), |number| format!("{number:.decimals$}"))
}

/// The middle of the values; of an even number, the lower of the two in the middle. 0 where there is none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn point(recall: f64, qps: f64) -> Point {
        Point { ef_search: 10, recall, qps, p50_us: 1.0, p99_us: 2.0, distances: None }
    }

    #[test]
    fn between_two_points_the_curve_is_a_power() {
        let points = [point(0.8, 40_000.0), point(0.9, 10_000.0), point(1.0, 2_500.0)];
        assert!((qps_at(&points, 0.85).unwrap() - 20_000.0).abs() < 1e-6);
        assert!((qps_at(&points, 0.95).unwrap() - 5_000.0).abs() < 1e-6);
        assert!((qps_at(&points, 0.9).unwrap() - 10_000.0).abs() < 1e-6);
        assert_eq!(qps_at(&points, 0.5), Some(40_000.0));
    }

    #[test]
    fn what_was_not_reached_is_not_made_up() {
        assert_eq!(qps_at(&[point(0.8, 40_000.0)], 0.9), None);
        assert_eq!(qps_at(&[], 0.9), None);
    }

    #[test]
    fn a_point_beaten_in_both_does_not_count() {
        let points = [point(0.9, 10_000.0), point(0.85, 9_000.0), point(0.95, 8_000.0)];
        let with = qps_at(&points, 0.93).unwrap();
        assert!((with - qps_at(&[points[0], points[2]], 0.93).unwrap()).abs() < 1e-6);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(&mut []), 0.0);
    }
}

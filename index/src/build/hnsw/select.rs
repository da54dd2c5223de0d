//! Which of many near items are linked to: those that no nearer choice leads to already.
//!
//! The heuristic of Malkov and Yashunin (2020, algorithm 4) with the slack of Vamana (Subramanya et al., *DiskANN*, NeurIPS 2019): going
//! through the candidates, nearest first, one is passed over if an item chosen before is nearer to it than the item itself is. Where
//! that leaves places free, candidates fill them that no chosen item is nearer to by the factor [`ALPHA`].
//!
//! Where inner products count there is no distance to have a slack of, and the longest items are near to everything. There a candidate is passed
//! over if its product with an item chosen before is larger by the factor [`RATIO`], and places may stay free.
//!
//! Measured on 200,000 × 64 generated factors (m 16, breadth 200): products a query at recall 0.90 / 0.95 / 0.99 without slack 499 / 787 /
//! 2,771, with a slack of 1.1 517 / 809 / 2,724, of 1.2 491 / 777 / 2,325. Choosing from the 100 nearest of 200 rather than all costs 3,656 at 0.99.
//! By inner product, with links by cosine in free places (`united.rs`), at 0.90 / 0.95 / 0.99: 380 / 560 / 1,130 with a ratio of 1.3, 370 / 540 / 1,040 with
//! one of 1.4, which on factors of real interactions (40,979 × 64) stays at 0.996 where 1.3 goes on to 0.999; 440 / 650 / 1,260 with one of 1.05.

use crate::compare::{ByRows, Compare};
use crate::metric::{Kernel, Metric};
use crate::pool::Entry;
use crate::vectors::VectorView;

/// How much nearer to a chosen item than to the item itself a candidate may be and still be chosen.
const ALPHA: f32 = 1.2;
/// How much larger than with the item itself a candidate's inner product with a chosen item may be.
const RATIO: f32 = 1.3;

/// An item that may be linked to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) item: u32,
    /// To the item whose links are chosen.
    pub(super) similarity: f32,
}

/// Chooses.
#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    pub(super) vectors: VectorView<'a>,
    pub(super) kernel: Kernel,
    /// What similarities are. By cosine, rows are of unit length.
    pub(super) metric: Metric,
}

/// Buffers of a selection.
#[derive(Debug, Default)]
pub(super) struct SelectScratch {
    items: Vec<u32>,
    similarities: Vec<f32>,
    occlusion: Vec<f32>,
    chosen: Vec<usize>,
}

impl SelectScratch {
    /// Items, compared by rows.
    pub(super) fn compared(&mut self, rows: &ByRows<'_>, items: &[u32]) -> Vec<Candidate> {
        items.iter().for_each(|item| rows.ask(*item));
        self.similarities.resize(items.len(), 0.0);
        rows.many(items, &mut self.similarities);
        let pairs = items.iter().zip(&self.similarities);
        pairs.map(|(item, similarity)| Candidate { item: *item, similarity: *similarity }).collect()
    }
}

impl Selector<'_> {
    /// Cuts candidates to at most `most`, best first. Costs a product for each pair of a chosen one and a later candidate.
    pub(super) fn select(&self, candidates: &mut Vec<Candidate>, most: usize, scratch: &mut SelectScratch) {
        candidates.sort_unstable_by_key(|one| Entry::new(one.similarity, one.item));
        candidates.dedup_by_key(|one| one.item);
        let SelectScratch { items, similarities, occlusion, chosen } = scratch;
        items.clear();
        items.extend(candidates.iter().map(|one| one.item));
        similarities.resize(candidates.len(), 0.0);
        occlusion.clear();
        occlusion.resize(candidates.len(), 0.0);
        chosen.clear();
        // Distances are squared, so the factor is too.
        let limits: &[f32] = match self.metric {
            Metric::Cosine => &[1.0, ALPHA * ALPHA],
            Metric::InnerProduct => &[RATIO],
        };
        for limit in limits {
            for at in 0..candidates.len() {
                if chosen.len() == most {
                    break;
                }
                if occlusion.get(at).is_some_and(|occlusion| occlusion <= limit) {
                    chosen.push(at);
                    self.occlude(at, candidates, items, similarities, occlusion);
                }
            }
        }
        chosen.sort_unstable();
        let mut place = 0;
        candidates.retain(|_| {
            place += 1;
            chosen.binary_search(&(place - 1)).is_ok()
        });
    }

    /// Notes that a candidate was chosen: for itself, so that it is not chosen again, and for all later ones, how much nearer they are to it.
    fn occlude(
        &self,
        at: usize,
        candidates: &[Candidate],
        items: &[u32],
        similarities: &mut [f32],
        occlusion: &mut [f32],
    ) {
        if let Some(own) = occlusion.get_mut(at) {
            *own = f32::INFINITY;
        }
        let row = self.vectors.row_groups(items.get(at).copied().unwrap_or(u32::MAX));
        let later = items.get(at + 1..).unwrap_or_default();
        self.kernel.many(row, self.vectors.groups(), later, similarities);
        let later = candidates.iter().zip(occlusion).skip(at + 1).zip(similarities);
        for ((candidate, occlusion), similarity) in later {
            *occlusion = occlusion.max(occluded(self.metric, candidate.similarity, *similarity));
        }
    }
}

/// By what factor a candidate is nearer to a chosen item than to the item whose links are chosen.
fn occluded(metric: Metric, to_item: f32, to_chosen: f32) -> f32 {
    match metric {
        // A copy of a chosen item says nothing new, however near it is.
        Metric::Cosine if 1.0 - to_chosen <= f32::EPSILON => f32::INFINITY,
        Metric::Cosine => (1.0 - to_item) / (1.0 - to_chosen),
        Metric::InnerProduct if to_item > 0.0 => to_chosen / to_item,
        Metric::InnerProduct if to_chosen > to_item => f32::INFINITY,
        Metric::InnerProduct => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two dimensions at these angles, in degrees, as unit vectors.
    fn at(angles: &[f32]) -> Vec<f32> {
        let row = |angle: &f32| {
            let mut row = [0.0; 16];
            (row[1], row[0]) = angle.to_radians().sin_cos();
            row
        };
        angles.iter().flat_map(row).collect()
    }

    fn chosen(angles: &[f32], most: usize) -> Vec<u32> {
        let rows = at(angles);
        let vectors = VectorView { rows: &rows, n: angles.len() as u32, stride: 16, dimensions: 2 };
        let selector = Selector { vectors, kernel: Kernel::get(), metric: Metric::Cosine };
        let similarity = |item: u32| angles[item as usize].to_radians().cos();
        let mut candidates: Vec<Candidate> =
            (1..angles.len() as u32).map(|item| Candidate { item, similarity: similarity(item) }).collect();
        selector.select(&mut candidates, most, &mut SelectScratch::default());
        candidates.into_iter().map(|one| one.item).collect()
    }

    #[test]
    fn what_a_nearer_choice_leads_to_is_passed_over() {
        // 10 leads to 20 and 30; the other side has its own.
        assert_eq!(chosen(&[0.0, 10.0, 20.0, 30.0, -40.0], 4), [1, 4]);
        // 70 is a little nearer to 10 than to 0: within the slack, if there is room.
        assert_eq!(chosen(&[0.0, 10.0, 70.0, -40.0], 3), [1, 3, 2]);
        assert_eq!(chosen(&[0.0, 10.0, 70.0, -40.0], 2), [1, 3]);
    }

    #[test]
    fn by_inner_product_the_long_hide_the_short_behind_them() {
        // Of an item at (1, 0): a long one beside it, two behind that one, and one on the other side.
        let of = |rows: [[f32; 2]; 5]| -> Vec<u32> {
            let padded: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied().chain([0.0; 14])).collect();
            let vectors = VectorView { rows: &padded, n: 5, stride: 16, dimensions: 2 };
            let selector = Selector { vectors, kernel: Kernel::get(), metric: Metric::InnerProduct };
            let mut candidates: Vec<Candidate> =
                (1..5).map(|item| Candidate { item, similarity: rows[item as usize][0] }).collect();
            selector.select(&mut candidates, 4, &mut SelectScratch::default());
            candidates.into_iter().map(|one| one.item).collect()
        };
        assert_eq!(of([[1.0, 0.0], [3.0, 1.0], [0.9, 0.5], [0.5, 0.9], [0.2, -0.8]]), [1, 4]);
        // Only a little larger with the chosen one: within the ratio.
        assert_eq!(of([[1.0, 0.0], [1.1, 0.2], [0.9, 0.5], [0.5, 0.9], [0.2, -0.8]]), [1, 2, 4]);
        // What is opposite to the item is chosen where nothing chosen is nearer to it.
        assert_eq!(of([[1.0, 0.0], [1.2, 0.0], [-0.2, 0.5], [-0.2, 0.6], [-0.3, -0.9]]), [1, 2, 4]);
    }

    #[test]
    fn copies_are_chosen_once_and_nothing_from_nothing() {
        assert_eq!(chosen(&[0.0, 10.0, 10.0, 10.0], 3), [1]);
        assert_eq!(chosen(&[0.0], 3), [0_u32; 0]);
    }
}

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

use zerocopy::FromBytes;

use crate::aligned::AlignedBytes;
use crate::container::cast;
use crate::metric::{GROUP, Group, Kernel, Metric, fetched_ahead};
use crate::pool::Entry;
use crate::row::RowsView;

/// How much nearer to a chosen item than to the item itself a candidate may be and still be chosen.
const ALPHA: f32 = 1.2;
/// How much larger than with the item itself a candidate's inner product with a chosen item may be.
const RATIO: f32 = 1.3;

/// Chooses.
#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    pub(super) rows: RowsView<'a>,
    pub(super) kernel: Kernel,
    /// What similarities are. By cosine, rows are of unit length, or nearly.
    pub(super) metric: Metric,
}

/// An item that may be linked to.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// With its similarity to the item whose links are chosen.
    entry: Entry,
    /// Where its row is among those that were read.
    place: u32,
}

/// Buffers of a selection.
#[derive(Debug, Default)]
pub(super) struct SelectScratch {
    /// The rows of all candidates and of the item whose links are chosen: each is read once, from wherever it lies, and compared many times.
    rows: AlignedBytes,
    candidates: Vec<Candidate>,
    /// The places and similarities of candidates.
    places: Vec<u32>,
    to_item: Vec<f32>,
    to_chosen: Vec<f32>,
    occlusion: Vec<f32>,
    chosen: Vec<usize>,
}

impl Selector<'_> {
    /// The links of an item among those that are near: at most `most`, best first. Costs a product for each pair of a chosen one and a later candidate.
    pub(super) fn select(&self, of: u32, near: &[u32], most: usize, scratch: &mut SelectScratch) -> Vec<u32> {
        self.read(of, near, scratch);
        self.compare(near, scratch);
        // Distances are squared, so the factor is too.
        let limits: &[f32] = match self.metric {
            Metric::Cosine => &[1.0, ALPHA * ALPHA],
            Metric::InnerProduct => &[RATIO],
        };
        for limit in limits {
            for at in 0..scratch.candidates.len() {
                if scratch.chosen.len() == most {
                    break;
                }
                if scratch.occlusion.get(at).is_some_and(|occlusion| occlusion <= limit) {
                    scratch.chosen.push(at);
                    self.occlude(at, scratch);
                }
            }
        }
        let SelectScratch { candidates, chosen, .. } = scratch;
        chosen.sort_unstable();
        chosen.iter().filter_map(|at| candidates.get(*at)).map(|one| one.entry.ordinal()).collect()
    }

    /// Reads the rows of all that are near, in their order, and after them that of the item itself.
    fn read(&self, of: u32, near: &[u32], scratch: &mut SelectScratch) {
        let stride = self.rows.stride();
        let bytes = (near.len() + 1) * stride * size_of::<f32>();
        if scratch.rows.as_ref().len() < bytes {
            scratch.rows.resize(bytes);
        }
        let places = <[f32]>::mut_from_bytes(scratch.rows.as_mut()).unwrap_or_default().chunks_exact_mut(stride);
        let row = |item: u32| self.rows.row(item).unwrap_or_default();
        let items = fetched_ahead(near.iter().chain([&of]), |item| row(*item).prefetch());
        for (place, item) in places.zip(items) {
            row(*item).write_to(place);
            if self.metric == Metric::Cosine {
                let groups = place.as_chunks::<GROUP>().0;
                let scale = 1.0 / self.kernel.pair(groups, groups).sqrt();
                place.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }

    /// Candidates, the nearest first, each once; none is chosen yet.
    fn compare(&self, near: &[u32], scratch: &mut SelectScratch) {
        let SelectScratch { rows, candidates, places, to_item, to_chosen, occlusion, chosen } = scratch;
        let rows: &[Group] = cast(rows.as_ref()).unwrap_or_default();
        let from = near.len() * self.width();
        let own = rows.get(from..from + self.width()).unwrap_or_default();
        places.clear();
        places.extend(0..near.len() as u32);
        to_chosen.resize(near.len(), 0.0);
        self.kernel.many(own, rows, places, to_chosen);
        let found = near.iter().zip(places.iter()).zip(to_chosen.iter());
        candidates.clear();
        candidates.extend(found.map(|((item, place), to)| Candidate { entry: Entry::new(*to, *item), place: *place }));
        candidates.sort_unstable_by_key(|one| one.entry);
        candidates.dedup_by_key(|one| one.entry.ordinal());
        places.clear();
        places.extend(candidates.iter().map(|one| one.place));
        to_item.clear();
        to_item.extend(candidates.iter().map(|one| one.entry.similarity()));
        occlusion.clear();
        occlusion.resize(candidates.len(), 0.0);
        chosen.clear();
    }

    /// Notes that a candidate was chosen: for itself, so that it is not chosen again, and for all later ones, how much nearer they are to it.
    fn occlude(&self, at: usize, scratch: &mut SelectScratch) {
        let SelectScratch { rows, places, to_item, to_chosen, occlusion, .. } = scratch;
        let rows: &[Group] = cast(rows.as_ref()).unwrap_or_default();
        let from = places.get(at).map_or(usize::MAX, |place| *place as usize * self.width());
        let row = rows.get(from..from.saturating_add(self.width())).unwrap_or_default();
        self.kernel.many(row, rows, places.get(at + 1..).unwrap_or_default(), to_chosen);
        let mut from_here = occlusion.iter_mut().zip(to_item).skip(at);
        if let Some((own, _)) = from_here.next() {
            *own = f32::INFINITY;
        }
        for ((occlusion, to_item), to_chosen) in from_here.zip(to_chosen) {
            *occlusion = occlusion.max(occluded(self.metric, *to_item, *to_chosen));
        }
    }

    /// Groups of a row.
    fn width(&self) -> usize {
        self.rows.stride() / GROUP
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
    use crate::vectors::VectorView;

    /// The links of the first of some rows of two dimensions.
    fn links(rows: &[[f32; 2]], most: usize, metric: Metric) -> Vec<u32> {
        let padded: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied().chain([0.0; 14])).collect();
        let n = rows.len() as u32;
        let vectors = VectorView { rows: &padded, n, stride: 16, dimensions: 2 };
        let selector = Selector { rows: vectors.into(), kernel: Kernel::get(), metric };
        selector.select(0, &(1..n).collect::<Vec<u32>>(), most, &mut SelectScratch::default())
    }

    /// The links of the first of some rows at these angles, in degrees.
    fn chosen(angles: &[f32], most: usize) -> Vec<u32> {
        let row = |angle: &f32| {
            let (sine, cosine) = angle.to_radians().sin_cos();
            [cosine, sine]
        };
        links(&angles.iter().map(row).collect::<Vec<_>>(), most, Metric::Cosine)
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
        let of = |rows: [[f32; 2]; 5]| links(&rows, 4, Metric::InnerProduct);
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

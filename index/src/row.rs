//! A row, however the file has it: as floats, or as two bytes a value.

use std::borrow::Cow;

use crate::fine::FineView;
use crate::format::row_stride;
use crate::metric::{add_scaled, dot, prefetch, unfold};
use crate::vectors::VectorView;

/// Values that are unfolded in one go.
const PIECE: usize = 64;

/// The rows of an index.
#[derive(Clone, Copy, Debug)]
pub enum RowsView<'a> {
    /// As floats.
    Whole(VectorView<'a>),
    /// As two bytes a value.
    Fine(FineView<'a>),
}

impl<'a> RowsView<'a> {
    /// The row of an item.
    #[inline]
    pub fn row(&self, ordinal: u32) -> Option<Row<'a>> {
        match self {
            Self::Whole(vectors) => vectors.row(ordinal).map(Row::from),
            Self::Fine(rows) => {
                let [codes, fine] = rows.row(ordinal)?;
                Some(Row(Form::Fine { codes, fine, scales: rows.codes.scales }))
            }
        }
    }

    /// Number of rows.
    pub fn len(&self) -> u32 {
        match self {
            Self::Whole(vectors) => vectors.len(),
            Self::Fine(rows) => rows.n,
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of a row.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Whole(vectors) => vectors.dimensions(),
            Self::Fine(rows) => rows.codes.scales.len(),
        }
    }

    /// Floats of a query that is padded to be compared with them.
    pub(crate) fn stride(&self) -> usize {
        row_stride(self.dimensions() as u32) as usize
    }
}

impl<'a> From<VectorView<'a>> for RowsView<'a> {
    fn from(vectors: VectorView<'a>) -> Self {
        Self::Whole(vectors)
    }
}

/// The vector of an item, borrowed. To be compared with and added up as it lies; its values are made when they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a>(Form<'a>);

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    Whole(&'a [f32]),
    Fine { codes: &'a [u8], fine: &'a [u8], scales: &'a [f32] },
}

impl<'a> From<&'a [f32]> for Row<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self(Form::Whole(values))
    }
}

impl Default for Row<'_> {
    fn default() -> Self {
        Self(Form::Whole(&[]))
    }
}

impl<'a> Row<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self.0 {
            Form::Whole(values) => values.len(),
            Form::Fine { scales, .. } => scales.len(),
        }
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values: borrowed where the file has floats, else made, at about 15 ns for 64 of them.
    pub fn values(&self) -> Cow<'a, [f32]> {
        match self.0 {
            Form::Whole(values) => Cow::Borrowed(values),
            Form::Fine { codes, fine, scales } => {
                let mut values = vec![0.0; scales.len()];
                unfold(codes, fine, scales, &mut values);
                Cow::Owned(values)
            }
        }
    }

    /// Writes its values, and 0 beyond them.
    #[cfg(feature = "build")]
    #[inline]
    pub(crate) fn write_to(&self, into: &mut [f32]) {
        let (values, beyond) = into.split_at_mut(self.len().min(into.len()));
        match self.0 {
            Form::Whole(own) => values.iter_mut().zip(own).for_each(|(value, own)| *value = *own),
            Form::Fine { codes, fine, scales } => unfold(codes, fine, scales, values),
        }
        beyond.fill(0.0);
    }

    /// Its dot product with a vector; of different lengths, the part that both have counts.
    #[inline]
    pub fn dot(&self, other: &[f32]) -> f32 {
        let mut product = 0.0;
        self.in_pieces(|from, values| product += dot(values, other.get(from..).unwrap_or_default()));
        product
    }

    /// Adds it, times `scale`, to a sum.
    #[inline]
    pub fn add_to(&self, sum: &mut [f64], scale: f64) {
        self.in_pieces(|from, values| add_scaled(sum.get_mut(from..).unwrap_or_default(), values, scale));
    }

    /// Asks the memory for it.
    #[inline]
    pub fn prefetch(&self) {
        match self.0 {
            Form::Whole(values) => prefetch(values),
            Form::Fine { codes, fine, .. } => {
                prefetch(codes);
                prefetch(fine);
            }
        }
    }

    /// Hands its values on, with the place of the first, all at once or some after the other.
    #[inline]
    fn in_pieces(&self, mut take: impl FnMut(usize, &[f32])) {
        match self.0 {
            Form::Whole(values) => take(0, values),
            Form::Fine { codes, fine, scales } => {
                let mut piece = [0.0; PIECE];
                let parts = codes.chunks(PIECE).zip(fine.chunks(PIECE)).zip(scales.chunks(PIECE));
                for (at, ((codes, fine), scales)) in parts.enumerate() {
                    let values = piece.get_mut(..scales.len()).unwrap_or_default();
                    unfold(codes, fine, scales, values);
                    take(at * PIECE, values);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codes::CodeView;
    use crate::fine::encode_fine;
    use crate::metric::{CODE_GROUP, dot_scalar};

    proptest! {
        #[test]
        fn a_fine_row_does_what_its_values_do(
            row in prop::collection::vec(-1.0_f32..1.0, 1..200),
            other in prop::collection::vec(-1.0_f32..1.0, 200),
            scale in -2.0_f64..2.0,
        ) {
            let width = row.len().next_multiple_of(CODE_GROUP);
            let (mut codes, mut fine) = (vec![0; 2 * width], vec![0; 2 * width]);
            let scales = vec![1.0 / 127.0; row.len()];
            encode_fine(&row, &scales, &mut codes[width..], &mut fine[width..]);
            let view = CodeView { rows: codes.as_chunks().0, scales: &scales, opening: 0 };
            let rows = RowsView::Fine(FineView { codes: view, fine: fine.as_chunks().0, n: 2 });
            let found = rows.row(1).unwrap();
            let values = found.values();
            prop_assert_eq!((found.len(), values.len(), rows.len(), rows.dimensions()), (row.len(), row.len(), 2, row.len()));
            prop_assert!(values.iter().zip(&row).all(|(a, b)| (a - b).abs() < 2e-5));
            let product = dot_scalar(&values, &other);
            prop_assert!((found.dot(&other) - product).abs() < 1e-4);
            prop_assert!((Row::from(values.as_ref()).dot(&other) - product).abs() < 1e-4);
            let (mut sum, mut twin) = (vec![1.0; row.len()], vec![1.0; row.len()]);
            found.add_to(&mut sum, scale);
            add_scaled(&mut twin, &values, scale);
            prop_assert_eq!(sum, twin);
            prop_assert!(rows.row(2).is_none() && rows.row(u32::MAX).is_none());
        }
    }
}

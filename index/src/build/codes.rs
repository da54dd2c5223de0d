//! Making codes of rows.

use std::io;

use crate::codes::{CODE_MOST, Codes, encode};
use crate::fine::{FineView, encode_fine};
use crate::format::code_stride;
use crate::map::Pages;
use crate::metric::{squared_length, unfold};
use crate::row::RowsView;
use crate::vectors::VectorView;

impl Codes {
    /// Codes rows. Costs two passes over them.
    ///
    /// # Errors
    /// Not enough memory.
    pub(crate) fn of(rows: &VectorView<'_>) -> io::Result<Self> {
        let scales = scales(rows);
        let stride = code_stride(rows.dimensions() as u32) as usize;
        let mut bytes = Pages::zeroed(rows.len() as usize * stride)?;
        for (codes, row) in bytes.as_mut().chunks_exact_mut(stride).zip(rows.rows.chunks_exact(rows.stride)) {
            encode(row, &scales, codes);
        }
        Ok(Self { bytes, scales, fine: None })
    }

    /// Codes rows, and makes what is beside them stand for them, where that is close to every row and shorter.
    ///
    /// # Errors
    /// Not enough memory.
    pub(crate) fn for_rows(rows: &VectorView<'_>) -> io::Result<Self> {
        let dimensions = rows.dimensions() as u32;
        let stride = code_stride(dimensions) as usize;
        if stride >= rows.stride * size_of::<f32>() {
            return Self::of(rows);
        }
        let scales = scales(rows);
        let mut bytes = Pages::zeroed(rows.len() as usize * stride)?;
        let mut fine = Pages::zeroed(rows.len() as usize * stride)?;
        let mut values = vec![0.0; rows.dimensions()];
        let places = bytes.as_mut().chunks_exact_mut(stride).zip(fine.as_mut().chunks_exact_mut(stride));
        for ((codes, fine), row) in places.zip(rows.rows.chunks_exact(rows.stride)) {
            encode_fine(row, &scales, codes, fine);
            unfold(codes, fine, &scales, &mut values);
            // In double precision: squares of a very short row would be nothing in single.
            let off = row.iter().zip(&values).map(|(value, found)| (f64::from(*value) - f64::from(*found)).powi(2));
            if off.sum::<f64>() > OFF_MOST * OFF_MOST * squared_length(row) {
                return Self::of(rows);
            }
        }
        Ok(Self { bytes, scales, fine: Some(fine) })
    }

    /// The rows that they stand for; none where they do not.
    pub(crate) fn rows(&self, n: u32) -> Option<RowsView<'_>> {
        let fine = self.fine.as_ref()?.as_ref().as_chunks().0;
        Some(RowsView::Fine(FineView { codes: self.view(), fine, n }))
    }
}

/// How far a row may be from what two bytes a value say of it, as a share of its length. Factors mostly are within a thousandth; a row that is
/// much shorter than others, or one of very large values in one dimension, makes it more, and then rows stay as they are.
const OFF_MOST: f64 = 0.01;

/// What steps are worth, so that the largest value of each dimension gets the largest code.
fn scales(rows: &VectorView<'_>) -> Vec<f32> {
    let mut most = vec![0.0_f32; rows.dimensions()];
    for row in rows.rows.chunks_exact(rows.stride) {
        for (most, value) in most.iter_mut().zip(row) {
            *most = most.max(value.abs());
        }
    }
    let scale = |most: f32| Some(most / CODE_MOST).filter(|scale| scale.is_normal()).unwrap_or(1.0);
    most.into_iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::metric::CODE_ZERO;

    proptest! {
        #[test]
        fn a_code_is_the_nearest_step(values in prop::collection::vec(-3.0_f32..3.0, 1..150)) {
            let stride = crate::format::row_stride(values.len() as u32) as usize;
            let mut row = values.clone();
            row.resize(stride, 0.0);
            let codes = Codes::of(&VectorView { rows: &row, n: 1, stride, dimensions: values.len() }).unwrap();
            let view = codes.view();
            for ((code, value), scale) in view.row(0).as_flattened().iter().zip(&values).zip(view.scales) {
                let off = (i16::from(*code) - i16::from(CODE_ZERO)) as f32 * scale - value;
                prop_assert!(off.abs() <= 0.501 * scale, "{value} by {scale} became {code}");
            }
            prop_assert!(view.row(0).as_flattened()[values.len()..].iter().all(|code| *code == CODE_ZERO));
            prop_assert!(view.row(1).is_empty());
        }
    }

    #[test]
    fn a_dimension_of_nothing_has_steps_all_the_same() {
        let tiny = [0.0, 1e-44].into_iter().chain([0.0; 14]).collect::<Vec<f32>>();
        assert_eq!(scales(&VectorView { rows: &tiny, n: 1, stride: 16, dimensions: 2 }), [1.0, 1.0]);
    }
}

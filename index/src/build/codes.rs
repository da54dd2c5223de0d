//! Making codes of rows.

use std::io;

use super::rows::Pass;
use crate::codes::{CODE_MOST, Codes, encode};
use crate::fine::{FineView, encode_fine};
use crate::format::{code_stride, row_stride};
use crate::map::Pages;
use crate::metric::{CODE_ZERO, Metric, length, squared_length, unfold};
use crate::row::RowsView;
use crate::verify::UNIT_TOLERANCE;

impl Codes {
    /// Codes n rows. Costs two passes over them.
    ///
    /// # Errors
    /// Not enough memory, or rows that cannot be read.
    pub(crate) fn of(n: u32, dimensions: usize, pass: &Pass<'_>) -> io::Result<Self> {
        let scales = scales(dimensions, pass)?;
        let stride = code_stride(dimensions as u32) as usize;
        let mut bytes = Pages::zeroed(n as usize * stride)?;
        pass(&mut |place, row| encode(row, &scales, row_at(bytes.as_mut(), place, stride)))?;
        Ok(Self { bytes, scales, fine: None })
    }

    /// Codes n rows, and makes what is beside them stand for them, where that is close to every row and shorter.
    ///
    /// # Errors
    /// Not enough memory, or rows that cannot be read.
    pub(crate) fn for_rows(n: u32, dimensions: usize, metric: Metric, pass: &Pass<'_>) -> io::Result<Self> {
        let stride = code_stride(dimensions as u32) as usize;
        if stride >= row_stride(dimensions as u32) as usize * size_of::<f32>() {
            return Self::of(n, dimensions, pass);
        }
        let scales = scales(dimensions, pass)?;
        let mut bytes = Pages::zeroed(n as usize * stride)?;
        let mut fine = Pages::zeroed(n as usize * stride)?;
        let (mut values, mut is_close) = (vec![0.0; dimensions], true);
        pass(&mut |place, row| {
            if !is_close {
                return;
            }
            let (codes, fine) = (row_at(bytes.as_mut(), place, stride), row_at(fine.as_mut(), place, stride));
            encode_fine(row, &scales, codes, fine);
            unfold(codes, fine, &scales, &mut values);
            // In double precision: squares of a very short row would be nothing in single.
            let off = row.iter().zip(&values).map(|(value, found)| (f64::from(*value) - f64::from(*found)).powi(2));
            let own = squared_length(row);
            let is_far = off.sum::<f64>() > OFF_MOST * OFF_MOST * own;
            let length_off = (squared_length(&values) - own).abs();
            is_close = !is_far && (metric == Metric::InnerProduct || length_off <= LENGTH_OFF_MOST * own);
        })?;
        if is_close { Ok(Self { bytes, scales, fine: Some(fine) }) } else { Self::of(n, dimensions, pass) }
    }

    /// Whether walks by inner product find their way by them: whether they are close to most of the longest rows, of which answers are
    /// made. A few rows that are hundreds of times as long as all others make steps so large that the others have the codes of zeros.
    ///
    /// Costs a pass over the rows.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub(crate) fn tell_apart(&self, n: u32, pass: &Pass<'_>) -> io::Result<bool> {
        let view = self.view();
        let mut rows: Vec<(f32, bool)> = Vec::with_capacity(n as usize);
        pass(&mut |place, row| {
            let codes = view.row(place).as_flattened();
            let off = row.iter().zip(codes).zip(view.scales).map(|((value, code), scale)| {
                let steps = f64::from(*code) - f64::from(CODE_ZERO);
                (f64::from(*value) - steps * f64::from(*scale)).powi(2)
            });
            let is_close = off.sum::<f64>() <= CODES_OFF_MOST * CODES_OFF_MOST * squared_length(row);
            rows.push((length(row), is_close));
        })?;
        let count = rows.len().div_ceil(OF_THE_LONGEST);
        let Some(last) = count.checked_sub(1) else { return Ok(true) };
        rows.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        Ok(2 * rows.iter().take(count).filter(|(_, is_close)| *is_close).count() >= count)
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

/// How far the square of its length may be then where rows are of unit length, as a share of it: half of what verification lets pass, which adds up
/// in single precision. Only rows of more than two hundred dimensions can be farther.
const LENGTH_OFF_MOST: f64 = UNIT_TOLERANCE as f64 / 2.0;

/// How far a row may be from what codes of one byte say of it for them to be of use, as a share of its length.
const CODES_OFF_MOST: f64 = 0.5;

/// One in so many rows, the longest, are what codes must be of use for: by inner product what is short is near to nothing.
const OF_THE_LONGEST: usize = 10;

/// What steps are worth, so that the largest value of each dimension gets the largest code.
fn scales(dimensions: usize, pass: &Pass<'_>) -> io::Result<Vec<f32>> {
    let mut most = vec![0.0_f32; dimensions];
    pass(&mut |_, row| {
        for (most, value) in most.iter_mut().zip(row) {
            *most = most.max(value.abs());
        }
    })?;
    let scale = |most: f32| Some(most / CODE_MOST).filter(|scale| scale.is_normal()).unwrap_or(1.0);
    Ok(most.into_iter().map(scale).collect())
}

/// The bytes of one row.
fn row_at(bytes: &mut [u8], place: u32, stride: usize) -> &mut [u8] {
    let from = place as usize * stride;
    bytes.get_mut(from..from + stride).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// A pass over n rows that `read` writes.
    fn pass(n: usize, dimensions: usize, read: impl Fn(u32, &mut [f32])) -> Box<Pass<'static>> {
        let mut rows = vec![0.0; n * dimensions];
        (0..).zip(rows.chunks_exact_mut(dimensions)).for_each(|(place, row)| read(place, row));
        Box::new(move |visit| {
            (0..).zip(rows.chunks_exact(dimensions)).for_each(|(place, row)| visit(place, row));
            Ok(())
        })
    }

    proptest! {
        #[test]
        fn a_code_is_the_nearest_step(values in prop::collection::vec(-3.0_f32..3.0, 1..150)) {
            let one = pass(1, values.len(), |_, row| row.copy_from_slice(&values));
            let codes = Codes::of(1, values.len(), &*one).unwrap();
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
    fn rows_whose_length_verification_would_refuse_stay_as_they_are() {
        // One row for each dimension, which makes the steps of all as large as they can be, and one that is half a part of a step off in each.
        const DIMENSIONS: usize = 1_683;
        let read = |ordinal: u32, row: &mut [f32]| {
            row.fill(if ordinal as usize == DIMENSIONS { 1.0 / (DIMENSIONS as f32).sqrt() } else { 0.0 });
            row.iter_mut().skip(ordinal as usize).take(1).for_each(|value| *value = 1.0);
        };
        let all = pass(DIMENSIONS + 1, DIMENSIONS, read);
        let codes = |metric| Codes::for_rows(DIMENSIONS as u32 + 1, DIMENSIONS, metric, &*all).unwrap();
        assert!(codes(Metric::Cosine).fine.is_none());
        assert!(codes(Metric::InnerProduct).fine.is_some(), "where rows may be of any length they are close enough");
    }

    #[test]
    fn a_few_very_long_rows_hide_the_others_and_many_short_ones_do_not_matter() {
        let are_told_apart = |length: &dyn Fn(u32) -> f32| {
            let read = |ordinal: u32, row: &mut [f32]| {
                for (d, value) in (0_u32..).zip(row) {
                    *value = length(ordinal) * (((ordinal * 7 + d * 13) % 17) as f32 - 8.0) / 8.0;
                }
            };
            let all = pass(200, 8, read);
            Codes::of(200, 8, &*all).unwrap().tell_apart(200, &*all).unwrap()
        };
        assert!(are_told_apart(&|_| 1.0));
        assert!(are_told_apart(&|ordinal| if ordinal < 3 { 20.0 } else { 1.0 }));
        assert!(!are_told_apart(&|ordinal| if ordinal < 3 { 1_000.0 } else { 1.0 }));
        assert!(are_told_apart(&|ordinal| if ordinal % 10 == 0 { 1.0 } else { 1e-4 }));
        let none = pass(0, 8, |_, _| {});
        assert!(Codes::of(0, 8, &*none).unwrap().tell_apart(0, &*none).unwrap());
    }

    #[test]
    fn a_dimension_of_nothing_has_steps_all_the_same() {
        let one = pass(1, 2, |_, row| row.copy_from_slice(&[0.0, 1e-44]));
        assert_eq!(scales(2, &*one).unwrap(), [1.0, 1.0]);
    }
}

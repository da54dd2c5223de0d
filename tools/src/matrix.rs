//! A dense matrix of single-precision numbers, row by row: what factors are.

use std::io;

use kindred_index::RowSource;
use thiserror::Error;

/// `rows` × `cols` numbers, row-major, without padding. `data.len() == rows * cols`, always.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Number of rows: one an item, user or query.
    pub rows: usize,
    /// Length of a row: the number of factors.
    pub cols: usize,
    /// The numbers, row after row.
    pub data: Vec<f32>,
}

/// The numbers are not a multiple of the row length, or too many to count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{found} numbers are not {rows} rows of {cols}")]
pub struct ShapeError {
    /// Rows wanted.
    pub rows: usize,
    /// Columns wanted.
    pub cols: usize,
    /// Numbers found.
    pub found: usize,
}

/// What makes a row useless as a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFault {
    /// It holds an infinity or a NaN, or is so long that its norm overflows.
    NotFinite,
    /// All its numbers are zero, so it has no direction.
    Zero,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// A matrix over numbers that are already in order.
    ///
    /// # Errors
    /// There are more or fewer than `rows * cols` of them.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Result<Self, ShapeError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(ShapeError { rows, cols, found: data.len() });
        }
        Ok(Self { rows, cols, data })
    }

    /// A row; none beyond the last.
    pub fn get(&self, row: usize) -> Option<&[f32]> {
        let from = row.checked_mul(self.cols)?;
        if row < self.rows { self.data.get(from..from + self.cols) } else { None }
    }

    /// A row, for an index that is known to be in range; the empty row otherwise.
    pub fn row(&self, row: usize) -> &[f32] {
        self.get(row).unwrap_or_default()
    }

    /// A row to be written; the empty row if there is none.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        if row >= self.rows {
            return &mut [];
        }
        let from = row * self.cols;
        self.data.get_mut(from..from + self.cols).unwrap_or_default()
    }

    /// The rows in order. A matrix of no columns has none to give.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.cols.max(1))
    }

    /// The Euclidean length of each row, summed in double precision.
    pub fn norms(&self) -> Vec<f32> {
        (0..self.rows).map(|row| norm(self.row(row))).collect()
    }

    /// The first row that cannot serve as a vector, and why. One pass.
    pub fn first_fault(&self) -> Option<(usize, RowFault)> {
        first_fault(&self.data, self.cols).unwrap_or_default()
    }

    /// Whether every row has length 1, within a thousandth.
    pub fn is_unit_length(&self) -> bool {
        self.rows > 0 && self.norms().iter().all(|norm| (norm - 1.0).abs() <= 1e-3)
    }

    /// The same rows, each of length 1. Rows of zeros stay as they are.
    pub fn to_unit_length(&self) -> Self {
        let mut unit = self.clone();
        (0..self.rows).for_each(|row| normalise(unit.row_mut(row)));
        unit
    }
}

/// The first row that cannot serve as a vector, and why. One pass.
///
/// # Errors
/// Rows that cannot be read.
pub fn first_fault(rows: &dyn RowSource, cols: usize) -> io::Result<Option<(usize, RowFault)>> {
    rows.find(cols, |row, values| Some((row as usize, fault(values)?)))
}

/// The Euclidean length of a vector, summed in double precision.
pub fn norm(row: &[f32]) -> f32 {
    row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt() as f32
}

/// Gives a vector the length 1. One of zeros stays as it is.
pub fn normalise(row: &mut [f32]) {
    let norm = norm(row);
    if norm > 0.0 {
        row.iter_mut().for_each(|value| *value /= norm);
    }
}

/// What makes a row useless as a vector, if anything does.
pub fn fault(row: &[f32]) -> Option<RowFault> {
    let length = norm(row);
    if !length.is_finite() || row.iter().any(|value| !value.is_finite()) {
        return Some(RowFault::NotFinite);
    }
    // A row whose norm underflows has a direction on paper, but none that single precision can divide by.
    (length == 0.0).then_some(RowFault::Zero)
}

impl std::fmt::Display for RowFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "holds numbers that are infinite or not a number",
            Self::Zero => "is all zeros and so has no direction",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_should_be() {
        let matrix = Matrix::from_vec(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(matrix.row(1), [4.0, 5.0, 6.0]);
        assert_eq!(matrix.get(2), None);
        assert_eq!(matrix.iter().count(), 2);
        assert!(Matrix::from_vec(2, 3, vec![0.0; 5]).is_err());
        assert!(Matrix::from_vec(usize::MAX, 3, vec![]).is_err());
        assert_eq!(Matrix::zeros(0, 0).iter().count(), 0);
    }

    #[test]
    fn unit_length_keeps_directions_and_zeros() {
        let matrix = Matrix::from_vec(2, 2, vec![3.0, 4.0, 0.0, 0.0]).unwrap();
        assert!(!matrix.is_unit_length());
        let unit = matrix.to_unit_length();
        assert_eq!(unit.data, [0.6, 0.8, 0.0, 0.0]);
        assert!(Matrix::from_vec(1, 2, vec![0.6, 0.8]).unwrap().is_unit_length());
    }

    #[test]
    fn faults_are_found_in_the_first_row_that_has_one() {
        let of = |data: Vec<f32>| Matrix::from_vec(data.len() / 2, 2, data).unwrap().first_fault();
        assert_eq!(of(vec![1.0, 0.0, 0.0, 0.0, f32::NAN, 1.0]), Some((1, RowFault::Zero)));
        assert_eq!(of(vec![1.0, f32::INFINITY]), Some((0, RowFault::NotFinite)));
        assert_eq!(of(vec![f32::MAX, f32::MAX]), Some((0, RowFault::NotFinite)));
        assert_eq!(of(vec![1.0, 0.0]), None);
    }
}

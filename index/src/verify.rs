//! Everything that opening did not check: each MUST of FORMAT.md. After it, the content is what a builder wrote or might have written.
//!
//! Passes over the bytes in order: the checksums first, which find every accident, then the meaning of each section, which finds
//! what a faulty or hostile writer checksummed. All passes are linear in the length of the file.

mod attributes;
mod codes;
mod graph;
mod keys;
mod longest;

use crate::error::VerifyError;
use crate::fine::FineView;
use crate::metric::{CODE_ZERO, GROUP, Metric, unfold};
use crate::open::Index;
use crate::row::RowsView;
use crate::vectors::VectorView;

/// What a verification went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// Items, each with a row and a key.
    pub items: u32,
    /// Links on level 0.
    pub links: u64,
    /// Links on the levels above.
    pub upper_links: u64,
    /// Attribute terms.
    pub terms: u64,
    /// Attribute numbers.
    pub numbers: u64,
    /// CRC-32 of the file.
    pub crc32: u32,
}

/// How far the squared length of a row may be from 1 when the metric is cosine. Normalising in f32 is a thousand times closer.
pub(crate) const UNIT_TOLERANCE: f32 = 1e-3;

impl<D: AsRef<[u8]>> Index<D> {
    /// Checks everything that [`Index::open`] did not. Reads every byte, which also brings a mapped file into memory.
    ///
    /// Costs two passes over the file, and a look-up per key, which are made 64 at a time.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<VerifyReport, VerifyError> {
        let crc32 = self.container().verify_checksums()?;
        let scales = self.codes().map_or(&[][..], |codes| codes.scales);
        codes::scales(scales)?;
        match self.rows() {
            RowsView::Whole(vectors) => {
                rows(&vectors, self.metric())?;
                self.codes().map_or(Ok(()), |codes| codes::verify(&codes, &vectors))?;
            }
            RowsView::Fine(fine) => fine_rows(&fine, self.metric())?,
        }
        let (links, upper_links) = graph::verify(&self.graph())?;
        keys::verify(&self.keys(), self.len())?;
        if let (Some(codes), Some(longest)) = (self.codes(), self.longest()) {
            longest::verify(&longest, &codes, &self.rows())?;
        }
        let attributes = self.attributes();
        attributes::verify(&attributes)?;
        Ok(VerifyReport {
            bytes: self.container().file_len(),
            items: self.len(),
            links,
            upper_links,
            terms: attributes.terms.len() as u64,
            numbers: attributes.number_values.len() as u64,
            crc32,
        })
    }
}

/// Rows are finite, of unit length where the metric is cosine, and zero behind their end.
fn rows(view: &VectorView<'_>, metric: Metric) -> Result<(), VerifyError> {
    for (ordinal, row) in (0..).zip(view.rows.chunks_exact(view.stride)) {
        let padding = row.get(view.dimensions..).unwrap_or_default();
        if padding.iter().any(|value| value.to_bits() != 0) {
            return Err(VerifyError::RowPadding { ordinal });
        }
        check_length(row, ordinal, metric)?;
    }
    Ok(())
}

/// As [`rows`], of rows of two bytes a value.
fn fine_rows(view: &FineView<'_>, metric: Metric) -> Result<(), VerifyError> {
    let dimensions = view.codes.scales.len();
    let mut values = vec![0.0; dimensions.next_multiple_of(GROUP)];
    for ordinal in 0..view.n {
        let [codes, fine] = view.row(ordinal).unwrap_or_default();
        let padding = [codes, fine].into_iter().filter_map(|bytes| bytes.get(dimensions..)).flatten();
        if padding.into_iter().any(|byte| *byte != CODE_ZERO) {
            return Err(VerifyError::RowPadding { ordinal });
        }
        // As codes of floats are too, and what keeps the sums of walks from wrapping.
        if codes.contains(&0) {
            return Err(VerifyError::CodeRange { ordinal });
        }
        unfold(codes, fine, view.codes.scales, &mut values);
        check_length(&values, ordinal, metric)?;
    }
    Ok(())
}

/// A row is finite, and of unit length where the metric is cosine.
fn check_length(row: &[f32], ordinal: u32, metric: Metric) -> Result<(), VerifyError> {
    let found = squared_length(row);
    if !found.is_finite() {
        return Err(VerifyError::RowNotFinite { ordinal });
    }
    if metric == Metric::Cosine && (found - 1.0).abs() > UNIT_TOLERANCE {
        return Err(VerifyError::RowLength { ordinal, found });
    }
    Ok(())
}

/// The sum of squares of a row, whose length is a multiple of 16. Not finite if any value is not, so one test covers both.
fn squared_length(row: &[f32]) -> f32 {
    // Sixteen sums side by side are one to four vector registers; one sum would be a chain of dependent additions.
    let mut sums = [0_f32; 16];
    for values in row.as_chunks::<16>().0 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value * value;
        }
    }
    sums.iter().sum()
}

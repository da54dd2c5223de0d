//! Codes: each is that of its row.

use crate::codes::{CodeView, encode};
use crate::error::VerifyError;
use crate::format::code_stride;
use crate::metric::CodeGroup;
use crate::vectors::VectorView;

/// Scales are positive normal numbers.
pub(super) fn scales(scales: &[f32]) -> Result<(), VerifyError> {
    match scales.iter().position(|scale| !scale.is_normal() || *scale < 0.0) {
        None => Ok(()),
        Some(dimension) => {
            let found = scales.get(dimension).copied().unwrap_or(f32::NAN);
            Err(VerifyError::CodeScale { dimension, found })
        }
    }
}

/// Codes rows again and compares.
pub(super) fn verify(codes: &CodeView<'_>, rows: &VectorView<'_>) -> Result<(), VerifyError> {
    let mut expected = vec![0; code_stride(rows.dimensions() as u32) as usize];
    for ordinal in 0..rows.len() {
        encode(rows.row(ordinal).unwrap_or_default(), codes.scales, &mut expected);
        if codes.row(ordinal).iter().map(<CodeGroup>::as_slice).ne(expected.chunks(size_of::<CodeGroup>())) {
            return Err(VerifyError::Codes { ordinal });
        }
    }
    Ok(())
}

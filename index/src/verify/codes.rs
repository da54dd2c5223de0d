//! Codes: each is that of its row.

use crate::codes::{CodeView, encode};
use crate::error::VerifyError;
use crate::format::code_stride;
use crate::metric::CodeGroup;
use crate::vectors::VectorView;

/// Codes rows again and compares.
pub(super) fn verify(codes: &CodeView<'_>, rows: &VectorView<'_>) -> Result<(), VerifyError> {
    if let Some(dimension) = codes.scales.iter().position(|scale| !scale.is_normal() || *scale < 0.0) {
        let found = codes.scales.get(dimension).copied().unwrap_or(f32::NAN);
        return Err(VerifyError::CodeScale { dimension, found });
    }
    let mut expected = vec![0; code_stride(rows.dimensions() as u32) as usize];
    for ordinal in 0..rows.len() {
        encode(rows.row(ordinal).unwrap_or_default(), codes.scales, &mut expected);
        if codes.row(ordinal).iter().map(<CodeGroup>::as_slice).ne(expected.chunks(size_of::<CodeGroup>())) {
            return Err(VerifyError::Codes { ordinal });
        }
    }
    Ok(())
}

//! The encoder of a model on disk: what `crate::encoder` reads, as sections.

use std::io::{self, Write};

use kindred_index::{Container, ContainerWriter, WriteError};

use super::layout::section::{self, Section};
use super::{ModelError, ModelWriteError};
use crate::encoder::EncoderView;
use crate::limits;

/// An encoder to write.
#[derive(Clone, Copy, Debug)]
pub struct EncoderData<'a> {
    /// Hashes of features, ascending.
    pub keys: &'a [u64],
    /// The weight of each.
    pub weights: &'a [f32],
    /// A row a feature, as long as the model's, for target rows.
    pub rows: &'a [f32],
    /// The same for context rows; empty in a symmetric model.
    pub context_rows: &'a [f32],
}

/// The sections of a model file; empty where it has none.
pub(super) fn view<D: AsRef<[u8]>>(data: &Container<D>, dimensions: usize) -> EncoderView<'_> {
    EncoderView {
        keys: section::longs(data, section::FEATURE_KEYS),
        weights: section::floats(data, section::FEATURE_WEIGHTS),
        rows: section::floats(data, section::FEATURE_ROWS),
        context_rows: section::floats(data, section::FEATURE_CONTEXT_ROWS),
        dimensions,
    }
}

/// The sections of a file that says it has an encoder, with the length in bytes that each must have.
pub(super) fn sizes(n_features: u64, dimensions: u32, has_context: bool) -> impl Iterator<Item = (Section, u64)> {
    let rows = n_features.saturating_mul(u64::from(dimensions)).saturating_mul(4);
    let context = has_context.then_some((section::FEATURE_CONTEXT_ROWS, rows));
    [(section::FEATURE_WEIGHTS, n_features.saturating_mul(4)), (section::FEATURE_ROWS, rows)].into_iter().chain(context)
}

/// Reads every value: hashes ascend, numbers are finite.
pub(super) fn check(view: &EncoderView<'_>) -> Result<(), ModelError> {
    let wrong = |(section, ordinal, found): Wrong| {
        let Section { kind, name } = section;
        Err(ModelError::Value { section: kind, name, ordinal, found })
    };
    first_wrong(view).map_or(Ok(()), wrong)
}

/// A section, a feature in it, and what is wrong with that.
type Wrong = (Section, u32, &'static str);

/// The first value that no encoder can have. Tables are as long as the number of features calls for.
fn first_wrong(view: &EncoderView<'_>) -> Option<Wrong> {
    if let Some(at) = view.keys.windows(2).position(|pair| pair.first() >= pair.last()) {
        let found = "a feature that is not greater than the one before it";
        return Some((section::FEATURE_KEYS, at as u32 + 1, found));
    }
    let tables = [
        (section::FEATURE_WEIGHTS, view.weights, 1),
        (section::FEATURE_ROWS, view.rows, view.dimensions),
        (section::FEATURE_CONTEXT_ROWS, view.context_rows, view.dimensions),
    ];
    tables.into_iter().find_map(|(section, values, width)| {
        let at = values.iter().position(|value| !value.is_finite())?;
        Some((section, (at / width.max(1)) as u32, "a value that is not finite"))
    })
}

impl EncoderData<'_> {
    /// How many sections it makes.
    pub(super) fn n_sections(&self) -> u32 {
        3 + u32::from(!self.context_rows.is_empty())
    }

    /// Checks what a caller could get wrong.
    pub(super) fn validate(&self, dimensions: usize, has_context: bool) -> Result<(), ModelWriteError> {
        let n = self.keys.len();
        if n == 0 || n > limits::ENCODER_FEATURES_MAX {
            let expected = limits::ENCODER_FEATURES_MAX as u64;
            return Err(ModelWriteError::Length { array: "encoder features", expected, found: n as u64 });
        }
        let context = if has_context { n * dimensions } else { 0 };
        let tables = [
            ("encoder weights", n, self.weights),
            ("encoder rows", n * dimensions, self.rows),
            ("encoder context rows", context, self.context_rows),
        ];
        for (array, expected, values) in tables {
            if values.len() != expected {
                let (expected, found) = (expected as u64, values.len() as u64);
                return Err(ModelWriteError::Length { array, expected, found });
            }
        }
        let Self { keys, weights, rows, context_rows } = *self;
        match first_wrong(&EncoderView { keys, weights, rows, context_rows, dimensions }) {
            None => Ok(()),
            Some((section, ordinal, found)) => Err(ModelWriteError::Value { array: section.name, ordinal, found }),
        }
    }

    /// Writes the sections.
    pub(super) fn write<W: Write + io::Seek>(&self, container: &mut ContainerWriter<W>) -> Result<(), WriteError> {
        container.section(section::FEATURE_KEYS.kind, |into| {
            self.keys.iter().try_for_each(|key| into.write_all(&key.to_le_bytes()))
        })?;
        let context = (!self.context_rows.is_empty()).then_some((section::FEATURE_CONTEXT_ROWS, self.context_rows));
        let tables = [(section::FEATURE_WEIGHTS, self.weights), (section::FEATURE_ROWS, self.rows)];
        for (section, values) in tables.into_iter().chain(context) {
            container.section(section.kind, |into| {
                values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_at_fault_is_named() {
        let fault = |keys: &[u64], rows: &[f32]| {
            let data = EncoderData { keys, weights: &[1.0; 3], rows, context_rows: &[] };
            match data.validate(2, false).unwrap_err() {
                ModelWriteError::Value { array, ordinal, .. } => (array, ordinal),
                other => panic!("{other}"),
            }
        };
        assert_eq!(fault(&[1, 2, 2], &[0.0; 6]), ("FEATURE_KEYS", 2));
        let mut rows = [0.0; 6];
        rows[3] = f32::NAN;
        assert_eq!(fault(&[1, 2, 3], &rows), ("FEATURE_ROWS", 1));
        // A reader says the same.
        let view = EncoderView { keys: &[1, 2, 3], weights: &[1.0; 3], rows: &rows, context_rows: &[], dimensions: 2 };
        assert!(matches!(check(&view), Err(ModelError::Value { name: "FEATURE_ROWS", ordinal: 1, .. })));
    }
}

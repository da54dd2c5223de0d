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
    let wrong = |section: Section, ordinal: usize, found| {
        Err(ModelError::Value { section: section.kind, name: section.name, ordinal: ordinal as u32, found })
    };
    if let Some(at) = view.keys.windows(2).position(|pair| pair.first() >= pair.last()) {
        return wrong(section::FEATURE_KEYS, at, "a feature that is not greater than the one before it");
    }
    let tables = [
        (section::FEATURE_WEIGHTS, view.weights),
        (section::FEATURE_ROWS, view.rows),
        (section::FEATURE_CONTEXT_ROWS, view.context_rows),
    ];
    for (section, values) in tables {
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return wrong(section, at, "a value that is not finite");
        }
    }
    Ok(())
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
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let found = "a value that is not finite";
                return Err(ModelWriteError::Value { array, ordinal: (at / (values.len() / n)) as u32, found });
            }
        }
        match self.keys.windows(2).position(|pair| pair.first() >= pair.last()) {
            None => Ok(()),
            Some(at) => {
                let found = "a feature that is not greater than the one before it";
                Err(ModelWriteError::Value { array: "encoder features", ordinal: at as u32 + 1, found })
            }
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

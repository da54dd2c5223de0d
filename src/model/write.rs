//! Writing `model.kin`.

use std::io::{self, Seek, Write};

use kindred_index::format::row_stride;
use kindred_index::{ContainerWriter, Index, WriteError};
use thiserror::Error;

use super::layout::{Header, MODEL_CONTAINER_KIND, index_fingerprint, section};
use super::verify::wrong_neighbour;
use super::{EncoderData, SessionsData};
use crate::catalog::{CatalogError, CatalogItem};
use crate::limits;

/// What goes into `model.kin`, in the order of the index's ordinals. Borrows; nothing is copied but row by row.
#[derive(Clone, Copy, Debug)]
pub struct ModelData<'a> {
    /// One catalogue entry per item.
    pub items: &'a [CatalogItem],
    /// Context factors, n × dimensions, row-major and unpadded; none when they are the index rows.
    pub context: Option<&'a [f32]>,
    /// Neighbours per item.
    pub k_neighbours: usize,
    /// n × k ordinals, nearest first, unused places at the end of a row `u32::MAX`.
    pub neighbours: &'a [u32],
    /// n × k similarities; unused places are ignored.
    pub neighbour_similarities: &'a [f32],
    /// How often each item was interacted with, weighted as one likes; negative counts are taken as zero.
    pub popularity: &'a [f32],
    /// Sessions of the training part, if the model keeps any.
    pub sessions: Option<SessionsData<'a>>,
    /// What makes rows of texts and attributes, if the model has that.
    pub encoder: Option<EncoderData<'a>>,
}

/// Why a model file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelWriteError {
    /// An array has another length than the index calls for.
    #[error("{array} has {found} entries, expected {expected}")]
    Length {
        /// The array at fault.
        array: &'static str,
        /// Entries expected.
        expected: u64,
        /// Entries found.
        found: u64,
    },
    /// More neighbours per item than allowed.
    #[error("{found} neighbours per item, at most {most} are allowed", most = limits::NEIGHBOURS_PER_ITEM_MAX)]
    TooManyNeighbours {
        /// The number found.
        found: usize,
    },
    /// An item is not the one the index has at this ordinal.
    #[error("item {ordinal} of the catalogue is {found:?}, the index has {expected:?} there: keep both in one order")]
    Order {
        /// The ordinal.
        ordinal: u32,
        /// The key in the index.
        expected: String,
        /// The key in the catalogue.
        found: String,
    },
    /// A value that no search or ranking could use.
    #[error("{array} of item {ordinal}: {found}")]
    Value {
        /// The array at fault.
        array: &'static str,
        /// The item at fault.
        ordinal: u32,
        /// What was found.
        found: &'static str,
    },
    /// A catalogue entry is outside its bounds.
    #[error("catalogue entry {ordinal}")]
    Catalog {
        /// The item at fault.
        ordinal: u32,
        /// What is wrong with it.
        source: CatalogError,
    },
    /// The container could not be written.
    #[error("writing the model file")]
    Container(#[from] WriteError),
}

impl ModelData<'_> {
    /// Writes the model file that belongs to `index`, after checking every value.
    ///
    /// Costs one pass over each array, and memory for the catalogue as it will be in the file.
    ///
    /// # Errors
    /// An array of the wrong length or with a value out of range, or a write that failed.
    pub fn write<D: AsRef<[u8]>>(&self, index: &Index<D>, into: impl Write + Seek) -> Result<(), ModelWriteError> {
        self.check(index)?;
        let dimensions = index.dimensions() as u32;
        let header = Header {
            n: index.len(),
            dimensions,
            stride: row_stride(dimensions),
            k_neighbours: self.k_neighbours as u32,
            has_context: self.context.is_some(),
            has_sessions: self.sessions.is_some(),
            has_encoder: self.encoder.is_some(),
            index_fingerprint: index_fingerprint(index),
        };
        let popularity = scaled(self.popularity);
        let popular = by_popularity(&popularity, self.items);
        let lines = self.encode()?;
        let more = u32::from(header.has_context)
            + self.sessions.map_or(0, |_| SessionsData::N_SECTIONS)
            + self.encoder.map_or(0, |encoder| encoder.n_sections());
        let mut container = ContainerWriter::create(into, MODEL_CONTAINER_KIND, 7 + more)?;
        if let Some(context) = self.context {
            container.section(section::CONTEXT.kind, |w| rows(w, context, dimensions, header.stride))?;
        }
        container.section(section::NEIGHBOURS.kind, |w| words(w, self.neighbours))?;
        container.section(section::NEIGHBOUR_SIMILARITIES.kind, |w| self.similarities(w))?;
        container.section(section::POPULARITY.kind, |w| floats(w, &popularity))?;
        container.section(section::POPULAR.kind, |w| words(w, &popular))?;
        container.section(section::CATALOG_OFFSETS.kind, |w| offsets(w, &lines))?;
        container
            .section(section::CATALOG_JSON.kind, |w| lines.iter().try_for_each(|line| w.write_all(line.as_bytes())))?;
        if let Some(sessions) = self.sessions {
            sessions.write(header.n, &mut container)?;
        }
        if let Some(encoder) = self.encoder {
            encoder.write(&mut container)?;
        }
        container.section(section::MODEL_HEADER.kind, |w| w.write_all(&header.to_bytes()))?;
        container.finish()?;
        Ok(())
    }

    fn check<D: AsRef<[u8]>>(&self, index: &Index<D>) -> Result<(), ModelWriteError> {
        let n = u64::from(index.len());
        if self.k_neighbours > limits::NEIGHBOURS_PER_ITEM_MAX {
            return Err(ModelWriteError::TooManyNeighbours { found: self.k_neighbours });
        }
        let table = n * self.k_neighbours as u64;
        length("items", n, self.items.len())?;
        length("popularity", n, self.popularity.len())?;
        length("neighbours", table, self.neighbours.len())?;
        length("neighbour similarities", table, self.neighbour_similarities.len())?;
        if let Some(context) = self.context {
            length("context", n * index.dimensions() as u64, context.len())?;
            finite_rows("context", context, index.dimensions())?;
        }
        finite_rows("popularity", self.popularity, 1)?;
        for (ordinal, item) in (0_u32..).zip(self.items) {
            let expected = index.key(ordinal).unwrap_or_default();
            if expected != item.id {
                let expected = expected.to_owned();
                return Err(ModelWriteError::Order { ordinal, expected, found: item.id.clone() });
            }
        }
        self.sessions.map_or(Ok(()), |sessions| sessions.validate(index.len()))?;
        let has_context = self.context.is_some();
        self.encoder.map_or(Ok(()), |encoder| encoder.validate(index.dimensions(), has_context))?;
        self.check_neighbours(index.len())
    }

    fn check_neighbours(&self, n: u32) -> Result<(), ModelWriteError> {
        if self.k_neighbours == 0 {
            return Ok(());
        }
        let rows = self.neighbours.chunks(self.k_neighbours).zip(self.neighbour_similarities.chunks(self.k_neighbours));
        for (ordinal, (ordinals, similarities)) in (0_u32..).zip(rows) {
            let mut used = ordinals.iter().zip(similarities).filter(|(neighbour, _)| **neighbour != u32::MAX);
            let is_off = used.any(|(_, similarity)| !similarity.is_finite());
            let similarity = is_off.then_some("a similarity that is not finite");
            if let Some(found) = wrong_neighbour(n, ordinal, ordinals).or(similarity) {
                return Err(ModelWriteError::Value { array: "neighbours", ordinal, found });
            }
        }
        Ok(())
    }

    /// The catalogue as JSON, one text per item.
    fn encode(&self) -> Result<Vec<String>, ModelWriteError> {
        let one = |(ordinal, item): (u32, &CatalogItem)| {
            item.to_json().map_err(|source| ModelWriteError::Catalog { ordinal, source })
        };
        (0_u32..).zip(self.items).map(one).collect()
    }

    /// The similarities, with zeros at the unused places.
    fn similarities(&self, into: &mut dyn Write) -> io::Result<()> {
        for (neighbour, similarity) in self.neighbours.iter().zip(self.neighbour_similarities) {
            let similarity = if *neighbour == u32::MAX { 0.0 } else { *similarity };
            into.write_all(&similarity.to_le_bytes())?;
        }
        Ok(())
    }
}

/// Popularity as the log-scaled share of the greatest: ln(1 + count) / ln(1 + greatest), 0 to 1.
///
/// Logarithmic, because counts follow a power law: unscaled, one best-seller would leave all others near zero.
fn scaled(counts: &[f32]) -> Vec<f32> {
    let logarithm = |count: &f32| f64::from(count.max(0.0)).ln_1p();
    let greatest = counts.iter().map(logarithm).fold(0.0, f64::max);
    let share = |count: &f32| if greatest > 0.0 { (logarithm(count) / greatest) as f32 } else { 0.0 };
    counts.iter().map(share).collect()
}

/// All ordinals, the most popular first, ties by key, as in every answer.
fn by_popularity(popularity: &[f32], items: &[CatalogItem]) -> Vec<u32> {
    let mut all: Vec<(f32, &str, u32)> = Vec::with_capacity(items.len());
    for ((ordinal, item), popularity) in (0_u32..).zip(items).zip(popularity) {
        all.push((*popularity, &item.id, ordinal));
    }
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    all.into_iter().map(|(_, _, ordinal)| ordinal).collect()
}

fn length(array: &'static str, expected: u64, found: usize) -> Result<(), ModelWriteError> {
    let found = found as u64;
    if found == expected { Ok(()) } else { Err(ModelWriteError::Length { array, expected, found }) }
}

fn finite_rows(array: &'static str, values: &[f32], width: usize) -> Result<(), ModelWriteError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let ordinal = (at / width.max(1)) as u32;
            Err(ModelWriteError::Value { array, ordinal, found: "a value that is not finite" })
        }
    }
}

fn rows(into: &mut dyn Write, values: &[f32], dimensions: u32, stride: u32) -> io::Result<()> {
    let padding = vec![0.0; (stride - dimensions) as usize];
    for row in values.chunks_exact(dimensions.max(1) as usize) {
        floats(into, row)?;
        floats(into, &padding)?;
    }
    Ok(())
}

fn floats(into: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
}

fn words(into: &mut dyn Write, values: &[u32]) -> io::Result<()> {
    values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
}

fn offsets(into: &mut dyn Write, lines: &[String]) -> io::Result<()> {
    let mut end = 0_u64;
    into.write_all(&end.to_le_bytes())?;
    for line in lines {
        end += line.len() as u64;
        into.write_all(&end.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popularity_is_log_scaled_between_zero_and_one() {
        let shares = scaled(&[0.0, 9.0, 99.0, -5.0]);
        assert_eq!(shares[0], 0.0);
        assert!((shares[1] - 0.5).abs() < 1e-6);
        assert_eq!(shares[2], 1.0);
        assert_eq!(shares[3], 0.0);
        assert_eq!(scaled(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn the_popular_list_breaks_ties_by_key() {
        let items = ["c", "a", "b"].map(CatalogItem::new);
        assert_eq!(by_popularity(&[0.5, 0.5, 1.0], &items), [2, 1, 0]);
    }
}

//! Writing `model.kin`.

use std::io::{self, Seek, Write};

use kindred_index::format::row_stride;
use kindred_index::{ContainerWriter, Index, KeyView, RowSource, WriteError};
use thiserror::Error;

use super::layout::{Header, MODEL_CONTAINER_KIND, index_fingerprint, section};
use super::verify::wrong_neighbour;
use super::{EncoderData, SessionsData};
use crate::catalog::{CatalogError, CatalogItem, ItemSource};
use crate::limits;

/// What goes into `model.kin`, in the order of the index's ordinals. What is large is read row by row, from wherever it lies.
#[derive(Clone, Copy, Debug)]
pub struct ModelData<'a> {
    /// One catalogue entry per item.
    pub items: &'a dyn ItemSource,
    /// Context factors, n × dimensions, row-major and unpadded; none when they are the index rows.
    pub context: Option<&'a dyn RowSource>,
    /// Neighbours per item.
    pub k_neighbours: usize,
    /// n × k ordinals, nearest first, unused places at the end of a row `u32::MAX`.
    pub neighbours: &'a dyn RowSource<u32>,
    /// n × k similarities; unused places are ignored.
    pub neighbour_similarities: &'a dyn RowSource,
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
    /// What was to be written cannot be read.
    #[error("reading the {array}")]
    Read {
        /// Which array; `items` for the catalogue.
        array: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The container could not be written.
    #[error("writing the model file")]
    Container(#[from] WriteError),
}

impl ModelData<'_> {
    /// Writes the model file that belongs to `index`, after checking every value; a catalogue entry is checked when it is written.
    ///
    /// Costs two passes over each array and one over the catalogue, and memory for a few numbers an item.
    ///
    /// # Errors
    /// An array of the wrong length or with a value out of range, another entry than the index has an item, or a write that failed.
    pub fn write<D: AsRef<[u8]>>(&self, index: &Index<D>, into: impl Write + Seek) -> Result<(), ModelWriteError> {
        let used = self.check(index)?;
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
        let popular = by_popularity(&popularity, index.keys());
        let more = u32::from(header.has_context)
            + self.sessions.map_or(0, |_| SessionsData::N_SECTIONS)
            + self.encoder.map_or(0, |encoder| encoder.n_sections());
        let mut container = ContainerWriter::create(into, MODEL_CONTAINER_KIND, 7 + more)?;
        if let Some(context) = self.context {
            container.section(section::CONTEXT.kind, |w| rows(w, context, dimensions, header.stride))?;
        }
        container.section(section::NEIGHBOURS.kind, |w| {
            self.neighbours.each(self.k_neighbours, &mut |ordinals| words(w, ordinals))
        })?;
        container.section(section::NEIGHBOUR_SIMILARITIES.kind, |w| self.similarities(&used, w))?;
        container.section(section::POPULARITY.kind, |w| floats(w, &popularity))?;
        container.section(section::POPULAR.kind, |w| words(w, &popular))?;
        let mut catalogue = Ok(Vec::new());
        container.section(section::CATALOG_JSON.kind, |w| {
            catalogue = self.catalogue(index.keys(), w);
            Ok(())
        })?;
        let offsets = catalogue?;
        container.section(section::CATALOG_OFFSETS.kind, |w| {
            offsets.iter().try_for_each(|offset| w.write_all(&offset.to_le_bytes()))
        })?;
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

    /// Checks every value but those of the catalogue; returns how many neighbours each item has.
    fn check<D: AsRef<[u8]>>(&self, index: &Index<D>) -> Result<Vec<u16>, ModelWriteError> {
        let n = u64::from(index.len());
        if self.k_neighbours > limits::NEIGHBOURS_PER_ITEM_MAX {
            return Err(ModelWriteError::TooManyNeighbours { found: self.k_neighbours });
        }
        let table = n * self.k_neighbours as u64;
        length("popularity", n, self.popularity.len() as u64)?;
        length("neighbours", table, self.neighbours.n_values())?;
        length("neighbour similarities", table, self.neighbour_similarities.n_values())?;
        if let Some(context) = self.context {
            length("context", n * index.dimensions() as u64, context.n_values())?;
            each("context", context, index.dimensions(), |_, row| not_finite(row))?;
        }
        if let Some(ordinal) = self.popularity.iter().position(|popularity| !popularity.is_finite()) {
            let (ordinal, found) = (ordinal as u32, "a value that is not finite");
            return Err(ModelWriteError::Value { array: "popularity", ordinal, found });
        }
        self.sessions.map_or(Ok(()), |sessions| sessions.validate(index.len()))?;
        let has_context = self.context.is_some();
        self.encoder.map_or(Ok(()), |encoder| encoder.validate(index.dimensions(), has_context))?;
        self.check_neighbours(index.len())
    }

    fn check_neighbours(&self, n: u32) -> Result<Vec<u16>, ModelWriteError> {
        let mut used = Vec::with_capacity(n as usize);
        each("neighbours", self.neighbours, self.k_neighbours, |ordinal, ordinals| {
            used.push(ordinals.iter().take_while(|neighbour| **neighbour != u32::MAX).count() as u16);
            wrong_neighbour(n, ordinal, ordinals)
        })?;
        each("neighbours", self.neighbour_similarities, self.k_neighbours, |ordinal, similarities| {
            let used = used.get(ordinal as usize).copied().unwrap_or(0);
            let is_off = similarities.iter().take(used.into()).any(|similarity| !similarity.is_finite());
            is_off.then_some("a similarity that is not finite")
        })?;
        Ok(used)
    }

    /// Writes the catalogue as JSON, item by item; returns where each begins, and where the last one ends.
    fn catalogue(&self, keys: KeyView<'_>, into: &mut dyn Write) -> Result<Vec<u64>, ModelWriteError> {
        let (mut offsets, mut end, mut wrong) = (vec![0], 0, None);
        let read = self.items.each(&mut |item| {
            let written = write_item(offsets.len() as u32 - 1, item, keys, into);
            end += written.as_ref().map_or(0, |bytes| *bytes as u64);
            offsets.push(end);
            written.map(|_| ()).map_err(|error| {
                wrong = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        read.map_err(|source| ModelWriteError::Read { array: "items", source })?;
        length("items", keys.len().into(), offsets.len() as u64 - 1)?;
        Ok(offsets)
    }

    /// The similarities, with zeros at the unused places.
    fn similarities(&self, used: &[u16], into: &mut dyn Write) -> io::Result<()> {
        let mut used = used.iter();
        self.neighbour_similarities.each(self.k_neighbours, &mut |similarities| {
            let (own, rest) =
                similarities.split_at_checked(used.next().map_or(0, |used| usize::from(*used))).unwrap_or_default();
            floats(into, own)?;
            floats(into, &vec![0.0; rest.len()])
        })
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
fn by_popularity(popularity: &[f32], keys: KeyView<'_>) -> Vec<u32> {
    let mut all: Vec<(f32, u32)> = popularity.iter().copied().zip(0..).collect();
    let key = |ordinal: u32| keys.key(ordinal).unwrap_or_default();
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| key(a.1).cmp(key(b.1))));
    all.into_iter().map(|(_, ordinal)| ordinal).collect()
}

/// Writes the entry of an item; returns its length, in bytes. What comes after the last item is passed over: it is counted.
fn write_item(
    ordinal: u32,
    item: &CatalogItem,
    keys: KeyView<'_>,
    into: &mut dyn Write,
) -> Result<usize, ModelWriteError> {
    let Some(expected) = keys.key(ordinal) else { return Ok(0) };
    if expected != item.id {
        return Err(ModelWriteError::Order { ordinal, expected: expected.to_owned(), found: item.id.clone() });
    }
    let json = item.to_json().map_err(|source| ModelWriteError::Catalog { ordinal, source })?;
    into.write_all(json.as_bytes()).map_err(WriteError::Io)?;
    Ok(json.len())
}

fn length(array: &'static str, expected: u64, found: u64) -> Result<(), ModelWriteError> {
    if found == expected { Ok(()) } else { Err(ModelWriteError::Length { array, expected, found }) }
}

/// Checks each row of an array: `wrong` says what is wrong with it, if anything is.
fn each<T>(
    array: &'static str,
    rows: &dyn RowSource<T>,
    width: usize,
    mut wrong: impl FnMut(u32, &[T]) -> Option<&'static str>,
) -> Result<(), ModelWriteError> {
    let first = rows.find(width, |ordinal, row| Some((ordinal, wrong(ordinal, row)?)));
    let first = first.map_err(|source| ModelWriteError::Read { array, source })?;
    first.map_or(Ok(()), |(ordinal, found)| Err(ModelWriteError::Value { array, ordinal, found }))
}

fn not_finite(row: &[f32]) -> Option<&'static str> {
    row.iter().any(|value| !value.is_finite()).then_some("a value that is not finite")
}

/// Rows with what fills them up to the stride.
fn rows(into: &mut dyn Write, values: &dyn RowSource, dimensions: u32, stride: u32) -> io::Result<()> {
    let padding = vec![0.0; (stride - dimensions) as usize];
    values.each(dimensions as usize, &mut |row| {
        floats(into, row)?;
        floats(into, &padding)
    })
}

fn floats(into: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
}

fn words(into: &mut dyn Write, values: &[u32]) -> io::Result<()> {
    values.iter().try_for_each(|value| into.write_all(&value.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use kindred_index::ItemTables;

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
        let tables = ItemTables::new(&["c", "a", "b"], &[]).unwrap();
        assert_eq!(by_popularity(&[0.5, 0.5, 1.0], tables.keys()), [2, 1, 0]);
    }
}

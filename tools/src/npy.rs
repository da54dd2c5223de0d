//! `.npy` files: the arrays of a model on disk, and the form in which factors trained elsewhere arrive.
//!
//! Reads versions 1 to 3 of the format (NumPy enhancement proposal 1 and its successors) with little-endian `f4`, `f8` and
//! `u4` elements, one- or two-dimensional, in C or Fortran order; writes version 1, C order. Everything else is refused
//! with the line of Python that mends it. The header is bounded and the file's length is compared with the shape before
//! anything of that size is allocated.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kindred_index::RowSource;
use thiserror::Error;

use crate::matrix::Matrix;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read, in bytes. One that names a shape of two numbers has about 100.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Numbers converted at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// An array as it was read: its shape, of one or two dimensions, and its elements in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Rows and columns; a one-dimensional array has one column.
    pub shape: [usize; 2],
    /// The elements, row after row.
    pub data: Vec<T>,
}

/// Why an array could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file could not be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not begin as an array file does.
    #[error("{path}: not an .npy file; write it with numpy.save(\"factors.npy\", array)")]
    NotNpy {
        /// The file.
        path: PathBuf,
    },
    /// A version of the format that is not known.
    #[error("{path}: .npy version {found}, expected 1 to 3; write it again with numpy.save")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u8,
    },
    /// The header is damaged or longer than allowed.
    #[error("{path}: the header {found}; write the file again with numpy.save")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Elements of a type that is not wanted here.
    #[error("{path}: elements are {found:?}, expected {expected}; convert with array.astype({remedy:?})")]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The type found, as numpy writes it.
        found: String,
        /// The types wanted.
        expected: &'static str,
        /// What to convert to.
        remedy: &'static str,
    },
    /// Too many or too few dimensions.
    #[error("{path}: the array has {found} dimensions, expected 1 or 2; use array.reshape(n_items, -1)")]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Dimensions found.
        found: usize,
    },
    /// The file has another length than its shape calls for.
    #[error(
        "{path}: {found} bytes of elements, expected {expected}: the file is cut off or was appended to; copy or write it again"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes the shape calls for.
        expected: u128,
        /// Bytes found.
        found: u64,
    },
    /// The array has another shape than the files beside it call for.
    #[error("{path}: {found_rows} × {found_cols}, expected {expected}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Rows found.
        found_rows: usize,
        /// Columns found.
        found_cols: usize,
        /// What was expected.
        expected: String,
    },
}

/// Bytes that an element takes in the file, and the function that reads it.
pub type Decoder<T> = (usize, fn(&[u8]) -> T);

/// A type that arrays are written in.
pub trait Element: Copy + Default {
    /// As numpy writes the type.
    const DESCR: &'static str;
    /// What [`NpyError::ElementType`] says was expected.
    const EXPECTED: &'static str;
    /// The numpy name to convert to.
    const NUMPY: &'static str;
    /// Reads elements stored as `descr`; none if this type is not read from it.
    fn decoder(descr: &str) -> Option<Decoder<Self>>;
    /// Appends the element's bytes.
    fn encode(self, into: &mut Vec<u8>);
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
    const EXPECTED: &'static str = "\"<f4\" or \"<f8\"";
    const NUMPY: &'static str = "float32";

    fn decoder(descr: &str) -> Option<Decoder<Self>> {
        match descr {
            "<f4" => Some((4, |bytes| bytes.try_into().map(f32::from_le_bytes).unwrap_or(f32::NAN))),
            // A double beyond the range of single precision becomes infinite, which the check of rows then refuses.
            "<f8" => Some((8, |bytes| bytes.try_into().map(f64::from_le_bytes).unwrap_or(f64::NAN) as f32)),
            _ => None,
        }
    }

    fn encode(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_le_bytes());
    }
}

impl Element for u32 {
    const DESCR: &'static str = "<u4";
    const EXPECTED: &'static str = "\"<u4\"";
    const NUMPY: &'static str = "uint32";

    fn decoder(descr: &str) -> Option<Decoder<Self>> {
        (descr == "<u4").then_some((4, |bytes| bytes.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX)))
    }

    fn encode(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_le_bytes());
    }
}

/// Reads a two-dimensional array of factors, `f32` or `f64`.
///
/// # Errors
/// As [`read`].
pub fn read_matrix(path: &Path) -> Result<Matrix, NpyError> {
    let Array { shape: [rows, cols], data } = read::<f32>(path)?;
    Ok(Matrix { rows, cols, data })
}

/// Writes a matrix.
///
/// # Errors
/// The file cannot be written.
pub fn write_matrix(path: &Path, matrix: &Matrix) -> Result<(), NpyError> {
    write(path, &[matrix.rows, matrix.cols], &matrix.data)
}

/// Reads an array whole into memory. Elements come out in C order, whichever way the file has them.
///
/// # Errors
/// The file cannot be read, is not an array of this element type, or is not as long as its header says.
pub fn read<T: Element>(path: &Path) -> Result<Array<T>, NpyError> {
    NpyFile::open(path)?.read()
}

/// An array that stays in its file, and is read from there as often as it is needed. Its header was read, and its length is right.
#[derive(Debug)]
pub struct NpyFile<T> {
    path: PathBuf,
    /// Held: it is the same file also when another has taken its name.
    file: Mutex<File>,
    /// Where the elements begin.
    begin: u64,
    shape: [usize; 2],
    fortran_order: bool,
    decoder: Decoder<T>,
}

impl<T: Element> NpyFile<T> {
    /// Reads the header.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: &Path) -> Result<Self, NpyError> {
        let fail = |source| NpyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let (header, begin) = Header::read(path, &mut BufReader::new(&file))?;
        let Some(decoder) = T::decoder(&header.descr) else {
            let found = header.descr;
            return Err(NpyError::ElementType {
                path: path.to_owned(),
                found,
                expected: T::EXPECTED,
                remedy: T::NUMPY,
            });
        };
        let shape = match *header.shape {
            [rows] => [rows, 1],
            [rows, cols] => [rows, cols],
            _ => return Err(NpyError::Dimensions { path: path.to_owned(), found: header.shape.len() }),
        };
        // Three factors below 2^64 cannot overflow this once the first product fits.
        let expected = (shape[0] as u128).saturating_mul(shape[1] as u128).saturating_mul(decoder.0 as u128);
        let found = length.saturating_sub(begin);
        if expected != u128::from(found) {
            return Err(NpyError::Length { path: path.to_owned(), expected, found });
        }
        let (path, file) = (path.to_owned(), Mutex::new(file));
        Ok(Self { path, file, begin, shape, fortran_order: header.fortran_order, decoder })
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Array<T>, NpyError> {
        let [rows, cols] = self.shape;
        let mut data = Vec::with_capacity(rows * cols);
        let read = self.blocks(1, &mut |values| {
            data.extend_from_slice(values);
            Ok(())
        });
        read.map_err(|source| NpyError::Read { path: self.path.clone(), source })?;
        let data = if self.fortran_order { transposed(&data, rows, cols) } else { data };
        Ok(Array { shape: self.shape, data })
    }

    /// Calls `visit` with many elements at a time, a multiple of `width`, as they lie in the file.
    fn blocks(&self, width: usize, visit: &mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()> {
        let (size, decode) = self.decoder;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.begin))?;
        let at_once = (CHUNK_BYTES / size.saturating_mul(width).max(1)).max(1) * width;
        let (mut left, mut bytes, mut values) = (self.shape[0] * self.shape[1], Vec::new(), Vec::new());
        while left > 0 {
            let count = left.min(at_once);
            bytes.resize(count * size, 0);
            file.read_exact(&mut bytes)?;
            values.clear();
            values.extend(bytes.chunks_exact(size).map(decode));
            visit(&values)?;
            left -= count;
        }
        Ok(())
    }
}

impl<T: Element + fmt::Debug + Send + Sync> RowSource<T> for NpyFile<T> {
    fn n_values(&self) -> u64 {
        self.shape[0] as u64 * self.shape[1] as u64
    }

    /// One that lies column by column is read whole.
    fn each(&self, dims: usize, visit: &mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()> {
        let dims = dims.max(1);
        if self.fortran_order {
            return self.read().map_err(io::Error::other)?.data.each(dims, visit);
        }
        let mut failed = false;
        let read = self.blocks(dims, &mut |values| {
            let visited = values.chunks_exact(dims).try_for_each(&mut *visit);
            failed = visited.is_err();
            visited
        });
        // What `visit` says is its own.
        let told = |source| io::Error::other(NpyError::Read { path: self.path.clone(), source });
        if failed { read } else { read.map_err(told) }
    }
}

/// Writes an array of the given shape.
///
/// # Errors
/// The file cannot be written.
pub fn write<T: Element>(path: &Path, shape: &[usize], data: &[T]) -> Result<(), NpyError> {
    let fail = |source| NpyError::Write { path: path.to_owned(), source };
    let mut writer = BufWriter::with_capacity(CHUNK_BYTES, File::create(path).map_err(fail)?);
    writer.write_all(&header_bytes(T::DESCR, shape)).map_err(fail)?;
    let mut bytes = Vec::with_capacity(CHUNK_BYTES + 16);
    for chunk in data.chunks(CHUNK_BYTES / 8) {
        bytes.clear();
        chunk.iter().for_each(|value| value.encode(&mut bytes));
        writer.write_all(&bytes).map_err(fail)?;
    }
    let file = writer.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)
}

/// Column-major to row-major.
fn transposed<T: Element>(data: &[T], rows: usize, cols: usize) -> Vec<T> {
    let mut out = vec![T::default(); data.len()];
    for (col, column) in data.chunks_exact(rows.max(1)).enumerate() {
        for (row, value) in column.iter().enumerate() {
            if let Some(place) = out.get_mut(row * cols + col) {
                *place = *value;
            }
        }
    }
    out
}

fn header_bytes(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", sides.join(", "));
    // The format wants the elements to begin at a multiple of 64 bytes and the header to end in a line break.
    let fixed = MAGIC.len() + 4;
    let padded = (fixed + text.len() + 1).next_multiple_of(64) - fixed;
    let mut bytes = Vec::with_capacity(fixed + padded);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(padded as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(fixed + padded - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// The three fields of an array's header.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads magic, version and header; says how many bytes they took.
    fn read(path: &Path, reader: &mut impl Read) -> Result<(Self, u64), NpyError> {
        let mut start = [0_u8; 8];
        let not_npy = |_| NpyError::NotNpy { path: path.to_owned() };
        reader.read_exact(&mut start).map_err(not_npy)?;
        let [magic @ .., version, _minor] = start;
        if magic != *MAGIC {
            return Err(NpyError::NotNpy { path: path.to_owned() });
        }
        let (length, length_bytes) = match version {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length).map_err(not_npy)?;
                (usize::from(u16::from_le_bytes(length)), 2)
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length).map_err(not_npy)?;
                (u32::from_le_bytes(length) as usize, 4)
            }
            found => return Err(NpyError::Version { path: path.to_owned(), found }),
        };
        let broken = |found: String| NpyError::Header { path: path.to_owned(), found };
        if length > HEADER_BYTES_MAX {
            return Err(broken(format!("has {length} bytes, at most {HEADER_BYTES_MAX} are read")));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(|_| broken("is cut off".to_owned()))?;
        let text = String::from_utf8(text).map_err(|_| broken("is not text".to_owned()))?;
        let header = Self::parse(&text).ok_or_else(|| broken(format!("is not one of an array: {:?}", brief(&text))))?;
        Ok((header, (start.len() + length_bytes + length) as u64))
    }

    /// The header is a Python dictionary literal with exactly three keys.
    fn parse(text: &str) -> Option<Self> {
        let descr = after(text, "descr")?.strip_prefix(['\'', '"'])?;
        let descr = descr.get(..descr.find(['\'', '"'])?)?.to_owned();
        let order = after(text, "fortran_order")?;
        let fortran_order = order.starts_with("True");
        if !fortran_order && !order.starts_with("False") {
            return None;
        }
        let shape = after(text, "shape")?.strip_prefix('(')?;
        let sides = shape.get(..shape.find(')')?)?.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape: Option<Vec<usize>> = sides.map(|side| side.parse().ok()).collect();
        Some(Self { descr, fortran_order, shape: shape? })
    }
}

/// What follows a key and its colon.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = text.find(&format!("'{key}'")).or_else(|| text.find(&format!("\"{key}\"")))?;
    Some(text.get(at + key.len() + 2..)?.trim_start().strip_prefix(':')?.trim_start())
}

fn brief(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests;

//! Bytes in memory that start at a multiple of 64, as every container must.
//!
//! A `Vec<u8>` may start anywhere, and then its floats cannot be borrowed where they lie. Mapped files start at a page and
//! need nothing of this; bytes that were read, built or received are copied into [`AlignedBytes`] once.

use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::format::ALIGNMENT;

/// One cache line. Its alignment is the whole point; a `Vec` of these starts at a multiple of 64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Block([u8; ALIGNMENT]);

/// Owned bytes whose first one lies at a multiple of 64.
///
/// It is also a place to write to ([`Write`] and [`Seek`], like a `Cursor`), so that a [`crate::ContainerWriter`] can build a
/// file in memory and [`crate::Index::open`] can open it where it lies.
#[derive(Clone, Default)]
pub struct AlignedBytes {
    blocks: Vec<Block>,
    len: usize,
    position: usize,
}

impl AlignedBytes {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let mut bytes = Self::new();
        bytes.resize(len);
        bytes
    }

    /// Makes it longer, with zeros, or shorter.
    pub fn resize(&mut self, len: usize) {
        if let Some(cut) = self.as_mut().get_mut(len..) {
            cut.zero();
        }
        self.blocks.resize(len.div_ceil(ALIGNMENT), Block([0; ALIGNMENT]));
        self.len = len;
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.blocks.as_slice().as_bytes().get(..self.len).unwrap_or_default()
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        self.blocks.as_mut_slice().as_mut_bytes().get_mut(..self.len).unwrap_or_default()
    }
}

impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.as_mut().copy_from_slice(bytes);
        aligned
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

impl PartialEq for AlignedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for AlignedBytes {}

impl Write for AlignedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.position.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if end > self.len {
            // Whoever seeks beyond all memory is told so; growing would end the process.
            let more = end.div_ceil(ALIGNMENT).saturating_sub(self.blocks.len());
            self.blocks.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.resize(end);
        }
        if let Some(place) = self.blocks.as_mut_slice().as_mut_bytes().get_mut(self.position..end) {
            place.copy_from_slice(bytes);
        }
        self.position = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for AlignedBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (0, i64::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?),
            SeekFrom::End(offset) => (self.len, offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        let position = (base as u64).checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?;
        self.position = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Cursor;

    use super::*;

    #[test]
    fn it_starts_at_a_multiple_of_64_whatever_its_length() {
        for len in [0, 1, 63, 64, 65, 4_097] {
            let bytes = vec![7_u8; len];
            let aligned = AlignedBytes::from(bytes.as_slice());
            assert_eq!(aligned.as_ref(), bytes);
            assert_eq!(aligned.as_ref().as_ptr().addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn writing_and_seeking_agree_with_a_cursor() {
        let mut cursor = Cursor::new(Vec::new());
        let mut aligned = AlignedBytes::new();
        let steps: [(SeekFrom, &[u8]); 5] = [
            (SeekFrom::Start(0), b"hello world"),
            (SeekFrom::Start(6), b"there, and more than one block of sixty-four bytes, so that it grows"),
            (SeekFrom::End(-3), b"XYZW"),
            (SeekFrom::Start(200), b"beyond the end"),
            (SeekFrom::Current(-2), b"!"),
        ];
        for (to, bytes) in steps {
            assert_eq!(cursor.seek(to).unwrap(), aligned.seek(to).unwrap());
            cursor.write_all(bytes).unwrap();
            aligned.write_all(bytes).unwrap();
            assert_eq!(aligned.as_ref(), cursor.get_ref().as_slice());
        }
        assert!(aligned.seek(SeekFrom::Current(-10_000)).is_err());
    }

    #[test]
    fn a_place_beyond_all_memory_is_an_error() {
        let mut bytes = AlignedBytes::from([1_u8; 10].as_slice());
        bytes.seek(SeekFrom::Start(i64::MAX as u64)).unwrap();
        assert_eq!(bytes.write_all(b"x").unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(bytes.as_ref(), [1; 10]);
    }

    #[test]
    fn growing_again_after_shrinking_gives_zeros() {
        let mut bytes = AlignedBytes::from([1_u8; 100].as_slice());
        bytes.resize(10);
        bytes.resize(100);
        assert!(bytes.as_ref()[10..].iter().all(|byte| *byte == 0));
    }
}

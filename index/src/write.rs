//! Writing a container: header and table last, checksums while the sections stream by, nothing held in memory but a buffer.
//!
//! ```
//! use kindred_index::{AlignedBytes, Container, ContainerWriter};
//!
//! let mut file = AlignedBytes::new();
//! let mut writer = ContainerWriter::create(&mut file, 9, 1)?;
//! writer.section(77, |w| w.write_all(b"hello"))?;
//! writer.finish()?;
//!
//! let container = Container::open(file, 9)?;
//! assert_eq!(container.section(77), Some(b"hello".as_slice()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use zerocopy::IntoBytes;

use crate::checksum::Crc32;
use crate::error::WriteError;
use crate::format::{
    ALIGNMENT, FILE_BYTES_MAX, FORMAT_VERSION, FileHeader, MAGIC, SECTIONS_MAX, SectionEntry, aligned, body_start,
};

/// Bytes gathered before they are checksummed and handed on, so that a section may be written value by value.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes a container to anything that can be written to and sought in.
///
/// Until [`ContainerWriter::finish`] the place of the header is zero, so that a file whose writing was interrupted has no magic.
#[derive(Debug)]
pub struct ContainerWriter<W> {
    into: W,
    kind: u16,
    n_sections: u32,
    position: u64,
    entries: Vec<SectionEntry>,
}

impl<W: Write + Seek> ContainerWriter<W> {
    /// Starts a file of this kind that will have exactly `n_sections` sections.
    ///
    /// # Errors
    /// More sections than a file may have, or a write that failed.
    pub fn create(mut into: W, kind: u16, n_sections: u32) -> Result<Self, WriteError> {
        if n_sections > SECTIONS_MAX {
            return Err(WriteError::TooManySections { found: n_sections });
        }
        into.seek(SeekFrom::Start(0))?;
        let position = body_start(n_sections);
        zeros(&mut into, position)?;
        Ok(Self { into, kind, n_sections, position, entries: Vec::new() })
    }

    /// Writes one section: whatever `write` writes. It may write in small pieces; they are buffered.
    ///
    /// # Errors
    /// A kind that was written before, more sections than announced, a file that becomes too long, or a write that failed.
    pub fn section(
        &mut self,
        kind: u32,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        if self.entries.iter().any(|entry| entry.kind == kind) {
            return Err(WriteError::SectionTwice { section: kind });
        }
        let found = self.entries.len() as u32 + 1;
        if found > self.n_sections {
            return Err(WriteError::SectionCount { expected: self.n_sections, found });
        }
        let sink = Sink { into: &mut self.into, crc: Crc32::new(), written: 0 };
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, sink);
        write(&mut buffered)?;
        let Sink { crc, written, .. } = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        let end = self.position + written;
        if end > FILE_BYTES_MAX {
            return Err(WriteError::TooLong { found: end });
        }
        self.entries.push(SectionEntry { kind, crc: crc.finish(), offset: self.position, len: written, reserved: 0 });
        self.position = aligned(end);
        zeros(&mut self.into, self.position - end)?;
        Ok(())
    }

    /// Writes header and section table, flushes, and returns the length of the file. The caller syncs, if it is a file.
    ///
    /// # Errors
    /// Fewer sections than announced, or a write that failed.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        let found = self.entries.len() as u32;
        if found != self.n_sections {
            return Err(WriteError::SectionCount { expected: self.n_sections, found });
        }
        let mut header = FileHeader {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            kind: self.kind,
            n_sections: self.n_sections,
            file_len: self.position,
            header_crc: 0,
            zero: [0; 36],
        };
        header.header_crc = header_crc(&header, self.entries.as_bytes());
        self.into.seek(SeekFrom::Start(0))?;
        self.into.write_all(header.as_bytes())?;
        self.into.write_all(self.entries.as_bytes())?;
        self.into.seek(SeekFrom::Start(self.position))?;
        self.into.flush()?;
        Ok(self.position)
    }
}

/// The checksum of a header, its own field taken as zero, and of the bytes of a section table.
pub(crate) fn header_crc(header: &FileHeader, table: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(FileHeader { header_crc: 0, ..*header }.as_bytes());
    crc.update(table);
    crc.finish()
}

/// Checksums and counts what passes through.
struct Sink<'a, W> {
    into: &'a mut W,
    crc: Crc32,
    written: u64,
}

impl<W: Write> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.crc.update(bytes.get(..written).unwrap_or(bytes));
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

fn zeros(into: &mut impl Write, count: u64) -> io::Result<()> {
    const BLOCK: [u8; ALIGNMENT] = [0; ALIGNMENT];
    let mut left = count;
    while left > 0 {
        let piece = BLOCK.get(..left.min(ALIGNMENT as u64) as usize).unwrap_or(&BLOCK);
        into.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

//! A container: any bytes that hold a header, a section table and checksummed sections. An index is one; other data may be too.

use std::fmt;
use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::checksum::Crc32;
use crate::error::{OpenError, VerifyError};
use crate::format::{
    ALIGNMENT, FILE_BYTES_MAX, FORMAT_VERSION, FileHeader, MAGIC, SECTIONS_MAX, SectionEntry, aligned, body_start,
};
use crate::write::header_crc;

/// Where a section lies and what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// What it holds.
    pub kind: u32,
    /// Where it starts, in bytes from the start of the file; a multiple of 64.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32 of its bytes, as the table says.
    pub crc: u32,
}

/// Opened bytes: header and section table are checked and copied, the sections are borrowed where they lie.
///
/// Generic over the bytes: a mapped file, [`crate::AlignedBytes`] or an aligned static slice are the same to it.
pub struct Container<D> {
    data: D,
    kind: u16,
    sections: Vec<SectionInfo>,
}

impl<D: AsRef<[u8]>> Container<D> {
    /// Opens bytes as a container of the kind that the caller expects.
    ///
    /// Checks length, magic, version, header checksum, kind, and that the sections lie in the file, aligned, in order and
    /// disjoint. Costs a pass over at most 64 table entries; no section is read. [`Container::verify_checksums`] reads the rest.
    ///
    /// # Errors
    /// The first of these that does not hold, or bytes that do not start at a multiple of 64.
    pub fn open(data: D, expected_kind: u16) -> Result<Self, OpenError> {
        let bytes = data.as_ref();
        let (header, table) = read_header(bytes)?;
        if header.kind != expected_kind {
            return Err(OpenError::Kind { expected: expected_kind, found: header.kind });
        }
        let sections = read_table(&header, table)?;
        let found = (bytes.as_ptr().addr() % ALIGNMENT) as u64;
        if found != 0 {
            return Err(OpenError::Misaligned { expected: ALIGNMENT as u64, found });
        }
        Ok(Self { kind: header.kind, sections, data })
    }

    /// The bytes of a section; `None` where the file has no such section.
    pub fn section(&self, kind: u32) -> Option<&[u8]> {
        let info = self.info(kind)?;
        Some(self.bytes(range(&info)))
    }

    /// The section's place and checksum.
    pub fn info(&self, kind: u32) -> Option<SectionInfo> {
        self.sections.iter().find(|section| section.kind == kind).copied()
    }

    /// All sections, in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = SectionInfo> + '_ {
        self.sections.iter().copied()
    }

    /// What the file holds, as it was asked for when opened.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Length of the whole file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.data.as_ref().len() as u64
    }

    /// The bytes that were opened, to advise or to measure a map, say.
    pub fn get_ref(&self) -> &D {
        &self.data
    }

    /// Gives the bytes back.
    pub fn into_inner(self) -> D {
        self.data
    }

    /// Compares every section with its checksum, and the padding between them with zero. Returns the checksum of the whole file. Reads every byte of
    /// it once.
    ///
    /// # Errors
    /// The first section or padding byte that is not what was written.
    pub fn verify_checksums(&self) -> Result<u32, VerifyError> {
        let table_end = (size_of::<FileHeader>() + self.sections.len() * size_of::<SectionEntry>()) as u64;
        let body = body_start(self.sections.len() as u32);
        self.verify_padding(table_end, body)?;
        // Sections follow each other, with padding between them, so the whole is put together of its parts.
        let mut whole = Crc32::new();
        whole.update(self.bytes(0..body as usize));
        for section in &self.sections {
            let mut crc = Crc32::new();
            crc.update(self.bytes(range(section)));
            whole.append(&crc);
            let found = crc.finish();
            if found != section.crc {
                let SectionInfo { kind: section, offset, crc: expected, .. } = *section;
                return Err(VerifyError::Checksum { section, offset, expected, found });
            }
            let (end, next) = (section.offset + section.len, aligned(section.offset + section.len));
            self.verify_padding(end, next)?;
            whole.update(self.bytes(end as usize..next as usize));
        }
        Ok(whole.finish())
    }

    fn verify_padding(&self, from: u64, to: u64) -> Result<(), VerifyError> {
        for (offset, found) in (from..to).zip(self.bytes(from as usize..to as usize)) {
            if *found != 0 {
                return Err(VerifyError::Padding { offset, found: *found });
            }
        }
        Ok(())
    }

    /// A range of the file. Empty where it lies outside, which opening rules out for the ranges of sections.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.data.as_ref().get(range).unwrap_or_default()
    }
}

impl<D> fmt::Debug for Container<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("kind", &self.kind).field("sections", &self.sections).finish_non_exhaustive()
    }
}

/// A slice of bytes seen as a slice of values, where address and length allow it. Never panics and copies nothing.
pub fn cast<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Option<&[T]> {
    // No bytes are no values wherever they lie.
    if bytes.is_empty() { Some(&[]) } else { <[T]>::ref_from_bytes(bytes).ok() }
}

/// The bytes of the file that a section covers. Offsets are below 2^44, and usize has 64 bits here.
pub(crate) fn range(info: &SectionInfo) -> Range<usize> {
    info.offset as usize..(info.offset + info.len) as usize
}

/// Header and table bytes, after the checks that do not need the table's content.
fn read_header(bytes: &[u8]) -> Result<(FileHeader, &[u8]), OpenError> {
    let found = bytes.len() as u64;
    let truncated = |expected| OpenError::Truncated { expected, found };
    let (header, rest) = FileHeader::read_from_prefix(bytes).map_err(|_| truncated(size_of::<FileHeader>() as u64))?;
    if header.magic != MAGIC {
        return Err(OpenError::Magic { found: header.magic });
    }
    if header.format_version != FORMAT_VERSION {
        return Err(OpenError::Version { found: header.format_version });
    }
    let out_of_range = |field, expected, found| OpenError::Header { field, expected, found };
    if header.n_sections > SECTIONS_MAX {
        return Err(out_of_range("n_sections", u64::from(SECTIONS_MAX), u64::from(header.n_sections)));
    }
    let table_len = header.n_sections as usize * size_of::<SectionEntry>();
    let table = rest.get(..table_len).ok_or(truncated(body_start(header.n_sections)))?;
    let checksum = header_crc(&header, table);
    if header.header_crc != checksum {
        return Err(OpenError::HeaderChecksum { expected: header.header_crc, found: checksum });
    }
    if header.file_len > FILE_BYTES_MAX {
        return Err(out_of_range("file_len", FILE_BYTES_MAX, header.file_len));
    }
    if header.file_len > found {
        return Err(truncated(header.file_len));
    }
    if header.file_len < found {
        return Err(OpenError::TooLong { expected: header.file_len, found });
    }
    if let Some(byte) = header.zero.iter().find(|byte| **byte != 0) {
        return Err(out_of_range("padding", 0, u64::from(*byte)));
    }
    Ok((header, table))
}

/// The table's entries. Each section starts exactly where the one before it, padded, ends; so they are ordered, disjoint and
/// aligned, and no byte of the file is outside of what is checked.
fn read_table(header: &FileHeader, table: &[u8]) -> Result<Vec<SectionInfo>, OpenError> {
    let mut sections: Vec<SectionInfo> = Vec::with_capacity(header.n_sections as usize);
    let mut start = body_start(header.n_sections);
    for (entry, bytes) in (0..).zip(table.chunks_exact(size_of::<SectionEntry>())) {
        let Ok(SectionEntry { kind, crc, offset, len, reserved }) = SectionEntry::read_from_bytes(bytes) else { break };
        let wrong =
            |field, expected, found| Err(OpenError::SectionTable { entry, section: kind, field, expected, found });
        if offset != start {
            return wrong("offset", start, offset);
        }
        let most = header.file_len.saturating_sub(start);
        if len > most {
            return wrong("length", most, len);
        }
        if reserved != 0 {
            return wrong("reserved", 0, reserved);
        }
        if sections.iter().any(|section| section.kind == kind) {
            return Err(OpenError::SectionTwice { section: kind });
        }
        sections.push(SectionInfo { kind, offset, len, crc });
        start = aligned(start + len);
    }
    if start != header.file_len {
        return Err(OpenError::Header { field: "file_len", expected: start, found: header.file_len });
    }
    Ok(sections)
}

//! CRC-32/ISO-HDLC, the checksum of headers and sections; also that of zip, PNG and Ethernet, so that other tools can check it.

/// A checksum in progress.
#[derive(Clone, Debug, Default)]
pub struct Crc32(crc32fast::Hasher);

impl Crc32 {
    /// The checksum of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in more bytes, at memory speed where the processor has carry-less multiplication.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes in the bytes that another checksum has taken in, without reading them again.
    pub fn append(&mut self, next: &Self) {
        self.0.combine(&next.0);
    }

    /// The checksum of all bytes taken in.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// The checksum of these bytes.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow twin: the definition, bit by bit.
    fn by_definition(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            }
        }
        !crc
    }

    #[test]
    fn the_check_value_of_the_catalogue_of_checksums() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn pieces_agree_with_the_whole_and_with_the_definition() {
        let bytes: Vec<u8> = (0..5_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut pieces = Crc32::new();
        bytes.chunks(77).for_each(|piece| pieces.update(piece));
        assert_eq!(pieces.finish(), crc32(&bytes));
        let mut joined = Crc32::new();
        for piece in bytes.chunks(1_300) {
            let mut next = Crc32::new();
            next.update(piece);
            joined.append(&next);
        }
        assert_eq!(joined.finish(), crc32(&bytes));
        assert_eq!(crc32(&bytes), by_definition(&bytes));
    }
}

//! The container as its users see it: written in pieces, read in place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{self, Cursor};

use kindred_index::{AlignedBytes, Container, ContainerWriter, WriteError, cast, crc32};

fn two_sections() -> AlignedBytes {
    let mut bytes = AlignedBytes::new();
    let mut writer = ContainerWriter::create(&mut bytes, 2, 2).unwrap();
    writer.section(107, |w| (0..1_000_u32).try_for_each(|i| w.write_all(&i.to_le_bytes()))).unwrap();
    writer.section(100, |_| Ok(())).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn what_was_written_is_read() {
    let container = Container::open(two_sections(), 2).unwrap();
    container.verify_checksums().unwrap();
    let numbers: &[u32] = cast(container.section(107).unwrap()).unwrap();
    assert!(numbers.iter().copied().eq(0..1_000));
    assert_eq!(container.section(100), Some([].as_slice()));
    assert_eq!(container.section(1), None);
    let infos: Vec<_> = container.sections().collect();
    assert_eq!((infos[0].kind, infos[0].offset, infos[0].len), (107, 128, 4_000));
    assert_eq!((infos[1].kind, infos[1].offset, infos[1].len), (100, 4_160, 0));
    assert_eq!(infos[0].crc, crc32(container.section(107).unwrap()));
    assert_eq!((container.kind(), container.file_len()), (2, 4_160));
}

#[test]
fn where_it_is_written_to_makes_no_difference() {
    let mut cursor = Cursor::new(Vec::new());
    let mut writer = ContainerWriter::create(&mut cursor, 2, 2).unwrap();
    let piece: Vec<u8> = (0..1_000_u32).flat_map(u32::to_le_bytes).collect();
    writer.section(107, |w| w.write_all(&piece)).unwrap();
    writer.section(100, |_| Ok(())).unwrap();
    assert_eq!(writer.finish().unwrap(), 4_160);
    assert_eq!(cursor.get_ref().as_slice(), two_sections().as_ref());
}

#[test]
fn a_container_without_sections() {
    let mut bytes = AlignedBytes::new();
    ContainerWriter::create(&mut bytes, 2, 0).unwrap().finish().unwrap();
    let container = Container::open(bytes, 2).unwrap();
    container.verify_checksums().unwrap();
    assert_eq!(container.sections().count(), 0);
}

#[test]
fn an_interrupted_file_has_no_magic() {
    let mut bytes = AlignedBytes::new();
    let mut writer = ContainerWriter::create(&mut bytes, 2, 2).unwrap();
    writer.section(107, |w| w.write_all(b"first")).unwrap();
    drop(writer);
    assert!(Container::open(bytes, 2).is_err());
}

#[test]
fn slips_of_the_writer_are_errors() {
    let start = |n| ContainerWriter::create(AlignedBytes::new(), 2, n);
    assert!(matches!(start(65), Err(WriteError::TooManySections { found: 65 })));
    let mut writer = start(2).unwrap();
    writer.section(1, |_| Ok(())).unwrap();
    assert!(matches!(writer.section(1, |_| Ok(())), Err(WriteError::SectionTwice { section: 1 })));
    assert!(matches!(writer.finish(), Err(WriteError::SectionCount { expected: 2, found: 1 })));
    let mut writer = start(0).unwrap();
    assert!(matches!(writer.section(1, |_| Ok(())), Err(WriteError::SectionCount { expected: 0, found: 1 })));
    let mut writer = start(1).unwrap();
    let full = writer.section(1, |_| Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(full, Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::StorageFull));
}

#[test]
fn casting_checks_address_and_length() {
    let bytes = AlignedBytes::from([1_u8; 64].as_slice());
    assert_eq!(cast::<u32>(bytes.as_ref()).map(<[u32]>::len), Some(16));
    assert_eq!(cast::<u32>(&bytes.as_ref()[1..5]), None);
    assert_eq!(cast::<u32>(&bytes.as_ref()[..6]), None);
    assert_eq!(cast::<f64>(&[]), Some([].as_slice()));
}

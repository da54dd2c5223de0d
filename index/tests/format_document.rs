//! FORMAT.md and the structs say the same: every field of every struct stands in the table of its heading, at its offset and of its
//! size, and the table has no other rows. A description that drifts from the code is worse than none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::mem::offset_of;
use std::path::Path;

use kindred_index::format::{self, FieldEntry, FileHeader, IndexHeader, Postings, SectionEntry, TermEntry, section};

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMAT.md")).unwrap()
}

/// The rows of the first table behind a line that starts with `heading`, as (offset, bytes, field).
fn table(document: &str, heading: &str) -> Vec<(usize, usize, String)> {
    let lines = document.lines().skip_while(|line| !line.starts_with(heading));
    let rows =
        lines.skip_while(|line| !line.starts_with("| offset |")).skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).skip(1).take(3).map(str::to_owned).collect::<Vec<_>>());
    cells.map(|cells| (cells[0].parse().unwrap(), cells[1].parse().unwrap(), cells[2].clone())).collect()
}

macro_rules! fields {
    ($of:ty: $($field:ident),+) => {{
        let starts = [$((offset_of!($of, $field), stringify!($field))),+];
        let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([size_of::<$of>()]);
        starts.iter().zip(ends).map(|((start, name), end)| (*start, end - start, (*name).to_owned())).collect::<Vec<_>>()
    }};
}

#[test]
fn the_tables_are_those_of_the_structs() {
    let document = document();
    let same = |heading: &str, fields: Vec<(usize, usize, String)>| {
        assert_eq!(table(&document, heading), fields, "the table of {heading:?}");
    };
    same("Header, 64 bytes", fields!(FileHeader: magic, format_version, kind, n_sections, file_len, header_crc, zero));
    same("Entry of the section table, 32 bytes", fields!(SectionEntry: kind, crc, offset, len, reserved));
    same(
        "### INDEX_HEADER",
        fields!(IndexHeader: n, dimensions, row_stride, m, m0_stride, max_level, entry_point, metric, edges, key_table_log2,
            key_hash_seed, flags, zero),
    );
    same(
        "Field, 64 bytes",
        fields!(FieldEntry: name_start, name_len, zero, terms_first, terms_count, numbers_first, numbers_count, present),
    );
    same("Term, 32 bytes", fields!(TermEntry: value_start, value_len, zero, items));
    same("### POSTINGS", fields!(Postings: start, cardinality, encoding));
}

#[test]
fn the_sections_and_limits_are_those_of_the_code() {
    let document = document();
    for kind in 1..=section::MOST {
        let row = format!("| {kind} | {} |", section::name(kind));
        assert!(document.contains(&row), "FORMAT.md has no row {row:?}");
    }
    assert_eq!(section::name(section::MOST + 1), "unknown");
    let limits = [
        format!("| file | 2^{} bytes |", format::FILE_BYTES_MAX.ilog2()),
        format!("| sections | {} |", format::SECTIONS_MAX),
        format!("| items | 2^{} |", format::ITEMS_MAX.ilog2()),
        format!("| dimensions | {} |", format::DIMENSIONS_MAX),
        format!("| m, m0_stride | {}, {} |", format::M_MAX, format::M0_STRIDE_MAX),
        format!("| level | {} |", format::LEVEL_MAX),
        format!("| key | 1 to {} bytes |", format::KEY_BYTES_MAX),
        format!("| probes per key | {} |", format::KEY_PROBES_MAX),
        format!("| attribute fields | {} |", format::FIELDS_MAX),
        format!("| name of a field, value | {}, {} bytes |", format::FIELD_NAME_BYTES_MAX, format::TERM_BYTES_MAX),
        format!("| {} | 0.1.0 |", format::FORMAT_VERSION),
    ];
    for limit in limits {
        assert!(document.contains(&limit), "FORMAT.md does not say {limit:?}");
    }
}

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use proptest::prelude::*;

use super::*;

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// An array file made by hand, so that the reader is not only tested against our own writer.
fn npy(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([version, 0]);
    if version == 1 {
        bytes.extend((header.len() as u16).to_le_bytes());
    } else {
        bytes.extend((header.len() as u32).to_le_bytes());
    }
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(rows in 0..20_usize, cols in 0..9_usize, seed in any::<u32>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let data: Vec<u32> = (0..rows * cols).map(|i| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed)).collect();
        write(&path, &[rows, cols], &data).unwrap();
        prop_assert_eq!(read::<u32>(&path).unwrap(), Array { shape: [rows, cols], data: data.clone() });
        let floats: Vec<f32> = data.iter().map(|value| *value as f32 / 7.0).collect();
        let matrix = Matrix::from_vec(rows, cols, floats).unwrap();
        write_matrix(&path, &matrix).unwrap();
        prop_assert_eq!(read_matrix(&path).unwrap(), matrix);
        prop_assert_eq!(fs::metadata(&path).unwrap().len() % 64, (rows * cols * 4 % 64) as u64);
    }

    #[test]
    fn no_header_panics(text in "\\PC{0,80}", version in 0..5_u8) {
        let (_dir, path) = file(&npy(version, &text, &[0; 8]));
        prop_assert!(read::<f32>(&path).is_err());
    }
}

#[test]
fn reads_doubles_and_fortran_order_and_one_dimension() {
    let values = [1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0];
    let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n";
    let (_dir, path) = file(&npy(1, header, &elements));
    assert_eq!(read_matrix(&path).unwrap().data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let header = "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n";
    let (_dir, path) = file(&npy(2, header, &elements));
    assert_eq!(read_matrix(&path).unwrap().row(0), [1.0, 3.0, 5.0]);
    let header = "{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": (6,)}";
    let (_dir, path) = file(&npy(3, header, &elements));
    assert_eq!(read::<f32>(&path).unwrap().shape, [6, 1]);
}

#[test]
fn nonsense_is_refused_each_with_its_own_error() {
    let of = |bytes: &[u8]| {
        let (_dir, path) = file(bytes);
        read::<f32>(&path).unwrap_err()
    };
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    assert!(matches!(of(b""), NpyError::NotNpy { .. }));
    assert!(matches!(of(b"PK\x03\x04 an archive"), NpyError::NotNpy { .. }));
    assert!(matches!(of(&npy(9, good, &[0; 8])), NpyError::Version { found: 9, .. }));
    assert!(matches!(of(&npy(1, good, &[0; 7])), NpyError::Length { expected: 8, found: 7, .. }));
    assert!(matches!(of(&npy(1, good, &[0; 9])), NpyError::Length { expected: 8, found: 9, .. }));
    let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }";
    assert!(matches!(of(&npy(1, huge, &[0; 8])), NpyError::Length { .. }));
    let deep = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2), }";
    assert!(matches!(of(&npy(1, deep, &[0; 8])), NpyError::Dimensions { found: 3, .. }));
    let negative = "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }";
    assert!(matches!(of(&npy(1, negative, &[0; 8])), NpyError::Header { .. }));
    for descr in ["'>f4'", "'<f2'", "'<i8'", "'|O'"] {
        let error = of(&npy(1, &good.replace("'<f4'", descr), &[0; 8]));
        assert!(matches!(&error, NpyError::ElementType { .. }), "{error}");
        assert!(error.to_string().contains("astype(\"float32\")"), "{error}");
    }
    let record = good.replace("'<f4'", "[('x', '<f4')]");
    assert!(matches!(of(&npy(1, &record, &[0; 8])), NpyError::Header { .. }));
    let mut cut = npy(2, good, &[0; 8]);
    cut.truncate(40);
    assert!(matches!(of(&cut), NpyError::Header { .. }));
    let mut endless = npy(2, good, &[0; 8]);
    endless.splice(8..12, u32::MAX.to_le_bytes());
    assert!(matches!(of(&endless), NpyError::Header { .. }));
    assert!(matches!(read::<f32>(Path::new("/nowhere/a.npy")), Err(NpyError::Read { .. })));
}

#[test]
fn rows_come_one_by_one_in_c_order_whichever_way_the_file_has_them() {
    let rows: Vec<f32> = (0..600_000).map(|value| value as f32).collect();
    let all = |file: &NpyFile<f32>| {
        let mut all = Vec::new();
        file.each(3, &mut |row| {
            assert_eq!(row.len(), 3);
            all.extend_from_slice(row);
            Ok(())
        })
        .map(|()| all)
    };
    let (_dir, path) = file(b"");
    write(&path, &[200_000, 3], &rows).unwrap();
    let opened = NpyFile::<f32>::open(&path).unwrap();
    assert_eq!((opened.shape(), opened.n_values()), ([200_000, 3], 600_000));
    assert_eq!((all(&opened).unwrap(), all(&opened).unwrap()), (rows.clone(), rows));
    let header = "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3)}\n";
    let elements: Vec<u8> = [1.0_f64, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (_dir, fortran) = file(&npy(1, header, &elements));
    assert_eq!(all(&NpyFile::open(&fortran).unwrap()).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // Cut off after it was opened.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1_000_000).unwrap();
    let error = all(&opened).unwrap_err().to_string();
    assert!(error.contains("a.npy: cannot be read"), "{error}");
}

//! The files of a dataset, written and read.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Interactions;
use super::error::DatasetError;
use crate::whole_dir::WholeDirError;

/// Rows that are written at once.
const ROWS_A_BATCH: usize = 1 << 18;

/// Writes interactions as Parquet with the columns user, item, kind, weight and time_ms.
///
/// # Errors
/// The file cannot be written.
pub(super) fn interactions(path: &Path, rows: &Interactions) -> Result<(), DatasetError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("user", DataType::UInt32, false),
        Field::new("item", DataType::UInt32, false),
        Field::new("kind", DataType::UInt8, false),
        Field::new("weight", DataType::Float32, false),
        Field::new("time_ms", DataType::Int64, false),
    ]));
    let batches = (0..rows.len()).step_by(ROWS_A_BATCH).map(|from| {
        let at = from..rows.len().min(from + ROWS_A_BATCH);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(rows.user[at.clone()].to_vec())),
            Arc::new(UInt32Array::from(rows.item[at.clone()].to_vec())),
            Arc::new(UInt8Array::from(rows.kind[at.clone()].to_vec())),
            Arc::new(Float32Array::from(rows.weight[at.clone()].to_vec())),
            Arc::new(Int64Array::from(rows.time_ms[at].to_vec())),
        ];
        columns
    });
    table(path, schema, batches)
}

/// Writes the identifiers of users as Parquet, in the order of their numbers.
///
/// # Errors
/// The file cannot be written.
pub(super) fn users(path: &Path, users: &[Box<str>]) -> Result<(), DatasetError> {
    let schema = Arc::new(Schema::new(vec![Field::new("user_id", DataType::Utf8, false)]));
    let batch = |users: &[Box<str>]| -> Vec<ArrayRef> {
        vec![Arc::new(StringArray::from_iter_values(users.iter().map(|user| &**user)))]
    };
    table(path, schema, users.chunks(ROWS_A_BATCH).map(batch))
}

fn table(path: &Path, schema: Arc<Schema>, batches: impl Iterator<Item = Vec<ArrayRef>>) -> Result<(), DatasetError> {
    let io = |source| DatasetError::Dir(WholeDirError::Write { path: path.to_owned(), source });
    let fail = |source| DatasetError::Parquet { path: path.to_owned(), source };
    let file = File::create(path).map_err(io)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(fail)?;
    for columns in batches {
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|error| fail(error.into()))?;
        writer.write(&batch).map_err(fail)?;
    }
    let mut file = writer.into_inner().map_err(fail)?;
    file.flush().and_then(|()| file.sync_all()).map_err(io)
}

/// Reads interactions back.
///
/// # Errors
/// The file cannot be read or has other columns.
pub(super) fn read_interactions(path: &Path) -> Result<Interactions, DatasetError> {
    let mut rows = Interactions::default();
    each_batch(path, |batch| {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.filter(|column| column.null_count() == 0).ok_or_else(|| format!("no whole column {name:?}"))
        };
        let wrong = |name: &str| format!("column {name:?} is of another type");
        let (user, item) = (column("user")?, column("item")?);
        rows.user.extend(user.as_primitive_opt::<UInt32Type>().ok_or_else(|| wrong("user"))?.values());
        rows.item.extend(item.as_primitive_opt::<UInt32Type>().ok_or_else(|| wrong("item"))?.values());
        let kind = column("kind")?.as_primitive_opt::<UInt8Type>().ok_or_else(|| wrong("kind"))?;
        rows.kind.extend(kind.values());
        let weight = column("weight")?.as_primitive_opt::<Float32Type>().ok_or_else(|| wrong("weight"))?;
        rows.weight.extend(weight.values());
        let time = column("time_ms")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("time_ms"))?;
        rows.time_ms.extend(time.values());
        Ok(())
    })?;
    Ok(rows)
}

/// Reads the identifiers of users back.
///
/// # Errors
/// The file cannot be read or has other columns.
pub(super) fn read_users(path: &Path) -> Result<Vec<String>, DatasetError> {
    let mut users = Vec::new();
    each_batch(path, |batch| {
        let column = batch.column_by_name("user_id").and_then(|column| column.as_string_opt::<i32>());
        let column = column.ok_or("no column \"user_id\" of texts")?;
        users.extend(column.iter().map(|user| user.unwrap_or_default().to_owned()));
        Ok(())
    })?;
    Ok(users)
}

fn each_batch(path: &Path, mut take: impl FnMut(&RecordBatch) -> Result<(), String>) -> Result<(), DatasetError> {
    let io = |source: io::Error| DatasetError::Read { path: path.to_owned(), source };
    let fail = |source| DatasetError::Parquet { path: path.to_owned(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(io)?).map_err(fail)?;
    for batch in builder.with_batch_size(1 << 16).build().map_err(fail)? {
        let batch = batch.map_err(|error| fail(ParquetError::from(error)))?;
        take(&batch).map_err(|what| DatasetError::Table { path: path.to_owned(), what })?;
    }
    Ok(())
}

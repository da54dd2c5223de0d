//! Rows of a Parquet file: only the columns that are asked for are read, a batch at a time.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use kindred::timestamp::Timestamp;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::columns::ColumnsTaken;
use super::error::PrepareError;
use super::log::{Row, RowTime};
use super::read::Reading;

const ROWS_A_BATCH: usize = 8_192;
/// The place of the time among the columns of a log.
const TIME: usize = 2;

/// The names of the columns.
///
/// # Errors
/// The file cannot be read.
pub(super) fn columns(path: &Path) -> Result<Vec<String>, PrepareError> {
    Ok(open(path)?.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Reads rows into the log.
///
/// # Errors
/// The file cannot be read, a column is of a type that says nothing, or there is more than a log can hold.
pub(super) fn read(
    path: &Path,
    taken: &ColumnsTaken,
    Reading { log, rules, progress }: Reading<'_>,
) -> Result<(), PrepareError> {
    let ColumnsTaken { user, item, time, kind, value, rating } = taken;
    let wanted = [Some(user), Some(item), time.as_ref(), kind.as_ref(), value.as_ref(), rating.as_ref()];
    let fail = |source| PrepareError::Parquet { path: path.to_owned(), source };
    let builder = open(path)?;
    let n_rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let names: Vec<&str> = wanted.iter().flatten().map(|name| name.as_str()).collect();
    let places =
        builder.schema().fields().iter().enumerate().filter(|(_, field)| names.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), places.map(|(place, _)| place));
    let batches = builder.with_projection(mask).with_batch_size(ROWS_A_BATCH).build().map_err(fail)?;
    progress.start("reading Parquet", n_rows);
    let mut line = 0;
    for batch in batches {
        let batch = batch.map_err(|error| fail(ParquetError::from(error)))?;
        let mut cells = Vec::with_capacity(wanted.len());
        for name in wanted {
            cells.push(name.map(|name| Cells::of(path, &batch, name)).transpose()?);
        }
        let mut texts: [Vec<u8>; 6] = Default::default();
        for row in 0..batch.num_rows() {
            line += 1;
            let millis = cells.get(TIME).and_then(Option::as_ref).and_then(|cells| cells.millis(row));
            for (place, (text, cells)) in texts.iter_mut().zip(&cells).enumerate() {
                text.clear();
                // A time that is known as a number need not be written out.
                if let Some(cells) = cells.as_ref().filter(|_| place != TIME || millis.is_none()) {
                    cells.write(row, text);
                }
            }
            let [user, item, time, kind, value, rating] = &texts;
            let time = millis.map_or(RowTime::Text(time), RowTime::Millis);
            log.push(line, &Row { user, item, time, kind, value, rating }, rules)?;
        }
        progress.set(line);
    }
    Ok(())
}

/// Hands every row over as texts, in the order of these columns, with its number from 1.
///
/// # Errors
/// The file cannot be read, or a column is of a type that says nothing.
pub(super) fn each_row(
    path: &Path,
    columns: &[String],
    mut take: impl FnMut(u64, &[Vec<u8>]),
) -> Result<(), PrepareError> {
    let fail = |source| PrepareError::Parquet { path: path.to_owned(), source };
    let mut texts = vec![Vec::new(); columns.len()];
    let mut line = 0;
    for batch in open(path)?.with_batch_size(ROWS_A_BATCH).build().map_err(fail)? {
        let batch = batch.map_err(|error| fail(ParquetError::from(error)))?;
        let cells: Result<Vec<Cells<'_>>, _> = columns.iter().map(|name| Cells::of(path, &batch, name)).collect();
        let cells = cells?;
        for row in 0..batch.num_rows() {
            line += 1;
            for (text, cells) in texts.iter_mut().zip(&cells) {
                text.clear();
                cells.write(row, text);
            }
            take(line, &texts);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, PrepareError> {
    let file = File::open(path).map_err(|source| PrepareError::Read { path: path.to_owned(), source })?;
    let fail = |source| PrepareError::Parquet { path: path.to_owned(), source };
    // What a column was in the memory of who wrote it, a categorical or a view, is of no matter: texts are read as texts.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(fail)
}

/// How the values of one column are read.
pub(super) struct Cells<'a> {
    array: &'a dyn Array,
}

impl<'a> Cells<'a> {
    /// The column of a batch by its name.
    ///
    /// # Errors
    /// It is not there, or of a type that says nothing.
    pub(super) fn of(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<Self, PrepareError> {
        let wrong = |found: String| PrepareError::ColumnType { path: path.to_owned(), column: name.to_owned(), found };
        let array = batch.column_by_name(name).ok_or_else(|| wrong("nothing".to_owned()))?;
        use DataType as T;
        match array.data_type() {
            T::Utf8 | T::Binary | T::Boolean | T::Null | T::Date32 => {}
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {}
            T::Float32 | T::Float64 | T::Decimal128(_, _) | T::Decimal256(_, _) | T::Timestamp(_, _) => {}
            other => return Err(wrong(other.to_string())),
        }
        Ok(Self { array })
    }

    /// A time, where the column is one of times.
    fn millis(&self, row: usize) -> Option<i64> {
        if self.array.is_null(row) {
            return None;
        }
        match self.array.data_type() {
            DataType::Timestamp(ArrowUnit::Second, _) => {
                self.array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000)
            }
            DataType::Timestamp(ArrowUnit::Millisecond, _) => {
                Some(self.array.as_primitive::<TimestampMillisecondType>().value(row))
            }
            DataType::Timestamp(ArrowUnit::Microsecond, _) => {
                Some(self.array.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000))
            }
            DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
                Some(self.array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000))
            }
            DataType::Date32 => Some(i64::from(self.array.as_primitive::<Date32Type>().value(row)) * 86_400_000),
            _ => None,
        }
    }

    /// Appends a value as text, a time in RFC 3339; nothing for null.
    pub(super) fn write(&self, row: usize, text: &mut Vec<u8>) {
        use std::io::Write;
        let array = self.array;
        if array.is_null(row) {
            return;
        }
        let mut whole = |number: i64| write!(text, "{number}");
        // Writing into memory does not fail.
        let _ = match array.data_type() {
            DataType::Int8 => whole(array.as_primitive::<Int8Type>().value(row).into()),
            DataType::Int16 => whole(array.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => whole(array.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => whole(array.as_primitive::<Int64Type>().value(row)),
            DataType::UInt8 => whole(array.as_primitive::<UInt8Type>().value(row).into()),
            DataType::UInt16 => whole(array.as_primitive::<UInt16Type>().value(row).into()),
            DataType::UInt32 => whole(array.as_primitive::<UInt32Type>().value(row).into()),
            DataType::UInt64 => write!(text, "{}", array.as_primitive::<UInt64Type>().value(row)),
            DataType::Float32 => write!(text, "{}", array.as_primitive::<Float32Type>().value(row)),
            // Whole identifiers next to missing ones are often stored as 17.0; `{}` writes that as 17.
            DataType::Float64 => write!(text, "{}", array.as_primitive::<Float64Type>().value(row)),
            DataType::Decimal128(_, _) => {
                text.write_all(array.as_primitive::<Decimal128Type>().value_as_string(row).as_bytes())
            }
            DataType::Decimal256(_, _) => {
                text.write_all(array.as_primitive::<Decimal256Type>().value_as_string(row).as_bytes())
            }
            DataType::Boolean => write!(text, "{}", array.as_boolean().value(row)),
            DataType::Utf8 => text.write_all(array.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => text.write_all(array.as_binary::<i32>().value(row)),
            _ => self.millis(row).map_or(Ok(()), |ms| write!(text, "{}", Timestamp(ms))),
        };
    }
}

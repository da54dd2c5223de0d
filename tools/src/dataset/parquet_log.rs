//! Rows of a Parquet file: only the columns that are asked for are read, a batch at a time.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use kindred::timestamp::Timestamp;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use serde_json::Value;

use super::columns::ColumnsTaken;
use super::error::PrepareError;
use super::log::{Row, RowTime};
use super::read::Reading;

const ROWS_A_BATCH: usize = 8_192;
/// The place of the time among the columns of a log.
const TIME: usize = 2;
/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;

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

/// The names of the columns of a table of items that [`each_row`] reads, and of the others, whose types say nothing.
///
/// # Errors
/// The file cannot be read.
pub(super) fn columns_of_table(path: &Path) -> Result<(Vec<String>, Vec<String>), PrepareError> {
    let builder = open(path)?;
    let names = |are_read: bool| -> Vec<String> {
        let fields = builder.schema().fields().iter();
        fields.filter(|field| is_read(field.data_type()) == are_read).map(|field| field.name().clone()).collect()
    };
    Ok((names(true), names(false)))
}

/// Hands every row over, with its number from 1: for each column that is read its text, a list of texts, numbers and truth values, or null.
///
/// # Errors
/// The file cannot be read.
pub(super) fn each_row(path: &Path, mut take: impl FnMut(u64, Vec<Value>)) -> Result<(), PrepareError> {
    let fail = |source| PrepareError::Parquet { path: path.to_owned(), source };
    let builder = open(path)?;
    let places = builder.schema().fields().iter().enumerate().filter(|(_, field)| is_read(field.data_type()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), places.map(|(place, _)| place));
    let mut line = 0;
    for batch in builder.with_projection(mask).with_batch_size(ROWS_A_BATCH).build().map_err(fail)? {
        let batch = batch.map_err(|error| fail(ParquetError::from(error)))?;
        let cells: Vec<Cells<'_>> = batch.columns().iter().map(|array| Cells { array: array.as_ref() }).collect();
        for row in 0..batch.num_rows() {
            line += 1;
            take(line, cells.iter().map(|cells| cells.text_or_list(row)).collect());
        }
    }
    Ok(())
}

/// Whether a column of this type is text, numbers, truth values or times: one in each row.
fn is_plain(of: &DataType) -> bool {
    use DataType as T;
    let is_text = matches!(of, T::Utf8 | T::Binary | T::FixedSizeBinary(UUID_BYTES) | T::Null);
    let is_number = matches!(of, T::Float32 | T::Float64 | T::Decimal128(_, _) | T::Decimal256(_, _));
    is_text || is_number || of.is_integer() || matches!(of, T::Boolean | T::Date32 | T::Timestamp(_, _))
}

/// Whether a column of this type is read in a table of items: one value or a list of them in each row.
fn is_read(of: &DataType) -> bool {
    is_plain(of) || matches!(of, DataType::List(one) if is_plain(one.data_type()))
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
        if is_plain(array.data_type()) { Ok(Self { array }) } else { Err(wrong(array.data_type().to_string())) }
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

    /// A value as text, or a list of values; null for nothing.
    fn text_or_list(&self, row: usize) -> Value {
        if let Some(lists) = self.array.as_list_opt::<i32>() {
            return list(lists, row);
        }
        let mut text = Vec::new();
        self.write(row, &mut text);
        if text.is_empty() { Value::Null } else { as_value(&text) }
    }

    /// A value as JSON has it; null for nothing, and for what is no number.
    fn json(&self, row: usize) -> Value {
        use DataType as T;
        let mut text = Vec::new();
        self.write(row, &mut text);
        match self.array.data_type() {
            _ if self.array.is_null(row) => Value::Null,
            T::Utf8 | T::Binary | T::FixedSizeBinary(_) | T::Timestamp(_, _) | T::Date32 => as_value(&text),
            _ => serde_json::from_slice(&text).unwrap_or_default(),
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
            // Not a number is nothing. Whole identifiers next to missing ones are often stored as 17.0; `{}` writes that as 17.
            DataType::Float32 => match array.as_primitive::<Float32Type>().value(row) {
                number if number.is_nan() => Ok(()),
                number => write!(text, "{number}"),
            },
            DataType::Float64 => match array.as_primitive::<Float64Type>().value(row) {
                number if number.is_nan() => Ok(()),
                number => write!(text, "{number}"),
            },
            DataType::Decimal128(_, _) => {
                text.write_all(array.as_primitive::<Decimal128Type>().value_as_string(row).as_bytes())
            }
            DataType::Decimal256(_, _) => {
                text.write_all(array.as_primitive::<Decimal256Type>().value_as_string(row).as_bytes())
            }
            DataType::Boolean => write!(text, "{}", array.as_boolean().value(row)),
            DataType::Utf8 => text.write_all(array.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => text.write_all(array.as_binary::<i32>().value(row)),
            DataType::FixedSizeBinary(_) => match array.as_fixed_size_binary().value(row) {
                // The ninth byte of a UUID begins with the bits 10, so no UUID is ASCII throughout.
                letters if letters.iter().all(|byte| matches!(byte, b' '..=b'~')) => text.write_all(letters),
                bytes => {
                    uuid(bytes, text);
                    Ok(())
                }
            },
            _ => self.millis(row).map_or(Ok(()), |ms| write!(text, "{}", Timestamp(ms))),
        };
    }
}

fn as_value(text: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(text).into_owned())
}

/// The values of a list that are there; null where there is no list.
fn list(lists: &ListArray, row: usize) -> Value {
    if lists.is_null(row) {
        return Value::Null;
    }
    let values = Cells { array: lists.values().as_ref() };
    let offset = |at: usize| lists.value_offsets().get(at).map_or(0, |offset| *offset as usize);
    (offset(row)..offset(row + 1)).map(|at| values.json(at)).filter(|value| !value.is_null()).collect()
}

/// Appends a UUID as it is usually written.
fn uuid(bytes: &[u8], text: &mut Vec<u8>) {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

//! `kindred prepare` from outside: the same content in every form is the same dataset; nonsense is refused with a remedy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::{Float64Type, Int8Type, UInt32Type};
use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array,
    LargeStringArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow_schema::{DataType, Field};
use assert_cmd::Command;
use kindred::timestamp::Timestamp;
use kindred_tools::dataset::read::Preset;
use kindred_tools::dataset::split::Split;
use kindred_tools::dataset::{Dataset, Parts, PrepareOptions, prepare};
use kindred_tools::progress::Progress;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

const START_MS: i64 = 1_508_194_801_000;

/// A log of a small shop: user, item, milliseconds, kind, value.
fn rows() -> Vec<(String, String, i64, &'static str, f64)> {
    let kinds = ["view", "cart", "purchase"];
    let row = |n: i64| {
        (format!("u{}", n % 13), format!("itém {}", n * n % 17), START_MS + n * 1_500, kinds[n as usize % 3], 0.5)
    };
    (0..200).map(row).collect()
}

fn text(header: &str, row: impl Fn(&(String, String, i64, &str, f64)) -> String) -> String {
    rows().iter().fold(header.to_owned(), |text, one| text + &row(one) + "\n")
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

fn parquet_file(path: &Path) {
    let rows = rows();
    let texts = |of: &dyn Fn(usize) -> String| Arc::new(StringArray::from_iter_values((0..rows.len()).map(of)));
    let times = rows.iter().map(|row| row.2 * 1_000);
    let columns: [(&str, ArrayRef); 5] = [
        ("user_id", texts(&|at| rows[at].0.clone())),
        ("item_id", texts(&|at| rows[at].1.clone())),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(times))),
        ("event", texts(&|at| rows[at].3.to_owned())),
        ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.4)))),
    ];
    write_parquet(path, columns);
}

fn write_parquet<const N: usize>(path: &Path, columns: [(&str, ArrayRef); N]) {
    write_parquet_packed(path, Compression::UNCOMPRESSED, columns);
}

fn write_parquet_packed<const N: usize>(path: &Path, packing: Compression, columns: [(&str, ArrayRef); N]) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(packing).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

fn prepared(path: PathBuf) -> Parts {
    prepare(&PrepareOptions::new(vec![path]), &Progress::hidden()).unwrap()
}

#[test]
fn the_same_content_in_every_form_is_the_same_dataset() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let csv = text("user_id,item_id,timestamp,event,value\n", |(u, i, t, k, v)| format!("{u},\"{i}\",{t},{k},{v}"));
    let tsv = text("Time\tEVENT\tValue\tUserId\tItemId\n", |(u, i, t, k, v)| {
        // The same moment as a date, with a fraction where there is one.
        let date = kindred_tools::calendar::Moment((t / 1_000) as u64).rfc3339();
        format!("{}.{:03}Z\t{k}\t{v}\t{u}\t{i}", date.trim_end_matches('Z'), t % 1_000)
    });
    let json = text("", |(u, i, t, k, v)| {
        serde_json::json!({"x": [1], "user": u, "item": i, "time": t, "kind": k, "value": v}).to_string()
    });
    let semicolons = text("user;item;ts;action;weight\n", |(u, i, t, k, v)| format!("{u};{i};{t};{k};{v}"));
    parquet_file(&dir.join("log.parquet"));
    let first = prepared(put(dir, "log.csv", &csv));
    let others = [
        put(dir, "log.tsv", &tsv),
        put(dir, "log.jsonl", &json),
        put(dir, "log", &semicolons),
        put(dir, "log.csv.gz", packed(&csv)),
        put(dir, "log.json.gz", packed(&json)),
        put(dir, "crlf.csv", csv.replace('\n', "\r\n")),
        put(dir, "commas.jsonl", json.replace("}\n", "},\n")),
        dir.join("log.parquet"),
    ];
    assert_eq!(first.report.n_bad_and_kept(), (0, 200));
    for path in others {
        let other = prepared(path.clone());
        assert_eq!(other.report.fingerprint, first.report.fingerprint, "{}: {}", path.display(), other.report.text());
        assert_eq!(other.train, first.train, "{}", path.display());
    }
    let different = prepared(put(dir, "other.csv", csv.replacen("u1,", "u2,", 1)));
    assert_ne!(different.report.fingerprint, first.report.fingerprint);
}

#[test]
fn parquet_is_read_however_its_pages_are_packed() {
    let place = tempfile::tempdir().unwrap();
    let column = |of: fn(usize) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..40).map(of))) };
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let prints = packings.map(|packing| {
        let path = place.path().join("packed.parquet");
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values((0..40).map(|at| at * 1_000)));
        let (users, items) = (column(|at| format!("u{}", at % 5)), column(|at| format!("i{}", at % 7)));
        write_parquet_packed(&path, packing, [("user_id", users), ("item_id", items), ("timestamp", times)]);
        prepared(path).report.fingerprint
    });
    assert!(prints.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn categoricals_views_and_decimals_of_parquet_are_texts_and_numbers() {
    let place = tempfile::tempdir().unwrap();
    let (plain, other) = (place.path().join("plain.parquet"), place.path().join("other.parquet"));
    parquet_file(&plain);
    let rows = rows();
    let items = LargeStringArray::from_iter_values(rows.iter().map(|row| row.1.as_str()));
    let keys = UInt32Array::from_iter_values(0..rows.len() as u32);
    let hundredths = Decimal128Array::from_iter_values(rows.iter().map(|row| (row.4 * 100.0) as i128));
    let columns: [(&str, ArrayRef); 5] = [
        ("user_id", Arc::new(rows.iter().map(|row| row.0.as_str()).collect::<DictionaryArray<Int8Type>>())),
        ("item_id", Arc::new(DictionaryArray::<UInt32Type>::new(keys, Arc::new(items)))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2 * 1_000)))),
        ("event", Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.3)))),
        ("value", Arc::new(hundredths.with_precision_and_scale(10, 2).unwrap())),
    ];
    write_parquet(&other, columns);
    assert_eq!(prepared(other).report.fingerprint, prepared(plain).report.fingerprint);
}

trait Counts {
    fn n_bad_and_kept(&self) -> (u64, u64);
}

impl Counts for kindred_tools::dataset::DatasetReport {
    fn n_bad_and_kept(&self) -> (u64, u64) {
        (self.read.n_bad(), self.n_train + self.n_test)
    }
}

#[test]
fn a_field_of_json_lines_that_was_named_may_come_late() {
    let place = tempfile::tempdir().unwrap();
    let early = text("", |(u, i, t, ..)| {
        serde_json::json!({"user": u, "item": i, "time": t, "page": "x".repeat(500)}).to_string()
    });
    let late = "{\"user\": \"u1\", \"item\": \"late\", \"time\": 1508194801000, \"amount\": 7}\n";
    let log = put(place.path(), "log.jsonl", early + late);
    let by = |value: &str| {
        let mut options = PrepareOptions::new(vec![log.clone()]);
        (options.read.columns.value, options.split) = (Some(value.to_owned()), Split::None);
        prepare(&options, &Progress::hidden())
    };
    let Parts { train, report, .. } = by("amount").unwrap();
    assert_eq!((train.weight.iter().filter(|weight| **weight == 7.0).count(), report.read.filled_value), (1, 200));
    let error = by("amuont").unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("\"amuont\"") && said.contains("there are: "), "{said}");
}

#[test]
fn a_field_of_json_lines_that_says_something_and_comes_late_is_not_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let early = text("", |(u, i, t, ..)| {
        serde_json::json!({"user": u, "item": i, "time": t, "page": "x".repeat(500)}).to_string()
    });
    let late =
        "{\"user\": \"u1\", \"item\": \"late\", \"time\": 1508194801000, \"event\": \"purchase\", \"more\": 1}\n";
    let log = put(place.path(), "log.jsonl", early + late);
    let by = |kind: Option<&str>| {
        let mut options = PrepareOptions::new(vec![log.clone()]);
        (options.read.columns.kind, options.split) = (kind.map(str::to_owned), Split::None);
        prepare(&options, &Progress::hidden()).map(|parts| parts.report.kinds)
    };
    let refused = by(None).unwrap_err().to_string();
    assert!(refused.contains("\"event\"") && refused.contains("--kind-column"), "{refused}");
    assert!(by(Some("event")).unwrap().contains(&"purchase".to_owned()));
    assert!(!by(Some("")).unwrap().contains(&"purchase".to_owned()));
}

#[test]
fn rows_of_json_may_be_longer_than_what_is_looked_at_first() {
    let place = tempfile::tempdir().unwrap();
    let row = |item: &str| serde_json::json!({"page": "x".repeat(100_000), "user": "u", "item": item, "time": 1_508_194_801_000_i64});
    let log = put(place.path(), "log.jsonl", format!("{}\n{}\n", row("a"), row("b")));
    assert_eq!(prepared(log).report.n_bad_and_kept(), (0, 2));
}

#[test]
fn spaces_about_the_ids_of_json_are_a_part_of_them() {
    let place = tempfile::tempdir().unwrap();
    let rows = "{\"user\": \"u \", \"item\": \" a\"}\n{\"user\": \"u \", \"item\": \"a\"}\n";
    let log = put(place.path(), "log.jsonl", rows);
    let items = put(place.path(), "items.jsonl", "{\"id\": \" a\", \"title\": \"A\"}\n");
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let Parts { users, items, .. } = prepare(&options, &Progress::hidden()).unwrap();
    let items: Vec<_> = items.iter().map(|item| (item.id.as_str(), item.title.as_str())).collect();
    assert_eq!((items, &*users[0]), (vec![(" a", "A"), ("a", "")], "u "));
}

#[test]
fn a_log_in_the_directory_that_is_replaced_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("dataset");
    let text = "user,item,time\nu,a,1\nu,b,2\n";
    prepared(put(place.path(), "log.csv", text)).write(&dir, false).unwrap();
    let log = put(&dir, "log.csv", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    let refused = command.arg("prepare").arg(&log).arg("--output").arg(&dir).arg("--force").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("would be removed"), "{said}");
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
}

#[test]
fn well_known_forms_are_read_by_name_or_preset() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let forms = [
        put(dir, "u.data", "1\t10\t5\t881250949\n1\t11\t3\t881250950\n2\t10\t1\t881250951\n"),
        put(dir, "ratings.dat", "1::10::5::881250949\n1::11::3::881250950\n2::10::1::881250951\n"),
        put(
            dir,
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,10,5.0,881250949\n1,11,3.0,881250950\n2,10,1,881250951\n",
        ),
    ];
    let prints: Vec<String> = forms.into_iter().map(|path| prepared(path).report.fingerprint).collect();
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    let with = |path: PathBuf, preset| {
        let mut options = PrepareOptions::new(vec![path]);
        (options.read.preset, options.split) = (Some(preset), Split::None);
        prepare(&options, &Progress::hidden()).unwrap()
    };
    let sequences = with(put(dir, "s.txt", "1 10 11\n2 10\n3\n4 NULL 10\n\\N 10\n1 12\n"), Preset::Sequences);
    assert_eq!(sequences.train.time_ms, [0, 1_000, 2_000, 0, 1_000], "a user's second line goes on");
    let bad: Vec<String> = sequences.report.read.bad.into_keys().collect();
    assert_eq!(bad, ["a user without items", "no item", "no user"]);
    let parts = [("old.txt", "1 10 11\n"), ("new.txt", "1 12\n2 10\n")].map(|(name, text)| put(dir, name, text));
    let mut options = PrepareOptions::new(parts.to_vec());
    (options.read.preset, options.split) = (Some(Preset::Sequences), Split::None);
    let parts = prepare(&options, &Progress::hidden()).unwrap();
    assert_eq!(parts.train.time_ms, [0, 1_000, 2_000, 0], "a user's line in a second file goes on too");
    parquet_file(&dir.join("log.parquet"));
    let json = put(dir, "log.jsonl", "{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\": 3}\n");
    for (path, n_rows) in [(dir.join("log.parquet"), 200), (json, 2)] {
        assert_eq!(with(path, Preset::Sequences).report.n_bad_and_kept(), (0, n_rows), "its bytes tell what it is");
    }
    let bare = with(put(dir, "sessions.tsv", "s1\ta\t5\ns2\tb\t6\n"), Preset::Sessions);
    let named = with(put(dir, "named.tsv", "SessionId\tTime\tItemId\ns1\t5\ta\ns2\t6\tb\n"), Preset::Sessions);
    assert_eq!((bare.train.time_ms, bare.items), (named.train.time_ms, named.items));
}

#[test]
fn a_dataset_survives_the_disk() {
    let place = tempfile::tempdir().unwrap();
    let log = put(place.path(), "log.csv", text("user,item,time\n", |(u, i, t, ..)| format!("{u},{i},{t}")));
    let items = put(place.path(), "items.csv", "id,title\nitém 1,One\nnew,New\n");
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let parts = prepare(&options, &Progress::hidden()).unwrap();
    let dir = place.path().join("dataset");
    parts.write(&dir, false).unwrap();
    let dataset = Dataset::open(&dir).unwrap();
    assert_eq!(dataset.report, parts.report);
    assert_eq!((dataset.train().unwrap(), dataset.test().unwrap()), (parts.train, parts.test));
    assert_eq!(dataset.items().unwrap(), parts.items);
    assert_eq!(dataset.users().unwrap().len() as u64, dataset.report.n_users);
    assert!(dataset.items().unwrap().iter().any(|item| item.title == "New"));
    fs::write(dir.join("train.parquet"), "PAR1 but cut off").unwrap();
    assert!(dataset.train().unwrap_err().to_string().contains("train.parquet"));
    // Half of what was opened and half of what came after it would mostly fit.
    prepare(&options, &Progress::hidden()).unwrap().write(&dir, true).unwrap();
    let errors = [dataset.train().unwrap_err(), dataset.items().unwrap_err(), dataset.users().unwrap_err()];
    assert!(errors.iter().all(|error| error.to_string().contains("was replaced while it was read")), "{errors:?}");
}

#[test]
fn times_of_items_come_through_parquet() {
    let place = tempfile::tempdir().unwrap();
    let log = put(place.path(), "log.csv", "user,item,time\nu,a,1\nu,b,2\n");
    let items = place.path().join("items.parquet");
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("expires_at", Arc::new(TimestampMicrosecondArray::from(vec![Some(2_000_000_000_500_000), None]))),
        ("updated_at", Arc::new(Int64Array::from(vec![1_795_530_301_000, 1_795_530_302_000]))),
        ("released", Arc::new(Date32Array::from(vec![17_449, 17_450]))),
    ];
    write_parquet(&items, columns);
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let Parts { items, report, .. } = prepare(&options, &Progress::hidden()).unwrap();
    assert_eq!(
        items.iter().map(|item| item.expires_at).collect::<Vec<_>>(),
        [Some(Timestamp(2_000_000_000_500)), None]
    );
    assert_eq!(items[1].updated_at, Some(Timestamp(1_795_530_302_000)));
    assert_eq!(items[0].attributes["released"], "2017-10-10T00:00:00Z");
    assert_eq!(report.item_table.map(|table| table.left_out), Some(0));
}

#[test]
fn lists_of_parquet_are_several_values_and_what_is_neither_is_left_out_by_name() {
    let place = tempfile::tempdir().unwrap();
    let log = put(place.path(), "log.csv", "user,item,time\nu,a,1\nu,b,2\n");
    let items = place.path().join("items.parquet");
    let mut texts = ListBuilder::new(StringBuilder::new());
    texts.append_value([Some("x"), None, Some("12")]);
    texts.append_null();
    let texts: ArrayRef = Arc::new(texts.finish());
    let sizes = [vec![Some(38.5), Some(39.0)], vec![]];
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let nested = StructArray::from(vec![(Arc::new(Field::new("width", DataType::Int64, false)), inner)]);
    let vector = [Some(vec![Some(0.5); 257]), None];
    let columns: [(&str, ArrayRef); 7] = [
        ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("genres", texts.clone()),
        ("tags", texts),
        ("sizes", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(sizes.map(Some)))),
        ("box", Arc::new(nested)),
        ("vector", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vector))),
        ("title", Arc::new(StringArray::from(vec![Some("A"), None]))),
    ];
    write_parquet(&items, columns);
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let Parts { items, report, .. } = prepare(&options, &Progress::hidden()).unwrap();
    assert_eq!((items[0].title.as_str(), items[0].categories.join(" ").as_str()), ("A", "x 12"));
    let attributes = |at: usize| serde_json::json!(items[at].attributes);
    assert_eq!(attributes(0), serde_json::json!({"tags": ["x", "12"], "sizes": [38.5, 39]}));
    assert_eq!(attributes(1), serde_json::json!({"sizes": []}));
    assert_eq!(report.item_table.as_ref().unwrap().columns_left_out, ["box", "vector"]);
    assert!(report.text().contains("at most 256 values: box, vector"), "{}", report.text());
}

#[test]
fn not_a_number_is_nobody_in_parquet_too() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log.parquet");
    let users: ArrayRef = Arc::new(Float64Array::from(vec![17.0, f64::NAN, f64::NAN]));
    let items: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    write_parquet(&log, [("user", users), ("item", items)]);
    let Parts { users, report, .. } = prepared(log);
    assert_eq!((users, report.read.bad["no user"]), (vec![Box::from("17")], 2));
}

#[test]
fn uuids_of_parquet_are_read_as_they_are_written() {
    let place = tempfile::tempdir().unwrap();
    let [log, items] = ["log.parquet", "items.parquet"].map(|name| place.path().join(name));
    let uuids = |first: u8| -> ArrayRef {
        let bytes = [[first; 16], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 0, 0, 0, 0, first]];
        Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.into_iter()).unwrap())
    };
    let times: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let titles: ArrayRef = Arc::new(StringArray::from(vec!["A", "B"]));
    write_parquet(&log, [("user", uuids(0xa7)), ("item", uuids(0)), ("time", times)]);
    write_parquet(&items, [("id", uuids(0)), ("title", titles)]);
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let Parts { items, users, .. } = prepare(&options, &Progress::hidden()).unwrap();
    let items: Vec<_> = items.iter().map(|item| (item.id.as_str(), item.title.as_str())).collect();
    let wanted = ["00000000-0000-0000-0000-000000000000", "01234567-89ab-cdef-0000-000000000000"];
    assert_eq!(items, [(wanted[0], "A"), (wanted[1], "B")]);
    assert_eq!(&*users[1], "a7a7a7a7-a7a7-a7a7-a7a7-a7a7a7a7a7a7");
}

#[test]
fn sixteen_bytes_of_parquet_that_are_a_text_are_read_as_one() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log.parquet");
    let texts = |texts: [&str; 2]| -> ArrayRef { Arc::new(FixedSizeBinaryArray::try_from_iter(texts.iter()).unwrap()) };
    let columns = [("user", texts(["customer-0000001"; 2])), ("item", texts(["sku 000000000001", "sku 000000000002"]))];
    write_parquet(&log, columns);
    let Parts { users, items, .. } = prepared(log);
    assert_eq!((&*users[0], items[1].id.as_str()), ("customer-0000001", "sku 000000000002"));
}

#[test]
fn a_kind_that_weighs_nothing_is_remembered() {
    let place = tempfile::tempdir().unwrap();
    let log = put(place.path(), "log.csv", "user,item,time,event\nu,a,1,view\nu,a,2,purchase\nu,b,3,purchase\n");
    let mut options = PrepareOptions::new(vec![log]);
    options.read.rules.kind_weights.extend([("view".to_owned(), 0.0), ("dislike".to_owned(), -3.0)]);
    let report = prepare(&options, &Progress::hidden()).unwrap().report;
    assert_eq!((report.kinds.clone(), report.read.weightless), (vec!["purchase".to_owned()], 1));
    assert_eq!(report.kind_weights, options.read.rules.kind_weights);
}

#[test]
fn what_may_not_be_meant_is_told() {
    let place = tempfile::tempdir().unwrap();
    let told = |log: &str, wanted: &str| {
        let text = prepared(put(place.path(), "log.csv", log)).report.text();
        assert!(text.contains(wanted), "{text}");
    };
    told("user,item,time\nu,17.0,20240131\nu,5.0,20240201\n", "times in dates like 20171010");
    told("user,item,time\nu,17.0,20240131\nu,5.0,20240201\n", "2 items, all there are, are written as 17.0 is");
    told("user,title,item,time\nu,\"a\nv,b\",i,1\nu,c,j,2\n", "1 rows go over several lines");
    told("time,user,title,item\n1,u,Salt, pepper,i\n2,u,Tea,j,\n", "1 rows have more cells than the first line");
    told("user,item,time\nu,a,2024-01-31\nu,b,9000-01-01\n", "1 interactions are of the future");
    told(
        "user,item,time\nu,a,1508194801000\nu,b,1508194802\nu,c,1508194803000\n",
        "1 rows have a number for a time that looks like another unit",
    );
    let log = put(place.path(), "log.csv", "user,item,time\nu,17.0,20240131\nu,5.0,20240201\n");
    let items = put(place.path(), "items.csv", "id,title\n17,A\n5,B\n");
    let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log]) };
    let report = prepare(&options, &Progress::hidden()).unwrap().report;
    assert_eq!((report.items_with_point, report.first_ms), (0, 1_706_659_200_000), "the table says how they are meant");
}

#[test]
fn a_table_without_an_item_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let log = put(place.path(), "log.csv", "user,item,time\nu,a,1\nu,b,2\n");
    for (name, content) in [("items.csv", "id,title\n"), ("items.jsonl", "{\n  \"id\": \"a\"\n}\n")] {
        let items = put(place.path(), name, content);
        let options = PrepareOptions { items: Some(items), ..PrepareOptions::new(vec![log.clone()]) };
        let error = prepare(&options, &Progress::hidden()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("rows is an item"), "{error}");
    }
}

#[test]
fn nonsense_is_refused_with_what_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let long = format!("user,item,time\n{},a,1\n", "x".repeat(300));
    let cases: [(&[u8], &str, &str); 10] = [
        (b"", "", "is empty"),
        (b"\x7fELF\x00\x01", "", "neither text nor Parquet"),
        (b"user,item\n1,2\n", "--user-column who", "there are: user, item"),
        (b"a,b\n1,2\n", "", "--user-column"),
        (b"{\n  \"user\": 1,\n  \"item\": 2\n}\n", "", "expected JSON Lines"),
        (b"user,item,time\n1,,5\n,2,6\n2,3,soon\n", "", "line 4: time is neither a number nor a date: \"soon\""),
        (b"user,item\n1,2\n", "--min-user 2", "lower them"),
        (b"user,item,time\n1,2,5\n1,3,6\n", "--split time=1969-12-31", "holds out all 2; give one that holds out less"),
        (b"user,item,event\n1,2,hum\n", "", "--kind-weights hum=1"),
        (long.as_bytes(), "", "longer than 256 bytes"),
    ];
    for (content, arguments, expected) in cases {
        let log = put(dir, "log.csv", content);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.arg("prepare").arg(log).arg("--output").arg(dir.join("dataset"));
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{expected}: {error}");
        assert!(error.contains(expected), "expected {expected}: {error}");
    }
    assert!(!dir.join("dataset").exists() && !dir.join("dataset.partial").exists());
    let log = put(dir, "log.csv", "user,item,time\n\u{1F34E},a,1\n1,b,2\n");
    let prepare = |force: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.arg("prepare").arg(&log).arg("--output").arg(dir.join("dataset")).args(force).output().unwrap()
    };
    assert!(prepare(&[]).status.success());
    assert!(String::from_utf8_lossy(&prepare(&[]).stderr).contains("--force"));
    assert!(prepare(&["--force", "--json"]).status.success());
}

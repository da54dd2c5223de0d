//! Any bytes as a log or as a catalogue: `kindred prepare` reads them or says what is wrong; it never panics and never makes a dataset that
//! points to a user, an item or a kind that is not there.
//!
//! Run on a stable compiler: `cargo fuzz run --fuzz-dir tests/fuzz --features logs --sanitizer none logs`.
//!
//! The first byte says what the rest is: its form by [`FORMS`], and in its highest bit whether it is a catalogue.

#![no_main]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::{fs, io};

use kindred_tools::dataset::read::Preset;
use kindred_tools::dataset::source::Format;
use kindred_tools::dataset::{PrepareOptions, item_table, prepare};
use kindred_tools::progress::{self, Progress};
use libfuzzer_sys::fuzz_target;

/// The forms a log is read in; `None` is by what its first bytes look like.
const FORMS: [(Option<Format>, Option<Preset>, &str); 8] = [
    (None, None, "log"),
    (Some(Format::Csv), None, "log.csv"),
    (Some(Format::JsonLines), None, "log.jsonl"),
    (None, Some(Preset::Movielens), "ratings.dat"),
    (None, Some(Preset::Sessions), "sessions.tsv"),
    (None, Some(Preset::Sequences), "sequences.txt"),
    (None, None, "log.csv.gz"),
    (Some(Format::Semicolons), None, "log.txt"),
];

const CATALOGUE: u8 = 0x80;

const SEEDS: [(u8, &str); 9] = [
    (
        1,
        "user_id,item_id,timestamp,kind\nu1,i1,1700000000,view\nu1,i2,1700000001,purchase\nu2,i1,2026-11-24T10:00:00Z,view\nu2,i2,,\n",
    ),
    (0, "user_id\titem_id\ttimestamp\nu1\ti1\t1\nu1\ti2\t2\n"),
    (
        2,
        "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":1,\"kind\":\"view\",\"value\":3}\n{\"user_id\":\"u\",\"item_id\":\"j\",\"timestamp\":2}\n",
    ),
    (3, "1::10::5::978300760\n1::11::3::978300761\n2::10::4::978300762\n"),
    (4, "s1\ti1\t1700000000.5\ns1\ti2\t1700000001\n"),
    (5, "u1 1 2 3 4\nu2 2 3\n"),
    (7, "\"user id\";item;ts\n\"a;b\";\"x\"\"y\";1\n"),
    (CATALOGUE | 1, "id,title,categories,price,available\ni1,A toy,toys|games,9.5,true\ni2,,,,\n"),
    (
        CATALOGUE | 2,
        "{\"id\":\"i1\",\"title\":\"A\",\"categories\":[\"a\"],\"attributes\":{\"x\":[1,2],\"p\":{\"lat\":1,\"lon\":2}}}\n",
    ),
];

thread_local! {
    static DIRECTORY: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(init: plant().unwrap_or_else(|error| eprintln!("no seeds: {error}")), |input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let (format, preset, name) = FORMS[usize::from(first & !CATALOGUE) % FORMS.len()];
    let path = file(name);
    fs::write(&path, rest).expect("the temporary directory takes a file");
    if first & CATALOGUE != 0 {
        // Read or refused: both are answers.
        let _ = item_table::read(&path);
        return;
    }
    let mut options = PrepareOptions::new(vec![path]);
    options.read.format = format;
    options.read.preset = preset;
    options.clean.min_user = 1;
    options.clean.min_item = 1;
    let Ok(parts) = prepare(&options, &Progress::hidden()) else { return };
    let (users, items, kinds) = (parts.users.len(), parts.items.len(), parts.report.kinds.len());
    for part in [&parts.train, &parts.test] {
        let columns = [part.item.len(), part.kind.len(), part.weight.len(), part.time_ms.len()];
        assert_eq!(columns, [part.user.len(); 4], "columns of one length");
        assert!(part.user.iter().all(|user| (*user as usize) < users), "a user that is not there");
        assert!(part.item.iter().all(|item| (*item as usize) < items), "an item that is not there");
        assert!(part.kind.iter().all(|kind| usize::from(*kind) < kinds), "a kind that is not there");
        assert!(part.weight.iter().all(|weight| weight.is_finite()), "a weight that is no number");
    }
});

/// A file of this name in a directory that goes with the process.
fn file(name: &str) -> PathBuf {
    DIRECTORY.with_borrow_mut(|directory| {
        let directory = directory.get_or_insert_with(|| tempfile::tempdir().expect("a temporary directory"));
        directory.path().join(name)
    })
}

/// Writes the seeds.
fn plant() -> io::Result<()> {
    progress::silence();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/logs");
    fs::create_dir_all(&corpus)?;
    let write = |(at, (first, text)): (usize, &(u8, &str))| {
        fs::write(corpus.join(format!("seed-{at}")), [&[*first], text.as_bytes()].concat())
    };
    SEEDS.iter().enumerate().try_for_each(write)
}

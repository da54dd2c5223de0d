//! What a training run has reached, kept on disk, so that a run that was stopped goes on from there.
//!
//! Each run has a directory of its own below the one that `--checkpoint` names, called after its trainer and a hash of all its settings and
//! interactions and of the program's version: what belongs to other settings, other data or another way to train is never taken up. It is written
//! whole or not at all. A run that goes on ends with the same factors, to the bit, as one that was never stopped.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kindred::telemetry::chain;
use serde::{Deserialize, Serialize};

use super::{TrainError, TrainProgress, Trainer, TrainingData};
use crate::dataset::fingerprint;
use crate::matrix::Matrix;
use crate::npy;
use crate::report;
use crate::whole_dir::{self, Kind, WholeDirError};

/// What such a directory is.
const KIND: Kind = Kind { name: "checkpoint", mark: "checkpoint.json" };

/// Where runs keep what they have reached.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    /// How long a run may go on before it is kept again: what is lost at most.
    every: Duration,
    /// The places of this command's own runs; another's may lie beside them.
    own: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// What a run has reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// Iterations done.
    pub iterations: usize,
    /// Loss after each.
    pub losses: Vec<f64>,
    /// What the trainer has decided for itself.
    pub notes: serde_json::Value,
    /// What it has learned.
    pub tables: Vec<Matrix>,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    iterations: usize,
    /// Bit by bit, since numbers in JSON are read to within their last digit.
    losses: Vec<u64>,
    notes: serde_json::Value,
    n_tables: usize,
}

/// The place of one run.
pub(crate) struct Checkpoint {
    place: Option<(PathBuf, Duration)>,
    last: Cell<Instant>,
}

impl Checkpoints {
    /// Below `dir`, which is made where it is not there; kept at most every so often.
    pub fn below(dir: &Path, every: Duration) -> Self {
        Self { dir: dir.to_owned(), every, own: Arc::default() }
    }

    /// Removes what this command's runs have kept, and the directory where nothing else is in it: for when the model is written.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn remove(&self) -> Result<(), WholeDirError> {
        for place in self.own.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            whole_dir::writable(place, KIND, true)?;
            whole_dir::remove(place)?;
        }
        // It stays where somebody keeps something else in it.
        let _stays = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// What other runs have kept in the directory, in words; none where there is nothing. Nobody can tell a run that was given up from one that
    /// is to go on.
    pub fn others(&self) -> Option<String> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let places = entries(&self.dir).filter(|place| !own.contains(place) && place.join(KIND.mark).is_file());
        let (n, bytes) = places.fold((0_u64, 0_u64), |(n, bytes), place| (n + 1, bytes + size(&place)));
        let (count, bytes, dir) = (report::count(n), report::bytes(bytes), self.dir.display());
        let text = format!(
            "{dir} holds checkpoints of other runs, with other settings, other data or of another version: {count}, {bytes} in all. \
             Nothing removes them: do so where none of these runs is to go on."
        );
        (n > 0).then_some(text)
    }
}

impl Checkpoint {
    /// The place of a run of this trainer on this data; one that keeps nothing where nobody asked for it.
    pub(crate) fn of(trainer: &dyn Trainer, data: &TrainingData<'_>, progress: &dyn TrainProgress) -> Self {
        let place = progress.checkpoints().map(|checkpoints| {
            let place = checkpoints.dir.join(name(trainer, data, env!("CARGO_PKG_VERSION")));
            checkpoints.own.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone());
            (place, checkpoints.every)
        });
        Self { place, last: Cell::new(Instant::now()) }
    }

    /// A place that keeps nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { place: None, last: Cell::new(Instant::now()) }
    }

    /// What an earlier run with the same settings and data has reached, if there was one: as many tables of as many rows as `shapes` says.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn reached(&self, shapes: &[(usize, usize)]) -> Result<Option<Reached>, TrainError> {
        let Some((dir, _)) = &self.place else { return Ok(None) };
        let damaged = |what: String| TrainError::Checkpoint { path: dir.clone(), what };
        whole_dir::recover(dir, KIND).map_err(|error| damaged(chain(&error)))?;
        let mark = dir.join(KIND.mark);
        if !mark.is_file() {
            return Ok(None);
        }
        let text = fs::read(&mark).map_err(|error| damaged(chain(&error)))?;
        let Mark { iterations, losses, notes, n_tables } =
            serde_json::from_slice(&text).map_err(|error| damaged(chain(&error)))?;
        let read = |at| npy::read_matrix(&dir.join(table(at))).map_err(|error| damaged(chain(&error)));
        let tables = (0..n_tables).map(read).collect::<Result<Vec<_>, _>>()?;
        let found = tables.iter().map(|table| (table.rows, table.cols));
        if iterations > 0 && !found.eq(shapes.iter().copied()) {
            return Err(damaged("tables of other shapes than this trainer's".to_owned()));
        }
        let losses = losses.into_iter().map(f64::from_bits).collect();
        Ok(Some(Reached { iterations, losses, notes, tables }))
    }

    /// As [`Checkpoint::reached`], for trainers that have nothing to keep before the first iteration.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn learned(&self, shapes: &[(usize, usize)]) -> Result<Option<Reached>, TrainError> {
        Ok(self.reached(shapes)?.filter(|reached| reached.iterations > 0))
    }

    /// Keeps what was reached, if the last time, or the beginning of the run, is long enough ago.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, reached: impl FnOnce() -> Reached) -> Result<(), TrainError> {
        let Some((dir, every)) = &self.place else { return Ok(()) };
        if self.last.get().elapsed() < *every {
            return Ok(());
        }
        let cannot = |what: String| TrainError::Checkpoint { path: dir.clone(), what };
        let Reached { iterations, losses, notes, tables } = reached();
        let losses = losses.into_iter().map(f64::to_bits).collect();
        let mark = Mark { iterations, losses, notes, n_tables: tables.len() };
        let text = serde_json::to_vec_pretty(&mark).map_err(|error| cannot(chain(&error)))?;
        whole_dir::write(dir, KIND, true, |partial| -> Result<(), Unkept> {
            for (at, matrix) in tables.iter().enumerate() {
                npy::write_matrix(&partial.join(table(at)), matrix).map_err(|error| Unkept(chain(&error)))?;
            }
            Ok(whole_dir::write_file(&partial.join(KIND.mark), |file| file.write_all(&text))?)
        })
        .map_err(|Unkept(what)| cannot(what))?;
        self.last.set(Instant::now());
        Ok(())
    }
}

/// Why something was not kept.
struct Unkept(String);

impl From<WholeDirError> for Unkept {
    fn from(error: WholeDirError) -> Self {
        Self(chain(&error))
    }
}

/// What is in a directory, as far as it can be read.
fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Bytes of the files in a directory.
fn size(dir: &Path) -> u64 {
    entries(dir).filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum()
}

/// What the directory of a run is called.
fn name(trainer: &dyn Trainer, data: &TrainingData<'_>, version: &str) -> String {
    let settings = trainer.parameters().to_string();
    // Users and items without interactions have rows in the tables too.
    let [n_users, n_items] = [data.n_users, data.n_items].map(|n| n.to_string());
    let hash = fingerprint::of_rows(data.interactions, &[&settings, &n_users, &n_items, version]);
    format!("{}-{hash}", trainer.name())
}

fn table(at: usize) -> String {
    format!("table-{at}.npy")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dataset::Interactions;
    use crate::train::als::Als;
    use crate::train::bpr::Bpr;
    use crate::train::slist::Slist;
    use crate::train::softmax::Softmax;

    /// Stops a run after so many questions whether to stop.
    struct Stopping {
        checkpoints: Option<Checkpoints>,
        left: AtomicUsize,
    }

    impl TrainProgress for Stopping {
        fn step(&self, _: &str, _: u64, _: u64) {}

        fn cancelled(&self) -> bool {
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        }

        fn checkpoints(&self) -> Option<&Checkpoints> {
            self.checkpoints.as_ref()
        }
    }

    fn log() -> Interactions {
        let mut log = Interactions::default();
        for user in 0..80_u32 {
            for step in 0..6_u32 {
                log.push(user, user % 4 * 5 + (user / 4 + step * step) % 5, 0, 1.0, i64::from(step));
            }
        }
        log
    }

    #[test]
    fn a_run_that_was_stopped_ends_as_one_that_was_not() {
        let log = log();
        let data = TrainingData { interactions: &log, n_users: 80, n_items: 21 };
        let trainers: [Box<dyn Trainer>; 5] = [
            Box::new(Als { factors: 6, iterations: 9, tolerance: 0.0, ..Als::default() }),
            Box::new(Softmax { factors: 6, epochs: Some(5), batch: 64, ..Softmax::default() }),
            // Its settings are chosen on held-back interactions, and not chosen again.
            Box::new(Softmax { factors: 6, history: 5, ..Softmax::default() }),
            Box::new(Bpr { factors: 6, epochs: 9, ..Bpr::default() }),
            Box::new(Slist { factors: 6, passes: 4, ..Slist::default() }),
        ];
        for trainer in trainers {
            let root = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::below(&root.path().join("c"), Duration::ZERO);
            let run = |left: usize, checkpoints: Option<Checkpoints>| {
                let left = AtomicUsize::new(left);
                let progress = Stopping { checkpoints, left };
                let factors = trainer.train(&data, &progress);
                (factors, usize::MAX - progress.left.into_inner())
            };
            let (whole, questions) = run(usize::MAX, None);
            let (mut stops, mut asked) = (0, 0);
            let gone_on = loop {
                // More at each try, so that each gets a step further.
                let (factors, _) = run(asked, Some(checkpoints.clone()));
                match factors {
                    Err(TrainError::Cancelled) => stops += 1,
                    other => break other.unwrap(),
                }
                asked += questions.div_ceil(6);
            };
            assert!(stops >= 3, "{} was stopped {stops} times", trainer.name());
            assert!(gone_on == whole.unwrap(), "{}", trainer.name());
            let (_, asked_at_the_end) = run(usize::MAX, Some(checkpoints.clone()));
            assert!(asked_at_the_end * 2 <= questions, "{}: {asked_at_the_end} of {questions}", trainer.name());
            checkpoints.remove().unwrap();
            assert!(!root.path().join("c").exists() && checkpoints.others().is_none());
        }
    }

    #[test]
    fn what_lost_its_name_in_a_kill_is_taken_up_and_what_another_version_kept_is_not() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::below(root.path(), Duration::ZERO);
        let progress = Stopping { checkpoints: Some(checkpoints), left: AtomicUsize::new(usize::MAX) };
        let (als, log) = (Als::default(), log());
        let data = TrainingData { interactions: &log, n_users: 80, n_items: 21 };
        let tables = vec![Matrix::from_vec(1, 2, vec![1.0, 2.0]).unwrap()];
        let kept = Reached { iterations: 2, losses: vec![0.5, 0.25], tables, ..Reached::default() };
        Checkpoint::of(&als, &data, &progress).keep(|| kept.clone()).unwrap();
        let reached = || Checkpoint::of(&als, &data, &progress).reached(&[(1, 2)]).unwrap();
        let name_now = name(&als, &data, env!("CARGO_PKG_VERSION"));
        let (place, aside) = (root.path().join(&name_now), root.path().join(format!("{name_now}.replaced")));
        // A kill in the middle of keeping what was reached next.
        fs::rename(&place, aside).unwrap();
        assert_eq!(reached(), Some(kept));
        fs::rename(&place, root.path().join(name(&als, &data, "0.0.1"))).unwrap();
        assert_eq!(reached(), None);
    }

    #[test]
    fn users_who_only_came_later_make_another_run() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::below(root.path(), Duration::ZERO);
        let progress = Stopping { checkpoints: Some(checkpoints), left: AtomicUsize::new(usize::MAX) };
        let (als, log) = (Als { factors: 4, iterations: 3, ..Als::default() }, log());
        for n_users in [80, 90] {
            als.train(&TrainingData { interactions: &log, n_users, n_items: 21 }, &progress).unwrap();
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }

    #[test]
    fn other_data_is_another_run_and_damage_is_told() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::below(root.path(), Duration::ZERO);
        let progress = Stopping { checkpoints: Some(checkpoints.clone()), left: AtomicUsize::new(usize::MAX) };
        let als = Als { factors: 4, iterations: 3, ..Als::default() };
        let (one, mut other) = (log(), log());
        other.item[0] = 20;
        for log in [&one, &other] {
            als.train(&TrainingData { interactions: log, n_users: 80, n_items: 21 }, &progress).unwrap();
        }
        let places: Vec<_> = fs::read_dir(root.path()).unwrap().map(|one| one.unwrap().path()).collect();
        assert_eq!(places.len(), 2);
        let whole = fs::read(places[0].join("table-0.npy")).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"nonsense"] {
            places.iter().for_each(|place| fs::write(place.join("table-0.npy"), damaged).unwrap());
            let again = als.train(&TrainingData { interactions: &one, n_users: 80, n_items: 21 }, &progress);
            let error = again.unwrap_err().to_string();
            assert!(error.contains("als-") && error.contains("remove it"), "{error}");
        }
        for place in &places {
            let nothing = r#"{ "iterations": 0, "losses": [], "notes": null, "n_tables": 0 }"#;
            fs::write(place.join(KIND.mark), nothing).unwrap();
        }
        assert!(als.train(&TrainingData { interactions: &one, n_users: 80, n_items: 21 }, &progress).is_ok());
        fs::write(root.path().join("mine.txt"), "kept").unwrap();
        fs::create_dir(root.path().join("mine.partial")).unwrap();
        fs::create_dir(places[0].with_extension("partial")).unwrap();
        // What another command has kept in the same directory, and what is only called as if it were kept.
        for (name, file) in [("als-00000000000000aa", KIND.mark), ("photos-0123456789abcdef", "beach.png")] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(file), "{}").unwrap();
        }
        checkpoints.remove().unwrap();
        let told = checkpoints.others().unwrap();
        assert!(told.contains("other runs") && told.contains(": 1, 2 B in all"), "{told}");
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["als-00000000000000aa", "mine.partial", "mine.txt", "photos-0123456789abcdef"]);
    }
}

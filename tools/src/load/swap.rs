//! Swapping artifacts under load: CURRENT points at one generation and the other in turn, and the server is told to look.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kindred::artifact::{self, INDEX_FILE, MODEL_FILE, PARTIAL_SUFFIX, Publication, activate};
use serde::Serialize;

use super::connection::call;

/// A server verifies a whole artifact before it takes it.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What the name of a copy ends in.
const COPY: &str = "-copy";

/// Two generations to swap between. When dropped, CURRENT names the one it named before, and the copy is removed.
#[derive(Debug)]
pub struct Swapper {
    root: PathBuf,
    home: String,
    away: String,
}

/// What became of the swaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Swaps {
    /// Swaps that were asked for.
    pub asked: u32,
    /// Swaps that the server made.
    pub done: u32,
    /// What went wrong, the first time that it did.
    pub problem: Option<String>,
    /// Seconds of the longest one, from the publishing to the server's word that it serves the other.
    pub longest_s: f64,
}

impl Swapper {
    /// Takes the live generation below `root` and a copy of it, which is published if there is none yet. Where CURRENT names the copy that one
    /// who was killed has left behind, its original is taken, and is live again.
    ///
    /// # Errors
    /// Nothing is published there, the copy cannot be written, or another generation has its name.
    pub fn new(root: &Path) -> anyhow::Result<Self> {
        let live = artifact::current(root)?.generation;
        let home =
            live.strip_suffix(COPY).filter(|original| is_copy(root, original, &live)).unwrap_or(&live).to_owned();
        let away = format!("{home}{COPY}");
        let is_there = root.join(&away).is_dir();
        ensure!(
            !is_there || is_copy(root, &home, &away),
            "{away} is no copy of {home} to swap with: remove it, or give it another name"
        );
        // From here on the copy is ours, and removed whatever happens.
        let swapper = Self { root: root.to_owned(), home, away };
        if !is_there {
            copy(root, &root.join(&swapper.home), &swapper.away).context("publishing a copy to swap with")?;
        }
        activate(root, &swapper.home)?;
        Ok(swapper)
    }

    /// Swaps `count` times at even distances over `duration`, or until `stop`. Failures are counted, not returned.
    pub fn run(&self, address: SocketAddr, count: u32, duration: Duration, stop: &AtomicBool) -> Swaps {
        let (started, every) = (Instant::now(), duration / count.saturating_add(1));
        let mut swaps = Swaps::default();
        for number in 1..=count {
            wait(started, every * number, stop);
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.one(address, number, &mut swaps);
        }
        swaps
    }

    /// Swaps once, after a while, to the copy when `number` is odd and back when it is even.
    pub fn once(&self, address: SocketAddr, number: u32, after: Duration, stop: &AtomicBool) -> Swaps {
        let mut swaps = Swaps::default();
        wait(Instant::now(), after, stop);
        self.one(address, number, &mut swaps);
        swaps
    }

    fn one(&self, address: SocketAddr, number: u32, swaps: &mut Swaps) {
        let begun = Instant::now();
        swaps.asked += 1;
        match self.swap(address, if number % 2 == 1 { &self.away } else { &self.home }) {
            Ok(()) => swaps.done += 1,
            Err(error) => {
                swaps.problem.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        swaps.longest_s = swaps.longest_s.max(begun.elapsed().as_secs_f64());
    }

    fn swap(&self, address: SocketAddr, generation: &str) -> anyhow::Result<()> {
        activate(&self.root, generation)?;
        let (status, answer) =
            call(address, "POST", "/admin/reload", "", PATIENCE).context("asking the server to reload")?;
        // It may have seen the change by itself before it was told: then its answer is "unchanged", with the same name.
        let live = serde_json::from_str::<serde_json::Value>(&answer).unwrap_or_default();
        anyhow::ensure!(
            status == 200 && live.get("generation").and_then(serde_json::Value::as_str) == Some(generation),
            "/admin/reload answered {status}: {answer}"
        );
        Ok(())
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        // Best effort: both generations hold the same, so a failure here harms nobody. What was published meanwhile stays current.
        let elsewhere = artifact::current(&self.root).is_ok_and(|live| live.generation != self.away);
        let is_idle = elsewhere || activate(&self.root, &self.home).is_ok();
        // Its original may have been removed meanwhile, as an old one: what it held stays.
        if is_idle && is_copy(&self.root, &self.home, &self.away) {
            // Not by its own name, by which half of it would be taken for a generation.
            let doomed = self.root.join(format!("{}{PARTIAL_SUFFIX}", self.away));
            let _ = fs::rename(self.root.join(&self.away), &doomed).and_then(|()| fs::remove_dir_all(&doomed));
        }
    }
}

/// Whether a generation was copied from another by [`copy`]: the same files of the same time, under its own name. One that somebody has put aside by
/// copying its directory has the name of the original in it.
fn is_copy(root: &Path, original: &str, name: &str) -> bool {
    let manifest = |name: &str| artifact::read_manifest(&root.join(name));
    let (Ok(original), Ok(made)) = (manifest(original), manifest(name)) else { return false };
    made.generation == name && made.created_at == original.created_at && made.files == original.files
}

/// Sleeps until so long after `started`, or until `stop`.
fn wait(started: Instant, after: Duration, stop: &AtomicBool) {
    while started.elapsed() < after && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Publishes the same files and manifest under another name.
fn copy(root: &Path, directory: &Path, name: &str) -> anyhow::Result<()> {
    let manifest = artifact::read_manifest(directory)?;
    let mut publication = Publication::begin(root, name)?;
    for file in [INDEX_FILE, MODEL_FILE] {
        publication.write(file, |into| {
            io::copy(&mut File::open(directory.join(file))?, into)?;
            Ok(())
        })?;
    }
    publication.commit(manifest, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use kindred::testing::Fixture;

    #[test]
    fn the_live_generation_is_live_again_afterwards() {
        let root = tempfile::tempdir().unwrap();
        Fixture::shop().publish(root.path(), "g1");
        let live = || artifact::current(root.path()).unwrap().generation;
        let swapper = Swapper::new(root.path()).unwrap();
        assert_eq!(live(), "g1");
        // Nobody listens: the swap fails after CURRENT was changed, and says so.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let swaps = swapper.run(address, 1, Duration::ZERO, &AtomicBool::new(false));
        assert_eq!((swaps.asked, swaps.done, swaps.problem.is_some()), (1, 0, true));
        assert_eq!(live(), "g1-copy");
        // As many as can be asked for, and stopped before the first.
        assert_eq!(swapper.run(address, u32::MAX, Duration::ZERO, &AtomicBool::new(true)).asked, 0);
        drop(swapper);
        assert_eq!(live(), "g1");
        assert_eq!(artifact::generations(root.path()).unwrap(), ["g1"], "the copy is removed");
    }

    #[test]
    fn a_copy_that_was_left_behind_is_taken_for_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        Fixture::shop().publish(root, "g1");
        let killed = Swapper::new(root).unwrap();
        activate(root, &killed.away).unwrap();
        std::mem::forget(killed);
        drop(Swapper::new(root).unwrap());
        assert_eq!(artifact::current(root).unwrap().generation, "g1");
        assert_eq!(artifact::generations(root).unwrap(), ["g1"]);
        // A name says nothing: this one is nobody's copy.
        std::fs::create_dir(root.join("g1-copy")).unwrap();
        let refused = Swapper::new(root).unwrap_err().to_string();
        assert!(refused.contains("g1-copy is no copy of g1"), "{refused}");
        assert!(root.join("g1-copy").is_dir());
        // Nor is what somebody has put aside ours to remove.
        for entry in std::fs::read_dir(root.join("g1")).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, root.join("g1-copy").join(from.file_name().unwrap())).unwrap();
        }
        assert!(Swapper::new(root).unwrap_err().to_string().contains("g1-copy is no copy of g1"));
        assert!(artifact::read_manifest(&root.join("g1-copy")).is_ok());
    }

    #[test]
    fn what_was_published_meanwhile_stays_current() {
        let root = tempfile::tempdir().unwrap();
        Fixture::shop().publish(root.path(), "g1");
        let swapper = Swapper::new(root.path()).unwrap();
        Fixture::shop().publish(root.path(), "g2");
        drop(swapper);
        assert_eq!(artifact::current(root.path()).unwrap().generation, "g2");
        assert_eq!(artifact::generations(root.path()).unwrap(), ["g1", "g2"]);
    }

    #[test]
    fn the_copy_of_what_was_removed_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        Fixture::shop().publish(root.path(), "g1");
        let swapper = Swapper::new(root.path()).unwrap();
        Fixture::shop().publish(root.path(), "g2");
        std::fs::remove_dir_all(root.path().join("g1")).unwrap();
        drop(swapper);
        assert!(root.path().join("g1-copy").is_dir());
    }
}

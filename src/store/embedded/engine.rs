//! The engine (fjall, a log-structured merge tree): its keyspaces, how it is set, and transactions on them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fjall::compaction::Leveled;
use fjall::config::PinningPolicy;
use fjall::{
    AbstractTree, Database, Error, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot,
};

use super::keys;

/// What the engine answers.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// MiB of one keyspace's changes in memory before they are written as a segment: [`Engine::committed`] sees to it.
const MEMORY_MB: u64 = 2;
/// KiB of them that are written when they have gathered for [`GATHERED`]: memory is level also where little comes, and a start has little to replay.
const MEMORY_LEAST_KB: u64 = 512;
const GATHERED: Duration = Duration::from_secs(10);
/// The same, where segments are written and merged more slowly than changes come: then commits wait.
const BEHIND_MB: u64 = 32;
/// The same, for the engine itself: never reached. It would ask its thread anew with every commit, and that thread, asking itself for the next
/// step, would wait for ever once a thousand questions are waiting.
const ENGINE_MEMORY_MB: u64 = 64;
/// MiB of a merged segment. Small, because commits wait while one is synced.
const SEGMENT_MB: u64 = 8;
/// MiB of journals before the changes in the oldest are written as segments. The smallest that the engine takes, so that little is to be replayed at
/// a start.
const JOURNAL_MB: u64 = 64;
/// Threads that write and merge segments. With two or more the first hands every merge on, and spins while the others are busy.
const WORKERS: usize = 1;

/// Segments whose files are held open. The engine's own number, 900, and two thirds of the files for connections are more than the 1,024 that a process
/// may often have open, and a store that can open no more stops writing.
const FILES_MAX: usize = 256;

/// An open database with its keyspaces.
pub(super) struct Engine {
    database: Database,
    pub(super) spaces: Spaces,
    /// When each keyspace, in the order of [`Spaces::all`], began to gather what it has in memory.
    since: Mutex<[Instant; Spaces::COUNT]>,
}

/// The keyspaces; see [`super::file`] for what is in them.
pub(super) struct Spaces {
    pub(super) log: Keyspace,
    pub(super) actors: Keyspace,
    pub(super) ids: Keyspace,
    pub(super) documents: Keyspace,
    pub(super) meta: Keyspace,
}

impl Spaces {
    const COUNT: usize = 5;

    pub(super) fn all(&self) -> [&Keyspace; Self::COUNT] {
        [&self.log, &self.actors, &self.ids, &self.documents, &self.meta]
    }
}

impl Engine {
    /// Opens the database in a directory, or makes one.
    pub(super) fn open(directory: &Path, cache_mb: usize) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size((cache_mb as u64) << 20)
            .max_journaling_size(JOURNAL_MB << 20)
            .max_cached_files(Some(FILES_MAX))
            .worker_threads(WORKERS)
            .open()?;
        let options = || {
            let levels = Leveled::default().with_table_target_size(SEGMENT_MB << 20);
            KeyspaceCreateOptions::default()
                .max_memtable_size(ENGINE_MEMORY_MB << 20)
                // Else what says where the blocks of the upper levels are would stay beside the cache and grow with what is stored.
                .index_block_pinning_policy(PinningPolicy::all(false))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .compaction_strategy(Arc::new(levels))
        };
        let space = |name| database.keyspace(name, options);
        let spaces = Spaces {
            log: space("interactions")?,
            actors: space("actors")?,
            ids: space("ids")?,
            documents: space("documents")?,
            meta: space("meta")?,
        };
        Ok(Self { database, spaces, since: Mutex::new([Instant::now(); Spaces::COUNT]) })
    }

    /// Everything as of the last commit.
    pub(super) fn view(&self) -> View<'_> {
        View { spaces: &self.spaces, snapshot: self.database.snapshot() }
    }

    /// Changes that [`Transaction::commit`] will apply all at once.
    pub(super) fn begin(&self) -> Transaction<'_> {
        Transaction { view: self.view(), batch: self.database.batch(), bytes: 0 }
    }

    /// Waits while segments are written and merged more slowly than changes come. The engine waits too, but later, in steps of 100 ms, and for
    /// ever once its threads have given up; this wait ends with the error then.
    pub(super) fn wait_for_room(&self) -> Result<()> {
        /// The engine halts at 30; a commit adds one at most.
        const RUNS_MAX: usize = 24;
        let behind = |space: &Keyspace| {
            space.tree.active_memtable().size() > BEHIND_MB << 20 || space.tree.l0_run_count() > RUNS_MAX
        };
        while self.spaces.all().into_iter().any(behind) {
            // What was too busy to be sealed by the commit that filled it.
            self.committed()?;
            self.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Called after each commit, has keyspaces write what they have in memory when it is much, or has been there for long. While one does, or waits
    /// for a merge to end, it gathers more: a merge of seconds holds no commit up.
    pub(super) fn committed(&self) -> Result<()> {
        self.seal(Instant::now())
    }

    fn seal(&self, now: Instant) -> Result<()> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        for (space, since) in self.spaces.all().into_iter().zip(since.iter_mut()) {
            let size = space.tree.active_memtable().size();
            let is_old = || size > MEMORY_LEAST_KB << 10 && now.saturating_duration_since(*since) > GATHERED;
            if space.sealed_memtable_count() == 0 && (size > MEMORY_MB << 20 || is_old()) {
                space.rotate_memtable()?;
                *since = now;
            }
        }
        Ok(())
    }

    /// Makes everything that was written survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }
}

/// All keyspaces at one moment.
pub(super) struct View<'e> {
    pub(super) spaces: &'e Spaces,
    pub(super) snapshot: Snapshot,
}

impl View<'_> {
    pub(super) fn get(&self, space: &Keyspace, key: &[u8]) -> Result<Option<fjall::UserValue>> {
        self.snapshot.get(space, key)
    }

    /// A number of the keyspace `meta`; none if it was never written.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.get(&self.spaces.meta, name.as_bytes())?.map(|bytes| keys::number(&bytes)))
    }
}

/// Changes on top of a [`View`], which does not see them.
pub(super) struct Transaction<'e> {
    pub(super) view: View<'e>,
    batch: OwnedWriteBatch,
    /// Bytes of keys and values so far.
    pub(super) bytes: u64,
}

impl<'e> Transaction<'e> {
    pub(super) fn spaces(&self) -> &'e Spaces {
        self.view.spaces
    }

    pub(super) fn insert(&mut self, space: &Keyspace, key: &[u8], value: &[u8]) {
        self.bytes += (key.len() + value.len()) as u64;
        self.batch.insert(space, key, value);
    }

    pub(super) fn remove(&mut self, space: &Keyspace, key: &[u8]) {
        self.bytes += key.len() as u64;
        self.batch.remove(space, key);
    }

    pub(super) fn set_number(&mut self, name: &str, number: u64) {
        self.insert(&self.view.spaces.meta, name.as_bytes(), &keys::sequence(number));
    }

    /// Applies everything or nothing. Without `synced` a power cut may undo it.
    pub(super) fn commit(self, synced: bool) -> Result<()> {
        self.batch.durability(Some(if synced { PersistMode::SyncData } else { PersistMode::Buffer })).commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_written_once_it_has_gathered_for_long_and_hardly_anything_never() {
        let place = tempfile::tempdir().unwrap();
        let engine = Engine::open(place.path(), 8).unwrap();
        let write = |bytes: usize| {
            let mut transaction = engine.begin();
            transaction.insert(&engine.spaces.log, &bytes.to_be_bytes(), &vec![7; bytes]);
            transaction.commit(false).unwrap();
        };
        let gathered = || engine.spaces.log.tree.active_memtable().size();
        let now = Instant::now();
        write(1_000);
        engine.seal(now + 2 * GATHERED).unwrap();
        assert!(gathered() >= 1_000);
        write((MEMORY_LEAST_KB as usize) << 10);
        engine.seal(now + GATHERED / 2).unwrap();
        assert!(gathered() > MEMORY_LEAST_KB << 10);
        engine.seal(now + 2 * GATHERED).unwrap();
        assert!(gathered() < 1_000, "{}", gathered());
    }

    #[test]
    fn what_is_gathered_in_memory_is_written_and_all_is_there_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let engine = Engine::open(place.path(), 8).unwrap();
        let value = vec![7; 100_000];
        for i in 0..200_u64 {
            engine.wait_for_room().unwrap();
            let mut transaction = engine.begin();
            transaction.insert(&engine.spaces.log, &i.to_be_bytes(), &value);
            transaction.set_number("next", i);
            transaction.commit(false).unwrap();
            engine.committed().unwrap();
        }
        let mut large = engine.begin();
        let many = || 0..(BEHIND_MB << 20) / 100_000 + 1;
        many().for_each(|i| large.insert(&engine.spaces.log, &(1_000 + i).to_be_bytes(), &value));
        large.commit(false).unwrap();
        // Nobody seals it before the next commit asks for room.
        engine.wait_for_room().unwrap();
        assert!(engine.spaces.log.tree.active_memtable().size() <= BEHIND_MB << 20);
        let began = Instant::now();
        while engine.spaces.log.tree.table_count() == 0 && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(engine.spaces.log.tree.table_count() > 0, "nothing was written from memory");
        drop(engine);
        let engine = Engine::open(place.path(), 8).unwrap();
        assert_eq!(engine.view().number("next").unwrap(), Some(199));
        for i in (0..200_u64).chain(many().map(|i| 1_000 + i)) {
            assert!(engine.view().get(&engine.spaces.log, &i.to_be_bytes()).unwrap().is_some());
        }
    }
}

//! The one thread that writes: take what waits, commit it together, tell the cache, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::StoreError;
use super::apply::Committed;
use super::retention::Pruned;
use super::{Change, Job, Outcome, Retention, Shared};
use crate::clock::EvenClock;
use crate::history::Incoming;
use crate::limits;

/// How often old interactions are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(5);

/// How often they are looked for where that fails.
const PRUNE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long after a failure the next change is the first one to be tried; those before it are refused at once.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The same at last, twice as long each time, where the engine gives up again and again although the disk works: opening it anew holds reads up, and
/// empties the caches.
const TRY_AGAIN_AT_LAST: Duration = Duration::from_secs(4);

/// An engine that gives up so soon after it was opened anew gives up again.
const RELAPSE: Duration = Duration::from_secs(10);

/// Where the outcome of a change goes.
type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    retention: Retention,
    now_ms: Box<dyn Fn() -> i64 + Send>,
    /// Whether that is the time, where it costs something to be wrong.
    clock: EvenClock,
    /// The last sequence when the store was opened.
    opened_at: u64,
    /// When old interactions are looked for next; never where all are kept.
    next_prune: Option<Instant>,
    /// Since when the disk fails, and how.
    broken: Option<(Instant, StoreError)>,
    /// How long after that the store is opened anew, and when it was last.
    again_after: Duration,
    opened: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: Receiver<Job>,
        retention: Retention,
        now_ms: Box<dyn Fn() -> i64 + Send>,
    ) -> Self {
        Self {
            clock: EvenClock::new(retention.clock_even_for),
            next_prune: (!retention.keeps_all()).then(|| Instant::now() + PRUNE_EVERY),
            broken: None,
            again_after: TRY_AGAIN_AFTER,
            opened: None,
            opened_at: shared.watermark.load(Ordering::Acquire),
            shared,
            jobs,
            retention,
            now_ms,
        }
    }

    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            let until_prune = |next: Instant| next.saturating_duration_since(Instant::now());
            let patience = match self.broken {
                Some(_) => self.again_after,
                None => self.next_prune.map_or(PRUNE_EVERY, until_prune),
            };
            match self.jobs.recv_timeout(patience) {
                Ok(first) => {
                    let group = self.collect(first);
                    self.commit(group);
                }
                Err(RecvTimeoutError::Timeout) => self.probe(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.prune();
        }
    }

    /// What is waiting now, up to a bound of changes and of time. While one group commits the next one gathers, so nobody waits for company.
    fn collect(&self, first: Job) -> Vec<Job> {
        let started = Instant::now();
        let mut count = first.size.count;
        let mut group = vec![first];
        while count < limits::COMMIT_CHANGES_MAX && started.elapsed() < limits::COMMIT_WINDOW {
            let Ok(job) = self.jobs.try_recv() else { break };
            count += job.size.count;
            group.push(job);
        }
        group
    }

    fn commit(&mut self, group: Vec<Job>) {
        let mut changes: Vec<Change> = Vec::with_capacity(group.len());
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            self.shared.leave(job.size);
            changes.push(job.change);
            answers.push(job.answer);
        }
        if let Some((since, error)) = self.broken.as_ref().filter(|(since, _)| since.elapsed() < self.again_after) {
            tracing::debug!(waiting = answers.len(), for_ms = since.elapsed().as_millis(), "refused without a try");
            return refuse(answers, error);
        }
        if let Err(error) = self.reopen() {
            refuse(answers, &error);
            return self.still_broken(error);
        }
        let mut answers = answers.into_iter();
        let mut outcome: Result<(), StoreError> = Ok(());
        let erases = |change: &Change| matches!(change, Change::Erase(..));
        for part in changes.chunk_by(|a, b| !erases(a) && !erases(b)) {
            let answers = answers.by_ref().take(part.len()).collect();
            outcome = match outcome {
                Ok(()) => self.commit_part(part, answers),
                Err(error) => {
                    refuse(answers, &error);
                    Err(error)
                }
            };
        }
    }

    /// Commits changes in one transaction, and answers; an error where the engine takes nothing more.
    fn commit_part(&mut self, changes: &[Change], answers: Vec<Answer>) -> Result<(), StoreError> {
        let started = Instant::now();
        let committed = self.shared.file.commit(changes, (self.now_ms)());
        if let Some(told) = self.shared.on_commit.get() {
            told(started.elapsed());
        }
        let error = match committed {
            Ok(committed) => {
                self.mended();
                self.publish(committed, answers);
                return Ok(());
            }
            Err(error) => error,
        };
        self.doubt(changes);
        tracing::error!(%error, waiting = answers.len(), "changes were not stored");
        let goes_on = self.takes_more().is_ok();
        if goes_on {
            self.mended();
        } else {
            self.still_broken(error.clone());
        }
        refuse(answers, &error);
        if goes_on { Ok(()) } else { Err(error) }
    }

    /// Whether the engine takes changes, after an error. Where it takes nothing more it says so; a block that cannot be read is no reason to refuse
    /// what needs another.
    fn takes_more(&self) -> Result<(), StoreError> {
        self.shared.file.commit(&[], (self.now_ms)()).map(drop)
    }

    /// After a failed commit nobody knows whether it is on the disk, so nothing that is cached of those it touched may be believed.
    fn doubt(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Append(batch) => batch
                    .iter()
                    .flat_map(Incoming::actors)
                    .for_each(|actor| self.shared.cache.forget(actor.as_str().to_owned())),
                Change::Erase(..) => self.shared.cache.clear(),
                Change::Write(_) => {}
            }
        }
    }

    /// The engine takes nothing more after an error of the disk, but reads go on: the store is opened anew before the next try.
    fn still_broken(&mut self, error: StoreError) {
        let gave_up = matches!(error, StoreError::GaveUp { .. });
        let is_again = gave_up && self.opened.is_some_and(|at| at.elapsed() < RELAPSE);
        self.again_after = if is_again { (2 * self.again_after).min(TRY_AGAIN_AT_LAST) } else { TRY_AGAIN_AFTER };
        self.shared.set_failure(Some(error.clone()));
        self.broken = Some((Instant::now(), error));
    }

    /// Opens the store anew if it is broken. What a failed commit left in the journal is applied then, so nothing cached may be believed.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.broken.is_some() {
            self.shared.file.reopen()?;
            self.opened = Some(Instant::now());
            self.shared.cache.clear();
        }
        Ok(())
    }

    fn mended(&mut self) {
        if self.broken.take().is_some() {
            tracing::info!("the store takes changes again");
            self.shared.set_failure(None);
        }
    }

    /// While the disk fails and nobody writes: a commit of nothing shows whether it works again.
    fn probe(&mut self) {
        if self.broken.is_none() {
            return;
        }
        match self.reopen().and_then(|()| self.takes_more()) {
            Ok(()) => self.mended(),
            Err(error) => self.still_broken(error),
        }
    }

    /// Readers learn of the commit before those who asked for it: what was acknowledged is in the next look-up.
    fn publish(&self, committed: Committed, answers: Vec<Answer>) {
        for (actor, new) in committed.changed {
            self.shared.cache.committed(actor, new);
        }
        // After the additions: a list made of them may hold what an erasure of the same group removed.
        for actor in committed.gone {
            self.shared.cache.forget(actor);
        }
        for (outcome, answer) in committed.outcomes.into_iter().zip(answers) {
            match &outcome {
                Ok(Outcome::Appended(ack)) => {
                    self.shared.watermark.store(ack.watermark, Ordering::Release);
                    self.shared.committed.fetch_add(u64::from(ack.accepted), Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "interactions were not stored, the others of their group were"),
            }
            // A caller that has gone away is no reason to stop.
            let _ = answer.send(outcome);
        }
    }

    /// Removes a bounded number of interactions beyond the retention; a full load is followed by another soon.
    fn prune(&mut self) {
        if self.broken.is_some() || self.next_prune.is_none_or(|next| Instant::now() < next) {
            return;
        }
        let after = match self.prune_some() {
            Ok(pruned) => {
                pruned.gone.into_iter().for_each(|actor| self.shared.cache.forget(actor));
                self.shared.pruned.fetch_add(pruned.removed, Ordering::Relaxed);
                if pruned.more { Duration::from_millis(20) } else { PRUNE_EVERY }
            }
            Err(error) => {
                tracing::error!(%error, "old interactions were not removed");
                // A part of them may be.
                self.shared.cache.clear();
                if let Err(error) = self.takes_more() {
                    self.still_broken(error);
                }
                PRUNE_AGAIN_AFTER
            }
        };
        self.next_prune = Some(Instant::now() + after);
    }

    /// Some of what is too much, and of what is too old, if the clock can be believed or the log bears it out.
    fn prune_some(&mut self) -> Result<Pruned, StoreError> {
        let (now_ms, file) = ((self.now_ms)(), &self.shared.file);
        let Retention { all_ms, kinds_ms, clock_even_for, .. } = &self.retention;
        let by_age = all_ms.is_some() || !kinds_ms.is_empty();
        // A log that cannot be read bears nothing out, and is no reason to keep more than there is room for.
        let bears_out = || file.bears_out(now_ms, *clock_even_for, self.opened_at).unwrap_or(false);
        let is_believed = self.clock.believed(now_ms).is_some() || (by_age && bears_out());
        file.prune(&self.retention, is_believed.then_some(now_ms), limits::PRUNE_INTERACTIONS_MAX)
    }
}

fn refuse(answers: Vec<Answer>, error: &StoreError) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::sync_channel;

    use super::super::disk::{DiskOperation, Faults};
    use super::super::file::File;
    use super::super::keys;
    use super::super::tests::{damage, incoming};
    use super::*;
    use crate::history::Actor;

    /// A disk that cannot be read from some moment on.
    #[derive(Debug, Default)]
    struct Unreadable(AtomicBool);

    impl Faults for Unreadable {
        fn before(&self, operation: DiskOperation) -> io::Result<()> {
            let fails = operation == DiskOperation::Read && self.0.load(Ordering::SeqCst);
            if fails { Err(io::Error::other("a block is damaged")) } else { Ok(()) }
        }
    }

    fn writer(file: File, retention: Retention) -> Writer {
        let shared = Arc::new(Shared::new(file, 1, 5).unwrap());
        let (_sender, jobs) = sync_channel(1);
        Writer::new(shared, jobs, retention, Box::new(|| 1_000_000))
    }

    #[test]
    fn old_interactions_that_cannot_be_read_are_no_reason_to_refuse_changes() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(Unreadable::default());
        let faults = Arc::clone(&disk) as Arc<dyn Faults>;
        let file = File::open(&directory.path().join("h"), 4, Some(faults)).unwrap();
        let mut writer = writer(file, Retention { all_ms: Some(1), ..Retention::default() });
        writer.next_prune = Some(Instant::now());
        disk.0.store(true, Ordering::SeqCst);
        writer.prune();
        assert!(writer.next_prune > Some(Instant::now()), "it was tried");
        assert!(writer.broken.is_none(), "{:?}", writer.broken);
    }

    #[test]
    fn a_store_that_has_just_been_opened_removes_what_is_old_where_its_log_bears_the_clock_out() {
        // The clock says 1,000 s, and has to go evenly for 100.
        // In the last case the clock was ahead before, was set right, and is ahead again.
        for (last_but_one_s, last_s, left) in [(850, 990, 2), (950, 990, 4), (750, 990, 4), (850, 700, 4)] {
            let directory = tempfile::tempdir().unwrap();
            let file = File::open(&directory.path().join("h"), 4, None).unwrap();
            for arrived_s in [1, 300, last_but_one_s, last_s] {
                file.commit(&[Change::Append(vec![incoming("a", "x", 1, None)])], 1_000 * arrived_s).unwrap();
            }
            let clock_even_for = Duration::from_secs(100);
            let retention = Retention { all_ms: Some(500_000), clock_even_for, ..Retention::default() };
            let mut writer = writer(file, retention);
            writer.next_prune = Some(Instant::now());
            writer.prune();
            let found = writer.shared.file.log(0, 10).unwrap().len();
            assert_eq!(found, left, "the last arrived at {last_but_one_s} and {last_s} s");
        }
    }

    #[test]
    fn more_than_one_step_removes_goes_soon_also_where_nothing_comes() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(&directory.path().join("h"), 4, None).unwrap();
        let count = 2 * limits::PRUNE_INTERACTIONS_MAX + 1;
        let many = (0..count).map(|_| incoming("a", "x", 1, None)).collect();
        file.commit(&[Change::Append(many)], 1_000).unwrap();
        let shared = Arc::new(Shared::new(file, 1, 5).unwrap());
        let (sender, jobs) = sync_channel(1);
        let retention = Retention { all_ms: Some(1), ..Retention::default() };
        let mut writer = Writer::new(Arc::clone(&shared), jobs, retention, Box::new(|| 1_000_000));
        writer.next_prune = Some(Instant::now());
        let (thread, began) = (std::thread::spawn(move || writer.run()), Instant::now());
        let pruned = || shared.pruned.load(Ordering::Relaxed);
        while pruned() < count as u64 && began.elapsed() < PRUNE_EVERY {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(pruned(), count as u64);
        drop(sender);
        thread.join().unwrap();
    }

    #[test]
    fn an_engine_that_gives_up_again_and_again_is_opened_anew_less_often() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(&directory.path().join("h"), 4, None).unwrap();
        let gave_up = file.failed("committing", fjall::Error::Poisoned);
        let said = gave_up.to_string();
        assert!(said.contains("fjall") && said.contains("kindred fsck") && said.contains("kindred restore"), "{said}");
        let mut writer = writer(file, Retention::default());
        let mut waits = Vec::new();
        for _ in 0..6 {
            writer.still_broken(gave_up.clone());
            waits.push(writer.again_after.as_millis());
            writer.reopen().unwrap();
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 4_000]);
        writer.still_broken(writer.shared.file.failed("committing", io::Error::other("the disk fails").into()));
        assert_eq!(writer.again_after, TRY_AGAIN_AFTER, "a disk that fails is tried as often as before");
    }

    #[test]
    fn a_change_that_meets_a_damaged_block_fails_alone() {
        let sent_again = Change::Append(vec![incoming("b", "x", 2, None), incoming("gone", "x", 2, Some("sent"))]);
        let erased = Change::Erase(vec![Actor::user("gone")], Vec::new());
        let id = keys::id("sent");
        for (change, damaged) in [(erased, &b"damaged-item"[..]), (sent_again, &id[..])] {
            let directory = tempfile::tempdir().unwrap();
            let file = File::open(&directory.path().join("h"), 4, None).unwrap();
            let stored = incoming("gone", "damaged-item", 1, Some("sent"));
            file.commit(&[Change::Append(vec![stored])], 1_000).unwrap();
            // A copy lies in segments, and nothing of it in memory.
            let path = file.back_up().unwrap().path;
            let mut writer = writer(File::existing(&path, 4, None).unwrap(), Retention::default());
            damage(&path, damaged);
            let append = |user: &str| Change::Append(vec![incoming(user, "x", 2, None)]);
            let (mut group, mut answers) = (Vec::new(), Vec::new());
            for change in [append("a"), change, append("b")] {
                let (answer, receiver) = oneshot::channel();
                group.push(Job { size: change.size(), change, answer });
                answers.push(receiver);
            }
            writer.commit(group);
            let done: Vec<bool> = answers.into_iter().map(|answer| answer.blocking_recv().unwrap().is_ok()).collect();
            assert_eq!(done, [true, false, true]);
            assert!(writer.broken.is_none(), "{:?}", writer.broken);
            let kept = |user: &str| writer.shared.file.recent(Actor::user(user).as_str(), None, 5).unwrap().len();
            assert_eq!((kept("a"), kept("b")), (1, 1));
        }
    }
}

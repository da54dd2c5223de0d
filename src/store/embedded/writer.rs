//! The one thread that writes: take what waits, commit it together, tell the cache, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::StoreError;
use super::apply::Committed;
use super::{Change, Job, Outcome, Shared};
use crate::limits;

/// How often old interactions are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    retention_ms: Option<i64>,
    now_ms: Box<dyn Fn() -> i64 + Send>,
    next_prune: Instant,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: Receiver<Job>,
        retention_ms: Option<i64>,
        now_ms: Box<dyn Fn() -> i64 + Send>,
    ) -> Self {
        Self { shared, jobs, retention_ms, now_ms, next_prune: Instant::now() + PRUNE_EVERY }
    }

    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(PRUNE_EVERY) {
                Ok(first) => {
                    let group = self.collect(first);
                    self.commit(group);
                }
                Err(RecvTimeoutError::Timeout) => {}
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

    fn commit(&self, group: Vec<Job>) {
        let mut changes: Vec<Change> = Vec::with_capacity(group.len());
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            self.shared.leave(job.size);
            changes.push(job.change);
            answers.push(job.answer);
        }
        let started = Instant::now();
        let committed = self.shared.file.commit(&changes, (self.now_ms)());
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.commit_nanos.fetch_add(nanos, Ordering::Relaxed);
        match committed {
            Ok(committed) => self.publish(committed, answers),
            Err(error) => self.refuse(answers, &error),
        }
    }

    /// Readers learn of the commit before those who asked for it: what was acknowledged is in the next look-up.
    fn publish(&self, committed: Committed, answers: Vec<oneshot::Sender<Result<Outcome, StoreError>>>) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.set_failure(None);
        for (actor, (new, fresh)) in committed.changed {
            self.shared.cache.committed(actor, new, fresh);
        }
        // After the additions: a list made of them may hold what an erasure of the same group removed.
        for actor in committed.gone {
            self.shared.cache.forget(actor);
        }
        for (outcome, answer) in committed.outcomes.into_iter().zip(answers) {
            if let Outcome::Appended(ack) = outcome {
                self.shared.watermark.store(ack.watermark, Ordering::Release);
                self.shared.committed.fetch_add(u64::from(ack.accepted), Ordering::Relaxed);
            }
            // A caller that has gone away is no reason to stop.
            let _ = answer.send(Ok(outcome));
        }
    }

    fn refuse(&self, answers: Vec<oneshot::Sender<Result<Outcome, StoreError>>>, error: &StoreError) {
        tracing::error!(%error, waiting = answers.len(), "changes were not stored");
        self.shared.set_failure(Some(error.clone()));
        for answer in answers {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// Removes a bounded number of interactions beyond the retention; a full load is followed by another soon.
    fn prune(&mut self) {
        let Some(retention_ms) = self.retention_ms else { return };
        if Instant::now() < self.next_prune {
            return;
        }
        let before_ms = (self.now_ms)().saturating_sub(retention_ms);
        match self.shared.file.prune(before_ms, limits::PRUNE_INTERACTIONS_MAX) {
            Ok((removed, gone)) => {
                gone.into_iter().for_each(|actor| self.shared.cache.forget(actor));
                self.shared.pruned.fetch_add(removed, Ordering::Relaxed);
                let more = removed == limits::PRUNE_INTERACTIONS_MAX as u64;
                self.next_prune = Instant::now() + if more { Duration::from_millis(100) } else { PRUNE_EVERY };
            }
            Err(error) => {
                tracing::error!(%error, "old interactions were not removed");
                self.next_prune = Instant::now() + Duration::from_secs(60);
            }
        }
    }
}

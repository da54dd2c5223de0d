//! The one thread that writes: take what waits, commit it together, tell the cache, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::{Ack, HistoryError, Incoming};
use super::{Job, Shared};
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

    /// What is waiting now, up to a bound of interactions and of time. While one group commits the next one gathers, so nobody waits
    /// for company.
    fn collect(&self, first: Job) -> Vec<Job> {
        let started = Instant::now();
        let mut count = first.batch.len();
        let mut group = vec![first];
        while count < limits::COMMIT_INTERACTIONS_MAX && started.elapsed() < limits::COMMIT_WINDOW {
            let Ok(job) = self.jobs.try_recv() else { break };
            count += job.batch.len();
            group.push(job);
        }
        group
    }

    fn commit(&self, group: Vec<Job>) {
        let mut all: Vec<Incoming> = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for mut job in group {
            answers.push((job.batch.len(), job.answer));
            all.append(&mut job.batch);
        }
        let started = Instant::now();
        let outcome = self.shared.store.commit(&all, (self.now_ms)());
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.queued.fetch_sub(all.len() as u64, Ordering::AcqRel);
        self.shared.commit_nanos.fetch_add(nanos, Ordering::Relaxed);
        match outcome {
            Ok(committed) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                let accepted = committed.accepted.iter().filter(|accepted| **accepted).count() as u64;
                self.shared.committed.fetch_add(accepted, Ordering::Relaxed);
                self.shared.set_failure(None);
                for (actor, (new, fresh)) in committed.changed {
                    self.shared.cache_committed(actor, new, fresh);
                }
                let mut verdicts = committed.accepted.into_iter();
                for (count, answer) in answers {
                    // A caller that has gone away is no reason to stop.
                    let _ = answer.send(Ok(ack(verdicts.by_ref().take(count))));
                }
            }
            Err(error) => self.refuse(answers, &error),
        }
    }

    fn refuse(
        &self,
        answers: Vec<(usize, tokio::sync::oneshot::Sender<Result<Ack, HistoryError>>)>,
        error: &HistoryError,
    ) {
        tracing::error!(%error, waiting = answers.len(), "interactions were not stored");
        self.shared.set_failure(Some(error.clone()));
        for (_, answer) in answers {
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
        match self.shared.store.prune(before_ms, limits::PRUNE_INTERACTIONS_MAX) {
            Ok(removed) => {
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

fn ack(verdicts: impl Iterator<Item = bool>) -> Ack {
    let mut ack = Ack::default();
    for accepted in verdicts {
        if accepted {
            ack.accepted += 1;
        } else {
            ack.duplicates += 1;
        }
    }
    ack
}

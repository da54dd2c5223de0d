//! How long each stage of one request took.

use std::time::{Duration, Instant};

use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::state::State;
use crate::recommend::Stage;
use crate::telemetry::{Metrics, RequestStage};

/// Microseconds of each stage.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct StageTimes {
    /// Waiting for a turn on a worker.
    pub(crate) queue: f64,
    /// Bytes to a checked request.
    pub(crate) parse: f64,
    /// Fetching stored interactions.
    pub(crate) gather: f64,
    /// Interactions to a user vector.
    pub(crate) user_vector: f64,
    /// Seen, excluded and filtered items.
    pub(crate) filter: f64,
    /// Neighbours of recent items.
    pub(crate) neighbours: f64,
    /// The index search.
    pub(crate) search: f64,
    /// Exact scores, order, cut.
    pub(crate) rank: f64,
}

impl StageTimes {
    /// Each stage by its name, in the order of a request.
    pub(crate) fn in_order(&self) -> [(&'static str, f64); 8] {
        [
            (RequestStage::Queue, self.queue),
            (RequestStage::Parse, self.parse),
            (RequestStage::Gather, self.gather),
            (RequestStage::UserVector, self.user_vector),
            (RequestStage::Filter, self.filter),
            (RequestStage::Neighbours, self.neighbours),
            (RequestStage::Search, self.search),
            (RequestStage::Rank, self.rank),
        ]
        .map(|(stage, us)| (stage.name(), us))
    }
}

/// Times stages in the order in which they end.
pub(super) struct Stopwatch {
    started: Instant,
    last: Instant,
    laps: [Duration; RequestStage::ALL.len()],
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let started = Instant::now();
        Self { started, last: started, laps: [Duration::ZERO; RequestStage::ALL.len()] }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Ends a stage now.
    pub(super) fn lap(&mut self, stage: RequestStage) {
        let now = Instant::now();
        if let Some(lap) = self.laps.get_mut(stage as usize) {
            *lap += now - self.last;
        }
        self.last = now;
    }

    /// Microseconds since the start.
    pub(super) fn total_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The stages so far.
    pub(super) fn times(&self) -> StageTimes {
        let us = |stage: RequestStage| self.laps.get(stage as usize).map_or(0.0, |lap| lap.as_nanos() as f64 / 1e3);
        StageTimes {
            queue: us(RequestStage::Queue),
            parse: us(RequestStage::Parse),
            gather: us(RequestStage::Gather),
            user_vector: us(RequestStage::UserVector),
            filter: us(RequestStage::Filter),
            neighbours: us(RequestStage::Neighbours),
            search: us(RequestStage::Search),
            rank: us(RequestStage::Rank),
        }
    }

    /// Counts a list of a scenario, or that there is none, and puts the stages beside it for traces and the log of slow requests, which are written
    /// where there is no stopwatch.
    pub(super) fn note(&self, state: &State, scenario: &str, answer: &mut Result<HttpResponse, Problem>) {
        let elapsed = self.started.elapsed();
        let failed = answer.as_ref().is_err_and(|problem| problem.status_code().is_server_error());
        state.metrics.scenario(scenario, elapsed, !failed);
        if (elapsed > state.slow_request || state.traces.are_on())
            && let Ok(answer) = answer
        {
            answer.extensions_mut().insert(self.times());
        }
    }

    /// Adds every stage to the histograms.
    pub(super) fn count(&self, metrics: &Metrics) {
        for stage in RequestStage::ALL {
            if let Some(lap) = self.laps.get(stage as usize) {
                metrics.stage(stage, *lap);
            }
        }
    }
}

impl From<Stage> for RequestStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::UserVector => Self::UserVector,
            Stage::Filter => Self::Filter,
            Stage::Neighbours => Self::Neighbours,
            Stage::Search => Self::Search,
            Stage::Rank => Self::Rank,
        }
    }
}

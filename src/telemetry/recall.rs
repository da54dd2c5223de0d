//! The recall of live searches, measured by repeating some exactly.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::metrics::register;
use crate::recommend::FilterShape;

/// Recall by scenario and by how many items a filter lets pass.
pub(crate) struct RecallMetrics {
    recall: GaugeVec,
    samples: IntCounterVec,
    level: IntGaugeVec,
    dropped: IntCounter,
}

impl RecallMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["scenario", "shape"];
        let recall =
            Opts::new("kindred_ann_recall", "share of the true nearest that live searches found, of the last so many");
        let samples = Opts::new("kindred_ann_recall_samples_total", "live searches repeated exactly");
        let level = Opts::new(
            "kindred_ann_recall_level",
            "how much broader than usual searches are because recall was low: 0 not at all, each level twice, 4 exact",
        );
        let dropped = "kindred_ann_recall_dropped_total";
        Ok(Self {
            recall: register(r, GaugeVec::new(recall, &labels)?)?,
            samples: register(r, IntCounterVec::new(samples, &labels)?)?,
            level: register(r, IntGaugeVec::new(level, &labels)?)?,
            dropped: register(r, IntCounter::new(dropped, "live searches not repeated because too many waited")?)?,
        })
    }

    /// A search was repeated. Both labels come from the settings and the program, so there are few.
    pub(crate) fn measured(&self, scenario: &str, shape: FilterShape, recall: f64) {
        let labels = [scenario, shape.name()];
        self.recall.with_label_values(&labels).set(recall);
        self.samples.with_label_values(&labels).inc();
    }

    /// What was measured says nothing of the artifact that is live now.
    pub(crate) fn forgotten(&self) {
        self.recall.reset();
    }

    /// How broad searches are.
    pub(crate) fn level(&self, scenario: &str, shape: FilterShape, level: u8) {
        self.level.with_label_values(&[scenario, shape.name()]).set(i64::from(level));
    }

    /// A search was not repeated.
    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }
}

//! Job metrics: what waits, what is under way, and how it ends.
//!
//! For: `worker`, which counts; part of `metrics.rs`. May touch: nothing.
//! Promises: every label value comes from the enum of this file. Read next: `metrics.rs`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use super::raised::Raised;

/// Upper bounds of the wait for a worker, in seconds; it is known to the second.
const PICK_UP_BUCKETS_SECONDS: [f64; 9] = [0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// Upper bounds of the work on an item, in seconds.
const ITEM_BUCKETS_SECONDS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// How an attempt on an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The item was answered.
    Done,
    /// The item will not be answered.
    Dead,
    /// It failed, and the item waits again.
    Retried,
    /// The job had been cancelled.
    Cancelled,
    /// The worker was told to end, and gave the item back.
    GivenBack,
    /// The worker has gone without a word, or too late noticed that others thought so.
    Lost,
}

/// Every number about jobs. Cheap to clone: the handles share their numbers.
#[derive(Clone)]
pub struct JobMetrics {
    queued: IntGauge,
    running: IntGauge,
    attempts: IntCounterVec,
    pick_up_seconds: Histogram,
    item_seconds: Histogram,
}

impl AttemptOutcome {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Retried => "retried",
            Self::Cancelled => "cancelled",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}

impl JobMetrics {
    /// Registers them all.
    ///
    /// # Errors
    /// When two share a name, which is a programming error.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let metrics = Self {
            queued: IntGauge::new("backend_job_items_queued", "Queries of batches that wait, of all processes.")?,
            running: IntGauge::new("backend_job_items_running", "Queries of batches that this process answers now.")?,
            attempts: IntCounterVec::new(
                Opts::new(
                    "backend_job_attempts_total",
                    "Attempts by outcome: done, dead, retried, cancelled, given_back or lost.",
                ),
                &["outcome"],
            )?,
            pick_up_seconds: histogram(
                "backend_job_pick_up_seconds",
                "Time from when a query could have been taken to when it was, to the second.",
                &PICK_UP_BUCKETS_SECONDS,
            )?,
            item_seconds: histogram(
                "backend_job_item_seconds",
                "Time of one attempt on a query of a batch.",
                &ITEM_BUCKETS_SECONDS,
            )?,
        };
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.pick_up_seconds.clone()))?;
        registry.register(Box::new(metrics.item_seconds.clone()))?;
        Ok(metrics)
    }

    /// So many items wait.
    pub fn queued(&self, items: i64) {
        self.queued.set(items);
    }

    /// An item was taken after it had waited for so long; it is under way from now on.
    pub fn taken(&self, waited: Duration) -> Raised {
        self.pick_up_seconds.observe(waited.as_secs_f64());
        Raised::new(&self.running)
    }

    /// An attempt has taken so long.
    pub fn took(&self, took: Duration) {
        self.item_seconds.observe(took.as_secs_f64());
    }

    /// An attempt has ended.
    pub fn ended(&self, outcome: AttemptOutcome) {
        self.attempts.with_label_values(&[outcome.as_str()]).inc();
    }
}

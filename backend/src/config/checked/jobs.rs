//! Checked settings of batches and of the workers that answer them.
//!
//! For: `checked.rs`, of which this is a part. May touch: nothing. Promises: as `checked.rs`.
//! Read next: `worker/mod.rs`.

use std::time::Duration;

/// Batches, and the workers that answer them.
#[derive(Clone, Copy, Debug)]
pub struct Jobs {
    /// Queries of one batch.
    pub batch_max: usize,
    /// Queries that may wait, of everybody together.
    pub queued_max: u32,
    /// Queries of one user that have not ended.
    pub owner_max: u32,
    /// Queries that one worker answers at the same time.
    pub concurrency: usize,
    /// How often a query is tried.
    pub attempts_max: u32,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long to wait after the first attempt that failed.
    pub backoff: Duration,
    /// The longest wait between two attempts; not shorter than `backoff`.
    pub backoff_max: Duration,
    /// How long after a worker's last sign of life others take over.
    pub lease: Duration,
    /// How often a worker looks into the database for work that it has not heard of.
    pub poll: Duration,
    /// The longest answer that is kept, in bytes.
    pub answer_bytes_max: usize,
    /// How long finished jobs are kept.
    pub retention: Duration,
}

//! Raw keys of batches and of the workers that answer them.
//!
//! For: `raw.rs`, of which this is a part. May touch: nothing. Promises: as `raw.rs`. Read next: `../check/jobs.rs`.

use common::section;
use common::settings::{At, ByteSize, Millis};

section! {
    /// Batches, and the workers that answer them.
    pub(in crate::config) struct Jobs {
        /// Queries of one batch.
        pub(in crate::config) batch_max: At<u32> = "100",
        /// Queries that may wait, of everybody together; further batches are answered 503.
        pub(in crate::config) queued_max: At<u32> = "100000",
        /// Queries of one user that have not ended; further batches of theirs are answered 503.
        pub(in crate::config) owner_max: At<u32> = "10000",
        /// Queries that one worker answers at the same time.
        pub(in crate::config) concurrency: At<u32> = "4",
        /// How often a query is tried before it is given up; an attempt that ended with its worker counts.
        pub(in crate::config) attempts_max: At<u32> = "5",
        /// How long one attempt may take.
        pub(in crate::config) attempt_timeout: At<Millis> = "5m",
        /// How long to wait after the first attempt that failed; twice as long after each further one.
        pub(in crate::config) backoff: At<Millis> = "2s",
        /// The longest wait between two attempts.
        pub(in crate::config) backoff_max: At<Millis> = "5m",
        /// How long after the last sign of life of a worker others take over what it had.
        pub(in crate::config) lease: At<Millis> = "30s",
        /// How often a worker looks into the database for work that it has not heard of: without Redis, for all that of
        /// other processes.
        pub(in crate::config) poll: At<Millis> = "1s",
        /// The longest answer that is kept; what is beyond it is cut off.
        pub(in crate::config) answer_max: At<ByteSize> = "64KiB",
        /// How long finished jobs are kept.
        pub(in crate::config) retention: At<Millis> = "7d",
    }
}

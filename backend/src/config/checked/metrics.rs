//! Checked settings of the program's own numbers.
//!
//! For: `checked.rs`, of which this is a part. May touch: nothing. Promises: as `checked.rs`.
//! Read next: `worker/history.rs`.

use std::time::Duration;

/// What is kept of the numbers.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// How often each process keeps what it has counted.
    pub every: Duration,
    /// How long that is kept; not shorter than `every`.
    pub retention: Duration,
}

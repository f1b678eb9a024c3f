//! Now: the moment a request began, read once, so that all its stages agree.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Steady time, for limits and durations.
    pub steady_ns: u64,
    /// Calendar time, for tokens and calendar quotas.
    pub unix_seconds: u64,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { steady_ns: SystemClock.steady_ns(), unix_seconds: SystemClock.unix_seconds() }
    }

    /// The time since then.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(SystemClock.steady_ns().saturating_sub(self.steady_ns))
    }
}

/// Calendar time as certificates have it: seconds since the Unix epoch, which may lie before it.
pub(crate) fn unix_now() -> i64 {
    i64::try_from(SystemClock.unix_seconds()).unwrap_or(i64::MAX)
}

//! Clock: what time it is, in the two forms the programs need.
//!
//! For: calendar time for tokens and certificates, steady time for limits and waits, from one place, so that a test can
//! stand at any second it likes. May touch: the system's clocks. Promises: `steady_ns` never goes backwards.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Cores take it as an argument and never ask the system themselves.
pub trait Clock: Send + Sync {
    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> u64;
    /// Nanoseconds since some fixed moment before the first call, never decreasing.
    fn steady_ns(&self) -> u64;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanoseconds: AtomicU64,
}

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        // A clock set before 1970 reads as 0: every token is then "not yet valid", which is the safe side.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn steady_ns(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        // 584 years fit; saturating keeps the type honest.
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl ManualClock {
    /// A clock that stands at this second of the Unix epoch.
    #[must_use]
    pub fn at(unix_seconds: u64) -> Self {
        Self { nanoseconds: AtomicU64::new(unix_seconds.saturating_mul(1_000_000_000)) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_seconds(&self) -> u64 {
        self.nanoseconds.load(Ordering::SeqCst) / 1_000_000_000
    }

    fn steady_ns(&self) -> u64 {
        self.nanoseconds.load(Ordering::SeqCst)
    }
}

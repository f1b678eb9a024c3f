//! Time: seconds of the Unix epoch, as the database keeps them, and spans of time, as clients and logs tell them.
//!
//! For: one place where the clock's unsigned seconds and SQL's signed ones meet. May touch: nothing.
//! Promises: out-of-range values saturate; none wraps. Read next: `storage/mod.rs`.

use std::time::Duration;

use common::clock::Clock;

/// Seconds in a day.
pub const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Now, in whole seconds since the Unix epoch.
pub fn now_seconds(clock: &dyn Clock) -> i64 {
    to_signed(clock.unix_seconds())
}

/// As SQL keeps it.
#[must_use]
pub fn to_signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// As tokens carry it.
#[must_use]
pub fn to_unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

/// How long something took, as it is told: in milliseconds, and to the microsecond, which is as fine as anybody can use.
#[must_use]
pub fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

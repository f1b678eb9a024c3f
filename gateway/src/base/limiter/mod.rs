//! Limiter: how much may a key still spend? Exact, in memory.
//!
//! For: rates (generic cell rate algorithm), calendar quotas and places held at a time. May touch: nothing but memory and
//! the time it is given. Promises: a rate never admits more than `burst + elapsed × rate`; what is refused says exactly when
//! it would not be; each meter holds at most `keys_max` keys, and keys that find no place are limited together.
//! Read next: `keyed.rs` for the table under all three, then `rate.rs`; `docs/decisions/0004-gcra-local-limiter.md` says
//! why not a sketch.

mod calendar;
mod concurrency;
mod keyed;
mod rate;
mod stock;

use std::time::Duration;

pub(crate) use calendar::{Calendar, CalendarMeter};
pub(crate) use concurrency::{ConcurrencyMeter, Place};
pub(crate) use keyed::KeyId;
pub(crate) use rate::{Rate, RateMeter};
pub(crate) use stock::Stocks;

/// What a key has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Units left at this moment.
    pub remaining: u64,
    /// Time until all units are there again.
    pub reset_after: Duration,
}

/// What a meter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Spent, and what that leaves.
    Admitted(Standing),
    /// Nothing spent; so many units as were asked for are free after this time.
    Refused { retry_after: Duration },
}

//! Limiter: how much may a key still spend? Exact, by the generic cell rate algorithm.
//!
//! For: limits by address, key or user. May touch: nothing but memory and the time it is given.
//! Promises: never admits more than `burst + elapsed × rate`; says exactly when the next unit is free; holds at most
//! `keys_max` keys. Read next: `local.rs`; `docs/decisions/0004-gcra-local-limiter.md` says why not a sketch.

mod local;

pub(crate) use local::{Decision, LocalLimiter, Quota};

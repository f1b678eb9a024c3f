//! Finish (G): last words.
//!
//! For: one line in the access log and the route's metrics, both from the same notes. May touch: the context of a request
//! that is over. Promises: every request that had a context is counted once; nothing here can fail it any more.
//! Read next: `report.rs`, then `base/telemetry/`.

pub(crate) mod report;

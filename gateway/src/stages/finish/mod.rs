//! Finish (G): last words.
//!
//! For: one line in the access log, the route's metrics and the request's spans, all from the same notes. May touch: the context of a request
//! that is over. Promises: every request that had a context is counted once; nothing here can fail it any more.
//! Read next: `report.rs`, then `base/telemetry/`.

pub(crate) mod report;
mod spans;

//! Telemetry: what is seen from outside.
//!
//! For: every metric in one list, the access log, and what traces are made of. May touch: prometheus, a thread that writes to standard output.
//! Promises: the request path takes no lock and does no input or output here; labels are bounded by the configuration;
//! what could not be logged is counted. Read next: `metrics.rs`.

pub(crate) mod access_log;
pub(crate) mod metrics;
pub(crate) mod traces;

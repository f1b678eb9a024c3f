//! Base: the ground floor, which knows no room above it.
//!
//! For: small tools that several rooms share: ids, digests, addresses, probes, metrics.
//! May touch: nothing of this crate. Promises: no I/O but the random generator and the process's own figures.
//! Read next: `metrics.rs` for every number this program publishes.

pub mod database_metrics;
pub mod digest;
pub mod health;
pub mod history;
pub mod ids;
pub mod job_metrics;
pub mod metrics;
pub mod model_metrics;
pub mod network;
pub mod raised;
pub mod redis_metrics;
pub mod time;
pub mod trace;

//! Database metrics: how long statements take.
//!
//! For: `storage/engine.rs`, where every statement passes. May touch: nothing of this crate.
//! Promises: one histogram a process; what statements hold is not in it. Read next: `metrics.rs`.

use std::sync::LazyLock;
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, Registry};

/// A statement by its index takes a fraction of a millisecond; beyond a second somebody waits for a lock.
const STATEMENT_BUCKETS_SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// One a process, as the macro that writes statements out has no place of its own to keep it in. A mistake in its name
/// or buckets, which are constants, would be told by `register` at start.
static STATEMENTS: LazyLock<Result<Histogram, String>> = LazyLock::new(|| {
    let help = "Time of a statement, the wait for a connection included.";
    let options = HistogramOpts::new("backend_database_seconds", help).buckets(STATEMENT_BUCKETS_SECONDS.to_vec());
    Histogram::with_opts(options).map_err(|error| error.to_string())
});

/// Publishes it.
pub(super) fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    match &*STATEMENTS {
        Ok(histogram) => registry.register(Box::new(histogram.clone())),
        Err(error) => Err(prometheus::Error::Msg(error.clone())),
    }
}

/// Waits for a statement, and counts how long that took.
pub(crate) async fn measured<T>(statement: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let outcome = statement.await;
    if let Ok(histogram) = &*STATEMENTS {
        histogram.observe(start.elapsed().as_secs_f64());
    }
    outcome
}

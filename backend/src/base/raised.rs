//! Raised: a gauge that counts something for as long as it lasts.
//!
//! For: connections, streams and attempts that are open. May touch: the gauge.
//! Promises: what was counted is counted off, however it ends. Read next: `metrics.rs`.

use prometheus::IntGauge;

/// One thing that counts as open until this is dropped.
#[must_use]
pub struct Raised(IntGauge);

impl Raised {
    /// Counts it.
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

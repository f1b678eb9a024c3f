//! Redis metrics: whether it is there, and which layer of the answer cache answers.
//!
//! For: `shared` and `query`, which count; part of `metrics.rs`. May touch: nothing.
//! Promises: every label value comes from the enum of this file. Read next: `metrics.rs`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Where an answer was looked for and found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheLayer {
    /// In this process.
    Local,
    /// In Redis.
    Redis,
    /// Nowhere.
    Miss,
}

/// Every number about Redis and the answer cache. Cheap to clone: the handles share their numbers.
#[derive(Clone)]
pub struct RedisMetrics {
    up: IntGauge,
    failures: IntCounter,
    lookups: IntCounterVec,
}

impl CacheLayer {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis => "redis",
            Self::Miss => "miss",
        }
    }
}

impl RedisMetrics {
    /// Registers them all.
    ///
    /// # Errors
    /// When two share a name, which is a programming error.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            up: IntGauge::new("backend_redis_up", "Whether Redis answers; 0 as well where none is configured.")?,
            failures: IntCounter::new("backend_redis_failures_total", "Questions to Redis that had no answer.")?,
            lookups: IntCounterVec::new(
                Opts::new("backend_cache_lookups_total", "Answers looked for, by layer: local, redis or miss."),
                &["layer"],
            )?,
        };
        registry.register(Box::new(metrics.up.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.lookups.clone()))?;
        Ok(metrics)
    }

    /// It answers, or it does not.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
    }

    /// A question had no answer.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// An answer was looked for.
    pub fn looked_up(&self, layer: CacheLayer) {
        self.lookups.with_label_values(&[layer.as_str()]).inc();
    }
}

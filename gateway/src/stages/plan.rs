//! Plan: what the configuration was compiled to for the stages.
//!
//! For: one value that a request holds from its first stage to its last. Built by `snapshot.rs`, never changed.

use std::sync::Arc;
use std::time::Duration;

use common::code::Code;

use super::admission::address::Addresses;
use super::admission::sanity::HeadLimits;
use super::auth::authenticate::Scheme;
use super::context::Now;
use crate::base::limiter::{Decision, LocalLimiter};
use crate::base::refusal::{Advice, Refusal};
use crate::base::telemetry::metrics::{Metrics, RouteMetrics};
use crate::config::checked::{LimitKey, LogWhat};
use crate::route::table::Table;
use crate::upstream::pool::Pool;

/// Everything the stages ask.
#[derive(Debug)]
pub(crate) struct Plan {
    pub routes: Table<Arc<Route>>,
    pub addresses: Addresses,
    pub limits: HeadLimits,
    /// Metrics of requests that fit no route.
    pub unrouted: RouteMetrics,
    pub metrics: Arc<Metrics>,
}

/// One route, with everything resolved.
#[derive(Debug)]
pub(crate) struct Route {
    pub id: Arc<str>,
    /// Tried in this order; empty for a public route.
    pub schemes: Box<[Arc<Scheme>]>,
    pub require: Box<[Arc<str>]>,
    pub limits_by_address: Box<[Arc<Limit>]>,
    pub limits_by_identity: Box<[Arc<Limit>]>,
    pub pool: Arc<Pool>,
    /// Replaces the upstream's own wait for an answer.
    pub timeout: Option<Duration>,
    pub body_bytes_max: u64,
    pub log: LogWhat,
    pub metrics: RouteMetrics,
}

/// One limit and its state, shared by the routes that name it.
#[derive(Debug)]
pub(crate) struct Limit {
    pub name: Arc<str>,
    pub by: LimitKey,
    pub limiter: LocalLimiter,
}

impl Limit {
    /// Spends one unit of a key.
    ///
    /// # Errors
    /// 429 with this limit's name and the time until the next unit is free.
    pub(crate) fn spend(&self, key: &[u8], now: Now) -> Result<(), Refusal> {
        match self.limiter.take(key, now.steady_ns) {
            Decision::Admitted { .. } => Ok(()),
            Decision::Refused { retry_after } => {
                Err(Refusal::new(Code::RateLimited).policy(&self.name).advice(Advice::RetryAfter(retry_after)))
            }
        }
    }
}

impl Plan {
    /// Counts an answer that the gateway made itself.
    pub(crate) fn count_refusal(&self, route: Option<&Arc<Route>>, code: Code) {
        self.metrics.refused(route.map_or("-", |route| &route.id), code);
    }
}

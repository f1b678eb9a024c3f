//! Plan: what the configuration was compiled to for the stages.
//!
//! For: one value that a request holds from its first stage to its last. Built by `snapshot.rs`, never changed.

use std::sync::Arc;
use std::time::Duration;

use common::code::Code;
use http::HeaderValue;

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
    /// `RateLimit-Policy`: what its limits allow, the same for every answer. `None` for a route without limits.
    pub limit_policy: Option<HeaderValue>,
    pub limits_by_address: Box<[Arc<Limit>]>,
    pub limits_by_identity: Box<[Arc<Limit>]>,
    pub pool: Arc<Pool>,
    /// Replaces the upstream's own wait for an answer.
    pub timeout: Option<Duration>,
    /// How long a WebSocket may be silent; `None` where there may be none.
    pub websocket_idle: Option<Duration>,
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

/// What a limit said of one request.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub limit: Arc<Limit>,
    /// Units left.
    pub remaining: u64,
    /// Time until all units are there again, or, when none is left, until the next one is.
    pub reset_after: Duration,
}

impl Limit {
    /// Spends one unit of a key, and notes what that leaves.
    ///
    /// # Errors
    /// 429 with this limit's name and the time until the next unit is free.
    pub(crate) fn spend(self: &Arc<Self>, key: &[u8], now: Now, spent: &mut Vec<Spent>) -> Result<(), Refusal> {
        let (remaining, reset_after, outcome) = match self.limiter.take(key, now.steady_ns) {
            Decision::Admitted { remaining, reset_after } => (remaining, reset_after, Ok(())),
            Decision::Refused { retry_after } => {
                let refusal = Refusal::new(Code::RateLimited).policy(&self.name);
                (0, retry_after, Err(refusal.advice(Advice::RetryAfter(retry_after))))
            }
        };
        spent.push(Spent { limit: Arc::clone(self), remaining, reset_after });
        outcome
    }
}

impl Plan {
    /// Counts an answer that the gateway made itself.
    pub(crate) fn count_refusal(&self, route: Option<&Arc<Route>>, code: Code) {
        self.metrics.refused(route.map_or("-", |route| &route.id), code);
    }
}

//! Plan: what the configuration was compiled to for the stages.
//!
//! For: one value that a request holds from its first stage to its last. Built by `snapshot.rs`, never changed.

use std::sync::Arc;
use std::time::Duration;

use common::code::Code;
use http::{HeaderName, HeaderValue};

use super::admission::access::Networks;
use super::admission::address::Addresses;
use super::admission::cors::Cors;
use super::admission::sanity::HeadLimits;
use super::auth::authenticate::Scheme;
use super::auth::credential::Bearers;
use super::auth::revocations::Revocations;
use super::dispatch::answer::Answer;
use super::dispatch::mirror::Mirror;
use super::dispatch::split::Split;
use super::egress::security::Security;
use super::limit::Limit;
use crate::base::limiter::{KeyId, Standing};
use crate::base::telemetry::metrics::{Metrics, RouteMetrics};
use crate::config::checked::{
    CertificateUse, Compression, DeadlineRule, HeaderRules, LogWhat, Owner, Requirements, Rewrite, Underscores,
};
use crate::route::table::Table;

/// Everything the stages ask.
#[derive(Debug)]
pub(crate) struct Plan {
    pub routes: Table<Arc<Route>>,
    pub addresses: Addresses,
    /// Whose requests are refused on every route.
    pub denied: Networks,
    pub limits: HeadLimits,
    pub body_pace: BodyPace,
    /// Metrics of requests that fit no route.
    pub unrouted: RouteMetrics,
    pub metrics: Arc<Metrics>,
    pub revocations: Arc<Revocations>,
    /// Fields of upstreams that clients never see.
    pub hidden: Box<[HeaderName]>,
    /// What browsers are told on every answer.
    pub security: Option<Security>,
}

/// One route, with everything resolved.
#[derive(Debug)]
pub(crate) struct Route {
    pub id: Arc<str>,
    /// Who may use it, by address; `None` for everybody.
    pub allow_from: Option<Networks>,
    /// Whose pages may read its answers.
    pub cors: Option<Cors>,
    /// Tried in this order; empty for a public route.
    pub schemes: Box<[Arc<Scheme>]>,
    /// Which kinds of bearer tokens they take.
    pub bearers: Bearers,
    /// Query parameters that may carry a credential, and so go no further.
    pub hidden_query: Box<[Box<str>]>,
    /// What becomes of header names with an underscore.
    pub underscores: Underscores,
    /// Whether a WebSocket's protocols may carry one.
    pub takes_protocol_token: bool,
    /// Headers that only a scheme may set.
    pub copied: Box<[HeaderName]>,
    pub require: Requirements,
    pub owner: Option<Owner>,
    pub client_certificate: CertificateUse,
    /// Whether it is only watched who is unknown, and who may not.
    pub shadow_auth: bool,
    pub shadow_require: bool,
    /// `RateLimit-Policy`: what its limits allow, the same for every answer. `None` for a route without limits.
    pub limit_policy: Option<HeaderValue>,
    pub limit_headers: LimitHeaders,
    pub limits: Box<[Arc<Limit>]>,
    /// Those of them that need to know nothing of who sent the request.
    pub limits_by_address: Box<[Arc<Limit>]>,
    /// What the gateway answers by itself; `None` where an upstream is asked.
    pub answer: Option<Answer>,
    /// Who is asked; `None` where the gateway answers by itself.
    pub split: Option<Split>,
    /// Who gets copies.
    pub mirror: Option<Arc<Mirror>>,
    /// Under what name and path it is asked, and what else it is told.
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderRules,
    /// What the client is told besides.
    pub response_headers: HeaderRules,
    pub compress: Option<Arc<Compression>>,
    /// Replaces the upstream's own wait for an answer.
    pub timeout: Option<Duration>,
    /// How long the whole request may take.
    pub deadline: Option<DeadlineRule>,
    /// How long a WebSocket may be silent; `None` where there may be none.
    pub websocket_idle: Option<Duration>,
    /// After how long a silence an answer of events is kept awake; `None` where none is.
    pub sse_heartbeat: Option<Duration>,
    pub body_bytes_max: u64,
    pub log: LogWhat,
    pub metrics: RouteMetrics,
}

/// How slowly a body may come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyPace {
    /// After so long it counts.
    pub grace: Duration,
    /// On average; 0 for as slowly as it likes.
    pub bytes_per_second_min: u64,
}

/// Which header fields tell clients of their limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitHeaders {
    pub standard: bool,
    pub legacy: bool,
}

/// What a limit left a request.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub limit: Arc<Limit>,
    pub id: KeyId,
    /// Requests left, and time until all are there again, or, when none is left, until the next one is.
    pub standing: Standing,
    /// The key in the store, where what a request costs is told by its answer.
    pub key: Option<Vec<u8>>,
}

impl Spent {
    /// What a limit leaves that is used up for so long.
    pub(crate) fn nothing_left(limit: &Arc<Limit>, id: KeyId, wait: Duration) -> Self {
        let standing = Standing { remaining: 0, reset_after: wait };
        Self { limit: Arc::clone(limit), id, standing, key: None }
    }
}

impl Plan {
    /// Counts an answer that the gateway made itself.
    pub(crate) fn count_refusal(&self, route: Option<&Arc<Route>>, code: Code) {
        self.metrics.refused(route.map_or("-", |route| &route.id), code);
    }
}

//! REST: one file a resource.
//!
//! For: handlers, which read what was extracted, call one service, and shape its answer. May touch: `auth`, `query`, `worker`.
//! Promises: no decision is made here that a service could make. Read next: `queries.rs`.

pub(super) mod api_keys;
pub(super) mod audit_events;
pub(super) mod batch;
pub(super) mod cache;
pub(super) mod health;
pub(super) mod jobs;
pub(super) mod metrics;
pub(super) mod models;
pub(super) mod openai;
mod openai_types;
pub(super) mod queries;
mod sse;
pub(super) mod tokens;
pub(super) mod users;

use common::code::Code;

use super::error::ApiError;

/// Whether an answer was kept from an earlier time, as a header.
fn cache_header(cached: bool) -> [(&'static str, &'static str); 1] {
    [("x-cache", if cached { "hit" } else { "miss" })]
}

/// For paths that no route has.
pub(super) async fn no_route() -> ApiError {
    ApiError::new(Code::RouteNotFound, "")
}

/// For methods that a route does not have; the router adds `Allow`.
pub(super) async fn no_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "")
}

//! REST: one file a resource.
//!
//! For: handlers, which read what was extracted, call one service, and shape its answer. May touch: `auth`, `query`.
//! Promises: no decision is made here that a service could make. Read next: `queries.rs`.

pub(super) mod api_keys;
pub(super) mod health;
pub(super) mod models;
pub(super) mod queries;
pub(super) mod tokens;
pub(super) mod users;

use common::code::Code;

use super::error::ApiError;

/// For paths that no route has.
pub(super) async fn no_route() -> ApiError {
    ApiError::new(Code::RouteNotFound, "")
}

/// For methods that a route does not have; the router adds `Allow`.
pub(super) async fn no_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "")
}

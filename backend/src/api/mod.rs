//! API: the door. Every route and every layer stands on this page.
//!
//! For: HTTP in, services, HTTP out. May touch: `auth`, `query`, `worker`, `config`, `base`; handlers never see `storage`.
//! Promises: every refusal is a problem (RFC 9457) with a stable code and the request's id; who is not allowed learns so
//! before the body is read; a route that is not on this page does not exist.
//! Read next: `middleware.rs` for what happens around every request, `extract.rs` for what a handler may take for
//! granted, then one file of `rest/`, then `graphql/mod.rs`.

mod cors;
mod error;
mod extract;
mod graphql;
mod hosts;
mod internal;
mod middleware;
mod openapi;
mod page;
mod rest;
mod routes;
mod server;
mod spans;
mod swagger;
mod tag;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Router};
use common::secret::Secret;

use crate::auth::{ApiKeys, Audit, Sessions, Tokens, Users, Withdrawals};
use crate::base::health::Probe;
use crate::base::metrics::Metrics;
use crate::config;
use crate::query::Queries;
use crate::worker::{History, Jobs};

pub use error::ApiError;
pub use graphql::SchemaError;
pub use middleware::Surroundings;
pub use openapi::openapi;
pub use server::{Bounds, Listener, ServeError};

use routes::Routes;
use tag::tagged;

/// What the handlers work with.
pub struct Services {
    /// Logging in, staying in, getting out.
    pub sessions: Sessions,
    /// Accounts.
    pub users: Users,
    /// API keys.
    pub api_keys: ApiKeys,
    /// What happened to both.
    pub audit: Audit,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// What was taken back before its end.
    pub withdrawals: Arc<Withdrawals>,
    /// Questions and answers.
    pub queries: Queries,
    /// Batches of questions, answered later.
    pub jobs: Jobs,
    /// The program's own numbers, interval by interval.
    pub history: History,
    /// The parts that `/health/detailed` asks.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Every number.
    pub metrics: Metrics,
    /// What the gateway must send to ask about API keys; `None` lets everybody who reaches the internal listener.
    pub introspection_secret: Option<Secret>,
}

/// The public API.
pub fn public(services: Arc<Services>, surroundings: Surroundings) -> Router {
    surround(public_routes().into_router(), services, surroundings)
}

/// What the public API consists of. A test compares these paths with the ones that `openapi/` describes.
fn public_routes() -> Routes {
    Routes::default()
        .route("/auth/login", post(rest::tokens::login))
        .route("/auth/refresh", post(rest::tokens::refresh))
        .route("/auth/logout", post(rest::tokens::logout))
        .route("/auth/me", get(rest::tokens::me))
        .route("/.well-known/jwks.json", tagged(get(rest::tokens::jwks)))
        .route("/api/v1/models", tagged(get(rest::models::list)))
        .route("/api/v1/query", post(rest::queries::ask))
        .route("/api/v1/batch", post(rest::batch::create))
        .route("/api/v1/jobs", get(rest::jobs::list))
        .route("/api/v1/jobs/{id}", get(rest::jobs::get).delete(rest::jobs::cancel))
        .route("/api/v1/jobs/{id}/requeue", post(rest::jobs::requeue))
        .route("/api/v1/cache", get(rest::cache::stats).delete(rest::cache::clear))
        .route("/v1/chat/completions", post(rest::openai::complete))
        .route("/v1/models", get(rest::openai::models))
        .route("/v1/models/{*id}", get(rest::openai::model))
        .route("/api/v1/users", tagged(get(rest::users::list)).post(rest::users::create))
        .route("/api/v1/users/{id}", patch(rest::users::change))
        .route("/api/v1/api-keys", tagged(get(rest::api_keys::list)).post(rest::api_keys::create))
        .route("/api/v1/api-keys/{id}", delete(rest::api_keys::revoke))
        .route("/api/v1/api-keys/{id}/rotate", post(rest::api_keys::rotate))
        .route("/api/v1/audit-events", tagged(get(rest::audit_events::list)))
        .route("/api/v1/metrics", get(rest::metrics::current))
        .route("/api/v1/metrics/history", get(rest::metrics::history))
        .route("/health", get(rest::health::alive))
        .route("/health/detailed", get(rest::health::detailed))
        .route("/api/v1/openapi.json", tagged(get(openapi::serve)))
        .route("/api/v1/docs", get(swagger::folder))
        .route("/api/v1/docs/", get(swagger::page))
        .route("/api/v1/docs/{*file}", get(swagger::file))
}

/// GraphQL, over HTTP and WebSocket.
///
/// # Errors
/// `SchemaError`, which is a programming error.
pub fn graphql(
    services: Arc<Services>,
    surroundings: Surroundings,
    settings: &config::Graphql,
) -> Result<Router, SchemaError> {
    let engine = graphql::Engine::new(&services, settings, surroundings.request_timeout)?;
    let routes = Router::new()
        .route("/graphql", get(graphql::http::get).post(graphql::http::post))
        .route("/graphql/ws", get(graphql::http::upgrade))
        .route("/graphql/schema", get(graphql::http::schema))
        .route("/graphql/ide", get(graphql::ide::page))
        .route("/graphql/ide/{file}", get(graphql::ide::file))
        .route("/health", get(rest::health::alive))
        .layer(Extension(Arc::new(engine)));
    Ok(surround(routes, services, surroundings))
}

/// What only the gateway and the operators reach.
pub fn internal(services: Arc<Services>, surroundings: Surroundings) -> Router {
    // Asked by address, and never from a page.
    let cors = config::Cors { origins: Vec::new(), credentials: false };
    let surroundings = Surroundings { trusted_hosts: Vec::new(), cors, ..surroundings };
    let routes = Router::new()
        .route("/internal/keys", post(internal::introspect))
        .route("/internal/revocations", get(internal::revocations))
        .route("/metrics", get(internal::metrics))
        .route("/health/detailed", get(rest::health::all_parts))
        .route("/health", get(rest::health::alive));
    surround(routes, services, surroundings)
}

fn surround(routes: Router<Arc<Services>>, services: Arc<Services>, surroundings: Surroundings) -> Router {
    routes
        .fallback(rest::no_route)
        .method_not_allowed_fallback(rest::no_method)
        .layer(DefaultBodyLimit::max(surroundings.body_bytes_max))
        // Outermost, so that every answer, refusals of the router included, has passed through it.
        .layer(from_fn_with_state(Arc::new(surroundings), middleware::around))
        .with_state(services)
}

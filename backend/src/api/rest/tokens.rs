//! Tokens: logging in, refreshing, logging out, and the keys that verify.
//!
//! For: `/auth/*` and `/.well-known/jwks.json`. May touch: `auth::Sessions`, `auth::Tokens`, `auth::Users`.
//! Promises: answers that hold tokens are not stored by anybody (RFC 6749 §5.1). Read next: `auth/sessions.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::access::Permission;
use common::secret::Secret;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, JsonBody, Known, bearer, only};
use crate::api::middleware::Origin;
use crate::auth::TokenPair;
use crate::base::trace::within;

/// How long verifiers may keep the key set: short enough that a new key is known before it signs.
const JWKS_CACHING: &str = "public, max-age=300";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct LoginRequest {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct RefreshRequest {
    refresh_token: String,
}

#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: &'a str,
    scope: &'a str,
}

#[derive(Serialize)]
pub(in crate::api) struct MeAnswer {
    id: String,
    username: String,
    roles: Vec<String>,
    permissions: Vec<Permission>,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

/// `POST /auth/login`
pub(in crate::api) async fn login(
    State(services): State<Arc<Services>>,
    origin: Origin,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Response, ApiError> {
    let password = Secret::new(request.password);
    let pair =
        within("sessions.login", services.sessions.login(&request.username, password, &origin.client())).await?;
    Ok(answer(&pair))
}

/// `POST /auth/refresh`
pub(in crate::api) async fn refresh(
    State(services): State<Arc<Services>>,
    origin: Origin,
    JsonBody(request): JsonBody<RefreshRequest>,
) -> Result<Response, ApiError> {
    let token = Secret::new(request.refresh_token);
    let pair = within("sessions.refresh", services.sessions.refresh(&token, &origin.client())).await?;
    Ok(answer(&pair))
}

/// `POST /auth/logout`: whoever holds the refresh token may end its session. An access token that is sent with it ends
/// as well; one that does not hold anyway is no reason to refuse.
pub(in crate::api) async fn logout(
    State(services): State<Arc<Services>>,
    origin: Origin,
    headers: HeaderMap,
    JsonBody(request): JsonBody<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    let access_token = only(&headers, &AUTHORIZATION)?.and_then(|value| bearer(value).ok());
    within(
        "sessions.logout",
        services.sessions.logout(&Secret::new(request.refresh_token), access_token, &origin.client()),
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /auth/me`
pub(in crate::api) async fn me(
    Allowed { caller, .. }: Allowed<Known>,
    State(services): State<Arc<Services>>,
) -> Result<Json<MeAnswer>, ApiError> {
    let user = within("users.get", services.users.get(&caller.subject)).await?;
    Ok(Json(MeAnswer {
        id: user.id,
        username: user.name,
        roles: caller.roles,
        permissions: caller.permissions,
        method: caller.method.as_str(),
        key_id: caller.key_id,
    }))
}

/// `GET /.well-known/jwks.json`
pub(in crate::api) async fn jwks(State(services): State<Arc<Services>>) -> Response {
    let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, JWKS_CACHING)];
    (headers, services.tokens.keys().document().to_vec()).into_response()
}

fn answer(pair: &TokenPair) -> Response {
    let body = TokenAnswer {
        access_token: pair.access_token.expose(),
        token_type: "Bearer",
        expires_in: pair.expires_in,
        refresh_token: pair.refresh_token.expose(),
        scope: &pair.scope,
    };
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

//! API keys: made, listed, renewed, revoked by their owners.
//!
//! For: `/api/v1/api-keys`. May touch: `auth::ApiKeys`. Promises: a whole key is shown once, in the answer that makes it or
//! gives it a new secret.
//! Read next: `auth/api_keys.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::access::Permission;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, JsonBody, PathText, QueryString, Reading, Writing, idempotency_key};
use crate::api::middleware::Origin;
use crate::api::page::{self, Page, parse_mark, write_mark};
use crate::auth::{ApiKeyInput, CreatedKey, ListedKey};
use crate::base::trace::within;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct ApiKeyRequest {
    name: String,
    #[serde(default)]
    permissions: Option<Vec<Permission>>,
    #[serde(default)]
    expires_in_days: Option<u32>,
}

/// What a client may ask of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct KeysQuery {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    owner: Option<String>,
}

/// What a client wants of a new secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct RotationRequest {
    #[serde(default)]
    old_secret_hours: Option<u32>,
}

/// Times are seconds of the Unix epoch.
#[derive(Serialize)]
pub(in crate::api) struct ApiKeyAnswer {
    id: String,
    name: String,
    permissions: Vec<Permission>,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<i64>,
}

#[derive(Serialize)]
struct CreatedAnswer {
    /// The whole key, this once.
    key: String,
    #[serde(flatten)]
    listed: ApiKeyAnswer,
}

impl From<ListedKey> for ApiKeyAnswer {
    fn from(key: ListedKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            permissions: key.permissions,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            old_secret_until: key.old_secret_until,
        }
    }
}

/// `GET /api/v1/api-keys`
pub(in crate::api) async fn list(
    Allowed { caller, .. }: Allowed<Reading>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<KeysQuery>,
) -> Result<Json<Page<ApiKeyAnswer>>, ApiError> {
    let limit = page::limit("limit", query.limit)?;
    let mark = query.cursor.as_deref().map(|cursor| page::mark("cursor", cursor)).transpose()?;
    let after = mark.as_deref().map(|mark| parse_mark("cursor", mark)).transpose()?;
    let listing = services.api_keys.list(&caller, query.owner.as_deref(), after, limit + 1);
    let keys = within("api_keys.list", listing).await?;
    let answers = keys.into_iter().map(ApiKeyAnswer::from).collect();
    Ok(Json(Page::cut(answers, limit, |key: &ApiKeyAnswer| write_mark(key.created_at, &key.id))))
}

/// `POST /api/v1/api-keys`
pub(in crate::api) async fn create(
    Allowed { caller, .. }: Allowed<Writing>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ApiKeyRequest>,
) -> Result<Response, ApiError> {
    let input = ApiKeyInput {
        name: request.name,
        permissions: request.permissions,
        expires_in_days: request.expires_in_days,
    };
    let key = idempotency_key(&headers)?;
    let client = origin.client();
    let created =
        within("api_keys.create", services.api_keys.create(&caller, input, key.as_deref(), &client)).await?;
    Ok(show(StatusCode::CREATED, created))
}

/// `POST /api/v1/api-keys/{id}/rotate`
pub(in crate::api) async fn rotate(
    Allowed { caller, .. }: Allowed<Writing>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    PathText(id): PathText,
    JsonBody(request): JsonBody<RotationRequest>,
) -> Result<Response, ApiError> {
    let client = origin.client();
    let rotated = services.api_keys.rotate(&caller, &id, request.old_secret_hours, &client);
    Ok(show(StatusCode::OK, within("api_keys.rotate", rotated).await?))
}

/// `DELETE /api/v1/api-keys/{id}`
pub(in crate::api) async fn revoke(
    Allowed { caller, .. }: Allowed<Writing>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    PathText(id): PathText,
) -> Result<StatusCode, ApiError> {
    within("api_keys.revoke", services.api_keys.revoke(&caller, &id, &origin.client())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The answer that shows a whole key, this once.
fn show(status: StatusCode, created: CreatedKey) -> Response {
    let answer = CreatedAnswer { key: created.key.reveal(), listed: created.listed.into() };
    (status, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

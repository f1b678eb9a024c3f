//! Users: accounts, for who administers.
//!
//! For: `/api/v1/users`. May touch: `auth::Users`. Promises: nothing secret of a user is told.
//! Read next: `auth/users.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::access::Role;
use common::secret::Secret;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Administering, Allowed, JsonBody, PathText, QueryString, idempotency_key};
use crate::api::middleware::Origin;
use crate::api::page::{Page, PageQuery};
use crate::auth::{User, UserEdit};
use crate::base::trace::within;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct UserRequest {
    username: String,
    password: String,
    role: Role,
}

/// What is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct UserEditRequest {
    #[serde(default, deserialize_with = "present")]
    role: Option<Role>,
    #[serde(default, deserialize_with = "present")]
    password: Option<String>,
    #[serde(default, deserialize_with = "present")]
    disabled: Option<bool>,
}

/// A member that may be left out, and holds something where it is there: null would be neither.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Serialize)]
pub(in crate::api) struct UserAnswer {
    id: String,
    username: String,
    role: Role,
    /// Seconds of the Unix epoch.
    created_at: i64,
    /// Seconds of the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<i64>,
}

impl From<User> for UserAnswer {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.name,
            role: user.role,
            created_at: user.created_at,
            disabled_at: user.disabled_at,
        }
    }
}

/// `GET /api/v1/users`
pub(in crate::api) async fn list(
    _: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<PageQuery>,
) -> Result<Json<Page<UserAnswer>>, ApiError> {
    let limit = query.limit()?;
    let users = within("users.list", services.users.list(query.after()?.as_deref(), limit + 1)).await?;
    let answers = users.into_iter().map(UserAnswer::from).collect();
    Ok(Json(Page::cut(answers, limit, |user: &UserAnswer| user.id.clone())))
}

/// `POST /api/v1/users`
pub(in crate::api) async fn create(
    Allowed { caller, .. }: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    headers: HeaderMap,
    JsonBody(request): JsonBody<UserRequest>,
) -> Result<(StatusCode, Json<UserAnswer>), ApiError> {
    let password = Secret::new(request.password);
    let (name, role, client) = (request.username.as_str(), request.role, origin.client());
    let user = match idempotency_key(&headers)? {
        Some(key) => {
            let made = services.users.create_once_for(&caller, &key, (name, password, role), &client);
            within("users.create", made).await?
        }
        None => within("users.create", services.users.create_for(&caller, name, password, role, &client)).await?,
    };
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// `PATCH /api/v1/users/{id}`
pub(in crate::api) async fn change(
    Allowed { caller, .. }: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    PathText(id): PathText,
    JsonBody(request): JsonBody<UserEditRequest>,
) -> Result<Json<UserAnswer>, ApiError> {
    let edit =
        UserEdit { role: request.role, password: request.password.map(Secret::new), disabled: request.disabled };
    let user = within("users.change", services.users.change_for(&caller, &id, edit, &origin.client())).await?;
    Ok(Json(user.into()))
}

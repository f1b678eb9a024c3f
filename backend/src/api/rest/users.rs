//! Users: accounts, for who administers.
//!
//! For: `/api/v1/users`. May touch: `auth::Users`. Promises: nothing secret of a user is told.
//! Read next: `auth/users.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use common::access::Role;
use common::secret::Secret;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Administering, Allowed, JsonBody, QueryString};
use crate::api::middleware::Origin;
use crate::api::page::{Page, PageQuery};
use crate::auth::User;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct UserRequest {
    username: String,
    password: String,
    role: Role,
}

#[derive(Serialize)]
pub(in crate::api) struct UserAnswer {
    id: String,
    username: String,
    role: Role,
    /// Seconds of the Unix epoch.
    created_at: i64,
}

impl From<User> for UserAnswer {
    fn from(user: User) -> Self {
        Self { id: user.id, username: user.name, role: user.role, created_at: user.created_at }
    }
}

/// `GET /api/v1/users`
pub(in crate::api) async fn list(
    _: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<PageQuery>,
) -> Result<Json<Page<UserAnswer>>, ApiError> {
    let limit = query.limit()?;
    let users = services.users.list(query.after()?.as_deref(), limit + 1).await?;
    let answers = users.into_iter().map(UserAnswer::from).collect();
    Ok(Json(Page::cut(answers, limit, |user: &UserAnswer| user.id.clone())))
}

/// `POST /api/v1/users`
pub(in crate::api) async fn create(
    Allowed { caller, .. }: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    JsonBody(request): JsonBody<UserRequest>,
) -> Result<(StatusCode, Json<UserAnswer>), ApiError> {
    let password = Secret::new(request.password);
    let user =
        services.users.create_for(&caller, &request.username, password, request.role, &origin.client()).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

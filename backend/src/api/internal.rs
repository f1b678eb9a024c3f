//! Internal: what only the gateway and the operators reach.
//!
//! For: introspection of API keys (RFC 7662), the feed of what was withdrawn, and metrics, on a listener of their own.
//! May touch: `auth`, metrics. Promises: when a secret is configured, introspection and the feed take no request without
//! it, and compare in constant time; an answer about a key that does not hold says only that.
//! Read next: `auth/api_keys.rs`, `auth/withdrawals.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use common::access::scope_of;
use common::claims::Introspection;
use common::code::Code;
use common::secret::Secret;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::Services;
use super::error::ApiError;
use super::extract::{FormBody, QueryString, bearer, only};
use crate::auth::AuthError;
use crate::base::digest::same;
use crate::base::metrics::MEDIA_TYPE;
use crate::base::time::to_unsigned;

/// The question. Other members, such as `token_type_hint`, are allowed and not needed (RFC 7662 §2.1).
#[derive(Deserialize)]
pub(super) struct IntrospectionRequest {
    token: String,
}

/// Where a question about what was withdrawn goes on. Unknown members are allowed, as gateways may come to send more.
#[derive(Deserialize)]
pub(super) struct RevocationsQuery {
    #[serde(default)]
    after: Option<String>,
}

/// What was withdrawn, in the form that the gateway's `revocations.urls` reads.
#[derive(Serialize)]
struct RevocationsAnswer {
    cursor: String,
    entries: Vec<RevocationAnswer>,
}

/// Times are seconds of the Unix epoch.
#[derive(Serialize)]
struct RevocationAnswer {
    kind: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_until: Option<u64>,
    ends: u64,
}

/// Proof that the asker showed the introspection secret, or that none is needed.
pub(super) struct Gateway;

impl axum::extract::FromRequestParts<Arc<Services>> for Gateway {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        services: &Arc<Services>,
    ) -> Result<Self, ApiError> {
        check_secret(services.introspection_secret.as_ref(), &parts.headers).map(|()| Self)
    }
}

fn check_secret(secret: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(secret) = secret else { return Ok(()) };
    let value = only(headers, &AUTHORIZATION)?.ok_or_else(|| ApiError::new(Code::TokenMissing, ""))?;
    if same(bearer(value)?.as_bytes(), secret.expose().as_bytes()) {
        Ok(())
    } else {
        Err(ApiError::new(Code::KeyInvalid, "the introspection secret is wrong"))
    }
}

/// `POST /internal/keys`
pub(super) async fn introspect(
    _: Gateway,
    State(services): State<Arc<Services>>,
    FormBody(request): FormBody<IntrospectionRequest>,
) -> Result<Response, ApiError> {
    let answer = match services.api_keys.verify(&request.token).await {
        Ok(key) => Introspection {
            active: true,
            sub: Some(key.caller.subject),
            scope: Some(scope_of(&key.caller.permissions)),
            roles: key.caller.roles,
            key_id: key.caller.key_id,
            exp: key.expires_at.map(to_unsigned),
        },
        Err(AuthError::KeyInvalid) => Introspection::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// `GET /internal/revocations`
pub(super) async fn revocations(
    _: Gateway,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<RevocationsQuery>,
) -> Result<Response, ApiError> {
    let told = services.withdrawals.tell(query.after.as_deref()).await?;
    let entries = told.entries.into_iter().map(|entry| RevocationAnswer {
        issued_until: (entry.kind == "subject").then(|| to_unsigned(entry.issued_until)),
        kind: entry.kind,
        value: entry.value,
        ends: to_unsigned(entry.ends),
    });
    let answer = RevocationsAnswer { cursor: told.cursor, entries: entries.collect() };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// `GET /metrics`
pub(super) async fn metrics(State(services): State<Arc<Services>>) -> Result<Response, ApiError> {
    let text = services.metrics.render().map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_secret_is_asked_for_only_when_there_is_one() {
        let secret = Secret::new("0123456789abcdef".into());
        let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert!(check_secret(None, &HeaderMap::new()).is_ok());
        assert!(check_secret(Some(&secret), &with("Bearer 0123456789abcdef")).is_ok());
        for wrong in ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer", "Basic 0123456789abcdef"] {
            assert!(check_secret(Some(&secret), &with(wrong)).is_err(), "{wrong}");
        }
        assert!(check_secret(Some(&secret), &HeaderMap::new()).is_err());
    }
}

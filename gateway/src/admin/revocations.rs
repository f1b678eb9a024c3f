//! Revocations: an operator withdraws a token, everything of a subject, or a key.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use crate::base::now::Now;
use crate::stages::auth::revocations::{Entry, Withdrawn};

/// How long a withdrawal lasts when nobody says: longer than any token should.
const DEFAULT_SECONDS: u64 = 30 * 24 * 60 * 60;

/// The longest withdrawal: ten years.
const SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// The longest id or subject, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// What is to be withdrawn: one of the three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    token_id: Option<String>,
    subject: Option<String>,
    key_id: Option<String>,
    /// How long to remember it, in seconds: as long as the credential could live.
    seconds: Option<u64>,
}

/// Withdraws it here at once, and on the other gateways by the store that they share, if there is one.
pub(super) async fn withdraw(State(admin): State<Admin>, order: Result<Json<Order>, JsonRejection>) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return refused(&rejection.body_text()),
    };
    let now = Now::read();
    let seconds = order.seconds.unwrap_or(DEFAULT_SECONDS);
    let what = match (order.token_id, order.subject, order.key_id) {
        (Some(value), None, None) => Withdrawn::Token { value },
        (None, Some(value), None) => Withdrawn::Subject { value, issued_until: now.unix_seconds },
        (None, None, Some(value)) => Withdrawn::Key { value },
        _ => return refused("name exactly one of token_id, subject and key_id"),
    };
    let (Withdrawn::Token { value } | Withdrawn::Subject { value, .. } | Withdrawn::Key { value }) = &what;
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || !(1..=SECONDS_MAX).contains(&seconds) {
        return refused("a value has 1 to 1024 bytes, and seconds are 1 to ten years");
    }
    let entry = Entry { what, ends: now.unix_seconds.saturating_add(seconds) };
    let snapshot = admin.snapshot.load_full();
    let member = serde_json::to_vec(&entry).unwrap_or_default();
    let (revocations, ends) = (&snapshot.plan.revocations, entry.ends);
    tracing::warn!(what = ?entry.what, ends, "withdrawn by an operator");
    revocations.add([entry], now);
    admin.metrics.auth.revocations.set(i64::try_from(revocations.count()).unwrap_or(i64::MAX));
    let shared = match snapshot.store() {
        None => "no: there is no store; tell every gateway",
        Some(store) => match store.withdraw(ends, &member).await {
            Ok(()) => "yes",
            Err(_) => "no: the store is away; try again, or tell every gateway",
        },
    };
    Json(json!({ "status": "withdrawn", "ends_unix_seconds": ends, "shared": shared })).into_response()
}

/// What is withdrawn.
pub(super) async fn list(State(admin): State<Admin>) -> Response {
    Json(json!({ "entries": admin.snapshot.load().plan.revocations.entries() })).into_response()
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "status": "refused", "why": why }))).into_response()
}

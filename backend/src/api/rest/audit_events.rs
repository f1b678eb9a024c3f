//! Audit events: what happened to accounts and keys, for who administers.
//!
//! For: `/api/v1/audit-events`. May touch: `auth::Audit`. Promises: the newest come first; events hold no secret.
//! Read next: `auth/audit.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Administering, Allowed, QueryString};
use crate::api::page::{self, Page, parse_mark, write_mark};
use crate::auth::{EventsWanted, ListedEvent};
use crate::base::trace::within;

/// What a client may ask of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct EventsQuery {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    subject: Option<String>,
}

#[derive(Serialize)]
pub(in crate::api) struct EventAnswer {
    id: String,
    /// Seconds of the Unix epoch.
    at: i64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<ListedEvent> for EventAnswer {
    fn from(event: ListedEvent) -> Self {
        Self {
            id: event.id,
            at: event.at,
            kind: event.kind,
            subject: event.subject,
            client: event.client,
            request_id: event.request_id,
            detail: event.detail,
        }
    }
}

/// `GET /api/v1/audit-events`
pub(in crate::api) async fn list(
    _: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<EventsQuery>,
) -> Result<Json<Page<EventAnswer>>, ApiError> {
    let limit = page::limit("limit", query.limit)?;
    let mark = query.cursor.as_deref().map(|cursor| page::mark("cursor", cursor)).transpose()?;
    let before = mark.as_deref().map(|mark| parse_mark("cursor", mark)).transpose()?;
    let wanted = EventsWanted {
        before,
        kind: query.kind.as_deref(),
        subject: query.subject.as_deref(),
        // One more tells whether there are more.
        limit: limit + 1,
    };
    let events = within("audit.list", services.audit.list(&wanted)).await?;
    let answers = events.into_iter().map(EventAnswer::from).collect();
    Ok(Json(Page::cut(answers, limit, |event: &EventAnswer| write_mark(event.at, &event.id))))
}

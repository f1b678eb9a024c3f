//! Batch: many questions in one request, answered later by workers.
//!
//! For: `/api/v1/batch`. May touch: `worker::Jobs`. Promises: the answer comes at once and says where the job is; the same
//! request with the same `Idempotency-Key` makes one job, however often it is sent (202 the first time, then 200).
//! Read next: `jobs.rs`, then `worker/service.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::jobs::JobAnswer;
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, Executing, JsonBody, idempotency_key};
use crate::base::trace::within;
use crate::query::Question;
use crate::worker::{JobInput, Priority};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct BatchRequest {
    queries: Vec<BatchQuery>,
    #[serde(default)]
    priority: Priority,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
struct BatchQuery {
    query: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

impl From<BatchQuery> for Question {
    fn from(query: BatchQuery) -> Self {
        Self {
            text: query.query,
            model: query.model,
            tokens_max: query.max_tokens,
            temperature: query.temperature,
            ..Self::default()
        }
    }
}

/// `POST /api/v1/batch`
pub(in crate::api) async fn create(
    Allowed { caller, .. }: Allowed<Executing>,
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<BatchRequest>,
) -> Result<Response, ApiError> {
    let input = JobInput {
        queries: request.queries.into_iter().map(Question::from).collect(),
        priority: request.priority,
        idempotency_key: idempotency_key(&headers)?,
    };
    let (job, is_new) = within("jobs.create", services.jobs.create(&caller, &input)).await?;
    let location = HeaderValue::try_from(format!("/api/v1/jobs/{}", job.id)).map_err(ApiError::internal)?;
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, [(LOCATION, location)], Json(JobAnswer::from(job))).into_response())
}

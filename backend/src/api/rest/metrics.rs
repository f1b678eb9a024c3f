//! Metrics: the program's own numbers, now and before, for who administers.
//!
//! For: `/api/v1/metrics` and its history. May touch: the metrics, `worker::History`. Promises: the same numbers as in
//! GraphQL; Prometheus reads `/metrics` on the internal listener instead. Read next: `worker/history.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Administering, Allowed, QueryString};
use crate::base::trace::within;
use crate::worker::HistoryAsked;

/// What a client may ask of the history. Times are seconds of the Unix epoch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct HistoryQuery {
    metric: String,
    #[serde(default)]
    from: Option<i64>,
    #[serde(default)]
    to: Option<i64>,
    #[serde(default)]
    step: Option<i64>,
}

/// Counted from the start of the process that answers.
#[derive(Serialize)]
struct MetricsAnswer<'a> {
    version: &'static str,
    instance: &'a str,
    /// Seconds of the Unix epoch.
    started_at: f64,
    requests: f64,
    errors: f64,
    queries: f64,
    cache_hits: f64,
    tokens: f64,
    logins: f64,
    job_attempts: f64,
    jobs_queued: f64,
    open_connections: f64,
    cpu_seconds: f64,
    resident_bytes: f64,
}

#[derive(Serialize)]
struct HistoryAnswer {
    metric: &'static str,
    from: i64,
    to: i64,
    step: i64,
    points: Vec<PointAnswer>,
}

#[derive(Serialize)]
struct PointAnswer {
    at: i64,
    label: String,
    value: f64,
}

/// `GET /api/v1/metrics`
pub(in crate::api) async fn current(_: Allowed<Administering>, State(services): State<Arc<Services>>) -> Response {
    let totals = services.metrics.totals();
    let answer = MetricsAnswer {
        version: env!("CARGO_PKG_VERSION"),
        instance: services.history.instance(),
        started_at: totals.started_at,
        requests: totals.requests,
        errors: totals.errors,
        queries: totals.queries,
        cache_hits: totals.cache_hits,
        tokens: totals.tokens,
        logins: totals.logins,
        job_attempts: totals.job_attempts,
        jobs_queued: totals.jobs_queued,
        open_connections: totals.connections,
        cpu_seconds: totals.cpu_seconds,
        resident_bytes: totals.resident_bytes,
    };
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// `GET /api/v1/metrics/history`
pub(in crate::api) async fn history(
    _: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<HistoryQuery>,
) -> Result<Response, ApiError> {
    let asked = HistoryAsked { metric: &query.metric, from: query.from, to: query.to, step: query.step };
    let told = within("history.tell", services.history.tell(asked)).await?;
    let points =
        told.points.into_iter().map(|point| PointAnswer { at: point.at, label: point.label, value: point.value });
    let answer = HistoryAnswer {
        metric: told.metric,
        from: told.from,
        to: told.to,
        step: told.step,
        points: points.collect(),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

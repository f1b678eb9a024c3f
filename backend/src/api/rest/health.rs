//! Health: whether the program lives, and which of its parts work.
//!
//! For: `/health` for load balancers, `/health/detailed` for people. May touch: the probes, `query::Queries`.
//! Promises: `/health` does no I/O; `/health/detailed` answers within a probe's deadline, without credentials, and tells
//! nothing that an outsider could use. Read next: `base/health.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures::future::join_all;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Serialize;

use crate::api::Services;
use crate::base::health;
use crate::query::ModelStatus;

#[derive(Serialize)]
pub(in crate::api) struct AliveAnswer {
    status: &'static str,
}

#[derive(Serialize)]
struct DetailedAnswer {
    /// `ok`; `degraded` when no model answers; `unavailable` when a part that everything needs is away.
    status: &'static str,
    version: &'static str,
    parts: BTreeMap<&'static str, &'static str>,
    models: Vec<ModelHealth>,
}

#[derive(Serialize)]
struct ModelHealth {
    id: String,
    status: &'static str,
    /// Seconds of the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_at: Option<u64>,
}

/// `GET /health`
pub(in crate::api) async fn alive() -> Json<AliveAnswer> {
    Json(AliveAnswer { status: "ok" })
}

/// `GET /health/detailed`
pub(in crate::api) async fn detailed(State(services): State<Arc<Services>>) -> Response {
    let outcomes = join_all(services.probes.iter().map(health::ask)).await;
    let mut parts = BTreeMap::new();
    for (probe, outcome) in services.probes.iter().zip(outcomes) {
        if let Err(error) = &outcome {
            tracing::error!(part = probe.name(), error, "a part does not work");
        }
        parts.insert(probe.name(), if outcome.is_ok() { "ok" } else { "unavailable" });
    }
    let models = services.queries.models();
    let works = parts.values().all(|status| *status == "ok");
    let answers = models.iter().any(|model| model.status != ModelStatus::Failing);
    let answer = DetailedAnswer {
        status: match (works, answers) {
            (false, _) => "unavailable",
            (true, false) => "degraded",
            (true, true) => "ok",
        },
        version: env!("CARGO_PKG_VERSION"),
        parts,
        models: models
            .into_iter()
            .map(|model| ModelHealth { id: model.id, status: model.status.as_str(), answered_at: model.answered_at })
            .collect(),
    };
    let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

//! Health: whether the program lives, and which of its parts work.
//!
//! For: `/health` for load balancers, `/health/detailed` for people. May touch: the probes, `query::Queries`.
//! Promises: `/health` does no I/O; `/health/detailed` answers within a probe's deadline, without credentials. On the
//! public listener it asks only what everything needs, so that nobody outside makes this program knock at other
//! servers, and tells nothing that an outsider could use; on the internal one it asks every part at once and says how
//! long each took and in a word what failed. Read next: `base/health.rs`.

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
use crate::base::health::{self, Probe, Probed};
use crate::base::time::milliseconds;
use crate::query::ModelStatus;

const OK: &str = "ok";
const UNAVAILABLE: &str = "unavailable";

#[derive(Serialize)]
pub(in crate::api) struct AliveAnswer {
    status: &'static str,
}

#[derive(Serialize)]
struct DetailedAnswer<P> {
    /// `ok`; `degraded` when no model answers; `unavailable` when a part that everything needs is away.
    status: &'static str,
    version: &'static str,
    parts: P,
    models: Vec<ModelHealth>,
}

/// What the internal listener tells of a part.
#[derive(Serialize)]
struct PartAnswer<'a> {
    name: &'a str,
    status: &'static str,
    /// Whether nothing works without it.
    needed: bool,
    latency_ms: f64,
    /// What failed, in a word: `timeout`, `unreachable` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
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
    Json(AliveAnswer { status: OK })
}

/// `GET /health/detailed`
pub(in crate::api) async fn detailed(State(services): State<Arc<Services>>) -> Response {
    let needed: Vec<&Arc<dyn Probe>> = services.probes.iter().filter(|probe| probe.is_needed()).collect();
    let probed = join_all(needed.iter().copied().map(health::ask)).await;
    let works = probed.iter().all(|probed| probed.failure.is_none());
    let parts: BTreeMap<&str, &str> =
        needed.iter().zip(&probed).map(|(probe, probed)| (probe.name(), status_of(probed))).collect();
    answer(&services, works, parts)
}

/// `GET /health/detailed` on the internal listener
pub(in crate::api) async fn all_parts(State(services): State<Arc<Services>>) -> Response {
    let probed = join_all(services.probes.iter().map(health::ask)).await;
    let parts: Vec<PartAnswer<'_>> = services
        .probes
        .iter()
        .zip(&probed)
        .map(|(probe, probed)| PartAnswer {
            name: probe.name(),
            status: status_of(probed),
            needed: probe.is_needed(),
            latency_ms: milliseconds(probed.took),
            error: probed.failure,
        })
        .collect();
    let works = parts.iter().all(|part| !part.needed || part.error.is_none());
    answer(&services, works, parts)
}

fn status_of(probed: &Probed) -> &'static str {
    if probed.failure.is_none() { OK } else { UNAVAILABLE }
}

fn answer(services: &Services, works: bool, parts: impl Serialize) -> Response {
    let models = services.queries.models();
    let answers = models.iter().any(|model| model.status != ModelStatus::Failing);
    let answer = DetailedAnswer {
        status: match (works, answers) {
            (false, _) => UNAVAILABLE,
            (true, false) => "degraded",
            (true, true) => OK,
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

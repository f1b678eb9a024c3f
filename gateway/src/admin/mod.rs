//! Admin: the operators' side door.
//!
//! For: metrics and health, for probes and scrapers. May touch: the snapshot and the metrics, read only.
//! Promises: imported by nobody but `app`; no secret is shown; it asks for no credential, so it belongs on an address that
//! only operators reach.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::base::telemetry::metrics::Metrics;
use crate::snapshot::Snapshot;

/// What the side door shows.
#[derive(Clone)]
pub(crate) struct Admin {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    pub draining: watch::Receiver<bool>,
}

/// Serves until the process ends: probes must see a drain that is under way.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(admin);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "admin listener ended");
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The process answers, so it is alive.
async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// Ready for traffic: not draining, and able to judge every kind of token.
async fn ready(State(admin): State<Admin>) -> Response {
    let draining = *admin.draining.borrow();
    let judging = admin.snapshot.load().can_judge();
    let status = if draining {
        "draining"
    } else if judging {
        "ready"
    } else {
        "waiting for a key set"
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status }))).into_response()
}

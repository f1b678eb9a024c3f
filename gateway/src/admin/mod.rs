//! Admin: the operators' side door.
//!
//! For: metrics and health, for probes and scrapers; asking for a reload; withdrawing tokens and keys. May touch: the snapshot
//! and the metrics, read only; a reload is done elsewhere. Promises: imported by nobody but `app`; no secret is shown; it asks for no credential,
//! so it belongs on an address that only operators reach.

mod revocations;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::telemetry::metrics::Metrics;
use crate::snapshot::Snapshot;

/// What the side door shows.
#[derive(Clone)]
pub(crate) struct Admin {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    pub draining: watch::Receiver<bool>,
    pub reload: mpsc::Sender<ReloadRequest>,
}

/// Where the outcome of a reload goes: what is wrong, in the operator's words.
pub(crate) type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// Serves until the process ends: probes must see a drain that is under way. Once the listener is another process's
/// affair, it accepts nobody any more.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, mut left: watch::Receiver<bool>) {
    let handed_over = async move {
        // Without a sender nothing is handed over any more.
        if left.wait_for(|left| *left).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/reload", post(reload))
        .route("/revocations", get(revocations::list).post(revocations::withdraw))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(admin);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(handed_over).await {
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

/// Takes the configuration file in again, and says what is wrong with it if it does not.
async fn reload(State(admin): State<Admin>) -> Response {
    let (answer, outcome) = oneshot::channel();
    let asked = admin.reload.try_send(answer).is_ok();
    match outcome.await {
        Ok(Ok(())) => Json(json!({ "status": "reloaded" })).into_response(),
        Ok(Err(mistakes)) => {
            let mistakes: Vec<&str> = mistakes.lines().collect();
            let body = json!({ "status": "refused, the last configuration goes on", "mistakes": mistakes });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(_) if asked => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "ending" }))).into_response(),
        Err(_) => (StatusCode::TOO_MANY_REQUESTS, Json(json!({ "status": "busy reloading" }))).into_response(),
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

//! Cache: how the answer cache fares, and how to empty it.
//!
//! For: `/api/v1/cache`. May touch: `query::Queries`. Promises: nothing of any question or answer is told.
//! Read next: `query/cache.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::Services;
use crate::api::extract::{Administering, Allowed, Reading};

#[derive(Serialize)]
pub(in crate::api) struct StatsAnswer {
    entries: u64,
    hits: u64,
    /// Of these, the ones that another process had kept.
    shared_hits: u64,
    misses: u64,
    /// From 0 to 1; 0 before the first question.
    hit_rate: f64,
}

#[derive(Serialize)]
pub(in crate::api) struct ClearAnswer {
    /// How many answers there were.
    dropped: u64,
}

/// `GET /api/v1/cache`
pub(in crate::api) async fn stats(_: Allowed<Reading>, State(services): State<Arc<Services>>) -> Json<StatsAnswer> {
    let stats = services.queries.cache_stats().await;
    Json(StatsAnswer {
        entries: stats.entries,
        hits: stats.hits,
        shared_hits: stats.shared_hits,
        misses: stats.misses,
        hit_rate: stats.hit_rate(),
    })
}

/// `DELETE /api/v1/cache`
pub(in crate::api) async fn clear(
    _: Allowed<Administering>,
    State(services): State<Arc<Services>>,
) -> Json<ClearAnswer> {
    Json(ClearAnswer { dropped: services.queries.clear_cache().await })
}

//! Models: which models answer here.
//!
//! For: `/api/v1/models`. May touch: `query::Queries`. Promises: addresses of model servers are not told.
//! Read next: `query/models.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::Services;
use crate::api::extract::{Allowed, Reading};
use crate::query::ModelInfo;

#[derive(Serialize)]
pub(in crate::api) struct ModelsAnswer {
    items: Vec<ModelAnswer>,
}

#[derive(Serialize)]
struct ModelAnswer {
    id: String,
    size: &'static str,
    provider: &'static str,
    max_tokens: u32,
    status: &'static str,
    /// `closed`; `open` while it is left alone after failures; `half_open` while one request probes it.
    circuit: &'static str,
    /// The models that are asked instead, in order.
    fallbacks: Vec<String>,
}

impl From<ModelInfo> for ModelAnswer {
    fn from(model: ModelInfo) -> Self {
        Self {
            id: model.id,
            size: model.size.word(),
            provider: model.provider,
            max_tokens: model.tokens_max,
            status: model.status.as_str(),
            circuit: model.circuit.as_str(),
            fallbacks: model.fallbacks,
        }
    }
}

/// `GET /api/v1/models`
pub(in crate::api) async fn list(_: Allowed<Reading>, State(services): State<Arc<Services>>) -> Json<ModelsAnswer> {
    Json(ModelsAnswer { items: services.queries.models().into_iter().map(ModelAnswer::from).collect() })
}

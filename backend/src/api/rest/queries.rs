//! Queries: a question in, an answer out.
//!
//! For: `/api/v1/query`. May touch: `query::Queries`. Promises: the answer says which model gave it and why.
//! Read next: `query/mod.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, Executing, JsonBody};
use crate::query::{Answer, Question};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(in crate::api) struct QueryRequest {
    query: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

#[derive(Serialize)]
pub(in crate::api) struct QueryAnswer {
    id: String,
    answer: String,
    model: String,
    routing: RoutingAnswer,
    cached: bool,
    usage: UsageAnswer,
    duration_ms: f64,
}

#[derive(Serialize)]
struct RoutingAnswer {
    model: String,
    complexity: u8,
    reason: String,
}

#[derive(Serialize)]
struct UsageAnswer {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// `POST /api/v1/query`
pub(in crate::api) async fn ask(
    Allowed { caller, .. }: Allowed<Executing>,
    State(services): State<Arc<Services>>,
    JsonBody(request): JsonBody<QueryRequest>,
) -> Result<Json<QueryAnswer>, ApiError> {
    let question = Question {
        text: request.query,
        model: request.model,
        tokens_max: request.max_tokens,
        temperature: request.temperature,
    };
    let answer = services.queries.ask(&caller.subject, &question).await?;
    Ok(Json(shape(answer)))
}

fn shape(answer: Answer) -> QueryAnswer {
    QueryAnswer {
        id: answer.id,
        answer: answer.text,
        model: answer.routed.model.clone(),
        routing: RoutingAnswer {
            model: answer.routed.model,
            complexity: answer.routed.complexity,
            reason: answer.routed.reason,
        },
        cached: answer.cached,
        usage: UsageAnswer {
            prompt_tokens: answer.usage.prompt_tokens,
            completion_tokens: answer.usage.completion_tokens,
        },
        // Microseconds are as fine as a client can use.
        duration_ms: (answer.took.as_secs_f64() * 1_000_000.0).round() / 1_000.0,
    }
}

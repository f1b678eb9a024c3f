//! Queries: a question in, an answer out, whole or streamed.
//!
//! For: `/api/v1/query`. May touch: `query::Queries`. Promises: the answer says which model gave it and why, what was added
//! to the question, and whether it was kept from an earlier time. A stream says it in the events `routing` (once, first),
//! `delta` (the text) and `done` (once, last), or `error` (a problem, after which nothing comes).
//! Read next: `query/mod.rs`, then `sse.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use common::problem::Problem;
use serde::{Deserialize, Serialize};

use super::{cache_header, sse};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, Executing, JsonBody};
use crate::api::middleware::Origin;
use crate::base::time::milliseconds;
use crate::query::{Ace, Answer, Executed, Question, Routed, StreamEvent, Usage};

/// What the problem in an `error` event is about.
const PATH: &str = "/api/v1/query";

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
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    execute: bool,
    #[serde(default)]
    public: bool,
}

#[derive(Serialize)]
struct QueryAnswer {
    id: String,
    answer: String,
    model: String,
    routing: RoutingAnswer,
    cached: bool,
    usage: UsageAnswer,
    finish_reason: &'static str,
    /// The playbook that was added; null, if none was.
    ace: Option<AceAnswer>,
    /// Absent where no sandbox is configured or nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    e2b: Option<ExecutedAnswer>,
    duration_ms: f64,
}

#[derive(Serialize)]
pub(super) struct RoutingAnswer {
    model: String,
    complexity: u8,
    reason: String,
}

#[derive(Serialize)]
struct UsageAnswer {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Serialize)]
pub(super) struct AceAnswer {
    playbook: String,
    score: u32,
    added_chars: usize,
}

#[derive(Serialize)]
struct ExecutedAnswer {
    executed: bool,
    stdout: String,
    stderr: String,
    exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    took_ms: f64,
}

/// The event `delta`.
#[derive(Serialize)]
struct DeltaAnswer {
    text: String,
}

/// The event `done`.
#[derive(Serialize)]
struct DoneAnswer {
    id: String,
    usage: UsageAnswer,
    cached: bool,
    finish_reason: &'static str,
    ace: Option<AceAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2b: Option<ExecutedAnswer>,
    duration_ms: f64,
}

impl From<Routed> for RoutingAnswer {
    fn from(routed: Routed) -> Self {
        Self { model: routed.model, complexity: routed.complexity, reason: routed.reason }
    }
}

impl From<Usage> for UsageAnswer {
    fn from(usage: Usage) -> Self {
        Self { prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens }
    }
}

impl From<Ace> for AceAnswer {
    fn from(ace: Ace) -> Self {
        Self { playbook: ace.playbook, score: ace.score, added_chars: ace.added_chars }
    }
}

impl From<Executed> for ExecutedAnswer {
    fn from(run: Executed) -> Self {
        Self {
            executed: run.executed,
            stdout: run.stdout,
            stderr: run.stderr,
            exit_code: run.exit_code,
            error: run.error,
            took_ms: milliseconds(run.took),
        }
    }
}

impl From<Answer> for QueryAnswer {
    fn from(answer: Answer) -> Self {
        Self {
            id: answer.id,
            answer: answer.text,
            model: answer.routed.model.clone(),
            routing: answer.routed.into(),
            cached: answer.cached,
            usage: answer.usage.into(),
            finish_reason: answer.finish.as_str(),
            ace: answer.ace.map(AceAnswer::from),
            e2b: answer.e2b.map(ExecutedAnswer::from),
            duration_ms: milliseconds(answer.took),
        }
    }
}

/// `POST /api/v1/query`
pub(in crate::api) async fn ask(
    Allowed { caller, .. }: Allowed<Executing>,
    State(services): State<Arc<Services>>,
    origin: Origin,
    JsonBody(request): JsonBody<QueryRequest>,
) -> Result<Response, ApiError> {
    let question = Question {
        text: request.query,
        history: Vec::new(),
        model: request.model,
        tokens_max: request.max_tokens,
        temperature: request.temperature,
        public: request.public,
        execute: request.execute,
    };
    if request.stream {
        let events = services.queries.stream(&caller.subject, &question).await?;
        let voice = Voice { request_id: origin.request_id };
        return sse::respond(events, services.queries.heartbeat(), voice).await;
    }
    let answer = services.queries.ask(&caller.subject, &question).await?;
    Ok((cache_header(answer.cached), Json(QueryAnswer::from(answer))).into_response())
}

/// This route's own words for a stream.
struct Voice {
    request_id: String,
}

impl sse::Voice for Voice {
    fn say(&mut self, event: StreamEvent) -> Vec<Event> {
        vec![match event {
            StreamEvent::Routed(routed) => sse::event(Some("routing"), &RoutingAnswer::from(routed)),
            StreamEvent::Text(text) => sse::event(Some("delta"), &DeltaAnswer { text }),
            StreamEvent::Done(done) => {
                let answer = DoneAnswer {
                    id: done.id,
                    usage: done.usage.into(),
                    cached: done.cached,
                    finish_reason: done.finish.as_str(),
                    ace: done.ace.map(AceAnswer::from),
                    e2b: done.e2b.map(ExecutedAnswer::from),
                    duration_ms: milliseconds(done.took),
                };
                sse::event(Some("done"), &answer)
            }
        }]
    }

    fn break_off(&mut self, error: ApiError) -> Event {
        let refusal = error.told();
        let problem = Problem::new(refusal.code).detail(&refusal.detail).instance(PATH).request_id(&self.request_id);
        sse::event(Some("error"), &problem)
    }
}

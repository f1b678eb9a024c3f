//! `OpenAI`: the same questions and answers in the form that `OpenAI`'s clients speak.
//!
//! For: `/v1/chat/completions` and `/v1/models`, so that programs written for that API need another address and nothing
//! else. May touch: `query::Queries`. Promises: the same permissions, limits, models and cache as `/api/v1/query`; what
//! would change the answer and is not done here (`n` above 1, tools, functions, log probabilities) is refused, and other
//! unknown fields are ignored; refusals have `OpenAI`'s form with our code inside.
//! Read next: `openai_types.rs` for the form, `queries.rs` for our own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use common::code::Code;

use super::openai_types::{
    ChatRequest, Chunk, Completion, Delta, ErrorBody, Extension, ModelBody, ModelsBody, UsageBody,
};
use super::{cache_header, sse};
use crate::api::Services;
use crate::api::error::{ApiError, Refusal};
use crate::api::extract::{Allowed, Executing, JsonBody, PathText, Reading};
use crate::query::{FinishReason, QueryError, StreamEvent};

/// What the paths of this door begin with.
const PREFIX: &str = "/v1/";

/// The media type of its refusals.
pub(in crate::api) const MEDIA_TYPE: &str = "application/json";

/// The model that stands for "let the router choose".
pub(super) const AUTO: &str = "auto";

/// Whether refusals of this path have this door's form.
pub(in crate::api) fn answers(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The body of a refusal.
pub(in crate::api) fn refusal_body(refusal: &Refusal) -> Vec<u8> {
    // Strings only: writing them to memory cannot fail.
    serde_json::to_vec(&ErrorBody::from(refusal)).unwrap_or_default()
}

/// `POST /v1/chat/completions`
pub(in crate::api) async fn complete(
    Allowed { caller, .. }: Allowed<Executing>,
    State(services): State<Arc<Services>>,
    JsonBody(request): JsonBody<ChatRequest>,
) -> Result<Response, ApiError> {
    let (is_streamed, with_usage) = (request.is_streamed(), request.with_usage());
    let question = request.into_question()?;
    if is_streamed {
        let events = services.queries.stream(&caller.subject, &question).await.map_err(refuse)?;
        let voice = Voice {
            id: completion_id(&events.id),
            created: events.asked_at,
            cached: events.cached,
            model: String::new(),
            with_usage,
        };
        return sse::respond(events, services.queries.heartbeat(), voice).await;
    }
    let answer = services.queries.ask(&caller.subject, &question).await.map_err(refuse)?;
    let id = completion_id(&answer.id);
    Ok((cache_header(answer.cached), Json(Completion::new(id, answer))).into_response())
}

/// `GET /v1/models`
pub(in crate::api) async fn models(_: Allowed<Reading>, State(services): State<Arc<Services>>) -> Json<ModelsBody> {
    let ids = services.queries.models().into_iter().map(|model| model.id);
    Json(ModelsBody::new(std::iter::once(AUTO.to_owned()).chain(ids).map(ModelBody::new).collect()))
}

/// `GET /v1/models/{id}`
pub(in crate::api) async fn model(
    _: Allowed<Reading>,
    State(services): State<Arc<Services>>,
    PathText(id): PathText,
) -> Result<Json<ModelBody>, ApiError> {
    if id == AUTO || services.queries.models().iter().any(|model| model.id == id) {
        return Ok(Json(ModelBody::new(id)));
    }
    Err(ApiError::new(Code::NotFound, "there is no such model").about("model"))
}

fn completion_id(id: &str) -> String {
    format!("chatcmpl-{id}")
}

/// Clients know the question as `messages`, and expect 404 where a model is not there.
fn refuse(error: QueryError) -> ApiError {
    match error {
        QueryError::Input { field: "query", why } => QueryError::Input { field: "messages", why }.into(),
        QueryError::Input { field: "model", why } => {
            ApiError::new(Code::NotFound, format!("model {why}")).about("model")
        }
        error => error.into(),
    }
}

/// This door's words for a stream.
struct Voice {
    id: String,
    created: u64,
    cached: bool,
    /// The one that answers, as soon as that is known.
    model: String,
    with_usage: bool,
}

impl Voice {
    fn chunk(&self, delta: Delta, finish: Option<FinishReason>) -> Chunk<'_> {
        Chunk::new(&self.id, self.created, &self.model).saying(delta, finish)
    }
}

impl sse::Voice for Voice {
    fn say(&mut self, event: StreamEvent) -> Vec<Event> {
        match event {
            StreamEvent::Routed(routed) => {
                self.model.clone_from(&routed.model);
                let chunk = self.chunk(Delta::first(), None).explained(Extension::begun(routed, self.cached));
                vec![sse::event(None, &chunk)]
            }
            StreamEvent::Text(text) => vec![sse::event(None, &self.chunk(Delta::text(text), None))],
            StreamEvent::Done(done) => {
                let last = self.chunk(Delta::default(), Some(done.finish)).explained(Extension::ended(done.ace));
                let mut said = vec![sse::event(None, &last)];
                if self.with_usage {
                    let chunk = Chunk::new(&self.id, self.created, &self.model).counting(UsageBody::from(done.usage));
                    said.push(sse::event(None, &chunk));
                }
                said.push(Event::default().data("[DONE]"));
                said
            }
        }
    }

    fn break_off(&mut self, error: ApiError) -> Event {
        sse::event(None, &ErrorBody::from(&error.told()))
    }

    fn refuse(error: QueryError) -> ApiError {
        refuse(error)
    }
}

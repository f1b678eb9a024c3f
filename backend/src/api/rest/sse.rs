//! SSE: a streamed answer as server-sent events, whatever the events are called.
//!
//! For: `queries.rs` and `openai.rs`, each with a voice of its own. May touch: `query::AnswerStream`.
//! Promises: what fails within the first heartbeat is answered with a status of its own; after that the head is sent, and a
//! comment whenever there is nothing else to tell. The stream is dropped with the body, and with it the model's work.
//! Read next: `queries.rs`.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::cache_header;
use crate::api::error::ApiError;
use crate::query::{AnswerStream, QueryError, StreamEvent};

/// What the comment says: `: ping`.
const HEARTBEAT: &str = "ping";

/// How an answer is put into events.
pub(super) trait Voice: Send + 'static {
    /// What is said of one thing that the stream tells.
    fn say(&mut self, event: StreamEvent) -> Vec<Event>;

    /// What is said when it breaks off.
    fn break_off(&mut self, error: ApiError) -> Event;

    /// The error as the client knows it.
    fn refuse(error: QueryError) -> ApiError {
        error.into()
    }
}

/// The answer's response. Returns when there is something to tell, or after a heartbeat.
pub(super) async fn respond<V: Voice>(
    mut events: AnswerStream,
    heartbeat: Duration,
    mut voice: V,
) -> Result<Response, ApiError> {
    let cached = events.cached;
    let first = match tokio::time::timeout(heartbeat, events.next()).await {
        Ok(Some(Err(error))) => return Err(V::refuse(error)),
        Ok(first) => first,
        // A slow model: whoever waits for the head learns that somebody is at work.
        Err(_) => None,
    };
    let said = stream::iter(first).chain(events).flat_map(move |event| {
        let said = match event {
            Ok(event) => voice.say(event),
            Err(error) => vec![voice.break_off(V::refuse(error))],
        };
        stream::iter(said.into_iter().map(Ok::<_, Infallible>))
    });
    let body = Sse::new(said).keep_alive(KeepAlive::new().interval(heartbeat).text(HEARTBEAT));
    Ok((cache_header(cached), body).into_response())
}

/// An event with JSON for its data.
pub(super) fn event(name: Option<&str>, data: &impl Serialize) -> Event {
    let event = name.map_or_else(Event::default, |name| Event::default().event(name));
    // Strings, numbers and booleans only: writing them to memory cannot fail.
    event.data(serde_json::to_string(data).unwrap_or_default())
}

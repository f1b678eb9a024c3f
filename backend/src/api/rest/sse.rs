//! SSE: a streamed answer as server-sent events, whatever the events are called.
//!
//! For: `queries.rs` and `openai.rs`, each with a voice of its own. May touch: `query::AnswerStream`.
//! Promises: what fails within the first heartbeat is answered with a status of its own; after that the head is sent, and a
//! comment whenever there is nothing else to tell. The stream is dropped with the body, and with it the model's work; so it
//! is when the client takes nothing for `STALLED_HEARTBEATS`, and then the connection breaks.
//! Read next: `queries.rs`.

use std::io;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

use super::cache_header;
use crate::api::error::ApiError;
use crate::query::{AnswerStream, QueryError, StreamEvent};

/// What the comment says: `: ping`.
const HEARTBEAT: &str = "ping";

/// Things told that the connection has not asked for yet.
const UNTAKEN_MAX: usize = 16;

/// For how many heartbeats a client may take nothing before it counts as gone.
const STALLED_HEARTBEATS: u32 = 3;

/// What a stream tells next.
type Heard = Result<StreamEvent, QueryError>;

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
    let rest = read_apart(events, heartbeat.saturating_mul(STALLED_HEARTBEATS));
    let said = stream::iter(first.map(Ok)).chain(rest).flat_map(move |heard| {
        let said: Vec<io::Result<Event>> = match heard {
            Ok(Ok(event)) => voice.say(event).into_iter().map(Ok).collect(),
            Ok(Err(error)) => vec![Ok(voice.break_off(V::refuse(error)))],
            Err(broken) => vec![Err(broken)],
        };
        stream::iter(said)
    });
    let body = Sse::new(said).keep_alive(KeepAlive::new().interval(heartbeat).text(HEARTBEAT));
    Ok((cache_header(cached), body).into_response())
}

/// The same events, read by a task of their own. A connection asks for more only while its client takes what is there: a
/// client that does not would keep its stream open for ever, and so a place that is somebody else's turn.
fn read_apart(mut events: AnswerStream, patience: Duration) -> impl Stream<Item = io::Result<Heard>> + Send {
    let (sender, receiver) = mpsc::channel(UNTAKEN_MAX);
    tokio::spawn(async move {
        pass_on(&mut events, &sender, patience).await;
        // Its place is free before the client learns that this was the end.
        drop(events);
        drop(sender);
    });
    stream::unfold((receiver, false), |(mut receiver, is_over)| async move {
        match receiver.recv().await {
            Some(heard) => {
                let is_over = matches!(heard, Ok(StreamEvent::Done(_)) | Err(_));
                Some((Ok(heard), (receiver, is_over)))
            }
            None if is_over => None,
            // What was told so far must not look like all there was.
            None => Some((Err(io::Error::other("the stream was ended")), (receiver, true))),
        }
    })
}

/// Passes events on until there are no more, or nobody takes them.
async fn pass_on(events: &mut AnswerStream, sender: &mpsc::Sender<Heard>, patience: Duration) {
    loop {
        let heard = tokio::select! {
            () = sender.closed() => return,
            heard = events.next() => heard,
        };
        let Some(heard) = heard else { return };
        match sender.send_timeout(heard, patience).await {
            Ok(()) => {}
            Err(SendTimeoutError::Closed(_)) => return,
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::warn!(stream = events.id, "a client took nothing for {patience:?}; its stream is ended");
                return;
            }
        }
    }
}

/// An event with JSON for its data.
pub(super) fn event(name: Option<&str>, data: &impl Serialize) -> Event {
    let event = name.map_or_else(Event::default, |name| Event::default().event(name));
    // Strings, numbers and booleans only: writing them to memory cannot fail.
    event.data(serde_json::to_string(data).unwrap_or_default())
}

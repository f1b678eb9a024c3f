//! Model: a server of the OpenAI-compatible HTTP API that answers, or misbehaves, as it is told.
//!
//! For: what the backend sends to a model, and what it makes of a model's faults. May touch: loopback sockets.
//! Promises: every request is kept, in order; whole answers and streams tell the same; a client that leaves before the end
//! of an answer is counted. Read next: `models.rs` in the folder above.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::stream;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use testkit::wait::until;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Requests that a model keeps; a test sends fewer.
const SEEN_MAX: usize = 1_000;

/// What the model does when it is asked.
#[derive(Clone, Debug)]
pub enum Script {
    /// Answers with this text, and says that it took 7 tokens to read and 11 to write.
    Answer(&'static str),
    /// Answers as `Answer` does, once `FakeModel::release` has been called for it.
    Hold(&'static str),
    /// Answers as `Hold` does, but fails whoever asks about the first text.
    HoldOrFail(&'static str, &'static str),
    /// Answers with this status.
    Status(StatusCode),
    /// Answers 429, and wants to be asked again after so many seconds.
    Busy(u64),
    /// Answers 200 with this body.
    Body(String),
    /// Streams this text word by word, each once `FakeModel::release` has been called for it.
    Drip(&'static str),
    /// Streams this text, and breaks the connection once `FakeModel::release` has been called for it.
    Break(&'static str),
    /// Streams exactly this.
    Events(String),
    /// Keeps the connection and says nothing.
    Silence,
}

/// A request as it reached the model.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The credential that came with it.
    pub authorization: Option<String>,
    /// What was asked.
    pub body: Value,
}

/// A running model server; dropping it stops it.
pub struct FakeModel {
    address: SocketAddr,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    script: Mutex<Script>,
    /// How many requests are answered with this status before the script counts.
    failing: Mutex<(usize, StatusCode)>,
    seen: Mutex<Vec<Asked>>,
    released: Semaphore,
    left: AtomicUsize,
}

impl FakeModel {
    /// Starts one on a port of the system's choice.
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inner = Arc::new(Inner {
            script: Mutex::new(script),
            failing: Mutex::new((0, StatusCode::SERVICE_UNAVAILABLE)),
            seen: Mutex::default(),
            released: Semaphore::new(0),
            left: AtomicUsize::new(0),
        });
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a listening socket serves");
        });
        Self { address, inner, task }
    }

    /// The base address for the settings.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The members that every test gives a model of the settings.
    pub fn setting(&self, id: &str, size: &str) -> String {
        format!("id: {id}, size: {size}, url: \"{}\"", self.url())
    }

    /// Changes what it does from now on.
    pub fn now(&self, script: Script) {
        *self.inner.script.lock().expect("no handler panicked") = script;
    }

    /// Answers the next requests with this status, and those after it as the script says.
    pub fn fail_next(&self, times: usize, status: StatusCode) {
        *self.inner.failing.lock().expect("no handler panicked") = (times, status);
    }

    /// Lets one request, or one word, go that is held.
    pub fn release(&self) {
        self.inner.released.add_permits(1);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.inner.seen.lock().expect("no handler panicked").clone()
    }

    /// How many clients left before the end of their answer.
    pub fn left(&self) -> usize {
        self.inner.left.load(Ordering::SeqCst)
    }

    /// Waits until so many clients have left.
    pub async fn until_left(&self, times: usize, limit: Duration) {
        until("the model's client leaves", limit, async || (self.left() >= times).then_some(())).await;
    }

    /// Waits until it has been asked so often.
    pub async fn until_asked(&self, times: usize, limit: Duration) {
        until("the model is asked", limit, async || (self.seen().len() >= times).then_some(())).await;
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts a client that leaves, unless it was told that the client has stayed.
struct Watch {
    model: Arc<Inner>,
    has_stayed: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.has_stayed {
            self.model.left.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn complete(State(model): State<Arc<Inner>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is_streamed = body["stream"] == true;
    let asked_last = body["messages"].as_array().and_then(|messages| messages.last());
    let asked_last = asked_last.and_then(|message| message["content"].as_str()).map(str::to_owned);
    let asked = Asked { authorization: authorization.map(std::borrow::Cow::into_owned), body };
    {
        let mut seen = model.seen.lock().expect("no handler panicked");
        assert!(seen.len() < SEEN_MAX, "a test sends fewer than {SEEN_MAX} requests");
        seen.push(asked);
    }
    {
        let mut failing = model.failing.lock().expect("no handler panicked");
        if failing.0 > 0 {
            failing.0 -= 1;
            return (failing.1, "the model's own words").into_response();
        }
    }
    let script = model.script.lock().expect("no handler panicked").clone();
    let asked_last = asked_last.unwrap_or_default();
    let mut watch = Watch { model: Arc::clone(&model), has_stayed: false };
    match script {
        Script::Silence => std::future::pending().await,
        Script::Hold(_) | Script::HoldOrFail(..) => {
            model.released.acquire().await.expect("the semaphore is never closed").forget();
        }
        _ => {}
    }
    watch.has_stayed = true;
    match script {
        Script::HoldOrFail(word, _) if asked_last.contains(word) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the model's own words").into_response()
        }
        Script::Answer(text) | Script::Hold(text) | Script::HoldOrFail(_, text) if is_streamed => {
            told(&model, words(text, false), true)
        }
        Script::Answer(text) | Script::Hold(text) | Script::HoldOrFail(_, text) => completion(text),
        Script::Drip(text) => told(&model, words(text, true), true),
        Script::Break(text) => {
            let mut words = words(text, false);
            words.last_mut().expect("every text has an end").is_held = true;
            told(&model, words, false)
        }
        Script::Events(text) => told(&model, vec![Told { text, is_held: false }], true),
        Script::Status(status) => (status, "the model's own words").into_response(),
        Script::Busy(seconds) => {
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, "the model's own words").into_response()
        }
        Script::Body(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Script::Silence => unreachable!("it is silent above"),
    }
}

/// What a server of this API answers, with members that the backend need not know.
fn completion(text: &str) -> Response {
    Json(json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "whatever the server calls it",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18 },
    }))
    .into_response()
}

/// One piece of a stream.
struct Told {
    text: String,
    /// Whether it waits for `FakeModel::release`.
    is_held: bool,
}

/// The words of a text as events, between the one that says who speaks and those that every text ends with.
fn words(text: &str, is_held: bool) -> Vec<Told> {
    let first = chunk(&json!({ "role": "assistant", "content": "" }), None);
    let mut told = vec![Told { text: format!(": a comment\n\n{first}"), is_held: false }];
    for word in text.split_inclusive(' ') {
        told.push(Told { text: chunk(&json!({ "content": word }), None), is_held });
    }
    let usage = json!({
        "choices": [],
        "usage": { "prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18 },
    });
    let last = format!("{}data: {usage}\n\ndata: [DONE]\n\n", chunk(&json!({}), Some("stop")));
    told.push(Told { text: last, is_held: false });
    told
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "whatever the server calls it",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    });
    format!("data: {chunk}\n\n")
}

/// A stream of these. With `is_whole` unset, the connection breaks where the last one would have been.
fn told(model: &Arc<Inner>, told: Vec<Told>, is_whole: bool) -> Response {
    let watch = Watch { model: Arc::clone(model), has_stayed: false };
    let body = stream::unfold((told.into_iter(), watch), move |(mut told, mut watch)| async move {
        let next = told.next()?;
        if next.is_held {
            watch.model.released.acquire().await.expect("the semaphore is never closed").forget();
        }
        let is_last = told.as_slice().is_empty();
        watch.has_stayed = is_last;
        if is_last && !is_whole {
            return Some((Err(io::Error::other("the model breaks off")), (told, watch)));
        }
        Some((Ok(next.text), (told, watch)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

//! Model: a server of the OpenAI-compatible HTTP API that answers, or misbehaves, as it is told.
//!
//! For: what the backend sends to a model, and what it makes of a model's faults. May touch: loopback sockets.
//! Promises: every request is kept, in order. Read next: `models.rs` in the folder above.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
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
    /// Answers with this status.
    Status(StatusCode),
    /// Answers 200 with this body.
    Body(String),
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
    seen: Mutex<Vec<Asked>>,
    released: Semaphore,
}

impl FakeModel {
    /// Starts one on a port of the system's choice.
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inner =
            Arc::new(Inner { script: Mutex::new(script), seen: Mutex::default(), released: Semaphore::new(0) });
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

    /// Lets one request go that is held.
    pub fn release(&self) {
        self.inner.released.add_permits(1);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.inner.seen.lock().expect("no handler panicked").clone()
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn complete(State(model): State<Arc<Inner>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let asked = Asked { authorization: authorization.map(std::borrow::Cow::into_owned), body };
    {
        let mut seen = model.seen.lock().expect("no handler panicked");
        assert!(seen.len() < SEEN_MAX, "a test sends fewer than {SEEN_MAX} requests");
        seen.push(asked);
    }
    let script = model.script.lock().expect("no handler panicked").clone();
    match script {
        Script::Answer(text) => completion(text),
        Script::Hold(text) => {
            model.released.acquire().await.expect("the semaphore is never closed").forget();
            completion(text)
        }
        Script::Status(status) => (status, "the model's own words").into_response(),
        Script::Body(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Script::Silence => std::future::pending().await,
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

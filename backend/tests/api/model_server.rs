//! A server of the OpenAI-compatible API that behaves as its path says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// The server; it ends with the test's runtime.
pub struct ModelServer {
    pub address: SocketAddr,
    state: Arc<Behaviour>,
}

struct Behaviour {
    asked: AtomicUsize,
    /// Requests to `/held` wait for a permit.
    released: Semaphore,
}

impl ModelServer {
    pub async fn start() -> Self {
        let state = Arc::new(Behaviour { asked: AtomicUsize::new(0), released: Semaphore::new(0) });
        let router =
            Router::new().route("/{behaviour}/v1/chat/completions", post(complete)).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, state }
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Lets one held request go on.
    pub fn release(&self) {
        self.state.released.add_permits(1);
    }

    /// A line of the configuration's list of models.
    pub fn model(&self, id: &str, size: &str, behaviour: &str, extra: &str) -> String {
        format!("  - {{ id: {id}, size: {size}, url: \"http://{}/{behaviour}/v1\", timeout: 1s{extra} }}\n", self.address)
    }
}

async fn complete(
    State(state): State<Arc<Behaviour>>,
    Path(behaviour): Path<String>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    state.asked.fetch_add(1, Ordering::SeqCst);
    match behaviour.as_str() {
        "failing" => (StatusCode::INTERNAL_SERVER_ERROR, "out of memory at 0xSECRET").into_response(),
        "garbage" => "this is no JSON".into_response(),
        "empty" => Json(json!({ "choices": [] })).into_response(),
        "large" => answer(&"x".repeat(4_096)).into_response(),
        "hanging" => std::future::pending().await,
        "held" => {
            state.released.acquire().await.expect("never closed").forget();
            answer("released").into_response()
        }
        _ => {
            let key = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("no key");
            answer(&format!("{key} {request}")).into_response()
        }
    }
}

fn answer(text: &str) -> Json<Value> {
    Json(json!({
        "id": "c-1", "object": "chat.completion",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8 },
    }))
}

//! Sandbox: a service that says it ran the code it is given.
//!
//! For: what the backend sends to a sandbox, and what it makes of its answers. May touch: loopback sockets.
//! Promises: no code is run; every request is kept, in order. Read next: `sandbox.rs` in the folder above.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running sandbox; dropping it stops it.
pub struct FakeSandbox {
    address: SocketAddr,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    answer: Mutex<(StatusCode, Value)>,
    seen: Mutex<Vec<(Option<String>, Value)>>,
}

impl FakeSandbox {
    /// Starts one that answers 200 with this.
    pub async fn start(answer: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inner = Arc::new(Inner { answer: Mutex::new((StatusCode::OK, answer)), seen: Mutex::default() });
        let router = Router::new().route("/execute", post(execute)).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a listening socket serves");
        });
        Self { address, inner, task }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it answers from now on.
    pub fn now(&self, status: StatusCode, answer: Value) {
        *self.inner.answer.lock().expect("no handler panicked") = (status, answer);
    }

    /// Every request so far: the credential, and the body.
    pub fn seen(&self) -> Vec<(Option<String>, Value)> {
        self.inner.seen.lock().expect("no handler panicked").clone()
    }
}

impl Drop for FakeSandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn execute(State(sandbox): State<Arc<Inner>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    sandbox.seen.lock().expect("no handler panicked").push((authorization, body));
    let (status, answer) = sandbox.answer.lock().expect("no handler panicked").clone();
    (status, Json(answer)).into_response()
}

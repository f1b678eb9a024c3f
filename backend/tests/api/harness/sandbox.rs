//! Sandbox: services that say they ran the code they are given, by the plain contract and by E2B's.
//!
//! For: what the backend sends to a sandbox, and what it makes of its answers. May touch: loopback sockets.
//! Promises: no code is run; every request is kept, in order. Read next: `sandbox.rs` in the folder above.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
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

/// A service that speaks as E2B does: its API, and below each sandbox's id the sandbox itself.
pub struct FakeE2b {
    address: SocketAddr,
    inner: Arc<OfE2b>,
    task: JoinHandle<()>,
}

/// What a service that speaks as E2B does takes its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Everything is done at once.
    Nothing,
    /// A sandbox is there only later.
    Making,
    /// Code comes to no end.
    Running,
}

/// A request: its method and path, the credential that came with it, and its body.
pub type Call = (String, Option<String>, Value);

struct OfE2b {
    /// The status with which sandboxes are made.
    status: Mutex<StatusCode>,
    /// What code says, a line each.
    lines: Mutex<String>,
    made: Mutex<usize>,
    held: watch::Sender<Held>,
    calls: Mutex<Vec<Call>>,
}

impl FakeE2b {
    /// Starts one whose code says nothing.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inner = Arc::new(OfE2b {
            status: Mutex::new(StatusCode::CREATED),
            lines: Mutex::default(),
            made: Mutex::default(),
            held: watch::Sender::new(Held::Nothing),
            calls: Mutex::default(),
        });
        let router = Router::new()
            .route("/sandboxes", post(make))
            .route("/sandboxes/{id}", delete(end))
            .route("/{id}/execute", post(interpret))
            .with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a listening socket serves");
        });
        Self { address, inner, task }
    }

    /// The address of its API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has code say this from now on.
    pub fn says(&self, lines: &[Value]) {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        *self.inner.lines.lock().expect("no handler panicked") = lines.join("\n");
    }

    /// Answers whoever wants a sandbox with this status from now on.
    pub fn refuses(&self, status: StatusCode) {
        *self.inner.status.lock().expect("no handler panicked") = status;
    }

    /// Takes its time for this from now on, and for nothing else any more.
    pub fn holds(&self, held: Held) {
        self.inner.held.send_replace(held);
    }

    /// Every request so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().expect("no handler panicked").clone()
    }
}

impl Drop for FakeE2b {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OfE2b {
    async fn until_not(&self, held: Held) {
        self.held.subscribe().wait_for(|now| *now != held).await.expect("the sender is here");
    }

    fn note(&self, what: String, headers: &HeaderMap, credential: &str, body: Value) {
        let credential = headers.get(credential).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.calls.lock().expect("no handler panicked").push((what, credential, body));
    }
}

async fn make(State(e2b): State<Arc<OfE2b>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    e2b.note("POST /sandboxes".to_owned(), &headers, "x-api-key", body);
    e2b.until_not(Held::Making).await;
    let status = *e2b.status.lock().expect("no handler panicked");
    let mut made = e2b.made.lock().expect("no handler panicked");
    *made += 1;
    let answer =
        json!({ "sandboxID": format!("box-{made}"), "templateID": "t", "envdAccessToken": format!("of-box-{made}") });
    (status, Json(answer)).into_response()
}

async fn interpret(
    State(e2b): State<Arc<OfE2b>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> String {
    e2b.note(format!("POST /{id}/execute"), &headers, "x-access-token", body);
    e2b.until_not(Held::Running).await;
    e2b.lines.lock().expect("no handler panicked").clone()
}

async fn end(State(e2b): State<Arc<OfE2b>>, Path(id): Path<String>, headers: HeaderMap) -> StatusCode {
    e2b.note(format!("DELETE /sandboxes/{id}"), &headers, "x-api-key", Value::Null);
    StatusCode::NO_CONTENT
}

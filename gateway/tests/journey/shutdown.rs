//! Shutdown: SIGTERM under load cuts nothing, lets nobody new in, and does not dawdle.
//!
//! What counts as failed: a request that was sent and not completely answered with 200. What does not: a request that
//! never left, because the gateway had announced the end of the connection (`Connection: close`, GOAWAY) before.
//! Read next: `whole.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use testkit::wait::{PATIENCE, until, within};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{Connection, H1, H2, Hello, Lost};
use crate::harness::upstream::Echo;

/// How long the gateway may live after its last answer.
const EXIT_WITHIN: Duration = Duration::from_secs(1);

/// What the slow requests ask the upstream to take.
const SLOW: &str = "/slow?delay_ms=1000";

/// Requests of one worker: the bound of the load, should the gateway never end its connection.
const REQUESTS_MAX: usize = 5_000;

/// What a client needs to know.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    authority: Arc<Authority>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request_and_ends_soon() {
    let (authority, echo) = (Arc::new(Authority::new()), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let settings = format!("{HEAD}{listeners}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::start(&settings, &["http", "https"]).await;
    let target = Target { address: gateway.address("https"), authority };

    // Clients of all kinds: idle ones, which must not hold the end up, busy ones, and two with a slow request.
    let mut idle = [target.open(&H1).await, target.open(&H2).await];
    for connection in &mut idle {
        assert_eq!(expect(connection.get("/idle", None).await), StatusCode::OK);
    }
    let silent = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    let answered = Arc::new(AtomicUsize::new(0));
    let kinds = [&H1, &H1, &H1, &H2, &H2];
    let workers = kinds.map(|hello| tokio::spawn(keep_asking(target.clone(), hello, Arc::clone(&answered))));
    until("the load is on", PATIENCE, async || (answered.load(Ordering::SeqCst) >= 100).then_some(())).await;
    let slow = [&H1, &H2].map(|hello| tokio::spawn(ask_slowly(target.clone(), hello)));
    until("both slow requests are in flight", PATIENCE, async || (echo.count_of(SLOW) == 2).then_some(())).await;

    gateway.terminate();
    for listener in ["http", "https"] {
        let address = gateway.address(listener);
        until("new connections are refused while others finish", EXIT_WITHIN, async || {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }
    let mut last_answer = Instant::now();
    for worker in workers {
        last_answer = last_answer.max(joined(worker).await);
    }
    for request in slow {
        last_answer = last_answer.max(joined(request).await);
    }
    let ended = gateway.ended(PATIENCE).await;
    let dawdled = last_answer.elapsed();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(dawdled < EXIT_WITHIN, "it lived on for {dawdled:?} after its last answer:\n{}", ended.stderr);
    drop((idle, silent));
    // Each request is in the access log: what was written last is not lost with the process.
    let logged = ended.stdout.lines().filter(|line| line.contains("\"/slow\"")).count();
    assert_eq!(logged, 2, "the access log is complete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_gateway_ends_at_once() {
    let echo = Echo::start().await;
    let settings = format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::plain(&settings).await;
    let start = Instant::now();
    gateway.terminate();
    let ended = gateway.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(start.elapsed() < EXIT_WITHIN, "{:?}", start.elapsed());
}

impl Target {
    async fn open(&self, hello: &Hello) -> Connection {
        self.try_open(hello).await.expect("the gateway accepts connections")
    }

    async fn try_open(&self, hello: &Hello) -> std::io::Result<Connection> {
        Connection::open(self.address, "gateway.test", &self.authority, hello).await
    }
}

/// Asks without a pause, and on a new connection when the old one is ended, until there is no new one to be had.
/// Returns when the last answer came.
async fn keep_asking(target: Target, hello: &'static Hello, answered: Arc<AtomicUsize>) -> Instant {
    let mut connection = target.open(hello).await;
    let mut last_answer = Instant::now();
    for _ in 0..REQUESTS_MAX {
        match connection.get("/load", None).await {
            Err(Lost::NotSent) => match target.try_open(hello).await {
                Ok(opened) => connection = opened,
                Err(_) => return last_answer,
            },
            outcome => {
                assert_eq!(expect(outcome), StatusCode::OK);
                last_answer = Instant::now();
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    panic!("{REQUESTS_MAX} requests, and the gateway has not ended the connection");
}

/// Sends one slow request. Returns when its answer came.
async fn ask_slowly(target: Target, hello: &'static Hello) -> Instant {
    let mut connection = target.open(hello).await;
    assert_eq!(expect(connection.get(SLOW, None).await), StatusCode::OK);
    Instant::now()
}

/// The status of a request that must have been answered.
fn expect(outcome: Result<(StatusCode, bytes::Bytes), Lost>) -> StatusCode {
    match outcome {
        Ok((status, _)) => status,
        Err(lost) => panic!("a request failed: {lost}"),
    }
}

async fn joined(task: JoinHandle<Instant>) -> Instant {
    within("a client is done", PATIENCE, task).await.expect("no client has seen a request fail")
}

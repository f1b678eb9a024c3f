//! Processes: two on one database, slow clients, deadlines, and an end that cuts nobody off.
//!
//! Read next: `commands.rs`.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::{send, try_send};
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;

/// How long the program may live after its last answer.
const EXIT_WITHIN: Duration = Duration::from_secs(2);

/// How long a test looks on while something must not happen.
const NOTHING_FOR: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_what_is_kept() {
    let folder = folder();
    let file = Settings::development().write(folder.path());
    // At the same moment, as an orchestrator does: both find an empty database.
    let (one, two) = tokio::join!(Backend::start_as("all", &folder, &file), Backend::start_as("api", &folder, &file));
    let admin = one.login(ADMIN).await;
    let users = send(two.get("/api/v1/users").bearer_auth(&admin.access)).await;
    users.expect_status(200);
    assert_eq!(users.items().len(), 1, "one of them made the first user: {users:?}");

    // What one makes, the other knows at once.
    let key = one.key(&admin, &json!({ "name": "shared", "permissions": ["read"] })).await;
    assert_eq!(two.introspected(&key.key).await["active"], true);
    let body = json!({ "username": "ann", "password": "ann-has-a-password", "role": "user" });
    send(two.post("/api/v1/users", &body).bearer_auth(&admin.access)).await.expect_status(201);
    let ann = one.login(("ann", "ann-has-a-password")).await;
    let renewed = Session::of(send(two.try_refresh(&ann.refresh)).await.expect_status(200));
    send(one.try_refresh(&ann.refresh)).await.expect_problem(401, "refresh_invalid");
    send(two.try_refresh(&renewed.refresh)).await.expect_problem(401, "refresh_invalid");
    let revoke = two.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&admin.access);
    send(revoke).await.expect_status(204);
    assert_eq!(one.introspected(&key.key).await, json!({ "active": false }));

    // One is killed, as by a machine that loses power: the other goes on, and a third finds everything.
    drop(one);
    two.login(ADMIN).await;
    let three = Backend::start_as("all", &folder, &file).await;
    three.login(("ann", "ann-has-a-password")).await;
    assert_eq!(three.introspected(&key.key).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_the_program_after_what_is_in_flight() {
    for signal in ["TERM", "INT"] {
        println!("SIG{signal}");
        let model = FakeModel::start(Script::Hold("Montevideo.")).await;
        let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
        let admin = backend.login(ADMIN).await;
        let silent = TcpStream::connect(backend.api).await.expect("the backend listens");
        let query = backend.query(&json!({ "query": "What is the capital?" })).bearer_auth(&admin.access);
        let query = tokio::spawn(send(query));
        until("the model is asked", PATIENCE, async || (model.seen().len() == 1).then_some(())).await;

        backend.signal(signal);
        for address in [backend.api, backend.internal] {
            until("new connections are refused", PATIENCE, async || {
                TcpStream::connect(address).await.is_err().then_some(())
            })
            .await;
        }
        model.release();
        let answer = within("the query is answered", PATIENCE, query).await.expect("the client does not panic");
        answer.expect_status(200);
        assert_eq!(answer.text("answer"), "Montevideo.");

        // Neither the connection that the client keeps open nor the one that never said anything holds the end up.
        let answered = Instant::now();
        let ended = backend.ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert!(answered.elapsed() < EXIT_WITHIN, "it lived on for {:?}:\n{}", answered.elapsed(), ended.stderr);
        drop(silent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_finish_is_cut_off_at_the_drain_deadline() {
    let model = FakeModel::start(Script::Silence).await;
    let settings = Settings::development().server("drain: 500ms").model(model.setting("m", "small"));
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let query = backend.query(&json!({ "query": "Are you there?" })).bearer_auth(&admin.access);
    let query = tokio::spawn(try_send(query));
    until("the model is asked", PATIENCE, async || (model.seen().len() == 1).then_some(())).await;
    let start = Instant::now();
    let ended = backend.stop().await;
    let took = start.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}: {}", ended.stderr);
    assert!(ended.stderr.contains("drain"), "the log says that somebody was cut off:\n{}", ended.stderr);
    let cut = within("the client notices", PATIENCE, query).await.expect("the client does not panic");
    assert!(cut.is_err(), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_finish_its_head_is_hung_up_on() {
    let backend = Backend::start(&Settings::development().server("header_timeout: 1s")).await;
    let start = Instant::now();
    let mut silent = TcpStream::connect(backend.api).await.expect("the backend listens");
    let mut slow = TcpStream::connect(backend.api).await.expect("the backend listens");
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: backend\r\n").await.expect("the connection is open");
    // Others are served meanwhile.
    send(backend.get("/health")).await.expect_status(200);
    for stream in [&mut silent, &mut slow] {
        let mut answer = Vec::new();
        // Closed or reset: both are the end of it.
        let _ = within("the backend hangs up", PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_too_long_is_ended() {
    let model = FakeModel::start(Script::Silence).await;
    let settings = Settings::development().server("request_timeout: 1s").model(model.setting("m", "small"));
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let start = Instant::now();
    let query = backend.query(&json!({ "query": "Are you there?" })).bearer_auth(&admin.access);
    let query = tokio::spawn(send(query));
    // At the same time, a body that is announced and never comes.
    let mut slow = TcpStream::connect(backend.api).await.expect("the backend listens");
    let head = "POST /auth/login HTTP/1.1\r\nHost: backend\r\nContent-Type: application/json\r\n\
                Content-Length: 50\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("the connection is open");
    let answer = read_until(&mut slow, "\"code\":\"dependency_unavailable\"").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    let query = within("the query is ended", PATIENCE, query).await.expect("the client does not panic");
    query.expect_problem(503, "dependency_unavailable");
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let backend = Backend::start(&Settings::development().server("max_connections: 2")).await;
    let [held, given_up] = [hold(&backend).await, hold(&backend).await];
    let waiting = try_send(backend.get("/health").timeout(NOTHING_FOR)).await;
    assert!(waiting.as_ref().is_err_and(reqwest::Error::is_timeout), "{waiting:?}");
    // The internal listener has its own bound: probes and metrics go on.
    let metrics = backend.metrics().await;
    assert!(metrics.contains("\nbackend_connections 3\n"), "{metrics}");
    drop(given_up);
    send(backend.get("/health")).await.expect_status(200);
    drop(held);
}

/// A connection that was served once and stays open.
async fn hold(backend: &Backend) -> TcpStream {
    let mut stream = TcpStream::connect(backend.api).await.expect("the backend listens");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: backend\r\n\r\n").await.expect("the connection is open");
    read_until(&mut stream, "{\"status\":\"ok\"}").await;
    stream
}

/// Reads until this has come, and returns everything that has.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if text.contains(wanted) {
            return text;
        }
        let read = within("the backend answers", PATIENCE, stream.read_buf(&mut answer)).await;
        assert!(read.is_ok_and(|bytes| bytes > 0), "the backend hung up before {wanted}: {text}");
    }
}

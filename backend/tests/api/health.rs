//! `/health`, `/health/detailed`, and the connections they come over.

use std::time::{Duration, Instant};

use http::Version;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Backend, client_builder, read};

#[tokio::test]
async fn health_is_told_on_both_listeners_without_credentials() {
    let backend = Backend::start("");
    for request in
        [backend.request(Method::GET, "/health"), backend.internal_request(Method::GET, "/health")]
    {
        let answer = read(request).await;
        assert_eq!((answer.status.as_u16(), answer.body), (200, json!({ "status": "ok" })));
    }
    let detailed = read(backend.request(Method::GET, "/health/detailed")).await;
    assert_eq!((detailed.status.as_u16(), detailed.text("status")), (200, "ok".into()), "{detailed:?}");
    assert_eq!(detailed.body["parts"], json!({ "database": "ok" }));
    assert_eq!(detailed.body["models"], json!([{ "id": "capibara6-dev", "status": "unused" }]));
    let head = backend.request(Method::HEAD, "/health").send().await.expect("an answer");
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn one_port_speaks_both_versions_of_http() {
    let backend = Backend::start("");
    let url = format!("{}/health", backend.api);
    let second = client_builder().http2_prior_knowledge().build().expect("a client");
    assert_eq!(second.get(&url).send().await.expect("an answer").version(), Version::HTTP_2);
    let first = client_builder().http1_only().build().expect("a client");
    assert_eq!(first.get(&url).send().await.expect("an answer").version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_client_that_sends_no_whole_head_is_let_go() {
    let backend = Backend::start(
        "server: { api: \"127.0.0.1:0\", internal: \"127.0.0.1:0\", header_timeout: 1s, max_connections: 1 }",
    );
    let address = backend.api.trim_start_matches("http://").to_owned();
    for head in [&b""[..], b"PRI * HTTP", b"GET /health HTTP/1.1\r\nHost: a\r\n"] {
        let started = Instant::now();
        let mut stalled = TcpStream::connect(&address).await.expect("connected");
        stalled.write_all(head).await.expect("sent");
        // The one connection that is allowed is held by a client that says nothing, and still others get their turn.
        let answer = read(backend.request(Method::GET, "/health").header("connection", "close")).await;
        assert_eq!(answer.status, 200);
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stalled.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{head:?} was held open");
        assert!(started.elapsed() >= Duration::from_millis(900), "{head:?} was cut off at once");
    }
}

//! Mirror: copies of requests for another upstream, of which no client notices anything.
//!
//! Read next: `deadline.rs`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::wait::{PATIENCE, until};
use tokio::net::TcpListener;

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::settings::{HEAD, HTTP};
use crate::harness::upstream::{Echo, Fault, Faulty};
use crate::harness::wire;

/// "At once", with room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A gateway before `api`, which mirrors to `shadow`.
async fn gateway(api: SocketAddr, shadow: &str, mirror: &str, route: &str) -> Gateway {
    Gateway::plain(&format!(
        "{HEAD}{HTTP}upstreams:\n  api: {{ targets: [\"{api}\"] }}\n  shadow: {{ {shadow} }}\n\
         routes:\n  - {{ id: open, path: /*, auth: none, to: api, mirror: {{ to: shadow{mirror} }}{route} }}\n"
    ))
    .await
}

fn at(address: SocketAddr) -> String {
    format!("targets: [\"{address}\"]")
}

/// Waits until so many copies have ended so.
async fn counted(gateway: &Gateway, outcome: &str, count: usize) {
    let wanted = format!("gateway_mirrored_total{{outcome=\"{outcome}\",route=\"open\"}} {count}");
    gateway.until_metrics_say(&wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_what_the_upstream_got() {
    let (api, shadow) = (Echo::start().await, Echo::start().await);
    let rewrite = ", rewrite: { add_prefix: /under }, request_headers: { set: { X-Tenant: one } }";
    let gateway = gateway(api.address(), &at(shadow.address()), "", rewrite).await;
    let request = client::plain().post(gateway.url("/x?q=1")).body("once");
    let request = request.header("Authorization", "Bearer t").header("Cookie", "a=1").header("X-Mirrored", "mine");
    client::send(request).await.expect_status(200);
    counted(&gateway, "answered", 1).await;
    let (original, copy) = (api.last(), shadow.last());
    assert_eq!((copy.method.as_str(), copy.target.as_str()), ("POST", "/under/x?q=1"));
    assert_eq!(copy.body, "once");
    for name in ["host", "x-request-id", "x-forwarded-for", "authorization", "cookie", "x-tenant", "content-length"] {
        assert!(!copy.values(name).is_empty(), "{name}");
        assert_eq!(copy.values(name), original.values(name), "{name}");
    }
    assert_eq!(copy.values("x-mirrored"), ["1"]);
    assert!(original.values("x-mirrored").is_empty(), "a client cannot pass its request off as a copy");

    // A body without an announced length, and none at all.
    let chunked = "POST /c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = wire::ask(gateway.address("http"), chunked.as_bytes()).await;
    answer.expect("an answer").expect_status(200);
    counted(&gateway, "answered", 2).await;
    assert_eq!((shadow.last().body.as_str(), shadow.last().values("content-length")), ("abcde", vec!["5"]));
    client::send(client::plain().get(gateway.url("/g"))).await.expect_status(200);
    counted(&gateway, "answered", 3).await;
    assert_eq!((shadow.last().method.as_str(), shadow.last().path()), ("GET", "/under/g"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_the_shadow_or_sees_it_fail() {
    let api = Echo::start().await;
    // An address of its own, so that nobody else takes the port meanwhile.
    let gone = Echo::start_at(SocketAddr::from(([127, 0, 0, 94], 0))).await;
    let nowhere = gone.address();
    gone.stop().await;
    let silent = Faulty::start(Fault::Silence).await;
    for (shadow, what) in [(silent.address, "silent"), (nowhere, "away")] {
        let gateway = gateway(api.address(), &at(shadow), ", timeout: 1s", "").await;
        let start = Instant::now();
        for _ in 0..5 {
            client::send(client::plain().post(gateway.url("/x")).body("once")).await.expect_status(200);
        }
        assert!(start.elapsed() < AT_ONCE, "{what}: {:?}", start.elapsed());
        counted(&gateway, "failed", 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_bounded_in_size_in_number_and_in_share() {
    let api = Echo::start().await;
    let shadow = Echo::start().await;
    let small = gateway(api.address(), &at(shadow.address()), ", body_max: 1KiB", "").await;
    client::send(client::plain().post(small.url("/x")).body("x".repeat(2048))).await.expect_status(200);
    counted(&small, "too_large", 1).await;
    client::send(client::plain().post(small.url("/x")).body("x".repeat(1024))).await.expect_status(200);
    counted(&small, "answered", 1).await;
    assert_eq!(shadow.count(), 1);

    let silent = Faulty::start(Fault::Silence).await;
    let narrow = gateway(api.address(), &at(silent.address), ", in_flight_max: 1", "").await;
    for _ in 0..4 {
        client::send(client::plain().get(narrow.url("/x"))).await.expect_status(200);
    }
    counted(&narrow, "crowded", 3).await;

    let half = gateway(api.address(), &at(shadow.address()), ", share: 50%, in_flight_max: 1024", "").await;
    let client = client::plain();
    for _ in 0..200 {
        client::send(client.get(half.url("/half"))).await.expect_status(200);
    }
    // Six standard deviations around a hundred; copies still under way are fewer than those.
    until("about half of them arrive", PATIENCE, async || (shadow.count_of("/half") >= 58).then_some(())).await;
    assert!(shadow.count_of("/half") <= 142, "{}", shadow.count_of("/half"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_not_copied() {
    let (api, shadow) = (Echo::start().await, Echo::start().await);
    let gateway = gateway(api.address(), &at(shadow.address()), "", ", websocket: true").await;
    // The upstream declines, which is its right; what matters is what the shadow hears of it.
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let asked = tokio::spawn({
        let address = gateway.address("http");
        async move { wire::ask(address, upgrade.as_bytes()).await }
    });
    until("the upstream is asked", PATIENCE, async || (api.count_of("/ws") == 1).then_some(())).await;
    asked.abort();
    client::send(client::plain().get(gateway.url("/plain"))).await.expect_status(200);
    counted(&gateway, "answered", 1).await;
    assert_eq!((shadow.count(), shadow.last().path()), (1, "/plain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shadow_is_spoken_to_in_its_own_protocol() {
    let api = Echo::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shadow = http2_shadow(Arc::clone(&seen)).await;
    let gateway = gateway(api.address(), &format!("{}, protocol: http2", at(shadow)), "", "").await;
    let request = client::plain().post(gateway.url("/x?q=1")).header("Host", "a.test").body("once");
    client::send(request).await.expect_status(200);
    counted(&gateway, "answered", 1).await;
    let seen = seen.lock().expect("no handler panicked");
    assert_eq!(*seen, ["HTTP/2.0 POST http://a.test/x?q=1 1 once"]);
}

/// An upstream that speaks HTTP/2 without TLS and notes what it is asked.
async fn http2_shadow(seen: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let answer = service_fn(move |request: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a whole body").to_bytes();
                    let mark = head.headers.get("x-mirrored").map_or("-", |mark| mark.to_str().expect("text"));
                    let body = String::from_utf8_lossy(&body);
                    let note = format!("{:?} {} {} {mark} {body}", head.version, head.method, head.uri);
                    seen.lock().expect("no handler panicked").push(note);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"thrown away"))))
                }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A gateway that closes its connection is an everyday event for an upstream.
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    address
}

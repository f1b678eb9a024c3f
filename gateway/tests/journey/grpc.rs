//! gRPC: calls with trailers through TLS, and refusals in its own terms.
//!
//! The calls are made as HTTP/2 requests by hand: what matters here is what a proxy does to them, not protocol buffers.
//! Read next: `egress.rs`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::wait::{PATIENCE, within};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, listeners};
use crate::harness::tls::{self, H2};

/// A message frame: not compressed, four bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x04ping";

/// Metadata by which the upstream is told to answer each piece more than once.
const TIMES: &str = "times";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_brings_its_trailers_back() {
    let (gateway, authority) = gateway("auth: none").await;
    let mut client = client(&gateway, &authority).await;
    let answer =
        within("an answer", PATIENCE, client.send_request(call(Full::new(Bytes::from_static(MESSAGE))))).await;
    let answer = answer.expect("the call is answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let body = within("its end", PATIENCE, answer.into_body().collect()).await.expect("a whole answer");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(&body.to_bytes()[..], MESSAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_streams_messages_and_then_its_trailers() {
    let (gateway, authority) = gateway("auth: none").await;
    let mut client = client(&gateway, &authority).await;
    let mut call = call(Full::new(Bytes::from_static(MESSAGE)));
    call.headers_mut().insert(TIMES, HeaderValue::from_static("500"));
    let answer = within("an answer", PATIENCE, client.send_request(call)).await.expect("the call is answered");
    let body = within("its end", PATIENCE, answer.into_body().collect()).await.expect("a whole answer");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), MESSAGE.repeat(500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bidirectional_stream_passes_message_by_message() {
    let (gateway, authority) = gateway("auth: none").await;
    let mut client = client(&gateway, &authority).await;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let body = Messages(receiver);
    let answer = within("the head of the answer", PATIENCE, client.send_request(call(body))).await;
    let mut answer = answer.expect("the call is answered before it is complete").into_body();
    for _ in 0..5 {
        sender.send(Bytes::from_static(MESSAGE)).await.expect("the request is open");
        // The echo of this message, before the next one is sent.
        let frame = within("the echo", PATIENCE, answer.frame()).await.expect("a frame").expect("the stream is open");
        assert_eq!(frame.into_data().ok().as_deref(), Some(MESSAGE));
    }
    drop(sender);
    let rest = within("its end", PATIENCE, answer.collect()).await.expect("a whole answer");
    assert_eq!(rest.trailers().expect("trailers")["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_a_grpc_status() {
    let (gateway, authority) = gateway("auth: [tokens], require: []").await;
    let mut client = client(&gateway, &authority).await;
    let answer =
        within("an answer", PATIENCE, client.send_request(call(Full::new(Bytes::from_static(MESSAGE))))).await;
    let answer = answer.expect("the call is answered");
    assert_eq!(answer.status(), 200, "to gRPC, an HTTP status says nothing");
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    assert_eq!(answer.headers()["grpc-status"], "16", "UNAUTHENTICATED");
    assert!(answer.headers()["grpc-message"].to_str().is_ok_and(|text| text.starts_with("token_missing")));
    let line = gateway.access_log("the refused call", |line| line["code"] == "token_missing").await;
    assert_eq!(line["outcome"], "refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_in_grpc_whether_it_is_fit() {
    let fit = Arc::new(AtomicBool::new(true));
    let address = health_service(Arc::clone(&fit)).await;
    let gateway = Gateway::plain(&format!(
        "{HEAD}{HTTP}upstreams:\n  api: {{ targets: [\"{address}\"], protocol: http2, health: {{ grpc: {{ service: shop.Cart }}, \
         every: 100ms, up_after: 1, down_after: 2 }} }}\n{OPEN}"
    ))
    .await;
    for serving in [true, false, true] {
        fit.store(serving, Ordering::SeqCst);
        let shown = format!("gateway_upstream_healthy{{endpoint=\"{address}\",upstream=\"api\"}}");
        gateway.until_metrics_say(&format!("{shown} {}", u8::from(serving))).await;
    }
}

/// A server of the gRPC health protocol, for the service `shop.Cart`.
async fn health_service(fit: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let fit = Arc::clone(&fit);
            tokio::spawn(async move {
                let service = service_fn(move |request| check(request, Arc::clone(&fit)));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A gateway that closes its connection is an everyday event for an upstream.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn check(
    request: Request<Incoming>,
    fit: Arc<AtomicBool>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let asked = request.into_body().collect().await?.to_bytes();
    assert_eq!(&asked[..], b"\0\0\0\0\x0b\x0a\x09shop.Cart");
    // SERVING or NOT_SERVING.
    let status = if fit.load(Ordering::SeqCst) { 1 } else { 2 };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames: [Result<Frame<Bytes>, Infallible>; 2] =
        [Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))), Ok(Frame::trailers(trailers))];
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(answer.body(StreamBody::new(futures::stream::iter(frames))).expect("an answer"))
}

/// A gateway before an upstream that speaks HTTP/2 without TLS, as gRPC servers in a cluster do.
async fn gateway(auth: &str) -> (Gateway, Authority) {
    let (authority, upstream) = (Authority::new(), echo().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let settings = format!(
        "{HEAD}{listeners}upstreams:\n  api: {{ targets: [\"{upstream}\"], protocol: http2, \
         health: {{ http: /health, every: 1s }} }}\n\
         auth:\n  tokens: {{ jwt: {{ issuer: i, audience: a, jwks: {{ urls: [\"http://127.0.0.1:1/\"] }} }} }}\n\
         routes:\n  - {{ id: all, path: /*, {auth}, to: api }}\n"
    );
    (Gateway::start(&settings, &["https"]).await, authority)
}

async fn client<B>(gateway: &Gateway, authority: &Authority) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = tls::connect(gateway.address("https"), "gateway.test", authority, &H2).await;
    let io = TokioIo::new(stream.expect("a TLS connection"));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("an HTTP/2 connection");
    // How the connection ends shows in the calls on it.
    tokio::spawn(async move { drop(connection.await) });
    sender
}

fn call<B>(body: B) -> Request<B> {
    Request::post("https://gateway.test/echo.Echo/Say")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

/// Messages as the test sends them.
struct Messages(mpsc::Receiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// An upstream that sends each piece of a call back at once, as often as the call's metadata says, and ends with `grpc-status: 0` in the trailers.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A gateway that closes its connection is an everyday event for an upstream.
                let _ = server.serve_connection(io, service_fn(say)).await;
            });
        }
    });
    address
}

async fn say(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = hyper::Error>>, Infallible> {
    assert!(request.uri().path() == "/health" || request.headers()["te"] == "trailers", "gRPC servers insist on it");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let end = futures::stream::once(async move { Ok(Frame::trailers(trailers)) });
    let times = request.headers().get(TIMES).and_then(|times| times.to_str().ok()?.parse().ok()).unwrap_or(1);
    let body = request.into_body().into_data_stream();
    let frames = body.flat_map(move |piece| {
        let echoed: Vec<_> = match piece {
            Ok(piece) => std::iter::repeat_n(piece, times).map(|piece| Ok(Frame::data(piece))).collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(echoed)
    });
    let body = StreamBody::new(frames.chain(end));
    let answer = Response::builder().header("content-type", "application/grpc").body(body);
    Ok(answer.expect("an answer"))
}

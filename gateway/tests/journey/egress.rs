//! Egress: the answer goes out, piece by piece where it comes so, and as frames where the connection is upgraded.
//!
//! The upstreams here are written by hand, so that a test decides when the next piece comes. Read next: `shutdown.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, H1};

/// The deadlines of requests in these tests: short, so that what outlives them is seen to.
const SHORT: &str = "300ms";

/// A request for a WebSocket at `/chat`.
pub const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The answer that grants it.
pub const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_a_stream_arrives_before_the_next_one_is_sent() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (address, mut upstream_side) = by_hand().await;
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let settings = format!("{HEAD}{listeners}{}{OPEN}", upstream(&Pool::of(&[address])));
    let gateway = Gateway::start(&settings, &["http", "https"]).await;
    let mut plain = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    stream_through(&mut plain, &mut upstream_side).await;
    let secure = tls::connect(gateway.address("https"), "gateway.test", &authority, &H1).await;
    stream_through(&mut secure.expect("a TLS connection"), &mut upstream_side).await;
}

/// Asks for a stream and checks that each event is here before the upstream is told to send the next one.
async fn stream_through(
    client: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    upstream: &mut mpsc::Receiver<TcpStream>,
) {
    client.write_all(b"GET /events HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.expect("sent");
    let mut server = within("the request arrives", PATIENCE, upstream.recv()).await.expect("a connection");
    read_until(&mut server, "\r\n\r\n").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.write_all(head).await.expect("sent");
    for number in 0..5 {
        let event = format!("data: event {number}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        server.write_all(chunk.as_bytes()).await.expect("sent");
        read_until(client, &event).await;
    }
    server.write_all(b"0\r\n\r\n").await.expect("sent");
    read_until(client, "0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_outlives_the_deadlines_of_requests_and_a_reload() {
    let (address, mut upstream_side) = by_hand().await;
    let head = HEAD.replace("drain: 10s", &format!("drain: 10s, body_timeout: {SHORT}, write_timeout: {SHORT}"));
    let settings = |limit: &str| {
        format!(
            "{head}{HTTP}{}routes:\n  - {{ id: chat, path: /chat, auth: none, to: api, websocket: true, \
             websocket_idle: 30s, body_max: {limit} }}\n",
            upstream(&Pool::of(&[address]).first_byte(SHORT))
        )
    };
    // The frames are more than a body may be: they are none.
    let gateway = Gateway::plain(&settings("1KiB")).await;
    let mut client = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    client.write_all(UPGRADE).await.expect("sent");
    let mut server = within("the upgrade arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    let asked = read_until(&mut server, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(asked.contains("upgrade: websocket") && asked.contains("connection: upgrade"), "{asked}");
    server.write_all(SWITCH).await.expect("sent");
    let answer = read_until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"), "{answer}");

    exchange(&mut client, &mut server).await;
    gateway.rewrite(&settings("2KiB"));
    gateway.reload().await.expect_status(200);
    // Silence, longer than any deadline of a request, is what is tested: nothing may end it.
    let mut byte = [0];
    let silence = tokio::time::timeout(Duration::from_millis(1200), client.read(&mut byte)).await;
    assert!(silence.is_err(), "it was cut: {silence:?}");
    exchange(&mut client, &mut server).await;
}

/// Sends something that looks like frames both ways.
async fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    for index in 0..10 {
        let (question, answer) = (format!("<{}{index}>", "q".repeat(500)), format!("<{}{index}>", "a".repeat(500)));
        client.write_all(question.as_bytes()).await.expect("sent");
        read_until(server, &question).await;
        server.write_all(answer.as_bytes()).await.expect("sent");
        read_until(client, &answer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_no_route_allows_is_not_passed_on() {
    let (address, mut upstream_side) = by_hand().await;
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[address])))).await;
    let mut client = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    client.write_all(UPGRADE).await.expect("sent");
    let mut server = within("the request arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    let asked = read_until(&mut server, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(!asked.contains("upgrade"), "{asked}");
}

/// An upstream whose connections a test holds in its own hands.
pub async fn by_hand() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (sender, receiver) = mpsc::channel(8);
    let _accepting: JoinHandle<()> = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).await.is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

/// Reads until the text ends like this, and returns all of it.
pub async fn read_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&bytes).contains(end) {
            let count = stream.read_buf(&mut bytes).await.expect("the connection is open");
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    within(&format!("{end:?} arrives"), PATIENCE, read).await
}

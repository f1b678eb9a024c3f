//! Heartbeat: a stream of events stays awake while its server is silent, and nothing else is touched.
//!
//! Where a beat may stand is told byte by byte in `upstream/event_stream/tests.rs`; here it is shown on the real program, with
//! upstreams written by hand. Silence is what is tested, so some of these tests wait for nothing to happen. Read next: `egress.rs`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::egress::{by_hand, read_until};
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, Pool, listeners, upstream};
use crate::harness::tls::{Connection, H2};

/// Long against the time between two beats, 100 ms in all these tests.
const SILENCE: Duration = Duration::from_secs(1);

/// How a stream of events begins.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A beat, as a client sees it.
const BEAT: &str = ":\n\n";

/// A gateway that keeps events awake, between these listeners and an upstream that may be silent for so long.
fn settings(listeners: &str, address: SocketAddr, silence: &'static str) -> String {
    let upstream = upstream(&Pool::of(&[address]).first_byte(silence));
    let route = "  - { id: events, path: /*, auth: none, to: api, sse_heartbeat: 100ms }";
    format!("{HEAD}{listeners}{upstream}routes:\n{route}\n")
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// Sends a request; what came of it at the upstream, in lower case, with both ends of the way.
async fn ask(
    gateway: &Gateway,
    method: &str,
    upstream: &mut mpsc::Receiver<TcpStream>,
) -> (TcpStream, TcpStream, String) {
    let mut client = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    let request = format!("{method} /events HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut server = within("the request arrives", PATIENCE, upstream.recv()).await.expect("a connection");
    let asked = read_until(&mut server, "\r\n\r\n").await.to_ascii_lowercase();
    (client, server, asked)
}

/// All that comes until the gateway closes.
async fn read_all(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // However it ends, what came before is what counts.
    let _ = within("the answer ends", PATIENCE, client.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until the gateway has let go of a server.
async fn let_go(server: &mut TcpStream) {
    let ended = within("the upstream's connection ends", PATIENCE, server.read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "more was asked: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_kept_awake_before_its_first_event_and_after_each() {
    let (address, mut upstream_side) = by_hand().await;
    let gateway = Gateway::plain(&settings(HTTP, address, "10s")).await;
    let (mut client, mut server, asked) = ask(&gateway, "GET", &mut upstream_side).await;
    assert!(asked.contains("connection: close"), "its connection follows one answer: {asked}");
    server.write_all(EVENTS.as_bytes()).await.expect("sent");
    read_until(&mut client, BEAT).await;
    for number in 0..3 {
        let event = format!("data: event {number}\n\n");
        server.write_all(chunk(&event).as_bytes()).await.expect("sent");
        read_until(&mut client, &event).await;
        read_until(&mut client, BEAT).await;
    }
    server.write_all(b"0\r\n\r\n").await.expect("sent");
    let rest = read_all(&mut client).await;
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
    // The next request has a connection of its own.
    let (_client, _server, _asked) = ask(&gateway, "GET", &mut upstream_side).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_stay_whole_and_beats_stand_between_them_over_http2_too() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (address, mut upstream_side) = by_hand().await;
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let gateway = Gateway::start(&settings(&listeners, address, "10s"), &["http", "https"]).await;
    let opened = Connection::open(gateway.address("https"), "gateway.test", &authority, &H2).await;
    let mut connection = opened.expect("a TLS connection");
    let asking = tokio::spawn(async move { connection.get("/events", None).await });
    let mut server = within("the request arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    read_until(&mut server, "\r\n\r\n").await;

    let (begun, ended) = (chunk("data: 1\n\ndata:"), chunk(" 2\n\n"));
    server.write_all(format!("{EVENTS}{begun}").as_bytes()).await.expect("sent");
    // In the middle of an event.
    tokio::time::sleep(SILENCE).await;
    server.write_all(ended.as_bytes()).await.expect("sent");
    // Between two.
    tokio::time::sleep(SILENCE).await;
    server.write_all(format!("{}0\r\n\r\n", chunk("data: 3\n\n")).as_bytes()).await.expect("sent");

    let answer = within("the answer arrives", PATIENCE, asking).await.expect("no panic");
    let Ok((status, body)) = answer else { panic!("no complete answer") };
    let text = String::from_utf8_lossy(&body);
    assert_eq!(status, 200);
    assert!(text.starts_with("data: 1\n\ndata: 2\n\n:\n\n") && text.ends_with(":\n\ndata: 3\n\n"), "{text:?}");
    assert_eq!(text.replace(BEAT, ""), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_any_other_kind_pass_as_they_are() {
    let (address, mut upstream_side) = by_hand().await;
    let gateway = Gateway::plain(&settings(HTTP, address, "10s")).await;
    let event = chunk("data: 1\n\n");
    let last = format!("{event}0\r\n\r\n");
    for (kind, fields, first, last) in [
        ("no events", "Content-Type: text/plain\r\nTransfer-Encoding: chunked", &*event, &*last),
        (
            "encoded events",
            "Content-Type: text/event-stream\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked",
            &*event,
            &*last,
        ),
        (
            "events of a known length",
            "Content-Type: text/event-stream\r\nContent-Length: 18",
            "data: 1\n\n",
            "data: 1\n\n",
        ),
    ] {
        let (mut client, mut server, _) = ask(&gateway, "GET", &mut upstream_side).await;
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        server.write_all(format!("{head}{first}").as_bytes()).await.expect("sent");
        tokio::time::sleep(SILENCE / 2).await;
        server.write_all(last.as_bytes()).await.expect("sent");
        let answer = read_all(&mut client).await;
        assert_eq!(answer.matches("data: 1\n\n").count(), 2, "{kind}: {answer:?}");
        assert!(!answer.contains(BEAT), "{kind}: {answer:?}");
    }
    let (mut client, mut server, asked) = ask(&gateway, "HEAD", &mut upstream_side).await;
    assert!(!asked.contains("connection: close"), "nothing is to be followed: {asked}");
    server.write_all(EVENTS.as_bytes()).await.expect("sent");
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_for_too_long_is_given_up_beats_or_not() {
    let (address, mut upstream_side) = by_hand().await;
    let gateway = Gateway::plain(&settings(HTTP, address, "800ms")).await;
    let (mut client, mut server, _) = ask(&gateway, "GET", &mut upstream_side).await;
    let began = Instant::now();
    server.write_all(format!("{EVENTS}{}", chunk("data: 1\n\n")).as_bytes()).await.expect("sent");
    let answer = read_all(&mut client).await;
    assert!(began.elapsed() >= Duration::from_millis(800), "given up after {:?}", began.elapsed());
    assert!(answer.contains("data: 1\n\n") && answer.contains(BEAT), "{answer:?}");
    assert!(!answer.ends_with("0\r\n\r\n"), "it looks complete: {answer:?}");
    let_go(&mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_frees_the_server_soon() {
    let (address, mut upstream_side) = by_hand().await;
    let gateway = Gateway::plain(&settings(HTTP, address, "1h")).await;
    let (mut client, mut server, _) = ask(&gateway, "GET", &mut upstream_side).await;
    server.write_all(EVENTS.as_bytes()).await.expect("sent");
    read_until(&mut client, BEAT).await;
    drop(client);
    let_go(&mut server).await;
}

//! Floods: what is sent to bring the gateway down, in bounded numbers. Others are served meanwhile, and it is counted.
//!
//! Read next: `smuggling.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::egress::{by_hand, read_until};
use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, H2};
use crate::harness::upstream::Echo;

/// Frames or connections of one flood.
const FLOOD: usize = 2000;

/// The most that memory may grow by during a flood, in KiB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// What a client of HTTP/2 without TLS begins with: the preface and empty settings (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `GET /x` for `a.test`: indexed fields of the static table, and two literals (RFC 7541).
const HEADERS: &[u8] = b"\x82\x87\x44\x02/x\x41\x06a.test";

/// `POST /x` for `a.test`, likewise.
const POST: &[u8] = b"\x83\x87\x44\x02/x\x41\x06a.test";

/// What `hasty` answers.
const HASTY: &[u8] = b"answered before the end";

/// A gateway under attack, and the means to attack it over TLS.
struct Besieged {
    echo: Echo,
    gateway: Gateway,
    authority: Authority,
}

impl Besieged {
    async fn start(server: &str) -> Self {
        let (echo, authority) = (Echo::start().await, Authority::new());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listeners = listeners(&[authority.issue(folder.path(), "a.test")], "1.2");
        let head = HEAD.replace("server: {", &format!("server: {{ {server},"));
        let settings = format!("{head}{listeners}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
        let gateway = Gateway::start(&settings, &["http", "https"]).await;
        Self { echo, gateway, authority }
    }

    /// Sends these bytes by HTTP/2 and reads until the gateway has enough of it, or `limit` is over; whether it ended the
    /// connection.
    async fn pour(&self, bytes: Vec<u8>, limit: Duration) -> bool {
        let stream = tls::connect(self.gateway.address("https"), "a.test", &self.authority, &H2).await;
        let (mut reader, mut writer) = tokio::io::split(stream.expect("a TLS connection"));
        let poured = async {
            let writing = async {
                // Refused half-way is what is hoped for.
                let _ = writer.write_all(&bytes).await;
                let _ = writer.flush().await;
            };
            let reading = async {
                let mut answer = [0; 4096];
                while matches!(reader.read(&mut answer).await, Ok(1..)) {}
            };
            tokio::join!(writing, reading);
        };
        tokio::time::timeout(limit, Box::pin(poured)).await.is_ok()
    }
}

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Others are served as if nothing were the matter.
async fn others_are_served(gateway: &Gateway, during: impl Future<Output = ()>) {
    let before_kib = gateway.resident_kib();
    let serving = async {
        for _ in 0..50 {
            client::send(client::plain_from(2).get(gateway.url("/x"))).await.expect_status(200);
        }
    };
    tokio::join!(during, serving);
    let grown_kib = gateway.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < GROWTH_KIB_MAX, "memory grew by {grown_kib} KiB");
}

/// Waits until the metrics tell of a connection that was ended for what its client did.
async fn an_end_is_counted(gateway: &Gateway) {
    const ENDED: &str = "gateway_http2_connections_ended_total{";
    until("the end is counted", PATIENCE, async || {
        gateway.metrics().await.lines().any(|line| line.starts_with(ENDED) && line.ends_with(" 1")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection() {
    let besieged = Besieged::start("http2_streams: 50").await;
    let gateway = &besieged.gateway;
    let mut bytes = PREFACE.to_vec();
    for number in 0..FLOOD {
        let stream = u32::try_from(2 * number + 1).expect("a small number");
        bytes.extend(frame(1, 0x05, stream, HEADERS));
        // RST_STREAM, CANCEL (CVE-2023-44487).
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    others_are_served(gateway, async {
        assert!(besieged.pour(bytes, PATIENCE).await, "the connection is ended");
    })
    .await;
    assert!(besieged.echo.count() < FLOOD / 2, "most never reached the upstream: {}", besieged.echo.count());
    an_end_is_counted(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_in_continuations_ends_the_connection() {
    let besieged = Besieged::start("headers_max: 16KiB").await;
    let gateway = &besieged.gateway;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(1, 0x01, 1, HEADERS));
    for number in 0..FLOOD {
        // A literal field without indexing, of a new name each time (CVE-2024-27316).
        let name = format!("x-{number:08}");
        let mut field = vec![0, u8::try_from(name.len()).expect("short")];
        field.extend(name.as_bytes());
        field.extend([100]);
        field.extend([b'a'; 100]);
        bytes.extend(frame(9, 0, 1, &field));
    }
    others_are_served(gateway, async {
        assert!(besieged.pour(bytes, PATIENCE).await, "the connection is ended");
    })
    .await;
    an_end_is_counted(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_are_allowed_are_refused() {
    let besieged = Besieged::start("http2_streams: 20").await;
    let gateway = &besieged.gateway;
    // The static table's GET and https, a path of 16 bytes, and the host.
    let slow = b"\x82\x87\x44\x10/x?delay_ms=2000\x41\x06a.test";
    let mut bytes = PREFACE.to_vec();
    for number in 0..200_u32 {
        bytes.extend(frame(1, 0x05, 2 * number + 1, slow));
    }
    others_are_served(gateway, async {
        // The streams that are allowed go on, so the connection may stay open.
        besieged.pour(bytes, Duration::from_secs(3)).await;
    })
    .await;
    assert!(besieged.echo.count() <= 20 + 50 + 20, "{} requests reached the upstream", besieged.echo.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_without_end_end_nobody_else() {
    let besieged = Besieged::start("http2_streams: 20").await;
    let gateway = &besieged.gateway;
    for (kind, payload) in [(6, &[0; 8][..]), (4, &[][..])] {
        let mut bytes = PREFACE.to_vec();
        for _ in 0..10 * FLOOD {
            bytes.extend(frame(kind, 0, 0, payload));
        }
        others_are_served(gateway, async {
            besieged.pour(bytes, Duration::from_secs(2)).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_end_from_one_address_are_closed_at_the_door() {
    let besieged = Besieged::start("max_connections_per_address: 50").await;
    let gateway = &besieged.gateway;
    let address = gateway.address("http");
    let mut held = Vec::new();
    others_are_served(gateway, async {
        for _ in 0..FLOOD / 4 {
            held.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
    })
    .await;
    until("the rest is counted", PATIENCE, async || {
        let refused = gateway.metric("gateway_connections_refused_total{reason=\"connections_per_address\"}").await;
        let refused: usize = refused.and_then(|count| count.parse().ok()).unwrap_or(0);
        (refused >= FLOOD / 4 - 50).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_in_is_cut_off() {
    let besieged = Besieged::start("body_timeout: 400ms, body_rate_min: 100").await;
    let gateway = &besieged.gateway;
    let mut stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    let head = b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head).await.expect("sent");
    let began = Instant::now();
    let dripping = async {
        // A byte every 100 ms never comes too late, and never comes to an end.
        while stream.write_all(b"x").await.is_ok() {
            let mut answer = [0; 1024];
            match tokio::time::timeout(Duration::from_millis(100), stream.read(&mut answer)).await {
                Ok(Ok(0) | Err(_)) => return String::new(),
                Ok(Ok(count)) => return String::from_utf8_lossy(&answer[..count]).into_owned(),
                Err(_) => {}
            }
        }
        String::new()
    };
    let answer = within("the end of it", PATIENCE, dripping).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?} after {:?}", began.elapsed());
    others_are_served(gateway, async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_who_sends_half_holds_nothing_for_long() {
    let (address, mut upstream_side) = by_hand().await;
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let listeners = listeners(&[authority.issue(folder.path(), "a.test")], "1.2");
    let head = HEAD.replace("server: {", "server: { header_timeout: 500ms, body_timeout: 500ms,");
    let settings = format!("{head}{listeners}{}{OPEN}", upstream(&Pool::of(&[address])));
    let gateway = Gateway::start(&settings, &["https"]).await;
    let open = async || {
        let stream = tls::connect(gateway.address("https"), "a.test", &authority, &H2).await;
        stream.expect("a TLS connection")
    };
    // Nothing at all, and half of what HTTP/2 begins with.
    for sent in [&PREFACE[..0], &PREFACE[..10]] {
        let mut stream = open().await;
        stream.write_all(sent).await.expect("sent");
        // How it is closed is nobody's concern.
        let _ = within("it is closed", PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    }
    gateway.until_metrics_say("gateway_connections_refused_total{reason=\"header_timeout\"} 2").await;
    // A POST without an end to its body, whose upstream does not wait for that.
    let mut stream = open().await;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(1, 0x04, 1, POST));
    stream.write_all(&bytes).await.expect("sent");
    stream.flush().await.expect("sent");
    let mut server = within("the request arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    read_until(&mut server, "\r\n\r\n").await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
    let mut answer = Vec::new();
    let _ = within("it is closed", PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(answer.windows(2).any(|bytes| bytes == b"ok"), "the answer went out before: {answer:?}");
    let line = gateway.access_log("the request", |line| line["path"] == "/x").await;
    assert_eq!(line["status"], 200, "{line}");
    assert_ne!(line["outcome"], "proxied", "{line}");
}

/// An upstream that answers as soon as it has a head, and reads on.
async fn hasty() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", HASTY.len());
                // A gateway that has gone is no concern of its own.
                let _ = stream.write_all(&[head.as_bytes(), HASTY].concat()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

/// Sends frames, and reads until so many requests are answered in all.
async fn until_answered(stream: &mut TlsStream<TcpStream>, frames: &[u8], said: &mut Vec<u8>, count: usize) {
    stream.write_all(frames).await.expect("sent");
    stream.flush().await.expect("sent");
    within("an answer", PATIENCE, async {
        while said.windows(HASTY.len()).filter(|bytes| *bytes == HASTY).count() < count {
            assert_ne!(stream.read_buf(said).await.expect("an answer"), 0, "closed behind {count} requests");
        }
    })
    .await;
}

/// Whether the gateway closes it within this time.
async fn is_closed(stream: &mut TlsStream<TcpStream>, limit: Duration) -> bool {
    tokio::time::timeout(limit, stream.read_to_end(&mut Vec::new())).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_bodies_that_end_in_time_or_go_on_keep_their_connection() {
    let patience = Duration::from_secs(2);
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let listeners = listeners(&[authority.issue(folder.path(), "a.test")], "1.2");
    let head = HEAD.replace("server: {", "server: { body_timeout: 2s,");
    let settings = format!("{head}{listeners}{}{OPEN}", upstream(&Pool::of(&[hasty().await])));
    let gateway = Gateway::start(&settings, &["https"]).await;
    let stream = tls::connect(gateway.address("https"), "a.test", &authority, &H2).await;
    let (mut stream, mut said) = (stream.expect("a TLS connection"), Vec::new());
    until_answered(&mut stream, &[PREFACE, &frame(1, 0x04, 1, POST)].concat(), &mut said, 1).await;
    // There is always one that is answered and has not ended, but never the same for long; and the first goes on all the while.
    let (began, mut number) = (Instant::now(), 0_u32);
    while began.elapsed() < patience * 2 {
        number += 1;
        let mut frames = frame(0, 0, 1, &[b'x'; 1000]);
        frames.extend(frame(1, 0x04, 2 * number + 1, POST));
        until_answered(&mut stream, &frames, &mut said, 1 + number as usize).await;
        if number > 1 {
            stream.write_all(&frame(0, 0x01, 2 * number - 1, b"")).await.expect("sent");
        }
        // As slowly as a client may.
        tokio::time::sleep(patience / 10).await;
    }
    assert!(number > 5, "{number} requests");
    // Of two, nothing more comes.
    assert!(is_closed(&mut stream, PATIENCE).await, "who holds places does so for long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_of_many_does_not_close_the_connection_of_a_trusted_proxy() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let listeners = listeners(&[authority.issue(folder.path(), "a.test")], "1.2");
    let head = HEAD.replace("server: {", "server: { body_timeout: 500ms,");
    let settings = format!("{head}{listeners}{}{OPEN}", upstream(&Pool::of(&[hasty().await])));
    let gateway = Gateway::start(&settings, &["https"]).await;
    for (last, closed) in [(9, false), (8, true)] {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        socket.bind(SocketAddr::new(from, 0)).expect("the whole of 127.0.0.0/8 is this machine");
        let socket = socket.connect(gateway.address("https")).await.expect("the gateway listens");
        let stream = tls::shake(socket, "a.test", &tls::config(&authority, &H2, None)).await;
        let mut stream = stream.expect("a TLS connection");
        let frames = [PREFACE, &frame(1, 0x04, 1, POST)].concat();
        until_answered(&mut stream, &frames, &mut Vec::new(), 1).await;
        let limit = if closed { PATIENCE } else { Duration::from_secs(2) };
        assert_eq!(is_closed(&mut stream, limit).await, closed, "from {from}");
    }
}

//! PROXY protocol: a load balancer says whose connection it passes on, and nobody else may.
//!
//! `127.0.0.9` is the trusted proxy of `settings::HEAD`. Read next: `listen.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::tls::{self, Connection};
use crate::harness::upstream::Echo;
use crate::harness::{client, wire};

const PROXY: u8 = 9;

const NAME: &str = "gateway.test";

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// One plain listener, behind a load balancer.
const BEHIND: &str = "\
listeners:
  http: { bind: \"127.0.0.1:0\", proxy_protocol: true }
";

async fn gateway_behind(head: &str, echo: &Echo, rest: &str) -> Gateway {
    let upstream = upstream(&Pool::of(&[echo.address()]));
    Gateway::plain(&format!("{head}{BEHIND}{upstream}{rest}")).await
}

/// The line of version 1 for a client.
fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 56324 443\r\n").into_bytes()
}

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a test's body is short");
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length.to_be_bytes(), body].concat()
}

/// Source 203.0.113.7:56324, as version 2 writes it.
const IPV4: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

/// A connection from 127.0.0.`last`.
async fn connect_from(last: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    socket.bind(SocketAddr::new(from, 0)).expect("the whole of 127.0.0.0/8 is this machine");
    let stream = socket.connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Whatever comes until the gateway closes, however it does.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = async {
        // A close before everything was read arrives as a reset; what came before it is kept.
        let _ = stream.read_to_end(&mut bytes).await;
    };
    within("the gateway closes the connection", PATIENCE, read).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends bytes, in pieces of this size, and reads what comes back until the gateway closes.
async fn exchange(last: u8, address: SocketAddr, bytes: &[u8], piece: usize) -> String {
    let mut stream = connect_from(last, address).await;
    for piece in bytes.chunks(piece) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    rest(&mut stream).await
}

async fn until_refused(gateway: &Gateway, reason: &str, count: usize) {
    let line = format!("gateway_connections_refused_total{{reason=\"{reason}\"}} {count}");
    gateway.until_metrics_say(&line).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_says_whose_request_it_is() {
    let echo = Echo::start().await;
    let gateway = gateway_behind(HEAD, &echo, OPEN).await;
    let address: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let ipv6 = [&address[..], &address, &[0xdc, 0x04, 0x01, 0xbb]].concat();
    let cases: [(Vec<u8>, &str); 10] = [
        (line("203.0.113.7"), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:198.51.100.1 56324 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.9"),
        (b"PROXY UNKNOWN who knows\r\n".to_vec(), "127.0.0.9"),
        (binary(0x21, 0x11, &IPV4), "203.0.113.7"),
        (binary(0x21, 0x11, &[&IPV4[..], b"\x04\x00\x03abc", &[0; 400]].concat()), "203.0.113.7"),
        (binary(0x21, 0x21, &ipv6), "2001:db8::7"),
        (binary(0x20, 0x00, &[]), "127.0.0.9"),
        (binary(0x21, 0x31, &[b'/'; 216]), "127.0.0.9"),
    ];
    let mut sent = 0;
    for (header, client) in &cases {
        let whole = [&header[..], REQUEST].concat();
        // In one piece, byte by byte, and so that the header ends within a piece.
        for piece in [whole.len(), 1, 7] {
            let answer = exchange(PROXY, gateway.address("http"), &whole, piece).await;
            let shown = header.escape_ascii();
            assert!(answer.starts_with("HTTP/1.1 200"), "{shown} in pieces of {piece}: {answer:?}");
            assert_eq!(echo.last().values("x-forwarded-for"), [*client], "{shown} in pieces of {piece}");
            sent += 1;
        }
    }
    assert_eq!(echo.count(), sent);
    gateway.access_log("the client of the header", |line| line["client"] == "203.0.113.7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_header_or_comes_from_elsewhere_is_closed_and_counted() {
    let echo = Echo::start().await;
    let gateway = gateway_behind(HEAD, &echo, OPEN).await;
    let cases: [(&str, u8, Vec<u8>); 13] = [
        ("no header", PROXY, REQUEST.to_vec()),
        ("no header, from elsewhere", 1, REQUEST.to_vec()),
        ("a good header, from elsewhere", 1, line("203.0.113.7")),
        ("a good binary header, from elsewhere", 1, binary(0x21, 0x11, &IPV4)),
        ("no line break", PROXY, vec![b'x'; 200]),
        ("a line without an end", PROXY, [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat()),
        ("a line of nothing", PROXY, b"PROXY \r\n".to_vec()),
        ("an address that is none", PROXY, line("203.0.113.256")),
        ("a name", PROXY, line("localhost")),
        ("a port too many", PROXY, b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2 3\r\n".to_vec()),
        ("another version", PROXY, binary(0x31, 0x11, &IPV4)),
        ("another family", PROXY, binary(0x21, 0x41, &IPV4)),
        ("a header beyond its bound", PROXY, binary(0x21, 0x11, &[0; 600])),
    ];
    for (what, last, header) in &cases {
        let whole = [&header[..], REQUEST].concat();
        let answer = exchange(*last, gateway.address("http"), &whole, whole.len()).await;
        assert_eq!(answer, "", "{what}");
    }
    // A header that is cut short, and a look whether the port is open, which is nobody's fault.
    for begun in [&b"PROXY TCP4 20"[..], b""] {
        let mut stream = connect_from(PROXY, gateway.address("http")).await;
        stream.write_all(begun).await.expect("the connection is open");
        stream.shutdown().await.expect("the connection is open");
        assert_eq!(rest(&mut stream).await, "");
    }
    until_refused(&gateway, "proxy_protocol", cases.len() + 1).await;
    assert_eq!(echo.count(), 0, "none of it was a request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_drips_in_is_cut_off_at_the_deadline() {
    const LIMIT: Duration = Duration::from_millis(500);
    let echo = Echo::start().await;
    let head = HEAD.replace("drain: 10s", "drain: 10s, handshake_timeout: 500ms");
    let gateway = gateway_behind(&head, &echo, OPEN).await;
    let start = Instant::now();
    let mut silent = connect_from(PROXY, gateway.address("http")).await;
    let mut stuck = connect_from(PROXY, gateway.address("http")).await;
    stuck.write_all(b"PROXY TCP4 ").await.expect("the connection is open");
    let mut dripping = connect_from(PROXY, gateway.address("http")).await;
    let (mut reader, mut writer) = dripping.split();
    let drip = async {
        writer.write_all(b"PROXY UNKNOWN ").await.expect("the connection is open");
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            if writer.write_all(b"x").await.is_err() {
                // It is closed, and the reader says so.
                return std::future::pending().await;
            }
        }
    };
    let answer = tokio::select! {
        answer = rest(&mut reader) => answer,
        () = drip => unreachable!("it drips until the reader has seen the end"),
    };
    assert_eq!(answer, "");
    assert!(start.elapsed() >= LIMIT, "not before its time: {:?}", start.elapsed());
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut stuck).await, "");
    until_refused(&gateway, "proxy_protocol", 3).await;
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_begins_behind_the_header() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pair = authority.issue(folder.path(), NAME);
    let listeners = format!(
        "listeners:\n  https: {{ bind: \"127.0.0.1:0\", proxy_protocol: true, tls: {{ certificates: [{pair}] }} }}\n"
    );
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::start(&format!("{HEAD}{listeners}{upstream}{OPEN}"), &["https"]).await;
    let address = gateway.address("https");
    for hello in [&tls::H1, &tls::H2] {
        let config = tls::config(&authority, hello, None);
        for header in [line("203.0.113.7"), binary(0x21, 0x11, &IPV4)] {
            let mut stream = connect_from(PROXY, address).await;
            stream.write_all(&header).await.expect("the connection is open");
            let stream = tls::shake(stream, NAME, &config).await.expect("a handshake behind the header");
            let mut connection = Connection::over(stream, NAME, hello).await.expect("HTTP behind the handshake");
            let (status, _) = connection.get("/x", None).await.unwrap_or_else(|lost| panic!("{lost}"));
            assert_eq!(status, 200);
            assert_eq!(echo.last().values("x-forwarded-for"), ["203.0.113.7"]);
            assert_eq!(echo.last().values("x-forwarded-proto"), ["https"]);
        }
        let stream = connect_from(PROXY, address).await;
        assert!(tls::shake(stream, NAME, &config).await.is_err(), "a handshake without a header");
        let mut stream = connect_from(1, address).await;
        // The gateway may have closed already.
        let _ = stream.write_all(&line("203.0.113.7")).await;
        assert!(tls::shake(stream, NAME, &config).await.is_err(), "a header from elsewhere");
    }
    until_refused(&gateway, "proxy_protocol", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_caps_and_trust_go_by_the_address_of_the_header() {
    const CONNECTIONS_MAX: usize = 4;
    let echo = Echo::start().await;
    let most = format!("drain: 10s, max_connections_per_address: {CONNECTIONS_MAX}");
    let head = HEAD.replace("drain: 10s", &most);
    let routes = "\
limits:
  per_ip: { by: client.ip, rate: 3/h }
routes:
  - { id: limited, path: /x, auth: none, limits: [per_ip], to: api }
  - { id: open, path: /*, auth: none, to: api }
";
    let gateway = gateway_behind(&head, &echo, routes).await;
    let address = gateway.address("http");
    let ask = async |client: &str, request: &[u8]| {
        let answer = exchange(PROXY, address, &[&line(client)[..], request].concat(), usize::MAX).await;
        answer.split(' ').nth(1).unwrap_or("nothing").to_owned()
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.7", REQUEST).await, "200");
    }
    assert_eq!(ask("203.0.113.7", REQUEST).await, "429");
    assert_eq!(ask("203.0.113.8", REQUEST).await, "200", "somebody else has a limit of their own");

    // Only where the address of the header is a trusted proxy's is its word for another believed.
    let forwarding = b"GET /y HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n";
    assert_eq!(ask("203.0.113.8", forwarding).await, "200");
    assert_eq!(echo.last().values("x-forwarded-for"), ["203.0.113.8"]);
    assert_eq!(ask("127.0.0.9", forwarding).await, "200");
    assert_eq!(echo.last().values("x-forwarded-for"), ["192.0.2.1, 127.0.0.9"]);

    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = connect_from(PROXY, address).await;
        stream.write_all(&line("203.0.113.9")).await.expect("the connection is open");
        stream.write_all(b"GET /y HTTP/1.1\r\nHost: a.test\r\n\r\n").await.expect("the connection is open");
        let mut first = [0; 12];
        within("an answer", PATIENCE, stream.read_exact(&mut first)).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    assert_eq!(ask("203.0.113.9", REQUEST).await, "nothing", "one connection too many");
    assert_eq!(ask("203.0.113.10", REQUEST).await, "200", "somebody else may come in");
    until_refused(&gateway, "connections_per_address", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_turns_it_on_and_off_on_the_open_listener() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = |listeners: &str| format!("{HEAD}{listeners}{upstream}{OPEN}");
    let gateway = Gateway::plain(&settings(HTTP)).await;
    let address = gateway.address("http");
    let behind = [&line("203.0.113.7")[..], REQUEST].concat();
    client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
    for _ in 0..2 {
        gateway.rewrite(&settings(BEHIND));
        gateway.reload().await.expect_status(200);
        assert!(wire::ask(address, REQUEST).await.is_none(), "from now on a header comes first");
        let answer = exchange(PROXY, address, &behind, behind.len()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert_eq!(echo.last().values("x-forwarded-for"), ["203.0.113.7"]);
        gateway.rewrite(&settings(HTTP));
        gateway.reload().await.expect_status(200);
        wire::ask(address, REQUEST).await.expect("no header any more").expect_status(200);
    }
}

//! Compression: smaller answers for who asks for them, and no answer a moment later for it.
//!
//! What a client takes is a table of `stages/egress/compress/accept.rs`; here it is shown that the real program keeps to it.
//! Read next: `egress.rs`.

use std::io::Read as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body_util::Full;
use testkit::wait::{PATIENCE, within};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::egress::{by_hand, read_until};
use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::server::{Asked, Reply, Server};
use crate::harness::settings::{HEAD, Pool, listeners, upstream};
use crate::harness::wire;

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

const GZIP: (&str, &str) = ("accept-encoding", "gzip");

const ROUTES: &str = "\
routes:
  - { id: all, path: /*, auth: none, compress: true, to: api }
  - { id: without, path: /off/*, auth: none, to: api }
  - { id: some, path: /some/*, auth: none, compress: { algorithms: [gzip], min_bytes: 1MiB, types: [image/*] }, to: api }
";

/// What an upstream answers with, unless it is asked for something else.
fn text() -> String {
    "{\"id\":12345,\"name\":\"capibara\",\"tags\":[\"water\",\"grass\"]},\n".repeat(400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decoded_is_what_was_sent() {
    let stage = Stage::set().await;
    for secure in [false, true] {
        for coding in CODINGS {
            for path in ["/json", "/large"] {
                let answer = stage.get(secure, path, &[("accept-encoding", coding)]).await;
                answer.expect_status(200);
                assert_eq!(answer.version, if secure { Version::HTTP_2 } else { Version::HTTP_11 });
                assert_eq!(answer.header("content-encoding"), coding, "{path}");
                assert!(!answer.headers.contains_key("content-length"), "{path} {coding}: {answer:?}");
                assert_eq!(answer.header("vary"), "accept-encoding");
                let expected = if path == "/large" { text().repeat(40) } else { text() };
                assert!(answer.body.len() < expected.len() / 10, "{path} {coding}: {}", answer.body.len());
                assert_eq!(
                    decoded(coding, &answer.body).expect("a whole body"),
                    expected.as_bytes(),
                    "{path} {coding}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_against_it_is_heard() {
    let stage = Stage::set().await;
    // What is asked for, and the coding of the answer; "" where it comes as it is.
    let cases: &[(&str, &[(&str, &str)], &str)] = &[
        ("/json", &[GZIP], "gzip"),
        ("/json", &[("accept-encoding", "gzip;q=0.5, br;q=0.8, zstd;q=0")], "br"),
        ("/json", &[("accept-encoding", "*")], "zstd"),
        ("/json", &[("accept-encoding", "*;q=0")], ""),
        ("/json", &[("accept-encoding", "deflate, identity")], ""),
        ("/json", &[("accept-encoding", "identity;q=1, gzip;q=0.9")], ""),
        ("/json", &[("accept-encoding", "identity;q=0, gzip;q=0.1")], "gzip"),
        ("/json", &[("accept-encoding", "gzip;q=nonsense")], ""),
        ("/json", &[], ""),
        ("/json", &[GZIP, ("range", "bytes=0-99")], ""),
        ("/json", &[GZIP, ("cache-control", "no-transform")], ""),
        ("/missing", &[GZIP], "gzip"),
        ("/small", &[GZIP], ""),
        ("/small", &[("accept-encoding", "gzip, identity;q=0")], "gzip"),
        ("/image", &[GZIP], ""),
        ("/encoded", &[GZIP], "x-own"),
        ("/untransformed", &[GZIP], ""),
        ("/digest", &[GZIP], ""),
        ("/events", &[GZIP], ""),
        ("/grpc", &[GZIP], ""),
        ("/part", &[GZIP], ""),
        ("/empty", &[GZIP], ""),
        ("/unmodified", &[GZIP], ""),
        ("/off/json", &[GZIP], ""),
        ("/some/json", &[GZIP], ""),
        ("/some/image", &[GZIP], "gzip"),
        ("/some/image", &[("accept-encoding", "br")], ""),
    ];
    for secure in [false, true] {
        for (path, fields, coding) in cases {
            let answer = stage.get(secure, path, fields).await;
            assert_eq!(answer.header("content-encoding"), *coding, "{path} {fields:?}: {answer:?}");
            if coding.is_empty() && answer.status == 200 {
                let length = answer.body.len().to_string();
                assert_eq!(answer.header("content-length"), length, "{path} {fields:?}: it came as it was");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_stays_true() {
    let stage = Stage::set().await;
    let coded = stage.get(false, "/tagged", &[("accept-encoding", "gzip")]).await;
    assert_eq!(coded.header("etag"), "W/\"1\"");
    assert!(!coded.headers.contains_key("accept-ranges"), "{coded:?}");
    let plain = stage.get(false, "/tagged", &[]).await;
    assert_eq!((plain.header("etag"), plain.header("accept-ranges")), ("\"1\"", "bytes"));
    // A cache must know that the answer to another client is another one.
    assert_eq!(plain.header("vary"), "accept-encoding");
    let other = stage.get(false, "/image", &[("accept-encoding", "gzip")]).await;
    assert!(!other.headers.contains_key("vary"), "{other:?}");
    for secure in [false, true] {
        let client = stage.client(secure);
        let request = client.request(Method::HEAD, stage.url(secure, "/json")).header("accept-encoding", "gzip");
        let head = client::send(request).await;
        head.expect_status(200);
        assert!(head.body.is_empty() && !head.headers.contains_key("content-encoding"), "{head:?}");
    }
    // An HTTP/1.0 client knows no chunks.
    let request = "GET /json HTTP/1.0\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n";
    let old = wire::ask(stage.gateway.address("http"), request.as_bytes()).await.expect("an answer");
    assert!(!old.headers.contains_key("content-encoding"), "{old:?}");
    assert!(!old.headers.contains_key("transfer-encoding"), "{old:?}");
    assert_eq!(&old.body[..], text().as_bytes());
    // And one of HTTP/1.1 finds them well-formed, down to the last.
    let request = "GET /json HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
    let raw = wire::ask(stage.gateway.address("http"), request.as_bytes()).await.expect("an answer");
    assert_eq!(raw.header("transfer-encoding"), "chunked");
    assert_eq!(decoded("gzip", &raw.body).expect("a whole body"), text().as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_piece_of_a_stream_can_be_read_before_the_next_one_is_sent() {
    let (upstream_address, mut connections) = by_hand().await;
    let (gateway, authority) = gateway(upstream_address).await;
    for secure in [false, true] {
        for coding in CODINGS {
            let client = client_for(&gateway, &authority, secure);
            let request = client.get(url_of(&gateway, secure, "/stream")).header("accept-encoding", coding);
            let (asked, mut server) = begin(request, &mut connections).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n";
            server.write_all(head).await.expect("sent");
            let mut plain = send_piece(0, &mut server).await;
            let answer = within("the head arrives", PATIENCE, asked).await.expect("no panic");
            let mut answer = answer.expect("an answer");
            assert_eq!(answer.headers()["content-encoding"], coding);
            let mut coded = Vec::new();
            for number in 1..5 {
                while decoded_so_far(coding, &coded, plain.len()).is_none_or(|read| read != plain) {
                    let chunk = within("the piece can be read", PATIENCE, answer.chunk()).await;
                    let chunk = chunk.expect("the stream is open").expect("the stream has not ended");
                    coded.extend_from_slice(&chunk);
                }
                plain.extend(send_piece(number, &mut server).await);
            }
            server.write_all(b"0\r\n\r\n").await.expect("sent");
            while let Some(chunk) = within("its end", PATIENCE, answer.chunk()).await.expect("the stream is open") {
                coded.extend_from_slice(&chunk);
            }
            assert_eq!(decoded(coding, &coded).expect("a whole body"), plain, "{coding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let (upstream_address, mut connections) = by_hand().await;
    let (gateway, authority) = gateway(upstream_address).await;
    for secure in [false, true] {
        for coding in CODINGS {
            let client = client_for(&gateway, &authority, secure);
            let request = client.get(url_of(&gateway, secure, "/stream")).header("accept-encoding", coding);
            let (asked, mut server) = begin(request, &mut connections).await;
            let half = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\nhalf of it";
            server.write_all(half).await.expect("sent");
            drop(server);
            let body = match within("the head arrives", PATIENCE, asked).await.expect("no panic") {
                Ok(answer) => within("the end arrives", PATIENCE, answer.bytes()).await,
                Err(cut) => Err(cut),
            };
            assert!(body.is_err(), "{coding}: it looks whole: {body:?}");
        }
    }
}

/// Sends a request; its answer to come, and the upstream's side of it, which has read it.
async fn begin(
    request: reqwest::RequestBuilder,
    connections: &mut mpsc::Receiver<TcpStream>,
) -> (JoinHandle<reqwest::Result<reqwest::Response>>, TcpStream) {
    let asked = tokio::spawn(request.send());
    let mut server = within("the request arrives", PATIENCE, connections.recv()).await.expect("a connection");
    read_until(&mut server, "\r\n\r\n").await;
    (asked, server)
}

/// Sends a piece of a stream, and returns what it says.
async fn send_piece(number: usize, server: &mut TcpStream) -> Vec<u8> {
    let piece = format!("{{\"number\":{number},\"text\":\"as ever\"}}\n");
    server.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.expect("sent");
    piece.into_bytes()
}

/// A gateway before an upstream that answers by the path.
struct Stage {
    gateway: Gateway,
    authority: Authority,
    /// Ends with the value.
    _upstream: Server,
}

impl Stage {
    async fn set() -> Self {
        let server = Server::start(|asked| async move { by_path(&asked) }).await;
        let (gateway, authority) = gateway(server.address).await;
        Self { gateway, authority, _upstream: server }
    }

    fn client(&self, secure: bool) -> reqwest::Client {
        client_for(&self.gateway, &self.authority, secure)
    }

    fn url(&self, secure: bool, path: &str) -> String {
        url_of(&self.gateway, secure, path)
    }

    async fn get(&self, secure: bool, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = self.client(secure).get(self.url(secure, path));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        client::send(request).await
    }
}

async fn gateway(upstream_address: SocketAddr) -> (Gateway, Authority) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let upstream = upstream(&Pool::of(&[upstream_address]));
    let gateway = Gateway::start(&format!("{HEAD}{listeners}{upstream}{ROUTES}"), &["http", "https"]).await;
    (gateway, authority)
}

/// A client of HTTP/1.1 without TLS, or of HTTP/2.
fn client_for(gateway: &Gateway, authority: &Authority, secure: bool) -> reqwest::Client {
    if secure { client::secure(authority, "gateway.test", gateway.address("https"), false) } else { client::plain() }
}

fn url_of(gateway: &Gateway, secure: bool, path: &str) -> String {
    if secure { format!("https://gateway.test:{}{path}", gateway.address("https").port()) } else { gateway.url(path) }
}

fn by_path(asked: &Asked) -> Reply {
    let path = asked.target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/off").or_else(|| path.strip_prefix("/some")).unwrap_or(path);
    let (status, media_type, field) = match path {
        "/missing" => (404, "application/json", None),
        "/image" => (200, "image/png", None),
        "/encoded" => (200, "application/json", Some(("content-encoding", "x-own"))),
        "/untransformed" => (200, "application/json", Some(("cache-control", "max-age=1, no-transform"))),
        "/digest" => (200, "application/json", Some(("content-digest", "sha-256=:AA==:"))),
        "/events" => (200, "text/event-stream", None),
        "/grpc" => (200, "application/grpc+json", None),
        "/part" => (206, "application/json", Some(("content-range", "bytes 0-9/99"))),
        "/empty" => (204, "application/json", None),
        "/unmodified" => (304, "application/json", None),
        "/tagged" => (200, "application/json", Some(("etag", "\"1\""))),
        _ => (200, "application/json; charset=utf-8", None),
    };
    let body = match path {
        "/small" => "{}".to_owned(),
        "/large" => text().repeat(40),
        // More than the least that the route for images takes.
        "/image" => text().repeat(60),
        "/empty" | "/unmodified" => String::new(),
        _ => text(),
    };
    let mut reply = Reply::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = StatusCode::from_u16(status).expect("a status");
    let headers = reply.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(media_type));
    if let Some((name, value)) = field {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if path == "/tagged" {
        headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
    }
    reply
}

fn decoded(coding: &str, coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain)?,
        "br" => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain)?,
        "zstd" => zstd::stream::read::Decoder::new(coded)?.read_to_end(&mut plain)?,
        other => panic!("unknown coding {other}"),
    };
    Ok(plain)
}

/// The first bytes of a body that has not ended; `None` while they cannot be read yet.
fn decoded_so_far(coding: &str, coded: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; bytes];
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(coded).read_exact(&mut plain),
        "br" => brotli::Decompressor::new(coded, 4096).read_exact(&mut plain),
        "zstd" => zstd::stream::read::Decoder::new(coded).and_then(|mut reader| reader.read_exact(&mut plain)),
        other => panic!("unknown coding {other}"),
    };
    read.ok().map(|()| plain)
}

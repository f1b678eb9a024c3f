//! Smuggling: whatever bytes a client sends, the upstream never sees a request that nobody sent.
//!
//! The upstream here is stricter than any server: it records every byte, reads each request in the only way that
//! RFC 9112 leaves, and notes whatever could be read in another. Each case holds a second request, `/smuggled`, in a
//! place where some server would take it for one. Read next: `admission.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::floods::{PREFACE, frame};
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, H2};

/// The request that must never come out at the other end.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// How long the gateway may keep a client waiting that has sent half a request: longer waits are no answer to look at.
const LOOK: Duration = Duration::from_millis(150);

/// What the strict upstream has seen.
#[derive(Default)]
struct Record {
    targets: Vec<String>,
    violations: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bytes_yield_a_request_that_nobody_sent() {
    let record = Arc::new(Mutex::new(Record::default()));
    let address = strict_upstream(Arc::clone(&record)).await;
    let head = HEAD.replace("drain: 10s", "drain: 10s, header_timeout: 1s, body_timeout: 1s");
    let gateway = Gateway::plain(&format!("{head}{HTTP}{}{OPEN}", upstream(&Pool::of(&[address])))).await;
    let cases = corpus();
    assert!(cases.len() >= 60, "the corpus has {} cases", cases.len());
    let (mut failures, mut passed) = (Vec::new(), 0);
    for (name, bytes) in &cases {
        let stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
        send(stream, bytes).await;
        passed += judge(&record, name, &mut failures);
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    // Some cases have one reading after all; a corpus of which nothing came through would have tested nothing.
    assert!(passed >= 10, "only {passed} requests came through");
    // The connections to the upstream are sound: the next client gets its own answer.
    let answer = within("a plain request is answered", PATIENCE, async {
        let mut stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
        stream
            .write_all(b"GET /outer/last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("/outer/last"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http2_carries_becomes_that_request_or_none() {
    let record = Arc::new(Mutex::new(Record::default()));
    let address = strict_upstream(Arc::clone(&record)).await;
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
    let listeners = listeners(&[authority.issue(folder.path(), "a.test")], "1.2");
    let settings = format!("{HEAD}{listeners}{}{OPEN}", upstream(&Pool::of(&[address])));
    let gateway = Gateway::start(&settings, &["https"]).await;
    let (mut failures, mut passed) = (Vec::new(), 0);
    for (name, head, body) in http2_corpus() {
        let stream =
            tls::connect(gateway.address("https"), "a.test", &authority, &H2).await.expect("a TLS connection");
        let mut bytes = PREFACE.to_vec();
        // HEADERS with END_HEADERS, then DATA with END_STREAM.
        bytes.extend(frame(1, 0x04, 1, &head));
        bytes.extend(frame(0, 0x01, 1, body.as_bytes()));
        send(stream, &bytes).await;
        passed += judge(&record, name, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed >= 5, "only {passed} requests came through");
}

/// Takes out what the upstream has seen since the last time: how many requests, and what is wrong with them.
fn judge(record: &Mutex<Record>, name: &str, failures: &mut Vec<String>) -> usize {
    let Record { targets, violations } = std::mem::take(&mut *record.lock().expect("no reader panicked"));
    let count = targets.len();
    let stray = targets.into_iter().filter(|target| !target.starts_with("/outer"));
    failures.extend(violations.into_iter().chain(stray).map(|what| format!("{name}: the upstream got {what}")));
    count
}

/// Heads and bodies that HTTP/1.1 behind it could read in another way: each with its name.
fn http2_corpus() -> Vec<(&'static str, Vec<u8>, String)> {
    // A literal field without indexing (RFC 7541 §6.2.2), short enough for lengths of one byte.
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short");
        let mut field = vec![0, length(name)];
        field.extend(name.as_bytes());
        field.push(length(value));
        field.extend(value.as_bytes());
        field
    };
    let head = |method: &str, path: &str, authority: &str| {
        [field(":method", method), field(":scheme", "https"), field(":path", path), field(":authority", authority)]
            .concat()
    };
    let post = || head("POST", "/outer", "a.test");
    let inner = || INNER.to_owned();
    let mut cases = vec![
        ("a body without a length", post(), inner()),
        ("a GET with a body", head("GET", "/outer", "a.test"), inner()),
        (
            "a request line in the path",
            head("GET", "/outer HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled", "a.test"),
            inner(),
        ),
        ("a space in the path", head("GET", "/outer HTTP/1.1", "a.test"), inner()),
        (
            "a request line in the method",
            head("GET /smuggled HTTP/1.1\r\nX: y\r\n\r\nGET", "/outer", "a.test"),
            inner(),
        ),
        ("a field in the authority", head("POST", "/outer", "a.test\r\nContent-Length: 0"), inner()),
        ("a path in the authority", head("POST", "/outer", "a.test/smuggled?"), inner()),
        ("a pseudo-field behind others", [field("x", "y"), post()].concat(), inner()),
    ];
    let chunked_inner = format!("0\r\n\r\n{INNER}");
    let additions: &[(&'static str, &[(&str, &str)])] = &[
        ("a coding", &[("transfer-encoding", "chunked")]),
        ("a coding in upper case", &[("Transfer-Encoding", "chunked")]),
        ("a coding with an underscore", &[("transfer_encoding", "chunked")]),
        ("a coding with a space", &[("transfer-encoding ", "chunked")]),
        ("a coding in a name", &[("x: y\r\ntransfer-encoding", "chunked")]),
        ("a coding in a name, with its value", &[("transfer-encoding: chunked\r\nx", "y")]),
        ("a coding in a value", &[("x", "y\r\ntransfer-encoding: chunked")]),
        ("a coding behind LF in a value", &[("x", "y\ntransfer-encoding: chunked")]),
        ("a length of nothing", &[("content-length", "0")]),
        ("a length that is too short", &[("content-length", "3")]),
        ("a length that is too long", &[("content-length", "4000")]),
        ("two lengths", &[("content-length", "45"), ("content-length", "0")]),
        ("a list of lengths", &[("content-length", "45, 45")]),
        ("a signed length", &[("content-length", "+45")]),
        ("another host", &[("host", "b.test")]),
        ("two hosts", &[("host", "a.test"), ("host", "b.test")]),
        ("a second path", &[(":path", "/smuggled")]),
        ("fields of the connection", &[("connection", "content-length")]),
        ("an upgrade", &[("upgrade", "h2c")]),
        ("an expectation", &[("expect", "100-continue")]),
        ("a coding of trailers", &[("te", "trailers, chunked")]),
    ];
    for (name, fields) in additions {
        let more = fields.iter().map(|(name, value)| field(name, value));
        let head: Vec<u8> = std::iter::once(post()).chain(more).flatten().collect();
        cases.push((*name, head, chunked_inner.clone()));
    }
    cases
}

/// Sends the bytes and reads what comes back, for as long as it comes at once.
async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    // The gateway may close before it has read everything; that is one of the right answers.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = [0; 4096];
    while let Ok(Ok(1..)) = tokio::time::timeout(LOOK, stream.read(&mut answer)).await {}
}

/// Every case: its name and its bytes.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let chunked_inner = format!("0\r\n\r\n{INNER}");
    let chunk_of_inner = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
    let length = chunked_inner.len();
    // Two framings at once, and headers that some servers take for Transfer-Encoding and others do not.
    for coding in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding: chun\rked",
        "Foo: bar\r\n\tTransfer-Encoding: chunked",
        "Content-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let framed =
            |fields: &str| format!("POST /outer HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n{chunked_inner}");
        cases.push((format!("length and {coding:?}"), framed(&format!("Content-Length: {length}\r\n{coding}"))));
        cases.push((format!("{coding:?} and length"), framed(&format!("{coding}\r\nContent-Length: {length}"))));
        cases.push((format!("{coding:?} alone"), framed(coding)));
    }
    // Lengths with more than one reading.
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 46",
        "Content-Length: 46\r\nContent-Length: 0",
        "Content-Length: 0, 46",
        "Content-Length: 46, 46",
        "Content-Length: +46",
        "Content-Length: -1",
        "Content-Length: 0x2e",
        "Content-Length: 4 6",
        "Content-Length: 46abc",
        "Content-Length: 046",
        "Content-Length: 46.0",
        "Content-Length: 18446744073709551662",
        "Content-Length:",
        "Content-Length : 46",
        " Content-Length: 46",
        "Content-Length: 0\n46",
        "Content_Length: 46",
        "X: y\nContent-Length: 46",
        "X: y\rContent-Length: 46",
        "Content-Length\0: 46",
    ] {
        let bytes = format!("POST /outer HTTP/1.1\r\nHost: a.test\r\n{lengths}\r\n\r\n{INNER}");
        cases.push((format!("{lengths:?}"), bytes));
    }
    // Chunks with more than one reading.
    for body in [
        chunk_of_inner.clone(),
        format!("0;x=\r\n\r\n{INNER}"),
        format!("0\n\n{INNER}"),
        format!("0\r\n\n{INNER}"),
        format!("00000000000000000\r\n\r\n{INNER}"),
        format!("0x0\r\n\r\n{INNER}"),
        format!("-0\r\n\r\n{INNER}"),
        format!("+0\r\n\r\n{INNER}"),
        format!(" 0\r\n\r\n{INNER}"),
        format!("0 \r\n\r\n{INNER}"),
        format!("\r\n\r\n{INNER}"),
        format!("g\r\n\r\n{INNER}"),
        format!("1\r\nxx0\r\n\r\n{INNER}"),
        format!("1\r\nx\n0\r\n\r\n{INNER}"),
        format!("1\nx\r\n0\r\n\r\n{INNER}"),
        format!("fffffffffffffffff\r\n{INNER}"),
        format!("ffffffffffffffff\r\n{INNER}"),
        format!("2;a=\"\r\n\"\r\nxx\r\n0\r\n\r\n{INNER}"),
        format!("2;a\nb\r\nxx\r\n0\r\n\r\n{INNER}"),
        format!("0\r\nX: y\r\nContent-Length: 46\r\n\r\n{INNER}"),
        format!("0\r\nHost: b.test\r\n\r\n{INNER}"),
        format!("0\r\n : y\r\n\r\n{INNER}"),
    ] {
        let bytes = format!("POST /outer HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        cases.push((format!("chunks {:?}", &body[..body.len().min(24)]), bytes));
    }
    // Request lines, hosts, versions and methods that carry a second request or a second reading.
    let inner_length = INNER.len();
    for (name, bytes) in [
        (
            "HTTP/1.0 with chunks",
            format!("POST /outer HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunked_inner}"),
        ),
        (
            "HTTP/1.0 keep-alive with both",
            format!(
                "POST /outer HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked_inner}"
            ),
        ),
        ("HTTP/0.9", format!("GET /outer\r\n{INNER}")),
        (
            "HTTP/1.9",
            format!("POST /outer HTTP/1.9\r\nHost: a.test\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"),
        ),
        (
            "HTTP/2.0 in words",
            format!("POST /outer HTTP/2.0\r\nHost: a.test\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"),
        ),
        (
            "a GET with a body",
            format!("GET /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"),
        ),
        (
            "a HEAD with a body",
            format!("HEAD /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"),
        ),
        ("a line break in the target", format!("GET /outer\nX: y HTTP/1.1\r\nHost: a.test\r\n\r\n{INNER}")),
        ("a bare CR in the target", format!("GET /outer\rX HTTP/1.1\r\nHost: a.test\r\n\r\n{INNER}")),
        (
            "an encoded line break in the target",
            "GET /outer%0d%0aX:y HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".into(),
        ),
        (
            "a second request line in the query",
            "GET /outer?x HTTP/1.1\r\nHost: a.test\r\nX: GET /smuggled HTTP/1.1\r\nConnection: close\r\n\r\n".into(),
        ),
        ("two spaces", format!("GET  /outer HTTP/1.1\r\nHost: a.test\r\n\r\n{INNER}")),
        ("bare line feeds", format!("POST /outer HTTP/1.1\nHost: a.test\nContent-Length: {inner_length}\n\n{INNER}")),
        (
            "a NUL in a value",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "Connection takes the length away",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nConnection: content-length\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "Connection takes the coding away",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n{chunk_of_inner}"
            ),
        ),
        (
            "an upgrade to h2c",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "an upgrade with a body",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "bytes behind an upgrade",
            format!(
                "GET /outer HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{INNER}"
            ),
        ),
        (
            "Expect and a body at once",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "an unknown expectation",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nExpect: 200-ok\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"
            ),
        ),
        (
            "a body cut short",
            format!("POST /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{INNER}", inner_length + 10),
        ),
        ("CONNECT", format!("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n{INNER}")),
        (
            "trailers announced",
            format!(
                "POST /outer HTTP/1.1\r\nHost: a.test\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 46\r\n\r\n{INNER}"
            ),
        ),
        ("a space before the request line", format!(" GET /outer HTTP/1.1\r\nHost: a.test\r\n\r\n{INNER}")),
        (
            "folded Host",
            format!("GET /outer HTTP/1.1\r\nHost:\r\n a.test\r\nContent-Length: {inner_length}\r\n\r\n{INNER}"),
        ),
    ] {
        cases.push((name.to_owned(), bytes));
    }
    cases.into_iter().map(|(name, bytes)| (name, bytes.into_bytes())).collect()
}

/// Starts the upstream that knows only one reading.
async fn strict_upstream(record: Arc<Mutex<Record>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(read_strictly(stream, Arc::clone(&record)));
        }
    });
    address
}

/// Reads requests until the connection ends or one of them is not the only thing it could be.
async fn read_strictly(mut stream: TcpStream, record: Arc<Mutex<Record>>) {
    let mut bytes = Vec::new();
    loop {
        let (target, used) = loop {
            match parse(&bytes) {
                Ok(Some(request)) => break request,
                Ok(None) => {}
                Err(violation) => {
                    let shown = String::from_utf8_lossy(&bytes).into_owned();
                    record.lock().expect("no other holder panics").violations.push(format!("{violation}: {shown:?}"));
                    return;
                }
            }
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        };
        bytes.drain(..used);
        record.lock().expect("no other holder panics").targets.push(target.clone());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The target of the request that these bytes begin with, and its length; `None` when it is not complete yet.
fn parse(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is not text")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("request line {line:?}"));
    };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) || !target.starts_with('/') {
        return Err(format!("request line {line:?}"));
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for field in lines {
        let (name, value) = field.split_once(':').ok_or_else(|| format!("field {field:?}"))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
        let sound = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        if name.is_empty() || !name.bytes().all(token) || !value.bytes().all(sound) {
            return Err(format!("field {field:?}"));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim()),
            "transfer-encoding" => codings.push(value.trim()),
            _ => {}
        }
    }
    if hosts != 1 {
        return Err(format!("{hosts} Host fields"));
    }
    let body = &bytes[end + 4..];
    let used = match (&lengths[..], &codings[..]) {
        ([], []) => Some(0),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length that is no number")?;
            (body.len() >= length).then_some(length)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => chunks(body)?,
        _ => return Err(format!("framing {lengths:?} {codings:?}")),
    };
    Ok(used.map(|used| (target.to_owned(), end + 4 + used)))
}

/// The length of a chunked body without extensions and trailers; `None` when it is not complete yet.
fn chunks(body: &[u8]) -> Result<Option<usize>, String> {
    let mut used = 0;
    loop {
        let rest = &body[used..];
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[..end]).map_err(|_| "a chunk size that is not text")?;
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("chunk size {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk size that is no number")?;
        let Some(chunk) = rest.get(end + 2..end + 2 + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that does not end where it says".into());
        }
        used += end + 2 + size + 2;
        if size == 0 {
            return Ok(Some(used));
        }
    }
}

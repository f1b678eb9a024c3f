//! Smuggling: whatever bytes a client sends, the upstream never sees a request that nobody sent.
//!
//! The upstream here is stricter than any server: it records every byte, reads each request in the only way that
//! RFC 9112 leaves, and notes whatever could be read in another. Each case holds a second request, `/smuggled`, in a
//! place where some server would take it for one. Read next: `admission.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::gateway::Gateway;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};

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
        send(gateway.address("http"), bytes).await;
        let Record { targets, violations } = std::mem::take(&mut *record.lock().expect("no reader panicked"));
        passed += targets.len();
        let stray = targets.into_iter().filter(|target| !target.starts_with("/outer"));
        failures.extend(violations.into_iter().chain(stray).map(|what| format!("{name}: the upstream got {what}")));
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

/// Sends the bytes and reads what comes back, for as long as it comes at once.
async fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    // The gateway may close before it has read everything; that is one of the right answers.
    let _ = stream.write_all(bytes).await;
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

//! Wire: requests byte for byte.
//!
//! For: what no well-behaved client sends. May touch: loopback sockets.
//! Promises: the bytes go out as they are given. Read next: `client.rs` for `Answer`.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::Answer;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Sends one request and reads until the gateway closes. `None` when it closes without an answer.
///
/// The request should hold `Connection: close`, or this waits for the gateway's patience to end.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let bytes = within("a raw request is answered and its connection closed", PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
        // The gateway may refuse and close before it has read everything: then what it said still counts.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
        bytes
    })
    .await;
    if bytes.is_empty() { None } else { Some(parse(&bytes)) }
}

/// Sends requests on one connection, each when the answer to the one before has arrived, and returns all that came back.
/// The last request should hold `Connection: close`. Answers must have a JSON body, whose last character ends them.
pub async fn converse(address: SocketAddr, requests: &[&str]) -> String {
    within("a conversation", PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
        let mut text = String::new();
        for (index, request) in requests.iter().enumerate() {
            stream.write_all(request.as_bytes()).await.expect("the connection is still there");
            while text.matches("HTTP/1.1 ").count() <= index || !text.ends_with('}') {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.expect("the connection is still there");
                assert_ne!(count, 0, "closed before answer {index}: {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        }
        text
    })
    .await
}

/// A GET for exactly this target, with a token.
pub fn get(target: &str, host: &str, token: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("the answer has no complete head: {text:?}"));
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header field: {line:?}"));
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        headers.append(name, HeaderValue::from_str(value.trim()).expect("a field value"));
    }
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = &bytes[end + 4..];
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    Answer { status, version: Version::HTTP_11, headers, body: Bytes::from(body) }
}

/// Undoes the chunked coding (RFC 9112 §7.1); what does not follow it fails the test.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk has a size line");
        let size = std::str::from_utf8(&rest[..line_end]).expect("a chunk size is text");
        let size = usize::from_str_radix(size, 16).expect("a chunk size is hexadecimal");
        rest = &rest[line_end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

//! No request: the answer to what never became one, in the form of every other refusal.
//!
//! For: heads that Pingora's parser refuses, and CONNECT. Pingora answers both by itself before it calls anybody, so its answer is
//! known here by how it begins, and by that a head is still awaited. May touch: nothing outside. Promises: one answer a connection,
//! counted, with an id of its own. Read next: `buffered.rs`, which asks; `base/reply.rs`.

use std::sync::Arc;

use common::code::Code;
use http::StatusCode;
use prometheus::IntCounter;

use crate::base::connection_notes::ConnectionNotes;
use crate::base::refusal::{Advice, Refusal};
use crate::base::reply::{self, About};

/// How Pingora's own answers begin, and what they stand for.
const PINGORAS: [(&[u8], Code); 2] = [
    (b"HTTP/1.1 400 Bad Request\r\nServer: Pingora\r\n", Code::RequestMalformed),
    (b"HTTP/1.1 405 Method Not Allowed\r\nServer: Pingora\r\n", Code::MethodNotAllowed),
];

/// What one connection is told that has sent no request.
#[derive(Debug)]
pub(super) struct NoRequest {
    notes: Arc<ConnectionNotes>,
    refused: IntCounter,
    /// Empty until it is needed.
    answer: Vec<u8>,
}

impl NoRequest {
    /// For the connection with these notes; `refused` counts.
    pub(super) fn new(notes: Arc<ConnectionNotes>, refused: IntCounter) -> Self {
        Self { notes, refused, answer: Vec::new() }
    }

    /// What to write in place of these bytes, where they are an answer of Pingora's own.
    pub(super) fn in_place_of(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        // While a request is under way, whatever is written is an answer to it.
        self.notes.clock.awaited()?;
        let (_, code) = PINGORAS.iter().find(|(start, _)| bytes.starts_with(start))?;
        // Asked again for the same bytes, when the first attempt had to wait.
        if self.answer.is_empty() {
            self.refused.inc();
            self.answer = answer(*code, bytes);
        }
        Some(&self.answer)
    }
}

/// Head and body. The date is Pingora's.
fn answer(code: Code, pingoras: &[u8]) -> Vec<u8> {
    let request_id = uuid::Uuid::now_v7().to_string();
    // Scanners do this all day: a line each would be a way to fill the disk.
    tracing::debug!(request_id = request_id.as_str(), code = code.name(), "no request");
    let refusal = match code {
        Code::MethodNotAllowed => {
            Refusal::new(code).detail("no tunnels are opened").advice(Advice::Allow(Vec::new()))
        }
        code => Refusal::new(code).detail("the head is not that of an HTTP/1.1 request"),
    };
    let reply = reply::reply(&refusal, About { request_id: &request_id, path: "", route: None });
    let reason = StatusCode::from_u16(reply.status).ok().and_then(|status| status.canonical_reason()).unwrap_or("");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", reply.status).into_bytes();
    for (name, value) in &reply.headers {
        field(&mut bytes, name.as_str(), value.as_bytes());
    }
    let date = pingoras.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Date: "));
    if let Some(date) = date {
        field(&mut bytes, "date", date.trim_ascii_end());
    }
    field(&mut bytes, "content-length", reply.body.len().to_string().as_bytes());
    field(&mut bytes, "connection", b"close");
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&reply.body);
    bytes
}

fn field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINGORAS_400: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nServer: Pingora\r\nDate: Tue, 24 Nov 2026 13:45:36 GMT\r\n\
        Content-Length: 0\r\nCache-Control: private, no-store\r\nConnection: close\r\n\r\n";

    #[test]
    fn only_what_stands_for_no_request_is_replaced_and_counted_once() {
        let (notes, refused) = (Arc::new(ConnectionNotes::blank()), IntCounter::new("n", "n").expect("a counter"));
        let mut no_request = NoRequest::new(Arc::clone(&notes), refused.clone());
        assert_eq!(no_request.in_place_of(PINGORAS_400), None, "HTTP/2 has no such heads");
        notes.clock.run();
        assert_eq!(no_request.in_place_of(b"HTTP/1.1 400 Bad Request\r\nserver: other\r\n\r\n"), None);
        notes.clock.head_read();
        assert_eq!(no_request.in_place_of(PINGORAS_400), None, "an answer to a request");
        notes.clock.request_over();
        let first = no_request.in_place_of(PINGORAS_400).map(<[u8]>::to_vec).expect("ours");
        assert_eq!(no_request.in_place_of(PINGORAS_400), Some(&first[..]), "the same when it is asked for again");
        assert_eq!(refused.get(), 1);
        let text = String::from_utf8(first).expect("text");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && !text.contains("Pingora"), "{text}");
        assert!(text.contains("\r\ndate: Tue, 24 Nov 2026 13:45:36 GMT\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            text.contains(&format!("\r\ncontent-length: {}\r\n", body.len())) && body.contains("request_malformed"),
            "{text}"
        );
    }
}

//! Left open: a request over HTTP/2 whose answer is complete, and whose body is not.
//!
//! For: giving such requests the time that is given to a piece of a body, since Pingora waits for the rest without end. May touch:
//! Pingora's session, the connection's notes. Promises: as `proxy.rs`: no rule lives here. Read next: `../base/left_open.rs`.

use bytes::Bytes;
use common::clock::{Clock as _, SystemClock};
use http::header::CONTENT_LENGTH;
use http::{HeaderName, Method};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Journey, notes};
use crate::base::connection_notes::ConnectionNotes;
use crate::snapshot::Snapshot;

/// In the head of an answer, it says that there is nothing behind it ("Trailers-Only" in gRPC over HTTP/2).
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether an answer is complete with its head. An informational one is followed by another.
pub(super) fn ends_with_head(method: &Method, answer: &ResponseHeader) -> bool {
    if answer.status.is_informational() {
        return false;
    }
    let is_empty = answer.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    *method == Method::HEAD
        || matches!(answer.status.as_u16(), 204 | 304)
        || is_empty
        || answer.headers.contains_key(GRPC_STATUS)
}

/// The last piece of the answer goes out now.
pub(super) fn note(session: &mut Session, journey: &mut Journey) {
    if !session.is_http2() || journey.left_open_ns.is_some() || session.is_body_done() {
        return;
    }
    // Its connection carries the requests of others, who would pay for this one; it has a clock of its own.
    if is_of_trusted_proxy(session, &journey.snapshot) {
        return;
    }
    if let Some(notes) = notes(session) {
        let ends_ns = ends_ns(&journey.snapshot);
        notes.left_open.add(&notes.end, ends_ns);
        journey.left_open_ns = Some(ends_ns);
    }
}

/// A piece of the body has come, and the next one has as long. How slow a body may be is bounded elsewhere.
pub(super) fn came(session: &Session, journey: &mut Journey, piece: Option<&Bytes>) {
    if piece.is_none_or(Bytes::is_empty) {
        return;
    }
    if let (Some(known_ns), Some(notes)) = (journey.left_open_ns, notes(session)) {
        let ends_ns = ends_ns(&journey.snapshot);
        notes.left_open.postpone(&notes.end, known_ns, ends_ns);
        journey.left_open_ns = Some(ends_ns);
    }
}

/// The request is over. `left_open_ns`: until when it had, if it was left open.
pub(super) fn over(notes: &ConnectionNotes, is_http2: bool, left_open_ns: Option<u64>) {
    if !is_http2 {
        notes.end.clear();
    } else if let Some(ends_ns) = left_open_ns {
        notes.left_open.remove(&notes.end, ends_ns);
    }
}

/// Until when a request has that is left open now, in steady nanoseconds.
fn ends_ns(snapshot: &Snapshot) -> u64 {
    let patience_ns = u64::try_from(snapshot.connection.body_timeout.as_nanos()).unwrap_or(u64::MAX);
    SystemClock.steady_ns().saturating_add(patience_ns)
}

fn is_of_trusted_proxy(session: &Session, snapshot: &Snapshot) -> bool {
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
    peer.is_some_and(|peer| snapshot.plan.addresses.trust(peer.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_body_ends_with_its_head() {
        for (method, status, field, ends) in [
            (Method::GET, 200_u16, None, false),
            (Method::GET, 200, Some(("content-length", "2")), false),
            (Method::GET, 200, Some(("content-length", "0")), true),
            (Method::GET, 204, None, true),
            (Method::POST, 200, Some(("grpc-status", "5")), true),
            (Method::HEAD, 200, Some(("content-length", "2")), true),
            (Method::HEAD, 103, None, false),
        ] {
            let mut answer = ResponseHeader::build_no_case(status, None).expect("a status");
            if let Some((name, value)) = field {
                answer.insert_header(name, value).expect("a field");
            }
            assert_eq!(ends_with_head(&method, &answer), ends, "{method} {status} {field:?}");
        }
    }
}

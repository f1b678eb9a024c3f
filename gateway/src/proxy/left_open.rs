//! Left open: a request over HTTP/2 whose answer is complete, and whose body is not.
//!
//! For: giving such requests the time that is given to a piece of a body, since Pingora waits for the rest without end. May touch:
//! Pingora's session, the connection's notes. Promises: as `proxy.rs`: no rule lives here. Read next: `../base/left_open.rs`.

use common::clock::{Clock as _, SystemClock};
use http::header::CONTENT_LENGTH;
use http::{HeaderName, Method};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Journey, notes};
use crate::base::connection_notes::ConnectionNotes;

/// In the head of an answer, it says that there is nothing behind it ("Trailers-Only" in gRPC over HTTP/2).
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether an answer is complete with its head.
pub(super) fn ends_with_head(method: &Method, answer: &ResponseHeader) -> bool {
    let status = answer.status.as_u16();
    let is_empty = answer.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    *method == Method::HEAD || matches!(status, 204 | 304) || is_empty || answer.headers.contains_key(GRPC_STATUS)
}

/// The last piece of the answer goes out now.
pub(super) fn note(session: &mut Session, journey: &mut Journey) {
    if !session.is_http2() || journey.is_left_open || session.is_body_done() {
        return;
    }
    if let Some(notes) = notes(session) {
        let patience_ns = u64::try_from(journey.snapshot.connection.body_timeout.as_nanos()).unwrap_or(u64::MAX);
        notes.left_open.add(&notes.end, SystemClock.steady_ns().saturating_add(patience_ns));
        journey.is_left_open = true;
    }
}

/// The request is over.
pub(super) fn over(notes: &ConnectionNotes, is_http2: bool, is_left_open: bool) {
    if !is_http2 {
        notes.end.clear();
    } else if is_left_open {
        notes.left_open.remove(&notes.end);
    }
}

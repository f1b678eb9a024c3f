//! Fields: headers in Pingora's keeping, for stages that edit plain ones.
//!
//! For: one sink for heads of requests and of answers. May touch: Pingora's heads. Promises: what is set is of checked types, so that
//! nothing is refused. Read next: `../stages/dispatch/forward.rs`.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::stages::dispatch::forward::HeaderSink;

/// Headers in Pingora's keeping, which must be changed through its setters.
pub(super) struct Fields<'a, H>(pub(super) &'a mut H);

/// How many fields a request is given on its way, about: room is made for them at once.
const FIELDS_MORE: usize = 12;

/// Lets the names of a request's fields go out in lower case, which means the same (RFC 9110 §5.1) and is the only way over HTTP/2:
/// to keep the case, Pingora keeps a second map beside the first, and copies both with each attempt.
pub(super) fn forget_case(head: &mut RequestHeader) {
    if head.has_case()
        && let Some(parts) = take(head)
    {
        *head = RequestHeader::from(parts);
    }
}

/// The parts of a head, to be changed at once and put back, without the case of names. `None` where the target does not stand in
/// the URI as it came, and would be lost.
pub(super) fn take(head: &mut RequestHeader) -> Option<Parts> {
    let in_uri = head.uri.path_and_query().is_some_and(|target| target.as_str().as_bytes() == head.raw_path());
    if !in_uri {
        return None;
    }
    let blank = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(head, blank));
    // Where there is no more room at all, what is set later says so.
    let _ = parts.headers.try_reserve(FIELDS_MORE);
    Some(parts)
}

/// What nearly every head is given. Pingora keeps each name as it is to be written, and makes a copy of those that it does not know;
/// of these it need not.
const OFTEN_SET: [&str; 12] = [
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "via",
    "ratelimit",
    "ratelimit-policy",
    "x-auth-subject",
    "x-auth-method",
    "x-auth-permissions",
    "x-auth-roles",
];

/// The name, if it is one of those.
fn often_set(name: &HeaderName) -> Option<&'static str> {
    OFTEN_SET.iter().copied().find(|known| *known == name.as_str())
}

impl HeaderSink for Fields<'_, RequestHeader> {
    fn fields(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // Name and value are of checked types, so there is nothing left to refuse.
        let _ = match often_set(&name) {
            Some(known) => self.0.insert_header(known, value),
            None => self.0.insert_header(name, value),
        };
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        // As above.
        let _ = self.0.append_header(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

impl HeaderSink for Fields<'_, ResponseHeader> {
    fn fields(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        // As above.
        let _ = self.0.append_header(name, value);
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // As above.
        let _ = match often_set(&name) {
            Some(known) => self.0.insert_header(known, value),
            None => self.0.insert_header(name, value),
        };
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

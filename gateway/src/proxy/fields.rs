//! Fields: headers in Pingora's keeping, for stages that edit plain ones.
//!
//! For: one sink for heads of requests and of answers. May touch: Pingora's heads. Promises: what is set is of checked types, so that
//! nothing is refused. Read next: `../stages/dispatch/forward.rs`.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::stages::dispatch::forward::HeaderSink;

/// Headers in Pingora's keeping, which must be changed through its setters.
pub(super) struct Fields<'a, H>(pub(super) &'a mut H);

impl HeaderSink for Fields<'_, RequestHeader> {
    fn fields(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // Name and value are of checked types, so there is nothing left to refuse.
        let _ = self.0.insert_header(name, value);
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
        let _ = self.0.insert_header(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

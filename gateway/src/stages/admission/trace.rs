//! Trace: which trace a request belongs to.
//!
//! A trusted proxy's word is taken: its trace goes on, and whether it is told of stays as decided. From everybody else a new
//! trace begins, or a stranger could have every request told of, or put his spans into other people's traces.

use common::traces::{Parent, Tracer};
use http::{HeaderName, HeaderValue};

use super::address::Addresses;
use crate::base::head::Head;
use crate::base::telemetry::traces::{TRACEPARENT, TRACESTATE, Traced};

/// The request's trace.
pub(crate) fn begin(tracer: &Tracer, head: &Head<'_>, addresses: &Addresses) -> Traced {
    let values = |name: &HeaderName| head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let parent = if addresses.trust(head.peer.to_canonical()) {
        Parent::read(values(&TRACEPARENT), values(&TRACESTATE))
    } else {
        None
    };
    Traced::new(tracer.begin(parent))
}

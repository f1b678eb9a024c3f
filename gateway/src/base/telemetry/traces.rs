//! Traces: what is kept of a request for its spans, until it is over.
//!
//! For: numbers that upstreams are told while the request is under way, and the attempts at them. May touch: nothing.
//! Promises: of a request that is not told of, only its trace's number is kept. `stages/finish/spans.rs` makes spans of it.

use std::sync::Arc;
use std::time::SystemTime;

use common::traces::{self, SpanId, Trace, new_span};
use http::HeaderName;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static(traces::TRACEPARENT);
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static(traces::TRACESTATE);

/// A request's trace.
#[derive(Debug)]
pub(crate) struct Traced {
    pub trace: Trace,
    /// The attempts at upstreams, where the request is told of; as many as `retry.attempts` allows.
    pub attempts: Vec<Attempt>,
}

/// One attempt at an upstream.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What the upstream is told.
    pub span: SpanId,
    /// The server's address, as in the access log.
    pub endpoint: Arc<str>,
    pub began: SystemTime,
    /// When it failed; one that did not ends with the request.
    pub ended: Option<SystemTime>,
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<&'static str>,
}

impl Traced {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { trace, attempts: Vec::new() }
    }

    /// The span that an upstream's spans stand below.
    pub(crate) fn above_upstream(&self) -> SpanId {
        self.attempts.last().map_or(self.trace.span(), |attempt| attempt.span)
    }

    pub(crate) fn attempt_began(&mut self, endpoint: &Arc<str>) {
        if self.trace.is_sampled() {
            self.attempts.push(Attempt {
                span: new_span(),
                endpoint: Arc::clone(endpoint),
                began: SystemTime::now(),
                ended: None,
                status: None,
                error: None,
            });
        }
    }

    pub(crate) fn attempt_answered(&mut self, status: u16) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.status = Some(status);
        }
    }

    pub(crate) fn attempt_failed(&mut self, error: &'static str) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.error = Some(error);
            attempt.ended = Some(SystemTime::now());
        }
    }
}

//! Spans: what is told of a request, by OpenTelemetry's semantic conventions for HTTP.
//!
//! For: `middleware.rs`, where every request begins and ends. May touch: the request's trace.
//! Promises: a caller's word about the trace counts only if its address is a trusted proxy's; no query, no body and no
//! credential is told. Read next: `base/trace.rs`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use common::code::Code;
use common::traces::{Parent, TRACEPARENT, TRACESTATE, Tracer, method_name};
use http::{HeaderValue, Version};
use ipnet::IpNet;

use crate::base::network::is_trusted;
use crate::base::trace::Current;

/// The longest path that is told, in bytes.
const PATH_BYTES_MAX: usize = 2048;

/// What is known of a request before it is handled.
pub(super) struct Asked {
    current: Current,
    method: &'static str,
    protocol_version: &'static str,
}

impl Asked {
    pub(super) fn begin(tracer: &Tracer, request: &Request, peer: IpAddr, trusted: &[IpNet]) -> Self {
        let values = |name: &str| request.headers().get_all(name).into_iter().map(HeaderValue::as_bytes);
        let parent = if is_trusted(peer.to_canonical(), trusted) {
            Parent::read(values(TRACEPARENT), values(TRACESTATE))
        } else {
            None
        };
        Self {
            current: Current::begin(tracer, parent),
            method: method_name(request.method().as_str()),
            protocol_version: if request.version() == Version::HTTP_2 { "2" } else { "1.1" },
        }
    }

    /// For the work on it.
    pub(super) fn current(&self) -> Current {
        self.current.clone()
    }

    /// The trace's number, for the log.
    pub(super) fn trace_id(&self) -> String {
        self.current.trace().id().to_string()
    }

    /// Tells of it. `code` is why it was refused.
    pub(super) fn tell(
        &self,
        (route, path): (&str, &str),
        client: IpAddr,
        (status, code): (u16, Option<Code>),
        took: Duration,
    ) {
        let now = SystemTime::now();
        let began = now.checked_sub(took).unwrap_or(now);
        let Some(mut open) = self.current.request(format!("{} {route}", self.method), began) else { return };
        let Some(span) = open.span() else { return };
        span.set("http.request.method", self.method);
        span.set("http.route", route.to_owned());
        span.set("url.path", path.get(..path.floor_char_boundary(PATH_BYTES_MAX)).unwrap_or_default().to_owned());
        span.set("http.response.status_code", i64::from(status));
        span.set("network.protocol.name", "http");
        span.set("network.protocol.version", self.protocol_version);
        span.set("client.address", client.to_string());
        match code.map(Code::name) {
            // By the conventions a fault of the client is none of the server's.
            Some(code) if status < 500 => span.set("error.type", code),
            Some(code) => span.fail(code),
            None if status >= 500 => span.fail(status.to_string()),
            None => {}
        }
    }
}

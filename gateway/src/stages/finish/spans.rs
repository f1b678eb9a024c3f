//! Spans: what is told of a request, made from its notes when it is over.
//!
//! For: one span of the request and one of each attempt at an upstream, by OpenTelemetry's semantic conventions for HTTP.
//! May touch: the tracer's queue. Promises: no query, no body, no credential; a request that is not told of costs one
//! comparison.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::traces::{Span, SpanKind, Tracer, method_name};

use super::report::{Ending, HOST_BYTES_MAX, PATH_BYTES_MAX, short};
use crate::base::telemetry::traces::{Attempt, Traced};
use crate::stages::context::Context;
use crate::stages::verdict::Verdict;

/// Tells of a request that took so long.
pub(super) fn tell(tracer: &Tracer, context: &Context, ending: &Ending<'_>, status: u16, duration: Duration) {
    let Some(noted) = context.traced.as_ref().filter(|noted| noted.trace.is_sampled()) else { return };
    let ended = SystemTime::now();
    for (index, attempt) in noted.attempts.iter().enumerate() {
        let span = attempt_span(tracer, noted, attempt, index, context, ending);
        tracer.tell_ended(span, attempt.ended.unwrap_or(ended));
    }
    let began = ended.checked_sub(duration).unwrap_or(ended);
    tracer.tell_ended(request_span(tracer, noted, context, ending, status, began), ended);
}

fn request_span(
    tracer: &Tracer,
    noted: &Traced,
    context: &Context,
    ending: &Ending<'_>,
    status: u16,
    began: SystemTime,
) -> Span {
    let method = method_name(ending.method.as_str());
    let route = context.route.as_ref().map(|route| Arc::clone(&route.id));
    let name = route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut span = tracer.request(&noted.trace, name, began);
    span.set("http.request.method", method);
    span.set("url.path", String::from(short(ending.path, PATH_BYTES_MAX)));
    span.set_some("http.route", route);
    span.set("http.response.status_code", i64::from(status));
    span.set_some("server.address", ending.host.map(|host| without_port(&short(host, HOST_BYTES_MAX)).to_owned()));
    span.set_some("client.address", context.client_ip().map(|ip| ip.to_string()));
    span.set("network.protocol.name", "http");
    span.set("network.protocol.version", if ending.protocol == "h2" { "2" } else { "1.1" });
    span.set("capibara6.request_id", context.request_id.to_str().unwrap_or("").to_owned());
    let error = match (&context.verdict, context.verdict.code()) {
        (_, Some(code)) => Some(code.name()),
        (Verdict::Failed(failure), None) => Some(failure.word()),
        (_, None) => None,
    };
    match error {
        // By the conventions a fault of the client is none of the server's.
        Some(error) if status < 500 && !matches!(context.verdict, Verdict::Failed(_)) => {
            span.set("error.type", error);
        }
        Some(error) => span.fail(error),
        None if status >= 500 => span.fail(status.to_string()),
        None => {}
    }
    span
}

fn attempt_span(
    tracer: &Tracer,
    noted: &Traced,
    attempt: &Attempt,
    index: usize,
    context: &Context,
    ending: &Ending<'_>,
) -> Span {
    let method = method_name(ending.method.as_str());
    let span = tracer.child(&noted.trace, noted.trace.span(), SpanKind::Client, method, attempt.began);
    let mut span = span.with_id(&noted.trace, attempt.span);
    span.set("http.request.method", method);
    let endpoint: &str = &attempt.endpoint;
    span.set("server.address", without_port(endpoint).to_owned());
    span.set_some("server.port", port(endpoint).map(i64::from));
    span.set_some("capibara6.upstream", context.pool().map(|pool| Arc::clone(&pool.name)));
    if index > 0 {
        span.set_count("http.request.resend_count", index as u64);
    }
    span.set_some("http.response.status_code", attempt.status.map(i64::from));
    match (attempt.error, attempt.status) {
        (Some(error), _) => span.fail(error),
        (None, Some(status)) if status >= 400 => span.fail(status.to_string()),
        (None, _) => {}
    }
    span
}

/// A host without its port. The path of a socket has none.
fn without_port(host: &str) -> &str {
    match port(host) {
        Some(_) => host.rsplit_once(':').map_or(host, |(name, _)| name),
        None => host,
    }
}

fn port(host: &str) -> Option<u16> {
    // Within the brackets of an IPv6 address there are colons too.
    host.rsplit_once(':').filter(|(name, _)| !name.starts_with('[') || name.ends_with(']'))?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (host, name, number) in [
            ("api.test:8443", "api.test", Some(8443)),
            ("api.test", "api.test", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("[fe80::1]", "[fe80::1]", None),
            ("unix:/run/api.sock", "unix:/run/api.sock", None),
        ] {
            assert_eq!((without_port(host), port(host)), (name, number), "{host}");
        }
    }
}

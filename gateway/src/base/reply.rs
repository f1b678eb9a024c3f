//! Reply: the one table from a refusal to HTTP.
//!
//! For: status, headers and problem body of every answer the gateway makes itself. May touch: `common::problem`.
//! Promises: one shape for all (RFC 9457), `Proxy-Status` names who answered and why (RFC 9209), nothing is cacheable.
//! Read next: `stages/egress/` for the answers that come from upstreams.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use common::code::Code;
use common::problem::{MEDIA_TYPE, Problem};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};

use super::refusal::{Advice, Challenge, Refusal};

/// The name under which this proxy speaks in `Proxy-Status`.
pub(crate) const PROXY_NAME: &str = "capibara6";
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer, ready to be written.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// What the answer tells of the request besides the refusal itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub request_id: &'a str,
    pub path: &'a str,
    pub route: Option<&'a str>,
}

/// The answer to a refused request.
pub(crate) fn reply(refusal: &Refusal, about: About<'_>) -> Reply {
    let body = Problem::new(refusal.code)
        .detail(&refusal.detail)
        .instance(about.path)
        .request_id(about.request_id)
        .route(about.route)
        .policy(refusal.policy.as_deref())
        .to_json();
    let mut headers = Vec::with_capacity(6);
    headers.push((CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)));
    headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    push(&mut headers, X_REQUEST_ID, about.request_id);
    push(&mut headers, PROXY_STATUS, &proxy_status(refusal, about.route));
    advise(&mut headers, refusal);
    Reply { status: refusal.code.status(), headers, body: Bytes::from(body) }
}

/// The answer to a refused gRPC call: its status is a header, and there is no body ("Trailers-Only" in gRPC over HTTP/2).
/// The code stands in the message, where a client of any language can read it.
pub(crate) fn grpc_reply(refusal: &Refusal, about: About<'_>) -> Reply {
    let mut headers = Vec::with_capacity(6);
    headers.push((CONTENT_TYPE, HeaderValue::from_static("application/grpc")));
    headers.push((GRPC_STATUS, HeaderValue::from(grpc_status(refusal.code))));
    // ASCII without percent signs, so that the message needs none of gRPC's percent codes.
    push(&mut headers, GRPC_MESSAGE, &format!("{}: {}", refusal.code.name(), refusal.code.title()));
    push(&mut headers, X_REQUEST_ID, about.request_id);
    push(&mut headers, PROXY_STATUS, &proxy_status(refusal, about.route));
    advise(&mut headers, refusal);
    Reply { status: 200, headers, body: Bytes::new() }
}

/// The gRPC status that says the same (<https://grpc.io/docs/guides/status-codes/>).
fn grpc_status(code: Code) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match code.status() {
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 414 | 429 | 431 => RESOURCE_EXHAUSTED,
        500 => INTERNAL,
        502 | 503 => UNAVAILABLE,
        _ => INVALID_ARGUMENT,
    }
}

fn advise(headers: &mut Vec<(HeaderName, HeaderValue)>, refusal: &Refusal) {
    match &refusal.advice {
        Advice::None => {}
        Advice::Authenticate(challenges) => {
            for challenge in challenges {
                match challenge {
                    Challenge::Other(value) => headers.push((WWW_AUTHENTICATE, value.clone())),
                    challenge => push(headers, WWW_AUTHENTICATE, &authenticate(challenge, refusal.code)),
                }
            }
        }
        Advice::Allow(methods) => {
            let list = methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(", ");
            push(headers, ALLOW, &list);
        }
        Advice::RetryAfter(wait) => headers.push((RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)))),
    }
}

/// Rounded up, so that a client which waits as told is never too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn authenticate(challenge: &Challenge, code: Code) -> String {
    match challenge {
        Challenge::Bearer => format!("Bearer realm=\"{PROXY_NAME}\""),
        Challenge::BearerInvalid => {
            format!("Bearer realm=\"{PROXY_NAME}\", error=\"invalid_token\", error_description=\"{}\"", code.title())
        }
        Challenge::BearerScope => format!("Bearer realm=\"{PROXY_NAME}\", error=\"insufficient_scope\""),
        Challenge::ApiKey => format!("ApiKey realm=\"{PROXY_NAME}\""),
        Challenge::Basic { realm } => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
        Challenge::Other(_) => String::new(),
    }
}

/// `capibara6; error=http_request_denied; details="code=…, route=…, policy=…"` (RFC 9209 §2.1). Names of routes and
/// policies are checked at load, so they need no quoting.
fn proxy_status(refusal: &Refusal, route: Option<&str>) -> String {
    let mut text = String::with_capacity(96);
    // Writing to a String cannot fail.
    let _ = write!(text, "{PROXY_NAME}; error={}; details=\"code={}", error_type(refusal.code), refusal.code.name());
    if let Some(route) = route {
        let _ = write!(text, ", route={route}");
    }
    if let Some(policy) = &refusal.policy {
        let _ = write!(text, ", policy={policy}");
    }
    text.push('"');
    text
}

/// The registered error type that fits best (RFC 9209 §2.3).
fn error_type(code: Code) -> &'static str {
    match code {
        Code::RequestMalformed | Code::PathInvalid | Code::HeadersTooLarge => "http_request_error",
        Code::RouteNotFound => "destination_not_found",
        Code::UpstreamUnavailable => "destination_unavailable",
        Code::UpstreamFailed => "connection_terminated",
        Code::UpstreamProtocol => "http_protocol_error",
        Code::UpstreamTimeout => "http_response_timeout",
        Code::KeySetUnavailable
        | Code::KeySourceUnavailable
        | Code::AuthServiceUnavailable
        | Code::LimitStoreUnavailable
        | Code::InternalError => "proxy_internal_error",
        Code::Overloaded => "connection_limit_reached",
        _ => "http_request_denied",
    }
}

/// Leaves a header out rather than send one that is not HTTP.
fn push(headers: &mut Vec<(HeaderName, HeaderValue)>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(reply: &Reply, name: &str) -> Option<String> {
        let found = reply.headers.iter().find(|(candidate, _)| candidate.as_str() == name)?;
        Some(found.1.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn a_limit_names_itself_and_tells_when_to_come_back() {
        let refusal = Refusal::new(Code::RateLimited)
            .policy(&"per_ip".into())
            .advice(Advice::RetryAfter(Duration::from_millis(600)));
        let reply = reply(&refusal, About { request_id: "r-1", path: "/x", route: Some("query") });
        assert_eq!(reply.status, 429);
        assert_eq!(header(&reply, "retry-after").as_deref(), Some("1"));
        assert_eq!(
            header(&reply, "proxy-status").as_deref(),
            Some("capibara6; error=http_request_denied; details=\"code=rate_limited, route=query, policy=per_ip\"")
        );
    }

    #[test]
    fn a_missing_token_is_challenged_without_an_error_code() {
        let refusal = Refusal::new(Code::TokenMissing).advice(Advice::Authenticate(vec![Challenge::Bearer]));
        let reply = reply(&refusal, About { request_id: "r-1", path: "/x", route: None });
        assert_eq!(header(&reply, "www-authenticate").as_deref(), Some("Bearer realm=\"capibara6\""));
    }
}

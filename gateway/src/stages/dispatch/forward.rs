//! Forward: what an upstream is told about the client, and what it is not told.
//!
//! Headers that speak for the gateway are taken away first and set afterwards, so whatever a client sends under such a
//! name never arrives. Names with an underscore go too, unless the settings say otherwise: servers that turn `-` into `_`
//! could not tell them apart.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{COOKIE, FORWARDED, HOST, SEC_WEBSOCKET_PROTOCOL, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::deadline::{self, X_EXPECTED_TIMEOUT};
use super::mirror::X_MIRRORED;
use crate::base::connection_notes::Introduction;
use crate::base::head::Head;
use crate::base::reply::X_REQUEST_ID;
use crate::base::telemetry::traces::{TRACEPARENT, TRACESTATE};
use crate::config::checked::Underscores;
use crate::stages::admission::address::X_FORWARDED_FOR;
use crate::stages::auth::credential::protocols_without_token;
use crate::stages::context::Context;
use crate::stages::plan::Route;

const X_AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const X_AUTH_ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
const X_AUTH_PERMISSIONS: HeaderName = HeaderName::from_static("x-auth-permissions");
const X_AUTH_METHOD: HeaderName = HeaderName::from_static("x-auth-method");
const X_AUTH_KEY_ID: HeaderName = HeaderName::from_static("x-auth-key-id");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The client's certificate, and those of its issuers (RFC 9440 §2).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// `Via` names the version the request came by (RFC 9110 §7.6.3).
const VIA_HTTP1: HeaderValue = HeaderValue::from_static("1.1 capibara6");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2 capibara6");

/// Where header edits go: Pingora's request, or a plain map where nothing is sent.
pub(crate) trait HeaderSink {
    /// The headers as they are now.
    fn fields(&self) -> &HeaderMap;
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    fn append(&mut self, name: HeaderName, value: HeaderValue);
    fn remove(&mut self, name: &HeaderName);
}

impl HeaderSink for HeaderMap {
    fn fields(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        HeaderMap::append(self, name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Makes a request's headers what an upstream may believe.
pub(crate) fn rewrite(head: &Head<'_>, context: &Context, sink: &mut impl HeaderSink) {
    let passes = context.route.as_ref().is_some_and(|route| route.underscores == Underscores::Pass);
    for name in head.headers.keys().filter(|name| speaks_for_us(name.as_str()) || misreads(name.as_str(), passes)) {
        sink.remove(name);
    }
    if let Some(route) = &context.route {
        hide_credentials(head.headers, route, sink);
        pass_certificate(head, route, sink);
    }
    if let Some(identity) = &context.identity {
        let headers = &identity.headers;
        sink.set(X_AUTH_SUBJECT, headers.subject.clone());
        set_some(sink, X_AUTH_ROLES, headers.roles.as_ref());
        set_some(sink, X_AUTH_PERMISSIONS, headers.permissions.as_ref());
        set_some(sink, X_AUTH_KEY_ID, headers.key_id.as_ref());
        sink.set(X_AUTH_METHOD, headers.method.clone());
        for (name, value) in &identity.copied {
            sink.set(name.clone(), value.clone());
        }
    }
    sink.set(X_REQUEST_ID, context.request_id.clone());
    sink.set(VIA, if head.http2 { VIA_HTTP2 } else { VIA_HTTP1 });
    join_cookies(head.headers, sink);
    forwarded(head, context, sink);
    deadline::tell(head.headers, context, sink);
    trace(context, sink);
}

/// Whether only the gateway may send a header of this name: those that speak of the client, and those by which some servers
/// act on another path, method or address than the one that was authorised.
fn speaks_for_us(name: &str) -> bool {
    // By the first letter, which tells most headers apart at once.
    match name.as_bytes().first() {
        Some(b'x') => {
            name.starts_with("x-auth-")
                || name.starts_with("x-forwarded-")
                || name == X_EXPECTED_TIMEOUT.as_str()
                || name == X_MIRRORED.as_str()
                || matches!(
                    name,
                    "x-request-id"
                        | "x-original-url"
                        | "x-rewrite-url"
                        | "x-http-method"
                        | "x-http-method-override"
                        | "x-method-override"
                        | "x-real-ip"
                        | "x-client-ip"
                        | "x-cluster-client-ip"
                )
        }
        Some(b'c') => name == CLIENT_CERT.as_str() || name == CLIENT_CERT_CHAIN.as_str(),
        Some(b'f') => name == FORWARDED.as_str(),
        Some(b't') => name == "true-client-ip",
        _ => false,
    }
}

/// Whether a name has an underscore and stays here: all of them, or where they pass, those that a server which turns `_` into
/// `-` would take for the gateway's.
fn misreads(name: &str, passes: bool) -> bool {
    name.contains('_') && (!passes || speaks_for_us(&name.replace('_', "-")))
}

/// Takes away what only a scheme of the route may set, and a token among the protocols of a WebSocket.
fn hide_credentials(headers: &HeaderMap, route: &Route, sink: &mut impl HeaderSink) {
    for name in &route.copied {
        sink.remove(name);
    }
    if route.takes_protocol_token && headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let kept = protocols_without_token(headers);
        if kept.is_empty() {
            sink.remove(&SEC_WEBSOCKET_PROTOCOL);
        } else {
            set_text(sink, SEC_WEBSOCKET_PROTOCOL, &kept);
        }
    }
}

/// Tells the client's certificate where the route says so: its DER form as a Byte Sequence (RFC 9440 §2.2).
fn pass_certificate(head: &Head<'_>, route: &Route, sink: &mut impl HeaderSink) {
    if let Some(certificate) = head.client_certificate
        && route.client_certificate.passed_on
    {
        set_text(sink, CLIENT_CERT, &format!(":{}:", STANDARD.encode(&certificate.der)));
    }
}

/// Tells the trace, so that the upstream's spans stand below the attempt's. Where traces are not told, the client's word
/// goes on as it came.
fn trace(context: &Context, sink: &mut impl HeaderSink) {
    let Some(traced) = &context.traced else { return };
    set_text(sink, TRACEPARENT, &traced.trace.traceparent(traced.above_upstream()));
    match traced.trace.tracestate() {
        Some(state) => set_text(sink, TRACESTATE, state),
        None => sink.remove(&TRACESTATE),
    }
}

/// HTTP/2 may send every cookie in a field of its own; HTTP/1.1 knows one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &HeaderMap, sink: &mut impl HeaderSink) {
    let cookies = headers.get_all(COOKIE);
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    // Joined header values with plain text between them are a header value.
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        sink.set(COOKIE, joined);
    }
}

/// The forwarding headers: `X-Forwarded-*` and `Forwarded` (RFC 7239). What a trusted proxy said is kept and added to.
fn forwarded(head: &Head<'_>, context: &Context, sink: &mut impl HeaderSink) {
    let trusted = context.client.is_some_and(|client| client.through_trusted_proxy);
    // The last field is the one that the nearest, trusted proxy has set or added.
    let kept = |name: &HeaderName| if trusted { head.headers.get_all(name).iter().next_back() } else { None };
    let host = head.host().unwrap_or("");
    if let Some(own) = introduction(head, host) {
        match kept(&X_FORWARDED_FOR) {
            Some(_) => set_text(sink, X_FORWARDED_FOR, &joined(head.headers, &X_FORWARDED_FOR, &own.address)),
            None => sink.set(X_FORWARDED_FOR, own.address.clone()),
        }
        match kept(&FORWARDED) {
            Some(_) => set_text(sink, FORWARDED, &joined(head.headers, &FORWARDED, &own.element)),
            None => sink.set(FORWARDED, own.element.clone()),
        }
    }
    let proto = HeaderValue::from_static(proto(head.encrypted));
    sink.set(X_FORWARDED_PROTO, kept(&X_FORWARDED_PROTO).cloned().unwrap_or(proto));
    match kept(&X_FORWARDED_HOST) {
        Some(before) => sink.set(X_FORWARDED_HOST, before.clone()),
        None => match head.headers.get(HOST) {
            Some(sent) if head.authority.is_none() => sink.set(X_FORWARDED_HOST, sent.clone()),
            _ => set_text(sink, X_FORWARDED_HOST, host),
        },
    }
    // HTTP/2 names the host in `:authority`; HTTP/1.1 upstreams look for it here.
    if head.authority.is_some() {
        set_text(sink, HOST, host);
    }
}

/// What is said of the client's connection: made with its first request, and kept for all that ask for the same host.
fn introduction<'h>(head: &Head<'h>, host: &str) -> Option<Cow<'h, Introduction>> {
    if let Some(known) = head.notes.and_then(|notes| notes.introduction(host)) {
        return Some(Cow::Borrowed(known));
    }
    let peer = head.peer.to_canonical();
    let (before, behind) = if peer.is_ipv6() { ("for=\"[", "]\"") } else { ("for=", "") };
    let address = peer.to_string();
    // The host was checked, so it needs no escapes.
    let element = format!("{before}{address}{behind};host=\"{host}\";proto={}", proto(head.encrypted));
    let own = Introduction {
        host: host.into(),
        address: HeaderValue::from_str(&address).ok()?,
        element: HeaderValue::from_str(&element).ok()?,
    };
    if let Some(notes) = head.notes {
        notes.introduce(&own);
    }
    Some(Cow::Owned(own))
}

fn proto(encrypted: bool) -> &'static str {
    if encrypted { "https" } else { "http" }
}

/// Every field of this name in one list, and our own element behind them.
fn joined(headers: &HeaderMap, name: &HeaderName, own: &HeaderValue) -> String {
    let mut list = String::with_capacity(96);
    for field in headers.get_all(name).iter().filter_map(|field| field.to_str().ok()) {
        list.push_str(field);
        list.push_str(", ");
    }
    // An address or an element of ours, which are plain.
    list.push_str(own.to_str().unwrap_or_default());
    list
}

fn set_some(sink: &mut impl HeaderSink, name: HeaderName, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        sink.set(name, value.clone());
    }
}

fn set_text(sink: &mut impl HeaderSink, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        sink.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::base::connection_notes::ConnectionNotes;
    use crate::stages::admission::address::Client;
    use crate::stages::auth::{Identity, Method as AuthMethod};

    fn rewritten(fields: &[(&'static str, &'static str)], trusted: bool, identity: Option<Identity>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let ip = IpAddr::from([10, 0, 0, 1]);
        let mut context = Context::new();
        context.client = Some(Client { ip, network: ip, through_trusted_proxy: trusted });
        context.identity = identity.map(Arc::new);
        let head = Head { peer: ip, ..Head::plain(&headers) };
        let mut sink = headers.clone();
        rewrite(&head, &context, &mut sink);
        sink
    }

    #[test]
    fn what_speaks_for_us_is_ours() {
        let spoofed = [
            ("host", "api.test"),
            ("x-auth-subject", "root"),
            ("x-auth-anything", "root"),
            ("x_auth_subject", "root"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-original-url", "/root"),
            ("x-request-id", "mine"),
            ("x-envoy-expected-rq-timeout-ms", "666"),
            ("x-mirrored", "mine"),
            ("client-cert", ":cm9vdA==:"),
            ("client-cert-chain", ":cm9vdA==:"),
            ("authorization", "Bearer t"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        let identity = Identity::of("u-1", AuthMethod::Jwt, &["read", "write"], &["user"]);
        let sent = rewritten(&spoofed, false, identity);
        let text = format!("{sent:?}");
        for spoofed in ["root", "6.6.6.6", "mine", "client-cert", "x-envoy-"] {
            assert!(!text.contains(spoofed), "{spoofed} is in {text}");
        }
        assert_eq!(sent["x-auth-subject"], "u-1");
        assert_eq!(sent["x-auth-permissions"], "read write");
        assert_eq!(sent["x-forwarded-for"], "10.0.0.1");
        assert_eq!(sent["forwarded"], "for=10.0.0.1;host=\"api.test\";proto=https");
        assert_eq!(sent["authorization"], "Bearer t");
        assert_eq!(sent["cookie"], "a=1; b=2");
        assert!(!rewritten(&spoofed, false, None).contains_key("x-auth-subject"));
    }

    #[test]
    fn a_connection_is_introduced_by_the_host_that_a_request_asks_for() {
        let notes = ConnectionNotes::blank();
        let element = |host: &'static str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            let head = Head { notes: Some(&notes), ..Head::plain(&headers) };
            let mut sink = HeaderMap::new();
            forwarded(&head, &Context::new(), &mut sink);
            sink["forwarded"].clone()
        };
        for host in ["a.test", "a.test", "b.test", "a.test"] {
            assert_eq!(element(host), format!("for=127.0.0.1;host=\"{host}\";proto=https"));
        }
        assert!(notes.introduction("a.test").is_some() && notes.introduction("b.test").is_none());
    }

    #[test]
    fn a_trusted_proxy_is_added_to() {
        let sent = rewritten(
            &[
                ("host", "api.test"),
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-proto", "http"),
                ("forwarded", "for=6.6.6.6"),
                ("forwarded", "for=1.1.1.1"),
                ("x-envoy-expected-rq-timeout-ms", "700"),
            ],
            true,
            None,
        );
        assert_eq!(sent["x-forwarded-for"], "1.1.1.1, 10.0.0.1");
        assert_eq!(sent["x-forwarded-proto"], "http");
        assert_eq!(sent["x-envoy-expected-rq-timeout-ms"], "700");
        let forwarded = "for=6.6.6.6, for=1.1.1.1, for=10.0.0.1;host=\"api.test\";proto=https";
        assert_eq!(sent["forwarded"], forwarded);
    }
}

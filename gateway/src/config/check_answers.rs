//! Check, answers: what must hold between the keys by which a route does more than pass requests on.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`; no rule about headers can break a message, or speak
//! for the gateway. Read next: `answers.rs`.

use std::collections::HashMap;

use bytes::Bytes;
use common::settings::{At, Decoder, Named};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::answers::{Cors, Does, HeaderRules, Redirect, Respond, Rewrite};
use super::check::resolve;
use super::check_traffic::check_split;
use super::fields::{FieldName, FieldValue, Origin};
use super::raw::answers::{self, Compression};
use super::raw::cors;
use super::raw::headers::{RequestRules, ResponseRules, SecurityHeaders};
use super::raw::routes;
use super::traffic::Split;
use super::values::PathPattern;

/// Bytes of a fixed answer's body, at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Fields about one connection, or about how a body is cut: a rule about them would break the message.
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields by which only the gateway speaks to upstreams; so do all that begin with `x-auth-` or `x-forwarded-`.
const OURS_TO_UPSTREAMS: [&str; 7] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "via",
    "x-envoy-expected-rq-timeout-ms",
    "x-mirrored",
    "x-request-id",
];

/// Fields by which only the gateway speaks to clients.
const OURS_TO_CLIENTS: [&str; 2] = ["proxy-status", "x-request-id"];

/// Whom a rule is for.
#[derive(Clone, Copy)]
enum Side {
    Upstream,
    Client,
}

impl Side {
    /// Why there can be no rule about this field.
    fn objection(self, name: &str) -> Option<&'static str> {
        if FRAMING.contains(&name) {
            return Some("is about a connection, or about the form of a body");
        }
        match self {
            Self::Upstream if name == "host" => Some("is set by rewrite.host"),
            Self::Upstream
                if OURS_TO_UPSTREAMS.contains(&name)
                    || name.starts_with("x-auth-")
                    || name.starts_with("x-forwarded-") =>
            {
                Some("is set by the gateway itself")
            }
            Self::Client if OURS_TO_CLIENTS.contains(&name) => Some("is set by the gateway itself"),
            Self::Client if name == "content-encoding" => Some("is set by compress"),
            Self::Upstream | Self::Client => None,
        }
    }
}

/// What becomes of the requests of a route: exactly one thing.
pub(super) fn check_does(
    route: &routes::Route,
    upstreams: &HashMap<String, usize>,
    decoder: &mut Decoder,
) -> Option<Does> {
    match (&route.to, &route.split[..], &route.respond, &route.redirect) {
        (Some(to), [], None, None) => {
            let upstream = resolve(to, "upstream", upstreams, decoder)?;
            return Some(Does::Forward(Split::whole(upstream)));
        }
        (None, [_, ..], None, None) => return check_split(route, upstreams, decoder).map(Does::Forward),
        (None, [], Some(_), None) | (None, [], None, Some(_)) => {}
        _ => {
            let advice = "a route has exactly one of to (the upstream that answers), split, respond and redirect";
            decoder.mistake_at(&route.id, advice);
            return None;
        }
    }
    let of_no_use = [
        ("rewrite", route.rewrite.is_some()),
        ("request_headers", !route.request_headers.is_empty()),
        ("response_headers", !route.response_headers.is_empty()),
        ("compress", route.compress.0.is_some()),
        ("websocket", route.websocket),
        ("timeout", route.timeout.is_some()),
        ("sse_heartbeat", route.sse_heartbeat.is_some()),
        ("deadline", route.deadline.is_some()),
        ("mirror", route.mirror.is_some()),
        ("pass_client_certificate", route.pass_client_certificate.value),
    ];
    for (key, _) in of_no_use.iter().filter(|(_, there)| *there) {
        decoder.mistake_at(&route.id, format!("{key} is for routes that have an upstream (to)"));
    }
    let respond = route.respond.as_ref().map(|respond| Does::Respond(check_respond(respond, decoder)));
    let redirect = route.redirect.as_ref().map(|redirect| Does::Redirect(check_redirect(redirect, decoder)));
    respond.or(redirect)
}

fn check_respond(respond: &answers::Respond, decoder: &mut Decoder) -> Respond {
    let status = respond.status.value;
    if !(200..=599).contains(&status) {
        decoder.mistake_at(&respond.status, "a status is 200 to 599");
    }
    let mut headers = pairs(&respond.headers, Side::Client, decoder);
    if headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        decoder.mistake_at(&respond.status, "the media type is a key of its own: content_type");
    }
    let body = match &respond.body {
        None => Bytes::new(),
        Some(body) => {
            if body.value.len() > BODY_BYTES_MAX {
                decoder.mistake_at(body, format!("a body has at most {BODY_BYTES_MAX} bytes"));
            }
            if matches!(status, 204 | 205 | 304) {
                decoder.mistake_at(body, format!("an answer {status} has no body"));
            }
            headers.push((CONTENT_TYPE, respond.content_type.0.clone()));
            Bytes::from(body.value.clone())
        }
    };
    Respond { status, headers, body }
}

fn check_redirect(redirect: &answers::Redirect, decoder: &mut Decoder) -> Redirect {
    let url = &redirect.to.value.0;
    if !url.username().is_empty() || url.password().is_some() {
        decoder.mistake_at(&redirect.to, "a URL for clients has no user name");
    }
    if redirect.keep_path && (url.query().is_some() || url.fragment().is_some()) {
        decoder
            .mistake_at(&redirect.to, "with keep_path the path is put behind it, so it ends before \"?\" and \"#\"");
    }
    let to = if redirect.keep_path { url.as_str().trim_end_matches('/') } else { url.as_str() };
    Redirect { status: redirect.status.code(), to: to.into(), keep_path: redirect.keep_path }
}

/// Under what name and path the upstream is asked.
pub(super) fn check_rewrite(route: &routes::Route, decoder: &mut Decoder) -> Option<Rewrite> {
    let rewrite = route.rewrite.as_ref()?;
    let strip = rewrite.strip_prefix.as_ref().and_then(|prefix| {
        let path = &prefix.value.0;
        let (PathPattern::Exact(of_route) | PathPattern::Prefix(of_route)) = &route.path;
        let rest = of_route.strip_prefix(path.as_str());
        let in_front = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !in_front {
            decoder.mistake_at(prefix, format!("{path:?} is not at the front of the route's path"));
        }
        // A path in normal form is plain ASCII.
        Some((path.as_str().into(), HeaderValue::from_str(path).ok()?))
    });
    let add = rewrite.add_prefix.as_ref().map_or("", |prefix| &prefix.0);
    Some(Rewrite { strip, add: add.into(), host: rewrite.host.0.clone() })
}

/// What the upstream is told besides. The values may be credentials, so they never print.
pub(super) fn request_rules(rules: &RequestRules, decoder: &mut Decoder) -> HeaderRules {
    let mut set = pairs(&rules.set, Side::Upstream, decoder);
    for (_, value) in &mut set {
        value.set_sensitive(true);
    }
    HeaderRules { remove: names(&rules.remove, Side::Upstream, decoder), set, add: Vec::new() }
}

/// What the client is told besides.
pub(super) fn response_rules(rules: &ResponseRules, decoder: &mut Decoder) -> HeaderRules {
    HeaderRules {
        remove: names(&rules.remove, Side::Client, decoder),
        set: pairs(&rules.set, Side::Client, decoder),
        add: pairs(&rules.add, Side::Client, decoder),
    }
}

/// Fields of upstreams that clients never see.
pub(super) fn check_hidden(hidden: &[At<FieldName>], decoder: &mut Decoder) -> Vec<HeaderName> {
    names(hidden, Side::Client, decoder)
}

/// How answers are compressed.
pub(super) fn check_compress(compression: Option<Compression>, decoder: &mut Decoder) -> Option<Compression> {
    let compression = compression?;
    if compression.algorithms.value.is_empty() {
        decoder.mistake_at(&compression.algorithms, "is empty; list at least one, or say compress: false");
    }
    if compression.types.value.is_empty() {
        decoder.mistake_at(&compression.types, "is empty; list at least one, or say compress: false");
    }
    Some(compression)
}

/// Whose pages may read answers.
pub(super) fn check_cors((name, cors): (At<String>, cors::Cors), decoder: &mut Decoder) -> Cors {
    let any = cors.origins.iter().find(|origin| origin.value == Origin::Any);
    if cors.origins.is_empty() {
        decoder.mistake_at(&name, "origins is empty; list at least one");
    }
    if let Some(any) = any.filter(|_| cors.origins.len() > 1) {
        decoder.mistake_at(any, "* means every origin, so it stands alone");
    }
    if cors.credentials.value {
        if let Some(any) = any {
            decoder
                .mistake_at(any, "every page anywhere could act as its visitor: with credentials, name the origins");
        }
        for wildcard in cors.headers.iter().chain(&cors.expose).filter(|header| header.value.0.as_str() == "*") {
            decoder.mistake_at(wildcard, "with credentials, * is a name like any other; name the headers");
        }
    }
    let plain = |names: Vec<At<FieldName>>| names.into_iter().map(|name| name.value.0).collect();
    Cors {
        name: name.value.into(),
        origins: cors.origins.into_iter().map(|origin| origin.value).collect(),
        methods: cors.methods.into_iter().map(|method| method.0).collect(),
        headers: plain(cors.headers),
        expose: plain(cors.expose),
        credentials: cors.credentials.value,
        max_age: cors.max_age.duration(),
    }
}

/// Browsers ignore a `Strict-Transport-Security` without an age.
pub(super) fn check_security(security: Option<&SecurityHeaders>, decoder: &mut Decoder) {
    let Some(hsts) = security.and_then(|security| security.hsts.as_ref()) else { return };
    let text = hsts.value.0.to_str().unwrap_or_default().to_ascii_lowercase();
    let ages = text.split(';').filter_map(|part| part.trim().strip_prefix("max-age="));
    let ages: Vec<_> = ages.filter(|age| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit())).collect();
    if ages.len() != 1 {
        decoder.mistake_at(hsts, "needs an age in seconds, as in max-age=31536000; includeSubDomains");
    }
}

fn names(names: &[At<FieldName>], side: Side, decoder: &mut Decoder) -> Vec<HeaderName> {
    for name in names {
        if let Some(objection) = side.objection(name.value.0.as_str()) {
            decoder.mistake_at(name, format!("{} {objection}", name.value.0));
        }
    }
    names.iter().map(|name| name.value.0.clone()).collect()
}

fn pairs(named: &Named<FieldValue>, side: Side, decoder: &mut Decoder) -> Vec<(HeaderName, HeaderValue)> {
    let mut pairs = Vec::with_capacity(named.items.len());
    for (key, value) in &named.items {
        match HeaderName::try_from(key.value.as_str()) {
            Ok(name) => {
                if let Some(objection) = side.objection(name.as_str()) {
                    decoder.mistake_at(key, format!("{name} {objection}"));
                }
                pairs.push((name, value.0.clone()));
            }
            Err(_) => decoder.mistake_at(key, format!("{:?} is not a header name", key.value)),
        }
    }
    pairs
}

//! Credential: where in a request it stands.

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

use crate::base::client_certificate::ClientCertificate;
use crate::base::cookies;
use crate::base::head::{Head, Occurrence};

/// What every API key begins with when it comes as a bearer token.
const KEY_PREFIX: &str = "cap6_";

/// A credential as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    Absent,
    /// Sent more than once, in one place or in two.
    Ambiguous,
    Sent(&'a str),
    Certificate(&'a ClientCertificate),
    /// Whatever the request holds.
    Request,
}

/// Which kinds of bearer tokens a route takes, so that each goes to the scheme that can judge it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bearers {
    /// Schemes that take signed tokens.
    pub signed: usize,
    /// Whether there is one that takes API keys.
    pub keys: bool,
    /// Whether there is one that takes tokens that say nothing by themselves.
    pub opaque: bool,
}

/// Where else than in its header a signed token may stand.
#[derive(Debug)]
pub(crate) struct Places {
    pub cookie: Option<Box<str>>,
    pub query: Option<Box<str>>,
    pub websocket_protocol: bool,
}

impl Bearers {
    fn is_signed(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Whether a bearer token is for schemes that take signed ones. What nobody else takes is, or nobody would refuse it.
    fn for_signed(self, token: &str) -> bool {
        Self::is_signed(token) || !(self.opaque || (self.keys && token.starts_with(KEY_PREFIX)))
    }

    fn for_opaque(self, token: &str) -> bool {
        let signed = self.signed > 0 && Self::is_signed(token);
        let key = self.keys && token.starts_with(KEY_PREFIX);
        !signed && !key
    }
}

/// A signed token, in the header or in one of its other places.
pub(crate) fn signed<'a>(head: &Head<'a>, places: &Places, bearers: Bearers) -> Credential<'a> {
    let header = bearer(head, |token| bearers.for_signed(token));
    if places.cookie.is_none() && places.query.is_none() && !places.websocket_protocol {
        return header;
    }
    let cookie = places.cookie.as_deref().map_or(Credential::Absent, |name| cookie(head.headers, name));
    let query = places.query.as_deref().map_or(Credential::Absent, |name| query(head.query, name));
    let websocket = if places.websocket_protocol { websocket(head.headers) } else { Credential::Absent };
    let mut found = Credential::Absent;
    for credential in [header, cookie, query, websocket] {
        found = match (found, credential) {
            (found, Credential::Absent) => found,
            (Credential::Absent, credential) => credential,
            _ => return Credential::Ambiguous,
        };
    }
    found
}

/// A token that says nothing by itself.
pub(crate) fn opaque<'a>(head: &Head<'a>, bearers: Bearers) -> Credential<'a> {
    bearer(head, |token| bearers.for_opaque(token))
}

/// An API key in its header, or as a bearer token.
pub(crate) fn api_key<'a>(head: &Head<'a>, header: &http::HeaderName, as_bearer: bool) -> Credential<'a> {
    match (head.single(header), as_bearer) {
        (Occurrence::Repeated, _) => Credential::Ambiguous,
        (Occurrence::Once(value), _) => Credential::Sent(value.to_str().unwrap_or("")),
        (Occurrence::Absent, true) => bearer(head, |token| token.starts_with(KEY_PREFIX)),
        (Occurrence::Absent, false) => Credential::Absent,
    }
}

/// What stands behind `Basic`.
pub(super) fn basic<'a>(head: &Head<'a>) -> Credential<'a> {
    authorization(head, "basic", |_| true)
}

fn bearer<'a>(head: &Head<'a>, wanted: impl Fn(&str) -> bool) -> Credential<'a> {
    authorization(head, "bearer", wanted)
}

/// What stands in `Authorization` behind the name of a scheme, which is not case-sensitive (RFC 9110 §11.1). Another scheme's
/// credential in the same header is not ours to judge.
fn authorization<'a>(head: &Head<'a>, scheme: &str, wanted: impl Fn(&str) -> bool) -> Credential<'a> {
    match head.single(&AUTHORIZATION) {
        Occurrence::Absent => Credential::Absent,
        Occurrence::Repeated => Credential::Ambiguous,
        Occurrence::Once(value) => {
            let parts = text(value).and_then(|value| value.split_once(' '));
            let credential =
                parts.filter(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, rest)| rest.trim_matches(' '));
            credential.filter(|credential| wanted(credential)).map_or(Credential::Absent, Credential::Sent)
        }
    }
}

/// A field's text, as `HeaderValue::to_str` reads it, which looks at one byte at a time; tokens are long. A field holds no control
/// characters, so that what is ASCII is visible.
fn text(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    if bytes.is_ascii() { std::str::from_utf8(bytes).ok() } else { None }
}

/// What a credential is remembered by: its SHA-256.
pub(super) fn hash(credential: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    // SHA-256 has 32 bytes by definition.
    bytes.copy_from_slice(digest(&SHA256, credential.as_bytes()).as_ref());
    bytes
}

/// A cookie's value.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Credential<'a> {
    only(cookies::pairs(headers).filter(|(found, _)| *found == name).map(|(_, value)| value.trim_matches('"')))
}

/// A parameter of the query. Tokens need no percent codes, so none are read.
fn query<'a>(query: Option<&'a [u8]>, name: &str) -> Credential<'a> {
    let query = query.and_then(|query| std::str::from_utf8(query).ok()).unwrap_or("");
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    only(pairs.filter(|(found, _)| *found == name).map(|(_, value)| value))
}

/// `bearer, TOKEN` among the protocols that a WebSocket's client offers.
fn websocket(headers: &HeaderMap) -> Credential<'_> {
    only(offered_token(headers))
}

fn offered_token(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|field| field.to_str().ok());
    let mut after_word = false;
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(move |protocol| {
        let is_token = std::mem::replace(&mut after_word, protocol.eq_ignore_ascii_case("bearer"));
        is_token && !after_word
    })
}

fn only<'a>(mut values: impl Iterator<Item = &'a str>) -> Credential<'a> {
    match (values.next(), values.next()) {
        (None, _) => Credential::Absent,
        (Some(value), None) => Credential::Sent(value),
        (Some(_), Some(_)) => Credential::Ambiguous,
    }
}

/// The protocols that a client offers besides the token, for the upstream to choose from.
pub(crate) fn protocols_without_token(headers: &HeaderMap) -> String {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|field| field.to_str().ok());
    let mut after_word = false;
    let kept = fields.flat_map(|field| field.split(',')).map(str::trim).filter(|protocol| {
        let is_word = protocol.eq_ignore_ascii_case("bearer");
        let is_token = std::mem::replace(&mut after_word, is_word);
        !is_word && !is_token
    });
    kept.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { cookie: None, query: None, websocket_protocol: false };

    fn with<R>(fields: &[(&'static str, &str)], query: Option<&[u8]>, look: impl FnOnce(&Head<'_>) -> R) -> R {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        look(&Head { query, ..Head::plain(&headers) })
    }

    #[test]
    fn each_bearer_token_goes_to_the_scheme_that_can_judge_it() {
        let all = Bearers { signed: 1, keys: true, opaque: true };
        let alone = Bearers { signed: 1, ..Bearers::default() };
        for (token, bearers, signed_takes, opaque_takes) in [
            ("a.b.c", all, true, false),
            ("opaque", all, false, true),
            ("cap6_x", all, false, false),
            ("opaque", alone, true, true),
            ("cap6_x", alone, true, true),
            ("a.b.c", Bearers { opaque: true, ..Bearers::default() }, true, true),
        ] {
            with(&[("authorization", &format!("Bearer {token}"))], None, |head| {
                assert_eq!(
                    signed(head, &PLACES, bearers) == Credential::Sent(token),
                    signed_takes,
                    "{token} {bearers:?}"
                );
                assert_eq!(opaque(head, bearers) == Credential::Sent(token), opaque_takes, "{token} {bearers:?}");
            });
        }
        with(&[("authorization", "bearer  cap6_x ")], None, |head| {
            let header = http::HeaderName::from_static("x-api-key");
            assert_eq!(api_key(head, &header, true), Credential::Sent("cap6_x"));
            assert_eq!(api_key(head, &header, false), Credential::Absent);
            assert_eq!(basic(head), Credential::Absent, "another scheme's");
        });
    }

    #[test]
    fn a_token_stands_in_one_place() {
        let places = Places { cookie: Some("session".into()), query: Some("token".into()), websocket_protocol: true };
        let read = |fields: &[(&'static str, &str)], query: Option<&[u8]>| {
            with(fields, query, |head| match signed(head, &places, Bearers::default()) {
                Credential::Sent(token) => token.to_owned(),
                Credential::Ambiguous => "twice".into(),
                _ => "none".into(),
            })
        };
        assert_eq!(read(&[], None), "none");
        assert_eq!(read(&[("cookie", "a=1; session=a.b.c; b=2")], None), "a.b.c");
        assert_eq!(read(&[("cookie", "session=a; session=b")], None), "twice");
        assert_eq!(read(&[("cookie", "xsession=a")], None), "none");
        assert_eq!(read(&[], Some(b"x=1&token=a.b.c")), "a.b.c");
        assert_eq!(read(&[("cookie", "session=a.b.c")], Some(b"token=a.b.c")), "twice");
        assert_eq!(read(&[("sec-websocket-protocol", "bearer, a.b.c, graphql-transport-ws")], None), "a.b.c");
        assert_eq!(read(&[("sec-websocket-protocol", "graphql-transport-ws")], None), "none");
        assert_eq!(
            read(&[("authorization", "Bearer a.b.c"), ("sec-websocket-protocol", "bearer, a.b.c")], None),
            "twice"
        );
    }

    #[test]
    fn the_token_is_taken_out_of_the_protocols() {
        for (sent, kept) in [
            ("bearer, a.b.c, graphql-transport-ws", "graphql-transport-ws"),
            ("chat, Bearer, a.b.c", "chat"),
            ("bearer", ""),
            ("chat, superchat", "chat, superchat"),
        ] {
            with(&[("sec-websocket-protocol", sent)], None, |head| {
                assert_eq!(protocols_without_token(head.headers), kept, "{sent}");
            });
        }
    }
}

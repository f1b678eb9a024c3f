//! Credentials: how callers say who they are, and what issuers say of them.

use std::sync::{Arc, LazyLock};

use common::api_key::{ApiKey, SECRET_CHARS, SecretHash};
use futures::FutureExt as _;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::Algorithm;

use super::{first_line, head_of, named_fields};
use crate::base::now::Now;
use crate::config;
use crate::config::checked::SchemeKind;
use crate::stages::auth::claims::{Claims, Reader};
use crate::stages::auth::credential::{self, Bearers, Credential, Places};
use crate::stages::auth::jwks::{self, Key, KeyStore};
use crate::stages::auth::jwt::{JwtVerifier, read_header};
use crate::stages::auth::{Identity, Method};
use crate::stages::dispatch::rewrite;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What the tokens of the target `token` are signed with.
const SHARED_SECRET: &str = "known to everybody, for fuzzing alone";

/// The one token that was signed with it; it is good until 2100.
const SIGNED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.\
eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6InUxIiwiZXhwIjo0MTAyNDQ0ODAwLCJpYXQiOjE3MDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSJ9.\
MSPgciAstFF62m-JZdWRLNnBpMqkEXVJxoR8mZj8DM0";

const CONFIGURATION: &str = "\
version: 1
listeners: { http: { bind: \"127.0.0.1:0\" } }
upstreams: { api: { targets: [\"127.0.0.1:1\"] } }
auth: { tokens: { jwt: { issuer: i, audience: a, algorithms: [HS256], secret: \"env:S\" } } }
routes: [{ id: a, path: /a, auth: [tokens], require: [read], to: api }]
";

/// What takes the token, and what reads its claims.
static VERIFIER: LazyLock<Option<(JwtVerifier, Reader)>> = LazyLock::new(|| {
    let config = config::parse("fuzzing", CONFIGURATION).ok()?;
    let SchemeKind::Jwt(jwt) = &config.schemes.first()?.kind else { return None };
    let kept: Arc<[Arc<str>]> = Arc::from([Arc::<str>::from("team"), Arc::from("a.b")]);
    let keys = KeyStore::fixed(vec![Arc::new(Key::shared(SHARED_SECRET))]);
    Some((JwtVerifier::new(jwt, Arc::new(keys), &kept), Reader::new(&jwt.claims, &kept)))
});

/// A query, then fields. A token that is found was sent, and is nowhere in what goes on to an upstream.
pub(super) fn credentials(input: &[u8]) {
    let (query, rest) = first_line(input);
    let headers = named_fields(rest);
    let head = head_of(b"/", Some(query), &headers);
    let bearers = Bearers { signed: 1, keys: true, opaque: true };
    let places = Places { cookie: Some("session".into()), query: Some("token".into()), websocket_protocol: true };
    if let Credential::Sent(token) = credential::signed(&head, &places, bearers) {
        let holds =
            |bytes: &[u8]| token.is_empty() || bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(holds(query) || headers.values().any(|value| holds(value.as_bytes())), "{token:?} was not sent");
    }
    assert_taken_by_one(&headers, bearers);

    let hidden = rewrite::without(&[b"?", query].concat(), &["token".into()]);
    let kept = credential::protocols_without_token(&headers);
    let mut passed = HeaderMap::new();
    if let Ok(kept) = HeaderValue::from_str(&kept) {
        passed.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
    let passed_on = head_of(b"/", hidden.get(1..), &passed);
    let found = credential::signed(&passed_on, &places, bearers);
    assert_eq!(found, Credential::Absent, "a token goes on: {} {kept:?}", hidden.escape_ascii());
}

/// A bearer token has somebody who judges it, and is never taken for two of its kinds.
fn assert_taken_by_one(headers: &HeaderMap, bearers: Bearers) {
    let nowhere = Places { cookie: None, query: None, websocket_protocol: false };
    let head = head_of(b"/", None, headers);
    let sent = |credential: Credential<'_>| matches!(credential, Credential::Sent(_));
    let signed = sent(credential::signed(&head, &nowhere, bearers));
    let opaque = sent(credential::opaque(&head, bearers));
    let key = sent(credential::api_key(&head, &X_API_KEY, true));
    assert!(!(signed && opaque), "one token for two kinds");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    let scheme = first.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    if second.is_none() && scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        assert!(signed || opaque || key, "nobody judges {first:?}");
    }
}

/// A token. No other than the one that was signed is good, and its header is read as the library reads it.
pub(super) fn token(input: &[u8]) {
    let Ok(token) = std::str::from_utf8(input) else { return };
    if let Some(header) = read_header(token) {
        assert_eq!(token.split('.').count(), 3, "a token has three parts");
        if let Ok(read) = jsonwebtoken::decode_header(token) {
            assert_eq!(header.alg.parse::<Algorithm>().ok(), Some(read.alg));
            assert_eq!((header.kid, header.typ), (read.kid, read.typ));
        }
    }
    let Some((checker, _)) = &*VERIFIER else { unreachable!("the configuration is sound") };
    // Nothing is waited for: the key is there.
    let Some(verified) = checker.verify(token, Now::read()).now_or_never() else { unreachable!("a fixed key waits") };
    assert_eq!(verified.is_ok(), token == SIGNED, "a token that was not signed is good, or the signed one is not");
}

/// Claims. What an upstream is told of a caller is what the caller has, word by word.
pub(super) fn claims(input: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<Claims>(input) else { return };
    let Some((_, reader)) = &*VERIFIER else { unreachable!("the configuration is sound") };
    for method in [Method::Jwt, Method::ApiKey] {
        let Ok(identity) = reader.identity(&claims, method) else { continue };
        assert!(!identity.subject.is_empty(), "a caller without a name");
        assert_eq!(identity.headers.subject.as_bytes(), identity.subject.as_bytes());
        assert_told(&identity);
    }
}

fn assert_told(identity: &Identity) {
    let text = |value: Option<&HeaderValue>| {
        let bytes = value.map_or(&b""[..], HeaderValue::as_bytes);
        String::from_utf8_lossy(bytes).into_owned()
    };
    let roles = text(identity.headers.roles.as_ref());
    for role in roles.split(',').filter(|role| !role.is_empty()) {
        assert!(identity.has_role(role), "an upstream is told of the role {role:?}");
    }
    let permissions = text(identity.headers.permissions.as_ref());
    for permission in permissions.split(' ').filter(|permission| !permission.is_empty()) {
        assert!(identity.has_permission(permission), "an upstream is told of the permission {permission:?}");
    }
}

/// A key set. Each of its keys is for signatures that only its owner can make.
pub(super) fn key_set(input: &[u8]) {
    let Ok(keys) = jwks::parse(input) else { return };
    assert!(!keys.is_empty(), "a set without keys is none");
    for key in &keys {
        let known = [Algorithm::ES256, Algorithm::ES384, Algorithm::RS256, Algorithm::PS256, Algorithm::EdDSA];
        assert!(!key.algorithms.is_empty() && key.algorithms.iter().all(|algorithm| known.contains(algorithm)));
    }
    assert!(jwks::parse(input).is_ok_and(|again| again.len() == keys.len()), "read twice, read differently");
}

/// An API key, or the hash of a secret. What is read is written as it was, and the secret does not show.
pub(super) fn api_key(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(hash) = SecretHash::from_hex(text) {
        assert_eq!(hash.to_hex(), text.to_ascii_lowercase());
    }
    let Ok(key) = ApiKey::parse(text) else { return };
    assert_eq!(key.reveal(), text);
    let hash = key.secret_hash();
    assert!(SecretHash::from_hex(&hash.to_hex()).is_some_and(|again| again.matches(&hash)));
    let shown = format!("{key:?} {hash:?}");
    let secret = &text[text.len() - SECRET_CHARS..];
    assert!(shown.contains(key.id()) && !shown.contains(secret), "a secret shows");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_token_is_good() {
        token(SIGNED.as_bytes());
        assert!(VERIFIER.is_some());
    }
}

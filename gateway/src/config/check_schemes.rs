//! Check, schemes: what must hold between the keys of `auth`, and of routes that name them.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `checked.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use common::settings::{At, Decoder};
use http::{HeaderName, Method};

use super::check::resolve;
use super::checked::{Basic, Forward, Jwt, JwtKeys, KeySource, Needs, Owner, Requirements, Scheme, SchemeKind};
use super::raw::auth::{self, Introspection, TokenAlgorithm};
use super::raw::routes;
use super::values::RouteAuth;

/// Headers that are about one connection or one body, and so are no credential and nothing to hand on.
const NOT_FOR_AUTH: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A scheme; `store` is whether there is one that gateways share.
pub(super) fn check_scheme(
    (name, scheme): (At<String>, auth::Scheme),
    store: bool,
    decoder: &mut Decoder,
) -> Option<Scheme> {
    let auth::Scheme { jwt, api_key, introspection, basic, forward, client_certificate } = scheme;
    let kind = match (jwt, api_key, introspection, basic, forward, client_certificate) {
        (Some(jwt), None, None, None, None, None) => SchemeKind::Jwt(check_jwt(&name, jwt, decoder)?),
        (None, Some(keys), None, None, None, None) => check_api_keys(&name, keys, store, decoder)?,
        (None, None, Some(tokens), None, None, None) => {
            check_introspection(&name, &tokens.ask, decoder);
            SchemeKind::Opaque(tokens)
        }
        (None, None, None, Some(basic), None, None) => SchemeKind::Basic(check_basic(&name, basic, decoder)),
        (None, None, None, None, Some(forward), None) => SchemeKind::Forward(check_forward(&name, forward, decoder)?),
        (None, None, None, None, None, Some(certificate)) => SchemeKind::Certificate(certificate),
        _ => {
            decoder.mistake_at(
                &name,
                "a scheme has exactly one kind: jwt, api_key, introspection, basic, forward or client_certificate",
            );
            return None;
        }
    };
    Some(Scheme { name: name.value.into(), kind })
}

fn check_jwt(name: &At<String>, jwt: auth::Jwt, decoder: &mut Decoder) -> Option<Jwt> {
    let algorithms: Vec<TokenAlgorithm> = jwt.algorithms.iter().map(|algorithm| algorithm.value).collect();
    let symmetric = algorithms.contains(&TokenAlgorithm::Hs256);
    if algorithms.is_empty() {
        decoder.mistake_at(name, "jwt.algorithms is empty; no token could ever be accepted");
    }
    if symmetric && algorithms.len() > 1 {
        // A public key must never be usable as a shared secret (RFC 8725 §3.1).
        decoder.mistake_at(name, "HS256 cannot be mixed with public-key algorithms; make it a scheme of its own");
        return None;
    }
    let keys = match (jwt.jwks, jwt.secret, symmetric) {
        (None, Some(secret), true) => JwtKeys::Shared(secret),
        (Some(set), None, false) => check_key_set(name, set, decoder)?,
        (_, _, true) => {
            decoder.mistake_at(name, "HS256 takes its key from jwt.secret, and has no jwt.jwks");
            return None;
        }
        (_, _, false) => {
            decoder.mistake_at(name, "public-key algorithms take their keys from jwt.jwks, and have no jwt.secret");
            return None;
        }
    };
    for place in [&jwt.cookie, &jwt.query].into_iter().flatten() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if place.value.is_empty() || !place.value.bytes().all(plain) {
            decoder.mistake_at(place, format!("{:?} is not a name of letters, digits, - _ and .", place.value));
        }
    }
    Some(Jwt {
        issuer: jwt.issuer,
        audience: jwt.audience,
        token_type: jwt.r#type,
        algorithms,
        keys,
        claims: jwt.claims,
        cookie: jwt.cookie.map(|cookie| cookie.value),
        query: jwt.query.map(|query| query.value),
        websocket_protocol: jwt.websocket_protocol,
        leeway: jwt.leeway.duration(),
        cache_max: jwt.cache_max,
    })
}

fn check_key_set(name: &At<String>, set: auth::KeySet, decoder: &mut Decoder) -> Option<JwtKeys> {
    match (set.urls.is_empty(), set.file.clone()) {
        (true, Some(file)) => Some(JwtKeys::File(file)),
        (false, None) => {
            if set.refresh.duration().as_secs() < 1 || set.timeout.duration().is_zero() {
                decoder.mistake_at(name, "jwks.refresh is at least 1s, and jwks.timeout longer than nothing");
            }
            Some(JwtKeys::Fetched(set))
        }
        _ => {
            decoder.mistake_at(name, "jwt.jwks has exactly one source: urls or file");
            None
        }
    }
}

fn check_api_keys(name: &At<String>, keys: auth::ApiKeys, store: bool, decoder: &mut Decoder) -> Option<SchemeKind> {
    if is_taken_away(&keys.header) {
        decoder.mistake_at(
            name,
            "api_key.header cannot be a name that is taken away from requests: X-Auth-… or one with \"_\"",
        );
    }
    let header = header_of(&name.with(keys.header), decoder)?;
    let source = match (keys.introspection, keys.file, keys.redis) {
        (Some(introspection), None, None) => {
            check_introspection(name, &introspection, decoder);
            KeySource::Introspection(introspection)
        }
        (None, Some(file), None) => KeySource::File(file),
        (None, None, Some(redis)) => {
            if !store {
                decoder.mistake_at(name, "api_key.redis needs stores.redis, which is not set");
            }
            KeySource::Redis(redis)
        }
        _ => {
            decoder.mistake_at(name, "api_key has exactly one source: introspection, file or redis");
            return None;
        }
    };
    Some(SchemeKind::ApiKey { header, bearer: keys.bearer, source })
}

fn check_introspection(name: &At<String>, introspection: &Introspection, decoder: &mut Decoder) {
    if introspection.urls.is_empty() {
        decoder.mistake_at(name, "introspection urls is empty; list at least one URL");
    }
    if introspection.timeout.duration().is_zero() {
        decoder.mistake_at(name, "introspection timeout must be longer than nothing");
    }
    if introspection.client_id.is_some() && introspection.secret.is_none() {
        decoder.mistake_at(name, "introspection client_id needs a secret");
    }
}

fn check_basic(name: &At<String>, basic: auth::Basic, decoder: &mut Decoder) -> Basic {
    if basic.hashing_max == 0 {
        decoder.mistake_at(name, "basic.hashing_max is at least 1");
    }
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if !basic.realm.value.bytes().all(plain) {
        decoder.mistake_at(&basic.realm, "a realm is plain ASCII without quotes");
    }
    Basic {
        file: basic.file,
        realm: basic.realm.value,
        cache: basic.cache.duration(),
        hashing_max: basic.hashing_max.into(),
    }
}

fn check_forward(name: &At<String>, forward: auth::Forward, decoder: &mut Decoder) -> Option<Forward> {
    if forward.timeout.duration().is_zero() || forward.questions_max == 0 {
        decoder.mistake_at(name, "forward.timeout must be longer than nothing, and questions_max at least 1");
    }
    for header in forward.send_headers.iter().chain(&forward.copy_headers) {
        if NOT_FOR_AUTH.contains(&header.value.to_ascii_lowercase().as_str()) {
            decoder.mistake_at(header, format!("{} is about a connection or a body", header.value));
        }
    }
    for header in forward.copy_headers.iter().filter(|header| is_taken_away(&header.value)) {
        decoder.mistake_at(header, format!("{} is set by the gateway itself", header.value));
    }
    let mut all = |headers: &[At<String>]| -> Vec<HeaderName> {
        headers.iter().filter_map(|header| header_of(header, decoder)).collect()
    };
    let (send, copy) = (all(&forward.send_headers), all(&forward.copy_headers));
    Some(Forward {
        url: forward.url.0,
        send,
        subject: header_of(&forward.subject_header, decoder)?,
        permissions: header_of(&forward.permissions_header, decoder)?,
        roles: header_of(&forward.roles_header, decoder)?,
        copy,
        timeout: forward.timeout.duration(),
        questions_max: usize::try_from(forward.questions_max).unwrap_or(usize::MAX),
    })
}

/// Whether requests lose headers of this name, because only the gateway speaks by them.
fn is_taken_away(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    header.contains('_') || header.starts_with("x-auth-") || header.starts_with("x-forwarded-")
}

fn header_of(header: &At<String>, decoder: &mut Decoder) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(&header.value);
    parsed.map_err(|_| decoder.mistake_at(header, format!("{:?} is not a header name", header.value))).ok()
}

/// Positions of the schemes, none for a public route. Silence is not a choice: a route without `auth` does not load.
pub(super) fn check_route_auth(
    route: &routes::Route,
    schemes: &HashMap<String, usize>,
    decoder: &mut Decoder,
) -> Option<Vec<usize>> {
    match &route.auth {
        None => {
            decoder.mistake_at(
                &beside(route, ".auth"),
                "is missing; name the schemes, as in auth: [tokens], or say auth: none for a public route",
            );
            None
        }
        Some(RouteAuth::Nobody) => Some(Vec::new()),
        Some(RouteAuth::Schemes(named)) => {
            named.iter().map(|scheme| resolve(scheme, "auth scheme", schemes, decoder)).collect()
        }
    }
}

/// What a caller must have. That nothing more than being known is needed has to be said as well.
pub(super) fn check_require(
    route: &routes::Route,
    public: bool,
    decoder: &mut Decoder,
) -> (Requirements, Option<Owner>) {
    let place = beside(route, ".require");
    let owner = route.owner.as_ref().map(|owner| {
        if owner.segment == 0 {
            decoder.mistake_at(&route.id, "owner.segment counts from 1");
        }
        Owner {
            claim: owner.claim.as_str().into(),
            segment: usize::from(owner.segment).saturating_sub(1),
            unless: shared(&owner.unless),
        }
    });
    if public {
        let needs = route.require.as_ref().is_some_and(|require| !require.0.is_empty());
        if needs || owner.is_some() || !route.shadow.is_empty() {
            decoder.mistake_at(&place, "a public route (auth: none) cannot require anything: nobody is known there");
        }
        return (Requirements::default(), None);
    }
    let Some(require) = &route.require else {
        // A route whose auth is missing has one mistake already.
        if route.auth.is_some() {
            let advice =
                "is missing; list permissions, as in require: [read], or say require: [] for any known caller";
            decoder.mistake_at(&place, advice);
        }
        return (Requirements::default(), owner);
    };
    let require = &require.0;
    let always = Needs { all: shared(&require.all), any: shared(&require.any), roles: shared(&require.roles) };
    let mut by_method = Vec::with_capacity(require.methods.items.len());
    for (method, needs) in &require.methods.items {
        let needs = &needs.0;
        let needs = Needs { all: shared(&needs.all), any: shared(&needs.any), roles: shared(&needs.roles) };
        match method.value.parse::<Method>() {
            Ok(parsed) if method.value.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                by_method.push((parsed, needs));
            }
            _ => decoder.mistake_at(method, format!("{:?} is not a method, such as GET or POST", method.value)),
        }
    }
    (Requirements { always, by_method }, owner)
}

impl routes::NeedsByMethod {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.any.is_empty() && self.roles.is_empty() && self.methods.items.is_empty()
    }
}

fn shared(texts: &[String]) -> Box<[Arc<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

/// The place of a key that may not be there.
fn beside(route: &routes::Route, key: &str) -> At<()> {
    At { value: (), position: route.id.position, path: route.id.path.replace(".id", key) }
}

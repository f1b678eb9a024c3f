//! Identity: what the upstream is told about the caller comes from the gateway alone.
//!
//! Read next: `budget.rs`.

use std::collections::HashSet;

use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::{Echo, Seen};
use crate::harness::{client, wire};

/// Every way to name an identity that some server would believe. CGI-like servers take `_` for `-`.
const SPOOFED: &[&str] = &[
    "X-Auth-Subject",
    "x-auth-roles",
    "X-AUTH-PERMISSIONS",
    "X-Auth-Method",
    "X-Auth-Key-Id",
    "X-Auth-Anything",
    "X_Auth_Subject",
    "X-Auth_Roles",
    "X_Auth-Permissions",
    "x_auth_method",
];

/// Headers by which a client could claim to be somewhere else. 203.0.113.66 is nobody here.
const FORGED: &str = "\
    X-Forwarded-For: 203.0.113.66\r\n\
    X-Forwarded-For: 203.0.113.66\r\n\
    X_Forwarded_For: 203.0.113.66\r\n\
    Forwarded: for=203.0.113.66;proto=gopher\r\n\
    X-Forwarded-Proto: gopher\r\n\
    X-Forwarded-Host: evil.test\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoofed_identity_and_address_gain_nothing() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let token = token_of("alice", "read api_access").signed_by(&KEYS.es256);
    let seen = send_spoofed(&gateway, &echo, "/private", &format!("Authorization: Bearer {token}\r\n")).await;
    assert_eq!(seen.values("x-auth-subject"), ["alice"]);
    assert_eq!(seen.values("x-auth-roles"), ["user"]);
    assert_eq!(words(&seen, "x-auth-permissions"), ["read", "api_access"]);
    assert_eq!(seen.values("x-auth-method"), ["jwt"]);
    let told: Vec<&str> = identity_headers(&seen);
    assert!(
        told.iter()
            .all(|name| ["x-auth-subject", "x-auth-roles", "x-auth-permissions", "x-auth-method"].contains(name)),
        "{told:?}"
    );
    // The backend verifies for itself, so credentials are passed on as they came.
    assert_eq!(seen.values("authorization"), [format!("Bearer {token}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_an_identity_on_a_public_route() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let seen = send_spoofed(&gateway, &echo, "/public", "").await;
    assert_eq!(identity_headers(&seen), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_cannot_be_struck_out_by_naming_it_in_connection() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    let request = format!(
        "GET /private HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\
         Connection: close, X-Auth-Subject, X-Request-Id\r\n\r\n"
    );
    let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
    // Refusing such a request is as good as seeing through it.
    if answer.status == 200 {
        assert_eq!(echo.last().values("x-auth-subject"), ["alice"]);
    } else {
        assert_eq!((answer.status, echo.count()), (400, 0), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_an_id_that_the_answer_repeats() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let answer = client::send(client::plain().get(gateway.url("/public"))).await;
        answer.expect_status(200);
        assert_eq!(echo.last().values("x-request-id"), [answer.header("x-request-id")]);
        ids.insert(answer.header("x-request-id").to_owned());
    }
    assert!(ids.len() == 3 && !ids.contains(""), "{ids:?}");
}

/// Sends a request that claims everything, and returns what the upstream got of it.
async fn send_spoofed(gateway: &Gateway, echo: &Echo, path: &str, credential: &str) -> Seen {
    let spoofed: Vec<_> = SPOOFED.iter().map(|name| format!("{name}: admin\r\n")).collect();
    let spoofed = spoofed.concat();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{credential}{spoofed}{FORGED}Connection: close\r\n\r\n"
    );
    let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
    answer.expect_status(200);
    let seen = echo.last();
    for (name, value) in &seen.headers {
        let lowered = value.to_ascii_lowercase();
        for claim in ["admin", "203.0.113.66", "gopher", "evil.test"] {
            assert!(!lowered.contains(claim), "{name}: {value}");
        }
    }
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.values("x-forwarded-host"), ["gateway.test"]);
    let forwarded = seen.values("forwarded").join(",");
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "Forwarded: {forwarded:?}");
    seen
}

/// The names of all fields that look like an identity.
fn identity_headers(seen: &Seen) -> Vec<&str> {
    let names = seen.headers.iter().map(|(name, _)| name.as_str());
    names.filter(|name| name.replace('_', "-").starts_with("x-auth")).collect()
}

/// The words of a field, whichever of the usual ways they are separated.
fn words<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let values = seen.values(name).into_iter();
    values.flat_map(|value| value.split([' ', ','])).filter(|word| !word.is_empty()).collect()
}

/// A gateway with a public route and one that takes tokens.
async fn guarded_gateway(echo: &Echo) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!(
        "{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\nroutes:\n  \
         - {{ id: public, path: /public, auth: none, to: api }}\n  \
         - {{ id: private, path: /private, auth: [tokens], require: [], to: api }}\n"
    );
    Gateway::plain(&settings).await
}

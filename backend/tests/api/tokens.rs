//! `/auth/*` and `/.well-known/jwks.json`.

use backend::config::Database;
use backend::storage::{AuditKind, Store};
use common::claims::AccessClaims;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Backend, PATIENCE, read};

#[tokio::test]
async fn a_login_gives_a_token_that_the_published_keys_verify() {
    let backend = Backend::start("");
    let login = backend.login(" Admin ", "admin123").await;
    assert_eq!(login.status, 200, "{login:?}");
    assert_eq!(login.header("cache-control"), "no-store");
    assert_eq!((login.text("token_type"), login.body["expires_in"].as_u64()), ("Bearer".into(), Some(1800)));
    assert_eq!(login.text("scope"), "read write execute admin api_access graphql_access");
    let token = login.text("access_token");

    let published = backend.request(Method::GET, "/.well-known/jwks.json").send().await.expect("an answer");
    assert_eq!(published.headers()["cache-control"], "public, max-age=300");
    let keys: JwkSet = serde_json::from_str(&published.text().await.expect("text")).expect("a key set");
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::ES256, Some("at+jwt")));
    let key = keys.find(header.kid.as_deref().expect("a kid")).expect("the key is published");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&["https://auth.capibara6.local/"]);
    validation.set_audience(&["capibara6"]);
    let verifying = DecodingKey::from_jwk(key).expect("a usable key");
    let claims = jsonwebtoken::decode::<AccessClaims>(&token, &verifying, &validation).expect("it verifies").claims;
    assert_eq!((claims.roles, claims.exp - claims.iat), (vec!["admin".to_owned()], 1800));

    let me = backend.get("/auth/me", &token).await;
    assert_eq!((me.text("username"), me.text("method"), me.text("id")), ("admin".into(), "jwt".into(), claims.sub));
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let backend = Backend::start("");
    let first = backend.login("admin", "admin123").await.text("refresh_token");
    let refreshed = backend.post_bare("/auth/refresh", json!({ "refresh_token": first })).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(backend.get("/auth/me", &refreshed.text("access_token")).await.status, 200);
    let second = refreshed.text("refresh_token");
    assert_ne!(first, second);

    let reused = backend.post_bare("/auth/refresh", json!({ "refresh_token": first })).await;
    reused.assert_problem(401, "refresh_invalid");
    let after = backend.post_bare("/auth/refresh", json!({ "refresh_token": second })).await;
    after.assert_problem(401, "refresh_invalid");
    let unknown = backend.post_bare("/auth/refresh", json!({ "refresh_token": "nobody's" })).await;
    unknown.assert_problem(401, "refresh_invalid");
    assert_eq!(event_count(&backend, AuditKind::RefreshReused).await, 1);
}

#[tokio::test]
async fn a_logout_ends_the_session_and_only_that() {
    let backend = Backend::start("");
    let ended = backend.login("admin", "admin123").await.text("refresh_token");
    let other = backend.login("admin", "admin123").await.text("refresh_token");
    for _ in 0..2 {
        let logout = backend.post_bare("/auth/logout", json!({ "refresh_token": ended })).await;
        assert_eq!(logout.status, 204, "logging out twice is no error: {logout:?}");
    }
    let refused = backend.post_bare("/auth/refresh", json!({ "refresh_token": ended })).await;
    refused.assert_problem(401, "refresh_invalid");
    assert_eq!(backend.post_bare("/auth/refresh", json!({ "refresh_token": other })).await.status, 200);
}

#[tokio::test]
async fn failures_are_alike_and_too_many_are_throttled() {
    let backend = Backend::start("auth: { login: { failures_max: 3, window: 60s } }");
    let wrong = backend.login("admin", "wrong-password").await;
    let unknown = backend.login("nobody", "wrong-password").await;
    let short = backend.login("nobody-else", "x").await;
    for answer in [&wrong, &unknown, &short] {
        answer.assert_problem(401, "login_failed");
        assert_eq!(answer.body["detail"], wrong.body["detail"]);
    }
    // Three failures came from this address; the right password is not looked at any more.
    let throttled = backend.login("admin", "admin123").await;
    throttled.assert_problem(429, "login_throttled");
    assert!(throttled.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)));

    // The proxy on this machine is trusted, so another client's failures are its own.
    let elsewhere = backend
        .request(Method::POST, "/auth/login")
        .header("x-forwarded-for", "6.6.6.6, 198.51.100.7")
        .json(&json!({ "username": "admin", "password": "admin123" }));
    assert_eq!(read(elsewhere).await.status, 200);

    assert_eq!(event_count(&backend, AuditKind::LoginFailed).await, 3);
    assert_eq!(event_count(&backend, AuditKind::LoginThrottled).await, 1);
    assert_eq!(event_count(&backend, AuditKind::LoginOk).await, 1);
    let metrics = read(backend.internal_request(Method::GET, "/metrics")).await;
    let metrics = metrics.body.as_str().expect("text");
    for line in ["{outcome=\"failed\"} 3", "{outcome=\"throttled\"} 1", "{outcome=\"ok\"} 1"] {
        assert!(metrics.contains(&format!("backend_logins_total{line}")), "{line} is not in\n{metrics}");
    }
}

/// Looks into the database that the program uses.
async fn event_count(backend: &Backend, kind: AuditKind) -> i64 {
    let path = backend.folder().path().join("data/test.db");
    let store = Store::open(&Database { path, readers_max: 1, busy_timeout: PATIENCE }).await.expect("it opens");
    let count = store.audit_event_count(kind).await.expect("counted");
    store.close().await;
    count
}

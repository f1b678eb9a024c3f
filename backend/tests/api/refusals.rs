//! What every route refuses, and how.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Backend, eventually, read};

/// Every route that needs a caller, and the role that is too small for it, if any is.
const GUARDED: [(&str, &str, Option<&str>); 9] = [
    ("GET", "/auth/me", None),
    ("GET", "/api/v1/models", None),
    ("POST", "/api/v1/query", Some("readonly")),
    ("GET", "/api/v1/users", Some("developer")),
    ("POST", "/api/v1/users", Some("developer")),
    ("GET", "/api/v1/api-keys", None),
    ("POST", "/api/v1/api-keys", Some("readonly")),
    ("DELETE", "/api/v1/api-keys/aaaaaaaaaaaa", Some("readonly")),
    ("GET", "/auth/me?x=1", None),
];

fn method(name: &str) -> Method {
    name.parse().expect("a method")
}

#[tokio::test]
async fn every_guarded_route_refuses_who_is_not_known_or_not_allowed() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let readonly = backend.user(&admin, "rita", "readonly").await;
    let developer = backend.user(&admin, "dora", "developer").await;
    for (name, path, too_small) in GUARDED {
        let request = || backend.request(method(name), path);
        read(request()).await.assert_problem(401, "token_missing");
        read(request().bearer_auth("a.b.c")).await.assert_problem(401, "token_malformed");
        read(request().header("x-api-key", "nonsense")).await.assert_problem(401, "key_invalid");
        read(request().bearer_auth(&admin).header("x-api-key", "k")).await.assert_problem(401, "credential_ambiguous");
        // Whoever reaches the backend directly can write these; they prove nothing.
        let forged = request().header("x-auth-subject", "admin").header("x-auth-roles", "admin");
        read(forged.header("x-auth-permissions", "admin")).await.assert_problem(401, "token_missing");
        if let Some(role) = too_small {
            let token = if role == "readonly" { &readonly } else { &developer };
            // Without a body: who is not allowed is told so before the body is looked at.
            let answer = read(request().bearer_auth(token)).await;
            answer.assert_problem(403, "permission_missing");
            assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_key_or_with_another_signature_is_refused() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let (head, signature) = admin.rsplit_once('.').expect("a signature");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    backend.get("/auth/me", &format!("{head}.{first}{}", &signature[1..])).await.assert_problem(401, "token_signature_invalid");
    let other = Backend::start("auth: { issuer: \"https://other.test/\" }");
    other.get("/auth/me", &admin).await.assert_problem(401, "token_issuer_invalid");
    let third = Backend::start("auth: { audience: other }");
    third.get("/auth/me", &admin).await.assert_problem(401, "token_audience_invalid");
}

#[tokio::test]
async fn what_is_not_there_is_not_there() {
    let backend = Backend::start("");
    for path in ["/", "/nothing", "/api/v1", "/api/v1/query/", "/auth/login/x", "/metrics"] {
        read(backend.request(Method::GET, path)).await.assert_problem(404, "route_not_found");
    }
    for (name, path, allow) in
        [("GET", "/auth/login", "POST"), ("DELETE", "/api/v1/models", "GET,HEAD"), ("PUT", "/api/v1/users", "GET,HEAD,POST")]
    {
        let answer = read(backend.request(method(name), path)).await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn bodies_are_checked_before_they_are_believed() {
    let backend = Backend::start("server: { api: \"127.0.0.1:0\", internal: \"127.0.0.1:0\", body_max: 1KiB }");
    let post = |path: &str| backend.request(Method::POST, path);
    let json_text = |text: &'static str| post("/auth/login").header("content-type", "application/json").body(text);
    for (text, part) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("[]", "expected struct"),
        ("{\"username\":\"a\"}", "`password`"),
        ("{\"username\":\"a\",\"password\":7}", "password"),
        ("{\"username\":\"a\",\"password\":\"b\",\"otp\":\"c\"}", "`otp`"),
    ] {
        let answer = read(json_text(text)).await;
        answer.assert_problem(400, "input_invalid");
        assert!(answer.text("detail").contains(part), "{text}: {answer:?}");
    }
    read(post("/auth/login").body("{}")).await.assert_problem(415, "media_type_unsupported");
    let large = json!({ "username": "a", "password": "x".repeat(2_000) });
    read(post("/auth/login").json(&large)).await.assert_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_fit() {
    let backend = Backend::start("");
    let ask = |id: &str| read(backend.request(Method::GET, "/nothing").header("x-request-id", id));
    assert_eq!(ask("r-1").await.header("x-request-id"), "r-1");
    for unfit in ["", "has space", &"x".repeat(65)] {
        let answer = ask(unfit).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{unfit:?}");
        answer.assert_problem(404, "route_not_found");
    }
    eventually("the log has the id", async || backend.log().contains("\"request_id\":\"r-1\"")).await;
}

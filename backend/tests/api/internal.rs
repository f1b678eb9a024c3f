//! Internal: `/internal/keys`, `/metrics` and `/health` on the internal listener.
//!
//! Read next: `health.rs`.

use common::api_key::ApiKey;
use serde_json::json;

use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::client::{self, send};
use crate::harness::settings::{Settings, secret_file};

/// What the gateway and the backend share.
const SECRET: &str = "a-secret-between-two-programs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_knows_the_secret_may_ask_about_keys() {
    let folder = folder();
    let secret = secret_file(folder.path(), "introspection", SECRET);
    let settings = Settings::development().introspection(format!("secret: {secret}"));
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read"] })).await;
    let ask = || backend.introspect(&key.key);
    send(ask()).await.expect_problem(401, "token_missing");
    let longer = format!("{SECRET}x");
    for wrong in ["wrong", &SECRET[..SECRET.len() - 1], &longer, &admin.access] {
        let answer = send(ask().bearer_auth(wrong)).await;
        answer.expect_problem(401, "key_invalid");
        assert!(!answer.body.contains("active"), "{answer:?}");
    }
    let answer = send(ask().bearer_auth(SECRET)).await;
    answer.expect_status(200);
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    assert!(!backend.said().contains(SECRET), "the secret is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_none_is_refused() {
    let backend = Backend::start(&Settings::development().server("body_max: 1KiB")).await;
    let url = format!("http://{}/internal/keys", backend.internal);
    let post = || client::plain().post(&url);
    let form = "application/x-www-form-urlencoded";
    send(post().header("Content-Type", form).body("key=x")).await.expect_input_invalid("token");
    send(post().json(&json!({ "token": "x" }))).await.expect_problem(415, "media_type_unsupported");
    send(client::plain().get(&url)).await.expect_problem(405, "method_not_allowed");
    // Members that the gateway or a later release adds do no harm (RFC 7662 §2.1).
    let key = ApiKey::generate().reveal();
    let hinted = send(post().form(&[("token", key.as_str()), ("token_type_hint", "api_key")])).await;
    hinted.expect_status(200);
    assert_eq!(hinted.json(), json!({ "active": false }));
    let huge = format!("token={}", "x".repeat(2_000));
    send(post().header("Content-Type", form).body(huge)).await.expect_problem(413, "body_too_large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_serves_its_own_routes_only() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for path in ["/metrics", "/internal/keys"] {
        send(backend.get(path).bearer_auth(&admin.access)).await.expect_problem(404, "route_not_found");
    }
    send(backend.post("/internal/keys", &json!({}))).await.expect_problem(404, "route_not_found");
    for path in ["/auth/me", "/api/v1/models", "/.well-known/jwks.json"] {
        let answer = send(backend.internal_get(path).bearer_auth(&admin.access)).await;
        answer.expect_problem(404, "route_not_found");
    }
    let health = send(backend.internal_get("/health")).await;
    health.expect_status(200);
    assert_eq!(health.json(), json!({ "status": "ok" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_counted() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    send(backend.try_login("admin", "a-wrong-guess")).await.expect_problem(401, "login_failed");
    let query = || backend.query(&json!({ "query": "How many?" })).bearer_auth(&admin.access);
    send(query()).await.expect_status(200);
    send(query()).await.expect_status(200);
    send(backend.query(&json!({ "query": "Who?" }))).await.expect_problem(401, "token_missing");
    // What a client makes up must not become a label: it would fill the memory.
    let made_up = "/made-up-by-a-client";
    send(backend.get(made_up)).await.expect_problem(404, "route_not_found");
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read"] })).await;
    let revoke = backend.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&admin.access);
    send(revoke).await.expect_status(204);

    let metrics = send(backend.internal_get("/metrics")).await;
    metrics.expect_status(200);
    assert!(metrics.header("content-type").starts_with("text/plain"), "{metrics:?}");
    let expected = [
        "backend_logins_total{outcome=\"ok\"} 1",
        "backend_logins_total{outcome=\"failed\"} 1",
        "backend_queries_total{model=\"capibara6-dev\",source=\"model\"} 1",
        "backend_queries_total{model=\"capibara6-dev\",source=\"cache\"} 1",
        "backend_requests_total{class=\"2xx\",route=\"/api/v1/query\"} 2",
        "backend_requests_total{class=\"4xx\",route=\"/api/v1/query\"} 1",
        "backend_requests_total{class=\"2xx\",route=\"/auth/login\"} 1",
        "backend_requests_total{class=\"4xx\",route=\"/auth/login\"} 1",
        "backend_requests_total{class=\"4xx\",route=\"unmatched\"} 1",
        "backend_request_seconds_count{route=\"/api/v1/query\"} 3",
    ];
    let lines: Vec<&str> = metrics.body.lines().collect();
    for line in expected {
        assert!(lines.contains(&line), "{line} is not in\n{}", metrics.body);
    }
    assert!(lines.iter().any(|line| line.starts_with("process_resident_memory_bytes ")), "{}", metrics.body);
    for made_up in [made_up, &key.id] {
        assert!(!metrics.body.contains(made_up), "{made_up} is a label:\n{}", metrics.body);
    }
}

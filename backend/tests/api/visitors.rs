//! Visitors: by which names the program may be asked, and from which pages.
//!
//! Read next: `openapi.rs`.

use serde_json::json;

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;
use crate::harness::settings::Settings;

const APP: &str = "https://app.example.org";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_names_are_answered() {
    let settings = Settings::development().server("trusted_hosts: [api.example.org], drain: 5s");
    let backend = Backend::start(&settings).await;
    let ask = |path: &str, host: &str| send(backend.get(path).header("Host", host));
    for host in ["api.example.org", "API.EXAMPLE.ORG", "api.example.org:8443"] {
        println!("{host}");
        ask("/.well-known/jwks.json", host).await.expect_status(200);
    }
    for host in ["evil.example", "api.example.org.evil.example", "127.0.0.1"] {
        println!("{host}");
        ask("/.well-known/jwks.json", host).await.expect_problem(421, "misdirected_request");
        ask("/nowhere", host).await.expect_problem(421, "misdirected_request");
        // Balancers and the operator's metrics ask by address.
        ask("/health", host).await.expect_status(200);
        send(backend.internal_get("/metrics").header("Host", host)).await.expect_status(200);
        let graphql = backend.graphql_request("GET", "/graphql/schema").header("Host", host);
        send(graphql).await.expect_problem(421, "misdirected_request");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_listed_origins_may_use_the_api() {
    let settings = Settings::development().server(format!("cors: {{ origins: [\"{APP}\"] }}, drain: 5s"));
    let backend = Backend::start(&settings).await;
    let ask = |origin: &str| {
        let request = backend.request("OPTIONS", "/api/v1/query").header("Origin", origin);
        send(request.header("Access-Control-Request-Method", "POST"))
    };
    let allowed = ask(APP).await;
    allowed.expect_status(204);
    assert_eq!(allowed.header("access-control-allow-origin"), APP, "{allowed:?}");
    assert!(allowed.header("access-control-allow-methods").contains("POST"), "{allowed:?}");
    for field in ["authorization", "x-api-key", "content-type"] {
        assert!(allowed.header("access-control-allow-headers").contains(field), "{field}: {allowed:?}");
    }
    assert_eq!(allowed.header("access-control-allow-credentials"), "", "{allowed:?}");
    assert_eq!(allowed.header("vary"), "origin", "{allowed:?}");
    // Every method that the API has.
    let document = send(backend.get("/api/v1/openapi.json")).await.expect_status(200).json();
    let told: Vec<&str> = allowed.header("access-control-allow-methods").split(", ").collect();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            assert!(told.contains(&method.to_uppercase().as_str()), "{method} {path} is not among {told:?}");
        }
    }
    for other in ["https://evil.example", "https://app.example.org.evil.example", "http://app.example.org", "null"] {
        println!("{other}");
        let refused = ask(other).await;
        refused.expect_problem(405, "method_not_allowed");
        assert_eq!(refused.header("access-control-allow-origin"), "", "{refused:?}");
    }

    // The page may read answers, and refusals too.
    let login = json!({ "username": ADMIN.0, "password": ADMIN.1 });
    let answer = send(backend.post("/auth/login", &login).header("Origin", APP)).await;
    answer.expect_status(200);
    assert_eq!(answer.header("access-control-allow-origin"), APP, "{answer:?}");
    let refused = send(backend.get("/auth/me").header("Origin", APP)).await;
    refused.expect_problem(401, "token_missing");
    assert_eq!(refused.header("access-control-allow-origin"), APP, "{refused:?}");
    assert!(refused.header("access-control-expose-headers").contains("x-request-id"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_no_page_is_told_anything() {
    let backend = Backend::development().await;
    let answer = send(backend.get("/health").header("Origin", APP)).await;
    answer.expect_status(200);
    for field in ["access-control-allow-origin", "vary"] {
        assert_eq!(answer.header(field), "", "{answer:?}");
    }
    let asked = backend.request("OPTIONS", "/health").header("Origin", APP);
    let asked = send(asked.header("Access-Control-Request-Method", "GET")).await;
    asked.expect_problem(405, "method_not_allowed");
}

//! `OpenAPI`: the document, held against the program that it describes, and the page that shows it.
//!
//! Read next: `tags.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;

const PATH: &str = "/api/v1/openapi.json";

/// Where `make docs` keeps the document.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

async fn document(backend: &Backend) -> Value {
    let answer = send(backend.get(PATH)).await;
    answer.expect_status(200);
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_the_one_in_the_repository() {
    let backend = Backend::development().await;
    let text = std::fs::read_to_string(Path::new(SNAPSHOT)).expect("docs/openapi.json; run `make docs`");
    let kept: Value = serde_json::from_str(&text).expect("docs/openapi.json is JSON");
    let served = document(&backend).await;
    assert_eq!(served, kept, "the API has changed: run `make docs` and look at what it changes in docs/openapi.json");
    assert_eq!(served["openapi"], "3.1.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_has_the_methods_that_the_document_says() {
    let backend = Backend::development().await;
    let document = document(&backend).await;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        println!("{path}");
        let described: BTreeSet<String> =
            methods.as_object().expect("methods").keys().map(|method| method.to_uppercase()).collect();
        // No route has this one, so that the answer tells those that it has.
        let answer = send(backend.request("TRACE", &path.replace("{id}", "x"))).await;
        answer.expect_status(405);
        let served = answer.header("allow").split(',').map(str::trim).filter(|method| *method != "HEAD");
        assert_eq!(served.map(str::to_owned).collect::<BTreeSet<_>>(), described, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_credential_is_what_the_document_says() {
    let backend = Backend::development().await;
    let document = document(&backend).await;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            println!("{method} {path}");
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            let answer = send(backend.request(&method.to_uppercase(), &path.replace("{id}", "x"))).await;
            assert_eq!(answer.status != 401, is_open, "{answer:?}");
            assert!(operation["responses"].get(answer.status.to_string()).is_some(), "{answer:?} is not described");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_in_a_path_is_refused_as_the_document_says() {
    let backend = Backend::development().await;
    let document = document(&backend).await;
    let admin = backend.login(ADMIN).await;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods").iter().filter(|_| path.contains("{id}")) {
            println!("{method} {path}");
            let request = backend.request(&method.to_uppercase(), &path.replace("{id}", "%ff"));
            let answer = send(request.bearer_auth(&admin.access)).await;
            answer.expect_status(400);
            assert!(operation["responses"]["400"].is_object(), "{answer:?} is not described");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_the_members_that_the_document_says() {
    let backend = Backend::development().await;
    let document = document(&backend).await;
    let admin = backend.login(ADMIN).await;
    let key = json!({ "name": "k", "permissions": ["read"], "expires_in_days": 1 });
    let user = json!({ "username": "ann", "password": "ann-has-a-password", "role": "user" });
    let question = json!({ "query": "What is described?" });
    let chat = json!({ "model": "auto", "messages": [{ "role": "user", "content": "What is described?" }] });
    let batch = json!({ "queries": [{ "query": "What is described?" }] });
    let login = json!({ "username": ADMIN.0, "password": ADMIN.1 });
    let cases = [
        ("post", "/auth/login", Some(&login)),
        ("get", "/auth/me", None),
        ("get", "/.well-known/jwks.json", None),
        ("post", "/api/v1/api-keys", Some(&key)),
        ("get", "/api/v1/api-keys", None),
        ("post", "/api/v1/users", Some(&user)),
        ("get", "/api/v1/users", None),
        ("post", "/api/v1/query", Some(&question)),
        ("get", "/api/v1/models", None),
        ("get", "/api/v1/audit-events", None),
        ("post", "/api/v1/batch", Some(&batch)),
        ("get", "/api/v1/jobs", None),
        ("post", "/v1/chat/completions", Some(&chat)),
        ("get", "/v1/models", None),
        ("get", "/api/v1/cache", None),
        ("delete", "/api/v1/cache", None),
        ("get", "/health", None),
        ("get", "/health/detailed", None),
    ];
    for (method, path, body) in cases {
        println!("{method} {path}");
        let request = match body {
            Some(body) => backend.post(path, body),
            None => backend.request(&method.to_uppercase(), path),
        };
        let request = if path == "/auth/login" { request } else { request.bearer_auth(&admin.access) };
        let answer = send(request).await;
        let response = &document["paths"][path][method]["responses"][answer.status.to_string()];
        let content = response["content"].as_object().unwrap_or_else(|| panic!("{answer:?} is not described"));
        let media_type = answer.header("content-type").split(';').next().unwrap_or_default();
        assert!(content.contains_key(media_type), "{answer:?}");
        check(&document, &content[media_type]["schema"], &answer.json(), path);
    }
}

/// Holds a value against its schema: every member is known, and none that must be there is missing.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere");
        return check(document, target, value, place);
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value} is none of {words:?}");
    }
    match value {
        Value::Object(members) if schema["properties"].is_object() => {
            for (name, member) in members {
                let known =
                    schema["properties"].get(name).unwrap_or_else(|| panic!("{place}: {name} is not described"));
                check(document, known, member, &format!("{place}.{name}"));
            }
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(members.contains_key(name), "{place}: {name} is missing in {value}");
            }
        }
        Value::Array(items) => {
            for item in items {
                check(document, &schema["items"], item, &format!("{place}[]"));
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_comes_from_this_program_alone() {
    let backend = Backend::development().await;
    let folder = send(backend.get("/api/v1/docs")).await;
    folder.expect_status(308);
    assert_eq!(folder.header("location"), "docs/", "{folder:?}");
    let page = send(backend.get("/api/v1/docs/")).await;
    page.expect_status(200);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "another host is named: {page:?}");
    let scripts = page.body.matches("<script").count();
    assert!(
        scripts > 0 && scripts == page.body.matches("src=\"./").count(),
        "the policy forbids scripts in the page"
    );

    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"] {
        println!("{file}");
        assert!(page.body.contains(file), "{page:?}");
        let answer = send(backend.get(&format!("/api/v1/docs/{file}"))).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let begin = send(backend.get("/api/v1/docs/swagger-initializer.js")).await;
    begin.expect_status(200);
    assert!(begin.body.contains("../openapi.json"), "{begin:?}");
    for file in ["nothing.js", "../openapi.json%00", "%2e%2e/%2e%2e/Cargo.toml"] {
        println!("{file}");
        let answer = send(backend.get(&format!("/api/v1/docs/{file}"))).await;
        assert!(answer.status == 404 || answer.status == 400, "{answer:?}");
    }
}

//! Tags: an answer that the client has already is not sent again.
//!
//! Read next: `users.rs`.

use serde_json::json;

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_has_is_not_sent_again() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for path in
        ["/api/v1/models", "/api/v1/users", "/api/v1/api-keys", "/api/v1/openapi.json", "/.well-known/jwks.json"]
    {
        println!("{path}");
        let ask = |known: &str| {
            let request = backend.get(path).bearer_auth(&admin.access);
            if known.is_empty() { send(request) } else { send(request.header("If-None-Match", known)) }
        };
        let first = ask("").await;
        first.expect_status(200);
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "a strong tag: {tag}");
        assert!(!first.header("cache-control").is_empty(), "{first:?}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = ask(&known).await;
            again.expect_status(304);
            assert_eq!((again.body.as_str(), again.header("etag")), ("", tag.as_str()), "{again:?}");
            assert!(!again.header("x-request-id").is_empty(), "{again:?}");
        }
        let other = ask("\"other\"").await;
        other.expect_status(200);
        assert_eq!(other.body, first.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_changes_the_tag_and_a_refusal_has_none() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let list = async || send(backend.get("/api/v1/users").bearer_auth(&admin.access)).await;
    let before = list().await.header("etag").to_owned();
    assert_eq!(list().await.header("etag"), before, "nothing has changed");
    let user = json!({ "username": "ann", "password": "ann-has-a-password", "role": "user" });
    send(backend.post("/api/v1/users", &user).bearer_auth(&admin.access)).await.expect_status(201);
    assert_ne!(list().await.header("etag"), before, "there is one more");

    // Whoever may not see the list learns nothing of it, not even that it is unchanged.
    let refused = send(backend.get("/api/v1/users").header("If-None-Match", "*")).await;
    refused.expect_problem(401, "token_missing");
    assert_eq!(refused.header("etag"), "");
}

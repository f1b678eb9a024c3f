//! `/api/v1/api-keys`, and what the gateway learns about keys.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Backend, read};

#[tokio::test]
async fn a_key_lives_from_its_making_to_its_revocation() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let made = backend
        .post("/api/v1/api-keys", &admin, json!({ "name": "ci", "permissions": ["read", "api_access"], "expires_in_days": 7 }))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), "no-store");
    let (key, id) = (made.text("key"), made.text("id"));
    assert!(key.starts_with(&format!("cap6_{id}_")), "the id is the public part");
    let lifetime = made.body["expires_at"].as_i64().zip(made.body["created_at"].as_i64()).map(|(end, start)| end - start);
    assert_eq!(lifetime, Some(7 * 24 * 60 * 60));

    let known = backend.introspect(&key).await;
    assert_eq!(known.body["active"], true, "{known:?}");
    assert_eq!((known.text("scope"), known.text("key_id")), ("read api_access".into(), id.clone()));
    assert_eq!((&known.body["roles"], &known.body["exp"]), (&json!(["admin"]), &made.body["expires_at"]));

    let with_key = |path: &str| backend.request(Method::GET, path).header("x-api-key", &key);
    assert_eq!(read(with_key("/api/v1/models")).await.status, 200);
    let me = read(with_key("/auth/me")).await;
    assert_eq!((me.text("method"), me.text("key_id"), me.text("username")), ("api_key".into(), id.clone(), "admin".into()));
    // The owner may do more than the key.
    read(with_key("/api/v1/users")).await.assert_problem(403, "permission_missing");

    let listed = backend.get("/api/v1/api-keys", &admin).await;
    assert_eq!((listed.body["items"][0]["id"].as_str(), listed.body["items"].as_array().map(Vec::len)), (Some(id.as_str()), Some(1)));
    assert!(listed.body["items"][0].get("key").is_none(), "the secret is shown once: {listed:?}");

    assert_eq!(backend.delete(&format!("/api/v1/api-keys/{id}"), &admin).await.status, 204);
    assert_eq!(backend.introspect(&key).await.body, json!({ "active": false }));
    read(with_key("/api/v1/models")).await.assert_problem(401, "key_invalid");
    let listed = backend.get("/api/v1/api-keys", &admin).await;
    assert!(listed.body["items"][0]["revoked_at"].is_i64(), "{listed:?}");
}

#[tokio::test]
async fn what_is_not_a_key_of_ours_is_inactive() {
    let backend = Backend::start("");
    let (key, _) = backend.api_key(&backend.admin().await, json!({ "name": "k" })).await;
    let mut guessed = key.clone();
    guessed.replace_range(key.len() - 2.., if key.ends_with("AA") { "BB" } else { "AA" });
    for text in ["", "x", "cap6_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &guessed] {
        assert_eq!(backend.introspect(text).await.body, json!({ "active": false }), "{text:?}");
    }
    assert_eq!(backend.introspect(&key).await.body["active"], true);
    read(backend.internal_request(Method::POST, "/internal/keys").form(&[("key", "k")]))
        .await
        .assert_problem(400, "input_invalid");
    read(backend.internal_request(Method::POST, "/internal/keys").json(&json!({ "token": key })))
        .await
        .assert_problem(415, "media_type_unsupported");
}

#[tokio::test]
async fn a_key_never_exceeds_its_owner_nor_belongs_to_others() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let ann = backend.user(&admin, "ann", "user").await;
    let bob = backend.user(&admin, "bob", "developer").await;
    let too_much = backend.post("/api/v1/api-keys", &ann, json!({ "name": "k", "permissions": ["read", "admin"] })).await;
    too_much.assert_problem(403, "grant_exceeded");
    assert!(too_much.text("detail").contains("admin"), "{too_much:?}");

    // A key that may make keys gives no more than it has itself.
    let (key, id) = backend.api_key(&ann, json!({ "name": "k", "permissions": ["write", "api_access"] })).await;
    let by_key = |body| backend.request(Method::POST, "/api/v1/api-keys").header("x-api-key", &key).json(&body);
    read(by_key(json!({ "name": "k2", "permissions": ["execute"] }))).await.assert_problem(403, "grant_exceeded");
    let lesser = read(by_key(json!({ "name": "k2" }))).await;
    assert_eq!((lesser.status.as_u16(), &lesser.body["permissions"]), (201, &json!(["write", "api_access"])));

    backend.delete(&format!("/api/v1/api-keys/{id}"), &bob).await.assert_problem(404, "not_found");
    assert_eq!(backend.introspect(&key).await.body["active"], true);
    assert_eq!(backend.get("/api/v1/api-keys", &bob).await.body["items"], json!([]));
    assert_eq!(backend.delete(&format!("/api/v1/api-keys/{id}"), &admin).await.status, 204, "who administers may");
    assert_eq!(backend.introspect(&key).await.body["active"], false);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(backend.api_key(&admin, json!({ "name": format!("k{number}") })).await.1);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/api-keys?limit=2".to_owned();
    loop {
        let page = backend.get(&path, &admin).await;
        let items = page.body["items"].as_array().expect("items");
        assert!(items.len() <= 2, "{page:?}");
        seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/api/v1/api-keys?limit=2&cursor={cursor}");
    }
    // Keys of one second are in the order of their ids, so only the set is certain.
    made.sort();
    seen.sort();
    assert_eq!(seen, made);
    for query in ["limit=0", "limit=101", "limit=x", "cursor=***", "cursor=eA", "page=2"] {
        backend.get(&format!("/api/v1/api-keys?{query}"), &admin).await.assert_problem(400, "input_invalid");
    }
}

#[tokio::test]
async fn introspection_asks_for_its_secret() {
    let folder = std::sync::Arc::new(crate::harness::folder());
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef\n").expect("written");
    let extra = format!("introspection: {{ secret: \"file:{}\" }}", secret.display());
    let backend = Backend::start_in(&folder, "backend.yaml", &extra);
    backend.introspect("x").await.assert_problem(401, "token_missing");
    let with = |secret| {
        backend.internal_request(Method::POST, "/internal/keys").bearer_auth(secret).form(&[("token", "x")])
    };
    read(with("0123456789abcdeX")).await.assert_problem(401, "key_invalid");
    assert_eq!(read(with("0123456789abcdef")).await.body, json!({ "active": false }));
    // The API's own listener does not know the route.
    let outside = backend.request(Method::POST, "/internal/keys").form(&[("token", "x")]);
    read(outside).await.assert_problem(404, "route_not_found");
}

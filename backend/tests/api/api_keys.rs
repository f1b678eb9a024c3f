//! API keys: `/api/v1/api-keys`, from the one time a key is shown to its end.
//!
//! Read next: `internal.rs` for how the gateway asks about a key.

use std::collections::BTreeSet;

use common::api_key::{ApiKey, SECRET_CHARS};
use serde_json::{Value, json};
use testkit::token::now;

use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::client::{Answer, send};
use crate::harness::settings::Settings;

const PATH: &str = "/api/v1/api-keys";

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_lives_from_creation_to_revocation() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "name": "laptop", "permissions": ["read", "execute", "api_access"], "expires_in_days": 30 });
    let created = send(backend.post(PATH, &body).bearer_auth(&admin.access)).await;
    created.expect_status(201);
    assert_eq!(created.header("cache-control"), "no-store", "the key is shown once: {created:?}");
    assert_eq!(created.json()["name"], "laptop");
    assert_eq!(created.json()["permissions"], json!(["read", "execute", "api_access"]));
    let (id, key) = (created.text("id"), created.text("key"));
    assert_eq!(ApiKey::parse(&key).expect("a key of the documented form").id(), id);

    // It is active, here and at the gateway's question.
    let query = || backend.query(&json!({ "query": "What is a key?" })).header("X-API-Key", &key);
    send(query()).await.expect_status(200);
    let me = send(backend.get("/auth/me").header("X-API-Key", &key)).await;
    me.expect_status(200);
    assert_eq!(me.json()["method"], "api_key", "{me:?}");
    assert_eq!(me.json()["key_id"], id, "{me:?}");
    assert_eq!(me.json()["permissions"], json!(["read", "execute", "api_access"]), "{me:?}");
    let introspected = backend.introspected(&key).await;
    assert_eq!(introspected["active"], true, "{introspected}");
    assert_eq!(introspected["scope"], "read execute api_access", "{introspected}");
    assert_eq!(introspected["roles"], json!(["admin"]), "{introspected}");
    assert_eq!(introspected["key_id"], id, "{introspected}");
    let ends = introspected["exp"].as_u64().expect("a key with an end says so");
    assert!(ends.abs_diff(now() + 30 * DAY_SECONDS) < 60, "{introspected}");
    // The owner is the same, however they come.
    let owner = send(backend.get("/auth/me").bearer_auth(&admin.access)).await;
    assert_eq!(introspected["sub"], owner.json()["id"], "{owner:?}");

    // The list shows everything but the key.
    let listed = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    listed.expect_status(200);
    assert_eq!(listed.items().len(), 1, "{listed:?}");
    assert_eq!(listed.items()[0]["id"], id, "{listed:?}");
    let secret = &key[key.len() - SECRET_CHARS..];
    assert!(!listed.body.contains(secret), "the secret is shown again");

    // Once revoked, it is nothing to anybody.
    let revoked = send(backend.delete(&format!("{PATH}/{id}")).bearer_auth(&admin.access)).await;
    revoked.expect_status(204);
    assert_eq!(revoked.body, "");
    assert_eq!(backend.introspected(&key).await, json!({ "active": false }));
    send(query()).await.expect_problem(401, "key_invalid");
    assert!(!backend.said().contains(secret), "the secret is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_never_exceeds_its_owner() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let ask = |permissions: Value| json!({ "name": "too much", "permissions": permissions });
    let refused = send(backend.post(PATH, &ask(json!(["read", "admin"]))).bearer_auth(&ann.access)).await;
    let problem = refused.expect_problem(403, "grant_exceeded");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("admin")), "{problem}");

    // Nor does a key that is made by a key.
    let body = json!({ "name": "writer", "permissions": ["read", "write", "api_access"] });
    let writer = backend.key(&admin, &body).await;
    let by_key = |permissions: Value| backend.post(PATH, &ask(permissions)).header("X-API-Key", &writer.key);
    send(by_key(json!(["execute"]))).await.expect_problem(403, "grant_exceeded");
    send(by_key(json!(["read"]))).await.expect_status(201);

    // Nor does it outlive that key.
    let ends = |answer: &Answer| answer.expect_status(201).json()["expires_at"].as_i64();
    let short = json!({ "name": "short", "permissions": ["write", "api_access"], "expires_in_days": 2 });
    let short = send(backend.post(PATH, &short).bearer_auth(&admin.access)).await;
    let end = ends(&short).expect("it ends");
    for (wanted, sooner) in [(Value::Null, false), (json!(30), false), (json!(1), true)] {
        let body = json!({ "name": "of a key", "expires_in_days": wanted });
        let made = send(backend.post(PATH, &body).header("X-API-Key", short.text("key"))).await;
        let of_a_key = ends(&made).expect("it ends as well");
        assert!(if sooner { of_a_key < end } else { of_a_key == end }, "{wanted}: {made:?}");
    }
    assert_eq!(ends(&send(by_key(json!(["read"]))).await), None, "the writer has no end");

    // Without a list it gets what its maker has.
    let whole = send(backend.post(PATH, &json!({ "name": "all" })).bearer_auth(&ann.access)).await;
    whole.expect_status(201);
    let all = json!(["read", "write", "execute", "api_access", "graphql_access"]);
    assert_eq!(whole.json()["permissions"], all, "{whole:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_others_are_out_of_sight() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let ben = backend.user(&admin, ("ben", "ben-has-a-password"), "user").await;
    let key = backend.key(&ann, &json!({ "name": "of ann", "permissions": ["read", "api_access"] })).await;
    let listed = send(backend.get(PATH).bearer_auth(&ben.access)).await;
    listed.expect_status(200);
    assert!(listed.items().is_empty(), "{listed:?}");
    // Somebody else's key and one that does not exist look the same.
    let revoke = |id: &str| backend.delete(&format!("{PATH}/{id}"));
    let unknown = ApiKey::generate();
    for id in [key.id.as_str(), unknown.id(), "no-id-at-all"] {
        send(revoke(id).bearer_auth(&ben.access)).await.expect_problem(404, "not_found");
    }
    assert_eq!(backend.introspected(&key.key).await["active"], true);
    // Who administers may end any key.
    send(revoke(&key.id).bearer_auth(&admin.access)).await.expect_status(204);
    assert_eq!(backend.introspected(&key.key).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_page_by_page() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut made = BTreeSet::new();
    for index in 0..5 {
        let body = json!({ "name": format!("key {index}"), "permissions": ["read"] });
        made.insert(backend.key(&admin, &body).await.id);
    }
    let ask = |query: &str| backend.get(&format!("{PATH}?{query}")).bearer_auth(&admin.access);
    let (mut seen, mut sizes) = (BTreeSet::new(), Vec::new());
    let mut query = "limit=2".to_owned();
    loop {
        let answer = send(ask(&query)).await;
        answer.expect_status(200);
        sizes.push(answer.items().len());
        assert!(sizes.len() <= made.len(), "the list does not end: {answer:?}");
        seen.extend(answer.items().iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        match answer.next_cursor() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(seen, made);

    let cases = [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("limit=100000", "limit"),
        ("cursor=%21", "cursor"),
        ("x=1", "x"),
    ];
    for (query, word) in cases {
        println!("{query}");
        send(ask(query)).await.expect_input_invalid(word);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_should_be_is_checked() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        ("no name", json!({ "permissions": ["read"] }), "name"),
        ("an empty name", json!({ "name": "" }), "name"),
        ("a long name", json!({ "name": "x".repeat(65) }), "name"),
        ("a line break in the name", json!({ "name": "a\nb" }), "name"),
        ("a name that is a number", json!({ "name": 7 }), "name"),
        ("no permission", json!({ "name": "k", "permissions": [] }), "permissions"),
        ("a permission nobody knows", json!({ "name": "k", "permissions": ["fly"] }), "permissions"),
        ("over at once", json!({ "name": "k", "expires_in_days": 0 }), "expires_in_days"),
        ("for ever and a day", json!({ "name": "k", "expires_in_days": 1_000_000 }), "expires_in_days"),
        ("a slip of the pen", json!({ "name": "k", "permisions": ["read"] }), "permisions"),
    ];
    for (what, body, word) in cases {
        println!("{what}");
        send(backend.post(PATH, &body).bearer_auth(&admin.access)).await.expect_input_invalid(word);
    }
    assert!(send(backend.get(PATH).bearer_auth(&admin.access)).await.items().is_empty(), "none was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_refused_and_not_told_why() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let first = backend.key(&admin, &json!({ "name": "first", "permissions": ["read"] })).await.key;
    let second = backend.key(&admin, &json!({ "name": "second", "permissions": ["read"] })).await.key;
    let crossed = format!("{}{}", &first[..first.len() - SECRET_CHARS], &second[second.len() - SECRET_CHARS..]);
    let cases = [
        ("not a key", "garbage".to_owned()),
        ("an unknown key", ApiKey::generate().reveal()),
        ("the secret of another key", crossed),
        ("a key with more behind it", format!("{first}x")),
        ("an access token", admin.access.clone()),
    ];
    let mut details = BTreeSet::new();
    for (what, key) in cases {
        println!("{what}");
        let problem =
            send(backend.get("/auth/me").header("X-API-Key", &key)).await.expect_problem(401, "key_invalid");
        details.insert(problem["detail"].to_string());
        assert_eq!(backend.introspected(&key).await, json!({ "active": false }), "{what}");
    }
    assert_eq!(details.len(), 1, "the details tell them apart: {details:?}");
    send(backend.get("/auth/me").header("X-API-Key", &first)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_outlives_the_process_and_its_use_is_remembered() {
    let folder = folder();
    let backend = Backend::start_in(&folder, &Settings::development()).await;
    let admin = backend.login(ADMIN).await;
    let used = backend.key(&admin, &json!({ "name": "used", "permissions": ["read"] })).await;
    let unused = backend.key(&admin, &json!({ "name": "unused", "permissions": ["read"] })).await;
    assert_eq!(backend.introspected(&used.key).await["active"], true);
    backend.stop().await;

    let backend = Backend::start_in(&folder, &Settings::development()).await;
    let listed = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    listed.expect_status(200);
    let items = listed.items();
    let item = |id: &str| items.iter().find(|item| item["id"] == id).expect("the key is listed");
    assert!(item(&used.id)["last_used_at"].is_u64(), "{listed:?}");
    assert!(item(&unused.id)["last_used_at"].is_null(), "{listed:?}");
    assert_eq!(backend.introspected(&unused.key).await["active"], true);
}

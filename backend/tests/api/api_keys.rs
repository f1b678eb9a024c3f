//! API keys: `/api/v1/api-keys`, from the one time a key is shown to its end.
//!
//! Read next: `internal.rs` for how the gateway asks about a key.

use std::collections::BTreeSet;

use common::api_key::{ApiKey, SECRET_CHARS};
use serde_json::{Value, json};
use testkit::token::now;

use crate::graphql::{ask, expect_error};
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
    // Who administers sees whose keys there are, and may end any.
    let ann_id = send(backend.get("/auth/me").bearer_auth(&ann.access)).await.text("id");
    let of_ann = format!("{PATH}?owner={ann_id}");
    send(backend.get(&of_ann).bearer_auth(&ben.access)).await.expect_problem(403, "permission_missing");
    for who in [&ann, &admin] {
        let listed = send(backend.get(&of_ann).bearer_auth(&who.access)).await;
        assert_eq!((listed.items().len(), &listed.items()[0]["id"]), (1, &json!(key.id)), "{listed:?}");
    }
    let document = format!("{{ apiKeys(ownerId: \"{ann_id}\") {{ nodes {{ name owner {{ username }} }} }} }}");
    let listed = ask(&backend, &admin.access, &document).await.json()["data"]["apiKeys"]["nodes"].clone();
    assert_eq!(listed, json!([{ "name": "of ann", "owner": { "username": "ann" } }]));
    expect_error(&ask(&backend, &ben.access, &document).await, 200, "permission_missing");
    let nobody = send(backend.get(&format!("{PATH}?owner=a%00b")).bearer_auth(&admin.access)).await;
    assert!(nobody.expect_status(200).items().is_empty(), "{nobody:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_replaced_while_the_one_before_holds_on() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "name": "k", "permissions": ["read", "api_access"], "expires_in_days": 30 });
    let first = backend.key(&admin, &body).await;
    let path = format!("{PATH}/{}/rotate", first.id);
    let rotate = async |body: Value| send(backend.post(&path, &body).bearer_auth(&admin.access)).await;
    let holds = async |key: &str| backend.introspected(key).await["active"] == true;

    let answer = rotate(json!({})).await;
    answer.expect_status(200);
    assert_eq!(answer.header("cache-control"), "no-store", "the key is shown once: {answer:?}");
    assert_eq!((answer.text("id"), answer.text("name")), (first.id.clone(), "k".to_owned()));
    let second = answer.text("key");
    let until = answer.json()["old_secret_until"].as_u64().expect("both hold for a while");
    assert!(until.abs_diff(now() + DAY_SECONDS) < 60, "{answer:?}");
    // Both hold, and whoever remembers that is told for how long.
    for (key, ends) in [(&first.key, until), (&second, now() + 30 * DAY_SECONDS)] {
        send(backend.get("/api/v1/models").header("X-API-Key", key)).await.expect_status(200);
        let told = backend.introspected(key).await;
        assert!(told["exp"].as_u64().is_some_and(|exp| exp.abs_diff(ends) < 60), "{told}");
    }
    let listed = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    assert_eq!(
        (listed.items().len(), listed.items()[0]["old_secret_until"].as_u64()),
        (1, Some(until)),
        "{listed:?}"
    );

    // Who did not get the answer asks again: what is in use goes on, for as long as it was told to.
    let answer = rotate(json!({ "old_secret_hours": 1 })).await;
    assert_eq!(answer.expect_status(200).json()["old_secret_until"].as_u64(), Some(until), "{answer:?}");
    let third = answer.text("key");
    assert_eq!((holds(&first.key).await, holds(&second).await, holds(&third).await), (true, false, true));

    // Where one has leaked, none of those before holds on.
    let answer = rotate(json!({ "old_secret_hours": 0 })).await;
    assert_eq!(answer.expect_status(200).json().get("old_secret_until"), None, "{answer:?}");
    let last = answer.text("key");
    assert_eq!((holds(&first.key).await, holds(&third).await, holds(&last).await), (false, false, true));

    for hours in [json!(169), json!(-1), json!("1")] {
        rotate(json!({ "old_secret_hours": hours })).await.expect_input_invalid("old_secret_hours");
    }
    let events = send(backend.get("/api/v1/audit-events?kind=api_key_rotated").bearer_auth(&admin.access)).await;
    assert_eq!((events.items().len(), &events.items()[0]["detail"]), (3, &json!(first.id)), "{events:?}");
    send(backend.delete(&format!("{PATH}/{}", first.id)).bearer_auth(&admin.access)).await.expect_status(204);
    rotate(json!({})).await.expect_problem(404, "not_found");
    assert!(!holds(&last).await);
    for key in [&first.key, &second, &third, &last] {
        let secret = &key[key.len() - SECRET_CHARS..];
        assert!(!backend.said().contains(secret) && !listed.body.contains(secret), "a secret is told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_the_secret_of_more_than_they_have() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let all = ["read", "write", "admin", "api_access"];
    let strong = backend.key(&admin, &json!({ "name": "strong", "permissions": all })).await;
    let weak = backend.key(&admin, &json!({ "name": "weak", "permissions": ["write", "api_access"] })).await;
    let brief = backend.key(&admin, &json!({ "name": "brief", "permissions": all, "expires_in_days": 1 })).await;
    let rotate = |id: &str| backend.post(&format!("{PATH}/{id}/rotate"), &json!({}));
    for key in [&weak, &brief] {
        send(rotate(&strong.id).header("X-API-Key", &key.key)).await.expect_problem(403, "grant_exceeded");
        send(rotate(&key.id).header("X-API-Key", &key.key)).await.expect_status(200);
    }
    send(rotate(&weak.id).header("X-API-Key", &strong.key)).await.expect_status(200);
    // Not even an administrator gets a secret of somebody else's.
    let ben = backend.user(&admin, ("ben", "ben-has-a-password"), "admin").await;
    for id in [strong.id.as_str(), "abcdefghijkm", "none"] {
        send(rotate(id).bearer_auth(&ben.access)).await.expect_problem(404, "not_found");
    }
    assert_eq!(backend.introspected(&strong.key).await["active"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_replaced_gets_nothing_that_outlasts_it() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "name": "k", "permissions": ["read", "write", "api_access"] });
    let first = backend.key(&admin, &body).await;
    let path = format!("{PATH}/{}/rotate", first.id);
    let rotate = |key: &str| backend.post(&path, &json!({})).header("X-API-Key", key);
    let answer = send(rotate(&first.key)).await;
    let second = answer.expect_status(200).text("key");
    let until = answer.json()["old_secret_until"].as_i64().expect("both hold for a while");

    // Whoever has found it does not put the new one out of use.
    send(rotate(&first.key)).await.expect_problem(403, "grant_exceeded");
    assert_eq!(backend.introspected(&second).await["active"], true);
    // Nor do they keep a key for good.
    let asked = |key: &str| backend.post(PATH, &json!({ "name": "of a key" })).header("X-API-Key", key);
    let made = send(asked(&first.key)).await;
    assert_eq!(made.expect_status(201).json()["expires_at"].as_i64(), Some(until), "{made:?}");
    // The new one may do both.
    let made = send(asked(&second)).await;
    assert_eq!(made.expect_status(201).json().get("expires_at"), None, "{made:?}");
    send(rotate(&second)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_may_not_do_for_now_counts_when_another_renews_it() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let eve = backend.user(&admin, ("eve", "eve-has-a-password"), "admin").await;
    let all = json!({ "name": "strong", "permissions": ["read", "write", "admin", "api_access"] });
    let strong = backend.key(&eve, &all).await;
    let weak = backend.key(&eve, &json!({ "name": "weak", "permissions": ["read", "write", "api_access"] })).await;
    let eve_path = format!("/api/v1/users/{}", backend.me(&eve.access).await.text("id"));
    let change = async |role: &str| {
        let request = backend.request("PATCH", &eve_path).json(&json!({ "role": role }));
        send(request.bearer_auth(&admin.access)).await.expect_status(200);
    };
    let path = format!("{PATH}/{}/rotate", strong.id);
    let rotate = |key: &str| backend.post(&path, &json!({})).header("X-API-Key", key);

    // Both may do the same now, and would not any more tomorrow.
    change("developer").await;
    send(rotate(&weak.key)).await.expect_problem(403, "grant_exceeded");
    let renewed = send(rotate(&strong.key)).await.expect_status(200).text("key");
    change("admin").await;
    assert_eq!(backend.introspected(&renewed).await["scope"], "read write admin api_access");
}

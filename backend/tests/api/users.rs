//! Users: `/api/v1/users`.
//!
//! Read next: `api_keys.rs`.

use serde_json::json;

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;

const PATH: &str = "/api/v1/users";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_makes_users_who_can_log_in() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "username": "Ann@Example.org", "password": "ann-has-a-password", "role": "readonly" });
    let created = send(backend.post(PATH, &body).bearer_auth(&admin.access)).await;
    created.expect_status(201);
    assert_eq!(created.json()["username"], "ann@example.org", "{created:?}");
    assert_eq!(created.json()["role"], "readonly", "{created:?}");
    assert!(!created.body.contains("password") && !created.body.contains("argon2"), "{created:?}");

    let ann = backend.login(("ann@example.org", "ann-has-a-password")).await;
    let me = send(backend.get("/auth/me").bearer_auth(&ann.access)).await;
    me.expect_status(200);
    assert_eq!(me.json()["id"], created.json()["id"], "{me:?}");
    assert_eq!(me.json()["permissions"], json!(["read", "api_access"]), "{me:?}");

    // The name is taken now, however it is written.
    let again = json!({ "username": "ANN@example.org", "password": "another-password", "role": "user" });
    send(backend.post(PATH, &again).bearer_auth(&admin.access)).await.expect_problem(409, "conflict");

    // The list has both, page by page.
    let first = send(backend.get(&format!("{PATH}?limit=1")).bearer_auth(&admin.access)).await;
    first.expect_status(200);
    assert_eq!(first.items().len(), 1, "{first:?}");
    assert_eq!(first.items()[0]["username"], "admin", "{first:?}");
    let cursor = first.next_cursor().expect("there is more");
    let rest = send(backend.get(&format!("{PATH}?limit=10&cursor={cursor}")).bearer_auth(&admin.access)).await;
    rest.expect_status(200);
    assert_eq!(rest.items().len(), 1, "{rest:?}");
    assert_eq!(rest.items()[0]["username"], "ann@example.org", "{rest:?}");
    assert_eq!(rest.next_cursor(), None, "{rest:?}");
    assert!(!rest.body.contains("argon2"), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_should_be_is_checked() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let user =
        |name: &str, password: &str, role: &str| json!({ "username": name, "password": password, "role": role });
    let (long_name, long_password) = ("x".repeat(65), "x".repeat(129));
    let cases = [
        ("no name", json!({ "password": "long-enough", "role": "user" }), "username"),
        ("no password", json!({ "username": "ann", "role": "user" }), "password"),
        ("no role", json!({ "username": "ann", "password": "long-enough" }), "role"),
        ("an empty name", user("", "long-enough", "user"), "username"),
        ("a space in the name", user("an n", "long-enough", "user"), "username"),
        ("a long name", user(&long_name, "long-enough", "user"), "username"),
        ("a short password", user("ann", "seven77", "user"), "password"),
        ("a long password", user("ann", &long_password, "user"), "password"),
        ("a role nobody knows", user("ann", "long-enough", "root"), "role"),
        (
            "a member nobody knows",
            json!({ "username": "ann", "password": "long-enough", "role": "user", "admin": true }),
            "admin",
        ),
    ];
    for (what, body, word) in cases {
        println!("{what}");
        let answer = send(backend.post(PATH, &body).bearer_auth(&admin.access)).await;
        answer.expect_input_invalid(word);
        assert!(!answer.body.contains("long-enough"), "the answer repeats the password: {answer:?}");
    }
    let listed = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    assert_eq!(listed.items().len(), 1, "none was made: {listed:?}");
    // A passphrase of the longest kind, counted in characters, is taken.
    let passphrase = "ü".repeat(128);
    backend.user(&admin, ("ann", &passphrase), "user").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_a_user_who_may_more_than_they() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    // This key administers, but was given nothing else.
    let key = backend.key(&admin, &json!({ "name": "door", "permissions": ["admin", "api_access"] })).await;
    for role in ["admin", "readonly"] {
        let body = json!({ "username": "ann", "password": "long-enough", "role": role });
        let answer = send(backend.post(PATH, &body).header("X-API-Key", &key.key)).await;
        answer.expect_problem(403, "grant_exceeded");
    }
}

//! Idempotency: users and API keys that are asked for again under the same `Idempotency-Key`.
//!
//! Read next: `jobs.rs` for batches.

use serde_json::{Value, json};

use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::{Answer, send};
use crate::harness::database;
use crate::harness::settings::Settings;

const USERS: &str = "/api/v1/users";
const KEYS: &str = "/api/v1/api-keys";

/// Requests sent at the same moment.
const RACERS: usize = 6;

async fn post(backend: &Backend, who: &Session, path: &str, key: &str, body: &Value) -> Answer {
    let request = backend.post(path, body).bearer_auth(&who.access).header("Idempotency-Key", key);
    send(request).await
}

fn ann(password: &str, role: &str) -> Value {
    json!({ "username": "ann", "password": password, "role": role })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_makes_one_user_and_gets_the_first_answer() {
    let folder = folder();
    let settings = Settings::development();
    let [one, two] = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let admin = one.login(ADMIN).await;
    let body = ann("ann-has-a-password", "user");
    let first = post(&one, &admin, USERS, "k-1", &body).await;
    first.expect_status(201);
    for backend in [&one, &two] {
        let again = post(backend, &admin, USERS, "k-1", &body).await;
        assert_eq!(again.expect_status(201).json(), first.json());
    }
    // The first answer it is, whatever has become of the user.
    let path = format!("{USERS}/{}", first.text("id"));
    let promote = one.request("PATCH", &path).json(&json!({ "role": "developer", "password": "ann-has-another" }));
    send(promote.bearer_auth(&admin.access)).await.expect_status(200);
    assert_eq!(post(&two, &admin, USERS, "k-1", &body).await.expect_status(201).json(), first.json());

    // Another request under this key is refused, whatever differs.
    let other_name = json!({ "username": "bob", "password": "ann-has-a-password", "role": "user" });
    for body in [ann("ann-has-another", "user"), ann("ann-has-a-password", "readonly"), other_name] {
        post(&one, &admin, USERS, "k-1", &body).await.expect_problem(409, "conflict");
    }
    // Under another key it is another request, and the name is taken; so is a key of somebody else.
    post(&one, &admin, USERS, "k-2", &body).await.expect_problem(409, "conflict");
    let ben = one.user(&admin, ("ben", "ben-has-a-password"), "admin").await;
    post(&one, &ben, USERS, "k-1", &body).await.expect_problem(409, "conflict");
    // What was refused was not done, and may be sent again.
    let free = json!({ "username": "cat", "password": "cat-has-a-password", "role": "user" });
    post(&one, &admin, USERS, "k-2", &free).await.expect_status(201);

    let listed = send(one.get(USERS).bearer_auth(&admin.access)).await;
    assert_eq!(listed.items().len(), 4, "{listed:?}");
    let events = database::events(folder.path()).await;
    assert_eq!(events.iter().filter(|event| event.kind == "user_created").count(), 3, "{events:?}");
    assert!(!database::holds(folder.path(), "ann-has-a-password").await, "a password is kept in the open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_requests_one_makes_the_user() {
    let folder = folder();
    let settings = Settings::development();
    let backends = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let admin = backends[0].login(ADMIN).await;
    let body = ann("ann-has-a-password", "user");
    let racers: Vec<_> = (0..RACERS)
        .map(|index| {
            let request = backends[index % backends.len()].post(USERS, &body).bearer_auth(&admin.access);
            tokio::spawn(send(request.header("Idempotency-Key", "race")))
        })
        .collect();
    let mut ids = Vec::new();
    for racer in racers {
        ids.push(racer.await.expect("a request is answered").expect_status(201).text("id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_once_and_made_once() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "name": "ci", "permissions": ["read"], "expires_in_days": 7 });
    let first = post(&backend, &admin, KEYS, "k-1", &body).await;
    first.expect_status(201);
    let again = post(&backend, &admin, KEYS, "k-1", &body).await;
    again.expect_problem(409, "secret_shown");
    assert!(!again.body.contains("cap6_"), "{again:?}");
    for other in [
        json!({ "name": "cd", "permissions": ["read"], "expires_in_days": 7 }),
        json!({ "name": "ci", "permissions": ["read", "write"], "expires_in_days": 7 }),
        json!({ "name": "ci", "permissions": ["read"] }),
    ] {
        post(&backend, &admin, KEYS, "k-1", &other).await.expect_problem(409, "conflict");
    }
    post(&backend, &admin, KEYS, "k-2", &body).await.expect_status(201);
    // A key for users is no key for API keys.
    post(&backend, &admin, USERS, "k-1", &ann("ann-has-a-password", "user")).await.expect_status(201);
    let listed = send(backend.get(KEYS).bearer_auth(&admin.access)).await;
    assert_eq!(listed.items().len(), 2, "{listed:?}");

    let longest = "k".repeat(128);
    post(&backend, &admin, KEYS, &longest, &body).await.expect_status(201);
    for wrong in ["", "two words", &"k".repeat(129)] {
        println!("{wrong:?}");
        post(&backend, &admin, KEYS, wrong, &body).await.expect_input_invalid("Idempotency-Key");
        let user = ann("ann-has-a-password", "user");
        post(&backend, &admin, USERS, wrong, &user).await.expect_input_invalid("Idempotency-Key");
    }
    let twice = backend.post(KEYS, &body).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    send(twice.bearer_auth(&admin.access)).await.expect_input_invalid("Idempotency-Key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_a_key_is_free_again() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "name": "ci", "permissions": ["read"] });
    post(&backend, &admin, KEYS, "k-1", &body).await.expect_status(201);
    let mut open = database::open(backend.folder().path()).await;
    open.execute("UPDATE idempotent_requests SET at = at - 86400").await;
    post(&backend, &admin, KEYS, "k-1", &body).await.expect_status(201);
    post(&backend, &admin, KEYS, "k-1", &body).await.expect_problem(409, "secret_shown");
}

//! Revocations: what is taken back before its end is refused by every process within a second, and told to the gateway.
//!
//! Read next: `rotation.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::token::now;
use testkit::wait::until;

use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::send;
use crate::harness::settings::{Settings, secret_file};

const FEED: &str = "/internal/revocations";

/// How long a withdrawal may take to work in every process.
const SOON: Duration = Duration::from_secs(1);

/// What the gateway and the backend share.
const SECRET: &str = "a-secret-between-two-programs";

/// Logs out as a client does that shows its access token too.
async fn logout(backend: &Backend, session: &Session) {
    let request = backend.post("/auth/logout", &json!({ "refresh_token": session.refresh }));
    send(request.bearer_auth(&session.access)).await.expect_status(204);
}

async fn told(backend: &Backend, query: &str) -> Value {
    let answer = send(backend.internal_get(&format!("{FEED}{query}"))).await;
    answer.expect_status(200);
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    answer.json()
}

/// Waits until this process refuses the token, too.
async fn refused(backend: &Backend, session: &Session) {
    until("the token is refused", SOON, async || (backend.me(&session.access).await.status == 401).then_some(()))
        .await;
    backend.me(&session.access).await.expect_problem(401, "token_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_access_token_in_every_process() {
    let folder = folder();
    let settings = Settings::development();
    let backends = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let (gone, stays) = (backends[0].login(ADMIN).await, backends[0].login(ADMIN).await);
    for backend in &backends {
        backend.me(&gone.access).await.expect_status(200);
    }
    logout(&backends[0], &gone).await;
    backends[0].me(&gone.access).await.expect_problem(401, "token_revoked");
    refused(&backends[1], &gone).await;
    send(backends[1].try_refresh(&gone.refresh)).await.expect_problem(401, "refresh_invalid");
    for backend in &backends {
        backend.me(&stays.access).await.expect_status(200);
    }
    // A session that is over is over, however often it is said.
    logout(&backends[1], &gone).await;
    // A process that starts later knows it from its first request on.
    let third = Backend::start_in(&folder, &settings).await;
    third.me(&gone.access).await.expect_problem(401, "token_revoked");

    // A token that does not hold is no reason to keep a session open; two are a guess.
    let request = || backends[0].post("/auth/logout", &json!({ "refresh_token": stays.refresh }));
    let two = request().header("Authorization", "Bearer a").header("Authorization", "Bearer b");
    send(two).await.expect_problem(401, "credential_ambiguous");
    send(request().bearer_auth("garbage")).await.expect_status(204);
    backends[0].me(&stays.access).await.expect_status(200);
    send(backends[0].try_refresh(&stays.refresh)).await.expect_problem(401, "refresh_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_is_told_what_was_withdrawn_and_goes_on_from_there() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    assert_eq!(told(&backend, "").await, json!({ "cursor": "0", "entries": [] }));
    let session = backend.login(ADMIN).await;
    logout(&backend, &session).await;
    let first = told(&backend, "").await;
    let entry = &first["entries"][0];
    assert_eq!(entry["kind"], "token", "{first}");
    assert!(entry["value"].as_str().is_some_and(|id| !id.is_empty() && !session.access.contains(id)), "{first}");
    assert!(entry["ends"].as_u64().is_some_and(|ends| ends >= now() + 1_700), "{first}");

    let after = format!("?after={}", first["cursor"].as_str().expect("a cursor"));
    assert_eq!(told(&backend, &after).await["entries"], json!([]));
    logout(&backend, &session).await;
    assert_eq!(told(&backend, &after).await["entries"], json!([]), "it is withdrawn already");
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read"] })).await;
    let revoke = backend.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&admin.access);
    send(revoke).await.expect_status(204);
    let second = told(&backend, &after).await;
    assert_eq!(second["entries"].as_array().map(Vec::len), Some(1), "{second}");
    assert_eq!(second["entries"][0]["kind"], "key", "{second}");
    assert_eq!(second["entries"][0]["value"], key.id.as_str(), "{second}");
    // A cursor of another database, or none at all, brings everything.
    for query in ["?after=999999", "?after=garbage", ""] {
        let all = told(&backend, query).await;
        assert_eq!(all["entries"].as_array().map(Vec::len), Some(2), "{query}: {all}");
        assert_eq!(all["cursor"], second["cursor"], "{query}: {all}");
    }
    // It is not for everybody.
    send(backend.get(FEED)).await.expect_problem(404, "route_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_asks_for_the_secret() {
    let folder = folder();
    let secret = secret_file(folder.path(), "introspection", SECRET);
    let settings = Settings::development().introspection(format!("secret: {secret}"));
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    send(backend.internal_get(FEED)).await.expect_problem(401, "token_missing");
    for wrong in ["wrong", &admin.access] {
        send(backend.internal_get(FEED).bearer_auth(wrong)).await.expect_problem(401, "key_invalid");
    }
    send(backend.internal_get(FEED).bearer_auth(SECRET)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_changed_or_kept_out_loses_every_access_token() {
    let folder = folder();
    let settings = Settings::development();
    let [one, two] = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let admin = one.login(ADMIN).await;
    let ann = one.user(&admin, ("ann", "ann-has-a-password"), "developer").await;
    let id = one.me(&ann.access).await.text("id");
    let key = one.key(&ann, &json!({ "name": "k", "permissions": ["read"] })).await;
    let change = async |body: Value| {
        let path = format!("/api/v1/users/{id}");
        send(one.request("PATCH", &path).json(&body).bearer_auth(&admin.access)).await
    };

    let changed = change(json!({ "role": "readonly" })).await;
    assert_eq!(changed.expect_status(200).json()["role"], "readonly", "{changed:?}");
    refused(&one, &ann).await;
    refused(&two, &ann).await;
    let feed = told(&two, "").await;
    assert_eq!(feed["entries"][0]["kind"], "subject", "{feed}");
    assert_eq!(feed["entries"][0]["value"], id.as_str(), "{feed}");
    assert!(feed["entries"][0]["issued_until"].as_u64().is_some_and(|until| until <= now()), "{feed}");
    // The session goes on, with what the user is now, and in the very second of the change.
    let ann = Session::of(send(two.try_refresh(&ann.refresh)).await.expect_status(200));
    assert_eq!(two.me(&ann.access).await.expect_status(200).json()["roles"], json!(["readonly"]));

    // With another password it does not.
    change(json!({ "password": "ann-has-another" })).await.expect_status(200);
    refused(&two, &ann).await;
    send(two.try_refresh(&ann.refresh)).await.expect_problem(401, "refresh_invalid");
    send(two.try_login("ann", "ann-has-a-password")).await.expect_problem(401, "login_failed");
    let ann = two.login(("ann", "ann-has-another")).await;
    one.me(&ann.access).await.expect_status(200);
    assert_eq!(two.introspected(&key.key).await["active"], true);

    // Who is kept out has nothing left, until that is undone.
    let disabled = change(json!({ "disabled": true })).await;
    assert!(disabled.expect_status(200).json()["disabled_at"].is_u64(), "{disabled:?}");
    refused(&two, &ann).await;
    send(two.try_refresh(&ann.refresh)).await.expect_problem(401, "refresh_invalid");
    send(two.try_login("ann", "ann-has-another")).await.expect_problem(401, "login_failed");
    assert_eq!(two.introspected(&key.key).await, json!({ "active": false }));
    change(json!({ "disabled": false })).await.expect_status(200);
    two.me(&two.login(("ann", "ann-has-another")).await.access).await.expect_status(200);
    assert_eq!(two.introspected(&key.key).await["active"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_administrators_do_not_shut_each_other_out() {
    let folder = folder();
    let settings = Settings::development();
    let [one, two] = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let admin = one.login(ADMIN).await;
    let ann = one.user(&admin, ("ann", "ann-has-a-password"), "admin").await;
    let ids = [one.me(&admin.access).await.text("id"), one.me(&ann.access).await.text("id")];
    let shut_out = |backend: &Backend, id: &str, by: &Session| {
        let change = backend.request("PATCH", &format!("/api/v1/users/{id}")).json(&json!({ "disabled": true }));
        send(change.bearer_auth(&by.access))
    };
    let (first, second) = tokio::join!(shut_out(&one, &ids[1], &admin), shut_out(&two, &ids[0], &ann));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    // Who comes second administers no more, or already has no token that holds.
    assert!([[200, 401], [200, 403]].contains(&statuses), "{first:?}, {second:?}");
    let logins = [one.try_login(ADMIN.0, ADMIN.1), one.try_login("ann", "ann-has-a-password")];
    let [first, second] = logins.map(send);
    let mut statuses = [first.await.status, second.await.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "one of them still administers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_changes_who_may_more_or_shuts_themselves_out() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let id = backend.me(&admin.access).await.text("id");
    let change = |id: &str, body: Value| backend.request("PATCH", &format!("/api/v1/users/{id}")).json(&body);
    let own = [json!({ "disabled": true }), json!({ "role": "user" })];
    for body in own {
        send(change(&id, body).bearer_auth(&admin.access)).await.expect_problem(409, "conflict");
    }
    let key = backend.key(&admin, &json!({ "name": "door", "permissions": ["admin", "api_access"] })).await;
    let password = change(&id, json!({ "password": "taken-over-by-a-key" })).header("X-API-Key", &key.key);
    send(password).await.expect_problem(403, "grant_exceeded");
    for (body, word) in [
        (json!({}), "role"),
        (json!({ "role": "root" }), "role"),
        (json!({ "role": null, "disabled": false }), "role"),
        (json!({ "password": "short" }), "password"),
        (json!({ "name": "eve" }), "name"),
    ] {
        send(change(&id, body).bearer_auth(&admin.access)).await.expect_input_invalid(word);
    }
    let nobody = change("nobody", json!({ "disabled": true })).bearer_auth(&admin.access);
    send(nobody).await.expect_problem(404, "not_found");
    backend.me(&admin.access).await.expect_status(200);
}

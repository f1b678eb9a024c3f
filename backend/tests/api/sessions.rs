//! Sessions: `/auth/login`, `/auth/refresh`, `/auth/logout`, `/auth/me`.
//!
//! Read next: `throttle.rs`.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::token::now;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::send;
use crate::harness::database;
use crate::harness::settings::Settings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_gives_tokens_that_say_who_and_what() {
    let backend = Backend::development().await;
    let answer = send(backend.try_login(ADMIN.0, ADMIN.1)).await;
    answer.expect_status(200);
    // Tokens must not lie in a cache on the way (RFC 6749 §5.1).
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 1800);
    assert_eq!(body["scope"], "read write execute admin api_access graphql_access");

    let session = Session::of(&answer);
    let me = send(backend.get("/auth/me").bearer_auth(&session.access)).await;
    me.expect_status(200);
    let me = me.json();
    assert_eq!(me["username"], "admin", "{me}");
    assert_eq!(me["roles"], json!(["admin"]), "{me}");
    assert_eq!(me["method"], "jwt", "{me}");
    let permissions = json!(["read", "write", "execute", "admin", "api_access", "graphql_access"]);
    assert_eq!(me["permissions"], permissions, "{me}");
    // Names are compared without regard to case and to the spaces that forms collect.
    send(backend.try_login(" Admin ", ADMIN.1)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_name_and_a_wrong_password_look_the_same() {
    let backend = Backend::start(&Settings::development().auth("login: { failures_max: 1000 }")).await;
    let cases = [
        ("a wrong password", "admin", "admin124"),
        ("an unknown user", "nobody", "admin123"),
        ("the password in capitals", "admin", "ADMIN123"),
        ("a password that is too short for one", "admin", "x"),
        ("no password", "admin", ""),
        ("no name", "", "admin123"),
        ("SQL", "admin' OR '1'='1", "admin123"),
    ];
    let mut details = Vec::with_capacity(cases.len());
    for (what, name, password) in cases {
        println!("{what}");
        let problem = send(backend.try_login(name, password)).await.expect_problem(401, "login_failed");
        details.push(problem["detail"].clone());
    }
    assert!(details.windows(2).all(|pair| pair[0] == pair[1]), "the details tell them apart: {details:?}");

    // The quickest of several tries is the least disturbed one. A user that is not looked up at all would be many
    // times as quick, because checking a password is slow on purpose.
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..3 {
        for (quickest, name) in quickest.iter_mut().zip(["admin", "nobody"]) {
            let start = Instant::now();
            send(backend.try_login(name, "admin124")).await.expect_problem(401, "login_failed");
            *quickest = start.elapsed().min(*quickest);
        }
    }
    let [known, unknown] = quickest;
    assert!(unknown > known / 3, "an unknown user is answered after {unknown:?}, a known one after {known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let backend = Backend::development().await;
    let first = backend.login(ADMIN).await;
    let other = backend.login(ADMIN).await;
    let answer = send(backend.try_refresh(&first.refresh)).await;
    answer.expect_status(200);
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    assert_eq!(answer.json()["expires_in"], 1800, "{answer:?}");
    let second = Session::of(&answer);
    assert_ne!(second.refresh, first.refresh);
    assert_ne!(second.access, first.access);
    send(backend.get("/auth/me").bearer_auth(&second.access)).await.expect_status(200);

    // Who sends the spent one is a thief, or the user whom a thief has overtaken: nobody goes on with this family.
    send(backend.try_refresh(&first.refresh)).await.expect_problem(401, "refresh_invalid");
    send(backend.try_refresh(&second.refresh)).await.expect_problem(401, "refresh_invalid");
    // Another login is another family.
    send(backend.try_refresh(&other.refresh)).await.expect_status(200);

    let events = database::events(backend.folder().path()).await;
    let reused = events.iter().filter(|event| event.kind == "refresh_reused").count();
    assert_eq!(reused, 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_refreshes_one_wins_also_across_processes() {
    let folder = folder();
    let settings = Settings::development();
    let backends = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let token = backends[0].login(ADMIN).await.refresh;
    let [one, two] = &backends;
    let winner = Backend::race_to_refresh(&[one, two], &token).await;
    // The others were reuse, so the winner's family is gone as well.
    send(one.try_refresh(&winner.refresh)).await.expect_problem(401, "refresh_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_family_and_never_fails() {
    let backend = Backend::development().await;
    let first = backend.login(ADMIN).await;
    let second = Session::of(send(backend.try_refresh(&first.refresh)).await.expect_status(200));
    let logout = |token: &str| backend.post("/auth/logout", &json!({ "refresh_token": token }));
    let answer = send(logout(&second.refresh)).await;
    answer.expect_status(204);
    assert_eq!(answer.body, "");
    send(backend.try_refresh(&second.refresh)).await.expect_problem(401, "refresh_invalid");
    // A session that is over, or never was, is over (RFC 7009 §2.2).
    for token in [second.refresh.as_str(), "no-token-of-ours"] {
        send(logout(token)).await.expect_status(204);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_refresh_token_is_refused() {
    let backend = Backend::development().await;
    let session = backend.login(ADMIN).await;
    let long = "x".repeat(10_000);
    for token in ["garbage", "", &long, &session.access] {
        send(backend.try_refresh(token)).await.expect_problem(401, "refresh_invalid");
    }
    // A refresh token is no access token.
    let answer = send(backend.get("/auth/me").bearer_auth(&session.refresh)).await;
    answer.expect_problem(401, "token_malformed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_ends() {
    let backend = Backend::start(&Settings::development().auth("refresh_token_ttl: 1s")).await;
    let session = backend.login(ADMIN).await;
    // It was issued in this second or the one before; times are whole seconds.
    let issued = now();
    until("a second has passed", PATIENCE, async || (now() > issued).then_some(())).await;
    send(backend.try_refresh(&session.refresh)).await.expect_problem(401, "refresh_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_events_are_kept_and_secrets_are_not() {
    let backend = Backend::development().await;
    send(backend.try_login("admin", "wrong-password-1")).await.expect_problem(401, "login_failed");
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let key = backend.key(&ann, &json!({ "name": "laptop", "permissions": ["read"] })).await;
    let revoke = backend.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&ann.access);
    send(revoke).await.expect_status(204);
    let logout = backend.post("/auth/logout", &json!({ "refresh_token": ann.refresh }));
    send(logout).await.expect_status(204);

    let folder = backend.folder().path();
    let events = database::events(folder).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected =
        ["login_failed", "login_ok", "user_created", "login_ok", "api_key_created", "api_key_revoked", "logout"];
    assert_eq!(kinds, expected, "{events:?}");
    assert_eq!(events[0].subject.as_deref(), Some("admin"), "the name that was tried");
    assert!(events.iter().all(|event| event.client.as_deref() == Some("127.0.0.1")), "{events:?}");
    assert_eq!(events[4].detail.as_deref(), Some(key.id.as_str()), "{events:?}");

    // What may be known is kept, which shows that this looks in the right place; what must not be is not.
    assert!(database::holds(folder, "ann").await && database::holds(folder, &key.id).await);
    let said = backend.said();
    let secret_part = &key.key[key.key.len() - 43..];
    let secrets =
        [ADMIN.1, "wrong-password-1", "ann-has-a-password", &admin.refresh, &ann.refresh, &ann.access, secret_part];
    for (index, secret) in secrets.iter().enumerate() {
        assert!(!database::holds(folder, secret).await, "secret {index} is kept in the open");
        // The seed's password is announced on purpose: development says loudly that it is known.
        assert!(index == 0 || !said.contains(secret), "secret {index} is in the log");
    }
}

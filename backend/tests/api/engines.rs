//! Engines: the heart of the API, the same on `SQLite` and on Postgres, and what clients see while Postgres is away.
//!
//! Read next: `processes.rs`.

use serde_json::json;
use testkit::postgres::Postgres;
use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, Session, folder, run};
use crate::harness::client::send;
use crate::harness::database::{Engine, events_on};
use crate::harness::settings::Settings;

/// The server lets everybody in, so that any password is right; it must not be told all the same.
const PASSWORD: &str = "hunter2";

/// A new database on a server, under an address with a password in it.
fn on(server: &Postgres, name: &str) -> Engine {
    Engine::Postgres(server.database(name).replacen('@', &format!(":{PASSWORD}@"), 1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heart_of_the_api_works_on_sqlite() {
    heart(&Engine::Sqlite).await;
    texts_that_nothing_is_called_by(&Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_was_a_token_keeps_nobody_from_writing() {
    let backend = Backend::start_on(&Engine::Sqlite, &Settings::development()).await;
    // As long as somebody else writes, whoever wants to write as well waits.
    let mut writer = Engine::Sqlite.open(backend.folder().path()).await;
    writer.execute("BEGIN IMMEDIATE").await;
    send(backend.try_refresh("never-was-a-token")).await.expect_problem(401, "refresh_invalid");
    let logout = backend.post("/auth/logout", &json!({ "refresh_token": "never-was-a-token" }));
    send(logout).await.expect_status(204);
    writer.execute("ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heart_of_the_api_works_on_postgres() {
    let server = Postgres::start().await;
    heart(&on(&server, "heart")).await;
    two_processes_share(&on(&server, "shared")).await;
    commands_work(&on(&server, "commands")).await;
    texts_that_nothing_is_called_by(&on(&server, "texts")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heart_of_the_api_works_on_postgres_and_redis() {
    let (server, redis) = (Postgres::start().await, Redis::start().await);
    let both = |name: &str| match on(&server, name) {
        Engine::Postgres(url) => Engine::PostgresAndRedis { url, redis: redis.url() },
        other => other,
    };
    heart(&both("heart")).await;
    two_processes_share(&both("shared")).await;
}

async fn heart(engine: &Engine) {
    let backend = Backend::start_on(engine, &Settings::development()).await;
    sessions(&backend).await;
    let admin = backend.login(ADMIN).await;
    users(&backend, &admin).await;
    keys(&backend, &admin).await;
    let detailed = send(backend.get("/health/detailed")).await;
    assert_eq!(detailed.expect_status(200).json()["parts"]["database"], "ok", "{detailed:?}");

    let events = events_on(engine, backend.folder().path()).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected = [
        "login_failed",
        "login_ok",
        "login_ok",
        "refresh_reused",
        "logout",
        "login_ok",
        "user_created",
        "login_ok",
        "api_key_created",
        "api_key_created",
        "api_key_revoked",
    ];
    assert_eq!(kinds, expected, "{events:?}");
    assert!(events.iter().all(|event| event.client.as_deref() == Some("127.0.0.1")), "{events:?}");
    assert!(!backend.said().contains(PASSWORD), "the database's password is in the log");
    backend.stop().await;
}

/// Postgres cannot even be asked for a text with a NUL in it. Clients see the same as on `SQLite`.
async fn texts_that_nothing_is_called_by(engine: &Engine) {
    let backend = Backend::start_on(engine, &Settings::development()).await;
    let admin = backend.login(ADMIN).await;
    send(backend.try_login("no\0body", "not-a-password")).await.expect_problem(401, "login_failed");
    for (method, path) in [
        ("GET", "/api/v1/jobs/%00"),
        ("DELETE", "/api/v1/jobs/a%00b"),
        ("POST", "/api/v1/jobs/%00/requeue"),
        ("DELETE", "/api/v1/api-keys/%00"),
    ] {
        println!("{method} {path}");
        let answer = send(backend.request(method, path).bearer_auth(&admin.access)).await;
        answer.expect_problem(404, "not_found");
    }
    let change = backend.request("PATCH", "/api/v1/users/%00").json(&json!({ "disabled": true }));
    send(change.bearer_auth(&admin.access)).await.expect_problem(404, "not_found");
    // The cursor is that of a NUL.
    for query in ["users?cursor=AA", "jobs?cursor=AA", "audit-events?subject=%00"] {
        println!("{query}");
        let answer = send(backend.get(&format!("/api/v1/{query}")).bearer_auth(&admin.access)).await;
        answer.expect_problem(400, "input_invalid");
    }
    let events = events_on(engine, backend.folder().path()).await;
    let shown = Some("no\u{fffd}body");
    assert!(
        events.iter().any(|event| event.kind == "login_failed" && event.subject.as_deref() == shown),
        "{events:?}"
    );
    backend.stop().await;
}

async fn sessions(backend: &Backend) {
    send(backend.try_login(ADMIN.0, "wrong-password")).await.expect_problem(401, "login_failed");
    let (first, other) = (backend.login(ADMIN).await, backend.login(ADMIN).await);
    let second = Session::of(send(backend.try_refresh(&first.refresh)).await.expect_status(200));
    let me = send(backend.get("/auth/me").bearer_auth(&second.access)).await;
    assert_eq!(me.expect_status(200).text("username"), "admin", "{me:?}");
    send(backend.try_refresh(&first.refresh)).await.expect_problem(401, "refresh_invalid");
    send(backend.try_refresh(&second.refresh)).await.expect_problem(401, "refresh_invalid");
    let other = Session::of(send(backend.try_refresh(&other.refresh)).await.expect_status(200));
    let logout = backend.post("/auth/logout", &json!({ "refresh_token": other.refresh }));
    send(logout).await.expect_status(204);
    send(backend.try_refresh(&other.refresh)).await.expect_problem(401, "refresh_invalid");
}

async fn users(backend: &Backend, admin: &Session) {
    let ann = backend.user(admin, ("ann", "ann-has-a-password"), "user").await;
    send(backend.get("/api/v1/users").bearer_auth(&ann.access)).await.expect_problem(403, "permission_missing");
    let again = json!({ "username": "Ann", "password": "another-password", "role": "user" });
    send(backend.post("/api/v1/users", &again).bearer_auth(&admin.access)).await.expect_problem(409, "conflict");
    let page = async |query: &str| {
        let answer = send(backend.get(&format!("/api/v1/users?{query}")).bearer_auth(&admin.access)).await;
        answer.expect_status(200);
        answer
    };
    let first = page("limit=1").await;
    assert_eq!(first.items()[0]["username"], "admin", "{first:?}");
    let cursor = first.next_cursor().expect("there is more");
    let second = page(&format!("limit=1&cursor={cursor}")).await;
    assert_eq!(second.items()[0]["username"], "ann", "{second:?}");
    assert_eq!(second.next_cursor(), None, "{second:?}");
}

async fn keys(backend: &Backend, admin: &Session) {
    let body = json!({ "name": "laptop", "permissions": ["read", "execute", "api_access"], "expires_in_days": 30 });
    let key = backend.key(admin, &body).await;
    let other = backend.key(admin, &json!({ "name": "other", "permissions": ["read"] })).await;
    let introspected = backend.introspected(&key.key).await;
    assert_eq!(introspected["scope"], "read execute api_access", "{introspected}");
    let query = || backend.query(&json!({ "query": "What is a key?" })).header("X-API-Key", &key.key);
    send(query()).await.expect_status(200);
    let page = async |query: &str| {
        let answer = send(backend.get(&format!("/api/v1/api-keys?{query}")).bearer_auth(&admin.access)).await;
        answer.expect_status(200);
        answer
    };
    let first = page("limit=1").await;
    let cursor = first.next_cursor().expect("there is more");
    let second = page(&format!("limit=1&cursor={cursor}")).await;
    let mut listed = [first, second].map(|page| page.items()[0]["id"].as_str().map(str::to_owned));
    listed.sort();
    let mut made = [Some(key.id.clone()), Some(other.id.clone())];
    made.sort();
    assert_eq!(listed, made);
    let revoke = backend.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&admin.access);
    send(revoke).await.expect_status(204);
    assert_eq!(backend.introspected(&key.key).await, json!({ "active": false }));
    send(query()).await.expect_problem(401, "key_invalid");
    assert_eq!(backend.introspected(&other.key).await["active"], true);
}

async fn two_processes_share(engine: &Engine) {
    let settings = Settings::development();
    // At the same moment, as an orchestrator does: both find an empty database.
    let (one, two) = tokio::join!(Backend::start_on(engine, &settings), Backend::start_on(engine, &settings));
    let admin = one.login(ADMIN).await;
    let users = send(two.get("/api/v1/users").bearer_auth(&admin.access)).await;
    assert_eq!(users.expect_status(200).items().len(), 1, "one of them made the first user: {users:?}");
    let key = one.key(&admin, &json!({ "name": "shared", "permissions": ["read"] })).await;
    assert_eq!(two.introspected(&key.key).await["active"], true);

    let backends = [&one, &two];
    let winner = Backend::race_to_refresh(&backends, &admin.refresh).await;
    // The others were reuse, so the winner's family is gone as well.
    send(one.try_refresh(&winner.refresh)).await.expect_problem(401, "refresh_invalid");
    let events = events_on(engine, one.folder().path()).await;
    let reused = events.iter().filter(|event| event.kind == "refresh_reused").count();
    assert_eq!(reused, 1, "{events:?}");
    drop(one);
    two.login(ADMIN).await;
}

async fn commands_work(engine: &Engine) {
    let folder = folder();
    let file = Settings::development().on(engine).write(folder.path());
    let (one, two) = tokio::join!(run(&["migrate"], &file, ""), run(&["migrate"], &file, ""));
    let add = ["user", "add", "--name", "root", "--role", "admin"];
    let added = run(&add, &file, "a-password-of-its-own\n").await;
    for ended in [&one, &two, &added] {
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    let taken = run(&add, &file, "a-password-of-its-own\n").await;
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
    assert!(taken.stderr.contains("taken") && !taken.stderr.contains(PASSWORD), "{taken:?}");
    let backend = Backend::start_as("all", &folder, &file).await;
    backend.login(("root", "a-password-of-its-own")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_clients_are_told_and_afterwards_served() {
    let mut server = Postgres::start().await;
    let engine = on(&server, "away");
    let settings = Settings::development().database("acquire_timeout: 1s");
    let backend = Backend::start_on(&engine, &settings).await;
    let admin = backend.login(ADMIN).await;
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read", "execute"] })).await;

    server.stop().await;
    send(backend.try_login(ADMIN.0, ADMIN.1)).await.expect_problem(503, "dependency_unavailable");
    send(backend.try_refresh(&admin.refresh)).await.expect_problem(503, "dependency_unavailable");
    send(backend.introspect(&key.key)).await.expect_problem(503, "dependency_unavailable");
    let query = backend.query(&json!({ "query": "Are you there?" })).header("X-API-Key", &key.key);
    send(query).await.expect_problem(503, "dependency_unavailable");
    // What needs no database goes on: tokens are checked by their signature.
    send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await.expect_status(200);
    send(backend.get("/health")).await.expect_status(200);
    let detailed = send(backend.get("/health/detailed")).await;
    detailed.expect_status(503);
    assert_eq!(detailed.json()["status"], "unavailable", "{detailed:?}");
    assert_eq!(detailed.json()["parts"]["database"], "unavailable", "{detailed:?}");
    assert!(!detailed.body.contains("postgres"), "causes stay inside: {detailed:?}");
    // A process that starts now says why it does not.
    let file = settings.on(&engine).write(backend.folder().path());
    let ended = run(&["migrate"], &file, "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("database") && !ended.stderr.contains(PASSWORD), "{ended:?}");

    server.restart().await;
    until("logins work again", PATIENCE, async || {
        (send(backend.try_login(ADMIN.0, ADMIN.1)).await.status == 200).then_some(())
    })
    .await;
    // What could not be done has not been done by half: the token still holds.
    send(backend.try_refresh(&admin.refresh)).await.expect_status(200);
    assert_eq!(backend.introspected(&key.key).await["active"], true);
    send(backend.get("/health/detailed")).await.expect_status(200);
    assert!(!backend.said().contains(PASSWORD), "the database's password is in the log");
}

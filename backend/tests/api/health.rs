//! Health: `/health`, `/health/detailed`, and what every answer of the API has.
//!
//! Read next: `processes.rs`.

use http::{StatusCode, Version};
use serde_json::{Value, json};
use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, folder, run};
use crate::harness::client::{self, send};
use crate::harness::database;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_learns_that_it_is_alive() {
    let backend = Backend::development().await;
    let answer = send(backend.get("/health")).await;
    answer.expect_status(200);
    assert_eq!(answer.json(), json!({ "status": "ok" }));
    // A probe may ask for the head alone.
    let head = send(backend.request("HEAD", "/health")).await;
    head.expect_status(200);
    assert_eq!(head.body, "");

    let detailed = send(backend.get("/health/detailed")).await;
    detailed.expect_status(200);
    let body = detailed.json();
    assert_eq!(body["status"], "ok", "{body}");
    assert_eq!(body["parts"]["database"], "ok", "{body}");
    assert_eq!(body["models"][0]["id"], "capibara6-dev", "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_its_tables_is_told_and_the_program_lives() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut database = database::open(backend.folder().path()).await;
    database.execute("ALTER TABLE users RENAME TO lost").await;
    let detailed = send(backend.get("/health/detailed")).await;
    detailed.expect_status(503);
    assert_eq!(detailed.json()["status"], "unavailable", "{detailed:?}");
    assert_eq!(detailed.json()["parts"]["database"], "unavailable", "{detailed:?}");
    let missing = database.no_such_table();
    assert!(!detailed.body.contains(missing), "causes stay inside: {detailed:?}");
    // It is alive all the same, and does what needs no database: tokens are checked by their signature.
    send(backend.get("/health")).await.expect_status(200);
    send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await.expect_status(200);
    let failed = send(backend.try_login(ADMIN.0, ADMIN.1)).await;
    failed.expect_problem(500, "internal_error");
    assert!(!failed.body.contains("users"), "causes stay inside: {failed:?}");
    let id = failed.header("x-request-id");
    until("the log says why the request failed", PATIENCE, async || {
        backend.said().lines().any(|line| line.contains(id) && line.contains(missing)).then_some(())
    })
    .await;

    database.execute("ALTER TABLE lost RENAME TO users").await;
    send(backend.get("/health/detailed")).await.expect_status(200);
    backend.login(ADMIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written_is_a_passing_fault() {
    let backend = Backend::start(&Settings::development().database("busy_timeout: 1s, statement_timeout: 1s")).await;
    let admin = backend.login(ADMIN).await;
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read", "execute"] })).await;
    let mut database = database::open(backend.folder().path()).await;
    database.keep_from_writing().await;
    send(backend.try_refresh(&admin.refresh)).await.expect_problem(503, "dependency_unavailable");
    // Who only reads is not held up.
    assert_eq!(backend.introspected(&key.key).await["active"], true);
    let query = backend.query(&json!({ "query": "Are you there?" })).header("X-API-Key", &key.key);
    send(query).await.expect_status(200);

    database.let_write().await;
    // What could not be done has not been done by half: the token still holds.
    send(backend.try_refresh(&admin.refresh)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_is_told() {
    let model = FakeModel::start(Script::Answer("Yes.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m-small", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let state = async || {
        let answer = send(backend.get("/health/detailed")).await;
        answer.expect_status(200);
        assert!(!answer.body.contains(&model.url()), "addresses stay inside: {answer:?}");
        let body: Value = answer.json();
        json!([body["status"], body["models"][0]["id"], body["models"][0]["status"]])
    };
    let ask = |text: &str| backend.query(&json!({ "query": text })).bearer_auth(&admin.access);
    assert_eq!(state().await, json!(["ok", "m-small", "unused"]));
    send(ask("Is it there?")).await.expect_status(200);
    assert_eq!(state().await, json!(["ok", "m-small", "answering"]));
    model.now(Script::Status(StatusCode::INTERNAL_SERVER_ERROR));
    send(ask("Is it still there?")).await.expect_problem(502, "model_failed");
    assert_eq!(state().await, json!(["degraded", "m-small", "failing"]));
    model.now(Script::Answer("Yes."));
    send(ask("Is it still there?")).await.expect_status(200);
    assert_eq!(state().await, json!(["ok", "m-small", "answering"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_internal_listener_tells_how_each_part_is() {
    let model = FakeModel::start(Script::Answer("Yes.")).await;
    // Nobody listens there: the system gives this port to no socket of its own choice.
    let nobody = "id: gone, size: large, url: \"http://127.0.0.1:1/v1\"";
    let sandbox = "sandbox: { url: \"http://127.0.0.1:1\" }";
    let settings = Settings::development().model(model.setting("m-small", "small")).model(nobody).section(sandbox);
    let backend = Backend::start(&settings).await;
    let inside = send(backend.internal_get("/health/detailed")).await;
    let body = inside.expect_status(200).json();
    assert_eq!(body["status"], "ok", "what is not needed may be away: {body}");
    let parts = body["parts"].as_array().expect("a list of parts");
    let part =
        |name: &str| parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{name}: {body}"));
    for (name, status, needed, error) in [
        ("database", "ok", true, Value::Null),
        ("model:m-small", "ok", false, Value::Null),
        ("model:gone", "unavailable", false, json!("unreachable")),
        ("sandbox", "unavailable", false, json!("unreachable")),
    ] {
        let part = part(name);
        assert_eq!((&part["status"], &part["needed"]), (&json!(status), &json!(needed)), "{name}: {body}");
        assert_eq!(part["error"], error, "{name}: {body}");
        assert!(part["latency_ms"].as_f64().is_some_and(|took| (0.0..2_500.0).contains(&took)), "{name}: {body}");
    }
    assert!(!inside.body.contains(&model.url()) && !inside.body.contains("127.0.0.1"), "{inside:?}");
    // Outside, other servers are neither asked nor named.
    let outside = send(backend.get("/health/detailed")).await.expect_status(200).json();
    assert_eq!(outside["parts"], json!({ "database": "ok" }), "{outside}");

    let mut database = database::open(backend.folder().path()).await;
    database.execute("ALTER TABLE users RENAME TO lost").await;
    let inside = send(backend.internal_get("/health/detailed")).await;
    inside.expect_status(503);
    assert!(inside.body.contains("\"failed\"") && !inside.body.contains(database.no_such_table()), "{inside:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_a_part_that_may_be_away() {
    let mut redis = Redis::start().await;
    let settings = Settings::development().section(&format!("redis: {{ url: \"{}\" }}", redis.url()));
    let backend = Backend::start(&settings).await;
    let state = async || {
        let body = send(backend.internal_get("/health/detailed")).await.expect_status(200).json();
        let parts = body["parts"].as_array().expect("a list of parts");
        let part = parts.iter().find(|part| part["name"] == "redis").expect("it is configured");
        assert_eq!(part["needed"], false, "{body}");
        part["status"].clone()
    };
    until("it is reached", PATIENCE, async || (state().await == "ok").then_some(())).await;
    redis.kill();
    until("it is missed", PATIENCE, async || (state().await == "unavailable").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_id_from_the_client_to_the_log() {
    let backend = Backend::development().await;
    let ask = |id: &str| backend.get("/auth/me").header("X-Request-Id", id);
    let longest = "r".repeat(64);
    for id in ["r-1", "5af3/7:x", &longest] {
        let answer = send(ask(id)).await;
        answer.expect_problem(401, "token_missing");
        assert_eq!(answer.header("x-request-id"), id);
        until("the log has the request", PATIENCE, async || backend.said().contains(id).then_some(())).await;
    }
    // Anything else could forge lines of a log, or fill it.
    let too_long = "r".repeat(65);
    for id in ["", "two words", &too_long] {
        let answer = send(ask(id)).await;
        answer.expect_problem(401, "token_missing");
        let made = answer.header("x-request-id");
        assert!(made.parse::<uuid::Uuid>().is_ok_and(|id| id.get_version_num() == 7), "{id:?} became {made:?}");
    }
    let served = send(backend.get("/health").header("X-Request-Id", "r-2")).await;
    assert_eq!(served.header("x-request-id"), "r-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_http_are_spoken() {
    let backend = Backend::development().await;
    let clients = [(client::plain(), Version::HTTP_11), (client::plain_http2(), Version::HTTP_2)];
    for (client, version) in clients {
        let answer = send(client.get(backend.url("/health"))).await;
        answer.expect_status(200);
        assert_eq!(answer.version, version);
        let login = json!({ "username": ADMIN.0, "password": ADMIN.1 });
        let answer = send(client.post(backend.url("/auth/login")).json(&login)).await;
        answer.expect_status(200);
        assert_eq!(answer.version, version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_asks_the_running_program_and_tells_by_its_exit_code() {
    let backend = Backend::development().await;
    // The same file as the container's, but for the port, which the system chose.
    let other = folder();
    let file = Settings::development().write(other.path());
    let text = std::fs::read_to_string(&file).expect("it was just written");
    let text = text.replace("internal: \"127.0.0.1:0\"", &format!("internal: \"{}\"", backend.internal));
    std::fs::write(&file, text).expect("a temporary folder can be written");
    let well = run(&["health"], &file, "").await;
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    backend.stop().await;
    let gone = run(&["health"], &file, "").await;
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(gone.stderr.contains("nobody answers on 127.0.0.1:"), "{gone:?}");
}

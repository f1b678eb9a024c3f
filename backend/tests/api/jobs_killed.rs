//! Jobs, killed: workers and the API end without a word in the middle of a batch, and nothing of it is lost or done twice.
//!
//! Read next: `jobs_redis.rs`.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::postgres::Postgres;
use testkit::process::Program;
use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, command, folder};
use crate::harness::client::send;
use crate::harness::database::Engine;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;
use crate::jobs::{asked, batch_of, job, submit, until_status};

/// Queries of the batch.
const QUERIES: usize = 60;

/// Queries that each worker answers at the same time.
const CONCURRENCY: usize = 4;

/// Queries that are answered before somebody is killed.
const BEFORE: usize = 10;

/// How long the rest may take: a lease has to run out, and everything runs beside other tests.
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_ends_exactly_once_on_sqlite() {
    every_query_ends_exactly_once(&Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_ends_exactly_once_on_postgres() {
    let server = Postgres::start().await;
    every_query_ends_exactly_once(&Engine::Postgres(server.database("killed"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_ends_exactly_once_on_postgres_and_redis() {
    let (server, redis) = (Postgres::start().await, Redis::start().await);
    let engine = Engine::PostgresAndRedis { url: server.database("killed"), redis: redis.url() };
    every_query_ends_exactly_once(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_stays_queued_while_the_database_is_away() {
    let mut server = Postgres::start().await;
    let engine = Engine::Postgres(server.database("away"));
    let folder = folder();
    let file = Settings::development().on(&engine).database("acquire_timeout: 1s").write(folder.path());
    let api = Backend::start_as("api", &folder, &file).await;
    let admin = api.login(ADMIN).await;
    let id = submit(&api, &admin.access, &batch_of(5)).await;

    server.stop().await;
    let refused = send(api.post("/api/v1/batch", &batch_of(1)).bearer_auth(&admin.access)).await;
    refused.expect_problem(503, "dependency_unavailable");

    server.restart().await;
    until("the API has its database again", PATIENCE, async || {
        let answer = send(api.get(&format!("/api/v1/jobs/{id}")).bearer_auth(&admin.access)).await;
        (answer.status == 200).then(|| assert_eq!(answer.json()["status"], "queued", "{answer:?}"))
    })
    .await;
    let _worker = worker(&file).await;
    let done = until_status(&api, &admin.access, &id, "done", LIMIT).await;
    assert_eq!(done["progress"]["done"], 5, "{done}");
}

/// Starts a worker.
pub async fn worker(file: &Path) -> Program {
    let mut worker = Program::start("worker", command(&["worker"], file), "");
    worker.listening("internal").await;
    worker
}

async fn every_query_ends_exactly_once(engine: &Engine) {
    let model = FakeModel::start(Script::Hold("Answered.")).await;
    let folder = folder();
    let jobs = format!("jobs: {{ concurrency: {CONCURRENCY}, lease: 3s, backoff: 1s, backoff_max: 1s }}");
    let settings = Settings::development().on(engine).model(model.setting("m", "small")).section(&jobs);
    let file = settings.write(folder.path());
    let api = Backend::start_as("api", &folder, &file).await;
    let admin = api.login(ADMIN).await;
    let (killed, survivor) = (worker(&file).await, worker(&file).await);
    let id = submit(&api, &admin.access, &batch_of(QUERIES)).await;

    // Both take part: more is under way than one of them takes.
    model.until_asked(2 * CONCURRENCY, PATIENCE).await;
    for _ in 0..BEFORE {
        model.release();
    }
    until("some are answered", PATIENCE, async || {
        let done = job(&api, &admin.access, &id).await["progress"]["done"].as_u64()?;
        (done == BEFORE as u64).then_some(())
    })
    .await;
    model.until_asked(BEFORE + 2 * CONCURRENCY, PATIENCE).await;
    killed.signal("KILL");
    api.signal("KILL");
    let (killed, api) = tokio::join!(killed.ended(PATIENCE), api.ended(PATIENCE));
    assert!(!killed.status.success() && !api.status.success(), "{killed:?} {api:?}");
    for _ in 0..2 * QUERIES {
        model.release();
    }

    let api = Backend::start_as("api", &folder, &file).await;
    let done = until_status(&api, &admin.access, &id, "done", LIMIT).await;
    assert_eq!(done["progress"]["done"], QUERIES, "{done}");
    let items = done["results"]["items"].as_array().expect("a page");
    let indexes: HashSet<u64> = items.iter().filter_map(|item| item["index"].as_u64()).collect();
    assert_eq!((items.len(), indexes.len()), (QUERIES, QUERIES), "each has one end");
    for item in items {
        assert_eq!((&item["status"], &item["result"]["answer"]), (&json!("done"), &json!("Answered.")), "{item}");
    }
    // What the killed one had was taken again, and the attempt that ended with it counts.
    let attempts: u64 = items.iter().filter_map(|item| item["attempts"].as_u64()).sum();
    assert!(attempts > QUERIES as u64, "{attempts} attempts");
    assert_eq!(done["attempts"].as_u64(), Some(attempts), "{done}");
    let reached: HashSet<String> = model.seen().iter().map(|request| asked(&request.body)).collect();
    assert_eq!(reached.len(), QUERIES, "every query has reached the model");

    survivor.terminate();
    let survivor = survivor.ended(PATIENCE).await;
    assert_eq!(survivor.status.code(), Some(0), "{}", survivor.stderr);
    assert!(survivor.stderr.contains("a worker has gone"), "{}", survivor.stderr);
}

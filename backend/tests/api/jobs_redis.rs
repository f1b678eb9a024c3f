//! Jobs over Redis: workers in other processes hear of a batch at once, and whoever is killed on the way, Redis included,
//! nothing is lost or done twice.
//!
//! Read next: `shared_answers.rs`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::postgres::Postgres;
use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::database::Engine;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;
use crate::jobs::{asked, job, submit, until_status};
use crate::jobs_killed::worker;

/// Batches before anybody is killed, while Redis is away, when it is back and empty, and after all.
const BATCHES: [usize; 4] = [25, 10, 5, 10];

/// Queries of each batch.
const QUERIES: usize = 10;

/// Every so many batches there is one with a query that fails whenever it is asked.
const POISON_EVERY: usize = 5;

/// The word by which the model knows such a query.
const POISON: &str = "poison";

/// How often a query is tried.
const ATTEMPTS_MAX: u64 = 3;

/// Queries that each of the two workers answers at the same time.
const CONCURRENCY: usize = 4;

/// How long the rest may take once everything is back.
const LIMIT: Duration = Duration::from_secs(45);

/// More than the model will ever be asked.
const ALL: usize = 5_000;

/// The stream of what is neither urgent nor not.
const STREAM: &str = "capibara6-backend:{jobs}:1";

fn queries(batch: usize) -> Value {
    let text = |query: usize| {
        if query == 0 && batch.is_multiple_of(POISON_EVERY) {
            format!("Batch {batch}, {POISON}?")
        } else {
            format!("Batch {batch}, query {query}?")
        }
    };
    let queries: Vec<Value> = (0..QUERIES).map(|query| json!({ "query": text(query) })).collect();
    json!({ "queries": queries })
}

fn entries(redis: &Redis) -> usize {
    let answer = redis.command(&["XLEN", STREAM]);
    answer.trim_start_matches(':').trim_end().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_hears_of_a_batch_at_once() {
    let (server, redis) = (Postgres::start().await, Redis::start().await);
    let engine = Engine::PostgresAndRedis { url: server.database("heard"), redis: redis.url() };
    let folder = folder();
    // Whoever looks by itself looks too late for this test.
    let file = Settings::development().on(&engine).section("jobs: { poll: 10m }").write(folder.path());
    let api = Backend::start_as("api", &folder, &file).await;
    api.until_metrics_say("backend_redis_up 1").await;
    let worker = worker(&file).await;
    until("the worker has reached Redis", PATIENCE, async || worker.said().contains("Redis is up").then_some(()))
        .await;
    let admin = api.login(ADMIN).await;
    for (priority, text) in [("low", "One?"), ("high", "Two?"), ("normal", "Three?")] {
        let body = json!({ "queries": [{ "query": text }], "priority": priority });
        let id = submit(&api, &admin.access, &body).await;
        let done = until_status(&api, &admin.access, &id, "done", PATIENCE).await;
        assert_eq!(done["attempts"], 1, "{done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_whoever_is_killed() {
    let began = Instant::now();
    let (server, mut redis) = (Postgres::start().await, Redis::start().await);
    let engine = Engine::PostgresAndRedis { url: server.database("lost"), redis: redis.url() };
    let model = FakeModel::start(Script::HoldOrFail(POISON, "Answered.")).await;
    let folder = folder();
    let member = format!("{}, attempts_max: 1, circuit: {{ failures_max: 100000 }}", model.setting("m", "small"));
    let jobs = format!(
        "jobs: {{ concurrency: {CONCURRENCY}, attempts_max: {ATTEMPTS_MAX}, lease: 3s, backoff: 1s, backoff_max: 1s }}"
    );
    let file = Settings::development().on(&engine).model(member).section(&jobs).write(folder.path());
    let mut api = Backend::start_as("api", &folder, &file).await;
    let (killed, survivor) = (worker(&file).await, worker(&file).await);
    let admin = api.login(ADMIN).await;
    api.until_metrics_say("backend_redis_up 1").await;
    let mut ids = Vec::new();
    let release = |count: usize| (0..count).for_each(|_| model.release());
    let at_work = 2 * CONCURRENCY;
    let mut released = 0;

    for (phase, batches) in BATCHES.into_iter().enumerate() {
        for _ in 0..batches {
            ids.push(submit(&api, &admin.access, &queries(ids.len())).await);
        }
        match phase {
            0 => {
                assert!(entries(&redis) > 0, "the streams carry the queries");
                released = 100;
                release(released);
                model.until_asked(released + at_work, PATIENCE).await;
                // Without a word, and with everything it held.
                redis.kill();
            }
            1 => {
                // By the database alone.
                release(60);
                released += 60;
                model.until_asked(released + at_work, PATIENCE).await;
                redis.restart().await;
                api.until_metrics_say("backend_redis_up 1").await;
            }
            2 => {
                killed.signal("KILL");
                api.signal("KILL");
                api = Backend::start_as("api", &folder, &file).await;
            }
            _ => {}
        }
    }
    let (killed, another) = tokio::join!(killed.ended(PATIENCE), worker(&file));
    assert!(!killed.status.success(), "{}", killed.stderr);
    release(ALL);

    all_have_ended_once(&api, &admin.access, &ids).await;
    let reached: HashSet<String> = model.seen().iter().map(|request| asked(&request.body)).collect();
    assert_eq!(reached.len(), ids.len() * QUERIES, "every query has reached the model");
    // What the killed ones had before them was taken over as well.
    until("the stream is empty", LIMIT, async || (entries(&redis) == 0).then_some(())).await;
    for worker in [survivor, another] {
        worker.terminate();
        let ended = worker.ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    println!("it took {:?}", began.elapsed());
}

/// Every query of these jobs has one end: the poisonous ones are dead after all their attempts, the others answered.
async fn all_have_ended_once(api: &Backend, token: &str, ids: &[String]) {
    let deadline = Instant::now() + LIMIT;
    for (batch, id) in ids.iter().enumerate() {
        let poisonous = usize::from(batch.is_multiple_of(POISON_EVERY));
        let status = if poisonous == 0 { "done" } else { "dead" };
        let ended = until_status(api, token, id, status, deadline.saturating_duration_since(Instant::now())).await;
        let expected = json!({ "done": QUERIES - poisonous, "failed": poisonous, "cancelled": 0, "total": QUERIES });
        assert_eq!(ended["progress"], expected, "{ended}");
        let items = ended["results"]["items"].as_array().expect("a page");
        assert_eq!(items.len(), QUERIES, "{ended}");
        for (index, item) in items.iter().enumerate() {
            assert_eq!(item["index"], index, "{item}");
            if poisonous == 1 && index == 0 {
                assert_eq!((&item["status"], &item["attempts"]), (&json!("dead"), &json!(ATTEMPTS_MAX)), "{item}");
            } else {
                let told = (&item["status"], &item["result"]["answer"]);
                assert_eq!(told, (&json!("done"), &json!("Answered.")), "{item}");
            }
        }
        let attempts: u64 = items.iter().filter_map(|item| item["attempts"].as_u64()).sum();
        assert_eq!(ended["attempts"].as_u64(), Some(attempts), "{ended}");
        // Twice the same answer to the same question about it: what has ended stays so.
        assert_eq!(job(api, token, id).await["progress"], expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_leaves_nothing_in_the_stream() {
    let (server, redis) = (Postgres::start().await, Redis::start().await);
    let engine = Engine::PostgresAndRedis { url: server.database("gone"), redis: redis.url() };
    let model = FakeModel::start(Script::Hold("Answered.")).await;
    let folder = folder();
    let settings = Settings::development().on(&engine).model(model.setting("m", "small")).server("drain: 1s");
    let file = settings.section("jobs: { concurrency: 1, lease: 3s }").write(folder.path());
    let api = Backend::start_as("api", &folder, &file).await;
    api.until_metrics_say("backend_redis_up 1").await;
    let admin = api.login(ADMIN).await;
    let first = worker(&file).await;
    let id = submit(&api, &admin.access, &json!({ "queries": [{ "query": "Given back?" }] })).await;
    model.until_asked(1, PATIENCE).await;
    first.terminate();
    let ended = first.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);

    let _second = worker(&file).await;
    model.until_asked(2, PATIENCE).await;
    model.release();
    model.release();
    let done = until_status(&api, &admin.access, &id, "done", PATIENCE).await;
    assert_eq!(done["results"]["items"][0]["attempts"], 1, "what was given back does not count: {done}");
    until("the stream is empty", PATIENCE, async || (entries(&redis) == 0).then_some(())).await;
}

//! Jobs: batches that are answered by the worker inside the program, and what their owners see of them.
//!
//! Read next: `jobs_killed.rs`.

use std::time::Duration;

use http::StatusCode;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::postgres::Postgres;
use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::graphql::{ask, expect_error};
use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::client::send;
use crate::harness::database::Engine;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;

/// A batch of so many different queries.
pub fn batch_of(queries: usize) -> Value {
    let queries: Vec<Value> =
        (0..queries).map(|number| json!({ "query": format!("Query number {number}?") })).collect();
    json!({ "queries": queries })
}

/// A request to make a job.
fn batch(backend: &Backend, token: &str, body: &Value) -> RequestBuilder {
    backend.post("/api/v1/batch", body).bearer_auth(token)
}

/// Makes a job that must be taken in; returns its id.
pub async fn submit(backend: &Backend, token: &str, body: &Value) -> String {
    let answer = send(batch(backend, token, body)).await;
    answer.expect_status(202);
    let id = answer.text("id");
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{id}"), "{answer:?}");
    id
}

/// A job, with up to 100 of its queries.
pub async fn job(backend: &Backend, token: &str, id: &str) -> Value {
    let answer = send(backend.get(&format!("/api/v1/jobs/{id}?limit=100")).bearer_auth(token)).await;
    answer.expect_status(200).json()
}

/// Waits until a job has this status.
pub async fn until_status(backend: &Backend, token: &str, id: &str, status: &str, limit: Duration) -> Value {
    until(&format!("the job is {status}"), limit, async || {
        let job = job(backend, token, id).await;
        (job["status"] == status).then_some(job)
    })
    .await
}

/// The query that reached the model in a request.
pub fn asked(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    last.and_then(|message| message["content"].as_str()).expect("a query has a text").to_owned()
}

/// Settings with this model, which is asked once an attempt, and this in `jobs:`.
fn settings(model: &FakeModel, jobs: &str) -> Settings {
    let model = format!("{}, attempts_max: 1, circuit: {{ failures_max: 1000 }}", model.setting("m", "small"));
    Settings::development().model(model).section(&format!("jobs: {{ {jobs} }}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_on_sqlite() {
    a_batch_is_answered(&Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_on_postgres() {
    let server = Postgres::start().await;
    a_batch_is_answered(&Engine::Postgres(server.database("jobs"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_on_postgres_and_redis() {
    let (server, redis) = (Postgres::start().await, Redis::start().await);
    a_batch_is_answered(&Engine::PostgresAndRedis { url: server.database("jobs"), redis: redis.url() }).await;
}

async fn a_batch_is_answered(engine: &Engine) {
    let backend = Backend::start_on(engine, &Settings::development()).await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let bob = backend.user(&admin, ("bob", "bob-has-a-password"), "user").await;

    let keyed = |body: &Value| batch(&backend, &ann.access, body).header("Idempotency-Key", "monday");
    let first = send(keyed(&batch_of(5))).await;
    let id = first.expect_status(202).text("id");
    let done = until_status(&backend, &ann.access, &id, "done", PATIENCE).await;
    assert_eq!(done["progress"], json!({ "done": 5, "failed": 0, "cancelled": 0, "total": 5 }), "{done}");
    assert_eq!((&done["priority"], &done["attempts"]), (&json!("normal"), &json!(5)), "{done}");
    assert!(done["finished_at"].as_i64() >= done["started_at"].as_i64(), "{done}");
    let items = done["results"]["items"].as_array().expect("a page");
    for (index, item) in items.iter().enumerate() {
        assert_eq!((&item["index"], &item["status"]), (&json!(index), &json!("done")), "{item}");
        assert!(item["result"]["answer"].as_str().is_some_and(|text| text.starts_with("capibara6-dev")), "{item}");
        assert_eq!((&item["attempts"], item.get("error")), (&json!(1), None), "{item}");
    }

    // The same again is the same job; another request with its key is refused; another owner's key is another key.
    assert_eq!(send(keyed(&batch_of(5))).await.expect_status(200).text("id"), id);
    send(keyed(&batch_of(4))).await.expect_problem(409, "conflict");
    let bobs = batch(&backend, &bob.access, &batch_of(5)).header("Idempotency-Key", "monday");
    assert_ne!(send(bobs).await.expect_status(202).text("id"), id);

    // Results and jobs come in pages.
    let page = send(backend.get(&format!("/api/v1/jobs/{id}?limit=2")).bearer_auth(&ann.access)).await;
    let cursor = page.text_at("/results/next_cursor");
    let path = format!("/api/v1/jobs/{id}?limit=3&cursor={cursor}");
    let rest = send(backend.get(&path).bearer_auth(&ann.access)).await.json();
    assert_eq!(
        (&rest["results"]["items"][0]["index"], rest["results"].get("next_cursor")),
        (&json!(2), None),
        "{rest}"
    );
    let second = submit(&backend, &ann.access, &batch_of(1)).await;
    let listed = send(backend.get("/api/v1/jobs?limit=1").bearer_auth(&ann.access)).await;
    assert_eq!(listed.items()[0]["id"], second, "the latest comes first: {listed:?}");
    let cursor = listed.next_cursor().expect("there is more");
    let listed = send(backend.get(&format!("/api/v1/jobs?cursor={cursor}")).bearer_auth(&ann.access)).await;
    assert_eq!((listed.items().len(), &listed.items()[0]["id"]), (1, &json!(id)), "none of bob's: {listed:?}");
    let all = send(backend.get("/api/v1/jobs").bearer_auth(&admin.access)).await;
    assert_eq!(all.items().len(), 3, "{all:?}");

    // What is somebody else's is not there.
    let path = format!("/api/v1/jobs/{id}");
    send(backend.get(&path).bearer_auth(&bob.access)).await.expect_problem(404, "not_found");
    send(backend.delete(&path).bearer_auth(&bob.access)).await.expect_problem(404, "not_found");
    let requeue = backend.request("POST", &format!("{path}/requeue"));
    send(requeue.bearer_auth(&bob.access)).await.expect_problem(403, "permission_missing");
    let requeue = backend.request("POST", &format!("{path}/requeue"));
    send(requeue.bearer_auth(&admin.access)).await.expect_problem(409, "conflict");

    graphql_shows_the_same(&backend, &ann.access).await;
    let metrics = backend.metrics().await;
    assert!(metrics.contains("backend_job_attempts_total{outcome=\"done\"}"), "{metrics}");
    for name in ["job_pick_up_seconds", "job_item_seconds", "database_seconds"] {
        let line = format!("backend_{name}_count ");
        let count = metrics.lines().find_map(|told| told.strip_prefix(&line)?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count > 0), "{line}: {metrics}");
    }
    backend.stop().await;
}

async fn graphql_shows_the_same(backend: &Backend, token: &str) {
    let made = ask(
        backend,
        token,
        "mutation { processBatch(input: { queries: [{ query: \"One?\" }, { query: \"Two?\" }], priority: HIGH }) \
         { id priority metrics { total } } }",
    )
    .await;
    let made = made.json()["data"]["processBatch"].clone();
    assert_eq!((&made["priority"], &made["metrics"]["total"]), (&json!("HIGH"), &json!(2)), "{made}");
    let id = made["id"].as_str().expect("a job has an id");
    until_status(backend, token, id, "done", PATIENCE).await;
    let document =
        format!("{{ job(id: \"{id}\") {{ status metrics {{ done }} }} jobs(first: 1) {{ nodes {{ id }} }} }}");
    let shown = ask(backend, token, &document).await.json()["data"].clone();
    assert_eq!(shown["job"], json!({ "status": "DONE", "metrics": { "done": 2 } }), "{shown}");
    assert_eq!(shown["jobs"]["nodes"][0]["id"], made["id"], "{shown}");

    // What came of it, query by query, as REST tells it.
    let rest = job(backend, token, id).await["results"]["items"].clone();
    let mut after = String::new();
    for index in 0..2_usize {
        let items = format!(
            "{{ job(id: \"{id}\") {{ items(first: 1{after}) {{ nodes {{ index status attempts runAfter finishedAt error \
             result {{ answer model cached finishReason completionTokens }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        let told = ask(backend, token, &items).await.json()["data"]["job"]["items"].clone();
        let (item, of_rest) = (&told["nodes"][0], &rest[index]);
        assert_eq!((&item["index"], &item["status"]), (&json!(index), &json!("DONE")), "{told}");
        assert_eq!((&item["runAfter"], &item["error"]), (&Value::Null, &Value::Null), "{told}");
        for (here, there) in [("attempts", "attempts"), ("finishedAt", "finished_at")] {
            assert_eq!(item[here], of_rest[there], "{told} {of_rest}");
        }
        for (here, there) in [
            ("answer", "answer"),
            ("model", "model"),
            ("cached", "cached"),
            ("finishReason", "finish_reason"),
            ("completionTokens", "completion_tokens"),
        ] {
            assert_eq!(item["result"][here], of_rest["result"][there], "{told} {of_rest}");
        }
        assert_eq!(told["pageInfo"]["hasNextPage"], index == 0, "{told}");
        after = format!(", after: {}", told["pageInfo"]["endCursor"]);
    }
    // Not of many jobs at once: each of them asks the database.
    let greedy = "{ jobs(first: 30) { nodes { items(first: 1) { nodes { index } } } } }";
    let refused = ask(backend, token, greedy).await.json();
    assert_eq!(refused["errors"][0]["extensions"]["code"], "graphql_too_costly", "{refused}");
    let wrong = format!("{{ job(id: \"{id}\") {{ items(after: \"***\") {{ nodes {{ index }} }} }} }}");
    expect_error(&ask(backend, token, &wrong).await, 200, "input_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphql_cancels_and_requeues() {
    let model = FakeModel::start(Script::Status(StatusCode::BAD_REQUEST)).await;
    let backend = Backend::start(&settings(&model, "concurrency: 1")).await;
    let admin = backend.login(ADMIN).await;
    let change = async |mutation: &str, id: &str| {
        ask(&backend, &admin.access, &format!("mutation {{ {mutation}(id: \"{id}\") {{ status }} }}")).await
    };
    let refused = submit(&backend, &admin.access, &json!({ "queries": [{ "query": "Refused?" }] })).await;
    until_status(&backend, &admin.access, &refused, "dead", PATIENCE).await;
    model.now(Script::Hold("Answered."));
    let again = change("requeueJob", &refused).await.json();
    let status = again["data"]["requeueJob"]["status"].as_str().expect("a status");
    assert!(["QUEUED", "RUNNING"].contains(&status), "{again}");
    model.until_asked(2, PATIENCE).await;

    let waiting = submit(&backend, &admin.access, &batch_of(2)).await;
    let cancelled = change("cancelJob", &waiting).await.json();
    assert_eq!(cancelled["data"]["cancelJob"]["status"], "CANCELLED", "{cancelled}");
    model.release();
    until_status(&backend, &admin.access, &refused, "done", PATIENCE).await;
    expect_error(&change("requeueJob", &refused).await, 200, "conflict");
    expect_error(&change("cancelJob", "none").await, 200, "not_found");
    assert_eq!(model.seen().len(), 2, "nothing of the cancelled one was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_refused_at_once() {
    let backend = Backend::start(&Settings::development().section("jobs: { batch_max: 2 }")).await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        (json!({ "queries": [] }), "queries"),
        (batch_of(3), "queries"),
        (json!({ "queries": [{ "query": "Fine?" }, { "query": " " }] }), "queries[1].query"),
        (json!({ "queries": [{ "query": "Fine?", "model": "none" }] }), "queries[0].model"),
        (json!({ "queries": [{ "query": "Fine?", "temperature": 3.0 }] }), "queries[0].temperature"),
        (json!({ "queries": [{ "query": "Fine?" }], "priority": "now" }), "priority"),
        (json!({ "queries": [{ "query": "Fine?", "stream": true }] }), "stream"),
    ];
    for (body, word) in cases {
        println!("{body}");
        send(batch(&backend, &admin.access, &body)).await.expect_input_invalid(word);
    }
    let long = "k".repeat(129);
    for key in ["", "two words", &long] {
        let request = batch(&backend, &admin.access, &batch_of(1)).header("Idempotency-Key", key);
        send(request).await.expect_input_invalid("Idempotency-Key");
    }
    let listed = send(backend.get("/api/v1/jobs").bearer_auth(&admin.access)).await;
    assert_eq!(listed.items().len(), 0, "{listed:?}");
    send(backend.get("/api/v1/jobs?cursor=***").bearer_auth(&admin.access)).await.expect_input_invalid("cursor");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_wait_is_refused_for_the_moment() {
    let model = FakeModel::start(Script::Hold("Held.")).await;
    let backend = Backend::start(&settings(&model, "concurrency: 1, queued_max: 2")).await;
    let admin = backend.login(ADMIN).await;
    submit(&backend, &admin.access, &batch_of(3)).await;
    model.until_asked(1, PATIENCE).await;
    send(batch(&backend, &admin.access, &batch_of(1))).await.expect_problem(503, "overloaded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fills_the_queue_for_everybody() {
    let model = FakeModel::start(Script::Hold("Held.")).await;
    let backend = Backend::start(&settings(&model, "concurrency: 1, owner_max: 3")).await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let id = submit(&backend, &ann.access, &batch_of(3)).await;
    let refused = send(batch(&backend, &ann.access, &batch_of(1))).await.expect_problem(503, "overloaded");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.starts_with("3 queries of the caller's")));
    submit(&backend, &admin.access, &batch_of(1)).await;
    // What has ended counts no longer, however it has.
    let cancel = backend.delete(&format!("/api/v1/jobs/{id}")).bearer_auth(&ann.access);
    send(cancel).await.expect_status(200);
    submit(&backend, &ann.access, &batch_of(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_urgent_comes_first() {
    let model = FakeModel::start(Script::Hold("Answered.")).await;
    let backend = Backend::start(&settings(&model, "concurrency: 1")).await;
    let admin = backend.login(ADMIN).await;
    let one = |text: &str, priority: &str| json!({ "queries": [{ "query": text }], "priority": priority });
    submit(&backend, &admin.access, &one("At work?", "normal")).await;
    model.until_asked(1, PATIENCE).await;
    let mut last = String::new();
    for priority in ["low", "normal", "high"] {
        let id = submit(&backend, &admin.access, &one(priority, priority)).await;
        if priority == "low" {
            last = id;
        }
    }
    for _ in 0..4 {
        model.release();
    }
    until_status(&backend, &admin.access, &last, "done", PATIENCE).await;
    let order: Vec<String> = model.seen().iter().map(|request| asked(&request.body)).collect();
    assert_eq!(order, ["At work?", "high", "normal", "low"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_ends_after_what_is_under_way() {
    let model = FakeModel::start(Script::Hold("Answered.")).await;
    let backend = Backend::start(&settings(&model, "concurrency: 1")).await;
    let admin = backend.login(ADMIN).await;
    let running = submit(&backend, &admin.access, &batch_of(3)).await;
    model.until_asked(1, PATIENCE).await;
    let waiting = submit(&backend, &admin.access, &json!({ "queries": [{ "query": "Never?" }] })).await;

    let cancel = async |id: &str| {
        let answer = send(backend.delete(&format!("/api/v1/jobs/{id}")).bearer_auth(&admin.access)).await;
        answer.expect_status(200).json()
    };
    assert_eq!(cancel(&waiting).await["status"], "cancelled");
    let told = cancel(&running).await;
    assert_eq!((&told["status"], &told["progress"]["cancelled"]), (&json!("running"), &json!(2)), "{told}");
    model.release();
    let ended = until_status(&backend, &admin.access, &running, "cancelled", PATIENCE).await;
    assert_eq!(ended["progress"], json!({ "done": 1, "failed": 0, "cancelled": 2, "total": 3 }), "{ended}");
    let again = cancel(&running).await;
    assert_eq!(again["cancelled_at"], ended["cancelled_at"], "twice is no error: {again}");
    assert_eq!(model.seen().len(), 1, "nothing was begun afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_query_is_dead_after_its_attempts_and_can_be_requeued() {
    let model = FakeModel::start(Script::Status(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let backend = Backend::start(&settings(&model, "attempts_max: 2, backoff: 1s, backoff_max: 1s")).await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let id = submit(&backend, &ann.access, &batch_of(1)).await;
    let dead = until_status(&backend, &ann.access, &id, "dead", PATIENCE).await;
    let item = &dead["results"]["items"][0];
    assert_eq!((&item["status"], &item["attempts"]), (&json!("dead"), &json!(2)), "{item}");
    assert_eq!((&item["error"], dead["progress"]["failed"].as_i64()), (&json!("model m failed"), Some(1)), "{dead}");
    assert_eq!(model.seen().len(), 2, "as many attempts as there may be");

    model.now(Script::Answer("Mended."));
    let requeue = backend.request("POST", &format!("/api/v1/jobs/{id}/requeue"));
    send(requeue.bearer_auth(&admin.access)).await.expect_status(200);
    let done = until_status(&backend, &ann.access, &id, "done", PATIENCE).await;
    assert_eq!(done["results"]["items"][0]["result"]["answer"], "Mended.", "{done}");

    // What the model refuses as such is not tried again.
    model.now(Script::Status(StatusCode::BAD_REQUEST));
    let id = submit(&backend, &ann.access, &json!({ "queries": [{ "query": "Refused?" }] })).await;
    let dead = until_status(&backend, &ann.access, &id, "dead", PATIENCE).await;
    assert_eq!(dead["results"]["items"][0]["attempts"], 1, "{dead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_gives_back_what_it_cannot_finish() {
    let model = FakeModel::start(Script::Hold("Never.")).await;
    let folder = folder();
    let settings = settings(&model, "concurrency: 1").server("drain: 1s");
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let id = submit(&backend, &admin.access, &batch_of(2)).await;
    model.until_asked(1, PATIENCE).await;
    backend.stop().await;

    model.now(Script::Answer("Answered."));
    let backend = Backend::start_in(&folder, &settings).await;
    // No lease has to run out first, and the attempt that was given back does not count.
    let done = until_status(&backend, &admin.access, &id, "done", PATIENCE).await;
    let attempts: Vec<&Value> =
        done["results"]["items"].as_array().expect("a page").iter().map(|item| &item["attempts"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(1)], "{done}");
}
